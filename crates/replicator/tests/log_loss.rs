//! A log that is lost (P8): the devices go on against the LDs, also in another life; a log that
//! comes back is never replayed; another takes its place.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod host;

use std::collections::BTreeMap;

use blk::{DiskId, Errno, Op, Sector, Sectors, Span};
use dirty_log::format::Bypassed;
use host::{Fault, Host, assert_same};
use replicator::{LogWish, Phase, Relog};
use replog::format::kept::Kept;
use replog::format::superblock::Superblock;
use replog::geometry::SLOT_BYTES;

const LOG: DiskId = DiskId(0);
const LD: DiskId = DiskId(1);
const RD: DiskId = DiskId(2);
const DL: DiskId = DiskId(3);
const SITES: &str = "blockdev 2 0 async blockdev 2 1 async";
const CORE: &str = "1 1 /rd0 core 2 8 nosync";
const DISK: &str = "1 1 /rd0 disk 3 /dl0 8 nosync";

fn started(remote: &str) -> Host {
    Host::of(SITES, "auto 4096", remote, Host::blank(), BTreeMap::new())
}

/// The next life, on what is left.
fn again(host: Host, remote: &str, faults: &[(DiskId, Fault)]) -> Host {
    let faults = faults.iter().copied().collect();
    Host::again((SITES, "auto 4096", "nolog 0", remote), host.disks, faults, host.kept)
}

fn flush(host: &mut Host) {
    let req = host.ask(Op::Flush, None);
    host.run();
    assert_eq!(host.ended[&req], Ok(()));
}

fn write(host: &mut Host, sector: u64, fill: u8) {
    let req = host.write(sector, 8, fill);
    host.run();
    assert_eq!(host.ended[&req], Ok(()), "write of {fill:#x}");
}

fn lose(host: &mut Host, fault: Fault) {
    host.faults.insert(LOG, fault);
}

fn line(host: &Host) -> String {
    host.machine.status(host.now).replicator_line()
}

fn why(host: &Host) -> String {
    replicator::why(&host.machine.status(host.now))[0].to_string()
}

fn wish(uuid: u128) -> LogWish {
    let uuid = uuid::Uuid::from_u128(uuid);
    LogWish {
        disk: LOG,
        path: "/log".to_owned(),
        start: Sector(0),
        size: None,
        uuid,
        is_named: true,
    }
}

fn replace(host: &mut Host) {
    host.faults.remove(&LOG);
    host.machine.replace_log(wish(8)).unwrap();
    host.run();
    assert_eq!(host.machine.relog(), Relog::Done);
}

#[test]
fn the_devices_go_on_without_a_log_that_fails_or_hangs() {
    for fault in [Fault::Fails, Fault::Hangs, Fault::Absent] {
        let mut host = started(CORE);
        write(&mut host, 0, 1);
        let waiting = host.write(8, 8, 2);
        host.run_for(Span::from_millis(1));
        lose(&mut host, fault);
        let caught = host.write(16, 8, 3);
        host.run();
        for req in [waiting, caught] {
            assert_eq!(host.ended[&req], Ok(()), "{fault:?}");
        }
        flush(&mut host);
        write(&mut host, 0, 4);
        flush(&mut host);
        for (at, fill) in [(0, 4), (8, 2), (16, 3)] {
            assert_eq!(host.read(at, 8), vec![fill; 8 * 512], "{fault:?}");
            let ld = &host.device_bytes(1)[at as usize * 512..(at as usize + 8) * 512];
            assert_same(ld, &vec![fill; 8 * 512]);
        }
        assert!(line(&host).contains("log:lost,bypassed"), "{}", line(&host));
        assert!(why(&host).contains("replace-log"), "{}", why(&host));
    }
}

/// A second life, in which what the sites lack is in the ring and in no memory: they hang.
fn all_in_the_ring() -> Host {
    let sites_hang = [(LD, Fault::Hangs), (RD, Fault::Hangs)];
    let mut host = started(CORE);
    host.faults.extend(sites_hang);
    host.write(0, 8, 1);
    host.run_for(Span::from_secs(1));
    again(host, CORE, &sites_hang)
}

