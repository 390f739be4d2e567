//! Site links: what carries the log's writes to the local and the remote sites.
//!
//! A [`SiteLink`] reads the log at its own pace and says how far it has come
//! (`covered`). The type `blockdev` is one link, [`ordered`], for the local site as for remote
//! ones: fed from the log, down, detached, copied, taken back. It is fed in one of two ways:
//!
//! - in order: group after group, each in parallel, with a barrier between (P3); remote
//!   sites, and a local site that is `sync`.
//! - lazily: any order, merged and sorted, overwritten blocks skipped; the local site, whose
//!   image the log makes whole again at every opening.
//!
//! `verify` compares a site that is fed in order with what it should hold; [`mend`] rewrites
//! what could not be read.
//!
//! [`mark`] is what a site keeps of its own state, for whoever has it and nothing else.

#![forbid(unsafe_code)]

pub(crate) mod copier;
pub mod event;
pub(crate) mod feed;
pub(crate) mod feeding;
pub(crate) mod flights;
pub(crate) mod gate;
pub(crate) mod governor;
pub mod health;
pub(crate) mod lazy;
pub(crate) mod legs;
pub mod link;
pub mod mark;
pub mod mend;
pub mod ordered;
pub(crate) mod pace;
pub mod policy;
pub(crate) mod ranges;
pub(crate) mod reship;
pub mod states;
pub(crate) mod verify;
pub(crate) mod window;

pub use event::{SiteEvent, Transition};
pub use health::{Down, Failure};
pub use link::{Difference, Grant, Leg, LinkSpec, Load, Report, Resync, SiteLink, SlinkClass};
pub use link::{State, Verification, Verified, blockdev};
pub use mend::Mend;
pub use policy::{Condition, Policy, Verdict};
