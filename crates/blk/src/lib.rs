//! The vocabulary of the house: what a sector, a sequence number, a buffer, an
//! event and an effect are.
//!
//! Nothing here does I/O, reads a clock or starts a thread. A [`Machine`] takes
//! [`Event`]s and the [`Time`], and yields [`Effect`]s; who carries them out (a
//! ring on real disks, a simulator on virtual ones) is not its business.

pub mod buf;
pub mod io;
pub mod machine;
pub mod time;
pub mod units;

pub use buf::{Buf, BufMut, Gather};
pub use io::{DiskId, DiskOp, DiskSeen, Errno, IoId, IoOwner, NotOpened, Op, ReqId};
pub use machine::{Data, Effect, Event, Machine};
pub use time::{Span, Time, Wall};
pub use units::{BLOCK_BYTES, DevNr, SECTOR_BYTES, Sector, Sectors, Seq, SlinkNr};
