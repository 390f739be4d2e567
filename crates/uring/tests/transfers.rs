//! Every operation on every kind of disk, through a real ring.

#![allow(clippy::unwrap_used, reason = "a test's answer to an error is to fail")]

mod common;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use blk::{Buf, BufMut, DiskOp, Errno, Gather, Sector, Sectors, Span};
use common::{Fixture, OneDisk, gather, pattern};
use io_uring::opcode;
use uring::{CommandTag, Reaped, Ring, RingSpec};

const SIZE: Sectors = Sectors(16384);

/// Runs `test` on each kind of disk, and says on which one it fails.
fn on_every_disk(size: Sectors, test: impl Fn(&mut OneDisk)) {
    for fixture in Fixture::all(size) {
        println!("on a {}", fixture.name);
        test(&mut OneDisk::new(fixture.open()));
    }
}

#[test]
fn what_is_written_is_read_back() {
    on_every_disk(SIZE, |disk| {
        let bytes = pattern(256, 1);
        disk.write(64, gather(&bytes));
        assert_eq!(disk.read(64, 256), bytes);
        assert_eq!(disk.read(56, 8), vec![0; 4096], "before it");
        assert_eq!(disk.read(320, 8), vec![0; 4096], "behind it");
    });
}

#[test]
fn a_gather_list_is_written_one_buffer_after_the_other() {
    on_every_disk(SIZE, |disk| {
        let bytes = pattern(24, 2);
        let whole = Buf::from(bytes.as_slice());
        // Parts of a block, and memory that is not aligned to one.
        let cuts = [0, 1, 4, 9, 17, 24].map(|sector: u64| Sectors(sector).len());
        let data: Gather = cuts.windows(2).map(|cut| whole.slice(cut[0]..cut[1])).collect();
        disk.write(8, data);
        assert_eq!(disk.read(8, 24), bytes);
    });
}

#[test]
fn a_gather_list_longer_than_the_kernel_takes_is_written_whole() {
    const VECTORS: u64 = 1500;
    on_every_disk(SIZE, |disk| {
        let sectors = VECTORS * disk.block;
        let bytes = pattern(sectors, 3);
        let whole = Buf::from(bytes.as_slice());
        let part = Sectors(disk.block).len();
        let cuts = (0..bytes.len()).step_by(part);
        disk.write(0, cuts.map(|cut| whole.slice(cut..cut + part)).collect());
        assert_eq!(disk.read(0, sectors), bytes);
    });
}

#[test]
fn reads_into_memory_that_is_not_aligned_give_the_same_bytes() {
    on_every_disk(SIZE, |disk| {
        let bytes = pattern(16, 4);
        disk.write(0, gather(&bytes));
        let mut rest = BufMut::zeroed(Sectors(17).len());
        let _first = rest.split_to(512);
        let (result, buf) = disk.run(DiskOp::Read { sector: Sector(0), buf: rest });
        result.unwrap();
        assert_eq!(buf.unwrap().to_vec(), bytes);
    });
}

#[test]
fn writes_with_fua_and_flushes_succeed() {
    on_every_disk(SIZE, |disk| {
        let bytes = pattern(8, 5);
        let data = gather(&bytes);
        disk.run(DiskOp::Write { sector: Sector(0), data, fua: true }).0.unwrap();
        disk.run(DiskOp::Flush).0.unwrap();
        assert_eq!(disk.read(0, 8), bytes);
    });
}

#[test]
fn zeroing_zeroes_its_range_and_nothing_else() {
    for (unmap, fua) in [(false, false), (true, false), (false, true), (true, true)] {
        on_every_disk(SIZE, |disk| {
            let bytes = pattern(64, 6);
            disk.write(0, gather(&bytes));
            let (sector, len) = (Sector(16), Sectors(32));
            disk.run(DiskOp::WriteZeroes { sector, len, unmap, fua }).0.unwrap();
            assert_eq!(disk.read(0, 16), bytes[..16 * 512]);
            assert_eq!(disk.read(16, 32), vec![0; 32 * 512]);
            assert_eq!(disk.read(48, 16), bytes[48 * 512..]);
        });
    }
}

#[test]
fn zeroing_more_than_one_call_takes_zeroes_all_of_it() {
    let size = Sectors((150 << 20) / 512);
    for unmap in [false, true] {
        on_every_disk(size, |disk| {
            let ends = [0, (64 << 20) / 512 - 8, (128 << 20) / 512, size.0 - 16];
            for at in ends {
                disk.write(at, gather(&pattern(16, at)));
            }
            let (sector, len) = (Sector(8), Sectors(size.0 - 16));
            disk.run(DiskOp::WriteZeroes { sector, len, unmap, fua: false }).0.unwrap();
            assert_eq!(disk.read(0, 8), pattern(16, 0)[..4096]);
            assert_eq!(disk.read(size.0 - 8, 8), pattern(16, ends[3])[4096..]);
            for at in [8, ends[1], ends[1] + 8, ends[2], size.0 - 16] {
                assert_eq!(disk.read(at, 8), vec![0; 4096], "at {at}");
            }
        });
    }
}

