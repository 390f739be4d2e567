//! The replicator and replicator-dev targets: log, site links and devices joined.
