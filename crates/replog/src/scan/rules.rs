//! When a group counts (I1): everything that its header says about itself, its
//! place, its predecessor and its payloads agrees with what is there.

use blk::{BLOCK_BYTES, DevNr, Sector, Sectors, Seq};

use crate::format::crc::crc32c;
use crate::format::group::{GroupHeader, HeaderError};
use crate::format::superblock::{Anchor, Superblock};
use crate::geometry::{Geometry, RingPos};

/// Why a group does not count: the first thing that does not agree.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No header, or not a whole one.
    #[error("{0}")]
    Header(#[from] HeaderError),
    /// The header of another log.
    #[error("a group of log {found:016x} stands here, this is log {expected:016x}")]
    OtherLog {
        /// First half of this log's UUID.
        expected: u64,
        /// What the header names.
        found: u64,
    },
    /// The header of another opening: a dead group.
    #[error("group {nr} is of opening {found}, expected {} to {}", expected.0, expected.1)]
    Epoch {
        /// Number of the group found.
        nr: u64,
        /// Lowest and highest opening that it might belong to.
        expected: (u64, u64),
        /// What the header names.
        found: u64,
    },
    /// The header of another group, of an earlier lap for instance.
    #[error("group {expected} expected, group {found} found")]
    Number {
        /// The next number.
        expected: u64,
        /// What the header names.
        found: u64,
    },
    /// A hole in the numbers of writes.
    #[error("write {expected} expected next, write {found} found")]
    FirstSeq {
        /// The next number.
        expected: Seq,
        /// What the header names.
        found: Seq,
    },
    /// The group before is not the one that this was written behind.
    #[error("the group before has checksum {expected:08x}, this one follows {found:08x}")]
    Chain {
        /// Checksum of the group before.
        expected: u32,
        /// What the header names.
        found: u32,
    },
    /// A length that does not fit its place.
    #[error("the group has {found} bytes, there is room for {room}")]
    Bytes {
        /// What the header says.
        found: u32,
        /// The most there may be.
        room: u64,
    },
    /// An empty group is one block, or all that is left of its lap.
    #[error("the group without writes has {found} bytes, 4096 or {to_lap_end} expected")]
    Pad {
        /// What the header says.
        found: u32,
        /// Bytes that are left.
        to_lap_end: u64,
    },
    /// Data that is not what was written.
    #[error(
        "payload checksum of write {seq} (device {dev}, sector {sector}, {len} sectors) is \
         {computed:08x}, expected {stored:08x}"
    )]
    Payload {
        /// Number of the write.
        seq: Seq,
        /// Its device.
        dev: DevNr,
        /// First sector on the device.
        sector: Sector,
        /// Sectors on the device.
        len: Sectors,
        /// What the header says.
        stored: u32,
        /// What the bytes give.
        computed: u32,
    },
}

/// What holds for all groups of one scan.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) log: u64,
    pub(super) epoch: u64,
    pub(super) epoch_first_group: u64,
    pub(super) durable: Seq,
    pub(super) geometry: Geometry,
    head: RingPos,
}

impl Rules {
    pub(super) fn new(sb: &Superblock, geometry: Geometry) -> Self {
        Self {
            log: sb.log(),
            epoch: sb.epoch,
            epoch_first_group: sb.epoch_first_group,
            durable: sb.durable,
            geometry,
            head: sb.head.pos,
        }
    }

    /// Where the log bites its tail.
    pub(super) fn lap_end(&self) -> RingPos {
        self.head.plus(self.geometry.ring_bytes())
    }

    /// How far a proof for a group at `pos` is searched: the header that knows of its
    /// durability was written when no more than that was not known to be durable.
    /// A pad may lie between, and the header itself behind.
    pub(super) fn search_end(&self, pos: RingPos) -> RingPos {
        let far = self.geometry.unproven_bytes_max() + 2 * self.geometry.group_bytes_max();
        pos.plus(far).min(self.lap_end())
    }

    /// The header of the group behind `before`, if `block` is one.
    pub(super) fn header(
        &self,
        before: &Anchor,
        block: &[u8],
    ) -> Result<(GroupHeader, u32), Fault> {
        let (header, crc) = GroupHeader::decode(block)?;
        self.check_identity(before, &header)?;
        check_succession(before, &header)?;
        self.check_bytes(before.pos, &header)?;
        Ok((header, crc))
    }

    fn check_identity(&self, before: &Anchor, header: &GroupHeader) -> Result<(), Fault> {
        if header.log != self.log {
            return Err(Fault::OtherLog { expected: self.log, found: header.log });
        }
        let expected = self.epochs(before);
        if !(expected.0..=expected.1).contains(&header.epoch) {
            let nr = header.nr;
            return Err(Fault::Epoch { nr, expected, found: header.epoch });
        }
        Ok(())
    }

    /// The openings that may have written the group behind `before`. They never go
    /// back (F3), and where the newest began, nothing older lives on.
    fn epochs(&self, before: &Anchor) -> (u64, u64) {
        if before.group + 1 >= self.epoch_first_group {
            (self.epoch, self.epoch)
        } else {
            (before.epoch, self.epoch.saturating_sub(1))
        }
    }

    fn check_bytes(&self, pos: RingPos, header: &GroupHeader) -> Result<(), Fault> {
        let found = header.bytes;
        let to_lap_end = self.geometry.to_lap_end(pos);
        let to_head = self.lap_end().since(pos);
        let is_one_block = found as usize == BLOCK_BYTES;
        if header.is_pad() && !is_one_block && u64::from(found) != to_lap_end {
            return Err(Fault::Pad { found, to_lap_end });
        }
        let longest = if header.is_pad() { to_lap_end } else { self.geometry.group_bytes_max() };
        let room = longest.min(to_lap_end).min(to_head);
        if u64::from(found) > room {
            return Err(Fault::Bytes { found, room });
        }
        Ok(())
    }
}

fn check_succession(before: &Anchor, header: &GroupHeader) -> Result<(), Fault> {
    let (nr, seq) = (before.group + 1, before.seq.next());
    if header.nr != nr {
        return Err(Fault::Number { expected: nr, found: header.nr });
    }
    if header.first_seq != seq {
        return Err(Fault::FirstSeq { expected: seq, found: header.first_seq });
    }
    if header.prev_crc != before.crc {
        return Err(Fault::Chain { expected: before.crc, found: header.prev_crc });
    }
    Ok(())
}

/// Whether the payloads of `header` in `group` are what was written (P11).
pub(super) fn check_payloads(header: &GroupHeader, group: &[u8]) -> Result<(), Fault> {
    for (seq, entry) in header.numbered() {
        let Some(range) = entry.payload_range() else { continue };
        let computed = crc32c(&group[range]);
        if computed != entry.crc {
            let (dev, sector, len, stored) = (entry.dev, entry.sector, entry.len, entry.crc);
            return Err(Fault::Payload { seq, dev, sector, len, stored, computed });
        }
    }
    Ok(())
}
