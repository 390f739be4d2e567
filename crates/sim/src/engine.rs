//! The machine that production runs, made for a topology.

use std::collections::BTreeMap;

use blk::{
    BLOCK_BYTES, Buf, DevNr, DiskId, DiskOp, NotOpened, SECTOR_BYTES, Sectors, SlinkNr, Time, Wall,
};
use replicator::{
    DiskFacts, LogWish, MessageError, Phase, Plan, ReloadError, Relog, Replicator, Seed,
};
use replog::format::group::{Entry, GroupHeader};
use replog::format::superblock::SiteRecord;
use replog::index::{Group, Write};
use replog::{EntryOp, Held, ReplaceError, Replog, Source};
use table::{LegTable, LogTable, Mode, ReplicatorDevTable, ReplicatorTable, TableFile, Target};

use crate::coverage::Told;
use crate::oracle::{Admission, View};
use crate::payload::{self, Content, Decoded};
use crate::topology::{Role, Topology};
use crate::world::{Groups, Host, Loss, Moving, Stage, Subject};

/// A replicator on the disks of `host`, as a driver would open it.
///
/// # Panics
/// If the table that describes the topology is refused.
#[must_use]
pub fn open(topology: &Topology, host: &Host) -> Replicator {
    let mut group = group(topology);
    if host.was_log_resized() {
        // As who goes on with what a dead daemon left: the log knows its size.
        (group.table.log.mode, group.table.log.size) = (Mode::Open, None);
    }
    let plan = Plan::with_kept(&group, &disk_facts(topology, host), host.kept.clone());
    let plan = plan.unwrap_or_else(|error| panic!("the disks fit the table, but {error}"));
    // Whoever opens a log again does not know the identity it was made with.
    let seed = Seed { uuid: uuid::Uuid::from_u128(0x5ead), wall: Wall(1) };
    Replicator::open(plan, seed).expect("the table names built-in types")
}

fn group(topology: &Topology) -> table::Group {
    let text = table_text(topology);
    let file = table::TableFile::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let mut groups = file.groups().unwrap_or_else(|error| panic!("{error}\n{text}"));
    groups.pop().expect("a topology is one group")
}

/// The topology as a dm table.
#[must_use]
pub fn table_text(topology: &Topology) -> String {
    let log = LogTable {
        kind: "ringbuffer".to_owned(),
        path: path(Role::Log),
        start: blk::Sector(0),
        mode: Mode::Auto,
        size: Some(topology.log_size),
        tail_bytes: Some(topology.memory.0),
        ld_lag: Some(topology.memory.1),
    };
    let named = topology.sites.iter().filter(|site| site.named);
    let slinks = named.map(|site| site.link.clone()).collect();
    let group = Target::Replicator(ReplicatorTable { log, slinks });
    let mut file = TableFile::default();
    file.entries.push(entry("sim".to_owned(), Sectors(1), group));
    for dev in topology.layout().devices() {
        let target = ReplicatorDevTable {
            replicator: "sim".to_owned(),
            dev_nr: dev,
            legs: (0..topology.sites.len()).filter_map(|site| leg(topology, dev, site)).collect(),
        };
        let size = topology.length(dev);
        file.entries.push(entry(format!("dev{dev}"), size, Target::ReplicatorDev(target)));
    }
    file.to_string()
}

fn entry(name: String, len: Sectors, target: Target) -> table::Entry {
    table::Entry::new(Some(name), blk::Sector(0), len, target)
}

fn leg(topology: &Topology, dev: DevNr, site: usize) -> Option<LegTable> {
    let dirty_log = topology.sites[site].legs[dev.0 as usize].clone()?;
    let slink = topology.sites[site].link.nr;
    Some(LegTable { slink, path: path(Role::Leg { dev, site }), dirty_log })
}

/// Whether the log says that nobody waits for the site.
pub(crate) fn is_demoted(site: &SiteRecord) -> bool {
    site.demoted || site.inconsistent || site.detached.is_some()
}

fn disk_facts(topology: &Topology, host: &Host) -> BTreeMap<String, DiskFacts> {
    let facts = |role: Role| {
        let (id, path) = (topology.disk(role), path(role));
        (path.clone(), DiskFacts { id, path, seen: host.seen(id) })
    };
    topology.roles().into_iter().map(facts).collect()
}

/// What a table calls a disk.
#[must_use]
pub fn path(role: Role) -> String {
    match role {
        Role::Log => "/sim/log".to_owned(),
        Role::NewLog => "/sim/new-log".to_owned(),
        Role::Leg { dev, site } => format!("/sim/dev{dev}-site{site}"),
        Role::DirtyLog { dev, site } => format!("/sim/dirty{dev}-site{site}"),
        Role::Mark { site } => format!("/sim/mark-site{site}"),
    }
}

