//! What a daemon that died left: whether there is anything, whose it is now, how it ends.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};
use ublk_target::{Device, Ublk};

use super::job::{Job, Takeover};
use crate::links::Links;
use crate::runtime::{DeviceState, GroupDir, PidFiles, RuntimeDir, Tenant};
use crate::tables::{from_text, left_in};
use crate::udev::{Moment, Udev};

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
        (Takeover::IfAny | Takeover::Must, false) => Ok(left),
    }
}

/// Removes what a daemon that died left, except the log: the next start replays it.
pub(crate) fn bury(group: &GroupDir) -> Result<()> {
    let lock = group.lock()?;
    let left = left(group)?;
    left.hide(&left.deleted)?;
    let (udev, since) = (Udev::of_host(), Moment::now());
    let records: Vec<_> = left.waiting.iter().map(|device| udev.record(device.ublk)).collect();
    for device in &left.waiting {
        Device::abandon(device.ublk, device.mark)
            .with_context(|| format!("{}: {}", device.name, device.path()))?;
    }
    for (device, record) in left.waiting.iter().zip(records) {
        // Before its number is free: the next device that has it may be anybody's.
        left.hide(std::slice::from_ref(device))?;
        Device::discard(device.ublk, device.mark)
            .with_context(|| format!("{}: {}", device.name, device.path()))?;
        udev.wait_until_gone(record, since);
        // Udev may have looked at it once more before it went, and made the link anew.
        left.hide(std::slice::from_ref(device))?;
    }
    group.clear(lock)
}

impl Left {
    /// What users knew devices by goes.
    pub(super) fn hide(&self, devices: &[DeviceState]) -> Result<()> {
        for device in devices {
            PidFiles::of_host().remove(device.ublk, self.pid)?;
            for name in device.names() {
                Udev::of_host().forget(device.ublk, name)?;
                Links::of_host().remove(name, device.ublk)?;
            }
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
                Udev::of_host().forget(device.ublk, &device.name)?;
            }
            Some(_) => left.waiting.push(device),
            None => left.deleted.push(device),
        }
    }
    Ok(left)
}

/// What is served in place of the daemon that died: its devices have the sizes and numbers of the
/// table that it had. Users wait for them, and a service that starts again must not refuse them
/// because somebody has edited its file meanwhile.
pub(super) fn as_left(job: &Job, group: &GroupDir) -> Result<Job> {
    let table = left_in(group)?.context("its daemon died and left no table")?.text;
    if table != job.table {
        log::warn!(
            "{}: its devices wait since its daemon died, so it goes on with the table that this \
             one had; `replicator reload` brings another",
            job.name
        );
    }
    Ok(Job { table, ..job.clone() })
}

/// What a daemon has left that died while it gave its replicator another name: the old one, empty.
pub(super) fn finish_rename(group: &GroupDir) -> Result<()> {
    let text = group.table()?.context("its daemon died and left no table")?;
    let before = from_text(&text)?.name;
    if before == *group.name() {
        return Ok(());
    }
    let before = RuntimeDir::open()?.group(&before);
    match before.tenant()? {
        // Nobody's by now, or somebody's who just begins.
        Tenant::Nobody => before.clear(before.lock()?),
        Tenant::Gone | Tenant::Alive(_) => Ok(()),
    }
}
