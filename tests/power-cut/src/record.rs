//! A record: 4096 bytes that say which lane wrote them, and when in its row.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

use anyhow::{Result, bail, ensure};

/// A writer with one write in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Lane(u64);

impl Lane {
    /// All of them.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..LANES).map(Self)
    }

    /// Where a slot of it begins, in bytes.
    pub(crate) fn offset_of(self, slot: u64) -> u64 {
        (self.0 * SLOTS + slot) * RECORD_BYTES as u64
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Lane {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        text.parse().map(Self)
    }
}

/// What an image has where a record belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    /// The number of the record, 0 if none was written; of a torn one, what it was over.
    pub(crate) whole: u64,
    /// The record of which some sectors are there.
    pub(crate) begun: Option<u64>,
}

/// One record. Numbers begin with 1; an empty slot is like number 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) lane: Lane,
    pub(crate) number: u64,
}

impl Record {
    /// Where it is written, in bytes.
    pub(crate) fn offset(self) -> u64 {
        self.lane.offset_of(self.number % SLOTS)
    }

    /// Fills 4096 bytes: every 16 of them name the record, so that a torn one shows.
    pub(crate) fn encode(self, bytes: &mut [u8]) {
        let words = [self.lane.0 + 1, self.number];
        let (chunks, []) = bytes.as_chunks_mut::<16>() else { unreachable!("4096 bytes") };
        for chunk in chunks {
            chunk[..8].copy_from_slice(&words[0].to_le_bytes());
            chunk[8..].copy_from_slice(&words[1].to_le_bytes());
        }
    }

    /// What is in a slot; an error if anything there is no record's, or belongs elsewhere.
    pub(crate) fn decode(bytes: &[u8], lane: Lane, slot: u64) -> Result<Slot> {
        let mut numbers = Vec::new();
        for sector in bytes.chunks(SECTOR_BYTES) {
            numbers.push(Self::decode_sector(sector, lane, slot)?);
        }
        numbers.sort_unstable();
        numbers.dedup();
        match numbers[..] {
            [whole] => Ok(Slot { whole, begun: None }),
            [whole, begun] => Ok(Slot { whole, begun: Some(begun) }),
            _ => bail!("parts of the records {numbers:?} are there"),
        }
    }

    /// The number of the record that a sector is of, 0 if of none.
    fn decode_sector(bytes: &[u8], lane: Lane, slot: u64) -> Result<u64> {
        let (chunks, []) = bytes.as_chunks::<16>() else { unreachable!("a sector") };
        let first = chunks[0];
        ensure!(chunks.iter().all(|chunk| *chunk == first), "a sector is torn");
        if first == [0; 16] {
            return Ok(0);
        }
        let [owner, number] = [&first[..8], &first[8..]]
            .map(|word| u64::from_le_bytes(word.try_into().expect("half of 16 bytes")));
        ensure!(
            owner == lane.0 + 1 && number % SLOTS == slot,
            "record {number} of lane {} does not belong here",
            owner.wrapping_sub(1)
        );
        Ok(number)
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "record {} of lane {}", self.number, self.lane)
    }
}

/// What a slot holds when `newest` is the newest record of the lane; 0: nothing.
pub(crate) fn newest_in_slot(newest: u64, slot: u64) -> u64 {
    let back = (newest % SLOTS + SLOTS - slot) % SLOTS;
    newest.saturating_sub(back)
}

/// Bytes of a record: one block.
pub(crate) const RECORD_BYTES: usize = 4096;

/// Bytes that a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;

/// Slots of a lane on each device.
pub(crate) const SLOTS: u64 = 128;

const LANES: u64 = 8;

/// Bytes of an image that all lanes need.
#[cfg(test)]
pub(crate) const IMAGE_BYTES: u64 = LANES * SLOTS * RECORD_BYTES as u64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_holds_the_newest_record_that_belongs_there() {
        for newest in 0..3 * SLOTS {
            for slot in 0..SLOTS {
                let expected = (1..=newest).rev().find(|number| number % SLOTS == slot);
                assert_eq!(newest_in_slot(newest, slot), expected.unwrap_or(0), "{newest} {slot}");
            }
        }
    }

    #[test]
    fn a_record_reads_as_itself_and_nothing_else_does() {
        let record = Record { lane: Lane(3), number: 1000 };
        let mut bytes = [0; RECORD_BYTES];
        let whole = |whole| Slot { whole, begun: None };
        assert_eq!(Record::decode(&bytes, record.lane, 5).unwrap(), whole(0));
        record.encode(&mut bytes);
        let slot = 1000 % SLOTS;
        assert_eq!(Record::decode(&bytes, record.lane, slot).unwrap(), whole(1000));
        Record::decode(&bytes, record.lane, slot + 1).unwrap_err();
        Record::decode(&bytes, Lane(2), slot).unwrap_err();
        bytes[512] ^= 1;
        Record::decode(&bytes, record.lane, slot).unwrap_err();
    }

    #[test]
    fn a_torn_record_is_of_two_and_not_of_three() {
        let lane = Lane(3);
        let mut bytes = [0; RECORD_BYTES];
        for (number, end) in [(1000, RECORD_BYTES), (1000 + SLOTS, 1024), (1000 + 2 * SLOTS, 512)] {
            let mut record = [0; RECORD_BYTES];
            Record { lane, number }.encode(&mut record);
            bytes[..end].copy_from_slice(&record[..end]);
            let found = Record::decode(&bytes, lane, 1000 % SLOTS);
            match end {
                RECORD_BYTES => assert_eq!(found.unwrap(), Slot { whole: 1000, begun: None }),
                1024 => assert_eq!(found.unwrap(), Slot { whole: 1000, begun: Some(1000 + SLOTS) }),
                _ => drop(found.unwrap_err()),
            }
        }
    }
}
