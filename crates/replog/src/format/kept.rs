//! What a host keeps of a log that is lost: its superblock, and which logs are never to be
//! replayed again (P8).
//!
//! ```text
//! byte  bytes  field          (little-endian; what is not listed is reserved and zero)
//!    0      8  magic          "RPLKEPT\0"
//!    8      4  crc            CRC-32C of bytes 12..4096
//!   12      2  version        1; this and everything above stays in all versions
//!   14      2  retired        how many (R), at most 253
//!   48   16 R  UUIDs          of logs that others took the place of, oldest first
//! 4096         superblock     as it would stand in a slot of the log, its own checksum included
//! ```
//!
//! | the superblock | and its log | an opening |
//! |---|---|---|
//! | is not bypassed | | takes it for a third slot: it may be newer than those on the device |
//! | is bypassed | is not retired | goes on without the log, whatever the device holds |
//! | | is retired | refuses that log, and takes any other |
//!
//! It is replaced as a whole, never changed in place, so it is never torn: one is enough.

use blk::BLOCK_BYTES;
use uuid::Uuid;

use super::crc::crc32c;
use super::fields::{Reader, Writer, shown};
use super::superblock::{Superblock, SuperblockError};

/// What a host keeps of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The log's superblock, since the log itself can't be written to.
    pub superblock: Superblock,
    /// Logs that others took the place of, oldest first.
    pub retired: Vec<Uuid>,
}

/// Why bytes are not such a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeptError {
    /// Fewer than any record has.
    #[error("a record of at least {expected} bytes expected, found {found}")]
    TooShort {
        /// A header and the smallest superblock.
        expected: usize,
        /// What there is.
        found: usize,
    },
    /// Something else.
    #[error("expected the magic \"RPLKEPT\\0\", found {}", shown(found))]
    NoMagic {
        /// What stands in its place.
        found: [u8; 8],
    },
    /// Changed since it was written.
    #[error("checksum {stored:08x} expected, {computed:08x} found")]
    BadChecksum {
        /// What it says.
        stored: u32,
        /// What its bytes give.
        computed: u32,
    },
    /// Written by a later version of the program.
    #[error("version 1 expected, {found} found; use a program that knows it")]
    UnsupportedVersion {
        /// The version it names.
        found: u16,
    },
    /// More logs than there is room for.
    #[error("{found} retired logs, at most {RETIRED_MAX} expected")]
    TooMany {
        /// What it says.
        found: u16,
    },
    /// A byte that means nothing means something to somebody.
    #[error("byte {at} is reserved and not zero")]
    Reserved {
        /// Which one.
        at: usize,
    },
    /// The superblock in it.
    #[error(transparent)]
    Superblock(#[from] SuperblockError),
}

impl Kept {
    /// The record as it stands in its file.
    ///
    /// # Panics
    /// If the superblock breaks a rule that [`Superblock::validate`] states.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.header();
        bytes.extend(self.superblock.encode());
        bytes
    }

    fn header(&self) -> Vec<u8> {
        assert!(self.retired.len() <= RETIRED_MAX, "I10: who retires a log forgets the oldest");
        let mut header = vec![0; BLOCK_BYTES];
        let mut to = Writer::new(&mut header[CRC_COVERS..]);
        to.u16(VERSION);
        to.u16(u16::try_from(self.retired.len()).expect("checked above"));
        to.reserved(UUIDS_AT - CRC_COVERS - 4);
        self.retired.iter().for_each(|uuid| to.bytes(uuid.as_bytes()));
        let crc = crc32c(&header[CRC_COVERS..]);
        let mut envelope = Writer::new(&mut header[..CRC_COVERS]);
        envelope.bytes(&MAGIC);
        envelope.u32(crc);
        header
    }

    /// Reads a record.
    ///
    /// # Errors
    /// Anything but a record that this version may read.
    pub fn decode(bytes: &[u8]) -> Result<Self, KeptError> {
        if bytes.len() < 2 * BLOCK_BYTES {
            return Err(KeptError::TooShort { expected: 2 * BLOCK_BYTES, found: bytes.len() });
        }
        let (header, superblock) = bytes.split_at(BLOCK_BYTES);
        let mut from = Reader::new(header);
        let (magic, stored) = (from.array(), from.u32());
        if magic != MAGIC {
            return Err(KeptError::NoMagic { found: magic });
        }
        let computed = crc32c(&header[CRC_COVERS..]);
        if stored != computed {
            return Err(KeptError::BadChecksum { stored, computed });
        }
        let version = from.u16();
        if version != VERSION {
            return Err(KeptError::UnsupportedVersion { found: version });
        }
        let count = from.u16();
        if usize::from(count) > RETIRED_MAX {
            return Err(KeptError::TooMany { found: count });
        }
        from.bytes(UUIDS_AT - CRC_COVERS - 4);
        let retired = (0..count).map(|_| Uuid::from_bytes(from.array())).collect();
        let kept = Self { superblock: Superblock::decode(superblock)?, retired };
        match kept.header().iter().zip(header).position(|(expected, found)| expected != found) {
            Some(at) => Err(KeptError::Reserved { at }),
            None => Ok(kept),
        }
    }

    /// Whether another log took the place of this one, which is never to be replayed again.
    #[must_use]
    pub fn is_retired(&self, log: Uuid) -> bool {
        self.retired.contains(&log)
    }

    /// Whether it says anything of a log.
    #[must_use]
    pub fn is_about(&self, log: Uuid) -> bool {
        self.superblock.uuid == log || self.is_retired(log)
    }

    /// Whether it says more of its log than what was `found` there.
    #[must_use]
    pub fn is_newer_than(&self, found: &Superblock) -> bool {
        self.superblock.uuid == found.uuid && self.superblock.generation > found.generation
    }

    /// Whether the devices go on without the log.
    #[must_use]
    pub fn is_bypassed(&self) -> bool {
        self.superblock.bypassed_since.is_some() && !self.is_retired(self.superblock.uuid)
    }
}

/// So many fit the header.
pub const RETIRED_MAX: usize = (BLOCK_BYTES - UUIDS_AT) / 16;

const MAGIC: [u8; 8] = *b"RPLKEPT\0";
const VERSION: u16 = 1;
/// The checksum covers everything behind itself.
const CRC_COVERS: usize = 12;
const UUIDS_AT: usize = 48;
