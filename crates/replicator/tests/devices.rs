//! Devices that come to a group in use, and go, and numbers that are used again.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod host;

use std::collections::BTreeSet;

use blk::{DevNr, DiskId, Machine, ReqId, Span};
use host::pair::*;
use host::{Fault, Host, assert_same};
use replicator::SiteState;

fn alone() -> Host {
    let mut host = open(&table("create", &[]), Host::blank());
    host.write(7, 9, 5);
    host.run();
    host
}

/// A group of two devices, the second of which came later, and is in use.
fn both() -> Host {
    let mut host = alone();
    for disk in [LD1, RD1, DiskId(7)] {
        host.disks.insert(disk, vec![0x11; 8192 * 512]);
    }
    add_first(&mut host, "core 2 64 nosync").unwrap();
    host.write_of(1, 40, 8, 6);
    host.run();
    host
}

/// The same, but the second device has no place on site 1.
fn both_at_home() -> Host {
    let mut host = alone();
    host.disks.insert(LD1, vec![0x11; 8192 * 512]);
    host.disks.insert(RD1, vec![0x11; 8192 * 512]);
    let text = table("auto", &[&first("").replace(" 1 1 /rd1 ", "")]);
    host.reload_seen(&group(&text), &FIRST[..1]).unwrap();
    host.write_of(1, 40, 8, 6);
    host.run();
    host
}

fn add_first(host: &mut Host, dirty_log: &str) -> Result<Vec<String>, String> {
    host.reload_seen(&group(&table("auto", &[&first(dirty_log)])), &FIRST)
}

fn add_second(host: &mut Host, dirty_log: &str) -> Result<Vec<String>, String> {
    host.reload_seen(&group(&table("auto", &[&second(dirty_log)])), &SECOND)
}

fn outages_of(host: &Host, slink: u16) -> usize {
    let events = host.machine.status(host.now).events;
    events.iter().filter(|it| it.slink == Some(slink) && it.what.starts_with("down")).count()
}

fn is_known(host: &Host) -> bool {
    host.machine.log().unwrap().superblock().devices.iter().any(|it| it.nr == DevNr(1))
}

// ---- coming

#[test]
fn a_device_comes_while_another_is_in_use_which_does_not_notice() {
    for dirty_log in DIRTY_LOGS {
        let mut host = alone();
        host.disks.insert(DiskId(7), vec![0; 8192 * 512]);
        host.disks.insert(LD1, vec![0x31; 8192 * 512]);
        if dirty_log.contains("nosync") {
            host.disks.insert(RD1, vec![0x31; 8192 * 512]);
        }
        let under_way: Vec<ReqId> = (0..40).map(|i| host.write(i * 91 % 4000, 16, 3)).collect();
        let said = add_first(&mut host, dirty_log).unwrap();
        assert_eq!(said, ["device 1 (wal): added, 4096 sectors"]);
        let req = host.write_of(1, 64, 8, 9);
        assert!(acked(&host, req).is_none());
        host.run_for(Span::from_millis(100));
        assert_eq!(acked(&host, req), Some(Ok(())), "{dirty_log}");
        assert!(under_way.iter().all(|req| acked(&host, *req) == Some(Ok(()))));
        assert_eq!(outages_of(&host, 0), 0, "nobody looks at the local site for that");
        is_equal(&mut host, 1, DEVICE, [LD1, RD1]);
        is_well(&mut host);
        let device = host.read_of(1, 0, DEVICE);
        assert!(device[..64 * 512].iter().all(|byte| *byte == 0x31), "as its local disk was");
        assert_same(&device[64 * 512..72 * 512], &[9; 8 * 512]);
        let copied = host.written[&RD1];
        assert!(!dirty_log.contains("nosync") || copied < 1 << 16, "{dirty_log}: {copied}");
    }
}

