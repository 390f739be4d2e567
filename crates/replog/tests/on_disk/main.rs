//! What is on the log device: the format, the scan of the ring, and the tools that
//! look at it and repair it.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod checkpoints;
mod committing;
mod golden;
mod groups;
mod image;
mod opening;
mod resizing;
mod samples;
mod scan_cases;
mod scan_reads;
mod scan_tears;
mod slots;
mod space;
mod standing;
mod superblocks;
mod tools;
