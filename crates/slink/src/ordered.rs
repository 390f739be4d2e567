//! Group after group, each in parallel, with a barrier between (P3).
//!
//! At any instant the site holds every group up to `covered`, and any part of the
//! next one: an image that the application could have found after a crash of its
//! own, since no write of that next group was acknowledged when the group closed.
//!
//! Why a cursor must be durable (I13): after a crash the site is fed again from its
//! durable cursor. Were that cursor two groups back, the older group would be
//! written over the newer one, and the image would run backwards through states
//! that never were. So group n+1 waits until the log knows, durably, of n−1.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use blk::{Buf, BufMut, DevNr, DiskId, DiskOp, Effect, Errno, Gather, IoId, IoOwner};
use blk::{DiskSeen, NotOpened, Seq, SlinkNr, Time};
use dirty_log::DirtyLog;
use replog::{Replog, RingPlace, Source};

use crate::event::SiteEvent;
use crate::health::{Failure, Health};
use crate::link::{Ended, Grant, LinkSpec, Load, Report, SiteLink};

/// A link that ships group by group.
#[derive(Debug)]
pub struct Ordered {
    nr: SlinkNr,
    owner: IoOwner,
    sync: bool,
    dirty_logs: BTreeMap<DevNr, DirtyLog>,
    legs: BTreeMap<DevNr, DiskId>,
    /// The group that is on its way.
    shipment: Option<Shipment>,
    /// What the site had before the last group that arrived; `None`: no group arrived yet.
    before_last: Option<Seq>,
    health: Health,
    /// When `poll` was last called.
    polled: Time,
    next_io: u64,
    shipped: u64,
}

/// One group on its way to the site.
#[derive(Debug)]
struct Shipment {
    /// The last write of the group.
    last: Seq,
    /// Writes that are still to be sent.
    todo: VecDeque<Seq>,
    /// Writes whose payload was read back from the log, and is still what it was.
    read: VecDeque<(Seq, Buf)>,
    /// How many writes of this group each disk gets.
    per_disk: BTreeMap<DiskId, usize>,
    /// I/O in flight.
    flying: BTreeMap<u64, Step>,
    /// Disks that are to be flushed before the group counts as arrived.
    to_flush: BTreeSet<DiskId>,
    /// The first failure: nothing more is sent, and the group will be sent again.
    failed: Option<Failed>,
}

#[derive(Debug)]
struct Failed {
    dev: DevNr,
    what: &'static str,
    errno: Errno,
}

/// What an I/O in flight is for.
#[derive(Debug)]
enum Step {
    /// A payload is read back from the log.
    ReadBack { seq: Seq, place: RingPlace },
    /// A write is sent to the site.
    Write { dev: DevNr },
    /// The barrier.
    Flush { dev: DevNr },
}

impl Ordered {
    pub(crate) fn new(spec: LinkSpec) -> Self {
        Self {
            nr: spec.table.nr,
            owner: spec.owner,
            sync: spec.table.policy().sync == table::Sync::Sync,
            dirty_logs: spec.legs.iter().map(|leg| (leg.dev, leg.dirty_log.clone())).collect(),
            legs: spec.legs.iter().map(|leg| (leg.dev, leg.disk)).collect(),
            shipment: None,
            before_last: None,
            health: Health::default(),
            polled: Time::default(),
            next_io: 0,
            shipped: 0,
        }
    }

    /// Takes the next group, if it is durable (I3) and the site may have it (I13).
    fn begin(&mut self, log: &mut Replog) {
        let covered = log.covered(self.nr);
        let Some(group) = log.index().group_of(covered.next()) else { return };
        let (last, nr) = (group.last_seq, group.nr);
        if last > log.durable() {
            if last <= log.written() {
                log.want_durable(log.written());
            }
            return;
        }
        let safe = self.before_last.unwrap_or(covered);
        if !self.nr.is_local() && log.durable_cursor(self.nr) < safe {
            log.want_durable_cursor(self.nr, safe);
            return;
        }
        self.shipment = Some(self.shipment_of(log, nr, last));
    }

