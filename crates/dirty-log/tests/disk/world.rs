//! A disk with a cache, and a dirty log on it that is driven by hand.

use blk::{BufMut, DevNr, DiskId, DiskOp, Errno, Sector, Sectors, SlinkNr};
use dirty_log::format::{Block, Identity, REGIONS_PER_BLOCK};
use dirty_log::{Ask, DirtyLog, Spec};
use uuid::Uuid;

pub(crate) const LOG: Uuid = Uuid::from_u128(0x0f1e_2d3c_4b5a_4978_8796_a5b4_c3d2_e1f0);
pub(crate) const BLOCK: usize = 4096;

/// A device of this many blocks of bits, a sector to a region; the last block is short.
pub(crate) fn spec(blocks: u64) -> Spec {
    let len = Sectors(REGIONS_PER_BLOCK * (blocks - 1) + 70);
    let disk = Some((DiskId(9), Sectors(8 * blocks)));
    Spec { dev: DevNr(3), slink: SlinkNr(2), len, region: Sectors(1), disk }
}

pub(crate) fn identity(spec: &Spec, session: u64) -> Identity {
    let Spec { dev, slink, len, region, .. } = *spec;
    Identity { log: LOG, session, dev, slink, len, region }
}

/// A disk that loses what it was not told to flush.
#[derive(Clone)]
pub(crate) struct Disk {
    pub(crate) stable: Vec<Vec<u8>>,
    /// What was written to each block since the last flush, the newest last.
    pub(crate) cache: Vec<Vec<Vec<u8>>>,
}

impl Disk {
    pub(crate) fn new(blocks: usize) -> Self {
        Self { stable: vec![vec![0; BLOCK]; blocks], cache: vec![vec![]; blocks] }
    }

    /// What a read finds.
    pub(crate) fn block(&self, nr: usize) -> &[u8] {
        self.cache[nr].last().unwrap_or(&self.stable[nr])
    }

    pub(crate) fn write(&mut self, at: usize, bytes: &[u8]) {
        for (i, block) in bytes.chunks_exact(BLOCK).enumerate() {
            self.cache[at + i].push(block.to_vec());
        }
    }

    pub(crate) fn flush(&mut self) {
        for (stable, cache) in self.stable.iter_mut().zip(&mut self.cache) {
            if let Some(newest) = cache.pop() {
                *stable = newest;
            }
            cache.clear();
        }
    }
}

/// A write or a flush that was asked for and has not ended.
pub(crate) struct Flight {
    pub(crate) nr: u64,
    pub(crate) op: DiskOp,
}

/// A dirty log and its disk.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) spec: Spec,
    pub(crate) log: DirtyLog,
    pub(crate) disk: Disk,
    pub(crate) flights: Vec<Flight>,
}

impl Clone for Flight {
    fn clone(&self) -> Self {
        let op = match &self.op {
            DiskOp::Write { sector, data, fua } => {
                DiskOp::Write { sector: *sector, data: data.clone(), fua: *fua }
            }
            DiskOp::Read { sector, buf } => {
                DiskOp::Read { sector: *sector, buf: BufMut::zeroed(buf.len()) }
            }
            DiskOp::Flush => DiskOp::Flush,
            DiskOp::WriteZeroes { .. } => panic!("a dirty log writes no zeroes"),
        };
        Self { nr: self.nr, op }
    }
}

impl World {
    /// An empty disk, and a dirty log of as many blocks that knows of no session yet.
    pub(crate) fn new(blocks: u64) -> Self {
        let spec = spec(blocks);
        let log = dirty_log::disk(spec.clone());
        Self { log, spec, disk: Disk::new(blocks as usize), flights: vec![] }
    }

    /// A session whose blocks are all on stable media.
    pub(crate) fn begun(blocks: u64, session: u64) -> Self {
        let mut world = Self::new(blocks);
        world.log.begin(LOG, session);
        world.settle();
        world
    }

    /// The next process: memory is gone, what was in flight has ended, the cache is as it was.
    pub(crate) fn restart(&mut self) {
        while !self.flights.is_empty() {
            self.end(0, Ok(()));
        }
        self.log = dirty_log::disk(self.spec.clone());
    }

    /// Loads, up to the end of the last read.
    pub(crate) fn load(&mut self, session: u64) {
        self.log.load(LOG, session);
        while self.log.is_loading() {
            if !self.poll() {
                self.end(0, Ok(()));
            }
        }
    }

    /// Asks for one I/O.
    pub(crate) fn poll(&mut self) -> bool {
        let Some(Ask { nr, op }) = self.log.poll() else { return false };
        self.check(&op);
        self.flights.push(Flight { nr, op });
        true
    }

