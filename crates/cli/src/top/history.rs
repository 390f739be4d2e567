//! What was seen of one replicator, and what two looks say of its speed: pure.

use std::collections::VecDeque;

use replicator::{SiteStatus, Status};

/// The last few looks at one replicator.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    pub(crate) name: String,
    looks: VecDeque<Look>,
    /// Why the last look saw nothing.
    pub(crate) trouble: Option<String>,
}

#[derive(Clone, Debug)]
struct Look {
    /// By a clock that only goes on.
    seconds: f64,
    status: Status,
}

/// What applications do, each second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Rates {
    pub(super) bytes: f64,
    pub(super) writes: f64,
    pub(super) reads: f64,
    pub(super) flushes: f64,
}

impl History {
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// How it was at `seconds`, or why that is not known.
    pub(crate) fn add(&mut self, seconds: f64, seen: Result<Status, String>) {
        let status = match seen {
            Ok(status) => status,
            Err(why) => {
                self.trouble = Some(why);
                return;
            }
        };
        self.trouble = None;
        // Another daemon counts from nothing again.
        if self.looks.back().is_some_and(|last| written(&last.status) > written(&status)) {
            self.looks.clear();
        }
        self.looks.push_back(Look { seconds, status });
        let excess = self.looks.len().saturating_sub(LOOKS);
        self.looks.drain(..excess);
    }

    /// How it was when it was last seen.
    pub(crate) fn status(&self) -> Option<&Status> {
        self.looks.back().map(|look| &look.status)
    }

    /// The difference of something between the oldest and the newest look, each second.
    fn rate(&self, of: impl Fn(&Status) -> Option<u64>) -> Option<f64> {
        let (old, new) = (self.looks.front()?, self.looks.back()?);
        let seconds = new.seconds - old.seconds;
        let (before, after) = (of(&old.status)?, of(&new.status)?);
        (seconds > 0.0).then(|| after.saturating_sub(before) as f64 / seconds)
    }

    /// None before the second look.
    pub(super) fn rates(&self) -> Option<Rates> {
        let of_devices = |of: fn(&replicator::DeviceStatus) -> u64| {
            self.rate(move |status| Some(status.devices.iter().map(of).sum()))
        };
        Some(Rates {
            bytes: self.rate(|status| Some(status.log.as_ref()?.bytes_written))?,
            writes: of_devices(|device| device.changes)?,
            reads: of_devices(|device| device.reads)?,
            flushes: of_devices(|device| device.flushes)?,
        })
    }

    /// How many bytes a second a site gets, or has noted down as dirty: what is written, and what it
    /// lacks less than before.
    pub(super) fn rate_of(&self, slink: u16) -> Option<f64> {
        let (old, new) = (self.looks.front()?, self.looks.back()?);
        let seconds = new.seconds - old.seconds;
        let lag = |look: &Look| Some(look.status.site(slink)?.lag_bytes as f64);
        let log = |look: &Look| Some(look.status.log.as_ref()?.bytes_written as f64);
        let got = (log(new)? - log(old)?) - (lag(new)? - lag(old)?);
        let moved = |site: Option<&SiteStatus>| site.map(|site| site.cursor);
        // Headers make the log's bytes a little more than what a site gets.
        let stands = moved(old.status.site(slink)) == moved(new.status.site(slink));
        (seconds > 0.0).then(|| if stands { 0.0 } else { got.max(0.0) / seconds })
    }
}

fn written(status: &Status) -> u64 {
    status.log.as_ref().map_or(0, |log| log.bytes_written)
}

/// Two or three seconds smooth what comes in bursts.
const LOOKS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use replicator::DeviceStatus;
    use replicator::status::data::LogStatus;

    fn status(bytes: u64, changes: u64, lag: u64, cursor: u64) -> Status {
        let log = LogStatus { bytes_written: bytes, ..LogStatus::default() };
        let site = SiteStatus { slink: 1, lag_bytes: lag, cursor, ..SiteStatus::default() };
        let device = DeviceStatus { changes, reads: 2 * changes, ..DeviceStatus::default() };
        Status { log: Some(log), sites: vec![site], devices: vec![device], ..Status::default() }
    }

    #[test]
    fn a_rate_is_what_changed_between_two_looks() {
        let mut history = History::new("repl");
        history.add(10.0, Ok(status(1000, 5, 100, 3)));
        assert_eq!(history.rates(), None);
        history.add(12.0, Ok(status(5000, 9, 900, 7)));
        let expected = Rates { bytes: 2000.0, writes: 2.0, reads: 4.0, flushes: 0.0 };
        assert_eq!(history.rates(), Some(expected));
        assert_eq!(history.rate_of(1), Some(1600.0));
        assert_eq!(history.rate_of(2), None);
    }

    #[test]
    fn a_site_that_stands_gets_nothing() {
        let mut history = History::new("repl");
        history.add(1.0, Ok(status(1000, 5, 100, 3)));
        history.add(2.0, Ok(status(1500, 5, 580, 3)));
        assert_eq!(history.rate_of(1), Some(0.0));
    }

    #[test]
    fn another_daemon_begins_anew_and_one_that_is_gone_is_shown_as_it_was() {
        let mut history = History::new("repl");
        history.add(1.0, Ok(status(1000, 5, 0, 3)));
        history.add(2.0, Err("its daemon is gone".to_owned()));
        assert!(history.trouble.is_some() && history.status().is_some());
        history.add(3.0, Ok(status(10, 1, 0, 3)));
        assert_eq!((history.rates(), &history.trouble), (None, &None));
    }

    #[test]
    fn only_the_last_looks_count() {
        let mut history = History::new("repl");
        for at in 0..100 {
            history.add(f64::from(at), Ok(status(u64::from(at as u32) * 10, 0, 0, 0)));
        }
        assert_eq!(history.looks.len(), LOOKS);
    }
}
