//! Opening a log: find it or make it, scan it, begin a new epoch.
//!
//! ```text
//!  Slots ──▶ (decide) ──▶ Scan ──▶ Flush ──▶ Begin ──▶ open
//!            │   │                              ▲
//!        Probe   └──▶ Zero ──▶ Blank ──▶ Format ┘ (a new log's first epoch is begun by Format)
//! ```
//!
//! Beside the two slots there may be what a host kept of the log ([`Kept`]): it says that the
//! log is lost, or is a third slot (`without`).
//!
//! It may be cut anywhere and repeated (I9): until the new superblock is durable,
//! nothing on the device has changed but a slot that does not count.

mod asked;
mod error;
mod scan;
mod without;

use std::collections::BTreeMap;

use blk::{BLOCK_BYTES, Buf, BufMut, DiskId, DiskOp, Effect, Errno, SECTOR_BYTES, Sector};
use blk::{Sectors, SlinkNr, Span, Wall};
use uuid::Uuid;

pub use error::OpenError;

use crate::commit::write;
use crate::format::group::EntryOp;
use crate::format::kept::Kept;
use crate::format::superblock::{Anchor, Damaged, Features, LogState, Superblock, choose};
use crate::geometry::{Geometry, RING_OFFSET, RingPos, SLOT_BYTES, SLOTS};
use crate::index::Group;
use crate::log::{Config, Replog};
use crate::roster::{Members, Roster, RosterError};
use crate::scan::{Damage, ScannedGroup, Tip};
use asked::{Asked, ZERO_BYTES};
use scan::Scan;

/// A log that is being opened.
#[derive(Debug)]
pub struct Opening {
    spec: OpenSpec,
    /// What the host kept, if that is about these devices.
    kept: Option<Kept>,
    /// What dirty logs say of logs that were lost.
    lost: Vec<Lost>,
    stage: Stage,
    flying: usize,
    outcome: Option<Result<Replog, OpenError>>,
}

/// A log that is not to be opened again, says a dirty log (P8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// The log.
    pub log: Uuid,
    /// Its last opening before the devices went on without it.
    pub epoch: u64,
    /// The path of the dirty log, for messages.
    pub said_by: String,
}

/// What a table says of a log, and what its driver knows of the disk.
#[derive(Clone, Debug)]
pub struct OpenSpec {
    /// The log device.
    pub disk: DiskId,
    /// Its path, for messages.
    pub path: String,
    /// Its size.
    pub disk_size: Sectors,
    /// Where the log begins on it.
    pub start: Sector,
    /// What to do if there is a log, or none.
    pub mode: OpenMode,
    /// The size that the table gives.
    pub size: Option<Sectors>,
    /// How much of the newest groups stays in memory.
    pub tail_bytes: u64,
    /// `ld_lag:log` (P8).
    pub ld_may_outlag_tail: bool,
    /// How long an I/O of each site's disks may take; one of the log as long as the local site's.
    pub timeouts: BTreeMap<SlinkNr, Span>,
    /// What this host kept when a log of these devices was lost.
    pub kept: Option<Vec<u8>>,
    /// The wall clock at `Time(0)`.
    pub wall: Wall,
    /// The identity of the log, should it be created.
    pub uuid: Uuid,
    /// Who belongs to it.
    pub roster: Roster,
}

/// What to do about a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Open one that is there, create one where there is none.
    Auto,
    /// There must be one.
    Open,
    /// There must be none.
    Create,
}

/// How far an opening is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub step: &'static str,
    /// Bytes done.
    pub done: u64,
    /// Bytes in all, as far as known.
    pub total: u64,
}

