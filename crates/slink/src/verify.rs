//! Verification: what a site holds is compared with what it should hold, while
//! applications write.
//!
//! ```text
//!  ahead ─▶ reading both sides ─▶ compared ─▶ equal | different
//!    ▲                               │
//!    └────────── again ◀─────────────┘ whatever was written to, or is on its way
//! ```
//!
//! Of which sectors can be said what the site should hold? Of those that no write above the
//! site's cursor touches: all that the log has of them is on the site's media, and what is
//! on its way there goes elsewhere. These are in [`Pending`]. So a sector is compared if
//! none of it is pending when its reads begin, and no new write has touched it when they
//! have ended: then the newest content here and the content there stood still meanwhile.
//! Anything else of a range is compared again later; what is dirty is not compared, since
//! nobody claims that it is equal.
//!
//! Bounded: so many ranges in flight as a resync's copies, and so many more to be compared
//! again; sectors that are written to whenever they are looked at are given up and counted.

mod pending;

use std::collections::{BTreeMap, VecDeque};

use blk::{
    Buf, BufMut, DevNr, DiskId, DiskOp, Effect, Errno, Sector, Sectors, SlinkNr, Span, Time,
};
use replog::{Replog, Source};

use crate::copier::{FromRing, Progress};
use crate::flights::{Flights, To};
use crate::legs::Legs;
use crate::link::{Difference, Verification, Verified};
use crate::ordered::Step;
use crate::pace::Pace;
use crate::ranges::Ranges;
use pending::Pending;

/// What compares a site.
#[derive(Debug)]
pub(crate) struct Verifier {
    pub(crate) pace: Pace,
    job: Option<Job>,
    /// Of the job under way, or of the last one.
    found: Option<Verified>,
    next: u64,
    /// In flight, also those of a job that was given up.
    checks: BTreeMap<u64, Check>,
    /// There is more to be done, after a moment for others.
    go_on_at: Option<Time>,
}

#[derive(Debug)]
struct Job {
    /// Devices that nobody has begun to look at, and how far the first one is.
    ahead: VecDeque<(DevNr, Sector)>,
    again: VecDeque<Again>,
    pending: Pending,
    progress: Progress,
    repair: bool,
    /// What is to be repaired.
    different: BTreeMap<DevNr, Ranges>,
}

/// Sectors that could not be compared yet.
#[derive(Debug)]
struct Again {
    dev: DevNr,
    left: Ranges,
    tries: u32,
    /// Reads of the site that failed here in a row.
    failures: u32,
    at: Time,
}

/// A range whose two sides are being read.
#[derive(Debug)]
struct Check {
    dev: DevNr,
    sector: Sector,
    len: Sectors,
    /// What is to be compared of it.
    want: Ranges,
    /// What can't be, since it was written to.
    touched: Ranges,
    tries: u32,
    failures: u32,
    began: Time,
    /// What the site should hold, in pieces that follow each other.
    here: Vec<Option<Buf>>,
    there: Option<Buf>,
    left: usize,
    /// The site can't read its side.
    unreadable: bool,
    /// It says nothing: a read failed, or its job is over.
    void: bool,
}

/// What an I/O of a verification is for.
#[derive(Debug)]
pub(crate) struct VerifyStep {
    check: u64,
    side: Side,
}

#[derive(Debug)]
enum Side {
    Here { part: usize, ring: Option<FromRing> },
    There,
}

impl Verifier {
    pub(crate) fn new(rate: u64) -> Self {
        let (next, checks) = (0, BTreeMap::new());
        Self { pace: Pace::new(rate), job: None, found: None, next, checks, go_on_at: None }
    }

    /// Begins to compare one device, or all; one that is under way ends.
    pub(crate) fn begin(&mut self, now: Time, ask: Verification, legs: &Legs, log: &Replog) {
        self.stop(now);
        let chosen = legs.iter().filter(|leg| ask.dev.is_none_or(|dev| dev == leg.dev));
        let ahead: VecDeque<_> = chosen.map(|leg| (leg.dev, Sector(0))).collect();
        let total = ahead.iter().map(|(dev, _)| legs.all[dev].size.bytes()).sum();
        self.found = Some(Verified::begun(now, ask.repair, total));
        let mut progress = Progress::default();
        progress.begin(now);
        self.job = Some(Job {
            ahead,
            again: VecDeque::new(),
            pending: Pending::of(log, legs.site),
            progress,
            repair: ask.repair,
            different: BTreeMap::new(),
        });
    }

