//! `log check`, `log dump` and `log repair`: tools for a log that nobody has open.

use anyhow::{Context, Result, bail, ensure};
use blk::{BLOCK_BYTES, SECTOR_BYTES, Sector, Sectors};
use replog::geometry::RING_OFFSET;
use replog::tools::{self, Health, Line, Repair};
use uring::Disk;

use super::differs::log_dirty;
use super::disks::{look, take};
use crate::args::{LogCommand, LogPlace};
use crate::output::{json_line, json_text, print};

pub(super) fn log(command: &LogCommand) -> Result<()> {
    match command {
        LogCommand::Check { place, json, live } => check(place, *json, *live),
        LogCommand::Dump { place, json, live } => dump(place, *json, *live),
        LogCommand::Dirty { place, site, dirty_log } => {
            log_dirty(place, start(place)?, *site, dirty_log)
        }
        LogCommand::Repair { place, json, yes } => repair(place, *json, *yes),
    }
}

/// Up to the end of the superblocks.
pub(super) fn size_min(place: &LogPlace) -> Sectors {
    Sectors(place.start.saturating_add(RING_OFFSET / SECTOR_BYTES as u64))
}

/// Says how the log is. A log that cannot be opened as it is makes this fail.
fn check(place: &LogPlace, json: bool, live: bool) -> Result<()> {
    let report = tools::check(&mut look(&place.device, live, size_min(place))?, start(place)?);
    print(&if json { json_text(&report)? } else { report.to_string() })?;
    match report.health {
        Health::Sound => Ok(()),
        sick => bail!("{}: {sick}", place.device.display()),
    }
}

/// Prints every group and every write, a line each. A log that cannot be opened makes this fail.
fn dump(place: &LogPlace, json: bool, live: bool) -> Result<()> {
    let mut reader = look(&place.device, live, size_min(place))?;
    let mut printed = Ok(());
    let health = tools::dump(&mut reader, start(place)?, &mut |line: Line| {
        let text = if json { json_line(&line) } else { Ok(format!("{line}\n")) };
        if printed.is_ok() {
            printed = text.and_then(|text| print(&text));
        }
    })
    .with_context(|| place.device.display().to_string())?;
    printed?;
    match health {
        Health::Sound => Ok(()),
        sick => bail!("{}: {sick}", place.device.display()),
    }
}

/// Shows what a repair costs; with `yes`, does it.
fn repair(place: &LogPlace, json: bool, yes: bool) -> Result<()> {
    let mut reader = take(&place.device, size_min(place))?;
    let repair = tools::repair(&mut reader, start(place)?)
        .with_context(|| place.device.display().to_string())?;
    print(&if json { json_text(&repair)? } else { repair.to_string() })?;
    if repair.writes.is_empty() {
        return Ok(());
    }
    ensure!(yes, "nothing was written; repeat with --yes to cut the log there");
    carry_out(&repair, &reader.0).context("the repair did not end; repeat it")
}

/// Each superblock is durable before the next: a power cut leaves one that is whole.
fn carry_out(repair: &Repair, disk: &Disk) -> Result<()> {
    for write in &repair.writes {
        disk.pwrite(write.sector, &write.bytes)?;
        disk.sync()?;
    }
    Ok(())
}

fn start(place: &LogPlace) -> Result<Sector> {
    ensure!(
        place.start.is_multiple_of(SECTORS_PER_BLOCK),
        "expected a start that is a multiple of {SECTORS_PER_BLOCK} sectors, found {}",
        place.start
    );
    Ok(Sector(place.start))
}

const SECTORS_PER_BLOCK: u64 = (BLOCK_BYTES / SECTOR_BYTES) as u64;
