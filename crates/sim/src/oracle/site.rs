//! Is one site, at this instant and after any cut, an image that the application
//! could have found after a crash of its own? (P3)
//!
//! Sectors persist independently, so a cut may leave the newest value it can of one
//! sector and the oldest it can of every other. *Submitted after the acknowledgement
//! of* is an interval order: an image is illegal if and only if some sector shows a
//! write submitted at S while another lacks a write acknowledged at A < S. So each
//! value a sector may have is a stretch of time, from the submission of what it shows
//! to the earliest acknowledgement of what it lacks, and an image is legal if its
//! stretches share an instant. Stretches share one if each two do: the latest `from`
//! and the earliest `to` decide about all crash subsets at once.
//!
//! With `order:flush` the site may lack what a volatile cache may: *acknowledged* is then
//! *acknowledged, and flushed*.
//!
//! A value with several readings (zeroes) may have several stretches with gaps in
//! between. Then two by two is not enough; the few such sectors are tried out.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use blk::SlinkNr;
use smallvec::SmallVec;
use table::Order;

use super::history::{History, Instant, Nr, Stretch, Stretches};
use super::layout::Layout;
use super::violation::Violation;
use crate::payload::Content;

/// What one site may hold, sector by sector, and what that means.
#[derive(Clone, Debug)]
pub struct Site {
    nr: SlinkNr,
    /// Every value a sector may have after a cut now; none where it has no copy.
    shown: Vec<Values>,
    /// The latest stretch's start, over the values of a sector.
    from: Vec<Instant>,
    /// The earliest stretch's end, over the values of a sector.
    to: Vec<Instant>,
    /// Sectors with a value of several stretches; they don't count in `from` and `to`.
    gapped: BTreeMap<usize, Gapped>,
    /// How many sectors are gapped in the same way: those of one discard, mostly.
    alike: BTreeMap<Gapped, usize>,
    order: Order,
    /// It is ahead of the log, and may show what no recovery will.
    lenient: bool,
    /// The machine says that its image is in order; else only its contents are checked.
    promised: bool,
    /// What its disks held before they were the site's: of no write.
    foreign: Values,
    /// Sectors by which a device has grown since its image was in order: it is that of before.
    aside: BTreeSet<usize>,
    /// The same of what the table leaves out: it is no part of the image when it is back, either.
    left_out_aside: BTreeSet<usize>,
    /// What its disks hold of what the table leaves out, which nobody looks at until it is back.
    left_out: BTreeMap<usize, Values>,
}

/// The stretches of each value of a sector.
type Gapped = SmallVec<[Stretches; 2]>;

/// The values a sector may have after a cut.
pub type Values = SmallVec<[Content; 2]>;

impl Site {
    /// A site that shows `initial`; what of it the devices of `history` don't hold is foreign.
    #[must_use]
    pub fn new(nr: SlinkNr, order: Order, initial: &[Content], history: &History) -> Self {
        let sectors = initial.len();
        let mut site = Self {
            nr,
            shown: initial.iter().map(|&content| SmallVec::from_elem(content, 1)).collect(),
            from: vec![Instant(0); sectors],
            to: vec![Instant::NEVER; sectors],
            gapped: BTreeMap::new(),
            alike: BTreeMap::new(),
            order,
            lenient: false,
            promised: true,
            foreign: Values::new(),
            aside: BTreeSet::new(),
            left_out_aside: BTreeSet::new(),
            left_out: BTreeMap::new(),
        };
        let foreign = (0..sectors).filter(|&at| initial[at] != history.initial(at));
        foreign.for_each(|at| site.disown(initial[at]));
        site
    }

    /// The same with copies of some sectors only.
    #[must_use]
    pub fn having(mut self, has: Vec<bool>) -> Self {
        let lacking = self.shown.iter_mut().zip(has).filter(|(_, has)| !has);
        lacking.for_each(|(shown, _)| shown.clear());
        self
    }

    /// It has no copy of these sectors any more.
    pub fn leave_out(&mut self, row: Range<usize>) {
        for at in row {
            // Whatever is there from now on does not come to the site.
            if self.aside.remove(&at) {
                self.left_out_aside.insert(at);
            }
            self.set_gapped(at, None);
            (self.from[at], self.to[at]) = (Instant(0), Instant::NEVER);
            let values = std::mem::take(&mut self.shown[at]);
            if !values.is_empty() {
                self.left_out.insert(at, values);
            }
        }
    }

    /// It has a copy of a sector again; nothing is promised.
    pub fn take_back(&mut self, at: usize, values: Values) {
        self.promised = false;
        if self.left_out_aside.remove(&at) {
            self.aside.insert(at);
        }
        self.left_out.remove(&at);
        self.shown[at] = values;
    }

    /// A device has grown by a sector, of which it has no copy.
    pub fn grow_left_out(&mut self, at: usize) {
        self.left_out_aside.insert(at);
    }

