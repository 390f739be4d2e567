//! The local disk fails, hangs, is absent, replaced, has a bad sector, and comes back (P6, P7).

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod host;

use std::collections::BTreeMap;

use blk::{DevNr, DiskId, Errno, Op, Sector, Sectors, Span};
use host::{Fault, Host, assert_same};
use replicator::{Phase, SiteState};

const LD: DiskId = DiskId(1);
const RD: DiskId = DiskId(2);
const SITES: &str = "blockdev 3 0 async timeout_io:1s blockdev 2 1 timeout_io:1s";
const REMOTE: &str = "1 1 /rd0 core 2 64 nosync";

fn host() -> Host {
    Host::of(SITES, "create 4096", REMOTE, Host::blank(), BTreeMap::new())
}

fn opened(before: Host, faults: BTreeMap<DiskId, Fault>) -> Host {
    Host::of(SITES, "open 4096", REMOTE, before.disks, faults)
}

/// Writes all over the device, one at a time, and reads some of it back; none fails.
fn use_it(host: &mut Host, rounds: u64) {
    for i in 0..rounds {
        let (sector, len) = (i * 517 % 4000, 1 + i % 96);
        let write = host.write(sector, len, i as u8);
        host.run_for(Span::from_millis(20));
        assert_eq!(host.ended.get(&write), Some(&Ok(())), "write {i}");
        if i % 7 == 0 {
            let read = host.read_within(sector, len, Span::from_secs(2));
            assert_same(&read.unwrap(), &vec![i as u8; len as usize * 512]);
        }
    }
}

/// Every site has everything, and the local one is read.
fn assert_whole(host: &mut Host) {
    for nr in 0..2 {
        let site = host.site_at(nr);
        let is = (site.state, site.consistent, site.detached, site.lag_writes);
        assert_eq!(is, (SiteState::Streaming, true, false, 0), "{site:?}");
    }
    assert_eq!(host.reads_from(), Some(0));
    let device = host.read(0, 4096);
    assert_same(host.device_bytes(1), &device);
    assert_same(host.device_bytes(2), &device);
}

#[test]
fn a_device_goes_on_without_its_local_disk_and_that_is_rebuilt_when_it_is_back() {
    for local in ["nolog 0", "core 2 64 nosync", "disk 3 /dl0 64 nosync"] {
        for fault in [Fault::Fails, Fault::Hangs, Fault::Absent] {
            let mut host = Host::with_local(
                SITES,
                "create 4096",
                local,
                REMOTE,
                Host::blank(),
                BTreeMap::new(),
            );
            use_it(&mut host, 20);
            host.faults.insert(LD, fault);
            // Several times the log: it overflows.
            host.run_for(Span::from_secs(3));
            use_it(&mut host, 5);
            host.run_for(Span::from_secs(3));
            use_it(&mut host, 400);
            assert_eq!(host.site_at(0).state, SiteState::Down, "{fault:?}");
            assert!(host.site_at(0).detached && host.reads_from() == Some(1), "{fault:?}");
            let standing = &host.machine.log().unwrap().superblock().sites[0];
            assert!(standing.detached.is_some() && standing.lost_since.is_some(), "durably (P7)");
            host.faults.clear();
            host.release();
            use_it(&mut host, 20);
            host.run();
            assert_whole(&mut host);
            assert_eq!(host.errors(), 0);
            assert_eq!(host.machine.log().unwrap().superblock().sites[0].lost_since, None);
        }
    }
}

#[test]
fn a_short_outage_of_the_local_disk_is_made_good_from_the_log() {
    let mut host = host();
    use_it(&mut host, 20);
    host.faults.insert(LD, Fault::Fails);
    use_it(&mut host, 20);
    assert!(!host.site_at(0).detached);
    host.faults.clear();
    host.run();
    assert_whole(&mut host);
    assert_eq!(host.errors(), 0);
}

