//! What a daemon that died left: whether there is anything, whose it is now, how it ends.

use anyhow::{Context, Result, bail, ensure};
use ublk_target::{Device, Ublk};

use super::job::{Job, Takeover};
use crate::links::Links;
use crate::runtime::{DeviceState, GroupDir, PidFiles};

/// The devices to be taken over, if there are any; an error if there may not be, or must be.
pub(super) fn inheritance(job: &Job, group: &GroupDir) -> Result<Vec<DeviceState>> {
    let left = waiting(group)?;
    let name = &job.name;
    match (job.takeover, left.is_empty()) {
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
    let devices = waiting(group)?;
    for device in &devices {
        Device::abandon(device.ublk, device.mark)
            .with_context(|| format!("{}: {}", device.name, device.path()))?;
    }
    if let Some(state) = group.state()? {
        // Also of those that somebody else has deleted meanwhile.
        let files = PidFiles::of_host();
        state.devices.iter().try_for_each(|device| files.remove(device.ublk, state.pid))?;
    }
    for device in &devices {
        Device::discard(device.ublk, device.mark)
            .with_context(|| format!("{}: {}", device.name, device.path()))?;
        Links::of_host().remove(&device.name, device.ublk)?;
    }
    group.clear(lock)
}

/// The devices of a dead daemon that are still there and still its own: the driver keeps
/// the mark of each. One that had not been started has no users, and goes.
fn waiting(group: &GroupDir) -> Result<Vec<DeviceState>> {
    let mut waiting = group.state()?.map(|state| state.devices).unwrap_or_default();
    let mut unstarted = Vec::new();
    waiting.retain(|device| {
        let found = Ublk::query(device.ublk).ok().filter(|found| found.mark == device.mark);
        if found.is_some_and(|found| found.state == ublk_target::DeviceState::Dead) {
            unstarted.push(device.clone());
            return false;
        }
        found.is_some()
    });
    for device in unstarted {
        Device::discard(device.ublk, device.mark).with_context(|| device.path())?;
    }
    Ok(waiting)
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
