//! What is seen of a world by who asks what lives have come through: the ways of its sites from
//! state to state, how its log fared, what it was told, and at what it was cut.

use std::collections::BTreeMap;

use blk::{DiskId, Effect};
use slink::State;
use slink::states::{Fed, Standing};

use super::back::{OpKind, kind};
use super::clock::Due;
use super::weather::Trouble;
use super::{Cut, Loss, Stage, Subject, World};
use crate::coverage::{self, Told};
use crate::disk::Keep;
use crate::oracle::View;
use crate::topology::Role;

/// What was last seen.
#[derive(Default)]
pub(super) struct Watcher {
    /// What the machine has told, as far as it still does.
    told: Vec<Told>,
    /// Where its sites are.
    stands: BTreeMap<usize, Standing>,
    /// What the last point was.
    last: String,
}

impl<M: Subject> World<'_, M> {
    /// After a look at the sites, which were like `before`.
    pub(super) fn watch_sites(&mut self, before: &[View]) {
        if !self.sieve.sees() {
            return;
        }
        let plain = |view: &View| (view.state, view.consistent, view.in_force, view.detached);
        let same = before.iter().map(plain).eq(self.views.iter().map(plain));
        if !same {
            self.catch_up();
        }
    }

    /// Hears what has happened since.
    fn catch_up(&mut self) {
        let now = self.machine.told(self.clock.now);
        let before = std::mem::replace(&mut self.watcher.told, now);
        let now = &self.watcher.told;
        // It forgets the oldest: what it tells begins somewhere in what it told before.
        let known = (0..=before.len()).find(|&gone| now.starts_with(&before[gone..]));
        let known = known.map_or(0, |gone| before.len() - gone);
        let news = now[known..].to_vec();
        for told in news.iter().filter(|told| told.site.is_none()) {
            self.sieve.saw(|| coverage::of_log(&told.what));
        }
        for site in 0..self.views.len() {
            let here = news.iter().filter(|told| told.site == Some(site));
            self.site_went(site, here.map(|told| told.what.as_str()).collect());
        }
    }

    fn site_went(&mut self, site: usize, told: Vec<&str>) {
        let now = at_least(self.views[site]);
        let before = self.watcher.stands.get(&site).copied();
        let ways = coverage::ways(before, &told, now);
        let whose = if site == 0 { "local" } else { "remote" };
        for (name, from) in ways.iter() {
            self.sieve.saw(|| coverage::way(name, *from));
            self.sieve.saw(|| format!("{whose} site: {name}"));
        }
        for what in told {
            self.sieve.saw(|| coverage::reason(what));
        }
        let end = ways.end();
        self.watcher.stands.insert(site, Standing { in_force: now.in_force, ..end });
    }

    /// How the machine is without its log, and was.
    pub(super) fn watch_log(&self, before: Loss) {
        if before != self.loss {
            self.sieve.saw(|| format!("log: from {before:?} to {:?}", self.loss));
        }
    }

    /// The next point is this.
    pub(super) fn watch(&mut self, what: impl FnOnce(&Self) -> String) {
        if self.sieve.sees() {
            self.watcher.last = what(self);
        }
    }

    /// An effect, in a few words.
    pub(super) fn what(&self, effect: &Effect) -> String {
        let role = |disk: &DiskId| self.host.disks.role(*disk).map_or("no disk", word);
        match effect {
            Effect::Submit { disk, op, .. } => {
                format!("a {} of {} is submitted", verb(kind(op)), role(disk))
            }
            Effect::Open { disk } => format!("{} is to be opened", role(disk)),
            Effect::Close { disk } => format!("{} is closed", role(disk)),
            Effect::Complete { result: Ok(()), .. } => "a request has ended".to_owned(),
            Effect::Complete { result: Err(_), .. } => "a request has failed".to_owned(),
            Effect::Fetch { .. } => "data is fetched".to_owned(),
            Effect::Deliver { .. } => "data is delivered".to_owned(),
            Effect::Keep { .. } => "something is to be kept on the host".to_owned(),
        }
    }

    /// It is cut now.
    pub fn watch_cut(&mut self, cut: Cut) {
        if !self.sieve.sees() {
            return;
        }
        self.catch_up();
        let (how, plain) = match cut {
            Cut::Kill => ("kill".to_owned(), "kill"),
            Cut::Power(keep) => (format!("power cut, {}", keeps(keep)), "power cut"),
            Cut::PowerEverywhere(keep) => {
                (format!("power cut everywhere, {}", keeps(keep)), "power cut")
            }
        };
        self.sieve.saw(|| format!("cut: {how}"));
        for condition in self.conditions() {
            self.sieve.saw(|| format!("cut: {plain} {condition}"));
        }
        self.sieve.saw(|| format!("cut: {plain} after: {}", self.watcher.last));
    }

    /// How everything is, as far as it matters to who has to go on from there.
    fn conditions(&self) -> Vec<&'static str> {
        let stage = match self.machine.stage() {
            Stage::Opening => "while it opens",
            Stage::Running => "while it works",
            Stage::Stopped | Stage::Failed(_) => "at its end",
        };
        let log = match self.loss {
            Loss::None => None,
            Loss::Held => Some("while everything waits for a lost log"),
            Loss::TakingOver => Some("while local disks take over from a log"),
            Loss::Bypassed => Some("without a log"),
        };
        let any = |is: fn(&View) -> bool, what| self.views.iter().any(is).then_some(what);
        let sites = [
            any(|view| view.state == State::Resyncing, "while a site is copied to"),
            any(|view| view.state == State::Down, "while a site is down"),
            any(|view| view.detached, "while a site is detached"),
            any(|view| view.demoted, "while a site is demoted"),
        ];
        let keeps = self.keeping.as_ref().map(|_| "while something is kept on the host");
        [Some(stage), log, keeps].into_iter().chain(sites).flatten().collect()
    }
}

