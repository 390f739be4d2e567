//! Who has a disk that is busy: for the sentence that says so, and for nothing else.
//!
//! Best effort: the kernel does not tell who made an exclusive claim, so the
//! places are asked where a user would look.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::facts::sysfs_of;

/// A few words for whoever uses the disk at `path`; `None` if nobody is found.
#[must_use]
pub fn find(path: &Path) -> Option<String> {
    let metadata = fs::metadata(path).ok()?;
    let own = fs::canonicalize(path).ok()?;
    if !metadata.file_type().is_block_device() {
        return process_with(|open| open == own);
    }
    let device = metadata.rdev();
    stacked_on(&sysfs_of(device))
        .or_else(|| mounted_at(device))
        .or_else(|| swap_on(device))
        .or_else(|| process_with(|open| open == own || is_device(open, device)))
}

/// A device on top of it, or of one of its partitions.
fn stacked_on(sysfs: &Path) -> Option<String> {
    let parts = entries(sysfs).into_iter().filter(|part| part.join("partition").exists());
    std::iter::once(sysfs.to_owned())
        .chain(parts)
        .flat_map(|disk| entries(&disk.join("holders")))
        .find_map(|holder| {
            let name = holder.file_name()?.to_string_lossy().into_owned();
            Some(match fs::read_to_string(holder.join("dm/name")) {
                Ok(dm) => format!("/dev/mapper/{}", dm.trim()),
                Err(_) => format!("/dev/{name}"),
            })
        })
}

fn mounted_at(device: u64) -> Option<String> {
    let number = format!("{}:{}", libc::major(device), libc::minor(device));
    // A daemon has a mount namespace of its own; its users have that of process 1.
    let mounts = ["/proc/1/mountinfo", "/proc/self/mountinfo"].map(fs::read_to_string);
    mounts.iter().flatten().flat_map(|mounts| mounts.lines()).find_map(|line| {
        let (place, source) = line.split_once(" - ")?;
        let mut words = place.split(' ').skip(2);
        let (found, _root, at) = (words.next()?, words.next()?, words.next()?);
        // btrfs and its like give a number of their own; then its name has to do.
        let is_source = || {
            let mut words = source.split(' ').filter(|word| word.starts_with("/dev/"));
            let is_it = |path: &str| fs::metadata(path).is_ok_and(|it| it.rdev() == device);
            found.starts_with("0:") && words.next().is_some_and(is_it)
        };
        (found == number || is_source()).then(|| format!("the file system mounted on {at}"))
    })
}

fn swap_on(device: u64) -> Option<String> {
    let swaps = fs::read_to_string("/proc/swaps").ok()?;
    let is_it = |path: &str| fs::metadata(path).is_ok_and(|found| found.rdev() == device);
    let path = swaps.lines().skip(1).filter_map(|line| line.split_whitespace().next());
    path.into_iter().find(|path| is_it(path)).map(|path| format!("swap on {path}"))
}

/// Whether another node in /dev is the same block device. Only there: a look at
/// any open file of any process could hang on a dead network file system.
fn is_device(open: &Path, device: u64) -> bool {
    open.starts_with("/dev")
        && fs::metadata(open)
            .is_ok_and(|found| found.file_type().is_block_device() && found.rdev() == device)
}

/// A process that has a file open whose path `is_it` knows.
fn process_with(is_it: impl Fn(&Path) -> bool) -> Option<String> {
    let own = std::process::id().to_string();
    entries(Path::new("/proc")).into_iter().find_map(|process| {
        let pid = process.file_name()?.to_str()?.to_owned();
        pid.parse::<u32>().ok()?;
        let open = entries(&process.join("fd"));
        open.iter().find(|fd| fs::read_link(fd).is_ok_and(|path| is_it(&path)))?;
        if pid == own {
            return Some("this very process".to_owned());
        }
        let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
        Some(format!("process {pid} ({})", name.trim()))
    })
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let read = fs::read_dir(directory).into_iter().flatten();
    read.filter_map(|entry| Some(entry.ok()?.path())).collect()
}
