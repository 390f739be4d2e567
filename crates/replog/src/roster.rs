//! Who belongs to a log: what a superblock says against what a table says.
//!
//! A log is replayed onto the disks it was written for, or not at all (P15). What
//! the table does not name is kept, never dropped: its writes stay in the log.

use blk::{DevNr, Sectors, Seq, SlinkNr};

use crate::format::superblock::{DeviceRecord, LegRecord, SiteRecord, SuperblockError, belongs_to};

/// What a table says of the members of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster {
    /// The sites.
    pub sites: Vec<SlinkNr>,
    /// The devices.
    pub devices: Vec<DeviceRecord>,
    /// The legs.
    pub legs: Vec<Joining>,
}

/// A leg of a table, and how it joins if the log does not know it yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joining {
    /// What it is.
    pub leg: LegRecord,
    /// The table says that it holds what the device holds: `nosync`, or the LD itself.
    pub in_sync: bool,
}

/// The members of a log, as its next superblock will name them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// The sites, in the order of their numbers.
    pub sites: Vec<SiteRecord>,
    /// The devices.
    pub devices: Vec<DeviceRecord>,
    /// The legs.
    pub legs: Vec<LegRecord>,
}

/// Why a table's devices may not be used with a log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RosterError {
    /// The backing device is not the one that the log was written for.
    #[error(
        "device {dev} on site {slink}: the log was written for {expected}, the table names \
         {found}{belongs_to}; put the right disk back, or take the leg out of the table and let it join anew"
    )]
    OtherDisk {
        /// The device.
        dev: DevNr,
        /// The site.
        slink: SlinkNr,
        /// Identity in the log.
        expected: String,
        /// Identity found.
        found: String,
        /// Where that one belongs, in words, if the log knows it.
        belongs_to: String,
    },
    /// The device was longer.
    #[error(
        "device {dev} ({name}) has {expected} sectors in the log and {found} in the table; it can \
         become longer, and not shorter: what lies behind its new end would be lost"
    )]
    Shorter {
        /// The device.
        dev: DevNr,
        /// Its name.
        name: String,
        /// Sectors in the log.
        expected: Sectors,
        /// Sectors in the table.
        found: Sectors,
    },
    /// The log holds writes of a device that the table does not name.
    #[error(
        "the log holds {writes} writes of device {dev} ({name}) that are not on all sites yet, and \
         the table does not name it; add it to the table, so that nothing is lost"
    )]
    DeviceMissing {
        /// The device.
        dev: DevNr,
        /// Its name.
        name: String,
        /// Its writes in the log.
        writes: u64,
    },
    /// The LD lost what the log can't bring back, and no site of the table has all of it.
    #[error(
        "the local copy of the devices lacks what was written after write {since}, and the table \
         names no site that has all of it; name the one that has, so that it can be rebuilt from there"
    )]
    LocalLost {
        /// The last write it has.
        since: Seq,
    },
    /// The LD is not there, and nothing else could be read in its place.
    #[error(
        "device {dev}: its backing device on site 0 is not there, and {}; bring it back first",
        match known {
            true => "no other site has a complete copy to go on with",
            false => "the log has never seen it: only it says what the device holds",
        }
    )]
    LocalAbsent {
        /// The device.
        dev: DevNr,
        /// Whether the log knows what it was.
        known: bool,
    },
    /// More, or longer names, than a superblock holds.
    #[error("the log can't hold these members: {0}")]
    Unfit(#[from] SuperblockError),
}

impl Members {
    /// Behind which write the log's are needed for some leg of a device. One that is copied anew,
    /// whatever it has, needs none; nor one that was left out.
    fn owed_from(&self, dev: DevNr) -> Option<Seq> {
        let needs = |leg: &&LegRecord| leg.dev == dev && !leg.all_dirty && !leg.left_out;
        let covered = |leg: &LegRecord| {
            let site = self.sites.iter().find(|site| site.slink == leg.slink);
            site.expect("the roster names the site of each leg").covered
        };
        self.legs.iter().filter(needs).map(covered).min()
    }

