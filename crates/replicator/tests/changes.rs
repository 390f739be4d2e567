//! What is different between two tables, and what becomes of a site whose words change.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod host;

use std::collections::BTreeMap;

use blk::{DevNr, DiskId, ReqId, Span};
use host::{Fault, Host};
use replicator::{SiteState, changes};
use table::{Group, TableFile};

const RD: DiskId = DiskId(2);
const BEFORE: &str = "\
repl: 0 1 replicator ringbuffer 4 /log 0 auto 8192 blockdev 1 0 blockdev 4 1 async ios 9
db: 0 4096 replicator-dev repl 0 0 1 /ld0 nolog 0 1 1 /rd0 core 2 8 nosync
";

fn group(text: &str) -> Group {
    TableFile::parse(text).unwrap().groups().unwrap().pop().unwrap()
}

/// What becomes different if `from` in the table is `to`.
fn differs(from: &str, to: &str) -> Result<Vec<String>, Vec<String>> {
    let text = BEFORE.replace(from, to);
    assert!(text != BEFORE, "{from}");
    let said = |it: Vec<_>| it.iter().map(ToString::to_string).collect();
    match changes(&group(BEFORE), &group(&text)) {
        Ok(changes) => Ok(said(changes.into_iter().map(|it| it.to_string()).collect())),
        Err(fixed) => Err(said(fixed.into_iter().map(|it| it.to_string()).collect())),
    }
}

#[test]
fn the_same_table_changes_nothing() {
    assert_eq!(changes(&group(BEFORE), &group(BEFORE)), Ok(Vec::new()));
}

#[test]
fn what_is_said_of_a_site_can_be_changed() {
    let site = "blockdev 4 1 async ios 9";
    for to in [
        "blockdev 2 1 sync",
        "blockdev 2 1 async+stall",
        "blockdev 4 1 async size 2m",
        "blockdev 1 1",
        "blockdev 7 1 async ios 9 on_limit:bitmap on_down:error timeout_io:1s",
        "blockdev 6 1 async ios 9 resync_rate:10m order:flush",
        "blockdev 5 1 async ios 9 mark:/m",
    ] {
        assert_eq!(differs(site, to), Ok(vec![format!("site 1: {site} is now {to}")]));
    }
    let to = "blockdev 2 0 timeout_io:1s";
    let expected = format!("site 0: blockdev 1 0 is now {to}");
    assert_eq!(differs("blockdev 1 0", to), Ok(vec![expected]));
}

#[test]
fn sites_and_legs_come_and_go() {
    let leg = " 1 1 /rd0 core 2 8 nosync";
    let removed = "device 0: removed from site 1";
    assert_eq!(differs(leg, ""), Ok(vec![removed.to_owned()]));
    assert_eq!(differs("core 2 8 nosync", "core 2 8 sync"), Ok(Vec::new()), "it joined long ago");
    let more = "1 async ios 9 blockdev 1 2";
    assert_eq!(differs("1 async ios 9", more), Ok(vec!["site 2: added: blockdev 1 2".to_owned()]));
    let none = BEFORE.replace(" blockdev 4 1 async ios 9", "").replace(leg, "");
    let said = |changes: Vec<replicator::Change>| -> Vec<String> {
        changes.iter().map(ToString::to_string).collect()
    };
    assert_eq!(said(changes(&group(BEFORE), &group(&none)).unwrap()), ["site 1: removed"]);
    let back = said(changes(&group(&none), &group(BEFORE)).unwrap());
    assert_eq!(back, ["site 1: added: blockdev 4 1 async ios 9"]);
    let bare = BEFORE.replace(leg, "");
    let added = said(changes(&group(&bare), &group(BEFORE)).unwrap());
    assert_eq!(added, ["device 0: added to site: 1 1 /rd0 core 2 8 nosync"]);
}

