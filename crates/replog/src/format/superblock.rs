//! The superblock: identity, checkpoint and roster, in two slots written in turn.
//!
//! ```text
//! byte  bytes  field              (little-endian; what is not listed is reserved and zero)
//!    0      8  magic              "RPLOGSUP"
//!    8      4  crc                CRC-32C of bytes 12..`bytes`
//!   12      4  bytes              of the superblock, roster included: whole blocks of 4096
//!   16      2  version            1; this and everything above stays in all versions
//!   24      8  generation         …and this
//!   32     16  uuid               as RFC 9562 orders its bytes
//!   48      8  features, compat
//!   56      8  features, ro_compat
//!   64      8  features, incompat
//!   72      8  ring_bytes
//!   80      8  epoch
//!   88      8  epoch_first_group
//!   96      8  durable
//!  104      8  head.pos           in bytes since the log was made
//!  112      8  head.group
//!  120      8  head.seq
//!  128      8  head.epoch
//!  136      4  head.crc
//!  140      4  flags              bit 0: bypassed
//!  144      8  bypassed_since     an epoch; 0 unless bypassed
//!  152      2  sites              how many (S)
//!  154      2  devices            how many (D)
//!  156      2  legs               how many (L)
//!  158      2  reserved
//!  160      8  lap_base           where a lap began, as `head.pos`; 0 unless the ring was resized
//!  168     16  group              the group's identity: its first log's UUID; zero in that log
//!  184     72  reserved           named bookmarks; keys
//!  256   64 S  sites              ┐
//!  ...  160 D  devices            ├ the roster: diagrams in roster.rs
//!  ...  224 L  legs               ┘
//!  ...         zero to `bytes`
//! ```
//!
//! A superblock that is being written may be torn, so it is never the only one:
//! [`choose`] decides between the slots. What must not be lost with one slot that
//! rots later (a new epoch, a site's flags) is written to both, one after the other.

use blk::{BLOCK_BYTES, Sector, Seq};
use uuid::Uuid;

pub use super::roster::{DeviceRecord, LegRecord, RosterError, SiteRecord, belongs_to};
pub use super::slots::{Damaged, LogState, Newer, choose};
pub use super::superblock_rules::SuperblockError;

use super::crc::crc32c;
use super::fields::{Reader, Writer};
use super::group_rules::READ_MAX;
use super::roster::{self, Counts};
use crate::geometry::{Geometry, RingPos, SLOT_BYTES};

/// A checkpoint of the log, and who belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Counts the writes of superblocks; slot = generation mod 2; the higher one counts.
    pub generation: u64,
    /// The identity of the log, made when it was created.
    pub uuid: Uuid,
    /// The UUID of the first log that the group had, if this took the place of one; else nil, see
    /// [`Superblock::group`].
    pub first: Uuid,
    /// What a reader must know to read or write this log.
    pub features: Features,
    /// Bytes in one lap of the ring.
    pub ring_bytes: u64,
    /// Where a lap of that length began; 0, and no feature, in a ring that was never resized.
    pub lap_base: RingPos,
    /// This opening's number; each begins a new one, durably, before its first write.
    pub epoch: u64,
    /// Groups from this number on belong to `epoch`; an older epoch there is dead (I1).
    pub epoch_first_group: u64,
    /// Every write up to here was durable when this was written (I12).
    pub durable: Seq,
    /// Where a scan starts: the group before it (I1, traps F1-F6).
    pub head: Anchor,
    /// Set while D runs without its log (P8): a log of this epoch or older is never replayed.
    pub bypassed_since: Option<u64>,
    /// The sites, with their cursors and flags.
    pub sites: Vec<SiteRecord>,
    /// The devices.
    pub devices: Vec<DeviceRecord>,
    /// The legs: which backing device each device has on each site.
    pub legs: Vec<LegRecord>,
}

/// The end of one group, from which the next is found and judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Anchor {
    /// Where the next group begins.
    pub pos: RingPos,
    /// Number of the group before; 0 if there was none.
    pub group: u64,
    /// Last write of the group before.
    pub seq: Seq,
    /// Epoch of the group before.
    pub epoch: u64,
    /// Header checksum of the group before; 0 if there was none.
    pub crc: u32,
}

/// Feature words. An unknown bit in `incompat` forbids opening, in `ro_compat` writing.
///
/// Version 1 knows two bits: 0 of `incompat`, [`Features::LAP_BASE`], and 0 of `compat`, [`Features::FIRST`]. Foreseen in
/// `incompat`: compressed payloads, encrypted payloads; in `compat`: named bookmarks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// May be ignored, and is lost when a writer that ignores it writes a superblock.
    pub compat: u64,
    /// May be ignored when reading.
    pub ro_compat: u64,
    /// May not be ignored.
    pub incompat: u64,
}

