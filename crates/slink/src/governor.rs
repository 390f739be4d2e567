//! How hard the local site may work: the application comes first, until the log fills.
//!
//! | application | log and RAM tail | copies in flight |
//! |---|---|---|
//! | idle | any | all |
//! | any | the log is lost, or about to be left for another | all |
//! | active | less than half full | none |
//! | active | half full to 90 % | in proportion |
//! | active | above 90 %, or a write waits for space | all |
//!
//! In proportion, so that a filling log slows the application smoothly instead of
//! letting it run at full speed into a wall.

use replog::Replog;

/// How many copies to the LDs may be in flight.
pub(crate) fn copies_wanted(log: &Replog, idle: bool) -> usize {
    let waited_for = log.is_starved() || log.is_tail_full() || log.is_catching_up();
    if idle || waited_for || log.is_lost() {
        return COPIES_MAX;
    }
    copies_for(fill_permille(log))
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
/// Below this share of a thousand the application has the disk for itself.
const LOW: u64 = 500;
/// Above this one the copies have all they can use.
const HIGH: u64 = 900;

#[cfg(test)]
mod tests {
    use super::*;

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
