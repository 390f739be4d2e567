//! Golden tables: a table in, its canonical form or its exact error out.
//!
//! `NAME.table` is a file, `NAME.concise` the concise form, `NAME.line` a table
//! without a name. Beside it lies `NAME.canonical` or `NAME.error`.
//! `UPDATE_GOLDEN=1 cargo test -p table` writes what the parser says now;
//! read the difference before you believe it.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use table::{Entry, TableError, TableFile};

#[test]
fn every_golden_table_gives_its_canonical_form_or_its_exact_error() {
    let cases = cases();
    assert!(cases.len() >= 60, "only {} golden tables were found", cases.len());
    let wrong: Vec<String> = cases.iter().filter_map(|case| check(case).err()).collect();
    assert!(wrong.is_empty(), "{} golden tables differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_canonical_form_parses_to_the_table_that_it_was_printed_from() {
    for case in cases() {
        if let Ok(table) = read(&case) {
            let again = table.reparse().unwrap_or_else(|error| panic!("{case:?}: {error}"));
            assert_eq!(again, table, "{case:?}");
            assert_eq!(again.to_string(), table.to_string(), "{case:?}");
        }
    }
}

/// A kind without a golden error is a message that nobody has read.
#[test]
fn every_kind_of_error_has_a_golden_table() {
    let seen: BTreeSet<String> =
        cases().iter().filter_map(|case| Some(kind_name(&read(case).err()?))).collect();
    let all: BTreeSet<String> = declared_kinds().collect();
    assert!(all.len() > 40, "the kinds were not found in their source: {all:?}");
    let missing: Vec<&String> = all.difference(&seen).filter(|kind| !is_large(kind)).collect();
    assert!(missing.is_empty(), "no golden table shows {missing:?}");
}

/// What was read: a file, or a table without a name.
#[derive(Debug, PartialEq)]
enum Read {
    File(TableFile),
    Line(Entry),
}

impl Read {
    fn reparse(&self) -> Result<Self, TableError> {
        match self {
            Self::File(file) => TableFile::parse(&file.to_string()).map(Self::File),
            Self::Line(entry) => Entry::parse(&entry.to_string()).map(Self::Line),
        }
    }
}

impl std::fmt::Display for Read {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(file) => write!(f, "{file}"),
            Self::Line(entry) => writeln!(f, "{entry}"),
        }
    }
}

fn read(case: &Path) -> Result<Read, TableError> {
    let bytes = fs::read(case).unwrap();
    let text = || std::str::from_utf8(&bytes).unwrap();
    let file = match extension(case) {
        "line" => return Entry::parse(text()).map(Read::Line),
        "concise" => TableFile::parse_concise(text())?,
        _ => TableFile::parse_bytes(&bytes)?,
    };
    file.groups()?;
    Ok(Read::File(file))
}

fn check(case: &Path) -> Result<(), String> {
    let name = case.file_name().unwrap().to_str().unwrap();
    let (found, expected, never) = match read(case) {
        Ok(table) => (table.to_string(), "canonical", "error"),
        Err(error) => (format!("{}\n", error.in_file(name)), "error", "canonical"),
    };
    let (expected, never) = (case.with_extension(expected), case.with_extension(never));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&expected, &found).unwrap();
        let _ = fs::remove_file(&never);
    }
    if never.exists() {
        return Err(format!("{}: expected {}, found:\n{found}", case.display(), never.display()));
    }
    match fs::read_to_string(&expected) {
        Ok(golden) if golden == found => Ok(()),
        Ok(golden) => Err(format!("{name}: expected:\n{golden}found:\n{found}")),
        Err(error) => Err(format!("{}: {error}; found:\n{found}", expected.display())),
    }
}

fn cases() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut cases: Vec<PathBuf> = fs::read_dir(directory)
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| matches!(extension(path), "table" | "concise" | "line"))
        .collect();
    cases.sort();
    cases
}

fn extension(path: &Path) -> &str {
    path.extension().and_then(|extension| extension.to_str()).unwrap_or_default()
}

fn kind_name(error: &TableError) -> String {
    let debug = format!("{:?}", error.kind());
    debug.chars().take_while(|c| c.is_ascii_alphanumeric()).collect()
}

/// The variants as the source declares them: four blanks, a name, and what it holds.
fn declared_kinds() -> impl Iterator<Item = String> {
    let source = include_str!("../src/kind.rs");
    let (_, body) = source.split_once("pub enum ErrorKind {").unwrap();
    let (body, _) = body.split_once("\n}\n").unwrap();
    body.lines().filter_map(|line| {
        let line = line.strip_prefix("    ")?;
        let name: String = line.chars().take_while(|c| c.is_ascii_alphanumeric()).collect();
        line.starts_with(|c: char| c.is_ascii_uppercase()).then_some(name)
    })
}

/// Kinds that only a very long table has; `limits.rs` makes those.
fn is_large(kind: &str) -> bool {
    matches!(kind, "TextBytes" | "Sites" | "Devices" | "Legs")
}
