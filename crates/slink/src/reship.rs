//! What is sent again after an opening, and must not take the site back (I13).
//!
//! ```text
//!      durable cursor
//!  ─────────┤  shipment n         │  shipment n+1
//!           │  all, or any part   │  any part, but only if all of n is there
//!             is sent once more
//! ```
//!
//! Where n+1 has been written over n, sending n once more would bring back an older version:
//! one that an application had seen overwritten, and at a `sync` site one that was promised
//! to be on its media. So where both write, the site is asked what it has, and n leaves alone
//! what is n+1's already. All else of n is harmless: the site has it, or what is older.
//!
//! Only content is compared. Where that is n+1's by chance, though n+1 was never begun, the
//! site ends with all of n and a part of n+1: as if it had been. And a sector torn in the
//! middle is neither's, so n is sent. With `order:flush` nobody knows where n ended. It may
//! have become longer, never shorter, since more is durable now; so n+1 ends no earlier than it
//! did, and the site holds some version of n+1's.
//!
//! Of a site that was copied to since, nothing is asked: it is inconsistent.

use std::collections::{BTreeSet, VecDeque};
use std::ops::RangeInclusive;

use blk::{Buf, BufMut, DevNr, DiskId, DiskOp, Sectors};
use replog::overlay::Overlay;
use replog::{Replog, Source};

use crate::feed::{FeedStep, Part, newest};
use crate::flights::To;
use crate::legs::Legs;

/// What is found out of a site before a shipment is sent to it once more.
#[derive(Debug)]
pub(crate) struct Reship {
    /// What is newest in the shipment; and over it, what the site has of the next one.
    shown: Overlay,
    /// Parts of the next one, where this one writes too.
    todo: VecDeque<Part>,
    /// Those whose payload was read back from the log.
    read: VecDeque<(Part, Buf)>,
    /// Devices of which something is left alone.
    left_alone: BTreeSet<DevNr>,
}

/// What the site is read for.
#[derive(Debug)]
pub(crate) struct Look {
    part: Part,
    /// What the next shipment writes there; `None`: zeroes.
    content: Option<Buf>,
    /// Bytes of the disk's logical block.
    block: usize,
}

