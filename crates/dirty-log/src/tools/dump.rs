//! `dirty dump`: whose dirty log it is, and what is dirty, a line for each range.

use std::fmt;

use serde::Serialize;

use super::check::sectors;
use super::walk;
use super::{BadBlocks, BlockReader, Health, Summary, ToolError};
use crate::format::{Identity, REGIONS_PER_BLOCK};

/// One line of a dump.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// Whose it is; its counts are those of the end.
    Header(Summary),
    /// Dirty regions in a row.
    Dirty {
        /// The first one.
        region: u64,
        /// How many.
        regions: u64,
        /// Where they begin on the device.
        sector: u64,
        /// How long they are.
        sectors: u64,
    },
    /// Not believed, so all of their regions are dirty, and among the lines above.
    Bad(BadBlocks),
}

/// Shows every line of the dirty log on a disk, and says whether all of it is believed.
///
/// # Errors
/// There is none, or none that this program knows how to read.
pub fn dump(reader: &mut dyn BlockReader, show: &mut dyn FnMut(Line)) -> Result<Health, ToolError> {
    let report = super::check(reader);
    let identity = walk::identity(reader)?;
    report.log.into_iter().for_each(|log| show(Line::Header(log)));
    let mut run = Run { identity, first: 0, count: 0 };
    walk::blocks(reader, &identity, &mut |nr, block| {
        let is_dirty = |i: u64| match &block {
            Ok(block) => block.words[(i / 64) as usize] >> (i % 64) & 1 == 1,
            Err(_) => true,
        };
        for i in (0..identity.regions_of(nr)).filter(|i| is_dirty(*i)) {
            run.add(nr * REGIONS_PER_BLOCK + i, show);
        }
    });
    run.end(show);
    report.bad.into_iter().for_each(|bad| show(Line::Bad(bad)));
    Ok(report.health)
}

/// Dirty regions in a row, as far as they were seen.
struct Run {
    identity: Identity,
    first: u64,
    count: u64,
}

impl Run {
    fn add(&mut self, region: u64, show: &mut dyn FnMut(Line)) {
        if self.first + self.count != region {
            self.end(show);
            self.first = region;
        }
        self.count += 1;
    }

    fn end(&mut self, show: &mut dyn FnMut(Line)) {
        let regions = std::mem::take(&mut self.count);
        if regions > 0 {
            let (sector, sectors) = sectors(&self.identity, self.first, regions);
            let (sector, sectors) = (sector.0, sectors.0);
            show(Line::Dirty { region: self.first, regions, sector, sectors });
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(log) => log.fmt(f),
            Self::Dirty { region, regions, sector, sectors } => {
                write!(f, "{sectors} sectors at {sector}: {regions} regions from {region} on")
            }
            Self::Bad(bad) => write!(f, "not believed: {bad}"),
        }
    }
}
