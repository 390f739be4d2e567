//! A daemon's possessions: name, engine, ublk devices, links, files. What comes, comes in
//! this order; what goes, goes in the opposite one.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use blk::{DevNr, Sectors};
use replicator::DevicePlan;
use table::Group;
use ublk_target::{Added, Device, DeviceSpec, Ublk};
use uuid::Uuid;

use super::drive::{Drive, random_u64};
use super::orders::Desk;
use super::serve::receive;
use super::ublk::deleted_at_the_end;
use crate::control::{Server, Wish};
use crate::links::Links;
use crate::runtime::{DeviceState, GroupDir, Lock, PidFiles, ROOT, State};
use crate::udev::{Facts, Moment, Udev};

/// A replicator that is being served.
pub(super) struct Daemon {
    pub(super) dir: GroupDir,
    pub(super) lock: Lock,
    pub(super) drive: Drive,
    /// The table it serves.
    pub(super) table: Group,
    /// The table that a successor finds.
    pub(super) kept: Option<Group>,
    links: Links,
    udev: Udev,
    /// What a successor must know; always written before it is true.
    pub(super) state: State,
    /// The same devices, for those who only look.
    shown: Shown,
    /// The devices served, in the order in which they came.
    pub(super) served: Vec<Device>,
    /// Devices that others have stopped, and when: they are about to delete them.
    pub(super) stopped: Vec<(DeviceState, Instant)>,
    shape: Shape,
}

/// How a device is made that was not there before.
#[derive(Clone, Copy, Default)]
struct Making {
    id: Option<u32>,
    /// The least that its logical block may be.
    block: u32,
    depth: Option<u16>,
    request_max: Option<Sectors>,
}

/// The devices that there are, for threads that only look.
pub(super) type Shown = Arc<Mutex<Vec<DeviceState>>>;

/// What all new devices of a daemon have in common.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    /// Whether nearness of sectors matters on any leg.
    pub(super) rotational: bool,
    /// The longest request.
    pub(super) request_max: Sectors,
    /// What the group is, whatever it is called and wherever its log is.
    pub(super) group: Uuid,
    /// Whether the driver tells those who have a device open that it has grown.
    pub(super) tells_of_growth: bool,
}

impl Daemon {
    pub(super) fn new(dir: GroupDir, lock: Lock, table: Group, drive: Drive, shape: Shape) -> Self {
        let (links, udev, state) = (Links::of_host(), Udev::of_host(), State::of_this_process());
        let (served, stopped) = (Vec::new(), Vec::new());
        let (shown, kept) = (Shown::default(), None);
        Self { dir, lock, drive, table, kept, links, udev, state, shown, served, stopped, shape }
    }

    /// The devices it has, or is about to have.
    pub(super) fn states(&self) -> &[DeviceState] {
        &self.state.devices
    }

    /// Makes the devices of a dead daemon its own; they are taken over by [`Self::serve`].
    /// Of the others those that are `withheld` are not given to anybody.
    pub(super) fn inherit(
        &mut self,
        devices: Vec<DeviceState>,
        withheld: BTreeSet<u32>,
    ) -> Result<()> {
        (self.state.devices, self.state.withheld) = (devices, withheld);
        self.dir.clear_last_error()?;
        self.write_state()
    }

    pub(super) fn write_state(&self) -> Result<()> {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.clone_from(&self.state.devices);
        self.dir.write_state(&self.state)
    }

    /// Serves one device: the one it inherited, or a new one.
    pub(super) fn serve(&mut self, device: &DevicePlan) -> Result<()> {
        self.serve_as(device, &Wish::default())
    }

    /// The same, and how a new one is to be.
    pub(super) fn serve_as(&mut self, device: &DevicePlan, wish: &Wish) -> Result<()> {
        let inherited = self.state.devices.iter().find(|it| it.nr == device.nr.0);
        let handle = self.drive.handle();
        match inherited {
            Some(it) => {
                let (ublk, served) =
                    (it.ublk, Device::recover(it.ublk, it.mark, handle, device.nr)?);
                // The dead daemon may have been about to call it otherwise.
                self.note_name(device.nr, &device.name)?;
                self.is_served(&device.name, served)?;
                // Or have suspended it.
                self.tell_udev(&device.name, ublk, false);
                self.show_name(device.nr)
            }
            None => {
                let (id, depth) = (wish.ublk, wish.depth);
                let request_max = wish.request_max.map(Sectors);
                self.serve_new(device, Making { id, depth, request_max, block: 0 })
            }
        }
    }

