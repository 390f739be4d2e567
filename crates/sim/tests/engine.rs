//! The engine in the simulated world: no promise is broken, and every planted bug is seen.

use std::cell::Cell;

use blk::{DevNr, Op, Sector, Sectors, Span};
use sim::bugs::Bug;
use sim::engine;
use sim::oracle::Violation;
use sim::rng::Rng;
use sim::runs::{self, Marks};
use sim::scenario;
use sim::topology::{Role, Topology};
use sim::workload::{Ask, Deed, Step, Workload};
use sim::world::weather::{FOR_EVER, Outage, Trouble, Whom};
use sim::world::{Fault, Faults, Halt, Host, Met, OpKind, World};

/// What the oracle says of a planted bug, within so many seeds.
fn accused(bug: Bug, seeds: u64) -> Violation {
    let (_, failure) = runs::seeds(0..seeds, Some(bug));
    failure.unwrap_or_else(|| panic!("{bug:?} is not seen in {seeds} seeds")).violation
}

#[test]
fn no_promise_is_broken_in_random_lives() {
    let (tally, failure) = runs::seeds(0..60, None);
    assert_eq!(failure, None, "{}", failure.as_ref().unwrap());
    assert!(tally.kills > 30 && tally.power_cuts > 60 && tally.settled > 60, "{tally:?}");
}

#[test]
fn random_lives_meet_full_rings_and_wraps_and_recoveries() {
    let marks = Cell::new(Marks::default());
    for seed in 0..300 {
        runs::marked(seed, &marks).unwrap_or_else(|failure| panic!("{failure}"));
    }
    let Marks { wrapped, ring_full, tail_full, recovered } = marks.get();
    let met = [wrapped, ring_full, tail_full, recovered];
    assert!(met.iter().all(|&lives| lives > 0), "{:?}", marks.get());
}

#[test]
fn lives_in_which_a_promise_was_once_broken_end_well() {
    for seed in [
        1120, 1228, 1872, 2745, 4002, 7497, 10095, 11578, 17490, 27503, 214681239, 708, 1053, 1189,
        1243, 3196, 6828, 99044449, 99045637, 703126, 705375, 2003483, 2003709, 12678176,
        229091981, 218, 2256, 229093267, 310008213, 5001054, 620001966, 410003149, 900003978,
        410007835, 1910000164, 191876302, 250309587, 19135671, 1002363, 1025133, 1031326, 1031579,
        12957, 23705016, 6799, 60474, 114168, 77000171, 88008572, 17038, 160061574, 241429872,
        170692671, 104411904, 105410664, 108536632,
    ] {
        runs::seed(seed, None, None).unwrap_or_else(|failure| panic!("{failure}"));
    }
}

#[test]
fn a_seed_runs_the_same_way_every_time() {
    for seed in 0..10 {
        assert_eq!(runs::seed(seed, None, None), runs::seed(seed, None, None), "seed {seed}");
    }
}

#[test]
fn no_promise_is_broken_by_a_cut_after_any_effect_of_a_script() {
    let tally = runs::sweep(1, 0).unwrap_or_else(|failure| panic!("{failure}"));
    assert!(tally.recoveries > 500, "{tally:?}");
}

#[test]
fn no_promise_is_broken_by_a_second_cut_inside_a_recovery() {
    let tally = runs::sweep(29, 3).unwrap_or_else(|failure| panic!("{failure}"));
    assert!(tally.recoveries > 500, "{tally:?}");
}

/// An LD that takes writes and fails every flush is not well because a write succeeded.
#[test]
fn a_disk_that_never_flushes_is_tried_less_and_less_often() {
    let topology = Topology::plain(&[Sectors(16)], &[false], 512);
    let role = Role::Leg { dev: DevNr(0), site: 0 };
    let fault = Fault { role, kind: OpKind::Flush, after: 0, times: None };
    let op = Op::Write { sector: Sector(0), len: Sectors(8), fua: false };
    let script = Workload::batches(vec![vec![Ask { dev: DevNr(0), op }]]);
    let host = Host::new(&topology);
    let machine = engine::open(&topology, &host);
    let mut world =
        World::start(host, machine, script, Rng::new(1)).with_faults(Faults::new(vec![fault]));
    assert_eq!(world.open(), Ok(Halt::Done));
    assert_eq!(world.work(), Ok(Halt::Done));
    let before = world.points();
    world.idle(Span::from_secs(600)).unwrap();
    // Half a second, doubled up to 15 s: some 45 times, an open, a read, a write, a flush each.
    let tried = world.points() - before;
    assert!((40..400).contains(&tried), "{tried} points in ten minutes");
}

