//! What a machine says of its sites, and what it promises by that.
//!
//! | it says | it promises |
//! |---|---|
//! | `consistent` | the site's image is in order, at every instant and after any cut (P3) |
//! | `in_force`, of a `sync` site | what is acknowledged is on the site's media; of all acknowledged writes too, when it says so first (P1) |
//! | `in_force`, of a site with a limit | no write is acknowledged that takes the site over it (P12) |
//!
//! What it says while it recovers is believed only where it takes a promise back: what the
//! devices hold is not known before.

use std::collections::BTreeSet;

use blk::{DevNr, Sectors, Span, Time};
use slink::State;
use table::FallBehind;

use super::lag::Lag;
use super::{Nr, Oracle, Range, SiteRule, Values, Violation};
use crate::payload::Content;

/// What a machine says of one site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// What its link does.
    pub state: State,
    /// Its image is one that the devices could have been found in.
    pub consistent: bool,
    /// Acknowledgements wait for it, or its limit holds for them.
    pub in_force: bool,
    /// The log says that acknowledgements go on without it, or that it can't have them all.
    pub demoted: bool,
    /// What it lacks is in dirty regions.
    pub detached: bool,
    /// Whoever opened the log now would find that it is.
    pub found_detached: bool,
    /// Bytes of its dirty regions.
    pub dirty_bytes: u64,
    /// Writes of the log that it lacks.
    pub lag_writes: u64,
}

/// What is believed of what a machine says of one site.
#[derive(Clone, Debug, Default)]
pub(super) struct Belief {
    view: Option<View>,
    /// The devices whose disks there were replaced by others that nobody has written to yet:
    /// what is said of the site is about those that are gone.
    replaced: BTreeSet<DevNr>,
    /// That it is in force was said, and all that it takes was there.
    in_force: bool,
    /// A `sync` site that was in force, in this life or before, and nobody has said since that
    /// acknowledgements go on without it: what was acknowledged is there at every instant.
    bound: bool,
    /// The same, but that the log has not said it durably.
    vouched_for: bool,
    /// Somebody asked for it to be copied anew.
    asked: bool,
    /// A copy came to it while it was in force: it does not have the writes up to this one, and
    /// is about to be demoted.
    joined: Option<Nr>,
    /// What is said of it is to be looked at again, even if it is the same.
    doubted: bool,
    /// The mark that the site keeps of itself may say that it is consistent.
    marked: bool,
    /// It said so when a device was left out that the site has again: not of that one.
    mark_is_partial: bool,
}

impl View {
    /// What is said of a site that the table does not name.
    pub const LEFT_OUT: Self = Self {
        state: State::Streaming,
        consistent: true,
        in_force: true,
        demoted: false,
        detached: false,
        found_detached: false,
        dirty_bytes: 0,
        lag_writes: 0,
    };

    /// Whether the site has everything, and is held to what the table says.
    #[must_use]
    pub fn is_well(&self) -> bool {
        let Self { state, consistent, in_force, detached, dirty_bytes, lag_writes, .. } = *self;
        let even = dirty_bytes == 0 && lag_writes == 0 && !detached;
        state == State::Streaming && consistent && in_force && even
    }

    /// Whether the site has everything.
    #[must_use]
    pub fn has_everything(&self) -> bool {
        self.is_well() || Self { in_force: true, ..*self }.is_well()
    }
}

impl Belief {
    /// Whether acknowledgements are bound by the site; those of a machine that says nothing are.
    fn binds(&self) -> bool {
        self.view.is_none_or(|view| view.in_force) && self.replaced.is_empty()
    }
}

impl Oracle {
    /// The machine says how its sites are.
    ///
    /// # Errors
    /// If it promises what does not hold (P1, P3).
    pub fn reported(&mut self, views: &[View]) -> Result<(), Violation> {
        for (site, &view) in views.iter().enumerate() {
            let belief = &mut self.beliefs[site];
            let doubted = std::mem::take(&mut belief.doubted);
            if !self.rules[site].has_copies() {
                // It has nothing that it could lack; but acknowledgements may wait for it.
                belief.in_force = view.in_force;
                belief.view = (!self.recovering).then_some(view);
            } else if doubted || belief.view != Some(view) {
                self.believe(site, view)?;
            }
        }
        Ok(())
    }