    /// Ends without having seen everything.
    pub(crate) fn stop(&mut self, now: Time) {
        self.void_all();
        if self.job.take().is_some() {
            let found = self.found.as_mut().expect("of the job");
            (found.ended, found.whole) = (Some(now), false);
        }
    }

    pub(crate) fn is_under_way(&self) -> bool {
        self.job.is_some()
    }

    /// How far it is, or what the last one has found.
    pub(crate) fn found(&self) -> Option<Verified> {
        let mut found = self.found.clone()?;
        if let Some(job) = &self.job {
            found.rate = job.progress.rate as u64;
        }
        Some(found)
    }

    /// What is in flight says nothing: the site failed, and may have lost what it had.
    pub(crate) fn void_all(&mut self) {
        for check in self.checks.values_mut() {
            check.void = true;
        }
    }

    /// Takes notice of what was written, and of how far the site is. Before anything of it
    /// can reach any disk.
    pub(crate) fn see(&mut self, log: &Replog, site: SlinkNr) {
        let Some(job) = &mut self.job else { return };
        let checks = &mut self.checks;
        job.pending.see(log, |dev, sector, len| {
            let hit = |check: &&mut Check| check.dev == dev;
            checks.values_mut().filter(hit).for_each(|check| check.touch(sector, len));
        });
        job.pending.forget(log.covered(site));
    }

    /// Compares what was read and, if it may, begins to read more; `idle`: as fast as it can.
    /// What is to be repaired, if all was seen or there is too much of it.
    pub(crate) fn poll(
        &mut self,
        now: Time,
        idle: Option<bool>,
        legs: &Legs,
        log: &mut Replog,
        flights: &mut Flights<Step>,
        effects: &mut Vec<Effect>,
    ) -> Vec<(DevNr, Sector, Sectors)> {
        self.compare_all(now, legs);
        self.go_on_at = None;
        if let Some(idle) = idle {
            // What is all dirty is passed over quickly, but not in one go.
            let mut steps = 0;
            while self.checks.len() < self.pace.depth(now, idle)
                && self.read_next(now, legs, log, flights, effects)
            {
                steps += 1;
                if steps == STEPS_MAX {
                    self.go_on_at = Some(now + BREATH);
                    break;
                }
            }
        }
        self.end(now)
    }

    /// When there is something to be done though nothing has happened.
    pub(crate) fn wakeup(&self, now: Time) -> Option<Time> {
        let job = self.job.as_ref()?;
        let retry = job.again.iter().map(|again| again.at).min();
        [self.pace.wakeup(now), retry, self.go_on_at].into_iter().flatten().min()
    }

    /// The job ends when nothing is left of it.
    fn end(&mut self, now: Time) -> Vec<(DevNr, Sector, Sectors)> {
        let Some(job) = &mut self.job else { return Vec::new() };
        let ended = job.ahead.is_empty() && job.again.is_empty() && self.checks.is_empty();
        let ranges: usize = job.different.values().map(|ranges| ranges.iter().count()).sum();
        let repairs = if ended || ranges > REPAIRS_MAX {
            std::mem::take(&mut job.different)
        } else {
            BTreeMap::new()
        };
        if ended {
            self.job = None;
            let found = self.found.as_mut().expect("of the job");
            (found.ended, found.whole) = (Some(now), true);
        }
        let of_dev = |(dev, ranges): (DevNr, Ranges)| {
            ranges.iter().map(|(sector, len)| (dev, sector, len)).collect::<Vec<_>>()
        };
        repairs.into_iter().flat_map(of_dev).collect()
    }

    // ---- reading

