//! The log's own I/O: at most one of each kind is in flight, each with its deadline.
//!
//! One that fails, or hangs, is the death of the log (P8, I11): nothing more is asked of its
//! device, and whatever still ends there is of no meaning.

use std::collections::BTreeMap;

use blk::{DiskOp, Effect, Errno, IoId, SlinkNr, Span, Time};

use crate::event::LogEvent;
use crate::log::{Failure, LOG_IO, Replog};
use crate::standing::Version;

/// What is in flight of it.
#[derive(Debug, Default)]
pub(crate) struct OwnIo {
    /// When each began.
    began: [Option<Time>; KINDS],
    /// Numbers below this one were another log's, which is lost.
    first: u64,
}

impl OwnIo {
    /// What is in flight is another log's from now on.
    pub(crate) fn begin_anew(&mut self) {
        *self = Self { first: self.first + KINDS as u64, ..Self::default() };
    }

    fn began(&mut self, kind: u64) -> &mut Option<Time> {
        &mut self.began[usize::try_from(kind).expect("a log has few I/Os")]
    }
}

impl Replog {
    /// Asks for an I/O of the log's own.
    pub(crate) fn submit(&mut self, now: Time, kind: u64, op: DiskOp) -> Effect {
        *self.own_io.began(kind) = Some(now);
        let io = IoId { owner: LOG_IO, nr: self.own_io.first + kind };
        Effect::Submit { io, disk: self.disk(), op }
    }

    /// An I/O of the log has ended: of which kind, unless nobody cares any more.
    pub(crate) fn ended(&mut self, nr: u64) -> Option<u64> {
        let kind = nr.checked_sub(self.own_io.first).filter(|_| !self.is_lost())?;
        *self.own_io.began(kind) = None;
        Some(kind)
    }

    /// Whatever takes longer than that hangs.
    pub fn set_timeouts(&mut self, timeouts: BTreeMap<SlinkNr, Span>) {
        self.config.timeouts = timeouts;
    }

    /// How long an I/O of a site's disks may take, whoever asks for it.
    ///
    /// # Panics
    /// If there is no such site.
    #[must_use]
    pub fn timeout(&self, slink: SlinkNr) -> Span {
        *self.config.timeouts.get(&slink).expect("every site of the table has a deadline")
    }

    /// How long one of the log may take: as long as a local disk's.
    pub(crate) fn own_timeout(&self) -> Span {
        self.timeout(SlinkNr::LOCAL)
    }

    /// P5, P8: a log that hangs is a log that is lost.
    pub(crate) fn watch_deadlines(&mut self, now: Time) {
        if !self.is_lost() && self.deadline().is_some_and(|deadline| deadline <= now) {
            self.fail("an operation that hangs", Errno::ETIMEDOUT);
        }
    }

    /// When a read of the ring hangs that began then.
    #[must_use]
    pub fn read_deadline(&self, began: Time) -> Time {
        began + self.own_timeout()
    }

    /// Whether a read of the ring that began then can be expected to end.
    #[must_use]
    pub fn awaits_read(&self, now: Time, began: Time) -> bool {
        !self.is_lost() && self.read_deadline(began) > now
    }

    /// Whether a read of the ring that began then hangs; then the log is lost (P8).
    pub fn watch_read(&mut self, now: Time, began: Time) -> bool {
        let hangs = self.read_deadline(began) <= now;
        if hangs && !self.is_lost() {
            self.fail("a read that hangs", Errno::ETIMEDOUT);
        }
        hangs
    }

    /// A read of the ring failed. That may be one bad sector, or the whole device, which an idle
    /// log would never find out: a superblock is written, and tells. When what is returned
    /// [stands](Replog::stands), or the log is lost, that is known.
    pub fn read_failed(&mut self) -> Version {
        let is_asked = !self.stands(self.members.version());
        if !self.is_lost() && !is_asked {
            self.members.change(|_| ());
        }
        self.members.version()
    }

    /// When the first of what is in flight will be past its deadline.
    pub(crate) fn deadline(&self) -> Option<Time> {
        self.own_io.began.iter().flatten().min().map(|began| *began + self.own_timeout())
    }

    /// The log is lost.
    pub(crate) fn fail(&mut self, what: &'static str, errno: Errno) {
        let failure = Failure { what, errno };
        self.events.push(LogEvent::Lost(failure));
        // I11: nothing after it can make it good.
        self.failure = Some(failure);
        self.lose();
    }
}

/// The write of a group, a flush, the write of a superblock.
const KINDS: usize = 3;
