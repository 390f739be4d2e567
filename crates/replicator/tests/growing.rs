//! Devices that become longer, while they are in use or between two openings.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod host;

use std::collections::BTreeMap;

use blk::{DiskId, Errno, Event, Machine, ReqId, Sectors, Span};
use host::{Fault, Host, assert_same};
use replicator::SiteState;

const LD: DiskId = DiskId(1);
const RD: DiskId = DiskId(2);
const BEFORE: u64 = 4096;
const AFTER: u64 = 6144;
const DIRTY_LOGS: [&str; 4] =
    ["core 2 64 nosync", "disk 3 /dl0 64 nosync", "nolog 0", "core 2 512 nosync"];

fn host(dirty_log: &str) -> Host {
    let leg = format!("1 1 /rd0 {dirty_log}");
    let sites = "blockdev 1 0 blockdev 4 1 async ios 5000";
    let mut disks = Host::blank();
    disks.get_mut(&RD).unwrap()[BEFORE as usize * 512..].fill(0xdd);
    let mut host = Host::of(sites, "create 4096", &leg, disks, BTreeMap::new());
    host.write(7, 9, 5);
    host.run();
    host
}

fn grow(host: &mut Host, to: u64) -> Result<Vec<String>, String> {
    let mut group = host.machine.plan().group();
    group.devices[0].len = Sectors(to);
    host.reload(&group, &[])
}

fn acked(host: &Host, req: ReqId) -> Option<Result<(), Errno>> {
    host.ended.get(&req).copied()
}

fn is_equal(host: &mut Host) {
    host.run_for(Span::from_secs(600));
    let device = host.read(0, AFTER);
    for disk in [LD, RD] {
        assert_same(&host.disks[&disk][..AFTER as usize * 512], &device);
    }
    for site in host.machine.status(host.now).sites {
        let well = (site.state, site.consistent, site.lag_writes, site.dirty_bytes);
        assert_eq!(well, (SiteState::Streaming, true, 0, 0), "site {}", site.slink);
    }
}

fn dirty_bytes(host: &Host) -> u64 {
    host.machine.status(host.now).sites[1].dirty_bytes
}

#[test]
fn a_device_grows_while_it_is_in_use_and_only_what_is_new_is_copied() {
    for dirty_log in DIRTY_LOGS {
        let mut host = host(dirty_log);
        let beyond = host.write(BEFORE, 8, 9);
        let under_way: Vec<ReqId> = (0..40).map(|i| host.write(i * 91 % 4000, 16, 3)).collect();
        assert_eq!(grow(&mut host, AFTER).unwrap(), ["device 0: grown from 4096 to 6144 sectors"]);
        let within = host.write(AFTER - 8, 8, 6);
        host.run_for(Span::from_millis(100));
        assert!(acked(&host, beyond).unwrap().is_err(), "it came before there was room");
        assert_eq!(acked(&host, within), Some(Ok(())));
        assert!(under_way.iter().all(|req| acked(&host, *req) == Some(Ok(()))));
        host.written.clear();
        is_equal(&mut host);
        let copied = host.written.get(&RD).copied().unwrap_or_default();
        let new = (AFTER - BEFORE) * 512;
        let most = if dirty_log == "nolog 0" { AFTER * 512 } else { new + 64 * 512 };
        assert!(copied <= most + (1 << 16), "{dirty_log}: {copied} bytes, {new} are new");
        let log = host.machine.log().unwrap();
        assert_eq!(log.superblock().devices[0].size, Sectors(AFTER), "no shorter table is taken");
        // And it goes on like that.
        let last = host.write(AFTER - 64, 64, 8);
        is_equal(&mut host);
        assert_eq!(acked(&host, last), Some(Ok(())));
    }
}

#[test]
fn a_device_grows_while_its_site_is_down_or_detached_and_hinders_nobody() {
    for dirty_log in DIRTY_LOGS {
        let mut host = host(dirty_log);
        host.faults.insert(RD, Fault::Absent);
        // More than the log holds: the site is detached.
        for i in 0..400 {
            host.write(i * 16 % 4000, 16, 2);
            host.run_for(Span::from_millis(20));
        }
        assert_eq!(host.machine.status(host.now).sites[1].state, SiteState::Down);
        let before = dirty_bytes(&host);
        grow(&mut host, AFTER).unwrap();
        assert!(dirty_bytes(&host) >= before, "what was dirty still is");
        let req = host.write(BEFORE - 4, 8, 9);
        host.run_for(Span::from_millis(100));
        assert_eq!(acked(&host, req), Some(Ok(())), "{dirty_log}");
        host.faults.clear();
        is_equal(&mut host);
    }
}

