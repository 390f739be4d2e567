//! What is left out of a life, so that one that breaks a promise can be made smaller.
//!
//! Everything that makes a life what it is has a kind and a number: the third outage, the
//! twelfth request. What is left out is drawn all the same, so that what is left stays, as
//! far as it can, what it was. Where a promise is only broken by a coincidence that does not
//! outlive that, other dice for how long things take may bring about another.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use blk::{DevNr, SlinkNr};
use table::DirtyLogTable;

use crate::coverage::Seen;
use crate::engine;
use crate::rng::Rng;
use crate::topology::{Role, Site, Topology};

/// Kinds of what a life is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// A machine, from its start to its end.
    Life,
    /// A site; the local one stays.
    Site,
    /// A device.
    Device,
    /// Something befalls a site.
    Outage,
    /// The log is lost.
    LogLoss,
    /// A disk fails, whatever for.
    Fault,
    /// Sectors can't be read.
    BadSectors,
    /// A dirty log is spoiled.
    Rot,
    /// A life begins with another table.
    Table,
    /// Somebody says something.
    Message,
    /// Somebody asks for another size of the log.
    Resize,
    /// The log is to move.
    Move,
    /// A device grows.
    Growth,
    /// Somebody has a site compared.
    Comparison,
    /// Recoveries of copies, before a life.
    Trial,
    /// Everything is healed while applications work.
    Healing,
    /// The driver is held up for long, now and then.
    HoldUp,
    /// The driver is busy elsewhere for a moment.
    Delay,
    /// An application asks for something.
    Request,
}

impl Part {
    /// All of them, the coarsest first.
    pub const ALL: [Self; 19] = [
        Self::Life,
        Self::Site,
        Self::Device,
        Self::Outage,
        Self::LogLoss,
        Self::Fault,
        Self::BadSectors,
        Self::Rot,
        Self::Table,
        Self::Message,
        Self::Resize,
        Self::Move,
        Self::Growth,
        Self::Comparison,
        Self::Trial,
        Self::Healing,
        Self::HoldUp,
        Self::Delay,
        Self::Request,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Life => "lives",
            Self::Site => "sites",
            Self::Device => "devices",
            Self::Outage => "outages",
            Self::LogLoss => "log-losses",
            Self::Fault => "faults",
            Self::BadSectors => "bad-sectors",
            Self::Rot => "rot",
            Self::Table => "tables",
            Self::Message => "messages",
            Self::Resize => "resizes",
            Self::Move => "moves",
            Self::Growth => "growths",
            Self::Comparison => "comparisons",
            Self::Trial => "trials",
            Self::Healing => "healings",
            Self::HoldUp => "hold-ups",
            Self::Delay => "delays",
            Self::Request => "requests",
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What is left out, by kind, as ranges of numbers that neither overlap nor touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Less {
    out: BTreeMap<Part, Vec<Range<u64>>>,
    /// Which dice worlds roll; 0 are the seed's own.
    dice: u64,
}

impl Less {
    /// The dice of a world that would roll these.
    #[must_use]
    pub fn dice(&self, mut rng: Rng) -> Rng {
        if self.dice == 0 { rng } else { Rng::new(rng.next() ^ self.dice) }
    }

    /// The same with other dice.
    #[must_use]
    pub fn with_dice(self, dice: u64) -> Self {
        Self { dice, ..self }
    }

    /// Whether this is left out.
    #[must_use]
    pub fn has(&self, part: Part, nr: u64) -> bool {
        self.out.get(&part).is_some_and(|ranges| ranges.iter().any(|range| range.contains(&nr)))
    }

    /// The same without these, too.
    #[must_use]
    pub fn and(&self, part: Part, more: Range<u64>) -> Self {
        let mut less = self.clone();
        let ranges = less.out.entry(part).or_default();
        ranges.push(more);
        ranges.sort_by_key(|range| range.start);
        let mut merged: Vec<Range<u64>> = Vec::new();
        for range in ranges.drain(..) {
            match merged.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => merged.push(range),
            }
        }
        *ranges = merged;
        less
    }

    /// What is left of a topology: disks are numbered anew.
    #[must_use]
    pub fn of_topology(&self, mut topology: Topology) -> Topology {
        let (devices, sites) = (topology.devices.len(), topology.sites.len());
        let left = |part: Part, count: usize, first: usize| -> Vec<bool> {
            (0..count).map(|nr| nr < first || !self.has(part, nr as u64)).collect()
        };
        let (devices, sites) = (left(Part::Device, devices, 0), left(Part::Site, sites, 1));
        if devices.iter().all(|left| *left) && sites.iter().all(|left| *left) {
            return topology;
        }
        only(&mut topology.devices, &devices);
        only(&mut topology.spare, &devices);
        only(&mut topology.sites, &sites);
        for (nr, site) in topology.sites.iter_mut().enumerate() {
            only(&mut site.legs, &devices);
            renumber(site, nr);
        }
        topology
    }
}

fn only<T>(all: &mut Vec<T>, left: &[bool]) {
    let mut left = left.iter();
    all.retain(|_| *left.next().expect("one for each"));
}

fn renumber(site: &mut Site, nr: usize) {
    site.link.nr = SlinkNr(u16::try_from(nr).expect("few sites"));
    if let Some(mark) = &mut site.link.options.mark {
        *mark = engine::path(Role::Mark { site: nr });
    }
    for (dev, leg) in site.legs.iter_mut().enumerate() {
        if let Some(DirtyLogTable::Disk { path, .. }) = leg {
            let dev = DevNr(u32::try_from(dev).expect("few devices"));
            *path = engine::path(Role::DirtyLog { dev, site: nr });
        }
    }
}

impl fmt::Display for Less {
    /// The words of a command line, each with a space before it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (part, ranges) in &self.out {
            write!(f, " --without {}", part.name())?;
            if ranges[..] == [ALL] {
                continue;
            }
            for (nr, Range { start, end }) in ranges.iter().enumerate() {
                let between = if nr == 0 { ':' } else { ',' };
                match *end {
                    u64::MAX => write!(f, "{between}{start}..")?,
                    end if end == start + 1 => write!(f, "{between}{start}")?,
                    end => write!(f, "{between}{start}..{end}")?,
                }
            }
        }
        if self.dice == 0 { Ok(()) } else { write!(f, " --dice {}", self.dice) }
    }
}

