//! What people and scripts read: columns, dm lines, JSON, progress.

mod columns;
mod lines;
mod progress;
mod time;

pub(crate) use columns::columns;
pub(crate) use lines::{dm_lines, json_line, json_text};
pub(crate) use progress::Progress;
pub(crate) use time::rfc3339;

use std::io::{self, Write};

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Prints all of `text` on standard output, or fails; a reader that has had enough is fine.
pub(crate) fn print(text: &str) -> Result<()> {
    tell(text).map(drop)
}

/// The same for what has no end: says whether anybody reads on.
pub(crate) fn tell(text: &str) -> Result<Reader> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) if has_hung_up() => Ok(Reader::HasHadEnough),
        Ok(()) => Ok(Reader::Reads),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Reader::HasHadEnough),
        Err(error) => Err(error).context("writing to standard output"),
    }
}

/// Whether nobody reads standard output any more: who has nothing to write would not notice.
fn has_hung_up() -> bool {
    let out = io::stdout();
    let mut fds = [PollFd::new(&out, PollFlags::empty())];
    let polled = poll(&mut fds, Some(&Timespec::default()));
    polled.is_ok() && fds[0].revents().intersects(PollFlags::ERR | PollFlags::HUP)
}

/// Who reads standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    Reads,
    HasHadEnough,
}
