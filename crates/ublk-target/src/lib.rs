//! ublk devices as the front end of a replicator.
