//! A device of the group: what the target `replicator-dev` makes.

use std::collections::BTreeMap;

use blk::{DevNr, DiskId, Sector, Sectors, SlinkNr};
use dirty_log::{DirtyLog, DirtyLogClass};
use registry::{Lease, Registry, RegistryError};

use crate::plan::{DevicePlan, LegPlan};

/// A replicated device, without its front end.
#[derive(Debug)]
pub struct Device {
    pub(crate) nr: DevNr,
    pub(crate) size: Sectors,
    pub(crate) ld: DiskId,
    /// New requests wait.
    pub(crate) suspended: bool,
    /// Requests that were taken and have not ended.
    pub(crate) in_flight: u64,
    pub(crate) counters: Counters,
    /// Which regions are out of sync, for each site.
    pub(crate) dirty_logs: BTreeMap<SlinkNr, DirtyLog>,
    _leases: Vec<Lease<DirtyLogClass>>,
}

/// Requests of an application since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) reads: u64,
    pub(crate) changes: u64,
    pub(crate) flushes: u64,
    pub(crate) errors: u64,
}

impl Device {
    /// A device with the dirty logs that its plan names.
    ///
    /// # Errors
    /// A type of dirty log that nobody registered.
    pub fn new(plan: &DevicePlan, registry: &Registry) -> Result<Self, RegistryError> {
        let mut dirty_logs = BTreeMap::new();
        let mut leases = Vec::new();
        for leg in &plan.legs {
            let lease = registry.get::<DirtyLogClass>(dirty_log_type(leg))?;
            let region = leg.dirty_log.region(plan.size);
            dirty_logs.insert(leg.slink, lease(plan.size, region));
            leases.push(lease);
        }
        let ld = plan.leg(SlinkNr::LOCAL).expect("a table gives every device an LD").disk.id;
        Ok(Self {
            nr: plan.nr,
            size: plan.size,
            ld,
            suspended: false,
            in_flight: 0,
            counters: Counters::default(),
            dirty_logs,
            _leases: leases,
        })
    }

    /// Whether a range lies on the device.
    pub(crate) fn holds(&self, sector: Sector, len: Sectors) -> bool {
        len.0 > 0 && sector.0.checked_add(len.0).is_some_and(|end| end <= self.size.0)
    }
}

fn dirty_log_type(leg: &LegPlan) -> &'static str {
    match leg.dirty_log {
        table::DirtyLogTable::Nolog => "nolog",
        table::DirtyLogTable::Core { .. } => "core",
        table::DirtyLogTable::Disk { .. } => "disk",
    }
}
