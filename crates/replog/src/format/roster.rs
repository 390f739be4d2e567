//! The roster in the superblock: sites, devices and legs, each in records of one size.
//!
//! ```text
//! site, 64 bytes              device, 160 bytes           leg, 224 bytes
//!  0  2  slink                 0   4  nr                   0   4  dev
//!  2  2  flags                 4   2  reserved (flags)     4   2  slink
//!        bit 0 lost_since      6   2  bytes of the name    6   2  bytes of the identity
//!        bit 1 all_dirty       8   8  size                 8   8  size
//!        bit 2 inconsistent   16  16  reserved            16   2  flags
//!        bit 3 detached       32 128  name, UTF-8,               bit 0 all_dirty
//!        bit 4 demoted                zero-padded                bit 1 left_out
//!  4  4  reserved                                         18  14  reserved
//!  8  8  covered                                          32 192  identity, UTF-8,
//! 16  8  lost_since                                               zero-padded
//! 24 16  peer
//! 40  8  session, of detached
//! 48 16  reserved
//! ```
//!
//! Order is the writer's; a number is named once.

use std::collections::BTreeSet;

use blk::{BLOCK_BYTES, DevNr, Sectors, Seq, SlinkNr};
use uuid::Uuid;

use super::fields::{Reader, Writer};
use super::group_rules::WRITTEN_MAX;
use super::superblock::{
    DEVICES_MAX, HEADER_BYTES, IDENTITY_BYTES_MAX, LEGS_MAX, NAME_BYTES_MAX, SITES_MAX,
    SuperblockError,
};
use crate::geometry::SECTOR_MAX;

/// A site in the roster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteRecord {
    /// The site.
    pub slink: SlinkNr,
    /// Everything up to here is on the site's media or durably marked dirty; never
    /// more than is durable in the log (I3).
    pub covered: Seq,
    /// The site's own copy lacks what came after this (LD lost, P7).
    pub lost_since: Option<Seq>,
    /// Its dirty logs can't be trusted: all regions are dirty at the next open (I7).
    pub all_dirty: bool,
    /// Its image may differ from any state the application could have seen (P3).
    pub inconsistent: bool,
    /// What it lacks up to `covered` is in its dirty logs, under this number; never 0.
    /// `None`: it lacks nothing up to `covered`, whatever a dirty log says.
    pub detached: Option<u64>,
    /// It is `sync`, and acknowledgements have gone on without it (P1).
    pub demoted: bool,
    /// Identity of what is at the other end, for later use; all zero if unknown.
    pub peer: Uuid,
}

/// A device in the roster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceRecord {
    /// Its number.
    pub nr: DevNr,
    /// Its size.
    pub size: Sectors,
    /// Its name when it joined, for messages; at most 127 bytes.
    pub name: String,
}

/// A leg in the roster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegRecord {
    /// The device.
    pub dev: DevNr,
    /// The site.
    pub slink: SlinkNr,
    /// Size of the backing device.
    pub size: Sectors,
    /// What the backing device is, whatever its path (P15); at most 192 bytes, none if
    /// it was never seen.
    pub identity: String,
    /// Nothing on it is believed, whatever its dirty log says (I7).
    pub all_dirty: bool,
    /// A table left it out, and its site has gone on without it. Of a local leg: its device was
    /// taken away while it was in use.
    pub left_out: bool,
}

impl LegRecord {
    /// Nobody has told yet where the disk differs from its device, so no disk is taken for
    /// it: no disk has this identity.
    pub const UNTOLD: &str = "untold:";

    /// Whether that is so.
    #[must_use]
    pub fn is_untold(&self) -> bool {
        self.identity == Self::UNTOLD
    }
}

/// For a sentence about a disk in the wrong place: where it belongs, if the log knows it.
#[must_use]
pub fn belongs_to(legs: &[LegRecord], identity: &str) -> String {
    let known = legs.iter().find(|leg| leg.identity == identity);
    let place = |LegRecord { dev, slink, .. }: &LegRecord| {
        format!(", which is that of device {dev} on site {slink}")
    };
    known.map_or_else(String::new, place)
}

