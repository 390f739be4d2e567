//! What outlives a machine, how machines die, and how the next one is judged.

use std::collections::BTreeSet;
use std::rc::Rc;

use blk::{DevNr, DiskId, DiskSeen, Errno, NotOpened, Op, Sector, Sectors, SlinkNr, Time};

use replog::format::kept::Kept;
use slink::mark::MarkState;

use super::copies::{Truth, unknown};
use super::disks::{Disks, Outcome};
use super::front::Orphan;
use super::handles::EBUSY;
use super::weather::Weather;
use super::{Halt, Subject, World};
use crate::disk::Keep;
use crate::engine;
use crate::oracle::{Death, Nr, Oracle, Violation};
use crate::payload::Content;
use crate::rng::Rng;
use crate::topology::{Role, Topology};
use crate::workload::{Ask, Workload};

/// What outlives a machine: the disks, the applications' memory, the oracle. A clone is
/// a second world in the same state.
#[derive(Clone)]
pub struct Host {
    /// The disks.
    pub disks: Disks,
    /// The model.
    pub oracle: Oracle,
    /// What befalls the sites.
    pub weather: Weather,
    /// The host's clock, which goes on when a machine dies.
    pub(super) time: Time,
    pub(super) topology: Rc<Topology>,
    /// Requests that died with a process and are issued again.
    pub(super) orphans: Vec<Orphan>,
    /// What a machine had kept.
    pub kept: Option<Vec<u8>>,
    /// Legs that some machine has written to.
    pub(super) known: BTreeSet<DiskId>,
    /// Legs that are other disks now, not yet equal to the model again.
    pub(super) replaced: BTreeSet<DiskId>,
    /// Those of them that no machine was told to use.
    pub(super) strangers: BTreeSet<DiskId>,
    /// Those of them that nobody has written to.
    pub(super) unused: BTreeSet<DiskId>,
    /// Disks that may be whatever they are, until everything was copied to them.
    pub(super) welcome: BTreeSet<DiskId>,
    /// Sectors that can't be read before they are written again.
    pub(super) bad: BTreeSet<(DiskId, u64)>,
    /// What is true of each site's copy.
    pub(super) truths: Vec<Truth>,
    /// The deaths since the last recovery that came to its end.
    pub(super) deaths: Option<Deaths>,
    /// What the devices read as after the last recovery.
    recovered: Vec<Content>,
    /// Somebody asked for another size of the log.
    pub(super) log_resized: bool,
    /// The table names the new log.
    pub(super) log_moved: bool,
    /// Logs that were to be made on another disk: no two have the same identity, in whatever life.
    pub(super) logs_begun: u64,
}

/// Deaths that one recovery has to make good.
#[derive(Clone, Copy)]
pub(super) struct Deaths {
    required: Nr,
    pub(super) power_cut: bool,
}

/// How a machine dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The process is killed; writes in flight may still land before the next one starts, or,
    /// where they hang, before their disk can be opened again.
    Kill,
    /// The host loses power; remote sites keep theirs.
    Power(Keep),
    /// The host and all remote sites lose power.
    PowerEverywhere(Keep),
}

impl Host {
    /// Fresh disks and no history.
    #[must_use]
    pub fn new(topology: &Topology) -> Self {
        let (layout, rules) = (topology.layout(), topology.rules());
        let initial = |site| {
            let sectors = |dev| vec![topology.initial(dev, site); layout.device(dev).len()];
            layout.devices().flat_map(sectors).collect()
        };
        let initial: Vec<Vec<Content>> = (0..topology.sites.len()).map(initial).collect();
        let mut host = Self {
            disks: Disks::new(topology),
            oracle: Oracle::new(layout, &rules, &initial, topology.log),
            weather: Weather::default(),
            time: Time(0),
            topology: Rc::new(topology.clone()),
            orphans: Vec::new(),
            kept: None,
            known: BTreeSet::new(),
            replaced: BTreeSet::new(),
            strangers: BTreeSet::new(),
            unused: BTreeSet::new(),
            welcome: BTreeSet::new(),
            bad: BTreeSet::new(),
            truths: unknown(topology),
            deaths: None,
            recovered: Vec::new(),
            log_resized: false,
            log_moved: false,
            logs_begun: 0,
        };
        host.set_spare_aside();
        host
    }

