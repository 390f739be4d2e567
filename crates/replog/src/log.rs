//! The replication log at work: writes come in, groups go to the ring, consumers read.
//!
//! ```text
//!   reclaimed        head = min(covered)       durable     written       tip
//!  ────┼──────────────────┼───────────────────────┼───────────┼───────────┼────▶ ring
//!      │ may be reused    │ kept for the slowest  │ in cache  │ in flight │ open group
//! ```
//!
//! It knows no site link: consumers have numbers. It does no I/O: it asks for it.
//! Promises: I1 (dense numbers), I2 (`written` and `durable` are contiguous), I5 and
//! I6 (what is reused), I11 (a failed flush is never made good by another).

use std::collections::BTreeMap;

use blk::{Buf, BufMut, DevNr, DiskId, Effect, Errno, IoOwner};
use blk::{SECTOR_BYTES, Sector, Sectors, Seq, SlinkNr, Span, Time, Wall};

use crate::bookmark::Bookmark;
use crate::bypass::Bypass;
use crate::checkpoint::Checkpointing;
use crate::commit::{Launched, OpenGroup};
use crate::consumers::Consumers;
use crate::copies::{Doubt, Readable, Worth};
use crate::event::LogEvent;
use crate::format::crc::crc32c;
use crate::format::group::{CURSORS_MAX, EntryOp, GroupHeader};
use crate::format::superblock::{Anchor, Superblock};
use crate::gather::Gather;
use crate::geometry::{Geometry, RingPos};
use crate::index::{Index, Write};
use crate::overlay::Overlay;
use crate::own_io::OwnIo;
use crate::pins::Pins;
use crate::replace::{NewLog, ReplaceError, Replacing};
use crate::resize::Resize;
use crate::standing::Standing;
use crate::statistics::RingCounters;
use crate::tail::Tail;

/// The ring-buffer log of one replicator.
#[derive(Debug)]
pub struct Replog {
    pub(crate) config: Config,
    /// Where things lie on the device.
    pub(crate) geometry: Geometry,
    pub(crate) resize: Resize,
    /// The checkpoint on the log device; the next one is made from it.
    pub(crate) superblock: Superblock,
    pub(crate) index: Index,
    pub(crate) overlay: Overlay,
    pub(crate) tail: Tail,
    pub(crate) consumers: Consumers,
    pub(crate) open: Option<OpenGroup>,
    pub(crate) launched: Option<Launched>,
    pub(crate) gather: Gather,
    /// The open group waits for writers until then.
    pub(crate) held_until: Option<Time>,
    /// The end of the last group that was launched.
    pub(crate) tip: Anchor,
    pub(crate) written: Seq,
    pub(crate) written_end: Anchor,
    pub(crate) durable: Seq,
    pub(crate) durable_end: RingPos,
    /// The newest write that hid an older one in the overlay before the LD had it.
    pub(crate) superseded_by: Seq,
    /// The oldest write that shows in the overlay is not before this one.
    pub(crate) first_shown: Seq,
    /// The whole copy that the overlay is about ([`crate::copies`]).
    pub(crate) base: SlinkNr,
    /// What readers met at copies, until their links look into it.
    pub(crate) doubts: BTreeMap<SlinkNr, Doubt>,
    /// Where a scan may start: the end of the last group that nobody needs.
    pub(crate) head: Anchor,
    pub(crate) checkpointing: Checkpointing,
    /// Somebody waits for a site that has no more than this, and so for the media of the log.
    pub(crate) waited_for: Option<Seq>,
    pub(crate) members: Standing,
    /// A write was refused for want of ring space.
    pub(crate) starved: bool,
    /// A write was refused because the RAM tail is full of what the LD lacks.
    pub(crate) tail_full: bool,
    pub(crate) pins: Pins,
    pub(crate) ring: RingCounters,
    pub(crate) bookmark: Option<Bookmark>,
    pub(crate) failure: Option<Failure>,
    /// How far the devices are without it.
    pub(crate) bypass: Bypass,
    /// Another log that is to take its place, and what became of that.
    pub(crate) replacing: Option<Replacing>,
    pub(crate) replaced: Option<Result<NewLog, ReplaceError>>,
    /// Attempts at it: whose I/O is whose.
    pub(crate) replacements: u64,
    pub(crate) own_io: OwnIo,
    pub(crate) events: Vec<LogEvent>,
    pub(crate) counters: Counters,
}

