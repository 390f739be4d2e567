//! The `key:value` options behind the documented parameters.

use crate::error::Fault;
use crate::limits::{TAIL_BYTES_MAX, TAIL_BYTES_MIN, TIMEOUT_IO_MS_MAX, TIMEOUT_IO_MS_MIN};
use crate::name::path;
use crate::origin::{Part, Places};
use crate::spelling::{LD_LAGS, ON_DOWNS, ON_LIMITS, ORDERS, Spellings, choose};
use crate::words::{Where, Word};
use crate::{ErrorKind, LogTable, SlinkOptions, units};

/// How many of `words` come before the options.
///
/// No documented parameter but the log's path, which is first, holds a colon.
pub(crate) fn count_positional(words: &[Word<'_>]) -> usize {
    let option = |word: &Word<'_>| word.text.contains(':');
    words.iter().skip(1).position(option).map_or(words.len(), |found| found + 1)
}

/// Reads the options of a replog into `log`.
pub(crate) fn read_log(words: &[Word<'_>], log: &mut LogTable) -> Result<(), Fault> {
    for option in Options::new(words, LOG_KEYS) {
        match option? {
            (LogKey::Tail, value) => {
                let range = TAIL_BYTES_MIN..=TAIL_BYTES_MAX;
                log.tail_bytes = Some(units::bytes_within("tail", &value, range)?);
            }
            (LogKey::LdLag, value) => log.ld_lag = Some(choose("ld_lag", &value, LD_LAGS)?),
        }
    }
    Ok(())
}

/// Reads the options of the `nth` site link.
pub(crate) fn read_slink(
    words: &[Word<'_>],
    nth: usize,
    places: &mut Places,
) -> Result<SlinkOptions, Fault> {
    let mut options = SlinkOptions::default();
    for option in Options::new(words, SLINK_KEYS) {
        let (key, value) = option?;
        match key {
            SlinkKey::OnLimit => options.on_limit = Some(choose("on_limit", &value, ON_LIMITS)?),
            SlinkKey::OnDown => options.on_down = Some(choose("on_down", &value, ON_DOWNS)?),
            SlinkKey::TimeoutIo => {
                let range = TIMEOUT_IO_MS_MIN..=TIMEOUT_IO_MS_MAX;
                options.timeout_io = Some(units::time_within("timeout_io", &value, range)?);
            }
            SlinkKey::ResyncRate => {
                options.resync_rate = Some(units::bytes("resync_rate", &value)?);
            }
            SlinkKey::Order => options.order = Some(choose("order", &value, ORDERS)?),
            SlinkKey::Mark => {
                options.mark = Some(path("mark", &value)?);
                places.note(Part::MarkPath(nth), &value);
            }
        }
    }
    Ok(options)
}

/// The options one by one: each a known key, once, and its value.
struct Options<'w, K: 'static> {
    words: &'w [Word<'w>],
    keys: &'static Spellings<K>,
    /// The keys that came already, by their place in `keys`.
    seen: Vec<(usize, Where)>,
}

impl<'w, K: Copy> Options<'w, K> {
    fn new(words: &'w [Word<'w>], keys: &'static Spellings<K>) -> Self {
        Self { words, keys, seen: Vec::new() }
    }

    fn read(&mut self, word: &Word<'w>) -> Result<(K, Word<'w>), Fault> {
        let Some((key, value)) = word.split_once(':') else {
            return Err(word.fault(ErrorKind::OptionsLast { found: word.owned() }));
        };
        let Some(known) = self.keys.iter().position(|(known, _)| *known == key.text) else {
            let allowed = self.keys.iter().map(|(known, _)| *known).collect();
            return Err(key.fault(ErrorKind::OptionKey { allowed, key: key.owned() }));
        };
        let (spelling, meaning) = self.keys[known];
        if let Some((_, first)) = self.seen.iter().find(|(seen, _)| *seen == known) {
            let fault = key.fault(ErrorKind::OptionTwice { key: spelling });
            return Err(fault.with_first(first.clone()));
        }
        self.seen.push((known, key.at));
        Ok((meaning, value))
    }
}

impl<'w, K: Copy> Iterator for Options<'w, K> {
    type Item = Result<(K, Word<'w>), Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        let (word, rest) = self.words.split_first()?;
        self.words = rest;
        Some(self.read(word))
    }
}

#[derive(Clone, Copy)]
enum LogKey {
    Tail,
    LdLag,
}

#[derive(Clone, Copy)]
enum SlinkKey {
    OnLimit,
    OnDown,
    TimeoutIo,
    ResyncRate,
    Order,
    Mark,
}

const LOG_KEYS: &Spellings<LogKey> = &[("tail", LogKey::Tail), ("ld_lag", LogKey::LdLag)];

const SLINK_KEYS: &Spellings<SlinkKey> = &[
    ("on_limit", SlinkKey::OnLimit),
    ("on_down", SlinkKey::OnDown),
    ("timeout_io", SlinkKey::TimeoutIo),
    ("resync_rate", SlinkKey::ResyncRate),
    ("order", SlinkKey::Order),
    ("mark", SlinkKey::Mark),
];

/// The keys of the log's options, and those of a site link's.
pub(crate) fn keys() -> (Vec<&'static str>, Vec<&'static str>) {
    let of_log = LOG_KEYS.iter().map(|(key, _)| *key).collect();
    (of_log, SLINK_KEYS.iter().map(|(key, _)| *key).collect())
}
