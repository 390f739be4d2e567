//! Where things lie on the log device: slots, ring, laps. Arithmetic only.
//!
//! ```text
//! start              +128 KiB           +256 KiB                       +size
//!   │ superblock slot 0 │ superblock slot 1 │ ring ─────────────────────▶ │
//! ```
//!
//! Positions in the ring never wrap: a [`RingPos`] counts bytes since the log was
//! made, and its place on the device is what is left after whole laps. So "how
//! full" and "which came first" are subtractions and comparisons. Laps are counted
//! from the *lap base*: 0, until the ring gets another length ([`crate::resize`]).

use blk::{BLOCK_BYTES, SECTOR_BYTES, Sector, Sectors};

/// A place in the ring, in bytes since the log was made; a multiple of 4096.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RingPos(pub u64);

/// The measures of one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Where the log begins on its device.
    start: Sector,
    /// Bytes in one lap of the ring; a multiple of 4096.
    ring_bytes: u64,
    /// Where a lap began; nothing before it has a place.
    lap_base: RingPos,
}

impl Geometry {
    /// The measures of a log of `size` that begins at `start`; `None` if `size` is
    /// less than [`LOG_SIZE_MIN`], or ends where no device can have a sector.
    #[must_use]
    pub fn new(start: Sector, size: Sectors) -> Option<Self> {
        let end = start.0.checked_add(size.0)?;
        if size < LOG_SIZE_MIN || end > SECTOR_MAX {
            return None;
        }
        let ring = size.bytes() - RING_OFFSET;
        Some(Self { start, ring_bytes: ring - ring % BLOCK, lap_base: RingPos(0) })
    }

    /// The measures of a log whose superblock says how long its ring is, and where a lap began.
    #[must_use]
    pub fn of_ring(start: Sector, ring_bytes: u64, lap_base: RingPos) -> Self {
        Self { start, ring_bytes, lap_base }
    }

    /// A ring of another length, in which a lap begins where the one of `tip` does in this.
    /// What lies between that and the end of the shorter lap has the same place in both.
    #[must_use]
    pub fn resized(&self, ring_bytes: u64, tip: RingPos) -> Self {
        Self { ring_bytes, lap_base: self.lap_begin(tip), ..*self }
    }

    /// Where the first lap begins that has places on the device.
    #[must_use]
    pub fn lap_base(&self) -> RingPos {
        self.lap_base
    }

    /// First sector of the ring.
    #[must_use]
    pub fn ring_start(&self) -> Sector {
        self.start + Sectors::from_bytes(RING_OFFSET)
    }

    /// Where the lap of `pos` begins.
    #[must_use]
    pub fn lap_begin(&self, pos: RingPos) -> RingPos {
        RingPos(pos.0 - self.in_lap(pos))
    }

    /// Laps between the lap base and `pos`.
    #[must_use]
    pub fn laps(&self, pos: RingPos) -> u64 {
        pos.since(self.lap_base) / self.ring_bytes
    }

    /// Bytes in one lap.
    #[must_use]
    pub fn ring_bytes(&self) -> u64 {
        self.ring_bytes
    }

    /// The size of the whole log, headers included, as far as it is used.
    #[must_use]
    pub fn size(&self) -> Sectors {
        Sectors::from_bytes(RING_OFFSET + self.ring_bytes)
    }

    /// First sector of a superblock slot; `slot` is 0 or 1.
    #[must_use]
    pub fn slot(&self, slot: u64) -> Sector {
        assert!(slot < SLOTS, "there are two slots");
        self.start + Sectors::from_bytes(slot * SLOT_BYTES)
    }

    /// Where `pos` lies on the device.
    #[must_use]
    pub fn sector(&self, pos: RingPos) -> Sector {
        self.ring_start() + Sectors::from_bytes(self.in_lap(pos))
    }

    /// Bytes from `pos` to the end of its lap; never 0.
    #[must_use]
    pub fn to_lap_end(&self, pos: RingPos) -> u64 {
        self.ring_bytes - self.in_lap(pos)
    }

    fn in_lap(&self, pos: RingPos) -> u64 {
        pos.since(self.lap_base) % self.ring_bytes
    }

    /// Bytes of the pad group that must come before a group of `bytes` at `pos`,
    /// because a group never wraps; 0 if it fits its lap.
    #[must_use]
    pub fn pad_before(&self, pos: RingPos, bytes: u64) -> u64 {
        let rest = self.to_lap_end(pos);
        if bytes > rest { rest } else { 0 }
    }

    /// The longest group: a quarter of the ring (I10), and no more than [`GROUP_BYTES_MAX`].
    #[must_use]
    pub fn group_bytes_max(&self) -> u64 {
        let quarter = self.ring_bytes / 4;
        (quarter - quarter % BLOCK).min(GROUP_BYTES_MAX)
    }

