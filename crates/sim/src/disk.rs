//! A disk with a volatile cache, whose power can be cut at any instant.
//!
//! It promises what hardware promises and not one thing more:
//! - a completed write is readable, but only in the cache: a power cut may take it;
//! - a FLUSH makes durable what had *completed* before it was *submitted*;
//! - FUA makes durable that one write, not those before it;
//! - of what is not durable, cached or in flight, a power cut keeps any subset, sector
//!   by sector, in any order; on a disk of bytes a sector may also be torn inside;
//! - a command that was in flight when its process was killed may still land;
//! - what a failed flush was to make durable may never be so by another flush of the
//!   same process, only by being written again.

#![allow(
    missing_docs,
    reason = "every variant is documented; its fields say the rest by name and type"
)]

use std::collections::BTreeMap;
use std::ops::Range;

use smallvec::SmallVec;

use crate::cell::Cell;
use crate::image::Image;
use crate::rng::Rng;

/// A virtual disk. A clone is a second disk in the same state.
#[derive(Clone)]
pub struct SimDisk<C> {
    sectors: u64,
    /// So many sectors, from a multiple of them, are written as one or not at all.
    block: u64,
    durable: Image<C>,
    /// Completed, not durable: all versions of a sector, oldest first.
    cache: BTreeMap<u64, SmallVec<[Version<C>; 1]>>,
    in_flight: BTreeMap<Ticket, InFlight<C>>,
    /// First sector of each write in flight → its end and ticket.
    writing: BTreeMap<u64, (u64, Ticket)>,
    /// Counts submissions and completions, so that a flush knows what came before it.
    clock: u64,
}

/// Names a command from its submission to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// What a disk is asked to do. Addresses and lengths in sectors.
#[derive(Clone)]
pub enum Command<C> {
    /// Read `sectors` sectors.
    Read { sector: u64, sectors: u64 },
    /// Write `cells`; with `fua`, durably.
    Write { sector: u64, cells: Vec<C>, fua: bool },
    /// Make durable what has completed.
    Flush,
}

/// How a command ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended<C> {
    /// What was read.
    Read(Vec<C>),
    /// These sectors have a new value in the cache.
    Cached(Range<u64>),
    /// These sectors have a new value on the media.
    Durable(SmallVec<[Range<u64>; 1]>),
}

/// Why a disk refuses a command: the machine broke a rule, not the disk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Beyond the end.
    #[error("sectors {sector}..{end} are asked for, the disk has {sectors}")]
    OutOfRange { sector: u64, end: u64, sectors: u64 },
    /// Not whole logical blocks.
    #[error("sectors {sector}..{end} are not whole blocks of {block} sectors")]
    Unaligned { sector: u64, end: u64, block: u64 },
    /// Two writes of one sector in flight: their order would be the disk's choice (I4).
    #[error("a write of sectors {sector}..{end} overlaps one in flight, {other}..{other_end}")]
    Overlap { sector: u64, end: u64, other: u64, other_end: u64 },
}

/// What a power cut leaves of all that is not durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Nothing.
    None,
    /// Everything, in its newest version.
    All,
    /// Each sector any one of its versions; torn inside if the disk can be.
    Any { torn: bool },
}

impl<C: Cell> SimDisk<C> {
    /// A disk of `sectors` sectors of zeroes.
    #[must_use]
    pub fn new(sectors: u64) -> Self {
        Self::filled(sectors, C::zeroes())
    }

    /// A disk of `sectors` sectors that all hold `cell`.
    #[must_use]
    pub fn filled(sectors: u64, cell: C) -> Self {
        Self {
            sectors,
            block: 1,
            durable: Image::new(sectors, cell),
            cache: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            writing: BTreeMap::new(),
            clock: 0,
        }
    }

    /// The same with logical blocks of so many sectors.
    #[must_use]
    pub fn of_blocks(self, block: u64) -> Self {
        Self { block, ..self }
    }

    /// Another disk like this one, of zeroes.
    #[must_use]
    pub fn blank(&self) -> Self {
        Self::new(self.sectors).of_blocks(self.block)
    }

    /// Size in sectors.
    #[must_use]
    pub fn sectors(&self) -> u64 {
        self.sectors
    }

    /// What a read sees: the cache over the media.
    #[must_use]
    pub fn visible(&self, sector: u64) -> C {
        match self.cache.get(&sector).and_then(|versions| versions.last()) {
            Some(version) => version.cell.clone(),
            None => self.durable.at(sector),
        }
    }

    /// What is on the media.
    #[must_use]
    pub fn durable(&self, sector: u64) -> C {
        self.durable.at(sector)
    }

