//! Another table for a replicator that is in use: all of it, or nothing.
//!
//! Sites and legs come without their disks: the links have them opened, as after an outage, so
//! that no device waits for that (P5). A site that goes is let go of at once; what is in flight
//! there ends (I15), and then its disks are let go of too. The roster remembers what went: back
//! again, by whatever table, it is copied anew.

use std::collections::BTreeMap;
use std::fmt;

use blk::{DevNr, Effect, Sectors, SlinkNr, Time};
use replog::format::superblock::{LegRecord, SuperblockError};
use replog::{Replog, RosterError};
use table::{Group, LdLag, LogTable, SlinkTable};

use crate::change::{Change, Fixed, changes};
use crate::compose::{complete_sites, device_record, dirty_log_spec, joining};
use crate::machine::{Replicator, is_sync};
use crate::plan::{DiskFacts, LegPlan, Plan, PlanError};
use crate::resize::LogSizeError;

/// Why a table was not taken. Nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReloadError {
    /// It changes what can't be changed while the replicator is in use.
    Fixed(Vec<Fixed>),
    /// Its disks can't be used as it says.
    Plan(PlanError),
    /// A site, or a leg there, is to come again that has not gone yet.
    Leaving {
        /// The site.
        slink: SlinkNr,
        /// The device, if it is about one.
        dev: Option<DevNr>,
    },
    /// What goes, or has part of the devices from now on, is the last copy that can be read (P6).
    LastCopy {
        /// The site.
        slink: SlinkNr,
    },
    /// A device is to grow while the local site lacks something: what it holds is what there is
    /// behind the old end.
    Grow {
        /// The device.
        dev: DevNr,
    },
    /// A device is to join while the local site lacks something: what it holds only its local disk
    /// says.
    NewBesideLost {
        /// The device.
        dev: DevNr,
    },
    /// A device may not join the log.
    Roster(RosterError),
    /// A device is to go, and is in use.
    Busy {
        /// The device.
        dev: DevNr,
    },
    /// A device is to go, and a site does not have all of it.
    Lacks {
        /// The device.
        dev: DevNr,
        /// The site.
        slink: SlinkNr,
    },
    /// The log's roster has no room for what is new.
    Room(SuperblockError),
    /// The log can't have the size that the table says.
    LogSize(LogSizeError),
    /// The log is not open yet, or no more.
    NotRunning,
    /// There is no log that could know of the change.
    LogLost,
}

impl Replicator {
    /// Goes on as `new` says; what was different. `disks` are those that it names and the table
    /// so far does not: not open, and opened when their links ask for that.
    ///
    /// # Errors
    /// Something that can't be changed, or not now. Nothing has changed then.
    pub fn reload(
        &mut self,
        now: Time,
        new: &Group,
        disks: &BTreeMap<String, DiskFacts>,
    ) -> Result<Vec<Change>, ReloadError> {
        let (changes, plan) = self.prepared(new, disks)?;
        let complete = complete_sites(new);
        let log = self.log.as_mut().expect("it was just looked at");
        // What is complete no more is not read from this moment on; what becomes it is worth
        // something when its link has said so.
        let stay = log.complete_sites().iter().filter(|slink| complete.contains(slink));
        log.set_complete_sites(stay.copied().collect());
        for change in &changes {
            self.change(now, change, &plan).map_err(ReloadError::Plan)?;
            log::warn!("{change}");
        }
        let place = |nr| plan.slinks.iter().position(|slink| slink.nr == nr);
        self.links.sort_by_key(|link| place(link.nr()));
        self.reads.follow(&plan);
        for device in &plan.devices {
            let copies: Vec<_> = device.legs.iter().map(|leg| (leg.slink, leg.disk.id)).collect();
            self.links.iter_mut().for_each(|link| link.set_copies(device.nr, &copies));
        }
        if let Some(log) = &mut self.log {
            log.set_complete_sites(complete);
            log.set_timeouts(plan.timeouts());
            self.reloaded = Some(log.standing());
        }
        self.plan = plan;
        // Whom writers get an error for is asked anew.
        self.refusing = false;
        Ok(changes)
    }

