//! The header of a commit group: one block in front of the payloads.
//!
//! ```text
//! byte  bytes  field         (little-endian; what is not listed is reserved and zero)
//!    0      8  magic         "RPLGROUP"
//!    8      4  crc           CRC-32C of bytes 12..4096
//!   12      2  version       1; the fields above and this one stay in all versions
//!   14      2  flags         reserved: codec of the payloads, once a feature bit allows one
//!   16      8  log           first half of the log's UUID
//!   24      8  epoch
//!   32      8  nr
//!   40      8  first_seq
//!   48      8  durable
//!   56      8  wall          nanoseconds since 1970
//!   64      4  bytes
//!   68      4  prev_crc      `crc` of the group before
//!   72      2  cursors       how many (C)
//!   74      2  entries       how many (N)
//!   76     20  reserved      encryption: key number and nonce
//!   96   16 C  cursors       ascending by site
//!              0 2  slink     2 6  reserved     8 8  covered
//!  ...   32 N  entries       in the order of their numbers
//!              0 4  dev       4 1  op: 1 write, 2 discard, 3 write-zeroes, 4 bookmark (its
//!                             payload, if any, is one sector of text)
//!                             5 1  flags: bit 0 FUA      6 2  reserved
//!              8 8  sector   16 4  len               20 4  payload
//!             24 4  crc      28 4  reserved: stored length of a compressed payload
//!  ...         zero to 4096; payloads follow, `bytes` in all
//! ```
//!
//! A header says all of this in exactly one way: what decodes encodes to the same
//! bytes. [`GroupHeader::decode`] takes any bytes at all.

use blk::{BLOCK_BYTES, DevNr, Sector, Sectors, Seq, SlinkNr, Wall};

pub use super::group_rules::{EntryError, HeaderError};

use super::crc::crc32c;
use super::fields::{Reader, Writer};
use super::group_rules::READ_MAX;

/// A commit group's header: one block in front of the payloads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupHeader {
    /// First half of the log's UUID: whose group this is.
    pub log: u64,
    /// The opening under which it was written; never decreases along a scan (I1).
    pub epoch: u64,
    /// Dense number of the group (pad groups count), from 1.
    pub nr: u64,
    /// The number of the first entry; entry `i` is write `first_seq + i` (I1).
    /// A pad group has no entry and names the seq that the next entry will have.
    pub first_seq: Seq,
    /// Bytes from this header to the next: header, payloads, padding. A multiple of 4096.
    pub bytes: u32,
    /// Every write up to here was durable in the log when this was written (I12).
    pub durable: Seq,
    /// When it was written, for people.
    pub wall: Wall,
    /// Header checksum of the group before (I1: the chain).
    pub prev_crc: u32,
    /// How far each site was when this was written (I13).
    pub cursors: Vec<Cursor>,
    /// The writes; none in a pad group.
    pub entries: Vec<Entry>,
}

/// A site's progress, carried in a group header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The site.
    pub slink: SlinkNr,
    /// Everything up to here is on the site's media or durably marked dirty; never
    /// more than is durable in the log (I3).
    pub covered: Seq,
}

/// One write of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The device written to.
    pub dev: DevNr,
    /// What was asked.
    pub op: EntryOp,
    /// Whether it was acknowledged as durable (FUA).
    pub fua: bool,
    /// First sector on the device; a bookmark's number.
    pub sector: Sector,
    /// Sectors on the device, less than 2^32; 0 for a bookmark only.
    pub len: Sectors,
    /// Where the payload begins, in sectors from the group's header; 0 without payload. A
    /// bookmark may have one: a sector of text, padded with zeroes.
    /// Payloads lie in the order of the entries.
    pub payload: Sectors,
    /// CRC-32C of the payload as stored; 0 without payload.
    pub crc: u32,
}

/// What an entry asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryOp {
    /// `len` sectors of payload.
    Write,
    /// Zeroes; the space may be given back.
    Discard,
    /// Zeroes that keep their space.
    WriteZeroes,
    /// A mark without data, and perhaps with a text.
    Bookmark,
}

