//! The world and the oracle, held against a toy that keeps the promises and its broken
//! twins that don't.

use blk::{DevNr, Op, Sector, Sectors};

use super::*;
use crate::disk::Keep;
use crate::oracle::Violation;
use crate::topology::Topology;
use crate::toy::{Flaw, Toy};
use crate::workload::Ask;

fn topology() -> Topology {
    Topology {
        log: Sectors(64),
        ..Topology::plain(&[Sectors(16), Sectors(16)], &[false, false, false], 512)
    }
}

/// Works, dies and comes back, `lives` times; then drains.
fn live(seed: u64, flaw: Option<Flaw>) -> Result<u64, Violation> {
    let mut rng = Rng::new(seed);
    let topology = topology();
    let mut host = Host::new(&topology);
    let mut workload = Workload::mixed(&topology, 60, Sectors(8), &mut rng);
    let mut digest = 0;
    for _ in 0..4 {
        let toy = Toy::open(&topology, flaw);
        let mut world =
            World::start(host, toy, workload, rng.fork()).cut_at(Some(rng.range(1, 300)));
        let halted =
            [World::open, World::work].into_iter().try_for_each(|phase| match phase(&mut world) {
                Ok(Halt::Done) => Ok(()),
                Ok(Halt::Cut) => Err(None),
                Err(broken) => Err(Some(broken)),
            });
        if let Err(Some(broken)) = halted {
            return Err(broken);
        }
        digest ^= world.digest();
        let keep = *rng.pick(&[Keep::None, Keep::All, Keep::Any { torn: true }]);
        let cut = *rng.pick(&[Cut::Kill, Cut::Power(keep), Cut::PowerEverywhere(keep)]);
        (host, workload) = world.crash(cut)?;
    }
    let mut world = World::start(host, Toy::open(&topology, flaw), workload, rng.fork());
    world.open()?;
    world.settle()?;
    Ok(digest ^ world.digest())
}

#[test]
fn a_machine_that_keeps_the_promises_is_never_accused() {
    for seed in 0..500 {
        let lived = live(seed, None);
        assert!(lived.is_ok(), "seed {seed}: {lived:?}");
    }
}

#[test]
fn a_seed_runs_the_same_way_every_time() {
    for seed in 0..20 {
        assert_eq!(live(seed, None), live(seed, None), "seed {seed}");
    }
    assert_ne!(live(1, None), live(2, None));
}

/// The first accusation of a flawed toy within so many seeds.
fn accused(flaw: Flaw, seeds: u64) -> Violation {
    let mut accusations = (0..seeds).filter_map(|seed| live(seed, Some(flaw)).err());
    accusations.next().unwrap_or_else(|| panic!("{flaw:?} is not seen in {seeds} seeds"))
}

#[test]
fn an_acknowledgement_before_the_log_has_it_is_seen() {
    assert!(matches!(accused(Flaw::AckEarly, 20), Violation::Lost { .. }));
}

#[test]
fn shipping_what_is_not_durable_is_seen() {
    assert!(matches!(accused(Flaw::LogWithoutFua, 1), Violation::AheadOfLog { .. }));
}

#[test]
fn legs_that_are_not_flushed_are_seen() {
    accused(Flaw::LegsWithoutFua, 5);
}

#[test]
fn a_recovery_that_does_not_replay_is_seen() {
    accused(Flaw::NoReplay, 20);
}

#[test]
fn a_torn_record_that_is_applied_is_seen() {
    accused(Flaw::NoChecksum, 200);
}

#[test]
fn a_record_that_is_shipped_from_the_disks_cache_is_seen() {
    accused(Flaw::NoFlushBeforeReplay, 10_000);
}

#[test]
fn a_leg_that_is_forgotten_is_seen() {
    accused(Flaw::ForgetsALeg, 5);
}

#[test]
fn a_request_that_never_ends_is_seen() {
    assert!(matches!(accused(Flaw::LosesFlushes, 5), Violation::Stuck { .. }));
}

#[test]
fn a_cut_comes_at_exactly_the_point_that_was_asked_for() {
    let write = Op::Write { sector: Sector(0), len: Sectors(1), fua: false };
    for point in 1..20 {
        let script = Workload::batches(vec![vec![Ask { dev: DevNr(0), op: write }; 4]]);
        let topology = topology();
        let toy = Toy::open(&topology, None);
        let mut world =
            World::start(Host::new(&topology), toy, script, Rng::new(1)).cut_at(Some(point));
        let opened = world.open().unwrap();
        let halt = if opened == Halt::Cut { opened } else { world.work().unwrap() };
        assert_eq!((halt, world.points()), (Halt::Cut, point));
    }
}