    /// What is different, and what the replicator is made of then, if all of it can be done.
    pub(crate) fn prepared(
        &self,
        new: &Group,
        disks: &BTreeMap<String, DiskFacts>,
    ) -> Result<(Vec<Change>, Plan), ReloadError> {
        let changes = changes(&self.plan.group(), new).map_err(ReloadError::Fixed)?;
        // Whatever joins does so from some write of the log on.
        if self.log.as_ref().is_some_and(Replog::is_lost) {
            return Err(ReloadError::LogLost);
        }
        let changes = self.without_the_present_size(changes);
        let mut known = self.plan.disks();
        known.extend(disks.clone());
        self.check_copies(&complete_sites(new))?;
        let mut plan = Plan::new(new, &known).map_err(ReloadError::Plan)?;
        // How the log was found is of no matter any more.
        let LogTable { size, tail_bytes, ld_lag, .. } = new.table.log;
        let size = size.or(self.plan.log.table.size);
        plan.log.table = LogTable { size, tail_bytes, ld_lag, ..self.plan.log.table.clone() };
        self.check_devices(&changes, &plan)?;
        self.check_members(&changes, &plan)?;
        self.check_growth(&changes, &plan)?;
        self.check_log_size(&changes, &plan)?;
        Ok((changes, plan))
    }

    /// P6: what goes leaves a whole copy behind that can be read.
    fn check_copies(&self, complete: &[SlinkNr]) -> Result<(), ReloadError> {
        let log = self.log.as_ref().ok_or(ReloadError::NotRunning)?;
        let gone: Vec<SlinkNr> =
            log.whole_copies().filter(|slink| !complete.contains(slink)).collect();
        match gone.first() {
            Some(&slink) if log.another_copy(&gone).is_none() => {
                Err(ReloadError::LastCopy { slink })
            }
            _ => Ok(()),
        }
    }

    /// Whether what comes has gone, and finds room.
    fn check_members(&self, changes: &[Change], plan: &Plan) -> Result<(), ReloadError> {
        let log = self.log.as_ref().ok_or(ReloadError::NotRunning)?;
        let (mut sites, mut devices, mut legs) = (Vec::new(), Vec::new(), Vec::new());
        for change in changes {
            match change {
                Change::DeviceAdded(device) => {
                    let device = plan.device(device.table.dev_nr).expect("the table has it");
                    devices.push(device_record(device));
                    legs.extend(device.legs.iter().map(|leg| joining(device.nr, leg).leg));
                }
                Change::SlinkAdded(table) => {
                    let (slink, dev) = (table.nr, None);
                    let closing = !self.closing.is_empty();
                    if closing || self.leaving.iter().any(|link| link.nr() == slink) {
                        return Err(ReloadError::Leaving { slink, dev });
                    }
                    if !log.knows_site(slink) {
                        sites.push(slink);
                    }
                    legs.extend(legs_on(plan, slink).map(|(dev, leg)| joining(dev, leg).leg));
                }
                Change::LegAdded { dev, leg } => {
                    let slink = leg.slink;
                    let link = self.links.iter().find(|link| link.nr() == slink);
                    let goes = link.is_some_and(|link| link.dirty_log(*dev).is_some());
                    if goes || !self.closing.is_empty() {
                        return Err(ReloadError::Leaving { slink, dev: Some(*dev) });
                    }
                    let all = legs_on(plan, slink).filter(|(nr, _)| nr == dev);
                    legs.extend(all.map(|(dev, leg)| joining(dev, leg).leg));
                }
                Change::LogSize { .. }
                | Change::LogMemory { .. }
                | Change::Grown { .. }
                | Change::DeviceRemoved { .. }
                | Change::Slink { .. }
                | Change::SlinkRemoved(_)
                | Change::LegRemoved { .. } => {}
            }
        }
        legs.retain(|leg| log.leg(leg.dev, leg.slink).is_none());
        // A device that is new, on a site that is.
        legs.sort_by_key(|leg| (leg.dev, leg.slink));
        legs.dedup_by_key(|leg| (leg.dev, leg.slink));
        log.room_for(&sites, &devices, &legs).map_err(ReloadError::Room)
    }

    /// What a device holds behind its old end only its local disk says.
    fn check_growth(&self, changes: &[Change], plan: &Plan) -> Result<(), ReloadError> {
        let log = self.log.as_ref().ok_or(ReloadError::NotRunning)?;
        for change in changes {
            let Change::Grown { dev, .. } = *change else { continue };
            if !log.reads_locally() {
                return Err(ReloadError::Grow { dev });
            }
            // A leg that goes is marked until it is gone, by its size.
            let device = plan.device(dev);
            let goes = |nr| device.is_none_or(|device| device.leg(nr).is_none());
            let mut links = self.links.iter().filter(|link| link.dirty_log(dev).is_some());
            if let Some(link) = links.find(|link| goes(link.nr())) {
                return Err(ReloadError::Leaving { slink: link.nr(), dev: Some(dev) });
            }
        }
        Ok(())
    }

