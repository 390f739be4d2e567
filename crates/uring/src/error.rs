//! What can go wrong, with the facts a person needs to put it right.

use std::io;
use std::path::PathBuf;

use blk::{Errno, NotOpened, Sectors};
use thiserror::Error;

/// Why a disk could not be opened. Every sentence names the path.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "each variant's sentence says what its fields are")]
pub enum OpenError {
    #[error("{}: no such file or device", path.display())]
    Absent { path: PathBuf },
    #[error("{}: permission denied; opening it for writing needs root", path.display())]
    Permission { path: PathBuf },
    #[error("{}: expected a block device or a regular file, found {found}", path.display())]
    Kind { path: PathBuf, found: &'static str },
    #[error("{}: expected at least {need} sectors, found {found}", path.display())]
    TooSmall { path: PathBuf, need: Sectors, found: Sectors },
    #[error(
        "{}: in use by {}; waited {waited_ms} ms for it to be released",
        path.display(),
        holder.as_deref().unwrap_or("somebody who could not be found")
    )]
    Busy { path: PathBuf, holder: Option<String>, waited_ms: u128 },
    #[error(
        "{}: needs memory aligned to {need} bytes for direct I/O, at most {most} is supported",
        path.display()
    )]
    Alignment { path: PathBuf, need: u32, most: u32 },
    #[error("{}: {doing}", path.display())]
    Io {
        path: PathBuf,
        doing: &'static str,
        #[source]
        source: io::Error,
    },
}

impl OpenError {
    /// The kernel's word for it.
    #[must_use]
    pub fn errno(&self) -> Errno {
        Errno(match self {
            Self::Absent { .. } => libc::ENOENT,
            Self::Permission { .. } => libc::EACCES,
            Self::Kind { .. } => libc::ENOTBLK,
            Self::TooSmall { .. } => libc::ENOSPC,
            Self::Busy { .. } => libc::EBUSY,
            Self::Alignment { .. } => libc::EINVAL,
            Self::Io { source, .. } => source.raw_os_error().unwrap_or(libc::EIO),
        })
    }
}

impl From<OpenError> for NotOpened {
    fn from(error: OpenError) -> Self {
        let why = match &error {
            OpenError::Io { source, .. } => format!("{error}: {source}"),
            _ => error.to_string(),
        };
        Self { errno: error.errno(), why }
    }
}

/// Why there is no ring.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "each variant's sentence says what its fields are")]
pub enum RingError {
    #[error(
        "io_uring is not available: {0}; it needs Linux 5.11 and the sysctl kernel.io_uring_disabled=0"
    )]
    Setup(#[source] io::Error),
    #[error("this kernel's io_uring lacks {feature}, which Linux {since} has")]
    Feature { feature: &'static str, since: &'static str },
    #[error("io_uring_enter failed: {0}")]
    Enter(#[source] io::Error),
}