    /// What the devices read as after the last recovery, in the row of all sectors.
    #[must_use]
    pub fn recovered(&self) -> &[Content] {
        &self.recovered
    }

    /// Whether somebody has asked for another size of its log than the table's.
    #[must_use]
    pub fn was_log_resized(&self) -> bool {
        self.log_resized
    }

    /// Whether its log holds nothing that a power cut could take.
    #[must_use]
    pub fn is_on_media(&self) -> bool {
        let local = || self.disks.each_leg().filter(|(_, site, _)| *site == 0);
        self.disks.log.is_settled()
            && (!self.oracle.is_without_log() || local().all(|(_, _, leg)| leg.is_settled()))
    }

    /// The time on its clock.
    #[must_use]
    pub fn time(&self) -> Time {
        self.time
    }

    /// What a driver sees that opens a disk now.
    ///
    /// # Errors
    /// If the disk is not there, or somebody still writes to it.
    pub fn seen(&self, disk: DiskId) -> Result<DiskSeen, NotOpened> {
        let role = self.disks.role(disk).expect("a driver opens the disks of a table");
        let path = engine::path(role);
        if self.weather.is_absent(role, self.time) {
            return Err(NotOpened { errno: Errno::ENXIO, why: format!("{path} is not there") });
        }
        if self.disks.is_busy(disk) {
            return Err(NotOpened { errno: EBUSY, why: format!("{path} is in use") });
        }
        Ok(DiskSeen {
            size: self.topology.size(role),
            logical_block: self.topology.logical_block,
            identity: self.disks.identity(disk),
        })
    }

    /// Tells the oracle what the end or the submission of an operation means.
    pub(super) fn learn(&mut self, role: Role, outcome: Outcome) -> Result<(), Violation> {
        match (outcome, role) {
            (Outcome::Logged(payloads), _) => {
                for (dev, sector, content) in payloads {
                    self.oracle.logged(dev, sector, content);
                }
                Ok(())
            }
            (Outcome::Leg(rows), Role::Leg { dev, site }) => rows.into_iter().try_for_each(|row| {
                self.is_written_again(dev, site, &row);
                if site == 0 && self.oracle.is_without_log() {
                    // The local disk stands in for the log.
                    for at in row.clone() {
                        let content = self.disks.leg(dev, 0).durable(at);
                        self.oracle.locally_durable(dev, Sector(at), content);
                    }
                }
                self.look(dev, site, Sector(row.start), Sectors(row.end - row.start))
            }),
            (Outcome::Other, Role::Mark { site }) => self.read_mark(site),
            (Outcome::Leg(_) | Outcome::Other | Outcome::Nothing, _) => Ok(()),
        }
    }

    /// What a site's mark may say now, it says to whoever has nothing else.
    pub(super) fn read_mark(&mut self, site: usize) -> Result<(), Violation> {
        let marks = self.disks.marks(self.topology.disk(Role::Mark { site }));
        let consistent = marks.iter().any(|mark| mark.state == MarkState::Consistent);
        self.oracle.marked(site, consistent)
    }

    /// What it is made of, and what its table says.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// From now on another table describes the same disks. None leaves a copy out whose disk
    /// was replaced: nobody would remember that.
    pub fn retable(&mut self, topology: Topology) {
        let missed = |&disk: &DiskId| match self.disks.role(disk) {
            Ok(Role::Leg { dev, site }) => !topology.has_leg(dev, site),
            _ => false,
        };
        if self.replaced.iter().any(missed) || !self.keeps_a_copy(&topology) {
            return;
        }
        self.oracle.retable(topology.rules());
        let before = std::mem::replace(&mut self.topology, Rc::new(topology));
        self.welcome_who_comes(&before);
        self.doubt_who_is_left_out();
        let legs: Vec<_> = self.disks.each_leg().map(|(dev, site, _)| (dev, site)).collect();
        for (dev, site) in legs {
            if self.topology.has_leg(dev, site) && self.oracle.is_left_out(site, dev) {
                let (row, leg) = (self.row_of(dev), self.disks.leg(dev, site));
                let start = row.start;
                self.oracle.taken_back(site, row, |at| leg.candidates((at - start) as u64));
            }
        }
    }

