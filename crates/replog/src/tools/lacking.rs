//! `log dirty`: where the copies of a site may differ from the local ones, for whoever has
//! both and does not want to copy everything: after the site took over, and the local copies
//! are to be made equal to it.
//!
//! What one of them has and the other may lack is in the log above the lower one of their
//! two cursors, since neither is given what the log does not hold durably (I3), and each
//! has all up to its own. Beside that there is what the site's dirty logs say, if it was
//! detached: the log has only the number that these must bear.

use std::collections::BTreeMap;

use blk::{Sector, Seq, SlinkNr};
use serde::Serialize;

use super::LogReader;
use super::find::{self, ToolError};
use super::report::DamageReport;
use super::walk::walk;
use crate::format::superblock::{SiteRecord, Superblock};

/// Where a site's copies may differ from the local ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lacking {
    /// The log.
    pub uuid: String,
    /// The site.
    pub slink: u16,
    /// What the two have in common: everything up to here, but for dirty logs.
    pub common: u64,
    /// What its dirty logs must bear to be believed, if the site was detached.
    pub session: Option<u64>,
    /// The devices that the site has.
    pub devices: Vec<LackingDevice>,
}

/// Where the copies of one device may differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LackingDevice {
    /// The device.
    pub dev: u32,
    /// Its size.
    pub sectors: u64,
    /// Anywhere.
    pub all: bool,
    /// Ranges of the log's writes, by their first sectors, as lengths.
    pub ranges: BTreeMap<u64, u64>,
}

/// Why nobody can tell.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LackingError {
    /// There is no log that could be read.
    #[error(transparent)]
    Log(#[from] ToolError),
    /// The log's end is not known.
    #[error("{0}; where the copies differ can't be told: copy everything")]
    Damaged(Box<DamageReport>),
    /// Some of it can't be read.
    #[error(
        "{sectors} sectors of the log can't be read; where the copies differ can't be told: \
         copy everything"
    )]
    Unreadable {
        /// How many.
        sectors: u64,
    },
    /// The log has no such site.
    #[error("expected one of the remote sites {sites} of this log, found {slink}")]
    NoSite {
        /// What was asked for.
        slink: SlinkNr,
        /// What there is.
        sites: String,
    },
    /// The devices went on without this log.
    #[error(
        "the devices have run without this log since its opening {epoch}; where the copies \
         differ can't be told: copy everything"
    )]
    Bypassed {
        /// The last opening before that.
        epoch: u64,
    },
}

/// Where the copies of `slink` may differ from the local ones.
///
/// # Errors
/// Whatever keeps the log from knowing it.
pub fn lacking(
    reader: &mut dyn LogReader,
    start: Sector,
    slink: SlinkNr,
) -> Result<Lacking, LackingError> {
    let (sb, geometry) = find::log(reader, start)?;
    if let Some(epoch) = sb.bypassed_since {
        return Err(LackingError::Bypassed { epoch });
    }
    let site = site(&sb, slink)?.clone();
    let local = site_record(&sb, SlinkNr::LOCAL).cloned();
    let mut cursors = [Some(&site), local.as_ref()].map(|site| site.map(|it| it.covered));
    let mut writes = Vec::new();
    let walked = walk(reader, &sb, geometry, &mut |group, _| {
        for cursor in &group.header.cursors {
            let which = [slink, SlinkNr::LOCAL].iter().position(|nr| *nr == cursor.slink);
            if let Some(known) = which.and_then(|which| cursors[which].as_mut()) {
                *known = (*known).max(cursor.covered);
            }
        }
        let entries = group.header.numbered();
        writes.extend(entries.map(|(seq, entry)| (seq, entry.dev, entry.sector, entry.len)));
    });
    walked.end.map_err(|damage| LackingError::Damaged(Box::new(damage.as_ref().into())))?;
    if !walked.unreadable.is_empty() {
        let sectors = walked.unreadable.iter().map(|span| span.sectors).sum();
        return Err(LackingError::Unreadable { sectors });
    }
    let common = cursors.into_iter().map(Option::unwrap_or_default).min().unwrap_or_default();
    let local_lost = local.is_none_or(|local| local.lost_since.is_some());
    let mut devices = devices(&sb, &site, local_lost);
    for (_, dev, sector, len) in writes.into_iter().filter(|(seq, ..)| *seq > common) {
        if let Some(device) = devices.iter_mut().find(|device| device.dev == dev.0) {
            device.insert(sector.0, len.0);
        }
    }
    Ok(Lacking {
        uuid: sb.uuid.to_string(),
        slink: slink.0,
        common: common.0,
        session: site.detached,
        devices,
    })
}

