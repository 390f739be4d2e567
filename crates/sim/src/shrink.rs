//! Makes a life that breaks a promise smaller, while it still breaks the same one.
//!
//! Whatever a life is made of is left out, kind by kind, in halves, quarters, and one by
//! one; what can go is gone for good. Larger things are tried with other dice, too. That
//! ends when nothing more can go.

use std::ops::Range;
use std::rc::Rc;

use crate::less::{Less, Part, Sieve};
use crate::oracle::Violation;
use crate::rig::Failure;
use crate::runs::Seed;
use crate::swarm::Swarm;

/// How large a life is that breaks a promise.
#[derive(Clone, Debug)]
pub struct Size {
    /// Points passed in its lives before the promise was broken.
    pub points: u64,
    /// What it was made of, kind by kind.
    pub parts: Vec<(Part, u64)>,
}

/// A life that was made smaller.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// What is left.
    pub seed: Seed,
    /// The promise that it breaks.
    pub failure: Failure,
    /// How large it was.
    pub before: Size,
    /// How large it is.
    pub after: Size,
    /// Lives that were tried.
    pub tries: u64,
}

/// Makes a life smaller, while whoever waits for it `is_patient`; `None` if it breaks no promise.
#[must_use]
pub fn shrink(seed: &Seed, is_patient: &dyn Fn() -> bool) -> Option<Shrunk> {
    let first = Try::of(seed)?;
    let before = first.size();
    let mut shrinker = Shrinker { seed: seed.clone(), best: first, is_patient, tries: 1 };
    while shrinker.round() || shrinker.round_with_other_dice() {}
    let Shrinker { seed, best, tries, .. } = shrinker;
    let after = best.size();
    Some(Shrunk { seed, failure: best.failure, before, after, tries })
}

/// A life that was tried, and broke a promise.
struct Try {
    failure: Failure,
    sieve: Rc<Sieve>,
    /// Sites and devices that were left.
    disks: [u64; 2],
}

impl Try {
    fn of(seed: &Seed) -> Option<Self> {
        let sieve = Rc::new(Sieve::new(seed.less.clone()));
        let failure = seed.live_by(&sieve).err()?;
        let topology = seed.less.of_topology(Swarm::new(seed.seed).0);
        let disks = [topology.sites.len() as u64, topology.devices.len() as u64];
        Some(Self { failure, sieve, disks })
    }

    fn size(&self) -> Size {
        let kept = |part| match part {
            Part::Site => self.disks[0],
            Part::Device => self.disks[1],
            other => self.sieve.kept(other),
        };
        let parts = Part::ALL.map(|part| (part, kept(part)));
        Size { points: self.sieve.points(), parts: parts.to_vec() }
    }

    /// Less is better: a part that whoever looks for the cause has to think of is worth more
    /// than some points.
    fn weight(&self) -> u64 {
        let size = self.size();
        let worth = |&(part, count): &(Part, u64)| match part {
            Part::Life | Part::Site | Part::Device => 100 * count,
            Part::Delay => count,
            _ => 10 * count,
        };
        size.points + size.parts.iter().map(worth).sum::<u64>()
    }
}

struct Shrinker<'a> {
    seed: Seed,
    best: Try,
    is_patient: &'a dyn Fn() -> bool,
    tries: u64,
}

impl Shrinker<'_> {
    /// Tries to do without something of each kind; whether anything went.
    fn round(&mut self) -> bool {
        Part::ALL.into_iter().fold(false, |went, part| self.without(part) | went)
    }

    /// The same for what is worth many lives that are lived in vain.
    fn round_with_other_dice(&mut self) -> bool {
        for part in [Part::Life, Part::Site, Part::Device, Part::Delay, Part::Request] {
            let count = self.count(part);
            let pieces = if part == Part::Request { PIECES } else { count.min(PIECES) };
            for piece in (0..pieces).rev() {
                // The local site has no say in it.
                let first = (count * piece / pieces).max(u64::from(part == Part::Site));
                let range = first..count * (piece + 1) / pieces;
                if range.is_empty() {
                    continue;
                }
                let less = self.seed.less.and(part, range);
                let mut others = (1..=DICE).map(|dice| less.clone().with_dice(dice));
                if less != self.seed.less && others.any(|less| self.is_enough(less)) {
                    return true;
                }
            }
        }
        false
    }

    fn without(&mut self, part: Part) -> bool {
        if self.leaves_out(part, 0..u64::MAX) {
            return true;
        }
        let count = self.count(part);
        let mut went = false;
        // One by one is for what there are few of.
        let least = (count / FEW).max(1);
        let mut length = count.div_ceil(2).max(1);
        loop {
            // From the end: what came before stays as it was then.
            let mut end = count;
            while end > 0 {
                let start = end.saturating_sub(length);
                went |= self.leaves_out(part, start..end);
                end = start;
            }
            if length <= least {
                return went;
            }
            length = length.div_ceil(2);
        }
    }

    /// How many of a kind have numbers.
    fn count(&self, part: Part) -> u64 {
        let whole = || Swarm::new(self.seed.seed).0;
        match part {
            Part::Site => whole().sites.len() as u64,
            Part::Device => whole().devices.len() as u64,
            other => self.best.sieve.met(other),
        }
    }

    fn leaves_out(&mut self, part: Part, range: Range<u64>) -> bool {
        let less = self.seed.less.and(part, range);
        less != self.seed.less && self.is_enough(less)
    }

    /// Leaves this out, if that makes a smaller life that breaks the promise.
    fn is_enough(&mut self, less: Less) -> bool {
        if !(self.is_patient)() {
            return false;
        }
        self.tries += 1;
        let smaller = Seed { less, ..self.seed.clone() };
        let Some(tried) = Try::of(&smaller) else { return false };
        let is_same = promise(&tried.failure.violation) == promise(&self.best.failure.violation);
        if !is_same || tried.weight() >= self.best.weight() {
            return false;
        }
        (self.seed, self.best) = (smaller, tried);
        true
    }
}

/// What was broken, whatever the place: the kind of the violation, and of a panic the words.
#[must_use]
pub fn promise(violation: &Violation) -> String {
    let kind = match violation {
        Violation::Panicked { what } | Violation::Stuck { what, .. } => what.clone(),
        Violation::OpenFailed { why } => why.clone(),
        other => format!("{other:?}").split([' ', '{', '(']).next().unwrap_or_default().to_owned(),
    };
    // Numbers, and what is inside braces, are of the place.
    let outside = kind.split(['{', '[']).next().unwrap_or_default();
    outside.chars().filter(|letter| !letter.is_ascii_digit()).collect()
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} points", self.points)?;
        let parts = self.parts.iter().filter(|(_, count)| *count > 0);
        parts.into_iter().try_for_each(|(part, count)| write!(f, ", {count} {part}"))
    }
}

/// So many of a kind, or parts of more, are tried one by one.
const FEW: u64 = 64;
/// Into so many pieces things are cut that are tried with so many other dice.
const PIECES: u64 = 8;
const DICE: u64 = 20;
