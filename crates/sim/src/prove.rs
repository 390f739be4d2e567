//! As much of everything as is promised: a sweep, scenarios, and random lives until enough was
//! done; in tasks that share nothing, so that several can do it.

use std::collections::VecDeque;
use std::ops::Range;

use crate::rig::{Failure, Tally};
use crate::runs::{self, SWEPT};
use crate::scenario::{self, Scenario};

/// How much is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promise {
    /// Points: effects carried out and operations ended.
    pub points: u64,
    /// Power cuts, each with a recovery that is judged or ends the life.
    pub power_cuts: u64,
}

/// How it is to be done.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What is promised.
    pub promise: Promise,
    /// Whose lives, as many as it takes.
    pub seeds: Range<u64>,
    /// Into how many recoveries of the sweep a second cut comes: each so-many-th point.
    pub inside: u64,
    /// At each so-many-th point scenarios are cut.
    pub stride: u64,
}

/// Something that one of them does alone.
pub enum Task {
    /// A slice of the sweep's run with this seed.
    Slice {
        /// See [`Plan`].
        inside: u64,
        /// The seed.
        seed: u64,
        /// See [`runs::sweep_slice`].
        slice: (u64, u64),
    },
    /// A scenario, cut everywhere.
    Scenario {
        /// Which one.
        scenario: Box<Scenario>,
        /// See [`Plan`].
        stride: u64,
    },
    /// A random life.
    Life(u64),
}

impl Task {
    /// Does it.
    ///
    /// # Errors
    /// The first broken promise.
    pub fn run(&self) -> Result<Tally, Failure> {
        match self {
            Self::Slice { inside, seed, slice } => runs::sweep_slice(1, *inside, *seed, *slice),
            Self::Scenario { scenario, stride } => runs::scenario(scenario, *stride, 0, 1),
            Self::Life(seed) => runs::seed(*seed, None, None),
        }
    }

    fn part(&self) -> usize {
        match self {
            Self::Slice { .. } => 0,
            Self::Scenario { .. } => 1,
            Self::Life(_) => 2,
        }
    }
}

/// What is to be done, and was.
pub struct Work {
    promise: Promise,
    left: VecDeque<Task>,
    seeds: Range<u64>,
    first: u64,
    /// By the sweep, by scenarios, and by random lives.
    parts: [Tally; 3],
    lives: u64,
    failure: Option<Failure>,
}

impl Work {
    /// All of it is still to be done.
    #[must_use]
    pub fn new(plan: &Plan) -> Self {
        let slices = (0..SWEPT).flat_map(|seed| (0..SLICES).map(move |nth| (seed, nth)));
        let inside = plan.inside;
        let slices = slices.map(|(seed, nth)| Task::Slice { inside, seed, slice: (nth, SLICES) });
        let scenarios = scenario::all().into_iter().chain(scenario::losses());
        let stride = plan.stride;
        let scenarios = scenarios.map(|it| Task::Scenario { scenario: Box::new(it), stride });
        Self {
            promise: plan.promise,
            left: scenarios.chain(slices).collect(),
            seeds: plan.seeds.clone(),
            first: plan.seeds.start,
            parts: [Tally::default(); 3],
            lives: 0,
            failure: None,
        }
    }

    /// What somebody is to do next; nothing if enough was done, or a promise was broken.
    pub fn next_task(&mut self) -> Option<Task> {
        if self.failure.is_some() {
            return None;
        }
        if let Some(task) = self.left.pop_front() {
            return Some(task);
        }
        let is_enough = self.promise.is_kept_by(&sum(&self.parts));
        self.seeds.next().filter(|_| !is_enough).map(Task::Life)
    }

    /// What became of a task.
    pub fn end(&mut self, task: &Task, done: Result<Tally, Failure>) {
        self.lives += u64::from(matches!(task, Task::Life(_)));
        match done {
            Ok(tally) => self.parts[task.part()] += tally,
            Err(failure) => {
                self.failure.get_or_insert(failure);
            }
        }
    }
}

impl Promise {
    fn is_kept_by(self, tally: &Tally) -> bool {
        tally.points >= self.points && tally.power_cuts >= self.power_cuts
    }
}

fn sum(parts: &[Tally]) -> Tally {
    let mut all = Tally::default();
    parts.iter().for_each(|part| all += *part);
    all
}

impl Work {
    /// The first promise that was seen broken.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// Whether no promise was broken, and as much was done as was promised.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.failure.is_none() && self.promise.is_kept_by(&sum(&self.parts))
    }

    /// What was done, in so many seconds by so many threads.
    #[must_use]
    pub fn report(&self, seconds: f64, threads: usize) -> String {
        let all = sum(&self.parts);
        let names = ["sweep", "scenarios", "random lives", "all"];
        let mut report = String::new();
        for (name, tally) in names.iter().zip(self.parts.iter().chain([&all])) {
            let Tally { points, power_cuts, kills, recoveries, repeated, .. } = tally;
            report += &format!(
                "{name:12} {points:>10} points, {power_cuts:>7} power cuts, {kills:>6} kills, \
                 {recoveries:>7} recoveries, {repeated:>7} of them repeated\n"
            );
        }
        let speed = all.points as f64 / seconds;
        let Promise { points, power_cuts } = self.promise;
        let done = if self.is_done() { "done" } else { "NOT DONE" };
        report
            + &format!(
                "{} seeds from {} on; {}\n\
                 speed: {speed:.0} points a second for {seconds:.0} s, {:.0} on each of {threads} threads\n\
                 promised: {points} points and {power_cuts} power cuts: {done}",
                self.lives,
                self.first,
                all.met,
                speed / threads as f64
            )
    }
}

/// Into so many slices the sweep of each seed is cut: no thread waits long for another's.
const SLICES: u64 = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn work(points: u64, seeds: Range<u64>) -> Work {
        let promise = Promise { points, power_cuts: 100 };
        Work::new(&Plan { promise, seeds, inside: 0, stride: 500 })
    }

    fn done(mut work: Work) -> Work {
        while let Some(task) = work.next_task() {
            let done = task.run();
            work.end(&task, done);
        }
        work
    }

    #[test]
    fn seeds_are_lived_until_as_much_was_done_as_was_promised() {
        let work = done(work(250_000, 0..1000));
        let report = work.report(1.0, 1);
        assert!(work.is_done() && work.lives > 0 && work.lives < 1000, "{report}");
        assert!(work.parts.iter().all(|part| part.points > 0 && part.power_cuts > 0), "{report}");
        assert!(report.ends_with("power cuts: done"), "{report}");
    }

    #[test]
    fn a_run_that_ends_before_that_says_so() {
        let mut work = work(u64::MAX, 0..3);
        work.left.clear();
        let work = done(work);
        let report = work.report(1.0, 1);
        assert!(!work.is_done() && work.lives == 3, "{report}");
        assert!(report.ends_with("power cuts: NOT DONE"), "{report}");
    }

    #[test]
    fn slices_of_a_sweep_are_the_sweep() {
        let whole = runs::sweep_slice(7, 0, 1, (0, 1)).unwrap();
        let slice = |nth| runs::sweep_slice(7, 0, 1, (nth, 3)).unwrap();
        let slices = sum(&[slice(0), slice(1), slice(2)]);
        let count = |tally: &Tally| (tally.recoveries, tally.power_cuts, tally.kills);
        assert_eq!(count(&slices), count(&whole));
    }
}
