//! The bitmap in memory: a bit to a grain.

use std::ops::Range;

use bitvec::vec::BitVec;
use blk::{Sector, Sectors};

/// Which grains of a device are dirty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bits {
    len: Sectors,
    region: Sectors,
    grain: Sectors,
    dirty: BitVec,
    /// Grains that are dirty: counting them all on every question would be slow.
    count: usize,
}

impl Bits {
    /// All clean.
    pub(crate) fn new(len: Sectors, region: Sectors) -> Self {
        assert!(len.0 > 0 && region.0 > 0, "a device of {len} sectors, regions of {region}");
        let grain = grain(len, region);
        let grains = usize::try_from(len.0.div_ceil(grain.0)).expect("a bitmap fits in memory");
        Self { len, region, grain, dirty: BitVec::repeat(false, grains), count: 0 }
    }

    pub(crate) fn mark(&mut self, sector: Sector, len: Sectors) {
        let grains = self.touched(sector, len);
        self.set(grains, true);
    }

    pub(crate) fn clear(&mut self, sector: Sector, len: Sectors) {
        let end = sector + len;
        let mut grains = self.touched(sector, len);
        if !grains.is_empty() && self.range_of(grains.start).start < sector {
            grains.start += 1;
        }
        if !grains.is_empty() && end < self.range_of(grains.end - 1).end {
            grains.end -= 1;
        }
        self.set(grains, false);
    }

    pub(crate) fn is_dirty(&self, sector: Sector, len: Sectors) -> bool {
        self.dirty[self.touched(sector, len)].any()
    }

    pub(crate) fn next_dirty(&self, from: Sector, max: Sectors) -> Option<(Sector, Sectors)> {
        let from = usize::try_from(from.0.div_ceil(self.grain.0)).expect("a bitmap fits in memory");
        let first = from + self.dirty.get(from..)?.first_one()?;
        let most = usize::try_from((max.0 / self.grain.0).max(1)).unwrap_or(usize::MAX);
        let end = self.dirty.len().min(first.saturating_add(most));
        let run = self.dirty[first..end].leading_ones();
        let (start, end) = (self.range_of(first).start, self.range_of(first + run - 1).end);
        Some((start, end.since(start)))
    }

    pub(crate) fn dirty_sectors(&self) -> Sectors {
        let last = self.dirty.len() - 1;
        let whole = self.count as u64 * self.grain.0;
        let missing = self.grain.0 - self.range_of(last).end.since(self.range_of(last).start).0;
        Sectors(whole - if self.dirty[last] { missing } else { 0 })
    }

    /// Sectors of the device.
    pub(crate) fn len(&self) -> Sectors {
        self.len
    }

    /// The regions that a range touches.
    pub(crate) fn regions_touched(&self, sector: Sector, len: Sectors) -> Range<usize> {
        let index = |region: u64| usize::try_from(region).expect("a bitmap fits in memory");
        match (sector + len).0 {
            _ if len.is_empty() => 0..0,
            end => index(sector.0 / self.region.0)..index(end.div_ceil(self.region.0)),
        }
    }

    /// The sectors of regions.
    pub(crate) fn sectors_of(&self, regions: &Range<usize>) -> (Sector, Sectors) {
        let start = Sector(regions.start as u64 * self.region.0);
        let end = Sector(self.len.0.min(regions.end as u64 * self.region.0));
        (start, end.since(start))
    }

    pub(crate) fn regions(&self) -> u64 {
        self.len.0.div_ceil(self.region.0)
    }

    pub(crate) fn regions_in_sync(&self) -> u64 {
        if self.grain == self.region {
            return self.regions() - self.count as u64;
        }
        // Asked by whoever looks, while devices are served: by runs, not by region.
        let (mut dirty, mut from) = (0, Sector(0));
        while let Some((sector, len)) = self.next_dirty(from, self.len) {
            let last = (sector + len).0.div_ceil(self.region.0);
            dirty += last - sector.0 / self.region.0;
            from = Sector(last * self.region.0).min(Sector(self.len.0));
        }
        self.regions() - dirty
    }

    /// Whether any sector of a region, by its number, is dirty.
    pub(crate) fn is_region_dirty(&self, region: u64) -> bool {
        let start = Sector(region * self.region.0);
        let end = (start + self.region).min(Sector(self.len.0));
        self.is_dirty(start, end.since(start))
    }

    fn set(&mut self, grains: Range<usize>, dirty: bool) {
        if grains.is_empty() {
            return;
        }
        let before = self.dirty[grains.clone()].count_ones();
        let after = if dirty { grains.len() } else { 0 };
        self.dirty[grains].fill(dirty);
        self.count = self.count - before + after;
    }

    fn range_of(&self, grain: usize) -> Range<Sector> {
        let start = Sector(grain as u64 * self.grain.0);
        let end = (start + self.grain).min(Sector(self.len.0));
        start..end
    }

    fn touched(&self, sector: Sector, len: Sectors) -> Range<usize> {
        let end = sector + len;
        assert!(end.0 <= self.len.0, "sectors {sector}..{end} of a device of {}", self.len);
        if len.is_empty() {
            return 0..0;
        }
        let index = |sector: u64| usize::try_from(sector).expect("a bitmap fits in memory");
        index(sector.0 / self.grain.0)..index(end.0.div_ceil(self.grain.0))
    }
}

