//! `dirty check`, `dirty dump` and `dirty repair`: tools for a dirty log on a disk that
//! nobody has open.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use dirty_log::tools::{self, Health, Line, Repair};

use super::disks::{BLOCK, ToolDisk, look, take};
use crate::args::DirtyCommand;
use crate::output::{json_line, json_text, print};

pub(super) fn dirty(command: &DirtyCommand) -> Result<()> {
    match command {
        DirtyCommand::Check { device, json, live } => check(device, *json, *live),
        DirtyCommand::Dump { device, json, live } => dump(device, *json, *live),
        DirtyCommand::Repair { device, json, yes } => repair(device, *json, *yes),
    }
}

/// Says how the dirty log is. One that is not believed as a whole makes this fail.
fn check(device: &Path, json: bool, live: bool) -> Result<()> {
    let report = tools::check(&mut look(device, live, BLOCK)?);
    print(&if json { json_text(&report)? } else { report.to_string() })?;
    verdict(device, report.health)
}

/// Prints whose it is, and every dirty range. One that is not believed as a whole makes this fail.
fn dump(device: &Path, json: bool, live: bool) -> Result<()> {
    let mut disk = look(device, live, BLOCK)?;
    let mut printed = Ok(());
    let health = tools::dump(&mut disk, &mut |line: Line| {
        let text = if json { json_line(&line) } else { Ok(format!("{line}\n")) };
        if printed.is_ok() {
            printed = text.and_then(|text| print(&text));
        }
    })
    .with_context(|| device.display().to_string())?;
    printed?;
    verdict(device, health)
}

/// Shows what would be written anew, as all dirty; with `yes`, does it.
fn repair(device: &Path, json: bool, yes: bool) -> Result<()> {
    let mut disk = take(device, BLOCK)?;
    let repair = tools::repair(&mut disk).with_context(|| device.display().to_string())?;
    print(&if json { json_text(&repair)? } else { repair.to_string() })?;
    if repair.bad.is_empty() {
        return Ok(());
    }
    ensure!(yes, "nothing was written; repeat with --yes to write them as all dirty");
    carry_out(&repair, &disk).context("the repair did not end; repeat it")
}

fn carry_out(repair: &Repair, disk: &ToolDisk) -> Result<()> {
    for (sector, bytes) in repair.writes() {
        disk.0.pwrite(sector, &bytes)?;
    }
    Ok(disk.0.sync()?)
}

fn verdict(device: &Path, health: Health) -> Result<()> {
    match health {
        Health::Sound => Ok(()),
        sick => bail!("{}: {sick}", device.display()),
    }
}
