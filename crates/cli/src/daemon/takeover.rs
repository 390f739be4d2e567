//! What a daemon that died left: whether there is anything, whose it is now, how it ends.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};
use ublk_target::{Device, Ublk};

use super::job::{Job, Takeover};
use crate::links::Links;
use crate::runtime::{DeviceState, GroupDir, PidFiles};

/// What a daemon that died has left.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// Its process.
    pid: u32,
    /// Devices that wait for a successor.
    pub(super) waiting: Vec<DeviceState>,
    /// Devices that somebody else has deleted since.
    pub(super) deleted: Vec<DeviceState>,
    /// Numbers of devices that it gave to nobody.
    pub(super) withheld: BTreeSet<u32>,
}

/// The devices to be taken over, if there are any; an error if there may not be, or must be.
pub(super) fn inheritance(job: &Job, group: &GroupDir) -> Result<Left> {
    let left = left(group)?;
    let name = &job.name;
    match (job.takeover, left.waiting.is_empty()) {
        (_, true) if job.takeover == Takeover::Must => {
            bail!("no ublk device of it waits; `replicator remove --force {name}` clears up")
        }
        (_, true) => Ok(left),
        (Takeover::Refuse, false) => bail!(
            "its daemon died and its devices wait: `replicator recover {name}` lets them go on, \
             `replicator remove --force {name}` gives them up"
        ),
        (Takeover::IfAny | Takeover::Must, false) => {
            ensure_same_table(job, group)?;
            Ok(left)
        }
    }
}

/// Removes what a daemon that died left, except the log: the next start replays it.
pub(crate) fn bury(group: &GroupDir) -> Result<()> {
    let lock = group.lock()?;
    let left = left(group)?;
    let devices = &left.waiting;
    left.hide(&left.deleted)?;
    for device in devices {
        Device::abandon(device.ublk, device.mark)
            .with_context(|| format!("{}: {}", device.name, device.path()))?;
    }
    for device in devices {
        Device::discard(device.ublk, device.mark)
            .with_context(|| format!("{}: {}", device.name, device.path()))?;
        left.hide(std::slice::from_ref(device))?;
    }
    group.clear(lock)
}

impl Left {
    /// What users knew devices by goes.
    pub(super) fn hide(&self, devices: &[DeviceState]) -> Result<()> {
        for device in devices {
            PidFiles::of_host().remove(device.ublk, self.pid)?;
            Links::of_host().remove(&device.name, device.ublk)?;
        }
        Ok(())
    }
}

/// Which devices of a dead daemon are still there and still its own: the driver keeps the mark of
/// each. One that had not been started has no users, and goes.
fn left(group: &GroupDir) -> Result<Left> {
    let Some(state) = group.state()? else { return Ok(Left::default()) };
    let mut left = Left { pid: state.pid, withheld: state.withheld, ..Left::default() };
    for device in state.devices {
        let found = Ublk::query(device.ublk).ok().filter(|found| found.mark == device.mark);
        match found.map(|found| found.state) {
            Some(ublk_target::DeviceState::Dead) => {
                Device::discard(device.ublk, device.mark).with_context(|| device.path())?;
            }
            Some(_) => left.waiting.push(device),
            None => left.deleted.push(device),
        }
    }
    Ok(left)
}

/// The waiting devices have the sizes and numbers of the old table.
fn ensure_same_table(job: &Job, group: &GroupDir) -> Result<()> {
    let old = group.table()?.context("its daemon died and left no table")?;
    ensure!(
        old == job.table,
        "its daemon died, its devices wait, and the table has changed since: \
         `replicator recover {}` goes on with the old one; after that, `remove` and start anew",
        job.name
    );
    Ok(())
}
