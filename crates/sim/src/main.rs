//! `sim`: the replicator in simulated worlds, from the command line.
//!
//! ```text
//! sim seed N [--requests R] [--without WHAT]... [--dice N] [--bug NAME] [--trace]
//!                                            one random life; shows a broken promise again
//! sim shrink N [--seconds S] [...]           makes it smaller, while it breaks the same promise
//! sim run --seeds A..B [--seconds S]         many of them
//! sim prove [--points N] [--cuts N]          a sweep, scenarios, and random lives until so much was done
//! sim coverage --seeds A..B                  what lives have come through, and what they have not
//! sim sweep [--stride N] [--inside N]        a script, cut after every effect
//! sim scenario [NAME] [--strike | --log] [...]      the same with outages
//! ```

use std::ops::Range;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use sim::bugs::Bug;
use sim::coverage;
use sim::less::Less;
use sim::prove::{Plan, Promise, Work};
use sim::rig::{Failure, Tally};
use sim::runs::{self, Seed};
use sim::scenario::{self, Scenario};
use sim::shrink;

/// The replicator in simulated worlds: crashes, power cuts and an oracle.
#[derive(Parser)]
#[command(version, about)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Live one random life; prints what promise it broke, if any.
    Seed {
        /// The seed.
        seed: u64,
        /// Requests of all its lives together, instead of what the seed draws.
        #[arg(long)]
        requests: Option<u64>,
        /// Leave something out: outages, outages:3, requests:0..17,20..
        #[arg(long)]
        without: Vec<Less>,
        /// Other dice for how long things take.
        #[arg(long, default_value_t = 0)]
        dice: u64,
        /// Plant a bug.
        #[arg(long, value_parser = bug)]
        bug: Option<Bug>,
        /// Tell on standard error what happens.
        #[arg(long)]
        trace: bool,
    },
    /// Leave out of a life that breaks a promise what it can do without.
    Shrink {
        /// The seed.
        seed: u64,
        /// Stop after so many seconds.
        #[arg(long, default_value_t = 300)]
        seconds: u64,
        /// Requests of all its lives together, instead of what the seed draws.
        #[arg(long)]
        requests: Option<u64>,
        /// Leave something out from the beginning.
        #[arg(long)]
        without: Vec<Less>,
        /// Plant a bug.
        #[arg(long, value_parser = bug)]
        bug: Option<Bug>,
    },
    /// Live many random lives.
    Run {
        /// The seeds, first..end.
        #[arg(long, value_parser = range, default_value = "0..1000")]
        seeds: Range<u64>,
        /// Stop after so many seconds.
        #[arg(long)]
        seconds: Option<u64>,
        /// Go on behind broken promises, and tell them all.
        #[arg(long)]
        all: bool,
        /// Plant a bug.
        #[arg(long, value_parser = bug)]
        bug: Option<Bug>,
    },
    /// Do as much as is promised, on all cores: a sweep, scenarios, and random lives.
    Prove {
        /// The seeds of the random lives, first..end.
        #[arg(long, value_parser = range, default_value = "0..1000000000")]
        seeds: Range<u64>,
        /// Points that all has to come to.
        #[arg(long, default_value_t = 50_000_000)]
        points: u64,
        /// Power cuts that all has to come to.
        #[arg(long, default_value_t = 180_000)]
        cuts: u64,
        /// Cut recoveries of the sweep at each so-many-th point; 0 leaves them out.
        #[arg(long, default_value_t = 6)]
        inside: u64,
        /// Cut scenarios at each so-many-th point.
        #[arg(long, default_value_t = 5)]
        stride: u64,
        /// So many at a time, instead of as many as there are cores.
        #[arg(long)]
        threads: Option<usize>,
    },
    /// Live random lives, and tell what they came through, and how often; `-` is what they could
    /// have and did not.
    Coverage {
        /// The seeds, first..end.
        #[arg(long, value_parser = range, default_value = "1000..1300")]
        seeds: Range<u64>,
    },
    /// Cut a script, and its recoveries, after every effect.
    Sweep {
        /// Cut at every N-th point only.
        #[arg(long, default_value_t = 1)]
        stride: u64,
        /// The same inside recoveries; 0 leaves them out.
        #[arg(long, default_value_t = 1)]
        inside: u64,
    },
    /// The same with scenarios of outages; or something befalls the site at every point.
    Scenario {
        /// Which one; all if none is named.
        name: Option<String>,
        /// At every N-th point only.
        #[arg(long, default_value_t = 1)]
        stride: u64,
        /// The same inside recoveries; 0 leaves them out.
        #[arg(long, default_value_t = 0)]
        inside: u64,
        /// What is up to chance.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// The machine lives on, and its site is struck.
        #[arg(long)]
        strike: bool,
        /// The machine lives on, and its log is lost.
        #[arg(long)]
        log: bool,
    },
}

