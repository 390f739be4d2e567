//! A detached site: what it lacks becomes dirty regions, durably, and only then is covered.
//!
//! In batches: marks are made for everything durable, then settled, then covered, then the
//! next; under steady writing there is always another mark on its way, and waiting for
//! none to be would be waiting for ever.
//!
//! What a crash finds (I7): until the roster says `detached`, the log still holds all of it.
//! From then on a `disk` dirty log of this session is believed, unless the roster says that
//! its leg is all dirty: since it failed, or since the table named another dirty log for a
//! while. Everything else is all dirty. Who finds a dirty log that can't be believed begins another
//! session: the right one may only have been away, and when it is back it lacks what was marked
//! meanwhile.
//!
//! Without the log (P8) each dirty log also says which log was lost, from the moment on when the
//! host's record says so. What comes after that is covered, and so given to the LD, only when it
//! is durable there as well: if the host's record is gone, nobody replays the log. A dirty log that
//! failed can't say it; the host and the others do. The record stays necessary: only it knows how
//! sites and legs stand.

use blk::{DiskId, DiskSeen, Effect, Errno, NotOpened, Sector, Seq, Time};
use dirty_log::format::Bypassed;
use replog::{Replog, Version};

use super::{Mode, Ordered, Step};
use crate::copier::Copier;
use crate::flights::To;
use crate::legs::Legs;

/// How far a detached site is marked.
#[derive(Debug)]
pub(super) struct Marks {
    /// Everything up to here is marked, in memory at least.
    marked: Seq,
    /// Marked, and on its way to stable media.
    batch: Option<Seq>,
    /// The roster must say so before anything is covered.
    detached: Version,
    /// Everything up to here becomes dirty regions: the site is not attached before.
    least: Seq,
}

impl Marks {
    /// The site leaves the log.
    pub(super) fn begun(legs: &mut Legs, log: &mut Replog) -> Self {
        let (session, log_uuid) = (log.new_session(), log.superblock().uuid);
        legs.iter_mut().for_each(|leg| leg.dirty_log.begin(log_uuid, session));
        let covered = log.covered(legs.site);
        log.change_site(legs.site, |site| {
            site.detached = Some(session);
            // P7: that the LD is lost, a program that can't rebuild it understands, too.
            site.lost_since = legs.site.is_local().then_some(covered);
        });
        let (marked, detached) = (log.covered(legs.site), log.standing());
        Self { marked, batch: None, detached, least: Seq::default() }
    }

    /// The site was detached when the log was opened. What is in the log now is not fed to it: had
    /// the log been lost, and the daemon died before the LD stood in for it, the LD may hold more
    /// than the log that is back (P8). A copy of that, with the log's writes over it, would lack
    /// what nobody brings again.
    pub(super) fn resumed(session: u64, legs: &mut Legs, log: &Replog) -> Self {
        let (site, log_uuid) = (legs.site, log.superblock().uuid);
        for leg in legs.iter_mut() {
            if log.leg(leg.dev, site).is_some_and(|known| known.all_dirty) {
                leg.dirty_log.mark_all();
                leg.dirty_log.begin(log_uuid, session);
            } else {
                leg.dirty_log.load(log_uuid, session);
            }
        }
        let (marked, detached) = (log.covered(site), log.standing());
        Self { marked, batch: None, detached, least: log.written() }
    }

    /// What was read of a dirty log can't be believed: whatever comes back in its place shall not
    /// be, either. Until the roster says so nothing is covered, and what it has is not too old.
    fn doubt(&mut self, legs: &mut Legs, log: &mut Replog) {
        if legs.iter().any(|leg| leg.dirty_log.is_loading()) {
            return;
        }
        let doubted = legs.iter_mut().filter_map(|leg| leg.dirty_log.take_doubt().then_some(()));
        if doubted.count() > 0 {
            let (session, log_uuid) = (log.new_session(), log.superblock().uuid);
            legs.iter_mut().for_each(|leg| leg.dirty_log.begin(log_uuid, session));
            log.change_site(legs.site, |site| site.detached = Some(session));
            self.detached = log.standing();
        }
    }

    /// A site that was attached leaves the log again, in the session it is in.
    pub(super) fn resumed_at(covered: Seq, log: &Replog) -> Self {
        Self { marked: covered, batch: None, detached: log.standing(), least: Seq::default() }
    }

    /// The site is not attached before it has passed this write.
    pub(super) fn passes(&mut self, least: Seq) {
        self.least = self.least.max(least);
    }

    /// Everything marked is covered: the site could be attached here.
    pub(super) fn is_even(&self) -> bool {
        self.batch.is_none() && self.marked >= self.least
    }

