//! The machine and its site links: each has its turn, and a disk is closed when nobody reads there any more.

use blk::{DiskId, DiskSeen, Effect, NotOpened, SlinkNr, Time};

use super::Replicator;

impl Replicator {
    /// A disk is closed when nobody reads there any more: not another site's resync, nor an
    /// application.
    pub(super) fn close(&mut self, effects: &mut Vec<Effect>) {
        let closing = &mut self.closing;
        effects.retain(|effect| match effect {
            Effect::Close { disk } => {
                closing.push(*disk);
                false
            }
            _ => true,
        });
        let links = || self.links.iter().chain(&self.leaving);
        let (reads, mut closed) = (&self.reads, Vec::new());
        self.closing.retain(|disk| {
            let used = reads.uses(*disk) || links().any(|link| link.uses(*disk));
            if !used {
                closed.push(Effect::Close { disk: *disk });
            }
            used
        });
        effects.append(&mut closed);
    }

    pub(crate) fn poll_links(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let Some(log) = &mut self.log else { return };
        self.leaving.retain(|link| {
            let closed = link.disks().into_iter().map(|disk| Effect::Close { disk });
            effects.extend(closed.filter(|_| link.is_still()));
            !link.is_still()
        });
        self.load.is_waited_for = self.devices.values().any(|device| device.in_flight > 0);
        self.drain_upto = self.drain_upto.filter(|upto| log.covered(SlinkNr::LOCAL) < *upto);
        self.load.hurry = self.drain_upto.is_some();
        let mut events = Vec::new();
        for link in &mut self.links {
            link.poll(now, log, &self.load, effects);
            events.append(&mut link.take_events());
        }
        events.append(&mut self.orphans.poll(now, log)); // these follow the local site (P6)
        self.close(effects);
        self.events.of_sites(events);
    }

    pub(super) fn opened(&mut self, now: Time, disk: DiskId, result: Result<DiskSeen, NotOpened>) {
        if self.is_new_log(disk) {
            return self.new_log_opened(result);
        }
        let Some(log) = &mut self.log else { return };
        if let Ok(seen) = &result {
            self.plan.saw(disk, seen);
        }
        // A leg that leaves is not in the plan any more, and its site still waits for its disk.
        match self.links.iter_mut().find(|link| link.disks().contains(&disk)) {
            Some(link) => link.opened(now, log, disk, result),
            // It was opened for a site, or a leg, that is gone.
            None => self.pending.push(Effect::Close { disk }),
        }
    }
}
