//! Which of the two superblock slots counts.
//!
//! A checkpoint is written to the slot that the newest one is not in, so a crash in
//! the middle of it leaves one slot unreadable and the other whole: one valid slot
//! is a log. The slot that can't be read may also have been the newer one, and have
//! rotted since. Then the older checkpoint is a fair start all the same: its head
//! lies further back, and where the ring was reused meanwhile the scan finds groups
//! that nothing in this checkpoint explains, and reports damage instead of an end.
//!
//! | this slot | that slot | the log is |
//! |---|---|---|
//! | blank | blank | absent |
//! | blank or bad | bad | damaged |
//! | blank or bad | readable | valid |
//! | blank or bad | newer | newer |
//! | readable | readable, of another log | damaged: a creation was cut short |
//! | readable | readable, of this log | valid, the higher generation |
//! | readable | newer, a lower generation | valid: the other program left it readable |
//! | readable | newer, a higher generation | newer |
//! | newer | newer | newer |
//!
//! *blank*: no magic. *bad*: magic, but not whole, or in the wrong slot. *newer*: whole,
//! and written by a program that knows more than this one.

use super::superblock::{Superblock, SuperblockError};

/// What the two slots say together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogState {
    /// There is no log here.
    Absent,
    /// This is the checkpoint to start from.
    Valid(Superblock),
    /// There is a log, and none of its superblocks can be trusted.
    Damaged(Damaged),
    /// There is a log for a later version of the program.
    Newer(Newer),
}

/// Why no superblock can be trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("both superblocks are damaged; slot 0: {}; slot 1: {}", slots[0], slots[1])]
pub struct Damaged {
    /// What is wrong with each slot.
    pub slots: [SlotFault; 2],
}

/// What is wrong with a slot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SlotFault {
    /// It can't be read.
    #[error("{0}")]
    Unreadable(SuperblockError),
    /// It belongs into the other slot.
    #[error("generation {generation} does not belong here")]
    Misplaced {
        /// The generation found.
        generation: u64,
    },
    /// It is whole, but the other one is of another log.
    #[error("it belongs to the log {uuid}, the other slot does not")]
    OtherLog {
        /// The log it belongs to.
        uuid: uuid::Uuid,
    },
}

/// Why this version of the program must not touch the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("slot {slot}: {error}")]
pub struct Newer {
    /// The slot that says so.
    pub slot: usize,
    /// What it needs.
    pub error: SuperblockError,
}

/// Decides between the slots.
#[must_use]
pub fn choose(
    slot0: Result<Superblock, SuperblockError>,
    slot1: Result<Superblock, SuperblockError>,
) -> LogState {
    use Slot::{Bad, Blank, Newer, Readable};
    match (Slot::classify(0, slot0), Slot::classify(1, slot1)) {
        (Blank(_), Blank(_)) => LogState::Absent,
        (Bad(a), Bad(b)) => damaged(a, b),
        (Blank(a), Bad(b)) => damaged(SlotFault::Unreadable(a), b),
        (Bad(a), Blank(b)) => damaged(a, SlotFault::Unreadable(b)),
        (Readable(sb), Blank(_) | Bad(_)) | (Blank(_) | Bad(_), Readable(sb)) => valid(sb),
        (Newer(_, a), Blank(_) | Bad(_) | Newer(..)) => newer(0, a),
        (Blank(_) | Bad(_), Newer(_, b)) => newer(1, b),
        (Readable(a), Readable(b)) => choose_readable(a, b),
        (Readable(sb), Newer(generation, b)) => {
            if generation < sb.generation {
                valid(sb)
            } else {
                newer(1, b)
            }
        }
        (Newer(generation, a), Readable(sb)) => {
            if generation < sb.generation {
                valid(sb)
            } else {
                newer(0, a)
            }
        }
    }
}

enum Slot {
    Blank(SuperblockError),
    Bad(SlotFault),
    Readable(Superblock),
    Newer(u64, SuperblockError),
}

impl Slot {
    fn classify(slot: u64, content: Result<Superblock, SuperblockError>) -> Self {
        match content {
            Ok(sb) if sb.generation % 2 != slot => {
                Self::Bad(SlotFault::Misplaced { generation: sb.generation })
            }
            Ok(sb) => Self::Readable(sb),
            Err(error) => match error {
                SuperblockError::NoMagic { .. } => Self::Blank(error),
                SuperblockError::UnsupportedVersion { generation, .. }
                | SuperblockError::UnknownFeature { generation, .. } => {
                    Self::Newer(generation, error)
                }
                SuperblockError::BadLength { .. }
                | SuperblockError::BadChecksum { .. }
                | SuperblockError::Invalid { .. }
                | SuperblockError::Roster(_)
                | SuperblockError::Unreadable(_)
                | SuperblockError::Reserved { .. } => Self::Bad(SlotFault::Unreadable(error)),
            },
        }
    }
}

/// Generations differ: one is even, the other odd.
fn choose_readable(a: Superblock, b: Superblock) -> LogState {
    if a.uuid != b.uuid {
        return damaged(SlotFault::OtherLog { uuid: a.uuid }, SlotFault::OtherLog { uuid: b.uuid });
    }
    valid(if a.generation > b.generation { a } else { b })
}

fn valid(sb: Superblock) -> LogState {
    LogState::Valid(sb)
}

fn damaged(slot0: SlotFault, slot1: SlotFault) -> LogState {
    LogState::Damaged(Damaged { slots: [slot0, slot1] })
}

fn newer(slot: usize, error: SuperblockError) -> LogState {
    LogState::Newer(Newer { slot, error })
}
