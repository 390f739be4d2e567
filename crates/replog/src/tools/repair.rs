//! `log repair`: cuts a damaged log where it is damaged.
//!
//! Nothing is written here. What comes out says what would be lost, site by site, and
//! which superblocks make it so. They begin a new opening, higher than any that the
//! ring speaks of, at the group that is damaged: by the rules of the scan (I1) that
//! group and all behind it are dead from then on.
//!
//! There is one damage without loss: the superblock that began an opening is gone, but
//! its groups are whole. Then the log is read on under that opening, and cut nowhere.
//!
//! The cut takes writes away that sites may have, in part or in whole, so afterwards
//! the sites may differ from each other, and the checkpoint says so: one site stays
//! what the others are copied from, all others are dirty as a whole (I7).

use std::fmt;

use blk::{Sector, Seq};
use serde::Serialize;

use super::LogReader;
use super::find::{self, ToolError};
use super::lost::{self, Lost};
use super::report::{DamageReport, Span};
use super::walk::{Walked, walk};
use crate::format::group::Cursor;
use crate::format::superblock::{Anchor, Features, SiteRecord, Superblock};
use crate::geometry::Geometry;
use crate::scan::{Damage, Fault, Proof, ScannedGroup};

/// What a repair does and what it costs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Repair {
    /// Where the log is damaged; nothing: the log is sound and is left alone.
    pub damage: Option<DamageReport>,
    /// What is lost to the log; nothing if all groups are whole.
    pub lost: Option<Lost>,
    /// What becomes of the sites.
    pub sites: Vec<SiteVerdict>,
    /// Superblocks to write, one after the other, each durable before the next.
    #[serde(skip)]
    pub writes: Vec<SlotWrite>,
}

/// What becomes of a site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SiteVerdict {
    /// Its number.
    pub slink: u16,
    /// The last write that it has for certain, lost ones included.
    pub had: u64,
    /// It may show what no application has ever seen.
    pub inconsistent: bool,
    /// All of it has to be copied.
    pub all_dirty: bool,
}

/// A superblock and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotWrite {
    /// Where, on the device.
    pub sector: Sector,
    /// Whole blocks.
    pub bytes: Vec<u8>,
}

/// Finds out how the log at `start` can be repaired. Writes nothing.
///
/// # Errors
/// There is nothing to start from, or nothing may be decided.
pub fn repair(reader: &mut dyn LogReader, start: Sector) -> Result<Repair, ToolError> {
    let (sb, geometry) = find::log(reader, start)?;
    if !sb.features.are_writable() {
        return Err(ToolError::ReadOnly { ro_compat: sb.features.ro_compat });
    }
    let mut scan = Scan::run(reader, &sb, geometry)?;
    let Some(damage) = scan.damage.take() else { return Ok(Repair::nothing()) };
    let survey = lost::survey(reader, &sb, geometry, &scan.before);
    scan.take_cursors(&survey.cursors);
    let lost = scan.is_cut.then_some(survey.lost);
    let cut = cut(&sb, &scan, lost.as_ref(), survey.epoch_max);
    check_cut(reader, &cut, geometry, &scan.before)?;
    Ok(Repair::new(&damage, &scan, lost, &cut, &geometry))
}

/// What the log says: up to the place of the cut as it stands, of the sites beyond it too.
struct Scan {
    before: Anchor,
    sites: Vec<SiteRecord>,
    /// The first damage, if there is any.
    damage: Option<Box<Damage>>,
    /// There is something behind `before` that can't be kept.
    is_cut: bool,
}

impl Scan {
    /// Reads as far as can be, under openings that only their groups know of if need be.
    fn run(
        reader: &mut dyn LogReader,
        sb: &Superblock,
        geometry: Geometry,
    ) -> Result<Self, ToolError> {
        let (mut sb, mut first) = (sb.clone(), None);
        for _ in 0..LOST_OPENINGS_MAX {
            let (scan, damage) = Self::once(reader, &sb, geometry)?;
            let adopted = damage.as_ref().and_then(|damage| adopt(&sb, damage));
            let is_cut = damage.is_some();
            if first.is_none() {
                first = damage;
            }
            match adopted {
                Some(next) => sb = next,
                None => return Ok(Self { damage: first, is_cut, ..scan }),
            }
        }
        let (scan, damage) = Self::once(reader, &sb, geometry)?;
        Ok(Self { is_cut: damage.is_some(), damage: first, ..scan })
    }

    fn once(
        reader: &mut dyn LogReader,
        sb: &Superblock,
        geometry: Geometry,
    ) -> Result<(Self, Option<Box<Damage>>), ToolError> {
        let sites = sb.sites.clone();
        let mut scan = Self { before: sb.head, sites, damage: None, is_cut: false };
        let Walked { end, unreadable } =
            walk(reader, sb, geometry, &mut |group, _| scan.take(group));
        check_readable(&unreadable)?;
        Ok((scan, end.err()))
    }

    fn take(&mut self, group: &ScannedGroup) {
        self.before = group.end();
        self.take_cursors(&group.header.cursors);
    }

    fn take_cursors(&mut self, cursors: &[Cursor]) {
        for cursor in cursors {
            if let Some(site) = self.sites.iter_mut().find(|site| site.slink == cursor.slink) {
                site.covered = site.covered.max(cursor.covered);
            }
        }
    }
}