#[test]
fn a_log_that_fails_or_hangs_or_is_gone_is_lost_when_somebody_reads_from_it_too() {
    for fault in [Fault::Fails, Fault::Hangs, Fault::Absent] {
        let mut host = all_in_the_ring();
        lose(&mut host, fault);
        let read = host.ask(Op::Read { sector: Sector(0), len: Sectors(8) }, None);
        host.run_for(Span::from_secs(30));
        assert!(line(&host).contains("log:lost,held"), "{fault:?}: {}", line(&host));
        assert_eq!(host.ended.get(&read), None, "{fault:?}: it waits, and gets nothing old");
    }
}

/// P5: the answer of a log that then turns out to be lost, or well, is nobody's (seed 23705016).
#[test]
fn a_read_that_the_log_fails_waits_until_it_is_known_whether_that_is_lost() {
    let mut host = all_in_the_ring();
    lose(&mut host, Fault::FailsOnce);
    assert_same(&host.read_within(0, 8, Span::from_secs(1)).unwrap(), &[1; 8 * 512]);
    assert!(!line(&host).contains("lost"), "{}", line(&host));
}

#[test]
fn a_bad_sector_of_the_log_is_an_error_and_no_more() {
    for errno in [Errno::ENODATA, Errno::EIO] {
        let mut host = all_in_the_ring();
        let ring = host.disks[&LOG].chunks(512).rposition(|sector| sector == [1; 512]);
        host.bad.insert((LOG, ring.unwrap() as u64));
        host.bad_errno = errno;
        let read = host.ask(Op::Read { sector: Sector(0), len: Sectors(8) }, None);
        host.run_for(Span::from_secs(30));
        assert_eq!(host.ended.get(&read), Some(&Err(errno)));
        assert!(!line(&host).contains("lost"), "{}", line(&host));
    }
}

#[test]
fn local_disks_that_stand_in_for_a_log_are_not_rebuilt() {
    let mut host = started(CORE);
    write(&mut host, 0, 1);
    lose(&mut host, Fault::Fails);
    write(&mut host, 0, 2);
    let now = host.now;
    let refused = host.machine.message(now, None, &["rebuild"]).unwrap_err();
    assert!(refused.to_string().contains("replace-log"), "{refused}");
    write(&mut host, 0, 3);
    replace(&mut host);
    write(&mut host, 0, 4);
}

/// Also not what a `sync` local site has by then: whoever opens the log again, which may have
/// lost it, and replays what is older, would show that instead (P1; seed 250309587).
#[test]
fn what_only_a_sync_local_disk_has_is_not_acknowledged_before_the_record_is_kept() {
    let sites = "blockdev 2 0 sync blockdev 2 1 async";
    let mut host = Host::of(sites, "auto 4096", CORE, Host::blank(), BTreeMap::new());
    write(&mut host, 0, 1);
    // It is marked for everything already: that alone is no reason to keep a record.
    host.faults.insert(RD, Fault::Fails);
    host.machine.message(host.now, None, &["resync", "1"]).unwrap();
    host.run();
    // Two in a group: a lone one would be durable at once.
    let req = host.write(8, 8, 2);
    host.write(100, 8, 3);
    // The log has them in its cache; the flush that follows is never heard of.
    host.effects_left = Some(3);
    host.run_for(Span::from_millis(1));
    (host.effects_left, host.keeps) = (None, false);
    lose(&mut host, Fault::Fails);
    host.run_for(Span::from_secs(30));
    assert!(line(&host).contains("log:lost,held"), "{}", line(&host));
    assert_same(&host.device_bytes(1)[8 * 512..16 * 512], &[2; 8 * 512]);
    assert_eq!(host.ended.get(&req), None);
    host.keeps = true;
    host.run();
    assert_eq!(host.ended.get(&req), Some(&Ok(())));
}

#[test]
fn nothing_is_acknowledged_that_the_log_lacks_before_the_record_is_kept() {
    let mut host = started(CORE);
    write(&mut host, 0, 1);
    lose(&mut host, Fault::Fails);
    host.keeps = false;
    let req = host.write(8, 8, 2);
    host.run_for(Span::from_secs(5));
    assert!(!host.ended.contains_key(&req));
    assert!(why(&host).contains("can't be kept on this host"), "{}", why(&host));
    // Another life finds the log, should it be back, as it was.
    assert_eq!(host.kept, None);
    host.keeps = true;
    host.run();
    assert_eq!(host.ended[&req], Ok(()));
}

