//! What a simulated replicator is made of: devices, sites and the disks under them.

mod random;

use blk::{DevNr, DiskId, Sectors, SlinkNr, Span};
use table::{
    DirtyLogTable, FallBehind, Init, LdLag, OnDown, Policy, SlinkOptions, SlinkTable, Sync,
};

use crate::oracle::{Layout, SiteRule};
use crate::payload::Content;

/// The group, its sites and its log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    /// Sizes of the devices' disks, numbered from 0: what a device may grow to.
    pub devices: Vec<Sectors>,
    /// What of each the table does not give its device yet.
    pub spare: Vec<Sectors>,
    /// The sites, the local one first.
    pub sites: Vec<Site>,
    /// Size of the log's disk.
    pub log: Sectors,
    /// Size that the table gives the log when it is made.
    pub log_size: Sectors,
    /// What memory holds of the log, in bytes, and by how much the LD may lag.
    pub memory: (u64, LdLag),
    /// Bytes of a logical block: 512 or 4096.
    pub logical_block: u32,
    /// What the LDs hold when the log is made; zeroes if not.
    pub holds_data: bool,
    /// Whether there is another disk that the log may move to.
    pub moves: bool,
}

/// As little as may be: four of the largest groups.
const MEMORY: (u64, LdLag) = (1 << 20, LdLag::Tail);

/// A site, as the table describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// Its link.
    pub link: SlinkTable,
    /// Its copy of each device, if it has one: the dirty log of that.
    pub legs: Vec<Option<DirtyLogTable>>,
    /// Whether the table names it at all; then it has no copies either.
    pub named: bool,
}

/// What a disk is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// The replog.
    Log,
    /// Where it may move to; the last of all disks.
    NewLog,
    /// The backing device of one device on one site (an index, 0 is local).
    Leg {
        /// The device.
        dev: DevNr,
        /// The site.
        site: usize,
    },
    /// Where the dirty log of such a leg can be: a disk of the local host.
    DirtyLog {
        /// The device.
        dev: DevNr,
        /// The site.
        site: usize,
    },
    /// Where a site can keep its own state: a disk there.
    Mark {
        /// The site.
        site: usize,
    },
}

impl Topology {
    /// Devices of zeroes, on sites that are `sync` or not and say no more than that.
    #[must_use]
    pub fn plain(devices: &[Sectors], sync: &[bool], logical_block: u32) -> Self {
        let site = |(nr, &sync): (usize, &bool)| Site::plain(nr, sync, devices.len());
        Self {
            devices: devices.to_vec(),
            spare: vec![Sectors(0); devices.len()],
            sites: sync.iter().enumerate().map(site).collect(),
            log: Sectors(4096),
            log_size: Sectors(4096),
            memory: MEMORY,
            logical_block,
            holds_data: false,
            moves: false,
        }
    }

    /// The devices in a row, as long as they may become.
    #[must_use]
    pub fn layout(&self) -> Layout {
        Layout::new(&self.devices)
    }

    /// How long a device is, by the table.
    #[must_use]
    pub fn length(&self, dev: DevNr) -> Sectors {
        self.devices[index(dev)] - self.spare[index(dev)]
    }

    /// What each site promises: remote ones are in order at every instant.
    #[must_use]
    pub fn rules(&self) -> Vec<SiteRule> {
        let rule = |(nr, site): (usize, &Site)| SiteRule {
            nr: site.link.nr,
            named: site.named,
            ordered: nr > 0,
            policy: slink::Policy::of(&site.link),
            limit: site.limit().filter(|_| nr > 0 && site.named),
            order: site.link.options.order(),
            devices: site.legs.iter().map(Option::is_some).collect(),
        };
        self.sites.iter().enumerate().map(rule).collect()
    }

    /// What a leg holds when its site joins.
    #[must_use]
    pub fn initial(&self, dev: DevNr, site: usize) -> Content {
        let table = self.sites[site].legs[index(dev)].as_ref();
        let copied = site > 0 && table.is_some_and(|table| table.init() != Some(Init::Nosync));
        match (copied, self.holds_data) {
            (true, _) => Content::initial(site),
            (false, true) => Content::initial(0),
            (false, false) => Content::ZEROES,
        }
    }

    /// All disks that a table of these sites could name, if it does or not: the log, then the
    /// legs, device by device, then those for dirty logs and for marks.
    #[must_use]
    pub fn roles(&self) -> Vec<Role> {
        let sites = self.sites.len();
        let devices = || self.layout().devices();
        let legs = devices().flat_map(|dev| (0..sites).map(move |site| Role::Leg { dev, site }));
        let dirty_log = move |dev| (0..sites).map(move |site| Role::DirtyLog { dev, site });
        let marks = (1..sites).map(|site| Role::Mark { site });
        let others = devices().flat_map(dirty_log).chain(marks);
        let new_log = self.moves.then_some(Role::NewLog);
        [Role::Log].into_iter().chain(legs).chain(others).chain(new_log).collect()
    }