    fn change(&mut self, now: Time, change: &Change, plan: &Plan) -> Result<(), PlanError> {
        let log = self.log.as_mut().expect("only a replicator that runs is changed");
        let nr = change.slink().unwrap_or(SlinkNr::LOCAL);
        let at = self.links.iter().position(|link| link.nr() == nr);
        match change {
            Change::LogSize { to, .. } => {
                log.resize(*to, self.longest).expect("it was looked at before");
            }
            Change::LogMemory { to, .. } => {
                log.set_memory(to.tail_bytes(), to.ld_lag() == LdLag::Log);
            }
            Change::Grown { dev, to, .. } => self.grow(now, *dev, *to, plan),
            Change::DeviceAdded(device) => self.device_joins(now, device.table.dev_nr, plan)?,
            Change::DeviceRemoved { dev, .. } => self.device_goes(*dev),
            Change::Slink { from, to } => {
                let link = &mut self.links[at.expect("a site of the plan has a link")];
                link.reconfigure(now, log, to);
                if from.options.mark != to.options.mark {
                    let mark = plan.marks.get(&nr).map(|disk| disk.id);
                    let before = link.set_mark(now, log, mark);
                    self.pending.extend(before.map(|disk| Effect::Close { disk }));
                }
            }
            Change::SlinkRemoved(_) => {
                let link = self.links.remove(at.expect("a site of the plan has a link"));
                self.leaving.push(link);
                self.orphans.removed(nr, log);
            }
            Change::LegRemoved { dev, .. } => {
                self.links[at.expect("a site of the plan has a link")].drop_leg(*dev);
            }
            Change::SlinkAdded(table) => self.add_site(table, plan)?,
            Change::LegAdded { dev, .. } => {
                let table = plan.slinks.iter().find(|slink| slink.nr == nr);
                let leg = self.leases.leg(plan, table.expect("its site is in the plan"), *dev)?;
                self.joins(*dev, nr, plan);
                let log = self.log.as_mut().expect("looked at above");
                let at = at.expect("a site of the plan has a link");
                self.links[at].add_leg(now, log, leg);
            }
        }
        Ok(())
    }

    /// A device grows. A site that was removed hears of it when it is back: from the roster.
    fn grow(&mut self, now: Time, dev: DevNr, to: Sectors, plan: &Plan) {
        let log = self.log.as_mut().expect("only a replicator that runs is changed");
        log.grow_device(dev, to);
        let device = plan.device(dev).expect("a device that grows is in the plan");
        for leg in &device.legs {
            let spec = dirty_log_spec(device, leg);
            let link = self.links.iter_mut().find(|link| link.nr() == leg.slink);
            link.into_iter().for_each(|link| link.grow(now, log, &spec, &leg.disk.seen));
        }
        let known: Vec<SlinkNr> =
            log.sites_of(dev).filter(|nr| device.leg(*nr).is_none()).collect();
        for slink in known {
            log.change_leg(dev, slink, |leg| leg.all_dirty = true);
            // One that is at work without it has an image of what it has.
            if plan.slinks.iter().all(|table| table.nr != slink) {
                log.change_site(slink, |site| site.inconsistent = true);
            }
        }
        self.devices.get_mut(&dev).expect("a device of the plan").size = to;
    }

