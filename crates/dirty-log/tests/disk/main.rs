//! The type `disk`: what it promises, whatever happens to it and its disk.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod blocks;
mod failures;
mod growing;
mod histories;
mod sessions;
mod tools;
mod world;
