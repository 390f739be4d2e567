//! A site: how it is fed from the log, and what becomes of it when it can't be.
//!
//! ```text
//!              limit, log full                       little is left
//!  streaming ─────────────────▶ detached ◀──────────────────────────▶ attached ─▶ streaming
//!  fed from the log            marked, then covered;     log full     nothing is marked, the
//!                              copied when it is up                    log is kept, the rest copied
//! ```
//!
//! Beside that it is *up* or *down*. The parts:
//!
//! - [`crate::feeding`]: streaming; [`crate::copier`], [`crate::pace`]: the resync;
//!   [`crate::mend`]: a bad sector.
//! - `changes`: another table, while it is in use.
//! - `differing`: where somebody says that it differs.
//! - `marks`: what a detached site lacks becomes dirty regions, durably.
//! - `outage`: failures, deadlines, coming back.
//! - `resync`: when it is copied, when attached, when consistent.
//! - [`crate::verify`], `verifying`: whether it holds what it should.
//! - `notice`: what the site is told of itself.
//! - `writers`: what it means for them; demotion and detachment.

mod changes;
mod differing;
mod marks;
mod notice;
mod outage;
mod resync;
mod verifying;
mod writers;

use std::collections::BTreeSet;

use blk::{DevNr, DiskId, DiskSeen, Effect, NotOpened, Sector, Sectors, Seq, SlinkNr, Time};
use dirty_log::DirtyLog;
use replog::{Doubt, Readable, Replog, Version};
use table::SlinkTable;
use uuid::Uuid;

use crate::copier::{Copier, CopyStep};
use crate::event::{SiteEvent, Transition};
use crate::feed::{Failed, FeedStep, Outcome};
use crate::feeding::Feeding;
use crate::flights::{Flights, To, Work};
use crate::gate::Gate;
use crate::health::{Failure, Health};
use crate::lazy::LazyStep;
use crate::legs::Legs;
use crate::link::{
    Ended, Grant, IDLE_AFTER, Leg, LinkSpec, Load, Report, Resync, SiteLink, State, Verification,
};
use crate::mend::{Mend, Mender};
use crate::policy::Policy;
use crate::states::{Fed, Standing};
use crate::verify::{Verifier, VerifyStep};
use marks::Marks;
use notice::Notice;
use outage::Probing;

/// The link of one site, be it the local one or a remote one.
#[derive(Debug)]
pub struct Ordered {
    nr: SlinkNr,
    table: SlinkTable,
    policy: Policy,
    legs: Legs,
    flights: Flights<Step>,
    mode: Mode,
    feeding: Feeding,
    mender: Mender,
    copier: Copier,
    verifier: Verifier,
    gate: Gate,
    health: Health,
    /// Disks that are being opened.
    opening: BTreeSet<DiskId>,
    probing: Probing,
    notice: Option<Notice>,
    /// Whose site it is.
    replicator: String,
    /// Devices whose legs leave the site.
    leaving: BTreeSet<DevNr>,
    /// Where it is; moves by [`Ordered::note`] only.
    stands: Standing,
    /// A `sync` site is being given up for now; it counts once this stands (P1).
    demoting: Option<Version>,
    /// What was in the log when it was opened: until the site has that, nobody claims that it
    /// has all that was acknowledged.
    owed: Option<Seq>,
    /// A site of which the table now says `sync` is that once this stands: demoted, at first.
    becoming_sync: Option<Version>,
    /// A `sync` site is taken back: acknowledgements beyond this write wait for it already.
    promoting: Option<Seq>,
    /// The site may be written to out of order once this stands (P3).
    copying: Option<Version>,
    /// Devices of which all has been told: once that stands, whatever disk is there is theirs.
    told: BTreeSet<DevNr>,
    /// From here on the image is consistent; `None`: it is, or nobody knows yet when.
    consistent_at: Option<Seq>,
    /// Attachments in a row that ended in a full log, and when the next may be tried.
    attach_failures: u32,
    attach_after: Time,
    events: Vec<SiteEvent>,
    polled: Time,
    /// The log that it was last fed from; another may take its place.
    log: Uuid,
}

