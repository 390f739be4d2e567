//! `log dump`: the checkpoint, and every group and every write of a log, a line each.

use std::fmt;

use blk::{Sector, Seq};
use serde::Serialize;

use super::find::{self, ToolError};
use super::report::{DamageReport, Span};
use super::walk::walk;
use super::{Health, LogReader, Place, SiteReport};
use crate::bookmark;
use crate::format::group::{Entry, EntryOp, GroupHeader};
use crate::format::superblock::{LegRecord, Superblock};
use crate::geometry::{Geometry, RingPos};
use crate::scan::ScannedGroup;

/// One line of a dump: the checkpoint, a group with its writes, or the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// The superblock that counts.
    Checkpoint(CheckpointLine),
    /// A group that counts.
    Group(GroupLine),
    /// The log ends here.
    End {
        /// Where the next group goes.
        tip: Place,
        /// Why it ends here.
        reason: String,
    },
    /// The log can't be read further.
    Damage(DamageReport),
    /// Sectors that were taken for zeroes.
    Unreadable(Span),
}

/// What the superblock that counts says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckpointLine {
    /// How many superblocks were written before it.
    pub generation: u64,
    /// The opening that wrote it.
    pub epoch: u64,
    /// What was durable when it was written.
    pub durable: u64,
    /// Bytes of the ring.
    pub ring_bytes: u64,
    /// Where a lap of it began, in bytes since the log was made; 0 if it was never resized.
    pub lap_base: u64,
    /// Where the first group behind it begins.
    pub head: Place,
    /// How the sites stand.
    pub sites: Vec<SiteReport>,
    /// The legs.
    pub legs: Vec<LegLine>,
}

/// The backing device of a device on a site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LegLine {
    /// The device.
    pub dev: u32,
    /// The site.
    pub slink: u16,
    /// Sectors of the backing device.
    pub sectors: u64,
    /// What it is; nothing if it was never seen.
    pub identity: String,
    /// Nothing on it is believed, whatever its dirty log says.
    pub all_dirty: bool,
}

/// A group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GroupLine {
    /// Where it begins on the log device.
    pub sector: u64,
    /// Its number.
    pub nr: u64,
    /// The opening that wrote it.
    pub epoch: u64,
    /// Its first write, or the one that comes next.
    pub first_seq: u64,
    /// Bytes to the next group.
    pub bytes: u32,
    /// What was durable when it was written.
    pub durable: u64,
    /// When that was, in nanoseconds since 1970.
    pub wall_ns: u64,
    /// Its header checksum.
    pub crc: u32,
    /// How far the sites were.
    pub cursors: Vec<Cursor>,
    /// Its writes.
    pub entries: Vec<EntryLine>,
}

/// How far a site was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Cursor {
    /// The site.
    pub slink: u16,
    /// Everything up to here was on its media or marked dirty.
    pub covered: u64,
}

/// A write, or a bookmark.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EntryLine {
    /// Its number.
    pub seq: u64,
    /// The device.
    pub dev: u32,
    /// What was asked.
    pub op: &'static str,
    /// Acknowledged as durable.
    pub fua: bool,
    /// First sector on the device.
    pub sector: u64,
    /// Sectors on the device.
    pub sectors: u64,
    /// Where its data lies on the log device.
    pub payload_sector: Option<u64>,
    /// CRC-32C of its data.
    pub crc: Option<u32>,
    /// What a bookmark says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// Shows every line of the log at `start`, and says whether the log can be opened.
///
/// # Errors
/// There is no log, or none that this program knows how to read.
pub fn dump(
    reader: &mut dyn LogReader,
    start: Sector,
    show: &mut dyn FnMut(Line),
) -> Result<Health, ToolError> {
    let (sb, geometry) = find::log(reader, start)?;
    show(Line::Checkpoint(CheckpointLine::new(&sb, &geometry)));
    let walked = walk(reader, &sb, geometry, &mut |group, bytes| {
        show(Line::Group(GroupLine::new(group, bytes, &geometry)));
    });
    let health = Health::of(&walked);
    walked.unreadable.into_iter().for_each(|span| show(Line::Unreadable(span)));
    show(match walked.end {
        Ok(tip) => {
            Line::End { tip: Place::new(&tip.anchor, &geometry), reason: tip.reason.to_string() }
        }
        Err(damage) => Line::Damage(damage.as_ref().into()),
    });
    Ok(health)
}