    /// Whatever disk there is by now is taken where the table before had none, as after a
    /// `resync`: who opened the log by that may have forgotten which it was.
    fn welcome_who_comes(&mut self, before: &Topology) {
        let topology = self.topology.clone();
        for (dev, site, _) in self.disks.each_leg() {
            if topology.has_leg(dev, site) && !before.has_leg(dev, site) {
                let disk = topology.disk(Role::Leg { dev, site });
                self.strangers.remove(&disk);
                self.welcome.insert(disk);
            }
        }
    }

    /// Whether a site has disks that are not what they were, nor equal yet.
    pub(super) fn has_replaced(&self, site: usize) -> bool {
        let of_site = |&disk: &DiskId| matches!(self.disks.role(disk), Ok(Role::Leg { site: other, .. }) if other == site);
        self.replaced.iter().any(of_site)
    }

    /// Every leg of these sites holds what was written, on its media.
    pub(super) fn compare_legs(&mut self, sites: &[usize]) -> Result<(), Violation> {
        let is_meant =
            |site: usize, dev: DevNr| sites.contains(&site) && self.topology.has_leg(dev, site);
        for (dev, site, leg) in self.disks.each_leg().filter(|&(dev, site, _)| is_meant(site, dev))
        {
            for at in self.row_of(dev) {
                let place = self.oracle.layout().place(at);
                let (expected, found) = (self.oracle.newest(at), leg.durable(place.sector.0));
                if found != expected {
                    let site = SlinkNr(u16::try_from(site).expect("few sites"));
                    return Err(Violation::Diverged { site, place, expected, found });
                }
            }
        }
        if sites.len() == self.topology.sites.len() {
            self.replaced.clear();
        }
        Ok(())
    }

    /// Puts the disks through a death.
    fn die(&mut self, cut: Cut, rng: &mut Rng) -> Result<(), Violation> {
        let death = if cut == Cut::Kill { Death::Kill } else { Death::PowerCut };
        let before = self.deaths.unwrap_or(Deaths { required: Nr(u32::MAX), power_cut: false });
        self.deaths = Some(Deaths {
            required: before.required.min(self.oracle.required(death)),
            power_cut: before.power_cut || death == Death::PowerCut,
        });
        self.oracle.died();
        self.disks_die(cut, rng);
        self.log_what_is_local();
        let legs: Vec<_> = self.disks.each_leg().map(|(dev, site, _)| (dev, site)).collect();
        legs.into_iter().try_for_each(|(dev, site)| self.look_at_all(dev, site))?;
        (1..self.topology.sites.len()).try_for_each(|site| self.read_mark(site))?;
        self.read_roster()
    }

    /// What the log says of sites it says to whoever has nothing else of the host; but one that
    /// was lost says nothing any more without what the host kept of it (P8: the host's state
    /// directory is where it is durable that a log was bypassed).
    fn read_roster(&mut self) -> Result<(), Violation> {
        let kept = self.kept.as_ref().and_then(|bytes| Kept::decode(bytes).ok());
        for (site, is_demoted) in self.disks.standing(kept) {
            self.oracle.logged_standing(usize::from(site.0), is_demoted)?;
        }
        Ok(())
    }

    fn disks_die(&mut self, cut: Cut, rng: &mut Rng) {
        let (local, remote) = match cut {
            Cut::Kill => (None, None),
            Cut::Power(keep) => (Some(keep), None),
            Cut::PowerEverywhere(keep) => (Some(keep), Some(keep)),
        };
        let logged = self.disks.logs_die(|log| match local {
            None => log.orphan(rng),
            Some(keep) => log.cut(of_disk(keep, rng), rng),
        });
        for (dev, sector, content) in logged {
            self.oracle.logged(dev, sector, content);
        }
        self.go_by_the_table();
        let others: Vec<(DiskId, Role)> =
            self.disks.all().filter(|(_, role)| !role.is_log()).collect();
        for (disk, role) in others {
            let is_remote = role.remote_site().is_some();
            let hangs = self.weather.hangs(role, self.time).is_some();
            match if is_remote { remote } else { local } {
                // What hangs outlives the process, and keeps the disk busy.
                None if hangs && cut == Cut::Kill => {}
                None => self.disks.orphan(disk, rng),
                Some(keep) => self.disks.cut(disk, of_disk(keep, rng), rng),
            }
        }
    }

    /// Shows the oracle what a leg may hold now.
    pub(super) fn look_at_all(&mut self, dev: DevNr, site: usize) -> Result<(), Violation> {
        self.look(dev, site, Sector(0), self.oracle.layout().size(dev))
    }

