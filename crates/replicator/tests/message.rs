//! Messages as a user sends them: what they do, and what is said of wrong ones.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod host;

use std::collections::BTreeMap;

use blk::{DevNr, DiskId, Span};
use host::{Host, assert_same};
use replicator::SiteState;

const RD: DiskId = DiskId(2);

fn host() -> Host {
    let sites = "blockdev 1 0 blockdev 1 1";
    let mut host =
        Host::of(sites, "create 4096", "1 1 /rd0 core 2 64 nosync", Host::blank(), BTreeMap::new());
    host.write(7, 9, 5);
    host.run();
    host
}

/// What is sent, to the replicator (`None`) or to a device, and what comes back.
fn sent(host: &mut Host, target: Option<u32>, words: &str) -> Result<String, String> {
    let words: Vec<&str> = words.split(' ').collect();
    let answer = host.machine.message(host.now, target.map(DevNr), &words);
    answer.map_err(|error| error.to_string())
}

#[test]
fn what_is_told_to_be_copied_anew_is_equal_again_whatever_was_there() {
    for (target, words, answer) in [
        (None, "resync", "site 1: everything there is copied anew\n"),
        (None, "resy all", "site 1: everything there is copied anew\n"),
        (None, "resync 1", "site 1: everything there is copied anew\n"),
        (None, "resync 1 0", "site 1: device 0 (db) is copied anew\n"),
        (None, "resync 1 db", "site 1: device 0 (db) is copied anew\n"),
        (Some(0), "resync", "site 1: device 0 (db) is copied anew\n"),
        (Some(0), "resync 1", "site 1: device 0 (db) is copied anew\n"),
    ] {
        let mut host = host();
        host.disks.get_mut(&RD).unwrap().fill(0xee);
        assert_eq!(sent(&mut host, target, words).as_deref(), Ok(answer));
        host.run_for(Span::from_secs(600));
        let device = host.read(0, 4096);
        assert_same(host.device_bytes(RD.0), &device);
        let site = host.site();
        assert_eq!(
            (site.state, site.consistent, site.dirty_bytes),
            (SiteState::Streaming, true, 0)
        );
    }
}

#[test]
fn a_word_that_could_be_two_is_the_older_one() {
    let mut host = host();
    for (words, suspended) in [("su", true), ("res", false), ("sto", true), ("s", false)] {
        assert_eq!(sent(&mut host, None, words).as_deref(), Ok(""));
        assert_eq!(host.machine.is_suspended(None), suspended, "{words}");
    }
    assert_eq!(host.site().dirty_bytes, 0, "nothing is copied anew");
}

#[test]
fn a_wrong_word_is_answered_with_what_was_expected_and_changes_nothing() {
    let sites = "message \"resync\": expected `all` or one of the remote sites 1, found ";
    let devices = "message \"resync\": expected one of the devices 0 (db), found ";
    let mut host = host();
    for (target, words, expected) in [
        (None, "resync 2", format!("{sites}\"2\"")),
        (None, "resync 0", format!("{sites}\"0\"")),
        (None, "resync 01", format!("{sites}\"01\"")),
        (None, "resync -1", format!("{sites}\"-1\"")),
        (None, "resync ", format!("{sites}\"\"")),
        (None, "resync 1 7", format!("{devices}\"7\"")),
        (None, "resync 1 wal", format!("{devices}\"wal\"")),
        (None, "resync 9 wal", format!("{devices}\"wal\"")),
        (None, "resync all 0", "message \"resync\": unexpected \"0\" behind it".into()),
        (None, "resync 1 0 now", "message \"resync\": unexpected \"now\" behind it".into()),
        (Some(0), "resync 1 0", "message \"resync\": unexpected \"0\" behind it".into()),
        (Some(4), "resync 1", "site 1 has no copy of device 4".into()),
        (Some(4), "resync", "there is no remote site of device 4 that could be copied to".into()),
    ] {
        assert_eq!(sent(&mut host, target, words), Err(expected), "{words}");
        assert_eq!(host.site().dirty_bytes, 0, "{words}");
    }
    assert!(sent(&mut host, None, "resynch").unwrap_err().contains("resync [all | SITE [DEV]]"));
}
