//! The disks of a simulated replicator: the log in bytes, the legs in contents.

use std::ops::Range;

use blk::{BLOCK_BYTES, Buf, BufMut, DevNr, DiskId, DiskOp, SECTOR_BYTES};
use blk::{Sector, Sectors, SlinkNr};
use replog::format::kept::Kept;
use replog::format::superblock::{LogState, Superblock, choose};
use replog::geometry::{RING_OFFSET, SLOT_BYTES};
use slink::mark::Mark;

use crate::cell::{Bytes, Cell as _};
use crate::disk::{Command, Ended, Keep, SimDisk, Ticket};
use crate::engine;
use crate::oracle::{Place, Violation};
use crate::payload::{self, Content, Decoded};
use crate::rng::Rng;
use crate::topology::{Role, Topology};

/// All disks of a topology.
#[derive(Clone)]
pub struct Disks {
    roles: Vec<Role>,
    sites: usize,
    /// The log's disk.
    pub log: SimDisk<Bytes>,
    /// Where the log may move to.
    pub(super) new_log: SimDisk<Bytes>,
    /// The legs, in the order of their disk numbers.
    pub legs: Vec<SimDisk<Content>>,
    /// The others, behind the legs: for dirty logs, and for marks.
    pub others: Vec<SimDisk<Bytes>>,
    /// How often each disk was replaced by another.
    lives: Vec<u32>,
}

/// A sector of a payload that is durable in the log.
pub(super) type Logged = (DevNr, Sector, Content);

/// What the end of an operation means to the oracle.
pub(super) enum Outcome {
    /// These became durable in the log.
    Logged(Vec<Logged>),
    /// Sectors of a leg changed.
    Leg(Vec<Range<u64>>),
    /// A disk that is neither the log's nor a leg changed.
    Other,
    /// Nothing.
    Nothing,
}

impl Disks {
    /// Fresh disks.
    #[must_use]
    pub fn new(topology: &Topology) -> Self {
        let roles = topology.roles();
        let size = |role: &Role| topology.size(*role).0;
        let legs = roles.iter().filter_map(|role| match *role {
            Role::Leg { dev, site } => {
                let disk = SimDisk::filled(size(role), topology.initial(dev, site));
                Some(disk.of_blocks(topology.block().0))
            }
            Role::Log | Role::NewLog | Role::DirtyLog { .. } | Role::Mark { .. } => None,
        });
        let is_other = |role: &&Role| matches!(role, Role::DirtyLog { .. } | Role::Mark { .. });
        let others = roles.iter().filter(is_other);
        Self {
            log: SimDisk::new(topology.log.0),
            new_log: SimDisk::new(topology.log.0),
            legs: legs.collect(),
            others: others.map(|role| SimDisk::new(size(role))).collect(),
            lives: vec![0; roles.len()],
            roles,
            sites: topology.sites.len(),
        }
    }

    /// What the disk is there for.
    ///
    /// # Errors
    /// If there is no such disk.
    pub fn role(&self, disk: DiskId) -> Result<Role, Violation> {
        let role = self.roles.get(index(disk.0)).copied();
        role.ok_or(Violation::NoSuchDisk { disk: disk.0 })
    }

    /// Every leg with its device and its site.
    pub fn each_leg(&self) -> impl Iterator<Item = (DevNr, usize, &SimDisk<Content>)> {
        self.legs.iter().zip(&self.roles[1..]).filter_map(|(leg, role)| match role {
            Role::Leg { dev, site } => Some((*dev, *site, leg)),
            Role::Log | Role::NewLog | Role::DirtyLog { .. } | Role::Mark { .. } => None,
        })
    }