#[test]
fn a_dirty_log_makes_the_rebuild_partial_also_for_the_next_daemon() {
    let copied = |local: &str| {
        let of =
            |mode: &str, disks, faults| Host::with_local(SITES, mode, local, REMOTE, disks, faults);
        let mut first = of("create 4096", Host::blank(), BTreeMap::new());
        use_it(&mut first, 20);
        first.faults.insert(LD, Fault::Absent);
        first.run_for(Span::from_secs(3));
        for i in 0..300 {
            first.write(64 * (i % 3), 48, i as u8);
            first.run_for(Span::from_millis(20));
        }
        assert!(first.site_at(0).detached);
        let mut host = of("open 4096", first.disks, BTreeMap::new());
        host.run();
        assert_whole(&mut host);
        host.written[&LD]
    };
    let (partial, all) = (copied("disk 3 /dl0 64 nosync"), copied("nolog 0"));
    assert!(partial * 8 < all && all >= 4096 * 512, "{partial} of {all} bytes");
}

#[test]
fn an_empty_disk_in_the_place_of_the_local_one_is_used_when_somebody_says_so() {
    let mut host = host();
    use_it(&mut host, 20);
    host.faults.insert(LD, Fault::Other);
    let before = vec![0; host.disks[&LD].len()];
    host.disks.insert(LD, before.clone());
    use_it(&mut host, 400);
    host.run_for(Span::from_secs(5));
    assert_eq!(host.site_at(0).state, SiteState::Down);
    assert_same(&host.disks[&LD], &before);
    let error = host.site_at(0).failure.unwrap().error;
    assert!(error.contains("put the right disk back, or let the message `rebuild 0`"), "{error}");
    let now = host.now;
    let answer = host.machine.message(now, None, &["rebuild"]).unwrap();
    assert_eq!(answer, "site 0: everything there is copied anew\n");
    host.faults.insert(LD, Fault::OtherForGood);
    use_it(&mut host, 20);
    host.run();
    assert_whole(&mut host);
    assert_eq!(host.errors(), 0);
}

#[test]
fn a_bad_sector_is_read_elsewhere_and_written_again() {
    let mut host = host();
    use_it(&mut host, 40);
    host.run();
    let whole = host.read(0, 4096);
    host.bad.insert((LD, 77));
    host.bad.insert((LD, 1234));
    let again = host.read(0, 4096);
    assert_same(&again, &whole);
    assert_eq!(host.bad.len(), 0, "they were written again");
    assert_eq!(host.site_at(0).state, SiteState::Streaming);
    assert_eq!(host.errors(), 0);
    assert_whole(&mut host);
}

#[test]
fn a_bad_sector_is_not_written_over_with_what_is_older_than_the_device() {
    let mut host = host();
    host.write(70, 16, 1);
    host.run();
    host.bad.insert((LD, 77));
    let read = host.ask(Op::Read { sector: Sector(70), len: Sectors(16) }, None);
    let write = host.write(70, 16, 2);
    host.run();
    assert_eq!((host.ended[&read], host.ended[&write]), (Ok(()), Ok(())));
    host.bad.clear();
    assert_same(&host.read(70, 16), &[2; 16 * 512]);
    assert_whole(&mut host);
}

#[test]
fn a_bad_sector_that_no_other_copy_has_is_an_error() {
    for (absent, errno) in [(true, Errno::ENODATA), (true, Errno::EIO), (false, Errno::EIO)] {
        let mut host = host();
        use_it(&mut host, 20);
        host.run();
        if absent {
            host.faults.insert(RD, Fault::Absent);
            use_it(&mut host, 1);
            host.run_for(Span::from_secs(1));
        } else {
            host.bad.insert((RD, 100));
        }
        host.bad.insert((LD, 100));
        host.bad_errno = errno;
        let read = host.ask(Op::Read { sector: Sector(96), len: Sectors(8) }, None);
        host.run_for(Span::from_secs(20));
        assert_eq!(host.ended.get(&read), Some(&Err(errno)), "absent: {absent}");
        let elsewhere = host.read_within(200, 8, Span::from_secs(1));
        assert!(elsewhere.is_some(), "others are answered");
    }
}

