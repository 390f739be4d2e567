//! Text into words that know where they stood.
//!
//! A word ends at a blank; a backslash takes the next character as it is, as
//! device-mapper does, so a path may hold blanks. In a file a backslash at the
//! end of a line continues it, and `#` before a word begins a comment; a line
//! that is nothing but a comment may stand between the lines of a table.

use std::borrow::Cow;
use std::ops::Range;

use crate::ErrorKind;
use crate::error::Fault;

/// Where a word stands: bytes of the text.
pub(crate) type Where = Range<usize>;

/// A word, its backslashes resolved.
#[derive(Clone, Debug)]
pub(crate) struct Word<'a> {
    pub(crate) text: Cow<'a, str>,
    pub(crate) at: Where,
}

impl<'a> Word<'a> {
    /// What is wrong with this word.
    pub(crate) fn fault(&self, kind: ErrorKind) -> Fault {
        Fault::new(kind, self.at.clone())
    }

    /// Its text, as tables and errors keep it.
    pub(crate) fn owned(&self) -> String {
        self.text.to_string()
    }

    /// The parts of `separator`-ed words, each with its own place.
    pub(crate) fn split(&self, separator: char) -> Vec<Self> {
        let mut from = 0;
        self.text
            .split(separator)
            .map(|part| {
                let word = self.part(from..from + part.len());
                from += part.len() + separator.len_utf8();
                word
            })
            .collect()
    }

    /// The parts before and after the first `separator`, if there is one.
    pub(crate) fn split_once(&self, separator: char) -> Option<(Self, Self)> {
        let middle = self.text.find(separator)?;
        let after = middle + separator.len_utf8();
        Some((self.part(0..middle), self.part(after..self.text.len())))
    }

    /// A word with escapes has bytes that its text lacks: its parts stand where it stands.
    fn part(&self, range: Where) -> Self {
        match &self.text {
            Cow::Borrowed(text) => Self {
                at: self.at.start + range.start..self.at.start + range.end,
                text: Cow::Borrowed(&text[range]),
            },
            Cow::Owned(text) => {
                Self { text: Cow::Owned(text[range].to_owned()), at: self.at.clone() }
            }
        }
    }
}

/// The lines of a table that hold words; one may be several of the text.
pub(crate) fn lines(text: &str) -> Result<Vec<Vec<Word<'_>>>, Fault> {
    let mut lines = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let line = line(text, &mut at)?;
        if !line.is_empty() {
            lines.push(line);
        }
    }
    Ok(lines)
}

/// The next line; `at` moves behind it.
fn line<'a>(text: &'a str, at: &mut usize) -> Result<Vec<Word<'a>>, Fault> {
    let mut words = Vec::new();
    let mut continued = false;
    loop {
        *at = skip_blanks(text, *at);
        let rest = &text[*at..];
        if let Some(length) = continuation(rest) {
            *at += length;
            continued = true;
        } else if rest.starts_with('#') {
            *at += rest.find('\n').unwrap_or(rest.len());
            // A comment between the lines of a table takes its line end with it.
            *at += usize::from(continued && *at < text.len());
        } else if rest.is_empty() || rest.starts_with('\n') {
            *at += usize::from(!rest.is_empty());
            return Ok(words);
        } else {
            let word = word(text, *at, is_blank)?;
            *at = word.at.end;
            words.push(word);
            continued = false;
        }
    }
}

/// The word that begins at `start`, up to a character that is an `end`.
pub(crate) fn word(text: &str, start: usize, end: fn(char) -> bool) -> Result<Word<'_>, Fault> {
    let mut unescaped: Option<String> = None;
    let mut chars = text[start..].char_indices();
    let mut stop = text.len();
    while let Some((offset, c)) = chars.next() {
        let at = start + offset;
        let c = match c {
            c if end(c) || ends_line(&text[at..]) || is_bare_escape(&text[at..]) => {
                stop = at;
                break;
            }
            '\\' => {
                unescaped.get_or_insert_with(|| text[start..at].to_owned());
                let (_, escaped) = chars.next().expect("an escape at the end is a bare one");
                printable(escaped, at)?
            }
            c if c.is_whitespace() => return Err(unprintable(c, at)),
            c => printable(c, at)?,
        };
        if let Some(unescaped) = &mut unescaped {
            unescaped.push(c);
        }
    }
    let text = unescaped.map_or(Cow::Borrowed(&text[start..stop]), Cow::Owned);
    Ok(Word { text, at: start..stop })
}

/// Where the first character after `at` is that is neither space, tab, nor the
/// carriage return of a line end.
pub(crate) fn skip_blanks(text: &str, at: usize) -> usize {
    let blank = |(offset, c): &(usize, char)| match c {
        '\r' => text[at + offset..].starts_with("\r\n"),
        c => matches!(c, ' ' | '\t'),
    };
    text[at..].char_indices().find(|c| !blank(c)).map_or(text.len(), |(offset, _)| at + offset)
}

/// How long a backslash between words is that ends its line, with that line end.
///
/// Blanks behind it don't count: nobody sees them. Behind a word they do, as
/// they may be its last character.
pub(crate) fn continuation(rest: &str) -> Option<usize> {
    let behind = rest.strip_prefix('\\')?;
    let blanks = behind.bytes().take_while(|b| matches!(b, b' ' | b'\t')).count();
    let rest = &behind[blanks..];
    ends_line(rest).then(|| 1 + blanks + rest.find('\n').map_or(0, |newline| newline + 1))
}

/// Whether a backslash has nothing on its line to escape.
fn is_bare_escape(rest: &str) -> bool {
    rest.strip_prefix('\\').is_some_and(ends_line)
}

fn ends_line(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with('\n') || rest.starts_with("\r\n")
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n')
}

fn printable(c: char, at: usize) -> Result<char, Fault> {
    if is_hidden(c) { Err(unprintable(c, at)) } else { Ok(c) }
}

/// Whether a character is never part of a word, even behind a backslash.
pub(crate) fn is_hidden(c: char) -> bool {
    c.is_control() || c == BYTE_ORDER_MARK
}

fn unprintable(character: char, at: usize) -> Fault {
    Fault::new(ErrorKind::Character { character }, at..at)
}

/// What some editors put before a text, and nobody sees.
const BYTE_ORDER_MARK: char = '\u{feff}';
