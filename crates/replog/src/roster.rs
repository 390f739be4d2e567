//! Who belongs to a log: what a superblock says against what a table says.
//!
//! A log is replayed onto the disks it was written for, or not at all (P15). What
//! the table does not name is kept, never dropped: its writes stay in the log.

use blk::{DevNr, Sectors, Seq, SlinkNr};

use crate::format::superblock::{DeviceRecord, LegRecord, SiteRecord, SuperblockError};

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
        "device {dev} on site {slink}: the log was written for {expected}, the table names {found}; \
         put the right disk back, or take the leg out of the table and let it join anew"
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
    },
    /// The device had another size.
    #[error("device {dev} ({name}) has {expected} sectors in the log and {found} in the table")]
    OtherSize {
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
    /// The leg is new and not said to be in sync.
    #[error(
        "device {dev} joins site {slink} and needs an initial copy, which this version cannot make \
         yet; copy it yourself and say `nosync` in its dirty log"
    )]
    NeedsCopy {
        /// The device.
        dev: DevNr,
        /// The site.
        slink: SlinkNr,
    },
    /// A leg of a device with history joins a site that has not got all of that history.
    #[error(
        "device {dev} joins site {slink}, which is {lag} writes behind; let the site catch up \
         first, so that it is not fed what is older than the copy it brings"
    )]
    SiteBehind {
        /// The device.
        dev: DevNr,
        /// The site.
        slink: SlinkNr,
        /// Writes the site lacks.
        lag: u64,
    },
    /// A site's copy has to be made anew, since a repair of the log for instance.
    #[error(
        "site {slink} has to be copied anew, which this version cannot do yet; take it out of the \
         table, and let it join a new log once its devices are copies again"
    )]
    NeedsResync {
        /// The site.
        slink: SlinkNr,
    },
    /// More, or longer names, than a superblock holds.
    #[error("the log can't hold these members: {0}")]
    Unfit(#[from] SuperblockError),
}

impl Roster {
    /// The members of a log that is new.
    ///
    /// # Errors
    /// [`RosterError::NeedsCopy`].
    pub fn found(&self) -> Result<Members, RosterError> {
        self.join(Members::default(), Seq::default(), |_| 0)
    }

    /// The members of a log that has `known` ones and ends at `tip`; `pending` says how many
    /// writes of a device it holds.
    ///
    /// # Errors
    /// The first member that may not be used.
    pub fn join(
        &self,
        known: Members,
        tip: Seq,
        pending: impl Fn(DevNr) -> u64,
    ) -> Result<Members, RosterError> {
        self.check_devices(&known, pending)?;
        self.check_sites(&known)?;
        for joining in &self.legs {
            check_leg(joining, &known, tip)?;
        }
        let mut members = known;
        for slink in &self.sites {
            if !members.sites.iter().any(|site| site.slink == *slink) {
                members.sites.push(joined_site(*slink, tip));
            }
        }
        members.sites.sort_by_key(|site| site.slink);
        for device in &self.devices {
            match members.devices.iter_mut().find(|known| known.nr == device.nr) {
                Some(known) => *known = device.clone(),
                None => members.devices.push(device.clone()),
            }
        }
        for Joining { leg, .. } in &self.legs {
            if !members.legs.iter().any(|known| same_place(known, leg)) {
                members.legs.push(leg.clone());
            }
        }
        members.devices.sort_by_key(|device| device.nr);
        members.legs.sort_by_key(|leg| (leg.dev, leg.slink));
        Ok(members)
    }

    fn check_sites(&self, known: &Members) -> Result<(), RosterError> {
        let needs_copy = |site: &&SiteRecord| site.all_dirty || site.lost_since.is_some();
        let unfit = known.sites.iter().filter(needs_copy).map(|site| site.slink);
        match unfit.into_iter().find(|slink| self.sites.contains(slink)) {
            Some(slink) => Err(RosterError::NeedsResync { slink }),
            None => Ok(()),
        }
    }

