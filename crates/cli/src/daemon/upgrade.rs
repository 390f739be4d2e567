//! An upgrade, seen from the program that goes: it has its successor look first, lets go of its
//! devices, and becomes it.
//!
//! ```text
//! asked ─▶ the other program looks ─▶ hang up, answer ─▶ let go ─▶ execve ─▶ `succeed`
//!             └▶ it can't: nothing has happened
//! ```
//!
//! The process stays, and its program changes. So a service manager keeps the main process that it
//! has, and there is no moment in which it has to hear of another one, and does not; and the name
//! stays locked all along, so that nobody comes between. To whoever uses the devices it is a crash
//! and a recovery that follow each other at once: nothing is answered that was not done, and what
//! was not answered the driver sends again (P1, P10). A kill anywhere in between *is* that crash.
//!
//! The driver's QUIESCE_DEV (Linux 6.16) is not asked for: it stands in for a death, where a server
//! wants to go on living. This one ends its ring, which drivers before 6.15 take for its death, and
//! closes the device, which those since then do.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::RecvTimeoutError;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, anyhow, bail, ensure};
use replicator::status::data::FailureKind;

use super::job::Report;
use super::launch::listen;
use super::process::Manner;
use super::served::Daemon;

/// The program that is to go on, after it was asked whether it can.
pub(super) struct Successor {
    /// Open: what is started is what was asked, whatever becomes of its path meanwhile.
    file: File,
    pub(super) version: String,
}

impl Daemon {
    /// The successor at `program`, if it can go on where this one is; nothing has changed.
    pub(super) fn successor(&self, program: &Path) -> Result<Successor> {
        self.check_rest()?;
        let what = || format!("the program {}", program.display());
        let file = File::open(program).with_context(what)?;
        let version = ask(&file, self.dir.name().as_str())
            .with_context(|| format!("{} can't go on; nothing was changed", what()))?;
        Ok(Successor { file, version })
    }

    /// What a start does not know of is not to be forgotten in passing.
    fn check_rest(&self) -> Result<()> {
        let status = self.drive.view().status()?;
        if let Some(it) = status.devices.iter().find(|it| it.suspended) {
            bail!(
                "{0} is suspended, and would not be afterwards; `replicator resume {0}`",
                it.name
            );
        }
        let asked = |site: &&replicator::SiteStatus| {
            site.failure.as_ref().is_some_and(|it| it.how == FailureKind::Asked)
        };
        if let Some(site) = status.sites.iter().find(asked) {
            let (nr, name) = (site.slink, self.dir.name());
            bail!(
                "site {nr} was taken down by a message, and would not be afterwards; `replicator \
                 message {name} 0 up {nr}`"
            );
        }
        ensure!(self.stopped.is_empty(), "somebody is deleting a device of it; try again");
        Ok(())
    }

    /// Becomes its successor. Returns only if that could not be started, nor this program again: the
    /// devices wait then.
    pub(super) fn become_successor(self, successor: &Successor, manner: &Manner) -> Error {
        let name = self.dir.name().clone();
        log::info!("{name}: version {} goes on", successor.version);
        let lock = match self.let_go() {
            Ok(lock) => lock,
            Err(error) => return error,
        };
        log::logger().flush();
        let arguments = manner.arguments(name.as_str(), lock.as_raw_fd());
        let refused = command(&path_of(&successor.file)).args(&arguments).exec();
        log::error!("{name}: it could not be started ({refused}): this program goes on");
        log::logger().flush();
        let refused = command(Path::new("/proc/self/exe")).args(&arguments).exec();
        anyhow!(refused).context("starting this program again")
    }

    /// Lets go of everything but its name. The devices stay, and their requests wait.
    fn let_go(self) -> Result<File> {
        // Whoever has an answer need not ask again; whoever hangs need not be waited for.
        self.drive.suspend(None)?;
        let deadline = Instant::now() + QUIET_LIMIT;
        while !self.drive.view().is_suspended(None)? && Instant::now() < deadline {
            thread::sleep(QUIET_PAUSE);
        }
        log::debug!("{}: nothing new is taken", self.dir.name());
        self.drive.end_within(IN_FLIGHT_LIMIT);
        log::debug!("{}: its devices are let go of", self.dir.name());
        self.lock.given_on().context("handing its name on")
    }
}

