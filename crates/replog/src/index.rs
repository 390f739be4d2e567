//! The index: every write that some site still needs, and the group it lies in.
//!
//! Both are dense (writes by [`Seq`], groups by number), so a number is an address.

use std::collections::VecDeque;

use blk::{Buf, DevNr, Sector, Sectors, Seq, Time};

use crate::format::group::EntryOp;
use crate::format::superblock::Anchor;
use crate::geometry::RingPos;

/// The groups in the log, oldest first, with their writes.
#[derive(Debug)]
pub struct Index {
    first_group: u64,
    groups: VecDeque<Group>,
    first_seq: Seq,
    writes: VecDeque<Write>,
    /// Sectors of all writes that were ever pushed.
    sectors: u64,
}

/// One commit group.
#[derive(Clone, Debug)]
pub struct Group {
    /// Its number; dense.
    pub nr: u64,
    /// Where its header lies.
    pub pos: RingPos,
    /// Header, payloads and padding.
    pub bytes: u64,
    /// Its first write. A pad group has none: `last_seq` is one less.
    pub first_seq: Seq,
    /// Its last write.
    pub last_seq: Seq,
    /// The epoch it was written in.
    pub epoch: u64,
    /// Its header's checksum.
    pub crc: u32,
    /// What was durable when it was closed: of what came later, its writes could not know.
    pub durable: Seq,
    /// Sectors of all writes before it that this index ever had: lag is a subtraction.
    pub(crate) sectors_before: u64,
    /// When it was closed; `Time(0)` if it was found by recovery.
    pub closed: Time,
    /// The whole group in memory, while the tail holds it.
    pub memory: Option<Buf>,
}

/// One write.
#[derive(Clone, Debug)]
pub struct Write {
    /// The device.
    pub dev: DevNr,
    /// What was asked.
    pub op: EntryOp,
    /// First sector on the device.
    pub sector: Sector,
    /// Sectors on the device.
    pub len: Sectors,
    /// Where the payload lies, from the group's header.
    pub payload: Sectors,
    /// CRC-32C of the payload.
    pub crc: u32,
    /// The group.
    pub group: u64,
    /// Sectors that show in the overlay: newest, and not on the LD.
    pub(crate) shown: Sectors,
}

impl Group {
    /// What a scan that starts behind this group must know of it.
    #[must_use]
    pub fn anchor(&self) -> Anchor {
        Anchor {
            pos: self.pos.plus(self.bytes),
            group: self.nr,
            seq: self.last_seq,
            epoch: self.epoch,
            crc: self.crc,
        }
    }
}

impl Write {
    /// Whether it carries bytes of its own.
    #[must_use]
    pub fn has_payload(&self) -> bool {
        self.op == EntryOp::Write
    }
}

impl Index {
    /// An empty index behind `anchor`.
    pub(crate) fn behind(anchor: &Anchor) -> Self {
        Self {
            first_group: anchor.group + 1,
            groups: VecDeque::new(),
            first_seq: anchor.seq.next(),
            writes: VecDeque::new(),
            sectors: 0,
        }
    }

    pub(crate) fn push(&mut self, mut group: Group, writes: impl IntoIterator<Item = Write>) {
        assert_eq!(group.nr, self.first_group + self.groups.len() as u64, "I1: groups are dense");
        assert_eq!(group.first_seq, self.next_seq(), "I1: writes are dense");
        group.sectors_before = self.sectors;
        for write in writes {
            self.sectors += write.len.0;
            self.writes.push_back(write);
        }
        assert_eq!(group.last_seq.next(), self.next_seq(), "a group has the writes it says");
        self.groups.push_back(group);
    }

    /// Forgets all groups whose writes are all at most `head`, and that are at most
    /// number `last_group`; the end of the last one.
    pub(crate) fn forget(&mut self, head: Seq, last_group: u64) -> Option<Anchor> {
        let mut anchor = None;
        while let Some(group) = self.groups.front() {
            if group.last_seq > head || group.nr > last_group {
                break;
            }
            anchor = Some(group.anchor());
            let count = group.last_seq.lag(group.first_seq.prev());
            self.writes.drain(..usize::try_from(count).expect("an index fits in memory"));
            self.first_seq = Seq(self.first_seq.0 + count);
            self.first_group += 1;
            self.groups.pop_front();
        }
        anchor
    }

    /// The number of the newest group that ever was in it.
    #[must_use]
    pub fn newest_group(&self) -> u64 {
        self.first_group + self.groups.len() as u64 - 1
    }

    /// The number that the next write gets.
    #[must_use]
    pub fn next_seq(&self) -> Seq {
        Seq(self.first_seq.0 + self.writes.len() as u64)
    }

    /// The oldest write there is; `next_seq()` if there is none.
    #[must_use]
    pub fn first_seq(&self) -> Seq {
        self.first_seq
    }

