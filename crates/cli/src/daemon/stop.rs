//! The end of a daemon: nobody uses the devices, the sites have caught up, nothing is left.
//!
//! `remove` changes nothing until it is sure to succeed. A signal cannot be refused: if a
//! device is in use then, it is left to a successor, and whoever uses it waits.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use replicator::Status;
use rustix::fs::OFlags;

use super::orders::Ask;
use super::served::Daemon;

/// Under which conditions a daemon is asked to end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// Whether the sites must have caught up.
    pub(super) drain: bool,
    /// Whether devices may be in use.
    pub(super) force: bool,
    /// How long the sites may take.
    pub(super) limit: Duration,
}

/// Ends the daemon for `remove`. The outer error is a refusal, and everything is as it was;
/// the inner one is about the end itself.
pub(super) fn on_request(
    mut daemon: Daemon,
    ask: &Ask,
    terms: &Terms,
) -> Result<Result<()>, (Box<Daemon>, anyhow::Error)> {
    match prepare(&daemon, terms, |text| ask.progress(text)).and_then(|()| {
        ask.progress("taking its devices away");
        daemon.remove_devices()
    }) {
        Ok(()) => Ok(daemon.end(terms.drain)),
        Err(error) => Err((Box::new(daemon), error)),
    }
}

/// Ends the daemon for a signal.
pub(super) fn on_signal(daemon: Daemon, limit: Duration) -> Result<()> {
    let terms = Terms { drain: true, force: false, limit };
    if let Err(error) = drain(&daemon, &terms, |text| log::info!("{text}")) {
        log::warn!("{error:#}; the log keeps what they lack");
    }
    match claim(&daemon) {
        Ok(claims) => {
            drop(claims);
            daemon.end(true)
        }
        Err(error) => {
            log::warn!(
                "{error:#}; its requests wait for a successor: `replicator recover {}`",
                daemon.dir.name()
            );
            daemon.drive.stop(true, limit)
        }
    }
}

/// Makes sure that the end will succeed.
fn prepare(daemon: &Daemon, terms: &Terms, mut progress: impl FnMut(String)) -> Result<()> {
    if terms.force {
        return drain(daemon, terms, progress);
    }
    // Held, so that nobody mounts a device while the sites catch up.
    let claims = claim(daemon)?;
    drain(daemon, terms, &mut progress)?;
    drop(claims);
    drop(claim(daemon)?);
    Ok(())
}

/// Waits until every site has everything.
fn drain(daemon: &Daemon, terms: &Terms, mut progress: impl FnMut(String)) -> Result<()> {
    if !terms.drain {
        return Ok(());
    }
    let deadline = Instant::now() + terms.limit;
    loop {
        let Some(lagging) = lagging(&daemon.drive.view().status()?) else { return Ok(()) };
        ensure!(
            Instant::now() < deadline,
            "not everything has arrived within {} s: {lagging}; nothing was removed; \
             wait longer with --timeout, or leave it to the log with --no-drain",
            terms.limit.as_secs()
        );
        progress(format!("waiting until everything has arrived: {lagging}"));
        std::thread::sleep(DRAIN_PAUSE);
    }
}

/// What has not arrived yet, in words; `None`: everything has.
fn lagging(status: &Status) -> Option<String> {
    let sites = status.sites.iter().filter(|site| site.lag_writes > 0);
    let words: Vec<String> = sites
        .map(|site| {
            let failure = site.failure.as_ref();
            let why = failure.map(|it| format!(" (device {}: {})", it.dev, it.error));
            let (nr, writes, why) = (site.slink, site.lag_writes, why.unwrap_or_default());
            format!("site {nr} lacks {writes} writes{why}")
        })
        .collect();
    (!words.is_empty()).then(|| words.join(", "))
}

/// Opens every device exclusively; fails if somebody uses one.
fn claim(daemon: &Daemon) -> Result<Vec<File>> {
    let exclusive = i32::try_from(OFlags::EXCL.bits()).expect("a flag of open");
    let mut claims = Vec::new();
    for it in daemon.states() {
        let path = PathBuf::from(it.path());
        let holder = uring::holder_of(&path);
        let claim = OpenOptions::new().read(true).custom_flags(exclusive).open(&path);
        match (holder, claim) {
            (None, Ok(claim)) => claims.push(claim),
            (Some(holder), _) => bail!(
                "{} ({}) is in use by {holder}; end that first, or use --force",
                it.name,
                it.path()
            ),
            (None, Err(error)) => bail!(
                "{} ({}) is in use by somebody who could not be found: {error}; \
                 end that first, or use --force",
                it.name,
                it.path()
            ),
        }
    }
    Ok(claims)
}

const DRAIN_PAUSE: Duration = Duration::from_millis(50);
