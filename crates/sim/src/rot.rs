//! Bits that rot in the log after they were durable (P11).
//!
//! What has rotted is found: the log is refused, or opened with everything right. Only
//! what nothing proves to have been durable may pass for a torn end; so bits are
//! flipped only in groups that a later header or a superblock calls durable.

use blk::{BLOCK_BYTES, SECTOR_BYTES, Seq};
use replog::format::group::GroupHeader;
use replog::format::superblock::Superblock;
use replog::geometry::{RING_OFFSET, SLOT_BYTES};

use crate::cell::Bytes;
use crate::disk::SimDisk;
use crate::rng::Rng;

/// Flips a bit of a group that is proven durable; whether there is one.
pub fn flip(log: &mut SimDisk<Bytes>, rng: &mut Rng) -> bool {
    let groups = groups(log);
    let claims = groups.iter().map(|(_, header)| header.durable);
    let proven = claims.chain(superblocks(log)).max().unwrap_or_default();
    let is_proven = |header: &GroupHeader| !header.is_pad() && header.next_seq().prev() <= proven;
    let proven: Vec<_> = groups.iter().filter(|(_, header)| is_proven(header)).collect();
    if proven.is_empty() {
        return false;
    }
    let (sector, header) = *rng.pick(&proven);
    let payloads = header.entries.iter().filter_map(|entry| entry.payload_range());
    let bytes = payloads.map(|range| range.end).max().unwrap_or(BLOCK_BYTES);
    flip_bit(log, *sector, rng.index(bytes * 8));
    true
}

/// Flips a bit of a dirty log, or swaps two of them, perhaps back again: what they say can't be
/// believed then, and nobody may take it for "clean".
pub fn spoil_dirty_logs(dirty_logs: &mut [SimDisk<Bytes>], rng: &mut Rng) {
    if dirty_logs.is_empty() {
        return;
    }
    let one = rng.index(dirty_logs.len());
    if rng.chance(30) {
        let other = rng.index(dirty_logs.len());
        dirty_logs.swap(one, other);
        return;
    }
    let sectors = dirty_logs[one].sectors();
    let written = |at: &u64| *dirty_logs[one].durable(*at).get() != [0; SECTOR_BYTES];
    let written: Vec<u64> = (0..sectors).filter(written).collect();
    if !written.is_empty() {
        flip_bit(&mut dirty_logs[one], *rng.pick(&written), rng.index(SECTOR_BYTES * 8));
    }
}

fn flip_bit(log: &mut SimDisk<Bytes>, start: u64, bit: usize) {
    let (sector, bit) = (start + (bit / 8 / SECTOR_BYTES) as u64, bit % (8 * SECTOR_BYTES));
    let mut bytes = *log.durable(sector).get();
    bytes[bit / 8] ^= 1 << (bit % 8);
    log.damage(sector, Bytes::new(bytes));
}

/// Every whole group header in the ring, and its first sector.
fn groups(log: &SimDisk<Bytes>) -> Vec<(u64, GroupHeader)> {
    let ring = sectors(RING_OFFSET)..log.sectors();
    let blocks = ring.step_by(BLOCK_BYTES / SECTOR_BYTES);
    let header = |at| {
        let magic = log.durable(at).get().starts_with(b"RPLGROUP");
        let block = magic.then(|| read(log, at, BLOCK_BYTES))?;
        Some((at, GroupHeader::decode(&block).ok()?.0))
    };
    blocks.filter_map(header).collect()
}

/// What the superblocks call durable.
fn superblocks(log: &SimDisk<Bytes>) -> impl Iterator<Item = Seq> {
    let bytes = usize::try_from(SLOT_BYTES).expect("a slot fits in memory");
    let slots = [0, 1].map(|slot| read(log, sectors(slot * SLOT_BYTES), bytes));
    slots.into_iter().filter_map(|slot| Some(Superblock::decode(&slot).ok()?.durable))
}

fn read(log: &SimDisk<Bytes>, start: u64, bytes: usize) -> Vec<u8> {
    let sectors = start..start + (bytes / SECTOR_BYTES) as u64;
    sectors.flat_map(|at| *log.durable(at).get()).collect()
}

fn sectors(bytes: u64) -> u64 {
    bytes / SECTOR_BYTES as u64
}