/// What does not change while the log is open.
#[derive(Clone, Debug)]
pub struct Config {
    /// The log device.
    pub disk: DiskId,
    /// Where things lay on it when it was opened.
    pub geometry: Geometry,
    /// How much of the newest groups stays in memory.
    pub tail_bytes: u64,
    /// `ld_lag:log`: the LD may lag by more than the RAM tail (P8).
    pub ld_may_outlag_tail: bool,
    /// The sites of the table that have every device of it.
    pub complete_sites: Vec<SlinkNr>,
    /// How long an I/O of each site's disks may take. One of the log that takes longer than the
    /// local site's may is the death of it.
    pub timeouts: BTreeMap<SlinkNr, Span>,
    /// The wall clock at `Time(0)`.
    pub wall: Wall,
}

/// A change of a device's content, on its way into the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The device.
    pub dev: DevNr,
    /// Write, discard or write-zeroes.
    pub op: EntryOp,
    /// First sector.
    pub sector: Sector,
    /// Sectors; at least one, for a write at most `Geometry::write_max`.
    pub len: Sectors,
    /// Whether its acknowledgement promises stable media.
    pub fua: bool,
}

/// A write that the log has taken.
#[derive(Debug)]
pub struct Admitted {
    /// Its number.
    pub seq: Seq,
    /// Where its payload is to be put, if it has one; comes back by [`Replog::fetched`].
    pub payload: Option<BufMut>,
}

/// Why a write can't be taken now. It is to be offered again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It overlaps a write of the open group (I4); others may pass it.
    Overlap,
    /// The open group is full, and waits for the one before it.
    GroupFull,
    /// The ring is full: the head must move.
    RingFull,
    /// The RAM tail is full of what the LD lacks (P8).
    TailFull,
    /// The log device failed.
    LogFailed,
}

/// The log device failed: nothing is asked of it any more in this life (I11).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the log device failed: {what} ended with: {errno}")]
pub struct Failure {
    /// What was being done.
    pub what: &'static str,
    /// How it ended.
    pub errno: Errno,
}

/// Where a write's content is to be had.
#[derive(Clone, Debug)]
pub enum Source {
    /// In memory: the payload.
    Memory(Buf),
    /// On the log device only.
    Ring(RingPlace),
    /// Nowhere: it is zeroes; `unmap`: the space may be given back.
    Zeroes {
        /// Whether the space may be given back.
        unmap: bool,
    },
    /// It is a mark without data.
    Nothing,
}

/// A payload on the log device. To be pinned before it is read (I6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingPlace {
    /// The group it lies in.
    pub group: u64,
    /// First sector to read on the log device; a whole block's.
    pub sector: Sector,
    /// Bytes to read; whole blocks.
    pub bytes: usize,
    /// Where the payload begins in what was read.
    pub skip: usize,
    /// Bytes of payload.
    pub len: usize,
    /// CRC-32C of the payload.
    pub crc: u32,
}

/// Events since the log was opened, for status and benchmarks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Groups written.
    pub groups: u64,
    /// Writes taken.
    pub writes: u64,
    /// Bytes written to the ring, headers and padding included.
    pub log_bytes: u64,
    /// Flushes of the log device.
    pub flushes: u64,
    /// Superblocks written.
    pub checkpoints: u64,
    /// Writes refused because the ring was full.
    pub ring_full: u64,
    /// Writes refused because the RAM tail was full of what the LD lacks.
    pub tail_full: u64,
}

impl RingPlace {
    /// The payload in what was read from here, if it is still what was written (P11).
    #[must_use]
    pub fn payload(&self, read: &Buf) -> Option<Buf> {
        let payload = read.slice(self.skip..self.skip + self.len);
        (crc32c(&payload) == self.crc).then_some(payload)
    }
}

