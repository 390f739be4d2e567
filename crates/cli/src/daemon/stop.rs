//! The end of a daemon: nobody uses the devices, the sites have caught up, nothing is left.
//!
//! `remove` changes nothing until it is sure to succeed. A signal cannot be refused: if a
//! device is in use then, it is left to a successor, and whoever uses it waits.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail, ensure};
use replicator::status::human;
use replicator::{SiteState, SiteStatus, Status};
use rustix::fs::OFlags;

use super::served::{Daemon, STOP_LIMIT};
use crate::runtime::DeviceState;

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
    if terms.force {
        // The driver waits for every request before it lets a device go, and some may wait
        // for what does not come: a site, space in the log, a resume.
        daemon.drive.refuse_all()?;
    }
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

/// Ends the daemon when somebody has deleted its last device.
pub(super) fn without_devices(daemon: Daemon, limit: Duration) -> Result<()> {
    log::info!("its last device was deleted: stopping");
    let terms = Terms { drain: true, force: false, limit };
    let drained = drain(&daemon, &terms, |text| log::info!("{text}"));
    if let Err(error) = &drained {
        log::warn!("{error:#}; the log keeps what they lack");
    }
    daemon.end(drained.is_ok())
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

/// Waits until every site has everything; not longer than a moment for one that is cut off, which
/// may be about to come back.
fn drain(daemon: &Daemon, terms: &Terms, mut progress: impl FnMut(String)) -> Result<()> {
    if !terms.drain {
        return Ok(());
    }
    let began = Instant::now();
    // What is written from now on is not waited for, or it would never end under load.
    let goal = daemon.drive.view().status()?.log.map_or(0, |log| log.written);
    loop {
        let lacking = lacking(&daemon.drive.view().status()?, goal);
        if lacking.is_empty() {
            return Ok(());
        }
        let words: Vec<&str> = lacking.iter().map(|it| it.words.as_str()).collect();
        let words = words.join(", ");
        let all_cut_off = lacking.iter().all(|it| it.is_cut_off);
        let limit = if all_cut_off { terms.limit.min(DOWN_LIMIT) } else { terms.limit };
        ensure!(
            began.elapsed() < limit,
            "not everything has arrived within {} s: {words}",
            limit.as_secs()
        );
        progress(format!("waiting until everything has arrived: {words}"));
        std::thread::sleep(DRAIN_PAUSE);
    }
}

/// A site that does not have everything.
#[derive(Debug, PartialEq, Eq)]
struct Lacking {
    /// Nothing can be sent there now.
    is_cut_off: bool,
    words: String,
}

/// The sites that lack something up to the write `goal`.
fn lacking(status: &Status, goal: u64) -> Vec<Lacking> {
    let is_lost = status.log.as_ref().is_some_and(|log| log.loss.is_some());
    let has_everything = |site: &SiteStatus| match site.slink {
        // The log makes its image whole at the next start.
        0 => site.cursor >= goal && !site.detached,
        _ => site.has_everything_up_to(goal) || (is_lost && is_even(site)),
    };
    let lacking = status.sites.iter().filter(|site| !has_everything(site));
    lacking.map(|site| Lacking::of(status, site)).collect()
}

/// Without a log each site is detached, and lacks what is dirty there.
fn is_even(site: &SiteStatus) -> bool {
    let detached = site.state == SiteState::Detached && site.detached;
    detached && site.consistent && (site.dirty_bytes, site.lag_writes) == (0, 0)
}

impl Lacking {
    fn of(status: &Status, site: &SiteStatus) -> Self {
        let failure = site.failure.as_ref();
        let why = failure.map(|it| format!(" (device {}: {})", it.dev, it.error));
        let what = match (site.lag_writes, site.dirty_bytes) {
            (0, 0) => "is not consistent yet".to_owned(),
            (0, dirty) => format!("lacks {} that are dirty there", human::bytes(dirty)),
            (writes, _) => format!("lacks {writes} writes"),
        };
        let words = format!("site {} {what}{}", site.slink, why.unwrap_or_default());
        Self { is_cut_off: status.is_cut_off(site), words }
    }
}

/// Opens every device exclusively; fails if somebody uses one.
fn claim(daemon: &Daemon) -> Result<Vec<File>> {
    claim_some(daemon, |_| true).map_err(|error| anyhow!("{error}; end that first, or use --force"))
}

/// Makes sure that nobody uses some devices, for as long as the claims are held. Who only looks
/// at one, as udev does when it comes, or is closed by who wrote to it, is waited for.
pub(super) fn claim_some(
    daemon: &Daemon,
    which: impl Fn(&DeviceState) -> bool,
) -> Result<Vec<File>> {
    let deadline = Instant::now() + LOOK_LIMIT;
    loop {
        match claim_now(daemon, &which) {
            Err(_) if Instant::now() < deadline => std::thread::sleep(LOOK_PAUSE),
            result => return result,
        }
    }
}

fn claim_now(daemon: &Daemon, which: impl Fn(&DeviceState) -> bool) -> Result<Vec<File>> {
    let exclusive = i32::try_from(OFlags::EXCL.bits()).expect("a flag of open");
    let mut claims = Vec::new();
    for it in daemon.states().iter().filter(|it| which(it)) {
        let path = PathBuf::from(it.path());
        let holder = uring::holder_of(&path);
        let claim = OpenOptions::new().read(true).custom_flags(exclusive).open(&path);
        match (holder, claim) {
            (None, Ok(claim)) => claims.push(claim),
            (Some(holder), _) => bail!("{} ({}) is in use by {holder}", it.name, it.path()),
            (None, Err(error)) => bail!(
                "{} ({}) is in use by somebody who could not be found: {error}",
                it.name,
                it.path()
            ),
        }
    }
    Ok(claims)
}

/// How long a look at a device may take, on a busy host.
const LOOK_LIMIT: Duration = Duration::from_secs(5);
const LOOK_PAUSE: Duration = Duration::from_millis(50);
const DRAIN_PAUSE: Duration = Duration::from_millis(50);
/// A site that is down is tried again within this time at first, and later less often.
const DOWN_LIMIT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use replicator::status::data::{LogStatus, LossStatus};

    const WRITTEN: u64 = 10;

    /// A site that has everything.
    fn site(slink: u16) -> SiteStatus {
        SiteStatus {
            slink,
            state: SiteState::Streaming,
            consistent: true,
            cursor: WRITTEN,
            ..SiteStatus::default()
        }
    }

    fn lacking_of(sites: Vec<SiteStatus>) -> Vec<(bool, String)> {
        let status = Status { sites, ..Status::default() };
        lacking(&status, WRITTEN).into_iter().map(|it| (it.is_cut_off, it.words)).collect()
    }

    #[test]
    fn sites_that_have_everything_hold_nothing_up() {
        assert_eq!(lacking_of(vec![site(0), site(1)]), []);
    }

    #[test]
    fn a_site_that_lacks_something_is_named() {
        let behind = |nr, lag| SiteStatus { lag_writes: lag, cursor: WRITTEN - lag, ..site(nr) };
        let expected =
            [(false, "site 0 lacks 7 writes".into()), (false, "site 2 lacks 1 writes".into())];
        assert_eq!(lacking_of(vec![behind(0, 7), site(1), behind(2, 1)]), expected);
    }

    #[test]
    fn what_is_dirty_at_a_site_has_not_arrived_there() {
        let detached =
            SiteStatus { state: SiteState::Detached, detached: true, dirty_bytes: 4096, ..site(1) };
        let copied = SiteStatus { consistent: false, ..site(2) };
        let local = SiteStatus { slink: 0, ..detached.clone() };
        let found = lacking_of(vec![local, detached, copied]);
        assert_eq!(found[0].1, "site 0 lacks 4 KiB that are dirty there");
        assert_eq!(found[1].1, "site 1 lacks 4 KiB that are dirty there");
        assert_eq!(found[2].1, "site 2 is not consistent yet");
    }

    #[test]
    fn without_a_log_a_site_that_is_dirty_nowhere_has_everything() {
        let detached = |slink, dirty_bytes| SiteStatus {
            state: SiteState::Detached,
            detached: true,
            dirty_bytes,
            ..site(slink)
        };
        let sites = vec![site(0), detached(1, 0), detached(2, 4096)];
        let loss = Some(LossStatus { bypassed: true, ..LossStatus::default() });
        let log = Some(LogStatus { loss, ..LogStatus::default() });
        let mut status = Status { sites, log, ..Status::default() };
        let found = lacking(&status, WRITTEN);
        let words = "site 2 lacks 4 KiB that are dirty there".to_owned();
        assert_eq!(found, [Lacking { is_cut_off: true, words }]);
        // With a log it has to be attached before anybody says so.
        status.log = None;
        assert_eq!(lacking(&status, WRITTEN).len(), 2);
    }

    #[test]
    fn a_site_that_is_down_is_known_as_such_also_when_it_is_only_dirty() {
        let down = SiteStatus { state: SiteState::Down, detached: true, ..site(1) };
        let found = lacking_of(vec![site(0), down]);
        assert!(found.len() == 1 && found[0].0, "{found:?}");
    }
}
