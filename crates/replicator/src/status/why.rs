//! Why a site is not in sync, and why writers wait: one sentence each, with the single cause.
//!
//! Made of a [`Status`] and nothing else, so that every cause can be tested.

mod loss;

use std::fmt;

use super::data::{
    FailureKind, Fate, LogStatus, ResizeStatus, RunState, SiteOrder, SiteState, SiteStatus, Status,
};
use super::human::{bytes, seconds};

/// One sentence.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Reason {
    /// The site it is about; none: the replicator as a whole.
    pub slink: Option<u16>,
    /// Whether all is well there.
    pub in_sync: bool,
    /// The sentence, without its subject.
    pub text: String,
}

/// One sentence per site; before them, if writers wait or nothing moves at all, one about that,
/// and one about a log that is to have another size.
#[must_use]
pub fn why(status: &Status) -> Vec<Reason> {
    let of_all = of_all(status).map(|text| Reason { slink: None, in_sync: false, text });
    let of_site = |site: &SiteStatus| {
        let is = of_site(status, site);
        let text = match site.verify.as_ref().map(|verify| (verify, verify.sentence(site.slink))) {
            Some((verify, said)) if verify.is_wrong() => format!("{said}; apart from that {is}"),
            Some((_, said)) => format!("{is}; {said}"),
            None => is,
        };
        Reason { slink: Some(site.slink), in_sync: site.is_in_sync(), text }
    };
    let resize = status.log.as_ref().and_then(|log| log.resize.as_ref());
    let of_log = resize.map(|it| Reason { slink: None, in_sync: true, text: it.sentence() });
    of_all.into_iter().chain(of_log).chain(status.sites.iter().map(of_site)).collect()
}

impl ResizeStatus {
    /// A sentence.
    #[must_use]
    pub fn sentence(&self) -> String {
        let Self { from_sectors, to_sectors, waits_for } = self;
        format!("the log has {from_sectors} sectors, and waits {waits_for} to have {to_sectors}")
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.slink {
            Some(slink) => write!(f, "site {slink}: {}", self.text),
            None => f.write_str(&self.text),
        }
    }
}

// ---- the replicator

/// The first thing that stops everybody, or makes all writers wait.
fn of_all(status: &Status) -> Option<String> {
    let trouble = || status.trouble.clone().unwrap_or_default();
    match status.state {
        RunState::Opening => return Some("its log is being opened".to_owned()),
        RunState::Stopping => {
            return Some("it is being stopped, and its sites catch up".to_owned());
        }
        RunState::Stopped => return Some("it is stopped".to_owned()),
        RunState::Failed => return Some(format!("its log could not be opened: {}", trouble())),
        RunState::Running => {}
    }
    let log = status.log.as_ref()?;
    loss::lost(status, log)
        .or_else(|| unreadable(status, log))
        .or_else(|| waiting(status, log))
        .or_else(|| suspended(status))
}

/// P6: no complete copy can be read.
fn unreadable(status: &Status, log: &LogStatus) -> Option<String> {
    if log.reads_from.is_some() && status.reads_waiting == 0 {
        return None;
    }
    let copies: Vec<String> = log.whole_copies.iter().map(|nr| format!("site {nr}")).collect();
    let who = if log.full { "reads and writers wait" } else { "reads wait" };
    let full = if log.full { ", and the log is full" } else { "" };
    let copies = copies.join(" or ");
    Some(format!("{who} for {copies}: no complete copy can be read{full}"))
}

/// Who makes writers wait, and since when.
fn waiting(status: &Status, log: &LogStatus) -> Option<String> {
    if log.full {
        return status.sites.iter().min_by_key(|site| site.cursor).map(full_log);
    }
    if log.tail_full {
        return status.site(0).map(|local| {
            let since = seconds(local.lag_seconds);
            format!("writers wait for site 0: memory is full of what it lacks, since {since}")
        });
    }
    let refuses = |site: &&SiteStatus| {
        let asked = site.state == SiteState::Down && site.limits.on_down == "error";
        asked && (site.limits.over || (site.sync && !site.demoted))
    };
    if let Some(site) = status.sites.iter().find(refuses) {
        let nr = site.slink;
        return Some(format!("writers get errors: site {nr} is down, and has `on_down:error`"));
    }
    let slowest = status.sites.iter().filter(|site| makes_writers_wait(site));
    let slowest = slowest.max_by(|a, b| a.lag_seconds.total_cmp(&b.lag_seconds))?;
    let (nr, since) = (slowest.slink, seconds(slowest.lag_seconds));
    let cause = match &slowest.limits.fall_behind {
        Some(limit) if slowest.limits.over => format!("which is over its limit {limit}"),
        _ if slowest.state == SiteState::Down => "which is down".to_owned(),
        _ => format!("which is {}", slowest.policy),
    };
    Some(format!("writers wait for site {nr}, {cause}; the oldest write it lacks is {since} old"))
}

/// A `sync` site that works makes every write wait a little; that is no news.
fn makes_writers_wait(site: &SiteStatus) -> bool {
    let long = site.limits.over || site.lag_seconds >= LONG_SECONDS;
    site.waited_for && site.lag_writes > 0 && long
}