/// A region, or so much of one that the bitmap keeps its bound (I10).
fn grain(len: Sectors, region: Sectors) -> Sectors {
    let least = len.0.div_ceil(GRAINS_MAX).next_power_of_two().max(GRAIN_MIN);
    Sectors(least.min(region.0))
}

/// What is worth a copy of its own: 64 KiB.
const GRAIN_MIN: u64 = 128;
/// 2 MiB of bits to a leg, unless the table asks for smaller regions.
const GRAINS_MAX: u64 = 1 << 24;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_dirties_every_region_it_touches_and_a_clear_only_whole_ones() {
        let mut bits = Bits::new(Sectors(100), Sectors(8));
        bits.mark(Sector(7), Sectors(2));
        assert_eq!((bits.regions(), bits.regions_in_sync()), (13, 11));
        bits.clear(Sector(0), Sectors(15));
        assert!(!bits.is_dirty(Sector(0), Sectors(8)) && bits.is_dirty(Sector(8), Sectors(1)));
    }

    #[test]
    fn the_short_last_region_counts_like_any_other() {
        let mut bits = Bits::new(Sectors(100), Sectors(8));
        bits.mark(Sector(99), Sectors(1));
        assert_eq!(bits.dirty_sectors(), Sectors(4));
        bits.clear(Sector(96), Sectors(4));
        assert_eq!(bits.regions_in_sync(), bits.regions());
        assert_eq!(bits.dirty_sectors(), Sectors(0));
    }

    #[test]
    fn a_dirty_range_is_as_long_as_asked_for_in_whole_regions_and_one_at_least() {
        let mut bits = Bits::new(Sectors(100), Sectors(8));
        bits.mark(Sector(16), Sectors(40));
        for (max, found) in [(1, 8), (8, 8), (15, 8), (16, 16), (31, 24), (99, 40)] {
            let next = bits.next_dirty(Sector(0), Sectors(max));
            assert_eq!(next, Some((Sector(16), Sectors(found))), "{max}");
        }
        assert_eq!(bits.next_dirty(Sector(17), Sectors(8)), Some((Sector(24), Sectors(8))));
        assert_eq!(bits.next_dirty(Sector(56), Sectors(8)), None);
    }

    #[test]
    fn a_large_region_is_marked_and_copied_by_the_grain() {
        let mut bits = Bits::new(Sectors(1 << 20), Sectors(1 << 20));
        bits.mark(Sector(1000), Sectors(1));
        assert_eq!((bits.regions(), bits.regions_in_sync()), (1, 0));
        assert_eq!(bits.dirty_sectors(), Sectors(GRAIN_MIN));
        assert_eq!(bits.next_dirty(Sector(0), Sectors(1 << 20)), Some((Sector(896), Sectors(128))));
    }

    /// Every pair of mark and clear on a small device, against an array of sectors.
    #[test]
    fn no_sector_is_ever_clean_that_was_marked_and_not_wholly_cleared() {
        for len in 1..=9_u64 {
            for (ms, ml, cs, cl) in all_ranges(len) {
                let mut bits = Bits::new(Sectors(len), Sectors(4));
                bits.mark(Sector(ms), Sectors(ml));
                bits.clear(Sector(cs), Sectors(cl));
                for s in ms..ms + ml {
                    let cleared = cs <= s && s < cs + cl;
                    assert!(cleared || bits.is_dirty(Sector(s), Sectors(1)));
                }
                let dirty = (0..len).filter(|s| bits.is_dirty(Sector(*s), Sectors(1))).count();
                assert_eq!(bits.dirty_sectors(), Sectors(dirty as u64));
                let found = std::iter::successors(bits.next_dirty(Sector(0), Sectors(4)), |run| {
                    bits.next_dirty(run.0 + run.1, Sectors(4))
                });
                assert_eq!(found.map(|run| run.1.0).sum::<u64>(), dirty as u64);
            }
        }
    }

    #[test]
    fn regions_in_sync_are_those_without_a_dirty_grain() {
        let (len, region) = (Sectors(128 * 37 + 5), Sectors(512));
        for seed in 0..200_u64 {
            let mut bits = Bits::new(len, region);
            for i in 0..seed % 7 {
                bits.mark(Sector((seed * 7919 + i * 1237) % 4000), Sectors(1 + seed * i % 700));
                bits.clear(Sector((seed * 104_729 + i * 331) % 4000), Sectors(300));
            }
            let clean = (0..bits.regions()).filter(|region| !bits.is_region_dirty(*region));
            assert_eq!(bits.regions_in_sync(), clean.count() as u64, "seed {seed}");
        }
    }

    fn all_ranges(len: u64) -> impl Iterator<Item = (u64, u64, u64, u64)> {
        let one = move || (0..len).flat_map(move |s| (0..=len - s).map(move |l| (s, l)));
        one().flat_map(move |(a, b)| one().map(move |(c, d)| (a, b, c, d)))
    }
}
