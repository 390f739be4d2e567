//! A machine at work on a ring, fed by a load: what a ublk target does, without ublk.
//!
//! Each turn enters the kernel once, hands in everything that has ended, carries out
//! the effects until the machine is quiet, and issues the next request for each that
//! was completed. All I/O is counted where it is asked for, whoever asks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use blk::{BufMut, DiskId, Effect, Errno, Event, Machine, ReqId, Span, Time};
use hdrhistogram::Histogram;
use uring::{Disk, Reaped, Ring, RingSpec};

use crate::load::Load;
use crate::tally::Tally;

/// A machine on a ring of its own.
pub(crate) struct Drive<M> {
    pub(crate) machine: M,
    ring: Ring,
    began: Instant,
    now: Time,
    tally: Tally,
    /// Requests that were completed and are not issued again yet.
    completed: Vec<ReqId>,
    /// Requests that the machine has got.
    outstanding: usize,
    /// Latencies of the slice that is being measured, in nanoseconds.
    latencies: Option<Histogram<u64>>,
    /// The first request that failed.
    failed: Option<Errno>,
    // Emptied in every turn; kept for their memory.
    reaped: Vec<Reaped>,
    effects: Vec<Effect>,
}

/// What happened between two moments.
pub(crate) struct Measured {
    pub(crate) elapsed: Duration,
    pub(crate) latencies: Histogram<u64>,
    pub(crate) tally: Tally,
}

impl<M: Machine> Drive<M> {
    /// A machine that was polled once, on a ring with these disks.
    pub(crate) fn new(machine: M, disks: &[(DiskId, Arc<Disk>)]) -> Result<Self> {
        let mut ring = Ring::new(RingSpec::default()).context("no ring for the bench")?;
        for (id, disk) in disks {
            ring.add_disk(*id, Arc::clone(disk));
        }
        Ok(Self {
            machine,
            ring,
            began: Instant::now(),
            now: Time::default(),
            tally: Tally::default(),
            completed: Vec::new(),
            outstanding: 0,
            latencies: None,
            failed: None,
            reaped: Vec::new(),
            effects: Vec::new(),
        })
    }

    /// Issues every request of the load.
    pub(crate) fn begin(&mut self, load: &mut Load) -> Result<()> {
        assert_eq!(self.outstanding, 0, "a load begins when nothing is in flight");
        self.completed.extend(load.requests());
        self.read_clock();
        self.reissue(load);
        self.act(load)
    }

    /// Keeps the load in flight until `enough` says so; it is asked in every turn.
    pub(crate) fn run_until(
        &mut self,
        load: &mut Load,
        mut enough: impl FnMut(&M, Time) -> bool,
    ) -> Result<()> {
        while !enough(&self.machine, self.now) {
            self.turn(load, true)?;
        }
        Ok(())
    }

    /// As [`Drive::run_until`], and measures it.
    pub(crate) fn measure(
        &mut self,
        load: &mut Load,
        enough: impl FnMut(&M, Time) -> bool,
    ) -> Result<Measured> {
        let (began, before) = (self.now, self.tally());
        self.latencies = Some(Histogram::new_with_max(LATENCY_MAX_NS, SIGNIFICANT_DIGITS)?);
        self.run_until(load, enough)?;
        // A disk that answers nothing for longer than a slice is measured by what it took.
        let completed = before.completed;
        while self.tally().completed == completed && self.now < began + SETTLE_LIMIT {
            self.turn(load, true)?;
        }
        Ok(Measured {
            elapsed: self.now - began,
            latencies: self.latencies.take().expect("set above"),
            tally: self.tally() - before,
        })
    }

    /// Issues nothing more, and drives until the machine has nothing to do.
    pub(crate) fn settle(&mut self, load: &mut Load) -> Result<()> {
        let began = Instant::now();
        self.read_clock();
        self.act(load)?;
        while self.is_busy() {
            if began.elapsed() > SETTLE_LIMIT {
                bail!(
                    "it does not fall quiet: after {SETTLE_LIMIT:?} {} requests and {} I/Os are in \
                     flight",
                    self.outstanding,
                    self.ring.in_flight()
                );
            }
            self.turn(load, false)?;
        }
        self.completed.clear();
        Ok(())
    }

    /// Time since this machine began.
    pub(crate) fn now(&self) -> Time {
        self.now
    }