impl Manner {
    /// What tells a program to go on in this manner.
    fn arguments(&self, name: &str, lock: RawFd) -> Vec<String> {
        let mut words: Vec<String> = ["daemon", "--succeed", name].map(str::to_owned).to_vec();
        words.extend(["--lock".to_owned(), lock.to_string()]);
        if self.foreground {
            words.extend(["--foreground".to_owned(), format!("{}ms", self.limit.as_millis())]);
        }
        words.extend((0..self.verbose).map(|_| "-v".to_owned()));
        words
    }
}

/// Has a program look at what the replicator is made of; its version.
fn ask(program: &File, name: &str) -> Result<String> {
    let mut child = command(&path_of(program))
        .args(["daemon", "--succeed", name, "--check"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("starting it")?;
    let reports = listen(child.stdout.take().expect("spawned with a pipe"))?;
    match reports.recv_timeout(LOOK_LIMIT) {
        Ok(Report::Able { version }) => {
            let _ = child.wait();
            Ok(version)
        }
        Ok(Report::Failed(sentence)) => {
            let _ = child.wait();
            bail!(sentence)
        }
        Err(RecvTimeoutError::Timeout) => {
            // One that waits for a disk that hangs dies when that answers, if it ever does.
            let _ = child.kill();
            bail!("it said nothing for {} s", LOOK_LIMIT.as_secs())
        }
        Ok(_) | Err(RecvTimeoutError::Disconnected) => bail!(
            "expected it to say so, found that it ended ({}); is it a replicator of a version that \
             has `upgrade`?",
            ended(&mut child)
        ),
    }
}

fn ended(child: &mut Child) -> String {
    child.wait().map_or_else(|error| error.to_string(), |status| status.to_string())
}

fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg0("replicator");
    command
}

fn path_of(file: &impl AsRawFd) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

/// The program that asks for an upgrade: the one that is to go on.
pub(crate) fn own_program() -> io::Result<PathBuf> {
    std::env::current_exe()
}

/// How long what is in flight may take to be answered; it is sent again otherwise.
const QUIET_LIMIT: Duration = Duration::from_millis(300);
const QUIET_PAUSE: Duration = Duration::from_millis(1);
/// How long I/O of disks is waited for. What takes longer keeps its disk busy, and is waited for by
/// who opens that (I14); a disk that hangs is opened when it is back (P5).
const IN_FLIGHT_LIMIT: Duration = Duration::from_millis(200);
/// How long a program may take to look, on a busy host.
const LOOK_LIMIT: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const DETACHED: Manner =
        Manner { foreground: false, limit: Duration::from_secs(60), verbose: 0 };

    #[test]
    fn a_program_that_does_not_know_the_question_is_refused() {
        let refusal = ask(&File::open("/bin/true").unwrap(), "repl").unwrap_err().to_string();
        assert!(refusal.contains("is it a replicator of a version that has"), "{refusal}");
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("text");
        fs::write(&path, "no program").unwrap();
        let refusal = ask(&File::open(&path).unwrap(), "repl").unwrap_err().to_string();
        assert_eq!(refusal, "starting it");
    }

    #[test]
    fn the_manner_is_handed_on_as_words_that_the_command_line_reads() {
        use crate::args::{Arguments, Command};
        use clap::Parser;
        let foreground =
            Manner { foreground: true, limit: Duration::from_millis(1500), verbose: 2 };
        for manner in [DETACHED, foreground] {
            let words = manner.arguments("repl", 7);
            let words = std::iter::once("replicator").chain(words.iter().map(String::as_str));
            let arguments = Arguments::try_parse_from(words).unwrap();
            let Command::Daemon(daemon) = arguments.command else { panic!() };
            assert_eq!(daemon.lock, Some(7));
            assert_eq!(daemon.foreground, manner.foreground.then_some(manner.limit));
            assert_eq!((daemon.check, arguments.verbose), (false, manner.verbose));
        }
    }
}
