//! The text format of Prometheus, version 0.0.4: families with HELP and TYPE, each in one piece.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::Asked;
use super::families::{FAMILIES, samples};

/// One number.
pub(super) struct Sample {
    /// Its family, a name of [`FAMILIES`].
    pub(super) family: &'static str,
    pub(super) labels: Vec<(&'static str, String)>,
    pub(super) value: f64,
}

/// What is told of all replicators.
pub(crate) fn exposition(asked: &[Asked]) -> String {
    let mut of_family: BTreeMap<&str, Vec<Sample>> = BTreeMap::new();
    for sample in asked.iter().flat_map(samples) {
        of_family.entry(sample.family).or_default().push(sample);
    }
    let mut text = String::new();
    for family in FAMILIES {
        let Some(samples) = of_family.remove(family.name) else { continue };
        let (name, kind) = (family.name, family.kind.word());
        // Writing to a string does not fail.
        let _ = writeln!(text, "# HELP {name} {}\n# TYPE {name} {kind}", family.help);
        samples.iter().for_each(|sample| line(&mut text, sample));
    }
    assert!(of_family.is_empty(), "every sample is of a family of the table");
    text
}

fn line(text: &mut String, Sample { family, labels, value }: &Sample) {
    let labels: Vec<String> =
        labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
    let value = if value.is_infinite() { "+Inf".to_owned() } else { value.to_string() };
    let _ = writeln!(text, "{family}{{{}}} {value}", labels.join(","));
}

/// As a value between quotes has it.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