    /// Serves a new device; returns when its links are there.
    fn serve_new(&mut self, device: &DevicePlan, making: Making) -> Result<()> {
        let added = self.add(device, making)?;
        let (ublk, since) = (added.id(), Moment::now());
        self.tell(&device.name, ublk, false)?;
        let served = match added.start(self.drive.handle(), device.nr) {
            Ok(served) => served,
            Err(error) => {
                // The next device of that number may be anybody's.
                self.udev.forget(ublk, &device.name)?;
                return Err(error.into());
            }
        };
        self.is_served(&device.name, served)?;
        self.udev.wait_until_seen(ublk, since);
        Ok(())
    }

    /// A device can be used from now on: by its name, and by those who know it by ublksrv's file.
    fn is_served(&mut self, name: &str, served: Device) -> Result<()> {
        let ublk = served.id();
        self.served.push(served);
        self.links.make(name, ublk)?;
        self.describe(ublk);
        Ok(())
    }

    /// A device is called `name` from now on, and what it was called before is to go.
    pub(super) fn note_name(&mut self, dev: DevNr, name: &str) -> Result<()> {
        match self.state.devices.iter_mut().find(|it| it.nr == dev.0 && it.name != name) {
            Some(it) => {
                it.was = Some(std::mem::replace(&mut it.name, name.to_owned()));
                self.write_state()
            }
            None => Ok(()),
        }
    }

    /// What users knew a device by that has another name is that name's; returns when it is.
    pub(super) fn show_name(&mut self, dev: DevNr) -> Result<()> {
        let Some(at) = self.state.devices.iter().position(|it| it.nr == dev.0) else {
            return Ok(());
        };
        let DeviceState { name, was: Some(was), ublk, .. } = self.state.devices[at].clone() else {
            return Ok(());
        };
        let suspended = self.drive.view().is_suspended(Some(dev))?;
        self.tell(&name, ublk, suspended)?;
        self.links.rename(&was, &name, ublk)?;
        self.links.remove(&was, ublk)?;
        self.udev.call_with_partitions(ublk);
        self.udev.wait_until_not_called(ublk, &was);
        self.describe(ublk);
        self.state.devices[at].was = None;
        self.write_state()
    }

    /// Has udev know of a device from its next event on; whether that is new.
    fn tell(&self, name: &str, ublk: u32, suspended: bool) -> Result<bool> {
        let known = self.state.devices.iter().find(|it| it.ublk == ublk);
        let nr = known.context("the device has gone again")?.nr;
        let identity = format!("{}-{nr}", self.shape.group);
        let replicator = self.dir.name().as_str();
        self.udev.tell(ublk, &Facts { name, replicator, identity: &identity, suspended })
    }

    /// What a device does for its users does not depend on it.
    fn tell_udev(&self, name: &str, ublk: u32, suspended: bool) {
        match self.tell(name, ublk, suspended) {
            Ok(true) => self.udev.call(ublk),
            Ok(false) => {}
            Err(error) => log::warn!("udev was not told of a change of {name}: {error:#}"),
        }
    }

    /// Tells udev which devices are suspended: it must not wait for what nobody answers.
    pub(super) fn tell_udev_who_is_suspended(&self) -> Result<()> {
        for device in self.drive.view().status()?.devices {
            if let Some(it) = self.states().iter().find(|it| it.name == device.name) {
                self.tell_udev(&it.name, it.ublk, device.suspended);
            }
        }
        Ok(())
    }

    /// Whether a device can grow while somebody has it open.
    pub(super) fn grows_in_use(&self) -> bool {
        self.shape.tells_of_growth
    }

    /// Serves a device that has grown as long as it is.
    pub(super) fn lengthen(&mut self, device: &DevicePlan) -> Result<()> {
        let Some(at) = self.state.devices.iter().position(|it| it.nr == device.nr.0) else {
            // It was taken away for that before, and could not be made anew.
            return self.serve(device);
        };
        let before = self.state.devices[at].clone();
        let place = self.served.iter().position(|it| it.id() == before.ublk);
        let place = place.expect("a device that is known is served");
        if !self.grows_in_use() {
            return self.serve_anew(device, &before, place);
        }
        self.served[place].grow(device.size)?;
        self.describe(before.ublk);
        // Only now: a successor that finds the old size here does it again.
        self.state.devices[at].sectors = device.size.0;
        self.write_state()
    }

    /// Serves a device anew, with the number and the blocks that it had. Nobody may have it open.
    fn serve_anew(
        &mut self,
        device: &DevicePlan,
        before: &DeviceState,
        place: usize,
    ) -> Result<()> {
        let found = Ublk::query(before.ublk)?;
        let (depth, request_max) = (Some(found.depth), Some(found.request_max));
        let making =
            Making { id: Some(before.ublk), block: logical_block_of(before)?, depth, request_max };
        let served = self.served.remove(place);
        self.take_away(served)?;
        self.serve_new(device, making)
    }

