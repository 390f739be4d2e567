//! What is on the log device, byte for byte.

pub mod group;
pub mod superblock;
