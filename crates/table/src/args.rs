//! The words of a table one after the other, and what each has to be.

use std::ops::Range;

use crate::ErrorKind;
use crate::error::Fault;
use crate::units::digits;
use crate::words::Word;

/// The words that are left.
#[derive(Debug)]
pub(crate) struct Args<'w> {
    words: &'w [Word<'w>],
    /// Where the next word would stand if there is none.
    end: usize,
}

impl<'w> Args<'w> {
    /// `words`, of which the text before `end` is read already.
    pub(crate) fn new(words: &'w [Word<'w>], end: usize) -> Self {
        Self { words, end: words.last().map_or(end, |last| last.at.end) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// The next word, which stays.
    pub(crate) fn peek(&self) -> Option<&'w Word<'w>> {
        self.words.first()
    }

    /// The next word, whatever it is.
    pub(crate) fn next(
        &mut self,
        argument: &'static str,
        expected: &'static str,
    ) -> Result<&'w Word<'w>, Fault> {
        let Some((next, rest)) = self.words.split_first() else {
            return Err(Fault::new(ErrorKind::Missing { argument, expected }, self.end..self.end));
        };
        self.words = rest;
        Ok(next)
    }

    /// The next word, and the number in `range` that it is.
    pub(crate) fn number(
        &mut self,
        argument: &'static str,
        range: Range<u64>,
    ) -> Result<(u64, &'w Word<'w>), Fault> {
        let word = self.next(argument, "a whole number")?;
        Ok((number(argument, word, range)?, word))
    }

    /// The next word, a number of parameters, and as many words behind it.
    pub(crate) fn counted(&mut self, argument: &'static str) -> Result<Counted<'w>, Fault> {
        let word = self.next(argument, "the number of parameters that follow")?;
        let left = self.words.len();
        let count = match digits(&word.text) {
            Some(count) => count,
            None => number(argument, word, 0..left as u64 + 1)?,
        };
        let taken =
            usize::try_from(count).ok().and_then(|count| self.words.split_at_checked(count));
        let Some((words, rest)) = taken else {
            let kind = ErrorKind::CountBeyondEnd { argument, count, left };
            return Err(word.fault(kind));
        };
        self.words = rest;
        Ok(Counted { argument, word, words })
    }
}

/// The parameters that a number before them counts.
#[derive(Debug)]
pub(crate) struct Counted<'w> {
    argument: &'static str,
    /// The number.
    word: &'w Word<'w>,
    pub(crate) words: &'w [Word<'w>],
}

impl<'w> Counted<'w> {
    /// `words`, which nobody counted; `word` is the first of them.
    pub(crate) fn all(argument: &'static str, word: &'w Word<'w>, words: &'w [Word<'w>]) -> Self {
        Self { argument, word, words }
    }

    /// The words as arguments of their own.
    pub(crate) fn args(&self) -> Args<'w> {
        Args::new(self.words, self.word.at.end)
    }

    /// The number is not one of those that `expected` names.
    pub(crate) fn wrong(&self, expected: &'static str, found: usize) -> Fault {
        let argument = self.argument;
        self.word.fault(ErrorKind::Count { argument, expected, found })
    }
}

fn number(argument: &'static str, word: &Word<'_>, range: Range<u64>) -> Result<u64, Fault> {
    digits(&word.text).filter(|number| range.contains(number)).ok_or_else(|| {
        let (min, max) = (range.start, range.end - 1);
        let found = word.owned();
        word.fault(ErrorKind::Number { argument, min, max, found })
    })
}
