//! The process around a daemon: detached from the command that started it, or in the
//! foreground; hardened either way.

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::fs::Mode;
use ublk_target::process::{
    avoid_oom_killer, become_io_flusher, enter_own_mount_namespace, lock_memory,
};

use super::job::{Job, ReadyDevice, Report, Reporter, ToParent};
use super::orders::{Desk, desk};
use super::serve::serve;
use super::served::Daemon;
use super::service::{Service, Starting};
use super::start::start;
use crate::logging;
use crate::output::Progress;
use crate::runtime::{GroupDir, Lock, RuntimeDir};

/// How a daemon serves, for as long as it does, whatever program it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    /// For a service manager, or somebody who looks at it; else away from any terminal.
    pub(super) foreground: bool,
    /// How long a signal may wait for the sites.
    pub(super) limit: Duration,
    /// How much it says.
    pub(super) verbose: u8,
}

impl Manner {
    /// A panic is told to those who look, and left where the replicator is that has another name.
    pub(super) fn follow(&self, group: &GroupDir) {
        stop_on_panic(group.clone(), if self.foreground { tell_who_looks } else { |_| () });
    }

    /// In the foreground, with that limit; or not.
    pub(super) fn new(foreground: Option<Duration>, verbose: u8) -> Self {
        let limit = foreground.unwrap_or(STOP_LIMIT);
        Self { foreground: foreground.is_some(), limit, verbose }
    }
}

/// The hidden verb `daemon`: serves the job on standard input, away from any terminal.
pub(crate) fn serve_job() -> Result<()> {
    let mut parent = ToParent(io::stdout());
    let (desk, orders) = desk();
    let (daemon, verbose) = match detached(&desk, &mut parent) {
        Ok(started) => started,
        Err(error) => {
            // If the parent is gone as well, the log has it.
            let _ = parent.send(&Report::Failed(format!("{error:#}")));
            return Err(error);
        }
    };
    leave_stdio().context("leaving the standard streams")?;
    serve(daemon, &orders, &Manner::new(None, verbose), &Service::default())
}

/// The verb `run`: serves the job until a signal or `remove` ends it.
pub(crate) fn serve_in_foreground(job: &Job, runtime: &RuntimeDir, limit: Duration) -> Result<()> {
    let group = runtime.group(&job.name.parse()?);
    harden(&group, tell_who_looks)?;
    logging::to_stderr(job.verbose)?;
    let service = Service::of_environment()?;
    let lock = group.lock()?;
    let manner = Manner::new(Some(limit), job.verbose);
    in_foreground(job, group, lock, &manner, &service, service.starting())
}

/// Serves in place of the program that this process was a moment ago. Where that lived, this one
/// does, too.
pub(super) fn go_on(job: &Job, group: GroupDir, lock: Lock, manner: &Manner) -> Result<()> {
    if manner.foreground {
        harden(&group, tell_who_looks)?;
        logging::to_stderr(job.verbose)?;
        let service = Service::of_environment()?;
        return in_foreground(job, group, lock, manner, &service, service.going_on());
    }
    harden(&group, |_| ())?;
    logging::to_syslog_or_file(&group.log_file(), job.verbose)?;
    let (desk, orders) = desk();
    let daemon = start(job, group, lock, &desk, &mut ToLog(String::new()))?;
    serve(daemon, &orders, manner, &Service::default())
}

fn in_foreground(
    job: &Job,
    group: GroupDir,
    lock: Lock,
    manner: &Manner,
    service: &Service,
    starting: Starting<'_>,
) -> Result<()> {
    let (desk, orders) = desk();
    let progress = Progress::new(&job.name);
    let mut reporter = InForeground { progress, starting, service };
    let daemon = start(job, group, lock, &desk, &mut reporter)?;
    drop(reporter);
    let engine = daemon.drive.handle().clone();
    service.keep_alive(move |ping| Ok(engine.call(|_, _| ping.send())?))?;
    serve(daemon, &orders, manner, service)
}

