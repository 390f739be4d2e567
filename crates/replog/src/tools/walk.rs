//! Drives a scan over a reader. Blocks that can't be read count as zeroes, and are
//! remembered.

use blk::{BLOCK_BYTES, Sector, Sectors};

use super::LogReader;
use super::report::Span;
use crate::format::superblock::Superblock;
use crate::geometry::{Geometry, RingPos};
use crate::scan::{Damage, ScannedGroup, Scanner, Step, Tip};

/// How a walk ended.
pub(super) struct Walked {
    pub(super) end: Result<Tip, Box<Damage>>,
    pub(super) unreadable: Vec<Span>,
}

/// Scans a log and shows every group that counts, with its bytes.
pub(super) fn walk(
    reader: &mut dyn LogReader,
    sb: &Superblock,
    geometry: Geometry,
    visit: &mut dyn FnMut(&ScannedGroup, &[u8]),
) -> Walked {
    let mut scanner = Scanner::new(sb, geometry);
    let mut ring = Ring::new(reader, geometry);
    let end = loop {
        match scanner.step() {
            Step::Read { pos, len } => scanner.feed(pos, ring.read(pos, len)),
            Step::Group(group) => visit(&group, scanner.bytes()),
            Step::End(tip) => break Ok(tip),
            Step::Damage(damage) => break Err(damage),
            Step::Wait => unreachable!("every read was fed at once"),
        }
    };
    Walked { end, unreadable: ring.unreadable }
}

/// The ring of a log, read piece by piece.
pub(super) struct Ring<'a> {
    reader: &'a mut dyn LogReader,
    geometry: Geometry,
    buf: Vec<u8>,
    pub(super) unreadable: Vec<Span>,
}

impl<'a> Ring<'a> {
    pub(super) fn new(reader: &'a mut dyn LogReader, geometry: Geometry) -> Self {
        Self { reader, geometry, buf: Vec::new(), unreadable: Vec::new() }
    }

    /// `len` bytes at `pos`, whole blocks within one lap.
    pub(super) fn read(&mut self, pos: RingPos, len: u64) -> &[u8] {
        let sector = self.geometry.sector(pos);
        self.buf.resize(usize::try_from(len).expect("a chunk fits in memory"), 0);
        if self.reader.read(sector, &mut self.buf).is_err() {
            self.read_blocks(sector);
        }
        &self.buf
    }

    fn read_blocks(&mut self, first: Sector) {
        for (i, block) in self.buf.chunks_mut(BLOCK_BYTES).enumerate() {
            let sector = first + Sectors::from_bytes((i * BLOCK_BYTES) as u64);
            if self.reader.read(sector, block).is_err() {
                block.fill(0);
                Span::extend(&mut self.unreadable, sector, BLOCK);
            }
        }
    }
}

const BLOCK: Sectors = Sectors((BLOCK_BYTES / blk::SECTOR_BYTES) as u64);
