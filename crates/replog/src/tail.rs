//! The RAM tail: the newest groups, still in memory.
//!
//! A group is assembled in place, in one contiguous range of a segment, so that it
//! leaves as one write; and it stays there, so that copies to the LD and to the
//! sites, and reads, need no look at the log device. Segments go in order of age,
//! each when its last reader lets go of it; then its memory serves again. Fresh memory
//! is dear: the kernel clears it page by page, on the way of a write.

use std::collections::VecDeque;

use blk::{BLOCK_BYTES, Buf, BufMut};

use crate::geometry::LONE_GROUP_BYTES_MAX;

/// The memory that groups are assembled in, and how much of it is in use.
#[derive(Debug)]
pub(crate) struct Tail {
    /// What a segment that is begun now has.
    segment_bytes: usize,
    segments_max: usize,
    /// The longest group that fits a segment.
    group_bytes_max: usize,
    /// What is left of the newest segment.
    rest: Option<BufMut>,
    /// Which groups each segment holds, oldest first; the last one is being filled.
    segments: VecDeque<Segment>,
    /// What was left of the segments that are full, oldest first: a handle to their memory.
    full: VecDeque<Buf>,
    /// The same, of segments that were forgotten; somebody may still read them.
    retired: VecDeque<Buf>,
}

/// One piece of memory.
#[derive(Clone, Copy, Debug)]
struct Segment {
    groups: GroupRange,
    bytes: usize,
}

/// The numbers of the groups in one segment; `last < first` while it holds none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupRange {
    pub(crate) first: u64,
    pub(crate) last: u64,
}

impl Tail {
    /// A tail of about `bytes`, for groups of up to `group_bytes_max`.
    pub(crate) fn new(bytes: u64, group_bytes_max: u64) -> Self {
        let mut tail = Self {
            segment_bytes: 0,
            segments_max: 0,
            group_bytes_max: 0,
            rest: None,
            segments: VecDeque::new(),
            full: VecDeque::new(),
            retired: VecDeque::new(),
        };
        tail.set_bound(bytes, group_bytes_max);
        tail
    }

    /// About `bytes` from now on. What it holds more than that goes before anything new comes,
    /// but for the segment that is being filled, which may be one of the size of before.
    pub(crate) fn set_bound(&mut self, bytes: u64, group_bytes_max: u64) {
        let longest = usize::try_from(group_bytes_max).expect("a group fits in memory");
        let wanted = usize::try_from(bytes).unwrap_or(usize::MAX);
        let group = longest.min((wanted / SEGMENTS_MIN).max(LONE_GROUP_BYTES));
        self.group_bytes_max = group;
        self.segment_bytes = (wanted / SEGMENTS_MIN).clamp(group, group.max(SEGMENT_BYTES_MAX))
            / BLOCK_BYTES
            * BLOCK_BYTES;
        self.segments_max = (wanted / self.segment_bytes).max(SEGMENTS_MIN);
    }

    /// The longest group that it has memory for: shorter where it is small.
    pub(crate) fn group_bytes_max(&self) -> u64 {
        self.group_bytes_max as u64
    }

    /// Bytes in the newest segment that no group has taken.
    pub(crate) fn room(&self) -> usize {
        self.rest.as_ref().map_or(0, BufMut::len)
    }

    /// Whether a new segment may be begun.
    pub(crate) fn may_grow(&self) -> bool {
        self.segments.len() < 2 || self.bytes() + self.segment_bytes as u64 <= self.bytes_max()
    }

    /// The groups that must leave memory before a new segment may be begun.
    pub(crate) fn oldest(&self) -> Option<GroupRange> {
        // The newest segment is being filled; it is never the one to go.
        if self.segments.len() < 2 { None } else { Some(self.segments.front()?.groups) }
    }

    /// Forgets the oldest segment; its memory is free with the last handle into it.
    pub(crate) fn drop_oldest(&mut self) {
        self.segments.pop_front();
        self.retired.extend(self.full.pop_front());
    }

    /// Forgets all segments whose groups are gone: numbers up to `group`.
    pub(crate) fn released_through(&mut self, group: u64) {
        while self.oldest().is_some_and(|range| range.last <= group) {
            self.drop_oldest();
        }
    }

    /// Begins a new segment; `group` is the first that may be put in it.
    pub(crate) fn grow(&mut self, group: u64) {
        assert!(self.may_grow(), "I10: the tail keeps its bound");
        let segment = self.reclaim().unwrap_or_else(|| BufMut::zeroed(self.segment_bytes));
        self.full.extend(self.rest.replace(segment).map(BufMut::freeze));
        let groups = GroupRange { first: group, last: group.saturating_sub(1) };
        self.segments.push_back(Segment { groups, bytes: self.segment_bytes });
    }

