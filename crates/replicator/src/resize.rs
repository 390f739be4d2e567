//! Another size for the log while the devices are in use: what is checked before it is asked
//! for, and what is said of one that is not done yet.

use blk::{Sector, Sectors};
use replog::{Replog, ResizeError, Wait};

use crate::change::Change;
use crate::machine::Replicator;
use crate::plan::Plan;
use crate::reload::ReloadError;
use crate::status::data::ResizeStatus;

/// Why the log can't have a size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogSizeError {
    /// It would end behind its device.
    #[error(
        "a log of {size} sectors at sector {start} does not fit {path}, which has {disk_size}; \
         make that larger first, or say {room} at most"
    )]
    DoesNotFit {
        /// The log device.
        path: String,
        /// Where the log begins.
        start: Sector,
        /// The size that was asked for.
        size: Sectors,
        /// The size of the device.
        disk_size: Sectors,
        /// What there is room for.
        room: Sectors,
    },
    /// No log of these devices may have it.
    #[error(transparent)]
    Resize(#[from] ResizeError),
}

impl Replicator {
    /// Of all changes those that are any: a size that the log has, or is to have, is none.
    pub(crate) fn without_the_present_size(&self, mut changes: Vec<Change>) -> Vec<Change> {
        let log = self.log.as_ref();
        let is_there = |to: Sectors| log.is_some_and(|log| is_to_have(log, to));
        changes.retain(|change| !matches!(change, Change::LogSize { to, .. } if is_there(*to)));
        changes
    }

    /// Whether the log may have the size that these changes give it, on the disk of `plan`.
    pub(crate) fn check_log_size(
        &self,
        changes: &[Change],
        plan: &Plan,
    ) -> Result<(), ReloadError> {
        let log = self.log.as_ref().ok_or(ReloadError::NotRunning)?;
        let size = changes.iter().find_map(|change| match change {
            Change::LogSize { to, .. } => Some(*to),
            _ => None,
        });
        let Some(size) = size else { return Ok(()) };
        let (start, disk) = (plan.log.table.start, &plan.log.disk);
        let disk_size = disk.size();
        let room = Sectors(disk_size.0.saturating_sub(start.0));
        if size > room {
            let path = disk.path.clone();
            return Err(LogSizeError::DoesNotFit { path, start, size, disk_size, room }.into());
        }
        log.check_resize(size, self.longest).map_err(LogSizeError::from)?;
        Ok(())
    }

    /// A size of the log that was asked for, and is not there yet: a sentence on what it waits
    /// for.
    #[must_use]
    pub fn resizing(&self) -> Option<String> {
        let resize = resize_status(self.log.as_ref()?)?;
        Some(resize.sentence())
    }
}

impl From<LogSizeError> for ReloadError {
    fn from(error: LogSizeError) -> Self {
        Self::LogSize(error)
    }
}

pub(crate) fn resize_status(log: &Replog) -> Option<ResizeStatus> {
    let resizing = log.resizing()?;
    let waits_for = match resizing.waits_for {
        Some(Wait::Wrapped(slink)) => {
            format!("until site {slink} has what lies before the end of the ring's last lap")
        }
        Some(Wait::Beyond(slink)) => {
            format!("until site {slink} has what lies behind the new end")
        }
        Some(Wait::Long(slink)) => {
            format!("until site {slink} has what is too long for the new ring")
        }
        Some(Wait::Io) | None => "for I/O to end".to_owned(),
    };
    Some(ResizeStatus {
        from_sectors: log.geometry().size().0,
        to_sectors: resizing.to.0,
        waits_for,
    })
}

/// Whether a log has a size, as far as it would use it, or is to have it.
fn is_to_have(log: &Replog, size: Sectors) -> bool {
    let to = log.resizing().map_or(log.geometry().size(), |resizing| resizing.to);
    log.used_of(size) == Some(to)
}
