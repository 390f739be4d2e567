//! The resync: dirty ranges are copied from where their newest content is to the site.
//!
//! ```text
//!  dirty ─▶ reading ─▶ waiting until all of it is durable in the log ─▶ writing ─▶ copied ─▶ flushed: clean
//!            base, RAM, log   (P4: a replica is never ahead of the log)              (I7)
//! ```
//!
//! A copy holds every write there was when it began. A later one that touches its range
//! before it is clean marks it again ([`Copier::touch`]), and the range is copied again;
//! unless the log keeps everything later for the site, which then gets it in order.
//! No two copies overlap; nothing else is written to the site meanwhile (I4).

use std::collections::{BTreeMap, BTreeSet};

use blk::{Buf, BufMut, DevNr, DiskId, DiskOp, Errno, Gather, Sector, Sectors, Seq, SlinkNr, Time};
use replog::{Replog, RingPlace, Source};

use crate::feed::Failed;
use crate::flights::{To, Work};
use crate::health::Failure;
use crate::legs::Legs;
use crate::ordered::Step;
use crate::pace::Pace;

/// What copies the dirty ranges of one site.
#[derive(Debug)]
pub(crate) struct Copier {
    pub(crate) pace: Pace,
    /// Where to look for the next dirty range.
    cursor: (DevNr, Sector),
    next: u64,
    copies: BTreeMap<u64, Copy>,
    /// Ranges that were written, and wait for a flush.
    copied: Vec<Range>,
    flush: Option<Flush>,
    /// The newest write that any copy may hold something of.
    newest: Seq,
    failed: Option<Failed>,
    pub(crate) progress: Progress,
}

/// What a resync has done.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Progress {
    /// When it began.
    pub(crate) since: Option<Time>,
    /// Bytes that are on the site, durably.
    pub(crate) copied_bytes: u64,
    /// Bytes a second, lately.
    pub(crate) rate: f64,
    measured: Time,
}

#[derive(Clone, Copy, Debug)]
struct Range {
    dev: DevNr,
    sector: Sector,
    len: Sectors,
    /// Written to since its copy began.
    touched: bool,
}

#[derive(Debug)]
struct Copy {
    range: Range,
    began: Time,
    parts: Vec<Option<Buf>>,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Reading {
        left: usize,
    },
    /// Everything it read is in the log up to here.
    Waiting(Seq),
    Writing,
}

#[derive(Debug)]
struct Flush {
    ranges: Vec<Range>,
    left: usize,
}

/// What an I/O of a resync is for.
#[derive(Debug)]
pub(crate) enum CopyStep {
    /// A part of what is to be copied is read: from the base, or from the log.
    Read { copy: u64, part: usize, ring: Option<FromRing> },
    /// It is written to the site.
    Write { copy: u64 },
    /// The site's disks are flushed.
    Flush,
}

/// Which bytes of a payload in the ring are wanted.
#[derive(Debug)]
pub(crate) struct FromRing {
    place: RingPlace,
    skip: usize,
    len: usize,
}

impl Copier {
    pub(crate) fn new(rate: u64) -> Self {
        Self {
            pace: Pace::new(rate),
            cursor: (DevNr(0), Sector(0)),
            next: 0,
            copies: BTreeMap::new(),
            copied: Vec::new(),
            flush: None,
            newest: Seq::default(),
            failed: None,
            progress: Progress::default(),
        }
    }

    /// Its first copy may begin.
    pub(crate) fn start(&mut self, now: Time) {
        self.progress.begin(now);
        self.pace.begin(now);
    }

    /// Whether nothing is on its way.
    pub(crate) fn is_idle(&self) -> bool {
        self.copies.is_empty() && self.copied.is_empty() && self.flush.is_none()
    }

    /// The newest write that the site may hold something of, by a copy.
    pub(crate) fn newest(&self) -> Seq {
        self.newest
    }

    /// A write touches a range: what is being copied of it has to be copied again.
    pub(crate) fn touch(&mut self, dev: DevNr, sector: Sector, len: Sectors) {
        let copies = self.copies.values_mut().map(|copy| &mut copy.range);
        let flushing = self.flush.iter_mut().flat_map(|flush| &mut flush.ranges);
        for range in copies.chain(&mut self.copied).chain(flushing) {
            range.touched |= range.overlaps(dev, sector, len);
        }
    }

