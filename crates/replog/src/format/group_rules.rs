//! What a group header may say, whoever wrote it: checked on the way to the log,
//! where a breach is a bug, and on the way back, where it is damage or an attack.

use blk::{BLOCK_BYTES, Sector, Sectors, Seq, SlinkNr};

use super::fields;
use super::group::{CURSORS_MAX, Entry, EntryOp, GroupHeader, TEXT};
use crate::geometry::SECTOR_MAX;

/// Why a block is not a group header.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Not one block.
    #[error("a group header has 4096 bytes, found {found}")]
    Size {
        /// Bytes given.
        found: usize,
    },
    /// No group begins here.
    #[error("expected the magic \"RPLGROUP\", found {}", fields::shown(found))]
    NoMagic {
        /// What stands in its place.
        found: [u8; 8],
    },
    /// A group began here once, or part of it arrived.
    #[error("header checksum {stored:08x} expected, {computed:08x} found")]
    BadChecksum {
        /// What the header says.
        stored: u32,
        /// What its bytes give.
        computed: u32,
    },
    /// Written by a later version of the program.
    #[error("group version 1 expected, {found} found")]
    UnsupportedVersion {
        /// The version it names.
        found: u16,
    },
    /// A byte that means nothing yet means something to somebody.
    #[error("byte {at} of the header is reserved and not zero")]
    Reserved {
        /// Which one.
        at: usize,
    },
    /// More than a header holds.
    #[error("{cursors} cursors and {entries} entries do not fit a header")]
    Counts {
        /// Cursors named.
        cursors: usize,
        /// Entries named.
        entries: usize,
    },
    /// Numbers begin at 1 and never wrap.
    #[error(
        "group {nr} of opening {epoch} with {entries} entries from write {first_seq} on is out \
         of range"
    )]
    Number {
        /// Number of the group.
        nr: u64,
        /// Its opening.
        epoch: u64,
        /// Number of its first write.
        first_seq: Seq,
        /// Its writes.
        entries: usize,
    },
    /// Not whole blocks, or none.
    #[error("a group has whole blocks of 4096 bytes, this one {found} bytes")]
    Bytes {
        /// What it says.
        found: u32,
    },
    /// It can't know yet that its own writes are durable.
    #[error(
        "writes up to {durable} are said to be durable, by a group that begins with {first_seq}"
    )]
    Durable {
        /// The mark.
        durable: Seq,
        /// Number of the group's first write.
        first_seq: Seq,
    },
    /// Sites ascend, and none is ahead of what is durable (I3).
    #[error("cursor {index}, of site {slink} at write {covered}, is out of order or range")]
    Cursor {
        /// Which cursor, from 0.
        index: usize,
        /// Its site.
        slink: SlinkNr,
        /// How far it is said to be.
        covered: Seq,
    },
    /// An entry that nobody writes.
    #[error("entry {index}: {error}")]
    Entry {
        /// Which entry, from 0.
        index: usize,
        /// What is wrong with it.
        error: EntryError,
    },
    /// I4: the writes of a group are disjoint.
    #[error("entries {first} and {second} write the same sectors")]
    Overlap {
        /// One entry, from 0.
        first: usize,
        /// The other.
        second: usize,
    },
}

/// What is wrong with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// Not an operation.
    #[error("operation 1 to 4 expected, {found} found")]
    Op {
        /// The code.
        found: u8,
    },
    /// No sectors, too many, or beyond the end of any device.
    #[error("{len} sectors at sector {sector} are no range")]
    Range {
        /// First sector.
        sector: Sector,
        /// Sectors.
        len: Sectors,
    },
    /// The payload is not behind the one before it and inside the group.
    #[error("a payload of {len} sectors at sector {payload} of the group, expected within {}..{}",
        within.0, within.1)]
    Payload {
        /// Where it is said to begin.
        payload: Sectors,
        /// Its length.
        len: Sectors,
        /// Where it might be.
        within: (Sectors, Sectors),
    },
    /// A place or checksum without data.
    #[error("an operation without data names a payload")]
    NoPayload,
}

