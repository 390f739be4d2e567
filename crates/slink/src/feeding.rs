//! How a site is fed that streams: in order, or lazily.
//!
//! The order is what a remote site promises (P3), and what a `sync` one costs; an `async`
//! local site needs none. Everything else that may happen to a site is the same for both.

use blk::{DiskId, Seq, Time};
use replog::Replog;
use table::{Order, SlinkTable, Sync};

use crate::feed::{Failed, Feed, Outcome};
use crate::flights::Work;
use crate::lazy::Lazy;
use crate::link::Load;

/// What carries the log's writes to one site.
#[derive(Debug)]
pub(crate) enum Feeding {
    /// Group after group, with a barrier between ([`crate::feed`]).
    InOrder(Box<Feed>),
    /// Any order, merged and sorted ([`crate::lazy`]).
    Lazy(Box<Lazy>),
}

impl Feeding {
    /// As the table has it.
    pub(crate) fn of(slink: &SlinkTable) -> Self {
        let is_sync = slink.policy().sync == Sync::Sync;
        if slink.nr.is_local() && !is_sync {
            Self::Lazy(Box::default())
        } else {
            Self::InOrder(Box::new(Feed::new(slink.options.order())))
        }
    }

    /// Whether the site is fed as the table has it.
    pub(crate) fn is_as_in(&self, slink: &SlinkTable) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(&Self::of(slink))
    }

    /// The local site's table says otherwise, and nothing is under way: goes on in that way, with
    /// what is in the log up to `upto`. Lazily it may have got newer writes than its cursor says,
    /// of which the overlay knows no more: in order it gets only what was not written over since.
    pub(crate) fn turn(&mut self, slink: &SlinkTable, upto: Seq) {
        assert!(self.is_idle(), "I15: nothing is in flight when a site is fed in another way");
        let unflushed = match self {
            Self::InOrder(feed) => std::mem::take(&mut feed.unflushed),
            Self::Lazy(lazy) => std::mem::take(&mut lazy.unflushed),
        };
        *self = Self::of(slink);
        self.distrust(unflushed.into_iter());
        self.replays(upto);
    }

    /// The site is the local one, and the log was found to end at `upto`.
    pub(crate) fn replays(&mut self, upto: Seq) {
        if let Self::InOrder(feed) = self {
            feed.replays(upto);
        }
    }

    /// What is kept in order, from the next shipment on.
    pub(crate) fn set_order(&mut self, order: Order) {
        if let Self::InOrder(feed) = self {
            feed.set_order(order);
        }
    }

    /// Sends what is to be sent; `may_begin`: what was not begun yet, too.
    pub(crate) fn poll(
        &mut self,
        may_begin: bool,
        load: &Load,
        log: &mut Replog,
        work: &mut Work<'_>,
    ) -> Option<Outcome> {
        match self {
            Self::InOrder(feed) => feed.poll(may_begin, log, work),
            // It goes by what the overlay shows.
            Self::Lazy(lazy) => {
                lazy.poll(may_begin && log.base() == work.legs.site, load, log, work)
            }
        }
    }

    /// Somebody wrote to all of these, and may not have flushed them.
    pub(crate) fn distrust(&mut self, disks: impl Iterator<Item = DiskId>) {
        match self {
            Self::InOrder(feed) => feed.unflushed.extend(disks),
            Self::Lazy(lazy) => lazy.unflushed.extend(disks),
        }
    }

    /// A disk is none of the site's any more: what was written there is nobody's.
    pub(crate) fn forget(&mut self, disk: DiskId) {
        match self {
            Self::InOrder(feed) => feed.unflushed.remove(&disk),
            Self::Lazy(lazy) => lazy.unflushed.remove(&disk),
        };
    }

    /// Whether nothing of it is under way.
    pub(crate) fn is_idle(&self) -> bool {
        match self {
            Self::InOrder(feed) => feed.is_idle(),
            Self::Lazy(lazy) => lazy.is_idle(),
        }
    }

    /// The site was fed otherwise: what it had before does not matter any more.
    pub(crate) fn begin_anew(&mut self) {
        assert!(self.is_idle(), "I15: nothing is in flight when a site is fed anew");
        if let Self::InOrder(feed) = self {
            feed.begin_anew();
        }
    }

    /// The site leaves the log: what is in flight is waited for, and counts for nothing.
    pub(crate) fn abandon(&mut self) {
        match self {
            Self::InOrder(feed) => feed.abandon(),
            Self::Lazy(lazy) => lazy.abandon(),
        }
    }

    /// Something failed or hangs: what is in flight is waited for, nothing more is sent.
    pub(crate) fn fail(&mut self, failed: Failed) {
        match self {
            Self::InOrder(feed) => feed.fail(failed),
            Self::Lazy(lazy) => lazy.fail(failed),
        }
    }

    /// Groups, or copies, that arrived; and the barriers behind them.
    pub(crate) fn arrived(&self) -> (u64, u64) {
        match self {
            Self::InOrder(feed) => (feed.groups, feed.round_trips),
            // It waits for no round trip.
            Self::Lazy(lazy) => (lazy.copied, 0),
        }
    }

    /// When there may be something to send though nothing happened.
    pub(crate) fn wakeup(&self, now: Time, is_behind: bool, load: &Load) -> Option<Time> {
        let idle_at = load.idle_at();
        (matches!(self, Self::Lazy(_)) && is_behind && idle_at > now).then_some(idle_at)
    }
}