/// Nothing of it may be in the log before both slots say whose it is.
#[test]
fn nothing_is_asked_of_the_log_for_a_device_that_it_does_not_know_durably() {
    let mut host = alone();
    add_first(&mut host, DIRTY_LOGS[0]).unwrap();
    let req = host.write_of(1, 64, 8, 9);
    let taken = host.machine.log().unwrap().taken();
    let mut before = 0;
    while acked(&host, req).is_none() {
        let mut effects = Vec::new();
        host.machine.poll(host.now, &mut effects);
        let knows = host.machine.has_settled() && is_known(&host);
        assert!(knows || host.machine.log().unwrap().taken() == taken);
        before += u32::from(!knows);
        effects.into_iter().for_each(|effect| host.carry_out(effect));
    }
    assert!(before > 1, "both slots say it");
}

#[test]
fn a_device_comes_together_with_a_site_and_while_another_is_away() {
    let mut host = alone();
    host.faults.insert(RD, Fault::Absent);
    host.write(64, 8, 4);
    host.run_for(Span::from_secs(1));
    let text = table("auto", &[&first("core 2 64 sync")]);
    let text = text.replace("blockdev 2 1 async", "blockdev 2 1 async blockdev 1 2");
    let text = text.replace("/rd1 core 2 64 sync", "/rd1 core 2 64 sync 2 1 /dl1 core 1 64");
    let said = host.reload_seen(&group(&text), &FIRST).unwrap();
    assert_eq!(said.len(), 2, "{said:?}");
    let req = host.write_of(1, 64, 8, 9);
    host.run_for(Span::from_secs(1));
    assert_eq!(acked(&host, req), Some(Ok(())));
    host.faults.clear();
    is_equal(&mut host, 1, DEVICE, [LD1, RD1]);
    is_equal(&mut host, 1, DEVICE, [LD1, DiskId(7)]);
    is_well(&mut host);
}

#[test]
fn what_can_t_join_changes_nothing_and_says_why() {
    let mut host = alone();
    let before = host.machine.plan().clone();
    host.faults.insert(LD1, Fault::Absent);
    let error = add_first(&mut host, DIRTY_LOGS[0]).unwrap_err();
    assert!(error.contains("device 1: its backing device on site 0 is not there"), "{error}");
    host.faults.clear();
    let long = first(DIRTY_LOGS[0]).replace("0 4096", "0 9000");
    let error = host.reload_seen(&group(&table("auto", &[&long])), &FIRST).unwrap_err();
    assert!(error.contains("has 8192 sectors, the table gives the device 9000"), "{error}");
    let same = [("/ld1", 5), ("/rd1", 1)];
    let with = group(&table("auto", &[&first(DIRTY_LOGS[0])]));
    let error = host.reload_seen(&with, &same).unwrap_err();
    assert!(error.contains("are the same: mem:1"), "{error}");
    assert_eq!(host.machine.plan(), &before);
    // What a device holds only its local disk says: not while reads go elsewhere.
    host.faults.insert(DiskId(1), Fault::Absent);
    for i in 0..400 {
        host.write(i * 16 % 4000, 16, 2);
        host.run_for(Span::from_millis(20));
    }
    let error = add_first(&mut host, DIRTY_LOGS[0]).unwrap_err();
    assert!(error.contains("while the local disks of others lack something"), "{error}");
    assert_eq!(host.machine.plan(), &before);
}

#[test]
fn a_device_whose_remote_disk_is_absent_comes_all_the_same() {
    let mut host = alone();
    host.faults.insert(RD1, Fault::Absent);
    add_first(&mut host, "core 1 64").unwrap();
    let req = host.write_of(1, 64, 8, 9);
    host.run_for(Span::from_secs(5));
    assert_eq!(acked(&host, req), Some(Ok(())));
    host.faults.clear();
    is_equal(&mut host, 1, DEVICE, [LD1, RD1]);
}

