//! The local site, when nobody waits for it: any order, merged, sorted, and only
//! what is newest.
//!
//! The log is replayed onto the LD at every opening, so the LD's order does not
//! matter; what matters is how little it costs. The link takes a *window* of the
//! log, oldest first, sorts what the overlay still shows of it by place, and copies
//! runs of neighbours with a deep queue. What was overwritten meanwhile is skipped.
//!
//! When it may claim progress: a write is settled when nothing of it shows in the
//! overlay. It was copied, or a newer write hides it; that newer one must be durable
//! in the log before the old one may leave it (else a power cut takes both). And the
//! copies must be flushed.

use std::collections::{BTreeMap, BTreeSet};

use blk::{Buf, BufMut, DevNr, DiskId, DiskOp, Effect, Errno, Gather, IoId, IoOwner};
use blk::{DiskSeen, NotOpened, Sector, Sectors, Seq, SlinkNr, Time};
use dirty_log::DirtyLog;
use replog::{Piece, Replog, RingPlace, Source};
use smallvec::SmallVec;
use table::SlinkTable;

use crate::event::SiteEvent;
use crate::governor::copies_wanted;
use crate::health::{Down, Failure, Health};
use crate::link::{Ended, Grant, IDLE_AFTER, Leg, LinkSpec, Load, Report, SiteLink};

/// The local site's link, when it is `async`.
#[derive(Debug)]
pub struct Lazy {
    nr: SlinkNr,
    owner: IoOwner,
    sync: bool,
    dirty_logs: BTreeMap<DevNr, DirtyLog>,
    legs: BTreeMap<DevNr, DiskId>,
    window: Window,
    flying: BTreeMap<u64, Copy>,
    /// Copies in `flying` that were read back and are to be written.
    read: Vec<u64>,
    /// Disks written to since their last flush.
    unflushed: BTreeSet<DiskId>,
    flush: Option<FlushRound>,
    health: Health,
    timeout: blk::Span,
    polled: Time,
    next_io: u64,
    shipped: u64,
}

/// A stretch of the log, as places on the devices, sorted.
#[derive(Debug, Default)]
struct Window {
    places: Vec<Place>,
    at: usize,
}

/// Where a write went; the overlay says what is there by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    dev: DevNr,
    sector: Sector,
    len: Sectors,
}

/// One I/O in flight to an LD, or from the log for one.
#[derive(Debug)]
struct Copy {
    dev: DevNr,
    sector: Sector,
    len: Sectors,
    parts: SmallVec<[Piece; 1]>,
    stage: Stage,
    /// When its I/O in flight began.
    began: Time,
}

/// How far a copy is.
#[derive(Debug)]
enum Stage {
    /// The payload is being read back from the log.
    Reading(RingPlace),
    /// It was read, and is still what was written.
    Read(Buf),
    /// It is being written to the LD.
    Writing,
}

/// Neighbours on one device, to be written as one.
struct Run {
    copy: Copy,
    what: What,
}

enum What {
    Bytes(Gather),
    Zeroes { unmap: bool },
    ReadBack,
}

/// Progress that waits for the LDs' flush, and for the log's.
#[derive(Debug)]
struct FlushRound {
    /// All writes up to here are settled.
    upto: Seq,
    /// Some of them only because of writes up to here.
    needs_durable: Seq,
    /// Flushes in flight, by I/O number.
    flying: BTreeMap<u64, DiskId>,
    began: Time,
}

impl Lazy {
    pub(crate) fn new(spec: LinkSpec) -> Self {
        Self {
            nr: spec.table.nr,
            owner: spec.owner,
            sync: spec.table.policy().sync == table::Sync::Sync,
            dirty_logs: spec.legs.iter().map(|leg| (leg.dev, leg.dirty_log.clone())).collect(),
            legs: spec.legs.iter().map(|leg| (leg.dev, leg.disk)).collect(),
            window: Window::default(),
            flying: BTreeMap::new(),
            read: Vec::new(),
            unflushed: BTreeSet::new(),
            flush: None,
            health: Health::default(),
            timeout: spec.table.options.timeout_io(),
            polled: Time::default(),
            next_io: 0,
            shipped: 0,
        }
    }

    // ---- copying