/// A site that is not there for long is asked for now and then, whatever there is to send.
#[test]
fn a_site_that_is_not_there_is_looked_for_less_and_less_often() {
    for trouble in [Trouble::Absent, Trouble::Hangs, Trouble::Fails] {
        let topology = Topology::plain(&[Sectors(16)], &[false, false], 512);
        let op = Op::Write { sector: Sector(0), len: Sectors(8), fua: false };
        let write = || Step::Together(vec![Ask { dev: DevNr(0), op }]);
        let outage = Deed::Outage(Whom::Site(1), trouble);
        let script = Workload::script(vec![write(), Step::Do(outage), write(), write()]);
        let host = Host::new(&topology);
        let machine = engine::open(&topology, &host);
        let mut world = World::start(host, machine, script, Rng::new(1));
        assert_eq!(world.open(), Ok(Halt::Done));
        assert_eq!(world.work(), Ok(Halt::Done));
        let before = world.points();
        world.idle(Span::from_secs(600)).unwrap();
        // Half a second, doubled up to 15 s: some 45 times, an open and a read each.
        let tried = world.points() - before;
        assert!(tried < 300, "{trouble:?}: {tried} points in ten minutes");
        assert_eq!(world.converge(), Ok(Halt::Done));
    }
}

/// Its mark is all that it has.
#[test]
fn a_site_without_a_device_comes_back_from_an_outage_too() {
    let mut topology = Topology::plain(&[Sectors(16)], &[false, true], 512);
    let site = &mut topology.sites[1];
    (site.legs, site.link.options.mark) = (vec![None], Some(engine::path(Role::Mark { site: 1 })));
    let host = Host::new(&topology);
    let machine = engine::open(&topology, &host);
    let trouble =
        |from| Outage { whom: Whom::Site(1), from, until: FOR_EVER, trouble: Trouble::Fails };
    let mut world = World::start(host, machine, Workload::script(Vec::new()), Rng::new(1))
        .struck_at(1, Box::new(trouble));
    assert_eq!(world.open(), Ok(Halt::Done));
    world.idle(Span::from_secs(10)).unwrap();
    assert!(world.met().down > 0);
    assert_eq!(world.converge(), Ok(Halt::Done));
}

#[test]
fn a_log_flush_that_does_nothing_is_seen() {
    assert!(matches!(accused(Bug::LogFlushLies, 3), Violation::AheadOfLog { .. }));
}

#[test]
fn ring_space_reused_before_the_checkpoint_is_durable_is_seen() {
    accused(Bug::CheckpointsInCache, 300);
}

#[test]
fn a_write_acknowledged_before_the_log_has_it_is_seen() {
    // By the acknowledgement itself, or by a read or a `sync` site that lacks it.
    accused(Bug::AckBeforeWrite, 3);
}

#[test]
fn a_flush_acknowledged_before_the_log_is_durable_is_seen() {
    // A site with `order:flush` shows it, too: it leaves out what a flush has promised.
    let seen = accused(Bug::FlushAckedAtOnce, 20);
    assert!(matches!(seen, Violation::Lost { .. } | Violation::Order { .. }), "{seen}");
}

#[test]
fn fua_taken_for_a_plain_write_is_seen() {
    let seen = accused(Bug::FuaIgnored, 20);
    assert!(matches!(seen, Violation::Lost { .. } | Violation::Order { .. }), "{seen}");
}

#[test]
fn a_remote_disk_that_is_never_flushed_is_seen() {
    accused(Bug::RemoteFlushLies, 3);
}

#[test]
fn an_ld_that_is_never_flushed_is_seen() {
    accused(Bug::LocalFlushLies, 3);
}

#[test]
fn a_bit_flipped_on_its_way_to_a_site_is_seen() {
    assert!(matches!(accused(Bug::BitFlips, 3), Violation::Garbage { .. }));
}

#[test]
fn a_write_that_never_reaches_a_site_is_seen() {
    accused(Bug::RemoteWriteLost, 3);
}

#[test]
fn a_write_that_slips_behind_its_groups_barrier_is_seen() {
    accused(Bug::BarrierIgnored, 3);
}

#[test]
fn reads_served_from_a_lagging_ld_are_seen() {
    // By an application, or by the reads that look at what recovery brought back.
    accused(Bug::ReadsFromLd, 3);
}

#[test]
fn a_write_to_the_wrong_place_is_seen() {
    assert!(matches!(accused(Bug::Misdirected, 3), Violation::Garbage { .. }));
}

#[test]
fn a_dirty_log_that_is_never_flushed_is_seen() {
    accused(Bug::DirtyLogFlushLies, 3000);
}

#[test]
fn marks_that_never_reach_a_dirty_log_are_seen() {
    accused(Bug::MarksLost, 1000);
}

#[test]
fn a_mark_that_is_not_durable_is_seen() {
    accused(Bug::MarkInCache, 1000);
}

#[test]
fn regions_cleared_before_the_copy_is_on_media_are_seen() {
    accused(Bug::ResyncFlushLies, 20);
}

#[test]
fn a_copy_that_never_reaches_a_site_is_seen() {
    accused(Bug::CopyLost, 20);
}