/// What its dirty log was about to say counts for nothing then. Were it waited for all the same, nothing
/// would leave the log any more.
#[test]
fn a_device_grows_while_its_sites_dirty_log_is_written_or_flushed_and_hinders_nobody() {
    for landed in 0..2 {
        let mut host = host(DIRTY_LOGS[1]);
        host.faults.extend([(RD, Fault::Absent), (DiskId(3), Fault::Slow)]);
        for i in 0.. {
            host.write(i * 16 % 4000, 16, 2);
            host.run_for(Span::from_millis(2));
            if host.site().detached {
                break;
            }
        }
        for _ in 0..landed {
            host.land();
            host.run_for(Span::from_millis(1));
        }
        grow(&mut host, AFTER).unwrap();
        host.faults.remove(&DiskId(3));
        host.land();
        for i in 0..400 {
            let req = host.write(i * 16 % 4000, 16, 3);
            host.run_for(Span::from_millis(20));
            assert_eq!(acked(&host, req), Some(Ok(())), "write {i}, {landed}");
        }
        host.faults.clear();
        is_equal(&mut host);
    }
}

#[test]
fn a_device_does_not_become_shorter_nor_grow_while_its_local_disk_lacks_something() {
    let mut host = host(DIRTY_LOGS[0]);
    let error = grow(&mut host, 2048).unwrap_err();
    assert!(error.contains("its size: what lies behind its new end would be lost"), "{error}");
    let error = grow(&mut host, 9000).unwrap_err();
    assert!(error.contains("8192"), "no disk is that long: {error}");
    host.faults.insert(LD, Fault::Absent);
    for i in 0..400 {
        host.write(i * 16 % 4000, 16, 2);
        host.run_for(Span::from_millis(20));
    }
    let error = grow(&mut host, AFTER).unwrap_err();
    assert!(error.contains("can't grow while its local disk lacks something"), "{error}");
    let beyond = host.write(BEFORE, 8, 9);
    host.run_for(Span::from_secs(1));
    assert!(acked(&host, beyond).unwrap().is_err(), "nothing was changed");
}

/// A crash at any moment: whoever opens the log by the longer table has all that was
/// acknowledged, and what a site may lack is copied.
#[test]
fn a_crash_while_a_device_grows_loses_nothing_whatever_had_been_written_by_then() {
    for dirty_log in DIRTY_LOGS {
        for effects in 0..60 {
            let mut host = host(dirty_log);
            grow(&mut host, AFTER).unwrap();
            host.effects_left = Some(effects);
            let req = host.write(AFTER - 8, 8, 6);
            host.run_for(Span::from_secs(5));
            let leg = format!("1 1 /rd0 {dirty_log}");
            let sites = "blockdev 1 0 blockdev 4 1 async ios 5000";
            let table = (sites, "auto 4096", "nolog 0", leg.as_str());
            let mut again =
                Host::of_size(AFTER, table, host.disks.clone(), BTreeMap::new(), host.kept.clone());
            again.run();
            if acked(&host, req) == Some(Ok(())) {
                assert_eq!(again.read(AFTER - 8, 8), [6; 8 * 512], "{dirty_log}, {effects}");
            }
            is_equal(&mut again);
        }
    }
}

#[test]
fn a_device_that_grew_between_two_openings_is_copied_anew_and_a_shorter_one_is_refused() {
    let mut host = host(DIRTY_LOGS[0]);
    host.run_for(Span::from_secs(60));
    let leg = format!("1 1 /rd0 {}", DIRTY_LOGS[0]);
    let table = ("blockdev 1 0 blockdev 1 1", "auto 4096", "nolog 0", leg.as_str());
    let open = |sectors, disks| Host::of_size(sectors, table, disks, BTreeMap::new(), None);
    let mut grown = open(AFTER, host.disks.clone());
    is_equal(&mut grown);
    assert!(grown.written[&RD] >= AFTER * 512, "which of it was equal, nobody knows");
    let mut shorter = open(BEFORE, grown.disks.clone());
    shorter.run();
    let phase = format!("{:?}", shorter.machine.phase());
    assert!(phase.contains("Shorter"), "{phase}");
}

/// A look at the site before the last growth says nothing of the disk that it needs now.
#[test]
fn a_device_grows_again_while_its_site_is_looked_at() {
    for dirty_log in DIRTY_LOGS {
        let mut host = host(dirty_log);
        host.faults.insert(RD, Fault::Hangs);
        grow(&mut host, AFTER - 512).unwrap();
        host.run_for(Span::from_millis(100));
        assert!(!host.hung.is_empty(), "its disk is open again, and being read");
        grow(&mut host, AFTER).unwrap();
        host.faults.clear();
        for (io, buf) in std::mem::take(&mut host.hung) {
            host.machine.handle(host.now, Event::Done { io, result: Ok(()), buf });
        }
        is_equal(&mut host);
    }
}

#[test]
fn a_device_grows_that_a_site_does_not_have_any_more() {
    let mut host = host(DIRTY_LOGS[0]);
    let with = host.machine.plan().group();
    let mut without = with.clone();
    without.devices[0].table.legs.retain(|leg| leg.slink.is_local());
    host.reload(&without, &[]).unwrap();
    host.run_for(Span::from_secs(10));
    grow(&mut host, AFTER).unwrap();
    host.run_for(Span::from_secs(60));
    assert!(host.site().consistent, "nothing that it has has changed");
    let mut with = with;
    with.devices[0].len = Sectors(AFTER);
    host.reload(&with, &[("/rd0", RD.0)]).unwrap();
    is_equal(&mut host);
}