    fn shipment_of(&self, log: &Replog, group: u64, last: Seq) -> Shipment {
        let group = log.index().group(group).expect("the group was just looked up");
        let mut todo = VecDeque::new();
        let mut per_disk = BTreeMap::new();
        for (seq, write) in log.index().writes_of(group) {
            // A device need not exist on every site.
            if let Some(disk) = self.legs.get(&write.dev) {
                todo.push_back(seq);
                *per_disk.entry(*disk).or_insert(0) += 1;
            }
        }
        Shipment {
            last,
            todo,
            read: VecDeque::new(),
            per_disk,
            flying: BTreeMap::new(),
            to_flush: BTreeSet::new(),
            failed: None,
        }
    }

    fn send_all(&mut self, log: &mut Replog, effects: &mut Vec<Effect>) {
        while let Some(shipment) = &mut self.shipment {
            if shipment.failed.is_some() || shipment.flying.len() >= IN_FLIGHT_MAX {
                return;
            }
            if let Some((seq, payload)) = shipment.read.pop_front() {
                self.send(log, seq, Some(payload), effects);
                continue;
            }
            let Some(seq) = shipment.todo.pop_front() else { return };
            match log.source(seq) {
                Source::Memory(buf) => self.send(log, seq, Some(buf), effects),
                Source::Zeroes { .. } => self.send(log, seq, None, effects),
                Source::Ring(place) => self.read_back(log, seq, place, effects),
                Source::Nothing => {}
            }
        }
    }

    /// Sends one write; without bytes it is zeroes.
    fn send(&mut self, log: &Replog, seq: Seq, data: Option<Buf>, effects: &mut Vec<Effect>) {
        let write = log.index().write(seq).expect("I5: the log holds what a site still needs");
        let disk = self.legs[&write.dev];
        let shipment = self.shipment.as_mut().expect("a write is sent for a shipment");
        // A lone write carries its own barrier, and saves a round trip.
        let fua = shipment.per_disk[&disk] == 1;
        if !fua {
            shipment.to_flush.insert(disk);
        }
        let op = match (data, log.source(seq)) {
            (Some(buf), _) => {
                DiskOp::Write { sector: write.sector, data: Gather::from_elem(buf, 1), fua }
            }
            (None, source) => DiskOp::WriteZeroes {
                sector: write.sector,
                len: write.len,
                unmap: matches!(source, Source::Zeroes { unmap: true }),
                fua,
            },
        };
        self.submit(disk, op, Step::Write { dev: write.dev }, effects);
    }

    fn read_back(
        &mut self,
        log: &mut Replog,
        seq: Seq,
        place: RingPlace,
        effects: &mut Vec<Effect>,
    ) {
        log.pin(place.group);
        let op = DiskOp::Read { sector: place.sector, buf: BufMut::zeroed(place.bytes) };
        self.submit(log.disk(), op, Step::ReadBack { seq, place }, effects);
    }

    fn submit(&mut self, disk: DiskId, op: DiskOp, step: Step, effects: &mut Vec<Effect>) {
        let nr = self.next_io;
        self.next_io += 1;
        let shipment = self.shipment.as_mut().expect("I/O belongs to a shipment");
        shipment.flying.insert(nr, step);
        effects.push(Effect::Submit { io: IoId { owner: self.owner, nr }, disk, op });
    }

    /// Everything was sent and has landed: now the barrier, then the group counts.
    fn finish(&mut self, now: Time, log: &mut Replog, effects: &mut Vec<Effect>) {
        let Some(shipment) = &mut self.shipment else { return };
        if !shipment.flying.is_empty() {
            return;
        }
        if let Some(failed) = &shipment.failed {
            // I15: nothing of it is in flight any more, so it may be sent again.
            log::warn!(
                "site {}: {} for device {} failed: {}; the log keeps what the site lacks",
                self.nr,
                failed.what,
                failed.dev,
                failed.errno
            );
            self.health.failed(now, failed.dev, failed.what, Failure::Error(failed.errno));
            self.shipment = None;
            return;
        }
        if !shipment.todo.is_empty() || !shipment.read.is_empty() {
            return;
        }
        let disks = std::mem::take(&mut shipment.to_flush);
        if disks.is_empty() {
            self.arrived(log);
            return;
        }
        for disk in disks {
            let dev = self.dev_of(disk);
            self.submit(disk, DiskOp::Flush, Step::Flush { dev }, effects);
        }
    }

