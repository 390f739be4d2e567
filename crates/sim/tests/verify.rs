//! Comparisons of sites in the simulated world: what has rotted is found and mended, and
//! nothing else is found.

use blk::{Sectors, Span};
use sim::engine;
use sim::rng::Rng;
use sim::runs;
use sim::topology::Topology;
use sim::workload::Workload;
use sim::world::{Halt, Host, World};

const MINUTE: Span = Span::from_secs(60);

#[test]
fn nothing_is_found_in_random_lives() {
    let (tally, failure) = runs::seeds(5000..5100, None);
    assert_eq!(failure, None, "{}", failure.as_ref().unwrap());
    assert!(tally.met.verified > 100, "{}", tally.met);
}

#[test]
fn what_has_rotted_at_a_site_is_found_and_mended_while_it_is_written_to() {
    let mut found = 0;
    for seed in 0..40 {
        let mut rng = Rng::new(seed);
        let topology = Topology::plain(&[Sectors(512), Sectors(96)], &[false, false], 512);
        let host = Host::new(&topology);
        let machine = engine::open(&topology, &host);
        let workload = Workload::mixed(&topology, 200, Sectors(64), &mut rng);
        let mut world = World::start(host, machine, workload, rng.fork());
        assert_eq!(world.open(), Ok(Halt::Done));
        assert_eq!(world.work(), Ok(Halt::Done));
        world.idle(Span::from_secs(5)).unwrap();
        let rotten = world.rot(1, 7, &mut rng);
        world.verify(1, false, MINUTE).unwrap();
        let told = world.differing(1);
        assert!(
            told > 0 && told <= rotten as u64,
            "seed {seed}: {told} ranges of {rotten} sectors"
        );
        found += told;
        world.verify(1, true, MINUTE).unwrap();
        assert_eq!(world.differing(1), told, "seed {seed}: nothing was mended yet");
        // Every leg equals the model.
        assert_eq!(world.converge(), Ok(Halt::Done), "seed {seed}");
        world.verify(1, false, MINUTE).unwrap();
        assert_eq!(world.differing(1), 0, "seed {seed}");
    }
    assert!(found > 40);
}
