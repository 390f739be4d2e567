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
//! A value with several readings (zeroes) may have several stretches with gaps in
//! between. Then two by two is not enough; the few such sectors are tried out.

use std::collections::BTreeMap;

use blk::SlinkNr;
use smallvec::SmallVec;

use super::history::{History, Instant, Nr, Stretch, Stretches};
use super::layout::Layout;
use super::violation::Violation;
use crate::payload::Content;

/// What one site may hold, sector by sector, and what that means.
#[derive(Clone, Debug)]
pub struct Site {
    nr: SlinkNr,
    /// Every value a sector may have after a cut now.
    shown: Vec<Values>,
    /// The latest stretch's start, over the values of a sector.
    from: Vec<Instant>,
    /// The earliest stretch's end, over the values of a sector.
    to: Vec<Instant>,
    /// Sectors with a value of several stretches; they don't count in `from` and `to`.
    gapped: BTreeMap<usize, Vec<Stretches>>,
}

/// The values a sector may have after a cut.
pub type Values = SmallVec<[Content; 2]>;

impl Site {
    /// A site of zeroes.
    #[must_use]
    pub fn new(nr: SlinkNr, sectors: usize) -> Self {
        Self {
            nr,
            shown: vec![SmallVec::from_elem(Content::ZEROES, 1); sectors],
            from: vec![Instant(0); sectors],
            to: vec![Instant::NEVER; sectors],
            gapped: BTreeMap::new(),
        }
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

    /// The sector's values are now these.
    pub fn show(&mut self, at: usize, values: Values) {
        self.shown[at] = values;
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
        self.gapped.remove(&at);
        (self.from[at], self.to[at]) = (Instant(0), Instant::NEVER);
        let mut values: SmallVec<[Stretches; 2]> = SmallVec::new();
        for &content in &self.shown[at] {
            let stretches = history.stretches(at, content);
            if stretches.is_empty() {
                return Err(Violation::Phantom { site: self.nr, place: layout.place(at), content });
            }
            values.push(stretches);
        }
        if values.iter().any(|stretches| stretches.len() > 1) {
            self.gapped.insert(at, values.into_vec());
            return Ok(());
        }
        for stretch in values.iter().flatten() {
            self.from[at] = self.from[at].max(stretch.from);
            self.to[at] = self.to[at].min(stretch.to);
        }
        Ok(())
    }

    /// Checks all crash subsets of this instant at once (P3).
    ///
    /// # Errors
    /// If one of them is an image that no local disk could show.
    pub fn check(&self, history: &History, layout: &Layout) -> Result<(), Violation> {
        for (latest, earliest) in self.worst_pairs() {
            let shared = Stretch { from: self.from[latest], to: self.to[earliest] };
            if !self.choices_share(shared) {
                return Err(self.explain(latest, earliest, history, layout));
            }
        }
        self.check_singles(history, layout)
    }

    /// Without gaps one value is legal by itself; beside a gap it need not be.
    fn check_singles(&self, history: &History, layout: &Layout) -> Result<(), Violation> {
        if self.gapped.is_empty() {
            return Ok(());
        }
        let plain = (0..self.shown.len()).filter(|at| !self.gapped.contains_key(at));
        for (at, &content) in plain.flat_map(|at| self.shown[at].iter().map(move |c| (at, c))) {
            let stretches = history.stretches(at, content);
            if !stretches.iter().all(|&stretch| self.choices_share(stretch)) {
                return Err(self.explain(at, at, history, layout));
            }
        }
        Ok(())
    }

    /// The pairs of distinct sectors that an adversary would choose: showing the newest
    /// submission, lacking the earliest acknowledgement.
    fn worst_pairs(&self) -> SmallVec<[(usize, usize); 2]> {
        let latest = best(&self.from, None, |a, b| a > b);
        let earliest = best(&self.to, None, |a, b| a < b);
        let mut pairs = SmallVec::new();
        match (latest, earliest) {
            (Some(x), Some(y)) if x != y => pairs.push((x, y)),
            (Some(x), Some(_)) => {
                pairs.extend(best(&self.to, Some(x), |a, b| a < b).map(|y| (x, y)));
                pairs.extend(best(&self.from, Some(x), |a, b| a > b).map(|y| (y, x)));
            }
            _ => {}
        }
        pairs
    }

    /// Whether, whatever values the gapped sectors take, an instant in `shared` is left.
    fn choices_share(&self, shared: Stretch) -> bool {
        let mut left = vec![Stretches::from_elem(shared, 1)];
        if shared.from > shared.to {
            return false;
        }
        for values in self.gapped.values() {
            left = left.iter().flat_map(|l| values.iter().map(|v| intersect(l, v))).collect();
            if left.iter().any(SmallVec::is_empty) {
                return false;
            }
            left.dedup();
            assert!(left.len() <= CHOICES_MAX, "too many sectors of ambiguous zeroes to try out");
        }
        true
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
            lacked.filter(|&nr| history.write(nr).acked == self.to[at]).min().unwrap_or(Nr(0))
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

fn intersect(a: &Stretches, b: &Stretches) -> Stretches {
    let pairs = a.iter().flat_map(|x| b.iter().map(move |y| (x, y)));
    let shared = pairs.map(|(x, y)| Stretch { from: x.from.max(y.from), to: x.to.min(y.to) });
    shared.filter(|stretch| stretch.from <= stretch.to).collect()
}

/// Far beyond what histories of random zeroes reach; a run that does must say so.
const CHOICES_MAX: usize = 1 << 16;