    fn copy(&mut self, now: Time, log: &mut Replog, load: &Load, effects: &mut Vec<Effect>) {
        self.write_what_was_read(effects);
        let depth = copies_wanted(log, load.is_idle(now, log));
        let mut fresh = false;
        while self.flying.len() < depth {
            match self.next_run(log) {
                Next::Run(run) => self.start(log, run, effects),
                Next::Blocked => return,
                // Not even a new window has anything that is not on its way already.
                Next::Nothing if fresh => return,
                Next::Nothing => {
                    self.window = Window::next(log);
                    fresh = true;
                    if self.window.is_done() {
                        // Only durable content may be copied (I3); there is something to gain.
                        log.want_durable(log.written());
                    }
                }
            }
        }
    }

    /// The next run of neighbours from the window.
    fn next_run(&mut self, log: &Replog) -> Next {
        let mut run: Option<Run> = None;
        while let Some(place) = self.window.here() {
            let pieces = log.pieces(place.dev, place.sector, place.len);
            let shown = pieces.into_iter().filter(|p| p.seq.is_some_and(|s| s <= log.durable()));
            for piece in shown {
                match self.flight(place.dev, &piece) {
                    Flight::Same => continue,
                    // I4: two writes to the same sectors of a disk are never in flight together.
                    Flight::Other => return run.map_or(Next::Blocked, Next::Run),
                    Flight::None => {}
                }
                match run.as_mut().map(|run| run.takes(log, place.dev, &piece)) {
                    Some(true) => {}
                    Some(false) => return run.map_or(Next::Nothing, Next::Run),
                    None => run = Some(Run::new(log, place.dev, piece)),
                }
            }
            self.window.at += 1;
        }
        run.map_or(Next::Nothing, Next::Run)
    }

    /// Whether a piece is on its way already, or something else is to the same sectors.
    fn flight(&self, dev: DevNr, piece: &Piece) -> Flight {
        let end = piece.sector + piece.len;
        let overlaps = |sector: Sector, len: Sectors| sector < end && piece.sector < sector + len;
        let Some(copy) = self.flying.values().find(|c| c.dev == dev && overlaps(c.sector, c.len))
        else {
            return Flight::None;
        };
        let same = copy.parts.iter().any(|part| {
            part.seq == piece.seq && part.sector <= piece.sector && end <= part.sector + part.len
        });
        if same { Flight::Same } else { Flight::Other }
    }

    fn write_what_was_read(&mut self, effects: &mut Vec<Effect>) {
        for nr in std::mem::take(&mut self.read) {
            let copy = self.flying.get_mut(&nr).expect("a copy that was read is in flight");
            copy.began = self.polled;
            let Stage::Read(buf) = std::mem::replace(&mut copy.stage, Stage::Writing) else {
                unreachable!("only what was read is listed")
            };
            let data = Gather::from_elem(buf, 1);
            let op = DiskOp::Write { sector: copy.sector, data, fua: false };
            let (disk, io) = (self.legs[&copy.dev], IoId { owner: self.owner, nr });
            effects.push(Effect::Submit { io, disk, op });
        }
    }

    fn start(&mut self, log: &mut Replog, run: Run, effects: &mut Vec<Effect>) {
        let Run { mut copy, what } = run;
        let disk = self.legs[&copy.dev];
        let (disk, op) = match what {
            What::Bytes(data) => (disk, DiskOp::Write { sector: copy.sector, data, fua: false }),
            What::Zeroes { unmap } => {
                let (sector, len) = (copy.sector, copy.len);
                (disk, DiskOp::WriteZeroes { sector, len, unmap, fua: false })
            }
            What::ReadBack => {
                let seq = copy.parts[0].seq.expect("a copied piece is of a write");
                let Source::Ring(place) = log.source(seq) else {
                    unreachable!("a run is read back only if its payload is in the ring")
                };
                log.pin(place.group);
                copy.stage = Stage::Reading(place);
                (
                    log.disk(),
                    DiskOp::Read { sector: place.sector, buf: BufMut::zeroed(place.bytes) },
                )
            }
        };
        self.submit(disk, op, copy, effects);
    }

    fn submit(&mut self, disk: DiskId, op: DiskOp, mut copy: Copy, effects: &mut Vec<Effect>) {
        let nr = self.number();
        copy.began = self.polled;
        self.flying.insert(nr, copy);
        effects.push(Effect::Submit { io: IoId { owner: self.owner, nr }, disk, op });
    }

