//! A `disk` dirty log on its disk: blocks that speak for themselves.
//!
//! ```text
//! byte  bytes  field        (little-endian; what is not listed is reserved and zero)
//!    0      8  magic        "RPLDIRTY"
//!    8      4  crc          CRC-32C of bytes 12..4096
//!   12      2  version      1; this and everything above stays in all versions
//!   14      2  slink
//!   16     16  log          UUID of the replication log, as RFC 9562 orders its bytes
//!   32      8  session      of the site, when it left `streaming`
//!   40      4  dev
//!   48      8  len          sectors of the device
//!   56      8  region       sectors to a region: a power of two, or `len`
//!   64      8  block        which one this is: the first lies at sector 0, and so on
//!   72      8  bypassed     the devices run without log `lost` since its opening of this
//!                           number; 0: none is known to be lost
//!   80     16  lost         UUID of that log, which may be another one than `log`
//!   96      4  lost crc     CRC-32C of bytes 72..96; zero if `bypassed` is
//!  128   3968  bits         one to a region, 1 is dirty; region `block` * 31744 + i is
//!                           bit i % 8 of byte i / 8; 0 behind the last region
//! ```
//!
//! There is no header that all of them depend on, so there is nothing that could be
//! older or newer than they are. A block proves by itself that it belongs to this
//! log, session, leg and place; of one that does not, all regions are dirty.
//!
//! What it says of a lost log ([`Bypassed`], P8) has a checksum of its own and lies in the
//! first sector, which is written as a whole: a block that was torn when it was last written
//! still says it. These bytes were reserved once: a block of then says of no log that it was
//! lost, and a program of then takes one that does for all dirty.

use std::fmt;

use blk::{BLOCK_BYTES, DevNr, SECTOR_BYTES, Sector, Sectors, SlinkNr};
use uuid::Uuid;

/// What the blocks of one dirty log have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity {
    /// The replication log whose site this is.
    pub log: Uuid,
    /// The number under which the site left `streaming`.
    pub session: u64,
    /// The device.
    pub dev: DevNr,
    /// The site.
    pub slink: SlinkNr,
    /// Sectors of the device.
    pub len: Sectors,
    /// Sectors to a region.
    pub region: Sectors,
}

/// A log that was lost: it is never to be replayed, in the state of this opening or of one
/// before it (P8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bypassed {
    /// The log.
    pub log: Uuid,
    /// The last opening of it before the devices went on without it; not 0.
    pub epoch: u64,
}

/// A block that can be believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Whose it is.
    pub identity: Identity,
    /// Which one.
    pub nr: u64,
    /// The log that the devices went on without, if one was lost.
    pub bypassed: Option<Bypassed>,
    /// Its regions, 64 to a word, the first in the lowest bit; 1 is dirty.
    pub words: Vec<u64>,
}

/// Why a block can't be believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// Never written, or by somebody else.
    #[error("expected the magic \"RPLDIRTY\", found {}", shown(found))]
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
    /// A byte that means nothing means something to somebody.
    #[error("byte {at} is reserved and not zero")]
    Reserved {
        /// Which one.
        at: usize,
    },
    /// Another dirty log's, or this one's of another time.
    #[error("expected {expected}, found {found}")]
    Foreign {
        /// What should be there.
        expected: Box<Identity>,
        /// What is.
        found: Box<Identity>,
    },
    /// It was written for another place.
    #[error("expected block {expected}, found block {found}")]
    Misplaced {
        /// Which should be there.
        expected: u64,
        /// Which one is.
        found: u64,
    },
}

impl Identity {
    /// How many regions the device has.
    #[must_use]
    pub fn regions(&self) -> u64 {
        self.len.0.div_ceil(self.region.0)
    }

    /// How many blocks their bits take.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        self.regions().div_ceil(REGIONS_PER_BLOCK)
    }

    /// What the disk has to have at least.
    #[must_use]
    pub fn disk_sectors(&self) -> Sectors {
        Sectors(self.blocks() * SECTORS_PER_BLOCK)
    }

    /// How many regions have their bits in a block.
    ///
    /// # Panics
    /// If there is no such block.
    #[must_use]
    pub fn regions_of(&self, block: u64) -> u64 {
        assert!(block < self.blocks(), "block {block} of {}", self.blocks());
        REGIONS_PER_BLOCK.min(self.regions() - block * REGIONS_PER_BLOCK)
    }

    fn validate(&self) -> Result<(), BlockError> {
        let Self { slink, len, region, .. } = *self;
        let region_is_fine = region == len || region.0.is_power_of_two();
        let rules = [
            ("slink", u64::from(slink.0), slink <= SlinkNr::MAX),
            ("len", len.0, (1..=SECTORS_MAX).contains(&len.0)),
            ("region", region.0, region_is_fine),
        ];
        match rules.into_iter().find(|(_, _, holds)| !holds) {
            Some((field, found, _)) => Err(BlockError::Invalid { field, found }),
            None => Ok(()),
        }
    }
}

