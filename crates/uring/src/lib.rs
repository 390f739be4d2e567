//! Does the engine's effects with io_uring on files and block devices.
