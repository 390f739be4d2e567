//! The backing devices of one site, and whether they may be used.

use std::collections::BTreeMap;

use blk::{DevNr, DiskId, DiskSeen, NotOpened, SlinkNr};
use replog::Replog;
use replog::format::superblock::{LegRecord, belongs_to};

use crate::health::Failure;
use crate::link::Leg;

/// The legs of a site, by device.
#[derive(Debug)]
pub(crate) struct Legs {
    pub(crate) site: SlinkNr,
    pub(crate) all: BTreeMap<DevNr, Leg>,
    /// What the disks were when they were last found fit.
    used: BTreeMap<DevNr, String>,
}

impl Legs {
    pub(crate) fn new(site: SlinkNr, legs: Vec<Leg>) -> Self {
        let all = legs.into_iter().map(|leg| (leg.dev, leg)).collect();
        Self { site, all, used: BTreeMap::new() }
    }

    /// The backing device of a device, if the site has one.
    pub(crate) fn disk(&self, dev: DevNr) -> Option<DiskId> {
        self.all.get(&dev).map(|leg| leg.disk)
    }

    /// The first device, for what concerns none of them more than the others.
    pub(crate) fn first(&self) -> DevNr {
        self.all.keys().next().copied().unwrap_or(DevNr(0))
    }

    /// Which device a disk backs.
    pub(crate) fn dev_of(&self, disk: DiskId) -> Option<DevNr> {
        self.all.values().find(|leg| leg.disk == disk).map(|leg| leg.dev)
    }

    pub(crate) fn dirty_bytes(&self) -> u64 {
        self.iter().map(|leg| leg.dirty_log.dirty_sectors().bytes()).sum()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Leg> {
        self.all.values()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Leg> {
        self.all.values_mut()
    }

    /// A leg is none any more.
    pub(crate) fn remove(&mut self, dev: DevNr) -> Option<Leg> {
        self.used.remove(&dev);
        self.all.remove(&dev)
    }

    /// A disk was opened, or not.
    pub(crate) fn opened(&mut self, disk: DiskId, seen: Result<DiskSeen, NotOpened>) {
        if let Some(leg) = self.all.values_mut().find(|leg| leg.disk == disk) {
            leg.seen = seen;
        }
    }

    /// The first leg that may not be used, and why. One that is seen for the first time is
    /// remembered (P15). Those that are other disks than before, and may be.
    pub(crate) fn check(&mut self, log: &mut Replog) -> Result<Vec<DevNr>, (DevNr, Failure)> {
        let mut others = Vec::new();
        for leg in self.all.values() {
            let identity = check(self.site, leg, log).map_err(|why| (leg.dev, why))?;
            let before = self.used.insert(leg.dev, identity.clone());
            if before.is_some_and(|before| before != identity) {
                others.push(leg.dev);
            }
        }
        Ok(others)
    }
}

/// The identity of a leg that may be used.
fn check(site: SlinkNr, leg: &Leg, log: &mut Replog) -> Result<String, Failure> {
    let seen = leg.seen.as_ref().map_err(|not| Failure::NotOpened(not.why.clone()))?;
    let unfit = |why: String| Err(Failure::Unfit(why));
    if seen.size < leg.size {
        return unfit(format!(
            "its backing device has {} sectors, the table gives the device {}",
            seen.size, leg.size
        ));
    }
    if seen.logical_block > leg.block {
        return unfit(format!(
            "its backing device has blocks of {} bytes, the device was started with {}; \
             start it again",
            seen.logical_block, leg.block
        ));
    }
    if log.leg(leg.dev, site).is_some_and(LegRecord::is_untold) {
        return unfit(format!(
            "nobody has told yet where its backing device differs; `replicator differs` does, \
             and the message `resync {site} {}` copies everything",
            leg.dev
        ));
    }
    let known = log.leg(leg.dev, site).map_or("", |known| &known.identity);
    if known.is_empty() {
        log.change_leg(leg.dev, site, |known| {
            known.identity.clone_from(&seen.identity);
            known.size = seen.size;
        });
    } else if known != seen.identity {
        // A local disk is copied from a remote site, which is another message.
        let message = if site.is_local() { "rebuild".to_owned() } else { format!("resync {site}") };
        return unfit(format!(
            "expected the backing device {known}, found {}{}; put the right disk back, or let \
             the message `{message} {}` copy everything to this one",
            seen.identity,
            belongs_to(&log.superblock().legs, &seen.identity),
            leg.dev
        ));
    }
    Ok(seen.identity.clone())
}
