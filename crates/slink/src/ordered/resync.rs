//! The way back of a detached site: copied while what is written is marked; attached to
//! the log when little is left; streaming again; consistent at last.
//!
//! Attached early, a slow site fills the log at once and is detached again; so only when
//! what is left is small beside the log, and after each failure less, and later. Nothing
//! that was copied is lost by it: progress is made in every round (P9).

use blk::{DevNr, Effect, Errno, NotOpened, Span, Time};
use replog::Replog;

use super::outage::Probing;
use super::{Marks, Mode, Notice, Ordered};
use crate::event::{Transition, Why};
use crate::flights::Work;
use crate::link::Load;

impl Ordered {
    /// Whether there is anything to copy, and it is time for that.
    pub(super) fn wants_copies(&self) -> bool {
        let detached = matches!(self.mode, Mode::Detached(_) | Mode::Attached);
        detached && !self.is_loading() && self.is_dirty()
    }

    pub(super) fn is_dirty(&self) -> bool {
        self.legs.dirty_bytes() > 0
    }

    fn is_loading(&self) -> bool {
        self.legs.iter().any(|leg| leg.dirty_log.is_loading())
    }

    /// Goes on copying.
    pub(super) fn copy(
        &mut self,
        now: Time,
        log: &mut Replog,
        load: &Load,
        effects: &mut Vec<Effect>,
    ) {
        let may_begin = self.wants_copies()
            && !log.is_lost()
            && self.may_ask()
            && self.feeding.is_idle()
            // A resync may take hours; the little that is left of an attached site does not.
            && (!load.draining || matches!(self.mode, Mode::Attached))
            && self.may_be_inconsistent(now, log);
        let idle = may_begin.then(|| load.is_at_rest(now));
        let Self { copier, legs, flights, .. } = self;
        if let Some(failed) = copier.poll(idle, log, &mut Work { now, legs, flights, effects }) {
            self.failed(now, log, failed);
        }
    }

    /// P3: that the image may be inconsistent is durable before the first write out of order.
    fn may_be_inconsistent(&mut self, now: Time, log: &mut Replog) -> bool {
        let version = *self.copying.get_or_insert_with(|| {
            log.change_site(self.nr, |site| site.inconsistent = true);
            log.standing()
        });
        let knows = self.notice.as_ref().is_none_or(Notice::warns);
        if !log.stands(version) || !knows {
            return false;
        }
        if self.copier.progress.since.is_none() {
            self.copier.start(now);
            self.note(now, Transition::ResyncBegan);
        }
        true
    }

    /// Whether a detached site, all of whose marks are covered, is attached to the log here.
    pub(super) fn attaches(&mut self, now: Time, log: &Replog) -> bool {
        let ready = self.may_ask()
            && now >= self.attach_after
            && !self.is_loading()
            && log.readable_base().is_some()
            && !log.is_lost()
            && !log.is_nearly_full();
        if !ready || self.legs.dirty_bytes() > self.attach_bytes(log) {
            return false;
        }
        self.mode = Mode::Attached;
        self.note(now, Transition::Attached);
        true
    }

    /// So little that the log can hold what is written while it is copied.
    fn attach_bytes(&self, log: &Replog) -> u64 {
        log.geometry().ring_bytes() >> (ATTACH_SHIFT + self.attach_failures.min(ATTACH_SHIFT_MORE))
    }

    /// From attached to streaming, from inconsistent to consistent, from far behind to in force.
    pub(super) fn advance(&mut self, now: Time, log: &mut Replog) {
        // Not before it is up: nobody knows whether the disks that are there then are its own.
        if matches!(self.mode, Mode::Attached)
            && self.may_ask()
            && !self.is_dirty()
            && self.copier.is_idle()
            && self.feeding.is_idle()
        {
            self.attached(now, log);
        }
        if !matches!(self.mode, Mode::Streaming) {
            return;
        }
        // One that was not seen yet may have lost what it had.
        self.owed = self.owed.filter(|owed| !self.stands.up || *owed > log.covered(self.nr));
        // Of a disk that nobody has told anything of, nothing is said.
        let untold = self.legs.iter().any(|leg| self.is_untold(leg.dev, log));
        if !untold && self.consistent_at.is_some_and(|at| at <= log.covered(self.nr)) {
            self.consistent_at = None;
            log.change_site(self.nr, |site| site.inconsistent = false);
            // A leg that was to be copied may have left before anything was.
            if !self.stands.consistent {
                self.note(now, Transition::Consistent);
            }
        }
        self.catch_up(now, log);
    }

