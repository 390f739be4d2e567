//! Outages: a site fails as one, is left alone while anything of it hangs, and is tried
//! again, less and less often, by opening its disks afresh.

use blk::{BufMut, DevNr, DiskOp, Effect, Errno, Sector, Sectors, Time};
use replog::{Doubt, Replog};

use super::{Mode, Ordered, Step};
use crate::event::Transition;
use crate::feed::Failed;
use crate::flights::To;
use crate::health::Failure;

/// How far an attempt to reach the site again is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Probing {
    /// There is none.
    No,
    /// Its disks are being opened.
    Opening,
    /// They are open, and what was expected.
    Opened,
    /// A block of each is being read.
    Reading { left: usize, well: bool },
}

impl Ordered {
    /// A device failed, or hangs since `since`: the site is down, as one (P3).
    pub(super) fn went_down(&mut self, now: Time, since: Time, log: &mut Replog, failed: Failed) {
        let was_up = self.health.down().is_none();
        let Failed { dev, what, how } = failed.clone();
        self.health.failed(now, since, dev, what, how);
        self.leave_alone(now, was_up, log, failed);
    }

    /// Somebody takes the site down, or lets it be tried again. As in any outage nothing new
    /// goes there, and what it lacks is kept; but nobody looks whether it is back.
    pub(super) fn hold(&mut self, now: Time, log: &mut Replog, held: bool) {
        if matches!(self.mode, Mode::New) {
            self.join(now, log);
        }
        if !held {
            self.health.release(now);
            return self.value_copy(log);
        }
        let (was_up, dev) = (self.health.down().is_none(), self.legs.first());
        self.health.hold(now, dev);
        self.leave_alone(now, was_up, log, Failed { dev, what: "", how: Failure::Asked });
    }

    /// What is under way is waited for, and nothing more begins.
    fn leave_alone(&mut self, now: Time, was_up: bool, log: &mut Replog, failed: Failed) {
        self.promoting = None;
        self.feeding.fail(failed.clone());
        self.copier.fail(failed);
        self.mender.forget();
        self.verifier.void_all();
        if let Some(down) = self.health.down().filter(|_| was_up) {
            let down = down.clone();
            self.note(now, Transition::WentDown(down));
        }
        // Nobody is to read there from this moment on.
        self.value_copy(log);
    }

    /// Somebody who reads there met a failure that takes a closer look.
    pub(super) fn look_into_doubts(&mut self, now: Time, log: &mut Replog) {
        let Some(Doubt { dev, since, errno }) = log.take_doubt(self.nr) else { return };
        let is_news = match self.health.down() {
            None => true,
            // P13: what hangs is not read again and again, as if it still might answer.
            Some(down) => errno.is_none() && matches!(down.how, Failure::Error(_)),
        };
        if !is_news {
            return;
        }
        let how = errno.map_or(Failure::Hung, Failure::Error);
        self.went_down(now, since, log, Failed { dev, what: "a read", how });
        if errno.is_some() {
            // It may be one bad sector, or all of it: a look tells, at once.
            self.health.hurry(now);
        }
    }

    /// P5: a hung device is a down device.
    pub(super) fn watch_deadlines(&mut self, now: Time, log: &mut Replog) {
        for (slink, dev, since) in self.flights.give_up_reads(now) {
            self.copier.give_up_reads();
            log.doubt(slink, Doubt { dev, since, errno: None });
        }
        if self.health.down().is_some() {
            return;
        }
        let hangs = self.flights.overdue(now, To::Site).next();
        if let Some((dev, what, began)) = hangs {
            self.went_down(now, began, log, Failed { dev, what, how: Failure::Hung });
        }
    }

    /// Whether the site could be tried again, were it time: I15, nothing of it is in flight.
    pub(super) fn may_retry(&self) -> bool {
        self.flights.to_site() == 0
            && self.feeding.is_idle()
            && self.copier.is_idle()
            && self.probing == Probing::No
            && !self.health.is_held()
    }

    /// Has the disks of a site that is down opened afresh: what is open may be a device that
    /// is gone for good, and its name another's.
    pub(super) fn probe(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let down = self.health.down().is_some() && self.health.may_try(now);
        if !down || !self.may_retry() {
            return;
        }
        for leg in self.legs.iter() {
            // A dirty log that failed comes back with the next detachment.
            let failed = leg.dirty_log.disk().filter(|_| leg.dirty_log.failure().is_some());
            for disk in std::iter::once(leg.disk).chain(failed) {
                self.opening.insert(disk);
                effects.push(Effect::Open { disk });
            }
        }
        if let Some(notice) = &mut self.notice {
            notice.forget();
            self.opening.insert(notice.disk);
            effects.push(Effect::Open { disk: notice.disk });
        }
        self.probing = Probing::Opening;
        if self.opening.is_empty() {
            // A site without devices, nor a mark, has nothing that could fail.
            self.all_probed(now, true);
        }
    }

    /// Every disk was opened, or was not. Those that were are read from.
    pub(super) fn all_opened(&mut self, now: Time, log: &mut Replog) {
        match self.legs.check(log) {
            Ok(others) => {
                self.all_dirty(&others, log);
                self.probing = Probing::Opened;
            }
            Err((dev, how)) => {
                self.probing = Probing::No;
                self.went_down(now, now, log, Failed { dev, what: "opening it", how });
            }
        }
    }

    /// Reads a block of every disk that was opened; at each attempt another one, as one that can't
    /// be read is not the end of its disk.
    pub(super) fn read_probes(&mut self, now: Time, effects: &mut Vec<Effect>) {
        if self.probing != Probing::Opened {
            return;
        }
        self.probing = Probing::Reading { left: self.legs.all.len(), well: true };
        for leg in self.legs.iter() {
            let buf = BufMut::zeroed(leg.block as usize);
            let block = Sectors::from_bytes(u64::from(leg.block));
            let sector = self.health.block_to_try(leg.size.0 / block.0) * block.0;
            let op = DiskOp::Read { sector: Sector(sector), buf };
            let flight = (leg.dev, "a read", To::Site, Step::Probe);
            self.flights.submit(now, leg.disk, op, flight, effects);
        }
        if self.legs.all.is_empty() {
            // Its mark is all that it has, and is read when it is up.
            self.all_probed(now, true);
        }
    }

    /// A probe has ended.
    pub(super) fn probed(
        &mut self,
        now: Time,
        log: &mut Replog,
        dev: DevNr,
        result: Result<(), Errno>,
    ) {
        let Probing::Reading { left, well } = &mut self.probing else {
            unreachable!("a probe ends while it is waited for")
        };
        *left -= 1;
        *well &= result.is_ok();
        let (left, well) = (*left, *well);
        if let Err(errno) = result {
            let how = Failure::Error(errno);
            self.went_down(now, now, log, Failed { dev, what: "a read", how });
        }
        if left == 0 {
            self.all_probed(now, well);
        }
    }

    fn all_probed(&mut self, now: Time, well: bool) {
        self.probing = Probing::No;
        if well && !self.health.is_held() {
            self.health.answers();
            self.note(now, Transition::CameUp);
        }
    }

    /// Whether the site takes writes, or has failed for less than its deadline.
    pub(super) fn is_up(&self, now: Time) -> bool {
        // Who was taken down by hand is not hoped for.
        if self.health.is_held() {
            return false;
        }
        let patience = self.table.options.timeout_io();
        self.health.down().is_none_or(|down| now < down.since + patience)
    }
}
