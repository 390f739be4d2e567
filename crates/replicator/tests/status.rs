//! What is said of a replicator in trouble: the lines of 2009, the data, the sentences.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod host;

use std::collections::BTreeMap;

use blk::{DiskId, Span};
use host::{Fault, Host};
use replicator::status::data::{FailureKind, Fate, SiteOrder};
use replicator::{Reason, SiteState, Status, why};

const RD: DiskId = DiskId(2);
const LEG: &str = "1 1 /rd0 core 2 64 nosync";

fn host(site: &str, leg: &str) -> Host {
    let sites = format!("blockdev 2 0 async blockdev {site}");
    Host::of(&sites, "create 4096", leg, Host::blank(), BTreeMap::new())
}

fn status(host: &Host) -> Status {
    host.machine.status(host.now)
}

/// What `why` says of the whole, and of site 1.
fn said(status: &Status) -> (String, String) {
    let of = |slink: Option<u16>| {
        let reason = why(status).into_iter().find(|reason| reason.slink == slink);
        reason.map_or(String::new(), |reason| reason.to_string())
    };
    (of(None), of(Some(1)))
}

fn all_in_sync(status: &Status) -> bool {
    why(status).iter().all(|Reason { in_sync, .. }| *in_sync)
}

fn begins(text: &str, expected: &str) {
    assert!(text.starts_with(expected), "expected \"{expected}…\", found \"{text}\"");
}

fn contains(text: &str, expected: &str) {
    assert!(text.contains(expected), "expected \"…{expected}…\", found \"{text}\"");
}

#[test]
fn what_is_well_says_so() {
    let mut host = host("1 1", LEG);
    for i in 0..5 {
        host.write(i * 8, 8, 1);
        host.run();
    }
    let status = status(&host);
    assert!(all_in_sync(&status), "{:?}", why(&status));
    begins(&status.replicator_line(), "A,0,0 A,0,0 0/0/4096 state:running log:");
    begins(&status.device_line(&status.devices[0]), "repl 0 A,- A,64/64 state:active in_flight:0 ");
    let site = &status.sites[1];
    assert_eq!((site.order, site.shipped), (SiteOrder::Group, 5));
    let bound = site.groups_per_round_trip.unwrap();
    assert!(bound <= 1.0, "order:group ships one group a round trip, not {bound}");
    assert_eq!(status.sites[0].order, SiteOrder::None);
    assert_eq!(site.cursor, status.log.unwrap().written);
}

#[test]
fn a_site_that_is_down_says_since_when_why_and_where_what_it_lacks_is() {
    // A site that fails is tried again with a read; what hangs is waited for.
    for (fault, how, flag) in
        [(Fault::Fails, FailureKind::Error, "RW"), (Fault::Hangs, FailureKind::Hung, "W")]
    {
        let mut host = host("2 1 timeout_io:1s", LEG);
        host.faults.insert(RD, fault);
        let began = host.now;
        for i in 0..10 {
            host.write(i * 8, 8, 1);
            host.run_for(Span::from_millis(1));
        }
        host.run_for(Span::from_secs(5));
        // Nothing is due while something hangs; time goes on.
        host.now = began + Span::from_secs(5);
        let status = status(&host);
        let site = &status.sites[1];
        assert_eq!((site.state, site.lag_writes, site.lag_bytes), (SiteState::Down, 10, 40_960));
        let failure = site.failure.as_ref().unwrap();
        assert_eq!((failure.how, failure.dev), (how, 0));
        assert!((4.9..=5.0).contains(&failure.seconds), "{failure:?}");
        assert!(failure.retry_seconds.unwrap() <= 15.0);
        assert_eq!(site.limits.on_full, Fate::Detach);
        assert!(!all_in_sync(&status));
        let (of_all, of_site) = said(&status);
        assert_eq!(of_all, "", "nobody waits");
        begins(&of_site, "site 1: down for 5 s: ");
        contains(&of_site, "the log keeps what it lacks (");
        contains(&of_site, " % full), then dirty regions");
        begins(&status.replicator_line(), "A,0,0 A,10,80 10/80/4096 ");
        let line = status.device_line(&status.devices[0]);
        begins(&line, &format!("repl 0 A,- {flag},64/64 "));
        assert_eq!(status.events.last().unwrap().slink, Some(1));
        begins(&status.events.last().unwrap().what, "down: ");
    }
}

#[test]
fn a_disk_that_is_not_there_can_be_neither_read_nor_written() {
    let sites = "blockdev 2 0 async blockdev 1 1";
    let faults = BTreeMap::from([(RD, Fault::Absent)]);
    let mut host = Host::of(sites, "create 4096", LEG, Host::blank(), faults);
    host.run_for(Span::from_secs(5));
    let status = status(&host);
    begins(&status.device_line(&status.devices[0]), "repl 0 A,- RW,");
    assert_eq!(status.sites[1].failure.as_ref().unwrap().how, FailureKind::NotOpened);
    contains(&said(&status).1, "disk 2 is gone");
}

