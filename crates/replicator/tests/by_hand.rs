//! What people do by hand to a replicator that is in use: outages, drains, bookmarks.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod host;

use std::collections::BTreeMap;

use blk::{DevNr, DiskId, ReqId, Sector, SlinkNr, Span};
use host::{Fault, Host, assert_same};
use replicator::{SiteState, why};
use replog::tools::{Line, LogReader, dump};

const RD: DiskId = DiskId(2);
const LD: DiskId = DiskId(1);

fn host(site: &str) -> Host {
    let sites = format!("blockdev 1 0 blockdev {site}");
    let leg = "1 1 /rd0 core 2 64 nosync";
    let mut host = Host::of(&sites, "create 4096", leg, Host::blank(), BTreeMap::new());
    host.write(7, 9, 5);
    host.run();
    host
}

fn sent(host: &mut Host, words: &str) -> Result<String, String> {
    let words: Vec<&str> = words.split(' ').collect();
    let answer = host.machine.message(host.now, None, &words);
    answer.map_err(|error| error.to_string())
}

fn said(host: &Host) -> String {
    let reasons = why(&host.machine.status(host.now));
    reasons.into_iter().find(|reason| reason.slink == Some(1)).unwrap().to_string()
}

fn written(host: &mut Host, sector: u64) -> (ReqId, bool) {
    let req = host.write(sector, 8, 1);
    host.run_for(Span::from_millis(100));
    (req, host.ended.contains_key(&req))
}

fn is_equal(host: &mut Host) {
    let device = host.read(0, 4096);
    assert_same(host.device_bytes(RD.0), &device);
    let site = host.site();
    assert_eq!((site.state, site.consistent, site.lag_writes), (SiteState::Streaming, true, 0));
}

#[test]
fn a_site_that_is_taken_down_is_left_alone_until_it_is_to_be_up() {
    let mut host = host("1 1");
    assert_eq!(sent(&mut host, "down 1").as_deref(), Ok(""));
    let before = host.device_bytes(RD.0).to_vec();
    assert!(written(&mut host, 64).1, "nobody waits");
    host.run_for(Span::from_secs(3600));
    host.now = host.now + Span::from_secs(3600);
    let site = host.site();
    assert_eq!((site.state, site.lag_writes, site.consistent), (SiteState::Down, 1, true));
    assert_same(host.device_bytes(RD.0), &before);
    let expected = "site 1: down for 60 min: the message `down` took it down; not tried before \
                    the message `up 1`; the log keeps what it lacks";
    assert!(said(&host).starts_with(expected), "{}", said(&host));
    assert!(host.machine.status(host.now).replicator_line().contains("s,retry=-"));
    assert_eq!(sent(&mut host, "up 1").as_deref(), Ok(""));
    host.run();
    is_equal(&mut host);
}

#[test]
fn a_sync_site_that_is_taken_down_is_demoted_at_once_and_promoted_when_it_is_back() {
    let mut host = host("2 1 sync");
    sent(&mut host, "down 1").unwrap();
    assert!(written(&mut host, 64).1);
    assert!(host.site().demoted && host.machine.log().unwrap().site(SlinkNr(1)).demoted);
    sent(&mut host, "up 1").unwrap();
    host.run();
    assert!(!host.site().demoted);
    is_equal(&mut host);
}

#[test]
fn writers_are_held_by_a_site_that_is_taken_down_if_its_table_says_so() {
    let mut host = host("3 1 sync on_down:hold");
    sent(&mut host, "down 1").unwrap();
    let (req, acked) = written(&mut host, 64);
    assert!(!acked);
    sent(&mut host, "up 1").unwrap();
    host.run();
    assert_eq!(host.ended.get(&req), Some(&Ok(())));
    is_equal(&mut host);
}

#[test]
fn what_hangs_at_a_site_that_was_taken_down_is_waited_for_before_it_is_up() {
    let mut host = host("2 1 timeout_io:1h");
    host.faults.insert(RD, Fault::Hangs);
    written(&mut host, 64);
    for words in ["down 1", "up 1", "down 1", "down 1", "up 1", "up 1"] {
        sent(&mut host, words).unwrap();
        host.run_for(Span::from_secs(1));
        assert_eq!(host.site().state, SiteState::Down, "{words}");
    }
    host.faults.clear();
    host.run_for(Span::from_secs(100));
    assert_eq!(host.site().state, SiteState::Down, "I15");
    host.release();
    host.run();
    is_equal(&mut host);
}

#[test]
fn a_site_that_is_taken_down_overflows_into_dirty_regions_and_is_copied_when_it_is_up() {
    let mut host = host("1 1");
    sent(&mut host, "down 1").unwrap();
    for i in 0..400 {
        host.write(i * 517 % 4000, 64, 1);
        host.run_for(Span::from_millis(10));
    }
    assert!(host.site().detached && host.site().state == SiteState::Down);
    sent(&mut host, "up 1").unwrap();
    host.run_for(Span::from_secs(600));
    is_equal(&mut host);
}

#[test]
fn up_tries_a_site_at_once_whose_next_try_is_far() {
    let mut host = host("1 1");
    host.faults.insert(RD, Fault::Fails);
    written(&mut host, 64);
    host.run_for(Span::from_secs(120));
    host.faults.clear();
    sent(&mut host, "up 1").unwrap();
    host.run_for(Span::from_millis(10));
    is_equal(&mut host);
    assert_eq!(sent(&mut host, "up 1").as_deref(), Ok(""), "it is up, and stays so");
    is_equal(&mut host);
}

