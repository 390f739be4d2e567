//! What the design has to reach on a device whose speed is limited, whatever the machine.
//!
//! ```text
//! 1 / (L + C)     acknowledged writes for each write of the raw device, at least, where
//!                 L is what a write costs at the log, C at the LD: in I/Os where the device's I/Os
//!                 are limited, in bytes where its bandwidth is
//! ```
//!
//! With b writes in a group L is 1/b, and C is 1 while the log is full: 1/2, 16/17, 32/33, 64/65 at
//! QD1, 16, 32, 64. In a burst C is 0, and the bandwidth is the limit: 10 times. A gate asks for
//! three percent less.
//!
//! Of the engine the best round counts: whatever else the machine does makes a round slower, never
//! faster, and a design that needs one more I/O has no good round. A gate that is not kept is tried
//! [`TRIES_MAX`] times for the same reason.

use std::fmt;

use crate::case::{Case, Pattern, Phase};
use crate::outcome::{Outcome, Slice};

/// A case, and the least ratio of engine to reference.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    pub(crate) case: Case,
    pub(crate) at_least: f64,
}

/// What came of a gate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Verdict {
    /// The best round reached it.
    Kept,
    /// No round did.
    Missed,
    /// The reference moved too much: nothing can be said.
    NotJudged,
}

/// On one device of 3000 I/Os and 125 MiB a second, which has the log and the data; remote sites
/// have another such device each.
pub(crate) fn gates() -> Vec<Gate> {
    let gate = |at_least, case| Gate { case, at_least };
    // A lap of the log takes less than a slice: how full it is goes up and down with each.
    let steady = |depth| Case { log_mib: Some(8), ..Case::random_writes(depth, Phase::Steady) };
    // What a burst leaves behind is copied at the limited speed.
    let burst = |depth| Case {
        data_mib: 16,
        log_mib: Some(1024),
        ..Case::random_writes(depth, Phase::Burst)
    };
    let in_order =
        |kib: u64, depth| Case { block: kib << 10, pattern: Pattern::Sequential, ..steady(depth) };
    let sync = |depth| Case { sync: true, remotes: 1, ..burst(depth) };
    vec![
        gate(0.98, burst(1)),
        gate(9.8, burst(16)),
        gate(10.1, burst(32)),
        gate(0.485, steady(1)),
        gate(0.97 * 16.0 / 17.0, steady(16)),
        gate(0.97 * 32.0 / 33.0, steady(32)),
        gate(0.485, Case { log_mib: Some(32), ..in_order(64, 8) }),
        gate(5.1, Case { log_mib: Some(32), ..in_order(4, 32) }),
        // Each write waits for the log, and then for the remote site, as in the reference. That one
        // has FUA for nothing here; a group of 16 at the site has a flush behind it: 16/17.
        gate(1.0 / 1.1, sync(1)),
        gate(0.97 * 16.0 / 17.0, sync(32)),
    ]
}

/// Tries a gate until it is kept, and says what came of it last.
///
/// # Errors
/// What stopped a try.
pub(crate) fn pass<E>(
    gate: &Gate,
    mut attempt: impl FnMut(&Case) -> Result<Outcome, E>,
) -> Result<(Verdict, Outcome), E> {
    let mut tries = 1;
    loop {
        let outcome = attempt(&gate.case)?;
        let verdict = judge(&outcome, gate.at_least);
        if verdict == Verdict::Kept || tries == TRIES_MAX {
            return Ok((verdict, outcome));
        }
        tries += 1;
    }
}

/// Whether the engine did what the gate asks for.
pub(crate) fn judge(outcome: &Outcome, at_least: f64) -> Verdict {
    let reference: Vec<f64> = references(outcome).collect();
    let (least, most) = spread(&reference);
    match best_ratio(outcome) {
        _ if most > least * (1.0 + REFERENCE_SPREAD_MAX) => Verdict::NotJudged,
        ratio if ratio >= at_least => Verdict::Kept,
        _ => Verdict::Missed,
    }
}

/// The best round of the engine, to the mean of the reference.
pub(crate) fn best_ratio(outcome: &Outcome) -> f64 {
    let reference: Vec<f64> = references(outcome).collect();
    let mean = reference.iter().sum::<f64>() / reference.len() as f64;
    let engine: Vec<f64> = outcome.rounds.iter().map(|round| round.engine.iops()).collect();
    spread(&engine).1 / mean
}

fn references(outcome: &Outcome) -> impl Iterator<Item = f64> + '_ {
    outcome.rounds.iter().flat_map(|round| [&round.raw, &round.raw_again]).map(Slice::iops)
}

fn spread(of: &[f64]) -> (f64, f64) {
    let most = of.iter().copied().fold(0.0, f64::max);
    (of.iter().copied().fold(most, f64::min), most)
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kept => "kept",
            Self::Missed => "MISSED",
            Self::NotJudged => "not judged: the reference moved",
        })
    }
}

/// Of a gate that is not kept.
const TRIES_MAX: usize = 3;
/// The limits of a device are kept to a percent; a reference that is further off was kept from
/// the processor.
const REFERENCE_SPREAD_MAX: f64 = 0.08;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::samples::outcome;

    #[test]
    fn one_good_round_keeps_a_gate_and_none_misses_it() {
        let found = outcome(&[(1000, 400, 1010), (990, 970, 1000)]);
        assert_eq!(judge(&found, 0.95), Verdict::Kept);
        assert_eq!(judge(&found, 0.98), Verdict::Missed);
    }

    #[test]
    fn a_reference_that_was_kept_from_the_processor_judges_nobody() {
        for found in [outcome(&[(1000, 2000, 900)]), outcome(&[(1000, 1, 1000), (500, 1, 1000)])] {
            assert_eq!(judge(&found, 1.0), Verdict::NotJudged);
        }
    }

    #[test]
    fn a_gate_is_tried_until_it_is_kept_and_three_times_at_most() {
        let gate = Gate { case: Case::random_writes(1, Phase::Burst), at_least: 0.9 };
        let tried = |engines: [u64; 4]| {
            let mut tries = 0;
            let attempt = |_: &Case| {
                tries += 1;
                Ok::<_, ()>(outcome(&[(1000, engines[tries - 1], 1000)]))
            };
            let (verdict, _) = pass(&gate, attempt).expect("nothing stops a try");
            (tries, verdict)
        };
        assert_eq!(tried([950, 0, 0, 0]), (1, Verdict::Kept));
        assert_eq!(tried([800, 950, 0, 0]), (2, Verdict::Kept));
        assert_eq!(tried([800, 800, 800, 950]), (3, Verdict::Missed));
    }

    #[test]
    fn every_gate_can_be_tried() {
        for gate in gates() {
            assert_eq!(gate.case.fault(), None, "{}", gate.case);
        }
    }
}
