//! What a host kept of a log that was lost, at the next opening (P8).

use super::{Lost, OpenError, Opening};
use crate::format::kept::Kept;
use crate::format::superblock::{Anchor, LegRecord, LogState, Superblock};
use crate::geometry::{Geometry, SLOTS};
use crate::log::Replog;
use crate::roster::Members;

impl Opening {
    /// What the host kept, if that is about these devices: without their log they go on at once.
    pub(super) fn look_at_kept(&mut self) -> Result<Option<Box<Replog>>, OpenError> {
        let Some(bytes) = &self.spec.kept else { return Ok(None) };
        let kept = Kept::decode(bytes)
            .map_err(|error| OpenError::Kept { path: self.spec.path.clone(), error })?;
        if self.is_about_others(&kept.superblock) {
            log::warn!("what this host kept of log {} is about other disks", kept.superblock.uuid);
            return Ok(None);
        }
        let bypassed = kept.is_bypassed();
        let log = if bypassed { Some(Box::new(self.without_log(&kept)?)) } else { None };
        self.kept = Some(kept);
        match log {
            None if self.spec.disk_size.is_empty() => {
                Err(OpenError::NotThere { path: self.spec.path.clone() })
            }
            log => Ok(log),
        }
    }

    /// A name may be used again, for other disks: if none of them is known, at whatever site, it
    /// was. With other local ones only it was not: that log is as dead as before they were lost, too.
    fn is_about_others(&self, kept: &Superblock) -> bool {
        let legs = self.spec.roster.legs.iter().map(|it| &it.leg);
        let mut legs = legs.filter(|leg| !leg.identity.is_empty());
        let is_known = |leg: &LegRecord| {
            let mut known = kept.legs.iter().filter(|known| known.slink == leg.slink);
            known.any(|known| known.identity == leg.identity)
        };
        legs.clone().next().is_some() && !legs.any(is_known)
    }

    /// The log as if it had been opened; the LD stands in for it, and has everything.
    fn without_log(&self, kept: &Kept) -> Result<Replog, OpenError> {
        let old = kept.superblock.clone();
        let tip = Anchor { seq: old.durable, ..old.head };
        let mut known = Members { sites: old.sites, devices: old.devices, legs: old.legs };
        // Every other site is marked for whatever it may lack.
        known.sites.iter_mut().for_each(|site| site.covered = tip.seq);
        let generation = old.generation + 1;
        let members = self.spec.roster.join(known, tip.seq, generation, |_, _| 0);
        let path = || format!("{}, which was lost, as this host keeps it", self.spec.path);
        let members = members.map_err(|error| OpenError::Roster { path: path(), error })?;
        let superblock = Superblock {
            generation,
            head: tip,
            sites: members.sites,
            devices: members.devices,
            legs: members.legs,
            ..kept.superblock.clone()
        };
        if let Err(unfit) = superblock.validate() {
            return Err(OpenError::Roster { path: path(), error: unfit.into() });
        }
        let geometry =
            Geometry::of_ring(self.spec.start, superblock.ring_bytes, superblock.lap_base);
        let mut log = Replog::new(self.config(geometry), superblock, tip);
        log.begin_bypassed(kept.retired.clone());
        log.begin_with_copies();
        Ok(log)
    }

    /// What the slots say, with what the host kept as a third one.
    ///
    /// # Errors
    /// A log that another took the place of, or that was lost, as only a dirty log knows.
    pub(super) fn with_kept(&self, state: LogState) -> Result<LogState, OpenError> {
        let LogState::Valid(found) = &state else { return Ok(state) };
        self.check_lost(found)?;
        let Some(kept) = &self.kept else { return Ok(state) };
        if kept.is_retired(found.uuid) {
            let path = self.spec.path.clone();
            return Err(OpenError::Bypassed { path, epoch: found.epoch });
        }
        if !kept.is_newer_than(found) {
            return Ok(state);
        }
        // The other slot may have been torn when the log was lost. The next superblock goes there,
        // and not over the only one that is whole: it may be torn as well.
        let mut superblock = kept.superblock.clone();
        superblock.generation +=
            u64::from(superblock.generation % SLOTS != found.generation % SLOTS);
        Ok(LogState::Valid(superblock))
    }

    /// The host's record stood before any dirty log said so, and it would have begun without the
    /// log: it was lost since, and nobody knows how sites and legs stand. So nothing is guessed.
    fn check_lost(&self, found: &Superblock) -> Result<(), OpenError> {
        let is_it = |lost: &&Lost| lost.log == found.uuid && found.epoch <= lost.epoch;
        match self.lost.iter().find(is_it) {
            Some(Lost { epoch, said_by, .. }) => Err(OpenError::Lost {
                path: self.spec.path.clone(),
                epoch: *epoch,
                said_by: said_by.clone(),
            }),
            None => Ok(()),
        }
    }
}