/// What is wrong with a roster.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RosterError {
    /// More records than a superblock holds.
    #[error("{found} {what}, a log has at most {max}")]
    TooMany {
        /// Records of what.
        what: &'static str,
        /// How many.
        found: usize,
        /// How many there may be.
        max: usize,
    },
    /// Something is named twice.
    #[error("{0} is named twice")]
    Twice(Record),
    /// A number, size or flag that no writer writes.
    #[error("{record}: {field} is {found}, out of range")]
    OutOfRange {
        /// Which record.
        record: Record,
        /// Which field.
        field: &'static str,
        /// What it says.
        found: u64,
    },
    /// A text that is too long, not UTF-8, or has a zero byte in it.
    #[error("{record}: {field} is not a text of at most {max} bytes")]
    Text {
        /// Which record.
        record: Record,
        /// Which field.
        field: &'static str,
        /// Bytes it may have.
        max: usize,
    },
    /// A leg of a device or site that the roster does not name.
    #[error("{0} belongs to a device or site that the roster does not name")]
    Stray(Record),
}

/// A record, for messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// A site.
    Site(SlinkNr),
    /// A device.
    Device(DevNr),
    /// A leg.
    Leg(DevNr, SlinkNr),
}

impl std::fmt::Display for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Site(slink) => write!(f, "site {slink}"),
            Self::Device(dev) => write!(f, "device {dev}"),
            Self::Leg(dev, slink) => write!(f, "the leg of device {dev} on site {slink}"),
        }
    }
}

/// How many records of each kind there are.
#[derive(Clone, Copy)]
pub(super) struct Counts {
    pub(super) sites: usize,
    pub(super) devices: usize,
    pub(super) legs: usize,
}

impl Counts {
    /// Bytes of a superblock with so many records, padding included.
    pub(super) const fn superblock_bytes(self) -> usize {
        let roster = self.sites * SITE_BYTES + self.devices * DEVICE_BYTES + self.legs * LEG_BYTES;
        (HEADER_BYTES + roster).next_multiple_of(BLOCK_BYTES)
    }

    /// Whether a roster may have so many records, and so many bytes hold exactly them.
    pub(super) fn check(self, bytes: usize) -> Result<(), SuperblockError> {
        self.check_maxima()?;
        if self.superblock_bytes() != bytes {
            return Err(SuperblockError::Invalid { field: "bytes", found: bytes as u64 });
        }
        Ok(())
    }

    fn check_maxima(self) -> Result<(), RosterError> {
        let limits = [
            ("sites", self.sites, SITES_MAX),
            ("devices", self.devices, DEVICES_MAX),
            ("legs", self.legs, LEGS_MAX),
        ];
        match limits.into_iter().find(|(_, found, max)| found > max) {
            Some((what, found, max)) => Err(RosterError::TooMany { what, found, max }),
            None => Ok(()),
        }
    }

