//! `dirty check`: whose dirty log it is, how much is dirty, and what is not believed.

use std::fmt;

use blk::{Sector, Sectors};
use serde::Serialize;

use super::walk::{self, Problem};
use super::{BlockReader, ToolError};
use crate::format::{Block, Bypassed, Identity, REGIONS_PER_BLOCK};

/// What there is on a disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether all of it is believed.
    pub health: Health,
    /// What it says, if it says whose it is.
    pub log: Option<Summary>,
    /// What is not believed.
    pub bad: Vec<BadBlocks>,
}

/// Whether a dirty log is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// All of it.
    Sound,
    /// There is none.
    Absent,
    /// Some blocks are not.
    Damaged,
    /// No block is.
    Unbelievable,
    /// The disk is smaller than it was.
    TooSmall,
    /// A later version of the program made it.
    Newer,
}

/// A dirty log, as far as it is believed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// The replication log whose site this is.
    pub log: String,
    /// The number under which the site left `streaming`.
    pub session: u64,
    /// The device.
    pub dev: u32,
    /// The site.
    pub slink: u16,
    /// Sectors of the device.
    pub sectors: u64,
    /// Sectors to a region.
    pub region_sectors: u64,
    /// How many regions there are.
    pub regions: u64,
    /// How many of them count as dirty: so marked, or in a block that is not believed.
    pub dirty_regions: u64,
    /// The sectors of those.
    pub dirty_sectors: u64,
    /// How many blocks there are.
    pub blocks: u64,
    /// The log that the devices went on without, if one was lost.
    pub bypassed: Option<Lost>,
}

/// A log that is never to be replayed again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lost {
    /// The log.
    pub log: String,
    /// Its last opening before the devices went on without it.
    pub epoch: u64,
}

/// Blocks in a row that are not believed, for the same reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BadBlocks {
    /// The first one.
    pub block: u64,
    /// How many.
    pub blocks: u64,
    /// Where the first one lies on the disk.
    pub sector: u64,
    /// What is wrong with them.
    pub problem: String,
}

/// Looks at a disk.
#[must_use]
pub fn check(reader: &mut dyn BlockReader) -> Report {
    let identity = match walk::identity(reader) {
        Ok(identity) => identity,
        Err(error) => return Report { health: Health::of(&error), log: None, bad: vec![] },
    };
    let (mut log, mut bad) = (Summary::new(&identity), vec![]);
    log.bypassed = walk::bypassed(reader).map(Lost::from);
    walk::blocks(reader, &identity, &mut |nr, block| match block {
        Ok(block) => log.count(&identity, nr, |i| block.words[i / 64] >> (i % 64) & 1 == 1),
        Err(problem) => {
            log.count(&identity, nr, |_| true);
            BadBlocks::extend(&mut bad, nr, &problem);
        }
    });
    let health = match walk::check_size(reader, &identity) {
        Err(error) => Health::of(&error),
        Ok(()) if bad.is_empty() => Health::Sound,
        Ok(()) => Health::Damaged,
    };
    Report { health, log: Some(log), bad }
}

impl Summary {
    pub(super) fn new(identity: &Identity) -> Self {
        Self {
            log: identity.log.to_string(),
            session: identity.session,
            dev: identity.dev.0,
            slink: identity.slink.0,
            sectors: identity.len.0,
            region_sectors: identity.region.0,
            regions: identity.regions(),
            dirty_regions: 0,
            dirty_sectors: 0,
            blocks: identity.blocks(),
            bypassed: None,
        }
    }

    pub(super) fn count(
        &mut self,
        identity: &Identity,
        block: u64,
        is_dirty: impl Fn(usize) -> bool,
    ) {
        let regions = usize::try_from(identity.regions_of(block)).expect("fewer than 31744");
        let first = block * REGIONS_PER_BLOCK;
        for region in (0..regions).filter(|i| is_dirty(*i)).map(|i| first + i as u64) {
            self.dirty_regions += 1;
            self.dirty_sectors += sectors(identity, region, 1).1.0;
        }
    }
}

/// The sectors of regions in a row.
pub(super) fn sectors(identity: &Identity, first: u64, count: u64) -> (Sector, Sectors) {
    let start = Sector(first * identity.region.0);
    let end = Sector(identity.len.0.min((first + count).saturating_mul(identity.region.0)));
    (start, end.since(start))
}

impl From<Bypassed> for Lost {
    fn from(Bypassed { log, epoch }: Bypassed) -> Self {
        Self { log: log.to_string(), epoch }
    }
}

impl BadBlocks {
    /// Adds a block behind all that are in the list.
    pub(super) fn extend(list: &mut Vec<Self>, block: u64, problem: &Problem) {
        let problem = problem.to_string();
        match list.last_mut() {
            Some(last) if last.block + last.blocks == block && last.problem == problem => {
                last.blocks += 1;
            }
            _ => {
                let sector = Block::sector(block).0;
                list.push(Self { block, blocks: 1, sector, problem });
            }
        }
    }
}

impl Health {
    fn of(error: &ToolError) -> Self {
        match error {
            ToolError::Absent => Self::Absent,
            ToolError::Unbelievable => Self::Unbelievable,
            ToolError::Newer => Self::Newer,
            ToolError::TooSmall { .. } => Self::TooSmall,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.log.iter().try_for_each(|log| writeln!(f, "{log}"))?;
        self.bad.iter().try_for_each(|bad| writeln!(f, "{bad}"))?;
        writeln!(f, "verdict: {}", self.health)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { log, session, dev, slink, sectors, region_sectors, .. } = self;
        writeln!(f, "dirty log of device {dev} on site {slink}, session {session} of log {log}")?;
        writeln!(
            f,
            "device: {sectors} sectors, {} regions of {region_sectors}, in {} blocks",
            self.regions, self.blocks
        )?;
        write!(f, "dirty: {} regions, {} sectors", self.dirty_regions, self.dirty_sectors)?;
        match &self.bypassed {
            Some(Lost { log, epoch }) => {
                write!(
                    f,
                    "\nlog {log} was lost, and is not to be replayed: its opening {epoch} was the last"
                )
            }
            None => Ok(()),
        }
    }
}

impl fmt::Display for BadBlocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { block, blocks, sector, problem } = self;
        match blocks {
            1 => write!(f, "block {block} at sector {sector}: {problem}"),
            more => write!(f, "{more} blocks from block {block} at sector {sector} on: {problem}"),
        }
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sound => "sound",
            Self::Absent => "there is no dirty log here",
            Self::Damaged => {
                "damaged; what is not believed counts as dirty, and is copied and written anew"
            }
            Self::Unbelievable => "no block can be believed; all of the device counts as dirty",
            Self::TooSmall => "the disk is too small for it; the replicator does not use it",
            Self::Newer => "made by a later version of this program, which has to be used",
        })
    }
}
