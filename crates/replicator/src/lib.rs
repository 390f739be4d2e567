//! The targets `replicator` and `replicator-dev`: log, site links and devices joined.
//!
//! - [`plan`]: a table's group with its paths resolved, checked.
//! - [`types`]: the registry through which a replicator is composed.
//! - [`machine`]: the replicator as a machine: events in, effects out; [`message`]: its words.
//! - [`change`], [`reload`]: another table for a group that is in use; [`resize`]: and another
//!   size for its log.
//! - [`Replicator::rename`]: another name for a group in use, or for a device of it.
//! - [`acks`], [`reads`]: when a write may be acknowledged, and where a read finds
//!   the newest content.
//! - [`events`]: what happened lately, with numbers.
//! - [`status`]: how it is, in the layouts of 2009, as data, and as sentences.

#![forbid(unsafe_code)]

mod acks;
pub mod change;
mod compose;
mod device;
mod devices;
pub mod events;
mod front;
mod lost;
pub mod machine;
pub mod message;
mod orphans;
pub mod plan;
mod reads;
pub mod reload;
mod relog;
mod rename;
pub mod resize;
mod sites;
pub mod status;
pub mod types;

pub use change::{Change, Fixed, changes};
pub use events::{EventPage, EventRecord, Note};
pub use machine::{Phase, Replicator};
pub use message::MessageError;
pub use plan::{DevicePlan, DiskFacts, LegPlan, LogPlan, Plan, PlanError, Role, Seed, is_bypassed};
pub use reload::ReloadError;
pub use relog::{LogWish, Relog};
pub use rename::RenameError;
pub use status::data::{DeviceStatus, SiteState, SiteStatus, Status};
pub use status::why::{Reason, why};