    /// Begins the next check, if there is one that can be made now.
    fn read_next(
        &mut self,
        now: Time,
        legs: &Legs,
        log: &mut Replog,
        flights: &mut Flights<Step>,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let Some(job) = &mut self.job else { return false };
        // Nothing says what the site should hold while no other copy can be read.
        let Some(base) = log.readable_base().filter(|base| *base != legs.site) else {
            return false;
        };
        let Some(Again { dev, mut left, tries, failures, .. }) =
            job.next(now, self.pace.run(), legs)
        else {
            return false;
        };
        let Some(source) = legs.all[&dev].disk_at(base) else {
            job.put_off(now, dev, left, (tries, failures));
            return false;
        };
        let found = self.found.as_mut().expect("of the job");
        found.skip(left.take(&dirty(legs, dev, &left)).sectors(), &mut job.progress, now);
        let busy = left.take(&job.pending.of_dev(dev, &left));
        job.try_again(now, dev, busy, (tries, failures), found);
        // Nothing can be compared of it now: that is progress as well.
        let Some((sector, len)) = left.span() else { return true };
        let (sector, whole) = aligned(sector, len, legs.all[&dev].block);
        let len = affordable(log, dev, sector, whole);
        let rest = left.take(&Ranges::of(sector + len, Sectors(whole.0 - len.0)));
        job.put_off(now, dev, rest, (tries, failures));
        let (check, reads) =
            Check::of((dev, sector, len), left, (tries, failures), now, (base, source), legs, log);
        for (side, disk, op, to) in reads {
            let step = Step::Verify(VerifyStep { check: self.next, side });
            flights.submit(now, disk, op, (dev, "a read to compare", to, step), effects);
        }
        self.pace.begun(len.bytes());
        self.checks.insert(self.next, check);
        self.next += 1;
        true
    }

    /// A read has ended. Whether it is the site's failure: not if it fails again and again
    /// in this place, which then is not what it should be, and is mended by writing to it.
    pub(crate) fn done(
        &mut self,
        step: VerifyStep,
        result: Result<(), Errno>,
        buf: Option<BufMut>,
        log: &mut Replog,
    ) -> bool {
        let check = self.checks.get_mut(&step.check).expect("a check outlives its reads");
        let failed_there = matches!(step.side, Side::There) && result.is_err();
        check.left -= 1;
        check.failures = if failed_there { check.failures + 1 } else { check.failures };
        check.unreadable |= failed_there && check.failures > FAILURES_MAX;
        check.void |= result.is_err() && !check.unreadable;
        let blame = failed_there && !check.unreadable;
        let read = buf.expect("a read brings its buffer back").freeze();
        match step.side {
            Side::There => check.there = Some(read),
            Side::Here { part, ring: None } => check.here[part] = Some(read),
            Side::Here { part, ring: Some(ring) } => {
                check.here[part] = ring.content(&read, log);
                check.void |= check.here[part].is_none();
            }
        }
        blame
    }

    // ---- comparing

    fn compare_all(&mut self, now: Time, legs: &Legs) {
        let ready = |(nr, check): (&u64, &Check)| (check.left == 0).then_some(*nr);
        let ready: Vec<u64> = self.checks.iter().filter_map(ready).collect();
        for nr in ready {
            let check = self.checks.remove(&nr).expect("it was just looked at");
            self.pace.ended(now, check.began);
            if let (Some(job), Some(found)) = (&mut self.job, &mut self.found) {
                job.compare(now, check, legs, found);
            }
        }
    }
}

impl Job {
    /// What is to be read next: what could not be compared, or what comes next.
    fn next(&mut self, now: Time, run: Sectors, legs: &Legs) -> Option<Again> {
        let ripe = self.again.iter().position(|again| again.at <= now);
        if let Some(ripe) = ripe {
            return self.again.remove(ripe);
        }
        if self.again.len() >= AGAIN_MAX {
            return None;
        }
        let (dev, sector) = self.ahead.front_mut()?;
        let (dev, from) = (*dev, *sector);
        let len = run.min(legs.all[&dev].size - from.since(Sector(0)));
        *sector = from + len;
        if *sector >= Sector(0) + legs.all[&dev].size {
            self.ahead.pop_front();
        }
        Some(Again { dev, left: Ranges::of(from, len), tries: 0, failures: 0, at: now })
    }

    fn try_again(
        &mut self,
        now: Time,
        dev: DevNr,
        left: Ranges,
        (tries, failures): (u32, u32),
        found: &mut Verified,
    ) {
        if left.is_empty() {
            return;
        }
        if tries >= TRIES_MAX {
            found.busy_bytes += left.sectors().bytes();
            self.progress.add(now, left.sectors().bytes());
            return;
        }
        let pause = PAUSE.saturating_mul(1 << tries.min(5));
        let tries = tries + 1;
        self.again.push_back(Again { dev, left, tries, failures, at: now + pause });
    }

