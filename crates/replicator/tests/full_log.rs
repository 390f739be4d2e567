//! A log that is full, and a local disk that is slower than what applications write: they go on at
//! its pace, without a cliff.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod host;

use std::collections::BTreeMap;

use blk::{DiskId, ReqId, Span, Time};
use host::{Fault, Host};

const LD: DiskId = DiskId(1);
/// The local disk takes one I/O in this time.
const IO_TIME: Span = Span::from_millis(10);
const WRITERS: usize = 16;

/// The longest waits of writers, second by second, while there are always as many; and how often
/// they were seen to wait for room in the log.
fn longest_waits(host: &mut Host, seconds: u64) -> (Vec<Span>, u64) {
    let mut waiting: Vec<(ReqId, Time)> = Vec::new();
    let mut longest = vec![Span::ZERO; seconds as usize];
    let begin = host.now;
    let (mut place, mut full) = (0, 0);
    while host.now.since(begin) < Span::from_secs(seconds) {
        let second = host.now.since(begin).as_secs() as usize;
        for (req, since) in std::mem::take(&mut waiting) {
            longest[second] = longest[second].max(host.now.since(since));
            match host.ended.get(&req) {
                Some(result) => assert_eq!(*result, Ok(()), "of {req:?}"),
                None => waiting.push((req, since)),
            }
        }
        while waiting.len() < WRITERS {
            // All blocks of the device, in an order that no disk likes.
            place = (place + 389) % 512;
            waiting.push((host.write(place * 8, 8, 1), host.now));
        }
        let until = host.now + IO_TIME;
        host.run_for(IO_TIME);
        host.now = until;
        full += u64::from(host.machine.status(host.now).log.unwrap().full);
        host.land_one();
    }
    (longest, full)
}

#[test]
fn writers_wait_for_a_part_of_a_full_log_and_not_for_all_of_it() {
    let sites = "blockdev 2 0 async blockdev 2 1 async";
    let mut host =
        Host::of(sites, "auto 4096", "1 1 /rd0 core 2 8 nosync", Host::blank(), BTreeMap::new());
    host.faults.insert(LD, Fault::Slow);
    let (longest, full) = longest_waits(&mut host, 60);
    assert!(full > 100, "the log was full {full} times");
    assert!(longest.iter().all(|wait| *wait < Span::from_millis(1500)), "{longest:?}");
}