fn site_record(sb: &Superblock, slink: SlinkNr) -> Option<&SiteRecord> {
    sb.sites.iter().find(|site| site.slink == slink)
}

fn site(sb: &Superblock, slink: SlinkNr) -> Result<&SiteRecord, LackingError> {
    let remote = || sb.sites.iter().filter(|site| !site.slink.is_local());
    remote().find(|site| site.slink == slink).ok_or_else(|| {
        let sites: Vec<String> = remote().map(|site| site.slink.to_string()).collect();
        LackingError::NoSite { slink, sites: sites.join(", ") }
    })
}

fn devices(sb: &Superblock, site: &SiteRecord, local_lost: bool) -> Vec<LackingDevice> {
    // What was taken away is no device of these sites any more.
    let is_gone = |dev| {
        let mut legs = sb.legs.iter().filter(|leg| leg.slink.is_local());
        legs.any(|leg| leg.dev == dev && leg.left_out)
    };
    let legs = sb.legs.iter().filter(|leg| leg.slink == site.slink && !is_gone(leg.dev));
    let device = |leg: &crate::format::superblock::LegRecord| {
        let record = sb.devices.iter().find(|device| device.nr == leg.dev)?;
        Some(LackingDevice {
            dev: leg.dev.0,
            sectors: record.size.0,
            all: leg.all_dirty || site.all_dirty || local_lost,
            ranges: BTreeMap::new(),
        })
    };
    legs.filter_map(device).collect()
}

impl Lacking {
    /// Takes in what a dirty log says of a device; nothing else does, if the site is detached.
    pub fn insert(&mut self, dev: u32, sector: u64, sectors: u64) {
        if let Some(device) = self.devices.iter_mut().find(|device| device.dev == dev) {
            device.insert(sector, sectors);
        }
    }

    /// The last write of which any copy can hold something that the log says anything of.
    #[must_use]
    pub fn common(&self) -> Seq {
        Seq(self.common)
    }
}

impl LackingDevice {
    /// Sectors in which the copies may differ.
    #[must_use]
    pub fn lacking_sectors(&self) -> u64 {
        if self.all { self.sectors } else { self.ranges.values().sum() }
    }

    fn insert(&mut self, sector: u64, sectors: u64) {
        if sectors == 0 {
            return;
        }
        let (mut start, mut end) = (sector, sector + sectors);
        // Ranges that touch become one.
        while let Some((from, len)) = self.ranges.range(..=end).next_back().map(|(a, b)| (*a, *b)) {
            if from + len < start {
                break;
            }
            self.ranges.remove(&from);
            (start, end) = (start.min(from), end.max(from + len));
        }
        self.ranges.insert(start, end - start);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_touch_or_overlap_become_one() {
        let mut device =
            LackingDevice { dev: 0, sectors: 1000, all: false, ranges: BTreeMap::new() };
        for (sector, sectors) in [(100, 8), (50, 8), (58, 2), (96, 4), (104, 30), (0, 0), (40, 5)] {
            device.insert(sector, sectors);
        }
        let expected = BTreeMap::from([(40, 5), (50, 10), (96, 38)]);
        assert_eq!((device.ranges.clone(), device.lacking_sectors()), (expected, 53));
        device.all = true;
        assert_eq!(device.lacking_sectors(), 1000);
    }
}