    /// These are to be looked at as soon as there is room for them.
    fn put_off(&mut self, now: Time, dev: DevNr, left: Ranges, (tries, failures): (u32, u32)) {
        if !left.is_empty() {
            self.again.push_back(Again { dev, left, tries, failures, at: now });
        }
    }

    /// Both sides of a range are here.
    fn compare(&mut self, now: Time, check: Check, legs: &Legs, found: &mut Verified) {
        let Check { dev, tries, failures, void, .. } = check;
        let mut want = check.want.clone();
        found.skip(want.take(&dirty(legs, dev, &want)).sectors(), &mut self.progress, now);
        let busy = if void { std::mem::take(&mut want) } else { want.take(&check.touched) };
        self.try_again(now, dev, busy, (tries, failures), found);
        let different = check.differences(&want);
        if check.unreadable {
            found.unreadable(&want, &mut self.progress, now);
        } else {
            found.compared(dev, &want, &different, &mut self.progress, now);
        }
        if self.repair {
            self.different.entry(dev).or_default().extend(&different);
        }
    }
}

impl Check {
    /// A check, and the reads that it takes.
    fn of(
        (dev, sector, len): (DevNr, Sector, Sectors),
        want: Ranges,
        (tries, failures): (u32, u32),
        began: Time,
        (base, source): (SlinkNr, DiskId),
        legs: &Legs,
        log: &mut Replog,
    ) -> (Self, Vec<(Side, DiskId, DiskOp, To)>) {
        let leg = &legs.all[&dev];
        let buf = BufMut::zeroed(len.len());
        let mut reads = vec![(Side::There, leg.disk, DiskOp::Read { sector, buf }, To::Site)];
        let (mut here, from_base) = (Vec::new(), To::Copy(base, log.timeout(base)));
        for piece in log.pieces(dev, sector, len) {
            let part = here.len();
            here.push(None);
            let Some(seq) = piece.seq else {
                let buf = BufMut::zeroed(piece.len.len());
                let op = DiskOp::Read { sector: piece.sector, buf };
                reads.push((Side::Here { part, ring: None }, source, op, from_base));
                continue;
            };
            let write = log.index().write(seq).expect("what shows is in the index");
            let (skip, bytes) = (piece.sector.since(write.sector).len(), piece.len.len());
            match log.source(seq) {
                Source::Memory(payload) => here[part] = Some(payload.slice(skip..skip + bytes)),
                Source::Zeroes { .. } => here[part] = Some(BufMut::zeroed(bytes).freeze()),
                Source::Nothing => unreachable!("a bookmark never shows"),
                Source::Ring(place) => {
                    log.pin(place.group);
                    let buf = BufMut::zeroed(place.bytes);
                    let op = DiskOp::Read { sector: place.sector, buf };
                    let ring = Some(FromRing::new(place, skip, bytes));
                    reads.push((Side::Here { part, ring }, log.disk(), op, To::Log));
                }
            }
        }
        let (touched, left) = (Ranges::default(), reads.len());
        let there = None;
        let (unreadable, void) = (false, false);
        let check = Self {
            dev,
            sector,
            len,
            want,
            touched,
            tries,
            failures,
            began,
            here,
            there,
            left,
            unreadable,
            void,
        };
        (check, reads)
    }

    fn touch(&mut self, sector: Sector, len: Sectors) {
        let (start, end) = (sector.max(self.sector), (sector + len).min(self.sector + self.len));
        if start < end {
            self.touched.insert(start, end.since(start));
        }
    }

    /// The sectors of `want` in which both sides differ, or nobody can tell.
    fn differences(&self, want: &Ranges) -> Ranges {
        if self.unreadable {
            return want.clone();
        }
        let mut different = Ranges::default();
        let Some(there) = &self.there else { return different };
        let mut at = self.sector;
        for here in self.here.iter().flatten() {
            let piece = Ranges::of(at, Sectors::from_bytes(here.len() as u64));
            for (sector, len) in want.clone().take(&piece).iter() {
                let side = |buf: &Buf, from: Sector| {
                    let skip = sector.since(from).len();
                    buf.slice(skip..skip + len.len())
                };
                compare(sector, &side(here, at), &side(there, self.sector), &mut different);
            }
            at = at + Sectors::from_bytes(here.len() as u64);
        }
        different
    }
}

