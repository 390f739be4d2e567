//! The replicator: one log, its site links and its devices, as one machine.
//!
//! ```text
//!            ┌─────────── parked ◀── request
//!            ▼
//!   admit ─▶ Replog ─▶ group on its way ─▶ written ─▶ durable
//!            │  ▲                             │          │
//!      reads ◀──┘ overlay                     └── acks ──┘
//!            └──▶ site links ─▶ covered ─▶ head
//! ```
//!
//! One thread owns it. It decides; a driver does. Nothing waits in here but data.

mod links;
mod stopping;

use std::collections::{BTreeMap, VecDeque};

use blk::Time;
use blk::{BufMut, DevNr, DiskId, Effect, Errno, Event, IoId, Machine};
use blk::{Op, ReqId, Sectors, Seq, SlinkNr};
use replog::{Change, EntryOp, LOG_IO, OpenError, Opening, REPLACE_IO, Refusal, Replog, Version};
use slink::link::Ended;
use slink::{Grant, Load, Report, SiteLink};

use crate::acks::{Acks, Reached, Waiting};
use crate::compose::{Leases, Parts, link_of};
use crate::device::Device;
use crate::events::Events;
use crate::front::FrontCounters;
use crate::lost::{LOOK_IO, Looks};
use crate::message::MessageError;
use crate::orphans::Orphans;
use crate::plan::{DiskFacts, Plan};
use crate::reads::{At, EndedRead, READ_IO, Reads};
use crate::relog::LogWish;

/// A replicator: a named group of devices with one log and its sites.
pub struct Replicator {
    pub(crate) plan: Plan,
    stage: Stage,
    pub(crate) log: Option<Replog>,
    /// In the order of the plan.
    pub(crate) links: Vec<Box<dyn SiteLink>>,
    /// Links of sites that are gone, while something of theirs is in flight (I15).
    pub(crate) leaving: Vec<Box<dyn SiteLink>>,
    pub(crate) polled: Time,
    /// Disks that their links have let go of, while somebody else reads there (I15).
    pub(crate) closing: Vec<DiskId>,
    pub(crate) devices: BTreeMap<DevNr, Device>,
    /// Requests that wait: for space, for the group before, for a resume.
    pub(crate) parked: VecDeque<Parked>,
    /// Changes whose payload is on its way into the open group.
    fetching: BTreeMap<ReqId, Seq>,
    acks: Acks,
    pub(crate) reads: Reads,
    load: Load,
    /// The longest request that a device may send.
    pub(crate) longest: Sectors,
    /// Sites of the log that are none of the table's.
    pub(crate) orphans: Orphans,
    /// Somebody waits for everything up to here to reach its sites.
    pub(crate) drain_upto: Option<Seq>,
    pub(crate) front: FrontCounters,
    /// `status` shows the ring's counters.
    pub(crate) ring_shown: bool,
    /// Nothing is taken any more.
    closed: bool,
    /// Changes get an error, because a site's table says so.
    pub(crate) refusing: bool,
    /// How far the log was, written and durable, when acknowledgements were last given.
    acknowledged_at: (Seq, Seq),
    /// What the last other table changed, once this stands no crash takes it back.
    pub(crate) reloaded: Option<Version>,
    pub(crate) events: Events,
    /// A log that is to take the place of the lost one, once its disk is open.
    pub(crate) new_log: Option<LogWish>,
    pub(crate) new_disk: Option<DiskFacts>,
    /// Why that did not go well.
    pub(crate) relog_trouble: Option<String>,
    /// Effects that came up while an event was handled.
    pub(crate) pending: Vec<Effect>,
    pub(crate) leases: Leases,
    /// Dirty logs that may say that the log is not to be opened.
    looks: Option<Looks>,
}

/// What a replicator is doing.
#[derive(Clone, Debug)]
pub enum Phase {
    /// The log is being opened.
    Opening {
        /// What is being done.
        step: &'static str,
        /// Bytes done.
        done: u64,
        /// Bytes in all, as far as known; 0 if not.
        total: u64,
    },
    /// Devices are served.
    Running,
    /// Sites catch up, then the log is closed.
    Stopping,
    /// Nothing is in flight any more.
    Stopped,
    /// The log could not be opened; nothing on it has changed.
    Failed(OpenError),
}

