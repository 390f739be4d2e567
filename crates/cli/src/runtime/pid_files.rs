//! What ublksrv's `ublk` knows devices by: `/run/ublksrvd/N.pid`, one for each device.
//!
//! ```text
//! byte 0    the process that serves it, in decimal, and a newline; then zeroes
//! byte 32   an object of JSON on one line, and a zero byte
//! ```
//!
//! `ublk del` waits until the file is gone, or its process; `list`, `recover` and `set_affinity` read
//! the object, and `list` dies of one that lacks what it expects. By tradition every user may write
//! to the directory, so nothing that is read there is believed (P15), no link there is followed, and
//! a file comes whole under its name.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::OFlags;
use serde_json::{Map, Value, json};
use ublk_target::{DeviceDetails, Fields};

/// The directory of those files.
#[derive(Clone, Debug)]
pub(crate) struct PidFiles {
    dir: PathBuf,
}

/// What such a file says of a device.
#[derive(Clone, Debug)]
pub(crate) struct Description<'a> {
    /// The process that serves it.
    pub(crate) pid: u32,
    /// The thread that does its I/O.
    pub(crate) thread: i32,
    /// The processors on which that may run.
    pub(crate) cpus: &'a [usize],
    /// What the driver tells.
    pub(crate) details: &'a DeviceDetails,
    /// Its replicator, and what it is called there.
    pub(crate) replicator: &'a str,
    pub(crate) name: &'a str,
    /// Bytes.
    pub(crate) size: u64,
}

impl PidFiles {
    /// The host's.
    pub(crate) fn of_host() -> Self {
        Self { dir: DIR.into() }
    }

    /// Writes the file of device `ublk`, in place of what is there.
    pub(crate) fn write(&self, ublk: u32, description: &Description<'_>) -> Result<()> {
        let (path, new) = (self.path(ublk), self.dir.join(format!(".{ublk}.pid.new")));
        self.try_write(&new, &path, &description.bytes())
            .with_context(|| format!("writing {}", path.display()))
    }

    fn try_write(&self, new: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
        match fs::create_dir(&self.dir) {
            Ok(()) => fs::set_permissions(&self.dir, Permissions::from_mode(0o755)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
        }?;
        // Whoever left one there, of a crash or on purpose, does not get it filled by us.
        remove_if_there(new)?;
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(new)?;
        file.write_all(bytes)?;
        fs::rename(new, path)
    }

    /// Removes the file of device `ublk` if it is of the process `pid`: by now another's device may
    /// have that number.
    pub(crate) fn remove(&self, ublk: u32, pid: u32) -> Result<()> {
        let path = self.path(ublk);
        match pid_in(&path) {
            Some(found) if found == pid => {
                remove_if_there(&path).with_context(|| format!("removing {}", path.display()))
            }
            _ => Ok(()),
        }
    }

    fn path(&self, ublk: u32) -> PathBuf {
        self.dir.join(format!("{ublk}.pid"))
    }
}

/// The process that a file names, whatever else is in it.
fn pid_in(path: &Path) -> Option<u32> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).expect("flags of open");
    let file: File = fs::OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
    let mut text = Vec::new();
    file.take(JSON_OFFSET as u64).read_to_end(&mut text).ok()?;
    let text = std::str::from_utf8(&text).ok()?;
    text.split_once('\n')?.0.parse().ok()
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

impl Description<'_> {
    /// The file, byte by byte.
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{}\n", self.pid).into_bytes();
        bytes.resize(JSON_OFFSET, 0);
        bytes.extend_from_slice(self.json().to_string().as_bytes());
        bytes.push(0);
        bytes
    }

    fn json(&self) -> Value {
        let DeviceDetails { info, params, parts } = self.details;
        let mut params = object(params);
        params.extend(parts.iter().map(|(name, part)| ((*name).to_owned(), object(part).into())));
        // A list in a string, each with a blank behind it: whoever reads it expects just that.
        let affinity: String = self.cpus.iter().map(|cpu| format!("{cpu} ")).collect();
        json!({
            "dev_info": object(info),
            "params": params,
            "queues": { "0": { "qid": 0, "tid": self.thread, "affinity": affinity } },
            "target": self.target(),
        })
    }

    fn target(&self) -> Value {
        let mut target = json!({ "name": TYPE, "type": 0, "dev_size": self.size });
        let brief = target.clone();
        target["device"] = self.name.into();
        target["replicator"] = self.replicator.into();
        // A longer one is printed as what happens to be in memory.
        if target.to_string().len() < TARGET_BYTES_MAX { target } else { brief }
    }
}