impl Replog {
    /// A log whose superblock, begun epoch and recovered groups are known.
    pub(crate) fn new(config: Config, superblock: Superblock, tip: Anchor) -> Self {
        let mut consumers = Consumers::default();
        for site in &superblock.sites {
            consumers.add(site.slink, site.covered);
            if site.detached.is_none() && config.complete_sites.contains(&site.slink) {
                consumers.value(site.slink, Worth::Whole(Readable::No));
            }
        }
        let tail = Tail::new(config.tail_bytes, config.geometry.group_bytes_max());
        Self {
            geometry: config.geometry,
            resize: Resize::default(),
            index: Index::behind(&superblock.head),
            overlay: Overlay::default(),
            tail,
            consumers,
            open: None,
            launched: None,
            gather: Gather::default(),
            held_until: None,
            tip,
            written: tip.seq,
            written_end: tip,
            durable: tip.seq,
            durable_end: tip.pos,
            superseded_by: Seq::default(),
            first_shown: superblock.head.seq.next(),
            base: SlinkNr::LOCAL,
            doubts: BTreeMap::new(),
            head: superblock.head,
            checkpointing: Checkpointing::default(),
            waited_for: None,
            members: Standing::of(&superblock),
            starved: false,
            tail_full: false,
            pins: Pins::default(),
            ring: RingCounters::default(),
            bookmark: None,
            failure: None,
            bypass: Bypass::default(),
            replacing: None,
            replaced: None,
            replacements: 0,
            own_io: OwnIo::default(),
            events: Vec::new(),
            counters: Counters::default(),
            config,
            superblock,
        }
    }

    /// Takes a change, or says why not now.
    pub fn admit(&mut self, change: &Change) -> Result<Admitted, Refusal> {
        if self.takes_nothing() {
            return Err(Refusal::LogFailed);
        }
        let taken = self.open.as_ref().map_or(0, OpenGroup::len);
        match self.admit_to_group(change) {
            Ok(payload) => {
                self.counters.writes += 1;
                Ok(Admitted { seq: Seq(self.index.next_seq().0 + taken), payload })
            }
            Err(refusal) => {
                self.gather.no_more();
                self.counters.ring_full += u64::from(refusal == Refusal::RingFull);
                self.counters.tail_full += u64::from(refusal == Refusal::TailFull);
                Err(refusal)
            }
        }
    }

    /// Does what is to be done by now.
    pub fn poll(&mut self, now: Time, effects: &mut Vec<Effect>) {
        self.watch_deadlines(now);
        if !self.is_lost() {
            // It may end with this log given up.
            self.poll_replacing(now, effects);
        }
        if self.is_lost() {
            self.go_on_without_log(now, effects);
            return;
        }
        if self.is_whole(self.base) {
            // Who has come along by an opening, or is gone, does not keep it back any more.
            self.advance_head();
        }
        self.launch(now, effects);
        self.resize_if_possible();
        self.flush_if_wanted(now, effects);
        self.checkpoint_if_due(now, effects);
    }

    /// An I/O of the log has ended.
    pub fn done(&mut self, now: Time, nr: u64, result: Result<(), Errno>) {
        self.checkpointing.active(now);
        let Some(kind) = self.ended(nr) else { return };
        match (kind, result) {
            (GROUP_IO, Ok(())) => self.group_written(now),
            (GROUP_IO, Err(errno)) => self.fail("the write of a group", errno),
            (FLUSH_IO, Ok(())) => self.flushed(),
            (FLUSH_IO, Err(errno)) => self.fail("a flush", errno),
            (CHECKPOINT_IO, Ok(())) => self.checkpointed(),
            (CHECKPOINT_IO, Err(errno)) => self.fail("the write of a superblock", errno),
            (other, _) => panic!("the log has no I/O number {other}"),
        }
    }

    /// Everything up to here is in the log, if only in the device's cache.
    #[must_use]
    pub fn written(&self) -> Seq {
        self.written
    }

    /// Everything up to here is on the log's stable media.
    #[must_use]
    pub fn durable(&self) -> Seq {
        self.durable
    }

