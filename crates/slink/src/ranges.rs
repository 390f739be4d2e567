//! A set of sectors of one device, as ranges.

use std::collections::BTreeMap;

use blk::{Sector, Sectors};

/// Sectors, as ranges that neither overlap nor touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ranges {
    /// Ends, by starts.
    all: BTreeMap<Sector, Sector>,
}

impl Ranges {
    /// All sectors of one range.
    pub(crate) fn of(sector: Sector, len: Sectors) -> Self {
        let mut ranges = Self::default();
        ranges.insert(sector, len);
        ranges
    }

    pub(crate) fn insert(&mut self, sector: Sector, len: Sectors) {
        if len.is_empty() {
            return;
        }
        let (mut start, mut end) = (sector, sector + len);
        // A range that touches is taken in as well.
        while let Some((from, to)) = self.last_before(end).filter(|(_, to)| *to >= start) {
            self.all.remove(&from);
            (start, end) = (start.min(from), end.max(to));
        }
        self.all.insert(start, end);
    }

    pub(crate) fn remove(&mut self, sector: Sector, len: Sectors) {
        let (start, end) = (sector, sector + len);
        while let Some((from, to)) = self.all.range(..end).next_back().map(|(a, b)| (*a, *b)) {
            if to <= start {
                break;
            }
            self.all.remove(&from);
            if from < start {
                self.all.insert(from, start);
            }
            if to > end {
                self.all.insert(end, to);
            }
        }
    }

    /// What is in both goes from here, and is returned.
    pub(crate) fn take(&mut self, other: &Self) -> Self {
        let mut taken = Self::default();
        for (sector, len) in other.iter() {
            let end = sector + len;
            let inside = self.all.iter().filter(|(from, to)| **from < end && sector < **to);
            let parts: Vec<(Sector, Sector)> =
                inside.map(|(from, to)| ((*from).max(sector), (*to).min(end))).collect();
            for (from, to) in parts {
                self.remove(from, to.since(from));
                taken.insert(from, to.since(from));
            }
        }
        taken
    }

    pub(crate) fn extend(&mut self, other: &Self) {
        other.iter().for_each(|(sector, len)| self.insert(sector, len));
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Sector, Sectors)> {
        self.all.iter().map(|(start, end)| (*start, end.since(*start)))
    }

    /// From the first to the last sector.
    pub(crate) fn span(&self) -> Option<(Sector, Sectors)> {
        let (start, _) = self.all.first_key_value()?;
        let (_, end) = self.all.last_key_value()?;
        Some((*start, end.since(*start)))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(crate) fn sectors(&self) -> Sectors {
        Sectors(self.iter().map(|(_, len)| len.0).sum())
    }

    /// The last range that begins at or before `end`.
    fn last_before(&self, end: Sector) -> Option<(Sector, Sector)> {
        self.all.range(..=end).next_back().map(|(from, to)| (*from, *to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: u64 = 12;

    fn bits(ranges: &Ranges) -> Vec<bool> {
        let has =
            |at: u64| ranges.iter().any(|(sector, len)| sector.0 <= at && at < (sector + len).0);
        (0..ALL).map(has).collect()
    }

    /// Every set of up to three ranges, against a bitmap.
    #[test]
    fn sets_of_ranges_are_sets_of_sectors() {
        let ranges: Vec<(u64, u64)> =
            (0..ALL).flat_map(|at| [1, 2, 5].map(|len| (at, len.min(ALL - at)))).collect();
        for a in &ranges {
            for b in &ranges {
                for c in &ranges {
                    let mut set = Ranges::of(Sector(a.0), Sectors(a.1));
                    set.insert(Sector(b.0), Sectors(b.1));
                    let within =
                        |at: u64, range: &(u64, u64)| range.0 <= at && at < range.0 + range.1;
                    let before: Vec<bool> =
                        (0..ALL).map(|at| within(at, a) || within(at, b)).collect();
                    assert_eq!(bits(&set), before, "{a:?} {b:?}");

                    let mut rest = set.clone();
                    let taken = rest.take(&Ranges::of(Sector(c.0), Sectors(c.1)));
                    set.remove(Sector(c.0), Sectors(c.1));
                    assert_eq!(set, rest);
                    for at in 0..ALL {
                        let (was, hit) = (before[at as usize], within(at, c));
                        assert_eq!(bits(&set)[at as usize], was && !hit, "{a:?} {b:?} {c:?}");
                        assert_eq!(bits(&taken)[at as usize], was && hit, "{a:?} {b:?} {c:?}");
                    }
                }
            }
        }
    }
}
