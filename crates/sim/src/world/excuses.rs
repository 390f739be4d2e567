//! What a promise allows a machine: what may fail, and who may wait, while something befalls it.

use blk::Span;

use super::{Goal, Loss, Stage, Subject, Terms, World};
use crate::oracle::Violation;
use crate::topology::Topology;

impl<M: Subject> World<'_, M> {
    /// Whether a fault explains that it got stuck or, if it is the log's or something is wrong
    /// with an LD, did not open.
    pub fn is_excused(&self, violation: &Violation) -> bool {
        match violation {
            Violation::Stuck { .. } => {
                let may_hold = self.host.topology.may_hold() && self.loss != Loss::None;
                let opening = self.machine.stage() == Stage::Opening;
                self.faults.stick()
                    || self.is_held()
                    || may_hold
                    || (opening && self.host.weather.befalls_log())
            }
            Violation::OpenFailed { .. } => {
                self.faults.reach_applications()
                    || self.may_wait_for_copies()
                    || self.host.weather.befalls_log()
            }
            _ => false,
        }
    }

    /// What a request that ends now is measured by.
    pub(super) fn terms(&self) -> Terms {
        let topology = &self.host.topology;
        let excused = self.faults.any()
            || topology.may_hold()
            || self.held_up
            || self.has_lost_its_log()
            || self.host.weather.befalls_log()
            // Who waited for a site may have done so by an earlier table.
            || self.teller.is_some();
        let local = self.local_trouble;
        let served =
            self.sound_since.is_some_and(|since| self.clock.now.since(since) > patience(topology));
        Terms {
            now: self.clock.now,
            any_fails: self.faults.reach_applications(),
            change_fails: topology.may_refuse(),
            read_fails: (local && (!served || self.faults.any()))
                || self.host.weather.befalls_log(),
            patience: match () {
                () if excused => Span::MAX,
                () if !local => REQUEST_PATIENCE + topology.dirty_log_deadline(),
                () if served && !self.host.weather.slows(0) => patience(topology),
                () => Span::MAX,
            },
        }
    }

    /// Writers may wait for ever if the table says so and a site is out of order.
    pub(super) fn waits_for_a_site(&self, goal: Goal) -> bool {
        let trouble = !self.host.weather.is_fair()
            || !self.host.strangers.is_empty()
            || !self.held.is_empty()
            // Told to be taken, but that may have been forgotten in a crash.
            || (!self.host.unused.is_empty() && !self.healed)
            || (self.loss != Loss::None && !self.healed);
        let holds = self.serving && (self.host.topology.may_hold() || self.has_lost_its_log());
        match goal {
            Goal::Quiet => (holds || self.may_wait_for_copies()) && trouble,
            // What a lost log alone has, besides memory, is not left behind: the LD may be away.
            Goal::Stopped => self.loss == Loss::TakingOver && trouble,
            Goal::Running | Goal::Converged => false,
        }
    }

    /// Whether readers may have had to wait, or had errors.
    pub(super) fn may_wait_for_copies(&self) -> bool {
        self.local_trouble
    }
}

/// How long a request may take while the local site is not what it was and another has
/// everything: a read and a write that hang are each given up after their deadline, and the
/// log may be full of what the slower site lacks.
fn patience(topology: &Topology) -> Span {
    let local = topology.sites[0].link.options.timeout_io();
    REQUEST_PATIENCE + topology.dirty_log_deadline() + local * 4 + Span::from_secs(3)
}

/// Virtual time that a request may take, whatever befalls the remote sites: the log may be
/// full, and the LD has to catch up. A dirty log that does not answer has its deadline.
const REQUEST_PATIENCE: Span = Span::from_millis(500);