#[test]
fn devices_come_and_go_and_keep_what_they_are() {
    let wal = "wal: 0 64 replicator-dev repl 1 0 1 /ld1 nolog 0 1 1 /rd1 nolog 0\n";
    let both = format!("{BEFORE}{wal}");
    let said = |from: &str, to: &str| -> Vec<String> {
        let changes = changes(&group(from), &group(to)).unwrap();
        changes.iter().map(ToString::to_string).collect()
    };
    assert_eq!(said(BEFORE, &both), ["device 1 (wal): added, 64 sectors"]);
    assert_eq!(said(&both, BEFORE), ["device 1 (wal): removed"]);
    // What goes makes room for what comes, and a site that comes asks which devices there are.
    let site = |text: &str| text.replace("1 async ios 9", "1 async ios 9 blockdev 1 2");
    let other = site(BEFORE) + "tmp: 0 8 replicator-dev repl 2 0 1 /ld2 nolog 0 2 1 /rd2 nolog 0\n";
    let expected = [
        "device 1 (wal): removed",
        "device 2 (tmp): added, 8 sectors",
        "site 2: added: blockdev 1 2",
    ];
    assert_eq!(said(&both, &other), expected);
    // A number is another device's when the one before has gone.
    let renamed = both.replace("wal:", "tmp:").replace("/ld1", "/ld2");
    let fixed = changes(&group(&both), &group(&renamed)).unwrap_err();
    let fixed: Vec<String> = fixed.iter().map(ToString::to_string).collect();
    assert!(
        fixed[0].ends_with("its disk, or its dirty log: take the device away, and add it anew")
    );
    assert!(fixed[1].starts_with("device 1 (wal): its name: "), "{fixed:?}");
}

#[test]
fn how_a_log_is_found_is_of_no_matter_once_it_is_open() {
    assert_eq!(differs("auto 8192", "create 8192"), Ok(Vec::new()));
}

#[test]
fn a_log_may_have_another_size() {
    let expected = "the log: its size of 8192 sectors is to be 9216";
    assert_eq!(differs("auto 8192", "auto 9216"), Ok(vec![expected.to_owned()]));
    assert_eq!(differs("4 /log 0 auto 8192", "2 /log 0"), Ok(Vec::new()));
}

#[test]
fn memory_may_hold_another_part_of_the_log_and_the_ld_lag_otherwise() {
    let said = |to: &str| differs("4 /log 0 auto 8192", to).unwrap();
    assert_eq!(
        said("5 /log 0 auto 8192 tail:64m"),
        ["the log: ringbuffer 4 /log 0 auto 8192 is now ringbuffer 5 /log 0 auto 8192 tail:64m"]
    );
    assert_eq!(
        said("5 /log 0 auto 8192 ld_lag:log"),
        ["the log: ringbuffer 4 /log 0 auto 8192 is now ringbuffer 5 /log 0 auto 8192 ld_lag:log"]
    );
    assert!(said("6 /log 0 auto 8192 tail:256m ld_lag:tail").is_empty(), "that is the default");
}

#[test]
fn what_can_t_be_changed_says_so_and_all_of_it() {
    for (from, to, expected) in [
        (
            "/log 0",
            "/log 8",
            "the log is ringbuffer 4 /log 0 auto 8192, the table says ringbuffer ",
        ),
        ("/rd0", "/rd1", "device 0 (db): its disk, or its dirty log: take it away from the site"),
        ("core 2 8 nosync", "core 2 16 nosync", "device 0 (db): its disk, or its dirty log: "),
        ("/ld0", "/ld1", "device 0 (db): its disk, or its dirty log: "),
        ("db:", "data:", "device 0 (db): its name: "),
        ("4096", "4088", "device 0 (db): its size: "),
    ] {
        let fixed = differs(from, to).unwrap_err();
        assert!(fixed.len() == 1 && fixed[0].starts_with(expected), "{from}: {fixed:?}");
    }
    let other = Group { name: "other".into(), ..group(BEFORE) };
    let fixed = changes(&group(BEFORE), &other).unwrap_err();
    assert_eq!(
        fixed[0].to_string(),
        "the replicator's name is repl, the table's is other; `rename` changes it"
    );
    let both = differs("db: 0 4096", "wal: 0 4088").unwrap_err();
    assert_eq!(both.len(), 2, "{both:?}");
}