    /// A write that the log still holds.
    #[must_use]
    pub fn write(&self, seq: Seq) -> Option<&Write> {
        let at = seq.0.checked_sub(self.first_seq.0)?;
        self.writes.get(usize::try_from(at).ok()?)
    }

    pub(crate) fn write_mut(&mut self, seq: Seq) -> Option<&mut Write> {
        let at = seq.0.checked_sub(self.first_seq.0)?;
        self.writes.get_mut(usize::try_from(at).ok()?)
    }

    /// A group that the log still holds.
    #[must_use]
    pub fn group(&self, nr: u64) -> Option<&Group> {
        let at = nr.checked_sub(self.first_group)?;
        self.groups.get(usize::try_from(at).ok()?)
    }

    pub(crate) fn group_mut(&mut self, nr: u64) -> Option<&mut Group> {
        let at = nr.checked_sub(self.first_group)?;
        self.groups.get_mut(usize::try_from(at).ok()?)
    }

    /// The group that holds write `seq`.
    #[must_use]
    pub fn group_of(&self, seq: Seq) -> Option<&Group> {
        self.group(self.write(seq)?.group)
    }

    /// The writes of a group, with their numbers.
    pub fn writes_of(&self, group: &Group) -> impl Iterator<Item = (Seq, &Write)> {
        (group.first_seq.0..=group.last_seq.0)
            .filter_map(|seq| Some((Seq(seq), self.write(Seq(seq))?)))
    }

    /// The groups, oldest first.
    pub fn groups(&self) -> impl Iterator<Item = &Group> {
        self.groups.iter()
    }

    /// Sectors of the writes behind `after`, up to `upto`; both are in the index, or at its ends.
    #[must_use]
    pub fn sectors_between(&self, after: Seq, upto: Seq) -> Sectors {
        if upto <= after { Sectors(0) } else { Sectors(self.through(upto) - self.through(after)) }
    }

    /// The last write such that those behind `after`, up to it, have at most `most` sectors.
    #[must_use]
    pub fn last_within(&self, after: Seq, most: Sectors) -> Seq {
        let limit = self.through(after).saturating_add(most.0);
        let beyond = self.groups.partition_point(|group| group.sectors_before <= limit);
        let Some(group) = beyond.checked_sub(1).and_then(|at| self.groups.get(at)) else {
            return after;
        };
        let mut sum = group.sectors_before;
        let fits = self.writes_of(group).take_while(|(_, write)| {
            sum += write.len.0;
            sum <= limit
        });
        fits.last().map_or(group.first_seq.prev(), |(seq, _)| seq).max(after)
    }

    /// Sectors of all writes up to `seq`, those forgotten included.
    fn through(&self, seq: Seq) -> u64 {
        match self.group_of(seq.next()) {
            None => self.sectors,
            Some(group) => {
                let before = self.writes_of(group).take_while(|(nr, _)| *nr <= seq);
                group.sectors_before + before.map(|(_, write)| write.len.0).sum::<u64>()
            }
        }
    }

    /// How many writes the log holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.writes.len()
    }

    /// Whether the log holds no write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Groups of writes with these lengths.
    fn index(groups: &[&[u64]]) -> Index {
        let mut index = Index::behind(&Anchor::default());
        for lens in groups {
            let nr = index.first_group + index.groups.len() as u64;
            let first_seq = index.next_seq();
            let group = Group {
                nr,
                pos: RingPos(0),
                bytes: 0,
                first_seq,
                last_seq: Seq(first_seq.0 + lens.len() as u64 - 1),
                epoch: 1,
                crc: 0,
                durable: Seq(0),
                sectors_before: 0,
                closed: Time(0),
                memory: None,
            };
            let write = |len: &u64| Write {
                dev: DevNr(0),
                op: EntryOp::Write,
                sector: Sector(0),
                len: Sectors(*len),
                payload: Sectors(0),
                crc: 0,
                group: nr,
                shown: Sectors(0),
            };
            index.push(group, lens.iter().map(write));
        }
        index
    }

    #[test]
    fn what_lies_between_two_writes_is_a_subtraction_also_when_some_are_forgotten() {
        let lens = [3, 5, 1, 8, 2, 2];
        let mut index = index(&[&[3, 5], &[], &[1, 8, 2], &[2]]);
        for forgotten in [0, 2] {
            index.forget(Seq(forgotten), 1);
            for after in forgotten..=6 {
                for upto in after..=6 {
                    let sum: u64 = lens[after as usize..upto as usize].iter().sum();
                    assert_eq!(index.sectors_between(Seq(after), Seq(upto)), Sectors(sum));
                    let last = index.last_within(Seq(after), Sectors(sum));
                    assert_eq!(last, Seq(upto), "behind {after} within {sum}");
                }
            }
        }
    }
}
