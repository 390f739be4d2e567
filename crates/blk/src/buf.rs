//! Page-aligned memory that one side fills and many sides read.
//!
//! A [`BufMut`] is the only handle to its range: it can be split, filled and
//! frozen. A [`Buf`] is frozen for good and shared by reference count, so that a
//! log write, a copy to the LD, five remote writes and a read can all use the
//! very bytes that were checksummed (P16). The memory goes back when the last
//! handle is gone, not earlier: a hung device may hold a buffer as long as the
//! kernel does, and no longer.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::fmt;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;

use smallvec::SmallVec;

/// What one vectored write sends, in order; one buffer costs no allocation.
pub type Gather = SmallVec<[Buf; 1]>;

/// A frozen, shared range of aligned memory.
#[derive(Clone)]
pub struct Buf {
    segment: Arc<Segment>,
    range: Range<usize>,
}

/// The only handle to a range of aligned memory that may still change.
pub struct BufMut {
    segment: Arc<Segment>,
    range: Range<usize>,
}

impl BufMut {
    /// Zeroed memory of `len` bytes, aligned to 4096 bytes.
    ///
    /// # Panics
    /// If `len` is 0. Like any allocation it aborts when memory is exhausted.
    #[must_use]
    pub fn zeroed(len: usize) -> Self {
        Self { segment: Arc::new(Segment::zeroed(len)), range: 0..len }
    }

    /// Takes the first `len` bytes off; `self` keeps the rest.
    ///
    /// # Panics
    /// If `len` is more than there is.
    #[must_use]
    pub fn split_to(&mut self, len: usize) -> Self {
        assert!(len <= self.len(), "cannot split {len} bytes off {}", self.len());
        let middle = self.range.start + len;
        let front = Self { segment: Arc::clone(&self.segment), range: self.range.start..middle };
        self.range.start = middle;
        front
    }

    /// Ends all change; the bytes can be shared from now on.
    #[must_use]
    pub fn freeze(self) -> Buf {
        Buf { segment: self.segment, range: self.range }
    }

    /// Bytes in this range.
    #[must_use]
    pub fn len(&self) -> usize {
        self.range.len()
    }

    /// Whether the range holds no byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// The address of the first byte, for a system call.
    #[must_use]
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.segment.at(self.range.start)
    }
}

impl std::ops::Deref for BufMut {
    type Target = [u8];
    #[allow(unsafe_code)]
    fn deref(&self) -> &[u8] {
        // SAFETY: the range lies inside the segment, whose memory was zeroed at birth, and no
        // other handle covers it: `zeroed` and `split_to` are the only sources of a `BufMut`.
        unsafe { std::slice::from_raw_parts(self.segment.at(self.range.start), self.len()) }
    }
}

impl std::ops::DerefMut for BufMut {
    #[allow(unsafe_code)]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `&mut self` makes this the only borrow of the range.
        unsafe { std::slice::from_raw_parts_mut(self.segment.at(self.range.start), self.len()) }
    }
}

impl Buf {
    /// A part of this range, sharing its memory.
    ///
    /// # Panics
    /// If `range` is not inside this buffer.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Self {
        assert!(
            range.start <= range.end && range.end <= self.len(),
            "slice {range:?} of a buffer of {} bytes",
            self.len()
        );
        let start = self.range.start + range.start;
        Self { segment: Arc::clone(&self.segment), range: start..start + range.len() }
    }

    /// This range and the one that follows it directly in memory, as one.
    ///
    /// # Panics
    /// If `next` does not begin where `self` ends, in the same memory.
    #[must_use]
    pub fn join(self, next: &Self) -> Self {
        assert!(
            Arc::ptr_eq(&self.segment, &next.segment) && self.range.end == next.range.start,
            "joined buffers must be neighbours"
        );
        Self { range: self.range.start..next.range.end, segment: self.segment }
    }

    /// The whole segment, to be filled again, with its old bytes in it; `self` back if
    /// another handle into the segment is left.
    ///
    /// # Errors
    /// The buffer itself.
    pub fn try_into_mut(mut self) -> Result<BufMut, Self> {
        match Arc::get_mut(&mut self.segment) {
            Some(segment) => {
                let range = 0..segment.layout.size();
                Ok(BufMut { segment: self.segment, range })
            }
            None => Err(self),
        }
    }

    /// Bytes in this range.
    #[must_use]
    pub fn len(&self) -> usize {
        self.range.len()
    }

    /// Whether the range holds no byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }
}

impl std::ops::Deref for Buf {
    type Target = [u8];
    #[allow(unsafe_code)]
    fn deref(&self) -> &[u8] {
        // SAFETY: the range lies inside the segment, is initialised, and is frozen: `freeze`
        // consumed the only handle that could change it.
        unsafe { std::slice::from_raw_parts(self.segment.at(self.range.start), self.len()) }
    }
}

