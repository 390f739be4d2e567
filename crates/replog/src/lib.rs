//! The replication log: a ring buffer with group commit, recovery and a read overlay.

pub mod format;
pub mod geometry;
