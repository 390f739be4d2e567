//! How fast a resync may go.
//!
//! | table | applications | copies in flight |
//! |---|---|---|
//! | `resync_rate:N` | any | as many as N bytes a second allow |
//! | adaptive | idle | all |
//! | adaptive | at work | one, then a pause nine times as long as it took |
//! | adaptive | at work, and ahead of it | one, then a shorter pause; in the end none |
//!
//! One part in ten: whatever a copy costs the disks it shares with the applications, it
//! costs them at most a tenth of their time; and a busy log never starves it (P9). But
//! applications that make as much dirty in the other nine parts would never see its end. So
//! one that gains nothing on them for a while takes more of the time, a step each time, and
//! gives it back later, also step by step: given back at once, it would be lost again.

use blk::{Sectors, Span, Time};

/// What a resync may do by now.
#[derive(Debug)]
pub(crate) struct Pace {
    /// Bytes a second; 0 is adaptive.
    rate: u64,
    /// Bytes that may be copied at once, as of `counted`; below zero: a debt.
    allowance: i64,
    counted: Time,
    /// Until when a busy application has the disks for itself.
    pause_until: Time,
    /// Which of [`PAUSES`].
    step: usize,
    stepped: Time,
    /// The fewest bytes that were left since then, and when they were less than ever.
    least: u64,
    gained: Time,
}

impl Pace {
    pub(crate) fn new(rate: u64) -> Self {
        let (counted, pause_until) = (Time(0), Time(0));
        let (stepped, gained) = (Time(0), Time(0));
        Self { rate, allowance: 0, counted, pause_until, step: 0, stepped, least: 0, gained }
    }

    /// Another rate, from now on; what was not used of the old one is gone.
    pub(crate) fn set_rate(&mut self, rate: u64) {
        if rate != self.rate {
            (self.rate, self.allowance) = (rate, 0);
        }
    }

    /// How many copies may be in flight.
    pub(crate) fn depth(&mut self, now: Time, idle: bool) -> usize {
        if self.rate > 0 {
            self.count(now);
            return if self.allowance > 0 { COPIES_MAX } else { 0 };
        }
        match (idle, now >= self.pause_until) {
            (true, _) => COPIES_MAX,
            (false, true) => 1,
            (false, false) => 0,
        }
    }

    /// The longest copy: an eighth of a second's, if there is a rate.
    pub(crate) fn run(&self) -> Sectors {
        let eighth = Sectors::from_bytes(self.rate / 8);
        if self.rate == 0 { RUN } else { eighth.clamp(Sectors(1), RUN) }
    }

    /// A copy begins.
    pub(crate) fn begun(&mut self, bytes: u64) {
        self.allowance = self.allowance.saturating_sub_unsigned(bytes);
    }

    /// A copy that began at `began` has ended.
    pub(crate) fn ended(&mut self, now: Time, began: Time) {
        let pause = now.since(began).saturating_mul(PAUSES[self.step]).min(PAUSE_MAX);
        self.pause_until = self.pause_until.max(now + pause);
    }

    /// A resync begins.
    pub(crate) fn begin(&mut self, now: Time) {
        self.take(0, now, u64::MAX);
    }

    /// `dirty` bytes are left.
    pub(crate) fn left(&mut self, now: Time, dirty: u64) {
        if dirty < self.least {
            (self.least, self.gained) = (dirty, now);
            if now.since(self.stepped) >= RELIEF {
                self.take(self.step.saturating_sub(1), now, dirty);
            }
        } else if now.since(self.gained) >= PATIENCE {
            self.take((self.step + 1).min(PAUSES.len() - 1), now, dirty);
        }
    }

    fn take(&mut self, step: usize, now: Time, dirty: u64) {
        (self.step, self.stepped, self.least, self.gained) = (step, now, dirty, now);
    }

    /// When [`Pace::depth`] may say something else, though nothing happened.
    pub(crate) fn wakeup(&self, now: Time) -> Option<Time> {
        if self.rate == 0 {
            return (self.pause_until > now).then_some(self.pause_until);
        }
        let debt = u64::try_from(-self.allowance).ok()?;
        let nanos = u128::from(debt + 1) * 1_000_000_000 / u128::from(self.rate) + 1;
        Some(self.counted + Span::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }

    fn count(&mut self, now: Time) {
        let nanos = now.since(self.counted).as_nanos();
        let gained = nanos.saturating_mul(u128::from(self.rate)) / 1_000_000_000;
        // Time that brings less than a byte is kept for later.
        if gained > 0 {
            // What was not used within a quarter of a second is not saved up.
            let most = i64::try_from(self.rate / 4).unwrap_or(i64::MAX).max(1);
            let gained = i64::try_from(gained).unwrap_or(i64::MAX);
            self.allowance = self.allowance.saturating_add(gained).min(most);
            self.counted = now;
        }
    }
}

/// Copies in flight that keep a disk busy; more brings little and holds more memory.
pub(crate) const COPIES_MAX: usize = 8;
/// 1 MiB: what disks like.
const RUN: Sectors = Sectors(2048);
/// How many times as long as a copy the pause after it is: copies take a tenth of the time, a
/// fifth, a third, half of it, all.
const PAUSES: [u32; 5] = [9, 4, 2, 1, 0];
/// So long a resync may gain nothing on the applications.
const PATIENCE: Span = Span::from_secs(20);
/// So long one that gains keeps the time that it has.
const RELIEF: Span = Span::from_secs(120);
/// A slow site must not bring its resync to a stand.
const PAUSE_MAX: Span = Span::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Time {
        Time(ms * 1_000_000)
    }