/// Its sites say all that they have to say, and it is the loss alone that is to be kept.
/// The local disk stands in for the log, and is lost as well: both are needed then, and the log that
/// comes back is as dead as before. Its older writes would go to the remote site next.
#[test]
fn a_dead_log_stays_dead_when_the_local_disk_is_another_too() {
    let mut host = started(CORE);
    write(&mut host, 0, 0x11);
    lose(&mut host, Fault::Fails);
    write(&mut host, 0, 0x22);
    let host = again(host, CORE, &[(LD, Fault::Other)]);
    let Phase::Failed(error) = host.machine.phase() else { panic!("{:?}", host.machine.phase()) };
    let expected = "/log, which was lost, as this host keeps it: device 0 on site 0: ";
    assert!(error.to_string().contains(expected), "{error}");
}

#[test]
fn nothing_is_acknowledged_before_the_record_says_that_the_log_is_dead() {
    let mut host = started(CORE);
    write(&mut host, 0, 1);
    host.faults.insert(RD, Fault::Fails);
    host.machine.message(host.now, None, &["resync", "1"]).unwrap();
    host.run();
    lose(&mut host, Fault::Fails);
    host.keeps = false;
    let req = host.write(8, 8, 2);
    host.run_for(Span::from_secs(5));
    assert!(Kept::decode(&host.records[0]).unwrap().is_bypassed(), "nothing else was to be kept");
    assert!(!host.ended.contains_key(&req));
    host.keeps = true;
    host.run();
    assert_eq!(host.ended[&req], Ok(()));
}

#[test]
fn what_the_host_keeps_is_newer_than_a_superblock_that_was_on_its_way() {
    let mut host = started(CORE);
    host.write(0, 8, 1);
    host.run_for(Span::from_millis(1));
    lose(&mut host, Fault::Fails);
    // The local disk lacks a write, and a superblock that fails may stand there all the same.
    host.machine.message(host.now, None, &["resync", "1"]).unwrap();
    host.run();
    let first = Kept::decode(&host.records[0]).unwrap();
    assert_eq!(first.superblock.bypassed_since, None, "the log could be opened again");
    let slot = |at: u64| Superblock::decode(&host.disks[&LOG][at as usize..]).unwrap();
    let newest = slot(0).generation.max(slot(SLOT_BYTES).generation);
    assert!(first.superblock.generation > newest + 1, "{newest}");
}

#[test]
fn a_log_that_is_back_is_not_replayed() {
    for remote in [CORE, DISK] {
        let mut host = started(remote);
        write(&mut host, 0, 1);
        lose(&mut host, Fault::Fails);
        write(&mut host, 0, 2);
        flush(&mut host);
        for faults in [&[(LOG, Fault::Absent)][..], &[]] {
            host = again(host, remote, faults);
            assert!(matches!(host.machine.phase(), Phase::Running), "{:?}", host.machine.phase());
            assert_eq!(host.read(0, 8), vec![2; 8 * 512]);
            assert!(line(&host).contains("log:lost,bypassed"), "{}", line(&host));
        }
        write(&mut host, 8, 3);
        flush(&mut host);
        host = again(host, remote, &[]);
        assert_eq!(host.read(8, 8), vec![3; 8 * 512]);
    }
}

/// The log was lost, and the daemon died before the local disk stood in for it: what that has got
/// meanwhile, the log that is back does not have.
#[test]
fn what_a_log_that_is_back_holds_does_not_go_over_a_newer_copy_of_the_local_disk() {
    let life = |remote, disks, faults, kept| {
        Host::of_size(256, (SITES, "auto 4096", "nolog 0", remote), disks, faults, kept)
    };
    let mut host = life(DISK, Host::blank(), BTreeMap::new(), None);
    host.faults.insert(RD, Fault::Fails);
    for _ in 0..100 {
        host.write(100, 96, 3);
        host.run_for(Span::from_millis(20));
    }
    host.run();
    assert!(host.site().detached, "the log was full of what it lacks");
    // What is written now is marked nowhere: only the log knows that the site lacks it.
    host.faults.insert(DL, Fault::Hangs);
    host.write(0, 8, 1);
    host.run_for(Span::from_secs(2));
    assert_eq!((host.site_at(0).lag_writes, host.site().lag_writes), (0, 1));
    host.disks.get_mut(&LD).unwrap()[..8 * 512].fill(2);
    // So little that it is attached at once, with a dirty log that has nothing to be read.
    let mut host = life(CORE, host.disks, BTreeMap::new(), host.kept);
    assert!(!host.site().detached && host.site().consistent, "{:?}", host.site());
    let device = host.read(0, 256);
    assert_eq!(device[..8 * 512], [2; 8 * 512]);
    assert!(host.disks[&RD][..256 * 512] == device);
}