    /// Something failed or hangs: what is in flight is waited for, nothing more begins.
    pub(crate) fn fail(&mut self, failed: Failed) {
        if !self.is_idle() {
            self.failed.get_or_insert(failed);
        }
    }

    /// Goes on with what is under way and, if it may, begins more. The failure that ended
    /// it, when nothing of it is in flight any more.
    pub(crate) fn poll(
        &mut self,
        idle: Option<bool>,
        log: &mut Replog,
        work: &mut Work<'_>,
    ) -> Option<Failed> {
        if self.failed.is_some() {
            self.abandon();
            return if self.is_idle() { self.failed.take() } else { None };
        }
        self.write(log, work);
        if let Some((idle, base)) = idle.zip(log.readable_base()) {
            while self.copies.len() < self.pace.depth(work.now, idle) && self.begin(base, log, work)
            {
            }
        }
        self.flush(work);
        None
    }

    /// Drops what is not in flight to the site: its range stays dirty.
    fn abandon(&mut self) {
        self.copied.clear();
        self.copies.retain(|_, copy| copy.stage == Stage::Writing);
    }

    /// What is read hangs: nobody waits for it any more. Its ranges stay dirty.
    pub(crate) fn give_up_reads(&mut self) {
        self.copies.retain(|_, copy| !matches!(copy.stage, Stage::Reading { .. }));
    }

    /// Begins the next copy, if there is anything to copy that is not on its way.
    fn begin(&mut self, base: SlinkNr, log: &mut Replog, work: &mut Work<'_>) -> bool {
        let Some(range) = self.next_range(work.legs) else { return false };
        let Some(source) = work.legs.all[&range.dev].disk_at(base) else { return false };
        let nr = self.next;
        self.next += 1;
        let (mut parts, mut left) = (Vec::new(), 0);
        for piece in log.pieces(range.dev, range.sector, range.len) {
            let part = parts.len();
            let (disk, op, to, ring) = match piece.seq {
                None => {
                    let buf = BufMut::zeroed(piece.len.len());
                    (
                        source,
                        DiskOp::Read { sector: piece.sector, buf },
                        To::Copy(base, log.timeout(base)),
                        None,
                    )
                }
                Some(seq) => {
                    let write = log.index().write(seq).expect("what shows is in the index");
                    let skip = piece.sector.since(write.sector).len();
                    let len = piece.len.len();
                    match log.source(seq) {
                        Source::Memory(payload) => {
                            parts.push(Some(payload.slice(skip..skip + len)));
                            continue;
                        }
                        Source::Zeroes { .. } => {
                            parts.push(Some(BufMut::zeroed(len).freeze()));
                            continue;
                        }
                        Source::Nothing => unreachable!("a bookmark never shows"),
                        Source::Ring(place) => {
                            log.pin(place.group);
                            let buf = BufMut::zeroed(place.bytes);
                            let op = DiskOp::Read { sector: place.sector, buf };
                            (log.disk(), op, To::Log, Some(FromRing { place, skip, len }))
                        }
                    }
                }
            };
            parts.push(None);
            left += 1;
            let what = "reading what is to be copied";
            let step = Step::Copy(CopyStep::Read { copy: nr, part, ring });
            work.submit(disk, op, (range.dev, what, to, step));
        }
        self.pace.begun(range.len.bytes());
        let mut copy = Copy { range, began: work.now, parts, stage: Stage::Reading { left } };
        copy.read_to_end(log);
        self.copies.insert(nr, copy);
        true
    }