#[test]
fn a_site_that_overflowed_says_that_what_it_lacks_is_in_dirty_regions() {
    let mut host = host("1 1", LEG);
    host.faults.insert(RD, Fault::Fails);
    for i in 0..400 {
        host.write(i * 517 % 4000, 64, 1);
        host.run_for(Span::from_millis(10));
    }
    let status = status(&host);
    let site = &status.sites[1];
    assert!(site.detached && site.dirty_bytes > 0, "{site:?}");
    assert_eq!(site.detached_why.as_deref(), Some("the log was full of what it lacks"));
    contains(&said(&status).1, "; what it lacks is in dirty regions (");
    let line = status.device_line(&status.devices[0]);
    assert!(!line.contains("W,64/64"), "{line}");
}

#[test]
fn a_resync_shows_how_far_it_is_how_fast_it_goes_and_when_it_ends() {
    let mut disks = Host::blank();
    disks.get_mut(&DiskId(1)).unwrap().fill(7); // zeroes would cost nothing
    let sites = "blockdev 2 0 async blockdev 2 1 resync_rate:16k";
    let leg = "1 1 /rd0 core 2 64 sync";
    let mut host = Host::of(sites, "create 4096", leg, disks, BTreeMap::new());
    host.run_for(Span::from_secs(1));
    for i in 0..4 {
        host.write(i * 8, 8, 1);
        host.run_for(Span::from_secs(2));
    }
    let status = status(&host);
    let site = &status.sites[1];
    assert_eq!((site.state, site.consistent), (SiteState::Resyncing, false), "{site:?}");
    let resync = site.resync.unwrap();
    assert!(resync.copied_bytes > 0 && resync.left_bytes > 0 && resync.percent > 0);
    assert_eq!(resync.left_bytes, site.dirty_bytes);
    assert!(resync.eta_seconds.unwrap() > 0.0);
    assert_eq!(site.limits.resync_rate_bytes, 16 << 10);
    begins(&said(&status).1, "site 1: being copied: ");
    contains(&said(&status).1, "; its resync_rate is 16 KiB/s");
    contains(&status.device_line(&status.devices[0]), "+/64 ");
    contains(&status.replicator_line(), "site1:resyncing,inconsistent,");
    host.run_for(Span::from_secs(600));
    assert!(all_in_sync(&self::status(&host)));
}

#[test]
fn writers_that_wait_for_a_limit_are_told_whose() {
    let mut host = host("5 1 async ios 8 timeout_io:1h", LEG);
    host.faults.insert(RD, Fault::Hangs);
    for i in 0..12 {
        host.write(i * 16, 8, 1);
    }
    host.run_for(Span::from_secs(3));
    let status = status(&host);
    let site = &status.sites[1];
    assert!(site.limits.over && site.waited_for, "{site:?}");
    assert_eq!(site.limits.fall_behind.as_deref(), Some("ios 8"));
    contains(&status.replicator_line(), " S,12,");
    let (of_all, of_site) = said(&status);
    begins(&of_all, "writers wait for site 1, which is over its limit ios 8; the oldest write ");
    begins(&of_site, "site 1: over its limit ios 8: it lacks 12 writes");
}

#[test]
fn a_sync_site_is_waited_for_until_it_is_demoted() {
    let mut host = host("3 1 sync timeout_io:10s", LEG);
    contains(&status(&host).replicator_line(), " S,0,0 ");
    host.faults.insert(RD, Fault::Hangs);
    host.write(0, 8, 1);
    host.run_for(Span::from_secs(4));
    let waiting = status(&host);
    let (of_all, _) = said(&waiting);
    begins(&of_all, "writers wait for site 1, which is sync; the oldest write it lacks is 4 s old");
    host.run_for(Span::from_secs(20));
    let demoted = status(&host);
    assert!(demoted.sites[1].demoted && !demoted.sites[1].waited_for);
    contains(&demoted.replicator_line(), " A,1,8 ");
    let (of_all, of_site) = said(&demoted);
    assert_eq!(of_all, "", "nobody waits any more");
    contains(&of_site, "; acknowledgements go on without it; ");
}

#[test]
fn a_log_that_is_full_for_a_site_that_stalls_says_who_that_is() {
    let mut host = host("2 1 async+stall", LEG);
    host.faults.insert(RD, Fault::Fails);
    for i in 0..400 {
        host.write(i * 517 % 4000, 64, 1);
        host.run_for(Span::from_millis(10));
    }
    let status = status(&host);
    assert!(status.log.as_ref().unwrap().full);
    assert_eq!(status.sites[1].limits.on_full, Fate::Hold);
    assert!(status.sites[1].waited_for && !status.sites[0].waited_for);
    let (of_all, of_site) = said(&status);
    begins(&of_all, "the log is full of what site 1 lacks, the oldest of it ");
    contains(&of_all, ": writers wait until it has taken some of it");
    contains(&of_site, ", then writers wait");
}