    pub(super) fn write(self, to: &mut Writer<'_>) {
        for count in [self.sites, self.devices, self.legs] {
            to.u16(u16::try_from(count).expect("validated: rosters are short"));
        }
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Self {
        let mut count = || usize::from(from.u16());
        Self { sites: count(), devices: count(), legs: count() }
    }
}

/// What a roster consists of.
pub(super) type Roster = (Vec<SiteRecord>, Vec<DeviceRecord>, Vec<LegRecord>);

pub(super) fn write(
    sites: &[SiteRecord],
    devices: &[DeviceRecord],
    legs: &[LegRecord],
    to: &mut Writer<'_>,
) {
    sites.iter().for_each(|site| site.write(to));
    devices.iter().for_each(|device| device.write(to));
    legs.iter().for_each(|leg| leg.write(to));
}

pub(super) fn read(counts: Counts, from: &mut Reader<'_>) -> Result<Roster, RosterError> {
    let sites = (0..counts.sites).map(|_| SiteRecord::read(from)).collect();
    let devices =
        (0..counts.devices).map(|_| DeviceRecord::read(from)).collect::<Result<_, _>>()?;
    let legs = (0..counts.legs).map(|_| LegRecord::read(from)).collect::<Result<_, _>>()?;
    Ok((sites, devices, legs))
}

pub(super) fn validate(
    sites: &[SiteRecord],
    devices: &[DeviceRecord],
    legs: &[LegRecord],
    durable: Seq,
    number_max: u64,
) -> Result<(), RosterError> {
    Counts { sites: sites.len(), devices: devices.len(), legs: legs.len() }.check_maxima()?;
    let (mut slinks, mut devs, mut pairs) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for site in sites {
        site.validate(durable, number_max)?;
        once(&mut slinks, site.slink, Record::Site(site.slink))?;
    }
    for device in devices {
        device.validate()?;
        once(&mut devs, device.nr, Record::Device(device.nr))?;
    }
    for leg in legs {
        leg.validate()?;
        once(&mut pairs, (leg.dev, leg.slink), leg.record())?;
        if !devs.contains(&leg.dev) || !slinks.contains(&leg.slink) {
            return Err(RosterError::Stray(leg.record()));
        }
    }
    Ok(())
}

impl SiteRecord {
    fn validate(&self, durable: Seq, number_max: u64) -> Result<(), RosterError> {
        let record = Record::Site(self.slink);
        check(record, "number", self.slink.0.into(), SlinkNr::MAX.0.into())?;
        // I3: a site has nothing that is not durable.
        check(record, "covered", self.covered.0, durable.0)?;
        check(record, "lost_since", self.lost_since.unwrap_or_default().0, WRITTEN_MAX)?;
        match self.detached {
            // 0 is what "not detached" has in its place.
            Some(found @ 0) => Err(RosterError::OutOfRange { record, field: "session", found }),
            Some(session) => check(record, "session", session, number_max),
            None => Ok(()),
        }
    }

    fn write(&self, to: &mut Writer<'_>) {
        to.u16(self.slink.0);
        to.u16(self.flags());
        to.reserved(4);
        to.u64(self.covered.0);
        to.u64(self.lost_since.unwrap_or_default().0);
        to.bytes(self.peer.as_bytes());
        to.u64(self.detached.unwrap_or_default());
        to.reserved(16);
    }

    fn read(from: &mut Reader<'_>) -> Self {
        let (slink, flags) = (SlinkNr(from.u16()), from.u16());
        from.bytes(4);
        let (covered, lost_since) = (Seq(from.u64()), Seq(from.u64()));
        let peer = Uuid::from_bytes(from.array());
        let session = from.u64();
        from.bytes(16);
        Self {
            slink,
            covered,
            lost_since: (flags & LOST != 0).then_some(lost_since),
            all_dirty: flags & ALL_DIRTY != 0,
            inconsistent: flags & INCONSISTENT != 0,
            detached: (flags & DETACHED != 0).then_some(session),
            demoted: flags & DEMOTED != 0,
            peer,
        }
    }

    fn flags(&self) -> u16 {
        let flag = |set, bit| if set { bit } else { 0 };
        flag(self.lost_since.is_some(), LOST)
            | flag(self.all_dirty, ALL_DIRTY)
            | flag(self.inconsistent, INCONSISTENT)
            | flag(self.detached.is_some(), DETACHED)
            | flag(self.demoted, DEMOTED)
    }
}

impl DeviceRecord {
    fn validate(&self) -> Result<(), RosterError> {
        let record = Record::Device(self.nr);
        check(record, "size", self.size.0, SECTOR_MAX)?;
        check_text(record, "name", &self.name, NAME_BYTES_MAX)
    }

