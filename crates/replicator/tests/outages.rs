//! Sites that join, fail, hang, are absent, fill the log, and come back.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod host;

use std::collections::BTreeMap;

use blk::{DiskId, Errno, Op, ReqId, Span};
use host::{Fault, Host, assert_same};
use replicator::Phase;
use slink::mark::MarkState;

const RD: DiskId = DiskId(2);
const DIRTY_LOGS: [&str; 3] =
    ["1 1 /rd0 nolog 0", "1 1 /rd0 core 2 64 nosync", "1 1 /rd0 disk 3 /dl0 64 nosync"];

fn host(site: &str, remote: &str) -> Host {
    Host::of(site, "create 4096", remote, Host::blank(), BTreeMap::new())
}

fn two_sites(policy: &str) -> String {
    format!("blockdev 2 0 async blockdev {policy}")
}

/// Writes all over the device, one at a time; none fails.
fn write_all_over(host: &mut Host, rounds: u64) {
    for i in 0..rounds {
        let write = host.write(i * 517 % 4000, 1 + i % 96, i as u8);
        host.run_for(Span::from_millis(20));
        assert_eq!(host.ended.get(&write), Some(&Ok(())), "write {i}");
    }
}

fn assert_in_sync(host: &mut Host) {
    let site = host.site();
    assert_eq!(
        (format!("{:?}", site.state).to_lowercase().as_str(), site.consistent),
        ("streaming", true),
        "{site:?}"
    );
    assert_eq!(site.lag_writes, 0, "{site:?}");
    let device = host.read(0, 4096);
    assert_same(host.device_bytes(2), &device);
}

#[test]
fn a_site_that_joins_is_copied_while_it_is_written_to() {
    for dirty_log in ["core 2 64 sync", "disk 3 /dl0 64 sync", "core 1 64"] {
        let mut disks = Host::blank();
        disks.get_mut(&DiskId(1)).unwrap()[..2048 * 512].fill(7);
        disks.get_mut(&RD).unwrap().fill(9);
        let sites = two_sites("1 1");
        let remote = format!("1 1 /rd0 {dirty_log}");
        let mut host = Host::of(&sites, "create 4096", &remote, disks, BTreeMap::new());
        write_all_over(&mut host, 50);
        host.run();
        assert_in_sync(&mut host);
    }
}

#[test]
fn a_site_that_fails_loses_nothing_and_stops_nobody() {
    for remote in DIRTY_LOGS {
        for fault in [Fault::Fails, Fault::Hangs, Fault::Absent] {
            let mut host = host(&two_sites("1 1"), remote);
            write_all_over(&mut host, 20);
            host.faults.insert(RD, fault);
            // Several times the log: it overflows.
            write_all_over(&mut host, 400);
            host.run_for(Span::from_secs(5));
            assert_eq!(format!("{:?}", host.site().state).to_lowercase(), "down", "{fault:?}");
            host.faults.clear();
            host.release();
            write_all_over(&mut host, 20);
            host.run();
            assert_in_sync(&mut host);
        }
    }
}

#[test]
fn a_site_that_is_absent_at_the_start_joins_when_it_comes() {
    let faults = BTreeMap::from([(RD, Fault::Absent)]);
    let sites = two_sites("1 1");
    let remote = "1 1 /rd0 core 2 64 sync";
    let mut host = Host::of(&sites, "create 4096", remote, Host::blank(), faults);
    assert!(matches!(host.machine.phase(), Phase::Running));
    write_all_over(&mut host, 200);
    assert_eq!(format!("{:?}", host.site().state).to_lowercase(), "down");
    host.faults.clear();
    host.run();
    assert_in_sync(&mut host);
}

#[test]
fn another_disk_in_the_place_of_a_sites_is_left_alone_until_somebody_says_so() {
    let mut host = host(&two_sites("1 1"), DIRTY_LOGS[1]);
    write_all_over(&mut host, 20);
    host.faults.insert(RD, Fault::Fails);
    write_all_over(&mut host, 20);
    host.faults.insert(RD, Fault::Other);
    let before = vec![0xaa; host.disks[&RD].len()];
    host.disks.insert(RD, before.clone());
    host.run();
    assert_eq!(format!("{:?}", host.site().state).to_lowercase(), "down");
    assert_same(&host.disks[&RD], &before);
    let now = host.now;
    host.machine.resync(now, blk::SlinkNr(1), None).unwrap();
    host.faults.clear();
    host.run();
    assert_in_sync(&mut host);
}

