//! A log that works gives its place to another one while applications write; whatever happens
//! meanwhile, nothing that was acknowledged is lost, and nothing old comes back (P8).

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod host;

use std::collections::BTreeMap;

use blk::{DiskId, Sector, Span};
use host::{Fault, Host, assert_same};
use replicator::{LogWish, Phase, Relog, SiteState};

const LOG: DiskId = DiskId(0);
const LD: DiskId = DiskId(1);
const RD: DiskId = DiskId(2);
const NEW: DiskId = DiskId(4);
const SITES: &str = "blockdev 2 0 async blockdev 3 1 async timeout_io:1s";
const CORE: &str = "1 1 /rd0 core 2 8 nosync";
const DISK: &str = "1 1 /rd0 disk 3 /dl0 8 nosync";

fn started(sites: &str, remote: &str) -> Host {
    let mut disks = Host::blank();
    disks.insert(NEW, vec![0x5a; disks[&LOG].len()]);
    Host::of(sites, "auto 4096", remote, disks, BTreeMap::new())
}

/// The next life; by a table that names the new log, or the old one.
fn again(mut host: Host, remote: &str, named: bool) -> Host {
    if named {
        let (old, new) = (host.disks[&LOG].clone(), host.disks[&NEW].clone());
        host.disks.extend([(LOG, new), (NEW, old)]);
    }
    let how = (SITES, "auto 4096", "nolog 0", remote);
    Host::again(how, host.disks, BTreeMap::new(), host.kept)
}

fn write(host: &mut Host, sector: u64, fill: u8) {
    let req = host.write(sector, 8, fill);
    host.run_for(Span::from_millis(20));
    assert_eq!(host.ended.get(&req), Some(&Ok(())), "write of {fill}");
}

fn wish() -> LogWish {
    let uuid = uuid::Uuid::from_u128(8);
    LogWish {
        disk: NEW,
        path: "/new".to_owned(),
        start: Sector(0),
        size: None,
        uuid,
        is_named: false,
    }
}

/// Makes the new log ready.
fn prepare(host: &mut Host) {
    host.machine.replace_log(wish()).unwrap();
    host.run_for(Span::from_millis(20));
    assert_eq!(host.machine.relog(), Relog::Prepared);
}

/// Goes on with it until it is done, or nothing happens any more. Whether the table was to name
/// the new log.
fn go_over(host: &mut Host) -> bool {
    let now = host.now;
    host.machine.give_up_log(now).unwrap();
    host.run_for(Span::from_millis(20));
    let named = host.machine.relog() == Relog::GivenUp && host.effects_left != Some(0);
    if named {
        host.machine.begin_new_log().unwrap();
        host.run_for(Span::from_millis(20));
    }
    named
}

fn is_lost(host: &Host) -> bool {
    host.machine.status(host.now).replicator_line().contains("lost")
}

/// The sites have what the devices hold, by the log alone.
fn assert_equal(host: &mut Host, fills: &[(u64, u8)]) {
    host.run_for(Span::from_secs(120));
    let site = host.site();
    let is = (site.state, site.consistent, site.detached, site.lag_writes);
    assert_eq!(is, (SiteState::Streaming, true, false, 0), "{site:?}");
    for &(sector, fill) in fills {
        assert_same(&host.read(sector, 8), &[fill; 8 * 512]);
    }
    assert_same(host.device_bytes(1), host.device_bytes(2));
}

