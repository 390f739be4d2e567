//! The read overlay: for each device, which sectors are newer in the log than on
//! the copy that is read (the base), and in which write (I8).
//!
//! Extents of one device never overlap: a newer write cuts what it covers out of
//! the older ones. So what the overlay shows is exactly what the base still needs,
//! without anything that was overwritten meanwhile.

use std::collections::BTreeMap;

use blk::{DevNr, Sector, Sectors, Seq};
use smallvec::SmallVec;

/// What the log knows better than the base.
#[derive(Debug, Default)]
pub struct Overlay {
    devices: BTreeMap<DevNr, BTreeMap<Sector, Extent>>,
}

/// A stretch of a device, and the write that has its newest content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// First sector.
    pub sector: Sector,
    /// Sectors.
    pub len: Sectors,
    /// The write; `None`: the base has the newest content.
    pub seq: Option<Seq>,
}

/// Sectors of a write that left the overlay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) seq: Seq,
    pub(crate) len: Sectors,
}

pub(crate) type Cuts = SmallVec<[Cut; 4]>;

#[derive(Clone, Copy, Debug)]
struct Extent {
    len: Sectors,
    seq: Seq,
}

impl Overlay {
    /// Lets write `seq` show in a range, in place of older ones.
    pub fn put(&mut self, dev: DevNr, sector: Sector, len: Sectors, seq: Seq) {
        self.insert(dev, sector, len, seq);
    }

    /// Takes write `seq` out of a range; a newer write stays.
    pub fn take_out(&mut self, dev: DevNr, sector: Sector, len: Sectors, seq: Seq) {
        self.settle(dev, sector, len, seq);
    }

    /// Lets write `seq` show in a range; returns what it hides of older writes.
    pub(crate) fn insert(&mut self, dev: DevNr, sector: Sector, len: Sectors, seq: Seq) -> Cuts {
        let extents = self.devices.entry(dev).or_default();
        let cuts = cut(extents, sector, len, |_| true);
        extents.insert(sector, Extent { len, seq });
        cuts
    }

    /// Takes write `seq` out of a range, because the base has it; a newer write stays.
    pub(crate) fn settle(&mut self, dev: DevNr, sector: Sector, len: Sectors, seq: Seq) -> Cuts {
        match self.devices.get_mut(&dev) {
            Some(extents) => cut(extents, sector, len, |shown| shown == seq),
            None => Cuts::new(),
        }
    }

    /// The range of a device in pieces, in order and without gaps.
    pub fn pieces(&self, dev: DevNr, sector: Sector, len: Sectors) -> SmallVec<[Piece; 4]> {
        let end = sector + len;
        let mut pieces = SmallVec::new();
        let mut at = sector;
        for (start, extent) in self.overlapping(dev, sector, end) {
            let from = start.max(sector);
            if at < from {
                pieces.push(Piece { sector: at, len: from.since(at), seq: None });
            }
            let to = (start + extent.len).min(end);
            pieces.push(Piece { sector: from, len: to.since(from), seq: Some(extent.seq) });
            at = to;
        }
        if at < end {
            pieces.push(Piece { sector: at, len: end.since(at), seq: None });
        }
        pieces
    }

    /// How many extents there are, over all devices.
    #[must_use]
    pub fn extents(&self) -> usize {
        self.devices.values().map(BTreeMap::len).sum()
    }

    fn overlapping(
        &self,
        dev: DevNr,
        sector: Sector,
        end: Sector,
    ) -> impl Iterator<Item = (Sector, Extent)> {
        self.devices.get(&dev).into_iter().flat_map(move |extents| {
            let first = extents
                .range(..sector)
                .next_back()
                .filter(|(start, extent)| **start + extent.len > sector);
            first.into_iter().chain(extents.range(sector..end)).map(|(s, e)| (*s, *e))
        })
    }
}

