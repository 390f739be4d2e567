//! The `replicator` command.

fn main() {}