    /// Whether a device is served, or about to be.
    pub(super) fn has(&self, dev: DevNr) -> bool {
        self.state.devices.iter().any(|it| it.nr == dev.0)
    }

    /// Refuses a name that something else has which no daemon made.
    pub(super) fn check_link(&self, name: &str) -> Result<()> {
        self.links.check(name)
    }

    /// Takes one device away.
    pub(super) fn remove_device(&mut self, dev: DevNr) -> Result<()> {
        let ublk = self.state.devices.iter().find(|it| it.nr == dev.0).map(|it| it.ublk);
        match self.served.iter().position(|it| Some(it.id()) == ublk) {
            Some(at) => {
                let device = self.served.remove(at);
                self.take_away(device)
            }
            None => Ok(()),
        }
    }

    /// Takes the devices away, last first. What could not be taken away stays known.
    pub(super) fn remove_devices(&mut self) -> Result<()> {
        while let Some(device) = self.served.pop() {
            self.take_away(device)?;
        }
        Ok(())
    }

    fn take_away(&mut self, device: Device) -> Result<()> {
        let ublk = device.id();
        if let Err(error) = self.end_device(&device) {
            // Another try goes on from there.
            self.served.push(device);
            return Err(error);
        }
        self.state.devices.retain(|it| it.ublk != ublk);
        self.write_state()
    }

    fn end_device(&self, device: &Device) -> Result<()> {
        let (ublk, path) = (device.id(), device.path());
        let (record, since) = (self.udev.record(ublk), Moment::now());
        // Before its number is free: the next device that has it may be anybody's.
        self.hide_device(ublk)?;
        device
            .remove(self.drive.handle())
            .with_context(|| format!("taking {} away", path.display()))?;
        self.udev.wait_until_gone(record, since);
        // Udev may have looked at it once more before it went, and made the link anew.
        self.hide_device(ublk)
    }

    fn hide_device(&self, ublk: u32) -> Result<()> {
        let known = self.state.devices.iter().find(|it| it.ublk == ublk);
        known.map_or(Ok(()), |it| self.hide(it))
    }

    /// What users know a device by goes.
    pub(super) fn hide(&self, device: &DeviceState) -> Result<()> {
        PidFiles::of_host().remove(device.ublk, std::process::id())?;
        for name in device.names() {
            self.udev.forget(device.ublk, name)?;
            self.links.remove(name, device.ublk)?;
        }
        Ok(())
    }

    /// Ends everything: no device is left, the engine stops, the name is free.
    pub(super) fn end(mut self, drain: bool) -> Result<()> {
        self.remove_devices()?;
        let stopped = self.drive.stop(drain, STOP_LIMIT);
        self.drive.end();
        deleted_at_the_end(&self.stopped);
        self.dir.clear(self.lock)?;
        log::info!("{}: ended, nothing of it is left", self.dir.name());
        // The log has what a site still lacks: a reason to tell, not to stay.
        stopped.context("its devices are gone, its log is as it was: the next start replays it")
    }

    /// Answers callers from now on, on threads of their own.
    pub(super) fn listen(&self, desk: Desk) -> Result<()> {
        let (view, devices) = (self.drive.view(), Arc::clone(&self.shown));
        Server::bind(&self.dir.socket(), ROOT)?
            .start(move |request, replies| receive(&desk, &view, &devices, request, replies))
    }

    /// Undoes a start.
    pub(super) fn undo(self) -> Result<()> {
        self.end(false)
    }

    /// Adds a device to the driver, and records it before it can be used.
    fn add(&mut self, device: &DevicePlan, making: Making) -> Result<Added> {
        let mark = random_u64()?;
        let block = self.drive.plan()?.logical_block(device.nr);
        let longest = self.shape.request_max;
        let usual = DeviceSpec::new(device.size, block.max(making.block));
        let added = Device::create(DeviceSpec {
            id: making.id,
            request_max: making.request_max.map_or(longest, |it| it.min(longest)),
            depth: making.depth.unwrap_or(usual.depth),
            rotational: self.shape.rotational,
            mark,
            ..usual
        })?;
        self.state.devices.push(DeviceState {
            name: device.name.clone(),
            was: None,
            nr: device.nr.0,
            ublk: added.id(),
            mark,
            sectors: device.size.0,
        });
        self.write_state()?;
        Ok(added)
    }
}

/// Bytes of a device's logical block, as its users know it.
fn logical_block_of(device: &DeviceState) -> Result<u32> {
    let path = format!("/sys/block/ublkb{}/queue/logical_block_size", device.ublk);
    let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    text.trim().parse().with_context(|| path)
}

/// How long the last checkpoint, and what is in flight, may take: longer than any I/O that ends.
pub(super) const STOP_LIMIT: Duration = Duration::from_secs(15);
