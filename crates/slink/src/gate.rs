//! Fall-behind: how far acknowledgements may run ahead of a site (P12).
//!
//! ```text
//!        covered            low mark         high mark: the limit
//!  ─────────┼──────────────────┼──────────────────┼─────▶ writes
//!           │ acknowledged freely ................│ who would pass it waits …
//!           │                  │◀── … until what is acknowledged is below the low mark
//! ```
//!
//! The distance keeps a site at its limit from making writers wait for every single write.

use blk::{Sectors, Seq, SlinkNr, Span, Time};
use replog::Replog;
use table::FallBehind;

/// The fall-behind limit of one site.
#[derive(Debug)]
pub(crate) struct Gate {
    limit: Option<FallBehind>,
    /// Writers wait: up to here they were acknowledged when one would have passed the limit.
    over: Option<Seq>,
    /// That was another limit's doing.
    outdated: bool,
    changed: Option<bool>,
}

impl Gate {
    pub(crate) fn new(limit: Option<FallBehind>) -> Self {
        let limit = limit.filter(|limit| !limit.is_unlimited());
        Self { limit, over: None, outdated: false, changed: None }
    }

    /// Another limit, or none: whether writers wait, and at what, is asked anew.
    pub(crate) fn set_limit(&mut self, limit: Option<FallBehind>) {
        self.limit = limit.filter(|limit| !limit.is_unlimited());
        self.outdated = true;
        if self.limit.is_none() {
            self.open();
        }
    }

    /// The last write that may be acknowledged, as far as the limit goes; crossing it,
    /// and coming back, is noted.
    pub(crate) fn allows(&mut self, now: Time, log: &Replog, site: SlinkNr) -> Seq {
        let Some(limit) = self.limit else { return Seq(u64::MAX) };
        let was_over = self.over.is_some();
        if std::mem::take(&mut self.outdated) {
            let allowed = allowed(limit, Mark::High, now, log, site);
            self.over = self.over.map(|held| held.min(allowed));
        }
        self.over = self.over.filter(|held| !is_below_low_mark(limit, *held, now, log, site));
        if self.over.is_none() {
            let allowed = allowed(limit, Mark::High, now, log, site);
            self.over = (log.written() > allowed).then_some(allowed);
        }
        if was_over != self.over.is_some() {
            self.changed = Some(!was_over);
        }
        // Whatever the site has may be acknowledged.
        self.over.map_or(log.written(), |held| held.max(log.covered(site)))
    }

    /// Whether there is a limit.
    pub(crate) fn is_limited(&self) -> bool {
        self.limit.is_some()
    }

    /// Whether writers wait for the site to come back below its low mark.
    pub(crate) fn is_over(&self) -> bool {
        self.over.is_some()
    }

    /// Whether it crossed its limit (or came back) since this was last asked.
    pub(crate) fn take_change(&mut self) -> Option<bool> {
        self.changed.take()
    }

    /// Whether [`Gate::take_change`] would tell of one.
    pub(crate) fn has_changed(&self) -> bool {
        self.changed.is_some()
    }

    /// The site is not held to its limit for a while.
    pub(crate) fn open(&mut self) {
        if self.over.take().is_some() {
            self.changed = Some(false);
        }
    }

    /// When the age of the oldest write the site lacks reaches the limit.
    pub(crate) fn wakeup(&self, log: &Replog, site: SlinkNr) -> Option<Time> {
        let Some(FallBehind::Timeout(most)) = self.limit.filter(|_| self.over.is_none()) else {
            return None;
        };
        let oldest = log.index().group_of(log.covered(site).next())?;
        Some(oldest.closed + most)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    High,
    Low,
}

/// Whether what is acknowledged up to `held` lags by no more than the low mark.
fn is_below_low_mark(limit: FallBehind, held: Seq, now: Time, log: &Replog, site: SlinkNr) -> bool {
    match limit {
        FallBehind::Ios(_) | FallBehind::Size(_) => {
            allowed(limit, Mark::Low, now, log, site) >= held
        }
        FallBehind::Timeout(most) => age(now, log, log.covered(site)) < most / 4 * 3,
    }
}

/// The last write that a site may lag behind by.
fn allowed(limit: FallBehind, mark: Mark, now: Time, log: &Replog, site: SlinkNr) -> Seq {
    let covered = log.covered(site);
    let share = |most: u64| if mark == Mark::Low { most / 4 * 3 } else { most };
    match limit {
        FallBehind::Ios(most) => Seq(covered.0.saturating_add(share(most))),
        FallBehind::Size(most) => {
            log.index().last_within(covered, Sectors::from_bytes(share(most)))
        }
        FallBehind::Timeout(most) if age(now, log, covered) >= most => covered,
        FallBehind::Timeout(_) => log.written(),
    }
}

/// How long ago the oldest write was made that a site lacks.
fn age(now: Time, log: &Replog, covered: Seq) -> Span {
    log.index().group_of(covered.next()).map_or(Span::ZERO, |group| now.since(group.closed))
}
