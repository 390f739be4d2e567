//! A name for the thing itself, not for the way to it.
//!
//! Two paths to one object give one identity, so that a device used twice is
//! found out (P15), and an object that was replaced has another one, so that it
//! is not trusted with what it never held. A name says by what it is known:
//!
//! | identity | known by | survives a reboot |
//! |---|---|---|
//! | `dm-uuid:…` | a device-mapper UUID (LVM, crypt, multipath) | yes |
//! | `md-uuid:…` | the UUID of an array | yes |
//! | `wwid:…`, `serial:…` | what the hardware says; partitions add `/partN` | yes |
//! | `partuuid:…` | a partition's own UUID, where the hardware says nothing | yes |
//! | `file:…` | file system, inode and its generation; also a loop device over that file | yes, where the file system has a UUID |
//! | `name:…` | the kernel's name, when nothing else is known | no promise |

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use crate::facts::{attribute, sysfs_disk_of, sysfs_of};
use crate::sys;

/// A stable name of a disk, for comparison and for the log's roster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity(String);

impl Identity {
    /// The name as text; printable, without white space.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the same object has this name after a reboot as well.
    #[must_use]
    pub fn is_stable(&self) -> bool {
        !self.0.starts_with("name:") && !self.0.starts_with("file:fsid=")
    }

    /// Printable and without white space, whatever a device's firmware says.
    pub(crate) fn new(text: &str) -> Self {
        let safe = |c: char| if c.is_ascii_graphic() { c } else { '_' };
        Self(text.trim().chars().map(safe).collect())
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

pub(crate) fn of_block_device(file: &File, device: u64) -> Identity {
    let own = sysfs_of(device);
    let text = behind_loop(file, &own, device)
        .or_else(|| attribute(&own, "dm/uuid").map(|uuid| format!("dm-uuid:{uuid}")))
        .unwrap_or_else(|| of_hardware(&own, device));
    let found = Identity::new(&text);
    // Linux tells a partition's UUID since 6.13: what another kernel knew by its disk keeps its name.
    let better = partition_uuid(&own).filter(|_| !found.is_stable());
    better.map_or(found, |uuid| Identity::new(&format!("partuuid:{uuid}")))
}

/// The disk that a block device is, or is a part of, but for loop devices.
pub(crate) fn of_whole_disk(device: u64) -> Identity {
    let disk = sysfs_disk_of(device);
    let mapped = attribute(&disk, "dm/uuid").map(|uuid| format!("dm-uuid:{uuid}"));
    Identity::new(&mapped.unwrap_or_else(|| of_hardware(&disk, device)))
}

pub(crate) fn of_regular_file(file: &File) -> io::Result<Identity> {
    Ok(Identity::new(&file_name_of(file)?))
}

/// What is known of the whole disk, and which part of it this is.
fn of_hardware(own: &Path, device: u64) -> String {
    let disk = sysfs_disk_of(device);
    let known = [
        ("md-uuid", "md/uuid"),
        ("wwid", "wwid"),
        ("wwid", "device/wwid"),
        ("serial", "serial"),
        ("serial", "device/serial"),
    ];
    let name = known
        .iter()
        .find_map(|(kind, path)| attribute(&disk, path).map(|value| format!("{kind}:{value}")))
        .unwrap_or_else(|| format!("name:{}", kernel_name(&disk)));
    match attribute(own, "partition") {
        Some(number) => format!("{name}/part{number}"),
        None => name,
    }
}

/// A loop device is the file behind it, or a named part of that file.
///
/// The ioctl alone proves nothing: device-mapper passes it on to what lies below, so two
/// volumes on one loop device would be the same.
fn behind_loop(file: &File, own: &Path, device: u64) -> Option<String> {
    let path = attribute(&sysfs_disk_of(device), "loop/backing_file")?;
    let status = sys::loop_status(file)?;
    let name = File::open(path)
        .ok()
        .filter(|backing| is_file(backing, &status))
        .and_then(|backing| name_below(&backing).ok())
        .unwrap_or_else(|| format!("file:fsid=dev{:x},inode={}", status.device, status.inode));
    let name = match (status.offset, status.size_limit) {
        (0, 0) => name,
        (offset, limit) => format!("{name}/at{offset}+{limit}"),
    };
    let part = attribute(own, "partition").map_or_else(String::new, |nr| format!("/part{nr}"));
    Some(name + &part)
}

/// What a loop device is over: a file, as a rule, or a block device.
fn name_below(backing: &File) -> io::Result<String> {
    let metadata = backing.metadata()?;
    if metadata.file_type().is_block_device() {
        return Ok(of_block_device(backing, metadata.rdev()).0);
    }
    file_name_of(backing)
}

/// Whether the path still leads to the file that the loop device uses.
pub(crate) fn is_file(file: &File, status: &sys::LoopStatus) -> bool {
    file.metadata().is_ok_and(|found| found.dev() == status.device && found.ino() == status.inode)
}

fn file_name_of(file: &File) -> io::Result<String> {
    let metadata = file.metadata()?;
    let system = match sys::file_system_uuid(file) {
        Some(uuid) => format!("uuid={}", hex(&uuid)),
        None => format!("fsid={:x}", sys::file_system(file)?.1),
    };
    // Inode numbers are used again; the generation tells the new file from the old.
    let generation = sys::inode_generation(file).unwrap_or(0);
    Ok(format!("file:{system},inode={},generation={generation}", metadata.ino()))
}

/// Since Linux 6.13 the kernel tells a partition's UUID.
fn partition_uuid(own: &Path) -> Option<String> {
    let uevent = fs::read_to_string(own.join("uevent")).ok()?;
    let line = uevent.lines().find_map(|line| line.strip_prefix("PARTUUID="))?;
    (!line.is_empty()).then(|| line.to_owned())
}

fn kernel_name(sysfs: &Path) -> String {
    let name = fs::canonicalize(sysfs).ok();
    let name = name.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy());
    name.map_or_else(|| sysfs.display().to_string(), std::borrow::Cow::into_owned)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_firmware_says_becomes_one_printable_word() {
        let id = Identity::new("serial:QEMU  HARDDISK\t\u{7f}é\n");
        assert_eq!(id.as_str(), "serial:QEMU__HARDDISK___");
    }

    #[test]
    fn only_names_that_outlive_a_reboot_are_called_stable() {
        assert!(Identity::new("wwid:eui.1").is_stable());
        assert!(Identity::new("file:uuid=aa,inode=1,generation=2").is_stable());
        assert!(!Identity::new("file:fsid=12,inode=1,generation=2").is_stable());
        assert!(!Identity::new("name:ram0").is_stable());
    }
}
