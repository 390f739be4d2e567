//! Opening a disk: exclusively, past the page cache, or with one clear sentence.
//!
//! A daemon that was killed may have writes in flight that land seconds later. A
//! block device opened with `O_EXCL`, and a locked file, stay busy until the last
//! of them has ended: so an exclusive open that succeeds is the fence between the
//! dead daemon's writes and ours (I14).

use std::fs::{self, File, FileType, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use blk::Sectors;

use crate::alias;
use crate::disk::Disk;
use crate::error::OpenError;
use crate::facts::Facts;
use crate::holder;
use crate::sys;

/// What is asked of a disk that is to be opened.
#[derive(Clone, Copy, Debug)]
pub struct OpenSpec {
    /// Who else may have it open.
    pub access: Access,
    /// How long to wait while it is in use; zero: not at all.
    pub busy_limit: Duration,
    /// Least size; `Sectors(0)`: any.
    pub size_min: Sectors,
}

/// How a disk is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// For reading and writing, and for nobody else at the same time (I14).
    Exclusive,
    /// For reading only, whoever else uses it: what is read may be changing.
    Look,
}

impl Default for OpenSpec {
    fn default() -> Self {
        Self { access: Access::Exclusive, busy_limit: Duration::ZERO, size_min: Sectors(0) }
    }
}

pub(crate) fn open(path: &Path, spec: &OpenSpec) -> Result<Disk, OpenError> {
    let at = Place { path };
    let kind = Kind::of(path, &at)?;
    let (file, direct) = claim(path, kind, spec, &at)?;
    let facts = match kind {
        Kind::BlockDevice => Facts::of_block_device(&file),
        Kind::RegularFile => Facts::of_regular_file(&file, direct),
    }
    .map_err(|source| at.io("its properties could not be read", source))?;
    check(&facts, spec, path)?;
    Ok(Disk::new(file, path.to_owned(), facts, None))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    BlockDevice,
    RegularFile,
}

impl Kind {
    fn of(path: &Path, at: &Place<'_>) -> Result<Self, OpenError> {
        let found = fs::metadata(path).map_err(|source| at.opening(source))?.file_type();
        match found {
            kind if kind.is_block_device() => Ok(Self::BlockDevice),
            kind if kind.is_file() => Ok(Self::RegularFile),
            kind => Err(OpenError::Kind { path: path.to_owned(), found: describe(kind) }),
        }
    }
}

/// Opens it as ours; tells whether I/O goes past the page cache.
fn claim(
    path: &Path,
    kind: Kind,
    spec: &OpenSpec,
    at: &Place<'_>,
) -> Result<(File, bool), OpenError> {
    let began = Instant::now();
    loop {
        let user = match try_claim(path, kind, spec.access) {
            Ok(claimed) => {
                match alias::user_of(path).filter(|_| spec.access == Access::Exclusive) {
                    None => return Ok(claimed),
                    user => user,
                }
            }
            Err(error) if !is_busy(&error) => return Err(at.opening(error)),
            Err(_) => None,
        };
        if began.elapsed() >= spec.busy_limit {
            return Err(OpenError::Busy {
                path: path.to_owned(),
                holder: user.or_else(|| holder::find(path)),
                waited_ms: began.elapsed().as_millis(),
            });
        }
        std::thread::sleep(BUSY_POLL);
    }
}

fn try_claim(path: &Path, kind: Kind, access: Access) -> io::Result<(File, bool)> {
    let (file, direct) = open_direct(path, kind, access)?;
    if kind == Kind::RegularFile && access == Access::Exclusive {
        sys::try_lock(&file)?;
    }
    Ok((file, direct))
}

/// Past the page cache if the file system can; every block device can.
fn open_direct(path: &Path, kind: Kind, access: Access) -> io::Result<(File, bool)> {
    let exclusive = match (kind, access) {
        (Kind::BlockDevice, Access::Exclusive) => libc::O_EXCL,
        _ => 0,
    };
    let mut options = OpenOptions::new();
    options.read(true).write(access == Access::Exclusive);
    let buffered = |options: &mut OpenOptions| options.custom_flags(exclusive).open(path);
    match options.custom_flags(exclusive | libc::O_DIRECT).open(path) {
        Ok(file) if kind == Kind::BlockDevice || can_direct(&file)? => Ok((file, true)),
        Ok(_) => Ok((buffered(&mut options)?, false)),
        Err(error) if kind == Kind::RegularFile && error.raw_os_error() == Some(libc::EINVAL) => {
            Ok((buffered(&mut options)?, false))
        }
        Err(error) => Err(error),
    }
}

/// Some file systems take the flag and ignore it.
fn can_direct(file: &File) -> io::Result<bool> {
    if sys::file_system(file)?.0 == sys::TMPFS {
        return Ok(false);
    }
    Ok(sys::direct_align(file)?.is_none_or(|align| align.offset > 0))
}

fn check(facts: &Facts, spec: &OpenSpec, path: &Path) -> Result<(), OpenError> {
    if facts.memory_align > MEMORY_ALIGN_MAX {
        return Err(OpenError::Alignment {
            path: path.to_owned(),
            need: facts.memory_align,
            most: MEMORY_ALIGN_MAX,
        });
    }
    // Not even one sector is no disk, whatever was asked for.
    let need = spec.size_min.max(Sectors(1));
    if facts.size < need {
        return Err(OpenError::TooSmall { path: path.to_owned(), need, found: facts.size });
    }
    Ok(())
}

fn is_busy(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EWOULDBLOCK | libc::ETXTBSY))
}

fn describe(kind: FileType) -> &'static str {
    match kind {
        kind if kind.is_dir() => "a directory",
        kind if kind.is_char_device() => "a character device",
        kind if kind.is_fifo() => "a pipe",
        kind if kind.is_socket() => "a socket",
        _ => "something else",
    }
}

/// The path that every error of one opening names.
struct Place<'a> {
    path: &'a Path,
}

impl Place<'_> {
    fn opening(&self, source: io::Error) -> OpenError {
        let path = self.path.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound => OpenError::Absent { path },
            io::ErrorKind::PermissionDenied => OpenError::Permission { path },
            _ => self.io("could not be opened", source),
        }
    }

    fn io(&self, doing: &'static str, source: io::Error) -> OpenError {
        OpenError::Io { path: self.path.to_owned(), doing, source }
    }
}

/// How often a busy disk is asked again.
const BUSY_POLL: Duration = Duration::from_millis(20);
/// The alignment of the engine's segments, and of bounce buffers.
const MEMORY_ALIGN_MAX: u32 = blk::BLOCK_BYTES as u32;
