//! Log lines are written by a thread of their own: who logs waits for nobody.
//!
//! A line's file may be on a tmpfs, whose pages are swapped out: to a device that the engine's thread
//! serves, which then waits for itself, and with it whoever needs memory. Syslog may be stuck for
//! the same reason, or the reader of a pipe be stopped. So lines wait in a queue with a limit
//! (P13); what does not fit is lost, and how much is said.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use log::{Level, LevelFilter, Log, Metadata, Record};

/// Has `sink` write what is logged from now on.
pub(super) fn start(sink: Box<dyn Log>, level: LevelFilter) -> Result<()> {
    log::set_boxed_logger(Box::new(Queue::new(sink)?)).context("starting the logger")?;
    log::set_max_level(level);
    Ok(())
}

struct Queue {
    lines: SyncSender<Line>,
    /// Lines that found no room since the last one that did.
    lost: AtomicU64,
}

enum Line {
    Text {
        level: Level,
        target: String,
        text: String,
    },
    /// Somebody wants to know when all before this is written.
    Flush(SyncSender<()>),
}

impl Queue {
    fn new(sink: Box<dyn Log>) -> Result<Self> {
        let (lines, waiting) = sync_channel(LINES_MAX);
        let thread = thread::Builder::new().name("log".to_owned());
        thread.spawn(move || write(&*sink, &waiting)).context("starting the logger's thread")?;
        Ok(Self { lines, lost: AtomicU64::new(0) })
    }

    /// `stands_for` so many lines, that are lost if it is.
    fn tell(&self, level: Level, target: &str, text: String, stands_for: u64) {
        let line = Line::Text { level, target: target.to_owned(), text };
        if let Err(TrySendError::Full(_)) = self.lines.try_send(line) {
            self.lost.fetch_add(stands_for, Ordering::Relaxed);
        }
    }
}

impl Log for Queue {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let text = format!("{lost} lines are missing here: they could not be written in time");
            self.tell(Level::Warn, record.target(), text, lost);
        }
        self.tell(record.level(), record.target(), record.args().to_string(), 1);
    }

    /// Waits until everything is written, but not for ever.
    fn flush(&self) {
        let (until, (done, written)) = (Instant::now() + FLUSH_MAX, sync_channel(1));
        while self.lines.try_send(Line::Flush(done.clone())).is_err() {
            if Instant::now() > until {
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
        // Whoever writes may be stuck.
        let _ = written.recv_timeout(until.saturating_duration_since(Instant::now()));
    }
}

fn write(sink: &dyn Log, lines: &Receiver<Line>) {
    for line in lines {
        match line {
            Line::Text { level, target, text } => {
                let mut record = Record::builder();
                record.level(level).target(&target);
                sink.log(&record.args(format_args!("{text}")).build());
            }
            Line::Flush(done) => {
                sink.flush();
                // Who asked may have given up.
                let _ = done.try_send(());
            }
        }
    }
}

/// Some hundred kilobytes; more than is logged in any second.
const LINES_MAX: usize = 1024;
/// How long an end of the daemon may wait for its last words.
const FLUSH_MAX: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Writes when it may.
    struct Stuck {
        may: Arc<Mutex<()>>,
        written: Sender<String>,
    }

    impl Log for Stuck {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn log(&self, record: &Record<'_>) {
            let _may = self.may.lock().unwrap();
            self.written.send(record.args().to_string()).unwrap();
        }

        fn flush(&self) {}
    }

    fn log(queue: &Queue, text: &str) {
        queue.log(&Record::builder().level(Level::Info).args(format_args!("{text}")).build());
    }

    #[test]
    fn who_logs_waits_for_no_writer_and_what_is_lost_is_counted() {
        let (may, (written, lines)) = (Arc::new(Mutex::new(())), channel());
        let queue = Queue::new(Box::new(Stuck { may: may.clone(), written })).unwrap();
        let stuck = may.lock().unwrap();
        for nr in 0..LINES_MAX + 100 {
            log(&queue, &nr.to_string());
        }
        drop(stuck);
        queue.flush();
        log(&queue, "last");
        queue.flush();
        let lines: Vec<String> = lines.try_iter().collect();
        let whole = lines.iter().enumerate().take_while(|(nr, line)| nr.to_string() == **line);
        let whole = whole.count();
        assert!(whole >= LINES_MAX, "{whole} lines fit");
        let missing = LINES_MAX + 100 - whole;
        let told = format!("{missing} lines are missing here: they could not be written in time");
        assert_eq!(lines[whole..], [told, "last".to_owned()]);
    }
}
