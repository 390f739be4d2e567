//! A local site that nobody waits for: what is copied to it together.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod host;

use std::collections::BTreeMap;

use host::{Host, assert_same};

/// What is sorted by place is sorted by device first: the one's last write is before the other's.
#[test]
fn neighbours_on_two_devices_go_to_two_disks() {
    let text = "repl: 0 1 replicator ringbuffer 4 /log 0 auto 4096 blockdev 2 0 async\n\
                db: 0 4096 replicator-dev repl 0 0 1 /ld0 nolog 0\n\
                wal: 0 4096 replicator-dev repl 1 0 1 /ld1 nolog 0\n";
    let names = [("/log", 0), ("/ld0", 1), ("/ld1", 2)];
    let mut host = Host::of_text(text, &names, Host::blank(), BTreeMap::new(), None);
    let writes = [host.write_of(0, 0, 8, 1), host.write_of(1, 8, 8, 2)];
    host.run();
    assert!(writes.iter().all(|req| host.ended[req] == Ok(())));
    let expected = |at: usize, fill: u8| {
        let mut bytes = vec![0; 4096 * 512];
        bytes[at * 512..(at + 8) * 512].fill(fill);
        bytes
    };
    assert_same(host.device_bytes(1), &expected(0, 1));
    assert_same(host.device_bytes(2), &expected(8, 2));
}
