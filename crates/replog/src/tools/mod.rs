//! Tools for a log that nobody has open: look at it ([`fn@check`], [`fn@dump`], and
//! [`fn@lacking`] for one site of it) and cut it where it is damaged ([`fn@repair`]).
//!
//! They stand on the same scanner as recovery, so they see what it sees. They read
//! through [`LogReader`] and write nothing: a repair is a list of writes, for the
//! caller to show and then to do.

mod check;
mod dump;
mod find;
mod lacking;
mod lost;
mod repair;
mod report;
mod walk;

use blk::{Errno, Sector};

pub use check::{Health, LogSummary, Place, Report, SiteReport, SlotReport, check};
pub use dump::{CheckpointLine, Cursor, EntryLine, GroupLine, LegLine, Line, dump};
pub use find::{ToolError, can_follow, uuid};
pub use lacking::{Lacking, LackingDevice, LackingError, lacking};
pub use lost::{Lost, LostWrite};
pub use repair::{Repair, SiteVerdict, SlotWrite, repair};
pub use report::{DamageReport, Span};

/// Where a log is read from. Sectors are absolute on the device.
pub trait LogReader {
    /// Fills `buf`, whole blocks, from `sector` on.
    ///
    /// # Errors
    /// What the device said.
    fn read(&mut self, sector: Sector, buf: &mut [u8]) -> Result<(), Errno>;
}
