//! Disks as the tools for logs, dirty logs and marks open them: to look, or for themselves.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use blk::{Errno, Sector, Sectors};
use uring::{Access, Disk, OpenSpec, holder_of};

/// Opens a disk to look at it, which is too short for anything below that size; one that is in use
/// only if `live` says so.
pub(super) fn look(path: &Path, live: bool, size_min: Sectors) -> Result<ToolDisk> {
    if let Some(holder) = holder_of(path).filter(|_| !live && can_be_a_disk(path)) {
        bail!(
            "{}: in use by {holder}: what is read may be changing, and look damaged; \
             stop that first, or use --live",
            path.display()
        );
    }
    let look = OpenSpec { access: Access::Look, size_min, ..OpenSpec::default() };
    Ok(ToolDisk(Disk::open(path, &look)?))
}

/// What it is matters more than who has it.
fn can_be_a_disk(path: &Path) -> bool {
    let kind = fs::metadata(path).map(|it| it.file_type());
    kind.is_ok_and(|kind| kind.is_file() || kind.is_block_device())
}

/// Opens a disk to write to it, which nobody else has open.
pub(super) fn take(path: &Path, size_min: Sectors) -> Result<ToolDisk> {
    let take = OpenSpec { access: Access::Exclusive, busy_limit: BUSY_LIMIT, size_min };
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

/// A mark is one block, and a dirty log one or more.
pub(super) const BLOCK: Sectors = Sectors(8);

/// udev and its like look at a device for moments.
const BUSY_LIMIT: Duration = Duration::from_secs(2);
