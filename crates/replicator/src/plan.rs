//! What a replicator is made of, once its table is parsed and its disks are open.
//!
//! A table speaks of paths; a machine of [`DiskId`]s. A [`Plan`] is a table's group
//! with every path resolved to an open disk and its [`DiskFacts`], checked so that a
//! machine built from it needs no second look.

use blk::{DevNr, DiskId, Sectors, SlinkNr, Wall};

/// What the driver knows of a disk that it has opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskFacts {
    /// The driver's number for it.
    pub id: DiskId,
    /// Its path, for messages.
    pub path: String,
    /// Its size.
    pub size: Sectors,
    /// Bytes of its logical block: 512 or 4096.
    pub logical_block: u32,
    /// What stays the same when its path changes (WWID, PARTUUID, …). Two paths to
    /// the same thing have the same identity.
    pub identity: String,
}

/// A device of the group: its number, its size and its legs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DevicePlan {
    /// The number that tags its writes in the log.
    pub nr: DevNr,
    /// What users call it.
    pub name: String,
    /// Its size, which every leg has at least.
    pub size: Sectors,
    /// Its backing devices; the first is the LD.
    pub legs: Vec<LegPlan>,
}

/// The backing device of one device on one site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegPlan {
    /// The site.
    pub slink: SlinkNr,
    /// The opened backing device.
    pub disk: DiskFacts,
    /// Its dirty log, as the table states it.
    pub dirty_log: table::DirtyLogTable,
}

/// The log: its place and what the table says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPlan {
    /// The opened log device.
    pub disk: DiskFacts,
    /// The table's words: start, mode, size, RAM tail.
    pub table: table::LogTable,
}

/// A replicator, ready to be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What users call it.
    pub name: String,
    /// Its log.
    pub log: LogPlan,
    /// Its site links, the local one first.
    pub slinks: Vec<table::SlinkTable>,
    /// Its devices.
    pub devices: Vec<DevicePlan>,
}

/// What a machine cannot know by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed {
    /// The identity of the log, should one be created.
    pub uuid: uuid::Uuid,
    /// The wall clock at `Time(0)`; written into the log for people to read.
    pub wall: Wall,
}
