//! What is said of a site can be changed while it is in use: policy, limit, options; and
//! which devices it has.

use blk::{DevNr, DiskId, DiskSeen, Effect, Errno, NotOpened, Sector, Time};
use replog::Replog;
use table::SlinkTable;

use super::notice::Notice;
use super::{Mode, Ordered, Probing};
use crate::event::{Transition, Why};
use crate::feed::Failed;
use crate::health::Failure;
use crate::link::Leg;
use crate::policy::Policy;

impl Ordered {
    /// The table says something else from now on.
    pub(super) fn reconfigured(&mut self, now: Time, log: &mut Replog, table: &SlinkTable) {
        if matches!(self.mode, Mode::New) {
            self.join(now, log);
        }
        let options = &table.options;
        self.flights.set_timeout(options.timeout_io());
        self.feeding.set_order(options.order());
        self.copier.pace.set_rate(options.resync_rate());
        self.verifier.pace.set_rate(options.resync_rate());
        self.gate.set_limit(table.fall_behind.filter(|_| !self.nr.is_local()));
        let policy = Policy::of(table);
        let was_sync = self.policy.sync || self.becoming_sync.is_some();
        self.policy = Policy { sync: self.policy.sync && policy.sync, ..policy };
        self.table = table.clone();
        match (was_sync, policy.sync) {
            (false, true) => {
                log.change_site(self.nr, |site| site.demoted = true);
                self.becoming_sync = Some(log.standing());
            }
            (true, false) => self.become_async(now, log),
            (true, true) | (false, false) => {}
        }
    }

    /// P1: a site that becomes `sync` is demoted first, durably: what was acknowledged may be
    /// more than it has. It is promoted as any other, when it has caught up.
    pub(super) fn become_sync(&mut self, now: Time, log: &Replog) {
        if self.becoming_sync.is_none_or(|version| !log.stands(version)) {
            return;
        }
        self.becoming_sync = None;
        self.policy.sync = true;
        if self.stands.in_force {
            self.note(now, Transition::Demoted);
        }
    }

    /// Nobody waits for it as for a `sync` site any more, nor is about to do without it.
    fn become_async(&mut self, now: Time, log: &mut Replog) {
        let given_up = self.demoting.take().is_some();
        (self.becoming_sync, self.promoting) = (None, None);
        match (self.stands.in_force, given_up) {
            (false, _) => {}
            // Whatever it was given up for is still so. That had to be durable for a `sync` site
            // only: nobody is told that this one has what it lacks.
            (true, true) => self.note(now, Transition::Demoted),
            (true, false) => log.change_site(self.nr, |site| site.demoted = false),
        }
    }

    /// A device has grown. What a remote disk holds behind the old end nobody knows; and whether
    /// it reaches that far, only who opens it anew.
    pub(super) fn has_grown(
        &mut self,
        now: Time,
        log: &mut Replog,
        spec: &dirty_log::Spec,
        seen: &Result<DiskSeen, NotOpened>,
    ) {
        let (dev, is_local) = (spec.dev, self.nr.is_local());
        let Some(before) = self.legs.all.get(&dev).map(|leg| leg.size) else { return };
        if before == spec.len {
            return;
        }
        if matches!(self.mode, Mode::New) {
            self.join(now, log);
        }
        if !is_local && !matches!(self.mode, Mode::Detached(_)) {
            self.detach(now, log, Why::Grown);
        }
        let leg = self.legs.all.get_mut(&dev).expect("it was just looked at");
        leg.size = spec.len;
        leg.dirty_log.grow(spec);
        if is_local {
            leg.seen.clone_from(seen);
            return;
        }
        leg.dirty_log.mark(Sector(0) + before, spec.len - before);
        let why = "its device has grown, and it is opened anew";
        leg.seen = Err(NotOpened { errno: Errno::ENODEV, why: why.to_owned() });
        self.attach_after = now;
        self.is_opened_anew(now, log, dev, why);
    }

