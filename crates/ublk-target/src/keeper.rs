//! Keeping what a machine wants its next life to know. Stable media take their time, and may
//! hang: it is done on a thread of its own, one record at a time.

use std::fmt;
use std::sync::Arc;

use blk::{Errno, Machine};

use crate::inbox::Handle;

/// How a record is kept. It is called on a thread that may wait; when it returns well, a loss of
/// power finds the record, and before that one or the other.
#[derive(Clone)]
pub struct Keeper(Arc<Keep>);

type Keep = dyn Fn(&[u8]) -> Result<(), Errno> + Send + Sync;

impl Keeper {
    /// Keeps records by `keep`.
    pub fn new(keep: impl Fn(&[u8]) -> Result<(), Errno> + Send + Sync + 'static) -> Self {
        Self(Arc::new(keep))
    }

    /// Begins to keep a record; the engine gets a message when it is kept, or could not be.
    ///
    /// # Errors
    /// If it could not even begin: then no message comes.
    pub(crate) fn begin<M: Machine + 'static>(
        &self,
        bytes: Vec<u8>,
        engine: Handle<M>,
    ) -> Result<(), Errno> {
        let keep = Arc::clone(&self.0);
        std::thread::Builder::new()
            .name("keep".to_owned())
            .spawn(move || engine.kept(keep(&bytes)))
            .map_err(|error| Errno(error.raw_os_error().unwrap_or(libc::EAGAIN)))?;
        Ok(())
    }
}

impl Default for Keeper {
    /// For machines that never ask: keeps nothing.
    fn default() -> Self {
        Self::new(|_| Err(Errno(libc::ENOTSUP)))
    }
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keeper")
    }
}