    fn check_devices(
        &self,
        known: &Members,
        pending: impl Fn(DevNr) -> u64,
    ) -> Result<(), RosterError> {
        for old in &known.devices {
            match self.devices.iter().find(|device| device.nr == old.nr) {
                Some(new) if new.size != old.size => {
                    return Err(RosterError::OtherSize {
                        dev: old.nr,
                        name: new.name.clone(),
                        expected: old.size,
                        found: new.size,
                    });
                }
                Some(_) => {}
                None => match pending(old.nr) {
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

fn check_leg(joining: &Joining, known: &Members, tip: Seq) -> Result<(), RosterError> {
    let LegRecord { dev, slink, identity, .. } = &joining.leg;
    let (dev, slink) = (*dev, *slink);
    if let Some(old) = known.legs.iter().find(|old| same_place(old, &joining.leg)) {
        if old.identity != *identity {
            let (expected, found) = (old.identity.clone(), identity.clone());
            return Err(RosterError::OtherDisk { dev, slink, expected, found });
        }
        return Ok(());
    }
    if !joining.in_sync {
        return Err(RosterError::NeedsCopy { dev, slink });
    }
    let has_history = known.devices.iter().any(|device| device.nr == dev);
    let site = known.sites.iter().find(|site| site.slink == slink);
    match site {
        Some(site) if has_history && site.covered < tip => {
            Err(RosterError::SiteBehind { dev, slink, lag: tip.lag(site.covered) })
        }
        _ => Ok(()),
    }
}

fn same_place(a: &LegRecord, b: &LegRecord) -> bool {
    (a.dev, a.slink) == (b.dev, b.slink)
}

/// A site that joins holds, by what the table says, all that the devices hold.
fn joined_site(slink: SlinkNr, tip: Seq) -> SiteRecord {
    SiteRecord {
        slink,
        covered: tip,
        lost_since: None,
        all_dirty: false,
        inconsistent: false,
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
    fn a_leg_that_needs_an_initial_copy_is_refused() {
        let error = roster(vec![leg(0, 0, "ld", true), leg(0, 1, "rd", false)]).found();
        assert_eq!(error, Err(RosterError::NeedsCopy { dev: DevNr(0), slink: SlinkNr(1) }));
    }

    #[test]
    fn a_leg_that_joined_once_is_not_asked_again() {
        let members = two_sites().found().unwrap();
        let later = roster(vec![leg(0, 0, "ld", true), leg(0, 1, "rd", false)]);
        assert!(later.join(members, Seq(9), |_| 0).is_ok());
    }

    #[test]
    fn another_disk_in_a_known_place_is_refused() {
        let members = two_sites().found().unwrap();
        let swapped = roster(vec![leg(0, 0, "ld", true), leg(0, 1, "other", true)]);
        let error = swapped.join(members, Seq(9), |_| 0).unwrap_err();
        assert!(matches!(error, RosterError::OtherDisk { ref expected, .. } if expected == "rd"));
    }

    #[test]
    fn a_site_that_the_table_leaves_out_keeps_its_cursor() {
        let mut members = two_sites().found().unwrap();
        members.sites[1].covered = Seq(3);
        let members = roster(vec![leg(0, 0, "ld", true)]).join(members, Seq(9), |_| 0).unwrap();
        assert_eq!(members.sites[1].covered, Seq(3));
    }

    #[test]
    fn a_device_with_writes_in_the_log_may_not_be_left_out() {
        let members = two_sites().found().unwrap();
        let empty = Roster { sites: vec![SlinkNr(0), SlinkNr(1)], ..Roster::default() };
        assert!(empty.join(members.clone(), Seq(9), |_| 0).is_ok());
        let error = empty.join(members, Seq(9), |_| 2).unwrap_err();
        assert!(matches!(error, RosterError::DeviceMissing { writes: 2, .. }));
    }

    #[test]
    fn a_site_that_has_to_be_copied_anew_is_refused_unless_left_out() {
        let mut members = two_sites().found().unwrap();
        members.sites[1].all_dirty = true;
        let error = two_sites().join(members.clone(), Seq(9), |_| 0);
        assert_eq!(error, Err(RosterError::NeedsResync { slink: SlinkNr(1) }));
        let without = roster(vec![leg(0, 0, "ld", true)]);
        assert!(without.join(members, Seq(9), |_| 0).unwrap().sites[1].all_dirty);
    }

    #[test]
    fn a_site_joins_at_the_end_of_the_log() {
        let members = roster(vec![leg(0, 0, "ld", true)]).found().unwrap();
        let members = two_sites().join(members, Seq(9), |_| 0).unwrap();
        assert_eq!(members.sites[1].covered, Seq(9));
    }

    #[test]
    fn a_leg_of_an_old_device_waits_until_its_site_has_caught_up() {
        let mut members = two_sites().found().unwrap();
        members.legs.retain(|leg| leg.slink == SlinkNr(0));
        members.sites[1].covered = Seq(3);
        let error = two_sites().join(members, Seq(9), |_| 0).unwrap_err();
        assert!(matches!(error, RosterError::SiteBehind { lag: 6, .. }));
    }
}
