//! The words of the language: each table reads and prints, so that the two
//! can't differ. Of several spellings the first is the canonical one.

use crate::error::Fault;
use crate::words::Word;
use crate::{ErrorKind, Init, LdLag, Mode, OnDown, OnLimit, Order, Sync};

/// Words and what they mean.
pub(crate) type Spellings<T> = [(&'static str, T)];

/// What `word` means.
pub(crate) fn choose<T: Copy>(
    argument: &'static str,
    word: &Word<'_>,
    spellings: &Spellings<T>,
) -> Result<T, Fault> {
    find(&word.text, spellings).ok_or_else(|| {
        let allowed = spellings.iter().map(|(spelling, _)| *spelling).collect();
        let found = word.owned();
        word.fault(ErrorKind::Word { argument, allowed, found })
    })
}

/// What `text` means, if anything.
pub(crate) fn find<T: Copy>(text: &str, spellings: &Spellings<T>) -> Option<T> {
    spellings.iter().find(|(spelling, _)| *spelling == text).map(|(_, meaning)| *meaning)
}

/// The canonical word for `meaning`.
pub(crate) fn spell<T: PartialEq>(meaning: &T, spellings: &Spellings<T>) -> &'static str {
    let found = spellings.iter().find(|(_, known)| known == meaning);
    found.expect("every meaning has a spelling").0
}

/// The replog types that this grammar knows.
pub(crate) const LOG_TYPES: &Spellings<&str> = &[("ringbuffer", "ringbuffer")];

/// The site link types that this grammar knows.
pub(crate) const SLINK_TYPES: &Spellings<&str> = &[("blockdev", "blockdev")];

pub(crate) const MODES: &Spellings<Mode> =
    &[("auto", Mode::Auto), ("open", Mode::Open), ("create", Mode::Create)];

pub(crate) const LD_LAGS: &Spellings<LdLag> = &[("tail", LdLag::Tail), ("log", LdLag::Log)];

/// The short words are the documented ones, the long ones what the code of the time took.
pub(crate) const SYNCS: &Spellings<Sync> = &[
    ("sync", Sync::Sync),
    ("async", Sync::Async),
    ("synchronous", Sync::Sync),
    ("asynchronous", Sync::Async),
];

pub(crate) const ON_LIMITS: &Spellings<OnLimit> =
    &[("sync", OnLimit::Sync), ("bitmap", OnLimit::Bitmap)];

pub(crate) const ON_DOWNS: &Spellings<OnDown> =
    &[("bitmap", OnDown::Bitmap), ("hold", OnDown::Hold), ("error", OnDown::Error)];

pub(crate) const ORDERS: &Spellings<Order> = &[("group", Order::Group), ("flush", Order::Flush)];

pub(crate) const INITS: &Spellings<Init> =
    &[("sync", Init::Sync), ("nosync", Init::Nosync), ("later", Init::Later)];

/// Every word that a table can say, by the parameter that it stands for: for documents, which
/// must not lack one.
#[must_use]
pub fn vocabulary() -> Vec<(&'static str, Vec<&'static str>)> {
    fn words<T>(spellings: &Spellings<T>) -> Vec<&'static str> {
        spellings.iter().map(|(word, _)| *word).collect()
    }
    let (of_log, of_slink) = crate::options::keys();
    vec![
        ("<replog_type>", words(LOG_TYPES)),
        ("<mode>", words(MODES)),
        ("<slink_type>", words(SLINK_TYPES)),
        ("<slink_policy>", words(SYNCS)),
        ("option of the log", of_log),
        ("option of a site link", of_slink),
        ("ld_lag", words(LD_LAGS)),
        ("on_limit", words(ON_LIMITS)),
        ("on_down", words(ON_DOWNS)),
        ("order", words(ORDERS)),
        ("INIT", words(INITS)),
    ]
}
