//! What a replicator is made of, once its table is parsed and its disks are open.
//!
//! A table speaks of paths; a machine of [`DiskId`]s. A [`Plan`] is a table's group
//! with every path resolved to an open disk and its [`DiskFacts`], checked so that a
//! machine built from it needs no second look.

use std::collections::BTreeMap;

use blk::{DevNr, DiskId, SECTOR_BYTES, Sectors, SlinkNr, Wall};
use replog::Geometry;

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

/// What a path of a table is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// The log device.
    Log,
    /// The backing device of a device on a site: LD or RD.
    Leg {
        /// The device.
        dev: DevNr,
        /// The site.
        slink: SlinkNr,
    },
}

/// Why a table can't be used with the disks it names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A path of the table was not opened.
    #[error("{role}: {path} was not opened")]
    NotOpened {
        /// What it is for.
        role: Role,
        /// The path.
        path: String,
    },
    /// One disk is to serve twice (P15).
    #[error(
        "{first} ({first_path}) and {second} ({second_path}) are the same: {identity};          each needs a disk of its own"
    )]
    UsedTwice {
        /// What it is for.
        first: Role,
        /// By this path.
        first_path: String,
        /// And what else.
        second: Role,
        /// By that path.
        second_path: String,
        /// What it is.
        identity: String,
    },
    /// A backing device is smaller than its device.
    #[error("{role}: {path} has {found} sectors, the table gives the device {expected}")]
    LegTooSmall {
        /// What it is for.
        role: Role,
        /// Its path.
        path: String,
        /// Its size.
        found: Sectors,
        /// The device's size.
        expected: Sectors,
    },
    /// A device is not a whole number of its legs' blocks.
    #[error(
        "device {dev} ({name}) has {len} sectors: not a multiple of the {block}-byte blocks of {path}"
    )]
    NotWholeBlocks {
        /// The device.
        dev: DevNr,
        /// Its name.
        name: String,
        /// Its size.
        len: Sectors,
        /// The strictest block size, in bytes.
        block: u32,
        /// The leg that asks for it.
        path: String,
    },
    /// The log does not begin on a block.
    #[error("the log begins at sector {start} of {path}: expected a multiple of 8 (4096 bytes)")]
    LogNotAligned {
        /// Where the table puts it.
        start: blk::Sector,
        /// The log device.
        path: String,
    },
    /// A type that nobody registered.
    #[error(transparent)]
    Type(#[from] registry::RegistryError),
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Log => f.write_str("the log"),
            Self::Leg { dev, slink } => write!(f, "device {dev} on site {slink}"),
        }
    }
}

impl Plan {
    /// Every path that a table names, and what it is for; to be opened by the driver.
    #[must_use]
    pub fn paths(group: &table::Group) -> Vec<(String, Role)> {
        let log = std::iter::once((group.table.log.path.clone(), Role::Log));
        let legs = group.devices.iter().flat_map(|device| {
            let dev = device.table.dev_nr;
            let role = move |slink| Role::Leg { dev, slink };
            device.table.legs.iter().map(move |leg| (leg.path.clone(), role(leg.slink)))
        });
        log.chain(legs).collect()
    }

    /// Joins a table's group with the disks that were opened for it, by path.
    ///
    /// # Errors
    /// The first thing that does not fit.
    pub fn new(
        group: &table::Group,
        disks: &BTreeMap<String, DiskFacts>,
    ) -> Result<Self, PlanError> {
        let facts = |path: &str, role| {
            let missing = || PlanError::NotOpened { role, path: path.to_owned() };
            disks.get(path).cloned().ok_or_else(missing)
        };
        check_aliases(&Self::paths(group), disks)?;
        let log = group.table.log.clone();
        if !log.start.0.is_multiple_of(SECTORS_PER_BLOCK) {
            return Err(PlanError::LogNotAligned { start: log.start, path: log.path });
        }
        let mut devices = Vec::new();
        for device in &group.devices {
            let dev = device.table.dev_nr;
            let mut legs = Vec::new();
            for leg in &device.table.legs {
                let disk = facts(&leg.path, Role::Leg { dev, slink: leg.slink })?;
                legs.push(LegPlan { slink: leg.slink, disk, dirty_log: leg.dirty_log.clone() });
            }
            let plan = DevicePlan { nr: dev, name: device.name.clone(), size: device.len, legs };
            plan.check()?;
            devices.push(plan);
        }
        Ok(Self {
            name: group.name.clone(),
            log: LogPlan { disk: facts(&log.path, Role::Log)?, table: log },
            slinks: group.table.slinks.clone(),
            devices,
        })
    }