enum Stage {
    Opening(Box<Opening>),
    Running,
    Stopping { drain: bool },
    Stopped,
    Failed(OpenError),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Parked {
    pub(crate) req: ReqId,
    pub(crate) dev: DevNr,
    op: Op,
    /// It did not find room at first.
    waited: bool,
}

impl Replicator {
    pub(crate) fn of_parts(plan: Plan, parts: Parts) -> Self {
        let (reads, looks) = (Reads::new(&plan), Some(Looks::of(&plan)));
        Self {
            plan,
            stage: Stage::Opening(Box::new(parts.opening)),
            log: None,
            links: parts.links,
            leaving: Vec::new(),
            polled: Time::default(),
            closing: Vec::new(),
            devices: parts.devices,
            parked: VecDeque::new(),
            fetching: BTreeMap::new(),
            acks: Acks::default(),
            reads,
            load: Load::default(),
            longest: Sectors(0),
            orphans: Orphans::default(),
            drain_upto: None,
            front: FrontCounters::default(),
            ring_shown: false,
            closed: false,
            refusing: false,
            acknowledged_at: (Seq(0), Seq(0)),
            reloaded: None,
            events: Events::default(),
            new_log: None,
            new_disk: None,
            relog_trouble: None,
            pending: Vec::new(),
            leases: parts.leases,
            looks,
        }
    }

    /// What it is made of.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The log, once it is open.
    #[must_use]
    pub fn log(&self) -> Option<&Replog> {
        self.log.as_ref()
    }

    /// How its sites are, in the order of the table; nothing before the log is open.
    pub fn reports(&self, now: Time) -> impl Iterator<Item = (SlinkNr, Report)> {
        let links = self.log.iter().flat_map(|log| self.links.iter().map(move |link| (link, log)));
        links.map(move |(link, log)| (link.nr(), link.report(now, log)))
    }

