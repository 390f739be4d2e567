//! What is on the log device, byte for byte.

pub mod crc;
mod fields;
pub mod group;
mod group_rules;
pub mod kept;
mod roster;
mod slots;
pub mod superblock;
mod superblock_rules;