/// Where the site gets its content from.
#[derive(Debug)]
enum Mode {
    /// Nobody has looked yet: the log is not open.
    New,
    /// From the log.
    Streaming,
    /// From nowhere, or by copies: what it lacks is marked.
    Detached(Marks),
    /// By copies of the little that is left; the log is kept for it from `covered` on.
    Attached,
}

/// What an I/O in flight is for.
#[derive(Debug)]
pub(crate) enum Step {
    Feed(FeedStep),
    Lazy(LazyStep),
    Mend,
    Copy(CopyStep),
    Verify(VerifyStep),
    /// The dirty log of the flight's device, and its number for it.
    DirtyLog(u64),
    Probe,
    Mark,
}

impl Mode {
    fn fed(&self) -> Fed {
        match self {
            Self::New | Self::Streaming => Fed::Streaming,
            Self::Detached(_) => Fed::Detached,
            Self::Attached => Fed::Attached,
        }
    }
}

impl Ordered {
    pub(crate) fn new(spec: LinkSpec) -> Self {
        let LinkSpec { replicator, table, owner, legs, mark } = spec;
        let options = &table.options;
        Self {
            nr: table.nr,
            policy: Policy::of(&table),
            legs: Legs::new(table.nr, legs),
            flights: Flights::new(owner, options.timeout_io()),
            mode: Mode::New,
            feeding: Feeding::of(&table),
            mender: Mender::default(),
            copier: Copier::new(options.resync_rate()),
            verifier: Verifier::new(options.resync_rate()),
            gate: Gate::new(table.fall_behind.filter(|_| !table.nr.is_local())),
            health: Health::default(),
            opening: BTreeSet::new(),
            probing: Probing::No,
            notice: mark.map(|disk| Notice::new(disk, replicator.clone())),
            replicator,
            leaving: BTreeSet::new(),
            stands: Standing { fed: Fed::Streaming, up: true, consistent: true, in_force: true },
            demoting: None,
            owed: None,
            becoming_sync: None,
            promoting: None,
            copying: None,
            told: BTreeSet::new(),
            consistent_at: None,
            attach_failures: 0,
            attach_after: Time::default(),
            events: Vec::new(),
            polled: Time::default(),
            log: Uuid::nil(),
            table,
        }
    }

    /// The log is open: goes on as it says that the site stands.
    fn join(&mut self, now: Time, log: &mut Replog) {
        let site = log.site(self.nr).clone();
        self.mode = Mode::Streaming;
        if log.is_bypassed() && self.nr.is_local() {
            self.feeding.distrust(self.legs.iter().map(|leg| leg.disk));
        }
        self.stands.consistent = !site.inconsistent;
        self.stands.in_force = site.detached.is_none() && !site.demoted && !site.inconsistent;
        self.owed = Some(log.written());
        if self.nr.is_local() {
            self.feeding.replays(log.written());
        }
        if site.inconsistent {
            // A copy made before held nothing but what was durable, and so is in the log now.
            self.consistent_at = Some(self.when_consistent(log.written()));
        }
        if let Some(session) = site.detached {
            self.mode = Mode::Detached(Marks::resumed(session, &mut self.legs, log));
            self.stands.fed = Fed::Detached;
        }
        if let Err((dev, how)) = self.legs.check(log) {
            self.went_down(now, now, log, Failed { dev, what: "opening it", how });
        }
    }

    /// From which write on the image is consistent, after copies that held some of `newest`.
    /// Locally at once: the log shows readers whatever the copy lacks, and so also what of
    /// that it has.
    fn when_consistent(&self, newest: Seq) -> Seq {
        if self.nr.is_local() { Seq::default() } else { newest }
    }

    /// A transition has happened: it is one that may, and the site is where it leads.
    fn note(&mut self, at: Time, what: Transition) {
        let next = self.stands.after(&what);
        self.stands = next.unwrap_or_else(|| {
            panic!("site {}: {what:?} can't happen in {:?}", self.nr, self.stands)
        });
        assert_eq!(self.stands.fed, self.mode.fed(), "site {}: {what:?}", self.nr);
        assert_eq!(self.stands.up, self.health.down().is_none(), "site {}: {what:?}", self.nr);
        let held = self.policy.sync || self.gate.is_limited();
        let matters = held || !matches!(what, Transition::Demoted | Transition::Promoted);
        if matters {
            self.events.push(SiteEvent { at, slink: self.nr, what });
        }
    }

