//! The disk of a dirty log: what has to be written, in which order, and what that proves.
//!
//! Work is done in rounds: the blocks that were marked since the last round are
//! written, several at a time, and then the disk is flushed once for all of them. So a
//! mark waits for two rounds at most, whatever else is going on, and no block is
//! ever in two writes at once. Clears go along with the marks of their block. If there
//! are none they make rounds of their own, which need no flush: a region that a crash
//! makes dirty again is copied once more. These rounds are rare, and end for a mark.
//!
//! Whoever reads what a dead daemon wrote may read it from a cache that a power cut
//! empties. So a load, too, ends with a flush before anything counts as settled (I7).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use blk::{BLOCK_BYTES, BufMut, DiskId, DiskOp, Errno, Gather, Sectors};

use crate::format::{Block, Bypassed, Identity};
use crate::image::Image;
use crate::{Ask, Spec};

/// What a disk has to remember, and how far that is done.
#[derive(Clone, Debug)]
pub(crate) struct Media {
    disk: Option<DiskId>,
    identity: Identity,
    image: Image,
    /// What its first block is to say of a lost log.
    bypassed: Option<Bypassed>,
    /// Blocks whose marks are in no write yet.
    marked: BTreeSet<usize>,
    /// Blocks that could say of more regions that they are clean.
    cleared: BTreeSet<usize>,
    /// How many regions that is, since the last round for them.
    clears: usize,
    phase: Phase,
    /// The disk is there, and large enough.
    is_fit: bool,
    /// A block was read that can't be believed.
    doubted: bool,
    /// What is in flight was given up.
    hangs: bool,
    /// Counts what makes I/O in flight pointless; such I/O is still waited for.
    era: u64,
    in_flight: BTreeMap<u64, Io>,
    next_nr: u64,
}

#[derive(Clone, Debug)]
enum Phase {
    /// No session yet.
    Off,
    /// Nothing of it counts.
    Failed(Errno),
    /// Blocks to be read.
    Load(Vec<Range<usize>>),
    Idle,
    /// Blocks to be written, and whether a flush follows.
    Write {
        blocks: BTreeSet<usize>,
        flush: bool,
    },
    Flush,
}

#[derive(Clone, Debug)]
struct Io {
    era: u64,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Read(Range<usize>),
    Write,
    Flush,
}

/// What a read brought: regions that the disk calls dirty, or must be taken for dirty.
pub(crate) type Dirty = Vec<Range<usize>>;

impl Media {
    /// Of a disk that is too small, or not there, nothing is ever asked.
    pub(crate) fn new(identity: Identity, disk: Option<(DiskId, Sectors)>) -> Self {
        let phase = match disk {
            None | Some((_, Sectors(0))) => Phase::Failed(Errno::ENODEV),
            Some((_, size)) if size < identity.disk_sectors() => Phase::Failed(Errno::ENOSPC),
            Some(_) => Phase::Off,
        };
        Self {
            disk: disk.map(|(id, _)| id),
            identity,
            image: Image::new(identity.regions()),
            bypassed: None,
            marked: BTreeSet::new(),
            cleared: BTreeSet::new(),
            clears: 0,
            is_fit: matches!(phase, Phase::Off),
            phase,
            doubted: false,
            hangs: false,
            era: 0,
            in_flight: BTreeMap::new(),
            next_nr: 0,
        }
    }

    /// The disk was opened afresh, and has this size. What failed stays so until a session
    /// begins.
    pub(crate) fn found(&mut self, size: Sectors) {
        self.is_fit = self.disk.is_some() && size >= self.identity.disk_sectors();
        if !self.is_fit {
            // What is in flight does not make it good.
            self.era += 1;
            self.phase = Phase::Failed(Errno::ENOSPC);
        }
    }

    pub(crate) fn disk(&self) -> Option<DiskId> {
        self.disk
    }

    pub(crate) fn failure(&self) -> Option<Errno> {
        match self.phase {
            Phase::Failed(errno) => Some(errno),
            Phase::Off | Phase::Load(_) | Phase::Idle | Phase::Write { .. } | Phase::Flush => None,
        }
    }

    pub(crate) fn is_loading(&self) -> bool {
        matches!(self.phase, Phase::Load(_))
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.marked.is_empty()
            && matches!(self.phase, Phase::Idle | Phase::Write { flush: false, .. })
    }

    /// Whether a block was read since that can't be believed.
    pub(crate) fn take_doubt(&mut self) -> bool {
        std::mem::take(&mut self.doubted)
    }

