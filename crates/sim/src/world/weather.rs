//! What befalls the sites, in virtual time: outages that begin and end.
//!
//! Times are the host's, which go on when a machine dies: an outage outlives it.

use blk::{Span, Time};

use super::watching::{ails, word};
use crate::disk::Keep;
use crate::less::{Part, Sieve};
use crate::rng::Rng;
use crate::topology::{Role, Topology};

/// A stretch of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outage {
    /// Whom it befalls.
    pub whom: Whom,
    /// From when.
    pub from: Time,
    /// Until when; [`FOR_EVER`] is until it is healed.
    pub until: Time,
    /// What is wrong.
    pub trouble: Trouble,
}

/// Whom an outage befalls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    /// All disks at a site.
    Site(usize),
    /// One disk.
    Disk(Role),
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Every operation ends with an error.
    Fails,
    /// No operation ends before it is over.
    Hangs,
    /// It is not there: what was open fails for ever, and opening it fails.
    Absent,
    /// Everything takes so many times as long.
    Slow(u32),
    /// Its power fails: the cache is lost but for this, then it is absent.
    PowerLost(Keep),
    /// It is replaced by an empty disk that is somebody else, after being absent.
    MediaLost,
}

/// Everything that befalls the disks of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    outages: Vec<Outage>,
}

impl Weather {
    /// These outages.
    #[must_use]
    pub fn new(outages: Vec<Outage>) -> Self {
        Self { outages }
    }

    /// A few at random, from `now` on; `mild`: no media are lost.
    #[must_use]
    pub fn random(topology: &Topology, now: Time, rng: &mut Rng) -> Self {
        let disks = topology.roles().into_iter().filter(|role| !role.is_log());
        let disks: Vec<Role> = disks.collect();
        if disks.is_empty() || rng.chance(20) {
            return Self::default();
        }
        let within = *rng.pick(&[Span::from_millis(20), Span::from_millis(500), LONG]);
        let count = *rng.pick(&[1, 1, 2, 3, 6]);
        let mut outages = Vec::new();
        for _ in 0..count {
            outages.extend(one(topology, &disks, now, within, rng));
        }
        Self { outages }
    }

    /// What else is to come.
    pub fn add(&mut self, more: Self) {
        self.outages.extend(more.outages);
    }

    /// Those that are not left out; they are of that kind.
    #[must_use]
    pub fn sifted(mut self, sieve: &Sieve, part: Part) -> Self {
        self.outages.retain(|_| sieve.keeps(part));
        for outage in &self.outages {
            sieve.saw(|| {
                let whom = match outage.whom {
                    Whom::Site(0) => "the local site",
                    Whom::Site(_) => "a remote site",
                    Whom::Disk(role) => word(role),
                };
                format!("outage: {whom} {}", ails(outage.trouble))
            });
        }
        self
    }

    /// What is over by `now` is forgotten.
    pub fn forget_what_is_over(&mut self, now: Time) {
        self.outages.retain(|outage| outage.until > now);
    }

    /// Everything is well, for ever.
    pub fn clear(&mut self) {
        self.outages.clear();
    }

    /// Whether anything befalls a site now, or will.
    #[must_use]
    pub fn is_fair(&self) -> bool {
        self.outages.is_empty()
    }

    /// Whether anything befalls a site, now or later.
    #[must_use]
    pub fn befalls(&self, site: usize) -> bool {
        self.outages.iter().any(|outage| outage.whom.is_at(site))
    }

    /// Whether a site is, or will be, slow.
    #[must_use]
    pub fn slows(&self, site: usize) -> bool {
        let slow = |outage: &Outage| matches!(outage.trouble, Trouble::Slow(_));
        self.outages.iter().any(|outage| slow(outage) && outage.whom.is_at(site))
    }

    /// Nothing befalls a site any more.
    pub fn spare(&mut self, site: usize) {
        self.outages.retain(|outage| !outage.whom.is_at(site));
    }

    /// Nothing befalls a disk any more.
    pub fn spare_disk(&mut self, role: Role) {
        self.outages.retain(|outage| outage.whom != Whom::Disk(role));
    }

    /// Whether anything befalls the log, now or later.
    #[must_use]
    pub fn befalls_log(&self) -> bool {
        self.outages.iter().any(|outage| outage.whom == Whom::Disk(Role::Log))
    }

    /// The log is lost, some time from now on, and may come back or not.
    #[must_use]
    pub fn log_loss(now: Time, rng: &mut Rng) -> Self {
        let trouble = *rng.pick(&[Trouble::Fails, Trouble::Hangs, Trouble::Absent]);
        let within = *rng.pick(&[Span::from_millis(20), Span::from_millis(500), LONG]);
        let long = *rng.pick(&[Span::from_millis(50), LONG, LONG * 3]);
        let from = now + up_to(within, rng);
        let until = if rng.chance(50) { FOR_EVER } else { from + up_to(long, rng) };
        Self { outages: vec![Outage { whom: Whom::Disk(Role::Log), from, until, trouble }] }
    }

