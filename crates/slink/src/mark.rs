//! The mark: what a site knows of itself, in one block on a device that is kept there.
//!
//! ```text
//! byte  bytes  field        (little-endian; what is not listed is reserved and zero)
//!    0      8  magic        "RPLSMARK"
//!    8      4  crc          CRC-32C of bytes 12..4096
//!   12      2  version      1; this and everything above stays in all versions
//!   14      2  slink        the site
//!   16     16  log          UUID of the replication log, as RFC 9562 orders its bytes
//!   32      8  generation   counts the writes of this block; at least 1
//!   40      2  state        1 consistent, 2 inconsistent
//!   42      2               bytes of the name
//!   48      8  seq          the site has every write up to here, at least
//!   56      8  wall         when it was written, in nanoseconds since 1970
//!   64    128  name         of the replicator, UTF-8, zero-padded
//! ```
//!
//! It is for whoever has the site and nothing else: the replicator believes its log. It
//! is on stable media before the first write that may make the site inconsistent, and
//! again only after everything is there that made it consistent. So a block that says
//! *consistent* is true, and one that can't be read, as after a tear, says *inconsistent*.

use std::fmt;

use blk::{BLOCK_BYTES, Sectors, Seq, SlinkNr, Wall};
use replog::format::crc::crc32c;
use uuid::Uuid;

/// What a site knows of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The replication log that feeds it.
    pub log: Uuid,
    /// How many times a mark was written here, this one included.
    pub generation: u64,
    /// The site.
    pub slink: SlinkNr,
    /// Whether its devices together show what an application could have found.
    pub state: MarkState,
    /// It has every write up to here; perhaps later ones, in order only if it is consistent.
    pub seq: Seq,
    /// When this was written.
    pub wall: Wall,
    /// Name of the replicator; at most 127 bytes.
    pub name: String,
}

/// What can be done with a site's devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkState {
    /// They can be used: an application finds what it could have found after a crash of its own.
    Consistent,
    /// They can't: older and newer writes are mixed.
    Inconsistent,
}

/// Why a block is not a mark.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MarkError {
    /// Never written, or by somebody else.
    #[error("expected the magic \"RPLSMARK\", found {}", shown(found))]
    NoMagic {
        /// What stands in its place.
        found: [u8; 8],
    },
    /// Torn, or changed since it was written.
    #[error("checksum {stored:08x} expected, {computed:08x} found")]
    BadChecksum {
        /// What the block says.
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
    /// A whole block that nobody should have written.
    #[error("{field} is {found}, out of range")]
    Invalid {
        /// Which field.
        field: &'static str,
        /// What it says.
        found: u64,
    },
    /// A name that is too long, not UTF-8, or has a zero byte in it.
    #[error("the name is not a text of at most 127 bytes")]
    Name,
    /// A byte that means nothing means something to somebody.
    #[error("byte {at} is reserved and not zero")]
    Reserved {
        /// Which one.
        at: usize,
    },
}

impl Mark {
    /// What the device has to have; the mark is its first block.
    pub const SIZE: Sectors = Sectors((BLOCK_BYTES / blk::SECTOR_BYTES) as u64);

    /// The block that says it.
    ///
    /// # Panics
    /// If it says what no reader believes.
    #[must_use]
    pub fn encode(&self) -> [u8; BLOCK_BYTES] {
        if let Err(error) = self.validate() {
            panic!("mark {} would not be readable: {error}", self.generation);
        }
        let mut block = self.write();
        let crc = crc32c(&block[CRC_COVERS..]);
        block[8..CRC_COVERS].copy_from_slice(&crc.to_le_bytes());
        block
    }

    /// Reads a block.
    ///
    /// # Errors
    /// Anything but a mark that this version may read.
    ///
    /// # Panics
    /// If `bytes` are not one block.
    pub fn decode(bytes: &[u8]) -> Result<Self, MarkError> {
        assert_eq!(bytes.len(), BLOCK_BYTES, "bytes of a mark");
        check_envelope(bytes)?;
        let mark = Self::read(bytes)?;
        mark.validate()?;
        let canonical = mark.write();
        let mut behind_crc = canonical.iter().zip(bytes).skip(CRC_COVERS);
        match behind_crc.position(|(expected, found)| expected != found) {
            Some(at) => Err(MarkError::Reserved { at: CRC_COVERS + at }),
            None => Ok(mark),
        }
    }