    fn believe(&mut self, site: usize, view: View) -> Result<(), Violation> {
        let belief = &mut self.beliefs[site];
        // In a recovery it is to be looked at again, when the devices are known.
        belief.view = (!self.recovering).then_some(view);
        let promised = (view.consistent || belief.marked) && belief.replaced.is_empty();
        belief.bound &= !view.demoted;
        if view.is_well() {
            self.has_longer_devices(site)?;
        }
        let belief = &mut self.beliefs[site];
        if !view.in_force {
            belief.joined = None;
            let given_up = std::mem::take(&mut belief.in_force);
            belief.bound &= !given_up;
            let asked = std::mem::take(&mut belief.asked);
            if given_up && !asked && !self.rules[site].may_be_given_up() {
                return Err(Violation::GivenUp { site: self.rules[site].nr });
            }
        }
        if self.recovering && promised {
            return Ok(());
        }
        self.promise(site, promised)?;
        if self.recovering {
            return Ok(());
        }
        let claims = view.in_force && self.beliefs[site].replaced.is_empty();
        if claims && !std::mem::replace(&mut self.beliefs[site].in_force, true) {
            self.check_all_acked(site)?;
            (self.beliefs[site].bound, self.beliefs[site].vouched_for) = (true, true);
        }
        Ok(())
    }

    /// A local site's image is never in order; but each content is a write's.
    fn promise(&mut self, site: usize, promised: bool) -> Result<(), Violation> {
        let (history, layout) = (&self.history, &self.layout);
        match self.rules[site].ordered {
            true => self.sites[site].promise(promised, history, layout),
            false => self.sites[site].trust(promised, history, layout),
        }
    }

    /// The process that said so is dead.
    pub(super) fn forget_views(&mut self) {
        for belief in &mut self.beliefs {
            let Belief { bound, vouched_for, replaced, marked, mark_is_partial, .. } =
                std::mem::take(belief);
            let kept = Belief { bound, vouched_for, replaced, ..Belief::default() };
            *belief = Belief { marked, mark_is_partial, ..kept };
        }
    }

    /// The disk of a device on a site is another now, of zeroes.
    pub fn replaced(&mut self, site: usize, dev: DevNr) {
        self.beliefs[site].replaced.insert(dev);
        (self.beliefs[site].bound, self.beliefs[site].vouched_for) = (false, false);
        self.sites[site].disown(Content::ZEROES);
    }

    /// Sectors of a site can't be read any more: it has not all that was promised.
    pub fn spoiled(&mut self, site: usize) {
        (self.beliefs[site].bound, self.beliefs[site].vouched_for) = (false, false);
    }

    /// That other disk is written to: from now on it is the site's.
    pub fn put_to_use(&mut self, site: usize, dev: DevNr) {
        if self.beliefs[site].replaced.remove(&dev) {
            self.beliefs[site].doubted = true;
        }
    }

    /// What the mark at a site may say, now and after any cut.
    ///
    /// # Errors
    /// If it says what is not (P3).
    pub fn marked(&mut self, site: usize, consistent: bool) -> Result<(), Violation> {
        let belief = &mut self.beliefs[site];
        belief.mark_is_partial &= consistent;
        let consistent = consistent && !belief.mark_is_partial;
        if std::mem::replace(&mut belief.marked, consistent) == consistent {
            return Ok(());
        }
        let said = belief.view.map_or(self.sites[site].is_promised(), |view| view.consistent);
        let promised = (said || consistent) && belief.replaced.is_empty();
        self.sites[site].promise(promised, &self.history, &self.layout)
    }

    /// Another table says what is promised of the sites, and which copies they have; in what
    /// order they are fed stays. A site that it leaves out as a whole is what it was.
    pub fn retable(&mut self, rules: Vec<SiteRule>) {
        for (site, new) in rules.iter().enumerate().filter(|(_, new)| new.named) {
            for dev in self.layout.devices() {
                if !new.devices[dev.0 as usize] {
                    self.sites[site].leave_out(self.layout.device(dev));
                }
            }
        }
        self.rules = rules;
        self.beliefs.iter_mut().for_each(|it| (it.bound, it.vouched_for) = (false, false));
        self.lags.iter_mut().for_each(|lag| *lag = Lag::default());
    }