#[derive(Debug)]
enum Stage {
    /// Read both superblock slots.
    Slots { read: [Option<Buf>; 2], asked: bool },
    /// The superblocks are damaged: was a group ever written?
    Probe { damaged: Damaged, asked: bool, read: Option<Buf> },
    /// Write zeroes over the ring of a new log: unwritten extents cost twice or thrice.
    Zero { geometry: Geometry, members: Members, next: u64, done: u64 },
    /// Make the zeroes durable: a ring that begins with zeroes never held a group.
    Blank { geometry: Geometry, members: Members, asked: bool },
    /// Write both slots: a torn first checkpoint must leave a whole one (trap F4).
    Format { superblock: Superblock, geometry: Geometry, asked: bool },
    /// Walk through the ring.
    Scan(Box<Scan>),
    /// Make durable what was found, before anybody builds on it.
    Flush { found: Box<Found>, asked: bool },
    /// Begin the new epoch.
    Begin { found: Box<Found>, asked: bool },
    /// Over.
    Over,
}

/// What a scan found, with the superblock of the epoch to begin.
#[derive(Debug)]
struct Found {
    superblock: Superblock,
    geometry: Geometry,
    groups: Vec<ScannedGroup>,
    tip: Anchor,
}

impl Opening {
    /// Begins to open a log.
    #[must_use]
    pub fn new(spec: OpenSpec) -> Self {
        let stage = Stage::Slots { read: [None, None], asked: false };
        let mut opening =
            Self { spec, kept: None, lost: Vec::new(), stage, flying: 0, outcome: None };
        match opening.look_at_kept() {
            Ok(None) => {}
            Ok(Some(log)) => {
                opening.stage = Stage::Over;
                opening.outcome = Some(Ok(*log));
            }
            Err(error) => opening.fail(error),
        }
        opening
    }

    /// Not one of these, should it be found; before the first poll.
    pub fn refuse(&mut self, lost: Vec<Lost>) {
        self.lost = lost;
    }

    /// Asks for the I/O that is to be done now.
    pub fn poll(&mut self, effects: &mut Vec<Effect>) {
        loop {
            let before = self.flying;
            self.work(effects);
            let moved = self.advance();
            if !moved && self.flying == before {
                return;
            }
        }
    }

    /// The open log, or why there is none; once, and only when no I/O is in flight.
    pub fn outcome(&mut self) -> Option<Result<Replog, OpenError>> {
        if self.flying > 0 { None } else { self.outcome.take() }
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let (step, done, total) = match &self.stage {
            Stage::Slots { .. } | Stage::Probe { .. } => ("reading the superblocks", 0, 0),
            Stage::Zero { geometry, done, .. } => {
                ("writing zeroes over the new log", *done, geometry.ring_bytes())
            }
            Stage::Scan(scan) => ("scanning the log", scan.bytes, scan.geometry.ring_bytes()),
            Stage::Format { .. } | Stage::Begin { .. } => ("writing a superblock", 0, 0),
            Stage::Blank { .. } | Stage::Flush { .. } => ("flushing the log", 0, 0),
            Stage::Over => ("open", 1, 1),
        };
        Progress { step, done, total }
    }

    /// An I/O of the opening has ended.
    pub fn done(&mut self, nr: u64, result: Result<(), Errno>, buf: Option<BufMut>) {
        self.flying -= 1;
        if let Err(errno) = result {
            let (path, what) = (self.spec.path.clone(), self.progress().step);
            self.fail(OpenError::Io { path, what, errno });
            return;
        }
        match &mut self.stage {
            Stage::Slots { read, .. } => {
                let slot = usize::from(nr > 0);
                read[slot] = Some(buf.expect("a read brings its buffer back").freeze());
            }
            Stage::Probe { read, .. } => {
                *read = Some(buf.expect("a read brings its buffer back").freeze());
            }
            Stage::Zero { done, .. } => *done += ZERO_BYTES,
            Stage::Scan(scan) => scan.arrived(nr, buf.expect("a read brings its buffer back")),
            Stage::Blank { .. }
            | Stage::Format { .. }
            | Stage::Flush { .. }
            | Stage::Begin { .. }
            | Stage::Over => {}
        }
    }

    fn fail(&mut self, error: OpenError) {
        self.stage = Stage::Over;
        self.outcome.get_or_insert(Err(error));
    }

    // ---- work: ask for I/O

