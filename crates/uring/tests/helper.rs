//! Disks whose flushes, zeroing and openings another process does.

#![allow(clippy::unwrap_used, reason = "a test's answer to an error is to fail")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use blk::{DiskId, DiskOp, Errno, Gather, IoId, IoOwner, Sector, Sectors};
use common::{Fixture, OneDisk, gather, pattern};
use uring::helper::{Lane, Program, serve};
use uring::{Disk, OpenSpec};

const SIZE: Sectors = Sectors(2048);

/// Not a test: what a helper process of the tests here runs.
#[test]
#[ignore = "only a helper process runs it"]
fn the_helper_of_these_tests() {
    if let Err(error) = serve() {
        println!("left out: {error}");
    }
}

/// A lane of its own for each test: helpers are told apart by their numbers.
fn lane(nr: u16) -> Lane {
    Lane::new(nr, Arc::new(Program::new(std::env::current_exe().unwrap(), arguments(nr))))
}

fn arguments(nr: u16) -> Vec<String> {
    let words = ["--exact", "the_helper_of_these_tests", "--ignored", "--skip"];
    words.map(String::from).into_iter().chain([format!("lane-{nr}")]).collect()
}

/// The helpers of a lane that are running.
fn helpers(nr: u16) -> Vec<String> {
    let mark = format!("lane-{nr}\0");
    let processes = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    let is_one = |process: &PathBuf| {
        // A dead one that nobody has waited for has no command line.
        fs::read_to_string(process.join("cmdline")).is_ok_and(|words| words.ends_with(&mark))
    };
    let name = |process: PathBuf| process.file_name().unwrap().to_str().unwrap().to_owned();
    processes.filter(is_one).map(name).collect()
}

fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn kill(signal: &str, pid: &str) {
    let status = Command::new("/bin/sh").args(["-c", &format!("kill -{signal} {pid}")]).status();
    assert!(status.unwrap().success());
}

fn open(lane: &Lane, path: &Path) -> Disk {
    lane.opening().unwrap().open(path, &OpenSpec::default()).unwrap()
}

/// A ring with one disk on a lane, and the one helper that it has.
fn with_helper(lane: &Lane, path: &Path) -> (OneDisk, String) {
    let mut disk = OneDisk::new(open(lane, path));
    disk.run(DiskOp::Flush).0.unwrap();
    let mut found = helpers(lane.nr());
    assert_eq!(found.len(), 1, "one for the ring, and none that has opened a disk");
    (disk, found.remove(0))
}

#[test]
fn a_disk_that_a_helper_opens_is_as_if_it_had_been_opened_here() {
    for (nr, fixture) in (100..).zip(Fixture::all(SIZE)) {
        println!("on a {}", fixture.name);
        let here = fixture.open().facts().clone();
        let there = open(&lane(nr), &fixture.path);
        assert_eq!(*there.facts(), here);
        assert_eq!(there.path(), fixture.path);
        let refusal = Disk::open(&fixture.path, &OpenSpec::default()).unwrap_err();
        assert_eq!(refusal.errno(), Errno(libc::EBUSY), "its helper is gone, the disk is open");
        drop(there);
        let patient = OpenSpec { busy_limit: Duration::from_secs(60), ..OpenSpec::default() };
        Disk::open(&fixture.path, &patient).unwrap();
    }
}

#[test]
fn a_helper_s_refusal_is_the_sentence_of_an_opening_here() {
    let lane = lane(200);
    let mut opening = lane.opening().unwrap();
    for path in ["/nowhere/disk", "/dev/null", "/"] {
        let here = Disk::open(path.as_ref(), &OpenSpec::default()).unwrap_err();
        let there = opening.open(path.as_ref(), &OpenSpec::default()).unwrap_err();
        assert_eq!((there.errno, there.why), (here.errno(), here.to_string()));
    }
}

#[test]
fn a_helper_that_dies_while_it_opens_is_a_refusal() {
    let fixture = Fixture::file("file", None, SIZE);
    let mut opening = lane(300).opening().unwrap();
    opening.open(&fixture.path, &OpenSpec::default()).unwrap();
    kill("KILL", &helpers(300)[0]);
    let refusal = opening.open(&fixture.path, &OpenSpec::default()).unwrap_err();
    assert_eq!(refusal.errno, Errno::EIO);
    let expected = "could not be opened: the process that was to open it has ended";
    assert_eq!(refusal.why, format!("{}: {expected}", fixture.path.display()));
}

#[test]
fn a_helper_that_died_before_it_was_asked_to_open_is_the_same_refusal() {
    let fixture = Fixture::file("file", None, SIZE);
    let end = fixture.path.with_extension("end");
    // One leaves nothing unread, the other does.
    for reads in ["head -c 1 >/dev/null <&0;", ""] {
        let here = "printf '\\012\\0\\0\\0\\0\\0\\0\\0' >&0";
        let script = format!("{reads} {here}; until [ -e {} ]; do sleep 0.05; done", end.display());
        let program = Program::new("/bin/sh".into(), ["-c", &script]);
        let mut opening = Lane::new(301, Arc::new(program)).opening().unwrap();
        fs::write(&end, "").unwrap();
        thread::sleep(Duration::from_millis(300));
        let refusal = opening.open(&fixture.path, &OpenSpec::default()).unwrap_err();
        assert!(refusal.why.ends_with("has ended"), "{reads:?}: {}", refusal.why);
        fs::remove_file(&end).unwrap();
    }
}