    /// A device has grown while nobody looked: what its remote legs hold behind its old end is
    /// unknown, and which of them was equal before, no dirty log of the new size says (I7).
    fn distrust(&mut self, dev: DevNr) {
        for leg in self.legs.iter_mut().filter(|leg| leg.dev == dev && !leg.slink.is_local()) {
            leg.all_dirty = true;
            let site = self.sites.iter_mut().find(|site| site.slink == leg.slink);
            site.expect("the roster names the site of each leg").inconsistent = true;
        }
    }
}

impl Roster {
    /// The members of a log that is new.
    ///
    /// # Errors
    /// If a local disk is not there: what a device holds is what that holds.
    pub fn found(&self) -> Result<Members, RosterError> {
        let known = Members { devices: self.devices.clone(), ..Members::default() };
        self.check_newcomers(&known)?;
        Ok(self.joined(known, &[], Seq::default(), 1))
    }

    /// The sites that have every device.
    #[must_use]
    pub fn complete_sites(&self) -> Vec<SlinkNr> {
        let has = |slink: SlinkNr, dev: DevNr| {
            self.legs.iter().any(|it| (it.leg.dev, it.leg.slink) == (dev, slink))
        };
        let complete = |slink: &SlinkNr| self.devices.iter().all(|device| has(*slink, device.nr));
        self.sites.iter().copied().filter(complete).collect()
    }

    /// The members of a log that has `known` ones and ends at `tip`; `pending` says how many
    /// writes of a device it holds behind some write. `session` is a number that no site was detached under.
    ///
    /// # Errors
    /// The first member that may not be used.
    pub fn join(
        &self,
        known: Members,
        tip: Seq,
        session: u64,
        pending: impl Fn(DevNr, Seq) -> u64,
    ) -> Result<Members, RosterError> {
        let with_history: Vec<DevNr> = known.devices.iter().map(|device| device.nr).collect();
        let mut members = known;
        for device in &self.devices {
            if members.is_gone(device.nr) {
                members.free(device.nr);
            }
        }
        self.check_devices(&members, pending)?;
        self.check_newcomers(&members)?;
        for device in &self.devices {
            match members.devices.iter_mut().find(|known| known.nr == device.nr) {
                Some(known) => {
                    let has_grown = device.size > known.size;
                    *known = device.clone();
                    if has_grown {
                        members.distrust(device.nr);
                    }
                }
                None => members.devices.push(device.clone()),
            }
        }
        let members = self.joined(members, &with_history, tip, session);
        self.check_copies(&members)?;
        Ok(members)
    }

    /// A local disk that joins is there: nothing else says what its device holds.
    fn check_newcomers(&self, known: &Members) -> Result<(), RosterError> {
        let joins = |leg: &LegRecord| !known.legs.iter().any(|old| same_place(old, leg));
        let local = self.legs.iter().map(|it| &it.leg).filter(|leg| leg.slink.is_local());
        match local.filter(|leg| joins(leg)).find(|leg| leg.identity.is_empty()) {
            Some(leg) => Err(RosterError::LocalAbsent { dev: leg.dev, known: false }),
            None => Ok(()),
        }
    }

    /// P6: some site has a whole copy. If that is the local one alone, it is the very disks
    /// that it was; what is wrong with any other disk is its site's trouble (P5, P7).
    fn check_copies(&self, members: &Members) -> Result<(), RosterError> {
        let complete = self.complete_sites();
        let sites = members.sites.iter().filter(|site| complete.contains(&site.slink));
        if sites.clone().any(|site| !site.slink.is_local() && site.detached.is_none()) {
            return Ok(());
        }
        let local = members.sites.iter().find(|site| site.slink.is_local());
        if let Some(lost) = local.filter(|site| site.detached.is_some()) {
            let since = lost.lost_since.unwrap_or(lost.covered);
            return Err(RosterError::LocalLost { since });
        }
        self.legs.iter().try_for_each(|joining| check_local_leg(joining, members))
    }

