//! What a table says of the local site and of the log's memory, changed while it is in use: the
//! LD is waited for or not, fed in order or lazily; memory holds more of the log, or less.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod host;

use std::collections::BTreeMap;

use blk::{DiskId, Op, ReqId, Sector, Sectors, Span};
use host::{Fault, Host, assert_same};
use table::{Group, LdLag};

const LOG: DiskId = DiskId(0);
const LD: DiskId = DiskId(1);
const RD: DiskId = DiskId(2);
const SITES: &str = "blockdev 2 0 timeout_io:1h blockdev 1 1";
const REMOTE: &str = "1 1 /rd0 core 2 64 nosync";

/// With a log of 16 MiB: memory holds four of the largest groups at least.
fn large() -> Host {
    let mut disks = Host::blank();
    disks.insert(DiskId(0), vec![0; 16 << 20]);
    Host::of(SITES, "create 32768 tail:4m", REMOTE, disks, BTreeMap::new())
}

fn host() -> Host {
    Host::of(SITES, "create 4096", REMOTE, Host::blank(), BTreeMap::new())
}

fn policy(host: &mut Host, policy: &str) {
    host.edit(None, &format!("slink message 0 policy {policy}"), &[]).unwrap();
}

fn is_acked(host: &Host, req: ReqId) -> bool {
    host.ended.get(&req).is_some_and(|result| *result == Ok(()))
}

/// A write, and whether it was acknowledged in the moments that followed.
fn written(host: &mut Host, sector: u64, fill: u8) -> (ReqId, bool) {
    let req = host.write(sector, 8, fill);
    host.run_for(Span::from_millis(100));
    (req, is_acked(host, req))
}

fn with_memory(host: &Host, tail_bytes: u64, ld_lag: LdLag) -> Group {
    let mut group = host.machine.plan().group();
    (group.table.log.tail_bytes, group.table.log.ld_lag) = (Some(tail_bytes), Some(ld_lag));
    group
}

#[test]
fn a_local_site_that_becomes_sync_is_waited_for_and_no_more_once_it_is_async_again() {
    let mut host = host();
    host.faults.insert(LD, Fault::Hangs);
    assert!(written(&mut host, 0, 1).1, "async");
    policy(&mut host, "sync");
    assert!(written(&mut host, 8, 2).1, "it lacks a write, so that nobody waits for it yet");
    assert!(host.site_at(0).demoted);
    host.faults.clear();
    host.release();
    host.run_for(Span::from_secs(60));
    assert!(!host.site_at(0).demoted, "{:?}", host.site_at(0));
    host.faults.insert(LD, Fault::Hangs);
    let (req, acked) = written(&mut host, 16, 3);
    assert!(!acked, "it had caught up");
    policy(&mut host, "async");
    host.run_for(Span::from_millis(1));
    assert!(is_acked(&host, req));
    assert!(written(&mut host, 24, 4).1);
    host.faults.clear();
    host.release();
    host.run_for(Span::from_secs(60));
    let site = host.site_at(0);
    assert_eq!((site.detached, site.lag_writes), (false, 0), "{site:?}");
    let device = host.read(0, 4096);
    assert_same(host.device_bytes(LD.0), &device);
}

#[test]
fn a_local_site_never_shows_older_writes_however_often_it_is_fed_in_another_way() {
    let mut host = host();
    let mut model = vec![0; 4096];
    for i in 0..400_u64 {
        let (sector, len, fill) = (i * 29 % 96, 1 + i % 24, (i % 250) as u8 + 1);
        host.write(sector, len, fill);
        model[sector as usize..(sector + len) as usize].fill(fill);
        // Now and then with no time for anything to arrive, and with enough for some of it.
        host.run_for(Span::from_millis([0, 1, 40, 700][i as usize % 4]));
        if i % 3 == 0 {
            policy(&mut host, if i % 6 == 0 { "sync" } else { "async" });
        }
        let read: Vec<u8> = host.read(0, 128).chunks(512).map(|sector| sector[7]).collect();
        assert_eq!(read, model[..128], "after write {i}");
    }
    host.run_for(Span::from_secs(60));
    let device = host.read(0, 4096);
    assert_same(host.device_bytes(LD.0), &device);
    assert_same(host.device_bytes(2), &device);
}

/// Lazily the LD got the newest write of a place, of which the log then shows nothing any more, and
/// its cursor is still behind the older one. In order it would get that next.
#[test]
fn a_local_site_that_becomes_sync_does_not_get_what_was_written_over_long_ago() {
    let mut host = host();
    host.faults.insert(LD, Fault::Slow);
    // In two groups, before the LD gets anything.
    for fill in 1..=2 {
        host.write(0, 8, fill);
        host.run_for(Span::from_millis(1));
    }
    host.run_for(Span::from_secs(1));
    assert_same(&host.device_bytes(LD.0)[..8 * 512], &[2; 8 * 512]);
    // Somebody writes, so that it does not count as arrived.
    assert!(written(&mut host, 64, 3).1);
    policy(&mut host, "sync");
    host.land();
    for _ in 0..8 {
        host.run_for(Span::from_millis(1));
        assert_same(&host.device_bytes(LD.0)[..8 * 512], &[2; 8 * 512]);
        host.land();
    }
    host.run_for(Span::from_millis(1));
    assert_same(&host.device_bytes(LD.0)[64 * 512..72 * 512], &[3; 8 * 512]);
}

