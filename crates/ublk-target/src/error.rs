//! What can go wrong between a replicator and the kernel's ublk driver.

use std::io;
use std::time::Duration;

use blk::Errno;
use thiserror::Error;
use uring::RingError;

/// Why this machine cannot serve ublk devices.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "each variant's sentence says what its fields are")]
pub enum ProbeError {
    #[error(
        "the kernel's ublk driver is not loaded: run `modprobe ublk_drv`; if there is no such \
         module, a kernel with CONFIG_BLK_DEV_UBLK is needed (Debian 12: linux-image-6.12 from \
         bookworm-security)"
    )]
    NoDriver,
    #[error("/dev/ublk-control: permission denied; ublk devices need root")]
    Permission,
    #[error(
        "the kernel's ublk driver lacks {feature}, which Linux {since} has (its feature word is \
         {found:#x})"
    )]
    Feature { feature: &'static str, since: &'static str, found: u64 },
    #[error("the kernel's ublk driver does not tell its features; Linux 6.5 or newer is needed")]
    KernelTooOld,
    #[error(transparent)]
    Control(#[from] ControlError),
}

/// Why one command to the ublk driver failed.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "each variant's sentence says what its fields are")]
pub enum ControlError {
    #[error("/dev/ublk-control could not be opened: {0}")]
    Open(#[source] io::Error),
    #[error("the control ring could not be used: {0}")]
    Ring(#[source] io::Error),
    #[error("{}: {doing} failed: {errno}{}", device_name(*device), advice(doing, *errno))]
    Refused { doing: &'static str, device: Option<u32>, errno: Errno },
    #[error(
        "{}: {doing} did not end within {} s; the kernel's log may say why (some 6.17 and 6.18 \
         kernels hang here)",
        device_name(*device),
        limit.as_secs()
    )]
    TimedOut { doing: &'static str, device: Option<u32>, limit: Duration },
}

/// Why a device could not be made, started, taken over or removed.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "each variant's sentence says what its fields are")]
pub enum DeviceError {
    #[error(transparent)]
    Control(#[from] ControlError),
    #[error("a ublk device cannot have {what}")]
    Spec { what: String },
    #[error(
        "ublk device {device}: asked for feature flags {asked:#x}, the kernel granted {granted:#x}"
    )]
    Flags { device: u32, asked: u64, granted: u64 },
    #[error("/dev/ublkc{device} could not be opened: {source}")]
    Channel { device: u32, source: io::Error },
    #[error("/dev/ublkc{device}: its request descriptors could not be mapped: {source}")]
    Descriptors { device: u32, source: io::Error },
    #[error("ublk device {device}: the kernel refused to hand over requests: {errno}")]
    Fetch { device: u32, errno: Errno },
    #[error("ublk device {device}: expected it to wait for a new server, found it {found}")]
    NotRecoverable { device: u32, found: &'static str },
    #[error("ublk device {device}: expected it to be served, found it {found}")]
    NotServed { device: u32, found: &'static str },
    #[error("ublk device {device}: expected it to be stopped, found it {found}")]
    NotStopped { device: u32, found: &'static str },
    #[error(
        "ublk device {device} is not of this replicator: expected mark {expected:#x}, found {found:#x}"
    )]
    Foreign { device: u32, expected: u64, found: u64 },
    #[error("ublk device {device}: its queue was not released within {} s", limit.as_secs())]
    Unreleased { device: u32, limit: Duration },
    #[error(transparent)]
    Engine(#[from] EngineGone),
}

/// Why an engine did not begin.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "each variant's sentence says what its fields are")]
pub enum EngineError {
    #[error("the engine's thread could not be started: {0}")]
    Thread(#[source] io::Error),
    #[error("the engine's inbox could not be made: {0}")]
    Inbox(#[source] io::Error),
    #[error(transparent)]
    Ring(#[from] RingError),
}

/// The engine has stopped: nobody is there to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the engine has stopped")]
pub struct EngineGone;

fn device_name(device: Option<u32>) -> String {
    device.map_or_else(|| "ublk driver".to_owned(), |id| format!("ublk device {id}"))
}

/// What to do about a refusal, where the number alone does not say.
fn advice(doing: &str, errno: Errno) -> &'static str {
    match (doing, errno.0) {
        ("ADD_DEV", libc::EEXIST) => "; a device of that number exists: leave the number out",
        ("ADD_DEV", libc::EACCES) => {
            "; there are as many ublk devices as the driver allows: raise \
             /sys/module/ublk_drv/parameters/ublks_max"
        }
        ("START_USER_RECOVERY", libc::EBUSY) => {
            "; its old server still holds it: let that process end first"
        }
        (_, libc::EPERM) => "; ublk devices need root",
        (_, libc::ENODEV) => "; there is no such device",
        _ => "",
    }
}
