//! `log check`: what a log holds, how far its sites are, and whether it can be opened.

use std::fmt;

use blk::{Sector, Seq};
use serde::Serialize;

use super::LogReader;
use super::find::{self, Slots};
use super::report::{DamageReport, Span};
use super::walk::{Walked, walk};
use crate::format::group::EntryOp;
use crate::format::superblock::{Anchor, LogState, SiteRecord, Superblock, SuperblockError};
use crate::geometry::Geometry;
use crate::scan::ScannedGroup;

/// What there is at a place on a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether it can be opened, and if not, why.
    pub health: Health,
    /// Both superblock slots.
    pub slots: [SlotReport; 2],
    /// The log, if a superblock says where it begins.
    pub log: Option<LogSummary>,
}

/// Whether a log can be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// Yes.
    Sound,
    /// There is none.
    Absent,
    /// No superblock can be trusted.
    NoSuperblock,
    /// It is damaged before its durable end.
    Damaged,
    /// Parts of it can't be read.
    Unreadable,
    /// A later version of the program made it.
    Newer,
}

/// One superblock slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SlotReport {
    /// 0 or 1.
    pub slot: u64,
    /// Its superblock counts.
    pub is_current: bool,
    /// The generation of its superblock, if it has one.
    pub generation: Option<u64>,
    /// What is wrong with it.
    pub problem: Option<String>,
}

/// What a log holds, as far as a scan of it came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LogSummary {
    /// Its identity.
    pub uuid: String,
    /// Sectors on its device, superblocks included.
    pub size_sectors: u64,
    /// Bytes of its ring.
    pub ring_bytes: u64,
    /// Where a lap of it began, in bytes since the log was made; 0 if it was never resized.
    pub lap_base: u64,
    /// Bytes from head to tip.
    pub used_bytes: u64,
    /// The present opening.
    pub epoch: u64,
    /// Its first group.
    pub epoch_first_group: u64,
    /// The last write that is known to have been durable.
    pub durable: u64,
    /// Set if the devices ran without this log since that opening.
    pub bypassed_since: Option<u64>,
    /// Where the scan began.
    pub head: Place,
    /// Where it ended.
    pub tip: Place,
    /// Groups with writes in them.
    pub groups: u64,
    /// Groups without.
    pub pads: u64,
    /// Writes.
    pub writes: u64,
    /// Sectors of data that they carry.
    pub payload_sectors: u64,
    /// Why the scan ended where it did.
    pub end: String,
    /// Damage before the durable end.
    pub damage: Option<DamageReport>,
    /// What can't be read.
    pub unreadable: Vec<Span>,
    /// The sites.
    pub sites: Vec<SiteReport>,
    /// The devices: number, name, sectors.
    pub devices: Vec<(u32, String, u64)>,
}

/// A place between two groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// On the device.
    pub sector: u64,
    /// Number of the group before.
    pub group: u64,
    /// The last write before.
    pub seq: u64,
}

/// How a site is, as far as the log knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SiteReport {
    /// Its number.
    pub slink: u16,
    /// Every write up to here is on its media or marked dirty.
    pub covered: u64,
    /// Writes in the log behind that.
    pub lag_writes: u64,
    /// Its own copy lacks what came after this.
    pub lost_since: Option<u64>,
    /// All of it has to be copied.
    pub all_dirty: bool,
    /// It may show what no application has ever seen.
    pub inconsistent: bool,
    /// What it lacks is in its dirty logs, under this session.
    pub detached: Option<u64>,
    /// It is `sync`, and acknowledgements have gone on without it.
    pub demoted: bool,
    /// Devices of which its copy is not believed, whatever their dirty logs say.
    pub dirty_devices: Vec<u32>,
}

