//! The oracle: what the replicator promised, checked from outside.
//!
//! It sees what an application sees (submissions, acknowledgements, what reads
//! return), what a power cut would see (every value each sector of each leg may have),
//! and in which order the log takes writes in. It knows nothing else of how it is done.

mod admission;
mod durable;
mod history;
mod lag;
mod layout;
mod log_loss;
mod reads;
mod recovery;
mod site;
#[cfg(test)]
mod tests;
mod view;
mod violation;

use std::collections::BTreeMap;
use std::ops::Range;

use blk::{DevNr, Sector, Sectors, SlinkNr, Time};
use slink::{Condition, Policy, Verdict};
use table::{FallBehind, Order};

pub use admission::{Admission, Token};
pub use history::{History, Instant, Nr, Write};
pub use layout::{Layout, Place};
pub use reads::ReadFloor;
pub use recovery::Death;
pub use site::{Site, Values};
pub use view::View;
pub use violation::Violation;

use crate::payload::Content;
use admission::Admissions;
use durable::DurablePayloads;
use lag::Lag;
use view::Belief;

/// What a site has promised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteRule {
    /// Its number.
    pub nr: SlinkNr,
    /// Whether the table names it; of one that it leaves out nothing is asked but its image.
    pub named: bool,
    /// Whether its image must be crash-legal at every instant (P3): remote sites.
    pub ordered: bool,
    /// What the table says of writers; with `sync`, an acknowledgement means "on this
    /// site's media" (P1).
    pub policy: Policy,
    /// How far acknowledgements may run ahead of it (P12).
    pub limit: Option<FallBehind>,
    /// After what kind of crash its image could have been found.
    pub order: Order,
    /// Which devices it has a copy of.
    pub devices: Vec<bool>,
}

/// The model of one replicator, through all its crashes.
#[derive(Clone, Debug)]
pub struct Oracle {
    layout: Layout,
    rules: Vec<SiteRule>,
    sites: Vec<Site>,
    beliefs: Vec<Belief>,
    lags: Vec<Lag>,
    /// The log is, or was, lost: the local site may be ahead of any log.
    without_log: bool,
    /// What sectors of the local site held after its cache was lost, while it stood in for the log.
    cache_lost: BTreeMap<usize, Content>,
    /// A machine is opening, or what it brought back was not looked at yet.
    recovering: bool,
    history: History,
    admissions: Admissions,
    log: DurablePayloads,
    now: Instant,
    /// The newest acknowledged write: survives the death of the process.
    acked: Nr,
    /// The newest write that survives a power cut too.
    stable: Nr,
    /// What a read of each sector must at least show.
    floors: Vec<Nr>,
    /// Reads under way: they may still return what has long been overwritten.
    reading: usize,
    ring: Sectors,
}

/// A FLUSH on its way: its acknowledgement makes durable what had been acknowledged
/// at its submission.
#[derive(Clone, Copy, Debug)]
pub struct FlushFloor(Nr, Instant);

impl Oracle {
    /// Sites that hold `initial`, sector by sector, of which the first is what the devices
    /// hold; and no write. The log holds at most `ring`.
    #[must_use]
    pub fn new(
        layout: Layout,
        rules: &[SiteRule],
        initial: &[Vec<Content>],
        ring: Sectors,
    ) -> Self {
        let sectors = layout.total();
        let history = History::new(initial[0].clone());
        let site = |(rule, initial): (&SiteRule, &Vec<Content>)| {
            let has = layout.devices().zip(&rule.devices);
            let has = has.flat_map(|(dev, &has)| vec![has; layout.device(dev).len()]);
            Site::new(rule.nr, rule.order, initial, &history).having(has.collect())
        };
        Self {
            sites: rules.iter().zip(initial).map(site).collect(),
            beliefs: vec![Belief::default(); rules.len()],
            lags: vec![Lag::default(); rules.len()],
            without_log: false,
            cache_lost: BTreeMap::new(),
            recovering: false,
            rules: rules.to_vec(),
            history,
            admissions: Admissions::default(),
            log: DurablePayloads::default(),
            now: Instant(0),
            acked: Nr(0),
            stable: Nr(0),
            floors: vec![Nr(0); sectors],
            reading: 0,
            ring,
            layout,
        }
    }

    /// The devices.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// A write was handed in. Zeroes stand for discards and write-zeroes; `None` is a
    /// fresh write, whose content will be like no other.
    ///
    /// # Panics
    /// If it lies outside its device.
    pub fn submitted(
        &mut self,
        dev: DevNr,
        sector: Sector,
        len: Sectors,
        content: Option<Content>,
    ) -> (Token, Content) {
        let row = self.layout.range(dev, sector, len).expect("workloads stay inside devices");
        let submitted = self.tick();
        self.admissions.submitted(row, submitted, content)
    }

    /// Whether zeroing that range is under way: twice at a time could not be told apart.
    #[must_use]
    pub fn is_zeroing(&self, dev: DevNr, sector: Sector, len: Sectors) -> bool {
        self.layout
            .range(dev, sector, len)
            .is_some_and(|row| self.admissions.is_waiting(&row, Content::ZEROES))
    }