// ---- live

fn host(site: &str) -> Host {
    let sites = format!("blockdev 1 0 blockdev {site}");
    let mut host = Host::of(
        &sites,
        "create 4096",
        "1 1 /rd0 core 2 64 nosync",
        Host::blank(),
        BTreeMap::new(),
    );
    host.write(7, 9, 5);
    host.run();
    host
}

fn sent(host: &mut Host, words: &str) -> Result<String, String> {
    let words: Vec<&str> = words.split(' ').collect();
    let answer = host.machine.message(host.now, None, &words);
    answer.map_err(|error| error.to_string())
}

/// A write, and whether it was acknowledged in the moments that followed.
fn written(host: &mut Host, sector: u64) -> (ReqId, bool) {
    let req = host.write(sector, 8, 1);
    host.run_for(Span::from_millis(100));
    (req, host.ended.contains_key(&req))
}

/// The site is well again, and has caught up.
fn healed(host: &mut Host) {
    host.faults.clear();
    host.release();
    host.run_for(Span::from_secs(60));
    assert_eq!((host.site().state, host.site().lag_writes), (SiteState::Streaming, 0));
}

#[test]
fn a_site_that_becomes_sync_is_waited_for_once_it_has_caught_up() {
    let mut host = host("2 1 timeout_io:1h");
    host.faults.insert(RD, Fault::Hangs);
    assert!(written(&mut host, 64).1, "async");
    let answer = sent(&mut host, "slink message 1 policy sync").unwrap();
    assert_eq!(
        answer,
        "site 1: blockdev 2 1 timeout_io:1h is now blockdev 3 1 sync timeout_io:1h\n"
    );
    assert!(host.site().demoted, "at once: nobody may take it for one that has everything");
    assert!(written(&mut host, 128).1, "it lacks a write, so that nobody waits for it yet");
    assert!(host.site().demoted && host.machine.log().unwrap().site(blk::SlinkNr(1)).demoted);
    healed(&mut host);
    assert!(!host.site().demoted && !host.machine.log().unwrap().site(blk::SlinkNr(1)).demoted);
    host.faults.insert(RD, Fault::Hangs);
    let (req, acked) = written(&mut host, 192);
    assert!(!acked, "it had caught up, and is waited for");
    healed(&mut host);
    assert_eq!(host.ended[&req], Ok(()));
    assert!(host.machine.plan().group().file().to_string().contains("blockdev 3 1 sync timeout"));
}

#[test]
fn a_site_that_becomes_async_lets_those_go_that_wait_for_it() {
    let mut host = host("3 1 sync timeout_io:1h");
    host.faults.insert(RD, Fault::Hangs);
    let (req, acked) = written(&mut host, 64);
    assert!(!acked);
    sent(&mut host, "slink message 1 policy async").unwrap();
    host.run_for(Span::from_millis(1));
    assert_eq!(host.ended.get(&req), Some(&Ok(())));
    assert!(written(&mut host, 128).1);
    healed(&mut host);
}

#[test]
fn a_sync_site_that_becomes_async_while_it_is_being_given_up_is_copied_and_comes_back() {
    let mut host = host("2 1 sync");
    for words in ["resync 1", "slink message 1 policy async"] {
        sent(&mut host, words).unwrap();
    }
    assert!(written(&mut host, 64).1);
    healed(&mut host);
    assert!(!host.site().detached && !host.site().demoted);
}

#[test]
fn a_site_that_is_sync_only_for_a_moment_is_async_as_before() {
    let mut host = host("2 1 timeout_io:1h");
    host.faults.insert(RD, Fault::Hangs);
    for policy in ["sync", "async", "sync", "async"] {
        sent(&mut host, &format!("slink message 1 policy {policy}")).unwrap();
    }
    assert!(written(&mut host, 64).1);
    assert!(!host.machine.log().unwrap().site(blk::SlinkNr(1)).demoted);
    healed(&mut host);
}

