//! What people and scripts read: columns, dm lines, JSON, progress.

mod columns;
mod lines;
mod progress;

pub(crate) use columns::columns;
pub(crate) use lines::{dm_lines, json_line, json_text};
pub(crate) use progress::Progress;

use std::io::{self, Write};

use anyhow::{Context, Result};

/// Prints all of `text` on standard output, or fails; a reader that has had enough is fine.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("writing to standard output"),
    }
}
