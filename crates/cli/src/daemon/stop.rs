//! The end of a daemon: nobody uses the devices, the sites have caught up, nothing is left.
//!
//! `remove` changes nothing until it is sure to succeed. A signal cannot be refused: if a
//! device is in use then, it is left to a successor, and whoever uses it waits.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail, ensure};
use replicator::Status;
use rustix::fs::OFlags;

use super::served::{Daemon, STOP_LIMIT};

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

/// The part of `remove` that can be refused: until the first device is gone, everything is
/// as it was.
pub(super) fn take_devices_away(
    daemon: &mut Daemon,
    terms: &Terms,
    mut progress: impl FnMut(String),
) -> Result<()> {
    prepare(daemon, terms, &mut progress)?;
    progress("taking its devices away, closing its log".to_owned());
    daemon.remove_devices()
}

/// Ends the daemon for a signal.
pub(super) fn on_signal(daemon: Daemon, limit: Duration) -> Result<()> {
    let terms = Terms { drain: true, force: false, limit };
    let drained = drain(&daemon, &terms, |text| log::info!("{text}"));
    if let Err(error) = &drained {
        log::warn!("{error:#}; the log keeps what they lack");
    }
    match claim(&daemon) {
        Ok(claims) => {
            drop(claims);
            daemon.end(drained.is_ok())
        }
        Err(error) => {
            let name = daemon.dir.name();
            log::warn!("{error:#}; its requests wait for `replicator recover {name}`");
            daemon.drive.stop(drained.is_ok(), STOP_LIMIT)
        }
    }
}

/// Makes sure that the end will succeed.
fn prepare(daemon: &Daemon, terms: &Terms, mut progress: impl FnMut(String)) -> Result<()> {
    let mut drained = || {
        drain(daemon, terms, &mut progress).map_err(|error| {
            anyhow!(
                "{error:#}; nothing was removed: wait longer with --timeout, or leave it to the \
                 log with --no-drain"
            )
        })
    };
    if terms.force {
        return drained();
    }
    // Held, so that nobody mounts a device while the sites catch up.
    let claims = claim(daemon)?;
    drained()?;
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
            "not everything has arrived within {} s: {lagging}",
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

#[cfg(test)]
mod tests {
    use super::*;
    use replicator::SiteStatus;

    fn status(lags: &[u64]) -> Status {
        let site = |(nr, lag): (usize, &u64)| SiteStatus {
            slink: u16::try_from(nr).unwrap(),
            lag_writes: *lag,
            ..SiteStatus::default()
        };
        Status { sites: lags.iter().enumerate().map(site).collect(), ..Status::default() }
    }

    #[test]
    fn sites_that_have_everything_hold_nothing_up() {
        assert_eq!(lagging(&status(&[0, 0])), None);
    }

    #[test]
    fn a_site_that_lacks_something_is_named() {
        let words = lagging(&status(&[0, 7, 1])).unwrap();
        assert_eq!(words, "site 1 lacks 7 writes, site 2 lacks 1 writes");
    }
}
