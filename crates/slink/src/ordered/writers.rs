//! What a site means for writers: they wait, go on without it, or get an error
//! ([`crate::policy`]); and what that means for the site: it is demoted, or detached.

use blk::Time;
use replog::Replog;

use super::{Mode, Ordered};
use crate::event::{Transition, Why};
use crate::link::Grant;
use crate::policy::{Condition, Verdict};

impl Ordered {
    /// Gives the site up if the table says so.
    pub(super) fn decide(&mut self, now: Time, log: &mut Replog) {
        self.end_demotion(now, log);
        self.become_sync(now, log);
        let over_limit = self.stands.in_force && self.is_over(now, log);
        if let Some(over) = self.gate.take_change() {
            self.note(now, if over { Transition::OverLimit } else { Transition::WithinLimit });
        }
        if log.is_lost() {
            return self.decide_without_log(now, log);
        }
        let log_full = self.fills(log);
        match self.mode {
            Mode::New | Mode::Detached(_) => {}
            // It was given up before, and nobody waits for it yet: nor is the log kept for it.
            Mode::Attached if log_full => self.detach(now, log, Why::LogFull),
            Mode::Streaming if !self.stands.in_force && self.demoting.is_none() && log_full => {
                self.detach(now, log, Why::LogFull);
            }
            Mode::Attached => {}
            Mode::Streaming => match self.verdict(now, over_limit, log) {
                // P6: the last whole copy is not given up; but nobody waits for it.
                Verdict::Detach if log.kept_beside(self.nr).is_none() => self.give_up(now, log),
                Verdict::Detach if over_limit => self.detach(now, log, Why::Limit),
                Verdict::Detach => self.detach(now, log, Why::LogFull),
                Verdict::Acknowledge if self.policy.sync => self.give_up(now, log),
                Verdict::Acknowledge | Verdict::Hold | Verdict::Refuse => {}
            },
        }
    }

    /// How far acknowledgements may go.
    pub(super) fn grant_writers(&mut self, now: Time, log: &Replog) -> Grant {
        let covered = log.covered(self.nr);
        if let Some(owed) = self.promoting {
            return Grant::UpTo(covered.max(owed));
        }
        if !self.stands.in_force || (matches!(self.mode, Mode::Detached(_)) && !self.policy.sync) {
            return Grant::All;
        }
        let over_limit = self.is_over(now, log);
        let allowed = self.gate.allows(now, log, self.nr);
        let limit = if self.policy.sync { covered } else { allowed };
        // Without a log nothing beyond this is going to be acknowledged while the site stays.
        let limit = if log.is_lost() { limit.min(log.written()) } else { limit };
        match self.verdict(now, over_limit, log) {
            Verdict::Refuse => Grant::Refuse(limit),
            // P1: until the demotion stands, acknowledgements wait; P12: the limit holds.
            Verdict::Acknowledge | Verdict::Detach | Verdict::Hold => Grant::UpTo(limit),
        }
    }

    /// P8: without a log no remote site can be fed: as if it were down and the log full. Where
    /// another log is about to be at work, that is nothing to who lacks nothing.
    fn decide_without_log(&mut self, now: Time, log: &mut Replog) {
        let lacks = !log.is_given_up() || log.covered(self.nr) < log.written();
        let goes = match self.mode {
            _ if self.nr.is_local() || !log.may_take_over() || !lacks => false,
            Mode::New | Mode::Detached(_) => false,
            Mode::Attached => true,
            Mode::Streaming => {
                !self.stands.in_force || self.verdict(now, false, log) == Verdict::Detach
            }
        };
        if goes {
            self.detach(now, log, Why::LogLost);
        }
    }

    /// Whether the table lets nobody wait for the site, were it down and the log full.
    pub(super) fn may_be_left(&self) -> bool {
        let left = Condition { up: false, over_limit: false, log_full: true };
        match self.mode {
            Mode::New | Mode::Detached(_) | Mode::Attached => true,
            Mode::Streaming => {
                !self.stands.in_force || self.policy.verdict(left) == Verdict::Detach
            }
        }
    }

    fn verdict(&self, now: Time, over_limit: bool, log: &Replog) -> Verdict {
        let cut_off = log.is_lost() && !self.nr.is_local();
        let up = self.is_up(now) && !cut_off;
        // The local copy is the one that is read: while it works, writers are slowed down.
        let log_full = cut_off || (self.fills(log) && !(up && self.nr.is_local()));
        self.policy.verdict(Condition { up, over_limit: over_limit && !cut_off, log_full })
    }

    fn is_over(&mut self, now: Time, log: &Replog) -> bool {
        let allowed = self.gate.allows(now, log, self.nr);
        self.gate.is_over() || log.written() > allowed
    }

    /// Nobody is to wait for the site. For a `sync` one that counts once it is durable (P1).
    pub(super) fn give_up(&mut self, now: Time, log: &mut Replog) {
        self.gate.open();
        self.promoting = None;
        if !self.stands.in_force {
            return;
        }
        if !self.policy.sync {
            self.note(now, Transition::Demoted);
        } else if self.demoting.is_none() {
            log.change_site(self.nr, |site| site.demoted = true);
            self.demoting = Some(log.standing());
        }
    }

    fn end_demotion(&mut self, now: Time, log: &Replog) {
        if self.demoting.is_some_and(|version| log.stands(version)) {
            self.demoting = None;
            self.note(now, Transition::Demoted);
        }
    }

    /// Whether the log is full, and would not be without this site: another whole copy can be
    /// read (P6), and what the site holds back beyond that is worth having.
    fn fills(&self, log: &Replog) -> bool {
        let covered = log.covered(self.nr);
        log.is_nearly_full()
            && log.kept_beside(self.nr).is_some_and(|kept| {
                covered < kept
                    && log.bytes_behind(covered) - log.bytes_behind(kept)
                        >= log.geometry().ring_bytes() / 8
            })
    }
}