    fn work(&mut self, effects: &mut Vec<Effect>) {
        let mut asked = Asked { disk: self.spec.disk, flying: &mut self.flying, effects };
        match &mut self.stage {
            Stage::Slots { asked: done, .. } if !*done => {
                *done = true;
                for slot in 0..SLOTS {
                    let at = Sectors::from_bytes(slot * SLOT_BYTES);
                    asked.read(slot, self.spec.start + at, SLOT_BYTES);
                }
            }
            Stage::Zero { geometry, next, .. } => {
                while *asked.flying < ZEROES_IN_FLIGHT && *next < geometry.ring_bytes() {
                    asked.zero(geometry.sector(RingPos(*next)), geometry.ring_bytes() - *next);
                    *next += ZERO_BYTES;
                }
            }
            Stage::Format { superblock, geometry, asked: done } if !*done => {
                *done = true;
                for generation in [superblock.generation - 1, superblock.generation] {
                    let slot = Superblock { generation, ..superblock.clone() };
                    asked.superblock(&slot, geometry);
                }
            }
            Stage::Scan(scan) => scan.read_on(&mut asked),
            Stage::Probe { asked: done, .. } if !*done => {
                *done = true;
                let at = Sectors::from_bytes(RING_OFFSET);
                asked.read(0, self.spec.start + at, BLOCK_BYTES as u64);
            }
            Stage::Blank { asked: done, .. } | Stage::Flush { asked: done, .. } if !*done => {
                *done = true;
                asked.submit(0, DiskOp::Flush);
            }
            Stage::Begin { found, asked: done } if !*done => {
                *done = true;
                asked.superblock(&found.superblock, &found.geometry);
            }
            _ => {}
        }
    }

    // ---- advance: decide what comes next

