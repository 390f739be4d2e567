//! Pictures are what they were: golden files of several sizes, and rules for all sizes.
//!
//! `UPDATE_GOLDEN=1 cargo test -p replicator-cli top` writes them anew; look at the difference.

use std::path::Path;
use std::{env, fs};

use replicator::status::data::{
    DeviceStatus, LogStatus, LossStatus, ResyncStatus, RunState, SiteFailure, SiteOrder, SiteState,
};
use replicator::status::verify::VerifyStatus;
use replicator::{SiteStatus, Status};

use super::{Frame, History, Size, View};

const CLOCK: &str = "13:04:05";
const SIZES: [(usize, usize); 4] = [(80, 24), (60, 20), (132, 40), (40, 10)];

fn site(slink: u16) -> SiteStatus {
    SiteStatus {
        slink,
        state: SiteState::Streaming,
        consistent: true,
        cursor: 6000,
        order: if slink == 0 { SiteOrder::None } else { SiteOrder::Flush },
        ..SiteStatus::default()
    }
}

/// A local site, one that keeps up, one that is down, one that is copied to.
fn busy(bytes_written: u64) -> Status {
    let failure = SiteFailure {
        what: "a write".to_owned(),
        error: "a write for device 0 failed: EIO".to_owned(),
        writes_fail: true,
        seconds: 75.0,
        retry_seconds: Some(4.0),
        ..SiteFailure::default()
    };
    let mut down = SiteStatus {
        state: SiteState::Down,
        lag_writes: 41_000,
        lag_bytes: 160 << 20,
        lag_seconds: 75.0,
        lag_groups: 900,
        failure: Some(failure),
        ..site(2)
    };
    down.limits.fall_behind = Some("size 256m".to_owned());
    let copied = SiteStatus {
        state: SiteState::Resyncing,
        consistent: false,
        dirty_bytes: 600 << 20,
        resync: Some(ResyncStatus::new(20.0, 400 << 20, 600 << 20, 30 << 20)),
        ..site(3)
    };
    let verify = VerifyStatus {
        running: true,
        percent: 12,
        rate_bytes: 90 << 20,
        eta_seconds: Some(200.0),
        total_bytes: 1 << 30,
        ..VerifyStatus::default()
    };
    let local = SiteStatus { lag_writes: 12, lag_bytes: 48 << 10, lag_seconds: 0.04, ..site(0) };
    let near = SiteStatus { sync: true, waited_for: true, verify: Some(verify), ..site(1) };
    let log = LogStatus {
        ring_used_bytes: 170 << 20,
        ring_bytes: 512 << 20,
        tail_used_bytes: 1 << 20,
        tail_bytes: 32 << 20,
        written: 9000,
        reads_from: Some(0),
        whole_copies: vec![0, 1, 2],
        bytes_written,
        ..LogStatus::default()
    };
    let device = |name: &str| DeviceStatus {
        name: name.to_owned(),
        changes: bytes_written / 4096,
        reads: bytes_written / 40_960,
        ..DeviceStatus::default()
    };
    Status {
        name: "repl".to_owned(),
        state: RunState::Running,
        log: Some(log),
        sites: vec![local, near, down, copied],
        devices: vec![device("data"), device("journal")],
        ..Status::default()
    }
}

fn seen_twice(name: &str, before: Status, mut after: Status) -> History {
    let mut history = History::new(name);
    after.sites.iter_mut().for_each(|site| site.cursor += 10 * u64::from(site.slink != 2));
    history.add(1.0, Ok(before));
    history.add(2.0, Ok(after));
    history
}

fn one() -> Vec<History> {
    vec![seen_twice("repl", busy(1 << 30), busy((1 << 30) + (25 << 20)))]
}

fn well() -> Status {
    let log = LogStatus { ring_bytes: 64 << 20, whole_copies: vec![0, 1], ..LogStatus::default() };
    let log = Some(LogStatus { reads_from: Some(0), tail_bytes: 8 << 20, ..log });
    let (state, sites) = (RunState::Running, vec![site(0), site(1)]);
    Status { name: "other".to_owned(), state, log, sites, ..Status::default() }
}