    /// All disks and what they are there for.
    pub fn all(&self) -> impl Iterator<Item = (DiskId, Role)> + '_ {
        (0..).map(DiskId).zip(self.roles.iter().copied())
    }

    /// What a disk is, whatever its path; another when it was replaced.
    #[must_use]
    pub fn identity(&self, disk: DiskId) -> String {
        format!("sim:{}#{}", engine::path(self.roles[index(disk.0)]), self.lives[index(disk.0)])
    }

    /// The disks for dirty logs that nobody uses just now.
    pub fn dirty_logs(&mut self) -> &mut [SimDisk<Bytes>] {
        let marks = self.sites - 1;
        let count = self.others.len() - marks;
        &mut self.others[..count]
    }

    /// Puts an empty disk in the place of one at a site.
    pub(super) fn replace(&mut self, disk: DiskId) {
        if let Role::Leg { .. } = self.roles[index(disk.0)] {
            let leg = self.leg_mut(disk);
            *leg = leg.blank();
        } else {
            let other = self.bytes_mut(disk);
            *other = other.blank();
        }
        self.lives[index(disk.0)] += 1;
    }

    /// Every state that a site's mark may be in after a cut now.
    pub(super) fn marks(&self, disk: DiskId) -> Vec<Mark> {
        let mark = &self.others[self.other(disk)];
        let block = |first: Bytes| {
            // Behind its first sector a mark is all zeroes.
            let mut block = [0; BLOCK_BYTES];
            block[..SECTOR_BYTES].copy_from_slice(first.get());
            Mark::decode(&block).ok()
        };
        mark.candidates(0).into_iter().filter_map(block).collect()
    }

    /// The sites that the log knows, and whether it says that any was given up.
    /// What its host `kept` of it may be newer (P8).
    pub(super) fn standing(&self, kept: Option<Kept>) -> Vec<(SlinkNr, bool)> {
        // A toy's log has no superblocks.
        if self.log.sectors() < Sectors::from_bytes(RING_OFFSET).0 {
            return Vec::new();
        }
        let [first, second] = [0, SLOT_BYTES].map(|at| {
            let first = Sectors::from_bytes(at).0;
            let sectors = first..first + SUPERBLOCK_SECTORS;
            let bytes: Vec<u8> = sectors.flat_map(|at| *self.log.visible(at).get()).collect();
            Superblock::decode(&bytes)
        });
        let superblock = match (choose(first, second), kept) {
            (_, Some(kept)) if kept.is_bypassed() => kept.superblock,
            (LogState::Valid(found), Some(kept)) if kept.is_newer_than(&found) => kept.superblock,
            (LogState::Valid(found), _) => found,
            _ => return Vec::new(),
        };
        let sites = superblock.sites.iter();
        sites.map(|site| (site.slink, engine::is_demoted(site))).collect()
    }

    /// Whether anything is in flight on a disk, be it of a process that is dead.
    #[must_use]
    pub fn is_busy(&self, disk: DiskId) -> bool {
        match self.roles[index(disk.0)] {
            Role::Log => self.log.is_busy(),
            Role::NewLog => self.new_log.is_busy(),
            Role::Leg { .. } => self.legs[index(disk.0) - 1].is_busy(),
            Role::DirtyLog { .. } | Role::Mark { .. } => self.others[self.other(disk)].is_busy(),
        }
    }

    /// The process is dead, the disk is not: what is in flight lands as it may.
    pub(super) fn orphan(&mut self, disk: DiskId, rng: &mut Rng) {
        match self.roles[index(disk.0)] {
            Role::Leg { .. } => drop(self.leg_mut(disk).orphan(rng)),
            Role::Log | Role::NewLog | Role::DirtyLog { .. } | Role::Mark { .. } => {
                self.bytes_mut(disk).orphan(rng);
            }
        }
    }

    /// What is in flight on a disk ends well, whoever it was of.
    pub(super) fn land(&mut self, disk: DiskId) {
        self.orphan(disk, &mut Rng::new(1));
    }

    /// Cuts the power of a disk.
    pub(super) fn cut(&mut self, disk: DiskId, keep: Keep, rng: &mut Rng) {
        match self.roles[index(disk.0)] {
            Role::Leg { .. } => {
                // Sectors of a leg are whole: tearing inside a sector is for bytes alone.
                let whole = match keep {
                    Keep::Any { .. } => Keep::Any { torn: false },
                    other => other,
                };
                self.leg_mut(disk).cut(whole, rng);
            }
            Role::Log | Role::NewLog | Role::DirtyLog { .. } | Role::Mark { .. } => {
                self.bytes_mut(disk).cut(keep, rng);
            }
        }
    }

    fn leg_mut(&mut self, disk: DiskId) -> &mut SimDisk<Content> {
        &mut self.legs[index(disk.0) - 1]
    }

    fn other(&self, disk: DiskId) -> usize {
        index(disk.0) - 1 - self.legs.len()
    }

    /// The leg behind a device on a site.
    #[must_use]
    pub fn leg(&self, dev: DevNr, site: usize) -> &SimDisk<Content> {
        &self.legs[index(dev.0) * self.sites + site]
    }

    /// A sector of a leg reads as something else, behind everybody's back.
    pub(super) fn damage_leg(&mut self, dev: DevNr, site: usize, sector: u64, found: Content) {
        self.legs[index(dev.0) * self.sites + site].damage(sector, found);
    }

    /// Hands an operation to a disk of bytes.
    pub(super) fn submit_bytes(&mut self, disk: DiskId, op: &DiskOp) -> Result<Ticket, Violation> {
        let command = match op {
            DiskOp::Read { sector, buf } => {
                Command::Read { sector: sector.0, sectors: sectors(buf) }
            }
            DiskOp::Write { sector, data, fua } => {
                Command::Write { sector: sector.0, cells: bytes(data), fua: *fua }
            }
            DiskOp::WriteZeroes { sector, len, fua, .. } => {
                let cells = vec![Bytes::zeroes(); index(len.0)];
                Command::Write { sector: sector.0, cells, fua: *fua }
            }
            DiskOp::Flush => Command::Flush,
        };
        let ticket = self.bytes_mut(disk).submit(command);
        ticket.map_err(|refused| Violation::Disk { disk: disk.0, refused })
    }

    fn bytes_mut(&mut self, disk: DiskId) -> &mut SimDisk<Bytes> {
        match self.roles[index(disk.0)] {
            Role::Log => &mut self.log,
            Role::NewLog => &mut self.new_log,
            Role::Leg { .. } | Role::DirtyLog { .. } | Role::Mark { .. } => {
                let at = self.other(disk);
                &mut self.others[at]
            }
        }
    }

    /// Hands a command to a leg.
    pub(super) fn submit_leg(
        &mut self,
        disk: DiskId,
        command: Command<Content>,
    ) -> Result<Ticket, Violation> {
        let refuse = |refused| Violation::Disk { disk: disk.0, refused };
        self.leg_mut(disk).submit(command).map_err(refuse)
    }

    /// Ends an operation well; a read fills `into`, which starts at that sector.
    pub(super) fn complete(
        &mut self,
        disk: DiskId,
        ticket: Ticket,
        into: Option<&mut (Sector, BufMut)>,
    ) -> Outcome {
        let Role::Leg { dev, .. } = self.roles[index(disk.0)] else {
            return self.complete_bytes(disk, ticket, into);
        };
        match self.leg_mut(disk).complete(ticket) {
            Ended::Read(cells) => {
                let (start, buf) = into.expect("a read has a buffer");
                let slots = buf.chunks_exact_mut(SECTOR_BYTES).zip(start.0..).zip(cells);
                slots.for_each(|((slot, at), cell)| payload::fill(slot, dev, Sector(at), cell));
                Outcome::Nothing
            }
            Ended::Cached(row) => Outcome::Leg(vec![row]),
            Ended::Durable(rows) => Outcome::Leg(rows.into_vec()),
        }
    }

    fn complete_bytes(
        &mut self,
        disk: DiskId,
        ticket: Ticket,
        into: Option<&mut (Sector, BufMut)>,
    ) -> Outcome {
        match self.bytes_mut(disk).complete(ticket) {
            Ended::Read(cells) => {
                let (_, buf) = into.expect("a read has a buffer");
                let slots = buf.chunks_exact_mut(SECTOR_BYTES).zip(cells);
                slots.for_each(|(slot, cell)| slot.copy_from_slice(cell.get()));
                Outcome::Nothing
            }
            Ended::Cached(_) | Ended::Durable(_) if !self.roles[index(disk.0)].is_log() => {
                Outcome::Other
            }
            Ended::Cached(_) => Outcome::Nothing,
            Ended::Durable(rows) => {
                let log = if disk == LOG { &self.log } else { &self.new_log };
                Outcome::Logged(logged(log, rows.into_iter().flatten()))
            }
        }
    }

    /// Ends an operation with an error.
    pub(super) fn fail(&mut self, disk: DiskId, ticket: Ticket, rng: &mut Rng) -> Outcome {
        match self.roles[index(disk.0)] {
            Role::Log | Role::NewLog => {
                self.bytes_mut(disk).fail(ticket, rng);
                Outcome::Nothing
            }
            Role::DirtyLog { .. } | Role::Mark { .. } => {
                self.bytes_mut(disk).fail(ticket, rng);
                Outcome::Other
            }
            Role::Leg { .. } => {
                let row = self.leg_mut(disk).fail(ticket, rng);
                row.map_or(Outcome::Nothing, |row| Outcome::Leg(vec![row]))
            }
        }
    }

    /// The host died; what was in flight to either log has landed, or is lost, as `how` has it.
    /// What is durable in them by that.
    pub(super) fn logs_die(
        &mut self,
        mut how: impl FnMut(&mut SimDisk<Bytes>) -> Vec<u64>,
    ) -> Vec<Logged> {
        let durable = how(&mut self.log);
        let mut all = logged(&self.log, durable);
        if self.roles.last() == Some(&Role::NewLog) {
            let durable = how(&mut self.new_log);
            all.extend(logged(&self.new_log, durable));
        }
        all
    }

    /// The table names the new log from now on: its disk is the log's, and the old one's is free.
    pub(super) fn exchange_logs(&mut self) {
        std::mem::swap(&mut self.log, &mut self.new_log);
        let new = self.lives.len() - 1;
        self.lives[index(LOG.0)] += 1;
        self.lives[new] += 1;
    }

    /// Somebody wipes a disk that is no log any more.
    pub(super) fn wipe(&mut self, disk: DiskId) {
        let bytes = self.bytes_mut(disk);
        *bytes = bytes.blank();
    }
}

