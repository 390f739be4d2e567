//! Numbers with a unit: sizes, times and byte counts, read and printed.
//!
//! What is printed is the largest unit that says it exactly.

use std::ops::RangeInclusive;
use std::time::Duration;

use blk::Span;

use crate::ErrorKind;
use crate::error::Fault;
use crate::words::Word;

/// One way to write quantities: what a bare number means, and the units.
struct Notation {
    /// What a number without a unit counts.
    plain: u64,
    plain_name: &'static str,
    /// Units by size; letters are read in either case.
    units: &'static [(char, u64)],
    expected: &'static str,
}

/// The `size` of a fall-behind limit, in bytes.
pub(crate) fn size(argument: &'static str, word: &Word<'_>) -> Result<u64, Fault> {
    SIZE.read(argument, word)
}

/// A time: of a fall-behind limit, or of a deadline.
pub(crate) fn time(argument: &'static str, word: &Word<'_>) -> Result<Span, Fault> {
    TIME.read(argument, word).map(Duration::from_millis)
}

/// A byte count of an option.
pub(crate) fn bytes(argument: &'static str, word: &Word<'_>) -> Result<u64, Fault> {
    BYTES.read(argument, word)
}

/// A time within `range`, in milliseconds.
pub(crate) fn time_within(
    argument: &'static str,
    word: &Word<'_>,
    range: RangeInclusive<u64>,
) -> Result<Span, Fault> {
    TIME.read_within(argument, word, range).map(Duration::from_millis)
}

/// A byte count within `range`.
pub(crate) fn bytes_within(
    argument: &'static str,
    word: &Word<'_>,
    range: RangeInclusive<u64>,
) -> Result<u64, Fault> {
    BYTES.read_within(argument, word, range)
}

/// `bytes`, a multiple of 512, as [`size`] reads it.
pub(crate) fn print_size(bytes: u64) -> String {
    SIZE.print(bytes)
}

/// `span`, in whole milliseconds, as [`time`] reads it.
pub(crate) fn print_time(span: Span) -> String {
    TIME.print(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
}

/// `count` as [`bytes`] reads it.
pub(crate) fn print_bytes(count: u64) -> String {
    BYTES.print(count)
}

/// A number in plain digits: no sign, no blank, no other script.
pub(crate) fn digits(text: &str) -> Option<u64> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

impl Notation {
    fn read(&self, argument: &'static str, word: &Word<'_>) -> Result<u64, Fault> {
        let (expected, found) = (self.expected, word.owned());
        let Some((number, unit)) = self.parts(&word.text) else {
            let kind = ErrorKind::Quantity { argument, expected, found };
            return Err(word.fault(kind));
        };
        digits(number).and_then(|number| number.checked_mul(unit)).ok_or_else(|| {
            let kind = ErrorKind::QuantityOverflow { argument, expected, found };
            word.fault(kind)
        })
    }

    fn read_within(
        &self,
        argument: &'static str,
        word: &Word<'_>,
        range: RangeInclusive<u64>,
    ) -> Result<u64, Fault> {
        let value = self.read(argument, word)?;
        if range.contains(&value) {
            return Ok(value);
        }
        let (min, max) = (self.print(*range.start()), self.print(*range.end()));
        let (plain, found) = (self.plain_name, word.owned());
        let kind = ErrorKind::QuantityRange { argument, min, max, plain, found };
        Err(word.fault(kind))
    }

    /// The digits, and what they count.
    fn parts<'a>(&self, text: &'a str) -> Option<(&'a str, u64)> {
        let number = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let letter = &text[number.len()..];
        let known =
            |(name, _): &&(char, u64)| letter.eq_ignore_ascii_case(name.encode_utf8(&mut [0; 4]));
        let unit = match letter {
            "" => self.plain,
            _ => self.units.iter().find(known)?.1,
        };
        let plain = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        plain.then_some((number, unit))
    }

    fn print(&self, value: u64) -> String {
        let exact = |(_, unit): &&(char, u64)| *unit > self.plain && value.is_multiple_of(*unit);
        match self.units.iter().rev().find(exact) {
            Some((letter, unit)) if value > 0 => format!("{}{letter}", value / unit),
            _ => (value / self.plain).to_string(),
        }
    }
}

const SIZE: Notation = Notation {
    plain: 512,
    plain_name: "sectors",
    units: &[
        ('s', 512),
        ('k', 1 << 10),
        ('m', 1 << 20),
        ('g', 1 << 30),
        ('t', 1 << 40),
        ('p', 1 << 50),
        ('e', 1 << 60),
    ],
    expected: "a whole number of sectors, or one with a unit s, k, m, g, t, p or e",
};

/// In milliseconds, which the 2009 code also knew as `t`.
const TIME: Notation = Notation {
    plain: 1,
    plain_name: "milliseconds",
    units: &[('t', 1), ('s', 1000), ('m', 60_000), ('h', 3_600_000), ('d', 86_400_000)],
    expected: "a whole number of milliseconds, or one with a unit s, m, h or d",
};

const BYTES: Notation = Notation {
    plain: 1,
    plain_name: "bytes",
    units: &[('k', 1 << 10), ('m', 1 << 20), ('g', 1 << 30)],
    expected: "a whole number of bytes, or one with a unit k, m or g",
};
