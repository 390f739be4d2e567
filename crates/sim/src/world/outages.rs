//! Outages as they come and go: what becomes of disks, of what is in flight, and of what
//! a machine has open.

use blk::{DevNr, DiskId, Event, NotOpened, Span, Time};

use super::clock::{self, Due};
use super::copies::Truth;
use super::handles::EBUSY;
use super::weather::{FOR_EVER, Outage, Trouble, Weather};
use super::{Stage, Subject, World};
use crate::oracle::Violation;
use crate::topology::Role;

impl<M: Subject> World<'_, M> {
    /// Everything is well from now on, and somebody says that all disks are to be used that
    /// were replaced.
    ///
    /// # Errors
    /// The promise that was seen broken.
    pub(super) fn heal(&mut self) -> Result<(), Violation> {
        self.host.weather.clear();
        self.host.bad.clear();
        self.healed = true;
        self.faults.heal();
        self.release_all();
        let hanging = self.back.hanging();
        let zombies = self.zombies.iter().map(|&disk| Due::Zombies(disk));
        let parked = std::mem::take(&mut self.parked);
        let due: Vec<Due> = hanging.into_iter().map(Due::Io).chain(zombies).chain(parked).collect();
        for due in due {
            let soon = clock::moment(&mut self.rng);
            self.clock.plan(soon, due);
        }
        let replaced: Vec<DiskId> = self.host.replaced.iter().copied().collect();
        for disk in replaced {
            let Role::Leg { dev, site } = self.host.disks.role(disk)? else { continue };
            self.resync(site, Some(dev));
        }
        Ok(())
    }

    /// Has a site, or a device there, copied anew.
    pub(super) fn resync(&mut self, site: usize, dev: Option<DevNr>) {
        let known = dev.is_none_or(|dev| self.host.topology.has_leg(dev, site));
        let named = self.host.topology.sites[site].named && known;
        if self.machine.stage() != Stage::Running || !named {
            return;
        }
        let is_safe = self.host.is_kept_beside(site);
        let takes = is_safe && self.machine.resync(self.clock.now, site, dev);
        self.sieve.saw(|| {
            let what = if site == 0 { "rebuild" } else { "resync" };
            format!("message: {what}{}", if takes { "" } else { ", refused" })
        });
        if !takes {
            // What it would be copied from has to come back first.
            if self.asking.insert((site, dev)) {
                let after = Span::from_millis(20) + clock::moment(&mut self.rng) * 20;
                self.clock.plan(after, Due::Resync(site, dev));
            }
            return;
        }
        self.host.oracle.asked_to_resync(site);
        let topology = self.host.topology.clone();
        for of in topology.layout().devices().filter(|&of| dev.is_none_or(|dev| dev == of)) {
            let disk = topology.disk(Role::Leg { dev: of, site });
            self.host.strangers.remove(&disk);
            self.host.welcome.insert(disk);
        }
    }

    /// A site that streams has taken the disks that it was told to take; what was replaced
    /// behind its back since has to be told anew.
    pub(super) fn has_taken_its_disks(&mut self, site: usize) {
        if self.host.welcome.is_empty() {
            return;
        }
        let topology = self.host.topology.clone();
        for dev in topology.layout().devices() {
            let disk = topology.disk(Role::Leg { dev, site });
            if self.host.welcome.remove(&disk) && self.host.unused.contains(&disk) {
                self.host.strangers.insert(disk);
                self.plan_resync(site, dev, self.healed);
            }
        }
    }

    /// Somebody will notice, in a while, that a disk is another.
    fn plan_resync(&mut self, site: usize, dev: DevNr, surely: bool) {
        if surely || self.rng.chance(50) {
            let after = clock::moment(&mut self.rng) * 200;
            self.clock.plan(after, Due::Resync(site, Some(dev)));
        }
    }

    /// Plans what is known to come: outages, and the landing of what dead processes left.
    pub(super) fn plan_weather(&mut self) {
        let now = self.host.time;
        let begins = |outage: &Outage| outage.from >= now && outage.trouble.takes_away();
        let all = self.host.weather.all().filter(|(_, outage)| begins(outage));
        let planned: Vec<_> = all.map(|(nr, outage)| (nr, outage.from.since(now))).collect();
        for (nr, after) in planned {
            self.clock.plan(after, Due::Outage(nr));
        }
        for disk in self.zombies.clone() {
            self.land_zombies(disk);
        }
    }

    /// What a dead process left in flight lands when its disk does not hang any more.
    pub(super) fn land_zombies(&mut self, disk: DiskId) {
        let role = self.host.disks.role(disk).expect("a busy disk is there");
        match self.host.weather.hangs(role, self.host.time) {
            Some(until) => self.postpone(until, Due::Zombies(disk)),
            None => {
                let soon = clock::moment(&mut self.rng);
                self.clock.plan(soon, Due::Zombies(disk));
            }
        }
    }

    pub(super) fn zombies_land(&mut self, disk: DiskId) -> Result<(), Violation> {
        if !self.zombies.remove(&disk) {
            return Ok(());
        }
        self.host.disks.orphan(disk, &mut self.rng);
        self.look_at(self.host.disks.role(disk)?)
    }

    /// Something waits for the end of an outage.
    pub(super) fn postpone(&mut self, until: Time, due: Due) {
        if until == FOR_EVER {
            self.parked.push(due);
        } else {
            let after = until.since(self.host.time) + clock::moment(&mut self.rng);
            self.clock.plan(after, due);
        }
    }

    /// An outage begins now.
    pub(super) fn begin(&mut self, outage: Outage) -> Result<(), Violation> {
        self.tell(|| format!("     {outage:?}"));
        let nr = self.host.weather.all().count();
        self.host.weather.add(Weather::new(vec![outage]));
        if outage.trouble.takes_away() { self.outage_begins(nr) } else { Ok(()) }
    }

    /// An outage begins that takes disks away.
    pub(super) fn outage_begins(&mut self, nr: usize) -> Result<(), Violation> {
        let Some(outage) = self.host.weather.get(nr).copied() else { return Ok(()) };
        self.met.outages += 1;
        let all: Vec<(DiskId, Role)> = self.host.disks.all().collect();
        let here = all.into_iter().filter(|&(_, role)| outage.whom.is(role));
        here.into_iter().try_for_each(|(disk, role)| self.take_away(outage.trouble, disk, role))
    }

    fn take_away(&mut self, trouble: Trouble, disk: DiskId, role: Role) -> Result<(), Violation> {
        self.handles.spoil(disk);
        let lost = match trouble {
            Trouble::PowerLost(keep) => {
                self.host.disks.cut(disk, keep, &mut self.rng);
                self.host.local_power_is_cut(role);
                true
            }
            Trouble::MediaLost => self.replace(disk, role),
            _ => false,
        };
        self.back.doom(disk, lost);
        if !lost {
            return Ok(());
        }
        self.zombies.remove(&disk);
        self.look_at(role)
    }

    /// Another disk takes the place of one, if that is one that a machine could miss.
    fn replace(&mut self, disk: DiskId, role: Role) -> bool {
        match role {
            // What no machine knows yet, none can find to be another.
            // Nor is the last copy lost.
            Role::Leg { dev, site }
                if self.host.known.contains(&disk)
                    && self.host.topology.has_leg(dev, site)
                    && self.host.is_kept_beside(site)
                    // Nor what stands in for a log that is lost, which would be two at a time.
                    && !(site == 0 && self.has_lost_its_log()) =>
            {
                self.host.truths[site] = Truth::Hollow;
                self.host.oracle.replaced(site, dev);
                self.host.replaced.insert(disk);
                if !self.host.welcome.contains(&disk) {
                    self.host.strangers.insert(disk);
                }
                self.host.unused.insert(disk);
                self.plan_resync(site, dev, self.healed);
            }
            Role::Mark { .. } => {}
            Role::Log | Role::NewLog | Role::DirtyLog { .. } | Role::Leg { .. } => return false,
        }
        self.host.disks.replace(disk);
        self.met.replaced += 1;
        true
    }

    /// Shows the oracle what a disk may hold now.
    fn look_at(&mut self, role: Role) -> Result<(), Violation> {
        match role {
            Role::Leg { dev, site } => self.host.look_at_all(dev, site),
            Role::Mark { site } => self.host.read_mark(site),
            Role::Log | Role::NewLog | Role::DirtyLog { .. } => Ok(()),
        }
    }

    /// A machine wants a disk opened afresh.
    pub(super) fn open_disk(&mut self, disk: DiskId) -> Result<(), Violation> {
        self.handles.open(disk)?;
        let after = clock::opening(&mut self.rng);
        self.clock.plan(after, Due::Opened(disk));
        Ok(())
    }

    /// The answer to that, if it does not hang, too.
    pub(super) fn opened(&mut self, disk: DiskId) -> Result<Option<Event>, Violation> {
        let role = self.host.disks.role(disk)?;
        let hangs = self.host.weather.hangs(role, self.host.time);
        if let Some(until) = hangs.filter(|_| self.rng.chance(30)) {
            self.postpone(until, Due::Opened(disk));
            return Ok(None);
        }
        let mut result = self.host.seen(disk);
        if self.host.weather.fails(role, self.host.time) && self.rng.chance(30) {
            let why = "its first sector can't be read".to_owned();
            result = result.and(Err(NotOpened { errno: blk::Errno::EIO, why }));
        }
        self.met.not_opened += u64::from(result.is_err());
        self.met.zombies += u64::from(result.as_ref().is_err_and(|not| not.errno == EBUSY));
        self.handles.opened(disk, result.is_ok());
        Ok(Some(Event::Opened { disk, result }))
    }
}
