//! The message `verify`: differences are found, none is invented, and `repair` mends them.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod host;

use std::collections::BTreeMap;

use blk::{DiskId, Span};
use host::{Fault, Host, assert_same};
use replicator::status::verify::VerifyStatus;

const RD: DiskId = DiskId(2);
const SITES: &str = "blockdev 2 0 async blockdev 1 1";
const DIRTY_LOGS: [&str; 3] =
    ["1 1 /rd0 nolog 0", "1 1 /rd0 core 2 64 nosync", "1 1 /rd0 disk 3 /dl0 64 nosync"];

fn host(remote: &str) -> Host {
    Host::of(SITES, "create 4096", remote, Host::blank(), BTreeMap::new())
}

fn write_all_over(host: &mut Host, rounds: u64) {
    for i in 0..rounds {
        host.write(i * 517 % 4000, 1 + i % 96, i as u8);
        host.run_for(Span::from_millis(20));
    }
}

fn message(host: &mut Host, words: &str) -> String {
    let words: Vec<&str> = words.split(' ').collect();
    let now = host.now;
    host.machine.message(now, None, &words).unwrap()
}

fn verify(host: &mut Host, words: &str) -> VerifyStatus {
    message(host, words);
    host.run();
    let found = host.site().verify.unwrap();
    assert!(!found.running && found.whole, "{found:?}");
    found
}

/// Somebody writes to the disk of the site.
fn flip(host: &mut Host, sector: u64) {
    host.disks.get_mut(&RD).unwrap()[sector as usize * 512 + 17] ^= 1;
}

fn places(found: &VerifyStatus) -> Vec<(u64, u64)> {
    found.first.iter().map(|it| (it.sector, it.sectors)).collect()
}

#[test]
fn what_differs_is_found_with_its_place_and_nothing_else_is() {
    for remote in DIRTY_LOGS {
        let mut host = host(remote);
        write_all_over(&mut host, 60);
        host.run();
        let found = verify(&mut host, "verify 1");
        assert_eq!((found.differing_ranges, found.compared_bytes), (0, 4096 * 512), "{found:?}");
        for sector in [0, 100, 101, 4095] {
            flip(&mut host, sector);
        }
        let found = verify(&mut host, "verify");
        assert_eq!(places(&found), [(0, 1), (100, 2), (4095, 1)]);
        assert_eq!((found.differing_ranges, found.differing_bytes), (3, 4 * 512));
        assert!(!host.site().is_in_sync() && host.site().consistent, "durable nothing");
    }
}

#[test]
fn repair_copies_what_differs_and_nothing_more_than_its_regions() {
    for remote in DIRTY_LOGS {
        let mut host = host(remote);
        write_all_over(&mut host, 60);
        host.run();
        for sector in [3, 2000] {
            flip(&mut host, sector);
        }
        let found = verify(&mut host, "verify 1 db repair");
        assert_eq!(found.differing_ranges, 2);
        let site = host.site();
        assert!(site.consistent && site.is_in_sync(), "{site:?}");
        let device = host.read(0, 4096);
        assert_same(host.device_bytes(2), &device);
        assert_eq!(verify(&mut host, "verify").differing_ranges, 0);
    }
}

#[test]
fn a_site_that_is_repaired_is_inconsistent_until_it_is_mended() {
    let mut host = host(DIRTY_LOGS[1]);
    write_all_over(&mut host, 60);
    host.run();
    flip(&mut host, 5);
    message(&mut host, "verify 1 repair");
    let mut seen = Vec::new();
    for _ in 0..200 {
        host.run_for(Span::from_micros(100));
        let site = host.site();
        seen.push((site.consistent, site.detached));
    }
    host.run();
    let events: Vec<String> =
        host.machine.status(host.now).events.iter().map(|event| event.what.clone()).collect();
    let at = |text: &str| events.iter().position(|event| event.starts_with(text));
    assert!(at("verified: 1 range differs") < at("detached, since something there differed"));
    assert!(at("detached") < at("resync began") && at("resync began") < at("consistent"));
    assert!(host.site().is_in_sync());
}