#[test]
fn a_log_that_is_back_is_not_replayed_although_the_host_forgot_that_it_was_lost() {
    let mut host = started(DISK);
    write(&mut host, 0, 1);
    lose(&mut host, Fault::Fails);
    write(&mut host, 0, 2);
    flush(&mut host);
    host.kept = None;
    let record = host.records.last().cloned();
    let mut host = again(host, DISK, &[]);
    let Phase::Failed(error) = host.machine.phase() else { panic!("{:?}", host.machine.phase()) };
    for part in ["have run without this log", "/dl0", "put it back"] {
        assert!(error.to_string().contains(part), "{error}");
    }
    assert_eq!(host.device_bytes(1)[0], 2, "the local disk has what it had");
    // With the record back, the devices go on.
    host.kept = record;
    let mut host = again(host, DISK, &[]);
    assert_eq!(host.read(0, 8), vec![2; 8 * 512]);
}

#[test]
fn a_dirty_log_says_that_the_log_is_lost_before_the_local_disk_gets_what_came_after() {
    for effects in 1..200 {
        let mut host = started(DISK);
        write(&mut host, 0, 1);
        lose(&mut host, Fault::Fails);
        host.keeps = false;
        host.write(8, 8, 2);
        host.run_for(Span::from_secs(5));
        let after = host.write(16, 8, 3);
        host.keeps = true;
        host.effects_left = Some(effects);
        host.run();
        let has_it = host.device_bytes(1)[16 * 512] == 3;
        let log = Superblock::decode(&host.disks[&LOG]).unwrap();
        let said = Bypassed::decode(&host.disks[&DL]);
        let said = said.is_some_and(|it| it.covers(log.uuid, log.epoch));
        assert!(said || !has_it, "after {effects} effects");
        if host.ended.contains_key(&after) {
            return assert!(said && has_it);
        }
    }
    panic!("it never ends");
}

#[test]
fn a_dirty_log_that_fails_does_not_hold_the_devices_without_their_log() {
    for fault in [Fault::Fails, Fault::Hangs] {
        let mut host = started(DISK);
        write(&mut host, 0, 1);
        lose(&mut host, Fault::Fails);
        host.faults.insert(DL, fault);
        write(&mut host, 8, 2);
        assert!(line(&host).contains("log:lost,bypassed"), "{}", line(&host));
        assert_eq!(Bypassed::decode(&host.disks[&DL]), None);
    }
}

#[test]
fn a_dirty_log_that_hangs_or_fails_keeps_no_log_from_being_opened() {
    for fault in [Fault::Hangs, Fault::Fails] {
        let mut host = started(DISK);
        write(&mut host, 0, 1);
        let mut host = again(host, DISK, &[(DL, fault)]);
        assert!(matches!(host.machine.phase(), Phase::Running), "{:?}", host.machine.phase());
        assert_eq!(host.read(0, 8), vec![1; 8 * 512]);
    }
}

#[test]
fn another_log_takes_its_place_and_every_site_becomes_equal() {
    for remote in [CORE, DISK] {
        let mut host = started(remote);
        write(&mut host, 0, 1);
        lose(&mut host, Fault::Hangs);
        write(&mut host, 0, 2);
        write(&mut host, 80, 3);
        assert!(host.site().detached && host.site().dirty_bytes > 0);
        replace(&mut host);
        host.release();
        write(&mut host, 160, 4);
        host.run_for(Span::from_secs(600));
        assert!(!line(&host).contains("lost"), "{}", line(&host));
        assert!(!host.site().detached, "{}", line(&host));
        assert_same(host.device_bytes(1), host.device_bytes(2));
        assert_eq!(host.device_bytes(2)[160 * 512], 4);
        // The next life begins with the new log, whatever was kept.
        host = again(host, remote, &[]);
        assert_eq!(host.read(160, 8), vec![4; 8 * 512]);
        assert!(!line(&host).contains("lost"), "{}", line(&host));
    }
}

