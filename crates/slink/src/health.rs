//! When a site's device fails: wait, longer each time, and try again.
//!
//! Nothing is given up: the log keeps what the site lacks. A site moves as one, so
//! one failing device stops them all, at the same group (P3).

use std::fmt;

use blk::{DevNr, Errno, Span, Time};

/// A failure that stopped a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Down {
    /// The device whose backing device failed.
    pub dev: DevNr,
    /// What was being done: "a write".
    pub what: &'static str,
    /// How it failed.
    pub how: Failure,
    /// When the outage began: with its first failure, or when the I/O began that hangs.
    pub since: Time,
    /// When it is tried again.
    pub retry_at: Time,
}

/// How something failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The device said so.
    Error(Errno),
    /// It did not answer within its deadline, and still holds on to what it was given.
    Hung,
    /// It could not be opened.
    NotOpened(String),
    /// It is not what it was, or can't be used.
    Unfit(String),
    /// Somebody took the site down, and it is not tried before somebody says so.
    Asked,
}

impl fmt::Display for Down {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { dev, what, how, .. } = self;
        match how {
            Failure::Error(errno) => write!(f, "{what} for device {dev} failed: {errno}"),
            Failure::Hung => write!(f, "{what} for device {dev} hangs"),
            Failure::NotOpened(why) | Failure::Unfit(why) => write!(f, "device {dev}: {why}"),
            Failure::Asked => f.write_str("the message `down` took it down"),
        }
    }
}

/// Whether a link works, and when to try again if not.
#[derive(Debug, Default)]
pub(crate) struct Health {
    down: Option<Down>,
    /// Failures since the last success.
    failures: u32,
    /// Somebody took it down: whatever happens, it is until somebody says otherwise.
    held: bool,
}

impl Health {
    /// A device failed, or hangs, and has done so since `since`.
    pub(crate) fn failed(
        &mut self,
        now: Time,
        since: Time,
        dev: DevNr,
        what: &'static str,
        how: Failure,
    ) {
        if self.held {
            return;
        }
        let since = self.down.as_ref().map_or(since, |down| down.since);
        let retry_at = now + backoff(self.failures);
        self.failures = self.failures.saturating_add(1);
        self.down = Some(Down { dev, what, how, since, retry_at });
    }

    /// Something succeeded behind a barrier: the site is well. Whether it was not before.
    pub(crate) fn succeeded(&mut self) -> bool {
        if self.held {
            return false;
        }
        self.failures = 0;
        self.down.take().is_some()
    }

    /// It answers again. Whether it is well, only a success behind a barrier will tell: until
    /// then another failure is one more in the row.
    pub(crate) fn answers(&mut self) {
        self.down = None;
    }

    /// Somebody takes it down.
    pub(crate) fn hold(&mut self, now: Time, dev: DevNr) {
        let since = self.down.as_ref().map_or(now, |down| down.since);
        self.down = Some(Down { dev, what: "", how: Failure::Asked, since, retry_at: now });
        self.held = true;
    }

    /// Somebody says that it may be tried again: at once.
    pub(crate) fn release(&mut self, now: Time) {
        self.failures = 0;
        if std::mem::take(&mut self.held)
            && let Some(down) = &mut self.down
        {
            down.how = Failure::NotOpened("it was taken down, and is being opened again".into());
        }
        self.hurry(now);
    }

    /// Whether somebody took it down.
    pub(crate) fn is_held(&self) -> bool {
        self.held
    }

    /// It is to be tried again at once.
    pub(crate) fn hurry(&mut self, now: Time) {
        if let Some(down) = &mut self.down {
            down.retry_at = now;
        }
    }

    /// Whether the link may ask for I/O.
    pub(crate) fn may_try(&self, now: Time) -> bool {
        !self.held && self.down.as_ref().is_none_or(|down| now >= down.retry_at)
    }

    /// Which of so many blocks to look at in the next attempt.
    pub(crate) fn block_to_try(&self, blocks: u64) -> u64 {
        let attempts = u64::from(self.failures.saturating_sub(1));
        attempts.wrapping_mul(SCATTER).checked_rem(blocks).unwrap_or(0)
    }

    /// The failure that stopped the link.
    pub(crate) fn down(&self) -> Option<&Down> {
        self.down.as_ref()
    }
}

/// 2^64 divided by the golden ratio: its multiples come near each place in turn.
const SCATTER: u64 = 0x9e37_79b9_7f4a_7c15;

/// Half a second, doubled by every failure, up to 15 s (the old code's fixed interval).
fn backoff(failures: u32) -> Span {
    FIRST_RETRY.saturating_mul(1 << failures.min(10)).min(LAST_RETRY)
}

const FIRST_RETRY: Span = Span::from_millis(500);
const LAST_RETRY: Span = Span::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_site_is_tried_less_and_less_often_but_never_given_up() {
        let mut health = Health::default();
        let mut waits = Vec::new();
        let mut now = Time(0);
        for _ in 0..8 {
            health.failed(now, now, DevNr(0), "a write", Failure::Error(Errno::EIO));
            assert!(!health.may_try(now));
            let retry = health.down().unwrap().retry_at;
            waits.push(retry.since(now));
            now = retry;
            assert!(health.may_try(now));
        }
        assert!(waits.is_sorted() && waits[0] == FIRST_RETRY && waits[7] == LAST_RETRY);
    }

    #[test]
    fn what_was_taken_down_stays_so_whatever_happens_until_somebody_says_otherwise() {
        let mut health = Health::default();
        health.hold(Time(1), DevNr(0));
        health.failed(Time(2), Time(2), DevNr(0), "a write", Failure::Error(Errno::EIO));
        assert!(!health.succeeded() && !health.may_try(Time(u64::MAX)));
        assert_eq!(health.down().map(|down| &down.how), Some(&Failure::Asked));
        health.release(Time(3));
        assert!(health.may_try(Time(3)) && health.down().is_some());
        assert!(health.succeeded() && health.down().is_none());
    }

    #[test]
    fn one_block_that_cannot_be_read_does_not_keep_a_site_down() {
        let mut health = Health::default();
        let mut tried = std::collections::BTreeSet::new();
        for _ in 0..20 {
            health.failed(Time(1), Time(1), DevNr(0), "a read", Failure::Error(Errno::EIO));
            let block = health.block_to_try(5);
            assert!(block < 5 && (!tried.is_empty() || block == 0));
            tried.insert(block);
        }
        assert_eq!(tried.len(), 5);
        assert_eq!(health.block_to_try(0), 0, "a disk of no blocks has nothing to be read");
    }

    #[test]
    fn an_outage_is_counted_from_its_first_failure() {
        let mut health = Health::default();
        health.failed(Time(1), Time(1), DevNr(0), "a write", Failure::Error(Errno::EIO));
        health.failed(Time(9), Time(9), DevNr(0), "a write", Failure::Error(Errno::EIO));
        assert_eq!(health.down().unwrap().since, Time(1));
        health.succeeded();
        assert_eq!(health.down(), None);
    }
}
