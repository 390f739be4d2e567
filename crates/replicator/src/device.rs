//! A device of the group: what the target `replicator-dev` makes.

use blk::{DevNr, Sector, Sectors};
use replog::Version;

use crate::plan::DevicePlan;

/// A replicated device, without its front end.
#[derive(Debug)]
pub struct Device {
    pub(crate) nr: DevNr,
    pub(crate) size: Sectors,
    /// New requests wait.
    pub(crate) suspended: bool,
    /// The device is about to go: what is asked of it gets an error.
    pub(crate) going: bool,
    /// New requests wait until the log says durably that it is one of its devices: nobody could
    /// tell otherwise what its writes are.
    pub(crate) joining: Option<Version>,
    /// Requests that were taken and have not ended.
    pub(crate) in_flight: u64,
    pub(crate) counters: Counters,
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
    /// A device as its plan says.
    #[must_use]
    pub fn new(plan: &DevicePlan) -> Self {
        Self {
            nr: plan.nr,
            size: plan.size,
            suspended: false,
            going: false,
            joining: None,
            in_flight: 0,
            counters: Counters::default(),
        }
    }

    /// Whether a range lies on the device.
    pub(crate) fn holds(&self, sector: Sector, len: Sectors) -> bool {
        len.0 > 0 && sector.0.checked_add(len.0).is_some_and(|end| end <= self.size.0)
    }
}
