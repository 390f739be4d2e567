//! The typed tables. What an option's absence means is a method beside it.

use std::time::Duration;

use blk::{DevNr, Sector, Sectors, SlinkNr, Span};

use crate::origin::Origin;

/// The tables of a file, in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableFile {
    /// One per target line.
    pub entries: Vec<Entry>,
}

/// One device-mapper device: a name and its one target.
///
/// Two entries are equal if they say the same, wherever they were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The device's name; a line given as `--table` has none.
    pub name: Option<String>,
    /// Where the target begins on the device: always 0.
    pub start: Sector,
    /// The device's size; of no meaning for a `replicator`, usually 1.
    pub len: Sectors,
    /// What the device is.
    pub target: Target,
    /// Where the words came from, for errors found later.
    pub(crate) origin: Origin,
}

/// The targets this crate reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A replog with its site links.
    Replicator(ReplicatorTable),
    /// A replicated device with its legs.
    ReplicatorDev(ReplicatorDevTable),
}

/// `replicator`: the replog and the site links of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicatorTable {
    /// The replog.
    pub log: LogTable,
    /// The site links; the local one, number 0, is first.
    pub slinks: Vec<SlinkTable>,
}

/// The replog's parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogTable {
    /// The replog type, `ringbuffer`.
    pub kind: String,
    /// The log device: a path, or `MAJOR:MINOR`.
    pub path: String,
    /// Where the log begins on it.
    pub start: Sector,
    /// Whether the log is to be opened, created, or what fits.
    pub mode: Mode,
    /// The log's size; `None` only with [`Mode::Open`].
    pub size: Option<Sectors>,
    /// `tail:`, see [`LogTable::tail_bytes`].
    pub tail_bytes: Option<u64>,
    /// `ld_lag:`, see [`LogTable::ld_lag`].
    pub ld_lag: Option<LdLag>,
}

/// What is done about a log that exists, or does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A valid log is opened, and where there is none, one is created.
    Auto,
    /// The log must be there and valid; the mode if none is given.
    Open,
    /// There must be no valid log.
    Create,
}

/// How far the LD may lag behind the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LdLag {
    /// By no more than what RAM holds of the log: losing the log loses nothing.
    #[default]
    Tail,
    /// By as much as the log holds.
    Log,
}

/// One site link of a `replicator`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlinkTable {
    /// The site link type, `blockdev`.
    pub kind: String,
    /// The site's number; 0 is the local site.
    pub nr: SlinkNr,
    /// Its policy, see [`SlinkTable::policy`].
    pub policy: Option<Policy>,
    /// How far it may fall behind; `None` is without limit, and so is 0.
    pub fall_behind: Option<FallBehind>,
    /// What 2009 had no words for.
    pub options: SlinkOptions,
}

/// When a write counts as done for a site, and who waits when the log is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Whether a write waits for the site.
    pub sync: Sync,
    /// Whether a full log stalls writers rather than giving the site up.
    pub stall: bool,
}

/// Whether a write's acknowledgement waits for a site's media.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// It does.
    Sync,
    /// It does not.
    Async,
}

/// How far a site may fall behind before its policy is as if `sync`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FallBehind {
    /// Writes that the site lacks.
    Ios(u64),
    /// Bytes that the site lacks, a multiple of 512.
    Size(u64),
    /// Age of the oldest write that the site lacks, in whole milliseconds.
    Timeout(Span),
}

/// The `key:value` options of a site link; `None` is "not given".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlinkOptions {
    /// `on_limit:`, see [`SlinkOptions::on_limit`].
    pub on_limit: Option<OnLimit>,
    /// `on_down:`, see [`SlinkOptions::on_down`].
    pub on_down: Option<OnDown>,
    /// `timeout_io:`, see [`SlinkOptions::timeout_io`]; whole milliseconds.
    pub timeout_io: Option<Span>,
    /// `resync_rate:`, see [`SlinkOptions::resync_rate`].
    pub resync_rate: Option<u64>,
    /// `order:`, see [`SlinkOptions::order`].
    pub order: Option<Order>,
    /// `mark:`, a device at the site that keeps state, Seq and generation.
    pub mark: Option<String>,
}

/// What happens when a link that is up crosses its fall-behind limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnLimit {
    /// New writers are held to the link's pace.
    #[default]
    Sync,
    /// The site is detached; what it lacks becomes dirty regions.
    Bitmap,
}

/// What happens when a link that is down crosses its limit or fills the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDown {
    /// The site is detached; what it lacks becomes dirty regions.
    #[default]
    Bitmap,
    /// Writers wait until the link is back.
    Hold,
    /// Writers get an error.
    Error,
}

/// What a consistent site may look like between two barriers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// One commit group after the other.
    #[default]
    Group,
    /// One flush epoch after the other.
    Flush,
}

