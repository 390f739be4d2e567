//! How a replicator is: looked up here, kept as [`data`] (`--json`), told in the lines of 2009
//! (`line`) and in sentences ([`why`](mod@why)).
//!
//! Nothing here walks the log: how much a site lacks is a subtraction.

pub mod data;
pub mod human;
mod line;
pub mod verify;
pub mod why;

use blk::{DevNr, Seq, Time};
use dirty_log::DirtyLog;
use replog::{Replog, RingCounters, RingStatistics};
use slink::{Condition, Down, Failure, Policy, Report, State, Transition, Verdict};
use table::SlinkTable;

use crate::device::Device;
use crate::events::Event;
use crate::machine::{Phase, Replicator, is_sync};
use crate::plan::LegPlan;
use crate::relog::Relog;
use crate::resize::resize_status;

use data::{
    BookmarkStatus, DeviceStatus, EventStatus, FailureKind, Fate, LegStatus, Limits, LogStatus,
    LossStatus, ResyncStatus, RingStatus, RunState, SiteFailure, SiteOrder, SiteState, SiteStatus,
    Status,
};

use verify::VerifyStatus;

impl Replicator {
    /// How it is at `now`.
    #[must_use]
    pub fn status(&self, now: Time) -> Status {
        Status {
            name: self.plan.name.clone(),
            state: run_state(&self.phase()),
            trouble: self.trouble(now),
            reads_waiting: self.reads.waiting(),
            log: self.log.as_ref().map(|log| self.log_status(log)),
            sites: (0..self.links.len()).map(|at| self.site_status(at, now)).collect(),
            devices: self.devices.values().map(|device| self.device_status(device)).collect(),
            events: self.event_statuses(),
            statistics: self.front.shown.then(|| self.front.status()),
        }
    }

    fn log_status(&self, log: &Replog) -> LogStatus {
        let met_pending = self.reads.met_pending;
        let ring = self.ring_shown.then(|| ring_status(log.ring_statistics(), met_pending));
        LogStatus { loss: self.loss(log), ..log_status(log, ring) }
    }

    /// The single reason why things don't move, if they don't.
    fn trouble(&self, now: Time) -> Option<String> {
        if let Phase::Failed(error) = self.phase() {
            return Some(error.to_string());
        }
        let log = self.log.as_ref()?;
        if let Some(failure) = log.failure() {
            return Some(failure.to_string());
        }
        let down = self.links.iter().find_map(|link| {
            let down = link.report(now, log).down?;
            Some(format!("site {}: {down}", link.nr()))
        });
        match (down, log.is_starved()) {
            (Some(down), true) => Some(format!("the log is full; {down}")),
            (Some(down), false) => Some(down),
            (None, _) => None,
        }
    }

    /// How it is without its log.
    fn loss(&self, log: &Replog) -> Option<LossStatus> {
        log.is_lost().then(|| LossStatus {
            bypassed: log.is_bypassed(),
            held: log.held().map(|held| held.to_string()),
            replacing: match self.relog() {
                Relog::UnderWay(step) => Some(step.to_owned()),
                Relog::Prepared | Relog::GivenUp => Some("about to be at work".to_owned()),
                Relog::Failed(_) | Relog::Done => None,
            },
            replace_failed: self.relog_trouble.clone(),
        })
    }

    fn site_status(&self, at: usize, now: Time) -> SiteStatus {
        let (slink, link) = (&self.plan.slinks[at], &self.links[at]);
        let mut status = SiteStatus {
            slink: slink.nr.0,
            kind: slink.kind.clone(),
            policy: slink.policy().to_string(),
            sync: is_sync(slink),
            consistent: true,
            marked: slink.options.mark.is_some(),
            order: order(slink),
            limits: limits(slink),
            ..SiteStatus::default()
        };
        let Some(log) = &self.log else { return status };
        let report = link.report(now, log);
        let covered = log.covered(slink.nr);
        let is_last = self.links.iter().all(|other| log.covered(other.nr()) >= covered);
        status.state = site_state(report.state);
        status.consistent = report.consistent;
        status.detached = log.site(slink.nr).detached.is_some();
        status.detached_why = self.detached_why(at).filter(|_| status.detached);
        status.demoted = status.sync && !report.in_force;
        status.waited_for = waited_for(slink, &report, log, is_last);
        lag(&mut status, covered, log, now);
        status.shipped = report.shipped;
        status.round_trips = report.round_trips;
        status.groups_per_round_trip =
            (report.round_trips > 0).then(|| report.shipped as f64 / report.round_trips as f64);
        status.in_flight = report.in_flight;
        status.dirty_bytes = report.dirty_bytes;
        status.resync = report.resync.map(|resync| {
            let seconds = now.since(resync.since).as_secs_f64();
            ResyncStatus::new(seconds, resync.copied_bytes, report.dirty_bytes, resync.rate)
        });
        status.verify = report.verified.as_ref().map(|found| VerifyStatus::of(found, now));
        status.limits.over = report.over_limit;
        status.limits.on_full = on_full(slink, &report, log);
        status.is_read = log.readable_base() == Some(slink.nr);
        status.failure = report.down.as_ref().map(|down| self.failure(down, at, now));
        status
    }

