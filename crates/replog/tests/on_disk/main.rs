//! What is on the log device: the format, the scan of the ring, and the tools that
//! look at it and repair it.

mod golden;
mod groups;
mod samples;
mod slots;
mod superblocks;