    fn feed(&mut self, now: Time, log: &mut Replog, load: &Load, effects: &mut Vec<Effect>) {
        loop {
            // Without a log there is nothing to turn to: what memory holds is needed there (P8).
            let is_right = self.feeding.is_as_in(&self.table) || log.is_lost();
            let streaming = matches!(self.mode, Mode::Streaming);
            let may_write = streaming && self.may_ask() && log.may_feed(self.nr);
            let may_begin = may_write && self.mender.is_idle() && is_right;
            let Self { feeding, mender, legs, flights, .. } = self;
            let mut work = Work { now, legs, flights, effects };
            if may_write && feeding.is_idle() {
                mender.poll(log, &mut work);
            }
            match feeding.poll(may_begin, load, log, &mut work) {
                None if !is_right && self.feeding.is_idle() => {
                    // Nothing else has left the log, and nothing of that is lost with the power.
                    self.feeding.turn(&self.table, log.ships_upto());
                    // Lazily a write counts as arrived where a newer one hides it, which may
                    // not have arrived: that is nothing that a `sync` site may claim (P1).
                    self.owed = self.owed.max(Some(log.written()));
                }
                None => return,
                Some(Outcome::Failed(failed)) => {
                    // I15: nothing of it is in flight any more, so it may be sent again.
                    self.failed(now, log, failed);
                }
                // A group without a write for this site arrives at once; look at the next.
                Some(Outcome::Arrived(last)) => self.arrived(now, log, last),
            }
        }
    }

    /// What was under way has failed, and ended. What a deadline found is known already.
    fn failed(&mut self, now: Time, log: &mut Replog, failed: Failed) {
        if self.health.down().is_none() {
            self.went_down(now, now, log, failed);
        }
    }

    fn arrived(&mut self, now: Time, log: &mut Replog, last: Seq) {
        if self.health.succeeded() {
            self.note(now, Transition::CameUp);
        }
        log.cover(self.nr, last);
    }

    /// Whether new I/O may be asked of the site.
    fn may_ask(&self) -> bool {
        self.health.down().is_none() && self.probing == Probing::No && self.leaving.is_empty()
    }

    /// Whether anything that was sent there is past its deadline.
    fn hangs(&self) -> bool {
        self.flights.overdue(self.polled, To::Site).next().is_some()
    }

    /// Lets the log know what the site's copy is worth to readers (P6, P7).
    fn value_copy(&self, log: &mut Replog) {
        let consistent = self.stands.consistent && !log.site(self.nr).inconsistent;
        let readable = match self.health.down() {
            _ if self.probing != Probing::No || !consistent => Readable::No,
            None => Readable::Yes,
            Some(down) if matches!(down.how, Failure::Error(_)) && !self.hangs() => {
                Readable::Perhaps
            }
            Some(_) => Readable::No,
        };
        match self.mode {
            Mode::New => {}
            Mode::Streaming => log.value_copy(self.nr, true, readable),
            Mode::Detached(_) | Mode::Attached => log.value_copy(self.nr, false, readable),
        }
    }

    fn state(&self) -> State {
        match &self.mode {
            _ if self.health.down().is_some() => State::Down,
            Mode::New | Mode::Streaming => State::Streaming,
            Mode::Attached => State::Resyncing,
            Mode::Detached(_) if self.copying.is_some() => State::Resyncing,
            Mode::Detached(_) => State::Detached,
        }
    }
}

impl SiteLink for Ordered {
    fn nr(&self) -> SlinkNr {
        self.nr
    }

    fn poll(&mut self, now: Time, log: &mut Replog, load: &Load, effects: &mut Vec<Effect>) {
        self.polled = now;
        if matches!(self.mode, Mode::New) {
            self.join(now, log);
        }
        self.verifier.see(log, self.nr);
        self.follow(log);
        self.look_into_doubts(now, log);
        self.watch_deadlines(now, log);
        if let Some(began) = self.flights.oldest_from_log() {
            log.watch_read(now, began);
        }
        self.value_copy(log);
        self.decide(now, log);
        self.mark(now, log, effects);
        self.take_told(now, log);
        self.read_probes(now, effects);
        self.tell(now, log, effects);
        self.feed(now, log, load, effects);
        self.copy(now, log, load, effects);
        self.compare(now, log, load, effects);
        self.legs_leave(log, effects);
        self.probe(now, effects);
        self.advance(now, log);
        self.value_copy(log);
    }