/// Payload sectors among these sectors of a log's media.
fn logged(log: &SimDisk<Bytes>, sectors: impl IntoIterator<Item = u64>) -> Vec<Logged> {
    let payload = |at| match payload::decode(log.durable(at).get()) {
        Decoded::Tagged { content, dev, sector } => Some((dev, sector, content)),
        Decoded::Zeroes | Decoded::Torn | Decoded::Foreign => None,
    };
    sectors.into_iter().filter_map(payload).collect()
}

/// What a write to a leg of `dev` ships; `None` for an operation that writes nothing.
///
/// # Errors
/// If its bytes are not whole sectors of writes to that very place (P11).
pub(super) fn shipment(dev: DevNr, op: &DiskOp) -> Result<Option<Vec<Content>>, Violation> {
    match op {
        DiskOp::Write { sector, data, .. } => {
            let cells = data.iter().flat_map(|buf| buf.chunks_exact(SECTOR_BYTES));
            let numbered = (sector.0..).zip(cells);
            let cells = numbered.map(|(at, cell)| content("a leg", dev, Sector(at), cell));
            cells.collect::<Result<_, _>>().map(Some)
        }
        DiskOp::WriteZeroes { len, .. } => Ok(Some(vec![Content::ZEROES; index(len.0)])),
        DiskOp::Read { .. } | DiskOp::Flush => Ok(None),
    }
}