impl Block {
    /// Writes it to `to`, a block of memory.
    ///
    /// # Panics
    /// If it says what no reader believes.
    pub fn encode(&self, to: &mut [u8]) {
        if let Err(error) = self.validate() {
            panic!("block {} of {} would not be readable: {error}", self.nr, self.identity);
        }
        self.write(to);
        let crc = crc32c(&to[CRC_COVERS..]);
        to[8..CRC_COVERS].copy_from_slice(&crc.to_le_bytes());
    }

    /// Reads a block, whoever's it is.
    ///
    /// # Errors
    /// It is none, or not whole.
    ///
    /// # Panics
    /// If `bytes` are not one block.
    pub fn decode(bytes: &[u8]) -> Result<Self, BlockError> {
        assert_eq!(bytes.len(), BLOCK_BYTES, "bytes of a block");
        check_envelope(bytes)?;
        let block = Self::read(bytes)?;
        block.validate()?;
        let mut canonical = [0; BLOCK_BYTES];
        block.write(&mut canonical);
        let behind_crc = canonical.iter().zip(bytes).skip(CRC_COVERS);
        match behind_crc.clone().position(|(expected, found)| expected != found) {
            Some(at) => Err(BlockError::Reserved { at: CRC_COVERS + at }),
            None => Ok(block),
        }
    }

    /// Reads block `nr` of the dirty log `identity`, and no other.
    ///
    /// # Errors
    /// It is not that one.
    ///
    /// # Panics
    /// If `bytes` are not one block.
    pub fn decode_as(identity: &Identity, nr: u64, bytes: &[u8]) -> Result<Self, BlockError> {
        Self::decode(bytes)?.check(identity, nr)
    }

    /// It is block `nr` of the dirty log `identity`, or an error.
    pub(crate) fn check(self, identity: &Identity, nr: u64) -> Result<Self, BlockError> {
        if self.identity != *identity {
            let (expected, found) = (Box::new(*identity), Box::new(self.identity));
            return Err(BlockError::Foreign { expected, found });
        }
        if self.nr != nr {
            return Err(BlockError::Misplaced { expected: nr, found: self.nr });
        }
        Ok(self)
    }

    /// Block `nr`, with nothing clean in it.
    pub(crate) fn all_dirty(identity: &Identity, nr: u64) -> Self {
        let regions = identity.regions_of(nr);
        let words = (0..regions.div_ceil(64)).map(|i| match regions - i * 64 {
            last @ 0..64 => (1 << last) - 1,
            _ => u64::MAX,
        });
        Self { identity: *identity, nr, bypassed: None, words: words.collect() }
    }

    /// Where it lies.
    #[must_use]
    pub fn sector(nr: u64) -> Sector {
        Sector(nr * SECTORS_PER_BLOCK)
    }

    fn validate(&self) -> Result<(), BlockError> {
        self.identity.validate()?;
        let invalid = |field, found| Err(BlockError::Invalid { field, found });
        if self.nr >= self.identity.blocks() {
            return invalid("block", self.nr);
        }
        if self.bypassed.is_some_and(|it| it.epoch == 0) {
            return invalid("bypassed", 0);
        }
        let regions = self.identity.regions_of(self.nr);
        let spare = self.words.len() as u64 * 64 - regions;
        let last = *self.words.last().expect("a block has a region");
        if spare > 0 && last >> (64 - spare) != 0 {
            return invalid("bits of the last region", last);
        }
        Ok(())
    }

    fn write(&self, to: &mut [u8]) {
        let identity = &self.identity;
        to.fill(0);
        to[..8].copy_from_slice(&MAGIC);
        to[12..14].copy_from_slice(&VERSION.to_le_bytes());
        to[14..16].copy_from_slice(&identity.slink.0.to_le_bytes());
        to[16..32].copy_from_slice(identity.log.as_bytes());
        to[32..40].copy_from_slice(&identity.session.to_le_bytes());
        to[40..44].copy_from_slice(&identity.dev.0.to_le_bytes());
        to[48..56].copy_from_slice(&identity.len.0.to_le_bytes());
        to[56..64].copy_from_slice(&identity.region.0.to_le_bytes());
        to[64..72].copy_from_slice(&self.nr.to_le_bytes());
        if let Some(Bypassed { log, epoch }) = self.bypassed {
            to[72..80].copy_from_slice(&epoch.to_le_bytes());
            to[80..96].copy_from_slice(log.as_bytes());
            let crc = crc32c(&to[BYPASSED]);
            to[96..100].copy_from_slice(&crc.to_le_bytes());
        }
        for (to, word) in to[BITS_AT..].chunks_exact_mut(8).zip(&self.words) {
            to.copy_from_slice(&word.to_le_bytes());
        }
    }

