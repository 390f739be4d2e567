//! The disks of a bench: files that it prepares, or devices that it is given.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use blk::{DiskId, DiskSeen, Sector, Sectors, Wall};
use clap::Args;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use replicator::{DiskFacts, Plan, Replicator, Role, Seed};
use uring::{Disk, OpenSpec};

use crate::case::{Case, Phase};

/// Where the disks are.
#[derive(Args, Clone, Debug)]
pub(crate) struct Place {
    /// Directory for the files that serve as disks; a real file system, not tmpfs.
    #[arg(long, default_value = "target/bench", conflicts_with_all = ["shared", "log"])]
    dir: PathBuf,
    /// One block device for the data and, behind it, the log. All its content is lost.
    #[arg(long, conflicts_with_all = ["log", "data"])]
    shared: Option<PathBuf>,
    /// Block device for the log. All its content is lost.
    #[arg(long, requires = "data")]
    log: Option<PathBuf>,
    /// Block device for the data. All its content is lost.
    #[arg(long, requires = "log")]
    data: Option<PathBuf>,
    /// Block device for the data of a remote site; again for the second one. All its content is lost.
    #[arg(long, conflicts_with = "dir")]
    remote: Vec<PathBuf>,
}

/// The disks of one case, open, and the plan of its group.
pub(crate) struct Rig {
    pub(crate) plan: Plan,
    pub(crate) disks: Vec<(DiskId, Arc<Disk>)>,
    pub(crate) roles: Roles,
}

/// Which disk serves as what.
#[derive(Clone, Debug, Default)]
pub(crate) struct Roles {
    pub(crate) log: Vec<DiskId>,
    /// In the order of the devices.
    pub(crate) ld: Vec<DiskId>,
    pub(crate) rd: Vec<DiskId>,
}

impl Roles {
    /// Where the reference writes each device's writes, one disk after the other. Further remote
    /// sites would have them at the same time as the first.
    pub(crate) fn reference(&self, case: &Case) -> Vec<Vec<DiskId>> {
        let sites = usize::from(case.remotes).max(1);
        let first_rds = self.rd.iter().step_by(sites).map(|rd| case.sync.then_some(*rd));
        let first_rds = first_rds.chain(std::iter::repeat(None));
        self.ld
            .iter()
            .zip(first_rds)
            .map(|(ld, rd)| [*ld].into_iter().chain(rd).collect())
            .collect()
    }
}

impl Rig {
    /// Prepares and opens the disks of a case.
    pub(crate) fn new(place: &Place, case: &Case) -> Result<Self> {
        let layout = Layout::new(place, case)?;
        let table = layout.table(case);
        let groups = table::TableFile::parse(&table).and_then(|file| file.groups());
        let groups = groups.map_err(|error| anyhow::anyhow!("the bench's own table: {error}"))?;
        let group = groups.first().context("the bench's own table has a group")?;

        let (mut disks, mut facts, mut roles) = (Vec::new(), BTreeMap::new(), Roles::default());
        for ((name, role), nr) in Plan::paths(group).into_iter().zip(0..) {
            let id = DiskId(nr);
            let disk = layout.open(&name, case)?;
            facts.insert(name.clone(), layout.facts(id, &name, &disk));
            roles.note(id, role);
            disks.push((id, disk));
        }
        layout.wipe_log(&disks)?;
        Ok(Self { plan: Plan::new(group, &facts)?, disks, roles })
    }

    /// The engine of the case; its log is made when it is driven.
    pub(crate) fn engine(&self) -> Result<Replicator> {
        let seed = Seed { uuid: uuid::Uuid::from_u128(1), wall: Wall(0) };
        Ok(Replicator::open(self.plan.clone(), seed)?)
    }
}

impl Roles {
    fn note(&mut self, id: DiskId, role: Role) {
        match role {
            Role::Log => self.log.push(id),
            Role::Leg { slink, .. } if slink.is_local() => self.ld.push(id),
            Role::Leg { .. } => self.rd.push(id),
            Role::DirtyLog { .. } | Role::Mark { .. } => {}
        }
    }
}

/// Which paths a case uses.
enum Layout {
    /// One file for each disk.
    Files { dir: PathBuf },
    /// One device with data in front and the log behind.
    Shared { device: Arc<Disk>, log_start: Sector, remotes: Vec<Arc<Disk>> },
    /// A device for the log and one for the data.
    Separate { log: Arc<Disk>, data: Arc<Disk>, remotes: Vec<Arc<Disk>> },
}

impl Layout {
    fn new(place: &Place, case: &Case) -> Result<Self> {
        let remotes = || {
            let (given, needed) = (place.remote.len(), usize::from(case.remotes));
            ensure!(
                case.devices == 1 && needed <= given,
                "given block devices serve one device, and each remote site needs one by --remote; \
                 expected 1 device and at most {given} sites, found {} and {needed}",
                case.devices
            );
            let given = place.remote.iter().take(needed);
            given.map(|path| open(path, case.device_size())).collect::<Result<_>>()
        };
        match (&place.shared, &place.log, &place.data) {
            (Some(shared), ..) => {
                let remotes = remotes()?;
                let log_start = Sector(0) + case.device_size();
                let size_min = case.device_size() + Sectors::from_bytes(case.log_bytes());
                Ok(Self::Shared { device: open(shared, size_min)?, log_start, remotes })
            }
            (None, Some(log), Some(data)) => {
                let remotes = remotes()?;
                let log = open(log, Sectors::from_bytes(case.log_bytes()))?;
                Ok(Self::Separate { log, data: open(data, case.device_size())?, remotes })
            }
            _ => {
                let dir = place.dir.clone();
                fs::create_dir_all(&dir).with_context(|| format!("{}", dir.display()))?;
                Ok(Self::Files { dir })
            }
        }
    }

