//! Devices that come to a group in use, and devices that go.
//!
//! One that comes is taken requests of when the log says durably that it is there; its local disk
//! is open by then, and nobody waits for the others (P5). One that goes has no users any more, and
//! everything of it is on its local disk and at each remote site that is up: what those have is its
//! last image. A site that is down keeps an older one, and gets no more of it.
//!
//! So a crash finds a device that was taken away either named, with a log that has all of it; or
//! left out by the log, which then owes nothing of it to any disk ([`replog::Replog`]).

use std::collections::BTreeMap;

use blk::{DevNr, Effect, Errno, SlinkNr, Time};
use table::Group;

use crate::change::Change;
use crate::compose::{device_record, joining};
use crate::machine::Replicator;
use crate::plan::{DevicePlan, DiskFacts, LegPlan, Plan, PlanError};
use crate::reload::ReloadError;

impl Replicator {
    /// Whether [`Replicator::reload`] would change everything that `new` says differently.
    ///
    /// # Errors
    /// What it would refuse.
    pub fn may_reload(
        &self,
        new: &Group,
        disks: &BTreeMap<String, DiskFacts>,
    ) -> Result<(), ReloadError> {
        self.prepared(new, disks).map(drop)
    }

    /// Devices are to go: what sites lack of them is brought there, as fast as may be.
    pub fn hurry(&mut self) {
        self.drain_upto = self.log.as_ref().map(replog::Replog::written);
    }

    /// A device goes now: whatever is asked of it ends with an error, for the driver does not let
    /// go of one that waits for an answer.
    pub fn turn_away(&mut self, dev: DevNr) {
        let Some(device) = self.devices.get_mut(&dev) else { return };
        device.going = true;
        let waiting = self.parked.iter().filter(|parked| parked.dev == dev);
        let refused = |req| Effect::Complete { req, result: Err(Errno::EIO) };
        self.pending.extend(waiting.map(|parked| refused(parked.req)));
        self.parked.retain(|parked| parked.dev != dev);
    }

    /// It stays after all.
    pub fn stay(&mut self, dev: DevNr) {
        self.devices.get_mut(&dev).into_iter().for_each(|device| device.going = false);
    }

    /// Whether no crash takes back what the last other table has changed.
    #[must_use]
    pub fn has_settled(&self) -> bool {
        let stands = |version| self.log.as_ref().is_some_and(|log| log.stands(version));
        self.reloaded.is_none_or(stands)
    }

    pub(crate) fn check_devices(&self, changes: &[Change], plan: &Plan) -> Result<(), ReloadError> {
        changes.iter().try_for_each(|change| match change {
            Change::DeviceAdded(device) => {
                let device = plan.device(device.table.dev_nr).expect("the table has it");
                self.check_newcomer(device)
            }
            Change::DeviceRemoved { dev, .. } => self.check_leaver(*dev),
            Change::LogSize { .. }
            | Change::LogMemory { .. }
            | Change::Grown { .. }
            | Change::Slink { .. }
            | Change::SlinkAdded(_)
            | Change::SlinkRemoved(_)
            | Change::LegAdded { .. }
            | Change::LegRemoved { .. } => Ok(()),
        })
    }

    /// What a device holds only its local disk says, so that is read from now on.
    fn check_newcomer(&self, device: &DevicePlan) -> Result<(), ReloadError> {
        let log = self.log.as_ref().ok_or(ReloadError::NotRunning)?;
        let dev = device.nr;
        if !log.reads_locally() {
            return Err(ReloadError::NewBesideLost { dev });
        }
        let local = joining(dev, local_leg(device)).leg;
        log.may_join(&device_record(device), &local).map_err(ReloadError::Roster)?;
        let mut links = self.links.iter().filter(|link| link.dirty_log(dev).is_some());
        match links.next() {
            Some(link) => Err(ReloadError::Leaving { slink: link.nr(), dev: Some(dev) }),
            None if !self.closing.is_empty() => {
                Err(ReloadError::Leaving { slink: SlinkNr::LOCAL, dev: Some(dev) })
            }
            None => Ok(()),
        }
    }

    fn check_leaver(&self, dev: DevNr) -> Result<(), ReloadError> {
        let log = self.log.as_ref().ok_or(ReloadError::NotRunning)?;
        let device = self.devices.get(&dev).expect("a device of the table is there");
        let waits = self.parked.iter().any(|parked| parked.dev == dev);
        if device.in_flight > 0 || waits {
            return Err(ReloadError::Busy { dev });
        }
        let last = log.last_of(dev);
        for link in &self.links {
            let Some(dirty_log) = link.dirty_log(dev) else { continue };
            let slink = link.nr();
            let lacks = log.covered(slink) < last || dirty_log.dirty_sectors().0 > 0;
            let is_waited_for = slink.is_local() || link.report(self.polled, log).down.is_none();
            if lacks && is_waited_for {
                return Err(ReloadError::Lacks { dev, slink });
            }
        }
        Ok(())
    }

    /// A device joins, with its legs on sites that are there.
    pub(crate) fn device_joins(
        &mut self,
        now: Time,
        dev: DevNr,
        plan: &Plan,
    ) -> Result<(), PlanError> {
        let device = plan.device(dev).expect("a device that joins is in the plan");
        let mut joined = self.leases.device(device)?;
        let log = self.log.as_mut().expect("only a replicator that runs is changed");
        log.add_device(device_record(device), joining(dev, local_leg(device)).leg);
        for leg in &device.legs {
            let table = plan.slinks.iter().find(|slink| slink.nr == leg.slink);
            let table = table.expect("its site is in the plan");
            let Some(at) = self.links.iter().position(|link| link.nr() == leg.slink) else {
                // A site that joins next has all its legs from the beginning.
                continue;
            };
            let made = self.leases.leg(plan, table, dev)?;
            if !leg.slink.is_local() {
                self.joins(dev, leg.slink, plan);
            }
            let log = self.log.as_mut().expect("looked at above");
            self.links[at].add_leg(now, log, made);
        }
        let log = self.log.as_ref().expect("looked at above");
        joined.joining = Some(log.standing());
        self.devices.insert(dev, joined);
        Ok(())
    }

    /// A device goes; its legs do when nothing of them is in flight (I15).
    pub(crate) fn device_goes(&mut self, dev: DevNr) {
        self.turn_away(dev);
        let log = self.log.as_mut().expect("only a replicator that runs is changed");
        log.take_device_away(dev);
        let links = self.links.iter_mut().filter(|link| link.dirty_log(dev).is_some());
        links.for_each(|link| link.drop_leg(dev));
        self.devices.remove(&dev);
    }
}

fn local_leg(device: &DevicePlan) -> &LegPlan {
    device.leg(SlinkNr::LOCAL).expect("a table gives each device a local disk")
}
