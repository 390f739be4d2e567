//! The superblock: identity, checkpoint and roster, in two slots written in turn.

use blk::{DevNr, Sectors, Seq, SlinkNr};
use uuid::Uuid;

use crate::geometry::RingPos;

/// A checkpoint of the log, and who belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Counts the writes of superblocks; slot = generation mod 2; the higher one counts.
    pub generation: u64,
    /// The identity of the log, made when it was created.
    pub uuid: Uuid,
    /// What a reader must know to read or write this log.
    pub features: Features,
    /// Bytes in one lap of the ring.
    pub ring_bytes: u64,
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// May be ignored.
    pub compat: u64,
    /// May be ignored when reading.
    pub ro_compat: u64,
    /// May not be ignored.
    pub incompat: u64,
}

/// A site in the roster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteRecord {
    /// The site.
    pub slink: SlinkNr,
    /// Everything up to here is on the site's media or durably marked dirty.
    pub covered: Seq,
    /// The site's own copy lacks what came after this (LD lost, P7).
    pub lost_since: Option<Seq>,
    /// Its dirty logs can't be trusted: all regions are dirty at the next open (I7).
    pub all_dirty: bool,
    /// Its image may differ from any state the application could have seen (P3).
    pub inconsistent: bool,
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
    /// Its name when it joined, for messages.
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
    /// What the backing device is, whatever its path (P15).
    pub identity: String,
}
