//! How cost grows with the work: one thing is varied at a time, all else being equal.

use blk::Span;
use serde::{Deserialize, Serialize};

use crate::case::{Case, Phase};
use crate::outcome::{Outcome, Report, Slice};

/// One thing that is varied.
#[derive(Clone, Debug)]
pub(crate) struct Axis {
    /// Names its picture.
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    /// What the steps count.
    pub(crate) unit: &'static str,
    /// What each picture shows of a case.
    pub(crate) of: Figure,
    /// What is the same on all steps of a line, and the line's cases with a word for each.
    pub(crate) lines: Vec<(&'static str, Vec<(String, Case)>)>,
}

/// What is shown of an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Figure {
    Iops,
    Megabytes,
}

/// An engine at work from an empty log until it has long been full.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Backlog {
    pub(crate) command: String,
    pub(crate) taken: String,
    pub(crate) name: String,
    pub(crate) moments: Vec<Moment>,
}

/// A short while of it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Moment {
    pub(crate) seconds: f64,
    pub(crate) fill_percent: f64,
    pub(crate) iops: f64,
}

impl Moment {
    pub(crate) fn new(at: Span, fill_percent: u64, slice: (u64, f64)) -> Self {
        let (completed, seconds) = slice;
        Self {
            seconds: at.as_secs_f64(),
            fill_percent: fill_percent as f64,
            iops: completed as f64 / seconds,
        }
    }
}

/// Everything that is varied, on files of this machine.
pub(crate) fn axes() -> Vec<Axis> {
    let burst = |depth| Case::random_writes(depth, Phase::Burst);
    let steady = |depth| Case::random_writes(depth, Phase::Steady);
    let depths = [1, 2, 4, 8, 16, 32, 64, 128, 256];
    let by_depth = |of: &dyn Fn(usize) -> Case| {
        depths.iter().map(|depth| (depth.to_string(), of(*depth))).collect::<Vec<_>>()
    };
    let devices = [1, 2, 4, 8].map(|devices| (devices.to_string(), Case { devices, ..burst(32) }));
    let sites = [0, 1, 2, 4].map(|remotes| (remotes.to_string(), Case { remotes, ..burst(32) }));
    let blocks = [512, 1 << 10, 1 << 12, 1 << 14, 1 << 16, 1 << 18, 1 << 20];
    let by_block = |phase| {
        let case = |block: u64| {
            let log_mib = (phase == Phase::Steady).then_some(64);
            (size(block), Case { block, log_mib, ..Case::random_writes(8, phase) })
        };
        blocks.map(case).to_vec()
    };
    vec![
        Axis {
            name: "depth",
            title: "4 KiB random writes",
            unit: "requests in flight",
            of: Figure::Iops,
            lines: vec![("burst", by_depth(&burst)), ("log full", by_depth(&steady))],
        },
        Axis {
            name: "block",
            title: "random writes, 8 in flight",
            unit: "size of a write",
            of: Figure::Megabytes,
            lines: vec![("burst", by_block(Phase::Burst)), ("log full", by_block(Phase::Steady))],
        },
        Axis {
            name: "devices",
            title: "4 KiB random writes, 32 in flight over all devices, burst",
            unit: "devices on one log",
            of: Figure::Iops,
            lines: vec![("burst", devices.to_vec())],
        },
        Axis {
            name: "sites",
            title: "4 KiB random writes, 32 in flight, burst",
            unit: "async remote sites, all on this machine's disk",
            of: Figure::Iops,
            lines: vec![("burst", sites.to_vec())],
        },
    ]
}

/// All cases of all axes, each once.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for (_, case) in axes().into_iter().flat_map(|axis| axis.lines).flat_map(|(_, line)| line) {
        if !cases.contains(&case) {
            cases.push(case);
        }
    }
    cases
}

/// Whether a report has what was varied.
pub(crate) fn is(report: &Report) -> bool {
    report.command.contains("--suite scaling")
}

impl Figure {
    pub(crate) fn of(self, outcome: &Outcome, slice: &Slice) -> f64 {
        match self {
            Self::Iops => slice.iops(),
            Self::Megabytes => slice.iops() * outcome.case.block as f64 / 1e6,
        }
    }

    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::Iops => "writes a second",
            Self::Megabytes => "MB a second",
        }
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        _ if bytes >= 1 << 20 => format!("{}M", bytes >> 20),
        _ if bytes >= 1 << 10 => format!("{}k", bytes >> 10),
        _ => bytes.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_of_every_axis_can_be_tried_and_is_tried_once() {
        let cases = cases();
        assert!(cases.iter().all(|case| case.fault().is_none()), "{cases:?}");
        let names: std::collections::BTreeSet<String> =
            cases.iter().map(|case| format!("{case} {:?}", case.log_mib)).collect();
        assert_eq!(names.len(), cases.len());
    }
}
