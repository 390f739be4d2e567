//! Feeding a site: group after group, each in parallel, with a barrier between (P3).
//!
//! At any instant the site holds every group up to `covered`, and any part of the
//! next one: an image that the application could have found after a crash of its
//! own, since no write of that next group was acknowledged when the group closed.
//!
//! With `order:flush` a shipment is as many groups as had no completed flush between
//! them: what a volatile cache could have kept any part of. Of sectors written more than
//! once it carries the newest content.
//!
//! Why a cursor must be durable (I13): after a crash the site is fed again from its
//! durable cursor. Were that cursor two shipments back, the older ones would be written
//! over the newer one, and the image would run backwards through states that never
//! were. So shipment n+1 waits until the log knows, durably, of n−1; and the first one
//! after an opening leaves alone what the next one has changed already ([`crate::reship`]).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::RangeInclusive;

use blk::{Buf, BufMut, DevNr, DiskId, DiskOp, Errno, Gather, Sector, Sectors, Seq};
use replog::overlay::Overlay;
use replog::{Replog, RingPlace, Source};
use table::Order;

use crate::flights::{To, Work};
use crate::health::Failure;
use crate::legs::Legs;
use crate::ordered::Step;
use crate::reship::{Look, Reship};

/// What carries groups to one site.
#[derive(Debug)]
pub(crate) struct Feed {
    order: Order,
    shipment: Option<Shipment>,
    /// Disks that are to be flushed with the next shipment, whatever it is.
    pub(crate) unflushed: BTreeSet<DiskId>,
    /// What the site had before the last shipment that arrived; `None`: none arrived yet.
    before_last: Option<Seq>,
    /// The site may have what comes next, and some of what follows: it was fed before.
    fed_before: bool,
    /// Of a local site that was: what is newest in the log that was found.
    replay: Option<Replay>,
    /// How often the site could not be asked what it has.
    looks_failed: u32,
    /// Groups that arrived.
    pub(crate) groups: u64,
    /// Shipments that arrived.
    pub(crate) round_trips: u64,
}

/// Groups on their way to the site.
#[derive(Debug)]
struct Shipment {
    groups: RangeInclusive<u64>,
    last: Seq,
    /// What has to be found out of the site before anything is sent.
    again: Option<Reship>,
    /// What is still to be sent.
    todo: VecDeque<Part>,
    /// Parts whose payload was read back from the log, and is still what it was.
    read: VecDeque<(Part, Buf)>,
    /// How many parts each disk gets.
    per_disk: BTreeMap<DiskId, usize>,
    /// I/O in flight.
    flying: usize,
    /// Disks that are to be flushed before the shipment counts as arrived.
    to_flush: BTreeSet<DiskId>,
    /// The first failure: nothing more is sent, and all of it will be sent again.
    failed: Option<Failed>,
    /// The site left the log: nothing more is sent, and nothing of it counts.
    abandoned: bool,
}

/// What a local site gets once more after an opening. Its cursor may be far behind what it
/// has, which is why the log is durable up to there. It gets only what was not written over
/// since: a `sync` one would else lose, for a while, what was promised to be on its media (P1).
#[derive(Debug)]
struct Replay {
    upto: Seq,
    /// Looked up when the site can be fed.
    shown: Option<Overlay>,
}

/// A part of a write, as it goes to one disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    pub(crate) seq: Seq,
    pub(crate) dev: DevNr,
    pub(crate) sector: Sector,
    pub(crate) len: Sectors,
}

/// What an I/O of a feed is for.
#[derive(Debug)]
pub(crate) enum FeedStep {
    /// A payload is read back from the log.
    ReadBack { part: Part, place: RingPlace },
    /// The site is asked what it has.
    Looked(Look),
    /// A write is sent to the site, or the barrier.
    Sent,
}

/// A failure that stopped a shipment.
#[derive(Clone, Debug)]
pub(crate) struct Failed {
    pub(crate) dev: DevNr,
    pub(crate) what: &'static str,
    pub(crate) how: Failure,
}

/// What became of a shipment.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Everything up to here is on the site's media.
    Arrived(Seq),
    /// Nothing of it is in flight any more.
    Failed(Failed),
}

impl Feed {
    pub(crate) fn new(order: Order) -> Self {
        Self {
            order,
            shipment: None,
            unflushed: BTreeSet::new(),
            before_last: None,
            fed_before: true,
            replay: None,
            looks_failed: 0,
            groups: 0,
            round_trips: 0,
        }
    }