    /// What it is doing.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match &self.stage {
            Stage::Opening(opening) => {
                let progress = opening.progress();
                Phase::Opening { step: progress.step, done: progress.done, total: progress.total }
            }
            Stage::Running => Phase::Running,
            Stage::Stopping { .. } => Phase::Stopping,
            Stage::Stopped => Phase::Stopped,
            Stage::Failed(error) => Phase::Failed(error.clone()),
        }
    }

    /// Holds back what is asked of a device, or of all, from now on. What was taken ends.
    ///
    /// # Errors
    /// [`MessageError::NoDevice`].
    pub fn suspend(&mut self, dev: Option<DevNr>) -> Result<(), MessageError> {
        self.set_suspended(dev, true)
    }

    /// Ends [`Replicator::suspend`].
    ///
    /// # Errors
    /// [`MessageError::NoDevice`].
    pub fn resume(&mut self, dev: Option<DevNr>) -> Result<(), MessageError> {
        self.set_suspended(dev, false)
    }

    pub(crate) fn set_suspended(
        &mut self,
        dev: Option<DevNr>,
        suspended: bool,
    ) -> Result<(), MessageError> {
        if let Some(dev) = dev.filter(|dev| !self.devices.contains_key(dev)) {
            return Err(MessageError::NoDevice { dev });
        }
        let chosen = self.devices.values_mut().filter(|d| dev.is_none_or(|nr| nr == d.nr));
        chosen.for_each(|device| device.suspended = suspended);
        Ok(())
    }

    /// Whether a device, or all, are suspended and nothing of them is in flight.
    #[must_use]
    pub fn is_suspended(&self, dev: Option<DevNr>) -> bool {
        let mut chosen = self.devices.values().filter(|d| dev.is_none_or(|nr| nr == d.nr));
        chosen.all(|device| device.suspended && device.in_flight == 0)
    }

    // ---- requests

    /// Takes what can be taken of what waits, in the order in which it came.
    fn admit(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let mut changes_blocked = false;
        for _ in 0..self.parked.len() {
            let mut request = self.parked.pop_front().expect("counted above");
            let device = &self.devices[&request.dev];
            let log = self.log.as_ref().expect("requests are taken when the log is open");
            let joins = device.joining.is_some_and(|version| !log.stands(version));
            let waits = device.suspended || joins || (changes_blocked && request.op.changes_data());
            if waits {
                self.parked.push_back(request);
                continue;
            }
            match self.take(now, &request, effects) {
                Ok(()) => self.front.taken(request.op, request.waited),
                // Others may pass a change that overlaps the open group; nothing passes one
                // that finds no room, or it would never find any.
                Err(refusal) => {
                    changes_blocked |= refusal != Refusal::Overlap;
                    request.waited = true;
                    self.parked.push_back(request);
                }
            }
        }
    }

    fn take(
        &mut self,
        now: Time,
        request: &Parked,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        let &Parked { req, dev, op, .. } = request;
        self.load.last_request = now;
        match op {
            Op::Read { .. } => self.take_read(now, req, dev, op, effects),
            Op::Flush => self.take_flush(req, dev),
            Op::Write { .. } | Op::Discard { .. } | Op::WriteZeroes { .. } => {
                self.take_change(now, req, dev, op, effects)?;
            }
        }
        Ok(())
    }

    fn take_flush(&mut self, req: ReqId, dev: DevNr) {
        let log = self.log.as_ref().expect("requests are taken when the log is open");
        let seq = log.written();
        let device = self.devices.get_mut(&dev).expect("a request's device was looked up");
        device.in_flight += 1;
        device.counters.flushes += 1;
        self.acks.flush(Waiting { seq, req, dev });
    }

    fn take_change(
        &mut self,
        now: Time,
        req: ReqId,
        dev: DevNr,
        op: Op,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        let (sector, len) = op.range().expect("a change has a range");
        let log = self.log.as_mut().expect("requests are taken when the log is open");
        let change = Change { dev, op: entry_op(op), sector, len, fua: op.is_fua() };
        let refusal = match () {
            () if !log.can_hold(&change) => Some(Errno::EINVAL),
            // `on_down:error`: a site that everything is to reach is not there.
            () if self.refusing => Some(Errno::EIO),
            () => None,
        };
        if let Some(errno) = refusal {
            effects.push(Effect::Complete { req, result: Err(errno) });
            return Ok(());
        }
        let admitted = log.admit(&change)?;
        log.came(now);
        self.load.last_change = now;
        let device = self.devices.get_mut(&dev).expect("a request's device was looked up");
        device.in_flight += 1;
        device.counters.changes += 1;
        self.acks.change(Waiting { seq: admitted.seq, req, dev }, change.fua);
        if let Some(buf) = admitted.payload {
            self.fetching.insert(req, admitted.seq);
            effects.push(Effect::Fetch { req, buf });
        }
        Ok(())
    }

    fn fetched(&mut self, req: ReqId, result: Result<(), Errno>, buf: BufMut) {
        let seq = self.fetching.remove(&req).expect("a payload is fetched once");
        let log = self.log.as_mut().expect("a payload is fetched for an open log");
        log.fetched(seq, result, buf);
        if let Err(errno) = result {
            let waiting = self.acks.forget(req).expect("a change waits until it ends");
            let mut effects = std::mem::take(&mut self.pending);
            self.complete(waiting.req, waiting.dev, Err(errno), &mut effects);
            self.pending = effects;
        }
    }

    pub(crate) fn end_read(&mut self, ended: EndedRead, effects: &mut Vec<Effect>) {
        self.complete(ended.req, ended.dev, ended.result, effects);
    }

    fn complete(
        &mut self,
        req: ReqId,
        dev: DevNr,
        result: Result<(), Errno>,
        effects: &mut Vec<Effect>,
    ) {
        let device = self.devices.get_mut(&dev).expect("a request's device was looked up");
        device.in_flight -= 1;
        device.counters.errors += u64::from(result.is_err());
        effects.push(Effect::Complete { req, result });
    }

    fn acknowledge(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let Some(log) = &self.log else { return };
        let grants: Vec<Grant> = self.links.iter_mut().map(|link| link.grant(now, log)).collect();
        let (written, durable) = (log.acknowledged_upto(), log.durable());
        let granted = grants.iter().filter_map(|grant| grant.limit()).min();
        let refused = grants.iter().filter_map(|grant| grant.refusal()).min();
        self.refusing = refused.is_some();
        let mut acks = std::mem::take(&mut self.acks);
        let waited = acks.changes();
        for waiting in acks.ready(Reached { written, durable, granted }) {
            self.complete(waiting.req, waiting.dev, Ok(()), effects);
        }
        let acknowledged = waited - acks.changes();
        if let Some(granted) = refused {
            for waiting in acks.refused(granted) {
                self.complete(waiting.req, waiting.dev, Err(Errno::EIO), effects);
            }
        }
        self.acks = acks;
        let local = self.links.iter().zip(&grants).find(|(link, _)| link.nr().is_local());
        let local = local.and_then(|(_, grant)| grant.limit());
        let waited_for = granted.filter(|upto| *upto <= written);
        if let Some(log) = &mut self.log {
            log.site_is_waited_for(waited_for);
            if acknowledged > 0 {
                log.acknowledged(now, acknowledged as u64);
            }
        }
        self.acknowledged_at = (written, durable);
        self.note_who_waits(now, durable.min(local.unwrap_or(durable)));
    }

    /// What is waited for by a change that the log has, durably, and the local site grants.
    fn note_who_waits(&mut self, now: Time, has: Seq) {
        let waits = self.acks.oldest_change().is_some_and(|seq| seq <= has);
        if self.load.waits_for_remote && !waits {
            // As when the log has answered: somebody is about to go on.
            self.load.last_change = now;
        }
        self.load.waits_for_remote = waits;
    }

    // ---- stages

    fn poll_opening(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let Stage::Opening(opening) = &mut self.stage else { return };
        if let Some(looks) = &mut self.looks {
            let Some(lost) = looks.poll(now, effects) else { return };
            opening.refuse(lost);
            self.looks = None;
        }
        opening.poll(effects);
        match opening.outcome() {
            None => {}
            Some(Ok(log)) => {
                let linked: Vec<SlinkNr> = self.links.iter().map(|link| link.nr()).collect();
                self.orphans = Orphans::of(&log, &linked);
                // Told to the driver for as long as a device lives, in other hands too: a log
                // that is opened again has no less room, or it would not have been resized.
                self.longest = self.plan.max_sectors(log.geometry().size());
                self.log = Some(log);
                self.stage = Stage::Running;
            }
            Some(Err(error)) => self.stage = Stage::Failed(error),
        }
    }

    fn poll_running(&mut self, now: Time, effects: &mut Vec<Effect>) {
        self.admit(now, effects);
        self.watch_reads(now);
        self.poll_links(now, effects);
        self.go_on_reading(now, effects);
        self.watch_catching_up(now);
        if self.has_arrived() {
            // Before the next group goes: those who wait for this one may want to join it.
            self.acknowledge(now, effects);
        }
        self.poll_log(now, effects);
        self.go_on_without_log(now, effects);
        // A launch has made room: what overlapped, or found the group full, fits now.
        self.admit(now, effects);
        self.acknowledge(now, effects);
        if self.log.as_ref().is_some_and(Replog::is_held) {
            // A site has come along: what waited for that goes.
            self.poll_log(now, effects);
        }
        if self.links.iter().any(|link| link.has_news()) {
            // A limit was crossed: the site may have to be given up, and nothing else may
            // happen that it could wait for.
            self.poll_links(now, effects);
            self.poll_log(now, effects);
        }
    }

    fn has_arrived(&self) -> bool {
        let log = self.log.as_ref();
        log.is_some_and(|log| self.acknowledged_at != (log.acknowledged_upto(), log.durable()))
    }

    pub(crate) fn poll_log(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let Some(log) = &mut self.log else { return };
        let wanted = self.acks.wants_durable(log.written());
        log.want_durable(wanted);
        log.poll(now, effects);
        self.events.of_log(now, log.take_events());
        self.watch_new_log();
    }

    fn io_done(&mut self, now: Time, io: IoId, result: Result<(), Errno>, buf: Option<BufMut>) {
        if io.owner == LOOK_IO {
            // What comes too late changes nothing.
            let bytes = buf.as_deref().filter(|_| result.is_ok());
            return self.looks.iter_mut().for_each(|looks| looks.done(io.nr, bytes));
        }
        if let Stage::Opening(opening) = &mut self.stage {
            opening.done(io.nr, result, buf);
            return;
        }
        let Some(log) = &mut self.log else { return };
        match io.owner {
            LOG_IO => {
                log.done(now, io.nr, result);
                if !self.acks.is_empty() {
                    // Somebody waited for this, and is about to go on.
                    self.load.last_change = now;
                }
            }
            REPLACE_IO => log.replacing_done(io.nr, result, buf),
            READ_IO => {
                let mut effects = std::mem::take(&mut self.pending);
                let at = At { now, log, effects: &mut effects };
                if let Some(ended) = self.reads.done(io.nr, result, buf, at) {
                    self.end_read(ended, &mut effects);
                }
                self.pending = effects;
            }
            owner => {
                let mut links = self.links.iter_mut().chain(&mut self.leaving);
                let link = links.find(|link| link.nr() == link_of(owner));
                let link = link.expect("a link outlives its I/O");
                link.done(now, log, Ended { nr: io.nr, result, buf });
            }
        }
    }
}

