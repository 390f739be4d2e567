//! Runs of the engine itself: one seed, many seeds, the sweep.

use std::cell::Cell;
use std::rc::Rc;

use blk::{Sectors, Span};
use replicator::Replicator;

use crate::bugs::{Bug, Buggy};
use crate::disk::Keep;
use crate::engine;
use crate::less::{Less, Part, Sieve};
use crate::oracle::Violation;
use crate::rig::{Failure, Rig, Tally};
use crate::scenario::Scenario;
use crate::swarm::{Broken, Swarm};
use crate::sweep::{CUTS, Found, Sweep, script};
use crate::topology::{Role, Topology};
use crate::workload::Workload;
use crate::world::Host;
use crate::world::weather::{Trouble, Whom};

/// One random life, or what is left of it.
#[derive(Clone, Debug, Default)]
pub struct Seed {
    /// The seed.
    pub seed: u64,
    /// Requests of all its lives together, instead of what the seed draws.
    pub requests: Option<u64>,
    /// A planted bug.
    pub bug: Option<Bug>,
    /// What is left out.
    pub less: Less,
    /// Tell on standard error what happens.
    pub trace: bool,
}

impl Seed {
    /// The whole life that belongs to `seed`.
    #[must_use]
    pub fn new(seed: u64, bug: Option<Bug>) -> Self {
        Self { seed, bug, ..Self::default() }
    }

    /// Lives it.
    ///
    /// # Errors
    /// The first broken promise.
    pub fn live(&self) -> Result<Tally, Failure> {
        self.live_by(&Rc::new(Sieve::new(self.less.clone())))
    }

    /// The same by a sieve that leaves out what `self` does; it counts what was met.
    ///
    /// # Errors
    /// The first broken promise.
    pub fn live_by(&self, sieve: &Rc<Sieve>) -> Result<Tally, Failure> {
        let alive = std::panic::AssertUnwindSafe(|| self.alive(sieve));
        std::panic::catch_unwind(alive).unwrap_or_else(|panic| {
            let what = panic.downcast_ref::<String>().cloned();
            let what = what.or_else(|| panic.downcast_ref::<&str>().map(|&what| what.to_owned()));
            let violation = Violation::Panicked { what: what.unwrap_or_default() };
            let life = sieve.met(Part::Life).saturating_sub(1);
            Err(self.failure(Broken { violation, life }, &Swarm::new(self.seed).0))
        })
    }

    fn alive(&self, sieve: &Rc<Sieve>) -> Result<Tally, Failure> {
        let (topology, mut swarm) = Swarm::new(self.seed);
        let topology = self.less.of_topology(topology);
        if let Some(requests) = self.requests {
            swarm = swarm.with_requests(requests);
        }
        let bug = self.bug;
        let open = |host: &Host| {
            let misread = Bug::misread(bug, host.topology());
            Buggy::new(engine::open(&misread, host), bug, host.topology())
        };
        let rig: Rig<'_, Buggy<Replicator>> =
            Rig { topology: topology.clone(), open: &open, trace: self.trace, watch: &|_| {} };
        let lived = swarm.sifted(Rc::clone(sieve)).run(&rig);
        lived.map_err(|broken| self.failure(broken, &topology))
    }

    /// The words of the command line that live it again.
    #[must_use]
    pub fn command(&self) -> String {
        let requests = self.requests.map(|n| format!(" --requests {n}")).unwrap_or_default();
        let bug = self.bug.map(|bug| format!(" --bug {bug:?}")).unwrap_or_default();
        format!("seed {}{requests}{bug}{}", self.seed, self.less)
    }

    fn failure(&self, broken: Broken, topology: &Topology) -> Failure {
        let table = engine::table_text(topology);
        Failure {
            violation: broken.violation,
            place: format!("life {} of {}", broken.life, table.trim().replace('\n', " ; ")),
            reproduce: format!("cargo run -p sim --release -- {}", self.command()),
        }
    }
}

/// Lives one seed.
///
/// # Errors
/// The first broken promise.
pub fn seed(seed: u64, requests: Option<u64>, bug: Option<Bug>) -> Result<Tally, Failure> {
    Seed { requests, ..Seed::new(seed, bug) }.live()
}

/// What lives must meet now and then, or they prove little.
#[derive(Clone, Copy, Debug, Default)]
pub struct Marks {
    /// Lives whose log went around its ring.
    pub wrapped: u64,
    /// Lives in which a write found the ring full.
    pub ring_full: u64,
    /// Lives in which a write found the RAM tail full.
    pub tail_full: u64,
    /// Lives that recovered writes from the log.
    pub recovered: u64,
}