/// Whether the superblock that was written last says that a site is detached.
fn is_found_detached(log: &Replog, slink: SlinkNr) -> bool {
    let mut known = log.superblock().sites.iter();
    known.find(|site| site.slink == slink).is_some_and(|site| site.detached.is_some())
}

impl Subject for Replicator {
    fn stage(&self) -> Stage {
        match self.phase() {
            Phase::Opening { .. } => Stage::Opening,
            Phase::Running | Phase::Stopping => Stage::Running,
            Phase::Stopped => Stage::Stopped,
            Phase::Failed(error) => Stage::Failed(error.to_string()),
        }
    }

    fn drain(&mut self) {
        self.stop(true);
    }

    fn views(&self, now: Time, views: &mut Vec<View>) {
        let Some(log) = self.log() else { return };
        for (slink, report) in self.reports(now) {
            // A site that the table leaves out has a place in the row, too.
            views.resize(usize::from(slink.0), View::LEFT_OUT);
            views.push(View {
                state: report.state,
                consistent: report.consistent,
                in_force: report.in_force,
                demoted: is_demoted(log.site(slink)),
                detached: log.site(slink).detached.is_some(),
                found_detached: is_found_detached(log, slink),
                dirty_bytes: report.dirty_bytes,
                lag_writes: log.written().lag(log.covered(slink)),
            });
        }
    }

    fn resync(&mut self, now: Time, site: usize, dev: Option<DevNr>) -> bool {
        let slink = SlinkNr(u16::try_from(site).expect("few sites"));
        let asked = if slink.is_local() {
            self.rebuild(now, dev)
        } else {
            Self::resync(self, now, slink, dev)
        };
        match asked {
            Ok(()) => true,
            // P6: what is told to be copied anew may be the last copy just now; or stand in for the
            // log (P8).
            Err(MessageError::LastCopy { .. } | MessageError::Reload(ReloadError::LogLost)) => {
                false
            }
            Err(error) => panic!("the table names the site and the device, but {error}"),
        }
    }

    fn verify(&mut self, now: Time, site: usize, repair: bool) {
        let slink = SlinkNr(u16::try_from(site).expect("few sites"));
        let ask = slink::Verification { dev: None, repair };
        // Nobody can ask for one that the table leaves out.
        if self.plan().slinks.iter().any(|table| table.nr == slink) {
            Self::verify(self, now, slink, ask).expect("the table names the site");
        }
    }

    fn differing(&self, now: Time) -> Vec<(usize, u64)> {
        let found = self.reports(now).filter_map(|(nr, report)| Some((nr, report.verified?)));
        found.map(|(nr, found)| (usize::from(nr.0), found.differing_ranges)).collect()
    }

    fn told(&self, now: Time) -> Vec<Told> {
        let events = self.status(now).events.into_iter();
        let told = events.map(|event| Told {
            seconds: event.seconds,
            site: event.slink.map(usize::from),
            what: event.what,
        });
        told.collect()
    }

    fn reload(&mut self, now: Time, topology: &Topology) -> bool {
        let facts = |role: Role| {
            let why = "nobody has opened it yet".to_owned();
            let seen = Err(NotOpened { errno: blk::Errno::ENODEV, why });
            (path(role), DiskFacts { id: topology.disk(role), path: path(role), seen })
        };
        // Those that are open are known by what they are.
        let known = self.plan().disks();
        let disks = topology.roles().into_iter().map(facts);
        let disks = disks.filter(|(path, _)| !known.contains_key(path)).collect();
        let mut group = group(topology);
        group.table.log = self.plan().log.table.clone();
        match Self::reload(self, now, &group, &disks) {
            Ok(_) => true,
            Err(
                ReloadError::Leaving { .. }
                | ReloadError::LastCopy { .. }
                | ReloadError::Grow { .. }
                | ReloadError::LogLost,
            ) => false,
            Err(error) => panic!("{error}"),
        }
    }

    fn log_sectors(&self) -> Option<Sectors> {
        self.log().map(|log| log.geometry().size())
    }

    fn message(&mut self, now: Time, words: &str) {
        let words: Vec<&str> = words.split(' ').collect();
        match Self::message(self, now, None, &words) {
            Ok(_) | Err(MessageError::Busy { .. } | MessageError::NotRunning) => {}
            // A smaller log would have no room for what applications ask.
            Err(MessageError::Reload(ReloadError::LogSize(_) | ReloadError::LogLost)) => {}
            Err(error) => panic!("{words:?}: {error}"),
        }
    }

    fn loss(&self) -> Loss {
        match self.log() {
            Some(log) if log.is_bypassed() => Loss::Bypassed,
            Some(log) if is_held(log) => Loss::Held,
            Some(log) if log.is_lost() => Loss::TakingOver,
            Some(_) | None => Loss::None,
        }
    }

    fn groups_behind(&self, after: u64) -> Groups {
        let Some(log) = self.log() else { return (after, Vec::new()) };
        let newest = log.index().newest_group();
        let groups = (after + 1..=newest).filter_map(|nr| log.index().group(nr));
        (newest, groups.map(|group| admitted(log, group)).collect())
    }

