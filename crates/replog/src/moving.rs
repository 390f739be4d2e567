//! A log that works is given up for another one, on another device (P8).
//!
//! The new log is made ready while the old one is at work. Then writes are held, the sites catch
//! up, the LD too, and the old log is left as if it had failed ([`crate::bypass`]): the record
//! says that it is never to be replayed, and the new one takes over ([`crate::replace`]). A crash
//! before the record finds the old log, with all that was ever acknowledged; one after it finds
//! the LD standing in for it. That the LD has everything before the old log is left is not what
//! a lost log needs; but here a log is left that works, and must not be for an LD that does not.
//!
//! | has not caught up | and the old log is |
//! |---|---|
//! | a remote site in a second, which the table does not make wait for | given up: what the site lacks becomes dirty regions |
//! | another remote site in a second | kept, with an error that names the site |
//! | the LD in ten seconds, or it can't be read | kept |

use blk::{SlinkNr, Span, Time};

use crate::event::LogEvent;
use crate::log::Replog;
use crate::replace::{ReplaceError, Replacing, Stage};

impl Replog {
    /// Whether another log is ready to take the place of the one at work.
    #[must_use]
    pub fn has_new_log_ready(&self) -> bool {
        !self.is_lost() && self.prepared().is_some()
    }

    /// Whether the LD stands in for a log, and another is ready, and waits for
    /// [`Replog::begin_new_log`].
    #[must_use]
    pub fn has_new_log_waiting(&self) -> bool {
        self.is_bypassed() && self.prepared().is_some_and(|it| !it.may_begin)
    }

    fn prepared(&self) -> Option<&Replacing> {
        self.replacing.as_ref().filter(|it| matches!(it.stage, Stage::Prepared))
    }

    /// Gives the log at work up for the one that is ready.
    ///
    /// # Errors
    /// If none is.
    pub fn give_up(&mut self, now: Time) -> Result<(), ReplaceError> {
        let ready = self.has_new_log_ready();
        let replacing = self.replacing.as_mut().filter(|_| ready);
        replacing.ok_or(ReplaceError::NotPrepared)?.stage =
            Stage::CatchUp { since: now, left_behind: false };
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

    /// Whether writers wait until the sites, and the local disks first of all, have what is in
    /// the log.
    #[must_use]
    pub fn is_catching_up(&self) -> bool {
        self.catch_up().is_some()
    }

    fn catch_up(&self) -> Option<(Time, bool)> {
        match self.replacing.as_ref()?.stage {
            Stage::CatchUp { since, left_behind } => Some((since, left_behind)),
            _ => None,
        }
    }

    /// Whether every site has what was written, or is marked for it; or is left behind.
    pub(crate) fn has_caught_up(&self) -> bool {
        let Some((_, left_behind)) = self.catch_up() else { return false };
        let is_still = self.open.is_none() && self.launched.is_none();
        let mut awaited = self.consumers.iter().filter(|it| it.slink.is_local() || !left_behind);
        is_still && awaited.all(|it| it.covered >= self.written)
    }

    /// Whether it has been waited long enough for remote sites.
    #[must_use]
    pub fn catches_up_in_vain(&self, now: Time) -> bool {
        self.catch_up().is_some_and(|(since, left)| !left && since + CATCH_UP_MAX <= now)
    }

    /// When somebody is to look who has not caught up.
    pub(crate) fn catching_up_wakeup(&self) -> Option<Time> {
        let (since, left_behind) = self.catch_up()?;
        let most = if left_behind { CATCH_UP_LOCAL_MAX } else { CATCH_UP_MAX };
        Some(since + most)
    }

    /// It is not waited for remote sites any more; `keep`: nor is that one left behind.
    pub fn stop_catching_up(&mut self, keep: Option<SlinkNr>) {
        if let Some(slink) = keep {
            let writes = self.written.0 - self.consumers.of(slink).covered.0;
            return self.end_replacing(ReplaceError::Lacking { slink, writes });
        }
        let stage = self.replacing.as_mut().map(|it| &mut it.stage);
        if let Some(Stage::CatchUp { left_behind, .. }) = stage {
            *left_behind = true;
        }
    }

    /// Goes on with it: the old log is left when everybody has caught up.
    pub(crate) fn poll_catching_up(&mut self, now: Time) {
        let Some((since, _)) = self.catch_up() else { return };
        self.want_durable(self.written);
        match () {
            () if !self.reads_locally() => self.end_replacing(ReplaceError::NoStandIn),
            () if self.has_caught_up() => self.leave_old_log(),
            // The local disks are up, and too slow: there is more than they can do meanwhile.
            () if since + CATCH_UP_LOCAL_MAX <= now => self.end_replacing(ReplaceError::NoStandIn),
            () => {}
        }
    }

    /// The old log is lost while sites catch up: there is nothing more that it could be left for.
    /// Left once more, it would never be bypassed.
    pub(crate) fn forget_catching_up(&mut self) {
        if let Some(replacing) = self.replacing.as_mut()
            && matches!(replacing.stage, Stage::CatchUp { .. })
        {
            replacing.stage = Stage::Prepared;
        }
    }

    /// The old log is left: whoever is not left behind has everything in it.
    fn leave_old_log(&mut self) {
        let replacing = self.replacing.as_mut().expect("one that is ready is what it is left for");
        (replacing.stage, replacing.given_up) = (Stage::Prepared, true);
        self.events.push(LogEvent::GivenUp);
        self.lose();
    }
}

/// How long writers wait for remote sites that are slow or down.
const CATCH_UP_MAX: Span = Span::from_secs(1);
/// And for the LD: what memory holds for it may be a lot.
const CATCH_UP_LOCAL_MAX: Span = Span::from_secs(10);