/// The superblock as the lost one must have been that began the opening of the group
/// at the damage.
fn adopt(sb: &Superblock, damage: &Damage) -> Option<Superblock> {
    match (&damage.proof, &damage.what) {
        (Proof::LostSuperblock { .. }, Some(Fault::Epoch { nr, found, .. }))
            if *nr == damage.group && *found > sb.epoch =>
        {
            Some(Superblock { epoch: *found, epoch_first_group: *nr, ..sb.clone() })
        }
        _ => None,
    }
}

fn check_readable(unreadable: &[Span]) -> Result<(), ToolError> {
    match unreadable.first() {
        None => Ok(()),
        Some(first) => Err(ToolError::Unreadable {
            sectors: unreadable.iter().map(|span| span.sectors).sum(),
            first: Sector(first.sector),
        }),
    }
}

/// The superblock of the log that ends where it is cut.
fn cut(sb: &Superblock, scan: &Scan, lost: Option<&Lost>, epoch_max: u64) -> Superblock {
    let last = scan.before.seq;
    let source = source(&scan.sites);
    let mut sites = scan.sites.clone();
    for (index, site) in sites.iter_mut().enumerate() {
        // Whoever has all that was lost shows what an application has seen.
        site.inconsistent |= lost.is_some_and(|lost| site.covered < Seq(lost.last_seq));
        // Without loss too: a flag may be gone with the superblock that had it (I7).
        site.all_dirty |= Some(index) != source;
        site.covered = site.covered.min(last);
    }
    Superblock {
        generation: sb.generation + 1,
        features: Features { compat: Features::KNOWN.compat & sb.features.compat, ..sb.features },
        epoch: epoch_max + 1,
        epoch_first_group: scan.before.group + 1,
        durable: last,
        sites,
        ..sb.clone()
    }
}

/// The site that the others are copied from: the local one, or if its copy is lost
/// the one that has the most. What is detached lacks more than its cursor says.
fn source(sites: &[SiteRecord]) -> Option<usize> {
    let whole =
        |site: &SiteRecord| site.lost_since.is_none() && !site.all_dirty && site.detached.is_none();
    let candidates = sites.iter().enumerate().filter(|(_, site)| whole(site));
    candidates.max_by_key(|(_, site)| (site.slink.is_local(), site.covered)).map(|(index, _)| index)
}

/// A repair that would not do is not proposed.
fn check_cut(
    reader: &mut dyn LogReader,
    cut: &Superblock,
    geometry: Geometry,
    at: &Anchor,
) -> Result<(), ToolError> {
    let sector = geometry.sector(at.pos);
    let why = match walk(reader, cut, geometry, &mut |_, _| ()).end {
        Ok(tip) if tip.anchor == *at => return Ok(()),
        Ok(tip) => format!("it would end at sector {}", geometry.sector(tip.anchor.pos)),
        Err(damage) => damage.to_string(),
    };
    Err(ToolError::Uncut { sector, why })
}

impl Repair {
    fn nothing() -> Self {
        Self { damage: None, lost: None, sites: vec![], writes: vec![] }
    }

    fn new(
        damage: &Damage,
        scan: &Scan,
        lost: Option<Lost>,
        cut: &Superblock,
        at: &Geometry,
    ) -> Self {
        let verdict = |(before, after): (&SiteRecord, &SiteRecord)| SiteVerdict {
            slink: after.slink.0,
            had: before.covered.0,
            inconsistent: after.inconsistent,
            all_dirty: after.all_dirty,
        };
        // Both slots, so that the loss of one does not bring the damage back.
        let writes = [cut.generation, cut.generation + 1].map(|generation| SlotWrite {
            sector: at.slot(generation % 2),
            bytes: Superblock { generation, ..cut.clone() }.encode(),
        });
        Self {
            damage: Some(damage.into()),
            lost,
            sites: scan.sites.iter().zip(&cut.sites).map(verdict).collect(),
            writes: writes.into(),
        }
    }
}

impl fmt::Display for Repair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(damage) = &self.damage else {
            return writeln!(f, "the log is not damaged; there is nothing to repair");
        };
        writeln!(f, "damage: {damage}")?;
        match &self.lost {
            Some(lost) => write!(f, "the log is cut before write {}\n{lost}", lost.first_seq)?,
            None => writeln!(f, "the groups behind it are whole: nothing is lost")?,
        }
        self.sites.iter().try_for_each(|site| writeln!(f, "{site}"))
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.last_seq - self.first_seq + 1;
        let unknown = count.saturating_sub(self.writes.len() as u64);
        writeln!(f, "lost: {count} writes, {} to {}", self.first_seq, self.last_seq)?;
        for write in &self.writes {
            let lost::LostWrite { seq, dev, op, sector, sectors, intact_at } = write;
            write!(f, "  {seq}: device {dev} {op} {sectors} sectors at {sector}")?;
            match intact_at {
                Some(at) => writeln!(f, ", its data is whole at sector {at} of the log device")?,
                None => writeln!(f)?,
            }
        }
        if unknown > 0 {
            writeln!(f, "  of {unknown} nothing is known but that they were")?;
        }
        Ok(())
    }
}

impl fmt::Display for SiteVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "site {}: has what was written up to {}", self.slink, self.had)?;
        f.write_str(if self.inconsistent { "; becomes inconsistent" } else { "" })?;
        f.write_str(if self.all_dirty { "; all of it has to be copied" } else { "" })
    }
}

/// How many openings may follow each other of which no superblock knows. One is what a
/// slot that rots can do; a log of nothing else is no log.
const LOST_OPENINGS_MAX: usize = 8;