#[test]
fn with_no_complete_copy_left_reads_and_a_full_log_wait_and_why_says_so() {
    for fault in [Fault::Fails, Fault::Hangs, Fault::Absent] {
        let mut host = host();
        use_it(&mut host, 20);
        host.faults.insert(LD, fault);
        host.run_for(Span::from_secs(3));
        use_it(&mut host, 400);
        assert!(host.site_at(0).detached);
        // And now the last one, too.
        host.faults.insert(RD, fault);
        let writes: Vec<_> = (0..400).map(|i| host.write(i * 8, 64, 7)).collect();
        host.run_for(Span::from_secs(30));
        let read = host.ask(Op::Read { sector: Sector(3000), len: Sectors(900) }, None);
        host.run_for(Span::from_secs(30));
        assert_eq!(host.ended.get(&read), None, "{fault:?}");
        let acked = writes.iter().filter(|write| host.ended.contains_key(write)).count();
        assert!(acked > 0 && acked < writes.len(), "what the log holds is acknowledged: {acked}");
        assert!(!host.site_at(1).detached, "P6: the last whole copy is not given up");
        let why = replicator::why(&host.machine.status(host.now))[0].to_string();
        assert!(why.starts_with("reads and writers wait for site 1: no complete copy"), "{why}");
        host.faults.clear();
        host.release();
        host.run();
        assert_eq!(host.ended.get(&read), Some(&Ok(())));
        assert!(writes.iter().all(|write| host.ended.get(write) == Some(&Ok(()))));
        assert_whole(&mut host);
        assert_eq!(host.errors(), 0);
    }
}

/// P13: what a remote site may hold of the daemon's memory has a limit, and costs nobody a read.
#[test]
fn reads_from_a_remote_copy_wait_for_their_turn() {
    let mut host = host();
    use_it(&mut host, 40);
    host.run();
    let whole = host.read(0, 4096);
    host.faults.insert(LD, Fault::Fails);
    host.run_for(Span::from_secs(3));
    host.read(0, 8);
    assert_eq!(host.reads_from(), Some(1));
    host.faults.insert(RD, Fault::Hangs);
    let ask = |at: u64| Op::Read { sector: Sector(at * 20), len: Sectors(8) };
    let reads: Vec<_> = (0..200).map(|at| host.ask(ask(at), None)).collect();
    host.run_for(Span::from_millis(100));
    assert_eq!(host.hung.len(), 32);
    host.faults.remove(&RD);
    host.release();
    host.run_for(Span::from_secs(10));
    for (at, read) in reads.iter().enumerate() {
        assert_eq!(host.ended.get(read), Some(&Ok(())), "read {at}");
        assert_same(&host.reads[read], &whole[at * 20 * 512..][..8 * 512]);
    }
    // Those that wait for their turn when the site is found to hang wait for it, or for another.
    host.faults.insert(RD, Fault::Hangs);
    let reads: Vec<_> = (0..200).map(|at| host.ask(ask(at), None)).collect();
    host.run_for(Span::from_secs(20));
    assert!(host.hung.len() <= 34, "{} hang: the reads, and what looked at it", host.hung.len());
    host.faults.clear();
    host.release();
    host.run();
    for (at, read) in reads.iter().enumerate() {
        assert_same(&host.reads[read], &whole[at * 20 * 512..][..8 * 512]);
        assert_eq!(host.ended.get(read), Some(&Ok(())), "read {at}");
    }
    assert_whole(&mut host);
}

#[test]
fn what_waits_for_a_copy_ends_when_its_device_is_taken_away() {
    let mut host = host();
    use_it(&mut host, 20);
    host.run();
    for disk in [LD, RD] {
        host.faults.insert(disk, Fault::Absent);
    }
    let read = host.ask(Op::Read { sector: Sector(0), len: Sectors(4096) }, None);
    host.run_for(Span::from_secs(5));
    assert_eq!(host.ended.get(&read), None);
    host.machine.refuse_all();
    host.run_for(Span::from_millis(10));
    assert_eq!(host.ended.get(&read), Some(&Err(Errno::EIO)));
}

#[test]
fn a_start_without_the_local_disk_needs_another_complete_copy() {
    for fault in [Fault::Absent, Fault::Other] {
        let mut first = host();
        use_it(&mut first, 30);
        first.run();
        let mut host = opened(first, BTreeMap::from([(LD, fault)]));
        assert!(matches!(host.machine.phase(), Phase::Running), "{:?}", host.machine.phase());
        use_it(&mut host, 30);
        assert_eq!(host.reads_from(), Some(1));
        host.faults.clear();
        host.run();
        assert_whole(&mut host);
        assert_eq!(host.errors(), 0);
    }
}