impl Machine for Replicator {
    fn handle(&mut self, now: Time, event: Event) {
        match event {
            Event::Request { req, dev, op } => {
                let holds = |d: &Device| op.range().is_none_or(|(at, len)| d.holds(at, len));
                let is_going = self.devices.get(&dev).is_some_and(|device| device.going);
                if self.closed || is_going {
                    self.pending.push(Effect::Complete { req, result: Err(Errno::EIO) });
                } else if self.devices.get(&dev).is_some_and(holds) {
                    self.front.came(op);
                    self.parked.push_back(Parked { req, dev, op, waited: false });
                } else {
                    let result = Err(Errno::EINVAL);
                    self.pending.push(Effect::Complete { req, result });
                }
            }
            Event::Fetched { req, result, buf } => self.fetched(req, result, buf),
            Event::Done { io, result, buf } => self.io_done(now, io, result, buf),
            Event::Opened { disk, result } => self.opened(now, disk, result),
            Event::Kept { result } => {
                let log = self.log.as_mut().expect("who asked for it was open");
                log.kept(now, result);
            }
        }
    }

    fn poll(&mut self, now: Time, effects: &mut Vec<Effect>) {
        self.polled = now;
        effects.append(&mut self.pending);
        if let Stage::Opening(_) = self.stage {
            self.poll_opening(now, effects);
        }
        match self.stage {
            Stage::Running => self.poll_running(now, effects),
            Stage::Stopping { drain } => self.poll_stopping(now, drain, effects),
            Stage::Opening(_) | Stage::Stopped | Stage::Failed(_) => {}
        }
    }

