//! Which copy a read comes from, and what is put right by it: never what is older than the device
//! (P2, P7, I8).

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod host;

use std::collections::BTreeMap;

use blk::{DiskId, Op, Sector, Sectors, Span};
use host::{Fault, Host, assert_same};
use replicator::SiteState;

const LD: DiskId = DiskId(1);
const RD: DiskId = DiskId(2);
const SITES: &str = "blockdev 3 0 async timeout_io:1s blockdev 2 1 timeout_io:1s";
const REMOTE: &str = "1 1 /rd0 core 2 64 nosync";

fn host() -> Host {
    Host::of(SITES, "create 4096", REMOTE, Host::blank(), BTreeMap::new())
}

/// Asks for what a device of 4096 sectors holds, and waits for it.
fn read_all(host: &mut Host) -> Vec<u8> {
    host.read_within(0, 4096, Span::from_secs(5)).unwrap()
}

/// All of it written, each 64 sectors with a number of their own.
fn filled(mut host: Host) -> (Host, Vec<u8>) {
    for i in 0..64 {
        host.write(i * 64, 64, i as u8 + 1);
        host.run_for(Span::from_millis(20));
    }
    host.run();
    let expected = (0..64).flat_map(|i| [i as u8 + 1; 64 * 512]).collect();
    (host, expected)
}

#[test]
fn a_local_disk_that_is_made_anew_is_not_read_where_it_has_nothing_yet() {
    for local in ["nolog 0", "core 2 64 nosync"] {
        let sites = "blockdev 4 0 async timeout_io:1s resync_rate:256k blockdev 2 1 timeout_io:1s";
        let of =
            |disks| Host::with_local(sites, "create 4096", local, REMOTE, disks, BTreeMap::new());
        let (mut host, expected) = filled(of(Host::blank()));
        host.faults.insert(LD, Fault::Other);
        host.disks.insert(LD, vec![0; expected.len() * 2]);
        host.write(0, 8, 1);
        host.run_for(Span::from_secs(3));
        assert_eq!(host.site_at(0).state, SiteState::Down);
        let now = host.now;
        host.machine.message(now, None, &["rebuild"]).unwrap();
        host.faults.insert(LD, Fault::OtherForGood);
        let mut seen = Vec::new();
        while !(host.site_at(0).state == SiteState::Streaming && host.site_at(0).consistent) {
            assert!(seen.len() < 1000, "it comes to an end: {:?}", host.site_at(0));
            assert_same(&read_all(&mut host), &expected);
            host.run_for(Span::from_millis(50));
            seen.push(host.site_at(0).state);
        }
        assert!(seen.len() > 50 && seen.contains(&SiteState::Resyncing), "{seen:?}");
        assert_same(host.device_bytes(1), &expected);
    }
}

#[test]
fn a_local_disk_that_no_read_comes_from_is_down_and_the_remote_one_is_read() {
    let (mut host, expected) = filled(host());
    host.faults.insert(LD, Fault::ReadsHang);
    // Nothing is written: only the read can tell.
    assert_same(&read_all(&mut host), &expected);
    assert_eq!((host.site_at(0).state, host.reads_from()), (SiteState::Down, Some(1)));
    assert_eq!(host.errors(), 0);
    host.faults.clear();
    host.release();
    host.run();
    assert_eq!((host.site_at(0).state, host.reads_from()), (SiteState::Streaming, Some(0)));
}

#[test]
fn a_bad_sector_is_not_mended_with_what_was_there_before_the_last_write() {
    let (mut host, _) = filled(host());
    host.bad.insert((LD, 77));
    host.faults.insert(RD, Fault::Slow);
    let read = host.ask(Op::Read { sector: Sector(70), len: Sectors(16) }, None);
    host.run_for(Span::from_millis(1));
    assert_eq!(host.ended.get(&read), None, "it is read elsewhere");
    host.write(70, 16, 200);
    host.run_for(Span::from_millis(200));
    assert_same(&host.device_bytes(1)[70 * 512..][..16 * 512], &[200; 16 * 512]);
    host.faults.clear();
    host.land();
    host.run();
    assert_eq!(host.ended[&read], Ok(()));
    assert_same(&host.read(70, 16), &[200; 16 * 512]);
    assert_same(&host.device_bytes(1)[70 * 512..][..16 * 512], &[200; 16 * 512]);
}

#[test]
fn a_read_elsewhere_sees_what_that_copy_is_still_to_get() {
    let (mut host, _) = filled(host());
    host.faults.insert(RD, Fault::WritesHang);
    host.write(70, 16, 200);
    host.run_for(Span::from_millis(300));
    // The local disk has it, and loses it.
    assert_same(&host.device_bytes(1)[70 * 512..][..16 * 512], &[200; 16 * 512]);
    host.bad.insert((LD, 77));
    let read = host.read_within(64, 32, Span::from_millis(200)).unwrap();
    assert_same(&read[..6 * 512], &[2; 6 * 512]);
    assert_same(&read[6 * 512..22 * 512], &[200; 16 * 512]);
    assert_same(&read[22 * 512..], &[2; 10 * 512]);
    host.faults.clear();
    host.release();
    host.run();
    assert_same(&host.read(70, 16), &[200; 16 * 512]);
    assert_same(host.device_bytes(1), host.device_bytes(2));
}