    /// What stopped a site, with what has failed since then.
    fn failure(&self, down: &Down, at: usize, now: Time) -> SiteFailure {
        let nr = self.links[at].nr();
        let events = self.events.of(nr).filter(|event| event.at >= down.since);
        let earlier = events.filter_map(|event| match &event.what {
            Transition::WentDown(down) => Some(down),
            _ => None,
        });
        let failures: Vec<&Down> = earlier.chain([down]).collect();
        let untried = |down: &Down| {
            matches!(down.how, Failure::NotOpened(_) | Failure::Unfit(_) | Failure::Asked)
        };
        let is_read = |down: &Down| down.what.contains("read");
        SiteFailure {
            dev: down.dev.0,
            what: down.what.to_owned(),
            how: match down.how {
                Failure::Error(_) => FailureKind::Error,
                Failure::Hung => FailureKind::Hung,
                Failure::NotOpened(_) => FailureKind::NotOpened,
                Failure::Unfit(_) => FailureKind::Unfit,
                Failure::Asked => FailureKind::Asked,
            },
            error: down.to_string(),
            reads_fail: failures.iter().any(|down| untried(down) || is_read(down)),
            writes_fail: failures.iter().any(|down| untried(down) || !is_read(down)),
            seconds: now.since(down.since).as_secs_f64(),
            retry_seconds: (down.how != Failure::Asked)
                .then(|| down.retry_at.since(now).as_secs_f64()),
        }
    }

    /// Why a site was detached, if that was not too long ago.
    fn detached_why(&self, at: usize) -> Option<String> {
        let nr = self.links[at].nr();
        self.events.of(nr).rev().find_map(|event| match &event.what {
            Transition::Detached(why) => Some(why.to_string()),
            _ => None,
        })
    }

    fn event_statuses(&self) -> Vec<EventStatus> {
        let status = |event: &Event| {
            let (at, slink, what) = match event {
                Event::Site(it) => (it.at, Some(it.slink.0), it.what.to_string()),
                Event::Log { at, what } => (*at, None, what.to_string()),
                Event::Group { at, what } => (*at, None, what.to_string()),
            };
            EventStatus { seconds: at.since(Time(0)).as_secs_f64(), slink, what }
        };
        self.events.shown().map(status).collect()
    }

    fn device_status(&self, device: &Device) -> DeviceStatus {
        let plan = self.plan.device(device.nr).expect("a device has a plan");
        DeviceStatus {
            name: plan.name.clone(),
            dev: device.nr.0,
            sectors: device.size.0,
            suspended: device.suspended,
            in_flight: device.in_flight,
            reads: device.counters.reads,
            changes: device.counters.changes,
            flushes: device.counters.flushes,
            errors: device.counters.errors,
            legs: plan.legs.iter().map(|leg| self.leg_status(device.nr, leg)).collect(),
        }
    }

    fn leg_status(&self, dev: DevNr, leg: &LegPlan) -> LegStatus {
        let link = self.links.iter().find(|link| link.nr() == leg.slink);
        let dirty_log = link.and_then(|link| link.dirty_log(dev));
        // `nolog` is one region, but no log to speak of.
        let logged = dirty_log.filter(|_| leg.dirty_log != table::DirtyLogTable::Nolog);
        let failure = dirty_log.and_then(DirtyLog::failure);
        LegStatus {
            slink: leg.slink.0,
            path: leg.disk.path.clone(),
            identity: leg.disk.identity().to_owned(),
            dirty_log: leg.dirty_log.kind().to_owned(),
            dirty_log_failure: failure.map(|errno| errno.to_string()),
            regions_in_sync: logged.map(DirtyLog::regions_in_sync),
            regions: logged.map(DirtyLog::regions),
            dirty_bytes: dirty_log.map_or(0, |log| log.dirty_sectors().bytes()),
        }
    }
}

fn log_status(log: &Replog, statistics: Option<RingStatus>) -> LogStatus {
    let counters = log.counters();
    let (tail_used_bytes, tail_bytes) = log.tail_bytes();
    LogStatus {
        uuid: log.superblock().uuid.to_string(),
        epoch: log.superblock().epoch,
        size_sectors: log.geometry().size().0,
        ring_used_bytes: log.used_bytes(),
        ring_bytes: log.geometry().ring_bytes(),
        tail_used_bytes,
        tail_bytes,
        written: log.written().0,
        durable: log.durable().0,
        head: log.index().first_seq().prev().0,
        full: log.is_starved(),
        reads_from: log.readable_base().map(|slink| slink.0),
        whole_copies: log.whole_copies().map(|slink| slink.0).collect(),
        tail_full: log.is_tail_full(),
        failure: log.failure().map(|failure| failure.to_string()),
        loss: None,
        groups: counters.groups,
        writes: counters.writes,
        bytes_written: counters.log_bytes,
        flushes: counters.flushes,
        checkpoints: counters.checkpoints,
        bookmark: log
            .last_bookmark()
            .map(|it| BookmarkStatus { seq: it.seq.0, text: it.text.clone() }),
        resize: resize_status(log),
        statistics,
    }
}

