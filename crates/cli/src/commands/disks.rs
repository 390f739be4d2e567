//! Disks as the tools for logs, dirty logs and marks open them: to look, or for themselves.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use blk::{Errno, Sector, Sectors};
use uring::{Access, Disk, OpenSpec, holder_of};

/// Opens a disk to look at it; one that is in use only if `live` says so.
pub(super) fn look(path: &Path, live: bool) -> Result<ToolDisk> {
    if let Some(holder) = holder_of(path).filter(|_| !live) {
        bail!(
            "{}: in use by {holder}: what is read may be changing, and look damaged; \
             stop that first, or use --live",
            path.display()
        );
    }
    let look = OpenSpec { access: Access::Look, ..OpenSpec::default() };
    Ok(ToolDisk(Disk::open(path, &look)?))
}

/// Opens a disk to write to it, which nobody else has open.
pub(super) fn take(path: &Path) -> Result<ToolDisk> {
    let take = OpenSpec { access: Access::Exclusive, busy_limit: BUSY_LIMIT, size_min: Sectors(0) };
    Ok(ToolDisk(Disk::open(path, &take)?))
}

/// Reads a disk while the caller waits.
pub(super) struct ToolDisk(pub(super) Disk);

impl ToolDisk {
    pub(super) fn read_into(&self, sector: Sector, buf: &mut [u8]) -> Result<(), Errno> {
        let len = Sectors::from_bytes(buf.len() as u64);
        let read = self.0.pread(sector, len);
        let bytes = read.map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno))?;
        buf.copy_from_slice(&bytes);
        Ok(())
    }
}

impl replog::tools::LogReader for ToolDisk {
    fn read(&mut self, sector: Sector, buf: &mut [u8]) -> Result<(), Errno> {
        self.read_into(sector, buf)
    }
}

impl dirty_log::tools::BlockReader for ToolDisk {
    fn size(&self) -> Sectors {
        self.0.size()
    }

    fn read(&mut self, sector: Sector, buf: &mut [u8]) -> Result<(), Errno> {
        self.read_into(sector, buf)
    }
}

/// udev and its like look at a device for moments.
const BUSY_LIMIT: Duration = Duration::from_secs(2);