    /// The longest write: one that fits a group by itself, behind its header, also where memory
    /// is short.
    #[must_use]
    pub fn write_max(&self) -> Sectors {
        Sectors::from_bytes(self.group_bytes_max().min(LONE_GROUP_BYTES_MAX) - BLOCK)
    }

    /// How much may be written to the ring and not yet be durable, and so how far
    /// recovery searches behind a torn group for proof of damage (I12).
    #[must_use]
    pub fn unproven_bytes_max(&self) -> u64 {
        let half = self.ring_bytes / 2;
        (half - half % BLOCK).min(UNPROVEN_BYTES_MAX)
    }
}

impl RingPos {
    /// The place `bytes` further on.
    #[must_use]
    pub fn plus(self, bytes: u64) -> Self {
        Self(self.0 + bytes)
    }

    /// Bytes between `earlier` and here.
    #[must_use]
    pub fn since(self, earlier: Self) -> u64 {
        self.0.checked_sub(earlier.0).expect("a ring position lies behind its head")
    }
}

/// The smallest log a table may ask for: 4096 sectors, 2 MiB, as in 2009.
pub const LOG_SIZE_MIN: Sectors = Sectors(4096);
/// Superblock slots; they are written in turn.
pub const SLOTS: u64 = 2;
/// Bytes of a superblock slot: a header and a roster at its stated maxima.
pub const SLOT_BYTES: u64 = 128 * 1024;
/// Where the ring begins, from the start of the log.
pub const RING_OFFSET: u64 = SLOTS * SLOT_BYTES;
/// No group is longer, whatever the ring: it is one write, and one barrier at a site. Four writes of
/// 1 MiB fit behind a header: a disk is fast only with megabytes in flight.
pub const GROUP_BYTES_MAX: u64 = 4 * 1024 * 1024 + BLOCK;
/// No group is longer where memory is short, so that no write is longer than what fits it.
pub const LONE_GROUP_BYTES_MAX: u64 = 2 * 1024 * 1024;
/// No more than this is ever written and not durable.
pub const UNPROVEN_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// A device ends where its size in bytes leaves a signed 64-bit offset.
pub(crate) const SECTOR_MAX: u64 = i64::MAX as u64 / SECTOR_BYTES as u64;

const BLOCK: u64 = BLOCK_BYTES as u64;

#[cfg(test)]
mod tests {
    use super::*;

    /// A ring of so many blocks, smaller than any log: a world to walk through.
    fn ring(blocks: u64) -> Geometry {
        Geometry { start: Sector(7), ring_bytes: blocks * BLOCK, lap_base: RingPos(0) }
    }

    /// Every place in the first four laps of a ring.
    fn places(geometry: &Geometry) -> impl Iterator<Item = RingPos> {
        (0..4 * geometry.ring_bytes / BLOCK).map(|block| RingPos(block * BLOCK))
    }

    #[test]
    fn every_place_of_every_small_ring_lies_where_counting_puts_it() {
        for blocks in 1..=9 {
            let geometry = ring(blocks);
            let (mut block, first) = (0, geometry.slot(0) + Sectors::from_bytes(RING_OFFSET));
            for pos in places(&geometry) {
                assert_eq!(geometry.sector(pos), first + Sectors(block * 8), "{pos:?} of {blocks}");
                assert_eq!(geometry.to_lap_end(pos), (blocks - block) * BLOCK);
                block = if block + 1 == blocks { 0 } else { block + 1 };
            }
        }
    }

    #[test]
    fn every_group_in_every_small_ring_gets_a_pad_exactly_when_it_would_wrap() {
        for blocks in 1..=9 {
            let geometry = ring(blocks);
            for pos in places(&geometry) {
                for bytes in (1..=blocks).map(|blocks| blocks * BLOCK) {
                    let pad = geometry.pad_before(pos, bytes);
                    let laps = |at: u64| at / geometry.ring_bytes;
                    let wraps = laps(pos.0) != laps(pos.0 + bytes - 1);
                    assert_eq!(pad > 0, wraps, "{bytes} bytes at {pos:?} of {blocks} blocks");
                    let begin = pos.plus(pad);
                    assert!(bytes <= geometry.to_lap_end(begin), "it fits behind its pad");
                    assert!(pad == 0 || geometry.sector(begin) == geometry.sector(RingPos(0)));
                }
            }
        }
    }

