//! The line shape of `dmsetup table` and `dmsetup status`, and JSON.

use anyhow::{Context, Result};
use serde::Serialize;

use crate::control::TableLine;

/// `START LEN TARGET TEXT`, each after its device's name unless there can be no doubt.
pub(crate) fn dm_lines<'a>(lines: impl IntoIterator<Item = &'a TableLine>, named: bool) -> String {
    let mut text = String::new();
    for TableLine { name, start, len, target, text: rest } in lines {
        if named {
            text += &format!("{name}: ");
        }
        text += &format!("{start} {len} {target} {rest}\n");
    }
    text
}

/// A value as JSON for people and programs alike.
pub(crate) fn json_text(value: &impl Serialize) -> Result<String> {
    Ok(serde_json::to_string_pretty(value).context("printing JSON")? + "\n")
}

/// A value as one line of JSON.
pub(crate) fn json_line(value: &impl Serialize) -> Result<String> {
    Ok(serde_json::to_string(value).context("printing JSON")? + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> TableLine {
        TableLine {
            name: "data".into(),
            start: 0,
            len: 8192,
            target: "replicator-dev".into(),
            text: "repl 0 A,-".into(),
        }
    }

    #[test]
    fn a_line_has_dmsetup_s_shape() {
        assert_eq!(dm_lines(&[line()], false), "0 8192 replicator-dev repl 0 A,-\n");
        assert_eq!(dm_lines(&[line()], true), "data: 0 8192 replicator-dev repl 0 A,-\n");
    }
}
