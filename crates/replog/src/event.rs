//! What happened to the log, for logs, events and people.

use std::fmt;

use blk::Errno;
use uuid::Uuid;

use crate::log::{Failure, Replog};
use crate::replace::ReplaceError;

/// What became of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogEvent {
    /// Nothing is asked of its device any more.
    Lost(Failure),
    /// It works, and another is to take its place.
    GivenUp,
    /// The record of that could not be kept; it is tried again.
    NotKept(Errno),
    /// The local disks stand in for it.
    Bypassed,
    /// Another has taken its place.
    Replaced {
        /// The new one.
        uuid: Uuid,
        /// Where it is.
        path: String,
    },
    /// None has.
    NotReplaced(ReplaceError),
}

impl fmt::Display for LogEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(Failure { what, errno }) => write!(f, "lost: {what} ended with: {errno}"),
            Self::GivenUp => f.write_str("given up for another one"),
            Self::NotKept(errno) => write!(
                f,
                "that it is not to be replayed can't be kept on this host ({errno}); it is tried again"
            ),
            Self::Bypassed => {
                f.write_str("the devices go on without it; it is never replayed again")
            }
            Self::Replaced { uuid, path } => {
                write!(f, "log {uuid} on {path} has taken its place")
            }
            Self::NotReplaced(error) => write!(f, "it is not replaced: {error}"),
        }
    }
}

impl Replog {
    /// What happened since it was last asked.
    pub fn take_events(&mut self) -> Vec<LogEvent> {
        std::mem::take(&mut self.events)
    }
}
