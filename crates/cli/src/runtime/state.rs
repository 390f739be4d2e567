//! What a successor must know of a daemon that is gone: which ublk devices are its own.

use std::collections::BTreeSet;
use std::fs;

use serde::{Deserialize, Serialize};

/// Written before the first ublk device starts, and again whenever it changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct State {
    /// The process that served the devices.
    pub(crate) pid: u32,
    /// The boot during which it did: ublk devices don't outlive one.
    pub(crate) boot: String,
    /// Its devices, as far as they had been made.
    pub(crate) devices: Vec<DeviceState>,
    /// Numbers of devices that its table has, and nobody is to be given: they were not asked for
    /// yet, or somebody else deleted them.
    #[serde(default)]
    pub(crate) withheld: BTreeSet<u32>,
}

/// One ublk device of a replicator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeviceState {
    /// What users call it.
    pub(crate) name: String,
    /// What they called it before, if its link may be there yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) was: Option<String>,
    /// The number that tags its writes in the log.
    pub(crate) nr: u32,
    /// The N of `/dev/ublkbN`.
    pub(crate) ublk: u32,
    /// What the driver keeps for us, so that another's device of that number is told apart.
    pub(crate) mark: u64,
    /// Its size.
    pub(crate) sectors: u64,
}

impl State {
    /// This process's state, without devices.
    pub(crate) fn of_this_process() -> Self {
        Self {
            pid: std::process::id(),
            boot: boot(),
            devices: Vec::new(),
            withheld: BTreeSet::new(),
        }
    }

    /// Whether its ublk devices may still be there.
    pub(crate) fn is_of_this_boot(&self) -> bool {
        self.boot == boot()
    }
}

impl DeviceState {
    /// All that users may know it by.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.name).chain(&self.was).map(String::as_str)
    }

    /// The path of the block device.
    pub(crate) fn path(&self) -> String {
        format!("/dev/ublkb{}", self.ublk)
    }
}

/// The kernel's identity of this boot; empty where it gives none, which then is no difference.
fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}