impl CheckpointLine {
    fn new(sb: &Superblock, geometry: &Geometry) -> Self {
        let leg = |leg: &LegRecord| LegLine {
            dev: leg.dev.0,
            slink: leg.slink.0,
            sectors: leg.size.0,
            identity: leg.identity.clone(),
            all_dirty: leg.all_dirty,
        };
        Self {
            generation: sb.generation,
            epoch: sb.epoch,
            durable: sb.durable.0,
            ring_bytes: sb.ring_bytes,
            lap_base: sb.lap_base.0,
            head: Place::new(&sb.head, geometry),
            sites: sb.sites.iter().map(|site| SiteReport::at(site, sb, sb.durable)).collect(),
            legs: sb.legs.iter().map(leg).collect(),
        }
    }
}

impl GroupLine {
    fn new(group: &ScannedGroup, content: &[u8], geometry: &Geometry) -> Self {
        let ScannedGroup { pos, header, crc } = group;
        let GroupHeader { epoch, nr, first_seq, bytes, durable, wall, .. } = *header;
        let cursor =
            |c: &crate::format::group::Cursor| Cursor { slink: c.slink.0, covered: c.covered.0 };
        let entry = |(seq, entry): (Seq, &Entry)| EntryLine {
            text: bookmark::text(entry, content),
            ..EntryLine::new(seq, entry, *pos, geometry)
        };
        Self {
            sector: geometry.sector(*pos).0,
            nr,
            epoch,
            first_seq: first_seq.0,
            bytes,
            durable: durable.0,
            wall_ns: wall.0,
            crc: *crc,
            cursors: header.cursors.iter().map(cursor).collect(),
            entries: header.numbered().map(entry).collect(),
        }
    }
}

impl EntryLine {
    fn new(seq: Seq, entry: &Entry, group: RingPos, geometry: &Geometry) -> Self {
        let has_payload = entry.op == EntryOp::Write;
        let payload_sector = geometry.sector(group) + entry.payload;
        Self {
            seq: seq.0,
            dev: entry.dev.0,
            op: op_name(entry.op),
            fua: entry.fua,
            sector: entry.sector.0,
            sectors: entry.len.0,
            payload_sector: has_payload.then_some(payload_sector.0),
            crc: has_payload.then_some(entry.crc),
            text: None,
        }
    }
}

/// The word for an operation.
pub(super) fn op_name(op: EntryOp) -> &'static str {
    match op {
        EntryOp::Write => "write",
        EntryOp::Discard => "discard",
        EntryOp::WriteZeroes => "write-zeroes",
        EntryOp::Bookmark => "bookmark",
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Checkpoint(checkpoint) => checkpoint.fmt(f),
            Self::Group(group) => group.fmt(f),
            Self::End { tip, reason } => write!(f, "end at {tip}: {reason}"),
            Self::Damage(damage) => damage.fmt(f),
            Self::Unreadable(span) => write!(f, "unreadable: {span}"),
        }
    }
}

impl fmt::Display for CheckpointLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { generation, epoch, durable, head, ring_bytes, lap_base, sites, legs } = self;
        write!(
            f,
            "checkpoint, generation {generation}: opening {epoch}, durable {durable}, head {head}"
        )?;
        if *lap_base > 0 {
            write!(f, "; resized: a lap of {ring_bytes} bytes began at byte {lap_base}")?;
        }
        sites.iter().try_for_each(|site| write!(f, "\n  {site}"))?;
        legs.iter().try_for_each(|leg| write!(f, "\n  {leg}"))
    }
}

impl fmt::Display for LegLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { dev, slink, sectors, identity, all_dirty } = self;
        write!(f, "device {dev} on site {slink}: {sectors} sectors, ")?;
        f.write_str(if identity.is_empty() { "never seen" } else { identity })?;
        f.write_str(if *all_dirty { "; all of it is dirty" } else { "" })
    }
}

impl fmt::Display for GroupLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, nanos) = (self.wall_ns / 1_000_000_000, self.wall_ns % 1_000_000_000);
        write!(
            f,
            "group {} at sector {}: opening {}, {} bytes, written {seconds}.{nanos:09}, \
             durable {}, crc {:08x}",
            self.nr, self.sector, self.epoch, self.bytes, self.durable, self.crc
        )?;
        for Cursor { slink, covered } in &self.cursors {
            write!(f, ", site {slink} {covered}")?;
        }
        self.entries.iter().try_for_each(|entry| write!(f, "\n  {entry}"))
    }
}

impl fmt::Display for EntryLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seq, dev, op, sector, sectors, .. } = self;
        if let Some(text) = &self.text {
            return write!(f, "{seq}: bookmark: {text}");
        }
        write!(f, "{seq}: device {dev} {op} {sectors} sectors at {sector}")?;
        if let (Some(payload), Some(crc)) = (self.payload_sector, self.crc) {
            write!(f, ", data at sector {payload}, crc {crc:08x}")?;
        }
        f.write_str(if self.fua { ", fua" } else { "" })
    }
}
