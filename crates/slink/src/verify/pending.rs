//! What is on its way to a site: every write above its cursor, by its place.

use std::collections::VecDeque;

use blk::{DevNr, Sector, Sectors, Seq, SlinkNr};
use replog::Replog;
use replog::overlay::Overlay;

use crate::ranges::Ranges;

/// Writes that the site does not have for certain: those above its cursor.
#[derive(Debug, Default)]
pub(super) struct Pending {
    writes: VecDeque<(Seq, DevNr, Sector, Sectors)>,
    shown: Overlay,
    /// The newest write that was looked at.
    seen: Seq,
}

impl Pending {
    pub(super) fn of(log: &Replog, site: SlinkNr) -> Self {
        let mut pending = Self { seen: log.covered(site), ..Self::default() };
        pending.see(log, |_, _, _| {});
        pending
    }

    /// Takes in what was written since it was last asked, and tells of each.
    pub(super) fn see(&mut self, log: &Replog, mut tell: impl FnMut(DevNr, Sector, Sectors)) {
        // Also what is in the open group, or fails to get into the log: that may be too much.
        for seq in self.seen.0 + 1..log.index().next_seq().0 {
            let write = log.index().write(Seq(seq)).expect("I5: the log holds what is not covered");
            let (dev, sector, len) = (write.dev, write.sector, write.len);
            if !len.is_empty() {
                self.writes.push_back((Seq(seq), dev, sector, len));
                self.shown.put(dev, sector, len, Seq(seq));
                tell(dev, sector, len);
            }
        }
        self.seen = self.seen.max(log.index().next_seq().prev());
    }

    pub(super) fn forget(&mut self, covered: Seq) {
        while let Some((seq, dev, sector, len)) = self.writes.front().copied() {
            if seq > covered {
                break;
            }
            self.writes.pop_front();
            self.shown.take_out(dev, sector, len, seq);
        }
    }

    /// The sectors of these that some pending write touches.
    pub(super) fn of_dev(&self, dev: DevNr, ranges: &Ranges) -> Ranges {
        let mut pending = Ranges::default();
        for (sector, len) in ranges.iter() {
            let pieces = self.shown.pieces(dev, sector, len);
            for piece in pieces.iter().filter(|piece| piece.seq.is_some()) {
                pending.insert(piece.sector, piece.len);
            }
        }
        pending
    }
}