fn main() -> ExitCode {
    let start = Instant::now();
    let (tally, failure) = match Args::parse().command {
        Command::Seed { seed, requests, without, dice, bug, trace } => {
            let less = without.into_iter().collect::<Less>().with_dice(dice);
            split(Seed { seed, requests, bug, less, trace }.live())
        }
        Command::Shrink { seed, seconds, requests, without, bug } => {
            let less = without.into_iter().collect();
            let seed = Seed { seed, requests, bug, less, trace: false };
            return shrunk(&seed, Duration::from_secs(seconds));
        }
        Command::Prove { seeds, points, cuts, inside, stride, threads } => {
            let cores = || std::thread::available_parallelism().map_or(1, usize::from);
            let promise = Promise { points, power_cuts: cuts };
            let threads = threads.unwrap_or_else(cores);
            return proved(&Plan { promise, seeds, inside, stride }, threads);
        }
        Command::Coverage { seeds } => match coverage::of(seeds) {
            Ok((seen, tally)) => {
                print!("{}", coverage::table(&seen));
                (tally, None)
            }
            Err(failure) => (Tally::default(), Some(failure)),
        },
        Command::Run { seeds, seconds, all, bug } => {
            let until = seconds.map(|seconds| start + Duration::from_secs(seconds));
            let mut seeds = seeds.take_while(|_| until.is_none_or(|until| Instant::now() < until));
            if all { every(seeds, bug) } else { runs::seeds(&mut seeds, bug) }
        }
        Command::Sweep { stride, inside } => split(runs::sweep(stride, inside)),
        Command::Scenario { name, stride, inside, seed, strike, log } => {
            scenarios(name.as_deref(), |scenario| match (strike, log) {
                (true, _) => runs::strikes(scenario, stride, seed),
                (_, true) => runs::log_losses(scenario, stride, seed),
                (false, false) => runs::scenario(scenario, stride, inside, seed),
            })
        }
    };
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{} points, {} kills, {} power cuts, {} recoveries, {} repeated, {} rotten logs refused, \
         {} drains, {:.0} points/s, digest {:016x}",
        tally.points,
        tally.kills,
        tally.power_cuts,
        tally.recoveries,
        tally.repeated,
        tally.refused,
        tally.settled,
        tally.points as f64 / seconds,
        tally.digest,
    );
    println!("{}", tally.met);
    match failure {
        None => ExitCode::SUCCESS,
        Some(failure) => {
            println!("{failure}");
            ExitCode::FAILURE
        }
    }
}

/// Lives all these seeds, and tells each broken promise as it is seen.
fn every(seeds: impl Iterator<Item = u64>, bug: Option<Bug>) -> (Tally, Option<Failure>) {
    let (mut tally, mut last) = (Tally::default(), None);
    for seed in seeds {
        let (one, failure) = runs::seeds([seed], bug);
        tally += one;
        if let Some(failure) = failure {
            println!("{failure}");
            last = Some(failure);
        }
    }
    (tally, last)
}

/// Runs these scenarios, and tells each broken promise as it is seen.
fn scenarios(
    name: Option<&str>,
    run: impl Fn(&Scenario) -> Result<Tally, Failure>,
) -> (Tally, Option<Failure>) {
    let (mut tally, mut last) = (Tally::default(), None);
    for scenario in scenario::all().into_iter().chain(scenario::losses()) {
        if name.is_some_and(|name| name != scenario.name) {
            continue;
        }
        match run(&scenario) {
            Ok(one) => {
                println!("{}: {} points, {} recoveries", scenario.name, one.points, one.recoveries);
                tally += one;
            }
            Err(failure) => {
                println!("{failure}");
                last = Some(failure);
            }
        }
    }
    (tally, last)
}

/// Does what is promised, so many threads at a time, and says what was done.
fn proved(plan: &Plan, threads: usize) -> ExitCode {
    let (began, work) = (Instant::now(), Mutex::new(Work::new(plan)));
    // Who panics has said so, and what he did does not count.
    let lock = || work.lock().unwrap_or_else(PoisonError::into_inner);
    let works = || {
        let next = || lock().next_task();
        while let Some(task) = next() {
            let done = task.run();
            lock().end(&task, done);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(works);
        }
    });
    let work = lock();
    println!("{}", work.report(began.elapsed().as_secs_f64(), threads));
    if let Some(failure) = work.failure() {
        println!("{failure}");
    }
    if work.is_done() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Says what can be left out of a life that breaks a promise, and how to live the rest.
fn shrunk(seed: &Seed, patience: Duration) -> ExitCode {
    // Panics are what is looked for.
    std::panic::set_hook(Box::new(|_| {}));
    let until = Instant::now() + patience;
    let Some(shrunk) = shrink::shrink(seed, &|| Instant::now() < until) else {
        println!("{}: no promise is broken", seed.command());
        return ExitCode::SUCCESS;
    };
    println!("it was: {}", shrunk.before);
    println!("it is, after {} tries: {}", shrunk.tries, shrunk.after);
    println!("{}", shrunk.failure);
    ExitCode::FAILURE
}

fn split(result: Result<Tally, Failure>) -> (Tally, Option<Failure>) {
    match result {
        Ok(tally) => (tally, None),
        Err(failure) => (Tally::default(), Some(failure)),
    }
}

fn range(text: &str) -> Result<Range<u64>, String> {
    let (first, end) = text.split_once("..").ok_or("expected FIRST..END")?;
    let number = |text: &str| text.parse().map_err(|_| format!("{text:?} is no number"));
    Ok(number(first)?..number(end)?)
}

fn bug(text: &str) -> Result<Bug, String> {
    let found = Bug::ALL.into_iter().find(|bug| format!("{bug:?}").eq_ignore_ascii_case(text));
    found.ok_or_else(|| format!("expected one of {:?}", Bug::ALL))
}
