//! What a process that serves a block device has to do to itself.
//!
//! The kernel may need the device to free memory. A server that then waits for
//! memory, or for its own device, waits for ever.
#![allow(unsafe_code, reason = "prctl, mlockall, unshare and mount have no wrapper in std")]

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::FromRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Locks all memory, also what is allocated later: nothing is paged out that is
/// needed to page in.
///
/// # Errors
/// If the limit on locked memory (`ulimit -l`) is too low for this process.
pub fn lock_memory() -> io::Result<()> {
    // SAFETY: takes no pointer.
    check(unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE) })
}

/// Memory that the calling thread asks for is not freed by writing to block
/// devices, one of which may be its own. Threads that it starts inherit that.
///
/// # Errors
/// Without `CAP_SYS_RESOURCE`, or before Linux 5.6.
pub fn become_io_flusher() -> io::Result<()> {
    // SAFETY: takes no pointer.
    check(unsafe { libc::prctl(PR_SET_IO_FLUSHER, 1_u64, 0_u64, 0_u64, 0_u64) })
}

/// Asks to be the last one that is killed when memory runs out.
///
/// # Errors
/// Without `CAP_SYS_RESOURCE`.
pub fn avoid_oom_killer() -> io::Result<()> {
    fs::write("/proc/self/oom_score_adj", "-1000")
}

/// Leaves the mount namespace of the users of our devices.
///
/// A process that ends gives up its mounts; if it gave up the last one of a file
/// system on its own device, it would have to serve itself while it ends. So the
/// process gets mounts of its own, that no later one joins, and drops those that
/// rest on ublk devices: kept here, they would also keep a file system alive that
/// its users have unmounted. To be called before any other thread is started.
///
/// # Errors
/// Without `CAP_SYS_ADMIN`.
pub fn enter_own_mount_namespace() -> io::Result<()> {
    // SAFETY: takes no pointer.
    check(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
    let (none, root) = (std::ptr::null(), c"/".as_ptr());
    let flags = libc::MS_REC | libc::MS_PRIVATE;
    // SAFETY: the root is a C string; a change of propagation reads nothing else.
    check(unsafe { libc::mount(none, root, none, flags, std::ptr::null()) })?;
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    // From the last to the first: what was mounted later may lie inside.
    for at in mounts.lines().rev().filter_map(mount_on_ublk) {
        let path = CString::new(at).expect("a mount point has no zero byte");
        // SAFETY: the path is a C string.
        check(unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) })?;
    }
    Ok(())
}

/// Keeps what this process was given open from those that it starts. Who waits for the end of a
/// pipe, one end of which was left here, would else wait for all of them.
///
/// # Errors
/// Before Linux 5.11.
pub fn keep_descriptors_to_itself() -> io::Result<()> {
    // SAFETY: takes no pointer, and closes nothing.
    let done = unsafe {
        libc::close_range(3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC as libc::c_int)
    };
    check(done)
}

/// A descriptor that who started this process left open in it, by its number. To be called once for
/// each, before anything else is opened.
///
/// # Errors
/// If no such descriptor is open, or it is one of the standard streams.
pub fn given_descriptor(number: i32) -> io::Result<File> {
    if number <= libc::STDERR_FILENO {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: takes no pointer; tells whether it is open.
    check(unsafe { libc::fcntl(number, libc::F_GETFD) })?;
    // SAFETY: it is open, and by the caller's word nobody else in this process owns it.
    Ok(unsafe { File::from_raw_fd(number) })
}

/// The mount point of a line of mountinfo, if its file system rests on a ublk device.
fn mount_on_ublk(line: &str) -> Option<Vec<u8>> {
    let mount = Mount::parse(line)?;
    let by_source = fs::metadata(mount.source)
        .ok()
        .filter(|found| mount.source.starts_with("/dev/") && found.file_type().is_block_device())
        .map(|found| device_name(found.rdev()));
    let rests = [Some(mount.device.to_owned()), by_source].into_iter().flatten().any(|number| {
        rests_on_ublk(&PathBuf::from("/sys/dev/block").join(number), STACK_DEPTH_MAX)
    });
    rests.then(|| unescape(mount.at))
}

#[derive(Debug, PartialEq, Eq)]
struct Mount<'a> {
    /// `MAJOR:MINOR`; anonymous for some file systems, hence also the source.
    device: &'a str,
    at: &'a str,
    source: &'a str,
}

impl<'a> Mount<'a> {
    /// `36 35 98:0 /root /at options [optional…] - type source options`
    fn parse(line: &'a str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(2);
        let (device, _root, at) = (before.next()?, before.next()?, before.next()?);
        Some(Self { device, at, source: after.split(' ').nth(1)? })
    }
}

/// Whether a device is a ublk device, a partition of one, or stacked on one.
fn rests_on_ublk(sysfs: &Path, depth: u32) -> bool {
    let Ok(own) = fs::canonicalize(sysfs) else { return false };
    let is_ublk = |path: &Path| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ublkb"))
    };
    if is_ublk(&own) {
        return true;
    }
    let slaves = fs::read_dir(own.join("slaves")).into_iter().flatten().flatten();
    depth > 0 && slaves.into_iter().any(|slave| rests_on_ublk(&slave.path(), depth - 1))
}

fn device_name(device: u64) -> String {
    format!("{}:{}", libc::major(device), libc::minor(device))
}

/// mountinfo writes blanks and backslashes as three octal digits.
fn unescape(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let octal = bytes.get(at + 1..at + 4).filter(|_| bytes[at] == b'\\');
        let code = octal
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        plain.push(code.unwrap_or(bytes[at]));
        at += if code.is_some() { 4 } else { 1 };
    }
    plain
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// `linux/prctl.h`; not in `libc` yet.
const PR_SET_IO_FLUSHER: libc::c_int = 57;
/// How many devices may be stacked before one stops counting; a cycle is impossible.
const STACK_DEPTH_MAX: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_that_is_not_open_or_a_standard_stream_is_not_taken() {
        for number in [i32::MIN, -1, 0, 1, 2, i32::MAX] {
            let refusal = given_descriptor(number).unwrap_err();
            assert_eq!(refusal.raw_os_error(), Some(libc::EBADF), "{number}");
        }
    }

    #[test]
    fn a_mount_is_read_whatever_optional_fields_it_has() {
        let plain = "36 35 259:0 / /mnt rw,noatime - ext4 /dev/ublkb0 rw";
        let shared = "36 35 259:0 / /mnt rw,noatime shared:1 master:2 - ext4 /dev/ublkb0 rw";
        let expected = Mount { device: "259:0", at: "/mnt", source: "/dev/ublkb0" };
        assert_eq!(Mount::parse(plain).as_ref(), Some(&expected));
        assert_eq!(Mount::parse(shared).as_ref(), Some(&expected));
    }

    #[test]
    fn mount_points_are_read_as_the_kernel_escapes_them() {
        assert_eq!(unescape(r"/a\040b\134c"), b"/a b\\c");
        assert_eq!(unescape(r"/odd\9"), br"/odd\9");
    }
}
