//! Which payloads have been durable in the log, sector by sector (P4).

use crate::payload::Content;

/// Grows only: what is durable once stays recoverable until its space is reused, and
/// whether it is reused too early shows at the next recovery.
#[derive(Clone, Debug, Default)]
pub(super) struct DurablePayloads {
    /// By content: the first sector seen, and one bit for each sector from there on.
    rows: Vec<Option<Run>>,
}

#[derive(Clone, Debug)]
struct Run {
    first: usize,
    bits: Vec<u64>,
}

impl DurablePayloads {
    pub(super) fn insert(&mut self, content: Content, at: usize) {
        let index = index(content);
        if self.rows.len() <= index {
            self.rows.resize(index + 1, None);
        }
        let run = self.rows[index].get_or_insert_with(|| Run { first: at, bits: Vec::new() });
        run.insert(at);
    }

    pub(super) fn contains(&self, content: Content, at: usize) -> bool {
        let run = self.rows.get(index(content)).and_then(Option::as_ref);
        run.is_some_and(|run| run.contains(at))
    }
}

impl Run {
    fn insert(&mut self, at: usize) {
        if at < self.first {
            self.start_at(at);
        }
        let (word, bit) = split(at - self.first);
        if self.bits.len() <= word {
            self.bits.resize(word + 1, 0);
        }
        self.bits[word] |= 1 << bit;
    }

    fn contains(&self, at: usize) -> bool {
        let Some(offset) = at.checked_sub(self.first) else { return false };
        let (word, bit) = split(offset);
        self.bits.get(word).is_some_and(|bits| bits >> bit & 1 == 1)
    }

    /// Sectors become durable in any order: the run may have to grow to the front.
    fn start_at(&mut self, first: usize) {
        let mut grown = Self { first, bits: Vec::new() };
        let old = (self.first..self.first + self.bits.len() * 64).filter(|&at| self.contains(at));
        old.for_each(|at| grown.insert(at));
        *self = grown;
    }
}

fn split(offset: usize) -> (usize, usize) {
    (offset / 64, offset % 64)
}

fn index(content: Content) -> usize {
    usize::try_from(content.0).expect("a content's number fits an index")
}
