//! Devices one at a time, as ublksrv's front end gives and takes them.
//!
//! A replicator has all the disks of its table from the beginning, and its log and its sites all its
//! devices: what a crash must not tear apart is always together (P3). What comes and goes one by one
//! is only what users see of a device. One that nobody was given is *withheld*.
//!
//! `ublk del` stops a device and then deletes it, without a word to whoever serves it. The engine
//! notices, and lets go; here what the device was known by goes. Its writes are in the log, and on
//! their way to its disks, as ever. With the last device the daemon ends, as for SIGTERM: the sites
//! are waited for, and the log keeps what they lack.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use blk::DevNr;
use replicator::changes;
use rustix::thread::{Pid, sched_getaffinity};
use table::{Group, GroupDevice};
use ublk_target::{Device, DeviceState as Is, Released, Ublk};

use super::served::Daemon;
use crate::control::Wish;
use crate::runtime::{Description, DeviceState, PidFiles};

/// What is left when a device has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    Devices,
    Nothing,
}

impl Daemon {
    /// Whether nobody is to be given a device, although its table has it.
    pub(super) fn withholds(&self, dev: DevNr) -> bool {
        self.state.withheld.contains(&dev.0)
    }

    /// They are not of its table any more.
    pub(super) fn forget_withheld(&mut self, gone: &[DevNr]) -> Result<()> {
        let before = self.state.withheld.len();
        self.state.withheld.retain(|nr| !gone.contains(&DevNr(*nr)));
        if self.state.withheld.len() == before { Ok(()) } else { self.write_state() }
    }

    /// Lets a device be had, as `group` has it; the N of its `/dev/ublkbN`.
    pub(super) fn give(&mut self, group: &Group, wish: &Wish) -> Result<u32> {
        let asked = group.devices.iter().find(|it| it.name == wish.device);
        let asked = asked.with_context(|| format!("the table has no device {}", wish.device))?;
        let dev = asked.table.dev_nr;
        if let Some(it) = self.states().iter().find(|it| it.name == asked.name) {
            bail!("the device {} can be had already: {}", it.name, it.path());
        }
        self.join(asked)?;
        // Whoever makes a device reads from it.
        ensure!(
            !self.drive.view().is_suspended(Some(dev))?,
            "the device {0} is suspended: `replicator resume {1}` first",
            asked.name,
            self.dir.name()
        );
        let plan = self.drive.plan()?;
        let device = plan.device(dev).context("the device has gone again")?;
        if let Err(error) = self.serve_as(device, wish) {
            self.remove_device(dev)?;
            return Err(error.context(format!("device {}", device.name)));
        }
        self.state.withheld.remove(&dev.0);
        self.write_state()?;
        let served = self.states().iter().find(|it| it.nr == dev.0);
        Ok(served.context("the device has gone again")?.ublk)
    }

    /// Makes sure that a device is one of its own; withheld, if it is new.
    fn join(&mut self, asked: &GroupDevice) -> Result<()> {
        let is_it =
            |it: &&mut GroupDevice| it.name == asked.name || it.table.dev_nr == asked.table.dev_nr;
        let mut new = self.table.clone();
        match new.devices.iter_mut().find(is_it) {
            Some(known) => {
                let before = known.clone();
                *known = asked.clone();
                let same = changes(&self.table, &new).is_ok_and(|changes| changes.is_empty());
                ensure!(
                    same,
                    "expected the device as this replicator has it, `{}: {}`, found `{}: {}`; \
                     `replicator reload` changes it",
                    before.name,
                    before.table,
                    asked.name,
                    asked.table
                );
                Ok(())
            }
            None => {
                new.devices.push(asked.clone());
                let new = new.checked().context("nothing was changed")?;
                let dev = asked.table.dev_nr;
                self.state.withheld.insert(dev.0);
                let joined = self.write_state().and_then(|()| self.reload(&new).map(drop));
                if joined.is_err() && !self.table.devices.iter().any(|it| it.table.dev_nr == dev) {
                    self.forget_withheld(&[dev])?;
                }
                joined
            }
        }
    }

