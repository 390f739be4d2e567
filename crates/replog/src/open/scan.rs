//! The scan of an opening: chunks are read ahead and fed in the order of the ring.

use std::collections::VecDeque;

use blk::{Buf, BufMut};

use crate::format::superblock::Superblock;
use crate::geometry::{Geometry, RingPos};
use crate::open::asked::Asked;
use crate::scan::{Damage, ScannedGroup, Scanner, Step, Tip};

#[derive(Debug)]
pub(super) struct Scan {
    pub(super) superblock: Superblock,
    pub(super) geometry: Geometry,
    scanner: Scanner,
    /// Chunks in the order of the ring; fed from the front, as they come in.
    chunks: VecDeque<Chunk>,
    next_chunk: u64,
    pub(super) groups: Vec<ScannedGroup>,
    pub(super) bytes: u64,
}

#[derive(Debug)]
struct Chunk {
    nr: u64,
    pos: RingPos,
    read: Option<Buf>,
}

impl Scan {
    pub(super) fn new(superblock: Superblock, geometry: Geometry) -> Self {
        Self {
            scanner: Scanner::new(&superblock, geometry).read_ahead(CHUNKS_AHEAD),
            superblock,
            geometry,
            chunks: VecDeque::new(),
            next_chunk: 0,
            groups: Vec::new(),
            bytes: 0,
        }
    }

    pub(super) fn read_on(&mut self, asked: &mut Asked<'_>) {
        loop {
            while let Some(Chunk { read: Some(_), .. }) = self.chunks.front() {
                let chunk = self.chunks.pop_front().expect("looked at");
                let read = chunk.read.expect("looked at");
                self.bytes += read.len() as u64;
                self.scanner.feed(chunk.pos, &read);
            }
            match self.scanner.step() {
                Step::Read { pos, len } => {
                    let nr = self.next_chunk;
                    self.next_chunk += 1;
                    self.chunks.push_back(Chunk { nr, pos, read: None });
                    asked.read(nr, self.geometry.sector(pos), len);
                }
                Step::Group(group) => self.groups.push(group),
                Step::Wait | Step::End(_) | Step::Damage(_) => return,
            }
        }
    }

    pub(super) fn arrived(&mut self, nr: u64, buf: BufMut) {
        let chunk = self.chunks.iter_mut().find(|chunk| chunk.nr == nr);
        chunk.expect("a chunk arrives once").read = Some(buf.freeze());
    }

    /// The end of the scan. Reads on their way are waited for by `outcome`.
    pub(super) fn take_verdict(&mut self) -> Option<Result<Tip, Box<Damage>>> {
        match self.scanner.step() {
            Step::End(tip) => Some(Ok(tip)),
            Step::Damage(damage) => Some(Err(damage)),
            Step::Wait => None,
            Step::Read { .. } | Step::Group(_) => unreachable!("read_on goes on until it waits"),
        }
    }
}

const CHUNKS_AHEAD: usize = 4;