#[test]
fn what_was_dirty_when_the_daemon_died_is_copied_by_the_next() {
    for remote in DIRTY_LOGS {
        let mut first = host(&two_sites("1 1"), remote);
        write_all_over(&mut first, 20);
        first.faults.insert(RD, Fault::Fails);
        write_all_over(&mut first, 400);
        let sites = two_sites("1 1");
        let faults = BTreeMap::from([(RD, Fault::Absent)]);
        let mut host = Host::of(&sites, "open 4096", remote, first.disks, faults);
        assert!(matches!(host.machine.phase(), Phase::Running), "{:?}", host.machine.phase());
        write_all_over(&mut host, 5);
        host.faults.clear();
        host.run();
        assert_in_sync(&mut host);
    }
}

#[test]
fn a_dirty_log_that_fails_never_says_clean_and_is_used_again_when_it_is_back() {
    let sites = two_sites("1 1");
    let mut first = host(&sites, DIRTY_LOGS[2]);
    write_all_over(&mut first, 20);
    first.faults.insert(RD, Fault::Fails);
    first.faults.insert(DiskId(3), Fault::Fails);
    write_all_over(&mut first, 400);
    let standing = |host: &Host| host.machine.log().unwrap().superblock().legs[1].all_dirty;
    assert!(standing(&first), "the roster says what the dirty log can't (I7)");
    first.faults.remove(&DiskId(3));
    first.run();
    assert!(!standing(&first), "the dirty log can");
    // Absent at the next start: its blocks are not believed blindly, nor missed.
    let faults = BTreeMap::from([(DiskId(3), Fault::Absent), (RD, Fault::Absent)]);
    let mut host = Host::of(&sites, "open 4096", DIRTY_LOGS[2], first.disks, faults);
    write_all_over(&mut host, 5);
    assert_eq!(host.site().dirty_bytes, 4096 * 512, "nobody knows: all of it");
    host.faults.clear();
    host.run();
    assert_in_sync(&mut host);
}

#[test]
fn a_dirty_log_that_another_table_did_not_use_is_not_believed_again() {
    let sites = two_sites("1 1");
    let absent = || BTreeMap::from([(RD, Fault::Absent)]);
    let write = |host: &mut Host, sector, byte| {
        let write = host.write(sector, 96, byte);
        host.run_for(Span::from_millis(20));
        assert_eq!(host.ended.get(&write), Some(&Ok(())));
    };
    let mut first = host(&sites, DIRTY_LOGS[2]);
    first.faults = absent();
    (0..100).for_each(|i| write(&mut first, 0, i));
    assert!(first.site().detached && first.site().dirty_bytes < 200 * 512, "a part is dirty");
    // What is written now, only memory knows, and the log that this is so.
    let mut second = Host::of(&sites, "open 4096", DIRTY_LOGS[1], first.disks, absent());
    write(&mut second, 3000, 7);
    second.run();
    let mut third = Host::of(&sites, "open 4096", DIRTY_LOGS[2], second.disks, absent());
    third.faults.clear();
    third.run();
    assert_in_sync(&mut third);
}

#[test]
fn a_site_that_the_table_no_longer_names_does_not_fill_the_log_for_ever() {
    let mut first = host(&two_sites("1 1"), DIRTY_LOGS[2]);
    write_all_over(&mut first, 20);
    let alone = "blockdev 2 0 async";
    let mut without = Host::of(alone, "open 4096", "", first.disks, BTreeMap::new());
    write_all_over(&mut without, 400);
    let sites = two_sites("1 1");
    let mut host = Host::of(&sites, "open 4096", DIRTY_LOGS[2], without.disks, BTreeMap::new());
    write_all_over(&mut host, 5);
    host.run();
    assert_in_sync(&mut host);
}

#[test]
fn a_limit_holds_writers_to_the_pace_of_a_site_that_works_and_gives_up_one_that_is_down() {
    let mut host = host(&two_sites("5 1 async ios 8 timeout_io:1s"), DIRTY_LOGS[1]);
    write_all_over(&mut host, 20);
    host.faults.insert(RD, Fault::Hangs);
    let writes: Vec<ReqId> = (0..12).map(|i| host.write(i * 16, 8, 1)).collect();
    host.run_for(Span::from_millis(500));
    let acked = writes.iter().filter(|write| host.ended.contains_key(write)).count();
    assert_eq!(acked, 8, "eight writes may lack, the others wait");
    host.run_for(Span::from_secs(2));
    assert!(writes.iter().all(|write| host.ended.get(write) == Some(&Ok(()))));
    let site = host.site();
    assert_eq!(site.lag_writes, 0, "what it lacks is in dirty regions: {site:?}");
    host.faults.clear();
    host.release();
    host.run();
    assert_in_sync(&mut host);
}