#[test]
fn a_log_that_another_took_the_place_of_is_refused() {
    let mut host = started(CORE);
    write(&mut host, 0, 1);
    let old = host.disks[&LOG].clone();
    lose(&mut host, Fault::Fails);
    write(&mut host, 0, 2);
    replace(&mut host);
    host.disks.insert(LOG, old);
    let host = again(host, CORE, &[]);
    let Phase::Failed(error) = host.machine.phase() else { panic!("{:?}", host.machine.phase()) };
    assert!(error.to_string().contains("have run without this log"), "{error}");
}

#[test]
fn a_log_is_refused_also_when_the_one_that_took_its_place_was_replaced_itself() {
    let mut host = started(CORE);
    write(&mut host, 0, 1);
    let old = host.disks[&LOG].clone();
    for uuid in [8, 9] {
        lose(&mut host, Fault::Fails);
        write(&mut host, 0, 2);
        host.faults.remove(&LOG);
        host.machine.replace_log(wish(uuid)).unwrap();
        host.run();
        assert_eq!(host.machine.relog(), Relog::Done);
    }
    host.disks.insert(LOG, old);
    let host = again(host, CORE, &[]);
    let Phase::Failed(error) = host.machine.phase() else { panic!("{:?}", host.machine.phase()) };
    assert!(error.to_string().contains("have run without this log"), "{error}");
}

#[test]
fn a_name_that_is_used_again_for_other_disks_has_nothing_to_do_with_the_log_that_was_lost() {
    let mut host = started(CORE);
    lose(&mut host, Fault::Fails);
    write(&mut host, 0, 2);
    host.disks = Host::blank();
    let host = again(host, CORE, &[(LD, Fault::Other), (RD, Fault::Other)]);
    assert!(matches!(host.machine.phase(), Phase::Running), "{:?}", host.machine.phase());
    assert!(!line(&host).contains("lost"), "{}", line(&host));
}

#[test]
fn a_new_log_that_fails_leaves_the_devices_as_they_were() {
    let mut host = started(CORE);
    lose(&mut host, Fault::Fails);
    write(&mut host, 0, 2);
    for fault in [Fault::Fails, Fault::Absent, Fault::Hangs] {
        lose(&mut host, fault);
        host.machine.replace_log(wish(8)).unwrap();
        host.run();
        let Relog::Failed(error) = host.machine.relog() else { panic!("{fault:?}") };
        assert!(why(&host).contains(&error), "{}", why(&host));
        write(&mut host, 8, 3);
    }
    assert!(line(&host).contains("log:lost,bypassed"));
    host.release();
    replace(&mut host);
    write(&mut host, 8, 4);
}

#[test]
fn without_a_log_and_without_the_local_disks_everything_waits_and_nothing_fails() {
    let mut host = started(CORE);
    lose(&mut host, Fault::Fails);
    write(&mut host, 0, 2);
    host.faults.insert(LD, Fault::Fails);
    let req = host.write(0, 8, 3);
    host.run_for(Span::from_secs(30));
    assert!(!host.ended.contains_key(&req));
    assert!(why(&host).starts_with("everything waits"), "{}", why(&host));
    host.faults.remove(&LD);
    host.run();
    assert_eq!(host.ended[&req], Ok(()));
    assert_eq!(host.read(0, 8), vec![3; 8 * 512]);
}

#[test]
fn a_flush_without_a_log_is_a_flush_of_the_local_disks() {
    let mut host = started(CORE);
    lose(&mut host, Fault::Fails);
    let (sector, len) = (Sector(0), Sectors(8));
    let fua = host.ask(Op::Write { sector, len, fua: true }, Some(vec![7; 8 * 512]));
    host.run();
    assert_eq!(host.ended[&fua], Ok::<(), Errno>(()));
    let log = host.machine.log().unwrap();
    assert_eq!(log.durable(), log.written());
}

#[test]
fn a_flush_without_a_log_does_not_end_before_that_of_the_local_disks() {
    let mut host = started(CORE);
    lose(&mut host, Fault::Fails);
    write(&mut host, 0, 2);
    let req = host.write(0, 8, 3);
    host.run_for(Span::from_millis(1));
    assert_eq!(host.ended.get(&req), Some(&Ok(())), "it may be in their cache");
    host.faults.insert(LD, Fault::WritesHang);
    let flush = host.ask(Op::Flush, None);
    host.run_for(Span::from_secs(1));
    assert_eq!(host.ended.get(&flush), None);
    host.faults.remove(&LD);
    host.release();
    host.run();
    assert_eq!(host.ended[&flush], Ok(()));
}