    /// Marks what became durable since; without the log, what the LD is about to get (P8).
    fn mark(&mut self, legs: &mut Legs, copier: &mut Copier, log: &Replog) {
        let upto = log.marked_upto();
        // Covered without a mark was a write of nothing, and another log does not hold that.
        self.marked = self.marked.max(log.covered(legs.site));
        if self.batch.is_some() || self.marked >= upto {
            return;
        }
        for seq in self.marked.0 + 1..=upto.0 {
            let write = log.index().write(Seq(seq)).expect("I5: the log holds what is not covered");
            let Some(leg) = legs.all.get_mut(&write.dev) else { continue };
            // Beyond its end it is of another device, which had the number before.
            let end = (write.sector + write.len).min(Sector(0) + leg.size);
            if write.sector < end {
                let len = end.since(write.sector);
                leg.dirty_log.mark(write.sector, len);
                copier.touch(write.dev, write.sector, len);
            }
        }
        self.marked = upto;
        self.batch = Some(self.marked);
    }

    /// I7: covers what is marked where a crash can't lose the marks.
    fn cover(&mut self, legs: &Legs, log: &mut Replog) {
        let Some(upto) = self.batch else { return };
        let stands = log.stands(self.detached)
            && legs.iter().all(|leg| {
                let log_says = log.leg(leg.dev, legs.site).is_some_and(|known| known.all_dirty)
                    && log.stands(log.standing());
                // The roster can't say in a dirty log's place that the log is lost.
                let must_settle = log.is_bypassed() && leg.dirty_log.survives();
                leg.dirty_log.is_settled() || (log_says && !must_settle)
            });
        if stands {
            log.cover(legs.site, upto);
            self.batch = None;
        }
    }
}

impl Ordered {
    /// Lets the dirty logs work, and covers what they have.
    pub(super) fn mark(&mut self, now: Time, log: &mut Replog, effects: &mut Vec<Effect>) {
        if let Some(epoch) = log.superblock().bypassed_since {
            let bypassed = Bypassed { log: log.superblock().uuid, epoch };
            self.legs.iter_mut().for_each(|leg| leg.dirty_log.bypass(bypassed));
        }
        if let Mode::Detached(marks) = &mut self.mode {
            marks.doubt(&mut self.legs, log);
            marks.cover(&self.legs, log);
            if !marks.is_even() || !self.attaches(now, log) {
                let Mode::Detached(marks) = &mut self.mode else { unreachable!("looked at above") };
                marks.mark(&mut self.legs, &mut self.copier, log);
                marks.cover(&self.legs, log);
            }
            if log.is_nearly_full() && log.durable() < log.written() && !log.is_lost() {
                log.want_durable(log.written());
            }
        }
        self.serve_dirty_logs(now, log, effects);
    }

    /// Another log has taken the place of the one that was lost (P8): what is on disks is of
    /// that one's, and of no use until it is written anew. Meanwhile the roster stands in for it.
    pub(super) fn follow(&mut self, log: &Replog) {
        let before = std::mem::replace(&mut self.log, log.superblock().uuid);
        if before == self.log || before.is_nil() {
            return;
        }
        if let Some(notice) = &mut self.notice {
            notice.renew();
        }
        if let Some(session) = log.site(self.nr).detached {
            self.legs.iter_mut().for_each(|leg| leg.dirty_log.begin(self.log, session));
        }
    }

    /// A dirty log that failed has its disk back: what memory says is written there anew.
    pub(super) fn dirty_log_opened(
        &mut self,
        log: &Replog,
        disk: DiskId,
        result: &Result<DiskSeen, NotOpened>,
    ) {
        let session = log.site(self.nr).detached;
        for leg in self.legs.iter_mut().filter(|leg| leg.dirty_log.disk() == Some(disk)) {
            let Ok(seen) = result else { continue };
            leg.dirty_log.found(seen.size);
            if let Some(session) = session {
                leg.dirty_log.begin(log.superblock().uuid, session);
            }
        }
    }

    fn serve_dirty_logs(&mut self, now: Time, log: &mut Replog, effects: &mut Vec<Effect>) {
        for (dev, ..) in self.flights.overdue(now, To::DirtyLog) {
            let leg = self.legs.all.get_mut(&dev).expect("a dirty log is one of the legs'");
            leg.dirty_log.give_up(Errno::ETIMEDOUT);
        }
        let detached = matches!(self.mode, Mode::Detached(_) | Mode::Attached);
        for leg in self.legs.iter_mut() {
            while let Some(ask) = leg.dirty_log.poll() {
                let disk = leg.dirty_log.disk().expect("who asks for I/O has a disk");
                let flight = (leg.dev, "its dirty log", To::DirtyLog, Step::DirtyLog(ask.nr));
                self.flights.submit(now, disk, ask.op, flight, effects);
            }
            // What leaves is all dirty, whatever its dirty log says.
            if !detached || self.leaving.contains(&leg.dev) {
                continue;
            }
            // The roster stands in for a dirty log that failed, or lives in memory: one of this
            // session may lie on a disk that a later table names again. And no longer than it
            // has to: what a resync has done is to be known after a crash.
            // But nobody knows yet for which disk it speaks (P15).
            let is_known = log.leg(leg.dev, self.nr).is_some_and(|leg| !leg.identity.is_empty());
            match (leg.dirty_log.survives(), leg.dirty_log.is_settled() && is_known) {
                (false, _) => log.change_leg(leg.dev, self.nr, |known| known.all_dirty = true),
                (true, true) => log.change_leg(leg.dev, self.nr, |known| known.all_dirty = false),
                (true, false) => {}
            }
        }
    }
}
