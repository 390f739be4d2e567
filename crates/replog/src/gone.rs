//! Devices that come while the log is at work, and go, and numbers that are used again.
//!
//! What went keeps its place in the roster; that it went its local leg says, which is *left out*.
//! No superblock says so before the local disk has every write of the device, so whatever the ring
//! still holds under its number is for no local disk any more. The remote legs are left out too,
//! and all dirty. So the number is free at once, even for another device:
//!
//! - locally, the opening's replay begins behind all of that;
//! - a remote leg that the roster has under the number stays all dirty, whatever disk is there now,
//!   and its site detached until it has passed that: nobody remembers which disk missed what;
//! - one that it does not have is believed to be equal only where the site has passed it already.

use blk::{DevNr, Sectors, Seq, SlinkNr};

use crate::format::superblock::{DeviceRecord, LegRecord};
use crate::log::Replog;
use crate::roster::{Members, RosterError};

/// What a device that takes a number is to the one that the log knows under it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// Nobody had it.
    Nobody,
    /// It is the same, as it was: its legs stand as the roster says.
    Itself,
    /// It is the same, and was away: nobody knows what became of it there.
    Returned,
    /// It is another.
    Another,
}

impl Members {
    /// Whether a device was taken away while it was in use.
    pub(crate) fn is_gone(&self, dev: DevNr) -> bool {
        self.local_leg(dev).is_some_and(|leg| leg.left_out)
    }

    fn local_leg(&self, dev: DevNr) -> Option<&LegRecord> {
        self.legs.iter().find(|leg| leg.dev == dev && leg.slink.is_local())
    }

    fn device(&self, dev: DevNr) -> Option<&DeviceRecord> {
        self.devices.iter().find(|device| device.nr == dev)
    }

    fn known(&self, device: &DeviceRecord, local: &LegRecord) -> Known {
        let Some(before) = self.device(device.nr) else { return Known::Nobody };
        let is_same = |leg: &LegRecord| leg.identity == local.identity;
        match self.local_leg(device.nr) {
            Some(leg) if !is_same(leg) => Known::Another,
            Some(leg) if leg.left_out || before.size != device.size => Known::Returned,
            _ => Known::Itself,
        }
    }

    /// A number is free for a device that comes, or comes back. Its remote legs that were left out
    /// are copied, to whatever disks are there.
    pub(crate) fn free(&mut self, dev: DevNr) {
        self.devices.retain(|device| device.nr != dev);
        self.legs.retain(|leg| leg.dev != dev || !leg.slink.is_local());
        let remote = self.legs.iter_mut().filter(|leg| leg.dev == dev && leg.left_out);
        remote.for_each(|leg| leg.identity.clear());
    }

    fn take_in(&mut self, device: DeviceRecord, local: LegRecord) {
        let (dev, known) = (device.nr, self.known(&device, &local));
        if matches!(known, Known::Returned | Known::Another) {
            self.leave_out(dev);
        }
        self.free(dev);
        self.devices.push(device);
        self.devices.sort_by_key(|device| device.nr);
        self.legs.push(local);
        self.legs.sort_by_key(|leg| (leg.dev, leg.slink));
    }

    fn leave_out(&mut self, dev: DevNr) {
        for leg in self.legs.iter_mut().filter(|leg| leg.dev == dev) {
            (leg.left_out, leg.all_dirty) = (true, !leg.slink.is_local());
        }
    }
}

impl Replog {
    /// The newest write of a device that the log still holds.
    #[must_use]
    pub fn last_of(&self, dev: DevNr) -> Seq {
        let (first, next) = (self.index.first_seq().0, self.index.next_seq().0);
        let is_of = |seq: &u64| self.index.write(Seq(*seq)).is_some_and(|write| write.dev == dev);
        (first..next).rev().find(is_of).map_or(Seq::default(), Seq)
    }

    /// Whether a device may join, with this local disk.
    ///
    /// # Errors
    /// It is not there; or it is that of a device which was left out, and was longer.
    pub fn may_join(&self, device: &DeviceRecord, local: &LegRecord) -> Result<(), RosterError> {
        let (dev, members) = (device.nr, self.members.wanted());
        if local.identity.is_empty() {
            return Err(RosterError::LocalAbsent { dev, known: false });
        }
        let before = members.device(dev).map_or(Sectors(0), |known| known.size);
        let is_another = members.known(device, local) == Known::Another;
        if device.size >= before || members.is_gone(dev) || is_another {
            return Ok(());
        }
        let (expected, found) = (before, device.size);
        Err(RosterError::Shorter { dev, name: device.name.clone(), expected, found })
    }

    /// A device joins, with its local leg; not those elsewhere that the roster does not know. Those
    /// that it knows under the number are believed no more, unless it was merely left out.
    ///
    /// # Panics
    /// If it may not, or if something of that number is on its way to a local disk.
    pub fn add_device(&mut self, device: DeviceRecord, local: LegRecord) {
        let (dev, may) = (device.nr, self.may_join(&device, &local));
        assert_eq!(may, Ok(()), "a device that joins was looked at");
        let (last, covered) = (self.last_of(dev), self.covered(SlinkNr::LOCAL));
        assert!(last <= covered, "device {dev}: write {last} is another's, the LD has {covered}");
        self.members.change(|members| members.take_in(device, local));
    }

