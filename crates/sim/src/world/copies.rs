//! Which sites truly have everything, whatever the machine knows of it: the world takes the
//! last such copy from nobody, and measures by it what a machine may be asked for (P6, P7).

use std::ops::Range;

use blk::{DevNr, DiskId, Time};

use super::crash::Host;
use super::{Subject, World};
use crate::oracle::{View, Violation};
use crate::rng::Rng;
use crate::topology::{Role, Topology};

/// What a site's copy of the devices is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Truth {
    /// It has everything that the log does not hold.
    Whole,
    /// The same, but whoever opened the log now would not know it.
    Unrecorded,
    /// It lacks something, and the machine knows that.
    Partial,
    /// One of its disks is another, and the machine may not know it yet.
    Hollow,
}

impl Truth {
    fn after(self, view: &View) -> Self {
        match (self, view.detached, view.found_detached) {
            (Self::Hollow, false, _) => Self::Hollow,
            (_, true, _) => Self::Partial,
            (_, false, true) => Self::Unrecorded,
            (_, false, false) => Self::Whole,
        }
    }
}

impl Host {
    /// Whether some other site than this truly has everything.
    pub(super) fn is_kept_beside(&self, site: usize) -> bool {
        let whole = |(other, truth): (usize, &Truth)| {
            other != site
                && *truth == Truth::Whole
                && self.topology.is_complete(other)
                && !self.has_bad_sectors(other)
        };
        self.truths.iter().enumerate().any(whole)
    }

    /// Whether a table names a site that truly has everything: who opens the log by any other
    /// is turned away (P6). Nobody takes the last one out of a table, as far as he knows.
    pub(super) fn keeps_a_copy(&self, table: &Topology) -> bool {
        let mut truths = self.truths.iter().enumerate();
        truths.any(|(site, truth)| *truth == Truth::Whole && table.is_complete(site))
    }

    /// Nobody says how a site is that the table does not name whole; and back in a table it may
    /// lack what it was not fed.
    pub(super) fn doubt_who_is_left_out(&mut self) {
        for (site, truth) in self.truths.iter_mut().enumerate() {
            if !self.topology.is_complete(site) {
                *truth = Truth::Partial;
            }
        }
    }

    pub(super) fn has_bad_sectors(&self, site: usize) -> bool {
        self.bad.iter().any(|(disk, _)| self.is_at(*disk, site))
    }

    /// Whether one of its disks is another that no machine was told to take; or was, and died
    /// before it wrote there or to its log.
    fn has_stranger(&self, site: usize) -> bool {
        self.strangers.iter().chain(&self.unused).any(|disk| self.is_at(*disk, site))
    }

    fn is_at(&self, disk: DiskId, site: usize) -> bool {
        self.disks.role(disk).is_ok_and(|role| role.site() == Some(site))
    }

    /// A few blocks of one leg can't be read from now on, if another site has them.
    pub fn spoil_sectors(&mut self, rng: &mut Rng) {
        let site = *rng.pick(&[0, 0, 0, self.topology.sites.len() - 1]);
        let dev = *rng.pick(&self.topology.layout().devices().collect::<Vec<_>>());
        if !self.bad.is_empty() || !self.is_kept_beside(site) || self.has_replaced(site) {
            return;
        }
        let (disk, block) = (self.topology.disk(Role::Leg { dev, site }), self.topology.block().0);
        self.oracle.spoiled(site);
        let size = self.topology.length(dev).0;
        for _ in 0..rng.range(1, 4) {
            let first = rng.below(size / block) * block;
            self.bad.extend((first..first + block).map(|sector| (disk, sector)));
        }
        if site != 0 && self.bad.len() as u64 == size {
            // A remote disk of which nothing can be read is one that fails: that is weather.
            self.bad.retain(|(_, sector)| *sector >= block);
        }
    }

    /// Whether a read meets a sector that can't be read.
    pub(super) fn is_bad(&self, disk: DiskId, sectors: Range<u64>) -> bool {
        self.bad.range((disk, sectors.start)..(disk, sectors.end)).next().is_some()
    }

    pub(super) fn is_written_again(&mut self, dev: DevNr, site: usize, row: &Range<u64>) {
        if !self.bad.is_empty() {
            let disk = self.topology.disk(Role::Leg { dev, site });
            self.bad.retain(|(bad, at)| *bad != disk || !row.contains(at));
        }
    }

