//! What a replicator has to know about a disk before it trusts it with data.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use blk::{DiskSeen, Sectors};

use crate::extent::{self, Extent};
use crate::identity::{self, Identity};
use crate::sys;

/// Facts about an open disk, as they were when it was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Whole sectors it holds.
    pub size: Sectors,
    /// Smallest unit it reads or writes, in bytes; 512 or more, a power of two.
    pub logical_block: u32,
    /// How memory has to be aligned for direct I/O, in bytes. The ring copies
    /// what isn't.
    pub memory_align: u32,
    /// Whether I/O goes past the page cache. If not, a flush is an fsync all the same.
    pub direct: bool,
    /// What it is made of.
    pub medium: Medium,
    /// The same object has the same identity, by whatever path it is opened (P15).
    pub identity: Identity,
    /// Where its bytes are: disks that have some in common are one disk to whoever writes (P15).
    pub extent: Extent,
}

/// What a disk is made of, as far as the kernel tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Medium {
    /// Whether it has a cache that a power cut empties; assumed if not known.
    pub volatile_cache: bool,
    /// Whether nearness of sectors matters; not, if not known.
    pub rotational: bool,
}

impl Facts {
    /// As much of it as a machine wants to know.
    #[must_use]
    pub fn seen(&self) -> DiskSeen {
        DiskSeen {
            size: self.size,
            logical_block: self.logical_block,
            identity: self.identity.to_string(),
        }
    }

    pub(crate) fn of_block_device(file: &File) -> io::Result<Self> {
        let device = file.metadata()?.rdev();
        let bytes = sys::block_device_bytes(file)?;
        Ok(Self {
            size: Sectors::from_bytes(bytes),
            logical_block: sys::logical_block_bytes(file)?.max(SECTOR),
            memory_align: queue_attribute(device, "dma_alignment")
                .and_then(|mask| mask.parse::<u32>().ok())
                .map_or(SECTOR, |mask| mask.saturating_add(1).max(SECTOR)),
            direct: true,
            medium: Medium::of_device(device),
            identity: identity::of_block_device(file, device),
            extent: extent::of_block_device(file, device, bytes),
        })
    }

    pub(crate) fn of_regular_file(file: &File, direct: bool) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let identity = identity::of_regular_file(file)?;
        let align = if direct { sys::direct_align(file)? } else { None };
        Ok(Self {
            size: Sectors::from_bytes(metadata.len()),
            logical_block: align.map_or(SECTOR, |align| align.offset.max(SECTOR)),
            memory_align: align.map_or(SECTOR, |align| align.memory.max(SECTOR)),
            direct,
            medium: Medium::of_device(metadata.dev()),
            extent: Extent::whole(identity.clone(), metadata.len()),
            identity,
        })
    }
}

impl Medium {
    fn of_device(device: u64) -> Self {
        Self {
            volatile_cache: queue_attribute(device, "write_cache")
                .is_none_or(|mode| mode != "write through"),
            rotational: queue_attribute(device, "rotational").is_some_and(|is| is == "1"),
        }
    }
}

/// Where sysfs describes the disk, or the partition, with this device number.
pub(crate) fn sysfs_of(device: u64) -> PathBuf {
    let (major, minor) = (libc::major(device), libc::minor(device));
    PathBuf::from(format!("/sys/dev/block/{major}:{minor}"))
}

/// Where sysfs describes the whole disk that `device` is, or is a part of.
pub(crate) fn sysfs_disk_of(device: u64) -> PathBuf {
    let own = sysfs_of(device);
    if own.join("partition").exists() { own.join("..") } else { own }
}

/// What sysfs says of a disk; `None` if it says nothing.
pub(crate) fn attribute(sysfs: &Path, name: &str) -> Option<String> {
    let text = fs::read_to_string(sysfs.join(name)).ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

fn queue_attribute(device: u64, name: &str) -> Option<String> {
    let text = fs::read_to_string(sysfs_disk_of(device).join("queue").join(name)).ok()?;
    Some(text.trim().to_owned())
}

const SECTOR: u32 = blk::SECTOR_BYTES as u32;