/// Where a site is, as far as it is seen: one that is down may be fed from anywhere.
fn at_least(view: View) -> Standing {
    Standing {
        fed: if view.detached { Fed::Detached } else { Fed::Streaming },
        up: view.state != State::Down,
        consistent: view.consistent,
        in_force: view.in_force,
    }
}

fn keeps(keep: Keep) -> &'static str {
    match keep {
        Keep::None => "nothing is kept",
        Keep::All => "everything is kept",
        Keep::Any { .. } => "anything is kept",
    }
}

/// What a disk is there for, in a word or two.
pub(crate) fn word(role: Role) -> &'static str {
    match role {
        Role::Log => "the log",
        Role::NewLog => "another log",
        Role::Leg { site: 0, .. } => "a local disk",
        Role::Leg { .. } => "a remote disk",
        Role::DirtyLog { .. } => "a dirty log",
        Role::Mark { .. } => "a mark",
    }
}

impl Due {
    /// What happens, in a few words.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Io(_) => "an operation has ended",
            Self::Opened(_) => "a disk is open, or not",
            Self::Zombies(_) => "what a dead process left has landed",
            Self::Move => "somebody has thought of moving the log",
            Self::Named => "the table names another log",
            Self::Arrival => "a request has come, or not",
            Self::Outage(_) => "an outage has begun",
            Self::Kept => "something is kept on the host, or not",
            Self::Resync(..) => "a site is to be copied anew",
            Self::Verify(_) => "a site is to be compared",
            Self::Message => "somebody said something",
            Self::Resize => "the log is to have another size",
            Self::Grow => "a device is to grow",
        }
    }
}

pub(super) fn verb(kind: OpKind) -> &'static str {
    match kind {
        OpKind::Read => "read",
        OpKind::Write => "write",
        OpKind::Flush => "flush",
    }
}

/// What is wrong, in a word or two.
pub(crate) fn ails(trouble: Trouble) -> &'static str {
    match trouble {
        Trouble::Fails => "fails",
        Trouble::Hangs => "hangs",
        Trouble::Absent => "is absent",
        Trouble::Slow(_) => "is slow",
        Trouble::PowerLost(_) => "loses its power",
        Trouble::MediaLost => "is replaced",
    }
}