    /// Adds the table's sites and legs. A leg that may differ from its device is all dirty, and
    /// so its site detached: it is copied to, and nobody has to be turned away.
    fn joined(&self, known: Members, history: &[DevNr], tip: Seq, session: u64) -> Members {
        let mut members = known;
        for slink in &self.sites {
            if !members.sites.iter().any(|site| site.slink == *slink) {
                members.sites.push(joined_site(*slink, tip));
            }
        }
        self.come_and_go(&mut members);
        for Joining { leg, in_sync } in &self.legs {
            if members.legs.iter().any(|known| same_place(known, leg)) {
                continue;
            }
            let site = members.sites.iter().find(|site| site.slink == leg.slink);
            // A local disk that joins has all there is to have: what its device holds is that.
            let lags = !leg.slink.is_local()
                && site.is_some_and(|site| site.covered < tip || site.detached.is_some());
            let believed = *in_sync && !(lags && history.contains(&leg.dev));
            members.legs.push(LegRecord { all_dirty: !believed, ..leg.clone() });
            if let Some(site) = members.sites.iter_mut().find(|site| site.slink == leg.slink) {
                // P3: no image that the devices could have been found in, until it is copied.
                site.inconsistent |= !believed || leg.is_untold();
            }
        }
        for site in &mut members.sites {
            let of_site = |leg: &&mut LegRecord| leg.slink == site.slink;
            let legs: Vec<&mut LegRecord> = members.legs.iter_mut().filter(of_site).collect();
            detach_if_dirty(site, legs, session);
        }
        members.sites.sort_by_key(|site| site.slink);
        members.devices.sort_by_key(|device| device.nr);
        members.legs.sort_by_key(|leg| (leg.dev, leg.slink));
        members
    }

    /// A leg that a table leaves out misses what its site gets meanwhile, or how far it was
    /// copied. Back in a table it is all dirty; and until it is copied the image is none that
    /// the devices could have been found in (P3). A site left out as a whole misses nothing: the
    /// log keeps what it lacks, or says so of all its legs.
    fn come_and_go(&self, members: &mut Members) {
        for leg in members.legs.iter_mut().filter(|leg| !leg.slink.is_local()) {
            let is_named = self.legs.iter().any(|joining| same_place(&joining.leg, leg));
            let site = members.sites.iter_mut().find(|site| site.slink == leg.slink);
            let site = site.expect("the roster names the site of each leg");
            let moves = site.detached.is_some() || self.devices.iter().any(|it| it.nr == leg.dev);
            if is_named {
                site.inconsistent |= std::mem::take(&mut leg.left_out);
            } else if moves && self.sites.contains(&leg.slink) {
                (leg.left_out, leg.all_dirty) = (true, true);
            }
        }
    }

    fn check_devices(
        &self,
        known: &Members,
        pending: impl Fn(DevNr, Seq) -> u64,
    ) -> Result<(), RosterError> {
        for old in &known.devices {
            match self.devices.iter().find(|device| device.nr == old.nr) {
                Some(new) if new.size < old.size => {
                    return Err(RosterError::Shorter {
                        dev: old.nr,
                        name: new.name.clone(),
                        expected: old.size,
                        found: new.size,
                    });
                }
                Some(_) => {}
                None => match known.owed_from(old.nr).map_or(0, |from| pending(old.nr, from)) {
                    0 => {}
                    writes => {
                        let name = old.name.clone();
                        return Err(RosterError::DeviceMissing { dev: old.nr, name, writes });
                    }
                },
            }
        }
        Ok(())
    }
}

fn check_local_leg(joining: &Joining, known: &Members) -> Result<(), RosterError> {
    let LegRecord { dev, slink, identity, .. } = &joining.leg;
    match known.legs.iter().find(|old| same_place(old, &joining.leg)) {
        Some(_) if slink.is_local() && identity.is_empty() => {
            Err(RosterError::LocalAbsent { dev: *dev, known: true })
        }
        Some(old) if slink.is_local() && old.identity != *identity => {
            let (expected, found) = (old.identity.clone(), identity.clone());
            let belongs_to = belongs_to(&known.legs, identity);
            Err(RosterError::OtherDisk { dev: *dev, slink: *slink, expected, found, belongs_to })
        }
        _ => Ok(()),
    }
}

