//! The `key:value` options behind the documented parameters.

use crate::error::Fault;
use crate::limits::{TAIL_BYTES_MAX, TAIL_BYTES_MIN, TIMEOUT_IO_MS_MAX, TIMEOUT_IO_MS_MIN};
use crate::name::check_path;
use crate::origin::{Part, Places};
use crate::spelling::{LD_LAGS, ON_DOWNS, ON_LIMITS, ORDERS, choose};
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
    for option in Options::new(words, &LOG_KEYS) {
        let (key, value) = option?;
        match key {
            "tail" => {
                let range = TAIL_BYTES_MIN..=TAIL_BYTES_MAX;
                log.tail_bytes = Some(units::bytes_within("tail", &value, range)?);
            }
            "ld_lag" => log.ld_lag = Some(choose("ld_lag", &value, LD_LAGS)?),
            other => unreachable!("`{other}` is not among the keys of a replog"),
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
    for option in Options::new(words, &SLINK_KEYS) {
        let (key, value) = option?;
        match key {
            "on_limit" => options.on_limit = Some(choose("on_limit", &value, ON_LIMITS)?),
            "on_down" => options.on_down = Some(choose("on_down", &value, ON_DOWNS)?),
            "timeout_io" => {
                let range = TIMEOUT_IO_MS_MIN..=TIMEOUT_IO_MS_MAX;
                options.timeout_io = Some(units::time_within("timeout_io", &value, range)?);
            }
            "resync_rate" => options.resync_rate = Some(units::bytes("resync_rate", &value)?),
            "order" => options.order = Some(choose("order", &value, ORDERS)?),
            "mark" => {
                check_path("mark", &value.text)
                    .map_err(|kind| Fault::new(kind, value.at.clone()))?;
                places.push((Part::MarkPath(nth), value.at));
                options.mark = Some(value.text.into_owned());
            }
            other => unreachable!("`{other}` is not among the keys of a site link"),
        }
    }
    Ok(options)
}

/// The options one by one: each a known key, once, and its value.
struct Options<'w> {
    words: &'w [Word<'w>],
    keys: &'static [&'static str],
    seen: Vec<(&'static str, Where)>,
}

impl<'w> Options<'w> {
    fn new(words: &'w [Word<'w>], keys: &'static [&'static str]) -> Self {
        Self { words, keys, seen: Vec::new() }
    }

    fn read(&mut self, word: &Word<'w>) -> Result<(&'static str, Word<'w>), Fault> {
        let Some((key, value)) = word.split_once(':') else {
            let found = word.text.to_string();
            return Err(Fault::new(ErrorKind::OptionsLast { found }, word.at.clone()));
        };
        let Some(&known) = self.keys.iter().find(|known| **known == key.text) else {
            let (allowed, key_text) = (self.keys.to_vec(), key.text.into_owned());
            return Err(Fault::new(ErrorKind::OptionKey { allowed, key: key_text }, key.at));
        };
        if let Some((_, first)) = self.seen.iter().find(|(seen, _)| *seen == known) {
            let fault = Fault::new(ErrorKind::OptionTwice { key: known }, key.at);
            return Err(fault.with_first(first.clone()));
        }
        self.seen.push((known, key.at));
        Ok((known, value))
    }
}

impl<'w> Iterator for Options<'w> {
    type Item = Result<(&'static str, Word<'w>), Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        let (word, rest) = self.words.split_first()?;
        self.words = rest;
        Some(self.read(word))
    }
}

const LOG_KEYS: [&str; 2] = ["tail", "ld_lag"];

const SLINK_KEYS: [&str; 6] = ["on_limit", "on_down", "timeout_io", "resync_rate", "order", "mark"];
