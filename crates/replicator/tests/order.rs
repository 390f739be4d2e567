//! In which order a remote site gets what was written, and how far it may run ahead (P3).

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod host;

use std::collections::BTreeMap;

use blk::{DiskId, Op, Span};
use host::{Fault, Host};

const LOG: DiskId = DiskId(0);
const RD: DiskId = DiskId(2);
const SITES: &str = "blockdev 2 0 async blockdev 2 1 async";

fn started() -> Host {
    let remote = "1 1 /rd0 core 2 64 nosync";
    Host::of(SITES, "create 4096", remote, Host::blank(), BTreeMap::new())
}

fn write(host: &mut Host, sector: u64, fill: u8) {
    let req = host.write(sector, 8, fill);
    host.run_for(Span::from_millis(1));
    assert_eq!(host.ended.get(&req), Some(&Ok(())), "write of {fill}");
}

/// I13: should the log's machine die, it goes on feeding from where it knows that the site was.
#[test]
fn a_site_gets_no_third_group_before_the_log_says_durably_that_it_has_the_first() {
    let mut host = started();
    host.faults.insert(RD, Fault::Slow);
    (0..5).for_each(|at| write(&mut host, at * 8, 1));
    let flush = host.ask(Op::Flush, None);
    host.run_for(Span::from_millis(1));
    assert_eq!(host.ended.get(&flush), Some(&Ok(())), "all five are durable");
    host.faults.insert(LOG, Fault::Hangs);
    for _ in 0..20 {
        host.land();
        host.run_for(Span::from_millis(1));
    }
    let there = [0, 1, 2, 3, 4].map(|at| host.device_bytes(2)[at * 8 * 512]);
    assert_eq!(there, [1, 1, 0, 0, 0]);
}

/// P3, I5: what the log lets go of is on the site's media, and not in its cache.
#[test]
fn writes_that_a_site_got_at_once_count_as_there_when_its_flush_has_ended() {
    let mut host = started();
    host.faults.insert(RD, Fault::Slow);
    let begin = host.site().cursor;
    for at in 0..3 {
        host.write(at * 8, 8, 1);
    }
    host.run_for(Span::from_millis(1));
    let mut seen = Vec::new();
    for _ in 0..10 {
        let flushes = host.flushed.get(&RD).copied().unwrap_or(0);
        seen.push((host.site().cursor - begin, flushes));
        host.land();
        host.run_for(Span::from_millis(1));
    }
    seen.dedup();
    assert_eq!(seen, [(0, 0), (0, 1), (3, 1)], "(writes that count, flushes asked for)");
}
