//! Sites and legs that come and go while the devices are in use.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod host;

use std::collections::{BTreeMap, BTreeSet};

use blk::{DevNr, DiskId, Machine, ReqId, SlinkNr, Span};
use host::{Fault, Host, assert_same};
use replicator::{Phase, SiteState};
use slink::mark::{Mark, MarkState};

const RD: DiskId = DiskId(2);
/// The disk of what comes later.
const NEW: DiskId = DiskId(9);

fn host(site: &str) -> Host {
    let sites = format!("blockdev 1 0 blockdev {site}");
    let leg = "1 1 /rd0 core 2 64 nosync";
    let mut host = Host::of(&sites, "create 4096", leg, Host::blank(), BTreeMap::new());
    host.write(7, 9, 5);
    host.run();
    host
}

fn written(host: &mut Host, sector: u64) -> (ReqId, bool) {
    let req = host.write(sector, 8, 1);
    host.run_for(Span::from_millis(100));
    (req, host.ended.contains_key(&req))
}

fn is_equal(host: &mut Host, disk: DiskId) {
    host.run_for(Span::from_secs(600));
    let device = host.read(0, 4096);
    assert_same(host.device_bytes(disk.0), &device);
    for site in host.machine.status(host.now).sites {
        let well = (site.state, site.consistent, site.lag_writes, site.dirty_bytes);
        assert_eq!(well, (SiteState::Streaming, true, 0, 0), "site {}", site.slink);
    }
}

/// Site 2, with a copy of the device on a disk of its own.
fn add_site(host: &mut Host, words: &str, dirty_log: &str) -> Result<Vec<String>, String> {
    let group = host.machine.plan().group();
    let words: Vec<&str> = words.split(' ').collect();
    let group = group.edited(None, &words).map_err(|error| error.to_string())?;
    let leg = format!("device add 0 2 1 /new {dirty_log}");
    let leg: Vec<&str> = leg.split(' ').collect();
    let group = group.edited(None, &leg).map_err(|error| error.to_string())?;
    host.reload(&group, &[("/new", NEW.0)])
}

fn was_copied(host: &Host, slink: u16) -> bool {
    let events = host.machine.status(host.now).events;
    events.iter().any(|event| event.slink == Some(slink) && event.what.starts_with("resync began"))
}

fn is_left_out(host: &Host, slink: u16) -> bool {
    let log = host.machine.log().unwrap();
    log.leg(DevNr(0), SlinkNr(slink)).is_some_and(|leg| leg.left_out && leg.all_dirty)
}

fn roster(host: &Host) -> Vec<(u16, u32)> {
    let superblock = host.machine.log().unwrap().superblock();
    superblock.legs.iter().map(|leg| (leg.slink.0, leg.dev.0)).collect()
}

#[test]
fn a_site_that_is_added_is_copied_to_while_the_device_is_in_use() {
    for policy in ["", " async ios 200", " sync"] {
        let mut host = host("1 1");
        let answer = add_site(&mut host, &format!("slink add 2{policy}"), "core 1 64").unwrap();
        assert!(answer[0].starts_with("site 2: added: blockdev "), "{answer:?}");
        for i in 0..200 {
            assert!(written(&mut host, i * 37 % 4000).1, "nobody waits for it");
        }
        is_equal(&mut host, NEW);
        is_equal(&mut host, RD);
        let (_, acked) = written(&mut host, 9);
        assert!(acked);
        assert_eq!(roster(&host), [(0, 0), (1, 0), (2, 0)]);
    }
}

