//! What outlives a machine, how machines die, and how the next one is judged.

use blk::{DevNr, Op, Sector, Sectors, SlinkNr};

use super::disks::{Disks, Outcome};
use super::front::Orphan;
use super::{Halt, Subject, World};
use crate::disk::Keep;
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
    /// Requests that died with a process and are issued again.
    pub(super) orphans: Vec<Orphan>,
    /// The deaths since the last recovery that came to its end.
    deaths: Option<Deaths>,
    /// What the devices read as after the last recovery.
    recovered: Vec<Content>,
}

/// Deaths that one recovery has to make good.
#[derive(Clone, Copy)]
struct Deaths {
    required: Nr,
    power_cut: bool,
}

/// How a machine dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The process is killed; writes in flight may still land before the next one starts.
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
        Self {
            disks: Disks::new(topology),
            oracle: Oracle::new(topology.layout(), &topology.rules(), topology.log),
            orphans: Vec::new(),
            deaths: None,
            recovered: Vec::new(),
        }
    }

    /// What the devices read as after the last recovery, in the row of all sectors.
    #[must_use]
    pub fn recovered(&self) -> &[Content] {
        &self.recovered
    }

    /// Whether its log holds nothing that a power cut could take.
    #[must_use]
    pub fn is_on_media(&self) -> bool {
        self.disks.log.is_settled()
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
                self.look(dev, site, Sector(row.start), Sectors(row.end - row.start))
            }),
            (Outcome::Leg(_) | Outcome::Nothing, _) => Ok(()),
        }
    }

    /// Every leg holds what was written, on its media.
    pub(super) fn compare_legs(&mut self) -> Result<(), Violation> {
        for (dev, site, leg) in self.disks.each_leg() {
            for at in self.oracle.layout().device(dev) {
                let place = self.oracle.layout().place(at);
                let (expected, found) = (self.oracle.newest(at), leg.durable(place.sector.0));
                if found != expected {
                    let site = SlinkNr(u16::try_from(site).expect("few sites"));
                    return Err(Violation::Diverged { site, place, expected, found });
                }
            }
        }
        self.oracle.settled();
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
        let legs: Vec<_> = self.disks.each_leg().map(|(dev, site, _)| (dev, site)).collect();
        legs.into_iter().try_for_each(|(dev, site)| {
            let size = self.oracle.layout().size(dev);
            self.look(dev, site, Sector(0), size)
        })
    }

    fn disks_die(&mut self, cut: Cut, rng: &mut Rng) {
        let (local, remote) = match cut {
            Cut::Kill => (None, None),
            Cut::Power(keep) => (Some(keep), None),
            Cut::PowerEverywhere(keep) => (Some(keep), Some(keep)),
        };
        let durable = match local {
            None => self.disks.log.orphan(rng),
            Some(keep) => self.disks.log.cut(keep, rng),
        };
        for (dev, sector, content) in self.disks.logged(durable) {
            self.oracle.logged(dev, sector, content);
        }
        let sites: Vec<usize> = self.disks.each_leg().map(|(_, site, _)| site).collect();
        for (leg, site) in self.disks.legs.iter_mut().zip(sites) {
            // Sectors of a leg are whole: tearing inside a sector is for the log alone.
            let whole = |keep| match keep {
                Keep::Any { .. } => Keep::Any { torn: false },
                other => other,
            };
            match if site == 0 { local } else { remote } {
                None => drop(leg.orphan(rng)),
                Some(keep) => drop(leg.cut(whole(keep), rng)),
            }
        }
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
        let head = self.oracle.recovered(required, &shown)?;
        if self.deaths.take().is_some_and(|deaths| deaths.power_cut) {
            self.oracle.on_media(head);
        }
        self.recovered = shown;
        Ok(())
    }
}

impl<M: Subject> World<M> {
    /// The machine dies; what is left is the host, and what the applications still wanted.
    ///
    /// # Errors
    /// If a site shows what it must not.
    pub fn crash(self, cut: Cut) -> Result<(Host, Workload), Violation> {
        let Self { mut host, front, workload, mut rng, orphans, .. } = self;
        host.orphans = orphans;
        host.orphans.extend(front.orphans());
        if cut != Cut::Kill {
            // The applications died with their host.
            host.orphans.clear();
        }
        host.die(cut, &mut rng)?;
        Ok((host, workload))
    }

    /// The machine has stopped by itself: nothing is lost.
    pub fn close(self) -> (Host, Workload) {
        (self.host, self.workload)
    }

    /// Reads all devices and has the oracle judge what recovery brought back.
    pub(super) fn audit(&mut self) -> Result<Halt, Violation> {
        let layout = self.host.oracle.layout().clone();
        for dev in layout.devices() {
            for start in (0..layout.size(dev).0).step_by(AUDIT_SECTORS) {
                let len = Sectors((layout.size(dev).0 - start).min(AUDIT_SECTORS as u64));
                let ask = Ask { dev, op: Op::Read { sector: Sector(start), len } };
                let event = self.front.hand_in_audit(ask, &self.host.oracle);
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

/// Length of a read that looks at what recovery brought back.
const AUDIT_SECTORS: usize = 64;