    /// Nothing is dirty any more: what the log kept since comes next.
    fn attached(&mut self, now: Time, log: &mut Replog) {
        self.mode = Mode::Streaming;
        self.feeding.begin_anew();
        self.copying = None;
        self.copier.progress.since = None;
        let nr = self.nr;
        let known = self.legs.check(log);
        assert_eq!(known, Ok(Vec::new()), "the disks that were copied to are fit");
        for leg in self.legs.iter() {
            log.change_leg(leg.dev, nr, |known| known.all_dirty = false);
        }
        log.change_site(nr, |site| (site.detached, site.lost_since) = (None, None));
        if log.site(nr).inconsistent {
            // Copies may hold something of any write up to here, so the image has been
            // through all of them only when the site has them all.
            let at = self.consistent_at.take().unwrap_or_default().max(self.copier.newest());
            self.consistent_at = Some(self.when_consistent(at));
        }
        self.note(now, Transition::Synced);
    }

    /// The site has all but the newest: from now on it is held to what the table says.
    fn catch_up(&mut self, now: Time, log: &mut Replog) {
        let close = log.written().lag(log.covered(self.nr)) <= CLOSE_WRITES;
        let well = self.stands.up && self.stands.consistent;
        if self.stands.in_force || !close || !well {
            return;
        }
        if self.becoming_sync.is_some() {
            return;
        }
        if self.policy.sync {
            // Fed lazily, it would claim what a newer write hides.
            if !self.feeding.is_as_in(&self.table) {
                return;
            }
            // P1: what was acknowledged without it comes first, and from now on that grows
            // no more.
            let owed = *self.promoting.get_or_insert(log.written());
            if log.covered(self.nr) < owed {
                return;
            }
        }
        self.promoting = None;
        self.attach_failures = 0;
        log.change_site(self.nr, |site| site.demoted = false);
        self.note(now, Transition::Promoted);
    }

    /// The site leaves the log: what it lacks becomes dirty regions.
    pub(super) fn detach(&mut self, now: Time, log: &mut Replog, why: Why) {
        if matches!(self.mode, Mode::Attached) || !self.stands.in_force {
            self.attach_failures += 1;
        }
        let pause = ATTACH_PAUSE.saturating_mul(1 << self.attach_failures.min(7));
        self.attach_after = now + pause.min(ATTACH_PAUSE_MAX);
        self.give_up(now, log);
        self.feeding.abandon();
        self.mender.forget();
        self.mode = Mode::Detached(match self.mode {
            // Its session goes on: what is clean stays clean.
            Mode::Attached => Marks::resumed_at(log.covered(self.nr), log),
            _ => Marks::begun(&mut self.legs, log),
        });
        self.note(now, Transition::Detached(why));
        self.value_copy(log);
    }

    /// Somebody says that nothing of a device, or of all, can be believed.
    pub(super) fn disbelieve(&mut self, now: Time, log: &mut Replog, dev: Option<DevNr>) {
        if matches!(self.mode, Mode::New) {
            self.join(now, log);
        }
        if !matches!(self.mode, Mode::Detached(_)) {
            self.detach(now, log, Why::Asked);
        }
        self.attach_after = now;
        self.told.clear();
        let devs = self.legs.iter().map(|leg| leg.dev);
        let devs: Vec<DevNr> = devs.filter(|nr| dev.is_none_or(|dev| dev == *nr)).collect();
        for dev in &devs {
            // Whatever disk is there is taken for the site's (P15): the one that is in use if it
            // stays, or the one that is found should that be gone.
            log.change_leg(*dev, self.nr, |known| known.identity.clear());
        }
        if self.probing == Probing::Opening {
            // What was opened before this was said may be another's place by now.
            for leg in self.legs.iter_mut().filter(|leg| devs.contains(&leg.dev)) {
                let why = "it is to be opened once more".to_owned();
                leg.seen = Err(NotOpened { errno: Errno::ENODEV, why });
            }
        }
        self.all_dirty(&devs, log);
        log.change_site(self.nr, |site| site.inconsistent = true);
        self.health.hurry(now);
    }

    /// Nothing that was copied to these devices' disks counts.
    pub(super) fn all_dirty(&mut self, devs: &[DevNr], log: &mut Replog) {
        for dev in devs {
            let leg = self.legs.all.get_mut(dev).expect("one of the legs");
            leg.dirty_log.mark_all();
            self.copier.touch(*dev, blk::Sector(0), leg.size);
            log.change_leg(*dev, self.nr, |known| known.all_dirty = true);
        }
    }
}

/// An eighth of the log, at first.
const ATTACH_SHIFT: u32 = 3;
/// And a 128th after four failures in a row: it is little enough for any site that is not
/// a hundred times slower than its applications.
const ATTACH_SHIFT_MORE: u32 = 4;
/// Between an overflow and the next attachment.
const ATTACH_PAUSE: Span = Span::from_millis(500);
const ATTACH_PAUSE_MAX: Span = Span::from_secs(60);
/// So few writes are a queue's worth, not a backlog.
const CLOSE_WRITES: u64 = 128;
