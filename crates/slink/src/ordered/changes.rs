//! What is said of a site can be changed while it is in use: policy, limit, options.

use blk::Time;
use replog::Replog;
use table::SlinkTable;

use super::{Mode, Ordered};
use crate::event::Transition;
use crate::policy::Policy;

impl Ordered {
    /// The table says something else from now on.
    pub(super) fn reconfigured(&mut self, now: Time, log: &mut Replog, table: &SlinkTable) {
        if matches!(self.mode, Mode::New) {
            self.join(now, log);
        }
        let options = &table.options;
        self.flights.set_timeout(options.timeout_io());
        self.feed.set_order(options.order());
        self.copier.pace.set_rate(options.resync_rate());
        self.verifier.pace.set_rate(options.resync_rate());
        self.gate.set_limit(table.fall_behind);
        let policy = Policy::of(table);
        let was_sync = self.policy.sync || self.becoming_sync.is_some();
        self.policy = Policy { sync: self.policy.sync && policy.sync, ..policy };
        self.table = table.clone();
        match (was_sync, policy.sync) {
            (false, true) => {
                log.change_site(self.nr, |site| site.demoted = true);
                self.becoming_sync = Some(log.standing());
            }
            (true, false) => self.become_async(log),
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
    fn become_async(&mut self, log: &mut Replog) {
        (self.becoming_sync, self.demoting, self.promoting) = (None, None, None);
        if self.stands.in_force {
            log.change_site(self.nr, |site| site.demoted = false);
        }
    }
}