/// Looks at what is at `start`.
#[must_use]
pub fn check(reader: &mut dyn LogReader, start: Sector) -> Report {
    let Slots { slots, state } = find::slots(reader, start);
    let is_unreadable =
        slots.iter().any(|slot| matches!(slot, Err(SuperblockError::Unreadable(_))));
    let current = match &state {
        LogState::Valid(sb) => Some(sb.generation),
        LogState::Absent | LogState::Damaged(_) | LogState::Newer(_) => None,
    };
    let slots = [0, 1].map(|slot| SlotReport::new(slot, &slots[slot], current));
    let (health, log) = match state {
        LogState::Valid(sb) => {
            let (health, log) = walk_through(reader, start, &sb);
            (health, Some(log))
        }
        LogState::Absent => (Health::Absent, None),
        LogState::Damaged(_) if is_unreadable => (Health::Unreadable, None),
        LogState::Damaged(_) => (Health::NoSuperblock, None),
        LogState::Newer(_) => (Health::Newer, None),
    };
    Report { health, slots, log }
}

fn walk_through(
    reader: &mut dyn LogReader,
    start: Sector,
    sb: &Superblock,
) -> (Health, LogSummary) {
    let geometry = sb.geometry(start);
    let mut log = LogSummary::begin(sb, &geometry);
    let mut tip = sb.head;
    let walked = walk(reader, sb, geometry, &mut |group, _| {
        log.count(group);
        tip = group.end();
    });
    let health = Health::of(&walked);
    log.finish(walked, tip, &geometry);
    (health, log)
}

impl LogSummary {
    fn begin(sb: &Superblock, geometry: &Geometry) -> Self {
        let head = Place::new(&sb.head, geometry);
        Self {
            uuid: sb.uuid.to_string(),
            size_sectors: geometry.size().0,
            ring_bytes: sb.ring_bytes,
            lap_base: sb.lap_base.0,
            used_bytes: 0,
            epoch: sb.epoch,
            epoch_first_group: sb.epoch_first_group,
            durable: sb.durable.0,
            bypassed_since: sb.bypassed_since,
            head,
            tip: head,
            groups: 0,
            pads: 0,
            writes: 0,
            payload_sectors: 0,
            end: String::new(),
            damage: None,
            unreadable: vec![],
            sites: sb.sites.iter().map(|site| SiteReport::at(site, sb, sb.durable)).collect(),
            devices: sb.devices.iter().map(|d| (d.nr.0, d.name.clone(), d.size.0)).collect(),
        }
    }

    fn count(&mut self, group: &ScannedGroup) {
        let header = &group.header;
        *(if header.is_pad() { &mut self.pads } else { &mut self.groups }) += 1;
        self.used_bytes += u64::from(header.bytes);
        self.durable = self.durable.max(header.durable.0);
        for entry in header.entries.iter().filter(|entry| entry.op == EntryOp::Write) {
            self.payload_sectors += entry.len.0;
        }
        self.writes += header.entries.len() as u64;
        for cursor in &header.cursors {
            let site = self.sites.iter_mut().find(|site| site.slink == cursor.slink.0);
            if let Some(site) = site {
                site.covered = site.covered.max(cursor.covered.0);
            }
        }
    }

    fn finish(&mut self, walked: Walked, tip: Anchor, geometry: &Geometry) {
        self.tip = Place::new(&tip, geometry);
        for site in &mut self.sites {
            site.lag_writes = tip.seq.lag(Seq(site.covered));
        }
        self.unreadable = walked.unreadable;
        match walked.end {
            Ok(tip) => self.end = tip.reason.to_string(),
            Err(damage) => {
                self.end = "damage".to_owned();
                self.damage = Some(damage.as_ref().into());
            }
        }
    }
}

impl Health {
    /// What a walk through a log says of it.
    pub(super) fn of(walked: &Walked) -> Self {
        match (&walked.end, walked.unreadable.is_empty()) {
            // A block that can't be read may be what looks like damage, or like an end.
            (_, false) => Self::Unreadable,
            (Err(_), true) => Self::Damaged,
            (Ok(_), true) => Self::Sound,
        }
    }
}

impl SlotReport {
    fn new(
        slot: usize,
        content: &Result<Superblock, SuperblockError>,
        current: Option<u64>,
    ) -> Self {
        let generation = content.as_ref().ok().map(|sb| sb.generation);
        Self {
            slot: slot as u64,
            is_current: generation.is_some() && generation == current,
            generation,
            problem: content.as_ref().err().map(ToString::to_string),
        }
    }
}