    /// Whether anything is, or may be, wrong with the local site.
    pub(super) fn is_local_in_trouble(&self) -> bool {
        self.truths[0] != Truth::Whole || self.weather.befalls(0) || !self.bad.is_empty()
    }

    /// Whether every local disk can be opened: not one that a dead machine still writes to.
    pub(super) fn sees_local_disks(&self) -> bool {
        let mut devices = self.topology.layout().devices();
        devices.all(|dev| self.seen(self.topology.disk(Role::Leg { dev, site: 0 })).is_ok())
    }

    /// So that whatever a machine brings back can be read.
    pub fn let_it_be_read(&mut self) {
        self.bad.clear();
        if self.truths[0] == Truth::Whole {
            self.weather.spare(0);
        } else {
            self.weather.clear();
        }
        self.make_startable();
    }

    /// So that a machine can start at all: of each device some disk is there, and the local
    /// ones are there as they were where no other site has everything.
    pub fn make_startable(&mut self) {
        self.give_log_back();
        let topology = self.topology.clone();
        let leg = |dev, site| topology.disk(Role::Leg { dev, site });
        if self.sees_local_disks() {
            return;
        }
        let sites = 1..topology.sites.len();
        let is_seen =
            |site: usize| topology.layout().devices().all(|d| self.seen(leg(d, site)).is_ok());
        let is_whole =
            |site: usize| self.truths[site] == Truth::Whole && topology.is_complete(site);
        let served = sites.clone().any(|site| is_whole(site) && is_seen(site));
        if served && !self.recovered().is_empty() {
            return;
        }
        self.weather.spare(0);
        let busy: Vec<DiskId> = topology.layout().devices().map(|dev| leg(dev, 0)).collect();
        busy.into_iter().for_each(|disk| self.disks.land(disk));
    }
}

impl<M: Subject> World<'_, M> {
    /// What the machine says tells what is true of sites, but for what it can't know.
    pub(super) fn look_at_copies(&mut self) -> Result<(), Violation> {
        if self.views.is_empty() {
            return Ok(());
        }
        let local = self.host.truths[0];
        let strange: Vec<bool> =
            (0..self.views.len()).map(|site| self.host.has_stranger(site)).collect();
        for (site, (truth, view)) in self.host.truths.iter_mut().zip(&self.views).enumerate() {
            // Who lacks a device, or all of them, has nothing that others could do with.
            let is_complete = self.host.topology.is_complete(site);
            *truth = match is_complete {
                // That it is to be copied may have been said, and forgotten in a crash.
                true if strange[site] && !view.detached => Truth::Hollow,
                true => truth.after(view),
                false => Truth::Partial,
            };
        }
        let lost = local != Truth::Partial && self.host.truths[0] == Truth::Partial;
        self.met.lost_local += u64::from(lost);
        self.local_trouble |= self.host.is_local_in_trouble();
        let sound = (1..self.views.len()).any(|site| self.is_sound(site));
        self.sound_since = sound.then(|| self.sound_since.unwrap_or(self.clock.now));
        // It gave one up for another that was just taken from it.
        if self.host.truths.iter().all(|it| matches!(it, Truth::Partial | Truth::Hollow)) {
            self.tell(|| format!("nothing is left: {:?}, {:?}", self.host.truths, self.views));
            return Err(Violation::NothingLeft);
        }
        Ok(())
    }

    /// Whether a remote site has everything, can be read, and nothing will befall it.
    fn is_sound(&self, site: usize) -> bool {
        let View { state, consistent, .. } = self.views[site];
        let well = state == slink::State::Streaming && consistent;
        let whole = self.host.truths[site] == Truth::Whole && !self.host.has_bad_sectors(site);
        well && whole && !self.host.weather.befalls(site)
    }
}

/// Nothing was said yet.
pub(super) fn unknown(topology: &Topology) -> Vec<Truth> {
    let mut truths = vec![Truth::Partial; topology.sites.len()];
    truths[0] = Truth::Whole;
    truths
}

/// When a remote site was first seen sound.
pub(super) type SoundSince = Option<Time>;