impl GroupHeader {
    /// Writes the header into its block and returns its checksum, which is
    /// `prev_crc` of the group behind it.
    ///
    /// # Panics
    /// If `block` is not one block, or the header breaks a rule that
    /// [`GroupHeader::validate`] states: such a group could not be read again.
    pub fn encode(&self, block: &mut [u8]) -> u32 {
        if let Err(error) = self.validate() {
            panic!("group {} would not be readable: {error}", self.nr);
        }
        self.write(block)
    }

    /// Reads a header and returns it with its checksum.
    ///
    /// # Errors
    /// Anything but a header that this version would have written as it stands.
    pub fn decode(block: &[u8]) -> Result<(Self, u32), HeaderError> {
        let crc = check_envelope(block)?;
        let header = Self::read(block)?;
        header.validate_to(READ_MAX)?;
        let body = &block[CRC_COVERS..];
        let mut canonical = [0; BLOCK_BYTES - CRC_COVERS];
        header.write_body(&mut canonical);
        match canonical.iter().zip(body).position(|(expected, found)| expected != found) {
            Some(at) => Err(HeaderError::Reserved { at: CRC_COVERS + at }),
            None => Ok((header, crc)),
        }
    }

    /// How many entries fit a header behind so many cursors.
    ///
    /// # Panics
    /// If there are more than [`CURSORS_MAX`].
    #[must_use]
    pub const fn entries_max(cursors: usize) -> usize {
        assert!(cursors <= CURSORS_MAX, "a site has one cursor");
        (BLOCK_BYTES - FIXED_BYTES - cursors * CURSOR_BYTES) / ENTRY_BYTES
    }

    /// Whether it holds no write: it ends a lap, or is one block of marks alone.
    #[must_use]
    pub fn is_pad(&self) -> bool {
        self.entries.is_empty()
    }

    /// The number of the first write behind this group.
    #[must_use]
    pub fn next_seq(&self) -> Seq {
        Seq(self.first_seq.0 + self.entries.len() as u64)
    }

    /// The entries, each with its number.
    pub fn numbered(&self) -> impl Iterator<Item = (Seq, &Entry)> {
        (self.first_seq.0..).map(Seq).zip(&self.entries)
    }

    fn write(&self, block: &mut [u8]) -> u32 {
        assert_eq!(block.len(), BLOCK_BYTES, "a header is one block");
        self.write_body(&mut block[CRC_COVERS..]);
        let crc = crc32c(&block[CRC_COVERS..]);
        let mut envelope = Writer::new(&mut block[..CRC_COVERS]);
        envelope.bytes(&MAGIC);
        envelope.u32(crc);
        crc
    }

    fn write_body(&self, body: &mut [u8]) {
        let mut to = Writer::new(body);
        to.u16(VERSION);
        to.reserved(2);
        to.u64(self.log);
        to.u64(self.epoch);
        to.u64(self.nr);
        to.u64(self.first_seq.0);
        to.u64(self.durable.0);
        to.u64(self.wall.0);
        to.u32(self.bytes);
        to.u32(self.prev_crc);
        to.u16(count(self.cursors.len()));
        to.u16(count(self.entries.len()));
        to.reserved(20);
        self.cursors.iter().for_each(|cursor| cursor.write(&mut to));
        self.entries.iter().for_each(|entry| entry.write(&mut to));
        to.end();
    }

    fn read(block: &[u8]) -> Result<Self, HeaderError> {
        let mut from = Reader::new(&block[CRC_COVERS + 4..]); // version and flags are known
        let (log, epoch, nr) = (from.u64(), from.u64(), from.u64());
        let (first_seq, durable, wall) = (Seq(from.u64()), Seq(from.u64()), Wall(from.u64()));
        let (bytes, prev_crc) = (from.u32(), from.u32());
        let (cursors, entries) = (usize::from(from.u16()), usize::from(from.u16()));
        if cursors > CURSORS_MAX || entries > Self::entries_max(cursors) {
            return Err(HeaderError::Counts { cursors, entries });
        }
        from.bytes(20);
        let cursors = (0..cursors).map(|_| Cursor::read(&mut from)).collect();
        let entries = (0..entries)
            .map(|index| {
                Entry::read(&mut from).map_err(|error| HeaderError::Entry { index, error })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { log, epoch, nr, first_seq, bytes, durable, wall, prev_crc, cursors, entries })
    }
}

impl Cursor {
    fn write(&self, to: &mut Writer<'_>) {
        to.u16(self.slink.0);
        to.reserved(6);
        to.u64(self.covered.0);
    }