#[test]
fn nothing_is_invented_while_every_sector_is_written_to_at_random() {
    for remote in DIRTY_LOGS {
        for order in ["blockdev 1 1", "blockdev 2 1 order:flush", "blockdev 2 1 sync"] {
            let sites = format!("blockdev 2 0 async {order}");
            let mut host = Host::of(&sites, "create 4096", remote, Host::blank(), BTreeMap::new());
            let mut random = 7_u64;
            for round in 0..300 {
                if host.site().verify.is_none_or(|found| !found.running) {
                    message(&mut host, "verify");
                }
                for _ in 0..4 {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let sector = (random >> 33) % 4000;
                    host.write(sector, 1 + (random >> 50) % 96, (random >> 40) as u8);
                }
                // In the middle of whatever is under way.
                host.run_for(Span::from_micros((random >> 20) % 3000));
                if round % 100 == 50 {
                    host.faults
                        .insert(RD, [Fault::Fails, Fault::Hangs][(round / 100 % 2) as usize]);
                }
                if round % 100 == 70 {
                    host.faults.clear();
                    host.release();
                }
                let found = host.site().verify.unwrap();
                assert_eq!(found.differing_ranges, 0, "round {round}: {found:?}");
            }
            host.run();
            let found = host.site().verify.unwrap();
            assert!(!found.running && found.compared_bytes > 0, "{found:?}");
            assert_eq!(found.differing_ranges, 0, "{found:?}");
        }
    }
}

#[test]
fn what_is_dirty_is_passed_over_and_counted() {
    let mut host = host(DIRTY_LOGS[1]);
    write_all_over(&mut host, 20);
    host.run();
    host.faults.insert(RD, Fault::Fails);
    // Several times the log: the site is detached, and down.
    write_all_over(&mut host, 400);
    flip(&mut host, 1000);
    message(&mut host, "verify");
    host.run_for(Span::from_secs(5));
    let found = host.site().verify.unwrap();
    assert!(found.running && found.compared_bytes == 0, "a site that is down is not compared");
    host.faults.clear();
    host.run();
    let found = host.site().verify.unwrap();
    assert!(!found.running && found.differing_ranges == 0, "{found:?}");
    assert!(host.site().is_in_sync());
}

#[test]
fn a_place_that_can_never_be_read_is_told_and_mended_and_stops_nobody_for_long() {
    let mut host = host(DIRTY_LOGS[1]);
    write_all_over(&mut host, 20);
    host.run();
    host.bad.insert((RD, 700));
    let found = verify(&mut host, "verify");
    assert!(found.unreadable_bytes > 0 && found.differing_ranges == 0, "{found:?}");
    assert!(found.is_wrong(), "{found:?}");
    let found = verify(&mut host, "verify repair");
    assert!(found.unreadable_bytes > 0, "{found:?}");
    host.bad.clear();
    assert_eq!(verify(&mut host, "verify").differing_ranges, 0);
    assert!(host.site().is_in_sync());
}

#[test]
fn a_comparison_can_be_stopped_and_begun_anew() {
    let sites = "blockdev 2 0 async blockdev 2 1 resync_rate:64k";
    let mut host = Host::of(sites, "create 4096", DIRTY_LOGS[1], Host::blank(), BTreeMap::new());
    message(&mut host, "verify 1");
    host.run_for(Span::from_secs(4));
    let found = host.site().verify.unwrap();
    assert!(found.running && (5..20).contains(&found.percent), "64 KiB/s of 2 MiB: {found:?}");
    assert_eq!(message(&mut host, "verify 1 stop"), "site 1: nothing is compared any more\n");
    let found = host.site().verify.unwrap();
    assert!(!found.running && !found.whole, "{found:?}");
    message(&mut host, "verify 1 0");
    host.run();
    assert!(host.site().verify.unwrap().whole);
}