#[test]
fn a_limit_may_give_up_a_site_that_works() {
    let mut host = host(&two_sites("5 1 async ios 8 on_limit:bitmap"), DIRTY_LOGS[1]);
    host.faults.insert(RD, Fault::Hangs);
    let writes: Vec<ReqId> = (0..12).map(|i| host.write(i * 16, 8, 1)).collect();
    host.run_for(Span::from_millis(300));
    assert!(writes.iter().all(|write| host.ended.get(write) == Some(&Ok(()))));
    host.faults.clear();
    host.release();
    host.run();
    assert_in_sync(&mut host);
}

#[test]
fn a_sync_site_that_hangs_is_demoted_after_its_deadline_and_promoted_when_it_is_back() {
    let mut host = host(&two_sites("3 1 sync timeout_io:1s"), DIRTY_LOGS[1]);
    write_all_over(&mut host, 20);
    host.faults.insert(RD, Fault::Hangs);
    let write = host.write(0, 8, 1);
    host.run_for(Span::from_millis(900));
    assert_eq!(host.ended.get(&write), None, "the site may have it yet");
    host.run_for(Span::from_millis(200));
    assert_eq!(host.ended.get(&write), Some(&Ok(())));
    assert!(host.machine.log().unwrap().superblock().sites[1].demoted, "durable first (P1)");
    host.faults.clear();
    host.release();
    host.run();
    assert_in_sync(&mut host);
    assert!(!host.machine.log().unwrap().superblock().sites[1].demoted);
    host.faults.insert(RD, Fault::Hangs);
    let write = host.write(0, 8, 2);
    host.run_for(Span::from_millis(900));
    assert_eq!(host.ended.get(&write), None, "acknowledgements wait for it again");
}

#[test]
fn on_down_decides_what_becomes_of_writers_to_a_sync_site() {
    for (words, expected) in [("hold", None), ("error", Some(Err(Errno::EIO)))] {
        let site = format!("4 1 sync timeout_io:1s on_down:{words}");
        let mut host = host(&two_sites(&site), DIRTY_LOGS[1]);
        write_all_over(&mut host, 5);
        host.faults.insert(RD, Fault::Fails);
        let write = host.write(0, 8, 1);
        host.run_for(Span::from_secs(3));
        assert_eq!(host.ended.get(&write), expected.as_ref(), "{words}");
        let read = host.read(0, 8);
        assert_eq!(read.len(), 8 * 512, "reads go on");
        host.faults.clear();
        host.run();
        let flush = host.ask(Op::Flush, None);
        write_all_over(&mut host, 5);
        assert_eq!(host.ended.get(&flush), Some(&Ok(())));
        assert_in_sync(&mut host);
    }
}

#[test]
fn what_waits_ends_with_an_error_when_its_device_is_taken_away() {
    let mut host = host(&two_sites("3 1 sync on_down:hold"), DIRTY_LOGS[1]);
    host.faults.insert(RD, Fault::Fails);
    let held = host.write(0, 8, 1);
    host.run_for(Span::from_millis(10));
    host.machine.suspend(None).unwrap();
    let parked = host.write(0, 8, 1);
    let flush = host.ask(Op::Flush, None);
    host.run_for(Span::from_millis(10));
    host.machine.refuse_all();
    let late = host.write(0, 8, 1);
    host.run_for(Span::from_millis(10));
    for req in [held, parked, flush, late] {
        assert_eq!(host.ended.get(&req), Some(&Err(Errno::EIO)));
    }
}

