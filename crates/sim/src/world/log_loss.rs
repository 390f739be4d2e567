//! A log that is lost (P8): what the world and the oracle have to know of it, and how the devices
//! get another one.

use blk::{Errno, Event, Sector};

use super::clock::{self, Due};
use super::copies::Truth;
use super::crash::Host;
use super::{Subject, World};
use crate::oracle::{Admission, Violation};
use crate::rng::Rng;
use crate::topology::Role;

/// How a machine is without its log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Loss {
    /// The log is at work.
    #[default]
    None,
    /// It is lost, and everything waits.
    Held,
    /// It is lost, and the local disks are about to stand in for it.
    TakingOver,
    /// They do.
    Bypassed,
}

/// Groups that a machine took in, and the number of the last.
pub type Groups = (u64, Vec<Vec<Admission>>);

impl<M: Subject> World<'_, M> {
    /// After each poll, before its effects; whether somebody said something to the machine then.
    pub(super) fn look_at_log(&mut self) -> Result<bool, Violation> {
        let loss = self.machine.loss();
        let (newest, groups) = self.machine.groups_behind(self.newest_group);
        self.newest_group = newest;
        let before = std::mem::replace(&mut self.loss, loss);
        self.watch_log(before);
        if loss == Loss::None {
            self.met.replaced_logs += u64::from(before == Loss::Bypassed);
            return Ok(false);
        }
        if before != loss {
            self.tell(|| format!("the log is lost: {loss:?}"));
            self.met.bypassed += u64::from(loss == Loss::Bypassed);
        }
        self.host.oracle.log_is_lost();
        let mut told = false;
        if loss == Loss::Bypassed {
            for group in groups {
                let sectors = group.iter().map(|admission| admission.len.0).sum();
                self.host.oracle.admitted(&group, blk::Sectors(sectors))?;
            }
            // Who has it moved sees to that himself.
            if !self.is_moving() && (self.healed || self.rng.chance(1)) {
                told |= self.machine.replace_log();
            }
        }
        if self.healed {
            told |= self.give_up_who_holds();
        }
        Ok(told)
    }

    /// Somebody sees that the table makes everything wait for a site that nothing can reach.
    fn give_up_who_holds(&mut self) -> bool {
        let mut told = false;
        for site in 1..self.views.len() {
            let holds = self.host.topology.sites[site].holds_when_down();
            if holds && !self.views[site].detached && self.given_up.insert(site) {
                self.resync(site, None);
                told = true;
            }
        }
        told
    }

    /// The machine wants something kept on its host.
    pub(super) fn keep(&mut self, bytes: Vec<u8>) -> Result<(), Violation> {
        if self.keeping.replace(bytes).is_some() {
            let what = "two records are kept at a time".to_owned();
            return Err(Violation::Panicked { what });
        }
        self.clock.plan(clock::opening(&mut self.rng), Due::Kept);
        Ok(())
    }

    pub(super) fn kept(&mut self) -> Event {
        let bytes = self.keeping.take().expect("it ends once");
        // Now and then the disk that it is kept on is full.
        let fails = !self.healed && self.rng.chance(5);
        if fails && self.rng.chance(50) {
            return Event::Kept { result: Err(Errno::ENOSPC) };
        }
        self.host.kept = Some(bytes);
        Event::Kept { result: if fails { Err(Errno::EIO) } else { Ok(()) } }
    }

    /// Whether requests may wait, since the log is or was lost.
    pub(super) fn has_lost_its_log(&self) -> bool {
        self.loss != Loss::None || self.host.oracle.is_without_log()
    }

    /// Whether it can't go on before another life begins: what is needed is in the log only, or
    /// nothing can stand in for it.
    pub(super) fn is_held(&self) -> bool {
        self.loss == Loss::Held || self.has_lost_log_and_local()
    }

    /// Whether the local disks that stand in for the log, or are to, are others: replaced before
    /// it was lost, and nothing had been written there since, which would have told. Two losses
    /// at a time are more than is promised (P8): nothing is written until one of them is back.
    pub fn has_lost_log_and_local(&self) -> bool {
        self.loss != Loss::None && self.host.truths[0] == Truth::Hollow
    }
}

impl Host {
    /// What was being kept when the machine died is kept, or what was before.
    pub(super) fn keep_or_not(&mut self, keeping: Option<&Vec<u8>>, rng: &mut Rng) {
        if let Some(bytes) = keeping.filter(|_| rng.chance(50)) {
            self.kept = Some(bytes.clone());
        }
    }

    /// The local disks stand in for the log: what is on their media is durable.
    pub(super) fn log_what_is_local(&mut self) {
        if !self.oracle.is_without_log() {
            return;
        }
        for dev in self.topology.layout().devices() {
            for at in 0..self.topology.layout().size(dev).0 {
                let content = self.disks.leg(dev, 0).durable(at);
                self.oracle.locally_durable(dev, Sector(at), content);
            }
        }
    }

    /// What was in the cache of a local disk that stands in for its log is gone. A machine that
    /// lives writes it again; what a dead one left there is lost as with a power cut of all: FLUSH
    /// is what it takes (P1). What the cut has left is on its media.
    pub(super) fn local_power_is_cut(&mut self, role: Role) {
        let Role::Leg { site: 0, dev } = role else { return };
        self.log_what_is_local();
        match &mut self.deaths {
            _ if !self.oracle.is_without_log() => {}
            Some(deaths) => deaths.power_cut = true,
            None => {
                for at in 0..self.topology.layout().size(dev).0 {
                    let content = self.disks.leg(dev, 0).durable(at);
                    self.oracle.cache_is_lost(dev, Sector(at), content);
                }
            }
        }
    }

    /// So that a machine that needs its log finds it.
    pub fn give_log_back(&mut self) {
        let kept =
            self.kept.as_ref().and_then(|bytes| replog::format::kept::Kept::decode(bytes).ok());
        if !kept.is_some_and(|kept| kept.is_bypassed()) {
            self.weather.spare_disk(Role::Log);
            self.disks.land(self.topology.disk(Role::Log));
        }
    }
}