    #[test]
    fn a_group_that_fills_the_rest_of_its_lap_needs_no_pad() {
        let geometry = ring(5);
        let pos = RingPos(2 * BLOCK);
        assert_eq!(geometry.pad_before(pos, 3 * BLOCK), 0);
        assert_eq!(geometry.pad_before(pos, 4 * BLOCK), 3 * BLOCK);
        assert_eq!(geometry.to_lap_end(pos.plus(3 * BLOCK)), geometry.ring_bytes());
    }

    #[test]
    fn positions_at_the_end_of_all_numbers_still_have_a_place() {
        for blocks in 1..=9 {
            let geometry = ring(blocks);
            let last = RingPos(u64::MAX - u64::MAX % BLOCK);
            let nr = last.0 / BLOCK % blocks;
            assert_eq!(geometry.to_lap_end(last), (blocks - nr) * BLOCK);
            assert_eq!(geometry.sector(last).since(geometry.sector(RingPos(0))).0, nr * 8);
            assert_eq!(last.since(RingPos(last.0 - BLOCK)), BLOCK);
        }
    }

    #[test]
    fn whatever_the_lengths_a_lap_begins_where_one_did_and_both_agree_on_the_shorter_one() {
        for (blocks, other) in (1..=9).flat_map(|blocks| (1..=9).map(move |other| (blocks, other)))
        {
            let before = ring(blocks);
            for tip in places(&before) {
                let after = before.resized(other * BLOCK, tip);
                let begin = before.lap_begin(tip);
                assert_eq!((after.lap_base(), after.lap_begin(begin)), (begin, begin));
                assert!(begin <= tip && tip.since(begin) < before.ring_bytes());
                for block in 0..blocks.min(other) {
                    let pos = begin.plus(block * BLOCK);
                    assert_eq!(after.sector(pos), before.sector(pos), "{pos:?}");
                }
                // And from there on counting puts it where it is.
                for block in 0..3 * other {
                    let pos = begin.plus(block * BLOCK);
                    let place = after.ring_start() + Sectors(block % other * 8);
                    assert_eq!(after.sector(pos), place);
                    assert_eq!(after.to_lap_end(pos), (other - block % other) * BLOCK);
                    assert_eq!(after.laps(pos), block / other);
                }
                let twice = after.resized(blocks * BLOCK, begin.plus(other * BLOCK));
                assert_eq!(twice.lap_base(), begin.plus(other * BLOCK));
            }
        }
    }

    #[test]
    fn a_log_has_two_slots_and_whole_blocks_of_ring_and_nothing_beyond_its_size() {
        for extra in 0..17 {
            let size = LOG_SIZE_MIN + Sectors(extra);
            let geometry = Geometry::new(Sector(3), size).expect("large enough");
            assert!(geometry.ring_bytes().is_multiple_of(BLOCK));
            assert!(geometry.size() <= size && geometry.size() + Sectors(8) > size);
            assert_eq!(geometry.slot(0), Sector(3));
            assert_eq!(geometry.slot(1), Sector(3 + 256));
            assert_eq!(geometry.sector(RingPos(0)), Sector(3 + 512));
            let last = geometry.sector(RingPos(geometry.ring_bytes() - BLOCK));
            assert!(last + Sectors(8) <= Sector(3) + size);
        }
    }

    #[test]
    fn a_size_that_is_too_small_or_that_no_device_has_is_no_log() {
        let too_small = Sectors(LOG_SIZE_MIN.0 - 1);
        assert_eq!(Geometry::new(Sector(0), too_small), None);
        let largest = Sectors(SECTOR_MAX);
        assert!(Geometry::new(Sector(0), largest).is_some());
        assert_eq!(Geometry::new(Sector(1), largest), None);
        assert_eq!(Geometry::new(Sector(0), Sectors(u64::MAX)), None);
        assert_eq!(Geometry::new(Sector(u64::MAX), LOG_SIZE_MIN), None);
    }

    #[test]
    fn limits_of_a_log_of_any_size_leave_each_other_room() {
        for size in [LOG_SIZE_MIN.0, LOG_SIZE_MIN.0 + 8, 9999, 1 << 20, 1 << 40, SECTOR_MAX] {
            let geometry = Geometry::new(Sector(0), Sectors(size)).expect("large enough");
            let (group, ring) = (geometry.group_bytes_max(), geometry.ring_bytes());
            assert!(group.is_multiple_of(BLOCK) && 4 * group <= ring, "I10");
            assert_eq!(geometry.write_max().bytes() + BLOCK, group.min(LONE_GROUP_BYTES_MAX));
            // Two groups and a pad may be on their way before a flush has to come.
            assert!(geometry.unproven_bytes_max() + BLOCK > 2 * group);
            assert!(geometry.unproven_bytes_max() <= ring / 2);
        }
    }
}
