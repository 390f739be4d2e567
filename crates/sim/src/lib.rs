//! Virtual disks, clock, faults, workloads and the oracle.
//!
//! ```text
//!   workload ─▶ ┌─ world ──────────────┐ ─▶ disks (volatile cache, power cuts, faults)
//!               │  the machine itself  │
//!     oracle ◀─ └──────────────────────┘ ◀─ virtual time
//! ```
//!
//! The machine is the one that production runs. Everything a run does follows from its
//! seed; a broken promise is reported with the seed that shows it again.

#![forbid(unsafe_code)]

pub mod bugs;
pub mod cell;
pub mod coverage;
pub mod disk;
pub mod engine;
mod image;
pub mod less;
pub mod oracle;
pub mod payload;
pub mod prove;
pub mod rig;
pub mod rng;
pub mod rot;
pub mod runs;
pub mod scenario;
pub mod shrink;
pub mod swarm;
pub mod sweep;
pub mod topology;
#[cfg(test)]
mod toy;
pub mod workload;
pub mod world;
