//! What is measured: one workload on one kind of group.

use std::fmt;

use blk::Sectors;
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

/// A workload, and the group that it runs on.
#[derive(Args, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Case {
    /// What the application does.
    #[arg(long, value_enum, default_value_t = Kind::Write)]
    pub(crate) kind: Kind,
    /// Bytes of each request, a multiple of 512.
    #[arg(long, default_value_t = 4096)]
    pub(crate) block: u64,
    /// Where requests go.
    #[arg(long, value_enum, default_value_t = Pattern::Random)]
    pub(crate) pattern: Pattern,
    /// Requests in flight, over all devices.
    #[arg(long, default_value_t = 32)]
    pub(crate) depth: usize,
    /// Each write is acknowledged when it is on stable media.
    #[arg(long)]
    pub(crate) fua: bool,
    /// Whether the log has room for all that is written in a slice.
    #[arg(long, value_enum, default_value_t = Phase::Burst)]
    pub(crate) phase: Phase,
    /// Remote sites, each with an RD for every device.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=4))]
    pub(crate) remotes: u16,
    /// Acknowledgements wait for the remote sites.
    #[arg(long)]
    pub(crate) sync: bool,
    /// Compares the engine with itself while its first remote site is copied anew, in place of
    /// the bare disk and the engine.
    #[arg(long)]
    #[serde(default)]
    pub(crate) resync: bool,
    /// Devices of the group; they share the log, and the requests in flight.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=16))]
    pub(crate) devices: u32,
    /// MiB of the log; without it, 1024 for a burst and 32 for a steady state.
    #[arg(long)]
    pub(crate) log_mib: Option<u64>,
    /// MiB of data on all devices together.
    #[arg(long, default_value_t = 1024)]
    pub(crate) data_mib: u64,
}

/// What an application does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// Writes only.
    Write,
    /// Reads only.
    Read,
}

/// Where requests go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Pattern {
    /// Anywhere, all blocks alike.
    Random,
    /// Some blocks far more often than others: Zipf's law with exponent 0.99.
    Zipf,
    /// One after the other.
    Sequential,
}

/// How full the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Phase {
    /// It takes a slice's writes without being half full: copies to the LD can wait.
    Burst,
    /// It is kept full: nothing is acknowledged faster than it is copied.
    Steady,
}

impl Case {
    /// A write workload of 4 KiB blocks; everything else as the command line has it.
    pub(crate) fn random_writes(depth: usize, phase: Phase) -> Self {
        Self {
            kind: Kind::Write,
            block: 4096,
            pattern: Pattern::Random,
            depth,
            fua: false,
            phase,
            remotes: 0,
            sync: false,
            resync: false,
            devices: 1,
            log_mib: None,
            data_mib: 1024,
        }
    }

    /// Why a case can't be run, if it can't.
    pub(crate) fn fault(&self) -> Option<String> {
        let log = self.log_bytes();
        let per_device = self.device_size().bytes();
        match () {
            () if self.block == 0 || !self.block.is_multiple_of(512) => {
                Some(format!("a block of {} bytes: expected a multiple of 512", self.block))
            }
            () if self.depth == 0 || self.depth > DEPTH_MAX => {
                Some(format!("a depth of {}: expected 1 to {DEPTH_MAX}", self.depth))
            }
            () if self.sync && self.remotes == 0 => {
                Some("acknowledgements cannot wait for remote sites: there is none".to_owned())
            }
            () if self.resync && self.remotes == 0 => {
                Some("no remote site can be copied anew: there is none".to_owned())
            }
            () if self.block > log / 8 => Some(format!(
                "blocks of {} bytes: expected at most {}, an eighth of the log",
                self.block,
                log / 8
            )),
            () if self.block * self.depth as u64 > per_device => {
                Some(format!("{} requests in flight do not fit {per_device} bytes", self.depth))
            }
            () => None,
        }
    }

    /// Sectors of each device.
    pub(crate) fn device_size(&self) -> Sectors {
        let bytes = (self.data_mib << 20) / u64::from(self.devices);
        Sectors::from_bytes(bytes - bytes % 4096)
    }

    /// Bytes of the log.
    pub(crate) fn log_bytes(&self) -> u64 {
        let by_phase = match self.phase {
            Phase::Burst => 1024,
            Phase::Steady => 32,
        };
        self.log_mib.unwrap_or(by_phase) << 20
    }

    /// Length of each request.
    pub(crate) fn len(&self) -> Sectors {
        Sectors::from_bytes(self.block)
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pattern = match self.pattern {
            Pattern::Random => "random",
            Pattern::Zipf => "zipf",
            Pattern::Sequential => "sequential",
        };
        let kind = match (self.kind, self.fua) {
            (Kind::Read, _) => "read",
            (Kind::Write, false) => "write",
            (Kind::Write, true) => "FUA write",
        };
        write!(f, "{} {pattern} {kind}, QD{}", size(self.block), self.depth)?;
        match (self.kind, self.phase) {
            (Kind::Read, _) => {}
            (Kind::Write, Phase::Burst) => write!(f, ", burst")?,
            (Kind::Write, Phase::Steady) => write!(f, ", steady")?,
        }
        if self.devices > 1 {
            write!(f, ", {} devices", self.devices)?;
        }
        if self.remotes > 0 {
            let policy = if self.sync { "sync" } else { "async" };
            write!(f, ", {} {policy} remote", self.remotes)?;
        }
        if self.resync {
            f.write_str(", beside a resync")?;
        }
        Ok(())
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        _ if bytes.is_multiple_of(1 << 20) => format!("{}M", bytes >> 20),
        _ if bytes.is_multiple_of(1 << 10) => format!("{}k", bytes >> 10),
        _ => format!("{bytes}B"),
    }
}

/// More requests in flight than any queue of a front end has.
const DEPTH_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_says_what_it_measures() {
        let case = Case { remotes: 2, sync: true, ..Case::random_writes(32, Phase::Steady) };
        assert_eq!(case.to_string(), "4k random write, QD32, steady, 2 sync remote");
        assert_eq!(case.fault(), None);
    }

    #[test]
    fn a_case_that_cannot_run_says_why() {
        let case = Case::random_writes(1, Phase::Burst);
        for wrong in [
            Case { block: 100, ..case.clone() },
            Case { depth: 0, ..case.clone() },
            Case { sync: true, ..case.clone() },
            Case { resync: true, ..case.clone() },
            Case { block: 1 << 20, log_mib: Some(4), ..case.clone() },
            Case { depth: 4096, data_mib: 1, ..case },
        ] {
            assert!(wrong.fault().is_some(), "{wrong:?}");
        }
    }
}