/// Until its device is there nobody writes to it: both tables are good then, and with the one that
/// names it all that was acknowledged is there.
#[test]
fn a_crash_while_a_device_comes_leaves_one_table_or_the_other() {
    for dirty_log in [DIRTY_LOGS[0], DIRTY_LOGS[1]] {
        for effects in (0..70).step_by(2) {
            let mut host = alone();
            add_first(&mut host, dirty_log).unwrap();
            host.effects_left = Some(effects);
            let other = host.write(300, 8, 8);
            host.run_for(Span::from_secs(5));
            let without = open(&table("auto", &[]), host.disks.clone());
            let with = open(&table("auto", &[&first(dirty_log)]), host.disks.clone());
            for (mut again, has_it) in [(without, false), (with, true)] {
                if acked(&host, other) == Some(Ok(())) {
                    assert_same(&again.read(300, 8), &[8; 8 * 512]);
                }
                if !has_it {
                    add_first(&mut again, dirty_log).unwrap();
                }
                again.write_of(1, 80, 8, 4);
                if dirty_log.contains("nosync") {
                    // It is the one that it was said to be.
                    let image = again.disks[&LD1].clone();
                    again.disks.insert(RD1, image);
                }
                is_well(&mut again);
                is_equal(&mut again, 1, DEVICE, [LD1, RD1]);
            }
        }
    }
}

#[test]
fn a_crash_after_a_device_has_come_loses_nothing_of_it() {
    for effects in (0..80).step_by(2) {
        let mut host = alone();
        add_first(&mut host, "core 2 64 sync").unwrap();
        host.effects_left = Some(effects);
        let req = host.write_of(1, 64, 8, 9);
        host.run_for(Span::from_secs(5));
        let mut again = open(&table("auto", &[&first("core 2 64 sync")]), host.disks.clone());
        if acked(&host, req) == Some(Ok(())) {
            assert_same(&again.read_of(1, 64, 8), &[9; 8 * 512]);
        }
        is_equal(&mut again, 1, DEVICE, [LD1, RD1]);
        is_well(&mut again);
    }
}

// ---- going

#[test]
fn a_device_goes_with_its_last_write_on_every_site_and_others_go_on() {
    let mut host = both();
    host.write_of(1, 500, 100, 0x44);
    host.write(500, 100, 0x45);
    host.run_for(Span::from_millis(1));
    let said = take_away(&mut host, Span::from_secs(5)).unwrap();
    assert_eq!(said, ["device 1 (wal): removed"]);
    let other = host.write(900, 8, 7);
    let late = host.write_of(1, 500, 8, 1);
    host.run_for(Span::from_secs(1));
    assert_eq!(acked(&host, other), Some(Ok(())));
    assert!(acked(&host, late).unwrap().is_err());
    assert_eq!(host.closed, BTreeSet::from([LD1, RD1]));
    for disk in [LD1, RD1] {
        assert_same(&host.disks[&disk][500 * 512..600 * 512], &[0x44; 100 * 512]);
    }
    assert!(host.machine.has_settled());
    is_well(&mut host);
    // And the log is kept for nobody.
    for i in 0..800 {
        let req = host.write(i * 16 % 4000, 16, 2);
        host.run_for(Span::from_millis(20));
        assert_eq!(acked(&host, req), Some(Ok(())));
    }
    is_well(&mut host);
}

#[test]
fn a_device_does_not_go_while_a_site_that_is_up_or_the_local_disk_lacks_something_of_it() {
    for (disk, slink) in [(RD1, 1), (LD1, 0)] {
        let mut host = both();
        host.faults.insert(disk, Fault::Hangs);
        let req = host.write_of(1, 500, 8, 0x44);
        let before = host.machine.plan().clone();
        let error = take_away(&mut host, Span::from_secs(5)).unwrap_err();
        assert!(error.contains(&format!("site {slink} does not have all of it")), "{error}");
        assert_eq!(host.machine.plan(), &before);
        let late = host.write_of(1, 600, 8, 0x45);
        host.run_for(Span::from_millis(10));
        for req in [req, late] {
            assert_eq!(acked(&host, req), Some(Ok(())), "it goes on");
        }
        host.faults.clear();
        host.release();
        host.run_for(Span::from_secs(60));
        take_away(&mut host, Span::from_secs(60)).unwrap();
        for disk in [LD1, RD1] {
            assert_same(&host.disks[&disk][600 * 512..608 * 512], &[0x45; 8 * 512]);
        }
    }
}