    /// The device has grown: what the disk says is of another dirty log, and a session that is
    /// under way is written anew.
    pub(crate) fn grow(&mut self, spec: &Spec) {
        (self.identity.len, self.identity.region) = (spec.len, spec.region);
        self.image = Image::new(self.identity.regions());
        self.era += 1;
        self.marked.clear();
        self.cleared.clear();
        self.clears = 0;
        let size = spec.disk.map_or(Sectors(0), |(_, size)| size);
        let has_session = !matches!(self.phase, Phase::Off | Phase::Failed(_));
        if self.is_fit && size < self.identity.disk_sectors() {
            self.is_fit = false;
            self.phase = Phase::Failed(Errno::ENOSPC);
        } else if has_session {
            self.marked = (0..self.image.blocks()).collect();
            self.phase = Phase::Idle;
        }
    }

    // ---- what memory says

    pub(crate) fn mark(&mut self, regions: Range<usize>) {
        self.marked.extend(self.image.mark(regions));
    }

    /// The first block is to say so, whatever else it says and for whatever session.
    pub(crate) fn bypass(&mut self, bypassed: Bypassed) {
        if self.bypassed != Some(bypassed) {
            self.bypassed = Some(bypassed);
            self.image.outdate(0);
            self.marked.insert(0);
        }
    }

    pub(crate) fn clear(&mut self, region: usize) {
        if let Some(block) = self.image.clear(region) {
            self.cleared.insert(block);
            self.clears += 1;
        }
    }

    // ---- sessions

    /// All blocks are to be written for a new session.
    pub(crate) fn begin(&mut self, log: uuid::Uuid, session: u64) {
        if self.start(log, session) {
            self.marked = (0..self.image.blocks()).collect();
            self.phase = Phase::Idle;
        }
    }

    /// All blocks are to be read; `false`: there is nothing to read from.
    pub(crate) fn load(&mut self, log: uuid::Uuid, session: u64) -> bool {
        let starts = self.start(log, session);
        if starts {
            self.marked = (0..self.image.blocks()).collect();
            let chunks = (0..self.image.blocks()).step_by(BLOCKS_PER_IO).rev();
            let end = |start| self.image.blocks().min(start + BLOCKS_PER_IO);
            self.phase = Phase::Load(chunks.map(|start| start..end(start)).collect());
        }
        starts
    }

    fn start(&mut self, log: uuid::Uuid, session: u64) -> bool {
        if self.hangs || !self.is_fit {
            return false;
        }
        (self.identity.log, self.identity.session) = (log, session);
        self.era += 1;
        self.image.forget();
        self.cleared.clear();
        self.clears = 0;
        true
    }

    /// What is in flight may never end, or end late and undo what a later session wrote: so
    /// until it has ended there is none (I15).
    pub(crate) fn give_up(&mut self, errno: Errno) {
        self.hangs |= !self.in_flight.is_empty();
        self.fail(errno);
    }

    fn fail(&mut self, errno: Errno) {
        self.era += 1;
        if self.is_fit {
            self.phase = Phase::Failed(errno);
        }
    }

    // ---- I/O

    /// The next I/O; `is_clean`: memory has nothing dirty.
    pub(crate) fn poll(&mut self, is_clean: bool) -> Option<Ask> {
        if self.in_flight.values().any(|io| io.era != self.era) {
            return None;
        }
        while self.in_flight.len() < IN_FLIGHT_MAX {
            let ask = match &self.phase {
                Phase::Off | Phase::Failed(_) | Phase::Flush => return None,
                Phase::Idle => None,
                Phase::Load(_) => self.next_read(),
                Phase::Write { .. } => self.next_write(),
            };
            if ask.is_some() || !self.in_flight.is_empty() {
                return ask;
            }
            match self.phase {
                Phase::Write { flush: true, .. } => return Some(self.flush()),
                Phase::Write { flush: false, .. } => self.phase = Phase::Idle,
                _ if !self.marked.is_empty() => self.begin_round(true),
                _ if self.is_worth_clearing(is_clean) => self.begin_round(false),
                _ => return None,
            }
        }
        None
    }

    fn next_read(&mut self) -> Option<Ask> {
        let Phase::Load(chunks) = &mut self.phase else { return None };
        let chunk = chunks.pop()?;
        Some(self.read(chunk))
    }

    fn next_write(&mut self) -> Option<Ask> {
        let Phase::Write { blocks, flush } = &mut self.phase else { return None };
        if !*flush && !self.marked.is_empty() && !blocks.is_empty() {
            // Marks come first; these go along with them, or come later.
            self.cleared.append(blocks);
            self.clears = CLEARS_MAX;
        }
        let run = next_run(blocks, &self.image)?;
        Some(self.write(run))
    }

    fn begin_round(&mut self, flush: bool) {
        let from = if flush { &mut self.marked } else { &mut self.cleared };
        self.phase = Phase::Write { blocks: std::mem::take(from), flush };
        if !flush {
            self.clears = 0;
        }
    }

    fn is_worth_clearing(&self, is_clean: bool) -> bool {
        let enough = (self.image.regions() / CLEARS_SHARE).clamp(1, CLEARS_MAX);
        !self.cleared.is_empty() && (is_clean || self.clears >= enough)
    }