impl SiteReport {
    /// How a site stands in a log that ends at `tip`.
    pub(super) fn at(site: &SiteRecord, sb: &Superblock, tip: Seq) -> Self {
        let dirty = sb.legs.iter().filter(|leg| leg.slink == site.slink && leg.all_dirty);
        Self {
            slink: site.slink.0,
            covered: site.covered.0,
            lag_writes: tip.lag(site.covered),
            lost_since: site.lost_since.map(|seq| seq.0),
            all_dirty: site.all_dirty,
            inconsistent: site.inconsistent,
            detached: site.detached,
            demoted: site.demoted,
            dirty_devices: dirty.map(|leg| leg.dev.0).collect(),
        }
    }
}

impl Place {
    pub(super) fn new(anchor: &Anchor, geometry: &Geometry) -> Self {
        Self { sector: geometry.sector(anchor.pos).0, group: anchor.group, seq: anchor.seq.0 }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for slot in &self.slots {
            writeln!(f, "{slot}")?;
        }
        if let Some(log) = &self.log {
            write!(f, "{log}")?;
        }
        writeln!(f, "verdict: {}", self.health)
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sound => "sound",
            Self::Absent => "there is no log here",
            Self::NoSuperblock => "no superblock can be trusted; the log can't be opened",
            Self::Damaged => "damaged; it is not opened until `replicator log repair` has cut it",
            Self::Unreadable => "parts can't be read; copy the device to a sound one first",
            Self::Newer => "made by a later version of this program, which has to be used",
        })
    }
}

impl fmt::Display for SlotReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "superblock {}: ", self.slot)?;
        match (self.generation, &self.problem) {
            (Some(generation), _) => write!(f, "generation {generation}")?,
            (None, Some(problem)) => write!(f, "{problem}")?,
            (None, None) => {}
        }
        f.write_str(if self.is_current { ", current" } else { "" })
    }
}

impl fmt::Display for LogSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = self.used_bytes * 100 / self.ring_bytes;
        writeln!(f, "log {}, {} sectors, opening {}", self.uuid, self.size_sectors, self.epoch)?;
        if self.lap_base > 0 {
            writeln!(f, "resized: a lap began at byte {} of the log's life", self.lap_base)?;
        }
        if let Some(epoch) = self.bypassed_since {
            writeln!(f, "bypassed since opening {epoch}: this log is not replayed")?;
        }
        writeln!(f, "head: {}", self.head)?;
        writeln!(f, "tip:  {}; {}", self.tip, self.end)?;
        writeln!(
            f,
            "holds: {} writes in {} groups, {} sectors of data; {} bytes, {percent}% of the ring",
            self.writes, self.groups, self.payload_sectors, self.used_bytes
        )?;
        writeln!(f, "durable: up to write {} at least", self.durable)?;
        for (nr, name, sectors) in &self.devices {
            writeln!(f, "device {nr}: {name}, {sectors} sectors")?;
        }
        self.sites.iter().try_for_each(|site| writeln!(f, "{site}"))?;
        self.unreadable.iter().try_for_each(|span| writeln!(f, "unreadable: {span}"))?;
        self.damage.iter().try_for_each(|damage| writeln!(f, "damage: {damage}"))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sector {}, behind group {} and write {}", self.sector, self.group, self.seq)
    }
}

impl fmt::Display for SiteReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "site {}: up to write {}, ", self.slink, self.covered)?;
        match self.lag_writes {
            0 => write!(f, "has all")?,
            lag => write!(f, "{lag} to come")?,
        }
        if let Some(seq) = self.lost_since {
            write!(f, "; its own copy is lost since write {seq}")?;
        }
        f.write_str(if self.all_dirty { "; all of it has to be copied" } else { "" })?;
        f.write_str(if self.inconsistent { "; inconsistent" } else { "" })?;
        if let Some(session) = self.detached {
            write!(f, "; detached, its dirty logs are of session {session}")?;
        }
        for dev in &self.dirty_devices {
            write!(f, "; all of device {dev} is dirty")?;
        }
        f.write_str(if self.demoted { "; acknowledgements do not wait for it" } else { "" })
    }
}