impl From<&[u8]> for Buf {
    /// Copies `bytes` into aligned memory of their own.
    fn from(bytes: &[u8]) -> Self {
        let mut buf = BufMut::zeroed(bytes.len());
        buf.copy_from_slice(bytes);
        buf.freeze()
    }
}

impl fmt::Debug for Buf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buf({} bytes)", self.len())
    }
}

impl fmt::Debug for BufMut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BufMut({} bytes)", self.len())
    }
}

/// One allocation, shared by all handles into it.
struct Segment {
    memory: NonNull<u8>,
    layout: Layout,
}

/// Alignment that satisfies O_DIRECT on any device with blocks of up to 4 KiB.
const ALIGN: usize = 4096;
/// One page fault instead of 512, also for direct I/O, which looks up every page.
const HUGE_PAGE: usize = 2 << 20;

/// Before the memory is touched. A kernel that has no huge page to give gives small ones.
#[allow(unsafe_code)]
fn prefer_huge_pages(memory: NonNull<u8>, len: usize) {
    // An interpreter has none, and knows nothing of the advice.
    if cfg!(miri) {
        return;
    }
    let whole_pages = len - len % HUGE_PAGE;
    // SAFETY: the range is ours, whole pages of it; the advice changes no byte and frees nothing.
    unsafe { libc::madvise(memory.as_ptr().cast(), whole_pages, libc::MADV_HUGEPAGE) };
}

#[allow(unsafe_code)]
impl Segment {
    fn zeroed(len: usize) -> Self {
        assert!(len > 0, "an empty segment has no memory");
        let align = if len >= HUGE_PAGE { HUGE_PAGE } else { ALIGN };
        let layout =
            Layout::from_size_align(len, align).expect("a segment is far below isize::MAX");
        // SAFETY: the layout's size is not zero (asserted above).
        let memory = unsafe { alloc(layout) };
        let Some(memory) = NonNull::new(memory) else { handle_alloc_error(layout) };
        if align == HUGE_PAGE {
            prefer_huge_pages(memory, len);
        }
        // SAFETY: the memory was just allocated with this length, and nobody else has it.
        unsafe { memory.write_bytes(0, len) };
        Self { memory, layout }
    }

    fn at(&self, offset: usize) -> *mut u8 {
        assert!(offset <= self.layout.size(), "offset {offset} outside the segment");
        // SAFETY: the offset is inside the allocation, or one past its end.
        unsafe { self.memory.as_ptr().add(offset) }
    }
}

#[allow(unsafe_code)]
impl Drop for Segment {
    fn drop(&mut self) {
        // SAFETY: allocated by `zeroed` with this very layout, and freed once.
        unsafe { dealloc(self.memory.as_ptr(), self.layout) }
    }
}

// SAFETY: a segment is plain memory; which handle may change which range is settled by
// `BufMut` (exclusive, disjoint) and `Buf` (frozen), whichever thread they are on.
#[allow(unsafe_code)]
unsafe impl Send for Segment {}
// SAFETY: as above; a shared segment offers no access of its own.
#[allow(unsafe_code)]
unsafe impl Sync for Segment {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn split_ranges_are_disjoint_and_join_again_when_frozen() {
        let mut rest = BufMut::zeroed(8192);
        let mut front = rest.split_to(512);
        front.fill(1);
        rest.fill(2);
        let (front, rest) = (front.freeze(), rest.freeze());
        let whole = front.clone().join(&rest);
        assert_eq!(whole.len(), 8192);
        assert!(whole[..512].iter().all(|b| *b == 1) && whole[512..].iter().all(|b| *b == 2));
        assert_eq!(&whole.slice(511..513)[..], &[1, 2]);
    }

    #[test]
    fn memory_is_aligned_for_direct_io() {
        assert_eq!(BufMut::zeroed(512).as_mut_ptr() as usize % ALIGN, 0);
    }

    #[test]
    fn memory_may_change_again_only_when_one_handle_is_left() {
        let frozen = BufMut::zeroed(8192).freeze();
        let shared = frozen.slice(4096..4608);
        let frozen = frozen.try_into_mut().unwrap_err();
        drop(frozen);
        assert_eq!(shared.try_into_mut().unwrap().len(), 8192);
    }

    #[test]
    fn large_memory_is_zeroed_and_aligned_to_huge_pages() {
        let mut large = BufMut::zeroed(HUGE_PAGE + 4096);
        assert_eq!(large.as_mut_ptr() as usize % HUGE_PAGE, 0);
        assert!(large[..] == vec![0; HUGE_PAGE + 4096]);
    }

    #[test]
    #[should_panic(expected = "neighbours")]
    fn buffers_that_are_not_neighbours_do_not_join() {
        let (a, b) = (BufMut::zeroed(512).freeze(), BufMut::zeroed(512).freeze());
        let _ = a.join(&b);
    }
}
