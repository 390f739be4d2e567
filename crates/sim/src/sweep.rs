//! A script, cut after every single effect; and its recovery, cut after every single
//! effect again. Or struck there: something befalls the sites, and the machine lives on.
//!
//! ```text
//! script ──┬────┬────┬──▶        each k: cut, recover, judge: the reference
//!          k    k    k
//!          └─ recovery ─┬──┬─▶   each j: cut again, recover, judge, compare (P10)
//!                       j  j
//! ```
//!
//! A recovery goes on until every site has everything, so that it is cut inside a resync, too.

use std::cell::RefCell;

use blk::{DevNr, Op, Sector, Sectors, Span};

use crate::disk::Keep;
use crate::oracle::{Oracle, Violation};
use crate::payload::Content;
use crate::rig::{Rig, Tally};
use crate::rng::Rng;
use crate::topology::Role;
use crate::workload::{Ask, Workload};
use crate::world::weather::{Outage, Trouble, Whom};
use crate::world::{Cut, Host, Subject, World};

/// A script to be swept.
pub struct Sweep<'a, M> {
    /// Makes the machines.
    pub rig: Rig<'a, M>,
    /// What the applications do.
    pub script: Workload,
    /// How the first machine dies.
    pub cuts: Vec<Cut>,
    /// How a machine dies in its recovery.
    pub cuts_inside: Vec<Cut>,
    /// Cut at every `stride`-th point only; 1 is all of them.
    pub stride: u64,
    /// The same for cuts inside a recovery; 0 leaves them out.
    pub stride_inside: u64,
    /// What is up to chance in the script's run.
    pub seed: u64,
    /// Of all cuts of the script only each so-many-th, from the n-th on, so that several can
    /// share a sweep; `(0, 1)` are all.
    pub slice: (u64, u64),
}

/// Where a sweep found a broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The promise.
    pub violation: Violation,
    /// The point at which something was done, and what, of those first and second.
    pub at: Vec<(u64, Did)>,
}

/// What was done at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Did {
    /// The machine died.
    Cut(Cut),
    /// Something befell a site.
    Strike(Trouble, Span),
}

impl<'a, M: Subject> Sweep<'a, M> {
    /// Cuts everywhere and judges every recovery.
    ///
    /// # Errors
    /// The first broken promise.
    pub fn run(&self) -> Result<Tally, Box<Found>> {
        let sweeping = Sweeping { sweep: self, tally: RefCell::default(), at: RefCell::default() };
        let host = Host::new(&self.rig.topology);
        let machine = (self.rig.open)(&host);
        let probe = |world: &World<'_, M>| sweeping.cut_here(world);
        let mut world = World::start(host, machine, self.script.clone(), Rng::new(self.seed))
            .probed(Box::new(probe));
        let lived = live(&mut world);
        let mut tally = sweeping.tally.take();
        tally.add(&world);
        drop(world);
        match lived {
            Ok(()) => Ok(tally),
            Err(violation) => Err(Box::new(Found { violation, at: sweeping.at.take() })),
        }
    }

    /// Has one of `troubles`, in turn, befall `whom` at every `stride`-th point, for one of
    /// `spans`; the machine lives on.
    ///
    /// # Errors
    /// The first broken promise.
    pub fn strike(
        &self,
        whom: Whom,
        troubles: &[Trouble],
        spans: &[Span],
    ) -> Result<Tally, Box<Found>> {
        let mut tally = Tally::default();
        let points = (1..).step_by(usize::try_from(self.stride).unwrap_or(1));
        for (turn, point) in points.enumerate() {
            let trouble = troubles[turn % troubles.len()];
            let long = spans[(turn / troubles.len()) % spans.len()];
            let host = Host::new(&self.rig.topology);
            let machine = (self.rig.open)(&host);
            let outage = |now| Outage { whom, from: now, until: now + long, trouble };
            let mut world = World::start(host, machine, self.script.clone(), Rng::new(self.seed))
                .struck_at(point, Box::new(outage));
            match live(&mut world) {
                Ok(()) => {}
                Err(Violation::NothingLeft) => tally.met.nothing_left += 1,
                // A log that is lost while it is opened, or with what nobody else has.
                Err(violation) if whom.is(Role::Log) && world.is_excused(&violation) => {}
                Err(violation) => {
                    let at = vec![(point, Did::Strike(trouble, long))];
                    return Err(Box::new(Found { violation, at }));
                }
            }
            tally.add(&world);
            if world.points() < point {
                break;
            }
        }
        Ok(tally)
    }
}

/// Looks at a recovery at every point.
type Look<'l, M> = dyn Fn(&World<'_, M>) -> Result<(), Violation> + 'l;

/// A sweep under way.
struct Sweeping<'s, 'a, M> {
    sweep: &'s Sweep<'a, M>,
    tally: RefCell<Tally>,
    /// What is being done.
    at: RefCell<Vec<(u64, Did)>>,
}

impl<M: Subject> Sweeping<'_, '_, M> {
    /// Lets the script's machine die here, in every way, and judges the recoveries.
    fn cut_here(&self, world: &World<'_, M>) -> Result<(), Violation> {
        let point = world.points();
        let (nth, of) = self.sweep.slice;
        let is_ours = (point - 1) / self.sweep.stride % of == nth;
        if !(point - 1).is_multiple_of(self.sweep.stride) || !is_ours {
            return Ok(());
        }
        for &cut in &self.sweep.cuts {
            self.tally.borrow_mut().count(cut);
            self.at.replace(vec![(point, Did::Cut(cut))]);
            let host = world.crashed(cut, &mut Rng::new(point))?;
            self.recover(&host, point, cut)?;
        }
        self.at.replace(Vec::new());
        Ok(())
    }

