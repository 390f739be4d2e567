//! Finds out whose dirty log it is, and reads it block by block.

use blk::{BLOCK_BYTES, Errno, Sectors};

use super::{BlockReader, ToolError};
use crate::format::{Block, BlockError, Bypassed, Identity, SECTORS_PER_BLOCK};

/// Why a block is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Problem {
    #[error("{0}")]
    Block(#[from] BlockError),
    #[error("can't be read: {0}")]
    Unreadable(#[from] Errno),
}

/// Whose dirty log it is: as its first block says that can be believed. What an older,
/// larger one left behind comes after it.
pub(super) fn identity(reader: &mut dyn BlockReader) -> Result<Identity, ToolError> {
    let blocks = blocks_on(reader.size()).min(SEARCHED_BLOCKS);
    let (mut found, mut newer, mut traces) = (None, false, false);
    walk(reader, blocks, &mut |nr, block| match block {
        Ok(block) if block.nr == nr => {
            found = Some(block.identity);
            false
        }
        Ok(_) => {
            traces = true;
            true
        }
        Err(problem) => {
            newer |= matches!(problem, Problem::Block(BlockError::UnsupportedVersion { .. }));
            traces |= !matches!(problem, Problem::Block(BlockError::NoMagic { .. }));
            true
        }
    });
    match found {
        Some(identity) => Ok(identity),
        None if newer => Err(ToolError::Newer),
        None if traces => Err(ToolError::Unbelievable),
        None => Err(ToolError::Absent),
    }
}

/// What its first block says of a lost log, whether or not the rest of it is believed.
pub(super) fn bypassed(reader: &mut dyn BlockReader) -> Option<Bypassed> {
    let mut first = vec![0; BLOCK_BYTES];
    reader.read(Block::sector(0), &mut first).ok()?;
    Bypassed::decode(&first)
}

/// Shows every block of a dirty log, as far as the disk goes.
pub(super) fn blocks(
    reader: &mut dyn BlockReader,
    identity: &Identity,
    visit: &mut dyn FnMut(u64, Result<Block, Problem>),
) {
    let blocks = identity.blocks().min(blocks_on(reader.size()));
    walk(reader, blocks, &mut |nr, block| {
        let block = block.and_then(|block| Ok(block.check(identity, nr)?));
        visit(nr, block);
        true
    });
}

/// Whether the disk holds all of it.
pub(super) fn check_size(reader: &dyn BlockReader, identity: &Identity) -> Result<(), ToolError> {
    let (expected, found) = (identity.disk_sectors(), reader.size());
    if found < expected { Err(ToolError::TooSmall { expected, found }) } else { Ok(()) }
}

fn walk(
    reader: &mut dyn BlockReader,
    blocks: u64,
    visit: &mut dyn FnMut(u64, Result<Block, Problem>) -> bool,
) {
    let mut buf = vec![0; CHUNK_BLOCKS * BLOCK_BYTES];
    for first in (0..blocks).step_by(CHUNK_BLOCKS) {
        let count = usize::try_from(blocks - first).unwrap_or(CHUNK_BLOCKS).min(CHUNK_BLOCKS);
        let buf = &mut buf[..count * BLOCK_BYTES];
        let whole = reader.read(Block::sector(first), buf);
        for (nr, bytes) in (first..).zip(buf.chunks_exact_mut(BLOCK_BYTES)) {
            // One bad sector is no reason to disbelieve its neighbours.
            let read = whole.or_else(|_| reader.read(Block::sector(nr), bytes));
            let block = read.map_err(Problem::from).and_then(|()| Ok(Block::decode(bytes)?));
            if !visit(nr, block) {
                return;
            }
        }
    }
}

fn blocks_on(size: Sectors) -> u64 {
    size.0 / SECTORS_PER_BLOCK
}

/// 128 KiB.
const CHUNK_BLOCKS: usize = 32;
/// 16 MiB without a block that can be believed is no dirty log.
const SEARCHED_BLOCKS: u64 = 4096;
