//! `why`: a sentence per site on what keeps it from being in sync.

use std::fmt;

use anyhow::{Context, Result};
use replicator::{Reason, why as reasons};
use serde_json::{Map, Value};

use super::find::{Found, find_all};
use super::query::look;
use crate::args::WhyArgs;
use crate::output::{json_text, print};
use crate::runtime::RuntimeDir;

/// What was asked for has been said, and it is bad news: the exit status is 1, without an error.
#[derive(Debug)]
pub(crate) struct Told;

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not everything is in sync")
    }
}

impl std::error::Error for Told {}

/// Prints the sentences; fails quietly if one of them says that something is not in sync.
pub(super) fn why(args: &WhyArgs, runtime: &RuntimeDir) -> Result<()> {
    let mut said = Vec::new();
    for Found { group, .. } in find_all(runtime, &args.names)? {
        let name = group.name().to_string();
        let status = look(&group).with_context(|| name.clone())?;
        said.push((name, reasons(&status)));
    }
    // Who asked for one replicator needs no name before each line.
    print(&if args.json { json(&said)? } else { text(&said, args.names.len() != 1) })?;
    let in_sync = said.iter().flat_map(|(_, reasons)| reasons).all(|reason| reason.in_sync);
    if in_sync { Ok(()) } else { Err(Told.into()) }
}

fn text(said: &[(String, Vec<Reason>)], named: bool) -> String {
    let line = |name: &str, reason: &Reason| match named {
        true => format!("{name}: {reason}\n"),
        false => format!("{reason}\n"),
    };
    said.iter().flat_map(|(name, reasons)| reasons.iter().map(move |it| line(name, it))).collect()
}

fn json(said: &[(String, Vec<Reason>)]) -> Result<String> {
    let value = |reasons: &Vec<Reason>| serde_json::to_value(reasons).context("printing JSON");
    let all: Result<Map<String, Value>> =
        said.iter().map(|(name, reasons)| Ok((name.clone(), value(reasons)?))).collect();
    json_text(&all?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said() -> Vec<(String, Vec<Reason>)> {
        let reason = |slink, text: &str| Reason { slink, in_sync: true, text: text.into() };
        vec![("repl".into(), vec![reason(None, "writers wait"), reason(Some(1), "in sync")])]
    }

    #[test]
    fn a_line_begins_with_its_subject_and_with_its_replicator_if_there_may_be_several() {
        assert_eq!(text(&said(), false), "writers wait\nsite 1: in sync\n");
        assert_eq!(text(&said(), true), "repl: writers wait\nrepl: site 1: in sync\n");
    }

    #[test]
    fn json_has_the_reasons_of_each_replicator() {
        let value: Value = serde_json::from_str(&json(&said()).unwrap()).unwrap();
        let site = serde_json::json!({ "slink": 1, "in_sync": true, "text": "in sync" });
        assert_eq!(value["repl"][1], site);
        assert_eq!(value["repl"][0]["slink"], Value::Null);
    }
}