impl Superblock {
    /// The superblock as it stands in its slot, padded to whole blocks.
    ///
    /// # Panics
    /// If it breaks a rule that [`Superblock::validate`] states: it could not be read again.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        if let Err(error) = self.validate() {
            panic!("superblock {} would not be readable: {error}", self.generation);
        }
        self.write()
    }

    /// Reads a superblock from the beginning of its slot.
    ///
    /// # Errors
    /// Anything but a superblock that this version may read.
    pub fn decode(slot: &[u8]) -> Result<Self, SuperblockError> {
        let bytes = check_envelope(slot)?;
        let superblock = Self::read(bytes)?;
        superblock.validate_to(READ_MAX)?;
        if superblock.features.are_known() {
            superblock.check_canonical(bytes)?;
        }
        Ok(superblock)
    }

    /// The identity of the group, whatever log it has by now.
    #[must_use]
    pub fn group(&self) -> Uuid {
        if self.first.is_nil() { self.uuid } else { self.first }
    }

    /// The same, as another log of the group.
    #[must_use]
    pub(crate) fn moved_to(mut self, uuid: Uuid) -> Self {
        (self.first, self.uuid) = (self.group(), uuid);
        self.features.compat |= Features::FIRST;
        self
    }

    /// Where things lie in this log, which begins at `start`.
    #[must_use]
    pub fn geometry(&self, start: Sector) -> Geometry {
        Geometry::of_ring(start, self.ring_bytes, self.lap_base)
    }

    /// The same, with a ring as `geometry` has it.
    #[must_use]
    pub(crate) fn laid_out(mut self, geometry: &Geometry) -> Self {
        (self.ring_bytes, self.lap_base) = (geometry.ring_bytes(), geometry.lap_base());
        // A program that does not know the field must not look for groups without it.
        self.features.incompat &= !Features::LAP_BASE;
        if self.lap_base != RingPos(0) {
            self.features.incompat |= Features::LAP_BASE;
        }
        self
    }

    /// What group headers of this log carry: the first half of its UUID.
    #[must_use]
    pub fn log(&self) -> u64 {
        self.uuid.as_u64_pair().0
    }

    fn write(&self) -> Vec<u8> {
        let counts = self.counts();
        let mut slot = vec![0; counts.superblock_bytes()];
        self.write_body(&mut slot[CRC_COVERS..]);
        let crc = crc32c(&slot[CRC_COVERS..]);
        let mut envelope = Writer::new(&mut slot[..CRC_COVERS]);
        envelope.bytes(&MAGIC);
        envelope.u32(crc);
        slot
    }

    fn write_body(&self, body: &mut [u8]) {
        let counts = self.counts();
        let bytes = u32::try_from(counts.superblock_bytes()).expect("it fits its slot");
        let mut to = Writer::new(body);
        to.u32(bytes);
        to.u16(VERSION);
        to.reserved(6);
        to.u64(self.generation);
        to.bytes(self.uuid.as_bytes());
        to.u64(self.features.compat);
        to.u64(self.features.ro_compat);
        to.u64(self.features.incompat);
        to.u64(self.ring_bytes);
        to.u64(self.epoch);
        to.u64(self.epoch_first_group);
        to.u64(self.durable.0);
        self.head.write(&mut to);
        to.u32(if self.bypassed_since.is_some() { BYPASSED } else { 0 });
        to.u64(self.bypassed_since.unwrap_or(0));
        counts.write(&mut to);
        to.reserved(2);
        to.u64(self.lap_base.0);
        to.bytes(self.first.as_bytes());
        to.reserved(72);
        roster::write(&self.sites, &self.devices, &self.legs, &mut to);
        to.end();
    }

    fn read(bytes: &[u8]) -> Result<Self, SuperblockError> {
        let mut from = Reader::new(&bytes[CRC_COVERS + 12..]); // length and version are known
        let generation = from.u64();
        let uuid = Uuid::from_bytes(from.array());
        let features = Features { compat: from.u64(), ro_compat: from.u64(), incompat: from.u64() };
        let unknown = features.incompat & !Features::KNOWN.incompat;
        if unknown != 0 {
            return Err(SuperblockError::UnknownFeature { incompat: unknown, generation });
        }
        let ring_bytes = from.u64();
        let (epoch, epoch_first_group, durable) = (from.u64(), from.u64(), Seq(from.u64()));
        let head = Anchor::read(&mut from);
        let (flags, since) = (from.u32(), from.u64());
        let bypassed_since = (flags & BYPASSED != 0).then_some(since);
        let counts = Counts::read(&mut from);
        counts.check(bytes.len())?;
        from.bytes(2);
        let lap_base = RingPos(from.u64());
        let first = Uuid::from_bytes(from.array());
        from.bytes(72);
        let (sites, devices, legs) = roster::read(counts, &mut from)?;
        Ok(Self {
            generation,
            uuid,
            first,
            features,
            ring_bytes,
            lap_base,
            epoch,
            epoch_first_group,
            durable,
            head,
            bypassed_since,
            sites,
            devices,
            legs,
        })
    }

    /// What this version writes, it writes in one way only.
    fn check_canonical(&self, bytes: &[u8]) -> Result<(), SuperblockError> {
        let body = &bytes[CRC_COVERS..];
        let mut canonical = vec![0; body.len()];
        self.write_body(&mut canonical);
        match canonical.iter().zip(body).position(|(expected, found)| expected != found) {
            Some(at) => Err(SuperblockError::Reserved { at: CRC_COVERS + at }),
            None => Ok(()),
        }
    }

    fn counts(&self) -> Counts {
        Counts { sites: self.sites.len(), devices: self.devices.len(), legs: self.legs.len() }
    }
}