    fn number(&mut self) -> u64 {
        self.next_io += 1;
        self.next_io
    }

    /// A payload came back from the log; what the LD lacks of it goes there next.
    fn was_read(
        &mut self,
        now: Time,
        log: &Replog,
        nr: u64,
        mut copy: Copy,
        payload: Result<Option<Buf>, Errno>,
    ) {
        let part = copy.parts[0];
        let seq = part.seq.expect("a copied piece is of a write");
        match payload {
            // Hidden by a newer write meanwhile, and gone from the log: nobody needs it.
            _ if !log.is_shown(seq) => {}
            Ok(Some(payload)) => {
                copy.stage = Stage::Read(part_of(log, seq, &payload, &part));
                self.flying.insert(nr, copy);
                self.read.push(nr);
            }
            Ok(None) => self.failed(now, copy.dev, "the checksum of a log entry", Errno::EIO),
            Err(errno) => self.failed(now, copy.dev, "reading the log back", errno),
        }
    }

    fn copied(&mut self, log: &mut Replog, copy: &Copy) {
        self.unflushed.insert(self.legs[&copy.dev]);
        self.shipped += 1;
        for part in &copy.parts {
            let seq = part.seq.expect("a copied piece is of a write");
            log.settle(copy.dev, part.sector, part.len, seq);
        }
    }

    /// An LD that does not answer within its deadline: nothing can be done without it, but
    /// people can be told.
    fn hangs(&self, now: Time) -> Option<Down> {
        let (what, copies) = ("a copy", self.flying.values());
        let copies = copies.map(|copy| (copy.dev, what, copy.began));
        let flush = self.flush.iter().filter_map(|round| {
            let (_, disk) = round.flying.first_key_value()?;
            Some((self.dev_of(*disk), "a flush", round.began))
        });
        let (dev, what, since) = copies.chain(flush).min_by_key(|(.., began)| *began)?;
        let hangs = now.since(since) >= self.timeout;
        hangs.then_some(Down { dev, what, how: Failure::Hung, since, retry_at: now })
    }

    fn dev_of(&self, disk: DiskId) -> DevNr {
        self.legs.iter().find(|(_, d)| **d == disk).map_or(DevNr(0), |(dev, _)| *dev)
    }

    fn failed(&mut self, now: Time, dev: DevNr, what: &'static str, errno: Errno) {
        log::warn!("local site: {what} for device {dev} failed: {errno}; the log keeps its writes");
        self.health.failed(now, dev, what, Failure::Error(errno));
        self.window = Window::default();
    }

    // ---- claiming progress

    fn cover(&mut self, now: Time, log: &mut Replog, load: &Load, effects: &mut Vec<Effect>) {
        self.end_round(log);
        let upto = settled(log);
        if self.flush.is_some() || upto <= log.covered(self.nr) {
            return;
        }
        if !self.cover_is_due(now, log, load, upto) {
            return;
        }
        let needs_durable = log.superseded_by();
        log.want_durable(log.written());
        let mut round = FlushRound { upto, needs_durable, flying: BTreeMap::new(), began: now };
        for disk in std::mem::take(&mut self.unflushed) {
            let nr = self.number();
            round.flying.insert(nr, disk);
            let io = IoId { owner: self.owner, nr };
            effects.push(Effect::Submit { io, disk, op: DiskOp::Flush });
        }
        self.flush = Some(round);
        self.end_round(log);
    }

    /// The round's flushes have ended, and what it leans on is durable.
    fn end_round(&mut self, log: &mut Replog) {
        let ready = self
            .flush
            .as_ref()
            .is_some_and(|r| r.flying.is_empty() && r.needs_durable <= log.durable());
        if ready {
            let round = self.flush.take().expect("looked at above");
            // Not earlier: a disk that takes writes and fails every flush is not well, and
            // would be written to again at once, for ever (P13).
            self.health.succeeded();
            log.cover(self.nr, round.upto.max(log.covered(self.nr)));
        }
    }

    /// A flush of the LDs costs; so one for many copies, or when nothing else is to do.
    fn cover_is_due(&self, now: Time, log: &Replog, load: &Load, upto: Seq) -> bool {
        let all_copied = self.flying.is_empty() && upto == log.durable();
        let ring = log.geometry().ring_bytes();
        let gain = log.bytes_behind(log.covered(self.nr)) - log.bytes_behind(upto);
        log.is_starved()
            || (all_copied && load.is_idle(now, log))
            || gain >= (ring / 8).min(COVER_BYTES)
    }