    fn wakeup(&self) -> Option<Time> {
        if let Stage::Opening(_) = self.stage {
            return self.looks.as_ref().and_then(Looks::wakeup);
        }
        let log = self.log.as_ref()?;
        match self.stage {
            Stage::Running | Stage::Stopping { .. } => {
                let links = self.links.iter().filter_map(|link| link.wakeup(log, &self.load));
                // Of a site that is gone, or of any when all stops, only this is waited for.
                let all = self.links.iter().chain(&self.leaving);
                let deadlines = all.filter_map(|link| link.next_deadline(self.polled, log));
                links.chain(log.wakeup()).chain(self.reads.wakeup()).chain(deadlines).min()
            }
            Stage::Opening(_) | Stage::Stopped | Stage::Failed(_) => None,
        }
    }
}

/// Whether the table says that acknowledgements wait for a site.
pub(crate) fn is_sync(slink: &table::SlinkTable) -> bool {
    slink.policy().sync == table::Sync::Sync
}

fn entry_op(op: Op) -> EntryOp {
    match op {
        Op::Write { .. } => EntryOp::Write,
        Op::Discard { .. } | Op::WriteZeroes { unmap: true, .. } => EntryOp::Discard,
        Op::WriteZeroes { unmap: false, .. } => EntryOp::WriteZeroes,
        Op::Read { .. } | Op::Flush => unreachable!("only changes go into the log"),
    }
}