/// Lives one seed and notes what it met.
///
/// # Errors
/// The first broken promise.
pub fn marked(at: u64, marks: &Cell<Marks>) -> Result<Tally, Failure> {
    let (topology, swarm) = Swarm::new(at);
    let open = |host: &Host| engine::open(host.topology(), host);
    let watch = |machine: &Replicator| {
        let Some(log) = machine.log() else { return };
        let (met, counters) = (marks.get(), log.counters());
        marks.set(Marks {
            wrapped: met.wrapped + u64::from(counters.log_bytes > log.geometry().ring_bytes()),
            ring_full: met.ring_full + u64::from(counters.ring_full > 0),
            tail_full: met.tail_full + u64::from(counters.tail_full > 0),
            recovered: met.recovered + u64::from(log.written().0 > counters.writes),
        });
    };
    let rig = Rig { topology: topology.clone(), open: &open, trace: false, watch: &watch };
    swarm.run(&rig).map_err(|broken| Seed::new(at, None).failure(broken, &topology))
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
    let mut tally = Tally::default();
    for seed in 0..SWEPT {
        tally += sweep_slice(stride, inside, seed, (0, 1))?;
    }
    Ok(tally)
}

/// A slice of that: of the run with this seed, each `slice.1`-th cut from the `slice.0`-th on.
///
/// # Errors
/// The first broken promise.
pub fn sweep_slice(
    stride: u64,
    inside: u64,
    seed: u64,
    slice: (u64, u64),
) -> Result<Tally, Failure> {
    let topology = Topology::plain(&[Sectors(16), Sectors(16)], &[false, false, false], 512);
    let script = Workload::batches(script());
    let open = |host: &Host| engine::open(host.topology(), host);
    let whole = sweep_of(&topology, &script, &open, (stride, inside, seed));
    let again = format!("sweep --stride {stride} --inside {inside}");
    Sweep { slice, ..whole }.run().map_err(|found| of_sweep(*found, &again))
}

/// The same with a scenario of outages, `seed` by `seed`.
///
/// # Errors
/// The first broken promise.
pub fn scenario(
    scenario: &Scenario,
    stride: u64,
    inside: u64,
    seed: u64,
) -> Result<Tally, Failure> {
    let name = scenario.name;
    let again = format!("scenario {name} --stride {stride} --inside {inside} --seed {seed}");
    sweep_one(&scenario.topology, &scenario.script, (stride, inside, seed), &again)
}

/// Has something befall the site of a scenario at every `stride`-th point.
///
/// # Errors
/// The first broken promise.
pub fn strikes(scenario: &Scenario, stride: u64, seed: u64) -> Result<Tally, Failure> {
    let (topology, script) = (&scenario.topology, &scenario.script);
    let again = format!("scenario {} --strike --stride {stride} --seed {seed}", scenario.name);
    let open = |host: &Host| engine::open(host.topology(), host);
    let sweep = sweep_of(topology, script, &open, (stride, 0, seed));
    let swept = sweep.strike(scenario.whom, &TROUBLES, &SPANS);
    swept.map_err(|found| of_sweep(*found, &again))
}

/// Has the log lost at every `stride`-th point of a scenario.
///
/// # Errors
/// The first broken promise.
pub fn log_losses(scenario: &Scenario, stride: u64, seed: u64) -> Result<Tally, Failure> {
    let (topology, script) = (&scenario.topology, &scenario.script);
    let again = format!("scenario {} --log --stride {stride} --seed {seed}", scenario.name);
    let open = |host: &Host| engine::open(host.topology(), host);
    let sweep = sweep_of(topology, script, &open, (stride, 0, seed));
    let troubles = [Trouble::Fails, Trouble::Hangs, Trouble::Absent];
    let swept = sweep.strike(Whom::Disk(Role::Log), &troubles, &SPANS);
    swept.map_err(|found| of_sweep(*found, &again))
}

fn sweep_one(
    topology: &Topology,
    script: &Workload,
    how: (u64, u64, u64),
    again: &str,
) -> Result<Tally, Failure> {
    let open = |host: &Host| engine::open(host.topology(), host);
    sweep_of(topology, script, &open, how).run().map_err(|found| of_sweep(*found, again))
}

fn sweep_of<'a>(
    topology: &Topology,
    script: &Workload,
    open: &'a dyn Fn(&Host) -> Replicator,
    (stride, stride_inside, seed): (u64, u64, u64),
) -> Sweep<'a, Replicator> {
    Sweep {
        rig: Rig { topology: topology.clone(), open, trace: false, watch: &|_| {} },
        script: script.clone(),
        cuts: CUTS.to_vec(),
        cuts_inside: CUTS.to_vec(),
        stride,
        stride_inside,
        seed,
        slice: (0, 1),
    }
}

fn of_sweep(found: Found, again: &str) -> Failure {
    Failure {
        violation: found.violation,
        place: format!("at {:?}", found.at),
        reproduce: format!("cargo run -p sim --release -- {again}"),
    }
}

/// Runs of the script with other chances: a sweep of one run cuts it as it happened to go.
pub(crate) const SWEPT: u64 = 3;
/// What befalls a site in a sweep, in turn.
const TROUBLES: [Trouble; 6] = [
    Trouble::PowerLost(Keep::None),
    Trouble::PowerLost(Keep::Any { torn: false }),
    Trouble::Hangs,
    Trouble::Fails,
    Trouble::Absent,
    Trouble::MediaLost,
];
/// For how long, in turn.
const SPANS: [Span; 3] = [Span::from_millis(3), Span::from_millis(250), Span::from_secs(2)];