impl Verified {
    fn begun(since: Time, repair: bool, total_bytes: u64) -> Self {
        Self {
            since,
            ended: None,
            whole: false,
            repair,
            total_bytes,
            compared_bytes: 0,
            dirty_bytes: 0,
            busy_bytes: 0,
            unreadable_bytes: 0,
            differing_bytes: 0,
            differing_ranges: 0,
            first: Vec::new(),
            rate: 0,
        }
    }

    fn skip(&mut self, dirty: Sectors, progress: &mut Progress, now: Time) {
        self.dirty_bytes += dirty.bytes();
        progress.add(now, dirty.bytes());
    }

    fn unreadable(&mut self, ranges: &Ranges, progress: &mut Progress, now: Time) {
        self.unreadable_bytes += ranges.sectors().bytes();
        progress.add(now, ranges.sectors().bytes());
    }

    fn compared(
        &mut self,
        dev: DevNr,
        equal_or_not: &Ranges,
        different: &Ranges,
        progress: &mut Progress,
        now: Time,
    ) {
        self.compared_bytes += equal_or_not.sectors().bytes();
        self.differing_bytes += different.sectors().bytes();
        for (sector, len) in different.iter() {
            self.differing_ranges += 1;
            if self.first.len() < FIRST_MAX {
                self.first.push(Difference { dev, sector, len });
            }
        }
        progress.add(now, equal_or_not.sectors().bytes());
    }
}

/// The sectors of these that are dirty, and may be some more around them.
fn dirty(legs: &Legs, dev: DevNr, ranges: &Ranges) -> Ranges {
    let dirty_log = &legs.all[&dev].dirty_log;
    let mut dirty = Ranges::default();
    for (sector, len) in ranges.iter().filter(|(sector, len)| dirty_log.is_dirty(*sector, *len)) {
        let end = sector + len;
        let mut at = sector;
        while at < end {
            let next = Sector((at.0 / GRAIN.0 + 1) * GRAIN.0).min(end);
            if dirty_log.is_dirty(at, next.since(at)) {
                dirty.insert(at, next.since(at));
            }
            at = next;
        }
    }
    dirty
}

/// Whole blocks; a device has as many.
fn aligned(sector: Sector, len: Sectors, block: u32) -> (Sector, Sectors) {
    let block = Sectors::from_bytes(u64::from(block)).0.max(1);
    let start = Sector(sector.0 / block * block);
    let end = Sector((sector + len).0.div_ceil(block) * block);
    (start, end.since(start))
}

/// How much of a range can be read at once: of a write that is only in the log all is read,
/// however little of it shows.
fn affordable(log: &Replog, dev: DevNr, sector: Sector, len: Sectors) -> Sectors {
    let mut bytes = 0;
    for piece in log.pieces(dev, sector, len) {
        if let Some(Source::Ring(place)) = piece.seq.map(|seq| log.source(seq)) {
            if bytes > 0 && bytes + place.bytes > RING_BYTES_MAX {
                return piece.sector.since(sector);
            }
            bytes += place.bytes;
        }
    }
    len
}

fn compare(sector: Sector, here: &Buf, there: &Buf, different: &mut Ranges) {
    if here[..] == there[..] {
        return;
    }
    let sectors = here.chunks(blk::SECTOR_BYTES).zip(there.chunks(blk::SECTOR_BYTES));
    for (at, _) in sectors.enumerate().filter(|(_, (here, there))| here != there) {
        different.insert(sector + Sectors(at as u64), Sectors(1));
    }
}

/// What one range may take of the log to be read.
const RING_BYTES_MAX: usize = 4 << 20;
/// Ranges that wait to be compared again.
const AGAIN_MAX: usize = 64;
/// What is written to each time it is looked at, over a minute, is given up.
const TRIES_MAX: u32 = 40;
const PAUSE: Span = Span::from_millis(50);
/// So often may a range fail to be read at the site before nobody looks there any more.
const FAILURES_MAX: u32 = 2;
/// Ranges that are looked at in one go.
const STEPS_MAX: u32 = 256;
const BREATH: Span = Span::from_millis(1);
/// What of it is dirty is looked up in steps of a dirty log's smallest grain.
const GRAIN: Sectors = Sectors(128);
/// Differing ranges that are told by their places.
const FIRST_MAX: usize = 8;
/// Differing ranges that are remembered before they are repaired.
const REPAIRS_MAX: usize = 1024;
