//! Composition: a plan's types are looked up in a registry, and their constructors
//! make the parts of a replicator.

use std::collections::BTreeMap;

use blk::{DevNr, IoOwner, SlinkNr};
use dirty_log::DirtyLogClass;
use registry::{Lease, Registry};
use replog::format::superblock::{DeviceRecord, LegRecord};
use replog::{Joining, OpenMode, OpenSpec, Opening, Roster};
use slink::{Leg, LinkSpec, SiteLink, SlinkClass};
use table::SlinkTable;

use crate::device::Device;
use crate::machine::Replicator;
use crate::plan::{DevicePlan, LegPlan, Plan, PlanError, Seed};
use crate::types::{ReplogClass, TargetClass, TargetConstructor, registry};

/// What a replicator is made of.
pub(crate) struct Parts {
    pub(crate) opening: Opening,
    pub(crate) links: Vec<Box<dyn SiteLink>>,
    pub(crate) devices: BTreeMap<DevNr, Device>,
    pub(crate) leases: Leases,
}

/// The types a replicator is or was made of: they stay registered while it lives.
pub(crate) struct Leases {
    _replog: Lease<ReplogClass>,
    slinks: Vec<Lease<SlinkClass>>,
    dirty_logs: Vec<Lease<DirtyLogClass>>,
    targets: Vec<Lease<TargetClass>>,
}

impl Replicator {
    /// A replicator made of the types that this program has built in.
    ///
    /// # Errors
    /// A type in the table that is not registered.
    pub fn open(plan: Plan, seed: Seed) -> Result<Self, PlanError> {
        let registry = registry();
        let target = registry.get::<TargetClass>("replicator")?;
        let TargetConstructor::Group(construct) = *target else {
            unreachable!("the target `replicator` makes a group")
        };
        construct(plan, seed, &registry)
    }

    /// A replicator made of the types of a registry.
    ///
    /// # Errors
    /// A type in the table that is not registered.
    pub fn composed(plan: Plan, seed: Seed, registry: &Registry) -> Result<Self, PlanError> {
        let parts = Parts::of(&plan, seed, registry)?;
        Ok(Self::of_parts(plan, parts))
    }
}

impl Parts {
    fn of(plan: &Plan, seed: Seed, registry: &Registry) -> Result<Self, PlanError> {
        let replog = registry.get::<ReplogClass>(&plan.log.table.kind)?;
        let mut targets = vec![registry.get::<TargetClass>("replicator")?];
        let (mut slinks, mut links, mut dirty_logs) = (Vec::new(), Vec::new(), Vec::new());
        for slink in &plan.slinks {
            let lease = registry.get::<SlinkClass>(&slink.kind)?;
            links.push(lease(link_spec(plan, slink, registry, &mut dirty_logs)?));
            slinks.push(lease);
        }
        let mut devices = BTreeMap::new();
        for device in &plan.devices {
            devices.insert(device.nr, made(device, registry, &mut targets)?);
        }
        let opening = replog(open_spec(plan, seed));
        let leases = Leases { _replog: replog, slinks, dirty_logs, targets };
        Ok(Self { opening, links, devices, leases })
    }
}

fn made(
    device: &DevicePlan,
    registry: &Registry,
    targets: &mut Vec<Lease<TargetClass>>,
) -> Result<Device, PlanError> {
    let target = registry.get::<TargetClass>("replicator-dev")?;
    let TargetConstructor::Device(construct) = *target else {
        unreachable!("the target `replicator-dev` makes a device")
    };
    targets.push(target);
    Ok(construct(device))
}

/// Whose I/O a link asks for: a number that stays the site's; the log has number 0.
fn link_owner(slink: SlinkNr) -> IoOwner {
    IoOwner(slink.0 + 1)
}

pub(crate) fn link_of(owner: IoOwner) -> SlinkNr {
    SlinkNr(owner.0 - 1)
}

impl Leases {
    /// The link of a site that joins.
    pub(crate) fn link(
        &mut self,
        plan: &Plan,
        slink: &SlinkTable,
    ) -> Result<Box<dyn SiteLink>, PlanError> {
        let registry = registry();
        let lease = registry.get::<SlinkClass>(&slink.kind)?;
        let link = lease(link_spec(plan, slink, &registry, &mut self.dirty_logs)?);
        self.slinks.push(lease);
        Ok(link)
    }

    /// A device that joins.
    pub(crate) fn device(&mut self, device: &DevicePlan) -> Result<Device, PlanError> {
        made(device, &registry(), &mut self.targets)
    }

