//! One backing device or file: opened exclusively, measured, and named.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use blk::{BufMut, Sector, Sectors};

use crate::error::OpenError;
use crate::facts::Facts;
use crate::helper::Lane;
use crate::open::{self, OpenSpec};

/// An open disk. While it lives, nobody else can open the same one exclusively (I14).
#[derive(Debug)]
pub struct Disk {
    /// There until the disk is dropped.
    file: Option<File>,
    path: PathBuf,
    facts: Facts,
    /// Whose helper does what hangs if the disk does; `None`: it is not expected to.
    lane: Option<Lane>,
    refusals: Refusals,
}

impl Disk {
    /// Opens a block device or a regular file as `spec` says, waiting at most
    /// [`OpenSpec::busy_limit`] for a predecessor's writes to drain.
    ///
    /// # Errors
    /// One variant for each thing that can be wrong; every one names the path.
    pub fn open(path: &Path, spec: &OpenSpec) -> Result<Self, OpenError> {
        open::open(path, spec)
    }

    pub(crate) fn new(file: File, path: PathBuf, facts: Facts, lane: Option<Lane>) -> Self {
        Self { file: Some(file), path, facts, lane, refusals: Refusals::default() }
    }

    /// The path it was opened by.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is known about it since it was opened.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Its size when it was opened.
    #[must_use]
    pub fn size(&self) -> Sectors {
        self.facts.size
    }

    /// Reads `len` sectors from `sector` on, while the caller waits. For tools
    /// that look at a log; an engine reads through its [`crate::Ring`].
    ///
    /// # Errors
    /// Those of `pread`; `UnexpectedEof` behind the end. `len` must not be 0, and
    /// both must fall on logical blocks if the disk is opened for direct I/O.
    pub fn pread(&self, sector: Sector, len: Sectors) -> io::Result<BufMut> {
        let mut buf = BufMut::zeroed(len.len());
        self.file().read_exact_at(&mut buf, sector.bytes())?;
        Ok(buf)
    }

    /// Writes `bytes` from `sector` on, while the caller waits; stable only after
    /// [`Disk::sync`].
    ///
    /// # Errors
    /// Those of `pwrite`. Whole logical blocks are needed for direct I/O.
    pub fn pwrite(&self, sector: Sector, bytes: &[u8]) -> io::Result<()> {
        if !self.wants_bounce(bytes.as_ptr() as usize, bytes.len()) {
            return self.file().write_all_at(bytes, sector.bytes());
        }
        let mut bounce = BufMut::zeroed(bytes.len());
        bounce.copy_from_slice(bytes);
        self.file().write_all_at(&bounce, sector.bytes())
    }

    /// Everything written so far is on stable media when this returns.
    ///
    /// # Errors
    /// Those of `fdatasync`. After one, nothing written since the last success may
    /// be counted on, also if a later call succeeds (I11).
    pub fn sync(&self) -> io::Result<()> {
        self.file().sync_data()
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.file().as_raw_fd()
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.file().as_fd()
    }

    pub(crate) fn lane(&self) -> Option<&Lane> {
        self.lane.as_ref()
    }

    fn file(&self) -> &File {
        self.file.as_ref().expect("only dropping it takes the file")
    }

    pub(crate) fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// Whether memory at `address` has to be copied before this disk takes it.
    pub(crate) fn wants_bounce(&self, address: usize, len: usize) -> bool {
        self.facts.direct
            && !(address.is_multiple_of(self.facts.memory_align as usize)
                && len.is_multiple_of(self.facts.logical_block as usize))
    }
}

impl Drop for Disk {
    /// The last close of a disk that hangs may hang, and nobody here must wait for that.
    fn drop(&mut self) {
        let file = self.file.take();
        if self.lane.is_some() {
            // Without a thread it is closed here.
            let _ = std::thread::Builder::new().name("close".into()).spawn(move || drop(file));
        }
    }
}

/// What this disk has said it cannot do; asked once, never again.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    /// A write that is stable at its end (`RWF_DSYNC`).
    pub(crate) fua: Refusal,
    /// Zeroing that gives the space back.
    pub(crate) punch: Refusal,
    /// Zeroing that keeps the space.
    pub(crate) zero_range: Refusal,
    /// Reads and writes that end at once if they would have to wait (`RWF_NOWAIT`).
    pub(crate) nowait: Refusal,
    /// Writes by its helper, which is not let to read this process's memory.
    pub(crate) elsewhere: Refusal,
}

/// A flag that is set once.
#[derive(Debug, Default)]
pub(crate) struct Refusal(AtomicBool);

impl Refusal {
    // Relaxed: nothing else is published by it, and asking once too often is harmless.
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
