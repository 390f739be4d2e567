//! What is exported can be read by the format's rules.

use std::collections::{BTreeMap, BTreeSet};

use replicator::status::data::{LegStatus, LogStatus, ResyncStatus};
use replicator::status::verify::VerifyStatus;
use replicator::{DeviceStatus, SiteStatus, Status};

use super::exposition;
use super::families::{FAMILIES, Kind};

/// With all that can be there.
fn full(name: &str) -> Status {
    let site = |slink| SiteStatus {
        slink,
        lag_seconds: 0.25,
        resync: Some(ResyncStatus::new(1.0, 10, 30, 0)),
        verify: Some(VerifyStatus::default()),
        ..SiteStatus::default()
    };
    let legs = vec![LegStatus::default(), LegStatus { slink: 1, ..LegStatus::default() }];
    let device = |name: &str| DeviceStatus {
        name: name.to_owned(),
        sectors: 8,
        legs: legs.clone(),
        ..DeviceStatus::default()
    };
    Status {
        name: name.to_owned(),
        log: Some(LogStatus { bytes_written: u64::MAX, ..LogStatus::default() }),
        sites: vec![site(0), site(1)],
        devices: vec![device("d0"), device("d1")],
        ..Status::default()
    }
}

/// Name, labels, value.
pub(super) type Read = (String, BTreeMap<String, String>, f64);

/// All that one replicator can tell.
pub(super) fn exported() -> Vec<Read> {
    read(&exposition(&[("repl".to_owned(), Some(full("repl")))]))
}

/// Reads the text as the format is defined, and nothing that is not defined.
fn read(text: &str) -> Vec<Read> {
    assert!(text.is_empty() || text.ends_with('\n'));
    let (mut found, mut of, mut done) = (Vec::new(), None, BTreeSet::new());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, words) = help.split_once(' ').unwrap();
            assert!(!words.is_empty() && done.insert(name.to_owned()), "{name}: in one piece");
            let kind = lines.next().unwrap().strip_prefix(&format!("# TYPE {name} ")).unwrap();
            assert!(["counter", "gauge"].contains(&kind), "{kind}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
            of = Some(name.to_owned());
            continue;
        }
        let sample = sample(line);
        assert_eq!(Some(&sample.0), of.as_ref(), "{line}");
        found.push(sample);
    }
    let keys: BTreeSet<_> = found.iter().map(|(name, labels, _)| (name, labels)).collect();
    assert_eq!(keys.len(), found.len(), "a series has one value");
    found
}

fn sample(line: &str) -> Read {
    let (name, rest) = line.split_once('{').unwrap();
    let is_word = |word: &str| {
        let mut letters = word.bytes();
        letters.next().is_some_and(|c| c.is_ascii_lowercase())
            && letters.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_')
    };
    assert!(is_word(name), "{line}");
    let (mut labels, mut rest) = (BTreeMap::new(), rest);
    loop {
        let (label, behind) = rest.split_once("=\"").unwrap();
        assert!(is_word(label), "{line}");
        let mut letters = behind.char_indices();
        let mut value = String::new();
        let end = loop {
            match letters.next().unwrap() {
                (at, '"') => break at + 1,
                (_, '\\') => value.push(match letters.next().unwrap().1 {
                    'n' => '\n',
                    c @ ('\\' | '"') => c,
                    c => panic!("{line}: \\{c}"),
                }),
                (_, c) => value.push(c),
            }
        };
        assert!(labels.insert(label.to_owned(), value).is_none(), "{line}");
        match behind[end..].strip_prefix(',') {
            Some(more) => rest = more,
            None => {
                let number = behind[end..].strip_prefix("} ").unwrap();
                let value = if number == "+Inf" { f64::INFINITY } else { number.parse().unwrap() };
                assert!(number == "+Inf" || !number.contains(['i', 'n', ' ']), "{line}");
                return (name.to_owned(), labels, value);
            }
        }
    }
}

#[test]
fn what_is_exported_can_be_read_and_nothing_of_it_is_missing() {
    let all = vec![
        ("repl".to_owned(), Some(full("repl"))),
        ("gone".to_owned(), None),
        ("a\"b\\c".to_owned(), Some(full("a\"b\\c"))),
    ];
    let found = read(&exposition(&all));
    let names: BTreeSet<&str> = found.iter().map(|(name, ..)| name.as_str()).collect();
    let of_table: BTreeSet<&str> = FAMILIES.iter().map(|family| family.name).collect();
    assert_eq!(names, of_table, "every family of the table is exported");
    let up = |name: &str| {
        let mut of =
            found.iter().filter(|it| it.0 == "replicator_up" && it.1["replicator"] == name);
        of.next().unwrap().2
    };
    assert_eq!((up("repl"), up("gone"), up("a\"b\\c")), (1.0, 0.0, 1.0));
    let states = found.iter().filter(|it| it.0 == "replicator_site_state" && it.1["site"] == "1");
    let values: Vec<f64> = states.map(|it| it.2).collect();
    assert_eq!(values.iter().sum::<f64>(), 2.0, "one state for each of two replicators");
    assert!(values.len() == 10);
}

#[test]
fn nothing_is_exported_as_nothing() {
    assert_eq!(exposition(&[]), "");
}

#[test]
fn names_have_the_form_that_prometheus_wants() {
    for family in FAMILIES {
        let is_counter = family.kind == Kind::Counter;
        assert!(family.name.starts_with("replicator_"), "{}", family.name);
        assert_eq!(is_counter, family.name.ends_with("_total"), "{}", family.name);
        assert!(family.help.ends_with('.'), "{}", family.name);
        let odd = ["_ms", "_kib", "_mib", "_sectors", "_percent"];
        assert!(!odd.iter().any(|unit| family.name.ends_with(unit)), "{}: base units", family.name);
    }
}

/// Words in a text that could be names.
pub(super) fn names_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("replicator_")).map(str::to_owned).collect()
}
