//! What makes the log durable, and says so: flushes and checkpoints.
//!
//! A flush moves `durable` over the contiguous written prefix. A checkpoint is a
//! superblock: it moves the head on the device, and only then is ring space free
//! (I6). Neither is on a plain write's way; a checkpoint is written under pressure,
//! for a site that waits for its cursor, and when the log falls idle.

use blk::{DiskOp, Effect, Gather, Seq, Span, Time};

use crate::format::group::Cursor;
use crate::format::superblock::{Anchor, SiteRecord, Superblock};
use crate::geometry::SLOTS;
use crate::log::{CHECKPOINT_IO, FLUSH_IO, Replog};

/// What is on its way, and what is wished for.
#[derive(Debug, Default)]
pub(crate) struct Checkpointing {
    /// Somebody needs everything up to here to be durable.
    wanted: Seq,
    /// What `durable` becomes when the flush in flight ends.
    flush: Option<Anchor>,
    /// The superblock in flight.
    write: Option<Superblock>,
    /// The superblock on the device no longer says what is.
    stale: bool,
    /// When the log last did something.
    last_active: Time,
    /// The log is being closed: what an idle log does after a while is done at once.
    closing: bool,
}

impl Checkpointing {
    /// The log does something: it is not idle.
    pub(crate) fn active(&mut self, now: Time) {
        self.last_active = now;
    }

    /// Something changed that the superblock should say.
    pub(crate) fn stale(&mut self) {
        self.stale = true;
    }

    /// The log is lost: what was on its way does not count. The generation of a superblock that
    /// was.
    pub(crate) fn forget(&mut self) -> Option<u64> {
        self.flush = None;
        self.write.take().map(|superblock| superblock.generation)
    }

    /// Up to where somebody needs everything to be durable.
    pub(crate) fn wanted(&self) -> Seq {
        self.wanted
    }

    /// Whether the log is being closed.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing
    }

    pub(crate) fn is_flushing(&self) -> bool {
        self.flush.is_some()
    }

    pub(crate) fn is_writing(&self) -> bool {
        self.write.is_some()
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.flush.is_some() || self.write.is_some()
    }
}

impl Replog {
    /// Asks for everything up to `seq` to become durable. `seq` must be written.
    pub fn want_durable(&mut self, seq: Seq) {
        assert!(seq <= self.written, "only what is written can be flushed");
        self.checkpointing.wanted = self.checkpointing.wanted.max(seq);
    }

    /// Acknowledgements wait for a site that has everything up to here, if for any.
    pub fn site_is_waited_for(&mut self, has: Option<Seq>) {
        self.waited_for = has;
    }

    /// When [`Replog::poll`] is to be called even if nothing happens.
    #[must_use]
    pub fn wakeup(&self) -> Option<Time> {
        if self.is_lost() {
            return self.keep_again_at().into_iter().chain(self.replacing_wakeup()).min();
        }
        let pending = self.checkpointing.stale || self.written > self.durable;
        let free = !self.checkpointing.is_busy() && self.launched.is_none();
        let mark = (pending && free).then(|| self.checkpointing.last_active + MARK_AFTER);
        let held = self.held_until.filter(|_| self.open.is_some() && self.launched.is_none());
        mark.into_iter().chain(held).chain(self.deadline()).chain(self.replacing_wakeup()).min()
    }

    /// Writes a last checkpoint, so that the next opening finds nothing to scan. True when
    /// there is nothing left to say.
    pub fn settle_down(&mut self) -> bool {
        self.checkpointing.closing = true;
        if self.is_lost() {
            return self.has_settled_without_log();
        }
        self.is_idle() && self.durable == self.written && !self.checkpointing.stale
    }

    pub(crate) fn flush_if_wanted(&mut self, now: Time, effects: &mut Vec<Effect>) {
        if self.is_quiet_since(now) || self.consumers.flush_helps() {
            self.want_durable(self.written);
        }
        let due = self.checkpointing.wanted > self.durable && self.checkpointing.flush.is_none();
        if due {
            self.checkpointing.flush = Some(self.written_end);
            self.consumers.flushing();
            self.counters.flushes += 1;
            effects.push(self.submit(now, FLUSH_IO, DiskOp::Flush));
        }
    }