    /// Every value the sector may have after a power cut now: exactly the crash states.
    #[must_use]
    pub fn candidates(&self, sector: u64) -> SmallVec<[C; 2]> {
        let mut all = SmallVec::new();
        all.push(self.durable.at(sector));
        all.extend(self.cache.get(&sector).into_iter().flatten().map(|v| v.cell.clone()));
        all.extend(self.being_written(sector).cloned());
        all
    }

    /// Takes a command in.
    ///
    /// # Errors
    /// If it lies outside the disk, cuts a block, or overlaps a write in flight (I4).
    pub fn submit(&mut self, command: Command<C>) -> Result<Ticket, Refused> {
        self.clock += 1;
        let ticket = Ticket(self.clock);
        let (sector, end) = match &command {
            Command::Read { sector, sectors } => (*sector, sector + sectors),
            Command::Write { sector, cells, .. } => (*sector, sector + cells.len() as u64),
            Command::Flush => (0, 0),
        };
        if end > self.sectors {
            return Err(Refused::OutOfRange { sector, end, sectors: self.sectors });
        }
        if sector % self.block != 0 || end % self.block != 0 {
            return Err(Refused::Unaligned { sector, end, block: self.block });
        }
        if matches!(command, Command::Write { .. }) {
            self.refuse_overlap(sector, end)?;
            self.writing.insert(sector, (end, ticket));
        }
        self.in_flight.insert(ticket, InFlight { command });
        Ok(ticket)
    }

    /// Ends a command well.
    ///
    /// # Panics
    /// If it is not in flight.
    pub fn complete(&mut self, ticket: Ticket) -> Ended<C> {
        match self.take(ticket) {
            Command::Read { sector, sectors } => {
                Ended::Read((sector..sector + sectors).map(|at| self.visible(at)).collect())
            }
            Command::Write { sector, cells, fua } => {
                let changed = sector..sector + cells.len() as u64;
                for (at, cell) in changed.clone().zip(cells) {
                    self.land(at, cell, fua);
                }
                if fua {
                    Ended::Durable(SmallVec::from_elem(changed, 1))
                } else {
                    Ended::Cached(changed)
                }
            }
            Command::Flush => Ended::Durable(self.write_back(ticket)),
        }
    }

    /// Ends a command with an error: of a write, any sectors may have landed in the
    /// cache; of a flush, some of what it covers no later flush will make durable.
    /// Returns the sectors that may have changed.
    pub fn fail(&mut self, ticket: Ticket, rng: &mut Rng) -> Option<Range<u64>> {
        let (sector, cells) = match self.take(ticket) {
            Command::Write { sector, cells, .. } => (sector, cells),
            Command::Read { .. } => return None,
            Command::Flush => {
                self.give_up(ticket, rng);
                return None;
            }
        };
        let changed = sector..sector + cells.len() as u64;
        let mut lands = false;
        for (at, cell) in changed.clone().zip(cells) {
            if at == sector || at % self.block == 0 {
                lands = rng.chance(50);
            }
            if lands {
                self.land(at, cell, false);
            }
        }
        Some(changed)
    }

    /// The process that submitted them is dead, the disk is not: what is in flight
    /// lands whole, in part or not at all, in any order. Returns the sectors that became
    /// durable by it.
    pub fn orphan(&mut self, rng: &mut Rng) -> Vec<u64> {
        let mut durable = Vec::new();
        let mut orphans: Vec<Ticket> = self.in_flight.keys().copied().collect();
        while !orphans.is_empty() {
            let ticket = orphans.swap_remove(rng.index(orphans.len()));
            match rng.below(4) {
                0 => drop(self.take(ticket)),
                1 => drop(self.fail(ticket, rng)),
                _ => match self.complete(ticket) {
                    Ended::Durable(rows) => durable.extend(rows.into_iter().flatten()),
                    Ended::Read(_) | Ended::Cached(_) => {}
                },
            }
        }
        // What a dead process was told of flushes nobody knows: the next may rely on its own.
        self.cache.values_mut().flatten().for_each(|version| version.given_up = false);
        durable
    }

    /// Cuts the power: what is not durable survives as `keep` says. Returns the sectors
    /// that were not durable.
    pub fn cut(&mut self, keep: Keep, rng: &mut Rng) -> Vec<u64> {
        let lost: Vec<u64> = self.volatile_sectors();
        let mut drawn = (u64::MAX, 0);
        let mut after = Vec::with_capacity(lost.len());
        for &at in &lost {
            let block = at / self.block;
            if drawn.0 != block {
                drawn = (block, rng.next());
            }
            after.push(self.after_cut(at, keep, drawn.1, rng));
        }
        self.cache.clear();
        self.in_flight.clear();
        self.writing.clear();
        for (&at, cell) in lost.iter().zip(after) {
            self.durable.set(at, cell);
        }
        lost
    }

