//! The disks of what another table names and this one does not, for a daemon at work.
//!
//! Those of devices that are new are looked at as at a start, all of them, so that what is wrong is
//! found before anything is changed; then the local ones are opened exclusively, and are there when
//! their devices come. All others are opened by their links, as after an outage (P5).

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use blk::DiskId;
use replicator::{DiskFacts, Role};
use table::Group;
use uring::{Access, Disk, OpenSpec};

use super::{BUSY_LIMIT, Found, HELPER_LIMIT, LOCAL_LIMIT, OTHERS_LIMIT, Place, Places, Seen};

/// What is known of them. Those that nobody takes are given back.
pub(in crate::daemon) struct Newcomers {
    pub(in crate::daemon) facts: BTreeMap<String, DiskFacts>,
    open: Vec<(DiskId, Disk)>,
    places: Arc<Places>,
}

impl Newcomers {
    /// Those that are open, for an engine.
    pub(in crate::daemon) fn take(&mut self) -> Vec<(DiskId, Disk)> {
        std::mem::take(&mut self.open)
    }
}

impl Drop for Newcomers {
    fn drop(&mut self) {
        for (id, disk) in self.open.drain(..) {
            drop(disk);
            self.places.forget(id);
        }
    }
}

impl Places {
    /// The disks that `new` names and `old` does not.
    pub(in crate::daemon) fn newcomers(
        self: &Arc<Self>,
        old: &Group,
        new: &Group,
    ) -> Result<Newcomers> {
        let facts = self.extend(old, new);
        let mut all = self.lock().clone();
        all.retain(|place| {
            let named = facts.values().any(|it| it.id == place.id);
            named
                && device(place.role)
                    .is_some_and(|dev| old.devices.iter().all(|it| it.table.dev_nr != dev))
        });
        let mut newcomers = Newcomers { facts, open: Vec::new(), places: Arc::clone(self) };
        if !all.is_empty() {
            self.look(&all, &mut newcomers)?;
            all.retain(|place| place.role.is_local());
            self.open_locals(&all, &mut newcomers)?;
        }
        Ok(newcomers)
    }

    fn look(&self, all: &[Place], newcomers: &mut Newcomers) -> Result<()> {
        let look = |_| OpenSpec { access: Access::Look, ..OpenSpec::default() };
        let mut looked = self.open_all(all, |_| HELPER_LIMIT, limit, look)?;
        self.check_overlaps(&looked)?;
        self.check_in_use(&looked)?;
        self.refuse_taken(&mut looked)?;
        for place in all {
            let result = looked.remove(&place.id).expect("each was looked at");
            newcomers.saw(place, result.map(|disk| disk.facts().seen()));
        }
        Ok(())
    }

    fn open_locals(&self, locals: &[Place], newcomers: &mut Newcomers) -> Result<()> {
        let spec = |_| OpenSpec { busy_limit: BUSY_LIMIT, ..OpenSpec::default() };
        let mut opened = self.open_all(locals, |_| HELPER_LIMIT, limit, spec)?;
        let claiming = self.claims.as_ref().map(crate::runtime::Claims::begin).transpose()?;
        self.refuse_taken(&mut opened)?;
        for place in locals {
            let not_there = |not: blk::NotOpened| anyhow!(not.why).context(place.role.to_string());
            let disk = opened.remove(&place.id).expect("each was opened, or not");
            let disk = disk.and_then(|disk| self.keep(place.id, disk)).map_err(not_there)?;
            newcomers.saw(place, Ok(disk.facts().seen()));
            newcomers.open.push((place.id, disk));
        }
        if let Some(claiming) = claiming {
            claiming.write(&self.own_claims()).context("claiming the disks")?;
        }
        Ok(())
    }

    /// P15: not what this replicator has open already, by whatever path.
    fn check_in_use(&self, looked: &Found<Disk>) -> Result<()> {
        let known = self.found().clone();
        for (id, disk) in looked.iter().filter_map(|(id, it)| Some((*id, it.as_ref().ok()?))) {
            let seen = Seen::of(disk);
            if let Some((other, known)) = known.iter().find(|(_, known)| known.overlaps(&seen)) {
                bail!(self.sentence((id, &seen), (*other, known)));
            }
        }
        Ok(())
    }
}

impl Newcomers {
    fn saw(&mut self, place: &Place, seen: Result<blk::DiskSeen, blk::NotOpened>) {
        let (id, path) = (place.id, place.text.clone());
        self.facts.insert(path.clone(), DiskFacts { id, path, seen });
    }
}

fn limit(role: Role) -> std::time::Duration {
    if role.is_local() { LOCAL_LIMIT } else { OTHERS_LIMIT }
}

fn device(role: Role) -> Option<blk::DevNr> {
    match role {
        Role::Leg { dev, .. } | Role::DirtyLog { dev, .. } => Some(dev),
        Role::Log | Role::Mark { .. } => None,
    }
}
