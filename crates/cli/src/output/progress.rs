//! Progress of long work on standard error: a bar on a terminal, now and then a line elsewhere.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// What is being done, and how far it is.
#[derive(Debug)]
pub(crate) struct Progress {
    name: String,
    terminal: bool,
    began: Instant,
    shown: Option<Instant>,
}

impl Progress {
    /// Progress of the work on `name`.
    pub(crate) fn new(name: &str) -> Self {
        let terminal = io::stderr().is_terminal();
        Self { name: name.to_owned(), terminal, began: Instant::now(), shown: None }
    }

    /// Shows how far a step is, unless it was shown a moment ago.
    pub(crate) fn show(&mut self, step: &str, done: u64, total: u64) {
        self.show_with(step, done, total, "");
    }

    /// The same, with more behind it: how fast it goes.
    pub(crate) fn show_with(&mut self, step: &str, done: u64, total: u64, more: &str) {
        let (quiet, pause) = if self.terminal { TERMINAL } else { FILE };
        let soon = self.shown.is_some_and(|shown| shown.elapsed() < pause);
        if soon || self.began.elapsed() < quiet {
            return;
        }
        self.shown = Some(Instant::now());
        let line = if self.terminal {
            // Cut off at the edge: what went on in a second line could not be taken away.
            format!("\r\x1b[K\x1b[?7l{}{more}\x1b[?7h", bar(&self.name, step, done, total))
        } else {
            format!("replicator: {}{more}\n", plain(&self.name, step, done, total))
        };
        // Who cannot be told how far it is can still be told how it ended.
        let _ = io::stderr().write_all(line.as_bytes());
    }

    /// Takes the bar away, so that what follows begins on a clean line.
    pub(crate) fn clear(&mut self) {
        if self.terminal && self.shown.take().is_some() {
            let _ = io::stderr().write_all(b"\r\x1b[K");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

fn bar(name: &str, step: &str, done: u64, total: u64) -> String {
    match percent(done, total) {
        Some(percent) => {
            let full = percent * BAR / 100;
            let (full, empty) = ("#".repeat(full), ".".repeat(BAR - full));
            format!("{name}: {step} [{full}{empty}] {percent:3} %")
        }
        None => format!("{name}: {step}"),
    }
}

fn plain(name: &str, step: &str, done: u64, total: u64) -> String {
    match percent(done, total) {
        Some(percent) => format!("{name}: {step}: {percent} %"),
        None => format!("{name}: {step}"),
    }
}

/// `None` when the whole is unknown.
fn percent(done: u64, total: u64) -> Option<usize> {
    let whole = u128::from(total);
    let percent = (u128::from(done.min(total)) * 100).checked_div(whole)?;
    usize::try_from(percent).ok()
}

const BAR: usize = 30;

/// How long to be quiet at first, and between two showings: nobody needs to see what is
/// over in a moment, and a log file fills with what a terminal overwrites.
const TERMINAL: (Duration, Duration) = (Duration::from_millis(300), Duration::from_millis(100));
const FILE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(5));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_shows_the_share_that_is_done() {
        let text = bar("repl", "creating the log", 1 << 40, 1 << 41);
        assert_eq!(text.matches('#').count(), BAR / 2);
        assert!(text.ends_with("]  50 %"), "{text}");
    }

    #[test]
    fn work_of_unknown_size_has_a_name_and_no_share() {
        assert_eq!(plain("repl", "reading the log", 5, 0), "repl: reading the log");
    }

    #[test]
    fn more_than_all_is_all() {
        assert_eq!(percent(7, 5), Some(100));
        assert_eq!(percent(u64::MAX, u64::MAX), Some(100));
    }
}
