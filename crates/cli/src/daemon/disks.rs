//! Opening everything that a table names: first a look, which can find everything wrong
//! without touching anything, then exclusively.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use blk::{DiskId, DiskSeen, Sectors};
use replicator::{DiskFacts, Plan};
use table::Group;
use uring::{Access, Disk, OpenSpec};

/// The disks of one replicator, open for it alone.
#[derive(Debug)]
pub(super) struct Disks {
    pub(super) open: Vec<(DiskId, Disk)>,
    facts: BTreeMap<String, DiskFacts>,
}

impl Disks {
    /// Opens all of them and joins them with the table, waiting up to `busy_limit` in all for
    /// those that a predecessor's writes still hold (I14).
    pub(super) fn open(group: &Group, busy_limit: Duration) -> Result<(Self, Plan)> {
        // An exclusive open of one disk by two paths would only say "busy".
        Plan::new(group, &Self::open_as(group, Access::Look, Duration::ZERO)?.facts)?;
        let disks = Self::open_as(group, Access::Exclusive, busy_limit)?;
        let plan = Plan::new(group, &disks.facts)?;
        Ok((disks, plan))
    }

    /// Whether nearness of sectors matters on any of them.
    pub(super) fn any_rotational(&self) -> bool {
        self.open.iter().any(|(_, disk)| disk.facts().medium.rotational)
    }

    fn open_as(group: &Group, access: Access, busy_limit: Duration) -> Result<Self> {
        let deadline = Instant::now() + busy_limit;
        let mut disks = Self { open: Vec::new(), facts: BTreeMap::new() };
        for (text, role) in Plan::paths(group) {
            let busy_limit = deadline.saturating_duration_since(Instant::now());
            let spec = OpenSpec { access, busy_limit, size_min: Sectors(0) };
            let disk = Disk::open(&path_of(&text), &spec).with_context(|| role.to_string())?;
            disks.add(text, disk);
        }
        Ok(disks)
    }

    fn add(&mut self, text: String, disk: Disk) {
        let nr = u32::try_from(self.open.len()).expect("a table's paths are counted in hundreds");
        let (id, facts) = (DiskId(nr), disk.facts());
        let facts = DiskFacts {
            id,
            path: text.clone(),
            seen: Ok(DiskSeen {
                size: facts.size,
                logical_block: facts.logical_block,
                identity: facts.identity.to_string(),
            }),
        };
        self.facts.insert(text, facts);
        self.open.push((id, disk));
    }
}

/// A path, or where the kernel keeps the block device `MAJOR:MINOR`.
fn path_of(text: &str) -> PathBuf {
    if text.starts_with('/') { text.into() } else { Path::new("/dev/block").join(text) }
}