/// What one sector of bytes holds that belongs to this place.
///
/// # Errors
/// If the bytes are torn, foreign, or meant for another place (P11).
pub(super) fn content(
    what: &'static str,
    dev: DevNr,
    sector: Sector,
    cell: &[u8],
) -> Result<Content, Violation> {
    match payload::decode(cell) {
        Decoded::Zeroes => Ok(Content::ZEROES),
        Decoded::Tagged { content, dev: meant, sector: place }
            if (meant, place) == (dev, sector) =>
        {
            Ok(content)
        }
        other => {
            let place = Place { dev, sector };
            Err(Violation::Garbage { what, place, found: format!("{other:?}") })
        }
    }
}

/// Sectors in a buffer.
pub(super) fn sectors(buf: &BufMut) -> u64 {
    Sectors::from_bytes(buf.len() as u64).0
}

fn bytes(data: &[Buf]) -> Vec<Bytes> {
    let cells = data.iter().flat_map(|buf| buf.chunks_exact(SECTOR_BYTES));
    cells.map(|cell| Bytes::new(cell.try_into().expect("a chunk is a sector"))).collect()
}

fn index(number: impl TryInto<usize>) -> usize {
    number.try_into().ok().expect("a simulated disk fits in memory")
}

/// More than a superblock of a simulated log takes.
const SUPERBLOCK_SECTORS: u64 = 32;
/// The log's disk is the first.
const LOG: DiskId = DiskId(0);
