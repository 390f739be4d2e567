//! A script, cut after every single effect; and its recovery, cut after every single
//! effect again.
//!
//! ```text
//! script ──┬────┬────┬──▶        each k: cut, recover, judge: the reference
//!          k    k    k
//!          └─ recovery ─┬──┬─▶   each j: cut again, recover, judge, compare (P10)
//!                       j  j
//! ```

use blk::{DevNr, Op, Sector, Sectors};

use crate::disk::Keep;
use crate::oracle::{Oracle, Violation};
use crate::payload::Content;
use crate::rig::{Rig, Tally};
use crate::rng::Rng;
use crate::workload::{Ask, Workload};
use crate::world::{Cut, Halt, Host, Subject, World};

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
}

/// Where a sweep found a broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The promise.
    pub violation: Violation,
    /// The point of the first cut, and how.
    pub first: (u64, Cut),
    /// The point of the cut inside the recovery, and how.
    pub inside: Option<(u64, Cut)>,
}

impl<M: Subject> Sweep<'_, M> {
    /// Cuts everywhere and judges every recovery.
    ///
    /// # Errors
    /// The first broken promise.
    pub fn run(&self) -> Result<Tally, Box<Found>> {
        let mut tally = Tally::default();
        for &cut in &self.cuts {
            let mut point = 1;
            while self.cut_at(point, cut, &mut tally)? {
                point += self.stride;
            }
        }
        Ok(tally)
    }

    /// Cuts the script at one point, if it is that long.
    fn cut_at(&self, point: u64, cut: Cut, tally: &mut Tally) -> Result<bool, Box<Found>> {
        let found = |violation| Box::new(Found { violation, first: (point, cut), inside: None });
        let host = Host::new(&self.rig.topology);
        let workload = self.script.clone();
        let rng = Rng::new(point);
        let mut world = {
            let machine = (self.rig.open)(&host);
            World::start(host, machine, workload, rng).cut_at(Some(point))
        };
        let halt = live(&mut world).map_err(found)?;
        tally.points += world.points();
        if halt == Halt::Done {
            return Ok(false);
        }
        let (host, _) = world.crash(cut).map_err(found)?;
        self.recover(&host, (point, cut), tally)?;
        Ok(true)
    }

    fn recover(&self, host: &Host, first: (u64, Cut), tally: &mut Tally) -> Result<(), Box<Found>> {
        let found = |violation| Box::new(Found { violation, first, inside: None });
        let (reference, points) = self.settle(host.clone(), first.0, tally).map_err(found)?;
        if self.stride_inside == 0 {
            return Ok(());
        }
        for &cut in &self.cuts_inside {
            // After a kill the disks still cache what a power cut may take.
            let comparable = first.1 != Cut::Kill || cut == Cut::Kill;
            let reference = comparable.then_some(&reference[..]);
            for point in (1..=points).step_by(usize::try_from(self.stride_inside).unwrap_or(1)) {
                let inside = Some((point, cut));
                self.cut_inside(host.clone(), (point, cut), reference, tally)
                    .map_err(|violation| Box::new(Found { violation, first, inside }))?;
            }
        }
        Ok(())
    }

    /// Recovers without further ado and lets everything drain. Returns what the devices
    /// read as and how many points it took to get there.
    fn settle(
        &self,
        host: Host,
        seed: u64,
        tally: &mut Tally,
    ) -> Result<(Vec<Content>, u64), Violation> {
        let no_more = Workload::script(Vec::new());
        let machine = (self.rig.open)(&host);
        let mut world = World::start(host, machine, no_more, Rng::new(seed));
        world.open()?;
        let (shown, points) = (world.recovered().to_vec(), world.points());
        world.settle()?;
        tally.points += world.points();
        tally.recoveries += 1;
        tally.settled += 1;
        Ok((shown, points))
    }

    fn cut_inside(
        &self,
        host: Host,
        (point, cut): (u64, Cut),
        reference: Option<&[Content]>,
        tally: &mut Tally,
    ) -> Result<(), Violation> {
        let no_more = Workload::script(Vec::new());
        let machine = (self.rig.open)(&host);
        let mut world = World::start(host, machine, no_more, Rng::new(point)).cut_at(Some(point));
        if world.open()? == Halt::Done {
            return Ok(());
        }
        tally.points += world.points();
        let (host, _) = world.crash(cut)?;
        let oracle = host.oracle.clone();
        let (shown, _) = self.settle(host, point, tally)?;
        reference.map_or(Ok(()), |reference| same(reference, &shown, &oracle))
    }
}

/// The application's whole life with one machine.
fn live<M: Subject>(world: &mut World<'_, M>) -> Result<Halt, Violation> {
    for phase in [World::open, World::work, World::settle] {
        if phase(world)? == Halt::Cut {
            return Ok(Halt::Cut);
        }
    }
    Ok(Halt::Done)
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