    fn done(&mut self, now: Time, log: &mut Replog, ended: Ended) {
        let flight = self.flights.end(ended.nr);
        let (dev, what) = (flight.dev, flight.what);
        let Ended { result, buf, .. } = ended;
        match (flight.to, result) {
            // Nobody else may use that copy, or the log, and find out.
            (To::Copy(source, _), Err(errno)) => {
                log.doubt(source, Doubt { dev, since: flight.began, errno: Some(errno) });
            }
            (To::Log, Err(_)) => {
                log.read_failed();
            }
            _ => {}
        }
        match flight.step {
            Step::Feed(step) => {
                let Feeding::InOrder(feed) = &mut self.feeding else {
                    unreachable!("a link is fed in one way")
                };
                feed.done(dev, what, step, result, buf, log);
            }
            Step::Lazy(step) => {
                let Feeding::Lazy(lazy) = &mut self.feeding else {
                    unreachable!("a link is fed in one way")
                };
                lazy.done((dev, what), step, result, buf, &self.legs, log);
            }
            Step::Mend => {
                self.mender.done();
                if let Err(errno) = result {
                    self.failed(now, log, Failed { dev, what, how: Failure::Error(errno) });
                }
            }
            Step::Copy(step) => {
                let was_flush = matches!(step, CopyStep::Flush);
                // What a site that hung brings at last does not make it a site that works.
                let well = result.is_ok() && self.health.down().is_none();
                let Self { copier, legs, .. } = self;
                copier.done(now, (dev, what), step, result, buf, legs, log);
                if was_flush && well {
                    self.health.succeeded();
                }
            }
            Step::Verify(step) => self.compared(now, (dev, what), step, result, buf, log),
            Step::DirtyLog(nr) => {
                let leg = self.legs.all.get_mut(&dev).expect("a dirty log is one of the legs'");
                leg.dirty_log.done(nr, result, buf);
            }
            Step::Probe => self.probed(now, log, dev, result),
            Step::Mark => self.told(now, dev, result, buf, log),
        }
        self.value_copy(log);
    }

    fn opened(
        &mut self,
        now: Time,
        log: &mut Replog,
        disk: DiskId,
        result: Result<DiskSeen, NotOpened>,
    ) {
        self.dirty_log_opened(log, disk, &result);
        self.legs.opened(disk, result);
        self.opening.remove(&disk);
        if self.opening.is_empty() {
            self.all_opened(now, log);
        }
        self.value_copy(log);
    }

    fn grant(&mut self, now: Time, log: &Replog) -> Grant {
        self.grant_writers(now, log)
    }

    fn has_news(&self) -> bool {
        self.gate.has_changed()
    }

    fn may_be_left(&self) -> bool {
        Self::may_be_left(self)
    }

    fn wakeup(&self, log: &Replog, load: &Load) -> Option<Time> {
        let copying = self.wants_copies() && self.may_ask() && !log.is_lost();
        let copies = copying.then(|| [self.copier.pace.wakeup(self.polled), idle_at(load)]);
        let down = self.health.down();
        let retry = down.map(|down| down.retry_at).filter(|_| self.may_retry());
        let given_up = down.map(|down| down.since + self.table.options.timeout_io());
        let attach = matches!(self.mode, Mode::Detached(_)).then_some(self.attach_after);
        let limit = self.gate.wakeup(log, self.nr).filter(|_| self.stands.in_force);
        let is_behind =
            log.covered(self.nr) < log.written() && matches!(self.mode, Mode::Streaming);
        let lazily = self.feeding.wakeup(self.polled, is_behind && self.may_ask(), load);
        let deadline = self.next_deadline(self.polled, log);
        let times = [deadline, retry, given_up, attach, limit, lazily];
        let verify = self.verify_wakeup(log, load);
        let all = times.into_iter().chain(copies.into_iter().flatten()).chain(verify).flatten();
        all.filter(|at| *at > self.polled).min()
    }

