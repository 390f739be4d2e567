//! Other ways to the bytes of a disk on which somebody is: loop devices, and swap files.
//!
//! The kernel lets a loop device be mounted while its file, or another loop device over
//! it, is opened exclusively: no claim of one is seen by the other. So before a file or a
//! loop device is taken, all loop devices over the same bytes are asked whether they are
//! claimed. Only sysfs is read, and only those devices are opened: the file of any other
//! could be on a network file system that hangs.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use blk::SECTOR_BYTES;

use crate::facts::{attribute, sysfs_disk_of, sysfs_of};
use crate::holder;

/// A few words for whoever uses the bytes of `path` by another way.
pub(crate) fn user_of(path: &Path) -> Option<String> {
    let own = fs::canonicalize(path).ok()?;
    let metadata = fs::metadata(&own).ok()?;
    let loops = Loop::all();
    let (place, disk) = if metadata.file_type().is_block_device() {
        Place::of_device(&own, metadata.rdev())
    } else {
        if let Some(swap) = swap_file(&own) {
            return Some(swap);
        }
        (Place { path: own, from: 0, to: metadata.len() }, None)
    };
    let place = place.at_the_root(&loops);
    let others = loops.iter().filter(|it| disk.as_deref() != Some(it.path.as_path()));
    let mut over_it = others.filter(|it| it.place().at_the_root(&loops).overlaps(&place));
    over_it.find_map(|it| {
        let holder = is_claimed(&it.path).then(|| holder::find(&it.path))?;
        let holder = holder.unwrap_or_else(|| "somebody who could not be found".to_owned());
        Some(format!("{}, which is the same, and in use by {holder}", it.path.display()))
    })
}

/// A range of bytes of what a path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    path: PathBuf,
    from: u64,
    to: u64,
}

/// A loop device that has a file.
#[derive(Debug)]
struct Loop {
    path: PathBuf,
    backing: PathBuf,
    offset: u64,
    bytes: u64,
}

impl Loop {
    fn all() -> Vec<Self> {
        let disks = fs::read_dir("/sys/block").into_iter().flatten().flatten();
        disks.filter_map(|disk| Self::of(&disk.path())).collect()
    }

    fn of(sysfs: &Path) -> Option<Self> {
        let backing = attribute(sysfs, "loop/backing_file")?.into();
        let number = |name| attribute(sysfs, name).and_then(|text| text.parse::<u64>().ok());
        let bytes = number("size")?.saturating_mul(SECTOR_BYTES as u64);
        let path = Path::new("/dev").join(sysfs.file_name()?);
        Some(Self { path, backing, offset: number("loop/offset").unwrap_or(0), bytes })
    }

    fn place(&self) -> Place {
        Place { path: self.path.clone(), from: 0, to: self.bytes }
    }
}

impl Place {
    /// Of a block device, and the whole disk that it is or is a part of.
    fn of_device(own: &Path, device: u64) -> (Self, Option<PathBuf>) {
        let number = |name| attribute(&sysfs_of(device), name)?.parse::<u64>().ok();
        let bytes = |sectors: u64| sectors.saturating_mul(SECTOR_BYTES as u64);
        let from = bytes(number("start").unwrap_or(0));
        let to = from.saturating_add(number("size").map_or(u64::MAX, bytes));
        let disk = fs::canonicalize(sysfs_disk_of(device)).ok();
        let disk = disk.and_then(|sysfs| Some(Path::new("/dev").join(sysfs.file_name()?)));
        (Self { path: disk.clone().unwrap_or_else(|| own.to_owned()), from, to }, disk)
    }

    /// The same bytes below all loop devices.
    fn at_the_root(mut self, loops: &[Loop]) -> Self {
        // The kernel refuses circles, but what was read may have changed meanwhile.
        for _ in 0..loops.len() {
            let Some(below) = loops.iter().find(|it| it.path == self.path) else { break };
            let shift = |at: u64| at.saturating_add(below.offset);
            self = Self { path: below.backing.clone(), from: shift(self.from), to: shift(self.to) };
        }
        self
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.path == other.path && self.from < other.to && other.from < self.to
    }
}

/// A file that is swapped to can be opened; only writing to it fails.
fn swap_file(own: &Path) -> Option<String> {
    let swaps = fs::read_to_string("/proc/swaps").ok()?;
    let path = swaps.lines().skip(1).filter_map(|line| line.split_whitespace().next());
    path.into_iter().find(|path| Path::new(path) == own).map(|path| format!("swap on {path}"))
}

fn is_claimed(device: &Path) -> bool {
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_EXCL).open(device);
    opened.is_err_and(|error| error.raw_os_error() == Some(libc::EBUSY))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loops() -> Vec<Loop> {
        let over = |path: &str, backing: &str, offset, bytes| Loop {
            path: path.into(),
            backing: backing.into(),
            offset,
            bytes,
        };
        vec![
            over("/dev/loop0", "/srv/file", 0, 8192),
            over("/dev/loop1", "/dev/loop0", 4096, 4096),
            over("/dev/loop2", "/srv/file", 0, 4096),
            over("/dev/loop3", "/srv/other", 0, 4096),
        ]
    }

    #[test]
    fn loop_devices_over_loop_devices_are_followed_to_the_file() {
        let loops = loops();
        let found = loops[1].place().at_the_root(&loops);
        assert_eq!(found, Place { path: "/srv/file".into(), from: 4096, to: 8192 });
    }

    #[test]
    fn loop_devices_over_different_parts_of_a_file_have_nothing_in_common() {
        let loops = loops();
        let places: Vec<Place> = loops.iter().map(|it| it.place().at_the_root(&loops)).collect();
        assert!(places[0].overlaps(&places[1]) && places[0].overlaps(&places[2]));
        assert!(!places[1].overlaps(&places[2]) && !places[0].overlaps(&places[3]));
    }

    #[test]
    fn a_circle_ends() {
        let circle = |path: &str, backing: &str| Loop {
            path: path.into(),
            backing: backing.into(),
            offset: 1,
            bytes: 1,
        };
        let loops = [circle("/dev/loop0", "/dev/loop1"), circle("/dev/loop1", "/dev/loop0")];
        assert_eq!(loops[0].place().at_the_root(&loops).from, 2);
    }
}
