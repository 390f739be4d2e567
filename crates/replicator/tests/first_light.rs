//! The whole machine on disks of plain memory, every I/O answered at once: the
//! shortest way of a write and a read through all the rooms.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod host;

use blk::{DevNr, Errno, Op};
use host::{Host, assert_same};
use replicator::Phase;

#[test]
fn what_is_written_is_read_back_and_reaches_every_site() {
    let mut host = Host::new("create", "async", Host::blank());
    assert!(matches!(host.machine.phase(), Phase::Running), "{:?}", host.machine.phase());
    let writes = [host.write(0, 8, 1), host.write(4, 8, 2), host.write(100, 3, 3)];
    let flush = host.ask(Op::Flush, None);
    host.run();
    assert!(writes.iter().chain([&flush]).all(|req| host.ended[req] == Ok(())));
    let read = host.read(0, 16);
    assert!(read[..4 * 512].iter().all(|b| *b == 1));
    assert!(read[4 * 512..12 * 512].iter().all(|b| *b == 2));
    assert!(read[12 * 512..].iter().all(|b| *b == 0));
    assert_eq!(host.device_bytes(1), host.device_bytes(2));
    assert_eq!(host.device_bytes(1)[101 * 512], 3);
}

#[test]
fn a_log_that_wraps_many_times_loses_nothing() {
    for policy in ["async", "sync"] {
        let mut host = Host::new("create", policy, Host::blank());
        let mut model = vec![0_u8; 4096 * 512];
        for round in 0..200_u64 {
            for i in 0..8 {
                let (sector, len) = ((round * 131 + i * 517) % 3900, 1 + (round + i) % 128);
                let fill = (round * 8 + i) as u8;
                let write = host.write(sector, len, fill);
                model[sector as usize * 512..][..len as usize * 512].fill(fill);
                // One at a time: overlapping writes in flight may go either way.
                host.run();
                assert_eq!(host.ended.get(&write), Some(&Ok(())), "round {round} write {i}");
            }
        }
        assert_same(&host.read(0, 4096), &model);
        assert_same(host.device_bytes(1), &model);
        assert_same(host.device_bytes(2), &model);
        let wraps = host.machine.log().unwrap().counters().log_bytes
            / host.machine.log().unwrap().geometry().ring_bytes();
        assert!(wraps > 10, "the log wrapped {wraps} times");
    }
}

#[test]
fn a_stopped_replicator_opens_again_with_nothing_to_replay() {
    let mut host = Host::new("create", "async", Host::blank());
    host.write(7, 9, 5);
    host.run();
    host.machine.stop(true);
    host.run();
    assert!(matches!(host.machine.phase(), Phase::Stopped), "{:?}", host.machine.phase());
    let disks = host.disks;
    let mut again = Host::new("open", "async", disks);
    assert!(matches!(again.machine.phase(), Phase::Running), "{:?}", again.machine.phase());
    assert!(again.machine.log().unwrap().index().is_empty());
    assert_eq!(again.read(7, 9), vec![5; 9 * 512]);
}

#[test]
fn a_suspended_device_keeps_its_requests_until_it_is_resumed() {
    let mut host = Host::new("create", "async", Host::blank());
    // As in 2009 a word may be cut short.
    assert_eq!(host.machine.message(host.now, None, &["susp", "all"]), Ok(String::new()));
    let write = host.write(0, 8, 1);
    host.run();
    assert!(host.machine.is_suspended(None));
    assert_eq!(host.ended.get(&write), None);
    assert_eq!(host.machine.message(host.now, Some(DevNr(0)), &["start"]), Ok(String::new()));
    host.run();
    assert_eq!(host.ended.get(&write), Some(&Ok(())));
}

#[test]
fn words_that_are_no_message_change_nothing() {
    let mut host = Host::new("create", "async", Host::blank());
    for words in [&["jump"][..], &[], &[""], &["suspend", "now"], &["suspend", "all", "now"]] {
        assert!(host.machine.message(host.now, None, words).is_err(), "{words:?}");
    }
    assert!(host.machine.message(host.now, Some(DevNr(9)), &["suspend"]).is_err());
    assert!(!host.machine.is_suspended(None));
}

#[test]
fn what_no_log_could_hold_ends_with_an_error_and_stops_nothing() {
    let mut host = Host::new("create", "async", Host::blank());
    let too_long = host.write(0, 2000, 1);
    let outside = host.write(4090, 8, 1);
    let fits = host.write(0, 8, 2);
    host.run();
    assert_eq!(host.ended[&too_long], Err(Errno::EINVAL));
    assert_eq!(host.ended[&outside], Err(Errno::EINVAL));
    assert_eq!(host.ended[&fits], Ok(()));
}