    fn report(&self, _now: Time, log: &Replog) -> Report {
        let since = self.copier.progress.since.filter(|_| self.copying.is_some());
        let (shipped, round_trips) = self.feeding.arrived();
        Report {
            state: self.state(),
            consistent: self.stands.consistent && !log.site(self.nr).inconsistent,
            in_force: self.stands.in_force && self.owed.is_none() && self.becoming_sync.is_none(),
            over_limit: self.gate.is_over(),
            down: self.health.down().cloned(),
            shipped,
            round_trips,
            in_flight: self.flights.len(),
            dirty_bytes: self.legs.dirty_bytes(),
            resync: since.map(|since| Resync {
                since,
                copied_bytes: self.copier.progress.copied_bytes,
                rate: self.copier.progress.rate as u64,
            }),
            verified: self.verifier.found(),
        }
    }

    fn dirty_log(&self, dev: DevNr) -> Option<&DirtyLog> {
        self.legs.all.get(&dev).map(|leg| &leg.dirty_log)
    }

    fn take_events(&mut self) -> Vec<SiteEvent> {
        std::mem::take(&mut self.events)
    }

    fn resync(&mut self, now: Time, log: &mut Replog, dev: Option<DevNr>) {
        self.disbelieve(now, log, dev);
    }

    fn reconfigure(&mut self, now: Time, log: &mut Replog, table: &SlinkTable) {
        self.reconfigured(now, log, table);
    }

    fn hold(&mut self, now: Time, log: &mut Replog, held: bool) {
        Self::hold(self, now, log, held);
    }

    fn differs(
        &mut self,
        now: Time,
        log: &mut Replog,
        dev: DevNr,
        ranges: &[(Sector, Sectors)],
        end: bool,
    ) {
        self.tell_differences(now, log, dev, ranges, end);
    }

    fn verify(&mut self, now: Time, log: &Replog, ask: Verification) {
        self.verifier.begin(now, ask, &self.legs, log);
    }

    fn stop_verifying(&mut self, now: Time) {
        self.verifier.stop(now);
    }

    fn set_mark(&mut self, now: Time, log: &mut Replog, mark: Option<DiskId>) -> Option<DiskId> {
        self.mark_moves(now, log, mark)
    }

    fn rename(&mut self, replicator: &str) {
        replicator.clone_into(&mut self.replicator);
        self.notice.iter_mut().for_each(|notice| notice.rename(replicator));
    }

    fn add_leg(&mut self, now: Time, log: &mut Replog, leg: Leg) {
        self.leg_joins(now, log, leg);
        self.value_copy(log);
    }

    fn grow(
        &mut self,
        now: Time,
        log: &mut Replog,
        spec: &dirty_log::Spec,
        seen: &Result<DiskSeen, NotOpened>,
    ) {
        self.has_grown(now, log, spec, seen);
    }

    fn drop_leg(&mut self, dev: DevNr) {
        self.leaving.insert(dev);
    }

    fn set_copies(&mut self, dev: DevNr, copies: &[(SlinkNr, DiskId)]) {
        if let Some(leg) = self.legs.all.get_mut(&dev) {
            leg.copies = copies.to_vec();
        }
    }

    fn uses(&self, disk: DiskId) -> bool {
        self.flights.any_at(disk)
    }

    fn disks(&self) -> Vec<DiskId> {
        let legs = self.legs.iter().flat_map(|leg| [Some(leg.disk), leg.dirty_log.disk()]);
        legs.flatten().chain(self.notice.as_ref().map(|notice| notice.disk)).collect()
    }

    fn is_still(&self) -> bool {
        self.flights.len() == 0
    }

    fn mend(&mut self, mend: Mend) {
        if matches!(self.mode, Mode::Streaming) && self.may_ask() {
            self.mender.add(mend);
        }
    }

    fn is_busy(&self, now: Time, log: &Replog) -> bool {
        self.flights.any_lively(now, |began| log.awaits_read(now, began))
    }

    fn next_deadline(&self, now: Time, log: &Replog) -> Option<Time> {
        let from_log = self.flights.oldest_from_log().map(|began| log.read_deadline(began));
        let of_disks = self.flights.next_deadline(now);
        of_disks.into_iter().chain(from_log.filter(|at| *at > now)).min()
    }
}

/// When applications will have been idle for long enough to count as such.
fn idle_at(load: &Load) -> Option<Time> {
    Some(load.last_request + IDLE_AFTER)
}