#[test]
fn a_site_that_is_added_as_equal_is_fed_from_here_on_if_nothing_is_on_its_way() {
    let mut host = host("1 1");
    host.disks.insert(NEW, host.disks[&RD].clone());
    add_site(&mut host, "slink add 2", "core 2 64 nosync").unwrap();
    host.run_for(Span::from_secs(1));
    let site = host.machine.status(host.now).sites[2].clone();
    assert_eq!((site.state, site.dirty_bytes), (SiteState::Streaming, 0));
    assert!(!was_copied(&host, 2));
    written(&mut host, 64);
    is_equal(&mut host, NEW);
    // But what is being written is not at both.
    let mut host = self::host("1 1");
    host.write(64, 8, 1);
    let mut effects = Vec::new();
    host.machine.poll(host.now, &mut effects);
    add_site(&mut host, "slink add 2", "core 2 64 nosync").unwrap();
    effects.into_iter().for_each(|effect| host.carry_out(effect));
    is_equal(&mut host, NEW);
    assert!(was_copied(&host, 2));
}

#[test]
fn a_site_whose_disk_is_absent_is_down_until_it_is_there_and_stalls_nobody() {
    let mut host = host("1 1");
    host.faults.insert(NEW, Fault::Absent);
    add_site(&mut host, "slink add 2 sync", "core 1 64").unwrap();
    for i in 0..50 {
        assert!(written(&mut host, i * 8).1);
    }
    let site = host.machine.status(host.now).sites[2].clone();
    assert_eq!((site.state, site.demoted), (SiteState::Down, true));
    host.faults.clear();
    is_equal(&mut host, NEW);
    assert!(!host.machine.status(host.now).sites[2].demoted);
}

#[test]
fn a_site_that_is_removed_is_waited_for_no_more_and_its_disk_is_let_go_of() {
    let mut host = host("3 1 sync timeout_io:1h");
    host.faults.insert(RD, Fault::Hangs);
    let (req, acked) = written(&mut host, 64);
    assert!(!acked);
    let bare = host.edit(Some(0), "device del 1", &[]);
    // Both at once: with its leg still in flight.
    assert!(bare.is_ok());
    let changes = host.edit(None, "slink del 1", &[]).unwrap();
    assert_eq!(changes, ["site 1: removed"]);
    host.run_for(Span::from_secs(2));
    assert_eq!(host.ended.get(&req), Some(&Ok(())));
    assert!(host.closed.is_empty(), "I15: it hangs");
    assert_eq!(host.machine.status(host.now).sites.len(), 1);
    let refusal = host.edit(None, "slink add 1", &[]).unwrap_err();
    assert!(refusal.contains("site 1 is still being removed"), "{refusal}");
    for i in 0..400 {
        assert!(written(&mut host, i * 517 % 4000).1, "the log is kept for nobody");
    }
    host.release();
    host.faults.clear();
    host.run();
    assert_eq!(host.closed, BTreeSet::from([RD]));
    assert_eq!(host.edit(None, "slink add 1", &[]).unwrap(), ["site 1: added: blockdev 1 1"]);
    host.run();
}

#[test]
fn a_site_that_went_is_copied_anew_when_it_is_back_whatever_its_table_says() {
    for restart in [false, true] {
        let mut host = host("1 1");
        let with = host.machine.plan().group();
        let text = with.file().to_string();
        let without = text.replace(" blockdev 1 1", "").replace(" 1 1 /rd0 core 2 64 nosync", "");
        let without = table::TableFile::parse(&without).unwrap().groups().unwrap().remove(0);
        assert_eq!(host.reload(&without, &[]).unwrap(), ["site 1: removed"]);
        written(&mut host, 64);
        host.run();
        if restart {
            let (sites, leg) = ("blockdev 1 0 blockdev 1 1", "1 1 /rd0 core 2 64 nosync");
            host = Host::of(sites, "auto 4096", leg, host.disks.clone(), BTreeMap::new());
        } else {
            host.reload(&with, &[("/rd0", RD.0)]).unwrap();
        }
        host.run();
        assert!(was_copied(&host, 1), "the table says `nosync` as it did at first");
        is_equal(&mut host, RD);
    }
}

