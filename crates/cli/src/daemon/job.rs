//! What a daemon is told when it starts, and what it tells while it does.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::control::Wish;

/// What to serve. A command hands it to the daemon it starts, as JSON on standard input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Job {
    /// The replicator's name.
    pub(crate) name: String,
    /// Its canonical table.
    pub(crate) table: String,
    /// Whether its devices are new, or wait for a successor of the daemon that died.
    pub(crate) takeover: Takeover,
    /// Only this device is to be had for now; the others wait until they are asked for.
    pub(crate) only: Option<Wish>,
    /// Whether everything that the table names must be there.
    pub(crate) require_all: bool,
    /// How often `-v` was given.
    pub(crate) verbose: u8,
}

/// What to do about the state of a daemon that died.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Takeover {
    /// Refuse: the user is to decide between `recover` and `remove`.
    Refuse,
    /// Take its devices over if there are any: a service that starts again.
    IfAny,
    /// There must be some.
    Must,
}

/// One line of a starting daemon, on its standard output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Report {
    /// A step of the start, in bytes done of bytes in total (0: unknown).
    Progress { step: String, done: u64, total: u64 },
    /// Something the user should know, though the start goes on.
    Notice(String),
    /// The devices are usable. The last line.
    Ready { devices: Vec<ReadyDevice> },
    /// This program could go on with a replicator that another one serves. The only line.
    Able { version: String },
    /// They are not, and nothing is left. The last line.
    Failed(String),
}

/// A device that is usable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReadyDevice {
    pub(crate) name: String,
    pub(crate) path: String,
    /// The N of its path.
    pub(crate) ublk: u32,
}

/// Who wants to know how a start goes.
pub(crate) trait Reporter {
    /// A step goes on.
    fn progress(&mut self, step: &str, done: u64, total: u64) -> Result<()>;
    /// Something the user should know.
    fn notice(&mut self, sentence: &str) -> Result<()>;
    /// The devices are usable. If this fails, nobody waits for them any more.
    fn ready(&mut self, devices: Vec<ReadyDevice>) -> Result<()>;
}

/// Reports as lines of JSON to the command that started the daemon.
#[derive(Debug)]
pub(crate) struct ToParent<W>(pub(crate) W);

impl<W: std::io::Write> ToParent<W> {
    pub(crate) fn send(&mut self, report: &Report) -> Result<()> {
        let mut line = serde_json::to_vec(report).context("printing a report as JSON")?;
        line.push(b'\n');
        self.0
            .write_all(&line)
            .and_then(|()| self.0.flush())
            .context("the command that started this daemon is gone")
    }
}

impl<W: std::io::Write> Reporter for ToParent<W> {
    fn progress(&mut self, step: &str, done: u64, total: u64) -> Result<()> {
        self.send(&Report::Progress { step: step.to_owned(), done, total })
    }

    fn notice(&mut self, sentence: &str) -> Result<()> {
        self.send(&Report::Notice(sentence.to_owned()))
    }

    fn ready(&mut self, devices: Vec<ReadyDevice>) -> Result<()> {
        self.send(&Report::Ready { devices })
    }
}
