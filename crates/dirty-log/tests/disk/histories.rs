//! Whatever happens in whatever order, and whenever the power fails: what was dirty and
//! settled, and was not cleared since, is dirty afterwards.

use std::collections::BTreeMap;

use crate::world::World;

/// Two sectors with their bits in one block, one with its bit in another.
const SECTORS: [u64; 3] = [5, 31_743, 31_744 + 69];

#[derive(Clone, Copy, Debug)]
enum Step {
    Mark(usize),
    Clear(usize),
    /// The next I/O is asked for.
    Poll,
    /// The oldest, or the newest one in flight ends.
    End(bool),
    Begin,
    /// The daemon dies, and the next one loads what the last settled session left.
    Restart,
    /// The power fails, and takes from each block what it can.
    PowerCut(u8),
}

/// A dirty log, and what it owes.
#[derive(Clone)]
struct History {
    world: World,
    session: u64,
    /// The session that the log's superblock would name.
    durable_session: u64,
    /// Which of the sectors are to be dirty after a crash, by the session that is loaded then.
    owed: BTreeMap<u64, [bool; 3]>,
}

impl History {
    fn new() -> Self {
        let mut history = Self {
            world: World::begun(2, 1),
            session: 1,
            durable_session: 1,
            owed: BTreeMap::new(),
        };
        history.note();
        history
    }

    /// Whether the step meant anything.
    fn take(&mut self, step: Step) -> bool {
        let world = &mut self.world;
        match step {
            Step::Mark(i) if world.is_dirty(SECTORS[i]) => return false,
            Step::Clear(i) if !world.is_dirty(SECTORS[i]) => return false,
            Step::End(newest) if world.flights.len() <= usize::from(newest) => return false,
            Step::Mark(i) => world.mark(SECTORS[i]),
            Step::Clear(i) => {
                world.clear(SECTORS[i]);
                self.owed.values_mut().for_each(|owed| owed[i] = false);
            }
            Step::Poll => return world.poll(),
            Step::End(newest) => {
                let index = if newest { world.flights.len() - 1 } else { 0 };
                world.end(index, Ok(()));
            }
            Step::Begin => {
                self.session += 1;
                world.log.begin(crate::world::LOG, self.session);
            }
            Step::Restart => {
                world.restart();
                self.reload();
            }
            Step::PowerCut(choice) => {
                for nr in 0..2 {
                    let mut outcomes = world.after_a_crash(nr);
                    let outcome = outcomes.swap_remove(usize::from(choice) % outcomes.len());
                    world.disk.stable[nr] = outcome;
                    world.disk.cache[nr].clear();
                }
                world.flights.clear();
                world.restart();
                self.reload();
            }
        }
        self.note();
        true
    }

    fn reload(&mut self) {
        self.session = self.durable_session;
        self.world.load(self.session);
        let owed = self.owed[&self.session];
        for (sector, owed) in SECTORS.into_iter().zip(owed) {
            assert!(!owed || self.world.is_dirty(sector), "sector {sector} came back clean");
        }
    }

    /// What is dirty and settled now is owed from now on.
    fn note(&mut self) {
        if self.world.log.is_settled() {
            self.durable_session = self.session;
            self.owed.insert(self.session, SECTORS.map(|sector| self.world.is_dirty(sector)));
        }
    }

    /// Every loss and every tear of every block that is not flushed.
    fn check(&self, steps: &[Step]) {
        for nr in 0..2 {
            for block in self.world.after_a_crash(nr) {
                for (&session, owed) in &self.owed {
                    let of_block = |i: &usize| SECTORS[*i] / 31_744 == nr as u64;
                    for i in (0..3).filter(|i| owed[*i]).filter(of_block) {
                        let dirty = self.world.says_dirty(&block, session, SECTORS[i]);
                        assert!(dirty, "sector {} is lost by {steps:?}", SECTORS[i]);
                    }
                }
            }
        }
    }
}

/// Each history is looked at after each of its steps, as if the power failed there.
fn explore(history: &History, steps: &mut Vec<Step>, depth: usize, seen: &mut usize) {
    *seen += 1;
    history.check(steps);
    if depth == 0 {
        return;
    }
    let all = (0..3).map(Step::Mark).chain((0..3).map(Step::Clear)).chain([
        Step::Poll,
        Step::End(false),
        Step::End(true),
        Step::Begin,
        Step::Restart,
    ]);
    for step in all {
        let mut next = history.clone();
        if next.take(step) {
            steps.push(step);
            explore(&next, steps, depth - 1, seen);
            steps.pop();
        }
    }
}

#[test]
fn no_short_history_loses_a_mark_that_was_settled() {
    let mut seen = 0;
    explore(&History::new(), &mut vec![], 6, &mut seen);
    assert!(seen > 20_000, "{seen} histories");
}

/// The same from where one mark has been settled: all that can happen to it.
#[test]
fn no_short_history_of_a_settled_mark_loses_it() {
    let mut history = History::new();
    let mut steps = vec![Step::Mark(0), Step::Poll, Step::End(false), Step::Poll, Step::End(false)];
    for step in &steps {
        assert!(history.take(*step));
    }
    assert!(history.world.log.is_settled());
    explore(&history, &mut steps, 6, &mut 0);
}

#[test]
fn no_long_history_loses_a_mark_that_was_settled() {
    for seed in 0..400 {
        let mut random = Random(seed);
        let mut history = History::new();
        let mut steps = vec![];
        for _ in 0..120 {
            let step = random.step();
            if history.take(step) {
                steps.push(step);
                history.check(&steps);
            }
        }
        history.world.settle();
    }
}

/// Xorshift: the same histories on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = (self.0 ^ 0x9E37_79B9_7F4A_7C15).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        self.0 ^= self.0 >> 29;
        self.0 % end
    }

    fn step(&mut self) -> Step {
        match self.below(40) {
            0..8 => Step::Mark(self.below(3) as usize),
            8..14 => Step::Clear(self.below(3) as usize),
            14..24 => Step::Poll,
            24..34 => Step::End(self.below(2) == 1),
            34..36 => Step::Begin,
            36..38 => Step::Restart,
            _ => Step::PowerCut(self.below(256) as u8),
        }
    }
}
