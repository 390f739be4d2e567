//! Somebody has sites compared now and then: nothing may be found that is not there. And
//! sectors of a site that lose what was written to them: these are to be found.

use blk::{SlinkNr, Span};

use super::clock::{self, Due};
use super::{Halt, Stage, Subject, World};
use crate::less::Part;
use crate::oracle::Violation;
use crate::payload::Content;
use crate::rng::Rng;
use crate::topology::Role;

/// Who asks for comparisons, and how often he still does.
pub(super) struct Auditor {
    rng: Rng,
    left: u32,
    /// Something has rotted: there is something to be found.
    rotten: bool,
}

impl<M: Subject> World<'_, M> {
    /// Has sites compared a few times, at random, if there is somebody who rolls the dice.
    #[must_use]
    pub fn verified_by(mut self, rng: Option<Rng>) -> Self {
        self.auditor = rng.map(|rng| Auditor { rng, left: AUDITS, rotten: false });
        self
    }

    /// Plans the next comparison.
    pub(super) fn plan_verify(&mut self) {
        let sites = self.host.topology.sites.len();
        let Some(auditor) = self.auditor.as_mut().filter(|it| it.left > 0 && sites > 1) else {
            return;
        };
        auditor.left -= 1;
        let site = 1 + auditor.rng.index(sites - 1);
        let after = clock::moment(&mut auditor.rng) * *auditor.rng.pick(&[1, 10, 200]);
        self.clock.plan(after, Due::Verify(site));
    }

    pub(super) fn audit_site(&mut self, site: usize) {
        let Some(auditor) = &mut self.auditor else { return };
        let repair = auditor.rng.chance(50);
        if self.machine.stage() == Stage::Running && self.sieve.keeps(Part::Comparison) {
            self.machine.verify(self.clock.now, site, repair);
            self.met.verified += 1;
            if repair && self.host.has_bad_sectors(site) {
                // Whatever its table says: these are written anew, as what differs is.
                self.host.oracle.asked_to_resync(site);
            }
        }
        self.plan_verify();
    }

    /// Has a site compared now, for a while.
    ///
    /// # Errors
    /// The promise that was seen broken.
    pub fn verify(&mut self, site: usize, repair: bool, time: Span) -> Result<Halt, Violation> {
        self.machine.verify(self.clock.now, site, repair);
        match self.pump()? {
            Halt::Done => self.idle(time),
            Halt::Cut => Ok(Halt::Cut),
        }
    }

    /// In how many ranges a site is said to differ.
    pub fn differing(&self, site: usize) -> u64 {
        let all = self.machine.differing(self.clock.now);
        all.into_iter().find(|(of, _)| *of == site).map_or(0, |(_, ranges)| ranges)
    }

    /// Nothing differs that did not rot.
    pub(super) fn check_alarms(&self) -> Result<(), Violation> {
        if self.auditor.as_ref().is_none_or(|auditor| auditor.rotten) {
            return Ok(());
        }
        let alarm =
            self.machine.differing(self.clock.now).into_iter().find(|(_, ranges)| *ranges > 0);
        let Some((site, ranges)) = alarm else { return Ok(()) };
        let site = SlinkNr(u16::try_from(site).expect("few sites"));
        Err(Violation::FalseAlarm { site, ranges })
    }

    /// Some sectors of a site forget what was written to them; how many.
    pub fn rot(&mut self, site: usize, most: usize, rng: &mut Rng) -> usize {
        let layout = self.host.topology.layout();
        let written = |at: &usize| {
            let place = layout.place(*at);
            let held = self.host.disks.leg(place.dev, site).durable(place.sector.0);
            held != Content::ZEROES
        };
        let mut left: Vec<usize> =
            layout.devices().flat_map(|dev| layout.device(dev)).filter(written).collect();
        let count = left.len().min(most);
        for _ in 0..count {
            let place = layout.place(left.swap_remove(rng.index(left.len())));
            self.host.disks.damage_leg(place.dev, site, place.sector.0, Content::ZEROES);
            // As good as another disk, for whoever has to believe what is there.
            self.host.oracle.replaced(site, place.dev);
            self.host.unused.insert(self.host.topology.disk(Role::Leg { dev: place.dev, site }));
        }
        self.host.oracle.asked_to_resync(site);
        if let Some(auditor) = &mut self.auditor {
            auditor.rotten = true;
        }
        count
    }
}

/// In one life.
const AUDITS: u32 = 4;
