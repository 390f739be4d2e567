//! Dirty logs on disks that are not what they were.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod host;

use std::collections::BTreeMap;

use blk::{DiskId, Span};
use host::{Fault, Host, assert_same};

const RD: DiskId = DiskId(2);
const DL: DiskId = DiskId(3);
const SITES: &str = "blockdev 2 0 async blockdev 2 1 async";
const DISK: &str = "1 1 /rd0 disk 3 /dl0 8 nosync";

/// More than the log holds is written from there on, while the remote disk is away.
fn detach(host: &mut Host, start: u64, fill: u8) {
    for round in 0..100 {
        host.write(start + 64 * (round % 16), 64, fill);
        host.run_for(Span::from_millis(500));
    }
    assert!(host.site_at(1).detached, "the log was full of what it lacks");
}

#[test]
fn a_dirty_log_that_was_away_for_a_life_and_is_back_is_not_believed() {
    let fails = || BTreeMap::from([(RD, Fault::Fails)]);
    let mut host = Host::of(SITES, "auto 4096", DISK, Host::blank(), BTreeMap::new());
    host.faults = fails();
    detach(&mut host, 0, 1);
    let table = (SITES, "auto 4096", "nolog 0", DISK);
    let was = host.disks.get_mut(&DL).map(|disk| std::mem::replace(disk, vec![0; disk.len()]));
    let mut host = Host::again(table, host.disks, fails(), host.kept);
    detach(&mut host, 2048, 2);
    host.disks.insert(DL, was.unwrap());
    let mut host = Host::again(table, host.disks, BTreeMap::new(), host.kept);
    host.run_for(Span::from_secs(600));
    assert!(!host.site_at(1).detached);
    assert_same(host.device_bytes(1), host.device_bytes(2));
}
