//! What people say to a machine at work: other words for a site, sites and legs that come and
//! go, an outage by hand, a bookmark.

use blk::Span;

use super::clock::Due;
use super::{Stage, Subject, World};
use crate::less::Part;
use crate::rng::Rng;
use crate::topology::{Site, Topology};

impl<M: Subject> World<'_, M> {
    /// Now and then, somebody says something; `rng` decides what, and `at_home` what of the local
    /// site, if anything is said of that.
    #[must_use]
    pub fn told(mut self, rng: Option<Rng>, at_home: Option<Rng>) -> Self {
        self.at_home = at_home;
        if let Some(mut rng) = rng {
            let after = pause(&mut rng);
            self.clock.plan(after, Due::Message);
            self.teller = Some(rng);
        }
        self
    }

    /// Somebody says something; not after everything was healed, which would not last.
    pub(super) fn message(&mut self) {
        let Some(mut rng) = self.teller.take() else { return };
        let speaks = self.serving && !self.healed && self.machine.stage() == Stage::Running;
        if speaks && self.sieve.keeps(Part::Message) {
            self.met.messages += 1;
            self.say(&mut rng);
            self.say_at_home();
        }
        if !self.healed {
            let after = pause(&mut rng);
            self.clock.plan(after, Due::Message);
        }
        self.teller = Some(rng);
    }

    fn say(&mut self, rng: &mut Rng) {
        let sites = self.host.topology.sites.len() as u64;
        if sites == 1 || rng.chance(15) {
            let words = *rng.pick(&["drain", "bookmark here", "statistics on"]);
            return self.tell_machine(words);
        }
        let site = usize::try_from(rng.range(1, sites - 1)).expect("few sites");
        let named = self.host.topology.sites[site].named;
        match rng.below(14) {
            0..=3 => self.reshape(site, rng),
            4..=9 if named => self.reword(site, rng),
            10 | 11 if named => {
                self.held.insert(site);
                self.say_of(site, "down");
            }
            _ if named => {
                self.held.remove(&site);
                self.say_of(site, "up");
            }
            _ => {}
        }
    }

    /// The table says something else of what is local.
    fn say_at_home(&mut self) {
        if let Some(rng) = &mut self.at_home
            && rng.chance(50)
        {
            let topology = self.host.topology.rehomed(rng);
            self.go_on_with(0, topology);
        }
    }

    /// A site goes, or a leg of it; or all of it comes back.
    fn reshape(&mut self, site: usize, rng: &mut Rng) {
        // Nobody would remember that what is left out was replaced.
        let has_replaced = self.host.has_replaced(site);
        // A driver gives numbers that are new; here they are the disks'.
        if has_replaced || self.handles.any_opening() {
            return;
        }
        let mut topology = (*self.host.topology).clone();
        let now = &mut topology.sites[site];
        let before = now.clone();
        let comes = self.whole.remove(&site);
        if let Some(whole) = comes.clone() {
            *now = whole;
        } else if now.named && rng.chance(50) {
            now.named = false;
            now.legs.iter_mut().for_each(|leg| *leg = None);
        } else if now.named {
            let dev = rng.index(now.legs.len());
            now.legs[dev] = None;
        }
        let (went, goes) = (!before.named, !now.named);
        match (self.go_on_with(site, topology), comes) {
            // What is to come has not gone yet.
            (false, Some(whole)) => drop(self.whole.insert(site, whole)),
            (true, None) if !went => {
                self.whole.insert(site, before);
                if goes {
                    self.held.remove(&site);
                }
            }
            // What is to go is the last copy; or all is as it was.
            (false | true, _) => {}
        }
    }

    /// Whoever was taken down may be up again.
    pub(super) fn release_all(&mut self) {
        for site in std::mem::take(&mut self.held) {
            if self.host.topology.sites[site].named {
                self.say_of(site, "up");
            }
        }
    }

    /// The table says something else of a site, but not in what order it is fed.
    fn reword(&mut self, site: usize, rng: &mut Rng) {
        let mut topology = (*self.host.topology).clone();
        let mut link = topology.retabled(rng).sites.swap_remove(site).link;
        link.options.mark = topology.sites[site].link.options.mark.take();
        topology.sites[site].link = link;
        self.go_on_with(site, topology);
    }

    /// Another table, if the machine takes it.
    fn go_on_with(&mut self, site: usize, topology: Topology) -> bool {
        if !self.host.keeps_a_copy(&topology) {
            return false;
        }
        self.tell(|| format!("     site {site}: {:?}", topology.sites[site]));
        let takes = self.machine.reload(self.clock.now, &topology);
        let (before, after) = (&self.host.topology.sites[site], &topology.sites[site]);
        self.sieve.saw(|| change(before, after, takes));
        if !takes {
            return false;
        }
        // One that becomes `sync`, or comes, is given up at first, whatever its table says.
        self.host.oracle.asked_to_resync(site);
        self.host.retable(topology);
        true
    }

    fn say_of(&mut self, site: usize, verb: &str) {
        let nr = self.host.topology.sites[site].link.nr;
        self.tell_machine(&format!("{verb} {nr}"));
    }

    pub(super) fn tell_machine(&mut self, words: &str) {
        if self.machine.stage() == Stage::Running {
            self.tell(|| format!("     message: {words}"));
            self.sieve.saw(|| {
                let verb = words.split(|letter: char| letter.is_ascii_digit()).next();
                format!("message: {}", verb.unwrap_or_default().trim())
            });
            self.machine.message(self.clock.now, words);
        }
    }
}

/// What another table says of a site, and whether the machine takes it.
fn change(before: &Site, after: &Site, takes: bool) -> String {
    let legs = |site: &Site| site.legs.iter().flatten().count();
    let what = match (before.named, after.named) {
        (false, true) => "a site comes",
        (true, false) => "a site goes",
        _ if legs(before) < legs(after) => "a leg comes",
        _ if legs(before) > legs(after) => "a leg goes",
        _ if before.link.nr.is_local() => "other words for the local site",
        _ => "other words",
    };
    format!("table: {what}{}", if takes { "" } else { ", refused" })
}

fn pause(rng: &mut Rng) -> Span {
    let most = *rng.pick(&[1_000, 20_000, 500_000]);
    Span::from_micros(rng.range(1, most))
}
