//! Lines of bounded length over a stream: what may be read before somebody says stop.

use std::io::{ErrorKind, Read, Write};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;

/// Reads lines of bounded length from a stream.
pub(crate) struct Lines<R> {
    stream: R,
    buffer: Vec<u8>,
    /// Bytes of the buffer that are known to hold no end of a line.
    scanned: usize,
    line_bytes_max: usize,
}

impl<R: Read> Lines<R> {
    pub(crate) fn new(stream: R) -> Self {
        Self::with_line_bytes_max(stream, LINE_BYTES_MAX)
    }

    pub(crate) fn with_line_bytes_max(stream: R, line_bytes_max: usize) -> Self {
        Self { stream, buffer: Vec::new(), scanned: 0, line_bytes_max }
    }

    /// The next line without its end; `None` when the other side has finished properly.
    /// The stream's read time-out bounds one read, `deadline` the whole line.
    pub(crate) fn next(&mut self, deadline: Instant) -> Result<Option<Vec<u8>>> {
        loop {
            if let Some(line) = self.take_line() {
                return Ok(Some(line));
            }
            ensure!(
                self.buffer.len() <= self.line_bytes_max,
                "expected a line of at most {} bytes, found a longer one",
                self.line_bytes_max
            );
            if self.fill(deadline)? == 0 {
                ensure!(self.buffer.is_empty(), "expected a whole line, found an end within one");
                return Ok(None);
            }
        }
    }

    fn take_line(&mut self) -> Option<Vec<u8>> {
        let found = self.buffer[self.scanned..].iter().position(|byte| *byte == b'\n');
        let Some(end) = found.map(|offset| self.scanned + offset) else {
            self.scanned = self.buffer.len();
            return None;
        };
        self.scanned = 0;
        let mut line: Vec<u8> = self.buffer.drain(..=end).collect();
        line.pop();
        Some(line)
    }

    fn fill(&mut self, deadline: Instant) -> Result<usize> {
        let mut chunk = [0; 4096];
        loop {
            ensure!(Instant::now() < deadline, NO_LINE_IN_TIME);
            match self.stream.read(&mut chunk) {
                Ok(n) => {
                    self.buffer.extend_from_slice(&chunk[..n]);
                    return Ok(n);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    bail!(NO_LINE_IN_TIME)
                }
                Err(error) => return Err(error).context("reading a line"),
            }
        }
    }
}

/// Writes one value as one line.
pub(crate) fn write_line(stream: &mut impl Write, value: &impl Serialize) -> Result<()> {
    let mut line = serde_json::to_vec(value).context("printing a line of JSON")?;
    line.push(b'\n');
    stream.write_all(&line).context("writing a line")
}

/// A longer request is refused. The client takes longer answers.
pub(crate) const LINE_BYTES_MAX: usize = 256 << 10;

const NO_LINE_IN_TIME: &str = "expected a line in time, found none";
