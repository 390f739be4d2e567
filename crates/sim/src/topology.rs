//! What a simulated replicator is made of: devices, sites and the disks under them.

use blk::{DevNr, DiskId, Sectors, SlinkNr};

use crate::oracle::{Layout, SiteRule};

/// The group, its sites and its log. Every site has every device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    /// Sizes of the devices, numbered from 0.
    pub devices: Vec<Sectors>,
    /// Whether each site is `sync`; the local site first.
    pub sync: Vec<bool>,
    /// Size of the log's disk.
    pub log: Sectors,
    /// Bytes of a logical block: 512 or 4096.
    pub logical_block: u32,
}

/// What a disk is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The replog.
    Log,
    /// The backing device of one device on one site (an index, 0 is local).
    Leg {
        /// The device.
        dev: DevNr,
        /// The site.
        site: usize,
    },
}

impl Topology {
    /// The devices in a row.
    #[must_use]
    pub fn layout(&self) -> Layout {
        Layout::new(&self.devices)
    }

    /// What each site promises: remote ones are in order at every instant.
    #[must_use]
    pub fn rules(&self) -> Vec<SiteRule> {
        let rule = |(site, &sync): (usize, &bool)| SiteRule {
            nr: SlinkNr(u16::try_from(site).expect("few sites")),
            ordered: site > 0,
            sync,
        };
        self.sync.iter().enumerate().map(rule).collect()
    }

    /// All disks: the log, then the legs, device by device.
    #[must_use]
    pub fn roles(&self) -> Vec<Role> {
        let sites = self.sync.len();
        let devices = self.layout().devices();
        let legs = devices.flat_map(|dev| (0..sites).map(move |site| Role::Leg { dev, site }));
        [Role::Log].into_iter().chain(legs).collect()
    }

    /// The driver's number of a disk.
    #[must_use]
    pub fn disk(&self, role: Role) -> DiskId {
        let at = self.roles().iter().position(|&other| other == role);
        DiskId(u32::try_from(at.expect("the disk is part of it")).expect("few disks"))
    }

    /// Sectors of a logical block.
    #[must_use]
    pub fn block(&self) -> Sectors {
        Sectors::from_bytes(u64::from(self.logical_block))
    }
}