    /// The write of the last group was a barrier, too.
    pub(crate) fn is_durable_at_once(&mut self) {
        self.checkpointing.flush = Some(self.written_end);
        self.consumers.flushing();
        self.flushed();
    }

    pub(crate) fn flushed(&mut self) {
        let end = self.checkpointing.flush.take().expect("a flush ends once");
        assert!(end.seq >= self.durable, "durable never moves back");
        self.durable = end.seq;
        self.durable_end = end.pos;
        self.consumers.flushed();
        self.checkpointing.stale();
    }

    pub(crate) fn checkpoint_if_due(&mut self, now: Time, effects: &mut Vec<Effect>) {
        if self.checkpointing.write.is_some() {
            return;
        }
        if self.space_is_wanted()
            || self.cursor_needs_checkpoint()
            || !self.members.are_durable(self.members.version())
            || self.mark_is_due(now)
        {
            let next = self.next_superblock();
            let op = DiskOp::Write {
                sector: self.geometry().slot(next.generation % SLOTS),
                data: Gather::from_elem(blk::Buf::from(&next.encode()[..]), 1),
                fua: true,
            };
            self.members.launched();
            self.checkpointing.write = Some(next);
            self.checkpointing.stale = false;
            self.counters.checkpoints += 1;
            effects.push(self.submit(now, CHECKPOINT_IO, op));
        }
    }

    /// I6: only now may the space before the new head be written.
    pub(crate) fn checkpointed(&mut self) {
        self.superblock = self.checkpointing.write.take().expect("a checkpoint ends once");
        let sites = self.superblock.sites.iter();
        let cursor = |site: &SiteRecord| Cursor { slink: site.slink, covered: site.covered };
        self.consumers.checkpointed(sites.map(cursor));
        self.members.arrived(self.superblock.generation);
        self.resized();
        self.starved = false;
    }

    /// There is space to gain, and somebody needs it or soon will.
    fn space_is_wanted(&self) -> bool {
        let ring = self.geometry().ring_bytes();
        let gain = self.head.pos.since(self.superblock.head.pos);
        let free = self.free_bytes();
        // In a log that is nearly full, what at least doubles the room.
        let worth = (ring / 16).min(free);
        gain > 0 && (self.starved || (free < ring / 2 && gain >= worth))
    }

    /// No group is about to carry the cursor that a site waits for (I13).
    fn cursor_needs_checkpoint(&self) -> bool {
        self.consumers.needs_carrier() && self.open.is_none() && self.launched.is_none()
    }

    /// P11: an idle log says within a second how far it is durable.
    fn mark_is_due(&self, now: Time) -> bool {
        self.checkpointing.stale && self.is_quiet_since(now) && self.durable == self.written
    }

    fn is_quiet_since(&self, now: Time) -> bool {
        self.open.is_none()
            && self.launched.is_none()
            && (self.checkpointing.closing
                || now.since(self.checkpointing.last_active) >= MARK_AFTER)
    }

    /// What the next checkpoint says.
    pub(crate) fn next_superblock(&self) -> Superblock {
        let members = self.members.wanted();
        let sites = self.consumers.iter().zip(&members.sites).map(|(consumer, site)| {
            assert_eq!(consumer.slink, site.slink, "the roster names the consumers, in order");
            SiteRecord { covered: consumer.covered, ..site.clone() }
        });
        let next = Superblock {
            generation: self.superblock.generation + 1,
            durable: self.durable,
            head: self.head,
            sites: sites.collect(),
            devices: members.devices.clone(),
            legs: members.legs.clone(),
            ..self.superblock.clone()
        };
        next.laid_out(&self.next_geometry())
    }
}

/// How long the log is idle before it says so on the device; P11 allows a second.
const MARK_AFTER: Span = Span::from_millis(500);