fn several() -> Vec<History> {
    let mut gone = seen_twice("gone", well(), well());
    gone.add(3.0, Err("gone: its daemon is gone, its devices wait".to_owned()));
    let mut lost = well();
    let log = lost.log.as_mut().unwrap();
    log.failure = Some("a write ended with: EIO".to_owned());
    log.loss = Some(LossStatus { bypassed: true, ..LossStatus::default() });
    let lost = seen_twice("lost", lost.clone(), lost);
    vec![gone, lost, seen_twice("other", well(), well()), one().remove(0), History::new("starts")]
}

fn text(frame: &Frame) -> String {
    frame.lines.iter().map(|line| format!("{}\n", line.text)).collect()
}

fn drawn(all: &[History], chosen: usize, (columns, rows): (usize, usize)) -> Frame {
    Frame::draw(all, View { chosen, scrolled: 0 }, CLOCK, Size { columns, rows })
}

#[test]
fn a_picture_of_every_size_is_what_it_was() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/top/golden");
    let cases = [("one", one(), 0), ("several", several(), 3), ("lost", several(), 1)];
    for (name, all, chosen) in
        cases.into_iter().chain([("gone", several(), 0), ("none", vec![], 0)])
    {
        for size in SIZES {
            let found = text(&drawn(&all, chosen, size));
            let path = directory.join(format!("{name}-{}x{}", size.0, size.1));
            if env::var_os("UPDATE_GOLDEN").is_some() {
                fs::create_dir_all(&directory).unwrap();
                fs::write(&path, &found).unwrap();
            }
            let expected = fs::read_to_string(&path).unwrap_or_default();
            assert_eq!(found, expected, "{}", path.display());
        }
    }
}

#[test]
fn no_picture_is_larger_than_its_place_and_what_is_left_out_is_said() {
    for all in [one(), several(), vec![]] {
        for columns in [0, 1, 5, 17, 39, 80, 200] {
            for rows in [0, 1, 2, 3, 8, 24, 100] {
                for scrolled in [0, 1, 5, 1000] {
                    let (view, size) = (View { chosen: 9, scrolled }, Size { columns, rows });
                    let frame = Frame::draw(&all, view, CLOCK, size);
                    assert!(frame.lines.len() <= rows.max(1), "{size:?}");
                    let widest = frame.lines.iter().map(|it| it.text.chars().count()).max();
                    assert!(widest.unwrap_or(0) <= columns, "{size:?}");
                }
            }
        }
    }
    let frame = drawn(&one(), 0, (80, 8));
    assert!(frame.lines[7].text.contains("more lines") && frame.scroll_max > 0);
}

#[test]
fn scrolled_to_its_end_it_shows_the_last_line() {
    let all = one();
    let (full, size) = (drawn(&all, 0, (80, 100)), Size { columns: 80, rows: 8 });
    let frame = Frame::draw(&all, View { chosen: 0, scrolled: 1000 }, CLOCK, size);
    assert_eq!(frame.lines.last(), full.lines.last());
}

#[test]
fn at_80_by_24_a_replicator_of_four_sites_is_seen_whole() {
    let frame = drawn(&one(), 0, (80, 24));
    assert_eq!(frame.scroll_max, 0, "{}", text(&frame));
}

#[test]
fn one_that_was_not_seen_yet_is_named() {
    let frame = drawn(&[History::new("starts")], 0, (80, 24));
    assert_eq!(frame.lines[1].text, "starts: not seen yet", "{}", text(&frame));
}

/// Letters from the page's file, without what they look like.
fn letters(svg: &str) -> String {
    svg.split('<').filter_map(|it| it.split_once('>')).map(|(_, text)| text.trim_end()).collect()
}

#[test]
fn the_picture_in_the_documents_is_one_of_today() {
    let shown = letters(include_str!("../../../../docs/top.svg"));
    let frame = drawn(&one(), 0, (80, 24));
    let line = |begin: &str| {
        let found = frame.lines.iter().find(|line| line.text.starts_with(begin));
        found.unwrap_or_else(|| panic!("{begin}: {}", text(&frame))).text.clone()
    };
    assert!(shown.contains(&line("site  state")), "{shown}");
    let title = line("replicator top");
    let (_, keys) = title.split_once(CLOCK).unwrap();
    assert!(shown.contains(keys), "{shown}");
    for begin in ["log    [", "memory [", "writes "] {
        assert!(!line(begin).is_empty() && shown.contains(begin), "{begin}");
    }
}