fn detached(desk: &Desk, parent: &mut ToParent<io::Stdout>) -> Result<(Daemon, u8)> {
    let mut text = String::new();
    io::stdin().read_to_string(&mut text).context("reading the job")?;
    let job: Job = serde_json::from_str(&text).context("expected a job on standard input")?;
    // The session of whoever typed the command, and its directory, must not matter any more.
    rustix::process::setsid().context("starting a session")?;
    rustix::process::chdir("/").context("leaving the working directory")?;
    let group = RuntimeDir::open()?.group(&job.name.parse()?);
    harden(&group, tell_parent)?;
    let lock = group.lock()?;
    logging::to_syslog_or_file(&group.log_file(), job.verbose)?;
    Ok((start(&job, group, lock, desk, parent)?, job.verbose))
}

/// What a process does to itself before it serves block devices.
fn harden(group: &GroupDir, tell: fn(&str)) -> Result<()> {
    rustix::process::umask(Mode::from_raw_mode(0o077));
    // It may have been started by a link of another name, and is told of as who has a disk.
    fs::write("/proc/self/comm", "replicator").context("taking a name")?;
    stop_on_panic(group.clone(), tell);
    enter_own_mount_namespace()
        .with_context(|| wants("SYS_ADMIN", "entering a mount namespace"))?;
    become_io_flusher().with_context(|| wants("SYS_RESOURCE", "becoming an I/O flusher"))?;
    avoid_oom_killer().with_context(|| wants("SYS_RESOURCE", "telling the OOM killer"))?;
    lock_memory().context("locking the daemon's memory; raise `ulimit -l`")
}

/// What to do where root is not all-powerful.
fn wants(capability: &str, step: &str) -> String {
    format!(
        "{step}; it takes CAP_{capability}, which root lacks in most containers: start it outside"
    )
}

/// A broken invariant stops the daemon, whichever thread found it: its devices then wait
/// for `recover`, while a daemon that goes on could write a wrong byte to a replica.
fn stop_on_panic(group: GroupDir, tell: fn(&str)) {
    std::panic::set_hook(Box::new(move |panic| {
        let sentence = format!("an invariant is broken: {panic}").replace('\n', " ");
        log::error!("{sentence}");
        log::logger().flush();
        tell(&sentence);
        // The directory may be gone, or never have been: the log has it all the same.
        let _ = group.write_last_error(&sentence);
        std::process::abort();
    }));
}

/// The last word of a daemon that breaks while it starts.
fn tell_parent(sentence: &str) {
    let _ = ToParent(io::stdout()).send(&Report::Failed(sentence.to_owned()));
}

fn tell_who_looks(sentence: &str) {
    eprintln!("replicator: {sentence}");
}

/// Nobody reads here any more, and whoever waits for the end of a pipe shall see it.
fn leave_stdio() -> io::Result<()> {
    let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    Ok(())
}

/// Reports of a start that nobody waits for: its steps, for who wonders what took so long.
struct ToLog(String);

impl Reporter for ToLog {
    fn progress(&mut self, step: &str, _: u64, _: u64) -> Result<()> {
        if self.0 != step {
            step.clone_into(&mut self.0);
            log::debug!("{step}");
        }
        Ok(())
    }

    fn notice(&mut self, sentence: &str) -> Result<()> {
        log::warn!("{sentence}");
        Ok(())
    }

    fn ready(&mut self, _: Vec<ReadyDevice>) -> Result<()> {
        Ok(())
    }
}

/// Reports of a start in the foreground: to who looks, and to who waits.
struct InForeground<'a> {
    progress: Progress,
    starting: Starting<'a>,
    service: &'a Service,
}

impl Reporter for InForeground<'_> {
    fn progress(&mut self, step: &str, done: u64, total: u64) -> Result<()> {
        self.progress.show(step, done, total);
        self.starting.goes_on(step);
        Ok(())
    }

    fn notice(&mut self, sentence: &str) -> Result<()> {
        log::warn!("{sentence}");
        Ok(())
    }

    fn ready(&mut self, devices: Vec<ReadyDevice>) -> Result<()> {
        self.progress.clear();
        self.service.ready(devices.len());
        for ReadyDevice { name, path, .. } in devices {
            log::info!("{name}: {path} is ready");
        }
        Ok(())
    }
}

/// How long SIGTERM to a daemon of `create` waits for the sites: a host that shuts down
/// gives 90 s.
const STOP_LIMIT: Duration = Duration::from_secs(60);
