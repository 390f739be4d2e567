//! The name of a replicator or of a device: safe as a file name, in a link and in a log line.

use std::fmt;
use std::str::FromStr;

use anyhow::{Result, ensure};

/// A name that cannot leave a directory or confuse a terminal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Name(String);

impl Name {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let expected = "expected up to 127 visible ASCII characters without /";
        ensure!(!text.is_empty(), "the name is empty: {expected}");
        ensure!(text.len() <= BYTES_MAX, "the name has {} bytes: {expected}", text.len());
        if let Some(odd) = text.chars().find(|c| !is_safe(*c)) {
            anyhow::bail!("the name {text:?} contains {odd:?}: {expected}");
        }
        ensure!(text != "." && text != "..", "the name {text:?} means a directory: {expected}");
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The rule of the table language.
fn is_safe(c: char) -> bool {
    c.is_ascii_graphic() && c != '/'
}

const BYTES_MAX: usize = table::limits::NAME_BYTES_MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_device_mapper_takes_is_taken() {
        for name in ["repl", "vg-lv_1", "a.b", "x#+-.:=@_9~", &"n".repeat(127)] {
            assert_eq!(name.parse::<Name>().unwrap().as_str(), name);
        }
    }

    #[test]
    fn a_name_that_could_leave_its_directory_is_refused() {
        for name in ["", ".", "..", "a/b", "../etc", "a\0", "a b", "ä", "\x1b[2J", &"n".repeat(128)]
        {
            let refusal = name.parse::<Name>().unwrap_err().to_string();
            assert!(refusal.contains("expected up to 127 visible"), "{name:?}: {refusal}");
        }
    }
}
