//! What several tools say, as data and as text.

use std::fmt;

use blk::{Sector, Sectors};
use serde::Serialize;

use crate::scan::Damage;

/// Sectors in a row on the log device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Span {
    /// The first one.
    pub sector: u64,
    /// How many.
    pub sectors: u64,
}

/// Where a log is damaged, and how that is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DamageReport {
    /// The sector on the log device where the damaged group begins.
    pub sector: u64,
    /// Its number.
    pub group: u64,
    /// Its first write.
    pub seq: u64,
    /// All of it, in a sentence.
    pub what: String,
}

impl Span {
    /// Adds sectors behind all that are in the list.
    pub(super) fn extend(spans: &mut Vec<Self>, sector: Sector, len: Sectors) {
        match spans.last_mut() {
            Some(last) if last.sector + last.sectors == sector.0 => last.sectors += len.0,
            _ => spans.push(Self { sector: sector.0, sectors: len.0 }),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} sectors at sector {}", self.sectors, self.sector)
    }
}

impl From<&Damage> for DamageReport {
    fn from(damage: &Damage) -> Self {
        Self {
            sector: damage.sector.0,
            group: damage.group,
            seq: damage.seq.0,
            what: damage.to_string(),
        }
    }
}

impl fmt::Display for DamageReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}