#[test]
fn unmapping_gives_space_back_and_zeroing_alone_keeps_it() {
    let fixture = Fixture::file("file", None, SIZE);
    let mut disk = OneDisk::new(fixture.open());
    let allocated = || fs::metadata(&fixture.path).unwrap().blocks();
    let zero =
        |unmap| DiskOp::WriteZeroes { sector: Sector(0), len: Sectors(8192), unmap, fua: true };
    disk.write(0, gather(&pattern(8192, 7)));
    disk.run(DiskOp::Flush).0.unwrap();
    let full = allocated();
    assert!(full >= 8192, "{full} sectors are allocated");
    disk.run(zero(false)).0.unwrap();
    assert!(allocated() >= 8192, "zeroing without unmap gave space back");
    disk.run(zero(true)).0.unwrap();
    assert!(allocated() < 1024, "unmapping kept {} sectors", allocated());
}

#[test]
fn io_behind_the_end_fails_and_gives_the_buffer_back() {
    on_every_disk(SIZE, |disk| {
        let buf = BufMut::zeroed(4096);
        let (result, buf) = disk.run(DiskOp::Read { sector: Sector(SIZE.0), buf });
        assert!(result.is_err());
        assert_eq!(buf.unwrap().len(), 4096);
    });
}

#[test]
fn io_on_a_disk_that_is_not_there_ends_with_enodev() {
    let fixture = Fixture::file("file", None, SIZE);
    let mut disk = OneDisk::new(fixture.open());
    disk.ring.remove_disk(common::DISK).unwrap();
    let buf = BufMut::zeroed(512);
    let (result, buf) = disk.run(DiskOp::Read { sector: Sector(0), buf });
    assert_eq!((result, buf.unwrap().len()), (Err(Errno::ENODEV), 512));
    assert_eq!(disk.run(DiskOp::Flush).0, Err(Errno::ENODEV));
}

#[test]
fn a_disk_that_is_taken_away_stays_open_until_its_io_has_ended() {
    let fixture = Fixture::file("file", None, SIZE);
    let mut disk = OneDisk::new(fixture.open());
    for _ in 0..8 {
        let (data, fua) = (gather(&pattern(64, 8)), true);
        disk.submit(DiskOp::Write { sector: Sector(0), data, fua });
    }
    drop(disk.ring.remove_disk(common::DISK));
    assert!(disk.wait(8).into_iter().all(|(_, result, _)| result == Ok(())));
    let again = fixture.open();
    assert_eq!(again.size(), SIZE);
}

#[test]
fn more_io_than_a_ring_holds_all_ends_exactly_once() {
    const COUNT: u64 = 3000;
    for fixture in Fixture::all(Sectors(COUNT * 8)) {
        let spec = RingSpec { submissions: 4, completions: 8 };
        let mut disk = OneDisk::on_ring(spec, fixture.open());
        let mut expected = Vec::new();
        for i in 0..COUNT {
            let data = gather(&pattern(8, i));
            let sector = Sector(i * 8);
            expected.push(disk.submit(DiskOp::Write { sector, data, fua: false }));
        }
        let mut ended: Vec<_> = disk.wait(expected.len()).into_iter().map(|(io, ..)| io).collect();
        ended.sort_unstable();
        assert_eq!(ended, expected, "on a {}", fixture.name);
        assert_eq!(disk.ring.in_flight(), 0);
        for i in [0, COUNT / 2, COUNT - 1] {
            assert_eq!(disk.read(i * 8, 8), pattern(8, i));
        }
    }
}

#[test]
fn commands_come_back_under_their_own_names_beside_io() {
    let fixture = Fixture::file("file", None, SIZE);
    let mut disk = OneDisk::new(fixture.open());
    disk.submit(DiskOp::Flush);
    let tags = [(0, 0, 0), (1, 2, 3), (u16::MAX, u16::MAX, u16::MAX)];
    for (epoch, source, index) in tags {
        let tag = CommandTag { epoch, source, index };
        #[allow(unsafe_code)]
        // SAFETY: a no-op points to nothing.
        unsafe {
            disk.ring.command(tag, opcode::Nop::new().build());
        }
    }
    let (mut reaped, mut names) = (Vec::new(), Vec::new());
    while reaped.len() < tags.len() + 1 {
        disk.ring.submit_and_wait(Some(Span::from_secs(10))).unwrap();
        disk.ring.reap(&mut reaped);
    }
    for reaped in reaped {
        if let Reaped::Command { tag, result } = reaped {
            assert_eq!(result, 0);
            names.push((tag.epoch, tag.source, tag.index));
        }
    }
    names.sort_unstable();
    assert_eq!(names, tags);
}

#[test]
fn waiting_ends_when_its_time_is_up() {
    let mut ring = Ring::new(RingSpec::default()).unwrap();
    let began = std::time::Instant::now();
    ring.submit_and_wait(Some(Span::from_millis(30))).unwrap();
    assert!(began.elapsed() >= Span::from_millis(30));
    ring.submit_and_wait(Some(Span::ZERO)).unwrap();
}

#[test]
#[should_panic(expected = "is taken")]
fn a_disk_number_is_given_to_one_disk_only() {
    let fixture = Fixture::file("file", None, SIZE);
    let mut disk = OneDisk::new(fixture.open());
    let other = Fixture::file("file", None, SIZE);
    disk.ring.add_disk(common::DISK, Arc::new(other.open()));
}