impl GroupHeader {
    /// Checks everything that the header alone can tell.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn validate(&self) -> Result<(), HeaderError> {
        self.validate_to(WRITTEN_MAX)
    }

    /// The same, with numbers up to `number_max`.
    pub(super) fn validate_to(&self, number_max: u64) -> Result<(), HeaderError> {
        self.check_counts()?;
        self.check_numbers(number_max)?;
        self.check_cursors()?;
        self.check_entries()?;
        self.check_disjoint()
    }

    fn check_counts(&self) -> Result<(), HeaderError> {
        let (cursors, entries) = (self.cursors.len(), self.entries.len());
        if cursors > CURSORS_MAX || entries > Self::entries_max(cursors) {
            return Err(HeaderError::Counts { cursors, entries });
        }
        Ok(())
    }

    fn check_numbers(&self, number_max: u64) -> Result<(), HeaderError> {
        let (nr, epoch, first_seq) = (self.nr, self.epoch, self.first_seq);
        let in_range = |number: u64| (1..=number_max).contains(&number);
        if !in_range(nr) || !in_range(first_seq.0) || epoch > number_max {
            let entries = self.entries.len();
            return Err(HeaderError::Number { nr, epoch, first_seq, entries });
        }
        if self.bytes == 0 || !(self.bytes as usize).is_multiple_of(BLOCK_BYTES) {
            return Err(HeaderError::Bytes { found: self.bytes });
        }
        if self.durable >= first_seq {
            return Err(HeaderError::Durable { durable: self.durable, first_seq });
        }
        Ok(())
    }

    fn check_cursors(&self) -> Result<(), HeaderError> {
        let mut after = None;
        for (index, cursor) in self.cursors.iter().enumerate() {
            let (slink, covered) = (cursor.slink, cursor.covered);
            if after >= Some(slink) || slink > SlinkNr::MAX || covered > self.durable {
                return Err(HeaderError::Cursor { index, slink, covered });
            }
            after = Some(slink);
        }
        Ok(())
    }

    fn check_entries(&self) -> Result<(), HeaderError> {
        let end = Sectors::from_bytes(self.bytes.into());
        let mut free = Sectors::from_bytes(BLOCK_BYTES as u64);
        for (index, entry) in self.entries.iter().enumerate() {
            free = entry.check((free, end)).map_err(|error| HeaderError::Entry { index, error })?;
        }
        Ok(())
    }

    /// I4. Neighbours in the order of their places suffice: of disjoint ranges each
    /// ends before the next begins.
    fn check_disjoint(&self) -> Result<(), HeaderError> {
        let mut writes: Vec<usize> = (0..self.entries.len())
            .filter(|index| self.entries[*index].op != EntryOp::Bookmark)
            .collect();
        writes.sort_unstable_by_key(|index| {
            let entry = &self.entries[*index];
            (entry.dev, entry.sector)
        });
        let overlap = writes.windows(2).find(|pair| {
            let (one, next) = (&self.entries[pair[0]], &self.entries[pair[1]]);
            one.dev == next.dev && next.sector < one.sector + one.len
        });
        match overlap {
            Some(pair) => Err(HeaderError::Overlap { first: pair[0], second: pair[1] }),
            None => Ok(()),
        }
    }
}

impl Entry {
    /// Checks one entry whose payload belongs into `within` and returns where the
    /// next payload may begin.
    fn check(&self, within: (Sectors, Sectors)) -> Result<Sectors, EntryError> {
        let (sector, len) = (self.sector, self.len);
        match self.op {
            EntryOp::Bookmark if len.0 != 0 => return Err(EntryError::Range { sector, len }),
            EntryOp::Bookmark => {}
            EntryOp::Write | EntryOp::Discard | EntryOp::WriteZeroes => check_range(sector, len)?,
        }
        match self.op {
            EntryOp::Write => self.check_payload(self.len, within),
            EntryOp::Bookmark if self.payload.0 != 0 => self.check_payload(TEXT, within),
            EntryOp::Discard | EntryOp::WriteZeroes | EntryOp::Bookmark => {
                let stray = self.payload.0 != 0 || self.crc != 0;
                if stray { Err(EntryError::NoPayload) } else { Ok(within.0) }
            }
        }
    }

    fn check_payload(
        &self,
        len: Sectors,
        within: (Sectors, Sectors),
    ) -> Result<Sectors, EntryError> {
        let payload = self.payload;
        // Both have 32 bits on disk, but anything in memory.
        let end = payload.0.checked_add(len.0).map(Sectors);
        match end {
            Some(end) if payload >= within.0 && end <= within.1 => Ok(end),
            Some(_) | None => Err(EntryError::Payload { payload, len, within }),
        }
    }
}

fn check_range(sector: Sector, len: Sectors) -> Result<(), EntryError> {
    let fits = |end: u64| end <= SECTOR_MAX;
    let len_ok = len.0 != 0 && u32::try_from(len.0).is_ok();
    if len_ok && sector.0.checked_add(len.0).is_some_and(fits) {
        Ok(())
    } else {
        Err(EntryError::Range { sector, len })
    }
}

/// The highest number of a write, group, opening or generation that is read. Whoever
/// starts from there, an attacker's superblock included, has no end of numbers ahead.
pub(super) const READ_MAX: u64 = 1 << 62;

/// The highest such number that is written: never reached, and arithmetic stays in range.
pub(super) const WRITTEN_MAX: u64 = 1 << 63;
