//! A transfer against a kernel that does everything wrong that it may.

use super::*;
use crate::extent::Extent;
use crate::facts::{Facts, Medium};
use crate::identity::Identity;

fn gather(lens: &[usize]) -> Gather {
    let bytes = |(i, len): (usize, &usize)| Buf::from(vec![i as u8; *len].as_slice());
    lens.iter().enumerate().map(bytes).collect()
}

fn lens(vectors: &[libc::iovec]) -> Vec<usize> {
    vectors.iter().map(|vector| vector.iov_len).collect()
}

/// A disk that only answers for its facts: nothing here reaches the kernel.
fn disk(logical_block: u32, memory_align: u32) -> Arc<Disk> {
    disk_on(None, logical_block, memory_align)
}

/// One that may hang.
fn disk_on_lane() -> Arc<Disk> {
    let program = helper::Program::new("/nowhere".into(), [""; 0]);
    disk_on(Some(helper::Lane::new(0, Arc::new(program))), 512, 512)
}

fn disk_on(lane: Option<helper::Lane>, logical_block: u32, memory_align: u32) -> Arc<Disk> {
    let file = std::fs::File::open("/dev/null").unwrap();
    let medium = Medium { volatile_cache: true, rotational: false };
    let identity = Identity::new("name:test");
    let size = Sectors(1 << 30);
    let extent = Extent::whole(identity.clone(), size.bytes());
    let facts = Facts { size, logical_block, memory_align, direct: true, medium, identity, extent };
    Arc::new(Disk::new(file, "test".into(), facts, lane))
}

fn transfer(disk: &Arc<Disk>, op: DiskOp) -> Transfer {
    let io = IoId { owner: blk::IoOwner(0), nr: 0 };
    let mut transfer =
        Transfer::new(io, Arc::clone(disk), op, &BufMut::zeroed(ZERO_PAGE.len()).freeze());
    transfer.next();
    transfer
}

/// Completes the call in flight; the step of the next one, or the end.
fn next(transfer: &mut Transfer, result: i32) -> Result<Step, Result<(), Errno>> {
    match transfer.completed(result) {
        Progress::More => {
            transfer.next();
            Ok(transfer.step)
        }
        Progress::Ended(result) => Err(result),
    }
}

fn write(lens: &[usize], fua: bool) -> DiskOp {
    DiskOp::Write { sector: Sector(0), data: gather(lens), fua }
}

fn zeroes(len: u64, unmap: bool, fua: bool) -> DiskOp {
    DiskOp::WriteZeroes { sector: Sector(0), len: Sectors(len), unmap, fua }
}

#[test]
fn a_short_write_goes_on_where_it_ended() {
    let mut write = transfer(&disk(512, 512), write(&[4096, 4096], false));
    assert_eq!(next(&mut write, 4608), Ok(Step::Write));
    assert_eq!((write.done, write.asked, lens(&write.vectors)), (4608, 3584, vec![3584]));
    assert_eq!(next(&mut write, 3584), Err(Ok(())));
}

#[test]
fn a_short_direct_write_goes_on_at_a_block() {
    let mut write = transfer(&disk(4096, 512), write(&[8192], false));
    assert_eq!(next(&mut write, 4608), Ok(Step::Write));
    assert_eq!((write.done, write.asked), (4096, 4096));
    assert_eq!(next(&mut write, 4096), Err(Ok(())));
}

#[test]
fn a_disk_that_takes_less_than_a_block_at_a_time_fails_in_the_end() {
    let mut write = transfer(&disk(4096, 512), write(&[8192], false));
    let end = (0..100).find_map(|_| next(&mut write, 512).err());
    assert_eq!(end, Some(Err(Errno::EIO)));
}

#[test]
fn a_call_that_moves_nothing_is_an_error_and_not_a_loop() {
    let disk = disk(512, 512);
    assert_eq!(next(&mut transfer(&disk, write(&[512], false)), 0), Err(Err(Errno::EIO)));
    let read = DiskOp::Read { sector: Sector(0), buf: BufMut::zeroed(512) };
    assert_eq!(next(&mut transfer(&disk, read), 0), Err(Err(Errno::EIO)));
}