    /// A device has grown by a sector, of which it has these values. Its image is what it was, and
    /// does not have that sector, until [`Site::has_longer_devices`].
    pub fn grow(&mut self, at: usize, values: Values, history: &History) {
        let known = |content| history.readings(at, content).next().is_some();
        let unknown = values.iter().filter(|&&content| !known(content));
        let news: Values = unknown.copied().filter(|it| !self.foreign.contains(it)).collect();
        self.foreign.extend(news);
        self.aside.insert(at);
        self.left_out.remove(&at);
        self.shown[at] = values;
    }

    /// Whether these are other values of a sector that is no part of its image yet.
    #[must_use]
    pub fn comes_to(&self, at: usize, values: &Values) -> bool {
        self.aside.contains(&at) && self.shown[at] != *values
    }

    /// Whether a sector is no part of its image yet, since its device has grown there.
    #[must_use]
    pub fn is_set_aside(&self, at: usize) -> bool {
        self.aside.contains(&at)
    }

    /// Its image is one of the devices as long as they are now; whether that is new.
    pub fn has_longer_devices(&mut self) -> bool {
        !std::mem::take(&mut self.aside).is_empty()
    }

    /// Some of its disks hold this from now on, and no write wrote it: nothing is promised.
    pub fn disown(&mut self, foreign: Content) {
        self.promised = false;
        if !self.foreign.contains(&foreign) {
            self.foreign.push(foreign);
        }
    }

    /// Whether it may be ahead of the log from now on.
    pub fn set_lenient(&mut self, lenient: bool) {
        self.lenient = lenient;
    }

    /// Whether its image is to be in order.
    #[must_use]
    pub fn is_promised(&self) -> bool {
        self.promised
    }

    /// Its image is to be in order from now on, or is not any more.
    ///
    /// # Errors
    /// If it is to be and is not (P3), or shows what no write wrote (P4).
    pub fn promise(
        &mut self,
        promised: bool,
        history: &History,
        layout: &Layout,
    ) -> Result<(), Violation> {
        let begins = promised && !self.promised;
        self.trust(promised, history, layout)?;
        if begins { self.check(history, layout) } else { Ok(()) }
    }

    /// The same, but for the order.
    ///
    /// # Errors
    /// If it shows what no write wrote (P4).
    pub fn trust(
        &mut self,
        promised: bool,
        history: &History,
        layout: &Layout,
    ) -> Result<(), Violation> {
        let begins = promised && !self.promised;
        self.promised = promised;
        if !begins {
            return Ok(());
        }
        (0..self.shown.len()).try_for_each(|at| self.refresh(at, history, layout))
    }

    /// Its number.
    #[must_use]
    pub fn nr(&self) -> SlinkNr {
        self.nr
    }

    /// Every value the sector may have after a cut now.
    #[must_use]
    pub fn shown(&self, at: usize) -> &Values {
        &self.shown[at]
    }

    /// What will be there when the table has the sector again, if it leaves it out now.
    #[must_use]
    pub fn left_out(&self, at: usize) -> &[Content] {
        self.left_out.get(&at).map_or(&[], |values| values)
    }

    /// The sector's values are now these.
    pub fn show(&mut self, at: usize, values: Values) {
        if !self.shown[at].is_empty() {
            self.shown[at] = values;
        }
    }

    /// Whether an acknowledgement just now may change what the sector's values mean: not
    /// if they lack something that was acknowledged earlier.
    #[must_use]
    pub fn minds_acks(&self, at: usize) -> bool {
        self.promised && (self.to[at] == Instant::NEVER || self.gapped.contains_key(&at))
    }

    /// Finds out anew what the sector's values mean.
    ///
    /// # Errors
    /// If one of them stems from no live write (P4).
    pub fn refresh(
        &mut self,
        at: usize,
        history: &History,
        layout: &Layout,
    ) -> Result<(), Violation> {
        self.set_gapped(at, None);
        (self.from[at], self.to[at]) = (Instant(0), Instant::NEVER);
        if self.lenient {
            return Ok(());
        }
        if !self.promised || self.aside.contains(&at) {
            return self.check_contents(at, history, layout);
        }
        let mut values = Gapped::new();
        for &content in &self.shown[at] {
            let stretches = history.stretches(at, content, self.order);
            if stretches.is_empty() {
                return Err(self.of_no_write(at, content, layout));
            }
            values.push(stretches);
        }
        if values.iter().any(|stretches| stretches.len() > 1) {
            self.set_gapped(at, Some(values));
            return Ok(());
        }
        for stretch in values.iter().flatten() {
            self.from[at] = self.from[at].max(stretch.from);
            self.to[at] = self.to[at].min(stretch.to);
        }
        Ok(())
    }

    /// In whatever order they came: each content is a write's, or was there before (P4).
    fn check_contents(
        &self,
        at: usize,
        history: &History,
        layout: &Layout,
    ) -> Result<(), Violation> {
        let known = |&content: &Content| {
            self.foreign.contains(&content) || history.readings(at, content).next().is_some()
        };
        match self.shown[at].iter().find(|content| !known(content)) {
            None => Ok(()),
            Some(&content) => Err(self.of_no_write(at, content, layout)),
        }
    }