    /// A device of the plan.
    #[must_use]
    pub fn device(&self, dev: DevNr) -> Option<&DevicePlan> {
        self.devices.iter().find(|device| device.nr == dev)
    }

    /// Bytes of the logical block that a device advertises: its strictest leg's.
    ///
    /// # Panics
    /// If the plan has no such device.
    #[must_use]
    pub fn logical_block(&self, dev: DevNr) -> u32 {
        self.device(dev).expect("a device of the plan").strictest().disk.logical_block
    }

    /// The longest write that a device may send: a quarter of the ring less a header (I10),
    /// and at most 1 MiB. `log_size` is the size of the open log.
    #[must_use]
    pub fn max_sectors(&self, log_size: Sectors) -> Sectors {
        let geometry = Geometry::new(self.log.table.start, log_size);
        let longest = geometry.map_or(Sectors(0), |geometry| geometry.write_max());
        longest.min(WRITE_MAX)
    }

    /// What the table asks for and this version does not do yet: a sentence each.
    #[must_use]
    pub fn not_yet(&self) -> Vec<String> {
        let limited =
            self.slinks.iter().filter(|s| s.fall_behind.is_some_and(|limit| !limit.is_unlimited()));
        limited
            .map(|s| format!("site {}: its fall-behind limit is not enforced yet", s.nr))
            .collect()
    }
}

impl DevicePlan {
    /// The backing device on a site.
    #[must_use]
    pub fn leg(&self, slink: SlinkNr) -> Option<&LegPlan> {
        self.legs.iter().find(|leg| leg.slink == slink)
    }

    fn strictest(&self) -> &LegPlan {
        let strictest = self.legs.iter().max_by_key(|leg| leg.disk.logical_block);
        strictest.expect("a table gives a device at least its LD")
    }

    fn check(&self) -> Result<(), PlanError> {
        let dev = self.nr;
        if let Some(leg) = self.legs.iter().find(|leg| leg.disk.size < self.size) {
            return Err(PlanError::LegTooSmall {
                role: Role::Leg { dev, slink: leg.slink },
                path: leg.disk.path.clone(),
                found: leg.disk.size,
                expected: self.size,
            });
        }
        let disk = &self.strictest().disk;
        if !self.size.bytes().is_multiple_of(u64::from(disk.logical_block)) {
            return Err(PlanError::NotWholeBlocks {
                dev,
                name: self.name.clone(),
                len: self.size,
                block: disk.logical_block,
                path: disk.path.clone(),
            });
        }
        Ok(())
    }
}

/// P15: a disk serves once, whatever it is called.
fn check_aliases(
    paths: &[(String, Role)],
    disks: &BTreeMap<String, DiskFacts>,
) -> Result<(), PlanError> {
    let mut seen: BTreeMap<&str, &(String, Role)> = BTreeMap::new();
    for named in paths {
        let Some(facts) = disks.get(&named.0) else { continue };
        if let Some(before) = seen.insert(&facts.identity, named) {
            return Err(PlanError::UsedTwice {
                first: before.1,
                first_path: before.0.clone(),
                second: named.1,
                second_path: named.0.clone(),
                identity: facts.identity.clone(),
            });
        }
    }
    Ok(())
}

/// One write of an application is at most this long, as on most disks.
const WRITE_MAX: Sectors = Sectors(2048);
const SECTORS_PER_BLOCK: u64 = (blk::BLOCK_BYTES / SECTOR_BYTES) as u64;
