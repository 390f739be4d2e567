//! Runs of the engine itself: one seed, many seeds, the sweep.

use blk::Sectors;
use replicator::Replicator;

use crate::bugs::{Bug, Buggy};
use crate::engine;
use crate::rig::{Failure, Rig, Tally};
use crate::swarm::Swarm;
use crate::sweep::{CUTS, Sweep, script};
use crate::topology::Topology;

/// Lives one seed.
///
/// # Errors
/// The first broken promise.
pub fn seed(seed: u64, requests: Option<u64>, bug: Option<Bug>) -> Result<Tally, Failure> {
    let (topology, mut swarm) = Swarm::new(seed);
    if let Some(requests) = requests {
        swarm = swarm.with_requests(requests);
    }
    let open = |_| Buggy::new(engine::open(&topology), bug, &topology);
    let rig: Rig<'_, Buggy<Replicator>> = Rig { topology: topology.clone(), open: &open };
    swarm.run(&rig).map_err(|broken| Failure {
        violation: broken.violation,
        place: format!("life {} of {topology:?}", broken.life),
        reproduce: reproduce(seed, requests, bug),
    })
}

/// Lives many seeds, up to the first broken promise.
pub fn seeds(seeds: impl IntoIterator<Item = u64>, bug: Option<Bug>) -> (Tally, Option<Failure>) {
    let mut tally = Tally::default();
    for at in seeds {
        match seed(at, None, bug) {
            Ok(one) => tally += one,
            Err(failure) => return (tally, Some(failure)),
        }
    }
    (tally, None)
}

/// Cuts the script of two devices and two remote sites after every `stride`-th effect,
/// and each recovery after every `inside`-th.
///
/// # Errors
/// The first broken promise.
pub fn sweep(stride: u64, inside: u64) -> Result<Tally, Failure> {
    let topology = Topology {
        devices: vec![Sectors(16), Sectors(16)],
        sync: vec![false, false, false],
        log: Sectors(4096),
        logical_block: 512,
    };
    let open = |_| engine::open(&topology);
    let sweep = Sweep {
        rig: Rig { topology: topology.clone(), open: &open },
        script: script(),
        cuts: CUTS.to_vec(),
        cuts_inside: CUTS.to_vec(),
        stride,
        stride_inside: inside,
    };
    sweep.run().map_err(|found| Failure {
        violation: found.violation,
        place: format!("first cut {:?}, cut inside its recovery {:?}", found.first, found.inside),
        reproduce: format!(
            "cargo run -p sim --release -- sweep --stride {stride} --inside {inside}"
        ),
    })
}

fn reproduce(seed: u64, requests: Option<u64>, bug: Option<Bug>) -> String {
    let requests = requests.map(|requests| format!(" --requests {requests}"));
    let bug = bug.map(|bug| format!(" --bug {bug:?}"));
    let (requests, bug) = (requests.unwrap_or_default(), bug.unwrap_or_default());
    format!("cargo run -p sim --release -- seed {seed}{requests}{bug}")
}