/// An I/O that it needs: what, for which device, to which disk.
pub(crate) type Ask = (DiskId, DiskOp, (DevNr, &'static str, To, FeedStep));

impl Reship {
    /// To send `groups`, which `next` follow. `None`: they write nothing that those write.
    pub(crate) fn of(
        groups: RangeInclusive<u64>,
        next: RangeInclusive<u64>,
        legs: &Legs,
        log: &Replog,
    ) -> Option<Self> {
        let (shown, mut todo) = (newest(groups, log), VecDeque::new());
        for group in next.filter_map(|nr| log.index().group(nr)) {
            for (seq, write) in log.index().writes_of(group) {
                if legs.disk(write.dev).is_none() || write.len.is_empty() {
                    continue;
                }
                let pieces = shown.pieces(write.dev, write.sector, write.len).into_iter();
                let both = pieces.filter(|piece| piece.seq.is_some());
                todo.extend(both.map(|it| Part {
                    seq,
                    dev: write.dev,
                    sector: it.sector,
                    len: it.len,
                }));
            }
        }
        let (read, left_alone) = (VecDeque::new(), BTreeSet::new());
        (!todo.is_empty()).then_some(Self { shown, todo, read, left_alone })
    }

    /// The next I/O, if there is one to be asked for now.
    pub(crate) fn ask(&mut self, legs: &Legs, log: &mut Replog) -> Option<Ask> {
        let (part, content) = match self.read.pop_front() {
            Some((part, payload)) => (part, Some(part.of(&payload, log))),
            None => {
                let part = self.todo.pop_front()?;
                match log.source(part.seq) {
                    Source::Memory(payload) => (part, Some(part.of(&payload, log))),
                    Source::Zeroes { .. } => (part, None),
                    Source::Nothing => unreachable!("a mark without data writes nothing"),
                    Source::Ring(place) => {
                        log.pin(place.group);
                        let buf = BufMut::zeroed(place.bytes);
                        let op = DiskOp::Read { sector: place.sector, buf };
                        let step = FeedStep::ReadBack { part, place };
                        let why = (part.dev, "reading the log back", To::Log, step);
                        return Some((log.disk(), op, why));
                    }
                }
            }
        };
        let leg = legs.all.get(&part.dev).expect("a part goes to one of the legs");
        let op = DiskOp::Read { sector: part.sector, buf: BufMut::zeroed(part.len.len()) };
        // Its own blocks, if they are smaller than the device's, can be told apart.
        let block = leg.seen.as_ref().map_or(leg.block, |seen| seen.logical_block);
        let step = FeedStep::Looked(Look { part, content, block: block as usize });
        Some((leg.disk, op, (part.dev, "reading what it has", To::Site, step)))
    }

    /// A payload was read back from the log.
    pub(crate) fn read_back(&mut self, part: Part, payload: Buf) {
        self.read.push_back((part, payload));
    }

    /// The site holds `found`. Whole blocks are left alone: less can't be written beside them.
    pub(crate) fn looked(&mut self, look: &Look, found: &Buf) {
        let Look { part, content, block } = look;
        let mut at = 0;
        for held in found.chunks(*block) {
            let same = match content {
                Some(content) => content[at..].starts_with(held),
                None => held.iter().all(|byte| *byte == 0),
            };
            if same {
                let sector = part.sector + Sectors::from_bytes(at as u64);
                let len = Sectors::from_bytes(held.len() as u64);
                self.shown.put(part.dev, sector, len, part.seq);
                self.left_alone.insert(part.dev);
            }
            at += held.len();
        }
    }

    /// It can't be read there, again and again. A block that can't is nobody's: whatever was
    /// there is gone, and writing is what brings such a block back. Its neighbours are not.
    pub(crate) fn unreadable(&mut self, look: &Look) {
        let Look { part, block, .. } = look;
        let step = Sectors::from_bytes(*block as u64);
        if part.len <= step {
            return;
        }
        let firsts = (0..part.len.0).step_by(usize::try_from(step.0).expect("a block fits memory"));
        self.todo.extend(firsts.map(|at| {
            let len = Sectors(step.0.min(part.len.0 - at));
            Part { sector: part.sector + Sectors(at), len, ..*part }
        }));
    }

    /// Whether all was asked for.
    pub(crate) fn is_done(&self) -> bool {
        self.todo.is_empty() && self.read.is_empty()
    }

    /// What is to be sent: of each write, where it shows. The disks that hold the rest in a
    /// cache, perhaps.
    pub(crate) fn found(self, legs: &Legs) -> (Overlay, Vec<DiskId>) {
        let disks = self.left_alone.iter().filter_map(|dev| legs.disk(*dev));
        let disks = disks.collect();
        (self.shown, disks)
    }
}

#[cfg(test)]
mod tests {
    use blk::{SECTOR_BYTES, Sector, Seq};

    use super::*;

    const DEV: DevNr = DevNr(0);
    const SENT: Seq = Seq(5);
    const NEXT: Seq = Seq(6);

    /// Eight sectors are to be sent again, of which the next shipment writes the middle four.
    fn again() -> (Reship, Part) {
        let mut shown = Overlay::default();
        shown.put(DEV, Sector(0), Sectors(8), SENT);
        let part = Part { seq: NEXT, dev: DEV, sector: Sector(2), len: Sectors(4) };
        let (todo, read) = (VecDeque::new(), VecDeque::new());
        (Reship { shown, todo, read, left_alone: BTreeSet::new() }, part)
    }

    /// A buffer whose sectors are filled with these.
    fn sectors<const N: usize>(fill: [u8; N]) -> Buf {
        let bytes: Vec<u8> = fill.iter().flat_map(|byte| [*byte; SECTOR_BYTES]).collect();
        Buf::from(&bytes[..])
    }

    /// What is sent of the eight sectors, if the site holds `found` in the middle.
    fn sent(content: Option<Buf>, block: usize, found: &Buf) -> Vec<(u64, u64)> {
        let (mut again, part) = again();
        again.looked(&Look { part, content, block }, found);
        let pieces = again.shown.pieces(DEV, Sector(0), Sectors(8)).into_iter();
        let own = pieces.filter(|piece| piece.seq == Some(SENT));
        own.map(|piece| (piece.sector.0, piece.len.0)).collect()
    }

    #[test]
    fn what_the_next_shipment_has_changed_already_is_left_alone() {
        let next = || Some(sectors([1, 2, 3, 4]));
        assert_eq!(sent(next(), 512, &sectors([1, 2, 3, 4])), [(0, 2), (6, 2)]);
        assert_eq!(sent(next(), 512, &sectors([9, 2, 9, 9])), [(0, 3), (4, 4)]);
        assert_eq!(sent(next(), 512, &sectors([9, 9, 9, 9])), [(0, 8)]);
    }

    #[test]
    fn zeroes_are_known_without_a_payload() {
        assert_eq!(sent(None, 512, &sectors([0, 0, 7, 0])), [(0, 2), (4, 1), (6, 2)]);
    }

    #[test]
    fn where_some_of_it_can_t_be_read_each_block_is_asked_for_and_then_sent() {
        let (mut again, part) = again();
        again.unreadable(&Look { part, content: None, block: 1024 });
        let asked: Vec<_> = again.todo.iter().map(|it| (it.sector.0, it.len.0)).collect();
        assert_eq!(asked, [(2, 2), (4, 2)]);
        let part = again.todo.pop_front().unwrap();
        again.unreadable(&Look { part, content: None, block: 1024 });
        assert_eq!(again.todo.len(), 1, "nothing is less than a block");
        assert_eq!(again.shown.pieces(DEV, Sector(0), Sectors(8)).len(), 1, "all is sent");
    }

    /// A sector that is the same in both versions says nothing of its block.
    #[test]
    fn a_block_is_left_alone_as_a_whole_or_not_at_all() {
        let next = || Some(sectors([1, 2, 3, 4]));
        assert_eq!(sent(next(), 1024, &sectors([1, 9, 3, 4])), [(0, 4), (6, 2)]);
    }
}