    #[test]
    fn beside_a_busy_application_copying_takes_a_tenth_of_the_time() {
        let mut pace = Pace::new(0);
        let (mut now, mut busy) = (ms(1000), Span::ZERO);
        let start = now;
        while now.since(start) < Span::from_secs(10) {
            assert_eq!(pace.depth(now, false), 1);
            let began = now;
            now = now + Span::from_millis(7);
            busy += Span::from_millis(7);
            pace.ended(now, began);
            assert_eq!(pace.depth(now, false), 0);
            now = pace.wakeup(now).unwrap();
        }
        let share = busy.as_secs_f64() / now.since(start).as_secs_f64();
        assert!((0.095..=0.1).contains(&share), "{share}");
    }

    #[test]
    fn an_idle_application_leaves_the_disks_to_the_resync() {
        let mut pace = Pace::new(0);
        pace.ended(ms(9), ms(0));
        assert_eq!(pace.depth(ms(10), true), COPIES_MAX);
    }

    /// A busy application that dirties `bytes` a second, beside copies that take 10 ms for a
    /// MiB each; how long it takes until nothing is left, and the share that copies had.
    fn beside(bytes: u64, dirty: u64, limit: Span) -> Option<(Span, f64)> {
        let mut pace = Pace::new(0);
        let (start, mut now, mut left, mut busy) = (ms(1000), ms(1000), dirty, Span::ZERO);
        pace.begin(now);
        while now.since(start) < limit {
            let began = now;
            if pace.depth(now, false) > 0 {
                now = now + Span::from_millis(10);
                busy += Span::from_millis(10);
                pace.ended(now, began);
                left = left.saturating_sub(1 << 20);
            } else {
                now = pace.wakeup(now).unwrap();
            }
            left += bytes * u64::try_from(now.since(began).as_millis()).unwrap() / 1000;
            if left < 1 << 20 {
                return Some((
                    now.since(start),
                    busy.as_secs_f64() / now.since(start).as_secs_f64(),
                ));
            }
            pace.left(now, left);
        }
        None
    }

    #[test]
    fn a_resync_that_gains_on_the_applications_takes_no_more_than_a_tenth_however_long_it_is() {
        let (_, share) = beside(5 << 20, 10 << 30, Span::from_secs(3600)).unwrap();
        assert!((0.095..0.101).contains(&share), "{share}");
    }

    #[test]
    fn a_resync_that_gains_nothing_takes_more_of_the_time_until_it_ends() {
        // All that a tenth of the time copies, twice as much, all that half of it does.
        for mib in [11, 20, 50] {
            let end = beside(mib << 20, 100 << 20, Span::from_secs(600));
            assert!(end.is_some(), "at {mib} MiB/s it never ends");
        }
        // More than disks can is more than disks can.
        assert!(beside(101 << 20, 100 << 20, Span::from_secs(600)).is_none());
    }

    #[test]
    fn what_a_burst_of_writes_made_a_resync_take_is_given_back() {
        let mut pace = Pace::new(0);
        pace.begin(ms(0));
        pace.left(ms(1_000), 1000);
        for seconds in [21, 41] {
            pace.left(ms(seconds * 1000), 2000);
        }
        assert_eq!(PAUSES[pace.step], 2);
        for second in 42..400 {
            pace.left(ms(second * 1000), 1999 - second);
        }
        assert_eq!(PAUSES[pace.step], 9);
    }

    #[test]
    fn a_rate_is_kept_however_long_nothing_was_copied() {
        let (mib, mut copied) = (1 << 20, 0);
        let mut pace = Pace::new(10 * mib);
        let (start, mut now) = (ms(60_000), ms(60_000));
        while now.since(start) < Span::from_secs(5) {
            if pace.depth(now, false) > 0 {
                pace.begun(mib);
                copied += mib;
            } else {
                now = pace.wakeup(now).unwrap();
            }
        }
        assert!((50 * mib..=54 * mib).contains(&copied), "{} MiB in 5 s", copied / mib);
    }
}