    fn of_no_write(&self, at: usize, content: Content, layout: &Layout) -> Violation {
        let (site, place) = (self.nr, layout.place(at));
        if self.foreign.contains(&content) {
            Violation::Unsynced { site, place }
        } else {
            Violation::Phantom { site, place, content }
        }
    }

    /// Checks all crash subsets of this instant at once (P3).
    ///
    /// # Errors
    /// If one of them is an image that no local disk could show.
    pub fn check(&self, history: &History, layout: &Layout) -> Result<(), Violation> {
        if !self.promised {
            return Ok(());
        }
        let choices = self.choices();
        let share = |stretch| choices.iter().all(|choice| !intersect(choice, stretch).is_empty());
        let (Some(latest), Some(earliest)) = (self.latest(None), self.earliest(None)) else {
            return Ok(());
        };
        let pair = |x: usize, y: usize| Stretch { from: self.from[x], to: self.to[y] };
        let refuse = |x, y| Err(self.explain(x, y, history, layout));
        if latest != earliest {
            return if share(pair(latest, earliest)) { Ok(()) } else { refuse(latest, earliest) };
        }
        // One sector is the worst in both ways, but it has one value at a time: beside
        // another sector's, or, with a gap elsewhere, by itself.
        let x = latest;
        match (self.earliest(Some(x)), self.latest(Some(x))) {
            (Some(y), _) if !share(pair(x, y)) => return refuse(x, y),
            (_, Some(y)) if !share(pair(y, x)) => return refuse(y, x),
            _ => {}
        }
        let own =
            self.shown[x].iter().flat_map(|&content| history.stretches(x, content, self.order));
        if self.gapped.contains_key(&x) || own.into_iter().all(share) {
            Ok(())
        } else {
            refuse(x, x)
        }
    }

    /// The sector that may show the newest submission.
    fn latest(&self, but: Option<usize>) -> Option<usize> {
        best(&self.from, but, |a, b| a > b)
    }

    /// The sector that may lack the earliest acknowledgement.
    fn earliest(&self, but: Option<usize>) -> Option<usize> {
        best(&self.to, but, |a, b| a < b)
    }

    fn set_gapped(&mut self, at: usize, values: Option<Gapped>) {
        let before = match values.clone() {
            Some(values) => self.gapped.insert(at, values),
            None => self.gapped.remove(&at),
        };
        if let Some(before) = before {
            let count = self.alike.get_mut(&before).expect("a gapped sector is counted");
            *count -= 1;
            if *count == 0 {
                self.alike.remove(&before);
            }
        }
        if let Some(values) = values {
            *self.alike.entry(values).or_default() += 1;
        }
    }

    /// What is left of all time for each way in which the gapped sectors may choose their
    /// values. Sectors that are alike can choose each value once; more brings nothing new.
    fn choices(&self) -> Vec<Stretches> {
        let always = Stretch { from: Instant(0), to: Instant::NEVER };
        let mut left = vec![Stretches::from_elem(always, 1)];
        for (values, &count) in &self.alike {
            for _ in 0..count.min(values.len()) {
                let chosen = left.iter().flat_map(|l| values.iter().map(|v| meet(l, v)));
                left = chosen.collect();
                left.sort_unstable();
                left.dedup();
            }
            assert!(left.len() <= CHOICES_MAX, "too many sectors of ambiguous zeroes to try out");
        }
        left
    }

    fn explain(
        &self,
        latest: usize,
        earliest: usize,
        history: &History,
        layout: &Layout,
    ) -> Violation {
        let shown_by = |at: usize| {
            let readings = self.shown[at].iter().flat_map(|&c| history.readings(at, c));
            readings.max().unwrap_or(Nr(0))
        };
        let first_acked = |at: usize| {
            let lacked = history.of(at).iter().copied();
            let ends = |nr: &Nr| [history.write(*nr).acked, history.write(*nr).stable];
            lacked.filter(|nr| ends(nr).contains(&self.to[at])).min().unwrap_or(Nr(0))
        };
        Violation::Order {
            site: self.nr,
            shown: shown_by(latest),
            shown_at: layout.place(latest),
            lacking: first_acked(earliest),
            lacking_at: layout.place(earliest),
        }
    }
}

/// Index of the best value, `but` left out.
fn best(
    values: &[Instant],
    but: Option<usize>,
    better: impl Fn(Instant, Instant) -> bool,
) -> Option<usize> {
    let mut found: Option<usize> = None;
    for (at, &value) in values.iter().enumerate() {
        if Some(at) != but && found.is_none_or(|best| better(value, values[best])) {
            found = Some(at);
        }
    }
    found
}

/// The instants that are in some stretch of both.
fn meet(a: &Stretches, b: &Stretches) -> Stretches {
    a.iter().flat_map(|&stretch| intersect(b, stretch)).collect()
}

fn intersect(all: &Stretches, one: Stretch) -> Stretches {
    let shared = all.iter().map(|s| Stretch { from: s.from.max(one.from), to: s.to.min(one.to) });
    shared.filter(|stretch| stretch.from <= stretch.to).collect()
}

/// Far beyond what histories of random zeroes reach; a run that does must say so.
const CHOICES_MAX: usize = 1 << 16;
