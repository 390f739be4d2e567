//! What a replicator is made of, once its table is parsed and its disks are open.
//!
//! A table speaks of paths; a machine of [`DiskId`]s. A [`Plan`] is a table's group
//! with every path resolved to an open disk and its [`DiskFacts`], checked so that a
//! machine built from it needs no second look.

use std::collections::BTreeMap;

use blk::{DevNr, DiskId, DiskSeen, NotOpened, SECTOR_BYTES, Sectors, SlinkNr, Span, Wall};
use replog::Geometry;
use replog::format::kept::Kept;

/// A disk that a table names, and what the driver knows of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskFacts {
    /// The driver's number for it, open or not.
    pub id: DiskId,
    /// Its path, for messages.
    pub path: String,
    /// What was seen when it was opened, or why it could not be: any but the log's may be
    /// absent, and is opened when it is back (P5, P7).
    pub seen: Result<DiskSeen, NotOpened>,
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
    /// Its backing devices, at least one of which was seen; the first is the LD.
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
    /// The disk of a `disk` dirty log.
    pub dirty_log_disk: Option<DiskFacts>,
}

/// The log: its place and what the table says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPlan {
    /// The opened log device.
    pub disk: DiskFacts,
    /// The table's words: start, mode, size, RAM tail.
    pub table: table::LogTable,
    /// What this host kept when the log of these devices was lost.
    pub kept: Option<Vec<u8>>,
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
    /// Where sites keep their own state.
    pub marks: BTreeMap<SlinkNr, DiskFacts>,
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
    /// The disk of a leg's dirty log.
    DirtyLog {
        /// The device.
        dev: DevNr,
        /// The site.
        slink: SlinkNr,
    },
    /// Where a site keeps its own state (`mark:`).
    Mark {
        /// The site.
        slink: SlinkNr,
    },
}

/// Why a table can't be used with the disks it names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A path of the table, without which nothing can be served, was not opened.
    #[error("{role}: {why}")]
    NotOpened {
        /// What it is for.
        role: Role,
        /// A sentence that names the path.
        why: String,
    },
    /// One disk is to serve twice (P15).
    #[error(
        "{first} ({first_path}) and {second} ({second_path}) are the same: {identity}; \
         each needs a disk of its own"
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
            Self::DirtyLog { dev, slink } => {
                write!(f, "the dirty log of device {dev} on site {slink}")
            }
            Self::Mark { slink } => write!(f, "the mark of site {slink}"),
        }
    }
}

impl Plan {
    /// Every path that a table names, and what it is for; to be opened by the driver.
    #[must_use]
    pub fn paths(group: &table::Group) -> Vec<(String, Role)> {
        let mut paths = vec![(group.table.log.path.clone(), Role::Log)];
        for slink in &group.table.slinks {
            let role = Role::Mark { slink: slink.nr };
            paths.extend(slink.options.mark.clone().map(|path| (path, role)));
        }
        for device in &group.devices {
            let dev = device.table.dev_nr;
            for leg in &device.table.legs {
                let slink = leg.slink;
                paths.push((leg.path.clone(), Role::Leg { dev, slink }));
                if let table::DirtyLogTable::Disk { path, .. } = &leg.dirty_log {
                    paths.push((path.clone(), Role::DirtyLog { dev, slink }));
                }
            }
        }
        paths
    }

    /// Joins a table's group with the disks that were opened for it, or could not be, by path.
    ///
    /// # Errors
    /// The first thing that does not fit.
    pub fn new(
        group: &table::Group,
        disks: &BTreeMap<String, DiskFacts>,
    ) -> Result<Self, PlanError> {
        Self::with_kept(group, disks, None)
    }

