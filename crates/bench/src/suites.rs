//! Sets of cases that are run together.

use clap::ValueEnum;

use crate::case::{Case, Kind, Pattern, Phase};
use crate::scaling;

/// A set of cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Suite {
    /// Everything that does not wait for flushes.
    Standard,
    /// FUA writes. Not under real-time priority: it keeps the kernel's threads, which these
    /// writes wait for, from running.
    Durable,
    /// For a device whose speed is limited: what the design costs and gains.
    Throttled,
    /// One thing is varied at a time.
    Scaling,
}

impl Suite {
    pub(crate) fn cases(self) -> Vec<Case> {
        match self {
            Self::Standard => standard(),
            Self::Durable => durable(),
            Self::Throttled => throttled(),
            Self::Scaling => scaling::cases(),
        }
    }
}

/// Small and fast: that the bench works, and counters are what they must be.
pub(crate) fn quick() -> Vec<Case> {
    let small = |case: Case| Case {
        data_mib: 64,
        log_mib: Some(if case.phase == Phase::Burst { 128 } else { 8 }),
        ..case
    };
    let steady = Case::random_writes(32, Phase::Steady);
    [
        Case::random_writes(32, Phase::Burst),
        steady.clone(),
        Case { fua: true, ..Case::random_writes(16, Phase::Burst) },
        sequential(64, 8, Phase::Steady),
        Case { devices: 2, remotes: 1, ..steady },
        Case { devices: 2, remotes: 2, sync: true, ..Case::random_writes(8, Phase::Burst) },
        resync(32),
        reads(32),
    ]
    .map(small)
    .into()
}

fn standard() -> Vec<Case> {
    let phases = [Phase::Burst, Phase::Steady];
    let depths = [1, 16, 32, 64];
    let mut cases = Vec::new();
    for phase in phases {
        cases.extend(depths.map(|depth| Case::random_writes(depth, phase)));
    }
    cases.push(zipf());
    for phase in phases {
        cases.extend([
            sequential(4, 32, phase),
            sequential(64, 8, phase),
            sequential(1024, 4, phase),
        ]);
    }
    cases.extend([reads(1), reads(32)]);
    let burst = Case::random_writes(32, Phase::Burst);
    cases.push(Case { devices: 4, ..burst.clone() });
    cases.extend([1, 2].map(|remotes| Case { remotes, ..burst.clone() }));
    cases.extend([1, 16, 32].map(resync));
    cases
}

fn durable() -> Vec<Case> {
    let mut cases = Vec::new();
    for phase in [Phase::Burst, Phase::Steady] {
        let fua = |depth| Case { fua: true, ..Case::random_writes(depth, phase) };
        cases.extend([1, 16, 64].map(fua));
    }
    let burst = Case::random_writes(32, Phase::Burst);
    cases.extend([1, 32].map(|depth| Case { remotes: 1, sync: true, depth, ..burst.clone() }));
    cases
}

fn throttled() -> Vec<Case> {
    // A burst's backlog is copied at the limited speed, so its data is kept small.
    let burst = |depth| Case {
        data_mib: 64,
        log_mib: Some(1536),
        ..Case::random_writes(depth, Phase::Burst)
    };
    let mut cases: Vec<Case> = [1, 16, 32, 64].map(burst).into();
    cases.extend([1, 16, 32, 64].map(|depth| Case::random_writes(depth, Phase::Steady)));
    cases.extend([zipf(), sequential(64, 8, Phase::Steady), sequential(4, 32, Phase::Steady)]);
    let sync = |depth| Case { remotes: 1, sync: true, ..burst(depth) };
    cases.extend([1, 16, 32].map(sync));
    cases
}

/// A log that holds more than the copies look ahead, so that favourites are skipped.
fn zipf() -> Case {
    Case { pattern: Pattern::Zipf, log_mib: Some(128), ..Case::random_writes(32, Phase::Steady) }
}

fn sequential(kib: u64, depth: usize, phase: Phase) -> Case {
    let log_mib = (phase == Phase::Steady && kib >= 64).then_some(64);
    let pattern = Pattern::Sequential;
    Case { block: kib << 10, pattern, log_mib, ..Case::random_writes(depth, phase) }
}

/// What a resync at its own pace costs an application.
fn resync(depth: usize) -> Case {
    Case { resync: true, remotes: 1, ..Case::random_writes(depth, Phase::Steady) }
}

fn reads(depth: usize) -> Case {
    Case { kind: Kind::Read, ..Case::random_writes(depth, Phase::Burst) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_of_every_suite_can_run_and_has_a_name_of_its_own() {
        let suites = Suite::value_variants().iter().map(|suite| suite.cases());
        for cases in suites.chain([quick()]) {
            assert!(cases.iter().all(|case| case.fault().is_none()), "{cases:?}");
            let name = |case: &Case| format!("{case}, {:?}", case.log_mib);
            let mut names: Vec<String> = cases.iter().map(name).collect();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), cases.len(), "{names:?}");
        }
    }
}