    /// The log's disk is about to be written to: a group of these writes, in this order,
    /// `len` in all; or no group, but something else.
    ///
    /// # Errors
    /// If one of them was never submitted (P11).
    pub fn admitted(&mut self, group: &[Admission], len: Sectors) -> Result<(), Violation> {
        if !group.is_empty() {
            self.admissions.grow(len);
        }
        for admission in group {
            let place = Place { dev: admission.dev, sector: admission.sector };
            let unknown = Violation::UnknownEntry { place, content: admission.content };
            let row = self.layout.range(admission.dev, admission.sector, admission.len);
            let row = row.ok_or(unknown.clone())?;
            let (token, write) = self.admissions.take(&row, admission.content).ok_or(unknown)?;
            let nr = self.history.push(write);
            self.admissions.numbered(token, nr);
            self.read_anew(row.clone(), admission.content)?;
            row.for_each(|at| self.forget_what_is_over(at));
        }
        Ok(())
    }

    /// Keeps histories short: what the ring no longer holds and no site shows is over.
    fn forget_what_is_over(&mut self, at: usize) {
        // A copy on its way may hold what nothing shows any more.
        let copies = |site: &Site| !site.is_promised();
        let is_short = self.history.of(at).len() < HISTORY_LONG;
        if self.reading > 0 || is_short || self.sites.iter().any(copies) {
            return;
        }
        let ring_start = self.admissions.log_end().saturating_sub(self.ring.0);
        let in_ring = |nr: &Nr| self.history.write(*nr).log_end >= ring_start;
        let replayable = self.history.of(at).iter().copied().find(in_ring);
        let shown = self.sites.iter().flat_map(|site| site.shown(at));
        let shown = shown.filter_map(|&content| self.oldest_with(at, content));
        if let Some(oldest) = shown.chain(self.oldest_left_out(at)).chain(replayable).min() {
            self.history.forget_before(at, oldest);
        }
    }

    /// The oldest write that a site may hold which the table has without this sector: it shows
    /// it again, and may say that it is in order, when the table has it back.
    fn oldest_left_out(&self, at: usize) -> Option<Nr> {
        let held = self.sites.iter().flat_map(|site| site.left_out(at));
        held.filter_map(|&content| self.oldest_with(at, content)).min()
    }

    fn oldest_with(&self, at: usize, content: Content) -> Option<Nr> {
        self.history.readings(at, content).last()
    }

    /// What a site shows may now also stem from a write that has just been numbered.
    fn read_anew(&mut self, row: Range<usize>, content: Content) -> Result<(), Violation> {
        for site in &mut self.sites {
            for at in row.clone() {
                if site.shown(at).contains(&content) {
                    site.refresh(at, &self.history, &self.layout)?;
                }
            }
        }
        Ok(())
    }

    /// A write was acknowledged; `fua`: as durable.
    ///
    /// # Errors
    /// If the log never took it in or a `sync` site may lack it (P1), or a site turns
    /// out to be out of order (P3).
    pub fn acked(&mut self, token: Token, fua: bool, time: Time) -> Result<(), Violation> {
        let nr = self.admissions.number(token).ok_or(Violation::AckBeforeLog)?;
        let now = self.tick();
        let stable = fua || self.any_sync_binds();
        self.history.ack(nr, stable, now);
        self.acked = self.acked.max(nr);
        if stable {
            self.stable = self.stable.max(nr);
        }
        let row = self.history.write(nr).row.clone();
        for floor in &mut self.floors[row.clone()] {
            *floor = nr.max(*floor);
        }
        self.check_sync(nr, row.clone())?;
        self.check_limits(nr, time)?;
        self.mind(&[row])
    }

    /// What was promised of writes to these rows has changed.
    fn mind(&mut self, rows: &[Range<usize>]) -> Result<(), Violation> {
        for index in 0..self.sites.len() {
            for at in rows.iter().cloned().flatten() {
                if self.sites[index].minds_acks(at) {
                    self.sites[index].refresh(at, &self.history, &self.layout)?;
                }
            }
            self.check(index)?;
        }
        Ok(())
    }

    /// The process that had these requests is dead.
    pub fn died(&mut self) {
        self.admissions.died();
        self.reading = 0;
        self.recovering = true;
        self.forget_views();
    }

    /// A FLUSH was handed in.
    #[must_use]
    pub fn flush_submitted(&self) -> FlushFloor {
        FlushFloor(self.acked, self.now)
    }

    /// A FLUSH was acknowledged.
    ///
    /// # Errors
    /// If a site turns out to be out of order (P3).
    pub fn flush_acked(&mut self, floor: FlushFloor) -> Result<(), Violation> {
        let FlushFloor(covered, submitted) = floor;
        self.stable = self.stable.max(covered);
        let now = self.tick();
        let stabilized = self.history.stabilize(covered, submitted, now);
        if self.rules.iter().all(|rule| rule.order == Order::Group) {
            return Ok(());
        }
        let rows: Vec<_> =
            stabilized.iter().map(|&nr| self.history.write(nr).row.clone()).collect();
        self.mind(&rows)
    }