#[test]
fn a_site_can_go_and_come_back_again_and_again() {
    let mut host = host("1 1");
    for turn in 0..5 {
        add_site(&mut host, "slink add 2", "core 1 64").unwrap();
        host.run_for(Span::from_millis(turn * 400));
        written(&mut host, turn * 8);
        host.edit(Some(0), "device del 2", &[]).unwrap();
        host.run_for(Span::from_secs(2));
        written(&mut host, turn * 16);
        host.edit(None, "slink del 2", &[]).unwrap();
        host.run();
        assert!(host.closed.remove(&NEW));
    }
    add_site(&mut host, "slink add 2", "core 1 64").unwrap();
    is_equal(&mut host, NEW);
}

#[test]
fn a_leg_that_leaves_takes_nothing_of_the_others_with_it() {
    let mut host = host("1 1");
    assert_eq!(host.edit(Some(0), "device del 1", &[]).unwrap(), ["device 0: removed from site 1"]);
    assert!(written(&mut host, 64).1);
    host.run();
    assert_eq!(host.closed, BTreeSet::from([RD]));
    assert!(is_left_out(&host, 1));
    let site = host.site();
    assert_eq!((site.state, site.lag_writes), (SiteState::Streaming, 0), "it has what it is to");
    // It comes back on the disk that is named, and nobody believes that it has missed nothing.
    host.edit(Some(0), "device add 1 1 /new core 2 64 nosync", &[("/new", NEW.0)]).unwrap();
    host.run();
    assert!(was_copied(&host, 1));
    is_equal(&mut host, NEW);
    assert_eq!(roster(&host), [(0, 0), (1, 0)]);
}

#[test]
fn a_leg_that_hangs_leaves_when_that_has_ended() {
    let mut host = host("2 1 timeout_io:1s");
    host.faults.insert(RD, Fault::Hangs);
    written(&mut host, 64);
    host.edit(Some(0), "device del 1", &[]).unwrap();
    host.run_for(Span::from_secs(100));
    assert!(host.closed.is_empty(), "I15");
    let again = host.edit(Some(0), "device add 1 1 /new nolog 0", &[("/new", NEW.0)]);
    assert!(again.unwrap_err().contains("device 0 is still being removed from site 1"));
    assert!(written(&mut host, 128).1);
    host.release();
    host.faults.clear();
    host.run();
    assert_eq!(host.closed, BTreeSet::from([RD]));
    host.edit(Some(0), "device add 1 1 /new nolog 0", &[("/new", NEW.0)]).unwrap();
    is_equal(&mut host, NEW);
}

#[test]
fn a_leg_leaves_while_its_disk_is_being_opened_and_its_site_comes_up() {
    let mut host = host("2 1 timeout_io:1s");
    host.faults.insert(RD, Fault::OpensLate);
    host.machine.message(host.now, None, &["down", "1"]).unwrap();
    host.machine.message(host.now, None, &["up", "1"]).unwrap();
    host.run();
    host.edit(Some(0), "device del 1", &[]).unwrap();
    host.run();
    host.release();
    host.run();
    assert_eq!(host.site().state, SiteState::Streaming);
    assert_eq!(host.closed, BTreeSet::from([RD]));
}

#[test]
fn a_stop_does_not_wait_for_what_hangs_of_a_site_that_is_gone() {
    let mut host = host("2 1 timeout_io:1s");
    host.faults.insert(RD, Fault::Hangs);
    written(&mut host, 64);
    host.edit(Some(0), "device del 1", &[]).unwrap();
    host.edit(None, "slink del 1", &[]).unwrap();
    host.machine.stop(true);
    host.run_for(Span::from_secs(5));
    assert!(matches!(host.machine.phase(), Phase::Stopped), "{:?}", host.machine.phase());
}