    /// A local site was fed before, and the log was found to end at `upto`.
    pub(crate) fn replays(&mut self, upto: Seq) {
        self.replay = Some(Replay { upto, shown: None });
    }

    /// What is kept in order, from the next shipment on.
    pub(crate) fn set_order(&mut self, order: Order) {
        self.order = order;
    }

    /// Whether nothing of it is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.shipment.is_none()
    }

    /// The site was fed otherwise: what it had before does not matter any more.
    pub(crate) fn begin_anew(&mut self) {
        assert!(self.is_idle(), "I15: nothing is in flight when a site is fed anew");
        self.before_last = None;
        self.fed_before = false;
        self.replay = None;
    }

    /// The site leaves the log, which will not hold what is still to be sent: what is in
    /// flight is waited for, and counts for nothing.
    pub(crate) fn abandon(&mut self) {
        if let Some(shipment) = &mut self.shipment {
            shipment.abandoned = true;
        }
    }

    /// Something failed or hangs: what is in flight is waited for, nothing more is sent.
    pub(crate) fn fail(&mut self, failed: Failed) {
        if let Some(shipment) = &mut self.shipment {
            shipment.failed.get_or_insert(failed);
        }
    }

    /// Sends what is to be sent; `may_begin`: another shipment, too.
    pub(crate) fn poll(
        &mut self,
        may_begin: bool,
        log: &mut Replog,
        work: &mut Work<'_>,
    ) -> Option<Outcome> {
        if self.shipment.is_none() && may_begin {
            self.begin(work.legs, log);
        }
        let shipment = self.shipment.as_mut()?;
        shipment.look(log, work);
        shipment.send_all(log, work);
        if shipment.flying > 0 {
            return None;
        }
        if let Some(failed) = shipment.failed.take() {
            self.shipment = None;
            return Some(Outcome::Failed(failed));
        }
        if shipment.abandoned {
            self.shipment = None;
            return None;
        }
        if !shipment.todo.is_empty() || !shipment.read.is_empty() {
            return None;
        }
        if shipment.flush(work) {
            return None;
        }
        Some(self.arrived(log.covered(work.legs.site)))
    }

    /// Takes the next groups, if they are durable (I3) and the site may have them (I13).
    fn begin(&mut self, legs: &Legs, log: &mut Replog) {
        let covered = log.covered(legs.site);
        let Some(group) = log.index().group_of(covered.next()) else { return };
        let (last, nr) = (group.last_seq, group.nr);
        if last > log.ships_upto() {
            if last <= log.written() && !log.is_lost() {
                log.want_durable(log.written());
            }
            return;
        }
        let safe = self.before_last.unwrap_or(covered);
        // The log makes a local site whole again, whatever it was fed.
        if !legs.site.is_local() && log.durable_cursor(legs.site) < safe {
            log.want_durable_cursor(legs.site, safe);
            return;
        }
        self.look_up_replay(nr, covered, log);
        let groups = nr..=self.last_group(nr, covered, log);
        let again = self.again(&groups, legs, log);
        let mut shipment = Shipment::of(groups, again, log);
        if shipment.again.is_none() {
            let replay = self.replay.as_ref();
            shipment.load(replay.and_then(|replay| replay.shown.as_ref()), legs, log);
        }
        shipment.to_flush.extend(&self.unflushed);
        self.shipment = Some(shipment);
    }

    /// What has to be found out before the first shipment of all is sent.
    fn again(&self, groups: &RangeInclusive<u64>, legs: &Legs, log: &Replog) -> Option<Reship> {
        if !self.fed_before || legs.site.is_local() {
            return None;
        }
        let before = log.index().group(*groups.end()).expect("looked up just now").last_seq;
        // Not the group behind: that may be one of no writes, which ends a lap of the ring.
        let first = log.index().group_of(before.next())?.nr;
        Reship::of(groups.clone(), first..=self.last_group(first, before, log), legs, log)
    }

    fn look_up_replay(&mut self, first: u64, covered: Seq, log: &Replog) {
        self.replay.take_if(|replay| replay.upto <= covered);
        if let Some(Replay { upto, shown }) = &mut self.replay {
            let last = log.index().group_of(*upto).expect("the log holds what a site lacks").nr;
            shown.get_or_insert_with(|| newest(first..=last, log));
        }
    }

    /// The last group that may go with group `first` in one shipment.
    fn last_group(&self, first: u64, covered: Seq, log: &Replog) -> u64 {
        if self.order == Order::Group {
            return first;
        }
        let (mut last, mut bytes) = (first, 0);
        while let Some(next) = log.index().group(last + 1) {
            // A write that was made after a flush had ended must not be seen without what
            // that flush promised: it goes in a later shipment.
            let limit = log.ships_upto();
            let upto = self.replay.as_ref().map_or(limit, |replay| replay.upto.min(limit));
            let fits = next.durable <= covered && next.last_seq <= upto;
            bytes += next.bytes;
            if !fits || bytes > SHIPMENT_BYTES || next.last_seq.lag(covered) > SHIPMENT_WRITES {
                break;
            }
            last += 1;
        }
        last
    }

    fn arrived(&mut self, before: Seq) -> Outcome {
        let shipment = self.shipment.take().expect("a shipment arrives once");
        self.before_last = Some(before);
        (self.fed_before, self.looks_failed) = (false, 0);
        self.unflushed.clear();
        self.groups += shipment.groups.end() - shipment.groups.start() + 1;
        self.round_trips += 1;
        Outcome::Arrived(shipment.last)
    }

    /// An I/O of the shipment has ended.
    pub(crate) fn done(
        &mut self,
        dev: DevNr,
        what: &'static str,
        step: FeedStep,
        result: Result<(), Errno>,
        buf: Option<BufMut>,
        log: &mut Replog,
    ) {
        let shipment = self.shipment.as_mut().expect("a shipment outlives its I/O");
        shipment.flying -= 1;
        let mut failed = result.err().map(Failure::Error);
        match step {
            FeedStep::Sent => {}
            FeedStep::Looked(look) => {
                let found = buf.expect("a read brings its buffer back").freeze();
                self.looks_failed += u32::from(failed.is_some());
                let gone = failed.take_if(|_| self.looks_failed > LOOKS_FAILED_MAX).is_some();
                match &mut shipment.again {
                    Some(again) if gone => again.unreadable(&look),
                    Some(again) if failed.is_none() => again.looked(&look, &found),
                    _ => {}
                }
            }
            FeedStep::ReadBack { part, place } => {
                log.unpin(place.group);
                let read = buf.expect("a read brings its buffer back").freeze();
                match place.payload(&read) {
                    _ if failed.is_some() => {}
                    Some(payload) => shipment.read_back(part, payload),
                    None => failed = Some(Failure::Error(Errno::EIO)),
                }
            }
        }
        if let Some(how) = failed {
            self.fail(Failed { dev, what, how });
        }
    }
}