    fn is_busy(&self) -> bool {
        self.outstanding > 0 || self.ring.in_flight() > 0 || self.machine.wakeup().is_some()
    }

    fn tally(&self) -> Tally {
        let mut tally = self.tally.clone();
        tally.enters = self.ring.enters();
        tally
    }

    fn turn(&mut self, load: &mut Load, reissue: bool) -> Result<()> {
        let timeout = self.timeout(reissue);
        self.ring.submit_and_wait(Some(timeout)).context("the ring can't be entered")?;
        self.read_clock();
        let mut reaped = std::mem::take(&mut self.reaped);
        self.ring.reap(&mut reaped);
        for ended in reaped.drain(..) {
            match ended {
                Reaped::Done(event) => self.machine.handle(self.now, event),
                Reaped::Command { tag, .. } => unreachable!("nobody submitted a command {tag:?}"),
            }
        }
        self.reaped = reaped;
        self.act(load)?;
        // Once a turn: a machine that completes at once is not to keep the ring waiting.
        if reissue && !self.completed.is_empty() {
            self.reissue(load);
            self.act(load)?;
        }
        Ok(())
    }

    /// How long to wait in the kernel at most; there is always a measurement to look at.
    fn timeout(&self, reissue: bool) -> Span {
        if reissue && !self.completed.is_empty() {
            return Span::ZERO;
        }
        self.machine.wakeup().map_or(TURN_MAX, |at| at.since(self.now).min(TURN_MAX))
    }

    fn read_clock(&mut self) {
        self.now = Time(u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX));
    }

    fn reissue(&mut self, load: &mut Load) {
        let mut completed = std::mem::take(&mut self.completed);
        self.outstanding += completed.len();
        for req in completed.drain(..) {
            let (dev, op) = load.issue(self.now, req);
            self.machine.handle(self.now, Event::Request { req, dev, op });
        }
        self.completed = completed;
    }

    /// Carries effects out until the machine has no more for now.
    fn act(&mut self, load: &mut Load) -> Result<()> {
        let mut effects = std::mem::take(&mut self.effects);
        loop {
            self.machine.poll(self.now, &mut effects);
            let mut answered = false;
            for effect in effects.drain(..) {
                answered |= self.carry_out(load, effect);
            }
            if !answered {
                break;
            }
        }
        self.effects = effects;
        ensure!(self.failed.is_none(), "a request failed: {}", self.failed.expect("checked"));
        Ok(())
    }

    /// Whether the machine was answered at once, and so may have more to do.
    fn carry_out(&mut self, load: &mut Load, effect: Effect) -> bool {
        match effect {
            Effect::Submit { io, disk, op } => {
                self.tally.count(disk, &op);
                self.ring.submit(io, disk, op);
            }
            Effect::Deliver { offset, data, .. } => load.take(offset, &data),
            Effect::Complete { req, result } => self.complete(load, req, result),
            Effect::Fetch { req, buf } => {
                self.fetch(load, req, buf);
                return true;
            }
            Effect::Keep { .. } => unreachable!("no log of a bench is lost"),
            Effect::Open { disk } | Effect::Close { disk } => {
                unreachable!("no disk of a bench goes away: {disk:?}")
            }
        }
        false
    }

    fn fetch(&mut self, load: &Load, req: ReqId, mut buf: BufMut) {
        load.fill(req, &mut buf);
        self.machine.handle(self.now, Event::Fetched { req, result: Ok(()), buf });
    }

    fn complete(&mut self, load: &Load, req: ReqId, result: Result<(), Errno>) {
        self.outstanding -= 1;
        self.tally.completed += 1;
        self.failed = self.failed.or(result.err());
        if let Some(latencies) = &mut self.latencies {
            latencies.saturating_record(load.latency(self.now, req));
        }
        self.completed.push(req);
    }
}

/// What takes longer counts as this long.
const LATENCY_MAX_NS: u64 = 100_000_000_000;
/// Enough to tell percentiles apart.
const SIGNIFICANT_DIGITS: u8 = 3;
/// The end of a slice is not to be missed by more.
const TURN_MAX: Span = Span::from_millis(2);
/// More than the slowest disk needs to take a log's content; else something hangs.
const SETTLE_LIMIT: Duration = Duration::from_secs(120);
