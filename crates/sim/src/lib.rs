//! Virtual disks, clock, faults, workloads and the oracle.

pub mod cell;
pub mod disk;
mod image;
pub mod oracle;
pub mod payload;
pub mod rng;