    fn replace_log(&mut self) -> bool {
        let log = &self.plan().log;
        let (disk, path) = (log.disk.id, log.disk.path.clone());
        let made = self.log().map_or(0, |log| log.superblock().generation);
        // Groups name its first half only.
        let uuid = uuid::Uuid::from_u128(u128::from(made) << 64 | 0x5eed);
        let start = blk::Sector(0);
        match Self::replace_log(
            self,
            LogWish { disk, path, start, size: None, uuid, is_named: true },
        ) {
            Ok(()) => true,
            Err(ReplaceError::UnderWay | ReplaceError::Stopping) => false,
            Err(error) => panic!("the log is lost, but {error}"),
        }
    }

    fn move_log(&mut self, disk: DiskId, size: Sectors, nr: u64) -> bool {
        let role = if disk.0 == 0 { Role::Log } else { Role::NewLog };
        let (path, start) = (path(role), blk::Sector(0));
        // No generation is that high: those make the identities of logs that are replaced in place.
        let uuid = uuid::Uuid::from_u128((1 << 104) | u128::from(nr) << 64 | 0x00de);
        let is_named = self.has_lost_its_log();
        let wish = LogWish { disk, path, start, size: Some(size), uuid, is_named };
        match Self::replace_log(self, wish) {
            Ok(()) => true,
            Err(ReplaceError::UnderWay | ReplaceError::NotBypassed | ReplaceError::Stopping) => {
                false
            }
            Err(error) => panic!("another disk is there, but {error}"),
        }
    }

    fn log_disk(&self) -> DiskId {
        self.plan().log.disk.id
    }

    fn moving(&self) -> Moving {
        match self.relog() {
            Relog::UnderWay(_) => Moving::UnderWay,
            Relog::Prepared => Moving::Prepared,
            Relog::GivenUp => Moving::GivenUp,
            Relog::Failed(_) => Moving::Failed,
            Relog::Done => Moving::Done,
        }
    }

    fn give_up_log(&mut self, now: Time) {
        Self::give_up_log(self, now).expect("one is ready");
    }

    fn begin_new_log(&mut self) {
        Self::begin_new_log(self).expect("one is ready, and the old one is given up");
    }

    fn cancel_new_log(&mut self) -> bool {
        Self::cancel_new_log(self)
    }

    fn admissions(op: &DiskOp) -> Vec<Admission> {
        let DiskOp::Write { data, .. } = op else { return Vec::new() };
        let Some((header, _)) = first_block(data).and_then(|b| GroupHeader::decode(b).ok()) else {
            return Vec::new();
        };
        let writes = header.entries.iter().filter(|entry| entry.op != EntryOp::Bookmark);
        writes.map(|entry| admission(entry, data)).collect()
    }
}

/// Whether only another life can go on: what the LD lacks is in the log alone.
fn is_held(log: &Replog) -> bool {
    match log.held() {
        Some(Held::InLog) => true,
        Some(Held::NoBase) => !log.is_whole(SlinkNr::LOCAL),
        Some(Held::NotKept(_)) | None => false,
    }
}

/// What a group that is in memory takes in.
fn admitted(log: &Replog, group: &Group) -> Vec<Admission> {
    let writes = log.index().writes_of(group).filter(|(_, write)| write.op != EntryOp::Bookmark);
    let admission = |(seq, write): (blk::Seq, &Write)| Admission {
        dev: write.dev,
        sector: write.sector,
        len: write.len,
        content: match log.source(seq) {
            Source::Memory(payload) => tagged(&payload[..SECTOR_BYTES]),
            Source::Zeroes { .. } | Source::Ring(_) | Source::Nothing => Content::ZEROES,
        },
    };
    writes.map(admission).collect()
}

fn first_block(data: &[Buf]) -> Option<&[u8]> {
    data.first()?.get(..BLOCK_BYTES)
}

fn admission(entry: &Entry, group: &[Buf]) -> Admission {
    let content = match entry.op {
        EntryOp::Write => sector_of(group, entry.payload).map_or(Content::ZEROES, tagged),
        EntryOp::Discard | EntryOp::WriteZeroes | EntryOp::Bookmark => Content::ZEROES,
    };
    Admission { dev: entry.dev, sector: entry.sector, len: entry.len, content }
}

/// One sector of a gathered write.
fn sector_of(group: &[Buf], at: Sectors) -> Option<&[u8]> {
    let mut start = at.len();
    for buf in group {
        if start < buf.len() {
            return buf.get(start..start + SECTOR_BYTES);
        }
        start -= buf.len();
    }
    None
}

fn tagged(sector: &[u8]) -> Content {
    match payload::decode(sector) {
        Decoded::Tagged { content, .. } => content,
        Decoded::Zeroes | Decoded::Torn | Decoded::Foreign => Content::ZEROES,
    }
}