/// I7: what was said of a whole site, by a repair for instance, is said of its legs from now on.
fn detach_if_dirty(site: &mut SiteRecord, legs: Vec<&mut LegRecord>, session: u64) {
    // Who only says since when it is lost does not say what of it is.
    let lost = site.lost_since.is_some() && site.detached.is_none();
    let all = std::mem::take(&mut site.all_dirty) || lost;
    let mut any = all;
    for leg in legs {
        leg.all_dirty |= all;
        any |= leg.all_dirty && !leg.left_out;
    }
    site.inconsistent |= all;
    if any {
        site.detached.get_or_insert(session);
    }
    if site.slink.is_local() && site.detached.is_some() {
        site.lost_since.get_or_insert(site.covered);
    }
}

fn same_place(a: &LegRecord, b: &LegRecord) -> bool {
    (a.dev, a.slink) == (b.dev, b.slink)
}

/// A site that joins holds, by what the table says, all that the devices hold.
pub(crate) fn joined_site(slink: SlinkNr, tip: Seq) -> SiteRecord {
    SiteRecord {
        slink,
        covered: tip,
        lost_since: None,
        all_dirty: false,
        inconsistent: false,
        detached: None,
        demoted: false,
        peer: uuid::Uuid::nil(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leg(dev: u32, slink: u16, identity: &str, in_sync: bool) -> Joining {
        let leg = LegRecord {
            dev: DevNr(dev),
            slink: SlinkNr(slink),
            size: Sectors(100),
            identity: identity.to_owned(),
            all_dirty: false,
            left_out: false,
        };
        Joining { leg, in_sync }
    }

    fn roster(legs: Vec<Joining>) -> Roster {
        let device = DeviceRecord { nr: DevNr(0), size: Sectors(100), name: "db".to_owned() };
        let mut sites: Vec<SlinkNr> = legs.iter().map(|j| j.leg.slink).collect();
        sites.dedup();
        Roster { sites, devices: vec![device], legs }
    }

    fn two_sites() -> Roster {
        roster(vec![leg(0, 0, "ld", true), leg(0, 1, "rd", true)])
    }

    #[test]
    fn a_leg_that_needs_an_initial_copy_is_all_dirty_and_its_site_detached() {
        let members = roster(vec![leg(0, 0, "ld", true), leg(0, 1, "rd", false)]).found().unwrap();
        assert!(members.legs[1].all_dirty && !members.legs[0].all_dirty);
        assert_eq!((members.sites[1].detached, members.sites[1].inconsistent), (Some(1), true));
        assert_eq!((members.sites[0].detached, members.sites[0].inconsistent), (None, false));
    }

    #[test]
    fn a_leg_that_joined_once_is_not_asked_again() {
        let members = two_sites().found().unwrap();
        let later = roster(vec![leg(0, 0, "ld", true), leg(0, 1, "rd", false)]);
        let members = later.join(members, Seq(9), 5, |_, _| 0).unwrap();
        assert_eq!(members.sites[1].detached, None);
    }

    #[test]
    fn another_local_disk_is_refused_and_another_remote_one_is_its_sites_trouble() {
        let swapped = roster(vec![leg(0, 0, "ld", true), leg(0, 1, "other", true)]);
        let members = swapped.join(two_sites().found().unwrap(), Seq(9), 5, |_, _| 0).unwrap();
        assert_eq!(members.legs[1].identity, "rd", "the log remembers what it was");
        let swapped = || roster(vec![leg(0, 0, "other", true), leg(0, 1, "rd", true)]);
        let mut members = two_sites().found().unwrap();
        assert!(
            swapped().join(members.clone(), Seq(9), 5, |_, _| 0).is_ok(),
            "site 1 has everything"
        );
        members.sites[1].detached = Some(4);
        let error = swapped().join(members, Seq(9), 5, |_, _| 0).unwrap_err();
        assert!(matches!(error, RosterError::OtherDisk { ref expected, .. } if expected == "ld"));
        let crossed = roster(vec![leg(0, 0, "rd", true), leg(0, 1, "ld", true)]);
        // The remote site could stand in for it, were it not detached (P7).
        let mut alone = two_sites().found().unwrap();
        alone.sites[1].detached = Some(4);
        let error = crossed.join(alone, Seq(9), 5, |_, _| 0).unwrap_err().to_string();
        assert!(error.contains("names rd, which is that of device 0 on site 1; put"), "{error}");
    }

    #[test]
    fn a_local_disk_may_be_absent_only_where_another_site_has_everything() {
        let absent = || roster(vec![leg(0, 0, "", true), leg(0, 1, "rd", true)]);
        assert_eq!(absent().found(), Err(RosterError::LocalAbsent { dev: DevNr(0), known: false }));
        let mut members = two_sites().found().unwrap();
        let joined = absent().join(members.clone(), Seq(9), 5, |_, _| 0).unwrap();
        assert_eq!((joined.legs[0].identity.as_str(), joined.sites[0].detached), ("ld", None));
        members.legs[1].all_dirty = true;
        let error = absent().join(members.clone(), Seq(9), 5, |_, _| 0).unwrap_err();
        assert_eq!(error, RosterError::LocalAbsent { dev: DevNr(0), known: true });
        // The other site's table has to have all of the devices.
        members.legs[1].all_dirty = false;
        let mut two = absent();
        two.devices.push(DeviceRecord { nr: DevNr(1), size: Sectors(9), name: "wal".to_owned() });
        two.legs.push(leg(1, 0, "ld1", true));
        let error = two.join(members, Seq(9), 5, |_, _| 0).unwrap_err();
        assert_eq!(error, RosterError::LocalAbsent { dev: DevNr(0), known: true });
    }

    #[test]
    fn a_device_may_be_longer_than_it_was_and_its_remote_legs_are_copied_anew() {
        let sized = |sectors| {
            let mut sized = two_sites();
            sized.devices[0].size = Sectors(sectors);
            sized
        };
        let members = sized(150).join(two_sites().found().unwrap(), Seq(9), 5, |_, _| 0).unwrap();
        assert_eq!(members.devices[0].size, Sectors(150));
        assert!(members.legs[1].all_dirty && !members.legs[0].all_dirty);
        assert_eq!((members.sites[1].detached, members.sites[1].inconsistent), (Some(5), true));
        assert_eq!((members.sites[0].detached, members.sites[0].inconsistent), (None, false));
        let error = sized(149).join(members.clone(), Seq(9), 5, |_, _| 0).unwrap_err();
        assert!(matches!(error, RosterError::Shorter { expected: Sectors(150), .. }), "{error}");
        // The local disk lacks something: nobody has it all then (P6).
        let mut lost = members;
        lost.sites[0].detached = Some(4);
        let error = sized(200).join(lost, Seq(9), 5, |_, _| 0).unwrap_err();
        assert!(matches!(error, RosterError::LocalLost { .. }), "{error}");
    }

    #[test]
    fn a_site_that_the_table_leaves_out_keeps_its_cursor() {
        let mut members = two_sites().found().unwrap();
        members.sites[1].covered = Seq(3);
        let alone = roster(vec![leg(0, 0, "ld", true)]);
        let members = alone.join(members, Seq(9), 5, |_, _| 0).unwrap();
        assert_eq!(members.sites[1].covered, Seq(3));
    }

    #[test]
    fn a_leg_that_a_table_leaves_out_is_copied_anew_when_it_is_back() {
        let without = Roster { sites: two_sites().sites, ..roster(vec![leg(0, 0, "ld", true)]) };
        let members = without.join(two_sites().found().unwrap(), Seq(9), 5, |_, _| 0).unwrap();
        assert!(members.legs[1].left_out);
        assert_eq!((members.sites[1].detached, members.sites[1].inconsistent), (None, false));
        let members = without.join(members, Seq(12), 6, |_, _| 0).unwrap();
        assert_eq!(members.sites[1].detached, None, "what is left out makes no site detached");
        let members = two_sites().join(members, Seq(19), 7, |_, _| 0).unwrap();
        assert!(members.legs[1].all_dirty && !members.legs[1].left_out);
        assert_eq!((members.sites[1].detached, members.sites[1].inconsistent), (Some(7), true));
    }

    /// Its older image, of all its devices, is whole until something is copied there.
    #[test]
    fn a_site_that_is_left_out_as_a_whole_comes_back_as_it_was() {
        let mut members = two_sites().found().unwrap();
        (members.sites[1].detached, members.legs[1].all_dirty) = (Some(3), true);
        let members =
            roster(vec![leg(0, 0, "ld", true)]).join(members, Seq(9), 5, |_, _| 0).unwrap();
        assert!(!members.legs[1].left_out);
        let members = two_sites().join(members, Seq(9), 6, |_, _| 0).unwrap();
        assert_eq!((members.sites[1].detached, members.sites[1].inconsistent), (Some(3), false));
    }

    #[test]
    fn a_device_that_is_left_out_is_copied_anew_only_where_it_may_have_been_out_of_sync() {
        for (detached, left_out) in [(None, false), (Some(3), true)] {
            let mut members = two_sites().found().unwrap();
            members.sites[1].detached = detached;
            let empty = Roster { sites: two_sites().sites, ..Roster::default() };
            let members = empty.join(members, Seq(9), 5, |_, _| 0).unwrap();
            assert_eq!((members.legs[0].left_out, members.legs[1].left_out), (false, left_out));
        }
    }

    #[test]
    fn a_device_with_writes_in_the_log_may_not_be_left_out() {
        let members = two_sites().found().unwrap();
        let empty = Roster { sites: vec![SlinkNr(0), SlinkNr(1)], ..Roster::default() };
        assert!(empty.join(members.clone(), Seq(9), 5, |_, _| 0).is_ok());
        let error = empty.join(members, Seq(9), 5, |_, _| 2).unwrap_err();
        assert!(matches!(error, RosterError::DeviceMissing { writes: 2, .. }));
    }

    #[test]
    fn a_site_that_has_to_be_copied_anew_has_all_its_legs_dirty() {
        let mut members = two_sites().found().unwrap();
        members.sites[1].all_dirty = true;
        let members = two_sites().join(members, Seq(9), 5, |_, _| 0).unwrap();
        assert!(members.legs[1].all_dirty && !members.legs[0].all_dirty);
        assert_eq!((members.sites[1].detached, members.sites[1].all_dirty), (Some(5), false));
    }

    #[test]
    fn a_local_copy_that_lost_writes_is_copied_anew_or_the_log_is_not_opened() {
        let mut members = two_sites().found().unwrap();
        members.sites[0].lost_since = Some(Seq(4));
        let joined = two_sites().join(members.clone(), Seq(9), 5, |_, _| 0).unwrap();
        assert_eq!((joined.sites[0].detached, joined.legs[0].all_dirty), (Some(5), true));
        members.sites[1].all_dirty = true;
        let error = two_sites().join(members, Seq(9), 5, |_, _| 0).unwrap_err();
        assert_eq!(error, RosterError::LocalLost { since: Seq(4) });
    }

    #[test]
    fn a_site_joins_at_the_end_of_the_log() {
        let members = roster(vec![leg(0, 0, "ld", true)]).found().unwrap();
        let members = two_sites().join(members, Seq(9), 5, |_, _| 0).unwrap();
        assert_eq!((members.sites[1].covered, members.sites[1].detached), (Seq(9), None));
    }

    #[test]
    fn a_leg_of_an_old_device_is_copied_anew_where_its_site_is_behind() {
        let mut members = two_sites().found().unwrap();
        members.legs.retain(|leg| leg.slink == SlinkNr(0));
        members.sites[1].covered = Seq(3);
        let members = two_sites().join(members, Seq(9), 5, |_, _| 0).unwrap();
        assert!(members.legs[1].all_dirty);
        assert_eq!((members.sites[1].covered, members.sites[1].detached), (Seq(3), Some(5)));
    }
}
