//! What may hang in the kernel is done by a helper: a process that holds nothing else.
//!
//! A thread that waits in the kernel for a device that hangs cannot be killed, and its
//! process cannot end before it: with it stay the process's other files, its memory and
//! whatever waits for its end. Most reads and writes wait without a thread. Opening, flushing,
//! zeroing, and a write that finds the disk's queue full do not, so for a disk on a [`Lane`]
//! another process does them:
//!
//! ```text
//!  Ring ── Post ──(socket: call + fd)──▶ helper of the lane: a thread for each call
//!  Opening ───────(socket: path)───────▶ a helper of its own: opens, hands the fd over
//! ```
//!
//! A helper is told everything with each request and keeps nothing: of its descriptors
//! only those of calls under way are of disks. It ends with the process it serves; calls
//! that hang go on holding their disk, and so keep it busy for a successor (I14, I15).

mod opening;
mod post;
mod serve;
mod wire;

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::sys;

pub use opening::Opening;
pub(crate) use post::{Answers, Ended, Post};
pub use serve::serve;
pub(crate) use wire::{Call, OUT_OF_REACH, Work};

/// How a helper is started: a program that calls [`serve()`] at once.
#[derive(Clone, Debug)]
pub struct Program {
    executable: PathBuf,
    arguments: Vec<OsString>,
}

/// Disks that are lost together, such as those of one site: they have one helper in common,
/// and while one of them hangs the others may have to wait.
#[derive(Clone, Debug)]
pub struct Lane {
    nr: u16,
    program: Arc<Program>,
}

impl Program {
    /// A program and its arguments.
    #[must_use]
    pub fn new<A: Into<OsString>>(
        executable: PathBuf,
        arguments: impl IntoIterator<Item = A>,
    ) -> Self {
        Self { executable, arguments: arguments.into_iter().map(Into::into).collect() }
    }

    /// Starts it with `socket` as its standard input. It dies with the calling thread.
    fn start(&self, socket: OwnedFd) -> io::Result<Child> {
        sys::keep_descriptors()?;
        Command::new(&self.executable)
            .arg0("replicator")
            .args(&self.arguments)
            .stdin(Stdio::from(socket))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // What is typed at a terminal is for the process that it serves.
            .process_group(0)
            .spawn()
    }
}

impl Lane {
    /// The lane with this number, whose helpers run `program`.
    #[must_use]
    pub fn new(nr: u16, program: Arc<Program>) -> Self {
        Self { nr, program }
    }

    /// Its number.
    #[must_use]
    pub fn nr(&self) -> u16 {
        self.nr
    }

    /// A helper that opens disks of this lane for the calling thread. It is there: whatever takes
    /// long from now on is the disk's doing, not that of a host that is busy.
    ///
    /// # Errors
    /// If no process can be started.
    pub fn opening(&self) -> io::Result<Opening> {
        Opening::begin(self)
    }
}

/// Two ends of a line that keeps messages whole.
fn line() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC;
    Ok(rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}