    fn read(from: &[u8]) -> Result<Self, BlockError> {
        let identity = Identity {
            slink: SlinkNr(u16::from_le_bytes(array(from, 14))),
            log: Uuid::from_bytes(array(from, 16)),
            session: u64::from_le_bytes(array(from, 32)),
            dev: DevNr(u32::from_le_bytes(array(from, 40))),
            len: Sectors(u64::from_le_bytes(array(from, 48))),
            region: Sectors(u64::from_le_bytes(array(from, 56))),
        };
        let nr = u64::from_le_bytes(array(from, 64));
        identity.validate()?;
        if nr >= identity.blocks() {
            return Err(BlockError::Invalid { field: "block", found: nr });
        }
        let words = usize::try_from(identity.regions_of(nr).div_ceil(64)).expect("fewer than 496");
        let word = |i| u64::from_le_bytes(array(from, BITS_AT + 8 * i));
        let words = (0..words).map(word).collect();
        Ok(Self { identity, nr, bypassed: Bypassed::read(from), words })
    }
}

impl Bypassed {
    /// What a block says of a lost log, be it torn behind its first sector or of any session.
    ///
    /// # Panics
    /// If `bytes` are less than a sector.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let version = u16::from_le_bytes(array(bytes, CRC_COVERS));
        let is_ours = array(bytes, 0) == MAGIC && version == VERSION;
        is_ours.then(|| Self::read(bytes)).flatten()
    }

    fn read(from: &[u8]) -> Option<Self> {
        let epoch = u64::from_le_bytes(array(from, 72));
        let is_whole = u32::from_le_bytes(array(from, 96)) == crc32c(&from[BYPASSED]);
        let log = Uuid::from_bytes(array(from, 80));
        (is_whole && epoch > 0).then_some(Self { log, epoch })
    }

    /// Whether it is about a log that was opened for the last time as number `epoch`.
    #[must_use]
    pub fn covers(&self, log: Uuid, epoch: u64) -> bool {
        self.log == log && epoch <= self.epoch
    }
}

fn check_envelope(bytes: &[u8]) -> Result<(), BlockError> {
    let magic = array(bytes, 0);
    if magic != MAGIC {
        return Err(BlockError::NoMagic { found: magic });
    }
    let (stored, computed) = (u32::from_le_bytes(array(bytes, 8)), crc32c(&bytes[CRC_COVERS..]));
    if stored != computed {
        return Err(BlockError::BadChecksum { stored, computed });
    }
    match u16::from_le_bytes(array(bytes, CRC_COVERS)) {
        VERSION => Ok(()),
        found => Err(BlockError::UnsupportedVersion { found }),
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("a field has its length")
}

/// CRC-32C, as in the replication log.
fn crc32c(bytes: &[u8]) -> u32 {
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes);
    u32::try_from(crc).expect("a 32-bit checksum has 32 bits")
}

fn shown(magic: &[u8; 8]) -> String {
    if *magic == [0; 8] { "zeroes".to_owned() } else { format!("\"{}\"", magic.escape_ascii()) }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { log, session, dev, slink, len, region } = self;
        write!(
            f,
            "log {log}, session {session}, device {dev} of {len} sectors on site {slink}, \
             regions of {region}"
        )
    }
}

/// Regions that have their bits in one block.
pub const REGIONS_PER_BLOCK: u64 = ((BLOCK_BYTES - BITS_AT) * 8) as u64;
/// Sectors of a block.
pub const SECTORS_PER_BLOCK: u64 = (BLOCK_BYTES / SECTOR_BYTES) as u64;
const MAGIC: [u8; 8] = *b"RPLDIRTY";
const VERSION: u16 = 1;
/// The checksum covers everything behind itself.
const CRC_COVERS: usize = 12;
const BYPASSED: std::ops::Range<usize> = 72..96;
const BITS_AT: usize = 128;
/// The kernel counts bytes of a device in 63 bits.
const SECTORS_MAX: u64 = i64::MAX as u64 / SECTOR_BYTES as u64;
const _: () = assert!(REGIONS_PER_BLOCK == 31_744 && REGIONS_PER_BLOCK.is_multiple_of(64));