    /// The next dirty range that is not on its way, going round and round.
    fn next_range(&mut self, legs: &Legs) -> Option<Range> {
        let (first, from) = self.cursor;
        let here = legs.all.range(first..).map(|(dev, leg)| (*dev, leg));
        let around = legs.all.range(..=first).map(|(dev, leg)| (*dev, leg));
        for (at, (dev, leg)) in here.chain(around).enumerate() {
            let mut from = if at == 0 && dev == first { from } else { Sector(0) };
            while let Some((sector, len)) = leg.dirty_log.next_dirty(from, self.pace.run()) {
                let free = self.free(dev, sector, len);
                if !free.is_empty() {
                    self.cursor = (dev, sector + free);
                    return Some(Range { dev, sector, len: free, touched: false });
                }
                from = self.end_of_taken(dev, sector);
            }
        }
        None
    }

    /// How much of a dirty range, from its start, is not on its way.
    fn free(&self, dev: DevNr, sector: Sector, len: Sectors) -> Sectors {
        let end = self.ranges().filter(|range| range.overlaps(dev, sector, len));
        let end = end.map(|range| range.sector.max(sector)).min().unwrap_or(sector + len);
        end.since(sector)
    }

    fn end_of_taken(&self, dev: DevNr, sector: Sector) -> Sector {
        let taken = self.ranges().filter(|range| range.overlaps(dev, sector, Sectors(1)));
        taken.map(|range| range.sector + range.len).max().expect("something is in the way")
    }

    fn ranges(&self) -> impl Iterator<Item = &Range> {
        let flushing = self.flush.iter().flat_map(|flush| &flush.ranges);
        self.copies.values().map(|copy| &copy.range).chain(&self.copied).chain(flushing)
    }

    /// Writes what was read, as far as the log has all of it durably (P4).
    fn write(&mut self, log: &mut Replog, work: &mut Work<'_>) {
        for (nr, copy) in &mut self.copies {
            let Stage::Waiting(upto) = copy.stage else { continue };
            if upto > log.durable() {
                log.want_durable(log.written());
                continue;
            }
            self.newest = self.newest.max(upto);
            copy.stage = Stage::Writing;
            let op = copy.op();
            let disk = work.legs.disk(copy.range.dev).expect("a copy is of one of the legs");
            let step = Step::Copy(CopyStep::Write { copy: *nr });
            let dev = copy.range.dev;
            work.submit(disk, op, (dev, "a copy", To::Site, step));
        }
    }

    /// Flushes the site when enough was copied, or nothing more is to be.
    fn flush(&mut self, work: &mut Work<'_>) {
        let enough = self.copied.len() >= COPIED_MAX || self.copies.is_empty();
        if self.flush.is_some() || self.copied.is_empty() || !enough {
            return;
        }
        let ranges = std::mem::take(&mut self.copied);
        let devs: BTreeSet<DevNr> = ranges.iter().map(|range| range.dev).collect();
        let disks: Vec<(DevNr, DiskId)> =
            devs.into_iter().filter_map(|dev| Some((dev, work.legs.disk(dev)?))).collect();
        self.flush = Some(Flush { ranges, left: disks.len() });
        for (dev, disk) in disks {
            let flight = (dev, "a flush", To::Site, Step::Copy(CopyStep::Flush));
            work.submit(disk, DiskOp::Flush, flight);
        }
    }