    fn read(&mut self, blocks: Range<usize>) -> Ask {
        let buf = BufMut::zeroed(blocks.len() * BLOCK_BYTES);
        let sector = Block::sector(blocks.start as u64);
        self.ask(What::Read(blocks), DiskOp::Read { sector, buf })
    }

    fn write(&mut self, blocks: Range<usize>) -> Ask {
        let sector = Block::sector(blocks.start as u64);
        let mut buf = BufMut::zeroed(blocks.len() * BLOCK_BYTES);
        for (block, to) in blocks.zip(buf.chunks_exact_mut(BLOCK_BYTES)) {
            // What was marked up to now goes along.
            self.marked.remove(&block);
            self.cleared.remove(&block);
            let bypassed = self.bypassed.filter(|_| block == 0);
            Block { bypassed, ..self.image.ask(&self.identity, block) }.encode(to);
        }
        let data: Gather = [buf.freeze()].into_iter().collect();
        self.ask(What::Write, DiskOp::Write { sector, data, fua: false })
    }

    fn flush(&mut self) -> Ask {
        self.phase = Phase::Flush;
        self.ask(What::Flush, DiskOp::Flush)
    }

    fn ask(&mut self, what: What, op: DiskOp) -> Ask {
        self.next_nr += 1;
        self.in_flight.insert(self.next_nr, Io { era: self.era, what });
        Ask { nr: self.next_nr, op }
    }

    /// An I/O has ended; what it says to be dirty.
    pub(crate) fn done(
        &mut self,
        nr: u64,
        result: Result<(), Errno>,
        buf: Option<BufMut>,
    ) -> Dirty {
        let io = self.in_flight.remove(&nr).expect("every I/O that ends was asked for, once");
        self.hangs &= !self.in_flight.is_empty();
        if io.era != self.era {
            return Dirty::new();
        }
        match (io.what, result) {
            (What::Read(blocks), result) => return self.read_done(blocks, result, buf),
            (What::Write | What::Flush, Err(errno)) => self.fail(errno),
            (What::Write, Ok(())) => {}
            (What::Flush, Ok(())) => self.phase = Phase::Idle,
        }
        Dirty::new()
    }

    fn read_done(
        &mut self,
        blocks: Range<usize>,
        result: Result<(), Errno>,
        buf: Option<BufMut>,
    ) -> Dirty {
        let dirty = match (result, buf) {
            (Ok(()), Some(bytes)) => self.loaded(blocks, &bytes),
            (Ok(()), None) | (Err(_), _) => self.not_loaded(blocks),
        };
        if self.in_flight.is_empty() && matches!(&self.phase, Phase::Load(left) if left.is_empty())
        {
            self.begin_round(true);
        }
        dirty
    }

    fn loaded(&mut self, blocks: Range<usize>, bytes: &[u8]) -> Dirty {
        let mut dirty = Dirty::new();
        let (is_first, said) = (blocks.start == 0, Bypassed::decode(bytes));
        if is_first {
            // It stays there when the block is written anew.
            self.bypassed = self.bypassed.or(said);
        }
        for (nr, bytes) in blocks.zip(bytes.chunks_exact(BLOCK_BYTES)) {
            match Block::decode_as(&self.identity, nr as u64, bytes) {
                Ok(block) => dirty.extend(self.image.take(&block)),
                Err(_) => {
                    self.doubted = true;
                    dirty.push(self.image.range_of(nr));
                }
            }
        }
        if is_first && self.bypassed != said {
            // It says nothing of that, or of an earlier loss.
            self.image.outdate(0);
        }
        dirty
    }

    /// One bad sector is no reason to disbelieve its neighbours.
    fn not_loaded(&mut self, blocks: Range<usize>) -> Dirty {
        if blocks.len() == 1 {
            return vec![self.image.range_of(blocks.start)];
        }
        if let Phase::Load(chunks) = &mut self.phase {
            chunks.extend(blocks.map(|block| block..block + 1));
        }
        Dirty::new()
    }
}

/// The next neighbours among `blocks` that have something to say.
fn next_run(blocks: &mut BTreeSet<usize>, image: &Image) -> Option<Range<usize>> {
    let start = loop {
        let block = blocks.pop_first()?;
        if image.is_changed(block) {
            break block;
        }
    };
    let mut end = start + 1;
    while end - start < BLOCKS_PER_IO && blocks.contains(&end) && image.is_changed(end) {
        blocks.remove(&end);
        end += 1;
    }
    Some(start..end)
}

/// I/Os of one dirty log at a time (I10).
const IN_FLIGHT_MAX: usize = 8;
/// 128 KiB.
const BLOCKS_PER_IO: usize = 32;
/// Clears are written when they are this part of all regions…
const CLEARS_SHARE: usize = 32;
/// …or so many.
const CLEARS_MAX: usize = 1024;