    fn read(from: &mut Reader<'_>) -> Self {
        let slink = SlinkNr(from.u16());
        from.bytes(6);
        Self { slink, covered: Seq(from.u64()) }
    }
}

impl Entry {
    /// Bytes from the group's header to the payload's end; `None` without payload.
    #[must_use]
    pub fn payload_range(&self) -> Option<std::ops::Range<usize>> {
        let start = self.payload.len();
        match self.op {
            EntryOp::Write => Some(start..start + self.len.len()),
            EntryOp::Bookmark if start > 0 => Some(start..start + TEXT.len()),
            EntryOp::Bookmark | EntryOp::Discard | EntryOp::WriteZeroes => None,
        }
    }

    fn write(&self, to: &mut Writer<'_>) {
        to.u32(self.dev.0);
        to.u8(self.op.code());
        to.u8(u8::from(self.fua));
        to.reserved(2);
        to.u64(self.sector.0);
        to.u32(narrow(self.len));
        to.u32(narrow(self.payload));
        to.u32(self.crc);
        to.reserved(4);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, EntryError> {
        let (dev, op, flags) = (DevNr(from.u32()), from.u8(), from.u8());
        from.bytes(2);
        let (sector, len) = (Sector(from.u64()), Sectors(from.u32().into()));
        let (payload, crc) = (Sectors(from.u32().into()), from.u32());
        from.bytes(4);
        let op = EntryOp::from_code(op)?;
        Ok(Self { dev, op, fua: flags & 1 == 1, sector, len, payload, crc })
    }
}

impl EntryOp {
    fn code(self) -> u8 {
        match self {
            Self::Write => 1,
            Self::Discard => 2,
            Self::WriteZeroes => 3,
            Self::Bookmark => 4,
        }
    }

    fn from_code(code: u8) -> Result<Self, EntryError> {
        match code {
            1 => Ok(Self::Write),
            2 => Ok(Self::Discard),
            3 => Ok(Self::WriteZeroes),
            4 => Ok(Self::Bookmark),
            found => Err(EntryError::Op { found }),
        }
    }
}

/// Size, magic, checksum, version: what must hold before any field means something.
fn check_envelope(block: &[u8]) -> Result<u32, HeaderError> {
    if block.len() != BLOCK_BYTES {
        return Err(HeaderError::Size { found: block.len() });
    }
    let mut from = Reader::new(block);
    let (magic, stored) = (from.array(), from.u32());
    if magic != MAGIC {
        return Err(HeaderError::NoMagic { found: magic });
    }
    let computed = crc32c(&block[CRC_COVERS..]);
    if stored != computed {
        return Err(HeaderError::BadChecksum { stored, computed });
    }
    match from.u16() {
        VERSION => Ok(stored),
        found => Err(HeaderError::UnsupportedVersion { found }),
    }
}

fn count(items: usize) -> u16 {
    u16::try_from(items).expect("validated: a header holds few items")
}

fn narrow(sectors: Sectors) -> u32 {
    u32::try_from(sectors.0).expect("validated: an entry's lengths have 32 bits")
}

/// The most cursors in a header: one for each site that a log may have.
pub const CURSORS_MAX: usize = super::superblock::SITES_MAX;

/// The length of a bookmark's text.
pub(super) const TEXT: Sectors = Sectors(1);
const MAGIC: [u8; 8] = *b"RPLGROUP";
const VERSION: u16 = 1;
/// The checksum covers everything behind itself.
const CRC_COVERS: usize = 12;
const FIXED_BYTES: usize = 96;
const CURSOR_BYTES: usize = 16;
const ENTRY_BYTES: usize = 32;

const _: () = assert!(GroupHeader::entries_max(0) == 125);
const _: () = assert!(GroupHeader::entries_max(CURSORS_MAX) >= 64, "a group commit is worth it");
