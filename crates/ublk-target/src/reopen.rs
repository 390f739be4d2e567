//! Opening disks again while an engine runs. Opening may block, and may hang for ever: each
//! one has a thread of its own, of which there is at most one for each disk.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use blk::{DiskId, Errno, Machine, NotOpened};
use uring::Disk;

use crate::inbox::Handle;

/// How a disk is opened again, given its number. It is called on a thread that may wait.
#[derive(Clone)]
pub struct Opener {
    open: Arc<Open>,
    closed: Arc<Closed>,
}

type Open = dyn Fn(DiskId) -> Result<Disk, NotOpened> + Send + Sync;
type Closed = dyn Fn(DiskId) + Send + Sync;

/// The openings under way on one engine.
pub(crate) struct Openings<M> {
    opener: Opener,
    engine: Handle<M>,
    under_way: BTreeSet<DiskId>,
}

impl Opener {
    /// Opens disks by `open`.
    pub fn new(open: impl Fn(DiskId) -> Result<Disk, NotOpened> + Send + Sync + 'static) -> Self {
        Self { open: Arc::new(open), closed: Arc::new(|_| ()) }
    }

    /// Tells `closed` of each disk that is let go of for good. It is called on the engine's
    /// thread, and may not wait.
    #[must_use]
    pub fn telling(self, closed: impl Fn(DiskId) + Send + Sync + 'static) -> Self {
        Self { closed: Arc::new(closed), ..self }
    }
}

impl Default for Opener {
    /// For machines that never ask: opens nothing.
    fn default() -> Self {
        Self::new(|disk| {
            let why = format!("disk number {} can't be opened again here", disk.0);
            Err(NotOpened { errno: Errno::ENXIO, why })
        })
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opener")
    }
}

impl<M: Machine + 'static> Openings<M> {
    pub(crate) fn new(opener: Opener, engine: Handle<M>) -> Self {
        Self { opener, engine, under_way: BTreeSet::new() }
    }

    /// Begins to open a disk; the engine gets a message when it is open, or could not be.
    ///
    /// # Errors
    /// If it could not even begin: then no message comes.
    pub(crate) fn begin(&mut self, disk: DiskId) -> Result<(), NotOpened> {
        if self.under_way.contains(&disk) {
            return Err(refusal(libc::EALREADY, "it is being opened already".to_owned()));
        }
        let (opener, engine) = (self.opener.clone(), self.engine.clone());
        std::thread::Builder::new()
            .name(format!("open-{}", disk.0))
            .spawn(move || engine.opened(disk, (opener.open)(disk)))
            .map_err(|error| {
                let errno = error.raw_os_error().unwrap_or(libc::EAGAIN);
                refusal(errno, format!("no thread to open it could be started: {error}"))
            })?;
        self.under_way.insert(disk);
        Ok(())
    }

    /// A disk was let go of for good.
    pub(crate) fn closed(&self, disk: DiskId) {
        (self.opener.closed)(disk);
    }

    /// The message has come.
    pub(crate) fn ended(&mut self, disk: DiskId) {
        self.under_way.remove(&disk);
    }
}

fn refusal(errno: i32, why: String) -> NotOpened {
    NotOpened { errno: Errno(errno), why }
}