    /// An I/O of the resync has ended.
    #[expect(clippy::too_many_arguments, reason = "all of it is what is known of one I/O")]
    pub(crate) fn done(
        &mut self,
        now: Time,
        (dev, what): (DevNr, &'static str),
        step: CopyStep,
        result: Result<(), Errno>,
        buf: Option<BufMut>,
        legs: &mut Legs,
        log: &mut Replog,
    ) {
        let mut result = result;
        match step {
            CopyStep::Read { copy, part, ring } => {
                let read = buf.expect("a read brings its buffer back").freeze();
                let content = match ring {
                    None => Some(read),
                    Some(ring) => ring.content(&read, log),
                };
                result = result.and(content.as_ref().map(|_| ()).ok_or(Errno::EIO));
                // It may have been given up meanwhile.
                let Some(copy) = self.copies.get_mut(&copy) else { return };
                copy.parts[part] = content;
                let Stage::Reading { left } = &mut copy.stage else {
                    unreachable!("a part is read while the copy is reading")
                };
                *left -= 1;
                copy.read_to_end(log);
            }
            CopyStep::Write { copy } => {
                let copy = self.copies.remove(&copy).expect("a copy is written once");
                self.pace.ended(now, copy.began);
                if result.is_ok() {
                    self.copied.push(copy.range);
                }
            }
            CopyStep::Flush => {
                let flush = self.flush.as_mut().expect("a flush ends while it is waited for");
                flush.left -= 1;
                let failed = self.failed.is_some() || result.is_err();
                if flush.left == 0 {
                    let flush = self.flush.take().expect("looked at above");
                    if !failed {
                        self.flushed(now, &flush.ranges, legs);
                    }
                }
            }
        }
        if let Err(errno) = result {
            self.failed.get_or_insert(Failed { dev, what, how: Failure::Error(errno) });
        }
    }

    /// I7: only now are the ranges clean, but for those that were written to meanwhile.
    fn flushed(&mut self, now: Time, ranges: &[Range], legs: &mut Legs) {
        let mut bytes = 0;
        for range in ranges.iter().filter(|range| !range.touched) {
            let leg = legs.all.get_mut(&range.dev).expect("a copy is of one of the legs");
            leg.dirty_log.clear(range.sector, range.len);
            bytes += range.len.bytes();
        }
        self.progress.add(now, bytes);
        self.pace.left(now, legs.dirty_bytes());
    }
}

impl FromRing {
    pub(crate) fn new(place: RingPlace, skip: usize, len: usize) -> Self {
        Self { place, skip, len }
    }

    /// The bytes, unless they are not what was written; the place may be used again.
    pub(crate) fn content(&self, read: &Buf, log: &mut Replog) -> Option<Buf> {
        log.unpin(self.place.group);
        let payload = self.place.payload(read)?;
        Some(payload.slice(self.skip..self.skip + self.len))
    }
}

impl Copy {
    /// All of it is here: it may be written once all of that is durable in the log.
    fn read_to_end(&mut self, log: &Replog) {
        if self.stage == (Stage::Reading { left: 0 }) {
            self.stage = Stage::Waiting(log.written());
        }
    }

    /// The write to the site; what is all zeroes takes no space there.
    fn op(&mut self) -> DiskOp {
        let Range { sector, len, .. } = self.range;
        let parts: Vec<Buf> = std::mem::take(&mut self.parts).into_iter().flatten().collect();
        if parts.iter().all(is_zero) {
            return DiskOp::WriteZeroes { sector, len, unmap: true, fua: false };
        }
        let data = match <[Buf; 1]>::try_from(parts) {
            Ok([whole]) => whole,
            Err(parts) => joined(&parts, len),
        };
        DiskOp::Write { sector, data: Gather::from_elem(data, 1), fua: false }
    }
}

impl Range {
    fn overlaps(&self, dev: DevNr, sector: Sector, len: Sectors) -> bool {
        self.dev == dev && self.sector < sector + len && sector < self.sector + self.len
    }
}

impl Progress {
    pub(crate) fn begin(&mut self, now: Time) {
        if self.since.is_none() {
            *self = Self { since: Some(now), measured: now, ..Self::default() };
        }
    }

    pub(crate) fn add(&mut self, now: Time, bytes: u64) {
        self.copied_bytes += bytes;
        let seconds = now.since(self.measured).as_secs_f64();
        if seconds > 0.0 {
            // Half of what is known is forgotten within about seven seconds.
            let weight = 1.0 - (-seconds / 10.0_f64).exp();
            let all = self.since.map_or(seconds, |since| now.since(since).as_secs_f64());
            let weight = weight.max(seconds / all);
            self.rate += weight * (bytes as f64 / seconds - self.rate);
            self.measured = now;
        }
    }
}

fn is_zero(buf: &Buf) -> bool {
    buf.chunks(64).all(|chunk| chunk.iter().fold(0, |any, byte| any | byte) == 0)
}

fn joined(parts: &[Buf], len: Sectors) -> Buf {
    let mut whole = BufMut::zeroed(len.len());
    let mut at = 0;
    for part in parts {
        whole[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    whole.freeze()
}

/// So many copies are worth a flush of the site's disks.
const COPIED_MAX: usize = 64;