    /// The same, with what the host kept of a log that was lost (P8): it may not be there.
    ///
    /// # Errors
    /// The first thing that does not fit.
    pub fn with_kept(
        group: &table::Group,
        disks: &BTreeMap<String, DiskFacts>,
        kept: Option<Vec<u8>>,
    ) -> Result<Self, PlanError> {
        // Then the LDs stand in for the log, whatever its device holds.
        let is_bypassed = kept.as_deref().is_some_and(is_bypassed);
        let facts = |path: &str, role: Role| {
            let missing =
                || PlanError::NotOpened { role, why: format!("{path} was not looked for") };
            let facts = disks.get(path).cloned().ok_or_else(missing)?;
            match &facts.seen {
                Err(not) if role.is_vital() && !is_bypassed => {
                    Err(PlanError::NotOpened { role, why: not.why.clone() })
                }
                _ => Ok(facts),
            }
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
                let slink = leg.slink;
                let dirty_log_disk = match &leg.dirty_log {
                    table::DirtyLogTable::Disk { path, .. } => {
                        Some(facts(path, Role::DirtyLog { dev, slink })?)
                    }
                    _ => None,
                };
                legs.push(LegPlan {
                    slink,
                    disk: facts(&leg.path, Role::Leg { dev, slink })?,
                    dirty_log: leg.dirty_log.clone(),
                    dirty_log_disk,
                });
            }
            let plan = DevicePlan { nr: dev, name: device.name.clone(), size: device.len, legs };
            plan.check()?;
            devices.push(plan);
        }
        let mut marks = BTreeMap::new();
        for slink in &group.table.slinks {
            if let Some(path) = &slink.options.mark {
                marks.insert(slink.nr, facts(path, Role::Mark { slink: slink.nr })?);
            }
        }
        Ok(Self {
            name: group.name.clone(),
            log: LogPlan { disk: facts(&log.path, Role::Log)?, table: log, kept },
            slinks: group.table.slinks.clone(),
            marks,
            devices,
        })
    }

    /// The table it is made of.
    #[must_use]
    pub fn group(&self) -> table::Group {
        let leg = |leg: &LegPlan| table::LegTable {
            slink: leg.slink,
            path: leg.disk.path.clone(),
            dirty_log: leg.dirty_log.clone(),
        };
        let device = |device: &DevicePlan| table::GroupDevice {
            name: device.name.clone(),
            len: device.size,
            table: table::ReplicatorDevTable {
                replicator: self.name.clone(),
                dev_nr: device.nr,
                legs: device.legs.iter().map(leg).collect(),
            },
        };
        table::Group {
            name: self.name.clone(),
            table: table::ReplicatorTable {
                log: self.log.table.clone(),
                slinks: self.slinks.clone(),
            },
            devices: self.devices.iter().map(device).collect(),
        }
    }

    /// A leg's disk was opened, that perhaps could not be before. What its device can't do
    /// with is no matter of the table: its site stays down.
    pub(crate) fn saw(&mut self, disk: DiskId, seen: &DiskSeen) {
        for device in &mut self.devices {
            let whole = device.size.bytes().is_multiple_of(u64::from(seen.logical_block));
            let fits = whole && seen.size >= device.size;
            let legs = device.legs.iter_mut().map(|leg| &mut leg.disk);
            if let Some(known) = legs.filter(|_| fits).find(|known| known.id == disk) {
                known.seen = Ok(seen.clone());
            }
        }
    }

    /// How long an I/O of each site's disks may take.
    #[must_use]
    pub fn timeouts(&self) -> BTreeMap<SlinkNr, Span> {
        self.slinks.iter().map(|slink| (slink.nr, slink.options.timeout_io())).collect()
    }

    /// A device of the plan.
    #[must_use]
    pub fn device(&self, dev: DevNr) -> Option<&DevicePlan> {
        self.devices.iter().find(|device| device.nr == dev)
    }

    /// Its disks, by path.
    #[must_use]
    pub fn disks(&self) -> BTreeMap<String, DiskFacts> {
        let legs = self.devices.iter().flat_map(|device| &device.legs);
        let own = legs.flat_map(|leg| std::iter::once(&leg.disk).chain(&leg.dirty_log_disk));
        let all = own.chain(self.marks.values()).chain([&self.log.disk]);
        all.map(|disk| (disk.path.clone(), disk.clone())).collect()
    }

    /// Bytes of the logical block that a device advertises: its strictest leg's.
    ///
    /// # Panics
    /// If the plan has no such device.
    #[must_use]
    pub fn logical_block(&self, dev: DevNr) -> u32 {
        self.device(dev).expect("a device of the plan").logical_block().0
    }

    /// The longest write that a device may send: a quarter of the ring less a header (I10),
    /// and at most 1 MiB. `log_size` is the size of the open log.
    #[must_use]
    pub fn max_sectors(&self, log_size: Sectors) -> Sectors {
        let geometry = Geometry::new(self.log.table.start, log_size);
        let longest = geometry.map_or(Sectors(0), |geometry| geometry.write_max());
        longest.min(WRITE_MAX)
    }
}