    fn arrived(&mut self, log: &mut Replog) {
        let shipment = self.shipment.take().expect("a shipment arrives once");
        let before = log.covered(self.nr);
        if self.nr.is_local() {
            settle_all(log, before, shipment.last);
        }
        self.before_last = Some(before);
        self.shipped += 1;
        self.health.succeeded();
        log.cover(self.nr, shipment.last);
    }

    fn dev_of(&self, disk: DiskId) -> DevNr {
        let leg = self.legs.iter().find(|(_, d)| **d == disk);
        *leg.expect("a link writes to its own legs only").0
    }
}

impl Shipment {
    /// The first failure counts; what is in flight is waited for, nothing more is sent.
    fn fail(&mut self, dev: DevNr, what: &'static str, errno: Errno) {
        self.failed.get_or_insert(Failed { dev, what, errno });
    }
}

impl SiteLink for Ordered {
    fn nr(&self) -> SlinkNr {
        self.nr
    }

    fn poll(&mut self, now: Time, log: &mut Replog, _load: &Load, effects: &mut Vec<Effect>) {
        self.polled = now;
        loop {
            if self.shipment.is_none() && self.health.may_try(now) {
                self.begin(log);
            }
            let before = log.covered(self.nr);
            self.send_all(log, effects);
            self.finish(now, log, effects);
            // A group without a write for this site arrives at once; look at the next.
            if log.covered(self.nr) == before {
                return;
            }
        }
    }

    fn done(&mut self, _now: Time, log: &mut Replog, ended: Ended) {
        let shipment = self.shipment.as_mut().expect("a shipment outlives its I/O");
        let step = shipment.flying.remove(&ended.nr).expect("an I/O ends once");
        match step {
            Step::ReadBack { seq, place } => {
                log.unpin(place.group);
                let dev = log.index().write(seq).expect("I5").dev;
                let read = ended.buf.expect("a read brings its buffer back").freeze();
                let verified = ended.result.map(|()| place.payload(&read));
                match verified {
                    Ok(Some(payload)) => shipment.read.push_back((seq, payload)),
                    Ok(None) => shipment.fail(dev, "the checksum of a log entry", Errno::EIO),
                    Err(errno) => shipment.fail(dev, "reading the log back", errno),
                }
            }
            Step::Write { dev } => {
                if let Err(errno) = ended.result {
                    shipment.fail(dev, "a write", errno);
                }
            }
            Step::Flush { dev } => {
                if let Err(errno) = ended.result {
                    shipment.fail(dev, "a flush", errno);
                }
            }
        }
    }

    fn wakeup(&self, _log: &Replog, _load: &Load) -> Option<Time> {
        self.health.down().map(|down| down.retry_at).filter(|retry| *retry > self.polled)
    }

    fn report(&self, _now: Time, _log: &Replog) -> Report {
        let in_flight = self.shipment.as_ref().map_or(0, |s| s.flying.len());
        Report::new(self.health.down().cloned(), self.shipped, in_flight)
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

    fn is_busy(&self) -> bool {
        self.shipment.as_ref().is_some_and(|s| !s.flying.is_empty())
    }
}

/// The LD has the writes of a range, durably.
fn settle_all(log: &mut Replog, after: Seq, last: Seq) {
    for seq in after.0 + 1..=last.0 {
        if let Some(write) = log.index().write(Seq(seq)) {
            let (dev, sector, len) = (write.dev, write.sector, write.len);
            log.settle(dev, sector, len, Seq(seq));
        }
    }
}

/// Writes of one group in flight to one site; a bound on what a hung device can hold (I10).
const IN_FLIGHT_MAX: usize = 64;