/// It wrote to them, and nobody knows what they have in a cache.
#[test]
fn a_flush_without_a_log_is_one_also_for_what_a_dead_daemon_wrote() {
    let mut host = started(CORE);
    lose(&mut host, Fault::Fails);
    write(&mut host, 0, 2);
    host = again(host, CORE, &[(LOG, Fault::Absent)]);
    flush(&mut host);
    assert!(host.flushed.get(&LD).is_some_and(|flushes| *flushes > 0));
}

#[test]
fn while_there_is_no_log_no_other_table_is_taken() {
    let mut host = started(CORE);
    lose(&mut host, Fault::Fails);
    write(&mut host, 0, 2);
    let refused = host.edit(None, "slink message 1 policy sync", &[]).unwrap_err();
    assert!(refused.contains("the log is lost"), "{refused}");
    replace(&mut host);
    host.edit(None, "slink message 1 policy sync", &[]).unwrap();
    host.run_for(Span::from_secs(60));
    write(&mut host, 0, 3);
    assert_same(host.device_bytes(1), host.device_bytes(2));
}

#[test]
fn nothing_is_compared_while_there_is_no_log_and_all_of_it_when_there_is_one() {
    let mut host = started(CORE);
    lose(&mut host, Fault::Fails);
    write(&mut host, 0, 2);
    host.machine.message(host.now, None, &["verify"]).unwrap();
    host.run();
    let verify = host.site().verify.unwrap();
    assert!(verify.running && verify.compared_bytes == 0, "{verify:?}");
    replace(&mut host);
    host.run_for(Span::from_secs(60));
    let verify = host.site().verify.unwrap();
    assert!(verify.whole && verify.compared_bytes > 0, "{verify:?}");
    assert_eq!(verify.differing_ranges, 0, "{verify:?}");
}

#[test]
fn local_disks_that_were_lost_first_do_not_stand_in_for_a_log() {
    let mut host = started(CORE);
    host.faults.insert(LD, Fault::Fails);
    for round in 0..100 {
        host.write(64 * (round % 32), 64, 1);
        host.run_for(Span::from_millis(500));
    }
    assert!(host.site_at(0).detached, "the log was full of what it lacks");
    lose(&mut host, Fault::Fails);
    let req = host.write(0, 8, 2);
    host.run_for(Span::from_secs(30));
    assert!(!host.ended.contains_key(&req));
    assert!(why(&host).starts_with("everything waits"), "{}", why(&host));
    let is_bypassed = |bytes: &Vec<u8>| Kept::decode(bytes).unwrap().is_bypassed();
    assert!(!host.records.iter().any(is_bypassed), "the log is to be replayed when it is back");
    // Another life finds it, and the disks are built anew from the site.
    let mut host = again(host, CORE, &[]);
    assert_eq!(host.read(0, 8), vec![1; 8 * 512]);
    write(&mut host, 0, 3);
    host.run_for(Span::from_secs(600));
    assert!(!host.site_at(0).detached, "{}", line(&host));
    assert_same(host.device_bytes(1), host.device_bytes(2));
}

#[test]
fn what_becomes_of_the_log_is_told_like_what_becomes_of_sites() {
    let mut host = started(CORE);
    lose(&mut host, Fault::Fails);
    host.keeps = false;
    host.write(0, 8, 2);
    host.run_for(Span::from_secs(5));
    host.keeps = true;
    host.run();
    replace(&mut host);
    let events = host.machine.status(host.now).events;
    let of_log = events.iter().filter(|event| event.slink.is_none());
    let told: Vec<&str> = of_log.map(|event| event.what.as_str()).collect();
    let begins = ["lost: ", "that it is not to be replayed", "the devices go on", "log 0000"];
    assert_eq!(told.len(), begins.len(), "each is told once: {told:?}");
    assert!(told.iter().zip(begins).all(|(told, begin)| told.starts_with(begin)), "{told:?}");
    let detached = |what: &str| what.contains("detached, since the log was lost");
    assert!(events.iter().any(|event| event.slink == Some(1) && detached(&event.what)));
}