    /// A leg that joins a site.
    pub(crate) fn leg(
        &mut self,
        plan: &Plan,
        slink: &SlinkTable,
        dev: DevNr,
    ) -> Result<Leg, PlanError> {
        let spec = link_spec(plan, slink, &registry(), &mut self.dirty_logs)?;
        let leg = spec.legs.into_iter().find(|leg| leg.dev == dev);
        Ok(leg.expect("a leg that joins is in the plan"))
    }
}

fn link_spec(
    plan: &Plan,
    slink: &SlinkTable,
    registry: &Registry,
    dirty_logs: &mut Vec<Lease<DirtyLogClass>>,
) -> Result<LinkSpec, PlanError> {
    let mut legs = Vec::new();
    for device in &plan.devices {
        let Some(leg) = device.leg(slink.nr) else { continue };
        let lease = registry.get::<DirtyLogClass>(leg.dirty_log.kind())?;
        legs.push(Leg {
            dev: device.nr,
            size: device.size,
            block: plan.logical_block(device.nr),
            disk: leg.disk.id,
            copies: device.legs.iter().map(|leg| (leg.slink, leg.disk.id)).collect(),
            seen: leg.disk.seen.clone(),
            dirty_log: lease(dirty_log_spec(device, leg)),
        });
        dirty_logs.push(lease);
    }
    let mark = plan.marks.get(&slink.nr).map(|disk| disk.id);
    let replicator = plan.name.clone();
    Ok(LinkSpec { replicator, table: slink.clone(), owner: link_owner(slink.nr), legs, mark })
}

pub(crate) fn dirty_log_spec(device: &DevicePlan, leg: &LegPlan) -> dirty_log::Spec {
    dirty_log::Spec {
        dev: device.nr,
        slink: leg.slink,
        len: device.size,
        region: leg.dirty_log.region(device.size),
        disk: leg.dirty_log_disk.as_ref().map(|disk| (disk.id, disk.size())),
    }
}

fn open_spec(plan: &Plan, seed: Seed) -> OpenSpec {
    let log = &plan.log;
    OpenSpec {
        disk: log.disk.id,
        path: log.disk.path.clone(),
        disk_size: log.disk.size(),
        start: log.table.start,
        mode: match log.table.mode {
            table::Mode::Auto => OpenMode::Auto,
            table::Mode::Open => OpenMode::Open,
            table::Mode::Create => OpenMode::Create,
        },
        size: log.table.size,
        tail_bytes: log.table.tail_bytes(),
        ld_may_outlag_tail: log.table.ld_lag() == table::LdLag::Log,
        timeouts: plan.timeouts(),
        kept: log.kept.clone(),
        wall: seed.wall,
        uuid: seed.uuid,
        roster: roster(plan),
    }
}

/// What the roster says of a leg that joins.
pub(crate) fn joining(dev: DevNr, leg: &LegPlan) -> Joining {
    // Whatever disk is there: nothing is known of it before somebody tells.
    let identity = match leg.dirty_log.init() {
        Some(table::Init::Later) if !leg.slink.is_local() => LegRecord::UNTOLD.to_owned(),
        _ => leg.disk.identity().to_owned(),
    };
    let believed = matches!(leg.dirty_log.init(), Some(table::Init::Nosync | table::Init::Later));
    Joining {
        leg: LegRecord {
            dev,
            slink: leg.slink,
            size: leg.disk.size(),
            identity,
            all_dirty: false,
            left_out: false,
        },
        in_sync: leg.slink == SlinkNr::LOCAL || believed,
    }
}

/// The sites that have every device, by a table.
pub(crate) fn complete_sites(group: &table::Group) -> Vec<SlinkNr> {
    let has = |slink: SlinkNr| {
        let mut devices = group.devices.iter();
        devices.all(|device| device.table.legs.iter().any(|leg| leg.slink == slink))
    };
    group.table.slinks.iter().map(|slink| slink.nr).filter(|slink| has(*slink)).collect()
}

/// What the roster says of a device.
pub(crate) fn device_record(device: &DevicePlan) -> DeviceRecord {
    DeviceRecord { nr: device.nr, size: device.size, name: device.name.clone() }
}

fn roster(plan: &Plan) -> Roster {
    let legs = plan.devices.iter().flat_map(|d| d.legs.iter().map(|leg| joining(d.nr, leg)));
    Roster {
        sites: plan.slinks.iter().map(|slink| slink.nr).collect(),
        devices: plan.devices.iter().map(device_record).collect(),
        legs: legs.collect(),
    }
}
