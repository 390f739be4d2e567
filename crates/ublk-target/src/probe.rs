//! Whether this machine can serve ublk devices, found by asking it.

use std::fs;
use std::io;
use std::path::Path;

use libublk::sys;

use crate::command;
use crate::control::{self, DeviceInfo};
use crate::details::DeviceDetails;
use crate::error::{ControlError, ProbeError};

/// The kernel's ublk driver.
#[derive(Debug)]
pub struct Ublk;

/// What the driver can do (`UBLK_F_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features(pub u64);

impl Features {
    /// Whether it tells those who have a device open that it has grown (Linux 6.16).
    #[must_use]
    pub fn tells_of_growth(self) -> bool {
        self.0 & u64::from(sys::UBLK_F_UPDATE_SIZE) != 0
    }
}

impl Ublk {
    /// Asks the driver what it can do, and makes sure that it is enough.
    ///
    /// # Errors
    /// One sentence for each thing that can be missing, with what to do about it.
    pub fn probe() -> Result<Features, ProbeError> {
        if !Path::new(command::CONTROL_PATH).exists() {
            return Err(ProbeError::NoDriver);
        }
        if let Err(ControlError::Open(error)) = command::open() {
            return Err(match error.kind() {
                io::ErrorKind::PermissionDenied => ProbeError::Permission,
                io::ErrorKind::NotFound => ProbeError::NoDriver,
                _ => ProbeError::Control(ControlError::Open(error)),
            });
        }
        let found = control::features().map_err(|error| match error {
            ControlError::Refused { .. } => ProbeError::KernelTooOld,
            other => ProbeError::Control(other),
        })?;
        check(found)
    }

    /// What the driver knows about device `id`.
    ///
    /// # Errors
    /// If there is no such device, or the driver does not answer.
    pub fn query(id: u32) -> Result<DeviceInfo, ControlError> {
        control::info(id)
    }

    /// All that the driver tells of device `id`.
    ///
    /// # Errors
    /// If there is no such device, or the driver does not answer.
    pub fn details(id: u32) -> Result<DeviceDetails, ControlError> {
        DeviceDetails::of(id)
    }

    /// The numbers of all ublk devices of this machine, whoever serves them.
    #[must_use]
    pub fn devices() -> Vec<u32> {
        let entries = fs::read_dir("/sys/class/ublk-char").into_iter().flatten().flatten();
        let mut ids: Vec<u32> = entries
            .filter_map(|entry| entry.file_name().to_str()?.strip_prefix("ublkc")?.parse().ok())
            .collect();
        ids.sort_unstable();
        ids
    }
}

fn check(found: u64) -> Result<Features, ProbeError> {
    match NEEDED.iter().find(|(flag, ..)| found & flag == 0) {
        Some(&(_, feature, since)) => Err(ProbeError::Feature { feature, since, found }),
        None => Ok(Features(found)),
    }
}

/// What every device of ours needs, and since which Linux there is it.
const NEEDED: [(u64, &str, &str); 4] = [
    (sys::UBLK_F_USER_RECOVERY as u64, "recovery (UBLK_F_USER_RECOVERY)", "6.1"),
    (
        sys::UBLK_F_USER_RECOVERY_REISSUE as u64,
        "recovery with re-issue (UBLK_F_USER_RECOVERY_REISSUE)",
        "6.1",
    ),
    (sys::UBLK_F_CMD_IOCTL_ENCODE as u64, "encoded commands (UBLK_F_CMD_IOCTL_ENCODE)", "6.4"),
    (sys::UBLK_F_USER_COPY as u64, "copying by the server (UBLK_F_USER_COPY)", "6.5"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_driver_of_linux_6_12_is_enough() {
        assert_eq!(check(0x1fe).unwrap(), Features(0x1fe));
    }

    #[test]
    fn the_driver_of_linux_6_16_tells_of_growth_and_that_of_6_12_does_not() {
        assert!(!Features(0x1fe).tells_of_growth());
        assert!(Features(0x5fe).tells_of_growth());
    }

    #[test]
    fn a_driver_that_lacks_something_is_told_what_and_since_when_there_is_it() {
        let message = check(0x7e).unwrap_err().to_string();
        assert!(message.contains("UBLK_F_USER_COPY") && message.contains("Linux 6.5"), "{message}");
    }

    #[test]
    fn everything_a_device_asks_for_is_probed() {
        let probed = NEEDED.iter().fold(0, |all, (flag, ..)| all | flag);
        assert_eq!(probed, control::FLAGS);
    }
}
