//! Site links: what carries the log's writes to the local and the remote sites.
//!
//! A [`SiteLink`] reads the log at its own pace and says how far it has come
//! (`covered`). Two handlers make up the type `blockdev`:
//!
//! - [`ordered`]: group after group, each in parallel, with a barrier between (P3);
//!   for remote sites, and for a local site that is `sync`.
//! - [`lazy`]: any order, merged and sorted, overwritten blocks skipped; for the
//!   local site, whose image the log makes whole again at every opening.
//!
//! `verify` compares a site that is fed in order with what it should hold.
//!
//! [`mark`] is what a site keeps of its own state, for whoever has it and nothing else.

#![forbid(unsafe_code)]

pub(crate) mod copier;
pub mod event;
pub(crate) mod feed;
pub(crate) mod flights;
pub(crate) mod gate;
pub(crate) mod governor;
pub mod health;
pub mod lazy;
pub(crate) mod legs;
pub mod link;
pub mod mark;
pub mod ordered;
pub(crate) mod pace;
pub mod policy;
pub(crate) mod ranges;
pub(crate) mod reship;
pub mod states;
pub(crate) mod verify;

pub use event::{SiteEvent, Transition};
pub use health::{Down, Failure};
pub use link::{Difference, Grant, Leg, LinkSpec, Load, Report, Resync, SiteLink, SlinkClass};
pub use link::{State, Verification, Verified, blockdev};
pub use policy::{Condition, Policy, Verdict};