#[test]
fn a_log_that_works_moves_and_no_site_leaves_it_for_that() {
    for remote in [CORE, DISK] {
        let mut host = started(SITES, remote);
        write(&mut host, 0, 1);
        prepare(&mut host);
        write(&mut host, 80, 2);
        let now = host.now;
        host.machine.give_up_log(now).unwrap();
        let held = host.write(160, 8, 3);
        host.run_for(Span::from_millis(20));
        assert_eq!(host.machine.relog(), Relog::GivenUp);
        let before = host.machine.log().unwrap().superblock().clone();
        assert_eq!(host.ended.get(&held), None, "writers wait");
        assert!(!host.site().detached && host.site().state == SiteState::Streaming);
        let shipped = host.written[&RD];
        host.machine.begin_new_log().unwrap();
        host.run_for(Span::from_millis(20));
        assert_eq!((host.machine.relog(), is_lost(&host)), (Relog::Done, false));
        assert_eq!(host.ended.get(&held), Some(&Ok(())));
        write(&mut host, 0, 4);
        assert_equal(&mut host, &[(0, 4), (80, 2), (160, 3)]);
        assert_eq!(host.written[&RD], shipped + 2 * 8 * 512, "nothing was copied");
        assert_eq!(host.errors(), 0);
        let mut host = again(host, remote, true);
        let now = host.machine.log().unwrap().superblock().clone();
        assert!(now.uuid != before.uuid && now.group() == before.group(), "the group is as it was");
        write(&mut host, 8, 5);
        assert_equal(&mut host, &[(0, 4), (8, 5), (80, 2), (160, 3)]);
    }
}

#[test]
fn the_log_that_was_moved_away_from_is_never_opened_again() {
    let mut host = started(SITES, CORE);
    write(&mut host, 0, 1);
    prepare(&mut host);
    assert!(go_over(&mut host));
    write(&mut host, 0, 2);
    let host = again(host, CORE, false);
    let Phase::Failed(error) = host.machine.phase() else { panic!("{:?}", host.machine.phase()) };
    assert!(error.to_string().contains("have run without this log"), "{error}");
}

#[test]
fn a_crash_anywhere_on_the_way_loses_nothing_by_the_table_of_that_moment() {
    let mut ends = [0, 0, 0];
    for effects in 0..60 {
        for remote in [CORE, DISK] {
            let mut host = started(SITES, remote);
            write(&mut host, 0, 1);
            host.effects_left = Some(effects);
            host.machine.replace_log(wish()).unwrap();
            host.run_for(Span::from_millis(20));
            let mut named = false;
            if host.machine.relog() == Relog::Prepared && host.effects_left != Some(0) {
                let late = host.write(80, 8, 2);
                named = go_over(&mut host);
                let acknowledged = host.ended.contains_key(&late);
                ends[if named { 1 + usize::from(acknowledged) } else { 0 }] += 1;
                let mut host = again(host, remote, named);
                assert!(matches!(host.machine.phase(), Phase::Running), "{effects}");
                if acknowledged {
                    assert_same(&host.read(80, 8), &[2; 8 * 512]);
                }
                write(&mut host, 160, 3);
                assert_same(&host.read(0, 8), &[1; 8 * 512]);
                assert_same(&host.read(160, 8), &[3; 8 * 512]);
                if !is_lost(&host) {
                    assert_equal(&mut host, &[(0, 1), (160, 3)]);
                }
            } else {
                let mut host = again(host, remote, named);
                assert!(!is_lost(&host));
                assert_equal(&mut host, &[(0, 1)]);
            }
        }
    }
    assert!(ends.iter().all(|times| *times > 0), "{ends:?}");
}

#[test]
fn a_new_log_that_fails_or_does_not_fit_leaves_the_old_one_at_work() {
    for fault in [Fault::Fails, Fault::Absent, Fault::Hangs] {
        let mut host = started(SITES, CORE);
        host.faults.insert(NEW, fault);
        host.machine.replace_log(wish()).unwrap();
        host.run_for(Span::from_secs(60));
        assert!(matches!(host.machine.relog(), Relog::Failed(_)), "{fault:?}");
        assert!(host.machine.give_up_log(host.now).is_err());
        write(&mut host, 0, 1);
        assert!(!is_lost(&host));
    }
    let refused = |host: &mut Host, wish: LogWish| {
        let asked = host.machine.replace_log(wish).map_err(|error| error.to_string());
        host.run_for(Span::from_millis(20));
        write(host, 0, 1);
        assert!(!is_lost(host));
        match (asked, host.machine.relog()) {
            (Err(why), _) | (Ok(()), Relog::Failed(why)) => why,
            (Ok(()), how) => panic!("{how:?}"),
        }
    };
    let mut host = started(SITES, CORE);
    let why = refused(&mut host, LogWish { size: Some(blk::Sectors(1 << 30)), ..wish() });
    assert!(why.contains("does not fit"), "{why}");
    let why = refused(&mut host, LogWish { disk: LOG, path: "/log".to_owned(), ..wish() });
    assert!(why.contains("at work on /log"), "{why}");
    // The same log by another name.
    let log = host.disks[&LOG].clone();
    host.disks.insert(NEW, log);
    let why = refused(&mut host, wish());
    assert!(why.contains("another replication log"), "{why}");
    assert_equal(&mut host, &[(0, 1)]);
}

