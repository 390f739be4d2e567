//! The stretch of the log that lazy feeding copies next, and how long it may be.
//!
//! A longer one is sorted better. But the log lets go of nothing of it before nearly all of it
//! is copied: what comes first in the log may come last on the disk. For 16 MiB of 4 KiB writes
//! a disk of 300 writes a second takes 14 s. Writers who waited for room in a full log waited as
//! long, then had room for as many at once, and waited again. So, when somebody waits or is about
//! to, a window is no longer than what the disk takes in [`PATIENCE`].

use blk::{DevNr, Sector, Sectors, Seq, Span, Time};
use replog::Replog;

/// A stretch of the log, as places on the devices, sorted.
#[derive(Debug, Default)]
pub(crate) struct Window {
    places: Vec<Place>,
    at: usize,
    /// The last write of it.
    last: Seq,
}

/// Where a write went; the overlay says what is there by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) dev: DevNr,
    pub(crate) sector: Sector,
    pub(crate) len: Sectors,
}

impl Window {
    /// The oldest writes that still show, as far as they are durable: `most` of them.
    pub(crate) fn next(log: &Replog, most: usize) -> Self {
        let mut places = Vec::new();
        let mut bytes = 0;
        let mut seq = log.first_shown();
        while seq <= log.ships_upto() && bytes < BYTES_MAX && places.len() < most {
            if log.is_shown(seq) {
                let write = log.index().write(seq).expect("a write that shows is in the index");
                places.push(Place { dev: write.dev, sector: write.sector, len: write.len });
                bytes += if write.has_payload() { write.len.bytes() } else { 0 };
            }
            seq = seq.next();
        }
        places.sort_unstable();
        Self { places, at: 0, last: seq.prev() }
    }

    /// The last write of it.
    pub(crate) fn last(&self) -> Seq {
        self.last
    }

    pub(crate) fn is_done(&self) -> bool {
        self.left() == 0
    }

    /// How many places are yet to be looked at.
    pub(crate) fn left(&self) -> usize {
        self.places.len() - self.at
    }

    pub(crate) fn here(&self) -> Option<Place> {
        self.places.get(self.at).copied()
    }

    pub(crate) fn step(&mut self) {
        self.at += 1;
    }
}

/// How fast the site takes writes.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    since: Time,
    copied: u64,
    per_second: u64,
}

impl Pace {
    /// So many writes are there.
    pub(crate) fn copied(&mut self, writes: usize) {
        self.copied += writes as u64;
    }

    /// A window begins.
    pub(crate) fn look(&mut self, now: Time) {
        let taken = now.since(self.since);
        if taken < LOOK {
            return;
        }
        let per_second = u128::from(self.copied) * 1_000_000_000 / taken.as_nanos();
        self.per_second = u64::try_from(per_second).unwrap_or(u64::MAX);
        (self.since, self.copied) = (now, 0);
    }

    /// How many of `wanted` copies may be in flight: what a slow disk has in its queue is in the
    /// way of whoever reads from it.
    pub(crate) fn at_once(&self, wanted: usize) -> usize {
        wanted.min(self.taken_in(QUEUE).max(AT_ONCE_MIN))
    }

    /// How many places a window has at most while somebody waits for it, and so many copies are in
    /// flight: with fewer than two such rounds the disk would run dry.
    pub(crate) fn window_max(&self, at_once: usize) -> usize {
        self.taken_in(PATIENCE).max(2 * at_once)
    }

    fn taken_in(&self, time: Span) -> usize {
        let writes = u128::from(self.per_second) * time.as_nanos() / 1_000_000_000;
        usize::try_from(writes).unwrap_or(usize::MAX)
    }
}

/// How much of the log is sorted at a time. Larger skips more of what is overwritten and
/// sorts better. Gains level off here.
const BYTES_MAX: u64 = 16 * 1024 * 1024;
/// How long writers may have to wait until the log lets go of a window.
const PATIENCE: Span = Span::from_millis(500);
/// How long a copy may be in a disk's queue.
const QUEUE: Span = Span::from_millis(250);
/// As many as the queue of a single disk takes, so that it can choose; and with fewer a disk that
/// was not tried yet would not show how fast it is.
const AT_ONCE_MIN: usize = 32;
/// A shorter time says little of a disk's pace.
const LOOK: Span = Span::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time(millis * 1_000_000)
    }

    #[test]
    fn a_window_that_somebody_waits_for_is_copied_in_half_a_second() {
        let mut pace = Pace::default();
        pace.look(at(1000));
        assert_eq!(pace.window_max(41), 82, "nothing is known yet");
        pace.copied(300);
        pace.look(at(2000));
        assert_eq!(pace.window_max(41), 150);
        assert_eq!(pace.window_max(128), 256);
        pace.copied(60_000);
        pace.look(at(3000));
        assert_eq!(pace.window_max(128), 30_000);
    }

    #[test]
    fn a_slow_disk_has_no_long_queue() {
        let mut pace = Pace::default();
        assert_eq!((pace.at_once(128), pace.at_once(5)), (32, 5), "nothing is known yet");
        pace.copied(150);
        pace.look(at(1000));
        assert_eq!(pace.at_once(128), 37);
        pace.copied(10_000);
        pace.look(at(2000));
        assert_eq!(pace.at_once(128), 128);
    }

    #[test]
    fn a_moment_says_nothing_of_a_pace() {
        let mut pace = Pace::default();
        pace.copied(1000);
        pace.look(at(1000));
        pace.copied(1000);
        pace.look(at(1010));
        assert_eq!(pace.window_max(0), 500);
        pace.look(at(2000));
        assert_eq!(pace.window_max(0), 500);
    }
}
