//! Fall-behind: how far acknowledgements may run ahead of a site (P12).
//!
//! ```text
//!        covered            low mark         high mark: the limit
//!  ─────────┼──────────────────┼──────────────────┼─────▶ writes
//!           │ acknowledged freely ................│ a write that would pass it waits
//!           │                  │◀── and from then on all wait for the low mark ──┘
//! ```
//!
//! Between the marks nothing changes, so that a site at its limit makes writers wait
//! evenly, not in turns of running and standing still.

use blk::{Sectors, Seq, SlinkNr, Span, Time};
use replog::Replog;
use table::FallBehind;

/// The fall-behind limit of one site.
#[derive(Debug)]
pub(crate) struct Gate {
    limit: Option<FallBehind>,
    over: bool,
    changed: Option<bool>,
}

impl Gate {
    pub(crate) fn new(limit: Option<FallBehind>) -> Self {
        let limit = limit.filter(|limit| !limit.is_unlimited());
        Self { limit, over: false, changed: None }
    }

    /// The last write that may be acknowledged, as far as the limit goes; crossing it,
    /// and coming back, is noted.
    pub(crate) fn allows(&mut self, now: Time, log: &Replog, site: SlinkNr) -> Seq {
        let Some(limit) = self.limit else { return Seq(u64::MAX) };
        let allowed = allowed(limit, self.over, now, log, site);
        if (log.written() > allowed) == self.over {
            return allowed;
        }
        self.over = !self.over;
        self.changed = Some(self.over);
        allowed_after(self.over, allowed, || allowed_low(limit, now, log, site))
    }

    /// Whether writers wait for the site to come back below its low mark.
    pub(crate) fn is_over(&self) -> bool {
        self.over
    }

    /// Whether it crossed its limit (or came back) since this was last asked.
    pub(crate) fn take_change(&mut self) -> Option<bool> {
        self.changed.take()
    }

    /// The site is not held to its limit for a while.
    pub(crate) fn open(&mut self) {
        if std::mem::take(&mut self.over) {
            self.changed = Some(false);
        }
    }

    /// When the age of the oldest write the site lacks reaches the limit.
    pub(crate) fn wakeup(&self, log: &Replog, site: SlinkNr) -> Option<Time> {
        let Some(FallBehind::Timeout(most)) = self.limit.filter(|_| !self.over) else {
            return None;
        };
        let oldest = log.index().group_of(log.covered(site).next())?;
        Some(oldest.closed + most)
    }
}

fn allowed_after(over: bool, high: Seq, low: impl FnOnce() -> Seq) -> Seq {
    if over { low().min(high) } else { high }
}

fn allowed_low(limit: FallBehind, now: Time, log: &Replog, site: SlinkNr) -> Seq {
    allowed(limit, true, now, log, site)
}

/// The last write that a site may lag behind, below its high or its low mark.
fn allowed(limit: FallBehind, low: bool, now: Time, log: &Replog, site: SlinkNr) -> Seq {
    let covered = log.covered(site);
    match limit {
        FallBehind::Ios(most) => Seq(covered.0.saturating_add(mark(most, low))),
        FallBehind::Size(most) => {
            log.index().last_within(covered, Sectors::from_bytes(mark(most, low)))
        }
        FallBehind::Timeout(most) => {
            let most = if low { most / 4 * 3 } else { most };
            if age(now, log, covered) >= most { covered } else { log.written() }
        }
    }
}

/// The high mark, or the low one at three quarters of it.
fn mark(most: u64, low: bool) -> u64 {
    if low { most / 4 * 3 } else { most }
}

/// How long ago the oldest write was made that a site lacks.
fn age(now: Time, log: &Replog, covered: Seq) -> Span {
    log.index().group_of(covered.next()).map_or(Span::ZERO, |group| now.since(group.closed))
}
