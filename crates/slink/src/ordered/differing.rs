//! A site whose disks differ in places that somebody else knows, as after a failover: he
//! tells them, they become dirty, and only then is any disk taken for the site's.
//!
//! Until then its legs are *untold*: the roster knows them by a name that no disk has, so
//! that the site is down, and nothing is written there. The name goes when a crash can't
//! lose what was told: else the next start would take a disk for equal that is not (P15).

use blk::{DevNr, Sector, Sectors, Time};
use replog::Replog;
use replog::format::superblock::LegRecord;

use super::{Mode, Ordered};

impl Ordered {
    /// These ranges of a device's copy differ and, with `end`, no others do.
    pub(super) fn tell_differences(
        &mut self,
        now: Time,
        log: &mut Replog,
        dev: DevNr,
        ranges: &[(Sector, Sectors)],
        end: bool,
    ) {
        if matches!(self.mode, Mode::New) {
            self.join(now, log);
        }
        if !ranges.is_empty() {
            let ranges: Vec<_> = ranges.iter().map(|(sector, len)| (dev, *sector, *len)).collect();
            self.repair(now, log, &ranges);
        }
        if end && self.is_untold(dev, log) {
            self.told.insert(dev);
        }
    }

    /// Takes whatever disk is there for a device whose differences are all marked durably.
    pub(super) fn take_told(&mut self, now: Time, log: &mut Replog) {
        let stand =
            |dev: &DevNr| !matches!(self.mode, Mode::Detached(_)) || self.is_marked(*dev, log);
        let ready: Vec<DevNr> = self.told.iter().copied().filter(stand).collect();
        for dev in ready {
            self.told.remove(&dev);
            log.change_leg(dev, self.nr, |known| known.identity.clear());
            self.health.hurry(now);
        }
    }

    pub(super) fn is_untold(&self, dev: DevNr, log: &Replog) -> bool {
        log.leg(dev, self.nr).is_some_and(LegRecord::is_untold)
    }

    /// I7: a crash brings all marks of a device back, or makes all of it dirty.
    fn is_marked(&self, dev: DevNr, log: &Replog) -> bool {
        let all_dirty = log.leg(dev, self.nr).is_some_and(|known| known.all_dirty);
        self.legs.all[&dev].dirty_log.is_settled() || (all_dirty && log.stands(log.standing()))
    }
}