impl Shipment {
    fn of(groups: RangeInclusive<u64>, again: Option<Reship>, log: &Replog) -> Self {
        let last = log.index().group(*groups.end()).expect("the groups were just looked up");
        Self {
            last: last.last_seq,
            groups,
            again,
            todo: VecDeque::new(),
            read: VecDeque::new(),
            per_disk: BTreeMap::new(),
            flying: 0,
            to_flush: BTreeSet::new(),
            failed: None,
            abandoned: false,
        }
    }

    /// All that is to be sent: of what `shown` names, the writes that it names.
    fn load(&mut self, shown: Option<&Overlay>, legs: &Legs, log: &Replog) {
        // Of what was written twice in one shipment only the newest goes (I4).
        let merged = (shown.is_none() && self.groups.start() != self.groups.end())
            .then(|| newest(self.groups.clone(), log));
        let shown = shown.or(merged.as_ref());
        for group in self.groups.clone().filter_map(|nr| log.index().group(nr)) {
            for (seq, write) in log.index().writes_of(group) {
                // A device need not exist on every site.
                let Some(disk) = legs.disk(write.dev) else { continue };
                let whole = Part { seq, dev: write.dev, sector: write.sector, len: write.len };
                let parts = shown.map_or_else(|| vec![whole], |it| whole.shown(it));
                *self.per_disk.entry(disk).or_insert(0) += parts.len();
                self.todo.extend(parts);
            }
        }
    }

    /// Finds out what is to be sent, if that depends on what the site has.
    fn look(&mut self, log: &mut Replog, work: &mut Work<'_>) {
        let Some(again) = &mut self.again else { return };
        while self.failed.is_none() && !self.abandoned && self.flying < IN_FLIGHT_MAX {
            let Some((disk, op, (dev, what, to, step))) = again.ask(work.legs, log) else { break };
            self.flying += 1;
            work.submit(disk, op, (dev, what, to, Step::Feed(step)));
        }
        if self.flying > 0 || !again.is_done() {
            return;
        }
        let again = self.again.take().expect("looked at above");
        let (shown, left_alone) = again.found(work.legs);
        // It may be in a cache, the same by chance, and not the next shipment's.
        self.to_flush.extend(left_alone);
        self.load(Some(&shown), work.legs, log);
    }