    /// The site keeps its own state elsewhere, or nowhere, from now on: what is there is read, and
    /// written, before anything else is asked of the site.
    pub(super) fn mark_moves(
        &mut self,
        now: Time,
        log: &mut Replog,
        mark: Option<DiskId>,
    ) -> Option<DiskId> {
        if matches!(self.mode, Mode::New) {
            self.join(now, log);
        }
        let before = self.notice.take().map(|notice| notice.disk);
        if before.is_some_and(|disk| self.opening.remove(&disk)) && self.opening.is_empty() {
            // Nobody waits for it any more, and nothing else was missing.
            self.probing = Probing::No;
        }
        if let Some(disk) = mark {
            self.notice = Some(Notice::new(disk, self.replicator.clone()));
            self.is_opened_anew(now, log, self.legs.first(), "its mark's device is being opened");
        }
        before
    }

    /// A leg joins: its disk is opened as after an outage, with all others of the site. What is
    /// not believed to be in sync is copied. A local disk is open already, and nobody waits for it.
    pub(super) fn leg_joins(&mut self, now: Time, log: &mut Replog, leg: Leg) {
        if matches!(self.mode, Mode::New) {
            self.join(now, log);
        }
        let dev = leg.dev;
        let known = self.legs.all.insert(dev, leg);
        assert!(known.is_none(), "a leg joins once");
        if log.leg(dev, self.nr).is_some_and(|known| known.all_dirty) {
            self.disbelieve(now, log, Some(dev));
            if let Mode::Detached(marks) = &mut self.mode {
                // Under its number the log may still hold what another device was to get there.
                marks.passes(log.written());
            }
        }
        if self.nr.is_local() {
            return;
        }
        self.is_opened_anew(now, log, dev, "its backing device is being opened");
    }

    /// A disk is to be opened, with all others of the site, as after an outage. P5: nobody waits
    /// for that, however long it takes.
    fn is_opened_anew(&mut self, now: Time, log: &mut Replog, dev: DevNr, why: &str) {
        self.give_up(now, log);
        // Whoever looks at the site now has not seen this one.
        match &mut self.probing {
            Probing::Reading { well, .. } => *well = false,
            Probing::Opened => self.probing = Probing::No,
            Probing::No | Probing::Opening => {}
        }
        let how = Failure::NotOpened(why.to_owned());
        self.went_down(now, now, log, Failed { dev, what: "opening it", how });
        self.health.hurry(now);
    }

    /// Legs leave when nothing is under way, so that no shipment and no copy misses one (I15).
    pub(super) fn legs_leave(&mut self, log: &mut Replog, effects: &mut Vec<Effect>) {
        let quiet = self.feeding.is_idle() && self.copier.is_idle() && self.probing == Probing::No;
        if !quiet {
            return;
        }
        let still = |dev: &DevNr| !self.flights.any_of(*dev);
        let gone: Vec<DevNr> = self.leaving.iter().copied().filter(still).collect();
        if !gone.is_empty() {
            // A comparison was to be of all that the site had.
            self.verifier.stop(self.polled);
            // What was read for it may be meant for another device under its number by then.
            self.mender.forget();
        }
        for dev in gone {
            self.leaving.remove(&dev);
            let leg = self.legs.remove(dev).expect("one of the legs leaves");
            self.feeding.forget(leg.disk);
            self.told.remove(&dev);
            // Named again, it is copied anew, whatever its dirty log says. Of a local disk only the
            // log can tell: a device goes when it has everything.
            let dirty = !self.nr.is_local();
            log.change_leg(dev, self.nr, |known| (known.left_out, known.all_dirty) = (true, dirty));
            let disks = std::iter::once(leg.disk).chain(leg.dirty_log.disk());
            effects.extend(disks.map(|disk| Effect::Close { disk }));
        }
    }
}