#[test]
fn a_leg_leaves_a_site_that_is_being_copied_or_was_taken_down() {
    for words in ["resync 1", "down 1"] {
        let mut host = host("2 1 resync_rate:4k");
        host.disks.get_mut(&DiskId(1)).unwrap()[..1 << 20].fill(3);
        host.machine.message(host.now, None, &words.split(' ').collect::<Vec<_>>()).unwrap();
        host.run_for(Span::from_secs(3));
        written(&mut host, 64);
        host.edit(Some(0), "device del 1", &[]).unwrap();
        host.run_for(Span::from_secs(60));
        assert_eq!(host.closed, BTreeSet::from([RD]), "{words}");
        assert!(is_left_out(&host, 1), "{words}");
    }
}

#[test]
fn what_was_added_and_removed_is_what_the_next_opening_finds() {
    let mut host = host("1 1");
    add_site(&mut host, "slink add 2", "core 1 64").unwrap();
    is_equal(&mut host, NEW);
    host.edit(Some(0), "device del 1", &[]).unwrap();
    host.edit(None, "slink del 1", &[]).unwrap();
    written(&mut host, 64);
    host.run();
    let (device, mut disks) = (host.read(0, 4096), host.disks.clone());
    disks.insert(RD, disks[&NEW].clone());
    let leg = "2 1 /rd0 core 1 64";
    let again = Host::of("blockdev 1 0 blockdev 1 2", "auto 4096", leg, disks, BTreeMap::new());
    let mut again = again;
    again.run();
    let log = again.machine.log().unwrap();
    assert_eq!(roster(&again), [(0, 0), (1, 0), (2, 0)]);
    assert!(log.leg(DevNr(0), SlinkNr(1)).unwrap().all_dirty, "it went, and is not believed");
    assert_same(&again.read(0, 4096), &device);
}

#[test]
fn what_can_t_be_added_changes_nothing() {
    let mut host = host("1 1");
    let before = host.machine.plan().clone();
    for (words, expected) in [
        ("slink add 1", "<slink_nr>: expected a number of its own for each site link"),
        ("slink del 1", "<slink_nr>: expected a site link without devices, found 1, which has db"),
        ("device add 0 1 1 /new nolog 0", "<slink_nr>: expected one leg of a device per site link"),
        (
            "slink add 2 sync mark:/m",
            "nothing was changed: the mark of site 2: /m was not looked f",
        ),
    ] {
        let error = host.edit(None, words, &[]).unwrap_err();
        assert!(error.starts_with(expected), "{words}: {error}");
        assert_eq!(host.machine.plan(), &before, "{words}");
    }
}

#[test]
fn a_leg_that_was_to_be_copied_and_leaves_before_it_is_takes_the_doubt_with_it() {
    let mut host = host("1 1");
    host.edit(Some(0), "device del 1", &[]).unwrap();
    host.run();
    host.faults.insert(NEW, Fault::Absent);
    host.edit(Some(0), "device add 1 1 /new core 1 64", &[("/new", NEW.0)]).unwrap();
    host.run_for(Span::from_secs(1));
    assert!(!host.site().consistent);
    host.edit(Some(0), "device del 1", &[]).unwrap();
    host.run();
    let site = host.site();
    assert_eq!((site.state, site.consistent, site.dirty_bytes), (SiteState::Streaming, true, 0));
}

#[test]
fn a_mark_that_is_named_says_what_the_site_is_and_another_one_takes_its_place() {
    const MARKS: [DiskId; 2] = [DiskId(7), DiskId(8)];
    let says = |host: &Host, disk: DiskId| Mark::decode(&host.disks[&disk][..4096]);
    let mut host = host("1 1");
    for disk in MARKS {
        host.disks.insert(disk, vec![0; 8192 * 512]);
    }
    host.edit(None, "slink message 1 mark:/m", &[("/m", MARKS[0].0)]).unwrap();
    assert!(written(&mut host, 64).1);
    host.run();
    assert_eq!(says(&host, MARKS[0]).unwrap().state, MarkState::Consistent);
    assert_eq!(host.site().state, SiteState::Streaming);
    host.edit(None, "slink message 1 mark:/n", &[("/n", MARKS[1].0)]).unwrap();
    host.disks.get_mut(&DiskId(1)).unwrap()[..1 << 20].fill(3);
    host.edit(None, "slink message 1 resync_rate:4k", &[]).unwrap();
    host.machine.message(host.now, None, &["resync", "1"]).unwrap();
    host.run_for(Span::from_secs(3));
    assert_eq!(host.closed, BTreeSet::from([MARKS[0]]));
    assert_eq!(says(&host, MARKS[1]).unwrap().state, MarkState::Inconsistent);
    assert_eq!(says(&host, MARKS[0]).unwrap().state, MarkState::Consistent, "as it was left");
    host.edit(None, "slink message 1 resync_rate:0", &[]).unwrap();
    is_equal(&mut host, RD);
    assert_eq!(says(&host, MARKS[1]).unwrap().state, MarkState::Consistent);
}

