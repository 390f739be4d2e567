//! The dirty log: which regions of one device are out of sync on one site.
//!
//! A region is a power of two of sectors, but the last one of a device may be
//! shorter. The types `core` (in memory) and `nolog` (one region: the whole device)
//! are here. Promise: a range is clean only if nobody marked any sector of it since
//! it was last cleared.

#![forbid(unsafe_code)]

use std::ops::Range;

use bitvec::vec::BitVec;
use blk::{Sector, Sectors};

/// The class of dirty log types in the registry.
pub struct DirtyLogClass;

impl registry::Class for DirtyLogClass {
    const NAME: &'static str = "dirty-log";
    type Constructor = fn(Sectors, Sectors) -> DirtyLog;
}

/// The regions of one device that are out of sync on one site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirtyLog {
    region: Sectors,
    len: Sectors,
    dirty: BitVec,
}

/// The type `core`: in memory, `region` sectors to a bit. All clean.
///
/// # Panics
/// If the device or the region has no sector.
#[must_use]
pub fn core(len: Sectors, region: Sectors) -> DirtyLog {
    assert!(len.0 > 0 && region.0 > 0, "a device of {len} sectors, regions of {region}");
    let regions = usize::try_from(len.0.div_ceil(region.0)).expect("a bitmap fits in memory");
    DirtyLog { region, len, dirty: BitVec::repeat(false, regions) }
}

/// The type `nolog`: one region, whatever `region` says. Clean.
///
/// # Panics
/// If the device has no sector.
#[must_use]
pub fn nolog(len: Sectors, _region: Sectors) -> DirtyLog {
    core(len, len)
}

impl DirtyLog {
    /// Marks every region that a range touches.
    ///
    /// # Panics
    /// If the range is not on the device.
    pub fn mark(&mut self, sector: Sector, len: Sectors) {
        let regions = self.touched(sector, len);
        self.dirty[regions].fill(true);
    }

    /// Clears every region that lies in a range as a whole.
    ///
    /// # Panics
    /// If the range is not on the device.
    pub fn clear(&mut self, sector: Sector, len: Sectors) {
        let end = sector + len;
        for region in self.touched(sector, len) {
            let at = self.range_of(region);
            if sector <= at.start && at.end <= end {
                self.dirty.set(region, false);
            }
        }
    }

    /// Whether any region that a range touches is dirty.
    ///
    /// # Panics
    /// If the range is not on the device.
    #[must_use]
    pub fn is_dirty(&self, sector: Sector, len: Sectors) -> bool {
        self.dirty[self.touched(sector, len)].any()
    }

    /// How many regions there are.
    #[must_use]
    pub fn regions(&self) -> u64 {
        self.dirty.len() as u64
    }

    /// How many of them are in sync.
    #[must_use]
    pub fn regions_in_sync(&self) -> u64 {
        self.dirty.count_zeros() as u64
    }

    fn range_of(&self, region: usize) -> Range<Sector> {
        let start = Sector(region as u64 * self.region.0);
        let end = (start + self.region).min(Sector(self.len.0));
        start..end
    }

    fn touched(&self, sector: Sector, len: Sectors) -> Range<usize> {
        let end = sector + len;
        assert!(end.0 <= self.len.0, "sectors {sector}..{end} of a device of {}", self.len);
        if len.is_empty() {
            return 0..0;
        }
        let index = |sector: u64| usize::try_from(sector).expect("a bitmap fits in memory");
        index(sector.0 / self.region.0)..index(end.0.div_ceil(self.region.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_dirties_every_region_it_touches_and_a_clear_only_whole_ones() {
        let mut log = core(Sectors(100), Sectors(8));
        log.mark(Sector(7), Sectors(2));
        assert_eq!((log.regions(), log.regions_in_sync()), (13, 11));
        log.clear(Sector(0), Sectors(15));
        assert!(!log.is_dirty(Sector(0), Sectors(8)) && log.is_dirty(Sector(8), Sectors(1)));
    }

    #[test]
    fn the_short_last_region_counts_like_any_other() {
        let mut log = core(Sectors(100), Sectors(8));
        log.mark(Sector(99), Sectors(1));
        log.clear(Sector(96), Sectors(4));
        assert_eq!(log.regions_in_sync(), log.regions());
    }

    #[test]
    fn nolog_is_one_region() {
        let mut log = nolog(Sectors(100), Sectors(8));
        log.mark(Sector(50), Sectors(1));
        assert_eq!((log.regions(), log.regions_in_sync()), (1, 0));
    }

    /// Every pair of mark and clear on a small device, against an array of sectors.
    #[test]
    fn no_sector_is_ever_clean_that_was_marked_and_not_wholly_cleared() {
        for len in 1..=9_u64 {
            for (ms, ml, cs, cl) in all_ranges(len) {
                let mut log = core(Sectors(len), Sectors(4));
                log.mark(Sector(ms), Sectors(ml));
                log.clear(Sector(cs), Sectors(cl));
                for s in ms..ms + ml {
                    let cleared = cs <= s && s < cs + cl;
                    assert!(cleared || log.is_dirty(Sector(s), Sectors(1)));
                }
            }
        }
    }

    fn all_ranges(len: u64) -> impl Iterator<Item = (u64, u64, u64, u64)> {
        let one = move || (0..len).flat_map(move |s| (0..=len - s).map(move |l| (s, l)));
        one().flat_map(move |(a, b)| one().map(move |(c, d)| (a, b, c, d)))
    }
}
