//! Trips to a disk that an application waits for, and what is kept out of their way.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod host;

use std::collections::BTreeMap;

use blk::{DiskId, Op, ReqId, Sector, Sectors, Span};
use host::{Fault, Host};

const LOG: DiskId = DiskId(0);
const LD: DiskId = DiskId(1);
const RD: DiskId = DiskId(2);
const REMOTE: &str = "1 1 /rd0 core 2 64 nosync";

fn host(sites: &str) -> Host {
    let mut host = Host::of(sites, "create 4096", REMOTE, Host::blank(), BTreeMap::new());
    host.run();
    host
}

fn sync() -> Host {
    host("blockdev 2 0 async blockdev 3 1 sync timeout_io:1h")
}

fn fua(host: &mut Host, sector: u64) -> ReqId {
    let (sector, len) = (Sector(sector), Sectors(8));
    host.ask(Op::Write { sector, len, fua: true }, Some(vec![7; 8 * 512]))
}

fn is_acked(host: &Host, req: ReqId) -> bool {
    host.ended.get(&req).is_some_and(|result| *result == Ok(()))
}

fn flushes(host: &Host, disk: DiskId) -> u64 {
    host.flushed.get(&disk).copied().unwrap_or(0)
}

fn written(host: &Host, disk: DiskId) -> u64 {
    host.written.get(&disk).copied().unwrap_or(0)
}

#[test]
fn a_lone_write_that_is_to_be_on_media_takes_one_trip_to_the_log() {
    let mut host = host("blockdev 2 0 async blockdev 2 1 async");
    let before = flushes(&host, LOG);
    let req = fua(&mut host, 0);
    host.run_for(Span::from_millis(1));
    assert!(is_acked(&host, req));
    assert_eq!(flushes(&host, LOG), before);
}

#[test]
fn a_write_that_nobody_wants_on_media_waits_for_none() {
    let mut host = host("blockdev 2 0 async blockdev 2 1 async");
    host.faults.insert(LOG, Fault::Slow);
    let req = host.write(0, 8, 1);
    host.run_for(Span::from_millis(1));
    host.land();
    host.run_for(Span::from_millis(1));
    assert!(is_acked(&host, req));
    assert_eq!(host.machine.log().unwrap().durable(), blk::Seq(0), "its flush is on the way");
}

#[test]
fn what_was_written_before_a_write_with_fua_needs_a_flush() {
    let mut host = host("blockdev 2 0 async blockdev 2 1 async");
    host.faults.insert(LOG, Fault::Slow);
    let plain = host.write(64, 8, 1);
    host.run_for(Span::from_millis(1));
    host.land();
    // The flush that the remote site waits for is on its way now.
    host.run_for(Span::from_millis(1));
    let before = flushes(&host, LOG);
    let req = fua(&mut host, 0);
    host.run_for(Span::from_millis(1));
    host.land();
    host.run_for(Span::from_millis(1));
    let found = (is_acked(&host, plain), is_acked(&host, req), flushes(&host, LOG) - before);
    assert_eq!(found, (true, false, 1), "the first may be in a cache");
    host.land();
    host.run_for(Span::from_millis(1));
    assert!(is_acked(&host, req));
    assert_eq!(flushes(&host, LOG), before + 1);
}

#[test]
fn a_lone_write_takes_one_trip_to_the_log_and_one_to_a_sync_site() {
    let mut host = sync();
    let before = (flushes(&host, LOG), flushes(&host, RD));
    let req = host.write(0, 8, 1);
    host.run_for(Span::from_millis(1));
    assert!(is_acked(&host, req));
    assert_eq!((flushes(&host, LOG), flushes(&host, RD)), before);
}

/// On a disk of 300 I/Os a second each copy to the LD would make the next write wait as long
/// again as it does.
#[test]
fn the_local_site_is_not_copied_to_while_an_application_waits_for_a_slow_site() {
    let mut host = sync();
    host.faults.insert(RD, Fault::Slow);
    let before = written(&host, LD);
    for sector in 0..20 {
        let req = host.write(sector * 8, 8, 1);
        host.run_for(Span::from_millis(50));
        assert!(!is_acked(&host, req));
        host.land();
        host.run_for(Span::from_millis(3));
        assert!(is_acked(&host, req));
        assert_eq!(written(&host, LD), before, "write {sector}");
    }
    host.run_for(Span::from_millis(10));
    assert_eq!(written(&host, LD), before + 20 * 8 * 512, "now it has nothing to wait for");
}

#[test]
fn the_local_site_is_copied_to_all_the_same_while_a_remote_site_is_waited_for_in_vain() {
    let mut host = sync();
    host.faults.insert(RD, Fault::Hangs);
    let before = written(&host, LD);
    let req = host.write(0, 8, 1);
    host.run_for(Span::from_secs(2));
    assert!(!is_acked(&host, req));
    assert_eq!(written(&host, LD), before + 8 * 512);
}

/// Each group is a barrier at the site: with one to apply there and one behind it, more of them
/// gain nothing.
#[test]
fn groups_grow_while_a_sync_site_has_enough_to_do() {
    let mut host = sync();
    host.faults.insert(RD, Fault::Slow);
    let groups = |host: &Host| host.machine.log().unwrap().counters().groups;
    let before = groups(&host);
    let mut asked = Vec::new();
    for sector in 0..20 {
        asked.push(host.write(sector * 8, 8, 1));
        host.run_for(Span::from_millis(1));
    }
    assert_eq!(groups(&host), before + 2, "one is applied, one comes next, the rest waits");
    for _ in 0..8 {
        host.land();
        host.run_for(Span::from_millis(1));
    }
    assert!(asked.iter().all(|req| is_acked(&host, *req)));
    assert_eq!(groups(&host), before + 3);
}

#[test]
fn a_group_does_not_wait_for_a_site_that_is_away() {
    let mut host = sync();
    host.faults.insert(RD, Fault::Hangs);
    for sector in 0..20 {
        host.write(sector * 8, 8, 1);
        host.run_for(Span::from_millis(1));
    }
    host.run_for(Span::from_millis(100));
    assert_eq!(host.machine.log().unwrap().written(), blk::Seq(20));
}
