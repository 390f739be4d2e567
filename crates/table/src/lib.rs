//! dm table text to typed tables, and back.
//!
//! A table is one line, `START LEN TARGET ARGS`, for one of two targets:
//! `replicator` (one replog and its site links) and `replicator-dev` (one
//! replicated device and its legs). The grammar is that of the 2009
//! documentation, with `key:value` options after the documented parameters.
//!
//! Promises: any bytes give a table or one [`TableError`] that says what was
//! expected, what was found and where, never a panic; printing is canonical,
//! and what is printed parses to the same table. Nothing here touches a file
//! or a device: paths are words, and what they name is somebody else's check.
//!
//! ```
//! let file = table::TableFile::parse(
//!     "repl: 0 1 replicator ringbuffer 4 /dev/vg/log 0 auto 2097152 \\
//!          blockdev 2 0 sync  blockdev 4 1 async ios 10000
//!      db: 0 409600 replicator-dev /dev/mapper/repl 0 \\
//!          0 1 /dev/vg/db nolog 0  1 1 /dev/sdx core 2 1024 nosync",
//! )?;
//! let groups = file.groups()?;
//! assert_eq!((groups[0].name.as_str(), groups[0].devices.len()), ("repl", 1));
//! # Ok::<(), table::TableError>(())
//! ```

#![forbid(unsafe_code)]

mod args;
mod check;
mod concise;
mod edit;
mod error;
mod file;
mod group;
mod kind;
pub mod limits;
mod name;
mod options;
mod origin;
mod print;
mod replicator;
mod replicator_dev;
mod spelling;
mod target;
mod types;
mod units;
mod words;

pub use edit::EditError;
pub use error::{Position, TableError};
pub use group::{Group, GroupDevice};
pub use kind::ErrorKind;
pub use spelling::vocabulary;
pub use types::{
    DirtyLogTable, Entry, FallBehind, Init, LdLag, LegTable, LogTable, Mode, OnDown, OnLimit,
    Order, Policy, ReplicatorDevTable, ReplicatorTable, SlinkOptions, SlinkTable, Sync, TableFile,
    Target,
};
