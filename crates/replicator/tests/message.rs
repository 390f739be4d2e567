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

fn line(host: &Host) -> String {
    host.machine.status(host.now).replicator_line()
}

#[test]
fn counters_are_shown_after_the_message_that_asks_for_them_and_only_then() {
    let mut host = host();
    host.read(0, 8);
    assert!(line(&host).starts_with("A,0,0 A,0,0 0/0/4096 state:"), "{}", line(&host));
    assert_eq!(sent(&mut host, None, "stat on").as_deref(), Ok(""));
    let front = format!("v={} r=1 w=1 rs=1 ws=1 nc=1 c=0 A,0,0 ", env!("CARGO_PKG_VERSION"));
    assert!(line(&host).starts_with(&front), "{}", line(&host));
    assert_eq!(sent(&mut host, None, "replog statistics on").as_deref(), Ok(""));
    // The ring begins behind two superblock slots of 128 KiB; a group of one write of 9 sectors
    // has three blocks, and no site needs it any more.
    let ring = " 0/0/4096 ring->start=512 ring->head=536 ring->tail=536 ring->next_avail=536 \
                ring->end=4096 ring_free=3584 wrap=0 r=0 w=1 wp=0 he=0 hash_insert=1 \
                hash_insert_max=1 single=0 multi=1 stall=0 state:";
    assert!(line(&host).contains(ring), "{}", line(&host));
    for words in ["statistics reset", "replog statistics reset"] {
        assert_eq!(sent(&mut host, None, words).as_deref(), Ok(""));
    }
    assert!(line(&host).contains(" r=0 w=0 rs=0 ws=0 nc=0 c=0 "), "{}", line(&host));
    assert!(line(&host).contains(" r=0 w=0 wp=0 he=0 hash_insert=0 hash_insert_max=0 "));
    for words in ["statistics off", "rep statistics off"] {
        assert_eq!(sent(&mut host, None, words).as_deref(), Ok(""));
    }
    assert!(line(&host).starts_with("A,0,0 A,0,0 0/0/4096 state:"), "{}", line(&host));
}

#[test]
fn a_read_that_meets_what_the_log_holds_is_counted_as_one() {
    let mut host = host();
    host.faults.insert(DiskId(1), host::Fault::Fails);
    host.write(64, 8, 1);
    host.run_for(Span::from_millis(1));
    assert_eq!(host.read(64, 8), [1; 4096], "from memory");
    sent(&mut host, None, "replog statistics on").unwrap();
    assert!(line(&host).contains(" wp=1 he=1 "), "{}", line(&host));
}

#[test]
fn counters_can_be_shown_hidden_and_reset_and_nothing_else() {
    let switch = "expected `on`, `off` or `reset`, found ";
    let mut host = host();
    for (words, expected) in [
        ("statistics", format!("message \"statistics\": {switch}nothing")),
        ("stat maybe", format!("message \"stat\": {switch}\"maybe\"")),
        ("statistics on off", "message \"statistics\": unexpected \"off\" behind it".into()),
        ("replog", "message \"replog\": expected `statistics` or `resize`, found nothing".into()),
        (
            "replog stat on",
            "message \"replog\": expected `statistics` or `resize`, found \"stat\"".into(),
        ),
        ("replog statistics o", format!("message \"replog statistics\": {switch}\"o\"")),
    ] {
        assert_eq!(sent(&mut host, None, words), Err(expected), "{words}");
        assert!(line(&host).starts_with("A,0,0 "), "{words}");
    }
}