    fn flush_ended(
        &mut self,
        now: Time,
        log: &mut Replog,
        disk: DiskId,
        result: Result<(), Errno>,
    ) {
        let Err(errno) = result else { return };
        // What was copied since the last flush may be gone from the disk's cache: let it
        // show again, so that reads find it in the log and it is copied again.
        log.show_again(log.covered(self.nr));
        self.flush = None;
        let dev = self.dev_of(disk);
        self.failed(now, dev, "a flush", errno);
    }
}

enum Flight {
    None,
    /// This very piece.
    Same,
    /// Something else to the same sectors.
    Other,
}

enum Next {
    Run(Run),
    /// The next place is being written; wait for it.
    Blocked,
    Nothing,
}

impl Window {
    fn is_done(&self) -> bool {
        self.at >= self.places.len()
    }

    fn here(&self) -> Option<Place> {
        self.places.get(self.at).copied()
    }

    /// The oldest writes that still show, as far as they are durable.
    fn next(log: &Replog) -> Self {
        let mut places = Vec::new();
        let mut bytes = 0;
        let mut seq = log.first_shown();
        while seq <= log.durable() && bytes < WINDOW_BYTES {
            if log.is_shown(seq) {
                let write = log.index().write(seq).expect("a write that shows is in the index");
                places.push(Place { dev: write.dev, sector: write.sector, len: write.len });
                bytes += if write.has_payload() { write.len.bytes() } else { 0 };
            }
            seq = seq.next();
        }
        places.sort_unstable();
        Self { places, at: 0 }
    }
}

impl Run {
    fn new(log: &Replog, dev: DevNr, piece: Piece) -> Self {
        let what = match content(log, &piece) {
            Content::Bytes(buf) => What::Bytes(Gather::from_elem(buf, 1)),
            Content::Zeroes { unmap } => What::Zeroes { unmap },
            Content::InRing => What::ReadBack,
        };
        let copy = Copy {
            dev,
            sector: piece.sector,
            len: piece.len,
            parts: SmallVec::from_elem(piece, 1),
            stage: Stage::Writing,
            began: Time::default(),
        };
        Self { copy, what }
    }

    /// Adds a piece that follows directly and is in memory too.
    fn takes(&mut self, log: &Replog, dev: DevNr, piece: &Piece) -> bool {
        let follows = self.copy.dev == dev && self.copy.sector + self.copy.len == piece.sector;
        let What::Bytes(data) = &mut self.what else { return false };
        let fits = (self.copy.len + piece.len).bytes() <= RUN_BYTES && data.len() < RUN_PARTS;
        if !follows || !fits {
            return false;
        }
        let Content::Bytes(buf) = content(log, piece) else { return false };
        data.push(buf);
        self.copy.len += piece.len;
        self.copy.parts.push(*piece);
        true
    }
}

enum Content {
    Bytes(Buf),
    Zeroes { unmap: bool },
    InRing,
}

/// What a piece of the overlay holds.
fn content(log: &Replog, piece: &Piece) -> Content {
    let seq = piece.seq.expect("a copied piece is of a write");
    match log.source(seq) {
        Source::Memory(payload) => Content::Bytes(part_of(log, seq, &payload, piece)),
        Source::Zeroes { unmap } => Content::Zeroes { unmap },
        Source::Ring(_) => Content::InRing,
        Source::Nothing => unreachable!("a bookmark never shows in the overlay"),
    }
}

/// The part of a write's payload that a piece shows.
fn part_of(log: &Replog, seq: Seq, payload: &Buf, piece: &Piece) -> Buf {
    let write = log.index().write(seq).expect("a write that shows is in the index");
    let start = piece.sector.since(write.sector).len();
    payload.slice(start..start + piece.len.len())
}

/// Everything up to here is on the LD, if only in its cache, or hidden by newer writes.
fn settled(log: &Replog) -> Seq {
    log.first_shown().prev().min(log.durable())
}

impl SiteLink for Lazy {
    fn nr(&self) -> SlinkNr {
        self.nr
    }

