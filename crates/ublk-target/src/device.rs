//! One `/dev/ublkbN`, from the control side: made, started, taken over, removed.
//!
//! All calls wait; they belong on a control thread, never on the engine's. A
//! device that is dropped goes on as it is: only [`Device::remove`] ends it, so
//! that whatever happens to this process, its requests wait for the next one.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use blk::{DevNr, Machine, Sectors};

use crate::channel::Channel;
use crate::control::{self, DeviceInfo, DeviceSpec, DeviceState};
use crate::error::{ControlError, DeviceError};
use crate::inbox::{Handle, QueueName};
use crate::listener::Released;

/// A device that the driver knows and nobody serves yet. Dropped, it is deleted.
#[derive(Debug)]
pub struct Added {
    info: DeviceInfo,
    spec: DeviceSpec,
    delete_on_drop: bool,
}

/// A device that an engine serves.
#[derive(Debug)]
pub struct Device {
    id: u32,
    queue: QueueName,
}

impl Added {
    /// N of the `/dev/ublkbN` that [`Added::start`] will make.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.info.id
    }

    /// Lets `engine` serve it as `dev`, and makes the block device. The machine
    /// gets requests before this returns: the kernel looks for partitions.
    ///
    /// # Errors
    /// If the driver or the engine refuses, or the machine does not answer in
    /// time. The device is then gone.
    pub fn start<M: Machine>(
        mut self,
        engine: &Handle<M>,
        dev: DevNr,
    ) -> Result<Device, DeviceError> {
        let id = self.info.id;
        control::set_params(id, &self.spec)?;
        let queue = attach(&self.info, engine, dev)?;
        if let Err(error) = control::start(id) {
            // Its tags are with the driver: only a stop gives them back, and only
            // then can the device be deleted.
            self.delete_on_drop = false;
            clean_up(remove(id, queue, engine));
            return Err(error.into());
        }
        self.delete_on_drop = false;
        shorten_timeout(id);
        Ok(Device { id, queue })
    }
}

impl Drop for Added {
    fn drop(&mut self) {
        if self.delete_on_drop {
            clean_up(control::stop(self.info.id).and_then(|()| control::delete(self.info.id)));
        }
    }
}

impl Device {
    /// Adds a device to the driver, of which nothing is visible to users yet.
    ///
    /// # Errors
    /// If the specification is one that the driver cannot serve, or it refuses.
    pub fn create(spec: DeviceSpec) -> Result<Added, DeviceError> {
        if let Some(what) = spec.defect() {
            return Err(DeviceError::Spec { what });
        }
        let info = control::add(&spec)?;
        let added = Added { info, spec, delete_on_drop: true };
        check_flags(&info)?;
        Ok(added)
    }

    /// Takes over a device whose server has died: waits until the last trace of
    /// that process is gone, then serves its requests, those in flight again.
    /// `mark` must be the one it was created with.
    ///
    /// # Errors
    /// If it is another's device, is not waiting for a server, or has an old
    /// server that lives. Its requests go on waiting; once the engine has it, only
    /// the end of this process makes it free for another try.
    pub fn recover<M: Machine>(
        id: u32,
        mark: u64,
        engine: &Handle<M>,
        dev: DevNr,
    ) -> Result<Self, DeviceError> {
        let info = control::info(id)?;
        if info.mark != mark {
            return Err(DeviceError::Foreign { device: id, expected: mark, found: info.mark });
        }
        check_flags(&info)?;
        begin_recovery(id)?;
        let queue = attach(&info, engine, dev)?;
        control::end_recovery(id)?;
        shorten_timeout(id);
        Ok(Self { id, queue })
    }

    /// Stops a device whose server has died, and that is not to be taken over: its requests
    /// fail. Of several devices all are to be stopped before the first is discarded: who waits
    /// for one of them can't close another. `mark` must be the one it was created with.
    ///
    /// # Errors
    /// If it is another's device, or it does not end in time.
    pub fn abandon(id: u32, mark: u64) -> Result<(), DeviceError> {
        let info = control::info(id)?;
        if info.mark != mark {
            return Err(DeviceError::Foreign { device: id, expected: mark, found: info.mark });
        }
        Ok(control::stop(id)?)
    }

    /// Stops and deletes a device whose server has died, and that is not to be
    /// taken over: its requests fail. `mark` must be the one it was created with.
    ///
    /// # Errors
    /// If it is another's device, or a step does not end in time.
    pub fn discard(id: u32, mark: u64) -> Result<(), DeviceError> {
        Self::abandon(id, mark)?;
        Ok(control::delete(id)?)
    }

    /// Deletes a device that somebody else has stopped, and that nobody serves any more. `mark` must
    /// be the one it was created with.
    ///
    /// # Errors
    /// If it is another's device, or was started again.
    pub fn delete_stopped(id: u32, mark: u64) -> Result<(), DeviceError> {
        let info = control::info(id)?;
        if info.mark != mark {
            return Err(DeviceError::Foreign { device: id, expected: mark, found: info.mark });
        }
        if info.state != DeviceState::Dead {
            return Err(DeviceError::NotStopped { device: id, found: info.state.name() });
        }
        Ok(control::delete(id)?)
    }

