//! Where the bytes of a disk are in the end: a range of a whole disk, or of a file.
//!
//! A partition and its disk, a loop device and its file are not one object, and have
//! names of their own; yet who writes to one writes to the other. So a disk also tells
//! of what it is a part (P15). What device-mapper and md make has no such place: they
//! claim what lies below them, and the kernel tells.

use std::fs::File;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use blk::SECTOR_BYTES;

use crate::facts::{attribute, sysfs_disk_of, sysfs_of};
use crate::identity::{self, Identity};
use crate::sys;

/// A range of bytes of a whole disk or of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The whole disk, or the file.
    pub of: Identity,
    /// The first byte.
    pub from: u64,
    /// The byte behind the last one.
    pub to: u64,
}

impl Extent {
    /// Whether some byte is in both.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.of == other.of && self.from < other.to && other.from < self.to
    }

    pub(crate) fn whole(of: Identity, bytes: u64) -> Self {
        Self { of, from: 0, to: bytes }
    }

    /// A part of it, of so many bytes.
    fn part(self, offset: u64, bytes: u64) -> Self {
        let from = self.from.saturating_add(offset);
        Self { of: self.of, from, to: from.saturating_add(bytes) }
    }
}

/// Where the bytes of a block device of this size are.
pub(crate) fn of_block_device(file: &File, device: u64, bytes: u64) -> Extent {
    let own = sysfs_of(device);
    let start = attribute(&own, "start").filter(|_| own.join("partition").exists());
    let start = start.and_then(|sectors| sectors.parse::<u64>().ok()).unwrap_or(0);
    let whole = below_loop(file, &sysfs_disk_of(device))
        .unwrap_or_else(|| Extent::whole(identity::of_whole_disk(device), u64::MAX));
    whole.part(start.saturating_mul(SECTOR_BYTES as u64), bytes)
}

/// Where a loop device begins; `None` if it is none, or nobody knows.
fn below_loop(file: &File, disk: &Path) -> Option<Extent> {
    let path = attribute(disk, "loop/backing_file")?;
    let status = sys::loop_status(file)?;
    let below = File::open(path).ok().filter(|below| identity::is_file(below, &status))?;
    let metadata = below.metadata().ok()?;
    let below = if metadata.file_type().is_block_device() {
        of_block_device(&below, metadata.rdev(), u64::MAX)
    } else {
        Extent::whole(identity::of_regular_file(&below).ok()?, u64::MAX)
    };
    Some(below.part(status.offset, u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(of: &str, from: u64, to: u64) -> Extent {
        Extent { of: Identity::new(of), from, to }
    }

    #[test]
    fn a_disk_overlaps_its_partitions_and_these_not_each_other() {
        let disk = extent("wwid:1", 0, 4096);
        let parts = [disk.clone().part(512, 1024), disk.clone().part(1536, 1024)];
        assert_eq!(parts[1], extent("wwid:1", 1536, 2560));
        for part in &parts {
            assert!(part.overlaps(&disk) && disk.overlaps(part) && part.overlaps(part));
        }
        assert!(!parts[0].overlaps(&parts[1]) && !parts[1].overlaps(&parts[0]));
        assert!(!disk.overlaps(&extent("wwid:2", 0, 4096)));
    }

    #[test]
    fn a_part_of_unknown_size_goes_to_the_end_of_everything() {
        assert_eq!(extent("a", 512, 4096).part(512, u64::MAX), extent("a", 1024, u64::MAX));
    }
}