/// One kind, and which of it: `outages`, `outages:3`, `requests:0..17,20..`.
impl FromStr for Less {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, ranges) = text.split_once(':').map_or((text, None), |(a, b)| (a, Some(b)));
        let part = Part::ALL.into_iter().find(|part| part.name() == name).ok_or_else(|| {
            let names = Part::ALL.map(Part::name).join(", ");
            format!("expected one of {names}, found {name:?}")
        })?;
        let Some(ranges) = ranges else { return Ok(Self::default().and(part, ALL)) };
        let mut less = Self::default();
        for range in ranges.split(',') {
            less = less.and(part, parse_range(range)?);
        }
        Ok(less)
    }
}

fn parse_range(text: &str) -> Result<Range<u64>, String> {
    let number = |text: &str| text.parse::<u64>().map_err(|_| format!("{text:?} is no number"));
    let (start, end) = match text.split_once("..") {
        Some((start, "")) => (number(start)?, u64::MAX),
        Some((start, end)) => (number(start)?, number(end)?),
        None => (number(text)?, number(text)?.saturating_add(1)),
    };
    if start < end { Ok(start..end) } else { Err(format!("nothing is in {text:?}")) }
}

/// Everything that is left out, of several that each leave something out.
impl FromIterator<Self> for Less {
    fn from_iter<I: IntoIterator<Item = Self>>(all: I) -> Self {
        let mut less = Self::default();
        for (part, ranges) in all.into_iter().flat_map(|one| one.out) {
            less = ranges.into_iter().fold(less, |less, range| less.and(part, range));
        }
        less
    }
}

/// Numbers what comes, and says what stays; notes what is seen, if somebody wants to know.
#[derive(Debug, Default)]
pub struct Sieve {
    less: Less,
    met: [Cell<u64>; Part::ALL.len()],
    kept: [Cell<u64>; Part::ALL.len()],
    points: Cell<u64>,
    seen: Option<RefCell<Seen>>,
}

impl Sieve {
    /// One that leaves these out.
    #[must_use]
    pub fn new(less: Less) -> Self {
        Self { less, ..Self::default() }
    }

    /// One that notes what is seen, too.
    #[must_use]
    pub fn seeing(less: Less) -> Self {
        Self { seen: Some(RefCell::default()), ..Self::new(less) }
    }