    /// Changes what is on the media behind everybody's back.
    pub fn damage(&mut self, sector: u64, cell: C) {
        self.durable.set(sector, cell);
    }

    /// Whether anything is in flight.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        !self.in_flight.is_empty()
    }

    /// Whether nothing is in flight and everything is on the media.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.in_flight.is_empty() && self.cache.is_empty()
    }

    fn refuse_overlap(&self, sector: u64, end: u64) -> Result<(), Refused> {
        let before = self.writing.range(..end).next_back();
        match before {
            Some((&other, &(other_end, _))) if other_end > sector => {
                Err(Refused::Overlap { sector, end, other, other_end })
            }
            _ => Ok(()),
        }
    }

    fn take(&mut self, ticket: Ticket) -> Command<C> {
        let InFlight { command } =
            self.in_flight.remove(&ticket).expect("a command ends once, after its submission");
        if let Command::Write { sector, .. } = &command {
            self.writing.remove(sector);
        }
        command
    }

    fn land(&mut self, at: u64, cell: C, fua: bool) {
        if fua {
            // Older cached versions can't come back: the device orders one sector with itself.
            self.cache.remove(&at);
            self.durable.set(at, cell);
        } else {
            self.clock += 1;
            let version = Version { cell, completed_at: self.clock, given_up: false };
            self.cache.entry(at).or_default().push(version);
        }
    }

    /// The end of the flush submitted as `flush`.
    fn write_back(&mut self, flush: Ticket) -> SmallVec<[Range<u64>; 1]> {
        let mut changed: SmallVec<[Range<u64>; 1]> = SmallVec::new();
        self.cache.retain(|&at, versions| {
            let covered = versions.partition_point(|v| v.completed_at < flush.0);
            // What a failed flush gave up stays where it is, and hides what is older.
            let covered =
                versions[..covered].iter().rposition(|v| !v.given_up).map_or(0, |at| at + 1);
            if let Some(newest) = versions.drain(..covered).next_back() {
                self.durable.set(at, newest.cell);
                match changed.last_mut() {
                    Some(range) if range.end == at => range.end += 1,
                    _ => changed.push(at..at + 1),
                }
            }
            !versions.is_empty()
        });
        changed
    }

    /// The end of a flush that failed.
    fn give_up(&mut self, flush: Ticket, rng: &mut Rng) {
        let versions = self.cache.values_mut().flatten();
        let covered = versions.filter(|version| version.completed_at < flush.0);
        covered.for_each(|version| version.given_up |= rng.chance(50));
    }

    fn being_written(&self, sector: u64) -> Option<&C> {
        let (&start, &(end, ticket)) = self.writing.range(..=sector).next_back()?;
        if end <= sector {
            return None;
        }
        let Command::Write { cells, .. } = &self.in_flight[&ticket].command else { return None };
        cells.get(usize::try_from(sector - start).ok()?)
    }

    /// Sectors with a value that is not durable, each once.
    fn volatile_sectors(&self) -> Vec<u64> {
        let in_flight = self.writing.iter().flat_map(|(&start, &(end, _))| start..end);
        let mut all: Vec<u64> = self.cache.keys().copied().chain(in_flight).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// `drawn` is the same for all sectors of a block, and so are their versions.
    fn after_cut(&self, at: u64, keep: Keep, drawn: u64, rng: &mut Rng) -> C {
        let mut versions = self.candidates(at);
        match keep {
            Keep::None => versions.swap_remove(0),
            Keep::All => versions.pop().expect("the durable value is always a candidate"),
            Keep::Any { torn } => {
                let kept = usize::try_from(drawn % versions.len() as u64).expect("an index");
                if torn && kept > 0 && rng.chance(20) {
                    let bytes = rng.range(1, 511);
                    let bytes = usize::try_from(bytes).expect("below the size of a sector");
                    return C::shorn(&versions[kept], &versions[kept - 1], bytes);
                }
                versions.swap_remove(kept)
            }
        }
    }
}

#[derive(Clone)]
struct Version<C> {
    cell: C,
    completed_at: u64,
    /// A flush failed to make it durable: no other flush will.
    given_up: bool,
}

#[derive(Clone)]
struct InFlight<C> {
    command: Command<C>,
}

#[cfg(test)]
mod tests;
