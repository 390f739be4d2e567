//! A log that works is given up for another one, on another device (P8).
//!
//! The new log is made ready while the old one is at work. Then writes are held: the sites that
//! are up catch up, and the old log is left as if it had failed ([`crate::bypass`]): the LD gets
//! what it lacks from memory, the record says that the old log is never to be replayed, and the
//! new one takes over with everything ([`crate::replace`]). A crash before the record finds the
//! old log, with all that was ever acknowledged; one after it finds the LD standing in for it.
//!
//! | a site that has not caught up in a second | and the old log is |
//! |---|---|
//! | may be left behind, by the table | given up: what the site lacks becomes dirty regions |
//! | is to be waited for | kept, with an error that names the site |

use blk::{SlinkNr, Span, Time};

use crate::event::LogEvent;
use crate::log::Replog;
use crate::replace::{ReplaceError, Stage};

impl Replog {
    /// Whether another log is ready to take the place of the one at work.
    #[must_use]
    pub fn has_new_log_ready(&self) -> bool {
        let is_ready = |stage: &Stage| matches!(stage, Stage::Prepared);
        !self.is_lost() && self.replacing.as_ref().is_some_and(|it| is_ready(&it.stage))
    }

    /// Whether the LD stands in for a log, and another is ready, and waits for
    /// [`Replog::begin_new_log`].
    #[must_use]
    pub fn has_new_log_waiting(&self) -> bool {
        let waits = |stage: &Stage| matches!(stage, Stage::Prepared);
        let is_held_up = |it: &crate::replace::Replacing| waits(&it.stage) && !it.may_begin;
        self.is_bypassed() && self.replacing.as_ref().is_some_and(is_held_up)
    }

    /// Gives the log at work up for the one that is ready.
    ///
    /// # Errors
    /// If none is.
    pub fn give_up(&mut self, now: Time) -> Result<(), ReplaceError> {
        let ready = self.has_new_log_ready();
        let replacing = self.replacing.as_mut().filter(|_| ready);
        replacing.ok_or(ReplaceError::NotPrepared)?.stage = Stage::CatchUp { since: now };
        Ok(())
    }

    /// Whoever comes after a crash knows by now where the new log is: it may be at work.
    ///
    /// # Errors
    /// If none is ready.
    pub fn begin_new_log(&mut self) -> Result<(), ReplaceError> {
        let replacing = self.replacing.as_mut().ok_or(ReplaceError::NotPrepared)?;
        replacing.may_begin = true;
        Ok(())
    }

    /// Nobody wants the new log any more. Whether it is given up: one that is about to be at work
    /// is not.
    pub fn cancel_new_log(&mut self) -> bool {
        let stage = self.replacing.as_ref().map(|it| &it.stage);
        let too_late = matches!(stage, Some(Stage::Format { .. } | Stage::Retire { .. }));
        if stage.is_some() && !too_late {
            self.end_replacing(ReplaceError::Cancelled);
        }
        !too_late
    }

    /// Whether no write comes before another log is at work: who lacks nothing now will not.
    #[must_use]
    pub fn is_given_up(&self) -> bool {
        self.replacing.as_ref().is_some_and(|it| it.given_up)
    }

    /// Whether every remote site has what was written, or is marked for it.
    pub(crate) fn has_caught_up(&self) -> bool {
        let is_still = self.open.is_none() && self.launched.is_none();
        let mut remote = self.consumers.iter().filter(|it| !it.slink.is_local());
        is_still && remote.all(|it| it.covered >= self.written)
    }

    /// Since when it has been waited for sites, if that is long enough.
    #[must_use]
    pub fn catches_up_in_vain(&self, now: Time) -> bool {
        let stage = self.replacing.as_ref().map(|it| &it.stage);
        matches!(stage, Some(Stage::CatchUp { since }) if self.catch_up_until(*since) <= now)
    }

    pub(crate) fn catch_up_until(&self, since: Time) -> Time {
        since + CATCH_UP_MAX.min(self.config.timeout)
    }

    /// It is not waited for a site that lacks something; `keep`: nor is it left behind.
    pub fn stop_catching_up(&mut self, keep: Option<SlinkNr>) {
        match keep {
            None => self.leave_old_log(),
            Some(slink) => {
                let writes = self.written.0 - self.consumers.of(slink).covered.0;
                self.end_replacing(ReplaceError::Lacking { slink, writes });
            }
        }
    }

    /// The old log is left, if the LD can stand in for it.
    pub(crate) fn leave_old_log(&mut self) {
        if !self.can_do_without() {
            return self.end_replacing(ReplaceError::NoStandIn);
        }
        let replacing = self.replacing.as_mut().expect("one that is ready is what it is left for");
        (replacing.stage, replacing.given_up) = (Stage::Prepared, true);
        self.events.push(LogEvent::GivenUp);
        self.lose();
    }
}

/// How long writers wait for sites that are slow or down.
const CATCH_UP_MAX: Span = Span::from_secs(1);
