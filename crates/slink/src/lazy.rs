//! The local site, when nobody waits for it: any order, merged, sorted, and only
//! what is newest.
//!
//! The log is replayed onto the LD at every opening, so the LD's order does not
//! matter; what matters is how little it costs. The site is what the overlay is about
//! (the base) whenever it is fed so. The link takes a *window* of the
//! log, oldest first, sorts what the overlay still shows of it by place ([`crate::window`]),
//! and copies runs of neighbours with a deep queue. What was overwritten meanwhile is skipped.
//!
//! When it may claim progress: a write is settled when nothing of it shows in the
//! overlay. It was copied, or a newer write hides it; that newer one must be durable
//! in the log before the old one may leave it (else a power cut takes both). And the
//! copies must be flushed.

use std::collections::{BTreeMap, BTreeSet};

use blk::{Buf, BufMut, DevNr, DiskId, DiskOp, Errno, Gather, Sector, Sectors, Seq};
use replog::{Piece, Replog, RingPlace, Source};
use smallvec::SmallVec;

use crate::feed::{Failed, Outcome};
use crate::flights::{To, Work};
use crate::governor::{copies_wanted, is_pressed};
use crate::health::Failure;
use crate::legs::Legs;
use crate::link::Load;
use crate::ordered::Step;
use crate::window::{Pace, Window};

/// What feeds the local site, when it is `async`.
#[derive(Debug, Default)]
pub(crate) struct Lazy {
    window: Window,
    pace: Pace,
    /// The last write of a window that was sent as a whole: what is worth a flush next, while
    /// somebody waits for room.
    goal: Seq,
    /// By where they begin: no two of them have a sector in common (I4).
    copies: BTreeMap<At, Copy>,
    /// Copies that were read back and are to be written.
    read: Vec<At>,
    /// Disks written to since their last flush.
    pub(crate) unflushed: BTreeSet<DiskId>,
    round: Option<FlushRound>,
    /// Nothing more is sent, and what is in flight is waited for: since something failed, or
    /// since the site left the log.
    ending: Option<Ending>,
    /// I/O in flight.
    flying: usize,
    /// Copies that reached the site.
    pub(crate) copied: u64,
}

/// Why nothing more is sent.
#[derive(Debug)]
enum Ending {
    Failed(Failed),
    Abandoned,
}

/// Where a copy begins.
type At = (DevNr, Sector);

/// What an I/O of lazy feeding is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LazyStep {
    /// A payload is read back from the log.
    ReadBack { copy: At, place: RingPlace },
    /// A run is written to the site.
    Write { copy: At },
    /// One of its disks is flushed.
    Flush,
}

/// One I/O in flight to an LD, or from the log for one.
#[derive(Debug)]
struct Copy {
    dev: DevNr,
    sector: Sector,
    len: Sectors,
    parts: SmallVec<[Piece; 1]>,
    stage: Stage,
}

/// How far a copy is.
#[derive(Debug)]
enum Stage {
    /// The payload is being read back from the log.
    Reading,
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
    /// Disks that are flushed for it.
    disks: BTreeSet<DiskId>,
    /// Flushes in flight.
    left: usize,
}

