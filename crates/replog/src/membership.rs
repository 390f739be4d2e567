//! Sites and legs that come while the log is at work: a site is a consumer from what is durable
//! on. What goes keeps its place in the roster: should it come back, it is to be known that it
//! has missed something.

use blk::{DevNr, Sectors, Seq, SlinkNr};

use crate::commit::OpenGroup;
use crate::format::superblock::{DeviceRecord, LegRecord, SiteRecord, Superblock, SuperblockError};
use crate::log::Replog;
use crate::roster::joined_site;

impl Replog {
    /// The newest write that was taken, written or not.
    #[must_use]
    pub fn taken(&self) -> Seq {
        Seq(self.index.next_seq().0 - 1 + self.open.as_ref().map_or(0, OpenGroup::len))
    }

    /// Whether the roster knows a site, of the table or not.
    #[must_use]
    pub fn knows_site(&self, slink: SlinkNr) -> bool {
        self.members.wanted().sites.iter().any(|site| site.slink == slink)
    }

    /// Whether the roster has room for sites, devices and legs more.
    ///
    /// # Errors
    /// What there is too much of, or too long.
    pub fn room_for(
        &self,
        sites: &[SlinkNr],
        devices: &[DeviceRecord],
        legs: &[LegRecord],
    ) -> Result<(), SuperblockError> {
        let known = self.members.wanted();
        let mut next = Superblock {
            sites: known.sites.clone(),
            devices: known.devices.clone(),
            legs: known.legs.clone(),
            ..self.superblock.clone()
        };
        next.devices.retain(|known| devices.iter().all(|device| device.nr != known.nr));
        next.devices.extend(devices.iter().cloned());
        next.devices.sort_by_key(|device| device.nr);
        next.sites.extend(sites.iter().map(|slink| joined_site(*slink, Seq(0))));
        next.sites.sort_by_key(|site| site.slink);
        next.legs.extend(legs.iter().cloned());
        next.legs.sort_by_key(|leg| (leg.dev, leg.slink));
        // How far they are does not matter here.
        next.sites.iter_mut().for_each(|site| site.covered = next.head.seq);
        next.validate()
    }

    /// A site joins: from what is durable on it is fed.
    ///
    /// # Panics
    /// If the roster knows it already.
    pub fn add_site(&mut self, slink: SlinkNr) {
        assert!(!self.knows_site(slink), "a site joins once");
        let from = self.durable;
        self.consumers.add(slink, from);
        self.members.change(|members| {
            members.sites.push(joined_site(slink, from));
            members.sites.sort_by_key(|site: &SiteRecord| site.slink);
        });
    }

    /// A device has grown.
    ///
    /// # Panics
    /// If the roster does not know it, or has it longer.
    pub fn grow_device(&mut self, dev: DevNr, size: Sectors) {
        self.members.change(|members| {
            let device = members.devices.iter_mut().find(|device| device.nr == dev);
            let device = device.expect("a device of the log grows");
            assert!(size >= device.size, "a device does not become shorter");
            device.size = size;
        });
    }

    /// A device is called otherwise, for those who read of it in the log.
    ///
    /// # Panics
    /// If the roster does not know it, or has no room for such a name.
    pub fn rename_device(&mut self, dev: DevNr, name: &str) {
        self.members.change(|members| {
            let device = members.devices.iter_mut().find(|device| device.nr == dev);
            name.clone_into(&mut device.expect("a device of the log has a name").name);
        });
    }

    /// A leg joins a site.
    ///
    /// # Panics
    /// If the roster has it already.
    pub fn add_leg(&mut self, leg: LegRecord) {
        assert!(self.leg(leg.dev, leg.slink).is_none(), "a leg joins once");
        self.members.change(|members| {
            members.legs.push(leg);
            members.legs.sort_by_key(|leg| (leg.dev, leg.slink));
        });
    }
}