    /// The failure that stopped the log, if one did.
    #[must_use]
    pub fn failure(&self) -> Option<Failure> {
        self.failure
    }

    /// The writes and groups that the log holds.
    #[must_use]
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// The superblock as it was last written: identity and roster.
    #[must_use]
    pub fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    /// What happened since the log was opened.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Where things lie.
    #[must_use]
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// The log device.
    #[must_use]
    pub fn disk(&self) -> DiskId {
        self.config.disk
    }

    // ---- consumers

    /// How far a consumer is.
    #[must_use]
    pub fn covered(&self, slink: SlinkNr) -> Seq {
        self.consumers.of(slink).covered
    }

    /// A consumer has everything up to `seq` on its media.
    ///
    /// # Panics
    /// If that is less than before (I5), or more than is durable (I3).
    pub fn cover(&mut self, slink: SlinkNr, seq: Seq) {
        assert!(seq <= self.durable.max(self.marked_upto()), "I3: a site is not ahead of the log");
        let before = self.covered(slink);
        if seq > before {
            self.consumers.cover(slink, seq);
            if slink == self.base {
                self.settle_all(before, seq);
            }
            self.checkpointing.stale();
            self.advance_head();
            self.covered_without_log(slink, seq);
        }
    }

    /// What of a consumer's progress the log device is known to hold.
    #[must_use]
    pub fn durable_cursor(&self, slink: SlinkNr) -> Seq {
        self.consumers.durable(slink)
    }

    /// The consumer waits for its durable cursor to reach `seq` (I13).
    pub fn want_durable_cursor(&mut self, slink: SlinkNr, seq: Seq) {
        self.consumers.want(slink, seq);
    }

    fn advance_head(&mut self) {
        let (head, before) = (self.consumers.head(), self.head.group);
        assert!(
            self.is_whole(self.base) && head <= self.covered(self.base),
            "P6: the head passes what a whole copy has"
        );
        if let Some(anchor) = self.index.forget(head, self.written_end.group) {
            self.ring.let_go(anchor.group - before, self.consumers.len());
            self.head = anchor;
            self.tail.released_through(anchor.group);
        }
    }

    // ---- where a write's content is

    /// Where the content of a write is to be had.
    ///
    /// # Panics
    /// If the log does not hold the write any more: whoever asks must keep the head back.
    #[must_use]
    pub fn source(&self, seq: Seq) -> Source {
        let write = self.index.write(seq).expect("I5: the log holds what somebody still needs");
        match write.op {
            EntryOp::Discard => Source::Zeroes { unmap: true },
            EntryOp::WriteZeroes => Source::Zeroes { unmap: false },
            EntryOp::Bookmark => Source::Nothing,
            EntryOp::Write => self.payload(write),
        }
    }

    fn payload(&self, write: &Write) -> Source {
        let group = self.index.group(write.group).expect("I5: a write's group is in the index");
        let (start, len) = (write.payload.len(), write.len.len());
        match &group.memory {
            Some(memory) => Source::Memory(memory.slice(start..start + len)),
            None => {
                let first = write.payload.0 - write.payload.0 % SECTORS_PER_BLOCK;
                let skip = start - Sectors(first).len();
                Source::Ring(RingPlace {
                    group: group.nr,
                    sector: self.geometry().sector(group.pos) + Sectors(first),
                    bytes: (skip + len).next_multiple_of(blk::BLOCK_BYTES),
                    skip,
                    len,
                    crc: write.crc,
                })
            }
        }
    }

    // ---- space and time

    /// Bytes of the ring that may be written: what lies before the *durable* head, and is
    /// not being read (I6).
    #[must_use]
    pub fn free_bytes(&self) -> u64 {
        if self.is_lost() {
            // Places in a ring that nobody writes to; they bound what is under way all the same.
            return self.geometry().ring_bytes() - self.tip.pos.since(self.head.pos);
        }
        let reclaimed = self.superblock.head.pos;
        let oldest = self.pins.oldest().map_or(reclaimed, |pos| pos.min(reclaimed));
        self.geometry().ring_bytes() - self.tip.pos.since(oldest)
    }

