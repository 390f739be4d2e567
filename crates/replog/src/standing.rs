//! What the log remembers of its sites and legs: how each stands, durably.
//!
//! A change counts only when both superblock slots say it: the older slot stands in for
//! the newer one should that rot, and must not bring back a site that was well. A
//! *version* numbers the changes, so that whoever made one can wait for it.

use blk::{DevNr, SlinkNr};

use crate::format::superblock::{LegRecord, SiteRecord, Superblock};
use crate::geometry::SLOTS;
use crate::log::Replog;
use crate::roster::Members;

/// The members as the next checkpoint will name them, and what the slots say already.
#[derive(Debug)]
pub(crate) struct Standing {
    wanted: Members,
    version: Version,
    /// The version in each slot, by `generation mod 2`.
    slots: [Version; SLOTS as usize],
    /// The version in the superblock in flight.
    launched: Version,
    session: u64,
}

/// A number of changes: what [`Replog::standing`] returns, to be waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(u64);

impl Standing {
    /// As the superblock says that was written last; the other slot is older.
    pub(crate) fn of(superblock: &Superblock) -> Self {
        let mut slots = [Version(0); SLOTS as usize];
        slots[slot(superblock.generation)] = Version(1);
        let sessions = superblock.sites.iter().filter_map(|site| site.detached);
        Self {
            wanted: Members {
                sites: superblock.sites.clone(),
                devices: superblock.devices.clone(),
                legs: superblock.legs.clone(),
            },
            version: Version(1),
            slots,
            launched: Version(1),
            session: sessions.max().unwrap_or_default().max(superblock.generation),
        }
    }

    pub(crate) fn wanted(&self) -> &Members {
        &self.wanted
    }

    /// Changes who belongs to the log.
    pub(crate) fn change(&mut self, change: impl FnOnce(&mut Members)) {
        change(&mut self.wanted);
        self.version.0 += 1;
    }

    pub(crate) fn version(&self) -> Version {
        self.version
    }

    pub(crate) fn are_durable(&self, version: Version) -> bool {
        self.slots.iter().all(|slot| *slot >= version)
    }

    /// A superblock is on its way.
    pub(crate) fn launched(&mut self) {
        // Should it be torn: the other slot is the newer one, and says what both said.
        self.launched = self.version;
    }

    /// It is on stable media.
    pub(crate) fn arrived(&mut self, generation: u64) {
        self.slots[slot(generation)] = self.launched;
    }
}

impl Standing {
    /// Both slots of a new log say so.
    pub(crate) fn formatted(&mut self, version: Version) {
        (self.slots, self.launched) = ([version; SLOTS as usize], version);
    }

    /// It is kept in one place that no crash tears: nothing else has to say it.
    pub(crate) fn kept(&mut self) {
        self.slots = [self.launched; SLOTS as usize];
    }
}

impl Replog {
    /// How a site stands; its `covered` is [`Replog::covered`]'s to say.
    ///
    /// # Panics
    /// If the log has no such site.
    #[must_use]
    pub fn site(&self, slink: SlinkNr) -> &SiteRecord {
        let site = self.members.wanted.sites.iter().find(|site| site.slink == slink);
        site.expect("every site link is in the roster")
    }

    /// What the log knows of a leg.
    #[must_use]
    pub fn leg(&self, dev: DevNr, slink: SlinkNr) -> Option<&LegRecord> {
        self.members.wanted.legs.iter().find(|leg| (leg.dev, leg.slink) == (dev, slink))
    }

    /// The sites that have a leg of a device, of the table or not.
    pub fn sites_of(&self, dev: DevNr) -> impl Iterator<Item = SlinkNr> + '_ {
        self.members.wanted.legs.iter().filter(move |leg| leg.dev == dev).map(|leg| leg.slink)
    }

    /// Changes how a site stands.
    pub fn change_site(&mut self, slink: SlinkNr, change: impl FnOnce(&mut SiteRecord)) {
        let mut site = self.site(slink).clone();
        change(&mut site);
        let known = self.members.wanted.sites.iter_mut().find(|known| known.slink == slink);
        let known = known.expect("looked up above");
        if *known != site {
            *known = site;
            self.members.version.0 += 1;
        }
    }

    /// Changes what the log knows of a leg.
    ///
    /// # Panics
    /// If it has no such leg.
    pub fn change_leg(&mut self, dev: DevNr, slink: SlinkNr, change: impl FnOnce(&mut LegRecord)) {
        let mut legs = self.members.wanted.legs.iter_mut();
        let known = legs.find(|leg| (leg.dev, leg.slink) == (dev, slink));
        let known = known.expect("every leg of a site link is in the roster");
        let before = known.clone();
        change(known);
        if *known != before {
            self.members.version.0 += 1;
        }
    }

    /// The number of the last change: what [`Replog::stands`] says of it, it says of all
    /// changes so far.
    #[must_use]
    pub fn standing(&self) -> Version {
        self.members.version
    }

    /// Whether both slots say it: no crash takes it back.
    #[must_use]
    pub fn stands(&self, version: Version) -> bool {
        self.members.are_durable(version)
    }

    /// A number that no site was detached under.
    pub fn new_session(&mut self) -> u64 {
        self.members.session = self.members.session.max(self.superblock.generation) + 1;
        self.members.session
    }
}

fn slot(generation: u64) -> usize {
    usize::from(!generation.is_multiple_of(SLOTS))
}
