//! How hard the local site may work: the application comes first, until the log fills.
//!
//! | application | log and RAM tail | copies in flight |
//! |---|---|---|
//! | idle | any | all |
//! | any | the log is lost, or about to be left for another | all |
//! | active | less than half full | none |
//! | active | half full to 90 % | in proportion |
//! | active | above 90 %, or a write waits for space | all that the disk takes at once |
//!
//! In proportion, so that a filling log slows the application smoothly instead of
//! letting it run at full speed into a wall.
//!
//! How many a disk takes at once shows at the log, where the two share one: with 128 copies before
//! it the next group waits 0.4 s on a disk of 300 I/Os a second, and the application, which is to
//! go on at the pace of the copies, gets a quarter of that. A few more than a group has writes are
//! enough to gain on it.

use blk::Span;
use replog::Replog;

/// How many copies to the LDs may be in flight.
pub(crate) fn copies_wanted(log: &Replog, idle: bool) -> usize {
    if idle || log.is_catching_up() || log.is_lost() {
        return COPIES_MAX;
    }
    let at_once = copies_at_once(log.pace());
    if log.is_starved() || log.is_tail_full() {
        return at_once;
    }
    copies_for(fill_permille(log)).min(at_once)
}

/// Whether writers wait for what the copies let go of, or are about to.
pub(crate) fn is_pressed(log: &Replog) -> bool {
    log.is_starved() || log.is_tail_full() || fill_permille(log) >= HIGH
}

/// As many as let the log have its disk in time; at least what gains on groups of so many writes.
fn copies_at_once((write_time, writes): (Span, u64)) -> usize {
    let in_time = COPIES_MAX as u128 * IN_TIME.as_nanos() / write_time.as_nanos().max(1);
    let gains = u128::from(writes) * 5 / 4 + 1;
    in_time.max(gains).min(COPIES_MAX as u128) as usize
}

/// The fuller of ring and RAM tail; the tail counts by what the LD lacks of it (P8).
fn fill_permille(log: &Replog) -> u64 {
    let ring = log.used_bytes() * 1000 / log.ring_bytes();
    let (_, tail_max) = log.tail_bytes();
    let lacking = log.bytes_behind(log.first_shown().prev());
    // A tail is never used to its last byte: groups leave gaps at the ends of segments.
    ring.max(lacking * 1000 / (tail_max * 7 / 8))
}

fn copies_for(fill: u64) -> usize {
    if fill < LOW {
        return 0;
    }
    let above = usize::try_from(fill.min(HIGH) - LOW).expect("a share of a thousand");
    let whole = usize::try_from(HIGH - LOW).expect("a share of a thousand");
    (COPIES_MAX * above / whole).max(1)
}

/// Deep enough that a disk is busy whatever its queue; more brought nothing.
const COPIES_MAX: usize = 128;
/// A disk that writes a group in this time is not overloaded.
const IN_TIME: Span = Span::from_millis(5);
/// Below this share of a thousand the application has the disk for itself.
const LOW: u64 = 500;
/// Above this one the copies have all they can use.
const HIGH: u64 = 900;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_disk_gets_no_more_copies_than_gain_on_the_application() {
        let at_once = |millis, writes| copies_at_once((Span::from_millis(millis), writes));
        assert_eq!(at_once(0, 0), COPIES_MAX, "nothing is known yet");
        assert_eq!(at_once(5, 32), COPIES_MAX);
        assert_eq!(at_once(20, 1), 32);
        assert_eq!(at_once(400, 32), 41);
        assert_eq!(at_once(400, 1), 2);
        assert_eq!(at_once(60_000, 4000), COPIES_MAX);
    }

    #[test]
    fn copies_rise_with_the_log_from_none_to_all_without_a_jump() {
        assert_eq!(copies_for(LOW - 1), 0);
        assert_eq!(copies_for(HIGH), COPIES_MAX);
        assert_eq!(copies_for(1000), COPIES_MAX);
        let steps: Vec<usize> = (LOW..=HIGH).map(copies_for).collect();
        assert!(steps.is_sorted());
        assert!(steps.windows(2).all(|pair| pair[1] - pair[0] <= 1), "no cliff");
    }
}
