//! What a case came to: slices, ratios, and whether they may be believed.

use serde::{Deserialize, Serialize};

use crate::case::Case;
use crate::host::{Busy, Host};
use crate::stats::Quartiles;
use crate::tally::DiskTally;

/// Everything that one run of the bench found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Report {
    /// What was asked for, as a command.
    pub(crate) command: String,
    /// When, and at which commit.
    pub(crate) taken: String,
    pub(crate) host: Host,
    pub(crate) outcomes: Vec<Outcome>,
}

/// What a case came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) name: String,
    pub(crate) case: Case,
    pub(crate) rounds: Vec<Round>,
    /// How busy the machine was at its end.
    pub(crate) busy: Busy,
}

/// One slice of each contender, close together in time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Round {
    pub(crate) raw: Slice,
    pub(crate) engine: Slice,
    /// The control.
    pub(crate) raw_again: Slice,
}

/// One contender at work, for a while or for several.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Slice {
    pub(crate) seconds: f64,
    /// Requests that ended.
    pub(crate) completed: u64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    /// The longest that any request took; older results do not say.
    #[serde(default)]
    pub(crate) longest_us: Option<f64>,
    /// CPU time, the kernel's share included.
    pub(crate) cpu_us: f64,
    /// System calls of the ring.
    pub(crate) enters: u64,
    /// Commit groups written to the log.
    pub(crate) groups: u64,
    pub(crate) log: DiskTally,
    pub(crate) ld: DiskTally,
    pub(crate) rd: DiskTally,
}

impl Outcome {
    /// Engine to raw.
    pub(crate) fn ratio(&self) -> Quartiles {
        Quartiles::of(self.rounds.iter().map(|round| round.engine.iops() / round.raw.iops()))
    }

    /// Raw to raw: what the ratio is worth.
    pub(crate) fn control(&self) -> Quartiles {
        Quartiles::of(self.rounds.iter().map(|round| round.raw_again.iops() / round.raw.iops()))
    }

    /// Whether the control leaves room for a judgement.
    pub(crate) fn is_conclusive(&self) -> bool {
        (self.control().median - 1.0).abs() <= CONTROL_MAX
    }

    /// The reference, over all rounds, the control's slices not included.
    pub(crate) fn raw(&self) -> Slice {
        Slice::over(self.rounds.iter().map(|round| &round.raw))
    }

    /// The engine, over all rounds.
    pub(crate) fn engine(&self) -> Slice {
        Slice::over(self.rounds.iter().map(|round| &round.engine))
    }
}

impl Slice {
    /// Requests per second.
    pub(crate) fn iops(&self) -> f64 {
        self.completed as f64 / self.seconds
    }

    /// `count` for each request of the application.
    pub(crate) fn per_request(&self, count: u64) -> f64 {
        count as f64 / self.completed as f64
    }

    /// CPU time of each request, in microseconds.
    pub(crate) fn cpu_us_per_request(&self) -> f64 {
        self.cpu_us / self.completed as f64
    }

    /// Counters of some slices added up; of their latencies the median, and the longest.
    fn over<'a>(slices: impl Iterator<Item = &'a Self> + Clone) -> Self {
        let median = |of: fn(&Self) -> f64| Quartiles::of(slices.clone().map(of)).median;
        let (p50_us, p99_us) = (median(|slice| slice.p50_us), median(|slice| slice.p99_us));
        slices.fold(Self { p50_us, p99_us, ..Self::default() }, |sum, slice| Self {
            seconds: sum.seconds + slice.seconds,
            longest_us: [sum.longest_us, slice.longest_us].into_iter().flatten().reduce(f64::max),
            completed: sum.completed + slice.completed,
            cpu_us: sum.cpu_us + slice.cpu_us,
            enters: sum.enters + slice.enters,
            groups: sum.groups + slice.groups,
            log: sum.log + slice.log,
            ld: sum.ld + slice.ld,
            rd: sum.rd + slice.rd,
            ..sum
        })
    }
}

/// A reference that differs from itself by more than this proves nothing.
pub(crate) const CONTROL_MAX: f64 = 0.10;

#[cfg(test)]
pub(crate) mod samples {
    use super::*;
    use crate::case::Phase;

    /// Requests in a second of raw, engine and control, round by round.
    pub(crate) fn outcome(rounds: &[(u64, u64, u64)]) -> Outcome {
        let slice = |completed| Slice { seconds: 1.0, completed, ..Slice::default() };
        let round = |(raw, engine, again): &(u64, u64, u64)| Round {
            raw: slice(*raw),
            engine: slice(*engine),
            raw_again: slice(*again),
        };
        Outcome {
            name: String::new(),
            case: Case::random_writes(1, Phase::Burst),
            rounds: rounds.iter().map(round).collect(),
            busy: Busy::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::samples::outcome;
    use super::*;

    #[test]
    fn only_slices_of_the_same_round_are_compared() {
        let found = outcome(&[(100, 200, 100), (1000, 2000, 1050), (10, 20, 10)]);
        assert_eq!(found.ratio(), Quartiles { p25: 2.0, median: 2.0, p75: 2.0 });
        assert_eq!(found.control().median, 1.0);
        assert!(found.is_conclusive());
    }

    #[test]
    fn a_reference_that_differs_from_itself_proves_nothing() {
        assert!(!outcome(&[(100, 200, 111)]).is_conclusive());
        assert!(!outcome(&[(100, 200, 89)]).is_conclusive());
    }
}