    fn write(&self, to: &mut Writer<'_>) {
        to.u32(self.nr.0);
        to.reserved(2);
        to.u16(text_len(&self.name));
        to.u64(self.size.0);
        to.reserved(16);
        to.bytes(self.name.as_bytes());
        to.reserved(NAME_FIELD - self.name.len());
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, RosterError> {
        let nr = DevNr(from.u32());
        from.bytes(2);
        let (len, size) = (from.u16(), Sectors(from.u64()));
        from.bytes(16);
        let record = Record::Device(nr);
        let name = text(record, "name", from.bytes(NAME_FIELD), len, NAME_BYTES_MAX)?;
        Ok(Self { nr, size, name })
    }
}

impl LegRecord {
    fn record(&self) -> Record {
        Record::Leg(self.dev, self.slink)
    }

    fn validate(&self) -> Result<(), RosterError> {
        check(self.record(), "size", self.size.0, SECTOR_MAX)?;
        check_text(self.record(), "identity", &self.identity, IDENTITY_BYTES_MAX)
    }

    fn write(&self, to: &mut Writer<'_>) {
        to.u32(self.dev.0);
        to.u16(self.slink.0);
        to.u16(text_len(&self.identity));
        to.u64(self.size.0);
        let flag = |set, bit| if set { bit } else { 0 };
        to.u16(flag(self.all_dirty, ALL_DIRTY_LEG) | flag(self.left_out, LEFT_OUT));
        to.reserved(14);
        to.bytes(self.identity.as_bytes());
        to.reserved(IDENTITY_BYTES_MAX - self.identity.len());
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, RosterError> {
        let (dev, slink) = (DevNr(from.u32()), SlinkNr(from.u16()));
        let (len, size) = (from.u16(), Sectors(from.u64()));
        let flags = from.u16();
        let (all_dirty, left_out) = (flags & ALL_DIRTY_LEG != 0, flags & LEFT_OUT != 0);
        from.bytes(14);
        let field = from.bytes(IDENTITY_BYTES_MAX);
        let identity = text(Record::Leg(dev, slink), "identity", field, len, IDENTITY_BYTES_MAX)?;
        Ok(Self { dev, slink, size, identity, all_dirty, left_out })
    }
}

fn once<T: Ord>(seen: &mut BTreeSet<T>, key: T, record: Record) -> Result<(), RosterError> {
    if seen.insert(key) { Ok(()) } else { Err(RosterError::Twice(record)) }
}

fn check(record: Record, field: &'static str, found: u64, max: u64) -> Result<(), RosterError> {
    if found <= max { Ok(()) } else { Err(RosterError::OutOfRange { record, field, found }) }
}

fn check_text(
    record: Record,
    field: &'static str,
    text: &str,
    max: usize,
) -> Result<(), RosterError> {
    if text.len() <= max && !text.contains('\0') {
        Ok(())
    } else {
        Err(RosterError::Text { record, field, max })
    }
}

fn text(
    record: Record,
    field: &'static str,
    bytes: &[u8],
    len: u16,
    max: usize,
) -> Result<String, RosterError> {
    bytes[..max]
        .get(..usize::from(len))
        .and_then(|text| std::str::from_utf8(text).ok())
        .map(str::to_owned)
        .ok_or(RosterError::Text { record, field, max })
}

fn text_len(text: &str) -> u16 {
    u16::try_from(text.len()).expect("validated: roster texts are short")
}

const LOST: u16 = 1;
const ALL_DIRTY: u16 = 2;
const INCONSISTENT: u16 = 4;
const DETACHED: u16 = 8;
const DEMOTED: u16 = 16;
const ALL_DIRTY_LEG: u16 = 1;
const LEFT_OUT: u16 = 2;
const SITE_BYTES: usize = 64;
const NAME_FIELD: usize = NAME_BYTES_MAX + 1;
const DEVICE_BYTES: usize = 32 + NAME_FIELD;
const LEG_BYTES: usize = 32 + IDENTITY_BYTES_MAX;
