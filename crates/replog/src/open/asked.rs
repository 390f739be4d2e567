//! The I/O that an opening asks for.

use blk::{BLOCK_BYTES, Buf, BufMut, DiskId, DiskOp, Effect, Gather, IoId, Sector};

use crate::format::superblock::Superblock;
use crate::geometry::{Geometry, SLOTS};
use crate::log::LOG_IO;

/// Where an opening's I/O goes.
pub(super) struct Asked<'a> {
    pub(super) disk: DiskId,
    pub(super) flying: &'a mut usize,
    pub(super) effects: &'a mut Vec<Effect>,
}

impl Asked<'_> {
    pub(super) fn submit(&mut self, nr: u64, op: DiskOp) {
        *self.flying += 1;
        let io = IoId { owner: LOG_IO, nr };
        self.effects.push(Effect::Submit { io, disk: self.disk, op });
    }

    pub(super) fn read(&mut self, nr: u64, sector: Sector, bytes: u64) {
        let len = usize::try_from(bytes).expect("a chunk fits in memory");
        self.submit(nr, DiskOp::Read { sector, buf: BufMut::zeroed(len) });
    }

    /// Real zeroes: unwritten extents would cost twice or thrice at every write.
    pub(super) fn zero(&mut self, sector: Sector, rest: u64) {
        let len = usize::try_from(rest.min(ZERO_BYTES)).expect("a chunk fits in memory");
        let data = Gather::from_elem(BufMut::zeroed(len).freeze(), 1);
        let nr = sector.0;
        self.submit(nr, DiskOp::Write { sector, data, fua: false });
    }

    pub(super) fn superblock(&mut self, superblock: &Superblock, geometry: &Geometry) {
        let data = Gather::from_elem(Buf::from(&superblock.encode()[..]), 1);
        let slot = superblock.generation % SLOTS;
        self.submit(slot, DiskOp::Write { sector: geometry.slot(slot), data, fua: true });
    }
}

/// How much of a new log one write zeroes.
pub(super) const ZERO_BYTES: u64 = 256 * BLOCK_BYTES as u64;
