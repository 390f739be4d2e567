//! `wait --verified`: also for the comparisons under way, and what they have found.

use anyhow::{Result, bail, ensure};
use replicator::status::human::{bytes, seconds};
use replicator::status::verify::VerifyStatus;
use replicator::{SiteStatus, Status};

use super::Step;

/// The comparisons of the sites that are looked at.
fn chosen(
    status: &Status,
    only: Option<u16>,
) -> impl Iterator<Item = (&SiteStatus, &VerifyStatus)> {
    let sites = status.sites.iter().filter(move |site| only.is_none_or(|nr| nr == site.slink));
    sites.filter_map(|site| Some((site, site.verify.as_ref()?)))
}

/// What is being compared, for a progress bar; `None`: nothing.
pub(super) fn step(status: &Status, only: Option<u16>) -> Option<Step> {
    let running: Vec<_> = chosen(status, only).filter(|(_, verify)| verify.running).collect();
    // The slowest is what is waited for.
    let eta = |verify: &VerifyStatus| verify.eta_seconds.unwrap_or(f64::INFINITY);
    let (site, verify) = running.into_iter().max_by(|a, b| eta(a.1).total_cmp(&eta(b.1)))?;
    let left = verify.eta_seconds.map_or(String::new(), |eta| format!(", about {}", seconds(eta)));
    let differ = verify.differing_ranges;
    Some(Step {
        what: format!("comparing site {}", site.slink),
        done: verify.compared_bytes + verify.dirty_bytes + verify.busy_bytes,
        total: verify.total_bytes,
        pace: format!(", {}/s{left}, {differ} ranges differ", bytes(verify.rate_bytes)),
    })
}

/// What was found, a line for each site; an error if something differs and is not repaired.
pub(super) fn outcome(status: &Status, only: Option<u16>) -> Result<String> {
    let line = |(site, verify): (&SiteStatus, &VerifyStatus)| {
        format!("site {}: {}", site.slink, verify.sentence(site.slink))
    };
    let lines: Vec<String> = chosen(status, only).map(line).collect();
    ensure!(!lines.is_empty(), "nothing was compared: the message `verify` has it done");
    if chosen(status, only).any(|(_, verify)| verify.is_wrong()) {
        bail!(lines.join("; "));
    }
    Ok(lines.into_iter().map(|line| line + "\n").collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(verify: Option<VerifyStatus>) -> Status {
        let site = SiteStatus { slink: 1, verify, ..SiteStatus::default() };
        Status { sites: vec![site], ..Status::default() }
    }

    #[test]
    fn a_comparison_under_way_is_a_step_and_one_that_ended_is_an_outcome() {
        let running = VerifyStatus {
            running: true,
            total_bytes: 4096,
            compared_bytes: 1024,
            rate_bytes: 512,
            eta_seconds: Some(6.0),
            ..VerifyStatus::default()
        };
        let step = step(&status(Some(running.clone())), None).unwrap();
        assert_eq!((step.what.as_str(), step.done, step.total), ("comparing site 1", 1024, 4096));
        assert_eq!(step.pace, ", 512 B/s, about 6 s, 0 ranges differ");
        let ended = VerifyStatus { running: false, whole: true, ..running };
        let ended = status(Some(ended));
        assert!(super::step(&ended, None).is_none() && super::step(&ended, Some(2)).is_none());
        assert!(outcome(&ended, None).unwrap().contains("site 1: verified"));
        outcome(&ended, Some(2)).unwrap_err();
    }

    #[test]
    fn what_differs_and_is_not_repaired_is_an_error() {
        let found = VerifyStatus { differing_ranges: 1, whole: true, ..VerifyStatus::default() };
        let repaired = VerifyStatus { repair: true, ..found.clone() };
        assert!(outcome(&status(Some(found)), None).is_err());
        assert!(outcome(&status(Some(repaired)), None).is_ok());
        assert!(outcome(&status(None), None).unwrap_err().to_string().contains("nothing was"));
    }
}