#[test]
fn a_device_does_not_go_while_it_is_asked_for_something() {
    let mut host = both();
    let req = host.write_of(1, 500, 8, 0x44);
    let without = group(&table("auto", &[]));
    let error = host.reload(&without, &[]).unwrap_err();
    assert!(error.contains("device 1 can't go: somebody still waits for it"), "{error}");
    host.run();
    assert_eq!(acked(&host, req), Some(Ok(())));
}

#[test]
fn a_device_goes_while_a_site_is_down_which_keeps_what_it_has_of_it() {
    let mut host = both();
    is_well(&mut host);
    host.faults.insert(RD, Fault::Fails);
    host.write(64, 8, 4);
    host.write_of(1, 64, 8, 4);
    host.run_for(Span::from_secs(5));
    let had = host.disks[&RD1].clone();
    take_away(&mut host, Span::from_secs(5)).unwrap();
    host.run_for(Span::from_secs(30));
    host.faults.clear();
    is_well(&mut host);
    assert_same(&host.disks[&RD1], &had);
    assert_same(&host.disks[&LD1][64 * 512..72 * 512], &[4; 8 * 512]);
}

/// All that was dirty at the site goes with the device. But nobody knows which disks are there when it
/// is back.
#[test]
fn a_site_that_is_down_is_not_in_sync_because_the_only_device_that_was_dirty_there_goes() {
    let mut host = alone();
    // So short that its site is attached at once; copying it takes half a minute.
    add_second(&mut host, "core 2 8 sync").unwrap();
    host.edit(None, "slink message 1 resync_rate:4k", &[]).unwrap();
    host.run_for(Span::from_secs(5));
    let attached = "little is left to be copied; the log is kept for it";
    assert!(host.machine.status(host.now).events.iter().any(|event| event.what == attached));
    host.faults.extend([(RD, Fault::Absent), (DiskId(9), Fault::Absent)]);
    host.run_for(Span::from_secs(5));
    let stands = |host: &Host| (host.site().state, host.site().dirty_bytes > 0);
    assert_eq!(stands(&host), (SiteState::Down, true));
    take_away(&mut host, Span::from_secs(5)).unwrap();
    host.run_for(Span::from_secs(5));
    assert_eq!(host.closed, BTreeSet::from([DiskId(8), DiskId(9)]));
    assert_eq!(stands(&host), (SiteState::Down, false));
    host.faults.clear();
    is_well(&mut host);
}

/// Until it has settled the driver names the device; from then on it may leave it out.
#[test]
fn a_crash_while_a_device_goes_leaves_it_whole_or_gone() {
    for fault in [None, Some(Fault::Fails), Some(Fault::Hangs)] {
        for effects in (0..60).step_by(2) {
            let mut host = both();
            if let Some(fault) = fault {
                host.faults.extend([(RD, fault), (RD1, fault)]);
            }
            host.write(500, 40, 0x43);
            host.write_of(1, 500, 40, 0x44);
            // What hangs is down by then.
            take_away(&mut host, Span::from_secs(20)).unwrap();
            host.effects_left = Some(effects);
            host.write(300, 8, 1);
            host.run_for(Span::from_secs(5));
            let with = open(&table("auto", &[&first("core 2 64 nosync")]), host.disks.clone());
            let mut again = with;
            assert_same(&again.read_of(1, 500, 40), &[0x44; 40 * 512]);
            is_well(&mut again);
            is_equal(&mut again, 1, DEVICE, [LD1, RD1]);
            if !host.machine.has_settled() {
                continue;
            }
            // Somebody else uses its disks now.
            for disk in [LD1, RD1] {
                host.disks.insert(disk, vec![0x99; 8192 * 512]);
            }
            let mut again = open(&table("auto", &[]), host.disks.clone());
            assert_same(&again.read(500, 40), &[0x43; 40 * 512]);
            is_well(&mut again);
            for disk in [LD1, RD1] {
                assert!(again.disks[&disk].iter().all(|byte| *byte == 0x99), "nothing of it");
            }
        }
    }
}