    /// The outages, each under its number.
    pub(super) fn all(&self) -> impl Iterator<Item = (usize, &Outage)> {
        self.outages.iter().enumerate()
    }

    pub(super) fn get(&self, nr: usize) -> Option<&Outage> {
        self.outages.get(nr)
    }

    /// Until when operations on a disk hang, if they do.
    #[must_use]
    pub fn hangs(&self, role: Role, now: Time) -> Option<Time> {
        let hangs = self.now(role, now).filter(|outage| outage.trouble == Trouble::Hangs);
        hangs.map(|outage| outage.until).max()
    }

    /// Whether operations on a disk fail.
    #[must_use]
    pub fn fails(&self, role: Role, now: Time) -> bool {
        self.now(role, now).any(|outage| outage.trouble == Trouble::Fails)
    }

    /// Whether a disk is not there.
    #[must_use]
    pub fn is_absent(&self, role: Role, now: Time) -> bool {
        self.now(role, now).any(|outage| outage.trouble.takes_away())
    }

    /// How many times as long an operation takes.
    #[must_use]
    pub fn slowness(&self, role: Role, now: Time) -> u32 {
        let slow = self.now(role, now).filter_map(|outage| match outage.trouble {
            Trouble::Slow(times) => Some(times),
            _ => None,
        });
        slow.max().unwrap_or(1)
    }

    fn now(&self, role: Role, now: Time) -> impl Iterator<Item = &Outage> {
        let here = move |outage: &&Outage| outage.whom.is(role);
        let now = move |outage: &&Outage| outage.from <= now && now < outage.until;
        self.outages.iter().filter(here).filter(now)
    }
}

impl Whom {
    /// Whether a disk is meant. The dirty log of a site's leg is a local disk.
    #[must_use]
    pub fn is(self, role: Role) -> bool {
        match self {
            Self::Site(whom) => role.site() == Some(whom),
            Self::Disk(whom) => role == whom,
        }
    }
}

impl Whom {
    fn is_at(self, site: usize) -> bool {
        match self {
            Self::Site(whom) => whom == site,
            Self::Disk(role) => role.site() == Some(site),
        }
    }
}

impl Trouble {
    /// Whether what was open is gone for good.
    #[must_use]
    pub fn takes_away(self) -> bool {
        matches!(self, Self::Absent | Self::PowerLost(_) | Self::MediaLost)
    }
}

/// One outage, or a disk that flaps.
fn one(topology: &Topology, disks: &[Role], now: Time, within: Span, rng: &mut Rng) -> Vec<Outage> {
    let role = *rng.pick(disks);
    let whom = match role.site() {
        Some(site) if rng.chance(50) => Whom::Site(site),
        _ => Whom::Disk(role),
    };
    let from = now + up_to(within, rng);
    let trouble = trouble(role, topology, rng);
    if rng.chance(15) && !matches!(trouble, Trouble::MediaLost | Trouble::PowerLost(_)) {
        return flapping(whom, from, trouble, rng);
    }
    let long = *rng.pick(&[
        Span::from_millis(1),
        Span::from_millis(50),
        Span::from_millis(300),
        Span::from_secs(3),
        LONG,
    ]);
    // What is there from the start is absent at the start.
    let from = if rng.chance(15) { now } else { from };
    let until = if rng.chance(20) { FOR_EVER } else { from + up_to(long, rng) };
    vec![Outage { whom, from, until, trouble }]
}

fn trouble(role: Role, topology: &Topology, rng: &mut Rng) -> Trouble {
    let keep = *rng.pick(&[Keep::None, Keep::All, Keep::Any { torn: false }]);
    let local = role.site().is_none();
    match rng.below(14) {
        0..=2 => Trouble::Fails,
        3..=7 => Trouble::Hangs,
        8 | 9 => Trouble::Absent,
        10 | 11 => Trouble::Slow(*rng.pick(&[3, 30, 300])),
        12 if !local => Trouble::PowerLost(keep),
        // What a table calls equal must not be lost before it was ever looked at.
        _ if !local && topology.sites.len() > 1 => Trouble::MediaLost,
        _ => Trouble::Fails,
    }
}

fn flapping(whom: Whom, from: Time, trouble: Trouble, rng: &mut Rng) -> Vec<Outage> {
    let mut at = from;
    let mut outages = Vec::new();
    for _ in 0..rng.range(2, 8) {
        let until = at + up_to(Span::from_millis(200), rng);
        outages.push(Outage { whom, from: at, until, trouble });
        at = until + up_to(Span::from_millis(1000), rng);
    }
    outages
}

fn up_to(most: Span, rng: &mut Rng) -> Span {
    Span::from_micros(rng.range(1, u64::try_from(most.as_micros()).expect("some seconds")))
}

/// The end of what does not end by itself.
pub const FOR_EVER: Time = Time(u64::MAX);
const LONG: Span = Span::from_secs(20);
