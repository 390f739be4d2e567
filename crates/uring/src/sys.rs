//! The system calls that neither `std` nor `io-uring` wraps.
#![allow(unsafe_code, reason = "ioctl, statx and flock have no safe wrapper")]

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;

/// Most vectors of one vectored call (`UIO_MAXIOV`).
pub(crate) const IOV_MAX: usize = 1024;
/// `pwritev2`: the data is on stable media when the call ends.
pub(crate) const RWF_DSYNC: i32 = libc::RWF_DSYNC;

/// How direct I/O on a file has to be aligned, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DirectAlign {
    pub(crate) memory: u32,
    pub(crate) offset: u32,
}

/// `LOOP_GET_STATUS64`, as far as it is of use: which file is behind a loop device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LoopStatus {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) offset: u64,
    pub(crate) size_limit: u64,
}

/// Size of a block device in bytes.
pub(crate) fn block_device_bytes(file: &File) -> io::Result<u64> {
    let mut bytes = 0_u64;
    // SAFETY: BLKGETSIZE64 stores one u64 through the pointer.
    check(unsafe { libc::ioctl(file.as_raw_fd(), BLKGETSIZE64, &raw mut bytes) })?;
    Ok(bytes)
}

/// Logical block size of a block device in bytes.
pub(crate) fn logical_block_bytes(file: &File) -> io::Result<u32> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: BLKSSZGET stores one int through the pointer.
    check(unsafe { libc::ioctl(file.as_raw_fd(), BLKSSZGET, &raw mut bytes) })?;
    u32::try_from(bytes).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Takes the exclusive lock of a file, without waiting.
pub(crate) fn try_lock(file: &File) -> io::Result<()> {
    // SAFETY: flock takes no pointer.
    check(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) })
}

/// What the file system says about direct I/O; `None` if it does not say.
pub(crate) fn direct_align(file: &File) -> io::Result<Option<DirectAlign>> {
    let mut stat = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: an empty path with AT_EMPTY_PATH means the descriptor itself; statx
    // fills the structure, of which zeroes are a valid value.
    let stat = unsafe {
        let (fd, path) = (file.as_raw_fd(), c"".as_ptr());
        check(libc::statx(fd, path, libc::AT_EMPTY_PATH, libc::STATX_DIOALIGN, stat.as_mut_ptr()))?;
        stat.assume_init()
    };
    let align = DirectAlign { memory: stat.stx_dio_mem_align, offset: stat.stx_dio_offset_align };
    Ok((stat.stx_mask & libc::STATX_DIOALIGN != 0).then_some(align))
}

/// Type and id of the file system a file lives on.
pub(crate) fn file_system(file: &File) -> io::Result<(i64, u64)> {
    let mut stat = MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: fstatfs fills the structure, of which zeroes are a valid value.
    let stat = unsafe {
        check(libc::fstatfs(file.as_raw_fd(), stat.as_mut_ptr()))?;
        stat.assume_init()
    };
    // SAFETY: `fsid_t` is two 32-bit numbers, which its binding keeps private.
    let id = unsafe { std::mem::transmute::<libc::fsid_t, [u32; 2]>(stat.f_fsid) };
    Ok((stat.f_type, u64::from(id[0]) | (u64::from(id[1]) << 32)))
}

/// UUID of the file system a file lives on, if the kernel (Linux 6.9) tells it.
pub(crate) fn file_system_uuid(file: &File) -> Option<[u8; 16]> {
    let mut uuid = [0_u8; 17];
    // SAFETY: FS_IOC_GETFSUUID stores a length byte and 16 bytes through the pointer.
    check(unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_GETFSUUID, uuid.as_mut_ptr()) }).ok()?;
    let found = <[u8; 16]>::try_from(&uuid[1..]).expect("17 bytes less one");
    (uuid[0] == 16 && found != [0; 16]).then_some(found)
}

/// Generation of an inode: it tells a file from a later one with the same number.
pub(crate) fn inode_generation(file: &File) -> Option<u32> {
    // The kernel stores an int although the number of the ioctl says long.
    let mut generation: libc::c_long = 0;
    // SAFETY: FS_IOC_GETVERSION stores at most one long through the pointer.
    check(unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_GETVERSION, &raw mut generation) }).ok()?;
    Some(generation as u32)
}

/// The file behind a loop device; `None` if it is not one, or has none.
pub(crate) fn loop_status(file: &File) -> Option<LoopStatus> {
    let mut info = [0_u64; LOOP_INFO64_WORDS];
    // SAFETY: LOOP_GET_STATUS64 stores one `struct loop_info64` of 232 bytes,
    // whose alignment is that of u64.
    check(unsafe { libc::ioctl(file.as_raw_fd(), LOOP_GET_STATUS64, info.as_mut_ptr()) }).ok()?;
    let [device, inode, _rdevice, offset, size_limit, ..] = info;
    Some(LoopStatus { device, inode, offset, size_limit })
}

/// Fills `to` with what `count` vectors at the address `vectors` in another process's memory
/// point to there.
pub(crate) fn read_vectors_of_process(
    process: libc::pid_t,
    vectors: u64,
    count: usize,
    to: &mut [u8],
) -> io::Result<()> {
    if count > IOV_MAX {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut there = vec![libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; count];
    let bytes = size_of_val(there.as_slice());
    // SAFETY: an iovec is a plain address and a length: any bytes are one.
    let as_bytes =
        unsafe { std::slice::from_raw_parts_mut(there.as_mut_ptr().cast::<u8>(), bytes) };
    let array = libc::iovec { iov_base: vectors as *mut libc::c_void, iov_len: bytes };
    read_process(process, &[array], as_bytes)?;
    read_process(process, &there, to)
}

fn read_process(process: libc::pid_t, there: &[libc::iovec], to: &mut [u8]) -> io::Result<()> {
    let here = libc::iovec { iov_base: to.as_mut_ptr().cast(), iov_len: to.len() };
    let count = there.len() as libc::c_ulong;
    // SAFETY: writes into `to` only, and reads the addresses in the other process, where a bad
    // one is an error.
    let moved =
        unsafe { libc::process_vm_readv(process, &raw const here, 1, there.as_ptr(), count, 0) };
    match usize::try_from(moved) {
        Err(_) => Err(io::Error::last_os_error()),
        Ok(moved) if moved == to.len() => Ok(()),
        Ok(_) => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Keeps a program that this process starts from getting any descriptor but those that it is
/// started with: also what this process got itself from whoever started it.
pub(crate) fn keep_descriptors() -> io::Result<()> {
    let flags = libc::CLOSE_RANGE_CLOEXEC;
    // SAFETY: takes no pointer, and closes nothing here.
    let result = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, flags) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// `TMPFS_MAGIC`: page cache only, whatever the flags say.
pub(crate) const TMPFS: i64 = 0x0102_1994;

const BLKGETSIZE64: libc::Ioctl = 0x8008_1272;
const BLKSSZGET: libc::Ioctl = 0x1268;
const FS_IOC_GETVERSION: libc::Ioctl = 0x8008_7601;
const FS_IOC_GETFSUUID: libc::Ioctl = 0x8011_1500;
const LOOP_GET_STATUS64: libc::Ioctl = 0x4c05;
/// `sizeof(struct loop_info64)` is 232 bytes.
const LOOP_INFO64_WORDS: usize = 29;
