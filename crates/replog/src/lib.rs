//! The replication log: a ring buffer with group commit, recovery and a read overlay.
//!
//! - [`mod@format`], [`geometry`]: what is on the device, and where.
//! - [`scan`]: one scanner for recovery, check, dump and whoever follows a log.
//! - [`tools`]: check, dump and repair of a log that nobody has open.
//! - [`open`], [`roster`]: find or make a log, and see that it belongs to its disks;
//!   `standing`: what it remembers of its sites while it is open.
//! - [`log`]: the log at work; `bypass`: the devices at work without it; [`resize`]: how it gets
//!   another length. [`index`], [`overlay`]: what it holds, and what of it is newest;
//!   [`copies`]: which sites have everything else, and which of them is read.
//!
//! The log knows no site link: it has numbered consumers, and its head is the slowest.

#![forbid(unsafe_code)]

pub mod bookmark;
mod bypass;
mod checkpoint;
mod commit;
mod consumers;
pub mod copies;
pub mod event;
pub mod format;
mod gather;
pub mod geometry;
mod gone;
pub mod index;
pub mod log;
mod membership;
pub mod moving;
pub mod open;
pub mod overlay;
mod own_io;
mod pins;
pub mod replace;
pub mod resize;
pub mod roster;
pub mod scan;
mod standing;
mod statistics;
mod tail;
pub mod tools;

pub use crate::log::{Admitted, Change, Counters, Failure, LOG_IO, Refusal, Replog};
pub use crate::log::{RingPlace, Source};
pub use bookmark::Bookmark;
pub use bypass::Held;
pub use copies::{Doubt, Readable};
pub use event::LogEvent;
pub use format::group::EntryOp;
pub use geometry::Geometry;
pub use open::{Lost, OpenError, OpenMode, OpenSpec, Opening, Progress};
pub use overlay::Piece;
pub use replace::{NewLog, REPLACE_IO, ReplaceError};
pub use resize::{ResizeError, Resizing, Wait};
pub use roster::{Joining, Roster, RosterError};
pub use standing::Version;
pub use statistics::{RingCounters, RingStatistics};