    /// Bytes of the ring in use.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.geometry().ring_bytes() - self.free_bytes()
    }

    /// Whether so little of the ring is left that whoever keeps the head back had better
    /// let go of it: soon writes will have to wait.
    #[must_use]
    pub fn is_nearly_full(&self) -> bool {
        let held = self.tip.pos.since(self.head.pos);
        self.starved || held >= self.geometry().ring_bytes() / 8 * 7
    }

    /// Bytes between the end of write `seq` and the newest group.
    #[must_use]
    pub fn bytes_behind(&self, seq: Seq) -> u64 {
        self.index.group_of(seq.next()).map_or(0, |group| self.tip.pos.since(group.pos))
    }

    /// How much of the log memory holds from now on, in bytes, and whether the LD may lag by more
    /// than that (P8). What the LD lacks stays in memory until it has it, also where it is more.
    pub fn set_memory(&mut self, tail_bytes: u64, ld_may_outlag_tail: bool) {
        (self.config.tail_bytes, self.config.ld_may_outlag_tail) = (tail_bytes, ld_may_outlag_tail);
        self.tail.set_bound(tail_bytes, self.config.geometry.group_bytes_max());
        self.tail_full = false;
    }

    /// Bytes the RAM tail holds, and may hold.
    #[must_use]
    pub fn tail_bytes(&self) -> (u64, u64) {
        (self.tail.bytes(), self.tail.bytes_max())
    }

    /// Whether a write was refused for want of space, and nothing was freed since.
    #[must_use]
    pub fn is_starved(&self) -> bool {
        self.starved
    }

    /// Whether a write was refused because the RAM tail is full of what the LD lacks (P8).
    #[must_use]
    pub fn is_tail_full(&self) -> bool {
        self.tail_full
    }

    /// Whether a change is one that the log can ever hold.
    #[must_use]
    pub fn can_hold(&self, change: &Change) -> bool {
        let longest = match change.op {
            EntryOp::Write => Sectors::from_bytes(self.group_bytes_max() - blk::BLOCK_BYTES as u64),
            EntryOp::Discard | EntryOp::WriteZeroes | EntryOp::Bookmark => ENTRY_SECTORS_MAX,
        };
        change.len <= longest
    }

    /// Whether nothing is on its way to the log device.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.open.is_none() && self.launched.is_none() && !self.checkpointing.is_busy()
    }

    /// Whether writes, or a flush of them, are on their way: somebody may wait for that.
    #[must_use]
    pub fn is_committing(&self) -> bool {
        self.open.is_some() || self.launched.is_some() || self.checkpointing.is_flushing()
    }

    pub(crate) fn may_be_unproven(&mut self, bytes: u64) -> bool {
        let unproven = self.tip.pos.since(self.durable_end) + bytes;
        if unproven <= self.unproven_bytes_max() {
            return true;
        }
        // I12: recovery searches this far for proof of damage, and no further.
        self.want_durable(self.written);
        false
    }

    pub(crate) fn entries_max(&self) -> usize {
        // With room for the cursors of sites that join while a group is open.
        GroupHeader::entries_max(CURSORS_MAX)
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.superblock.epoch
    }

    pub(crate) fn log_hash(&self) -> u64 {
        self.superblock.log()
    }

    /// The wall clock, for people.
    #[must_use]
    pub fn wall(&self, now: Time) -> Wall {
        Wall(self.config.wall.0.saturating_add(now.0))
    }
}

/// Who the log's own I/O belongs to.
pub const LOG_IO: IoOwner = IoOwner(0);

/// The log's I/Os: at most one of each is in flight.
pub(crate) const GROUP_IO: u64 = 0;
pub(crate) const FLUSH_IO: u64 = 1;
pub(crate) const CHECKPOINT_IO: u64 = 2;

/// The format gives an entry's length 32 bits.
const ENTRY_SECTORS_MAX: Sectors = Sectors(u32::MAX as u64);
const SECTORS_PER_BLOCK: u64 = (blk::BLOCK_BYTES / SECTOR_BYTES) as u64;
