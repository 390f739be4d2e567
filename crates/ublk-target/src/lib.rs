//! ublk devices as the front end of a replicator: the only crate that names `libublk`.
//!
//! ```text
//!  control thread                    engine thread
//!  ──────────────                    ─────────────────────────────────────────
//!  Ublk::probe                       Engine: one Ring, and on it
//!  Device::create ─▶ Added             FETCH/COMMIT of every device's queue
//!  Added::start ────(Handle)────▶      every backing I/O of the machine
//!  Device::recover ─(Handle)────▶      the inbox's eventfd
//!  Device::remove ──(Handle)────▶
//! ```
//!
//! The control thread does what blocks; the engine's thread never waits for
//! anything but its ring. `libublk` gives the driver's interface: structures,
//! numbers, positions of payloads. Its queues are not used, since they want a
//! thread each; nor is its control object, which waits without limit, takes EBUSY
//! for success, and on recovery writes a file into a directory of everybody's (P15).

mod channel;
mod command;
mod control;
mod details;
mod device;
mod engine;
mod error;
mod front;
mod inbox;
mod keeper;
mod listener;
mod probe;
pub mod process;
mod queue;
mod reopen;
mod request;

pub use control::{DeviceInfo, DeviceSpec, DeviceState};
pub use details::{DeviceDetails, Fields};
pub use device::{Added, Device};
pub use engine::{Engine, EngineSpec};
pub use error::{ControlError, DeviceError, EngineError, EngineGone, ProbeError};
pub use inbox::Handle;
pub use keeper::Keeper;
pub use listener::{Listener, Released};
pub use probe::{Features, Ublk};
pub use reopen::Opener;
