//! How far acknowledgements run ahead of a site that has a fall-behind limit, when writers wait,
//! and when they go on: at the high mark, and at the low one.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod host;

use std::collections::BTreeMap;

use blk::{DiskId, ReqId, Span};
use host::{Fault, Host};

const RD: DiskId = DiskId(2);

/// The site has all, and from now on gets what it gets when the test says so.
fn host(limit: &str) -> Host {
    let sites = format!("blockdev 1 0 blockdev 5 1 async {limit} timeout_io:1h");
    let remote = "1 1 /rd0 core 2 64 nosync";
    let mut host = Host::of(&sites, "create 4096", remote, Host::blank(), BTreeMap::new());
    host.write(0, 8, 9);
    host.run();
    assert_eq!(host.site().lag_writes, 0);
    host.faults.insert(RD, Fault::Slow);
    host
}

/// A write of 4 KiB, in a group of its own: none waits longer than 50 ms for a site.
fn write(host: &mut Host, nr: u64) -> ReqId {
    let req = host.write(nr * 8, 8, 1);
    wait(host, 60);
    req
}

/// Time goes by even if nothing is due.
fn wait(host: &mut Host, millis: u64) {
    let until = host.now + Span::from_millis(millis);
    host.run_for(Span::from_millis(millis));
    host.now = host.now.max(until);
}

/// One more group is at the site.
fn arrives(host: &mut Host) {
    let cursor = host.site().cursor;
    for _ in 0..4 {
        host.land();
        wait(host, 1);
        if host.site().cursor > cursor {
            return assert_eq!(host.site().cursor, cursor + 1);
        }
    }
    panic!("nothing arrives at the site");
}

fn acked(host: &Host, asked: &[ReqId]) -> usize {
    asked.iter().filter(|req| host.ended.contains_key(req)).count()
}

/// Which of these was told of the site.
fn told(host: &Host, words: [&str; 2]) -> Vec<String> {
    let events = host.machine.events_since(0, 1000).records.into_iter();
    let of_site = events.filter(|event| event.slink == Some(1)).map(|event| event.event);
    of_site.filter(|event| words.contains(&event.as_str())).collect()
}

#[test]
fn writers_wait_at_the_limit_and_go_on_when_the_site_is_a_quarter_below_what_they_had() {
    for limit in ["ios 8", "size 32k"] {
        let mut host = host(limit);
        let mut asked: Vec<ReqId> = (0..8).map(|nr| write(&mut host, nr)).collect();
        assert_eq!((acked(&host, &asked), host.site().limits.over), (8, false), "{limit}");
        asked.extend((8..12).map(|nr| write(&mut host, nr)));
        assert_eq!((acked(&host, &asked), host.site().limits.over), (8, true), "{limit}");
        let mut went = Vec::new();
        for _ in 0..4 {
            arrives(&mut host);
            went.push((acked(&host, &asked), host.site().limits.over));
        }
        assert_eq!(went, [(8, true), (10, true), (10, true), (12, false)], "{limit}");
    }
}

/// One that is larger than the limit would never be acknowledged otherwise.
#[test]
fn whatever_a_site_has_is_acknowledged_however_small_its_limit() {
    let mut host = host("size 1");
    let asked: Vec<ReqId> = (0..3).map(|nr| write(&mut host, nr)).collect();
    let mut went = Vec::new();
    for _ in 0..3 {
        went.push(acked(&host, &asked));
        arrives(&mut host);
    }
    assert_eq!((went, acked(&host, &asked)), (vec![0, 1, 2], 3));
}

#[test]
fn writers_wait_once_the_oldest_write_that_a_site_lacks_is_as_old_as_the_limit() {
    let mut host = host("timeout 1s");
    let closed = host.now;
    let first = write(&mut host, 0);
    wait(&mut host, 870);
    let last = write(&mut host, 1);
    assert_eq!((acked(&host, &[first, last]), host.site().limits.over), (2, false));
    wait(&mut host, 100);
    assert!(host.now.since(closed) > Span::from_secs(1) && host.site().limits.over, "by itself");
    let held = write(&mut host, 2);
    assert_eq!(acked(&host, &[held]), 0);
}

#[test]
fn writers_go_on_when_what_a_site_lacks_is_younger_than_three_quarters_of_the_limit() {
    let mut host = host("timeout 1s");
    let first = write(&mut host, 0);
    wait(&mut host, 140);
    let second = write(&mut host, 1);
    wait(&mut host, 140);
    let third = write(&mut host, 2);
    wait(&mut host, 590);
    let held = write(&mut host, 3);
    assert_eq!(acked(&host, &[first, second, third, held]), 3);
    arrives(&mut host);
    assert!(host.site().limits.over, "the second is 0.9 s old");
    assert_eq!(acked(&host, &[held]), 0);
    arrives(&mut host);
    assert!(!host.site().limits.over, "the third is 0.7 s old");
    assert_eq!(acked(&host, &[held]), 1);
}

#[test]
fn a_write_that_a_site_has_is_acknowledged_although_the_next_one_is_as_old_as_that() {
    let mut host = host("timeout 1s");
    write(&mut host, 0);
    wait(&mut host, 1000);
    let asked = [write(&mut host, 1), write(&mut host, 2)];
    wait(&mut host, 800);
    arrives(&mut host);
    assert_eq!((acked(&host, &asked), host.site().limits.over), (0, true));
    arrives(&mut host);
    assert_eq!((acked(&host, &asked), host.site().limits.over), (1, true));
    arrives(&mut host);
    assert_eq!((acked(&host, &asked), host.site().limits.over), (2, false));
}

#[test]
fn it_is_told_once_that_a_limit_was_crossed_and_once_that_it_is_no_more() {
    let mut host = host("ios 8");
    let words = ["over_limit", "within_limit"];
    for nr in 0..10 {
        write(&mut host, nr);
    }
    assert_eq!(told(&host, words), ["over_limit"]);
    for _ in 0..10 {
        arrives(&mut host);
    }
    assert_eq!(told(&host, words), words);
}

/// Nobody is held to a site that is `async` and has no limit, copied or not.
#[test]
fn that_writers_are_held_to_a_site_is_told_of_sites_with_a_limit_only() {
    let words = ["demoted", "promoted"];
    for (limit, times) in [("ios 8", 1), ("ios 0", 0)] {
        let mut host = host(limit);
        let before = told(&host, words).len();
        host.faults.clear();
        host.machine.message(host.now, None, &["resync", "1"]).unwrap();
        host.run();
        assert!(!host.site().detached);
        assert_eq!(told(&host, words)[before..], words.repeat(times), "{limit}");
    }
}

#[test]
fn a_site_without_a_limit_is_waited_for_by_nobody() {
    for limit in ["ios 0", "size 0", "timeout 0"] {
        let mut host = host(limit);
        let asked: Vec<ReqId> = (0..12).map(|nr| write(&mut host, nr)).collect();
        wait(&mut host, 5000);
        let limits = host.site().limits;
        assert_eq!((acked(&host, &asked), limits.over, limits.fall_behind), (12, false, None));
    }
}
