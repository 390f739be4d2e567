//! How a replicator stops: in order, with what every site lacks sent first; or by force, nothing being waited for.

use blk::{Effect, Errno, Time};
use slink::SiteLink;

use super::{Replicator, Stage};

impl Replicator {
    /// Ends with an error what waits, and whatever comes from now on: for devices that are
    /// taken away by force. What is being read from a disk still ends as it may.
    pub fn refuse_all(&mut self) {
        self.closed = true;
        self.reads.close();
        let mut effects = std::mem::take(&mut self.pending);
        for parked in self.parked.drain(..) {
            effects.push(Effect::Complete { req: parked.req, result: Err(Errno::EIO) });
        }
        let fetching = &self.fetching;
        let waiting = self.acks.give_up(|req| !fetching.contains_key(&req));
        for waiting in waiting {
            self.complete(waiting.req, waiting.dev, Err(Errno::EIO), &mut effects);
        }
        self.pending = effects;
    }

    /// Closes the replicator, to be called when no front end feeds it any more. With
    /// `drain`, every site that can be reached gets everything first. Ends in
    /// [`crate::Phase::Stopped`]; what a site lacks stays in the log.
    /// A new log that is being made is not wanted any more, unless it is about to be at work.
    pub fn stop(&mut self, drain: bool) {
        self.cancel_new_log();
        self.stage = match std::mem::replace(&mut self.stage, Stage::Stopped) {
            Stage::Running | Stage::Stopping { .. } => Stage::Stopping { drain },
            // Whatever is in flight of an opening ends by itself; nothing depends on it.
            Stage::Opening(_) | Stage::Stopped => Stage::Stopped,
            Stage::Failed(error) => Stage::Failed(error),
        };
        self.load.draining = drain;
    }

    /// Whether it stops, or has stopped.
    pub(crate) fn is_stopping(&self) -> bool {
        matches!(self.stage, Stage::Stopping { .. } | Stage::Stopped)
    }

    pub(super) fn poll_stopping(&mut self, now: Time, drain: bool, effects: &mut Vec<Effect>) {
        self.admit(now, effects);
        self.watch_reads(now);
        if drain {
            self.poll_links(now, effects);
        }
        self.go_on_reading(now, effects);
        self.poll_log(now, effects);
        if drain {
            self.go_on_without_log(now, effects);
        }
        self.acknowledge(now, effects);
        if self.has_stopped(now, drain) {
            self.stage = Stage::Stopped;
        }
    }

    fn has_stopped(&mut self, now: Time, drain: bool) -> bool {
        let Some(log) = &mut self.log else { return true };
        let mut links = self.links.iter().chain(&self.leaving);
        let busy = links.any(|link| link.is_busy(now, log)) || !self.reads.is_empty();
        if busy {
            return false;
        }
        if log.is_lost() && !drain {
            return true;
        }
        let written = log.written();
        let waits = |link: &dyn SiteLink| {
            let is_down = link.report(now, log).state == slink::State::Down;
            // Nothing can be copied to it while there is nothing to copy from.
            let moves = log.is_whole(link.nr()) || log.readable_base().is_some();
            drain && !is_down && moves && log.covered(link.nr()) < written
        };
        let lacking = self.links.iter().any(|link| waits(&**link));
        if lacking || (drain && !self.acks.is_empty()) {
            return false;
        }
        log.settle_down()
    }
}