    /// A retired segment that nobody reads any more, with its old bytes in it.
    fn reclaim(&mut self) -> Option<BufMut> {
        for _ in 0..self.retired.len() {
            let oldest = self.retired.pop_front().expect("counted above");
            match oldest.try_into_mut() {
                Ok(segment) if segment.len() == self.segment_bytes => return Some(segment),
                // Of the time before the tail had another bound.
                Ok(_) => {}
                Err(read) => self.retired.push_back(read),
            }
        }
        // No more memory is kept than the tail may have: its readers free what they hold.
        if self.segments.len() + self.retired.len() >= self.segments_max {
            self.retired.pop_front();
        }
        None
    }

    /// Takes the next `len` bytes of the newest segment for group `group`. What is in
    /// them is of no meaning: whoever takes them fills them.
    pub(crate) fn take(&mut self, len: usize, group: u64) -> BufMut {
        let newest = self.segments.back_mut().expect("a segment was begun before bytes are taken");
        newest.groups.last = group;
        self.rest.as_mut().expect("a segment was begun before bytes are taken").split_to(len)
    }

    /// Bytes that the tail may hold.
    pub(crate) fn bytes_max(&self) -> u64 {
        (self.segments_max * self.segment_bytes) as u64
    }

    /// Bytes that the tail holds.
    pub(crate) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes as u64).sum()
    }
}

/// Enough segments that dropping the oldest never empties the tail.
const SEGMENTS_MIN: usize = 4;
const LONE_GROUP_BYTES: usize = LONE_GROUP_BYTES_MAX as usize;
/// Large enough that a segment's begin is rare, small enough that memory is let go smoothly.
const SEGMENT_BYTES_MAX: usize = 8 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_never_holds_more_segments_than_its_bound() {
        let mut tail = Tail::new(16 << 20, 1 << 20);
        for group in 1..=4 {
            tail.grow(group);
            let _ = tail.take(4096, group);
        }
        assert!(!tail.may_grow());
        assert_eq!(tail.bytes(), tail.bytes_max());
        tail.released_through(2);
        assert!(tail.may_grow());
        assert_eq!(tail.oldest(), Some(GroupRange { first: 3, last: 3 }));
    }

    #[test]
    fn a_tail_that_is_to_hold_less_lets_go_before_it_takes_more() {
        let mut tail = Tail::new(16 << 20, 1 << 20);
        for group in 1..=4 {
            tail.grow(group);
            let _ = tail.take(4096, group);
        }
        tail.set_bound(4 << 20, 1 << 20);
        assert_eq!((tail.bytes(), tail.bytes_max()), (16 << 20, 4 << 20));
        for oldest in 1..=3 {
            assert!(!tail.may_grow(), "{} bytes", tail.bytes());
            tail.released_through(oldest);
        }
        // The last one of before is being filled: it can't go, nor be waited for.
        tail.grow(5);
        assert_eq!((tail.bytes(), tail.room()), (5 << 20, 1 << 20));
        let _ = tail.take(4096, 5);
        assert!(!tail.may_grow());
        tail.released_through(4);
        for group in 6..=8 {
            tail.grow(group);
            assert_eq!(tail.room(), 1 << 20, "not a piece of before");
        }
        assert_eq!(tail.bytes(), tail.bytes_max());
    }

    #[test]
    fn a_small_tail_has_short_groups_and_keeps_its_bound() {
        let longest = crate::geometry::GROUP_BYTES_MAX;
        for (wanted, group) in [(1, LONE_GROUP_BYTES_MAX), (12 << 20, 3 << 20), (64 << 20, longest)]
        {
            let tail = Tail::new(wanted, longest);
            assert_eq!(tail.group_bytes_max(), group);
            assert!(tail.bytes_max() <= wanted.max(8 << 20), "{} of {wanted}", tail.bytes_max());
        }
    }

    #[test]
    fn a_tail_that_may_hold_more_takes_more() {
        let mut tail = Tail::new(4 << 20, 1 << 20);
        (1..=4).for_each(|group| tail.grow(group));
        assert!(!tail.may_grow());
        tail.set_bound(64 << 20, 1 << 20);
        (5..=11).for_each(|group| tail.grow(group));
        assert_eq!((tail.bytes(), tail.may_grow()), ((4 + 7 * 8) << 20, false));
    }

    #[test]
    fn memory_that_nobody_reads_any_more_serves_again() {
        let mut tail = Tail::new(16 << 20, 1 << 20);
        tail.grow(1);
        let read = tail.take(4096, 1).freeze();
        let first = read.as_ptr();
        tail.grow(2);
        tail.released_through(1);
        tail.grow(3);
        assert_ne!(tail.take(4096, 3).as_ptr(), first, "it is still read");
        drop(read);
        tail.grow(4);
        assert_eq!(tail.take(4096, 4).as_ptr(), first);
    }

    #[test]
    fn the_segment_being_filled_is_never_the_one_to_go() {
        let mut tail = Tail::new(16 << 20, 1 << 20);
        tail.grow(1);
        let _ = tail.take(4096, 1);
        tail.released_through(1);
        assert_eq!(tail.oldest(), None);
        assert!(tail.room() > 0);
    }
}