    /// N of `/dev/ublkbN`.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// `/dev/ublkbN`.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/dev/ublkb{}", self.id))
    }

    /// Whether this device, in this life, is the one that was released.
    #[must_use]
    pub fn is(&self, released: Released) -> bool {
        self.queue == released.0
    }

    /// Makes it longer, while it is in use; see [`Features::tells_of_growth`](crate::Features::tells_of_growth).
    /// The machine takes requests of the new size already.
    ///
    /// # Errors
    /// If it is not served, or the driver refuses; then it is as long as it was.
    pub fn grow(&self, size: Sectors) -> Result<(), DeviceError> {
        match control::info(self.id)?.state {
            DeviceState::Live => Ok(control::update_size(self.id, size)?),
            state => Err(DeviceError::NotServed { device: self.id, found: state.name() }),
        }
    }

    /// Stops and deletes it. Requests in flight are answered first, by the
    /// machine, which must not hold them; whoever still has it open gets errors.
    ///
    /// # Errors
    /// If a step does not end in time. What was begun goes on, and removing it
    /// again goes on from there.
    pub fn remove<M: Machine>(&self, engine: &Handle<M>) -> Result<(), DeviceError> {
        remove(self.id, self.queue, engine)
    }
}

fn attach<M: Machine>(
    info: &DeviceInfo,
    engine: &Handle<M>,
    dev: DevNr,
) -> Result<QueueName, DeviceError> {
    let channel = Channel::open(info.id, info.depth)?;
    engine.attach(channel, dev)?.map_err(|errno| DeviceError::Fetch { device: info.id, errno })
}

/// The order matters: the driver gives tags back when it stops, the engine can
/// close the channel only then, and a device is deleted only when that is closed.
fn remove<M: Machine>(id: u32, queue: QueueName, engine: &Handle<M>) -> Result<(), DeviceError> {
    control::stop(id)?;
    if !engine.detach(queue, RELEASE_LIMIT)? {
        return Err(DeviceError::Unreleased { device: id, limit: RELEASE_LIMIT });
    }
    Ok(control::delete(id)?)
}

fn check_flags(info: &DeviceInfo) -> Result<(), DeviceError> {
    // The kernel drops, without a word, what it does not know.
    if info.flags & control::FLAGS == control::FLAGS {
        return Ok(());
    }
    let (asked, granted) = (control::FLAGS, info.flags);
    Err(DeviceError::Flags { device: info.id, asked, granted })
}

/// A dying server may hold its device for a while: its last requests to the
/// kernel have to end. A server that lives holds it for ever.
fn begin_recovery(id: u32) -> Result<(), DeviceError> {
    let began = Instant::now();
    loop {
        match control::start_recovery(id) {
            Err(ControlError::Refused { errno, .. })
                if errno.0 == libc::EBUSY && began.elapsed() < RECOVERY_LIMIT =>
            {
                wait_for_death(id)?;
            }
            result => return Ok(result?),
        }
    }
}

fn wait_for_death(id: u32) -> Result<(), DeviceError> {
    let info = control::info(id)?;
    match info.state {
        DeviceState::Quiesced => {}
        DeviceState::Live if info.server.is_none_or(|pid| is_own(pid) || is_dead_or_dying(pid)) => {
        }
        state => return Err(DeviceError::NotRecoverable { device: id, found: state.name() }),
    }
    std::thread::sleep(RECOVERY_POLL);
    Ok(())
}

/// Whether the server was this very process: another program until a moment ago, of which only the
/// driver still knows. Nobody takes over what he serves himself.
fn is_own(pid: u32) -> bool {
    pid == std::process::id()
}

/// Whether a process is gone, or was killed and is on its way: it is still to be
/// seen for a while then, with its threads and files.
fn is_dead_or_dying(pid: u32) -> bool {
    let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { return true };
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    let state = field("State:").unwrap_or_default().trim_start();
    let killed = ["SigPnd:", "ShdPnd:"]
        .iter()
        .filter_map(|name| field(name))
        .any(|mask| u64::from_str_radix(mask.trim(), 16).is_ok_and(|mask| mask & SIGKILL_BIT != 0));
    killed || state.starts_with(['Z', 'X'])
}

/// After a kill, the kernel waits for its own request timeout before it gives a
/// device up: 30 s unless told otherwise. A privileged device's timer only starts
/// again when it ends, so a short one costs nothing.
fn shorten_timeout(id: u32) {
    let path = format!("/sys/block/ublkb{id}/queue/io_timeout");
    if let Err(error) = fs::write(&path, REQUEST_TIMEOUT_MS) {
        log::warn!(
            "{path} could not be set to {REQUEST_TIMEOUT_MS} ms, so that taking over a dead server's device may take half a minute: {error}"
        );
    }
}

fn clean_up<E: std::fmt::Display>(result: Result<(), E>) {
    if let Err(error) = result {
        log::warn!("while cleaning up: {error}");
    }
}

const RELEASE_LIMIT: Duration = Duration::from_secs(30);
/// Longer than the kernel's own timeout of 30 s, for devices that have it still.
const RECOVERY_LIMIT: Duration = Duration::from_secs(40);
const RECOVERY_POLL: Duration = Duration::from_millis(20);
const REQUEST_TIMEOUT_MS: &str = "1000";
const SIGKILL_BIT: u64 = 1 << (libc::SIGKILL - 1);