/// `replicator-dev`: one replicated device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicatorDevTable {
    /// The replicator's name, bare.
    pub replicator: String,
    /// The number that tags the device's writes in the log.
    pub dev_nr: DevNr,
    /// The device's legs; the LD, on site link 0, is first.
    pub legs: Vec<LegTable>,
}

/// A device's replica on one site: the LD, or an RD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegTable {
    /// The site link it is on.
    pub slink: SlinkNr,
    /// The backing device: a path, or `MAJOR:MINOR`.
    pub path: String,
    /// What knows its regions that are out of sync.
    pub dirty_log: DirtyLogTable,
}

/// A leg's dirty log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DirtyLogTable {
    /// One region: the whole device.
    Nolog,
    /// In RAM.
    Core {
        /// What one bit stands for: a power of two.
        region: Sectors,
        /// What to believe when the leg first joins.
        init: Option<Init>,
    },
    /// On a device of its own.
    Disk {
        /// That device: a path, or `MAJOR:MINOR`.
        path: String,
        /// What one bit stands for: a power of two.
        region: Sectors,
        /// What to believe when the leg first joins.
        init: Option<Init>,
    },
}

/// Whether a leg that first joins is copied to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Init {
    /// It is: nothing on it is believed.
    Sync,
    /// It is not: it is equal already.
    Nosync,
    /// In ranges that somebody will tell; until then nothing is written to it.
    Later,
}

impl Entry {
    /// An entry made in code, not read from a table.
    ///
    /// It may say what no table may; [`TableFile::groups`] checks it.
    #[must_use]
    pub fn new(name: Option<String>, start: Sector, len: Sectors, target: Target) -> Self {
        Self { name, start, len, target, origin: Origin::none() }
    }
}

impl Target {
    /// The target's name, `replicator` or `replicator-dev`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Replicator(_) => "replicator",
            Self::ReplicatorDev(_) => "replicator-dev",
        }
    }
}

impl LogTable {
    /// The RAM tail in bytes; 256 MiB if not given.
    #[must_use]
    pub fn tail_bytes(&self) -> u64 {
        self.tail_bytes.unwrap_or(256 << 20)
    }

    /// How far the LD may lag; [`LdLag::Tail`] if not given.
    #[must_use]
    pub fn ld_lag(&self) -> LdLag {
        self.ld_lag.unwrap_or_default()
    }
}

impl SlinkTable {
    /// The policy; `async` without `stall` if not given.
    #[must_use]
    pub fn policy(&self) -> Policy {
        self.policy.unwrap_or_default()
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self { sync: Sync::Async, stall: false }
    }
}

impl FallBehind {
    /// Whether it limits nothing, as 0 does.
    #[must_use]
    pub fn is_unlimited(self) -> bool {
        matches!(self, Self::Ios(0) | Self::Size(0) | Self::Timeout(Duration::ZERO))
    }
}

impl SlinkOptions {
    /// What crossing the limit does on a link that is up; [`OnLimit::Sync`] if not given.
    #[must_use]
    pub fn on_limit(&self) -> OnLimit {
        self.on_limit.unwrap_or_default()
    }

    /// What it does on a link that is down; [`OnDown::Bitmap`] if not given.
    #[must_use]
    pub fn on_down(&self) -> OnDown {
        self.on_down.unwrap_or_default()
    }

    /// The deadline of one backing I/O; 10 s if not given.
    #[must_use]
    pub fn timeout_io(&self) -> Span {
        self.timeout_io.unwrap_or(Duration::from_secs(10))
    }

    /// The most that resync copies, in bytes per second; 0, if not given, is adaptive.
    #[must_use]
    pub fn resync_rate(&self) -> u64 {
        self.resync_rate.unwrap_or(0)
    }

    /// What is kept in order; [`Order::Group`] if not given.
    #[must_use]
    pub fn order(&self) -> Order {
        self.order.unwrap_or_default()
    }
}

impl DirtyLogTable {
    /// The dirty log type, `nolog`, `core` or `disk`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Nolog => "nolog",
            Self::Core { .. } => "core",
            Self::Disk { .. } => "disk",
        }
    }

    /// The region size; of `nolog` it is the whole device, `len`.
    #[must_use]
    pub fn region(&self, len: Sectors) -> Sectors {
        match self {
            Self::Nolog => len,
            Self::Core { region, .. } | Self::Disk { region, .. } => *region,
        }
    }

    /// What to believe when the leg first joins, if the table says.
    #[must_use]
    pub fn init(&self) -> Option<Init> {
        match self {
            Self::Nolog => None,
            Self::Core { init, .. } | Self::Disk { init, .. } => *init,
        }
    }
}