fn object(fields: &Fields) -> Map<String, Value> {
    fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect()
}

/// By which `ublk add -t` and `ublk recover` find this program: `ublk.TYPE`.
pub(crate) const TYPE: &str = "replicator";
const DIR: &str = "/run/ublksrvd";
const JSON_OFFSET: usize = 32;
const TARGET_BYTES_MAX: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    const GOLDEN: &[u8] = include_bytes!("golden/7.pid");

    fn details() -> DeviceDetails {
        DeviceDetails {
            info: vec![("dev_id", 7), ("nr_hw_queues", 1), ("ublksrv_flags", u64::MAX)],
            params: vec![("len", 120), ("types", 7)],
            parts: vec![("basic", vec![("attrs", 12), ("dev_sectors", 65536)])],
        }
    }

    fn description(details: &DeviceDetails) -> Description<'_> {
        Description {
            pid: 4321,
            thread: 4325,
            cpus: &[0, 1],
            details,
            replicator: "repl",
            name: "data",
            size: 33_554_432,
        }
    }

    fn scratch() -> (tempfile::TempDir, PidFiles) {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("ublksrvd");
        (home, PidFiles { dir })
    }

    #[test]
    fn a_file_has_the_bytes_that_ublksrv_expects() {
        let details = details();
        let (_home, files) = scratch();
        files.write(7, &description(&details)).unwrap();
        let found = fs::read(files.path(7)).unwrap();
        assert_eq!(String::from_utf8_lossy(&found), String::from_utf8_lossy(GOLDEN));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&files.dir), mode(&files.path(7))), (0o755, 0o600));
        assert_eq!(fs::read_dir(&files.dir).unwrap().count(), 1, "nothing else is left there");
    }

    #[test]
    fn what_is_said_of_the_target_is_short_whatever_the_names() {
        let details = details();
        let odd = "\"".repeat(127);
        let long = Description { name: &odd, replicator: &odd, ..description(&details) };
        let target = long.target().to_string();
        assert_eq!(target, "{\"dev_size\":33554432,\"name\":\"replicator\",\"type\":0}");
        let one = Description { name: &odd, ..description(&details) }.target().to_string();
        assert!(one.contains("\"device\":") && one.len() < TARGET_BYTES_MAX, "{one}");
    }

    #[test]
    fn a_link_that_a_stranger_laid_is_replaced_and_not_followed() {
        let details = details();
        let (home, files) = scratch();
        fs::create_dir(&files.dir).unwrap();
        let victim = home.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        symlink(&victim, files.path(7)).unwrap();
        symlink(&victim, files.dir.join(".7.pid.new")).unwrap();
        files.remove(7, 4321).unwrap();
        files.write(7, &description(&details)).unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
        assert_eq!(fs::read(files.path(7)).unwrap(), GOLDEN);
    }

    #[test]
    fn a_file_goes_only_if_it_is_of_the_process_that_wrote_it() {
        let details = details();
        let (_home, files) = scratch();
        files.remove(7, 4321).unwrap();
        files.write(7, &description(&details)).unwrap();
        files.remove(7, 432).unwrap();
        assert!(files.path(7).exists());
        files.remove(7, 4321).unwrap();
        assert!(!files.path(7).exists());
        for damage in ["", "4321", "\u{0}\n", "4321 \n"] {
            fs::write(files.path(7), damage).unwrap();
            files.remove(7, 4321).unwrap();
            assert!(files.path(7).exists(), "{damage:?}");
        }
    }
}
