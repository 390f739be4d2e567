//! Tools for a dirty log on a disk that nobody has open: look at it ([`fn@check`],
//! [`fn@dump`]) and make it whole ([`fn@repair`]).
//!
//! They believe what a load believes, and say of the rest why not. They read through
//! [`BlockReader`] and write nothing: a repair is a list of blocks, for the caller to
//! show and then to write.

mod check;
mod dump;
mod repair;
mod walk;

use blk::{Errno, Sector, Sectors};

pub use check::{BadBlocks, Health, Lost, Report, Summary, check};
pub use dump::{Line, dump};
pub use repair::{Repair, repair};

/// Where a dirty log is read from.
pub trait BlockReader {
    /// How large it is.
    fn size(&self) -> Sectors;

    /// Fills `buf`, whole blocks, from `sector` on.
    ///
    /// # Errors
    /// What the disk said.
    fn read(&mut self, sector: Sector, buf: &mut [u8]) -> Result<(), Errno>;
}

/// Why there is nothing to work on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ToolError {
    /// Nothing that looks like one.
    #[error("there is no dirty log here")]
    Absent,
    /// Nothing says whose it is.
    #[error(
        "no block can be believed, so nothing says whose dirty log this is; it needs no repair: \
         all of its device counts as dirty, and the next start writes it anew"
    )]
    Unbelievable,
    /// Made by a later version.
    #[error("made by a later version of this program, which has to be used")]
    Newer,
    /// The disk shrank, or it is a copy that was cut.
    #[error(
        "expected a disk of {expected} sectors at least, found {found}; put the dirty log on a \
         larger one: the replicator does not use this one"
    )]
    TooSmall {
        /// What its blocks need.
        expected: Sectors,
        /// What there is.
        found: Sectors,
    },
}