    /// Whether the table gives a site a copy of a device.
    #[must_use]
    pub fn has_leg(&self, dev: DevNr, site: usize) -> bool {
        self.sites[site].legs[index(dev)].is_some()
    }

    /// Whether the table gives a site a copy of every device.
    #[must_use]
    pub fn is_complete(&self, site: usize) -> bool {
        let Site { named, legs, .. } = &self.sites[site];
        *named && legs.iter().all(Option::is_some)
    }

    /// The driver's number of a disk.
    ///
    /// # Panics
    /// If there is no such disk.
    #[must_use]
    pub fn disk(&self, role: Role) -> DiskId {
        let at = self.roles().iter().position(|&other| other == role);
        DiskId(u32::try_from(at.expect("the disk is part of it")).expect("few disks"))
    }

    /// Size of a disk.
    #[must_use]
    pub fn size(&self, role: Role) -> Sectors {
        match role {
            Role::Log | Role::NewLog => self.log,
            Role::Leg { dev, .. } => self.devices[index(dev)],
            Role::DirtyLog { .. } => DIRTY_LOG,
            Role::Mark { .. } => slink::mark::Mark::SIZE,
        }
    }

    /// Sectors of a logical block.
    #[must_use]
    pub fn block(&self) -> Sectors {
        Sectors::from_bytes(u64::from(self.logical_block))
    }

    /// Whether the table lets writers wait for a remote site, or fail because of one.
    #[must_use]
    pub fn may_hold(&self) -> bool {
        self.remote().any(Site::may_hold)
    }

    /// Whether the table says that writes fail when some site is down.
    #[must_use]
    pub fn may_refuse(&self) -> bool {
        self.remote().any(|site| site.link.options.on_down == Some(OnDown::Error))
    }

    /// The remote sites that the table names.
    fn remote(&self) -> impl Iterator<Item = &Site> {
        self.sites.iter().skip(1).filter(|site| site.named)
    }

    /// How long a dirty log may take to answer, or not to.
    #[must_use]
    pub fn dirty_log_deadline(&self) -> Span {
        let on_disk = |table: &DirtyLogTable| matches!(table, DirtyLogTable::Disk { .. });
        let logged = self.sites.iter().filter(|site| site.named);
        let logged = logged.filter(|site| site.legs.iter().flatten().any(on_disk));
        logged.map(|site| site.link.options.timeout_io()).max().unwrap_or_default()
    }
}

impl Role {
    /// Whether a log is there, or may come to be.
    #[must_use]
    pub fn is_log(self) -> bool {
        matches!(self, Self::Log | Self::NewLog)
    }

    /// The site that a disk stands at.
    #[must_use]
    pub fn site(self) -> Option<usize> {
        match self {
            Self::Leg { site, .. } | Self::Mark { site } => Some(site),
            Self::Log | Self::NewLog | Self::DirtyLog { .. } => None,
        }
    }

    /// The remote site that a disk stands at.
    #[must_use]
    pub fn remote_site(self) -> Option<usize> {
        match self {
            Self::Leg { site: site @ 1.., .. } | Self::Mark { site } => Some(site),
            Self::Log | Self::NewLog | Self::Leg { .. } | Self::DirtyLog { .. } => None,
        }
    }
}

impl Site {
    /// A site that says no more than whether it is `sync`.
    #[must_use]
    pub fn plain(nr: usize, sync: bool, devices: usize) -> Self {
        let sync = if sync { Sync::Sync } else { Sync::Async };
        let link = SlinkTable {
            kind: "blockdev".to_owned(),
            nr: SlinkNr(u16::try_from(nr).expect("few sites")),
            policy: Some(Policy { sync, stall: false }),
            fall_behind: None,
            options: SlinkOptions::default(),
        };
        let dirty_log = match nr {
            0 => DirtyLogTable::Nolog,
            // Fresh disks are all zeroes, and so equal: no initial copy is needed.
            _ => DirtyLogTable::Core { region: Sectors(8), init: Some(Init::Nosync) },
        };
        Self { link, legs: vec![Some(dirty_log); devices], named: true }
    }

    /// Whether writers wait, or fail, when it is down and the log is full.
    #[must_use]
    pub fn holds_when_down(&self) -> bool {
        let hold = matches!(self.link.options.on_down, Some(OnDown::Hold | OnDown::Error));
        hold || self.link.policy().stall
    }

    fn may_hold(&self) -> bool {
        let policy = self.link.policy();
        policy.stall
            || policy.sync == Sync::Sync
            || self.limit().is_some()
            || matches!(self.link.options.on_down, Some(OnDown::Hold | OnDown::Error))
    }

    fn limit(&self) -> Option<FallBehind> {
        self.link.fall_behind.filter(|limit| !limit.is_unlimited())
    }
}

fn index(dev: DevNr) -> usize {
    usize::try_from(dev.0).expect("few devices")
}

/// Size of a dirty log's disk: more than any simulated device needs.
const DIRTY_LOG: Sectors = Sectors(256);