impl Lazy {
    /// Whether nothing of it is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.flying == 0 && self.copies.is_empty() && self.round.is_none()
    }

    /// The site leaves the log: what is in flight is waited for, and counts for nothing.
    pub(crate) fn abandon(&mut self) {
        if !self.is_idle() {
            self.ending.get_or_insert(Ending::Abandoned);
        }
    }

    /// Something failed or hangs: what is in flight is waited for, nothing more is sent.
    pub(crate) fn fail(&mut self, failed: Failed) {
        if !self.is_idle() {
            self.ending.get_or_insert(Ending::Failed(failed));
        }
    }

    /// Sends what is to be sent; `may_begin`: the site may be written to.
    pub(crate) fn poll(
        &mut self,
        may_begin: bool,
        load: &Load,
        log: &mut Replog,
        work: &mut Work<'_>,
    ) -> Option<Outcome> {
        if self.ending.is_some() {
            return self.end();
        }
        self.write_what_was_read(work);
        if may_begin {
            self.copy(load, log, work);
        }
        self.cover(may_begin, load, log, work)
    }

    /// What was copied and not flushed may be gone, or is nobody's: the log shows it again
    /// before the site is fed anew. But not what a dead daemon left in a cache (P8): a flush that
    /// was to come, or failed, is owed.
    fn end(&mut self) -> Option<Outcome> {
        if self.flying > 0 {
            return None;
        }
        let ended = std::mem::take(self);
        (self.copied, self.unflushed) = (ended.copied, ended.unflushed);
        self.unflushed.extend(ended.round.into_iter().flat_map(|round| round.disks));
        match ended.ending? {
            Ending::Failed(failed) => Some(Outcome::Failed(failed)),
            Ending::Abandoned => None,
        }
    }

    // ---- copying

    fn copy(&mut self, load: &Load, log: &mut Replog, work: &mut Work<'_>) {
        let wanted = self.pace.at_once(copies_wanted(log, load.is_idle(work.now, log)));
        let most = if is_pressed(log) { self.pace.window_max(wanted) } else { usize::MAX };
        if self.window.left() > most {
            self.window = Window::next(log, most);
        }
        let mut fresh = false;
        while self.copies.len() < wanted {
            match self.next_run(log) {
                Next::Run(run) => self.start(log, run, work),
                Next::Blocked => return,
                // Not even a new window has anything that is not on its way already.
                Next::Nothing if fresh => return,
                Next::Nothing => {
                    self.pace.look(work.now);
                    if self.goal <= log.covered(work.legs.site) {
                        self.goal = self.window.last();
                    }
                    self.window = Window::next(log, most);
                    fresh = true;
                    if self.window.is_done() && !log.is_lost() {
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
            let shown = pieces.into_iter().filter(|p| p.seq.is_some_and(|s| s <= log.ships_upto()));
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
            self.window.step();
        }
        run.map_or(Next::Nothing, Next::Run)
    }

    /// Whether a piece is on its way already, or something else is to the same sectors.
    fn flight(&self, dev: DevNr, piece: &Piece) -> Flight {
        let end = piece.sector + piece.len;
        // The last that begins before its end reaches furthest.
        let before = self.copies.range((dev, Sector(0))..(dev, end)).next_back();
        let Some((_, copy)) = before.filter(|(_, it)| piece.sector < it.sector + it.len) else {
            return Flight::None;
        };
        let same = copy.parts.iter().any(|part| {
            part.seq == piece.seq && part.sector <= piece.sector && end <= part.sector + part.len
        });
        if same { Flight::Same } else { Flight::Other }
    }

    fn write_what_was_read(&mut self, work: &mut Work<'_>) {
        for at in std::mem::take(&mut self.read) {
            let copy = self.copies.get_mut(&at).expect("a copy that was read is under way");
            let Stage::Read(buf) = std::mem::replace(&mut copy.stage, Stage::Writing) else {
                unreachable!("only what was read is listed")
            };
            let data = Gather::from_elem(buf, 1);
            let op = DiskOp::Write { sector: copy.sector, data, fua: false };
            let flight = (copy.dev, "a write", To::Site, Step::Lazy(LazyStep::Write { copy: at }));
            self.flying += 1;
            work.submit(disk_of(work.legs, flight.0), op, flight);
        }
    }

    fn start(&mut self, log: &mut Replog, run: Run, work: &mut Work<'_>) {
        let Run { mut copy, what } = run;
        let (dev, sector, len) = (copy.dev, copy.sector, copy.len);
        let at = (dev, sector);
        let write = (dev, "a write", To::Site, Step::Lazy(LazyStep::Write { copy: at }));
        let (disk, op, flight) = match what {
            What::Bytes(data) => {
                (disk_of(work.legs, dev), DiskOp::Write { sector, data, fua: false }, write)
            }
            What::Zeroes { unmap } => {
                let op = DiskOp::WriteZeroes { sector, len, unmap, fua: false };
                (disk_of(work.legs, dev), op, write)
            }
            What::ReadBack => {
                let seq = copy.parts[0].seq.expect("a copied piece is of a write");
                let Source::Ring(place) = log.source(seq) else {
                    unreachable!("a run is read back only if its payload is in the ring")
                };
                log.pin(place.group);
                copy.stage = Stage::Reading;
                let buf = BufMut::zeroed(place.bytes);
                let op = DiskOp::Read { sector: place.sector, buf };
                let step = Step::Lazy(LazyStep::ReadBack { copy: at, place });
                (log.disk(), op, (dev, "reading the log back", To::Log, step))
            }
        };
        assert!(self.copies.insert(at, copy).is_none(), "I4: nothing else is on its way there");
        self.flying += 1;
        work.submit(disk, op, flight);
    }

    /// An I/O has ended.
    pub(crate) fn done(
        &mut self,
        (dev, what): (DevNr, &'static str),
        step: LazyStep,
        result: Result<(), Errno>,
        buf: Option<BufMut>,
        legs: &Legs,
        log: &mut Replog,
    ) {
        self.flying -= 1;
        let mut failed = result.err().map(|errno| (what, errno));
        match step {
            LazyStep::ReadBack { copy, place } => {
                log.unpin(place.group);
                let read = buf.expect("a read brings its buffer back").freeze();
                match place.payload(&read) {
                    _ if failed.is_some() || self.ending.is_some() => {}
                    Some(payload) => self.was_read(log, copy, &payload),
                    None => failed = Some(("the checksum of a log entry", Errno::EIO)),
                }
            }
            LazyStep::Write { copy } => {
                let copy = self.copies.remove(&copy).expect("a copy is written once");
                // After a failure nobody relies on what was written (and then lost, perhaps).
                if failed.is_none() && self.ending.is_none() {
                    self.copied(log, legs, &copy);
                }
            }
            LazyStep::Flush => {
                let round = self.round.as_mut().expect("a flush ends while it is waited for");
                round.left -= 1;
            }
        }
        if let Some((what, errno)) = failed {
            let failed = Failed { dev, what, how: Failure::Error(errno) };
            self.ending.get_or_insert(Ending::Failed(failed));
        }
    }

    /// A payload came back from the log; what the LD lacks of it goes there next.
    fn was_read(&mut self, log: &Replog, at: At, payload: &Buf) {
        let copy = self.copies.get_mut(&at).expect("a copy outlives its I/O");
        let part = copy.parts[0];
        let seq = part.seq.expect("a copied piece is of a write");
        if log.is_shown(seq) {
            copy.stage = Stage::Read(part_of(log, seq, payload, &part));
            self.read.push(at);
        } else {
            // Hidden by a newer write meanwhile, and gone from the log: nobody needs it.
            self.copies.remove(&at);
        }
    }

    fn copied(&mut self, log: &mut Replog, legs: &Legs, copy: &Copy) {
        self.unflushed.insert(disk_of(legs, copy.dev));
        self.copied += 1;
        self.pace.copied(copy.parts.len());
        for part in &copy.parts {
            let seq = part.seq.expect("a copied piece is of a write");
            log.settle(copy.dev, part.sector, part.len, seq);
        }
    }

    // ---- claiming progress

    fn cover(
        &mut self,
        may_begin: bool,
        load: &Load,
        log: &mut Replog,
        work: &mut Work<'_>,
    ) -> Option<Outcome> {
        let site = work.legs.site;
        if self.round.is_none() && may_begin {
            let upto = settled(log);
            let due = upto > log.covered(site) && self.cover_is_due(load, log, upto, work);
            if !due {
                return None;
            }
            let needs_durable = log.superseded_by();
            if !log.is_lost() {
                log.want_durable(log.written());
            }
            let disks = std::mem::take(&mut self.unflushed);
            self.flying += disks.len();
            for &disk in &disks {
                let dev = work.legs.dev_of(disk).expect("a link writes to its own legs only");
                let step = Step::Lazy(LazyStep::Flush);
                work.submit(disk, DiskOp::Flush, (dev, "a flush", To::Site, step));
            }
            self.round = Some(FlushRound { upto, needs_durable, left: disks.len(), disks });
        }
        // The round's flushes have ended, and what it leans on is durable.
        let may_end =
            |r: &mut FlushRound| r.left == 0 && (r.needs_durable <= log.durable() || log.is_lost());
        let ended = self.round.take_if(may_end)?;
        // One that began before the log was lost may lean on what only that had: another follows.
        let counts = ended.needs_durable <= log.durable().max(ended.upto);
        counts.then(|| Outcome::Arrived(ended.upto.max(log.covered(site))))
    }

    /// A flush of the LDs costs; so one for many copies, or when nothing else is to do.
    fn cover_is_due(&self, load: &Load, log: &Replog, upto: Seq, work: &Work<'_>) -> bool {
        if log.is_lost() {
            return self.cover_is_due_without_log(load, log, upto, work);
        }
        let all_copied = self.copies.is_empty() && upto == log.durable();
        let ring = log.ring_bytes();
        let covered = log.covered(work.legs.site);
        let gain = log.bytes_behind(covered) - log.bytes_behind(upto);
        (is_pressed(log) && covered < self.goal && self.goal <= upto)
            || (log.is_starved() && self.copies.is_empty())
            || (all_copied && (log.is_catching_up() || load.is_idle(work.now, log)))
            || gain >= (ring / 8).min(COVER_BYTES)
    }

    /// What hides an older write and is not there yet is not behind any flush, nor in the log:
    /// the older one does not count as settled before.
    fn cover_is_due_without_log(
        &self,
        load: &Load,
        log: &Replog,
        upto: Seq,
        work: &Work<'_>,
    ) -> bool {
        let behind = log.bytes_behind(log.covered(work.legs.site)) - log.bytes_behind(upto);
        let space = log.is_starved() || log.is_tail_full();
        let idle = self.copies.is_empty() && load.is_idle(work.now, log);
        upto >= log.superseded_by()
            && (log.wants_local_flush(upto) || space || idle || behind >= COVER_BYTES)
    }
}

fn disk_of(legs: &Legs, dev: DevNr) -> DiskId {
    legs.disk(dev).expect("the local site has every device")
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
    log.first_shown().prev().min(log.ships_upto())
}

/// The longest run written as one.
const RUN_BYTES: u64 = 512 * 1024;
/// The most buffers in one run.
const RUN_PARTS: usize = 128;
/// So much progress is worth a flush of the LDs.
const COVER_BYTES: u64 = 64 * 1024 * 1024;