    fn open(&self, name: &str, case: &Case) -> Result<Arc<Disk>> {
        match (self, name) {
            (Self::Shared { remotes, .. } | Self::Separate { remotes, .. }, _)
                if name.starts_with(RD) =>
            {
                let nr: usize = name[RD.len()..name.len() - "-0".len()].parse()?;
                Ok(Arc::clone(&remotes[nr - 1]))
            }
            (Self::Shared { device, .. }, _) => Ok(Arc::clone(device)),
            (Self::Separate { log, .. }, LOG) => Ok(Arc::clone(log)),
            (Self::Separate { data, .. }, _) => Ok(Arc::clone(data)),
            (Self::Files { dir }, _) => {
                let bytes = if name == LOG { case.log_bytes() } else { case.device_size().bytes() };
                let path = dir.join(format!("{}-{}m", &name[1..], bytes >> 20));
                prepare(&path, bytes).with_context(|| format!("{}", path.display()))?;
                open(&path, Sectors::from_bytes(bytes))
            }
        }
    }

    /// A log on the data's own device is another disk to the plan: this bench puts it where
    /// no data is.
    fn facts(&self, id: DiskId, name: &str, disk: &Disk) -> DiskFacts {
        DiskFacts {
            id,
            path: name.to_owned(),
            seen: Ok(DiskSeen {
                size: disk.size(),
                logical_block: disk.facts().logical_block,
                identity: format!("{}{name}", disk.facts().identity),
            }),
        }
    }

    fn log_start(&self) -> Sector {
        match self {
            Self::Shared { log_start, .. } => *log_start,
            Self::Files { .. } | Self::Separate { .. } => Sector(0),
        }
    }

    /// Forgets the log of the case before: each begins with one of its own.
    fn wipe_log(&self, disks: &[(DiskId, Arc<Disk>)]) -> Result<()> {
        let (_, disk) = disks.first().context("a table names a log first")?;
        let zeroes = vec![0; usize::try_from(replog::geometry::RING_OFFSET)?];
        disk.pwrite(self.log_start(), &zeroes).context("the old log can't be wiped")
    }

    fn table(&self, case: &Case) -> String {
        let log_sectors = Sectors::from_bytes(case.log_bytes());
        let tail_mib = match case.phase {
            Phase::Burst => (case.log_bytes() >> 20).max(TAIL_MIB),
            Phase::Steady => TAIL_MIB,
        };
        let policy = if case.sync { "sync" } else { "async" };
        let sites: String =
            (1..=case.remotes).map(|nr| format!(" blockdev 2 {nr} {policy}")).collect();
        let start = self.log_start();
        let mut table = format!(
            "bench: 0 1 replicator ringbuffer 5 {LOG} {start} create {log_sectors} tail:{tail_mib}m \
             blockdev 2 0 async{sites}\n"
        );
        for dev in 0..case.devices {
            let legs: String = (1..=case.remotes)
                .map(|site| format!(" {site} 1 {RD}{site}-{dev} core 2 2048 nosync"))
                .collect();
            table += &format!(
                "d{dev}: 0 {} replicator-dev bench {dev} 0 1 /ld-{dev} nolog 0{legs}\n",
                case.device_size()
            );
        }
        table
    }
}

fn open(path: &Path, size_min: Sectors) -> Result<Arc<Disk>> {
    let spec = OpenSpec { size_min, busy_limit: Duration::from_secs(5), ..OpenSpec::default() };
    Ok(Arc::new(Disk::open(path, &spec)?))
}

/// A file without holes or unwritten extents: they would cost the first write twice or thrice.
fn prepare(path: &Path, bytes: u64) -> Result<()> {
    if fs::metadata(path).is_ok_and(|found| found.len() == bytes) {
        return Ok(());
    }
    let half_made = path.with_extension("part");
    let mut file = File::create(&half_made)?;
    let mut chunk = vec![0; PREPARE_BYTES];
    SmallRng::seed_from_u64(bytes).fill_bytes(&mut chunk);
    let mut left = bytes;
    while left > 0 {
        let now = left.min(PREPARE_BYTES as u64);
        file.write_all(&chunk[..usize::try_from(now)?])?;
        left -= now;
    }
    file.sync_all()?;
    Ok(fs::rename(half_made, path)?)
}

/// What the table calls the log.
const LOG: &str = "/log";
/// And the RD of a device: this, the site's number, `-`, the device's number.
const RD: &str = "/rd";
/// The default of the table.
const TAIL_MIB: u64 = 256;
const PREPARE_BYTES: usize = 4 << 20;
