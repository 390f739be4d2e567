//! Opening: one object for one user, known by one name, or one clear sentence.

#![allow(clippy::unwrap_used, reason = "a test's answer to an error is to fail")]

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use blk::{Sector, Sectors};
use common::{Fixture, LoopDevice, pattern};
use uring::{Access, Disk, OpenError, OpenSpec};

const SIZE: Sectors = Sectors(2048);

fn open(path: &Path) -> Result<Disk, OpenError> {
    Disk::open(path, &OpenSpec::default())
}

#[test]
fn a_disk_that_is_open_is_busy_and_its_holder_is_named() {
    for fixture in Fixture::all(SIZE) {
        println!("on a {}", fixture.name);
        let _first = fixture.open();
        let error = open(&fixture.path).unwrap_err();
        assert!(matches!(error, OpenError::Busy { .. }), "{error}");
        let message = error.to_string();
        let path = fixture.path.display().to_string();
        assert!(message.starts_with(&path) && message.contains("this very process"), "{message}");
    }
}

#[test]
fn a_busy_disk_is_waited_for_as_long_as_the_caller_says_and_no_longer() {
    for fixture in Fixture::all(SIZE) {
        println!("on a {}", fixture.name);
        let first = fixture.open();
        let began = Instant::now();
        let limit = Duration::from_millis(100);
        let spec = OpenSpec { busy_limit: limit, ..OpenSpec::default() };
        assert!(matches!(Disk::open(&fixture.path, &spec), Err(OpenError::Busy { .. })));
        assert!(began.elapsed() >= limit);

        let release = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            drop(first);
        });
        let spec = OpenSpec { busy_limit: Duration::from_secs(60), ..OpenSpec::default() };
        assert_eq!(Disk::open(&fixture.path, &spec).unwrap().size(), SIZE);
        release.join().unwrap();
    }
}

#[test]
fn looking_needs_no_exclusive_use_and_cannot_write() {
    for fixture in Fixture::all(SIZE) {
        let owner = fixture.open();
        let bytes = pattern(8, 1);
        owner.pwrite(Sector(8), &bytes).unwrap();
        owner.sync().unwrap();
        let spec = OpenSpec { access: Access::Look, ..OpenSpec::default() };
        let looker = Disk::open(&fixture.path, &spec).unwrap();
        assert_eq!(looker.pread(Sector(8), Sectors(8)).unwrap().to_vec(), bytes);
        assert!(looker.pwrite(Sector(8), &bytes).is_err(), "on a {}", fixture.name);
    }
}

#[test]
fn what_a_tool_writes_from_any_memory_is_read_back() {
    for fixture in Fixture::all(SIZE) {
        let disk = fixture.open();
        let bytes = pattern(17, 2);
        // A slice of a vector is hardly ever aligned.
        disk.pwrite(Sector(16), &bytes[512..]).unwrap();
        let read = disk.pread(Sector(16), Sectors(16)).unwrap();
        assert_eq!(read.to_vec(), bytes[512..], "on a {}", fixture.name);
        assert!(disk.pread(Sector(SIZE.0), Sectors(8)).is_err());
    }
}

#[test]
fn facts_are_those_of_the_disk() {
    for fixture in Fixture::all(SIZE) {
        let disk = fixture.open();
        let facts = disk.facts();
        assert_eq!(facts.size, SIZE, "on a {}", fixture.name);
        let block = if fixture.name.contains("4096") { 4096 } else { 512 };
        assert_eq!(facts.logical_block, block, "on a {}", fixture.name);
        assert_eq!(facts.direct, !fixture.name.contains("tmpfs"), "on a {}", fixture.name);
        assert!(facts.memory_align.is_power_of_two());
    }
}

#[test]
fn one_object_has_one_identity_by_whatever_path_it_is_opened() {
    for fixture in Fixture::all(SIZE) {
        let link = fixture.path.with_file_name("link");
        let link = if link.starts_with("/dev") && !link.starts_with("/dev/shm") {
            std::env::temp_dir().join(format!("uring-link-{}", std::process::id()))
        } else {
            link
        };
        symlink(&fixture.path, &link).unwrap();
        let direct = fixture.open().facts().identity.clone();
        let linked = open(&link).unwrap().facts().identity.clone();
        fs::remove_file(&link).unwrap();
        assert_eq!(direct, linked, "on a {}", fixture.name);
    }
}

#[test]
fn a_loop_device_is_known_as_the_file_behind_it() {
    let fixture = Fixture::file("file", None, SIZE);
    let device = match LoopDevice::over(&fixture.path, &[]) {
        Ok(device) => device,
        Err(why) => return println!("left out: {why}"),
    };
    let file = fixture.open().facts().identity.clone();
    assert_eq!(open(&device.0).unwrap().facts().identity, file);

    let part = LoopDevice::over(&fixture.path, &["--offset", "4096"]).unwrap();
    let part = open(&part.0).unwrap().facts().identity.clone();
    assert!(part != file && part.as_str().starts_with(file.as_str()), "{part}");
}

#[test]
fn another_object_at_the_same_path_has_another_identity() {
    let fixture = Fixture::file("file", None, SIZE);
    let mut seen = vec![fixture.open().facts().identity.clone()];
    // Inode numbers are used again soon; more than one try meets that case.
    for _ in 0..20 {
        fs::remove_file(&fixture.path).unwrap();
        fs::File::create_new(&fixture.path).unwrap().set_len(SIZE.bytes()).unwrap();
        let identity = fixture.open().facts().identity.clone();
        assert!(!seen.contains(&identity), "{identity} was seen before");
        seen.push(identity);
    }
}

#[test]
fn what_is_no_disk_is_refused_by_name() {
    let fixture = Fixture::file("file", None, SIZE);
    let directory = fixture.path.parent().unwrap();
    let empty = directory.join("empty");
    fs::File::create_new(&empty).unwrap();
    let absent = directory.join("absent");
    let dangling = directory.join("dangling");
    symlink(&absent, &dangling).unwrap();
    let cases = [
        (absent.as_path(), "no such file or device"),
        (&dangling, "no such file or device"),
        (&fixture.path.join("below"), "could not be opened"),
        (directory, "expected a block device or a regular file, found a directory"),
        (Path::new("/dev/null"), "found a character device"),
        (&empty, "expected at least 1 sectors, found 0"),
    ];
    for (path, expected) in cases {
        let message = open(path).unwrap_err().to_string();
        assert!(message.starts_with(&path.display().to_string()), "{message}");
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn a_disk_that_is_too_small_is_refused_with_both_sizes() {
    for fixture in Fixture::all(SIZE) {
        let spec = OpenSpec { size_min: Sectors(SIZE.0 + 1), ..OpenSpec::default() };
        let message = Disk::open(&fixture.path, &spec).unwrap_err().to_string();
        assert!(message.contains("expected at least 2049 sectors, found 2048"), "{message}");
        let spec = OpenSpec { size_min: SIZE, ..OpenSpec::default() };
        assert_eq!(Disk::open(&fixture.path, &spec).unwrap().size(), SIZE);
    }
}