impl Anchor {
    fn write(&self, to: &mut Writer<'_>) {
        to.u64(self.pos.0);
        to.u64(self.group);
        to.u64(self.seq.0);
        to.u64(self.epoch);
        to.u32(self.crc);
    }

    fn read(from: &mut Reader<'_>) -> Self {
        Self {
            pos: RingPos(from.u64()),
            group: from.u64(),
            seq: Seq(from.u64()),
            epoch: from.u64(),
            crc: from.u32(),
        }
    }
}

impl Features {
    /// What this version of the program knows.
    pub const KNOWN: Self = Self { compat: Self::FIRST, ro_compat: 0, incompat: Self::LAP_BASE };

    /// In `compat`: `group` may say which log was the first. Who does not know that writes zeroes there.
    pub const FIRST: u64 = 1;

    /// In `incompat`: `lap_base` says where laps begin.
    pub const LAP_BASE: u64 = 1;

    /// Whether this program may write to such a log.
    #[must_use]
    pub fn are_writable(&self) -> bool {
        self.ro_compat & !Self::KNOWN.ro_compat == 0
    }

    /// Whether no bit is foreign, so that every byte of the superblock has a known meaning.
    #[must_use]
    pub fn are_known(&self) -> bool {
        self.are_writable() && self.compat & !Self::KNOWN.compat == 0
    }
}

/// Magic, length, checksum, version: the bytes of the superblock, if they are whole.
fn check_envelope(slot: &[u8]) -> Result<&[u8], SuperblockError> {
    if slot.len() < BLOCK_BYTES {
        return Err(SuperblockError::BadLength { found: 0, slot: slot.len() });
    }
    let mut from = Reader::new(slot);
    let (magic, stored, length) = (from.array(), from.u32(), from.u32());
    if magic != MAGIC {
        return Err(SuperblockError::NoMagic { found: magic });
    }
    let bytes = length as usize;
    let limit = slot.len().min(SLOT_BYTES as usize);
    if bytes == 0 || !bytes.is_multiple_of(BLOCK_BYTES) || bytes > limit {
        return Err(SuperblockError::BadLength { found: length, slot: slot.len() });
    }
    let computed = crc32c(&slot[CRC_COVERS..bytes]);
    if stored != computed {
        return Err(SuperblockError::BadChecksum { stored, computed });
    }
    let found = from.u16();
    if found != VERSION {
        from.bytes(6);
        return Err(SuperblockError::UnsupportedVersion { found, generation: from.u64() });
    }
    Ok(&slot[..bytes])
}

/// The most sites in a roster.
pub const SITES_MAX: usize = 32;
/// The most devices in a roster.
pub const DEVICES_MAX: usize = 64;
/// The most legs in a roster.
pub const LEGS_MAX: usize = 512;
/// The longest device name, in bytes; as long as device-mapper's.
pub const NAME_BYTES_MAX: usize = 127;
/// The longest identity of a backing device, in bytes.
pub const IDENTITY_BYTES_MAX: usize = 192;

pub(super) const HEADER_BYTES: usize = 256;
const MAGIC: [u8; 8] = *b"RPLOGSUP";
const VERSION: u16 = 1;
/// The checksum covers everything behind itself.
const CRC_COVERS: usize = 12;
const BYPASSED: u32 = 1;
const _: () = assert!(
    Counts { sites: SITES_MAX, devices: DEVICES_MAX, legs: LEGS_MAX }.superblock_bytes()
        <= SLOT_BYTES as usize,
    "a roster at its stated maxima fits the slot",
);
