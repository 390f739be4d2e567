//! `wait`: until sites have everything that was written when it began, and are consistent.
//!
//! Writes that come later are not waited for, so it ends under load too.

mod verified;

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use replicator::status::human::{bytes, seconds};
use replicator::{SiteStatus, Status, why};

use super::find::{ask, find};
use super::query::look;
use crate::args::WaitArgs;
use crate::control::Request;
use crate::output::{Progress, print};
use crate::runtime::{GroupDir, RuntimeDir};

pub(super) fn wait(args: &WaitArgs, runtime: &RuntimeDir) -> Result<()> {
    let group = find(runtime, &args.name)?.group;
    wait_for(args, &group).with_context(|| group.name().to_string())
}

fn wait_for(args: &WaitArgs, group: &GroupDir) -> Result<()> {
    let mut progress = Progress::new(group.name().as_str());
    let began = Instant::now();
    let mut status = look(group)?;
    let goal = status.log.as_ref().map_or(0, |log| log.written);
    loop {
        let lacking = lacking(&status, args.site, goal)?;
        let comparing = verified::step(&status, args.site).filter(|_| args.verified);
        if lacking.is_empty() && comparing.is_none() {
            progress.clear();
            return if args.verified { told(&status, args.site) } else { Ok(()) };
        }
        if let Some(limit) = args.timeout.filter(|limit| began.elapsed() >= *limit) {
            progress.clear();
            bail!(
                "not in sync within {}: {}",
                seconds(limit.as_secs_f64()),
                cause(&status, &lacking)
            );
        }
        let step = match comparing {
            Some(comparing) if lacking.is_empty() => comparing,
            _ => step(&status, &lacking),
        };
        progress.show_with(&step.what, step.done, step.total, &step.pace);
        thread::sleep(PAUSE);
        status = look(group)?;
    }
}

/// The message `drain`: begins it, waits for the sites that can be reached, and says what the
/// others lack.
pub(super) fn drain(group: &GroupDir, request: &Request) -> Result<()> {
    let goal = look(group)?.log.as_ref().map_or(0, |log| log.written);
    ask::<String>(group, request, |_| ())?;
    let mut progress = Progress::new(group.name().as_str());
    loop {
        let status = look(group)?;
        let (down, others): (Vec<_>, Vec<_>) =
            lacking(&status, None, goal)?.into_iter().partition(|site| status.is_cut_off(site));
        if others.is_empty() {
            progress.clear();
            let told = |site: &&SiteStatus| format!("{}\n", cause(&status, &[site]));
            return print(&down.iter().map(told).collect::<String>());
        }
        let step = step(&status, &others);
        progress.show_with(&step.what, step.done, step.total, &step.pace);
        thread::sleep(PAUSE);
    }
}

fn told(status: &Status, only: Option<u16>) -> Result<()> {
    print(&verified::outcome(status, only)?)
}

/// The sites, of all or the one asked for, that lack something up to the write `goal`.
fn lacking(status: &Status, only: Option<u16>, goal: u64) -> Result<Vec<&SiteStatus>> {
    if let Some(nr) = only {
        let sites: Vec<String> = status.sites.iter().map(|site| site.slink.to_string()).collect();
        let expected = sites.join(", ");
        ensure!(status.site(nr).is_some(), "expected one of the sites {expected}, found {nr}");
    }
    let chosen = status.sites.iter().filter(|site| only.is_none_or(|nr| nr == site.slink));
    Ok(chosen.filter(|site| !site.has_everything_up_to(goal)).collect())
}

/// What is being done for the sites that lack something, for a progress bar.
struct Step {
    what: String,
    done: u64,
    total: u64,
    pace: String,
}