#[test]
fn a_local_disk_that_was_absent_at_the_start_is_enough_once_it_is_back() {
    let mut first = host();
    use_it(&mut first, 30);
    first.run();
    let mut host = opened(first, BTreeMap::from([(LD, Fault::Absent)]));
    let now = host.now;
    let words = ["device", "del", "1"];
    let refused = host.machine.message(now, Some(DevNr(0)), &words).unwrap_err();
    assert!(refused.to_string().contains("site 1"), "{refused}");
    host.faults.clear();
    host.run();
    assert_whole(&mut host);
    let now = host.now;
    host.machine.message(now, Some(DevNr(0)), &words).unwrap();
    use_it(&mut host, 30);
    assert_eq!(host.errors(), 0);
}

#[test]
fn a_start_without_any_complete_copy_is_refused_with_the_reason() {
    let refused = |host: &Host| match host.machine.phase() {
        Phase::Failed(error) => error.to_string(),
        phase => panic!("{phase:?}"),
    };
    let faults = || BTreeMap::from([(LD, Fault::Absent)]);
    let fresh = Host::of(SITES, "create 4096", REMOTE, Host::blank(), faults());
    assert_eq!(
        refused(&fresh),
        "/log: device 0: its backing device on site 0 is not there, and the log has never seen it: \
         only it says what the device holds; bring it back first"
    );
    let mut first = host();
    first.faults.insert(RD, Fault::Absent);
    use_it_writing(&mut first, 400);
    assert!(first.site_at(1).detached);
    let host = opened(first, faults());
    assert_eq!(
        refused(&host),
        "/log: device 0: its backing device on site 0 is not there, and no other site has a \
         complete copy to go on with; bring it back first"
    );
}

/// The same without reads.
fn use_it_writing(host: &mut Host, rounds: u64) {
    for i in 0..rounds {
        let write = host.write(i * 517 % 4000, 1 + i % 96, i as u8);
        host.run_for(Span::from_millis(20));
        assert_eq!(host.ended.get(&write), Some(&Ok(())), "write {i}");
    }
}

#[test]
fn a_daemon_that_dies_while_the_local_disk_is_lost_does_not_trust_it_again() {
    let mut first = host();
    use_it(&mut first, 20);
    first.faults.insert(LD, Fault::Absent);
    first.run_for(Span::from_secs(3));
    use_it(&mut first, 400);
    assert!(first.site_at(0).detached);
    // It is there at the next start, with what it had.
    let mut host = opened(first, BTreeMap::new());
    use_it(&mut host, 5);
    host.run();
    assert_whole(&mut host);
    assert_eq!(host.errors(), 0);
}

#[test]
fn the_last_complete_copy_is_not_copied_anew() {
    let mut host = host();
    use_it(&mut host, 20);
    host.faults.insert(RD, Fault::Absent);
    use_it(&mut host, 5);
    let now = host.now;
    let refused = host.machine.message(now, None, &["rebuild", "db"]).unwrap_err().to_string();
    assert_eq!(
        refused,
        "site 0 has the only complete copy that can be read: there is nothing that it could be \
         copied from"
    );
    host.faults = BTreeMap::from([(LD, Fault::Absent)]);
    host.run_for(Span::from_secs(5));
    use_it(&mut host, 5);
    let now = host.now;
    assert!(host.machine.message(now, None, &["resync", "1"]).is_err());
    host.faults.clear();
    host.run();
    assert_whole(&mut host);
}

#[test]
fn a_sync_local_disk_is_demoted_while_it_is_away() {
    let sites = "blockdev 3 0 sync timeout_io:1s blockdev 2 1 timeout_io:1s";
    let mut host = Host::of(sites, "create 4096", REMOTE, Host::blank(), BTreeMap::new());
    use_it(&mut host, 20);
    host.faults.insert(LD, Fault::Hangs);
    let write = host.write(0, 8, 1);
    host.run_for(Span::from_millis(900));
    assert_eq!(host.ended.get(&write), None, "it may have it yet");
    host.run_for(Span::from_millis(300));
    assert_eq!(host.ended.get(&write), Some(&Ok(())));
    use_it(&mut host, 400);
    host.faults.clear();
    host.release();
    host.run();
    assert_whole(&mut host);
    assert!(!host.site_at(0).demoted);
}