fn ring_status(ring: RingStatistics, met_pending: u64) -> RingStatus {
    let RingStatistics { start, head, tail, next_avail, end, free, laps, live, counters } = ring;
    let RingCounters { reads, writes, inserts, live_max, single, multi, stalls } = counters;
    RingStatus {
        start: start.0,
        end: end.0,
        head: head.0,
        tail: tail.0,
        next_avail: next_avail.0,
        free,
        laps,
        reads,
        writes,
        met_pending,
        live,
        inserts,
        live_max,
        single,
        multi,
        stalls,
    }
}

/// How far a site that has everything up to `covered` is behind.
fn lag(status: &mut SiteStatus, covered: Seq, log: &Replog, now: Time) {
    let written = log.written();
    status.cursor = covered.0;
    status.lag_writes = written.lag(covered);
    let oldest = log.index().group_of(covered.next()).filter(|_| status.lag_writes > 0);
    let newest = log.index().group_of(written);
    let (Some(oldest), Some(newest)) = (oldest, newest) else { return };
    status.lag_bytes = log.index().sectors_between(covered, written).bytes();
    status.lag_seconds = now.since(oldest.closed).as_secs_f64();
    status.lag_groups = newest.nr - oldest.nr + 1;
}

/// Whether writers wait for a site now. `is_last`: none has less of the log.
fn waited_for(slink: &SlinkTable, report: &Report, log: &Replog, is_last: bool) -> bool {
    let holds = on_full(slink, report, log) == Fate::Hold;
    let keeps_log_full = is_last && log.is_starved() && holds;
    let keeps_tail_full = slink.nr.is_local() && log.is_tail_full();
    report.over_limit || (is_sync(slink) && report.in_force) || keeps_log_full || keeps_tail_full
}

/// What becomes of writers when the log is full of what a site lacks.
fn on_full(slink: &SlinkTable, report: &Report, log: &Replog) -> Fate {
    let up = report.state != State::Down;
    let is = Condition { up, over_limit: report.over_limit, log_full: true };
    match Policy::of(slink).verdict(is) {
        // The last whole copy is never given up (P6), nor the local one while it works.
        _ if log.kept_beside(slink.nr).is_none() || (up && slink.nr.is_local()) => Fate::Hold,
        // One that was given up before is not waited for before it has caught up.
        _ if !report.in_force => Fate::Detach,
        Verdict::Hold => Fate::Hold,
        Verdict::Refuse => Fate::Error,
        Verdict::Detach | Verdict::Acknowledge => Fate::Detach,
    }
}

fn order(slink: &SlinkTable) -> SiteOrder {
    match slink.options.order() {
        _ if slink.nr.is_local() && !is_sync(slink) => SiteOrder::None,
        table::Order::Group => SiteOrder::Group,
        table::Order::Flush => SiteOrder::Flush,
    }
}

fn limits(slink: &SlinkTable) -> Limits {
    let (options, limit) = (&slink.options, slink.fall_behind);
    Limits {
        fall_behind: limit.filter(|limit| !limit.is_unlimited()).map(|limit| limit.to_string()),
        over: false,
        on_limit: match options.on_limit() {
            table::OnLimit::Sync => "sync",
            table::OnLimit::Bitmap => "bitmap",
        }
        .to_owned(),
        on_down: match options.on_down() {
            table::OnDown::Bitmap => "bitmap",
            table::OnDown::Hold => "hold",
            table::OnDown::Error => "error",
        }
        .to_owned(),
        on_full: Fate::default(),
        timeout_io_seconds: options.timeout_io().as_secs_f64(),
        resync_rate_bytes: options.resync_rate(),
    }
}

fn run_state(phase: &Phase) -> RunState {
    match phase {
        Phase::Opening { .. } => RunState::Opening,
        Phase::Running => RunState::Running,
        Phase::Stopping => RunState::Stopping,
        Phase::Stopped => RunState::Stopped,
        Phase::Failed(_) => RunState::Failed,
    }
}

fn site_state(state: State) -> SiteState {
    match state {
        State::Streaming => SiteState::Streaming,
        State::Detached => SiteState::Detached,
        State::Resyncing => SiteState::Resyncing,
        State::Down => SiteState::Down,
    }
}
