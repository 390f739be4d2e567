//! What a cut takes away: everything behind the damage that can still be recognised.

use blk::{BLOCK_BYTES, Sector, Seq};
use serde::Serialize;

use super::LogReader;
use super::dump::op_name;
use super::walk::Ring;
use crate::format::crc::crc32c;
use crate::format::group::{Cursor, Entry, GroupHeader};
use crate::format::superblock::{Anchor, Superblock};
use crate::geometry::{Geometry, RingPos};
use crate::scan::CHUNK_BYTES;

/// What a cut takes away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lost {
    /// The first write that is lost.
    pub first_seq: u64,
    /// The last one that is known to have been in the log.
    pub last_seq: u64,
    /// Those that can still be recognised; of the others nothing is known but their number.
    pub writes: Vec<LostWrite>,
}

/// A write that is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct LostWrite {
    /// Its number.
    pub seq: u64,
    /// The device.
    pub dev: u32,
    /// What was asked.
    pub op: &'static str,
    /// First sector on the device.
    pub sector: u64,
    /// Sectors on the device.
    pub sectors: u64,
    /// Its data is still whole on the log device, at this sector.
    pub intact_at: Option<u64>,
}

/// What a walk over the whole ring found.
pub(super) struct Survey {
    pub(super) lost: Lost,
    /// The highest opening that any header of this log names.
    pub(super) epoch_max: u64,
    /// How far the sites were, as headers behind the damage say.
    pub(super) cursors: Vec<Cursor>,
}

/// Looks at every block of the ring, from the end of the last good group on.
pub(super) fn survey(
    reader: &mut dyn LogReader,
    sb: &Superblock,
    geometry: Geometry,
    before: &Anchor,
) -> Survey {
    let mut seeker = Seeker::new(sb, &geometry, before);
    let mut ring = Ring::new(reader, geometry);
    let mut pos = before.pos;
    let end = pos.plus(geometry.ring_bytes());
    while pos < end {
        let len = CHUNK_BYTES.min(geometry.to_lap_end(pos)).min(end.since(pos));
        let chunk = ring.read(pos, len).to_vec();
        for block in chunk.chunks(BLOCK_BYTES) {
            let header = GroupHeader::decode(block).ok();
            if let Some((header, _)) = header.filter(|(header, _)| header.log == sb.log()) {
                seeker.look(&mut ring, &geometry, pos, &header);
            }
            pos = pos.plus(block.len() as u64);
        }
    }
    seeker.finish(sb)
}

struct Seeker {
    epoch: u64,
    epoch_first_group: u64,
    epoch_max: u64,
    /// Live groups are not before these.
    next: (RingPos, u64, Seq, u64),
    lap_end: RingPos,
    lost: Lost,
    cursors: Vec<Cursor>,
}

impl Seeker {
    fn new(sb: &Superblock, geometry: &Geometry, before: &Anchor) -> Self {
        let seq = before.seq.next();
        Self {
            epoch: sb.epoch,
            epoch_first_group: sb.epoch_first_group,
            epoch_max: sb.epoch,
            next: (before.pos, before.group + 1, seq, before.epoch),
            lap_end: sb.head.pos.plus(geometry.ring_bytes()),
            cursors: vec![],
            lost: Lost { first_seq: seq.0, last_seq: seq.0, writes: vec![] },
        }
    }

    fn look(
        &mut self,
        ring: &mut Ring<'_>,
        geometry: &Geometry,
        pos: RingPos,
        header: &GroupHeader,
    ) {
        self.epoch_max = self.epoch_max.max(header.epoch);
        if !self.is_live(pos, header, geometry) {
            return;
        }
        // A mark in a header outlives the writes that it speaks of.
        self.lost.last_seq = self.lost.last_seq.max(header.durable.0);
        let end = pos.plus(header.bytes.into());
        self.next = (end, header.nr + 1, header.next_seq(), header.epoch);
        self.cursors.extend(&header.cursors);
        for (seq, entry) in header.numbered() {
            self.lost.last_seq = self.lost.last_seq.max(seq.0);
            self.lost.writes.push(write(ring, geometry, pos, seq, entry));
        }
    }

    /// Whether a header may be of a group behind the damage: no dead one, none of an
    /// earlier lap, none that is a copy in somebody's payload.
    fn is_live(&self, pos: RingPos, header: &GroupHeader, geometry: &Geometry) -> bool {
        let (from, nr, seq, epoch) = self.next;
        let is_present = header.nr >= self.epoch_first_group;
        let epoch_fits = if is_present {
            header.epoch >= self.epoch
        } else {
            (epoch..self.epoch).contains(&header.epoch)
        };
        let bytes = u64::from(header.bytes);
        let fits = bytes <= geometry.to_lap_end(pos) && pos.plus(bytes) <= self.lap_end;
        pos >= from && header.nr >= nr && header.first_seq >= seq && epoch_fits && fits
    }

    fn finish(mut self, sb: &Superblock) -> Survey {
        self.lost.last_seq = self.lost.last_seq.max(sb.durable.0);
        Survey { lost: self.lost, epoch_max: self.epoch_max, cursors: self.cursors }
    }
}

fn write(
    ring: &mut Ring<'_>,
    geometry: &Geometry,
    group: RingPos,
    seq: Seq,
    entry: &Entry,
) -> LostWrite {
    LostWrite {
        seq: seq.0,
        dev: entry.dev.0,
        op: op_name(entry.op),
        sector: entry.sector.0,
        sectors: entry.len.0,
        intact_at: intact_at(ring, geometry, group, entry).map(|sector| sector.0),
    }
}

/// Where the data of an entry lies, if it is what was written.
fn intact_at(
    ring: &mut Ring<'_>,
    geometry: &Geometry,
    group: RingPos,
    entry: &Entry,
) -> Option<Sector> {
    let range = entry.payload_range()?;
    // Reads have whole blocks; payloads begin and end at sectors.
    let (first, end) =
        (range.start / BLOCK_BYTES * BLOCK_BYTES, range.end.next_multiple_of(BLOCK_BYTES));
    let blocks = ring.read(group.plus(first as u64), (end - first) as u64);
    let is_intact = crc32c(&blocks[range.start - first..range.end - first]) == entry.crc;
    is_intact.then(|| geometry.sector(group) + entry.payload)
}