#[test]
fn a_limit_holds_at_once_and_so_does_its_end() {
    let mut host = host("2 1 timeout_io:1h");
    host.faults.insert(RD, Fault::Hangs);
    for i in 0..12 {
        assert!(written(&mut host, i * 8).1);
    }
    sent(&mut host, "slink message 1 fallbehind ios=8").unwrap();
    let (req, acked) = written(&mut host, 256);
    assert!(!acked && host.site().limits.over);
    assert_eq!(host.site().limits.fall_behind.as_deref(), Some("ios 8"));
    sent(&mut host, "slink message 1 fallbehind ios 0").unwrap();
    host.run_for(Span::from_millis(1));
    assert_eq!(host.ended.get(&req), Some(&Ok(())));
    assert!(!host.site().limits.over && host.site().limits.fall_behind.is_none());
    sent(&mut host, "slink message 1 on_limit:bitmap fallbehind ios=8").unwrap();
    assert!(written(&mut host, 264).1);
    assert!(host.site().detached);
    healed(&mut host);
}

/// Writers that wait at a limit, and a lower one: what the old one allowed, and had not been
/// acknowledged for another reason, is none of the new one's (P12; seed 191876302).
#[test]
fn a_lower_limit_holds_also_those_that_wait_already() {
    let sites =
        "blockdev 1 0 blockdev 5 1 async ios 10 timeout_io:1h blockdev 3 2 sync timeout_io:1h";
    let remote = "1 1 /rd0 core 2 64 nosync 2 1 /dl0 core 2 64 nosync";
    let mut host = Host::of(sites, "create 4096", remote, Host::blank(), BTreeMap::new());
    host.run();
    host.faults.insert(RD, Fault::Hangs);
    host.faults.insert(DiskId(3), Fault::Slow);
    let asked: Vec<ReqId> = (0..12).map(|i| written(&mut host, i * 8).0).collect();
    assert!(host.ended.is_empty() && host.site().limits.over);
    sent(&mut host, "slink message 1 fallbehind ios=3").unwrap();
    for _ in 0..20 {
        host.land();
        host.run_for(Span::from_millis(100));
    }
    let acked: Vec<bool> = asked.iter().map(|req| host.ended.contains_key(req)).collect();
    assert_eq!(acked, [vec![true; 3], vec![false; 9]].concat());
    host.faults.remove(&DiskId(3));
    healed(&mut host);
}

#[test]
fn a_deadline_that_becomes_shorter_ends_what_hangs_at_any_site() {
    for (disk, slink) in [(RD, 1), (DiskId(1), 0)] {
        let mut host = host("2 1 timeout_io:1h");
        host.faults.insert(disk, Fault::Hangs);
        host.write(64, 8, 1);
        host.run_for(Span::from_secs(20));
        host.now = host.now + Span::from_secs(20);
        if slink == 1 {
            assert_eq!(host.site().state, SiteState::Streaming);
        }
        sent(&mut host, &format!("slink message {slink} timeout_io:1s")).unwrap();
        host.run_for(Span::from_secs(1));
        let site = host.machine.status(host.now).sites[slink].clone();
        assert_eq!((site.state, site.limits.timeout_io_seconds), (SiteState::Down, 1.0));
    }
}

#[test]
fn wrong_words_and_what_can_t_be_changed_change_nothing() {
    let mut host = host("4 1 async ios 9");
    let before = host.machine.plan().clone();
    for (words, expected) in [
        ("slink message 1 policy sync", "nothing was changed: <fall_behind>: expected none with "),
        ("sl message 1 on_down:hold speed:1", "nothing was changed: option: expected `on_limit`"),
        ("slink message 7 policy sync", "nothing was changed: <slink_nr>: expected a site link of"),
        (
            "slink message 1 mark:/x",
            "nothing was changed: the mark of site 1: /x was not looked for",
        ),
    ] {
        let error = sent(&mut host, words).unwrap_err();
        assert!(error.starts_with(expected), "{words}: {error}");
        assert_eq!(host.machine.plan(), &before, "{words}");
    }
    assert!(host.machine.message(host.now, Some(DevNr(0)), &["slink"]).is_err());
}
