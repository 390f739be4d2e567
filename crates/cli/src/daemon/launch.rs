//! Starting a daemon, seen from the command that starts it: hand over the job, show
//! progress, return when the devices are usable, and say why if they are not.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use super::job::{Job, ReadyDevice, Report};
use crate::control::Lines;
use crate::output::Progress;

/// Starts a daemon for `job`; returns the devices it serves.
pub(crate) fn launch(job: &Job) -> Result<Vec<ReadyDevice>> {
    let mut child = spawn(job).context("starting the daemon")?;
    let stdout = child.stdout.take().expect("spawn asked for a pipe");
    let mut progress = Progress::new(&job.name);
    let reports = listen(stdout)?;
    loop {
        match reports.recv_timeout(SILENCE_MAX) {
            Ok(Report::Progress { step, done, total }) => progress.show(&step, done, total),
            Ok(Report::Notice(sentence)) => {
                progress.clear();
                eprintln!("replicator: {}: {sentence}", job.name);
            }
            Ok(Report::Ready { devices }) => return Ok(devices),
            // Not asked for here.
            Ok(Report::Able { .. }) => {}
            Ok(Report::Failed(sentence)) => {
                // Wait: when this command returns, nothing of the daemon is left.
                child.wait().context("waiting for the daemon to end")?;
                return Err(anyhow!(sentence));
            }
            Err(RecvTimeoutError::Disconnected) => bail!(died(child.wait()?)),
            Err(RecvTimeoutError::Timeout) => return Err(give_up(&mut child)),
        }
    }
}

fn spawn(job: &Job) -> Result<Child> {
    // The link survives an upgrade that replaces the file while we run.
    let mut child = Command::new("/proc/self/exe")
        .arg0("replicator")
        .arg("daemon")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut stdin = child.stdin.take().expect("spawned with a pipe");
    stdin.write_all(&serde_json::to_vec(job)?)?;
    Ok(child)
}

/// Reports as they come; the channel ends when the daemon has nothing more to say.
pub(super) fn listen(stdout: ChildStdout) -> Result<Receiver<Report>> {
    let (sender, receiver) = mpsc::channel();
    let read = move || {
        let mut lines = Lines::new(stdout);
        let forever = || Instant::now() + Duration::from_secs(u32::MAX.into());
        while let Ok(Some(line)) = lines.next(forever()) {
            let Ok(report) = serde_json::from_slice(&line) else { return };
            if sender.send(report).is_err() {
                return;
            }
        }
    };
    thread::Builder::new().spawn(read).context("starting a thread for the daemon's reports")?;
    Ok(receiver)
}

fn died(status: ExitStatus) -> String {
    format!("the daemon died while it started ({status}); its log lines say more")
}

fn give_up(child: &mut Child) -> anyhow::Error {
    let _ = child.kill();
    anyhow!(
        "the daemon (process {}) said nothing for {} s and was killed; \
         its log lines and the kernel's say more",
        child.id(),
        SILENCE_MAX.as_secs()
    )
}

/// Longer than any single step of a start may take.
const SILENCE_MAX: Duration = Duration::from_secs(180);