    fn read_back(&mut self, part: Part, payload: Buf) {
        match &mut self.again {
            Some(again) => again.read_back(part, payload),
            None => self.read.push_back((part, payload)),
        }
    }

    fn send_all(&mut self, log: &mut Replog, work: &mut Work<'_>) {
        while self.failed.is_none() && !self.abandoned && self.flying < IN_FLIGHT_MAX {
            let next = self.read.pop_front();
            let (part, source) = match next {
                Some((part, payload)) => (part, Source::Memory(payload)),
                None => match self.todo.pop_front() {
                    Some(part) => (part, log.source(part.seq)),
                    None => return,
                },
            };
            let (disk, op, what, to, step) = match source {
                Source::Nothing => continue,
                Source::Ring(place) => {
                    log.pin(place.group);
                    let buf = BufMut::zeroed(place.bytes);
                    let op = DiskOp::Read { sector: place.sector, buf };
                    let step = FeedStep::ReadBack { part, place };
                    (log.disk(), op, "reading the log back", To::Log, Step::Feed(step))
                }
                source => {
                    let disk = work.legs.disk(part.dev).expect("a part goes to one of the legs");
                    let op = self.send(part, disk, source, log);
                    (disk, op, "a write", To::Site, Step::Feed(FeedStep::Sent))
                }
            };
            self.flying += 1;
            work.submit(disk, op, (part.dev, what, to, step));
        }
    }

    /// One write to the site.
    fn send(&mut self, part: Part, disk: DiskId, source: Source, log: &Replog) -> DiskOp {
        // A lone write carries its own barrier, and saves a round trip.
        let fua = self.per_disk[&disk] == 1;
        if !fua {
            self.to_flush.insert(disk);
        }
        let Part { sector, len, .. } = part;
        match source {
            Source::Memory(payload) => {
                let data = Gather::from_elem(part.of(&payload, log), 1);
                DiskOp::Write { sector, data, fua }
            }
            Source::Zeroes { unmap } => DiskOp::WriteZeroes { sector, len, unmap, fua },
            Source::Ring(_) | Source::Nothing => unreachable!("sent otherwise, or not at all"),
        }
    }

    /// Everything was sent and has landed: now the barrier. Whether there is one to wait for.
    fn flush(&mut self, work: &mut Work<'_>) -> bool {
        let disks = std::mem::take(&mut self.to_flush);
        for disk in &disks {
            let dev = work.legs.dev_of(*disk).expect("a link writes to its own legs only");
            let step = Step::Feed(FeedStep::Sent);
            work.submit(*disk, DiskOp::Flush, (dev, "a flush", To::Site, step));
        }
        self.flying += disks.len();
        !disks.is_empty()
    }
}

impl Part {
    /// Its bytes, of all that its write wrote.
    pub(crate) fn of(self, payload: &Buf, log: &Replog) -> Buf {
        let write = log.index().write(self.seq);
        let write = write.expect("I5: the log holds what a site still needs");
        let skip = self.sector.since(write.sector).len();
        payload.slice(skip..skip + self.len.len())
    }

    /// What of it is newest.
    fn shown(self, newest: &Overlay) -> Vec<Self> {
        let pieces = newest.pieces(self.dev, self.sector, self.len).into_iter();
        let own = pieces.filter(|piece| piece.seq == Some(self.seq));
        own.map(|piece| Self { sector: piece.sector, len: piece.len, ..self }).collect()
    }
}

/// Which write of several groups is newest, sector by sector.
pub(crate) fn newest(groups: RangeInclusive<u64>, log: &Replog) -> Overlay {
    let mut overlay = Overlay::default();
    for group in groups.filter_map(|nr| log.index().group(nr)) {
        for (seq, write) in log.index().writes_of(group) {
            if !write.len.is_empty() {
                overlay.put(write.dev, write.sector, write.len, seq);
            }
        }
    }
    overlay
}

/// So often is a site down for what can't be read there, before that counts as lost.
const LOOKS_FAILED_MAX: u32 = 2;
/// Writes in flight to one site; a bound on what a hung device can hold (I10).
const IN_FLIGHT_MAX: usize = 64;
/// A shipment of `order:flush` is worth a round trip, and no more than that.
const SHIPMENT_BYTES: u64 = 16 * 1024 * 1024;
const SHIPMENT_WRITES: u64 = 4096;