#[test]
fn a_site_that_is_down_gets_what_it_lacked_by_a_resync() {
    // Sites are waited for as long whatever deadline the log has.
    for sites in [SITES, "blockdev 3 0 async timeout_io:300 blockdev 3 1 async timeout_io:1s"] {
        left_behind(sites);
    }
}

fn left_behind(sites: &str) {
    let mut host = started(sites, CORE);
    write(&mut host, 0, 1);
    host.run_for(Span::from_secs(1));
    host.faults.insert(RD, Fault::Absent);
    write(&mut host, 80, 2);
    host.run_for(Span::from_secs(2));
    prepare(&mut host);
    let now = host.now;
    host.machine.give_up_log(now).unwrap();
    host.run_for(Span::from_millis(900));
    assert_eq!(
        host.machine.relog(),
        Relog::UnderWay("waiting until the sites have what is in the old log")
    );
    host.run_for(Span::from_millis(200));
    assert_eq!(host.machine.relog(), Relog::GivenUp);
    host.machine.begin_new_log().unwrap();
    host.run_for(Span::from_millis(20));
    assert_eq!(host.machine.relog(), Relog::Done);
    write(&mut host, 160, 3);
    host.faults.clear();
    assert_equal(&mut host, &[(0, 1), (80, 2), (160, 3)]);
}

#[test]
fn a_site_that_is_to_be_waited_for_keeps_the_log_where_it_is() {
    let mut host =
        started("blockdev 2 0 async blockdev 4 1 async on_down:hold timeout_io:1s", CORE);
    write(&mut host, 0, 1);
    host.run_for(Span::from_secs(1));
    prepare(&mut host);
    host.faults.insert(RD, Fault::Absent);
    let held = host.write(80, 8, 2);
    host.run_for(Span::from_millis(20));
    let now = host.now;
    host.machine.give_up_log(now).unwrap();
    host.run_for(Span::from_secs(2));
    let Relog::Failed(why) = host.machine.relog() else { panic!("{:?}", host.machine.relog()) };
    assert!(why.contains("site 1 lacks 1 of the writes in it"), "{why}");
    assert!(!is_lost(&host));
    host.faults.clear();
    host.run_for(Span::from_secs(60));
    assert_eq!(host.ended.get(&held), Some(&Ok(())));
    assert_equal(&mut host, &[(0, 1), (80, 2)]);
}

#[test]
fn a_log_stays_that_the_local_disks_could_not_stand_in_for() {
    let stays = |host: &mut Host| {
        prepare(host);
        let now = host.now;
        host.machine.give_up_log(now).unwrap();
        host.run_for(Span::from_secs(11));
        let Relog::Failed(why) = host.machine.relog() else { panic!("{:?}", host.machine.relog()) };
        assert!(why.contains("could not stand in"), "{why}");
        assert!(!is_lost(host));
    };
    // They are away.
    let mut host = started(SITES, CORE);
    write(&mut host, 0, 1);
    host.faults.insert(LD, Fault::Absent);
    write(&mut host, 80, 2);
    host.run_for(Span::from_secs(3));
    stays(&mut host);
    host.faults.clear();
    assert_equal(&mut host, &[(0, 1), (80, 2)]);

    // The log alone has what they lack: memory holds less than that.
    let mut disks = Host::blank();
    disks.insert(NEW, vec![0; disks[&LOG].len()]);
    let sites = "blockdev 3 0 async timeout_io:60s blockdev 2 1 async";
    let log = "auto 8000 tail:1m ld_lag:log";
    let mut host = Host::of(sites, log, CORE, disks, BTreeMap::new());
    host.faults.insert(LD, Fault::WritesHang);
    for i in 0..40 {
        let req = host.write(i * 96, 64, i as u8);
        host.run_for(Span::from_millis(20));
        assert_eq!(host.ended.get(&req), Some(&Ok(())), "write {i}");
    }
    stays(&mut host);
    host.faults.clear();
    host.release();
    assert_equal(&mut host, &[(96, 1), (39 * 96, 39)]);
}

