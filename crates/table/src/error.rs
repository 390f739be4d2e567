//! An error, its place, and the line it is on with a mark under the word.

use std::fmt::{self, Write as _};

use crate::kind::ErrorKind;
use crate::words::{Where, is_hidden};

/// What is wrong with a table, and where.
///
/// Printed, it is a sentence after `LINE:COLUMN: ` (after `FILE:LINE:COLUMN: `
/// for one that has been told the file), then the line and a mark under the word:
///
/// ```text
/// 1:28: <mode>: expected `auto`, `open` or `create`, found `crate`
///     repl: 0 1 replicator ringbuffer 4 /dev/log 0 crate 8192 blockdev 1 0
///                                                  ^~~~~
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableError(Box<Inner>);

/// A place in a text; both count from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Inner {
    kind: ErrorKind,
    file: Option<String>,
    position: Position,
    first: Option<Position>,
    /// The line the error is on, as it is to be shown.
    line: String,
    /// How many characters of it are marked; 0 marks where something is missing.
    marked: usize,
}

/// An error that doesn't know its text yet.
#[derive(Debug)]
pub(crate) struct Fault {
    kind: Box<ErrorKind>,
    at: Where,
    first: Option<Where>,
}

impl TableError {
    /// An error about the part `at` of `text`.
    pub(crate) fn new(text: &str, kind: ErrorKind, at: Where) -> Self {
        let line_start = text[..at.start].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = text[at.start..].find('\n').map_or(text.len(), |length| at.start + length);
        let line = &text[line_start..line_end];
        let marked = text[at.start..at.end.clamp(at.start, line_end)].chars().count();
        Self(Box::new(Inner {
            kind,
            file: None,
            position: position(text, at.start),
            first: None,
            line: line.strip_suffix('\r').unwrap_or(line).chars().map(shown).collect(),
            marked,
        }))
    }

    /// What is wrong, with the facts.
    #[must_use]
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// The same, without its place.
    #[must_use]
    pub fn into_kind(self) -> ErrorKind {
        self.0.kind
    }

    /// Where it is.
    #[must_use]
    pub fn position(&self) -> Position {
        self.0.position
    }

    /// Where that is which it contradicts: the first of two that may not be the same.
    #[must_use]
    pub fn first(&self) -> Option<Position> {
        self.0.first
    }

    /// The same error, printed with the name of the file it is in.
    #[must_use]
    pub fn in_file(mut self, file: impl Into<String>) -> Self {
        self.0.file = Some(file.into());
        self
    }

    pub(crate) fn with_first(mut self, first: Position) -> Self {
        self.0.first = Some(first);
        self
    }
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind, file, position, first, line, marked } = &*self.0;
        if let Some(file) = file {
            write!(f, "{file}:")?;
        }
        write!(f, "{position}: {kind}")?;
        if let Some(first) = first {
            write!(f, " (the first is at {first})")?;
        }
        f.write_str(&excerpt(line, position.column - 1, *marked))
    }
}

impl std::error::Error for TableError {}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

impl Fault {
    pub(crate) fn new(kind: ErrorKind, at: Where) -> Self {
        Self { kind: Box::new(kind), at, first: None }
    }

    /// The same fault, which lies in contradicting what stands at `first`.
    pub(crate) fn with_first(mut self, first: Where) -> Self {
        self.first = Some(first);
        self
    }

    /// What is wrong, without its place.
    pub(crate) fn into_kind(self) -> ErrorKind {
        *self.kind
    }

    pub(crate) fn into_error(self, text: &str) -> TableError {
        let error = TableError::new(text, *self.kind, self.at);
        match self.first {
            Some(first) => error.with_first(position(text, first.start)),
            None => error,
        }
    }
}

/// The place of byte `at`.
pub(crate) fn position(text: &str, at: usize) -> Position {
    let before = &text[..at];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    Position {
        line: before.bytes().filter(|b| *b == b'\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
    }
}

/// The part of `line` around the mark, and the mark below it.
fn excerpt(line: &str, mark_at: usize, marked: usize) -> String {
    let chars: Vec<char> = line.chars().collect();
    let start = if chars.len() > SHOWN_MAX { mark_at.saturating_sub(SHOWN_BEFORE) } else { 0 };
    let end = chars.len().min(start + SHOWN_MAX);
    let (before, after) =
        (if start > 0 { CUT } else { "" }, if end < chars.len() { CUT } else { "" });

    let mut text = format!("\n{INDENT}{before}");
    text.extend(&chars[start..end]);
    let _ = write!(text, "{after}\n{INDENT}{:1$}", "", before.chars().count());
    // A tab stays a tab, so that the mark stands below its word on any terminal.
    text.extend((start..mark_at).map(|i| if chars.get(i) == Some(&'\t') { '\t' } else { ' ' }));
    text.push('^');
    text.extend((1..marked.min(end.saturating_sub(mark_at))).map(|_| '~'));
    text
}

/// A character as an error may show it: a table must not drive a terminal.
fn shown(c: char) -> char {
    if is_hidden(c) && c != '\t' { char::REPLACEMENT_CHARACTER } else { c }
}

const INDENT: &str = "    ";
const CUT: &str = "...";

/// The longest line shown whole; of a longer one, a window of this width.
const SHOWN_MAX: usize = 110;

/// How much of a window lies before the mark.
const SHOWN_BEFORE: usize = 50;