#[test]
fn only_a_remote_site_is_taken_down_and_only_as_a_whole() {
    let mut host = host("1 1");
    let expected = "message \"down\": expected one of the remote sites 1, found ";
    for (words, found) in [("down", "\"\""), ("down 0", "\"0\""), ("down all", "\"all\"")] {
        assert_eq!(sent(&mut host, words), Err(format!("{expected}{found}")));
    }
    assert!(sent(&mut host, "up 1 0").unwrap_err().contains("unexpected \"0\" behind it"));
    for words in [["down", "1"].as_slice(), &["drain"]] {
        let error = host.machine.message(host.now, Some(DevNr(0)), words).unwrap_err().to_string();
        assert!(error.ends_with("are all devices'; send it to the replicator"), "{error}");
    }
    assert_eq!(host.site().state, SiteState::Streaming);
}

#[test]
fn a_drain_says_what_is_lacking_and_brings_it_to_the_sites_while_writers_go_on() {
    let mut host = host("1 1");
    host.faults.insert(RD, Fault::Fails);
    host.faults.insert(LD, Fault::Hangs);
    written(&mut host, 64);
    host.run_for(Span::from_secs(1));
    host.faults.remove(&LD);
    let answer = sent(&mut host, "drain").unwrap();
    let lines: Vec<&str> = answer.lines().collect();
    assert!(lines[0].starts_with("site 0: in sync; the log holds 1 write"), "{answer}");
    assert!(lines[1].starts_with("site 1: down ") && lines[1].ends_with(" (not waited for)"));
    assert_eq!(lines.len(), 2);
    host.release();
    host.faults.clear();
    host.run();
    assert_eq!(sent(&mut host, "drain").as_deref(), Ok(""), "nothing is lacking");
    is_equal(&mut host);
}

// ---- bookmarks

struct Disk<'a>(&'a [u8]);

impl LogReader for Disk<'_> {
    fn read(&mut self, sector: Sector, buf: &mut [u8]) -> Result<(), blk::Errno> {
        let at = sector.bytes() as usize;
        buf.copy_from_slice(&self.0[at..at + buf.len()]);
        Ok(())
    }
}

/// The bookmarks in the log: their numbers, and what they say.
fn bookmarks(host: &Host) -> Vec<(u64, String)> {
    let mut found = Vec::new();
    let disk = &host.disks[&DiskId(0)];
    dump(&mut Disk(disk), Sector(0), &mut |line| {
        if let Line::Group(group) = line {
            let marks = group.entries.into_iter().filter(|entry| entry.op == "bookmark");
            found.extend(marks.map(|entry| (entry.seq, entry.text.unwrap_or_default())));
        }
    })
    .unwrap();
    found
}

#[test]
fn a_bookmark_lies_between_two_writes_and_every_site_goes_past_it() {
    let mut host = host("1 1");
    sent(&mut host, "down 1").unwrap();
    written(&mut host, 64);
    assert_eq!(sent(&mut host, "bookmark before the upgrade").as_deref(), Ok("write 3\n"));
    written(&mut host, 128);
    assert_eq!(bookmarks(&host), [(3, "before the upgrade".to_owned())]);
    let status = host.machine.status(host.now);
    let mark = status.log.as_ref().unwrap().bookmark.clone().unwrap();
    assert_eq!((mark.seq, mark.text.as_str()), (3, "before the upgrade"));
    assert!(status.replicator_line().contains(" bookmark:3 "), "{}", status.replicator_line());
    sent(&mut host, "up 1").unwrap();
    host.run();
    is_equal(&mut host);
    assert_eq!(host.site().cursor, 4);
}

#[test]
fn a_bookmark_that_is_the_last_thing_in_the_log_is_lacking_at_no_site() {
    let mut host = host("1 1");
    assert_eq!(sent(&mut host, "b last").as_deref(), Ok("write 2\n"));
    host.run();
    for site in host.machine.status(host.now).sites {
        assert_eq!((site.cursor, site.lag_writes), (2, 0), "site {}", site.slink);
    }
}

#[test]
fn a_log_with_a_bookmark_is_opened_as_any_other() {
    let mut before = host("1 1");
    sent(&mut before, "down 1").unwrap();
    written(&mut before, 64);
    sent(&mut before, "bookmark here").unwrap();
    written(&mut before, 128);
    let (device, disks) = (before.read(0, 4096), before.disks.clone());
    let leg = "1 1 /rd0 core 2 64 nosync";
    let sites = "blockdev 1 0 blockdev 1 1";
    let mut host = Host::of(sites, "auto 4096", leg, disks, BTreeMap::new());
    host.run();
    assert_same(&host.read(0, 4096), &device);
    is_equal(&mut host);
}

#[test]
fn a_text_that_fits_no_sector_or_drives_a_terminal_is_no_bookmark() {
    let mut host = host("1 1");
    let long = "x".repeat(513);
    for (text, found) in
        [("", "nothing"), (long.as_str(), "513 bytes"), ("a\u{1b}[2J", "the character U+001B")]
    {
        let words: Vec<&str> =
            std::iter::once("bookmark").chain((!text.is_empty()).then_some(text)).collect();
        let error = host.machine.message(host.now, None, &words).unwrap_err().to_string();
        assert!(error.ends_with(&format!("found {found}")), "{error}");
    }
    assert_eq!(host.machine.log().unwrap().last_bookmark(), None);
    assert!(host.machine.message(host.now, None, &["bookmark", &long[1..]]).is_ok());
}