#[test]
fn zeroes_and_flushes_of_a_helper_do_what_they_say() {
    for (nr, fixture) in (400..).zip(Fixture::all(SIZE)) {
        println!("on a {}", fixture.name);
        let mut disk = OneDisk::new(open(&lane(nr), &fixture.path));
        for unmap in [false, true] {
            disk.write(0, gather(&pattern(64, 1)));
            let (sector, len) = (Sector(8), Sectors(16));
            disk.run(DiskOp::WriteZeroes { sector, len, unmap, fua: true }).0.unwrap();
            disk.run(DiskOp::Flush).0.unwrap();
            let mut expected = pattern(64, 1);
            expected[8 * 512..24 * 512].fill(0);
            assert!(disk.read(0, 64) == expected);
        }
    }
}

/// Some of these are done here and some by the helper, depending on the disk: the same bytes.
#[test]
fn what_is_written_to_a_disk_on_a_lane_is_read_back_whoever_does_it() {
    for (nr, fixture) in (450..).zip(Fixture::all(Sectors(16384))) {
        println!("on a {}", fixture.name);
        let mut disk = OneDisk::new(open(&lane(nr), &fixture.path));
        // Longer than one call, in pieces of odd sizes, at odd addresses.
        let bytes = pattern(8192, 7);
        let mut rest = bytes.as_slice();
        let mut data = Gather::new();
        for blocks in (1..).take_while(|blocks| blocks * 4096 <= 1 << 20) {
            let (part, left) = rest.split_at(rest.len().min(blocks * 4096));
            if !part.is_empty() {
                data.extend(gather(part));
            }
            rest = left;
        }
        assert!(rest.is_empty());
        disk.run(DiskOp::Write { sector: Sector(64), data, fua: true }).0.unwrap();
        assert!(disk.read(64, 8192) == bytes);
        // And many small ones at a time.
        for at in 0..512 {
            let data = gather(&pattern(8, 1000 + at));
            disk.submit(DiskOp::Write { sector: Sector(at * 8), data, fua: at % 3 == 0 });
        }
        let ended = disk.wait(512);
        assert!(ended.into_iter().all(|(_, result, _)| result == Ok(())));
        let expected: Vec<u8> = (0..512).flat_map(|at| pattern(8, 1000 + at)).collect();
        assert!(disk.read(0, 4096) == expected);
    }
}

#[test]
fn more_calls_than_a_helper_takes_at_once_all_end() {
    let fixture = Fixture::file("file", None, SIZE);
    let mut disk = OneDisk::new(open(&lane(500), &fixture.path));
    let count = 1000;
    for nr in 0..count {
        let (sector, len) = (Sector(nr % 250 * 8), Sectors(8));
        disk.submit(match nr % 3 {
            0 => DiskOp::Flush,
            _ => DiskOp::WriteZeroes { sector, len, unmap: nr % 2 == 0, fua: false },
        });
    }
    let ended = disk.wait(usize::try_from(count).unwrap());
    assert!(ended.into_iter().all(|(_, result, _)| result == Ok(())));
}

#[test]
fn calls_of_a_helper_that_dies_end_with_an_error_and_another_one_does_the_next() {
    let fixture = Fixture::file("file", None, SIZE);
    let lane = lane(600);
    let (mut disk, helper) = with_helper(&lane, &fixture.path);
    kill("STOP", &helper);
    // More than it takes at once.
    let count = 200;
    for _ in 0..count {
        disk.submit(DiskOp::Flush);
    }
    kill("KILL", &helper);
    let ended = disk.wait(count);
    assert!(ended.into_iter().all(|(_, result, _)| result == Err(Errno::EIO)));
    disk.run(DiskOp::Flush).0.unwrap();
    let now = helpers(lane.nr());
    assert!(now.len() == 1 && now[0] != helper, "{now:?}");
}

#[test]
fn an_idle_helper_has_no_descriptor_but_its_line() {
    let fixture = Fixture::file("file", None, SIZE);
    let (mut disk, helper) = with_helper(&lane(700), &fixture.path);
    for _ in 0..100 {
        disk.submit(DiskOp::Flush);
    }
    disk.wait(100);
    let fds = fs::read_dir(format!("/proc/{helper}/fd")).unwrap();
    let mut fds: Vec<_> = fds.map(|fd| fd.unwrap().file_name()).collect();
    fds.sort();
    assert_eq!(fds, ["0", "1", "2"]);
}

#[test]
fn a_helper_ends_with_the_ring_that_it_serves_and_no_signal_to_all_ends_it() {
    let fixture = Fixture::file("file", None, SIZE);
    let (mut disk, helper) = with_helper(&lane(800), &fixture.path);
    for signal in ["TERM", "INT", "HUP"] {
        kill(signal, &helper);
    }
    disk.run(DiskOp::Flush).0.unwrap();
    drop(disk);
    eventually("a helper outlives its ring", || helpers(800).is_empty());
}

#[test]
fn a_program_that_cannot_be_started_fails_calls_and_nothing_else() {
    let good = Fixture::file("file", None, SIZE);
    let fixture = Fixture::file("file", None, SIZE);
    let program = fixture.path.with_file_name("program");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let lane = Lane::new(900, Arc::new(Program::new(program.clone(), arguments(900))));
    let opened = open(&lane, &fixture.path);
    fs::remove_file(program).unwrap();
    assert!(lane.opening().is_err());
    let mut disk = OneDisk::new(good.open());
    disk.ring.add_disk(DiskId(7), Arc::new(opened));
    for nr in 0..3 {
        let io = IoId { owner: IoOwner(2), nr };
        disk.ring.submit(io, DiskId(7), DiskOp::Flush);
        assert_eq!(disk.wait(1)[0].1, Err(Errno::EIO));
        disk.write(0, gather(&pattern(8, nr)));
        disk.run(DiskOp::Flush).0.unwrap();
        assert!(disk.read(0, 8) == pattern(8, nr));
    }
}