/// Cuts a range out of all extents whose write `applies`; what sticks out stays.
fn cut(
    extents: &mut BTreeMap<Sector, Extent>,
    sector: Sector,
    len: Sectors,
    applies: impl Fn(Seq) -> bool,
) -> Cuts {
    let end = sector + len;
    let mut cuts = Cuts::new();
    let first = extents.range(..=sector).next_back().map_or(sector, |(start, _)| *start);
    let hit: SmallVec<[(Sector, Extent); 4]> = extents
        .range(first..end)
        .filter(|(start, extent)| **start + extent.len > sector && applies(extent.seq))
        .map(|(start, extent)| (*start, *extent))
        .collect();
    for (start, extent) in hit {
        extents.remove(&start);
        let stop = start + extent.len;
        if start < sector {
            extents.insert(start, Extent { len: sector.since(start), seq: extent.seq });
        }
        if stop > end {
            extents.insert(end, Extent { len: stop.since(end), seq: extent.seq });
        }
        cuts.push(Cut { seq: extent.seq, len: stop.min(end).since(start.max(sector)) });
    }
    cuts
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: DevNr = DevNr(0);

    /// What each of eight sectors shows, as a digit; '.' is the base.
    fn picture(overlay: &Overlay, dev: DevNr) -> String {
        overlay
            .pieces(dev, Sector(0), Sectors(8))
            .iter()
            .flat_map(|p| {
                let c = p.seq.map_or('.', |s| char::from_digit(s.0 as u32, 10).unwrap());
                std::iter::repeat_n(c, p.len.0 as usize)
            })
            .collect()
    }

    #[test]
    fn a_newer_write_hides_what_it_covers_and_no_more() {
        let mut overlay = Overlay::default();
        overlay.insert(D, Sector(1), Sectors(6), Seq(1));
        assert_eq!(picture(&overlay, D), ".111111.");
        let cuts = overlay.insert(D, Sector(3), Sectors(2), Seq(2));
        assert_eq!(picture(&overlay, D), ".112211.");
        assert_eq!(&cuts[..], &[Cut { seq: Seq(1), len: Sectors(2) }]);
    }

    #[test]
    fn a_write_of_another_device_hides_nothing() {
        let mut overlay = Overlay::default();
        overlay.insert(D, Sector(0), Sectors(8), Seq(1));
        overlay.insert(DevNr(1), Sector(0), Sectors(8), Seq(2));
        assert_eq!(picture(&overlay, D), "11111111");
    }

    #[test]
    fn settling_leaves_a_newer_write_in_place() {
        let mut overlay = Overlay::default();
        overlay.insert(D, Sector(0), Sectors(8), Seq(1));
        overlay.insert(D, Sector(2), Sectors(2), Seq(2));
        overlay.settle(D, Sector(0), Sectors(8), Seq(1));
        assert_eq!(picture(&overlay, D), "..22....");
    }

    /// All sequences of three operations on eight sectors against a plain array.
    #[test]
    fn every_small_history_agrees_with_an_array_of_sectors() {
        let ranges: Vec<(u64, u64)> =
            (0..8).flat_map(|s| (1..=8 - s).map(move |l| (s, l))).collect();
        for a in &ranges {
            for b in &ranges {
                for c in &ranges {
                    for settle in [false, true] {
                        small_history([*a, *b, *c], settle);
                    }
                }
            }
        }
    }

    fn small_history(ranges: [(u64, u64); 3], settle_first: bool) {
        let mut overlay = Overlay::default();
        let mut model = [0_u64; 8];
        let mut counts = [0_u64; 4];
        for (i, (s, l)) in ranges.iter().enumerate() {
            let seq = i as u64 + 1;
            let range = *s as usize..(*s + *l) as usize;
            let cuts = if settle_first && i == 2 {
                model[range].iter_mut().filter(|m| **m == 1).for_each(|m| *m = 0);
                overlay.settle(D, Sector(*s), Sectors(*l), Seq(1))
            } else {
                model[range].fill(seq);
                counts[seq as usize] += *l;
                overlay.insert(D, Sector(*s), Sectors(*l), Seq(seq))
            };
            cuts.iter().for_each(|cut| counts[cut.seq.0 as usize] -= cut.len.0);
        }
        let expected: String =
            model.iter().map(|m| if *m == 0 { '.' } else { (b'0' + *m as u8) as char }).collect();
        assert_eq!(picture(&overlay, D), expected, "{ranges:?} settle {settle_first}");
        for seq in 1..=3 {
            let shown = model.iter().filter(|m| **m == seq).count() as u64;
            assert_eq!(counts[seq as usize], shown, "sectors of write {seq} in {ranges:?}");
        }
    }
}
