//! `dirty repair`: what is not believed is written anew, as all dirty.
//!
//! That is what it counts as anyway, so a repair takes nothing away, and the
//! replicator does the same when it starts. What it is good for: a disk with a sector
//! that can't be read gets the chance to replace it, while nobody waits.

use std::fmt;

use blk::{BLOCK_BYTES, Sector};
use serde::Serialize;

use super::walk;
use super::{BadBlocks, BlockReader, ToolError};
use crate::format::{Block, Bypassed, Identity};

/// What a repair does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Repair {
    /// What is to be written as all dirty; nothing: the dirty log is sound and left alone.
    pub bad: Vec<BadBlocks>,
    #[serde(skip)]
    identity: Identity,
    #[serde(skip)]
    bypassed: Option<Bypassed>,
}

/// Finds out how the dirty log on a disk can be made whole. Writes nothing.
///
/// # Errors
/// There is none, or it may not be decided whose it is.
pub fn repair(reader: &mut dyn BlockReader) -> Result<Repair, ToolError> {
    let identity = walk::identity(reader)?;
    walk::check_size(reader, &identity)?;
    let bad = super::check(reader).bad;
    Ok(Repair { bad, identity, bypassed: walk::bypassed(reader) })
}

impl Repair {
    /// Blocks to be written, and then flushed.
    pub fn writes(&self) -> impl Iterator<Item = (Sector, Vec<u8>)> + '_ {
        let numbers = self.bad.iter().flat_map(|bad| bad.block..bad.block + bad.blocks);
        numbers.map(|nr| {
            let mut bytes = vec![0; BLOCK_BYTES];
            let bypassed = self.bypassed.filter(|_| nr == 0);
            Block { bypassed, ..Block::all_dirty(&self.identity, nr) }.encode(&mut bytes);
            (Block::sector(nr), bytes)
        })
    }
}

impl fmt::Display for Repair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.bad.is_empty() {
            return writeln!(f, "all of it is believed; there is nothing to repair");
        }
        self.bad.iter().try_for_each(|bad| writeln!(f, "{bad}"))?;
        writeln!(f, "they would say that all of their regions are dirty")
    }
}
