//! Where log lines go: standard error in the foreground, the host's syslog from a daemon, and
//! a file in its runtime directory where no syslog listens. Nobody waits for one to be written.

mod queue;

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use env_logger::{Builder, Target};
use log::LevelFilter;
use syslog::{BasicLogger, Facility, Formatter3164};

/// Log lines on standard error.
pub(crate) fn to_stderr(verbose: u8) -> Result<()> {
    let logger = builder(verbose).target(Target::Stderr).build();
    queue::start(Box::new(logger), level(verbose))
}

/// Log lines to syslog, or else to `file`.
pub(crate) fn to_syslog_or_file(file: &Path, verbose: u8) -> Result<()> {
    let formatter = Formatter3164 {
        facility: Facility::LOG_DAEMON,
        hostname: None,
        process: "replicator".into(),
        pid: std::process::id(),
    };
    match syslog::unix(formatter) {
        Ok(logger) => queue::start(Box::new(BasicLogger::new(logger)), level(verbose)),
        Err(_) => to_file(file, verbose),
    }
}

/// Tells the host's syslog one sentence, if there is one: a process that is about to end.
pub(crate) fn say_once(process: &str, sentence: &str) {
    let formatter = Formatter3164 {
        facility: Facility::LOG_DAEMON,
        hostname: None,
        process: process.into(),
        pid: std::process::id(),
    };
    if let Ok(mut logger) = syslog::unix(formatter) {
        // Whoever does not listen is told nothing.
        let _ = logger.err(sentence);
    }
}

fn to_file(file: &Path, verbose: u8) -> Result<()> {
    let mut options = OpenOptions::new();
    let opened = options.append(true).create(true).mode(0o600).open(file);
    let opened = opened.with_context(|| format!("opening the log file {}", file.display()))?;
    let logger = builder(verbose).target(Target::Pipe(Box::new(opened))).build();
    queue::start(Box::new(logger), level(verbose))
}

fn builder(verbose: u8) -> Builder {
    let mut builder = Builder::new();
    builder.filter_level(level(verbose)).format(|out, record| {
        let (time, level) = (out.timestamp_millis(), record.level().as_str().to_lowercase());
        writeln!(out, "{time} {level}: {}", record.args())
    });
    builder
}

fn level(verbose: u8) -> LevelFilter {
    match verbose {
        0 => LevelFilter::Info,
        1 => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    }
}