#[test]
fn an_interrupted_call_is_made_again_but_not_for_ever() {
    let mut write = transfer(&disk(512, 512), write(&[512], false));
    assert_eq!(next(&mut write, -libc::EINTR), Ok(Step::Write));
    assert_eq!(next(&mut write, -libc::EAGAIN), Ok(Step::Write));
    let end = (0..100).find_map(|_| next(&mut write, -libc::EAGAIN).err());
    assert_eq!(end, Some(Err(Errno(libc::EAGAIN))));
}

#[test]
fn a_failed_flush_is_never_tried_again() {
    for errno in [libc::EIO, libc::EINTR, libc::EAGAIN, libc::EOPNOTSUPP] {
        let mut flush = transfer(&disk(512, 512), DiskOp::Flush);
        assert_eq!(next(&mut flush, -errno), Err(Err(Errno(errno))));
    }
}

#[test]
fn fua_that_is_refused_becomes_a_write_and_a_flush_from_then_on() {
    let disk = disk(512, 512);
    let mut first = transfer(&disk, write(&[512], true));
    assert_eq!(first.step, Step::WriteFua);
    assert_eq!(next(&mut first, -libc::EOPNOTSUPP), Ok(Step::Write));
    assert_eq!(next(&mut first, 512), Ok(Step::Sync));
    assert_eq!(next(&mut first, 0), Err(Ok(())));

    let mut second = transfer(&disk, write(&[512], true));
    assert_eq!(second.step, Step::Write);
    assert_eq!(next(&mut second, 512), Ok(Step::Sync));
    assert_eq!(next(&mut second, -libc::EIO), Err(Err(Errno::EIO)));
}

#[test]
fn zeroing_that_is_refused_becomes_writing_zeroes_from_then_on() {
    let disk = disk(512, 512);
    let len = ZERO_PAGE.0 + 1;
    let mut first = transfer(&disk, zeroes(len, true, true));
    assert_eq!(first.step, Step::Punch);
    assert_eq!(next(&mut first, -libc::EOPNOTSUPP), Ok(Step::ZeroRange));
    assert_eq!(next(&mut first, -libc::EOPNOTSUPP), Ok(Step::ZeroWrite));
    assert_eq!(lens(&first.vectors), [ZERO_PAGE.len(), 512]);
    let all = i32::try_from(Sectors(len).bytes()).unwrap();
    assert_eq!(next(&mut first, all), Ok(Step::Sync));
    assert_eq!(next(&mut first, 0), Err(Ok(())));

    assert_eq!(transfer(&disk, zeroes(8, true, false)).step, Step::ZeroWrite);
    assert_eq!(transfer(&disk, zeroes(8, false, false)).step, Step::ZeroWrite);
}

#[test]
fn a_disk_that_cannot_unmap_may_still_zero() {
    let disk = disk(512, 512);
    next(&mut transfer(&disk, zeroes(8, true, false)), -libc::EOPNOTSUPP).unwrap();
    assert_eq!(transfer(&disk, zeroes(8, true, false)).step, Step::ZeroRange);
}

#[test]
fn an_error_that_is_no_refusal_ends_a_zeroing() {
    let disk = disk(512, 512);
    let mut zero = transfer(&disk, zeroes(8, true, false));
    assert_eq!(next(&mut zero, -libc::ENOSPC), Err(Err(Errno::ENOSPC)));
    assert_eq!(transfer(&disk, zeroes(8, true, false)).step, Step::Punch);
}

#[test]
fn what_is_not_aligned_is_written_from_a_copy_and_what_is_aligned_from_its_place() {
    let disk = disk(4096, 4096);
    let aligned = gather(&[4096, 8192]);
    let first = aligned[0].as_ptr() as usize;
    let op = DiskOp::Write { sector: Sector(0), data: aligned, fua: false };
    let write_in_place = transfer(&disk, op);
    assert_eq!(lens(&write_in_place.vectors), [4096, 8192]);
    assert_eq!(write_in_place.vectors[0].iov_base as usize, first);
    let bounced = transfer(&disk, write(&[512, 7680], false));
    assert_eq!(lens(&bounced.vectors), [8192]);
}

#[test]
fn a_write_goes_on_in_the_middle_of_its_gather_list() {
    let data = gather(&[512, 1024, 512]);
    let mut vectors = Vec::new();
    fill_vectors(&mut vectors, &data, 0, MOVE_BYTES_MAX);
    assert_eq!(lens(&vectors), [512, 1024, 512]);
    fill_vectors(&mut vectors, &data, 1024, MOVE_BYTES_MAX);
    assert_eq!(lens(&vectors), [512, 512]);
    assert_eq!(vectors[0].iov_base as usize, data[1].as_ptr() as usize + 512);
    fill_vectors(&mut vectors, &data, 2048, MOVE_BYTES_MAX);
    assert!(vectors.is_empty());
}