    /// One write of a block at a time, a flush alone, and few of all together.
    fn check(&self, op: &DiskOp) {
        assert!(self.flights.len() < 8);
        for flight in &self.flights {
            match (blocks(op), blocks(&flight.op)) {
                (Some(a), Some(b)) => assert!(a.end <= b.start || b.end <= a.start),
                (None, _) | (_, None) => panic!("a flush beside {:?}", flight.op),
            }
        }
        if let Some(blocks) = blocks(op) {
            assert!(blocks.end <= self.disk.stable.len(), "{blocks:?} is not on the disk");
        }
    }

    /// Ends an I/O that was asked for; only what went well has happened.
    pub(crate) fn end(&mut self, index: usize, result: Result<(), Errno>) {
        let Flight { nr, op } = self.flights.remove(index);
        let read = result.is_ok().then(|| self.carry_out(op)).flatten();
        self.log.done(nr, result, read);
    }

    pub(crate) fn carry_out(&mut self, op: DiskOp) -> Option<BufMut> {
        let range = blocks(&op);
        match op {
            DiskOp::Read { mut buf, .. } => {
                for (nr, to) in range.unwrap().zip(buf.chunks_exact_mut(BLOCK)) {
                    to.copy_from_slice(self.disk.block(nr));
                }
                return Some(buf);
            }
            DiskOp::Write { data, .. } => self.disk.write(range.unwrap().start, &bytes_of(&data)),
            DiskOp::Flush => self.disk.flush(),
            DiskOp::WriteZeroes { .. } => panic!("a dirty log writes no zeroes"),
        }
        None
    }

    /// All I/O there is, one after the other.
    pub(crate) fn run(&mut self) -> usize {
        let mut ended = 0;
        while self.poll() || !self.flights.is_empty() {
            self.end(0, Ok(()));
            ended += 1;
        }
        ended
    }

    pub(crate) fn settle(&mut self) {
        self.run();
        assert!(self.log.is_settled());
    }

    pub(crate) fn mark(&mut self, sector: u64) {
        self.log.mark(Sector(sector), Sectors(1));
    }

    pub(crate) fn clear(&mut self, sector: u64) {
        self.log.clear(Sector(sector), Sectors(1));
    }

    pub(crate) fn is_dirty(&self, sector: u64) -> bool {
        self.log.is_dirty(Sector(sector), Sectors(1))
    }

    /// What a crash now may leave in a block: anything since the last flush, and tears.
    pub(crate) fn after_a_crash(&self, nr: usize) -> Vec<Vec<u8>> {
        let mut versions = vec![self.disk.stable[nr].clone()];
        versions.extend(self.disk.cache[nr].iter().cloned());
        for flight in &self.flights {
            if let (DiskOp::Write { data, .. }, Some(range)) = (&flight.op, blocks(&flight.op))
                && range.contains(&nr)
            {
                let at = (nr - range.start) * BLOCK;
                versions.push(bytes_of(data)[at..at + BLOCK].to_vec());
            }
        }
        let mut torn = vec![];
        for (older, newer) in versions.iter().zip(&versions[1..]) {
            for at in [512, 2048] {
                torn.push([&newer[..at], &older[at..]].concat());
                torn.push([&older[..at], &newer[at..]].concat());
            }
        }
        versions.extend(torn);
        versions
    }

    /// Whether a block, read for a session, says that a sector is dirty.
    pub(crate) fn says_dirty(&self, block: &[u8], session: u64, sector: u64) -> bool {
        let (nr, bit) = (sector / REGIONS_PER_BLOCK, (sector % REGIONS_PER_BLOCK) as usize);
        let block = Block::decode_as(&identity(&self.spec, session), nr, block);
        block.map_or(true, |block| block.words[bit / 64] >> (bit % 64) & 1 == 1)
    }
}

/// The blocks that an operation touches.
pub(crate) fn blocks(op: &DiskOp) -> Option<std::ops::Range<usize>> {
    let (sector, bytes) = match op {
        DiskOp::Read { sector, buf } => (sector, buf.len()),
        DiskOp::Write { sector, data, .. } => (sector, data.iter().map(|buf| buf.len()).sum()),
        DiskOp::Flush | DiskOp::WriteZeroes { .. } => return None,
    };
    assert!(sector.bytes().is_multiple_of(BLOCK as u64) && bytes.is_multiple_of(BLOCK));
    let start = sector.bytes() as usize / BLOCK;
    Some(start..start + bytes / BLOCK)
}

fn bytes_of(data: &[blk::Buf]) -> Vec<u8> {
    data.iter().flat_map(|buf| buf.to_vec()).collect()
}