/// What a newer write hides goes there all the same while that one is not durable: else the older one
/// leaves the log, and a power cut takes the newer (P1).
#[test]
fn a_local_site_that_becomes_sync_gets_what_is_hidden_by_what_power_may_take() {
    let mut host = host();
    // While both are down, nobody needs the log to be durable further than writers do.
    host.faults.extend([(LD, Fault::Fails), (RD, Fault::Fails)]);
    let (sector, len) = (Sector(0), Sectors(8));
    let older = host.ask(Op::Write { sector, len, fua: true }, Some(vec![1; 8 * 512]));
    host.run_for(Span::from_millis(1));
    // Two in a group: a lone one would be durable at once.
    let newer = [host.write(0, 8, 2), host.write(100, 8, 3)];
    host.run_for(Span::from_millis(1));
    assert!(is_acked(&host, older) && newer.iter().all(|req| is_acked(&host, *req)));
    host.faults.insert(LOG, Fault::Slow);
    policy(&mut host, "sync");
    host.faults.remove(&LD);
    host.run_for(Span::from_secs(2));
    let log = host.machine.log().unwrap();
    assert!(log.durable() < log.written(), "{} {}", log.durable(), log.written());
    assert_same(&host.device_bytes(LD.0)[..8 * 512], &[1; 8 * 512]);
    host.faults.clear();
    host.land();
    host.run_for(Span::from_secs(60));
    assert!(!host.site_at(0).demoted, "{:?}", host.site_at(0));
    assert_same(&host.device_bytes(LD.0)[..8 * 512], &[2; 8 * 512]);
}

/// Lazily a write counts as arrived where a newer one hides it, which may not have arrived either:
/// a `sync` site promises more (P1).
#[test]
fn a_local_site_that_becomes_sync_is_not_waited_for_before_it_is_fed_in_order() {
    let mut host = host();
    host.faults.insert(LD, Fault::Slow);
    written(&mut host, 0, 1);
    policy(&mut host, "sync");
    // The first is on its way, so that the site is still fed lazily, and all but the last hidden.
    let acked: Vec<bool> = (2..=5).map(|fill| written(&mut host, 0, fill).1).collect();
    let site = host.site_at(0);
    assert!(site.demoted, "{acked:?}, and the LD has the first: {site:?}");
    assert_eq!(acked, [true; 4], "as with any site that is not in force");
    host.faults.clear();
    host.land();
    host.run_for(Span::from_secs(60));
    assert!(!host.site_at(0).demoted, "{:?}", host.site_at(0));
    assert_same(&host.device_bytes(LD.0)[..8 * 512], &[5; 8 * 512]);
}

#[test]
fn memory_that_may_hold_more_lets_those_go_that_wait_for_it() {
    let mut host = large();
    host.faults.insert(LD, Fault::WritesHang);
    let asked: Vec<ReqId> = (0..300).map(|i| host.write(i * 13, 64, i as u8)).collect();
    host.run_for(Span::from_millis(100));
    let waiting = |host: &Host| asked.iter().filter(|req| !is_acked(host, **req)).count();
    assert!(waiting(&host) > 0, "memory holds less than what the LD lacks");
    let group = with_memory(&host, 14 << 20, LdLag::Tail);
    let said = host.reload(&group, &[]).unwrap();
    assert!(said[0].ends_with(" tail:14m ld_lag:tail"), "{said:?}");
    host.run_for(Span::from_millis(100));
    assert_eq!(waiting(&host), 0);
    assert!(host.machine.plan().group().file().to_string().contains(" tail:14m"));
}

#[test]
fn the_ld_may_lag_by_what_the_log_holds_from_one_moment_to_the_next_and_back() {
    let mut host = large();
    host.faults.insert(LD, Fault::WritesHang);
    let asked: Vec<ReqId> = (0..60).map(|i| host.write(i * 26, 64, i as u8)).collect();
    host.run_for(Span::from_millis(100));
    let waits = |host: &Host, asked: &[ReqId]| asked.iter().any(|req| !is_acked(host, *req));
    assert!(!waits(&host, &asked));
    let lags = with_memory(&host, 4 << 20, LdLag::Log);
    host.reload(&lags, &[]).unwrap();
    let more: Vec<ReqId> = (0..300).map(|i| host.write(i * 13, 64, i as u8)).collect();
    host.run_for(Span::from_millis(100));
    assert!(!waits(&host, &more), "what the LD lacks may leave memory");
    let keeps = with_memory(&host, 4 << 20, LdLag::Tail);
    host.reload(&keeps, &[]).unwrap();
    host.faults.clear();
    host.release();
    host.run_for(Span::from_secs(60));
    // The LD has everything: from here on memory holds what it lacks.
    host.faults.insert(LD, Fault::WritesHang);
    let last: Vec<ReqId> = (0..300).map(|i| host.write(i * 13, 64, 0xaa)).collect();
    host.run_for(Span::from_millis(100));
    assert!(waits(&host, &last));
    host.faults.clear();
    host.release();
    host.run_for(Span::from_secs(60));
    assert!(!waits(&host, &last));
    let device = host.read(0, 4096);
    assert_same(host.device_bytes(LD.0), &device);
}

#[test]
fn memory_that_is_to_hold_less_does_so_when_the_ld_has_the_rest() {
    let mut host = large();
    let more = with_memory(&host, 14 << 20, LdLag::Tail);
    host.reload(&more, &[]).unwrap();
    for i in 0..300 {
        assert!(written(&mut host, i * 13, i as u8).1);
    }
    let less = with_memory(&host, 4 << 20, LdLag::Tail);
    host.reload(&less, &[]).unwrap();
    for i in 0..300 {
        let req = host.write(i * 13, 64, i as u8);
        host.run_for(Span::from_millis(20));
        assert!(is_acked(&host, req), "write {i}");
    }
    let log = host.machine.status(host.now).log.unwrap();
    assert!(log.tail_used_bytes <= log.tail_bytes, "{log:?}");
    let device = host.read(0, 4096);
    host.run_for(Span::from_secs(60));
    assert_same(host.device_bytes(LD.0), &device);
}
