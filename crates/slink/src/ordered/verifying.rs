//! When a site is compared, and what becomes of what differs: it is dirty from then on, and
//! all the rest follows as for any detached site (P3: that its image is inconsistent is
//! durable before the first copy).

use blk::{BufMut, DevNr, Effect, Errno, Sector, Sectors, Time};
use replog::Replog;

use super::{Mode, Ordered, idle_at};
use crate::event::{Transition, Why};
use crate::feed::Failed;
use crate::health::Failure;
use crate::link::Load;
use crate::verify::VerifyStep;

impl Ordered {
    /// Goes on comparing.
    pub(super) fn compare(
        &mut self,
        now: Time,
        log: &mut Replog,
        load: &Load,
        effects: &mut Vec<Effect>,
    ) {
        let was_under_way = self.verifier.is_under_way();
        let idle = self.may_compare(log, load).then(|| load.is_at_rest(now));
        let Self { verifier, legs, flights, .. } = self;
        let repairs = verifier.poll(now, idle, legs, log, flights, effects);
        if was_under_way && !self.verifier.is_under_way() {
            let found = self.verifier.found().map_or(0, |found| found.differing_ranges);
            self.note(now, Transition::Verified(found));
        }
        if !repairs.is_empty() {
            self.repair(now, log, &repairs);
        }
    }

    fn may_compare(&self, log: &Replog, load: &Load) -> bool {
        let is_loading = self.legs.iter().any(|leg| leg.dirty_log.is_loading());
        // Without the log everything written is dirty at once, and nobody reads what it has.
        let is_held = is_loading || load.draining || log.is_lost();
        self.verifier.is_under_way() && self.may_ask() && !is_held
    }

    /// A read has ended.
    pub(super) fn compared(
        &mut self,
        now: Time,
        (dev, what): (DevNr, &'static str),
        step: VerifyStep,
        result: Result<(), Errno>,
        buf: Option<BufMut>,
        log: &mut Replog,
    ) {
        let blame = self.verifier.done(step, result, buf, log);
        if let Err(errno) = result
            && blame
            && self.health.down().is_none()
        {
            self.went_down(now, now, log, Failed { dev, what, how: Failure::Error(errno) });
        }
    }

    /// These ranges are to be copied.
    pub(super) fn repair(
        &mut self,
        now: Time,
        log: &mut Replog,
        ranges: &[(DevNr, Sector, Sectors)],
    ) {
        // P6: the last whole copy is not given up, whatever is said of it.
        if log.is_whole(self.nr) && log.kept_beside(self.nr).is_none() {
            return;
        }
        if !matches!(self.mode, Mode::Detached(_)) {
            self.detach(now, log, Why::Differs);
        }
        self.attach_after = now;
        for (dev, sector, len) in ranges {
            let leg = self.legs.all.get_mut(dev).expect("one of the legs was compared");
            leg.dirty_log.mark(*sector, *len);
            self.copier.touch(*dev, *sector, *len);
        }
        log.change_site(self.nr, |site| site.inconsistent = true);
    }

    pub(super) fn verify_wakeup(&self, log: &Replog, load: &Load) -> [Option<Time>; 2] {
        if !self.may_compare(log, load) {
            return [None; 2];
        }
        [self.verifier.wakeup(self.polled), idle_at(load)]
    }
}