    /// A site has a copy again that was left out for a while, whatever was done to it.
    pub fn taken_back(&mut self, site: usize, row: Range<usize>, values: impl Fn(usize) -> Values) {
        let belief = &mut self.beliefs[site];
        belief.mark_is_partial |= std::mem::take(&mut belief.marked);
        // It has to be copied first, whatever its table says of outages.
        belief.asked = true;
        belief.joined = belief.in_force.then(|| self.history.last());
        for at in row {
            let values = values(at);
            for &content in &values {
                if self.history.readings(at, content).next().is_none() {
                    self.sites[site].disown(content);
                }
            }
            self.sites[site].take_back(at, values);
        }
    }

    /// Nobody has these sectors yet: a device may grow by them.
    pub fn set_aside(&mut self, row: &Range<usize>) {
        self.sites.iter_mut().for_each(|site| site.leave_out(row.clone()));
    }

    /// A device has grown by these sectors, and holds there what its local disk does. What a remote
    /// site has there is no part of its image before anything comes there, or is said to be there: what
    /// it was is whole, and older.
    pub fn grown(&mut self, site: usize, row: Range<usize>, values: impl Fn(usize) -> Values) {
        if row.clone().next().is_some_and(|at| self.is_left_out(site, self.layout.place(at).dev)) {
            return row.for_each(|at| self.sites[site].grow_left_out(at));
        }
        for at in row {
            let values = values(at);
            if !self.rules[site].ordered {
                self.history.begin_with(at, values[0]);
            }
            self.sites[site].grow(at, values, &self.history);
        }
        if !self.rules[site].ordered {
            self.sites[site].has_longer_devices();
        }
        // It is given up for that, whatever its table says.
        self.asked_to_resync(site);
    }

    /// What a site has where devices have grown is part of its image from now on.
    pub(super) fn has_longer_devices(&mut self, site: usize) -> Result<(), Violation> {
        let promised = self.sites[site].is_promised();
        if self.sites[site].has_longer_devices() {
            self.promise(site, false)?;
            self.promise(site, promised)?;
        }
        Ok(())
    }

    /// Whether nobody looks at that copy.
    #[must_use]
    pub fn is_left_out(&self, site: usize, dev: DevNr) -> bool {
        self.sites[site].shown(self.layout.device(dev).start).is_empty()
    }

    /// Somebody tells the machine to copy a site anew.
    pub fn asked_to_resync(&mut self, site: usize) {
        self.beliefs[site].asked = true;
    }

    /// Whether a `sync` site is in force: an acknowledgement is worth a FLUSH then.
    pub(super) fn any_sync_binds(&self) -> bool {
        let mut sites = self.rules.iter().zip(&self.beliefs);
        sites.any(|(rule, belief)| rule.is_sync() && belief.binds())
    }

    /// What was just acknowledged is on the media of the `sync` sites (P1).
    pub(super) fn check_sync(&self, nr: Nr, row: Range<usize>) -> Result<(), Violation> {
        for site in 0..self.sites.len() {
            let (rule, belief) = (&self.rules[site], &self.beliefs[site]);
            if !rule.is_sync() || (!belief.binds() && !belief.bound) {
                continue;
            }
            // Its cursor passed them when there was nothing that it could have had of them.
            if belief.joined.is_some_and(|joined| nr <= joined) {
                continue;
            }
            for at in row.clone() {
                if let Some(held) = self.lacks(site, at, nr) {
                    let (site, place) = (rule.nr, self.layout.place(at));
                    return Err(Violation::SyncAck { nr, site, place, held });
                }
            }
        }
        Ok(())
    }

    /// A `sync` site that is said to be in force has everything that was acknowledged, while
    /// it was not too (P1).
    fn check_all_acked(&self, site: usize) -> Result<(), Violation> {
        match self.lacked(site, 0..self.layout.total()) {
            Some((nr, at, held)) if self.rules[site].is_sync() => {
                let (site, place) = (self.rules[site].nr, self.layout.place(at));
                Err(Violation::FalselyInForce { nr, site, place, held })
            }
            _ => Ok(()),
        }
    }

