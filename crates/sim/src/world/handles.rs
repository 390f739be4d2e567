//! Which disks a machine has open. What was open when a disk went away is stale for ever,
//! even when it is back: it has to be opened afresh.

use blk::{DiskId, Errno};

use crate::oracle::Violation;

/// What a machine has open.
#[derive(Default)]
pub(super) struct Handles {
    all: Vec<Handle>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Handle {
    Open,
    /// Open, but what was opened is gone.
    Stale,
    /// Being opened.
    Opening,
    Closed,
}

impl Handles {
    /// Disks that are open, or not.
    pub(super) fn new(open: impl Iterator<Item = bool>) -> Self {
        let handle = |open| if open { Handle::Open } else { Handle::Closed };
        Self { all: open.map(handle).collect() }
    }

    /// Whether operations reach the disk.
    pub(super) fn is_open(&self, disk: DiskId) -> bool {
        self.all.get(disk.0 as usize) == Some(&Handle::Open)
    }

    /// Whether any disk is being opened.
    pub(super) fn any_opening(&self) -> bool {
        self.all.contains(&Handle::Opening)
    }

    /// What is open of a disk is worth nothing any more.
    pub(super) fn spoil(&mut self, disk: DiskId) {
        let handle = &mut self.all[disk.0 as usize];
        if *handle == Handle::Open {
            *handle = Handle::Stale;
        }
    }

    /// A disk is to be opened afresh.
    pub(super) fn open(&mut self, disk: DiskId) -> Result<(), Violation> {
        let handle = self.all.get_mut(disk.0 as usize);
        let handle = handle.ok_or(Violation::NoSuchDisk { disk: disk.0 })?;
        if std::mem::replace(handle, Handle::Opening) == Handle::Opening {
            return Err(Violation::DoubleOpen { disk: disk.0 });
        }
        Ok(())
    }

    /// A disk was opened, or was not.
    pub(super) fn opened(&mut self, disk: DiskId, well: bool) {
        self.all[disk.0 as usize] = if well { Handle::Open } else { Handle::Closed };
    }
}

/// Device or resource busy.
pub(super) const EBUSY: Errno = Errno(16);
