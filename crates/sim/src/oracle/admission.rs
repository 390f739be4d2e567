//! From a request to its number: requests are numbered when the log takes them in.
//!
//! The application does not know that order, and the machine is free in it; the log's
//! own groups tell it. Fresh writes are known by their content, zeroes by their range.

use std::collections::BTreeMap;
use std::ops::Range;

use blk::{DevNr, Sector, Sectors};

use super::history::{Instant, Nr, Write};
use crate::payload::Content;

/// Names a submitted write until it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Token(u32);

/// One write of a group, as the log is about to have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admission {
    /// The device.
    pub dev: DevNr,
    /// Its first sector.
    pub sector: Sector,
    /// Its length.
    pub len: Sectors,
    /// What it writes.
    pub content: Content,
}

/// Writes under way.
#[derive(Clone, Debug, Default)]
pub(super) struct Admissions {
    /// Submitted, not yet in a group.
    waiting: BTreeMap<Token, Waiting>,
    /// In a group, not yet acknowledged.
    numbers: BTreeMap<Token, Nr>,
    tokens: u32,
    contents: u32,
    log_end: u64,
}

#[derive(Clone, Debug)]
struct Waiting {
    row: Range<usize>,
    content: Content,
    submitted: Instant,
}

impl Admissions {
    pub(super) fn submitted(
        &mut self,
        row: Range<usize>,
        submitted: Instant,
        content: Option<Content>,
    ) -> (Token, Content) {
        self.tokens += 1;
        let content = content.unwrap_or_else(|| {
            self.contents += 1;
            Content(self.contents)
        });
        self.waiting.insert(Token(self.tokens), Waiting { row, content, submitted });
        (Token(self.tokens), content)
    }

    pub(super) fn is_waiting(&self, row: &Range<usize>, content: Content) -> bool {
        self.waiting.values().any(|waiting| waiting.is(row, content))
    }

    /// The log takes in a group of that length.
    pub(super) fn grow(&mut self, len: Sectors) {
        self.log_end += len.0;
    }

    /// Sectors of groups that the log has taken in.
    pub(super) fn log_end(&self) -> u64 {
        self.log_end
    }

    /// Groups behind the one of `last` are lost: the next group follows that one.
    pub(super) fn resume_behind(&mut self, last: &Write) {
        self.log_end = last.log_end;
    }

    /// The oldest write of that content and place, now in the group begun last.
    pub(super) fn take(&mut self, row: &Range<usize>, content: Content) -> Option<(Token, Write)> {
        let found = self.waiting.iter().find(|(_, waiting)| waiting.is(row, content));
        let token = *found?.0;
        let Waiting { row, content, submitted } = self.waiting.remove(&token)?;
        let (acked, log_end) = (Instant::NEVER, self.log_end);
        let (answered, stable) = (false, Instant::NEVER);
        let write = Write { content, row, log_end, submitted, acked, answered, stable };
        Some((token, write))
    }

    pub(super) fn numbered(&mut self, token: Token, nr: Nr) {
        self.numbers.insert(token, nr);
    }

    /// The number of a write that ends now.
    pub(super) fn number(&mut self, token: Token) -> Option<Nr> {
        self.numbers.remove(&token)
    }

    /// Requests end with the process that had them.
    pub(super) fn died(&mut self) {
        self.waiting.clear();
        self.numbers.clear();
    }
}

impl Waiting {
    fn is(&self, row: &Range<usize>, content: Content) -> bool {
        self.row == *row && self.content == content
    }
}
