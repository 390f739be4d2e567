//! A table file, and a single table without a name.

use std::str::FromStr;
use std::sync::Arc;

use crate::error::Fault;
use crate::limits::TEXT_BYTES_MAX;
use crate::name::check_name;
use crate::words::{Word, lines};
use crate::{Entry, ErrorKind, TableError, TableFile, check, target};

impl TableFile {
    /// Reads lines `NAME: START LEN TARGET ARGS`, as `dmsetup table` prints them.
    ///
    /// A backslash at its end continues a line; `#` before a word begins a
    /// comment; blank lines don't count. A device may precede its replicator.
    ///
    /// # Errors
    /// The first thing that is wrong, also between the lines: a name or a
    /// backing device that two of them claim. [`TableFile::groups`] checks
    /// what devices and replicators say about each other.
    pub fn parse(text: &str) -> Result<Self, TableError> {
        parse(text, |text| {
            let lines = lines(text)?;
            let entries = lines.iter().map(|words| named(text, words));
            Ok(Self { entries: entries.collect::<Result<_, _>>()? })
        })
        .and_then(Self::checked)
    }

    /// Reads what may not even be text, otherwise as [`TableFile::parse`].
    ///
    /// # Errors
    /// As there, and that it isn't text.
    pub fn parse_bytes(bytes: &[u8]) -> Result<Self, TableError> {
        check_length(bytes.len())?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::parse(text),
            Err(error) => {
                let at = error.valid_up_to();
                let kind = ErrorKind::NotUtf8 { byte: bytes[at] };
                Err(TableError::new(&String::from_utf8_lossy(bytes), kind, at..at))
            }
        }
    }

    /// The file, if its entries may stand beside each other.
    pub(crate) fn checked(self) -> Result<Self, TableError> {
        check::entries(&self.entries)?;
        Ok(self)
    }
}

impl Entry {
    /// Reads one table without a name, `START LEN TARGET ARGS`.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, TableError> {
        let entry = parse(text, |text| {
            let lines = lines(text)?;
            let Some((words, more)) = lines.split_first() else {
                return Err(Fault::new(ErrorKind::NoTable, 0..0));
            };
            if let Some(name) = words.first().filter(|word| word.text.ends_with(':')) {
                let found = name.owned();
                return Err(name.fault(ErrorKind::NameGiven { found }));
            }
            match more.first().and_then(|line| line.first()) {
                Some(word) => Err(word.fault(ErrorKind::ManyTargets)),
                None => target::read(text, None, words, 0),
            }
        })?;
        check::entries(std::slice::from_ref(&entry))?;
        Ok(entry)
    }

    /// The same entry under `name`, which did not come from the same text.
    ///
    /// # Errors
    /// That nothing can be named so.
    pub fn named(mut self, name: &str) -> Result<Self, TableError> {
        check_name(name).map_err(|kind| TableError::new(name, kind, 0..name.len()))?;
        self.name = Some(name.to_owned());
        Ok(self)
    }
}

impl FromStr for TableFile {
    type Err = TableError;
    fn from_str(text: &str) -> Result<Self, TableError> {
        Self::parse(text)
    }
}

impl FromStr for Entry {
    type Err = TableError;
    fn from_str(text: &str) -> Result<Self, TableError> {
        Self::parse(text)
    }
}

/// Runs `read` over a text of bearable length and gives its fault a place.
pub(crate) fn parse<T>(
    text: &str,
    read: impl FnOnce(&Arc<str>) -> Result<T, Fault>,
) -> Result<T, TableError> {
    check_length(text.len())?;
    read(&Arc::from(text)).map_err(|fault| fault.into_error(text))
}

fn check_length(bytes: usize) -> Result<(), TableError> {
    if bytes <= TEXT_BYTES_MAX {
        return Ok(());
    }
    Err(TableError::new("", ErrorKind::TextBytes { bytes }, 0..0))
}

/// A line of a file: a name, a colon, a table.
fn named(text: &Arc<str>, words: &[Word<'_>]) -> Result<Entry, Fault> {
    let (first, rest) = words.split_first().expect("lines without words are left out");
    let name = name(first)?;
    target::read(text, Some(name), rest, first.at.end)
}

fn name<'w>(word: &'w Word<'w>) -> Result<(String, &'w Word<'w>), Fault> {
    let Some(name) = word.text.strip_suffix(':') else {
        let found = word.owned();
        return Err(word.fault(ErrorKind::NoName { found }));
    };
    check_name(name).map_err(|kind| word.fault(kind))?;
    Ok((name.to_owned(), word))
}