/// Nobody has to catch up with it any more; and it is not left once more, or nothing would ever
/// stand in for it (seed 60474).
#[test]
fn a_log_that_fails_while_sites_catch_up_is_lost_once() {
    let mut host = started(SITES, CORE);
    write(&mut host, 0, 1);
    host.run_for(Span::from_secs(1));
    prepare(&mut host);
    // A group is on its way to it: the LD gets that when it stands in for the log.
    host.faults.insert(LOG, Fault::Hangs);
    let caught = host.write(80, 8, 2);
    host.run_for(Span::from_millis(20));
    let now = host.now;
    host.machine.give_up_log(now).unwrap();
    let held = host.write(160, 8, 3);
    host.run_for(Span::from_millis(20));
    host.faults.insert(LOG, Fault::Fails);
    host.release();
    host.run_for(Span::from_secs(5));
    assert_eq!(host.ended.get(&caught), Some(&Ok(())));
    assert!(is_lost(&host));
    assert_eq!(host.machine.relog(), Relog::GivenUp);
    host.machine.begin_new_log().unwrap();
    host.run_for(Span::from_secs(5));
    assert_eq!((host.machine.relog(), is_lost(&host)), (Relog::Done, false));
    assert_eq!(host.ended.get(&held), Some(&Ok(())));
    assert_equal(&mut host, &[(0, 1), (80, 2), (160, 3)]);
}

#[test]
fn who_stops_wants_no_new_log_any_more() {
    let mut host = started(SITES, CORE);
    write(&mut host, 0, 1);
    prepare(&mut host);
    host.faults.insert(LD, Fault::Hangs);
    let req = host.write(80, 8, 2);
    host.run_for(Span::from_millis(20));
    assert_eq!(host.ended.get(&req), Some(&Ok(())));
    let now = host.now;
    host.machine.give_up_log(now).unwrap();
    host.run_for(Span::from_millis(20));
    host.machine.stop(true);
    assert!(host.machine.replace_log(wish()).is_err());
    host.faults.clear();
    host.release();
    host.run();
    assert!(matches!(host.machine.phase(), Phase::Stopped), "{:?}", host.machine.phase());
    let mut host = again(host, CORE, false);
    assert_equal(&mut host, &[(0, 1), (80, 2)]);
}

/// The old one failed by itself: its table names it still, so the new one is not at work yet.
#[test]
fn a_log_that_fails_while_another_is_made_ready_is_left_when_the_table_says_so() {
    let mut host = started(SITES, CORE);
    write(&mut host, 0, 1);
    host.faults.insert(NEW, Fault::Slow);
    host.machine.replace_log(wish()).unwrap();
    host.run_for(Span::from_millis(20));
    host.faults.insert(LOG, Fault::Fails);
    write(&mut host, 80, 2);
    assert!(is_lost(&host));
    host.faults.remove(&NEW);
    for _ in 0..10 {
        host.land();
        host.run_for(Span::from_millis(20));
    }
    assert_eq!(host.machine.relog(), Relog::GivenUp);
    write(&mut host, 160, 3);
    host.machine.begin_new_log().unwrap();
    host.run_for(Span::from_millis(20));
    assert_eq!((host.machine.relog(), is_lost(&host)), (Relog::Done, false));
    assert_equal(&mut host, &[(0, 1), (80, 2), (160, 3)]);
    let mut host = again(host, CORE, true);
    assert_equal(&mut host, &[(0, 1), (80, 2), (160, 3)]);
}