impl DevicePlan {
    /// The backing device on a site.
    #[must_use]
    pub fn leg(&self, slink: SlinkNr) -> Option<&LegPlan> {
        self.legs.iter().find(|leg| leg.slink == slink)
    }

    /// Bytes of the strictest leg's logical block, and that leg's path. A leg that nobody has
    /// seen yet has no say: should it turn out stricter, its site stays down.
    fn logical_block(&self) -> (u32, &str) {
        let seen = self.legs.iter().filter_map(|leg| {
            Some((leg.disk.seen.as_ref().ok()?.logical_block, leg.disk.path.as_str()))
        });
        seen.max_by_key(|(block, _)| *block).expect("a plan has a disk for each device")
    }

    fn check(&self) -> Result<(), PlanError> {
        let dev = self.nr;
        if let Some(first) = self.legs.first()
            && let Err(not) = &first.disk.seen
            && self.legs.iter().all(|leg| leg.disk.seen.is_err())
        {
            let role = Role::Leg { dev, slink: first.slink };
            return Err(PlanError::NotOpened { role, why: not.why.clone() });
        }
        for leg in &self.legs {
            let Ok(seen) = &leg.disk.seen else { continue };
            if seen.size < self.size {
                return Err(PlanError::LegTooSmall {
                    role: Role::Leg { dev, slink: leg.slink },
                    path: leg.disk.path.clone(),
                    found: seen.size,
                    expected: self.size,
                });
            }
        }
        let (block, path) = self.logical_block();
        if !self.size.bytes().is_multiple_of(u64::from(block)) {
            return Err(PlanError::NotWholeBlocks {
                dev,
                name: self.name.clone(),
                len: self.size,
                block,
                path: path.to_owned(),
            });
        }
        Ok(())
    }
}

impl Role {
    /// Whether nothing can be served without it. A remote site can't keep a device from its
    /// users (P5), nor can what only remembers how far one is; nor can the local site where
    /// another has everything (P7), which only the log knows.
    #[must_use]
    pub fn is_vital(self) -> bool {
        self == Self::Log
    }

    /// Whether it is a local disk.
    #[must_use]
    pub fn is_local(self) -> bool {
        matches!(self, Self::Leg { slink, .. } if slink.is_local())
    }
}

impl DiskFacts {
    /// Its size; none if it was not seen.
    #[must_use]
    pub fn size(&self) -> Sectors {
        self.seen.as_ref().map_or(Sectors(0), |seen| seen.size)
    }

    /// What it is, whatever its path; empty if it was not seen.
    #[must_use]
    pub fn identity(&self) -> &str {
        self.seen.as_ref().map_or("", |seen| &seen.identity)
    }
}

/// Whether a host kept that devices go on without their log (P8). What can't be read says
/// nothing; opening the log will tell.
#[must_use]
pub fn is_bypassed(kept: &[u8]) -> bool {
    Kept::decode(kept).is_ok_and(|kept| kept.is_bypassed())
}

/// P15: a disk serves once, whatever it is called.
fn check_aliases(
    paths: &[(String, Role)],
    disks: &BTreeMap<String, DiskFacts>,
) -> Result<(), PlanError> {
    let mut seen: BTreeMap<&str, &(String, Role)> = BTreeMap::new();
    for named in paths {
        let Some(Ok(facts)) = disks.get(&named.0).map(|facts| &facts.seen) else { continue };
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