#[test]
fn a_write_that_lands_after_it_was_given_up_is_seen() {
    accused(Bug::ZombieLands, 20);
}

#[test]
fn a_replaced_disk_that_passes_for_the_old_one_is_seen() {
    // A machine that can't tell disks apart gets stuck, too.
    let mut seen = (0..1000).filter_map(|at| runs::seed(at, None, Some(Bug::OldIdentity)).err());
    assert!(seen.any(|failure| matches!(failure.violation, Violation::Stranger { .. })));
}

#[test]
fn a_site_that_is_said_to_be_consistent_and_is_not_is_seen() {
    let seen = accused(Bug::ClaimsConsistent, 20);
    assert!(matches!(seen, Violation::Unsynced { .. } | Violation::Order { .. }), "{seen}");
}

#[test]
fn a_site_that_is_said_to_be_in_force_and_is_not_is_seen() {
    let seen = accused(Bug::ClaimsInForce, 20);
    let is_it = matches!(
        seen,
        Violation::OverLimit { .. } | Violation::SyncAck { .. } | Violation::FalselyInForce { .. }
    );
    assert!(is_it, "{seen}");
}

#[test]
fn a_limit_that_is_not_heeded_is_seen() {
    assert!(matches!(accused(Bug::LimitIgnored, 20), Violation::OverLimit { .. }));
}

#[test]
fn a_sync_site_that_nobody_waits_for_is_seen() {
    let seen = accused(Bug::SyncIgnored, 20);
    let is_it = matches!(seen, Violation::SyncAck { .. } | Violation::FalselyInForce { .. });
    assert!(is_it, "{seen}");
}

#[test]
fn writers_that_wait_for_a_site_though_the_table_does_not_say_so_are_seen() {
    let seen = accused(Bug::Stalls, 1000);
    assert!(matches!(seen, Violation::Stall { .. } | Violation::Stuck { .. }), "{seen}");
}

#[test]
fn no_promise_is_broken_by_a_cut_in_a_scenario_of_outages() {
    for scenario in scenario::all() {
        let swept = runs::scenario(&scenario, 31, 0, 1);
        let tally = swept.unwrap_or_else(|failure| panic!("{failure}"));
        assert!(tally.recoveries > 30, "{}: {tally:?}", scenario.name);
    }
}

#[test]
fn no_promise_is_broken_by_a_second_cut_inside_a_resync() {
    for scenario in scenario::all().iter().filter(|scenario| scenario.name == "overflow") {
        let swept = runs::scenario(scenario, 211, 11, 2);
        let tally = swept.unwrap_or_else(|failure| panic!("{failure}"));
        assert!(tally.repeated > 100 && tally.met.resyncs > 100, "{tally:?}");
    }
}

#[test]
fn no_promise_is_broken_by_what_befalls_a_site_in_a_scenario_of_outages() {
    for scenario in scenario::all() {
        let struck = runs::strikes(&scenario, 29, 1);
        let tally = struck.unwrap_or_else(|failure| panic!("{failure}"));
        assert!(tally.met.converged > 5, "{}: {tally:?}", scenario.name);
    }
}

#[test]
fn no_promise_is_broken_by_a_cut_while_the_log_is_lost() {
    for scenario in scenario::losses() {
        let swept = runs::scenario(&scenario, 17, 0, 1);
        let tally = swept.unwrap_or_else(|failure| panic!("{failure}"));
        let Met { bypassed, replaced_logs, .. } = tally.met;
        assert!(bypassed > 10 && replaced_logs > 10, "{}: {tally:?}", scenario.name);
    }
}

#[test]
fn no_promise_is_broken_by_a_second_cut_while_the_log_is_lost() {
    for scenario in scenario::losses().iter().take(2) {
        let swept = runs::scenario(scenario, 101, 13, 2);
        let tally = swept.unwrap_or_else(|failure| panic!("{failure}"));
        assert!(tally.repeated > 100 && tally.met.bypassed > 100, "{}: {tally:?}", scenario.name);
    }
}

#[test]
fn no_promise_is_broken_by_a_log_that_is_lost_at_any_point() {
    // Where the LD was lost first, everything is held until another life finds the log.
    for scenario in scenario::all().into_iter().chain(scenario::losses()) {
        let struck = runs::log_losses(&scenario, 61, 1);
        let tally = struck.unwrap_or_else(|failure| panic!("{failure}"));
        assert!(tally.met.bypassed > 0, "{}: {tally:?}", scenario.name);
    }
}

#[test]
fn random_lives_meet_logs_that_are_lost_and_replaced() {
    let (tally, failure) = runs::seeds(2000..2150, None);
    assert_eq!(failure, None, "{}", failure.as_ref().unwrap());
    assert!(tally.met.bypassed > 5 && tally.met.replaced_logs > 2, "{}", tally.met);
}