/// P9, as long as the site takes more than applications write: also where they write more than
/// a tenth of the time copies.
#[test]
fn a_resync_beside_an_application_that_writes_all_the_time_ends() {
    let mut host = host(&two_sites("1 1"), DIRTY_LOGS[1]);
    host.faults.insert(RD, Fault::Fails);
    write_all_over(&mut host, 400);
    host.faults.insert(RD, Fault::Slow);
    let began = host.now;
    // Never at rest, in five of its 64 regions while one copy is made.
    for i in 0_u64.. {
        host.write(i / 5 % 64 * 64, 1, i as u8);
        host.run_for(Span::from_millis(2));
        if i % 25 == 0 {
            host.land();
            if host.site().dirty_bytes == 0 {
                break;
            }
        }
        assert!(host.now.since(began) < Span::from_secs(200), "{:?}", host.site());
    }
    host.faults.clear();
    host.run();
    assert_in_sync(&mut host);
}

/// The deadline of a remote site says nothing of the local disk, also when that is read to be
/// copied there.
#[test]
fn a_local_disk_that_is_slow_for_a_site_is_not_down_before_its_own_deadline() {
    let sites = two_sites("2 1 timeout_io:1s");
    let mut host = host(&sites, DIRTY_LOGS[1]);
    host.faults.insert(RD, Fault::Absent);
    write_all_over(&mut host, 400);
    host.run();
    host.faults.insert(DiskId(1), Fault::ReadsHang);
    host.faults.remove(&RD);
    while format!("{:?}", host.site().state) != "Resyncing" {
        host.run_for(Span::from_millis(50));
    }
    let local = |host: &Host| format!("{:?}", host.site_at(0).state);
    host.run_for(Span::from_secs(8));
    assert_eq!(local(&host), "Streaming");
    host.run_for(Span::from_secs(3));
    assert_eq!(local(&host), "Down");
}

#[test]
fn a_site_knows_itself_when_its_image_is_inconsistent() {
    let said = |host: &Host| {
        slink::mark::Mark::decode(&host.disks[&DiskId(3)][..4096]).map(|mark| mark.state)
    };
    let remote = "1 1 /rd0 core 2 64 sync";
    let mut disks = Host::blank();
    disks.get_mut(&RD).unwrap().fill(9);
    let sites = two_sites("3 1 mark:/dl0 resync_rate:16k");
    let mut host = Host::of(&sites, "create 4096", remote, disks, BTreeMap::new());
    assert_eq!(said(&host), Ok(MarkState::Inconsistent));
    assert_eq!(host.disks[&RD][0], 0, "told first, then copied");
    host.run_for(Span::from_secs(200));
    assert_eq!(said(&host), Ok(MarkState::Consistent));
    assert_in_sync(&mut host);
    // A mark that can't be written keeps the site from being written out of order.
    host.faults.insert(DiskId(3), Fault::Fails);
    let now = host.now;
    host.machine.resync(now, blk::SlinkNr(1), None).unwrap();
    let before = host.disks[&RD].clone();
    write_all_over(&mut host, 5);
    host.run_for(Span::from_secs(2));
    assert_same(&host.disks[&RD], &before);
    host.faults.clear();
    host.run_for(Span::from_secs(200));
    assert_in_sync(&mut host);
}

#[test]
fn a_mark_of_somebody_else_is_not_written_over() {
    let mut disks = Host::blank();
    disks.get_mut(&DiskId(3)).unwrap().fill(0x55);
    let sites = two_sites("2 1 mark:/dl0");
    let mut host = Host::of(&sites, "create 4096", DIRTY_LOGS[1], disks, BTreeMap::new());
    write_all_over(&mut host, 5);
    let site = host.site();
    assert!(site.failure.is_some_and(|failure| failure.error.contains("something else")));
    assert!(host.disks[&DiskId(3)].iter().all(|byte| *byte == 0x55));
}

#[test]
fn groups_without_a_flush_between_them_are_one_shipment() {
    let mut round_trips = Vec::new();
    for order in ["group", "flush"] {
        let mut host = host(&two_sites(&format!("2 1 order:{order}")), DIRTY_LOGS[1]);
        host.faults.insert(RD, Fault::Fails);
        // They overlap: a group each.
        let writes: Vec<ReqId> = (0..50).map(|i| host.write(0, 8, i as u8)).collect();
        host.run_for(Span::from_millis(20));
        assert!(writes.iter().all(|write| host.ended.get(write) == Some(&Ok(()))));
        host.faults.clear();
        host.run();
        assert_in_sync(&mut host);
        assert_eq!(host.site().shipped, 50, "{order}");
        round_trips.push(host.site().round_trips);
    }
    assert_eq!(round_trips[0], 50, "one group for each round trip");
    assert!(round_trips[1] < 10, "{} round trips", round_trips[1]);
}
