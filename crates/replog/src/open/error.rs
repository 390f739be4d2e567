//! Why a log was not opened: what was expected, what was found, and what to do.

use blk::{Errno, Sector, Sectors};
use uuid::Uuid;

use crate::format::kept::KeptError;
use crate::geometry::LOG_SIZE_MIN;
use crate::roster::RosterError;
use crate::scan::Damage;

/// Why a log was not opened. Nothing on the device has changed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no log.
    #[error("{path}: no replication log at sector {start}; say `create` or `auto` and a size")]
    Absent {
        /// The log device.
        path: String,
        /// Where a log was looked for.
        start: Sector,
    },
    /// There is one, and it was to be made.
    #[error(
        "{path}: there is a replication log already (UUID {uuid}, {writes} writes not on all \
         sites at its last checkpoint); say `open` to use it"
    )]
    Exists {
        /// The log device.
        path: String,
        /// Its identity.
        uuid: Uuid,
        /// Writes that some site lacks.
        writes: u64,
    },
    /// Both superblocks are unreadable, but there was a log.
    #[error(
        "{path}: {reason}; it may hold writes that no site has: look at `replicator log check`, \
         and wipe its first 256 KiB only if nothing in it is needed"
    )]
    Headers {
        /// The log device.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// It has another size than the table says.
    #[error(
        "{path}: the log has {found} sectors, the table says {expected}; say {found}, and let \
         `message NAME 0 replog resize` change it when it runs"
    )]
    OtherSize {
        /// The log device.
        path: String,
        /// Sectors of the log.
        found: Sectors,
        /// Sectors in the table, as far as they are used.
        expected: Sectors,
    },
    /// The table gives no size, or too small a one, for a log that is to be made.
    #[error("{path}: a new log needs a size of at least {LOG_SIZE_MIN} sectors, found {found}")]
    TooSmall {
        /// The log device.
        path: String,
        /// The size given.
        found: Sectors,
    },
    /// The log does not fit its device.
    #[error(
        "{path}: a log of {size} sectors at sector {start} does not fit a device of {disk_size}"
    )]
    DoesNotFit {
        /// The log device.
        path: String,
        /// Size of the log.
        size: Sectors,
        /// Where it begins.
        start: Sector,
        /// Size of the device.
        disk_size: Sectors,
    },
    /// It was written by a program that knows more than this one.
    #[error(
        "{path}: the log uses features that this program may read but not write: \
         {ro_compat:#x}; use a newer program"
    )]
    ReadOnly {
        /// The log device.
        path: String,
        /// The unknown features.
        ro_compat: u64,
    },
    /// The devices went on without this log (P8).
    #[error(
        "{path}: the devices have run without this log since its opening {epoch}, so what it \
         holds is older than what they hold; make a new log"
    )]
    Bypassed {
        /// The log device.
        path: String,
        /// The last opening of the log before that.
        epoch: u64,
    },
    /// The devices went on without this log (P8), and what the host kept of that is gone.
    #[error(
        "{path}: the devices have run without this log since its opening {epoch}, says the dirty \
         log {said_by}, so what it holds is older than what they hold; this host's record of that \
         is gone: put it back (NAME.log of the state directory) to go on without the log, or make \
         a new log, and have every other site copied from the local disks as a whole"
    )]
    Lost {
        /// The log device.
        path: String,
        /// The last opening of the log before that.
        epoch: u64,
        /// The path of the dirty log.
        said_by: String,
    },
    /// It is not there, and nothing says that the devices can do without.
    #[error(
        "{path}: the log is not there, and it holds what the devices were given last; bring it back"
    )]
    NotThere {
        /// The log device.
        path: String,
    },
    /// What the host kept of a lost log can't be read.
    #[error(
        "{path}: what this host kept when the log was lost can't be read: {error}; without it \
         nobody knows whether the log may be replayed"
    )]
    Kept {
        /// The log device.
        path: String,
        /// What is wrong with it.
        error: KeptError,
    },
    /// The log is damaged before its durable end.
    #[error("{path}: {damage}; look at `replicator log check`, then `replicator log repair`")]
    Damaged {
        /// The log device.
        path: String,
        /// Where and what.
        damage: Box<Damage>,
    },
    /// The members are not those that the log was written for.
    #[error("{path}: {error}")]
    Roster {
        /// The log device.
        path: String,
        /// What does not agree.
        error: RosterError,
    },
    /// The device failed.
    #[error("{path}: {what} ended with: {errno}")]
    Io {
        /// The log device.
        path: String,
        /// What was being done.
        what: &'static str,
        /// How it ended.
        errno: Errno,
    },
}