#[test]
fn a_site_without_devices_comes_up_with_a_mark_and_without_one() {
    for mark in [false, true] {
        let mut host = host("1 1");
        host.disks.insert(NEW, vec![0; 8192 * 512]);
        if mark {
            host.edit(None, "slink message 1 mark:/m", &[("/m", NEW.0)]).unwrap();
            host.run();
        }
        host.edit(Some(0), "device del 1", &[]).unwrap();
        host.run();
        for words in [["down", "1"], ["up", "1"]] {
            host.machine.message(host.now, None, &words).unwrap();
            host.run();
        }
        assert!(written(&mut host, 64).1);
        host.run();
        assert_eq!((host.site().state, host.site().lag_writes), (SiteState::Streaming, 0));
    }
}

#[test]
fn nobody_waits_for_the_disks_of_what_comes_to_a_sync_site() {
    // A site that is new, and believed to be equal.
    let mut host = host("1 1");
    host.faults.insert(NEW, Fault::Absent);
    add_site(&mut host, "slink add 2 sync on_down:hold", "core 2 64 nosync").unwrap();
    assert!(written(&mut host, 64).1);
    assert!(host.machine.status(host.now).sites[2].demoted);
    host.disks.insert(NEW, host.disks[&DiskId(1)].clone());
    host.faults.clear();
    host.run_for(Span::from_secs(60));
    assert!(!host.machine.status(host.now).sites[2].demoted);
    is_equal(&mut host, NEW);
    // A mark for one that is in force.
    let mut host = self::host("2 1 sync");
    host.disks.insert(NEW, vec![0; 8192 * 512]);
    host.faults.insert(NEW, Fault::Absent);
    host.edit(None, "slink message 1 mark:/m", &[("/m", NEW.0)]).unwrap();
    assert!(written(&mut host, 64).1);
    host.faults.clear();
    host.run_for(Span::from_secs(60));
    assert!(!host.site().demoted);
    is_equal(&mut host, RD);
}

#[test]
fn a_dirty_log_on_a_disk_that_comes_is_opened_and_used() {
    let mut host = host("1 1");
    add_site(&mut host, "slink add 2", "core 1 64").unwrap();
    host.run();
    host.edit(Some(0), "device del 2", &[]).unwrap();
    host.run();
    host.disks.insert(DiskId(5), vec![0; 8192 * 512]);
    let words = "device add 2 1 /other disk 2 /dirty 64";
    host.edit(Some(0), words, &[("/other", 4), ("/dirty", 5)]).unwrap();
    is_equal(&mut host, DiskId(4));
    host.faults.insert(DiskId(4), Fault::Fails);
    for i in 0..400 {
        written(&mut host, i * 517 % 4000);
    }
    let status = host.machine.status(host.now);
    let leg = status.devices[0].legs.iter().find(|leg| leg.slink == 2).unwrap().clone();
    assert!(status.sites[2].detached && leg.dirty_log_failure.is_none(), "{leg:?}");
    assert!(host.disks[&DiskId(5)].iter().any(|byte| *byte != 0), "it is written");
    host.faults.clear();
    is_equal(&mut host, DiskId(4));
}