    fn poll(&mut self, now: Time, log: &mut Replog, load: &Load, effects: &mut Vec<Effect>) {
        self.polled = now;
        if self.health.may_try(now) {
            self.copy(now, log, load, effects);
            self.cover(now, log, load, effects);
        }
    }

    fn done(&mut self, now: Time, log: &mut Replog, ended: Ended) {
        if let Some(round) = &mut self.flush
            && let Some(disk) = round.flying.remove(&ended.nr)
        {
            self.flush_ended(now, log, disk, ended.result);
            return;
        }
        // A flush of a round that was given up when another of its flushes failed is nobody's.
        let Some(copy) = self.flying.remove(&ended.nr) else { return };
        match (&copy.stage, ended.result) {
            (Stage::Reading(place), result) => {
                let place = *place;
                log.unpin(place.group);
                let read = ended.buf.expect("a read brings its buffer back").freeze();
                let payload = result.map(|()| place.payload(&read));
                self.was_read(now, log, ended.nr, copy, payload);
            }
            (_, Err(errno)) => self.failed(now, copy.dev, "a write", errno),
            (_, Ok(())) => self.copied(log, &copy),
        }
    }

    fn wakeup(&self, log: &Replog, load: &Load) -> Option<Time> {
        let retry = self.health.down().map(|down| down.retry_at).filter(|at| *at > self.polled);
        if retry.is_some() {
            return retry;
        }
        let idle_at = load.last_change + IDLE_AFTER;
        let pending = log.covered(self.nr) < log.written();
        (pending && idle_at > self.polled).then_some(idle_at)
    }

    fn report(&self, now: Time, _log: &Replog) -> Report {
        let down = self.health.down().cloned().or_else(|| self.hangs(now));
        Report::new(down, self.shipped, self.flying.len())
    }

    fn opened(
        &mut self,
        _now: Time,
        _log: &mut Replog,
        _disk: DiskId,
        _result: Result<DiskSeen, NotOpened>,
    ) {
        unreachable!("this link asks for no disk to be opened")
    }

    fn grant(&mut self, _now: Time, log: &Replog) -> Grant {
        if self.sync { Grant::UpTo(log.covered(self.nr)) } else { Grant::All }
    }

    fn dirty_log(&self, dev: DevNr) -> Option<&DirtyLog> {
        self.dirty_logs.get(&dev)
    }

    fn take_events(&mut self) -> Vec<SiteEvent> {
        Vec::new()
    }

    fn resync(&mut self, _now: Time, _log: &mut Replog, _dev: Option<DevNr>) {}

    fn reconfigure(&mut self, _now: Time, _log: &mut Replog, table: &SlinkTable) {
        self.timeout = table.options.timeout_io();
    }

    fn hold(&mut self, _now: Time, _log: &mut Replog, _held: bool) {
        unreachable!("only a remote site is taken down")
    }

    fn set_mark(&mut self, _: Time, _: &mut Replog, _: Option<DiskId>) -> Option<DiskId> {
        None
    }

    fn add_leg(&mut self, _now: Time, _log: &mut Replog, _leg: Leg) {
        unreachable!("the local site's legs are the devices'")
    }

    fn drop_leg(&mut self, _dev: DevNr) {
        unreachable!("the local site's legs are the devices'")
    }

    fn disks(&self) -> Vec<DiskId> {
        self.legs.values().copied().collect()
    }

    fn is_still(&self) -> bool {
        self.flying.is_empty() && self.flush.as_ref().is_none_or(|round| round.flying.is_empty())
    }

    fn next_deadline(&self, _now: Time) -> Option<Time> {
        None
    }

    fn is_busy(&self, _now: Time) -> bool {
        let flies = |copy: &Copy| !matches!(copy.stage, Stage::Read(_));
        self.flying.values().any(flies) || self.flush.as_ref().is_some_and(|r| !r.flying.is_empty())
    }
}

/// How much of the log is sorted at a time. Larger skips more of what is overwritten and
/// sorts better; smaller moves the head more smoothly. Gains level off here.
const WINDOW_BYTES: u64 = 16 * 1024 * 1024;
/// The longest run written as one.
const RUN_BYTES: u64 = 512 * 1024;
/// The most buffers in one run.
const RUN_PARTS: usize = 128;
/// So much progress is worth a flush of the LDs.
const COVER_BYTES: u64 = 64 * 1024 * 1024;
