//! Finds the log on a device: both slots, and what they say together.

use blk::{Errno, Sector};
use uuid::Uuid;

use super::LogReader;
use crate::format::superblock::{Damaged, LogState, Newer, Superblock, SuperblockError, choose};
use crate::geometry::{Geometry, LOG_SIZE_MIN, SLOT_BYTES};

/// Why there is nothing to work on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ToolError {
    /// No magic in either slot.
    #[error("there is no replication log at sector {start}")]
    Absent {
        /// Where it was looked for.
        start: Sector,
    },
    /// No superblock to start from.
    #[error(
        "{0}; without a superblock nothing says where the log begins: create a new one and \
         resynchronise the sites"
    )]
    Superblocks(#[from] Damaged),
    /// Made by a later version.
    #[error("{0}")]
    Newer(#[from] Newer),
    /// A superblock asks this version not to write.
    #[error("the log uses features that this program may read but not write: {ro_compat:#x}")]
    ReadOnly {
        /// The unknown bits.
        ro_compat: u64,
    },
    /// Nothing may be decided over sectors that can't be read.
    #[error(
        "{sectors} sectors of the log can't be read, the first at sector {first}; copy the \
         device to a sound one and repair the copy"
    )]
    Unreadable {
        /// How many.
        sectors: u64,
        /// The first one.
        first: Sector,
    },
    /// The scan of the repaired log would not end where the log was cut.
    #[error("the log can't be cut at sector {sector}: {why}")]
    Uncut {
        /// Where it was to be cut.
        sector: Sector,
        /// What a scan of the result says.
        why: String,
    },
}

/// Both slots of a log, and what they say together.
pub(super) struct Slots {
    pub(super) slots: [Result<Superblock, SuperblockError>; 2],
    pub(super) state: LogState,
}

/// Reads and decides; a slot that can't be read is a bad one.
pub(super) fn slots(reader: &mut dyn LogReader, start: Sector) -> Slots {
    // Slots lie in the same place in every log, so the smallest one will do.
    let geometry = Geometry::new(start, LOG_SIZE_MIN);
    let mut read = |slot| {
        let geometry = geometry.ok_or(Errno::EINVAL)?;
        let mut bytes = vec![0; usize::try_from(SLOT_BYTES).expect("a slot fits in memory")];
        reader.read(geometry.slot(slot), &mut bytes)?;
        Superblock::decode(&bytes)
    };
    let slots = [read(0), read(1)];
    Slots { state: choose(slots[0].clone(), slots[1].clone()), slots }
}

/// The superblock to start from, and the geometry that it names.
pub(super) fn log(
    reader: &mut dyn LogReader,
    start: Sector,
) -> Result<(Superblock, Geometry), ToolError> {
    match slots(reader, start).state {
        LogState::Absent => Err(ToolError::Absent { start }),
        LogState::Damaged(damaged) => Err(damaged.into()),
        LogState::Newer(newer) => Err(newer.into()),
        LogState::Valid(sb) => {
            let geometry = sb.geometry(start);
            Ok((sb, geometry))
        }
    }
}

/// The UUID of the log, if there is one that can be read.
pub fn uuid(reader: &mut dyn LogReader, start: Sector) -> Option<Uuid> {
    log(reader, start).ok().map(|(superblock, _)| superblock.uuid)
}

/// Whether this program can go on with a log that another one has open: it knows its format.
///
/// # Errors
/// If there is no log, or it is one that this program can't write.
pub fn can_follow(reader: &mut dyn LogReader, start: Sector) -> Result<(), ToolError> {
    let (superblock, _) = log(reader, start)?;
    match superblock.features.are_writable() {
        true => Ok(()),
        false => Err(ToolError::ReadOnly { ro_compat: superblock.features.ro_compat }),
    }
}