#[test]
fn one_call_takes_no_more_vectors_than_the_kernel_does() {
    let data = gather(&vec![512; sys::IOV_MAX + 3]);
    let mut vectors = Vec::new();
    fill_vectors(&mut vectors, &data, 0, MOVE_BYTES_MAX);
    assert_eq!(vectors.len(), sys::IOV_MAX);
    fill_vectors(&mut vectors, &data, sys::IOV_MAX * 512, MOVE_BYTES_MAX);
    assert_eq!(vectors.len(), 3);
}

#[test]
fn one_call_moves_no_more_than_its_limit() {
    let data = gather(&[MOVE_BYTES_MAX - 512, 4096]);
    let mut vectors = Vec::new();
    fill_vectors(&mut vectors, &data, 0, MOVE_BYTES_MAX);
    assert_eq!(lens(&vectors), [MOVE_BYTES_MAX - 512, 512]);
}

#[test]
fn what_would_block_is_written_by_the_helper_and_the_rest_is_tried_here_again() {
    let disk = disk_on_lane();
    let mut write = transfer(&disk, write(&[LANE_BYTES_MAX, 4096], true));
    assert_eq!((write.way, write.asked), (Way::NotWaiting, LANE_BYTES_MAX as u64));
    assert!(matches!(write.completed(-libc::EAGAIN), Progress::More));
    let Next::Work(Work::Write { offset: 0, len, dsync: true, vectors, count: 1 }) = write.next()
    else {
        panic!("it is written here")
    };
    assert_eq!((len, vectors), (LANE_BYTES_MAX as u64, write.vectors.as_ptr() as u64));
    assert_eq!(next(&mut write, LANE_BYTES_MAX as i32), Ok(Step::WriteFua));
    assert_eq!((write.way, write.asked), (Way::NotWaiting, 4096));
    assert_eq!(next(&mut write, 4096), Err(Ok(())));
    assert!(!disk.refusals().nowait.is_set(), "a full queue is no property of a disk");
}

#[test]
fn a_disk_that_cannot_say_whether_it_would_block_is_left_to_the_helper_for_good() {
    let disk = disk_on_lane();
    let read = || DiskOp::Read { sector: Sector(8), buf: BufMut::zeroed(1024) };
    let mut first = transfer(&disk, read());
    assert_eq!(first.way, Way::NotWaiting);
    assert!(matches!(first.completed(-libc::EOPNOTSUPP), Progress::More));
    let asked = Work::Read { offset: 4096, len: 1024 };
    assert!(matches!(first.next(), Next::Work(work) if work == asked));
    let mut second = transfer(&disk, read());
    assert_eq!(second.way, Way::Elsewhere);
    assert_eq!(next(&mut second, -libc::EIO), Err(Err(Errno::EIO)));
}

#[test]
fn what_the_helper_may_not_read_is_written_here_after_all() {
    let disk = disk_on_lane();
    let mut first = transfer(&disk, write(&[512], false));
    assert!(matches!(first.completed(-libc::EAGAIN), Progress::More));
    assert!(matches!(first.next(), Next::Work(Work::Write { .. })));
    assert_eq!(next(&mut first, -helper::OUT_OF_REACH), Ok(Step::Write));
    assert_eq!(first.way, Way::Waiting);
    assert_eq!(next(&mut first, 512), Err(Ok(())));
    assert_eq!(transfer(&disk, write(&[512], false)).way, Way::Waiting);
}

#[test]
fn on_a_disk_that_may_hang_a_refused_fua_is_found_out_by_the_helper() {
    let mut write = transfer(&disk_on_lane(), write(&[512], true));
    assert_eq!(next(&mut write, -libc::EOPNOTSUPP), Ok(Step::WriteFua));
    assert_eq!(write.way, Way::Elsewhere);
    assert_eq!(next(&mut write, -libc::EOPNOTSUPP), Ok(Step::Write));
    assert_eq!(next(&mut write, 512), Ok(Step::Sync));
    assert_eq!(next(&mut write, 0), Err(Ok(())));
}