    fn recover(&self, host: &Host, first: u64, how: Cut) -> Result<(), Violation> {
        let (reference, opened) = self.come_back(host.clone(), first, None)?;
        if self.sweep.stride_inside == 0 {
            return Ok(());
        }
        let again = |world: &World<'_, M>| {
            let inside = world.points();
            if !(inside - 1).is_multiple_of(self.sweep.stride_inside) {
                return Ok(());
            }
            for &cut in &self.sweep.cuts_inside {
                self.at.borrow_mut().truncate(1);
                self.at.borrow_mut().push((inside, Did::Cut(cut)));
                self.tally.borrow_mut().count(cut);
                let host = world.crashed(cut, &mut Rng::new(inside))?;
                let oracle = host.oracle.clone();
                let (shown, _) = self.come_back(host, inside, None)?;
                self.tally.borrow_mut().repeated += 1;
                // After a kill the disks still cache what a power cut may take; and when it
                // is open, applications go on.
                if inside < opened && (how != Cut::Kill || cut == Cut::Kill) {
                    same(&reference, &shown, &oracle)?;
                }
            }
            self.at.borrow_mut().truncate(1);
            Ok(())
        };
        self.come_back(host.clone(), first, Some(&again)).map(drop)
    }

    /// Recovers, and has every site become equal. Returns what the devices read as and how
    /// many points it took to open.
    fn come_back(
        &self,
        mut host: Host,
        seed: u64,
        probe: Option<&Look<'_, M>>,
    ) -> Result<(Vec<Content>, u64), Violation> {
        let no_more = Workload::script(Vec::new());
        host.make_startable();
        let machine = (self.sweep.rig.open)(&host);
        let mut world =
            World::start(host, machine, no_more, Rng::new(seed)).traced(self.sweep.rig.trace);
        if let Some(probe) = probe {
            world = world.probed(Box::new(probe));
        }
        world.open()?;
        let (shown, points) = (world.recovered().to_vec(), world.points());
        world.converge()?;
        world.settle()?;
        let mut tally = self.tally.borrow_mut();
        tally.add(&world);
        tally.recoveries += 1;
        tally.settled += 1;
        Ok((shown, points))
    }
}

/// The application's whole life with one machine.
fn live<M: Subject>(world: &mut World<'_, M>) -> Result<(), Violation> {
    for phase in [World::open, World::work, World::converge, World::settle] {
        phase(world)?;
    }
    Ok(())
}

/// Two recoveries of one log brought back the same (P10).
pub(crate) fn same(
    first: &[Content],
    second: &[Content],
    oracle: &Oracle,
) -> Result<(), Violation> {
    let differs = first.iter().zip(second).position(|(a, b)| a != b);
    differs.map_or(Ok(()), |at| {
        let place = oracle.layout().place(at);
        Err(Violation::RecoveriesDiffer { place, first: first[at], second: second[at] })
    })
}

/// Every way to die that a sweep tries.
pub const CUTS: [Cut; 5] = [
    Cut::Kill,
    Cut::Power(Keep::None),
    Cut::Power(Keep::All),
    Cut::Power(Keep::Any { torn: true }),
    Cut::PowerEverywhere(Keep::Any { torn: true }),
];

/// The script of the acceptance test: two devices, overlaps across groups, zeroes, a
/// FLUSH, FUA, and several requests under way at a time.
#[must_use]
pub fn script() -> Vec<Vec<Ask>> {
    let write = |dev, sector, len, fua| Ask {
        dev: DevNr(dev),
        op: Op::Write { sector: Sector(sector), len: Sectors(len), fua },
    };
    let discard = |dev, sector, len| Ask {
        dev: DevNr(dev),
        op: Op::Discard { sector: Sector(sector), len: Sectors(len) },
    };
    let read = |dev, sector, len| Ask {
        dev: DevNr(dev),
        op: Op::Read { sector: Sector(sector), len: Sectors(len) },
    };
    let flush = Ask { dev: DevNr(1), op: Op::Flush };
    vec![
        vec![write(0, 0, 8, false), write(1, 0, 8, false)],
        vec![write(0, 4, 8, false), write(0, 6, 2, false), write(1, 3, 1, false)],
        vec![flush, write(1, 8, 4, false)],
        vec![discard(0, 2, 6), read(0, 0, 16)],
        vec![write(0, 0, 3, true), write(1, 0, 16, false), read(1, 0, 16)],
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Topology;
    use crate::toy::{Flaw, Toy};

    fn sweep(flaw: Option<Flaw>) -> Result<Tally, Box<Found>> {
        let topology = Topology {
            log: Sectors(64),
            ..Topology::plain(&[Sectors(16), Sectors(16)], &[false, false, false], 512)
        };
        let open = |_: &Host| Toy::open(&topology, flaw);
        let sweep = Sweep {
            rig: Rig { topology: topology.clone(), open: &open, trace: false, watch: &|_| {} },
            script: Workload::batches(script()),
            cuts: CUTS.to_vec(),
            cuts_inside: CUTS.to_vec(),
            stride: 1,
            stride_inside: 1,
            seed: 1,
            slice: (0, 1),
        };
        sweep.run()
    }

    #[test]
    fn a_machine_that_keeps_the_promises_survives_a_cut_after_every_effect_twice() {
        let tally = sweep(None).unwrap();
        assert!(tally.recoveries > 1000, "{tally:?}");
    }

    #[test]
    fn a_recovery_that_does_not_replay_is_found() {
        assert!(sweep(Some(Flaw::NoReplay)).is_err());
    }
}