// ---- coming back

#[test]
fn a_device_that_was_away_is_copied_anew_from_its_local_disk_whatever_its_table_says() {
    for restart in [false, true] {
        let mut host = both();
        take_away(&mut host, Span::from_secs(5)).unwrap();
        host.run();
        host.disks.insert(LD1, vec![0x62; 8192 * 512]);
        if restart {
            let text = table("auto", &[&first("core 2 64 nosync")]);
            host = open(&text, host.disks.clone());
        } else {
            add_first(&mut host, "core 2 64 nosync").unwrap();
        }
        host.write_of(1, 0, 8, 1);
        is_equal(&mut host, 1, DEVICE, [LD1, RD1]);
        assert_same(&host.read_of(1, 8, 8), &[0x62; 8 * 512]);
        is_well(&mut host);
    }
}

/// The log still holds writes of the one before, for a site that is away, when the new one comes.
#[test]
fn another_device_under_the_same_number_gets_nothing_of_the_one_before() {
    for (restart, words, had_leg) in [
        (false, "core 2 8 nosync", false),
        (true, "core 2 8 nosync", false),
        (false, "nolog 0", true),
        (true, "nolog 0", true),
    ] {
        for effects in (0..90).step_by(3).chain([u64::MAX]) {
            let mut host = if had_leg { both() } else { both_at_home() };
            is_well(&mut host);
            for disk in [RD, RD1] {
                host.faults.insert(disk, Fault::Fails);
            }
            host.write(64, 8, 4);
            host.write_of(1, 64, 8, 0x44);
            take_away(&mut host, Span::from_secs(5)).unwrap();
            host.run_for(Span::from_secs(2));
            let text = table("auto", &[&second(words)]);
            host.faults.clear();
            host.disks.insert(DiskId(8), vec![0x81; 8192 * 512]);
            host.disks.insert(DiskId(9), vec![0x91; 8192 * 512]);
            if restart {
                host = open(&text, host.disks.clone());
            } else {
                add_second(&mut host, words).unwrap();
            }
            host.effects_left = Some(effects);
            host.write(300, 8, 1);
            host.write_of(1, 128, 8, 0x45);
            host.run_for(Span::from_secs(30));
            let mut again = open(&text, host.disks.clone());
            assert_same(&again.read_of(1, 64, 8), &[0x81; 8 * 512]);
            is_well(&mut again);
            is_equal(&mut again, 1, SHORT, [DiskId(8), DiskId(9)]);
            assert_same(&again.disks[&RD1][64 * 512..72 * 512], &[0x11; 8 * 512]);
        }
    }
}

#[test]
fn devices_come_and_go_again_and_again_under_one_number() {
    let mut host = both();
    for turn in 0..6 {
        take_away(&mut host, Span::from_secs(30)).unwrap();
        host.run();
        host.closed.clear();
        host.write(turn * 8, 8, 1);
        let is_first = turn % 2 == 1;
        if is_first {
            add_first(&mut host, "core 2 64 nosync").unwrap();
            host.write_of(1, 64, 8, turn as u8);
            is_equal(&mut host, 1, DEVICE, [LD1, RD1]);
        } else {
            add_second(&mut host, "core 2 8 sync").unwrap();
            host.write_of(1, 64, 8, turn as u8);
            is_equal(&mut host, 1, SHORT, [DiskId(8), DiskId(9)]);
        }
        is_well(&mut host);
    }
}