    /// The log of a dead machine says of a site whether it was given up.
    ///
    /// # Errors
    /// If it does not say so, and the site lacks what was acknowledged (P1).
    pub fn logged_standing(&mut self, site: usize, is_demoted: bool) -> Result<(), Violation> {
        let belief = &mut self.beliefs[site];
        belief.vouched_for &= !is_demoted;
        if belief.vouched_for { self.check_all_acked(site) } else { Ok(()) }
    }

    /// A `sync` site that has what was acknowledged does not lose it: nobody feeds it anything
    /// older, or could have it all once more after a crash (P1).
    pub(super) fn check_bound(&self, site: usize, row: Range<usize>) -> Result<(), Violation> {
        let is_bound = self.beliefs[site].bound && self.rules[site].is_sync();
        match self.lacked(site, row).filter(|_| is_bound && self.rules[site].ordered) {
            Some((nr, at, held)) => {
                let (site, place) = (self.rules[site].nr, self.layout.place(at));
                Err(Violation::SyncLost { nr, site, place, held })
            }
            None => Ok(()),
        }
    }

    /// A write that was acknowledged to an application, and what the site may show instead.
    fn lacked(&self, site: usize, row: Range<usize>) -> Option<(Nr, usize, Content)> {
        row.into_iter().find_map(|at| {
            let answered = |nr: &&Nr| self.history.write(**nr).answered;
            let &nr = self.history.of(at).iter().rev().find(answered)?;
            // P1: "an acknowledgement also means: on that site's media". What a device holds where it
            // has grown nobody wrote; it comes to the site by a copy, before that is well again.
            if nr == Nr(0) && self.sites[site].is_set_aside(at) {
                return None;
            }
            Some((nr, at, self.lacks(site, at, nr)?))
        })
    }

    /// A value of the sector that is older than `nr`, if the site may show one.
    fn lacks(&self, site: usize, at: usize, nr: Nr) -> Option<Content> {
        let lacks = |&&held: &&Content| {
            self.history.readings(at, held).next().is_none_or(|newest| newest < nr)
        };
        self.sites[site].shown(at).iter().find(lacks).copied()
    }

    /// Where a power cut took the write, nobody has it any more, nor lacks it: without a log that
    /// may be some of its sectors.
    fn lacks_any(&self, site: usize, nr: Nr) -> bool {
        let row = self.history.write(nr).row.clone();
        let lives = |at: &usize| self.history.of(*at).contains(&nr);
        row.into_iter().filter(lives).any(|at| self.lacks(site, at, nr).is_some())
    }

    /// A write was acknowledged at `time`: no site may lack more than its limit allows (P12).
    pub(super) fn check_limits(&mut self, nr: Nr, time: Time) -> Result<(), Violation> {
        for site in 0..self.sites.len() {
            let Some(limit) = self.rules[site].limit else { continue };
            let mut lag = std::mem::take(&mut self.lags[site]);
            while lag.first().is_some_and(|(first, _)| !self.lacks_any(site, first)) {
                lag.pop();
            }
            let oldest = lag.first().filter(|(first, _)| *first < nr);
            let age = oldest.map_or(Span::ZERO, |(_, since)| time.since(since));
            let adds = self.lacks_any(site, nr);
            if adds {
                let sectors = self.history.write(nr).row.len() as u64;
                lag.push(nr, sectors, time);
            }
            // Who waited until the site had his write is acknowledged, however far it is behind.
            let (writes, sectors) = lag.upto(nr);
            let bytes = Sectors(sectors).bytes();
            let over = adds && is_over(limit, writes, bytes, age);
            self.lags[site] = lag;
            if over && self.beliefs[site].binds() {
                let site = self.rules[site].nr;
                return Err(Violation::OverLimit { site, limit, writes, bytes, age });
            }
        }
        Ok(())
    }
}

fn is_over(limit: FallBehind, writes: u64, bytes: u64, age: Span) -> bool {
    match limit {
        FallBehind::Ios(most) => writes > most,
        FallBehind::Size(most) => bytes > most,
        FallBehind::Timeout(most) => age > most,
    }
}