    /// The engine has let go of a device. If nobody here asked for that, somebody has deleted it, or
    /// is about to.
    pub(super) fn let_go_of(&mut self, released: Released) -> Rest {
        let Some(at) = self.served.iter().position(|it| it.is(released)) else {
            return Rest::Devices;
        };
        let ublk = self.served[at].id();
        let here = self.state.devices.iter().position(|it| it.ublk == ublk);
        let here = here.expect("a device that is served is known");
        let name = self.state.devices[here].name.clone();
        if is_to_be_recovered(ublk) {
            log::warn!(
                "{name}: somebody took /dev/ublkb{ublk} from this daemon; it waits for `replicator recover` after this one has ended"
            );
            return Rest::Devices;
        }
        self.served.remove(at);
        let device = self.state.devices.remove(here);
        log::warn!("{name}: somebody deleted /dev/ublkb{ublk}; what was written to it is kept");
        // First: who deletes it waits for that.
        let forgotten = || self.udev.forget(device.ublk, &device.name);
        if let Err(error) = self.hide(&device).and_then(|()| forgotten()) {
            log::warn!("{error:#}");
        }
        self.state.withheld.insert(device.nr);
        self.stopped.push((device, Instant::now()));
        if let Err(error) = self.write_state() {
            // A successor looks for the device, and finds that it is not there any more.
            log::warn!("{error:#}");
        }
        if self.state.devices.is_empty() { Rest::Nothing } else { Rest::Devices }
    }

    /// Who stops a device deletes it in a moment. If he died meanwhile, it is done for him.
    pub(super) fn delete_what_others_stopped(&mut self, pause: Duration) {
        self.stopped.retain(|(device, _)| is_there(device));
        let (late, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.stopped).into_iter().partition(|it| it.1.elapsed() >= pause);
        self.stopped = rest;
        late.iter().for_each(|(device, _)| delete(device));
    }

    /// Writes what ublksrv's `ublk` knows a device by. Who does not use that needs none of it.
    pub(super) fn describe(&self, ublk: u32) {
        if let Err(error) = self.try_to_describe(ublk) {
            log::warn!("`ublk list` and `ublk recover` won't know /dev/ublkb{ublk}: {error:#}");
        }
    }

    fn try_to_describe(&self, ublk: u32) -> Result<()> {
        let device = self.states().iter().find(|it| it.ublk == ublk);
        let device = device.context("the device has gone again")?;
        let thread = self.drive.thread()?;
        PidFiles::of_host().write(
            ublk,
            &Description {
                pid: std::process::id(),
                thread: thread.as_raw_pid(),
                cpus: &cpus(thread)?,
                details: &Ublk::details(ublk)?,
                replicator: self.dir.name().as_str(),
                name: &device.name,
                size: device.sectors * SECTOR_BYTES,
            },
        )
    }
}

/// Waits until others have deleted what they stopped; after a moment it is done for them.
pub(super) fn deleted_at_the_end(stopped: &[(DeviceState, Instant)]) {
    let deadline = Instant::now() + ENDING_PAUSE;
    while Instant::now() < deadline && stopped.iter().any(|(device, _)| is_there(device)) {
        std::thread::sleep(POLL);
    }
    for (device, _) in stopped.iter().filter(|(device, _)| is_there(device)) {
        delete(device);
    }
}

fn delete(device: &DeviceState) {
    match Device::delete_stopped(device.ublk, device.mark) {
        Ok(()) => {
            log::info!("{}: /dev/ublkb{} was stopped, and is deleted", device.name, device.ublk);
        }
        Err(error) => log::warn!("{}: {error}", device.name),
    }
}

/// Whether the driver still has it.
fn is_there(device: &DeviceState) -> bool {
    Ublk::query(device.ublk).is_ok_and(|found| found.mark == device.mark)
}

/// Whether its requests wait for another server: then it was not deleted.
fn is_to_be_recovered(ublk: u32) -> bool {
    matches!(Ublk::query(ublk).map(|found| found.state), Ok(Is::Quiesced | Is::FailIo))
}

fn cpus(thread: Pid) -> Result<Vec<usize>> {
    let set = sched_getaffinity(Some(thread)).context("asking where the engine runs")?;
    Ok((0..CPUS_MAX).filter(|cpu| set.is_set(*cpu)).collect())
}

const SECTOR_BYTES: u64 = 512;
const CPUS_MAX: usize = rustix::thread::CpuSet::MAX_CPU;
const POLL: Duration = Duration::from_millis(20);
/// Longer than `ublk del` takes from one to the other.
const ENDING_PAUSE: Duration = Duration::from_secs(3);
