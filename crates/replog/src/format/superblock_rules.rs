//! What a superblock may say, whoever wrote it: checked on the way to the log, where a
//! breach is a bug, and on the way back, where it is damage or an attack.

use blk::{BLOCK_BYTES, Errno};

use super::fields;
use super::group_rules::WRITTEN_MAX;
use super::roster::{self, RosterError};
use super::superblock::{Features, Superblock};
use crate::geometry::{LOG_SIZE_MIN, RING_OFFSET};

/// Why the content of a slot is not a superblock.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SuperblockError {
    /// No log, as far as this slot knows.
    #[error("no superblock: expected the magic \"RPLOGSUP\", found {}", fields::shown(found))]
    NoMagic {
        /// What stands in its place.
        found: [u8; 8],
    },
    /// Less than the superblock says it has, or a length that none has.
    #[error("a superblock of {found} bytes, in a slot of {slot}: whole blocks of 4096 expected")]
    BadLength {
        /// What it says.
        found: u32,
        /// Bytes there are.
        slot: usize,
    },
    /// Torn, or changed since it was written.
    #[error("superblock checksum {stored:08x} expected, {computed:08x} found")]
    BadChecksum {
        /// What the superblock says.
        stored: u32,
        /// What its bytes give.
        computed: u32,
    },
    /// Written by a later version of the program.
    #[error("superblock version 1 expected, {found} found; use a program that knows it")]
    UnsupportedVersion {
        /// The version it names.
        found: u16,
        /// Its generation.
        generation: u64,
    },
    /// It needs something that this version of the program lacks.
    #[error("the log uses features that this program does not know: incompat {incompat:#x}")]
    UnknownFeature {
        /// The unknown bits.
        incompat: u64,
        /// Its generation.
        generation: u64,
    },
    /// A whole superblock that nobody should have written.
    #[error("superblock field {field} is {found}, out of range")]
    Invalid {
        /// Which field.
        field: &'static str,
        /// What it says.
        found: u64,
    },
    /// A roster that nobody should have written.
    #[error("superblock roster: {0}")]
    Roster(#[from] RosterError),
    /// The device does not give it.
    #[error("the slot can't be read: {0}")]
    Unreadable(#[from] Errno),
    /// A byte that means nothing yet means something to somebody.
    #[error("byte {at} of the superblock is reserved and not zero")]
    Reserved {
        /// Which one.
        at: usize,
    },
}

impl Superblock {
    /// Checks everything that the superblock alone can tell.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn validate(&self) -> Result<(), SuperblockError> {
        self.validate_to(WRITTEN_MAX)
    }

    /// The same, with numbers up to `number_max`.
    pub(super) fn validate_to(&self, number_max: u64) -> Result<(), SuperblockError> {
        let broken = self.rules(number_max).into_iter().find(|rule| !rule.holds);
        if let Some(Rule { field, found, .. }) = broken {
            return Err(SuperblockError::Invalid { field, found });
        }
        roster::validate(&self.sites, &self.devices, &self.legs, self.durable, number_max)?;
        Ok(())
    }

    fn rules(&self, number_max: u64) -> [Rule; 11] {
        let head = &self.head;
        let rule = |field, found, holds| Rule { field, found, holds };
        let (pos, ring) = (head.pos.0, self.ring_bytes);
        // I1: from `epoch_first_group` on every group is of this epoch.
        let head_epoch_fits = head.epoch == self.epoch
            || head.epoch < self.epoch && head.group < self.epoch_first_group;
        let number = |field, found| rule(field, found, found <= number_max);
        let base = self.lap_base.0;
        let has_base = self.features.incompat & Features::LAP_BASE != 0;
        [
            number("generation", self.generation),
            rule("ring_bytes", ring, whole_blocks(ring) && RING_BYTES.contains(&ring)),
            // What the log holds has a place.
            rule("lap_base", base, whole_blocks(base) && base <= pos && has_base == (base != 0)),
            // A log that is the group's first says so by its own UUID.
            rule(
                "group",
                self.first.as_u64_pair().0,
                self.first.is_nil()
                    || self.features.compat & Features::FIRST != 0 && self.first != self.uuid,
            ),
            number("epoch", self.epoch),
            rule(
                "epoch_first_group",
                self.epoch_first_group,
                (1..=number_max).contains(&self.epoch_first_group),
            ),
            number("durable", self.durable.0),
            rule("head.pos", pos, whole_blocks(pos) && pos <= number_max),
            number("head.group", head.group),
            // I3, I5: the head passes only what a site has, a site only what is durable.
            rule("head.seq", head.seq.0, head.seq <= self.durable),
            rule("head.epoch", head.epoch, head_epoch_fits),
        ]
    }
}

struct Rule {
    field: &'static str,
    found: u64,
    holds: bool,
}

fn whole_blocks(bytes: u64) -> bool {
    bytes.is_multiple_of(BLOCK_BYTES as u64)
}

const RING_BYTES: std::ops::RangeInclusive<u64> =
    LOG_SIZE_MIN.0 * SECTOR - RING_OFFSET..=i64::MAX as u64 - RING_OFFSET;
const SECTOR: u64 = blk::SECTOR_BYTES as u64;