fn step(status: &Status, lacking: &[&SiteStatus]) -> Step {
    let copying: Vec<_> = lacking.iter().filter_map(|site| Some((site, site.resync?))).collect();
    if copying.is_empty() {
        return Step { what: cause(status, lacking), done: 0, total: 0, pace: String::new() };
    }
    let numbers: Vec<String> = copying.iter().map(|(site, _)| site.slink.to_string()).collect();
    let plural = if numbers.len() == 1 { "" } else { "s" };
    let rate: u64 = copying.iter().map(|(_, resync)| resync.rate_bytes).sum();
    // The slowest of them is what is waited for; one that stands still has no end.
    let etas: Option<Vec<f64>> = copying.iter().map(|(_, resync)| resync.eta_seconds).collect();
    let eta = etas.and_then(|etas| etas.into_iter().reduce(f64::max));
    let eta = eta.map_or(String::new(), |eta| format!(", about {}", seconds(eta)));
    Step {
        what: format!("copying to site{plural} {}", numbers.join(", ")),
        done: copying.iter().map(|(_, resync)| resync.copied_bytes).sum(),
        total: copying.iter().map(|(_, resync)| resync.total_bytes()).sum(),
        pace: format!(", {}/s{eta}", bytes(rate)),
    }
}

/// Why the first of these sites lacks something.
fn cause(status: &Status, lacking: &[&SiteStatus]) -> String {
    let first = lacking.first().map(|site| site.slink);
    let reason = why(status).into_iter().find(|reason| reason.slink == first);
    reason.map_or(String::new(), |reason| reason.to_string())
}

/// Often enough for a bar, seldom enough for the daemon.
const PAUSE: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;
    use replicator::SiteState;
    use replicator::status::data::ResyncStatus;

    fn site(slink: u16, cursor: u64) -> SiteStatus {
        let state = SiteState::Streaming;
        SiteStatus { slink, cursor, state, consistent: true, ..SiteStatus::default() }
    }

    fn copied(slink: u16, done: u64, left: u64, rate: u64) -> SiteStatus {
        let resync = Some(ResyncStatus::new(1.0, done, left, rate));
        SiteStatus { state: SiteState::Resyncing, resync, ..site(slink, 100) }
    }

    fn status(sites: Vec<SiteStatus>) -> Status {
        Status { sites, ..Status::default() }
    }

    fn numbers(status: &Status, only: Option<u16>, goal: u64) -> Vec<u16> {
        lacking(status, only, goal).unwrap().iter().map(|site| site.slink).collect()
    }

    #[test]
    fn a_site_is_waited_for_until_it_is_consistent_and_has_what_was_written_by_then() {
        let mut sites = vec![site(0, 7), site(1, 8), site(2, 9), site(3, 9), copied(4, 1, 1, 1)];
        sites.push(site(5, 9));
        sites[3].consistent = false;
        sites[5].detached = true;
        let status = status(sites);
        let expected = [0, 3, 4, 5];
        assert_eq!(numbers(&status, None, 8), expected, "4, 5: what they cover is dirty there");
        assert_eq!(numbers(&status, Some(2), 8), [0; 0]);
        assert_eq!(numbers(&status, Some(4), 8), [4]);
    }

    #[test]
    fn a_site_that_is_not_there_is_an_error_that_names_those_that_are() {
        let error = lacking(&status(vec![site(0, 1), site(2, 1)]), Some(1), 0).unwrap_err();
        assert_eq!(error.to_string(), "expected one of the sites 0, 2, found 1");
    }

    #[test]
    fn copies_to_several_sites_are_one_bar_with_the_time_of_the_slowest() {
        let status = status(vec![copied(1, 10, 40, 20), copied(2, 30, 20, 1)]);
        let lacking: Vec<_> = status.sites.iter().collect();
        let shown = step(&status, &lacking);
        assert_eq!(shown.what, "copying to sites 1, 2");
        assert_eq!(
            (shown.done, shown.total, shown.pace.as_str()),
            (40, 100, ", 21 B/s, about 20 s")
        );
    }

    #[test]
    fn a_copy_that_stands_still_has_no_end() {
        let status = status(vec![copied(1, 10, 40, 0)]);
        let shown = step(&status, &[&status.sites[0]]);
        assert_eq!((shown.what.as_str(), shown.pace.as_str()), ("copying to site 1", ", 0 B/s"));
    }

    #[test]
    fn without_a_copy_the_cause_is_shown() {
        let mut far = site(1, 3);
        far.state = SiteState::Detached;
        let status = status(vec![site(0, 9), far]);
        let shown = step(&status, &[&status.sites[1]]);
        assert!(shown.what.starts_with("site 1: detached"), "{}", shown.what);
        assert_eq!(shown.total, 0);
    }
}
