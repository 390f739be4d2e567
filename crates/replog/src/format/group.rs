//! The header of a commit group.

use blk::{DevNr, Sector, Sectors, Seq, SlinkNr, Wall};

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
    /// Everything up to here is on the site's media or durably marked dirty.
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
    /// First sector on the device.
    pub sector: Sector,
    /// Sectors on the device.
    pub len: Sectors,
    /// Where the payload begins, in sectors from the group's header; 0 without payload.
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
    /// A mark without data.
    Bookmark,
}