    /// A site joins, with its legs. One that the log knows goes on where it was; unless it was
    /// given up, or misses a leg that it had.
    fn add_site(&mut self, table: &SlinkTable, plan: &Plan) -> Result<(), PlanError> {
        let nr = table.nr;
        let link = self.leases.link(plan, table)?;
        let log = self.log.as_mut().expect("only a replicator that runs is changed");
        if log.knows_site(nr) {
            self.orphans.adopted(nr);
        } else {
            log.add_site(nr);
        }
        for device in plan.devices.iter().filter(|device| device.leg(nr).is_none()) {
            if log.leg(device.nr, nr).is_some() {
                log.change_leg(device.nr, nr, |leg| (leg.left_out, leg.all_dirty) = (true, true));
            }
        }
        if is_sync(table) {
            // P1, P5: waited for when it is there and has caught up, and not before.
            log.change_site(nr, |site| site.demoted = true);
        }
        let devs: Vec<DevNr> = legs_on(plan, nr).map(|(dev, _)| dev).collect();
        let dirty = devs.into_iter().filter(|dev| self.joins(*dev, nr, plan)).count();
        if dirty > 0 {
            let log = self.log.as_mut().expect("looked at above");
            let session = log.new_session();
            log.change_site(nr, |site| {
                site.detached.get_or_insert(session);
            });
        }
        self.links.push(link);
        Ok(())
    }

    /// A leg joins a site that the log knows; whether it has to be copied to. `nosync` is
    /// believed only of one that is new, and if nothing is on its way: the site is fed all that
    /// is, and a leg that has it would go back and forth.
    pub(crate) fn joins(&mut self, dev: DevNr, slink: SlinkNr, plan: &Plan) -> bool {
        let log = self.log.as_mut().expect("only a replicator that runs is changed");
        let (is_dirty, is_whole) = match log.leg(dev, slink) {
            Some(known) => (known.all_dirty, !known.left_out),
            None => {
                let leg = plan.device(dev).and_then(|device| device.leg(slink));
                let joining = joining(dev, leg.expect("a leg that joins is in the plan"));
                // Of a device that is new only what another left in the log can be on its way.
                let is_new = !self.devices.contains_key(&dev);
                let of_it = if is_new { log.last_of(dev) } else { log.taken() };
                let even = log.covered(slink) >= of_it && log.site(slink).detached.is_none();
                let believed = joining.in_sync && even;
                log.add_leg(LegRecord { all_dirty: !believed, ..joining.leg });
                (!believed, believed)
            }
        };
        if is_dirty {
            // Whatever disk is there by now: all of it is copied.
            log.change_leg(dev, slink, |leg| {
                leg.left_out = false;
                leg.identity.clear();
            });
        }
        if !is_whole {
            // P3: no image that the devices could have been found in, until it is copied.
            log.change_site(slink, |site| site.inconsistent = true);
        }
        is_dirty
    }
}

fn legs_on(plan: &Plan, slink: SlinkNr) -> impl Iterator<Item = (DevNr, &LegPlan)> {
    let leg = move |device: &'_ crate::plan::DevicePlan| device.nr;
    plan.devices.iter().filter_map(move |device| Some((leg(device), device.leg(slink)?)))
}

impl fmt::Display for ReloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nothing was changed: ")?;
        match self {
            Self::Fixed(fixed) => {
                let sentences: Vec<String> = fixed.iter().map(Fixed::to_string).collect();
                f.write_str(&sentences.join("; "))
            }
            Self::Plan(error) => error.fmt(f),
            Self::Leaving { slink, dev: None } => {
                write!(f, "site {slink} is still being removed: something of it is in flight")
            }
            Self::Leaving { slink, dev: Some(dev) } => write!(
                f,
                "device {dev} is still being removed from site {slink}: something is in flight"
            ),
            Self::LastCopy { slink } => write!(
                f,
                "site {slink} has the only complete copy that can be read; let the local disks, or \
                 another site, have everything first"
            ),
            Self::Grow { dev } => write!(
                f,
                "device {dev} can't grow while its local disk lacks something; let that have \
                 everything first"
            ),
            Self::NewBesideLost { dev } => write!(
                f,
                "device {dev} can't join while the local disks of others lack something; let them \
                 have everything first"
            ),
            Self::Roster(error) => error.fmt(f),
            Self::Busy { dev } => write!(f, "device {dev} can't go: somebody still waits for it"),
            Self::Lacks { dev, slink } => write!(
                f,
                "device {dev} can't go yet: site {slink} does not have all of it; `replicator \
                 wait` waits until it has, and a site that is to keep what it has is taken away \
                 first, or taken down"
            ),
            Self::LogSize(error) => error.fmt(f),
            Self::Room(error) => write!(f, "the log has no room for it: {error}"),
            Self::NotRunning => f.write_str("the log is not open"),
            Self::LogLost => {
                f.write_str("the log is lost; `replace-log` makes a new one, and then it can be")
            }
        }
    }
}

impl std::error::Error for ReloadError {}
