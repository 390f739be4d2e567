//! Where an entry's words came from, so that an error found long after
//! parsing, when entries meet, can still point at one.

use std::fmt;
use std::sync::Arc;

use crate::ErrorKind;
use crate::error::{Position, TableError, position};
use crate::words::{Where, Word};

/// A part of an entry that a later error may be about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Name,
    LogPath,
    /// The `mark:` of the n-th site link.
    MarkPath(usize),
    Replicator,
    DevNr,
    /// The number of the n-th site link.
    SlinkNr(usize),
    /// The site link number of the n-th leg.
    LegSlink(usize),
    LegPath(usize),
    DirtyLogPath(usize),
}

/// The places of the parts, as parsing comes by them.
#[derive(Debug, Default)]
pub(crate) struct Places(Vec<(Part, Where)>);

/// The text an entry was read from and where its parts stand in it; nothing
/// for an entry made in code.
///
/// It says nothing about the entry itself, so all origins are equal.
#[derive(Clone)]
pub(crate) struct Origin(Option<Arc<Known>>);

struct Known {
    text: Arc<str>,
    places: Places,
}

impl Places {
    /// `part` is what `word` says.
    pub(crate) fn note(&mut self, part: Part, word: &Word<'_>) {
        self.0.push((part, word.at.clone()));
    }

    /// Where `part` stands. One that was changed in code after parsing may have
    /// no place: the text's beginning stands in for it.
    pub(crate) fn find(&self, part: Part) -> Where {
        self.0.iter().find(|(known, _)| *known == part).map_or(0..0, |(_, at)| at.clone())
    }
}

impl Origin {
    pub(crate) fn none() -> Self {
        Self(None)
    }

    pub(crate) fn new(text: &Arc<str>, places: Places) -> Self {
        Self(Some(Arc::new(Known { text: Arc::clone(text), places })))
    }

    pub(crate) fn is_known(&self) -> bool {
        self.0.is_some()
    }

    /// An error about `part`.
    pub(crate) fn error(&self, part: Part, kind: ErrorKind) -> TableError {
        let (text, at) = self.find(part);
        TableError::new(text, kind, at)
    }

    /// Where `part` stands.
    pub(crate) fn position(&self, part: Part) -> Position {
        let (text, at) = self.find(part);
        position(text, at.start)
    }

    fn find(&self, part: Part) -> (&str, Where) {
        let Some(known) = &self.0 else { return ("", 0..0) };
        (&known.text, known.places.find(part))
    }
}

/// Without the text, which is longer than all that an entry says.
impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_known() { "text" } else { "code" })
    }
}

impl PartialEq for Origin {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Origin {}