    /// Goes to the next stage if this one is finished.
    fn advance(&mut self) -> bool {
        if let Stage::Scan(scan) = &mut self.stage {
            return match scan.take_verdict() {
                None => false,
                Some(verdict) => {
                    self.scanned(verdict);
                    true
                }
            };
        }
        if self.flying > 0 {
            return false;
        }
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Slots { read: [Some(first), Some(second)], .. } => {
                match self.decide(&first, &second) {
                    Ok(stage) => self.stage = stage,
                    Err(error) => self.fail(error),
                }
            }
            Stage::Zero { geometry, members, next, done } => {
                self.stage = if done >= geometry.ring_bytes() {
                    Stage::Blank { geometry, members, asked: false }
                } else {
                    Stage::Zero { geometry, members, next, done }
                };
            }
            Stage::Blank { geometry, members, .. } => {
                let superblock = self.new_log(&geometry, members);
                self.stage = Stage::Format { superblock, geometry, asked: false };
            }
            Stage::Probe { damaged, read: Some(first_block), .. } => {
                match self.decide_damaged(damaged, &first_block) {
                    Ok(stage) => self.stage = stage,
                    Err(error) => self.fail(error),
                }
            }
            Stage::Format { superblock, geometry, .. } => {
                let found =
                    Found { tip: superblock.head, superblock, geometry, groups: Vec::new() };
                self.outcome = Some(Ok(self.opened(found)));
            }
            Stage::Flush { found, .. } => self.stage = Stage::Begin { found, asked: false },
            Stage::Begin { found, .. } => self.outcome = Some(Ok(self.opened(*found))),
            Stage::Over => return false,
            stage @ (Stage::Slots { .. } | Stage::Probe { .. } | Stage::Scan(_)) => {
                self.stage = stage;
                return false;
            }
        }
        true
    }

    /// What the slots and the table's mode say together.
    ///
    /// | slots | `open` | `auto` | `create` |
    /// |---|---|---|---|
    /// | no log | refuse | create | create |
    /// | a log | scan | scan | refuse |
    /// | damaged, no group was ever written | refuse | create | create |
    /// | damaged, or too new | refuse | refuse | refuse |
    fn decide(&self, first: &Buf, second: &Buf) -> Result<Stage, OpenError> {
        let path = || self.spec.path.clone();
        let state =
            self.with_kept(choose(Superblock::decode(first), Superblock::decode(second)))?;
        match (state, self.spec.mode) {
            (LogState::Absent, OpenMode::Open) => {
                Err(OpenError::Absent { path: path(), start: self.spec.start })
            }
            (LogState::Absent, OpenMode::Auto | OpenMode::Create) => self.create(),
            (LogState::Valid(superblock), OpenMode::Open | OpenMode::Auto) => self.scan(superblock),
            (LogState::Valid(superblock), OpenMode::Create) => Err(OpenError::Exists {
                path: path(),
                uuid: superblock.uuid,
                writes: superblock.durable.lag(superblock.head.seq),
            }),
            (LogState::Damaged(damaged), OpenMode::Auto | OpenMode::Create)
                if self.ring_begins_on_disk() =>
            {
                Ok(Stage::Probe { damaged, asked: false, read: None })
            }
            (LogState::Damaged(damaged), _) => {
                Err(OpenError::Headers { path: path(), reason: damaged.to_string() })
            }
            (LogState::Newer(newer), _) => {
                Err(OpenError::Headers { path: path(), reason: newer.to_string() })
            }
        }
    }

    /// P10: a creation that was cut short leaves torn superblocks before a ring of
    /// zeroes. The first group ever is at the ring's first block, and only groups are
    /// ever written over it: where that is zero nothing can be lost.
    fn decide_damaged(&self, damaged: Damaged, first_block: &Buf) -> Result<Stage, OpenError> {
        if first_block.iter().all(|&byte| byte == 0) {
            return self.create();
        }
        let path = self.spec.path.clone();
        Err(OpenError::Headers { path, reason: damaged.to_string() })
    }

    fn ring_begins_on_disk(&self) -> bool {
        let room = self.spec.disk_size.0.checked_sub(self.spec.start.0);
        room.is_some_and(|room| room >= Sectors::from_bytes(RING_OFFSET).0 + SECTORS_PER_BLOCK)
    }

    fn create(&self) -> Result<Stage, OpenError> {
        let path = self.spec.path.clone();
        let size = self.spec.size.unwrap_or_default();
        let Some(geometry) = Geometry::new(self.spec.start, size) else {
            return Err(OpenError::TooSmall { path, found: size });
        };
        self.check_fit(&geometry)?;
        let found = self.spec.roster.found();
        let members = found.map_err(|error| OpenError::Roster { path: path.clone(), error })?;
        if let Err(unfit) = self.new_log(&geometry, members.clone()).validate() {
            return Err(OpenError::Roster { path, error: unfit.into() });
        }
        Ok(Stage::Zero { geometry, members, next: 0, done: 0 })
    }

    fn check_fit(&self, geometry: &Geometry) -> Result<(), OpenError> {
        let (start, size) = (self.spec.start, geometry.size());
        // Both may be any number the table can hold: no sum that could overflow.
        if self.spec.disk_size.0.checked_sub(start.0).is_some_and(|room| size.0 <= room) {
            return Ok(());
        }
        let (path, disk_size) = (self.spec.path.clone(), self.spec.disk_size);
        Err(OpenError::DoesNotFit { path, size, start, disk_size })
    }

    fn scan(&self, superblock: Superblock) -> Result<Stage, OpenError> {
        let path = || self.spec.path.clone();
        if !superblock.features.are_writable() {
            let ro_compat = superblock.features.ro_compat;
            return Err(OpenError::ReadOnly { path: path(), ro_compat });
        }
        if let Some(epoch) = superblock.bypassed_since.filter(|since| superblock.epoch <= *since) {
            return Err(OpenError::Bypassed { path: path(), epoch });
        }
        let geometry = superblock.geometry(self.spec.start);
        let wanted = self.spec.size.map(|size| Geometry::new(self.spec.start, size));
        if wanted.is_some_and(|wanted| wanted.map(|it| it.size()) != Some(geometry.size())) {
            let expected = self.spec.size.unwrap_or_default();
            return Err(OpenError::OtherSize { path: path(), found: geometry.size(), expected });
        }
        self.check_fit(&geometry)?;
        Ok(Stage::Scan(Box::new(Scan::new(superblock, geometry))))
    }

    fn scanned(&mut self, verdict: Result<Tip, Box<Damage>>) {
        let Stage::Scan(scan) = std::mem::replace(&mut self.stage, Stage::Over) else {
            unreachable!("only a scan has a verdict")
        };
        let path = self.spec.path.clone();
        let found = match verdict {
            Err(damage) => Err(OpenError::Damaged { path, damage }),
            Ok(tip) => self.join(*scan, &tip).map_err(|error| OpenError::Roster { path, error }),
        };
        match found {
            Ok(found) => self.stage = Stage::Flush { found: Box::new(found), asked: false },
            Err(error) => self.fail(error),
        }
    }

    /// Everything found counts from now on: the epoch to begin says so.
    fn join(&self, scan: Scan, tip: &Tip) -> Result<Found, RosterError> {
        let Scan { superblock: old, geometry, groups, .. } = scan;
        let mut known = Members { sites: old.sites.clone(), devices: old.devices, legs: old.legs };
        for site in &mut known.sites {
            let seen = tip.cursors.iter().find(|cursor| cursor.slink == site.slink);
            site.covered = seen.map_or(site.covered, |c| c.covered.max(site.covered));
        }
        let pending = |dev, from| {
            let entries = groups.iter().flat_map(|group| group.header.numbered());
            let written = entries.filter(|(_, entry)| entry.op != EntryOp::Bookmark);
            written.filter(|(seq, entry)| *seq > from && entry.dev == dev).count() as u64
        };
        let members = self.spec.roster.join(known, tip.anchor.seq, old.generation + 1, pending)?;
        let superblock = Superblock {
            generation: old.generation + 1,
            epoch: old.epoch + 1,
            epoch_first_group: tip.anchor.group + 1,
            durable: tip.anchor.seq,
            sites: members.sites,
            devices: members.devices,
            legs: members.legs,
            uuid: old.uuid,
            first: old.first,
            features: old.features,
            ring_bytes: old.ring_bytes,
            lap_base: old.lap_base,
            head: old.head,
            bypassed_since: old.bypassed_since,
        };
        superblock.validate()?;
        Ok(Found { superblock, geometry, groups, tip: tip.anchor })
    }

    fn new_log(&self, geometry: &Geometry, members: Members) -> Superblock {
        Superblock {
            generation: 1,
            uuid: self.spec.uuid,
            first: Uuid::nil(),
            features: Features::default(),
            ring_bytes: geometry.ring_bytes(),
            lap_base: geometry.lap_base(),
            epoch: 1,
            epoch_first_group: 1,
            durable: blk::Seq(0),
            head: Anchor::default(),
            bypassed_since: None,
            sites: members.sites,
            devices: members.devices,
            legs: members.legs,
        }
    }

    fn config(&self, geometry: Geometry) -> Config {
        Config {
            disk: self.spec.disk,
            geometry,
            tail_bytes: self.spec.tail_bytes,
            ld_may_outlag_tail: self.spec.ld_may_outlag_tail,
            complete_sites: self.spec.roster.complete_sites(),
            timeouts: self.spec.timeouts.clone(),
            wall: self.spec.wall,
        }
    }

    fn opened(&self, found: Found) -> Replog {
        let config = self.config(found.geometry);
        let mut log = Replog::new(config, found.superblock, found.tip);
        for group in found.groups {
            log.recover(&group);
        }
        log.begin_with_copies();
        log.retire(self.kept.as_ref().map_or(Vec::new(), |kept| kept.retired.clone()));
        log
    }
}

impl Replog {
    /// Puts a group that a scan found into the index.
    fn recover(&mut self, scanned: &ScannedGroup) {
        let header = &scanned.header;
        let group = Group {
            nr: header.nr,
            pos: scanned.pos,
            bytes: u64::from(header.bytes),
            first_seq: header.first_seq,
            last_seq: header.next_seq().prev(),
            epoch: header.epoch,
            crc: scanned.crc,
            durable: header.durable,
            sectors_before: 0,
            closed: blk::Time::default(),
            memory: None,
        };
        self.index.push(group, header.entries.iter().map(|entry| write(entry, header.nr)));
    }
}

const ZEROES_IN_FLIGHT: usize = 8;
const SECTORS_PER_BLOCK: u64 = (BLOCK_BYTES / SECTOR_BYTES) as u64;