/// The log is full, and `site` is the one that keeps its head back.
fn full_log(site: &SiteStatus) -> String {
    let (nr, since) = (site.slink, seconds(site.lag_seconds));
    let end = match site.limits.on_full {
        Fate::Hold => "writers wait until it has taken some of it",
        Fate::Detach => "writers wait until that is in dirty regions",
        Fate::Error => "writers get errors, as `on_down:error` says",
    };
    format!("the log is full of what site {nr} lacks, the oldest of it {since} old: {end}")
}

fn suspended(status: &Status) -> Option<String> {
    let names = status.devices.iter().filter(|device| device.suspended);
    let names: Vec<&str> = names.map(|device| device.name.as_str()).collect();
    match names[..] {
        [] => None,
        [one] => Some(format!("the device {one} is suspended: its requests wait for `resume`")),
        _ => {
            let names = names.join(", ");
            Some(format!("the devices {names} are suspended: their requests wait for `resume`"))
        }
    }
}

// ---- a site

fn of_site(status: &Status, site: &SiteStatus) -> String {
    match site.state {
        SiteState::Opening => "not known before the log is open".to_owned(),
        SiteState::Down => down(status, site),
        SiteState::Detached => detached(status, site),
        SiteState::Resyncing => resyncing(site),
        // As at a start, before the link has looked around.
        SiteState::Streaming if site.detached => detached(status, site),
        SiteState::Streaming => streaming(site),
    }
}

fn down(status: &Status, site: &SiteStatus) -> String {
    let fate = kept(status, site);
    let Some(failure) = &site.failure else { return format!("down; {fate}") };
    let next = match failure.retry_seconds {
        None => format!("not tried before the message `up {}`", site.slink),
        Some(later) if later > 0.0 => format!("next try in {}", seconds(later)),
        // What hangs may still write; nothing is sent behind it (I15).
        _ if failure.how == FailureKind::Hung => "tried again when that has ended".to_owned(),
        _ => "being tried again".to_owned(),
    };
    format!("down for {}: {}; {next}; {fate}", seconds(failure.seconds), failure.error)
}

/// Where what a site lacks is, and what comes next.
fn kept(status: &Status, site: &SiteStatus) -> String {
    if site.detached {
        return format!("what it lacks is in dirty regions ({})", bytes(site.dirty_bytes));
    }
    let used = status.log.as_ref().map_or(0, LogStatus::ring_used_percent);
    let then = match site.limits.on_full {
        Fate::Detach => "dirty regions",
        Fate::Hold => "writers wait",
        Fate::Error => "writers get errors",
    };
    let without = if site.demoted { "acknowledgements go on without it; " } else { "" };
    format!("{without}the log keeps what it lacks ({used} % full), then {then}")
}

fn detached(status: &Status, site: &SiteStatus) -> String {
    let since = site.detached_why.as_ref().map_or(String::new(), |why| format!(", since {why}"));
    let left = bytes(site.dirty_bytes);
    let is_lost = status.log.as_ref().is_some_and(|log| log.loss.is_some());
    let when = if is_lost { "copied when there is a log again" } else { "about to be copied" };
    format!("detached{since}: {left} in dirty regions are {when}")
}

fn resyncing(site: &SiteStatus) -> String {
    let Some(resync) = &site.resync else {
        return format!("being copied: {} left", bytes(site.dirty_bytes));
    };
    let (left, all) = (bytes(resync.left_bytes), bytes(resync.total_bytes()));
    let pace = match (resync.rate_bytes, resync.eta_seconds) {
        (0, _) | (_, None) => ", none of it in the last moments".to_owned(),
        (rate, Some(eta)) => format!(" at {}/s, about {}", bytes(rate), seconds(eta)),
    };
    let limited = match site.limits.resync_rate_bytes {
        0 => String::new(),
        rate => format!("; its resync_rate is {}/s", bytes(rate)),
    };
    format!("being copied: {} % ({left} of {all} left{pace}){limited}", resync.percent)
}

fn streaming(site: &SiteStatus) -> String {
    let lacking = lacking(site);
    if !site.consistent {
        return format!("everything is copied; consistent when it has {lacking} from the log");
    }
    if site.limits.over {
        let limit = site.limits.fall_behind.as_deref().unwrap_or_default();
        return format!("over its limit {limit}: it lacks {lacking}; writers are held to its pace");
    }
    if site.demoted {
        return format!("demoted: acknowledgements wait for it again when it has {lacking}");
    }
    match (site.keeps_up(), site.lag_writes) {
        (true, 0) => "in sync".to_owned(),
        (true, _) if site.is_local() => format!("in sync; the log holds {lacking} for it"),
        (true, _) => format!("in sync; on their way: {lacking}"),
        (false, _) => format!("behind: it lacks {lacking}{}", bound(site)),
    }
}

fn lacking(site: &SiteStatus) -> String {
    let (size, age) = (bytes(site.lag_bytes), seconds(site.lag_seconds));
    let plural = if site.lag_writes == 1 { "" } else { "s" };
    format!("{} write{plural} ({size}, up to {age} old)", site.lag_writes)
}

fn bound(site: &SiteStatus) -> &'static str {
    match site.order {
        SiteOrder::None => "",
        SiteOrder::Group => ", and is fed one group a round trip",
        SiteOrder::Flush => ", and is fed one flush epoch a round trip",
    }
}

/// What writers wait for a `sync` site before it is worth a sentence.
const LONG_SECONDS: f64 = 1.0;

#[cfg(test)]
mod tests;