    fn validate(&self) -> Result<(), MarkError> {
        let invalid = |field, found| Err(MarkError::Invalid { field, found });
        if self.slink > SlinkNr::MAX {
            return invalid("slink", self.slink.0.into());
        }
        if self.generation == 0 {
            return invalid("generation", 0);
        }
        if self.name.len() >= NAME_BYTES || self.name.contains('\0') {
            return Err(MarkError::Name);
        }
        Ok(())
    }

    fn write(&self) -> [u8; BLOCK_BYTES] {
        let mut to = [0; BLOCK_BYTES];
        let name_len = u16::try_from(self.name.len()).expect("validated: names are short");
        to[..8].copy_from_slice(&MAGIC);
        to[12..14].copy_from_slice(&VERSION.to_le_bytes());
        to[14..16].copy_from_slice(&self.slink.0.to_le_bytes());
        to[16..32].copy_from_slice(self.log.as_bytes());
        to[32..40].copy_from_slice(&self.generation.to_le_bytes());
        to[40..42].copy_from_slice(&self.state.code().to_le_bytes());
        to[42..44].copy_from_slice(&name_len.to_le_bytes());
        to[48..56].copy_from_slice(&self.seq.0.to_le_bytes());
        to[56..64].copy_from_slice(&self.wall.0.to_le_bytes());
        to[NAME_AT..NAME_AT + self.name.len()].copy_from_slice(self.name.as_bytes());
        to
    }

    fn read(from: &[u8]) -> Result<Self, MarkError> {
        let name_len = usize::from(u16::from_le_bytes(array(from, 42)));
        let name = from[NAME_AT..NAME_AT + NAME_BYTES].get(..name_len).ok_or(MarkError::Name)?;
        Ok(Self {
            slink: SlinkNr(u16::from_le_bytes(array(from, 14))),
            log: Uuid::from_bytes(array(from, 16)),
            generation: u64::from_le_bytes(array(from, 32)),
            state: MarkState::of(u16::from_le_bytes(array(from, 40)))?,
            seq: Seq(u64::from_le_bytes(array(from, 48))),
            wall: Wall(u64::from_le_bytes(array(from, 56))),
            name: std::str::from_utf8(name).map_err(|_| MarkError::Name)?.to_owned(),
        })
    }
}

impl MarkState {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Consistent => "consistent",
            Self::Inconsistent => "inconsistent",
        }
    }

    fn code(self) -> u16 {
        match self {
            Self::Consistent => 1,
            Self::Inconsistent => 2,
        }
    }

    fn of(code: u16) -> Result<Self, MarkError> {
        match code {
            1 => Ok(Self::Consistent),
            2 => Ok(Self::Inconsistent),
            other => Err(MarkError::Invalid { field: "state", found: other.into() }),
        }
    }
}

fn check_envelope(bytes: &[u8]) -> Result<(), MarkError> {
    let magic = array(bytes, 0);
    if magic != MAGIC {
        return Err(MarkError::NoMagic { found: magic });
    }
    let (stored, computed) = (u32::from_le_bytes(array(bytes, 8)), crc32c(&bytes[CRC_COVERS..]));
    if stored != computed {
        return Err(MarkError::BadChecksum { stored, computed });
    }
    match u16::from_le_bytes(array(bytes, CRC_COVERS)) {
        VERSION => Ok(()),
        found => Err(MarkError::UnsupportedVersion { found }),
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("a field has its length")
}

fn shown(magic: &[u8; 8]) -> String {
    if *magic == [0; 8] { "zeroes".to_owned() } else { format!("\"{}\"", magic.escape_ascii()) }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { log, generation, slink, state, seq, wall, name } = self;
        let (seconds, nanos) = (wall.0 / 1_000_000_000, wall.0 % 1_000_000_000);
        write!(f, "site {slink} of replicator {name}, log {log}: {}", state.word())?;
        write!(f, ", has every write up to {seq} at least; mark {generation}, ")?;
        write!(f, "written {seconds}.{nanos:09}")
    }
}

const MAGIC: [u8; 8] = *b"RPLSMARK";
const VERSION: u16 = 1;
/// The checksum covers everything behind itself.
const CRC_COVERS: usize = 12;
const NAME_AT: usize = 64;
/// With the zero at its end.
const NAME_BYTES: usize = 128;
