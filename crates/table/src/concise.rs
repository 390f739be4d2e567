//! The concise form, as `dmsetup create --concise` takes it:
//! `NAME,UUID,MINOR,FLAGS,TABLE[,TABLE]...[;NAME,...]`.

use std::sync::Arc;

use crate::error::Fault;
use crate::file::parse;
use crate::limits::UUID_BYTES_MAX;
use crate::name::check_name;
use crate::spelling::choose;
use crate::units::digits;
use crate::words::{Where, Word, continuation, skip_blanks, word};
use crate::{Entry, ErrorKind, TableError, TableFile, target};

impl TableFile {
    /// Reads the concise form. A backslash takes the next character as it is.
    ///
    /// UUID and minor number are checked and then forgotten: the devices made
    /// from these tables are not device-mapper's, and have neither.
    ///
    /// # Errors
    /// As [`TableFile::parse`]; also a device that is to be read-only.
    pub fn parse_concise(text: &str) -> Result<Self, TableError> {
        parse(text, |text| {
            let devices = devices(text)?;
            let entries = devices.iter().map(|fields| device(text, fields));
            Ok(Self { entries: entries.collect::<Result<_, _>>()? })
        })
        .and_then(Self::checked)
    }
}

/// The words between two commas, and where the second comma is.
struct Field<'a> {
    words: Vec<Word<'a>>,
    end: usize,
}

/// The fields of each device. A semicolon behind the last device is no device.
fn devices(text: &str) -> Result<Vec<Vec<Field<'_>>>, Fault> {
    let mut devices = Vec::new();
    let mut fields = Vec::new();
    let mut at = 0;
    loop {
        let field = field(text, &mut at)?;
        let comma = text[at..].starts_with(',');
        if comma || !fields.is_empty() || !field.words.is_empty() {
            fields.push(field);
        }
        if !comma && !fields.is_empty() {
            devices.push(std::mem::take(&mut fields));
        }
        if at == text.len() {
            return Ok(devices);
        }
        at += 1;
    }
}

/// The words up to the next comma or semicolon, or the end; `at` moves there.
fn field<'a>(text: &'a str, at: &mut usize) -> Result<Field<'a>, Fault> {
    let mut words = Vec::new();
    loop {
        *at = skip_blanks(text, *at);
        let rest = &text[*at..];
        if let Some(length) = continuation(rest) {
            *at += length;
        } else if rest.starts_with('\n') {
            *at += 1;
        } else if rest.is_empty() || rest.starts_with([',', ';']) {
            return Ok(Field { words, end: *at });
        } else {
            let word = word(text, *at, ends_word)?;
            *at = word.at.end;
            words.push(word);
        }
    }
}

fn device(text: &Arc<str>, fields: &[Field<'_>]) -> Result<Entry, Fault> {
    let [name_field, uuid, minor, flags, table, more @ ..] = fields else {
        let missing = ["uuid", "minor number", "flags", "table"][fields.len() - 1];
        let end = fields[fields.len() - 1].end;
        return Err(Fault::new(ErrorKind::Field { missing }, end..end));
    };
    let name = name(name_field)?;
    check_uuid(uuid)?;
    check_minor(minor)?;
    check_flags(flags)?;
    if let Some(second) = more.first() {
        let at = second.words.first().map_or(second.end..second.end, |word| word.at.clone());
        return Err(Fault::new(ErrorKind::ManyTargets, at));
    }
    target::read(text, Some(name), &table.words, table.end)
}

fn name<'f>(field: &'f Field<'f>) -> Result<(String, &'f Word<'f>), Fault> {
    let [word] = &field.words[..] else {
        let kind = ErrorKind::Name { found: joined(field) };
        return Err(Fault::new(kind, extent(field)));
    };
    check_name(&word.text).map_err(|kind| word.fault(kind))?;
    Ok((word.owned(), word))
}

fn check_uuid(field: &Field<'_>) -> Result<(), Fault> {
    match &field.words[..] {
        [] => Ok(()),
        [one] if one.text.len() <= UUID_BYTES_MAX => Ok(()),
        _ => Err(Fault::new(ErrorKind::Uuid { found: joined(field) }, extent(field))),
    }
}

fn check_minor(field: &Field<'_>) -> Result<(), Fault> {
    let fine = match &field.words[..] {
        [] => true,
        [one] => digits(&one.text).is_some_and(|minor| minor <= MINOR_MAX),
        _ => false,
    };
    if fine {
        return Ok(());
    }
    let found = joined(field);
    let kind = ErrorKind::Number { argument: "minor number", min: 0, max: MINOR_MAX, found };
    Err(Fault::new(kind, extent(field)))
}

fn check_flags(field: &Field<'_>) -> Result<(), Fault> {
    for word in &field.words {
        if choose("flags", word, &FLAGS)? == Access::ReadOnly {
            return Err(word.fault(ErrorKind::ReadOnly));
        }
    }
    Ok(())
}

fn joined(field: &Field<'_>) -> String {
    field.words.iter().map(|word| &*word.text).collect::<Vec<_>>().join(" ")
}

fn extent(field: &Field<'_>) -> Where {
    match (field.words.first(), field.words.last()) {
        (Some(first), Some(last)) => first.at.start..last.at.end,
        _ => field.end..field.end,
    }
}

fn ends_word(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | ',' | ';')
}

#[derive(Clone, Copy, PartialEq)]
enum Access {
    ReadOnly,
    ReadWrite,
}

const FLAGS: [(&str, Access); 2] = [("rw", Access::ReadWrite), ("ro", Access::ReadOnly)];

/// Linux has 20 bits for it.
const MINOR_MAX: u64 = (1 << 20) - 1;