    /// Whether somebody wants to know what is seen.
    pub(crate) fn sees(&self) -> bool {
        self.seen.is_some()
    }

    /// This was seen; an empty name is nothing.
    pub(crate) fn saw(&self, what: impl FnOnce() -> String) {
        let Some(seen) = &self.seen else { return };
        let what = what();
        if !what.is_empty() {
            *seen.borrow_mut().entry(what).or_default() += 1;
        }
    }

    /// What was seen, and how often.
    #[must_use]
    pub fn seen(&self) -> Seen {
        self.seen.as_ref().map(|seen| seen.borrow().clone()).unwrap_or_default()
    }

    /// What it leaves out.
    #[must_use]
    pub fn less(&self) -> &Less {
        &self.less
    }

    /// Another one comes; whether it stays.
    #[must_use]
    pub fn keeps(&self, part: Part) -> bool {
        let met = &self.met[part as usize];
        let nr = met.replace(met.get() + 1);
        let keeps = !self.less.has(part, nr);
        let kept = &self.kept[part as usize];
        kept.set(kept.get() + u64::from(keeps));
        keeps
    }

    /// How many came.
    #[must_use]
    pub fn met(&self, part: Part) -> u64 {
        self.met[part as usize].get()
    }

    /// How many of them stayed.
    #[must_use]
    pub fn kept(&self, part: Part) -> u64 {
        self.kept[part as usize].get()
    }

    /// A point was passed.
    pub(crate) fn passed(&self) {
        self.points.set(self.points.get() + 1);
    }

    /// Points passed in lives.
    #[must_use]
    pub fn points(&self) -> u64 {
        self.points.get()
    }
}

const ALL: Range<u64> = 0..u64::MAX;

#[cfg(test)]
mod tests {
    use super::*;
    use blk::Sectors;

    #[test]
    fn what_is_left_out_prints_as_the_words_that_leave_it_out() {
        let all = ["outages", "requests:0..17,20", "lives:3..", "bad-sectors:1,4..6"];
        let less: Less = all.iter().map(|text| text.parse::<Less>().unwrap()).collect();
        let printed = less.to_string();
        let words = printed.split(" --without ").skip(1);
        assert_eq!(words.map(|text| text.parse::<Less>().unwrap()).collect::<Less>(), less);
        for (nr, out) in [(0, true), (16, true), (17, false), (20, true), (21, false)] {
            assert_eq!(less.has(Part::Request, nr), out, "{nr}");
        }
        assert!(less.has(Part::Life, 1 << 40) && !less.has(Part::Life, 2));
    }

    #[test]
    fn words_that_leave_nothing_out_are_refused() {
        for text in ["", "outage", "outages:", "outages:3..3", "outages:x", "outages:5..2"] {
            assert!(text.parse::<Less>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_topology_without_a_site_or_a_device_is_one_of_fewer_disks() {
        let mut rng = crate::rng::Rng::new(5);
        for _ in 0..50 {
            let whole = Topology::random(&mut rng);
            let less = Less::default().and(Part::Site, 1..2).and(Part::Device, 1..2);
            let left = less.of_topology(whole.clone());
            let had = (whole.sites.len() > 1, whole.devices.len() > 1);
            assert_eq!(left.sites.len(), whole.sites.len() - usize::from(had.0));
            assert_eq!(left.devices.len(), whole.devices.len() - usize::from(had.1));
            if left.sites.iter().skip(1).all(|site| site.legs.iter().any(Option::is_some)) {
                let host = crate::world::Host::new(&left);
                drop(engine::open(&left, &host));
            }
        }
        let plain = Topology::plain(&[Sectors(16)], &[false], 512);
        assert_eq!(Less::default().of_topology(plain.clone()), plain);
    }

    #[test]
    fn a_sieve_numbers_each_kind_for_itself() {
        let sieve = Sieve::new("outages:1".parse().unwrap());
        assert!(sieve.keeps(Part::Outage) && sieve.keeps(Part::Fault));
        assert!(!sieve.keeps(Part::Outage) && sieve.keeps(Part::Fault));
        assert!(sieve.keeps(Part::Outage));
        assert_eq!((sieve.met(Part::Outage), sieve.kept(Part::Outage)), (3, 2));
    }
}