    /// Shows the oracle what sectors of a leg may hold now.
    fn look(
        &mut self,
        dev: DevNr,
        site: usize,
        sector: Sector,
        len: Sectors,
    ) -> Result<(), Violation> {
        let Some(row) = self.oracle.layout().range(dev, sector, len) else { return Ok(()) };
        let leg = self.disks.leg(dev, site);
        let start = row.start;
        self.oracle.changed(site, row, |at| leg.candidates(sector.0 + (at - start) as u64))
    }

    /// Judges a recovery by what the devices read as.
    fn judge(&mut self, shown: Vec<Content>) -> Result<(), Violation> {
        let required = self.deaths.map_or(Nr(0), |deaths| deaths.required);
        let power_cut = self.deaths.is_some_and(|deaths| deaths.power_cut);
        self.oracle.recovered(required, power_cut, &shown)?;
        self.deaths = None;
        self.recovered = shown;
        Ok(())
    }
}

impl<M: Subject> World<'_, M> {
    /// The machine dies; what is left is the host, and what the applications still wanted.
    ///
    /// # Errors
    /// If a site shows what it must not.
    pub fn crash(self, cut: Cut) -> Result<(Host, Workload), Violation> {
        let Self { mut host, front, workload, mut rng, orphans, keeping, .. } = self;
        host.keep_or_not(keeping.as_ref(), &mut rng);
        host.orphans = orphans;
        host.orphans.extend(front.orphans());
        host.end_process(cut, &mut rng)?;
        Ok((host, workload))
    }

    /// The host as it would be if the machine died now; the world goes on.
    ///
    /// # Errors
    /// If a site shows what it must not.
    pub fn crashed(&self, cut: Cut, rng: &mut Rng) -> Result<Host, Violation> {
        let mut host = self.host.clone();
        host.keep_or_not(self.keeping.as_ref(), rng);
        host.orphans.clone_from(&self.orphans);
        host.orphans.extend(self.front.orphans());
        host.end_process(cut, rng)?;
        Ok(host)
    }

    /// The machine has stopped by itself. What it still had in flight, to a site that it gave
    /// up waiting for, is in flight without it.
    ///
    /// # Errors
    /// If a site shows what it must not.
    pub fn close(self) -> Result<(Host, Workload), Violation> {
        let Self { mut host, workload, mut rng, keeping, .. } = self;
        host.keep_or_not(keeping.as_ref(), &mut rng);
        host.end_process(Cut::Kill, &mut rng)?;
        Ok((host, workload))
    }

    /// Reads all devices and has the oracle judge what recovery brought back.
    pub(super) fn audit(&mut self) -> Result<Halt, Violation> {
        let layout = self.host.oracle.layout().clone();
        for dev in layout.devices() {
            let size = self.host.topology.length(dev).0;
            for start in (0..size).step_by(AUDIT_SECTORS) {
                let len = Sectors((size - start).min(AUDIT_SECTORS as u64));
                let ask = Ask { dev, op: Op::Read { sector: Sector(start), len } };
                let event = self.front.hand_in_audit(self.clock.now, ask, &self.host.oracle);
                self.machine.handle(self.clock.now, event);
            }
        }
        let halt = match self.pump()? {
            Halt::Cut => Halt::Cut,
            Halt::Done => self.run_to(super::Goal::Quiet)?,
        };
        if halt == Halt::Done {
            let unreadable = || Violation::OpenFailed { why: "a device can't be read".into() };
            let shown = self.front.audited().ok_or_else(unreadable)?;
            self.host.judge(shown)?;
        }
        Ok(halt)
    }
}

impl Host {
    fn end_process(&mut self, cut: Cut, rng: &mut Rng) -> Result<(), Violation> {
        if cut != Cut::Kill {
            // The applications died with their host.
            self.orphans.clear();
        }
        self.die(cut, rng)
    }
}

/// What one disk of several keeps: they know nothing of each other.
fn of_disk(keep: Keep, rng: &mut Rng) -> Keep {
    match keep {
        Keep::None | Keep::All => keep,
        Keep::Any { .. } => *rng.pick(&[keep, keep, Keep::None, Keep::All]),
    }
}

/// Length of a read that looks at what recovery brought back.
const AUDIT_SECTORS: usize = 64;
