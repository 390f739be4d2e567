//! Does the engine's effects with io_uring on files and block devices.
//!
//! * [`Disk`]: one backing device or file, opened exclusively (I14), with the
//!   facts a replicator has to know about it: size, block size, identity.
//! * [`Ring`]: one io_uring that carries every [`blk::DiskOp`] of an engine, and
//!   the commands of its front end. It owns each buffer until the kernel has let
//!   go of it, and never loses a request or a completion.
//!
//! Nothing here decides: no deadline, no retry of a failed device, no order. What
//! it does decide is mechanical: a short transfer is continued, and an operation
//! that a device refuses (write-zeroes, FUA) is done by its equivalent.

mod alias;
pub mod disk;
pub mod error;
mod extent;
mod facts;
pub mod helper;
mod holder;
mod identity;
mod open;
mod ring;
mod sys;
mod token;
mod transfer;

pub use disk::Disk;
pub use error::{OpenError, RingError};
pub use extent::Extent;
pub use facts::{Facts, Medium};
pub use holder::find as holder_of;
pub use identity::Identity;
pub use open::{Access, OpenSpec};
pub use ring::{Reaped, Ring, RingSpec};
pub use token::CommandTag;