    /// A sector of a payload is durable in the log.
    pub fn logged(&mut self, dev: DevNr, sector: Sector, content: Content) {
        let Some(row) = self.layout.range(dev, sector, Sectors(1)) else { return };
        self.log.insert(content, row.start);
    }

    /// `content` is about to be written to a sector of a site.
    ///
    /// # Errors
    /// If the log could still lose it (P4), or the site may hold newer data (P3).
    pub fn shipped(&self, site: usize, at: usize, content: Content) -> Result<(), Violation> {
        let fed = self.shipped_to_bad_sector(site, at, content)?;
        let oldest = |&held: &Content| self.history.readings(at, held).last();
        let held = self.sites[site].shown(at).iter().filter_map(oldest).max().unwrap_or(Nr(0));
        if self.is_in_order(site) && fed < held {
            let (site, place) = (self.rules[site].nr, self.layout.place(at));
            return Err(Violation::Rewind { site, place, fed, held });
        }
        Ok(())
    }

    /// The same where the site holds nothing that anybody could read; the write it is of.
    ///
    /// # Errors
    /// If the log could still lose it (P4).
    pub fn shipped_to_bad_sector(
        &self,
        site: usize,
        at: usize,
        content: Content,
    ) -> Result<Nr, Violation> {
        let (site, place) = (self.rules[site].nr, self.layout.place(at));
        let was_there = content == Content::ZEROES || content == self.history.initial(at);
        let stands_in = self.without_log && site.is_local();
        if !was_there && !stands_in && !self.log.contains(content, at) {
            return Err(Violation::AheadOfLog { site, place, content });
        }
        let mut readings = self.history.readings(at, content);
        readings.next().ok_or(Violation::Phantom { site, place, content })
    }

    /// Sectors of a site changed: `values` tells what each may now have after a cut.
    ///
    /// # Errors
    /// If one shows what is lost (P4), lacks what a `sync` site is to have (P1), or the site
    /// is out of order (P3).
    pub fn changed(
        &mut self,
        site: usize,
        row: Range<usize>,
        values: impl Fn(usize) -> Values,
    ) -> Result<(), Violation> {
        let mut has_come = false;
        for at in row.clone() {
            let values = values(at);
            has_come |= self.sites[site].comes_to(at, &values);
            self.sites[site].show(at, values);
        }
        if has_come {
            self.has_longer_devices(site)?;
        }
        self.refresh(site, row.clone())?;
        self.check_bound(site, row)
    }

    /// What every sector holds once everything is done.
    #[must_use]
    pub fn newest(&self, at: usize) -> Content {
        self.history.newest(at)
    }

    /// Nothing is under way and every leg equals the model: older writes are forgotten,
    /// so that long runs stay fast, and everything counts as durable.
    pub fn settled(&mut self) {
        for at in 0..self.layout.total() {
            match self.oldest_left_out(at) {
                None => self.history.forget_overwritten(at),
                Some(oldest) => self.history.forget_before(at, oldest),
            }
        }
        self.stable = self.acked;
        self.log_is_there();
    }

    /// Whether the site's image is to be in order, and so never to go back.
    fn is_in_order(&self, site: usize) -> bool {
        self.rules[site].ordered && self.sites[site].is_promised()
    }

    fn refresh(&mut self, site: usize, row: Range<usize>) -> Result<(), Violation> {
        for at in row {
            self.sites[site].refresh(at, &self.history, &self.layout)?;
        }
        self.check(site)
    }

    fn check(&self, site: usize) -> Result<(), Violation> {
        if self.rules[site].ordered {
            self.sites[site].check(&self.history, &self.layout)?;
        }
        Ok(())
    }

    fn tick(&mut self) -> Instant {
        self.now = Instant(self.now.0 + 1);
        self.now
    }
}

impl SiteRule {
    /// Whether anybody can say anything of a copy that could be out of order.
    fn has_copies(&self) -> bool {
        self.devices.contains(&true)
    }

    /// Whether acknowledgements wait for it while it is in force (P1).
    fn is_sync(&self) -> bool {
        self.named && self.policy.sync
    }

    /// Whether the table lets acknowledgements go on without a site that was in force.
    fn may_be_given_up(&self) -> bool {
        let bools = [false, true];
        let all = bools.into_iter().flat_map(|up| {
            let troubles = [(true, false), (false, true), (true, true)];
            troubles.map(|(over_limit, log_full)| Condition { up, over_limit, log_full })
        });
        let sync = self.policy.sync;
        let mut verdicts = all.map(|is| self.policy.verdict(is));
        verdicts.any(|it| it == Verdict::Detach || (sync && it == Verdict::Acknowledge))
    }
}

/// Writes of one sector that are remembered before the useless ones are looked for.
const HISTORY_LONG: usize = 12;
