//! What a daemon that died left: whether there is anything, whose it is now, how it ends.

use anyhow::{Context, Result, bail};
use ublk_target::{Device, Ublk};

use super::job::{Job, Takeover};
use crate::links::Links;
use crate::runtime::{DeviceState, GroupDir};
use crate::udev::{Moment, Udev};

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
        (Takeover::IfAny | Takeover::Must, false) => Ok(left),
    }
}

/// Removes what a daemon that died left, except the log: the next start replays it.
pub(crate) fn bury(group: &GroupDir) -> Result<()> {
    let lock = group.lock()?;
    let devices = waiting(group)?;
    let (udev, since) = (Udev::of_host(), Moment::now());
    let records: Vec<_> = devices.iter().map(|device| udev.record(device.ublk)).collect();
    for device in &devices {
        Device::abandon(device.ublk, device.mark)
            .with_context(|| format!("{}: {}", device.name, device.path()))?;
    }
    let links = Links::of_host();
    for (device, record) in devices.iter().zip(records) {
        // Before its number is free: the next device that has it may be anybody's.
        links.remove(&device.name, device.ublk)?;
        udev.forget(device.ublk)?;
        Device::discard(device.ublk, device.mark)
            .with_context(|| format!("{}: {}", device.name, device.path()))?;
        udev.wait_until_gone(record, since);
        // Udev may have looked at it once more before it went, and made the link anew.
        links.remove(&device.name, device.ublk)?;
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
        Udev::of_host().forget(device.ublk)?;
    }
    Ok(waiting)
}

/// What is served in place of the daemon that died: its devices have the sizes and numbers of the
/// table that it had. Users wait for them, and a service that starts again must not refuse them
/// because somebody has edited its file meanwhile.
pub(super) fn as_left(job: &Job, group: &GroupDir) -> Result<Job> {
    let table = group.table()?.context("its daemon died and left no table")?;
    if table != job.table {
        log::warn!(
            "{}: its devices wait since its daemon died, so it goes on with the table that this \
             one had; `replicator reload` brings another",
            job.name
        );
    }
    Ok(Job { table, ..job.clone() })
}
