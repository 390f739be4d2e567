//! This program as the helper of a daemon: another process, which does what may hang in the
//! kernel at a remote site, and holds nothing else.

use std::process::ExitCode;

use ublk_target::process::{become_io_flusher, lock_memory};
use uring::helper::Program;

/// How a daemon starts its helpers.
pub(crate) fn program() -> Program {
    // The link survives an upgrade that replaces the file while we run.
    Program::new("/proc/self/exe".into(), [WORD])
}

/// Whether this process is to be one.
pub(crate) fn is_asked_for() -> bool {
    std::env::args_os().nth(1).is_some_and(|word| word == WORD)
}

/// Is one, until the daemon is gone.
pub(crate) fn serve() -> ExitCode {
    // A helper that can't is worse when memory runs short, but it is one.
    let _ = become_io_flusher().and_then(|()| lock_memory());
    let _ = std::fs::write("/proc/self/comm", "repl-helper");
    match uring::helper::serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("replicator: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Not a command: nobody types it.
const WORD: &str = "io-helper";