    /// A device goes. Its records stay, and so do its legs until their links let go of them.
    ///
    /// # Panics
    /// If something of it is on its way to its local disk.
    pub fn take_device_away(&mut self, dev: DevNr) {
        // The superblock that says so says it of what is covered now.
        let (last, covered) = (self.last_of(dev), self.covered(SlinkNr::LOCAL));
        assert!(last <= covered, "device {dev}: its LD has {covered}, its last write is {last}");
        self.members.change(|members| members.leave_out(dev));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::roster::{Joining, Roster};

    fn leg(slink: u16, identity: &str) -> LegRecord {
        LegRecord {
            dev: DevNr(1),
            slink: SlinkNr(slink),
            size: Sectors(100),
            identity: identity.to_owned(),
            all_dirty: false,
            left_out: false,
        }
    }

    fn device(sectors: u64) -> DeviceRecord {
        DeviceRecord { nr: DevNr(1), size: Sectors(sectors), name: "wal".to_owned() }
    }

    fn roster(sectors: u64, local: &str, remote: &str) -> Roster {
        let joining = |leg| Joining { leg, in_sync: true };
        Roster {
            sites: vec![SlinkNr(0), SlinkNr(1)],
            devices: vec![device(sectors)],
            legs: vec![joining(leg(0, local)), joining(leg(1, remote))],
        }
    }

    /// A device that went, with writes in the log that site 1 lacks.
    fn gone() -> Members {
        let mut members = roster(100, "ld", "rd").found().unwrap();
        members.leave_out(DevNr(1));
        assert!(members.is_gone(DevNr(1)));
        members.sites[0].covered = Seq(9);
        members
    }

    #[test]
    fn a_device_that_went_is_owed_nothing_by_a_table_without_it() {
        let empty = Roster { sites: vec![SlinkNr(0), SlinkNr(1)], ..Roster::default() };
        let members = empty.join(gone(), Seq(9), 5, |_, _| 2).unwrap();
        assert!(members.is_gone(DevNr(1)));
        assert!(members.sites.iter().all(|site| site.detached.is_none()));
    }

    #[test]
    fn a_device_that_is_back_is_copied_anew_from_its_local_disk_whatever_size_it_has() {
        for sectors in [60, 100] {
            for behind in [9, 7] {
                let mut members = gone();
                // Others have writes that the local disks lack: not this one.
                members.sites[0].covered = Seq(behind);
                let members =
                    roster(sectors, "ld", "rd").join(members, Seq(9), 5, |_, _| 2).unwrap();
                assert_eq!(members.devices, [device(sectors)]);
                assert_eq!(members.legs[0], leg(0, "ld"));
                // Whatever disk is there.
                assert_eq!(members.legs[1], LegRecord { all_dirty: true, ..leg(1, "") });
                assert_eq!((members.sites[0].detached, members.sites[1].detached), (None, Some(5)));
                assert!(members.sites[1].inconsistent);
            }
        }
    }

    #[test]
    fn another_device_under_its_number_is_believed_only_where_nothing_of_the_other_was_or_will_be()
    {
        for (covered, had_leg, dirty) in [(9, true, true), (9, false, false), (7, false, true)] {
            let mut members = gone();
            members.sites[1].covered = Seq(covered);
            members.legs.truncate(1 + usize::from(had_leg));
            let members = roster(40, "other", "rd2").join(members, Seq(9), 5, |_, _| 2).unwrap();
            assert_eq!(members.devices, [device(40)]);
            assert_eq!(members.legs[0], leg(0, "other"));
            assert_eq!((members.legs[1].all_dirty, members.legs[1].left_out), (dirty, false));
            assert_eq!(members.sites[1].detached.is_some(), dirty);
        }
        let error = roster(40, "", "rd2").join(gone(), Seq(9), 5, |_, _| 2).unwrap_err();
        assert_eq!(error, RosterError::LocalAbsent { dev: DevNr(1), known: false });
    }

    /// It came again, and a crash left the table without it: what the log holds of its first life is
    /// for a leg that is copied now.
    #[test]
    fn what_a_device_that_came_again_owes_from_before_keeps_no_table_from_being_opened() {
        let mut members = gone();
        members.take_in(device(100), leg(0, "ld"));
        let empty = Roster { sites: vec![SlinkNr(0), SlinkNr(1)], ..Roster::default() };
        let pending = |_, from| u64::from(from < Seq(8));
        assert!(empty.join(members.clone(), Seq(9), 5, pending).is_ok());
        // What is for a leg that is believed is lost without it.
        members.legs[1].all_dirty = false;
        members.legs[1].left_out = false;
        let error = empty.join(members.clone(), Seq(9), 5, pending).unwrap_err();
        assert!(matches!(error, RosterError::DeviceMissing { writes: 1, .. }));
        members.sites[1].covered = Seq(8);
        assert!(empty.join(members, Seq(9), 5, pending).is_ok());
    }

    #[test]
    fn a_device_that_comes_is_nobody_s_or_what_its_local_disk_was() {
        let fresh = roster(100, "ld", "rd").found().unwrap();
        let took = |mut members: Members, sectors, local: &str| {
            members.take_in(device(sectors), leg(0, local));
            members.legs.into_iter().skip(1).map(|leg| leg.left_out).collect::<Vec<_>>()
        };
        assert_eq!(took(Members::default(), 100, "ld"), []);
        assert_eq!(took(fresh.clone(), 100, "ld"), [false], "it was left out for a start");
        assert_eq!(took(fresh.clone(), 150, "ld"), [true], "and has grown since");
        assert_eq!(took(fresh, 100, "other"), [true]);
        assert_eq!(took(gone(), 100, "ld"), [true]);
        assert_eq!(took(gone(), 100, "other"), [true]);
    }
}
