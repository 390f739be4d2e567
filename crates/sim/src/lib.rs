//! Virtual disks, clock, faults, workloads and the oracle.
