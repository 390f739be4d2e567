//! `mark check` and `mark dump`: what a site knows of itself, for whoever is there and has
//! nothing but its devices.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use blk::Sector;
use serde::Serialize;
use slink::mark::{Mark, MarkState};

use super::disks::{BLOCK, look};
use crate::args::MarkCommand;
use crate::output::{json_text, print};

pub(super) fn mark(command: &MarkCommand) -> Result<()> {
    match command {
        MarkCommand::Check { device, live } => check(device, *live),
        MarkCommand::Dump { device, json, live } => dump(device, *json, *live),
    }
}

/// Says whether the site's devices can be used; fails if not, and if there is nothing to tell by.
fn check(device: &Path, live: bool) -> Result<()> {
    let mark = read(device, live)?;
    print(&format!("{mark}\n"))?;
    usable(device, &mark)
}

fn usable(device: &Path, mark: &Mark) -> Result<()> {
    ensure!(
        mark.state == MarkState::Consistent,
        "{}: the site was being copied to; its devices hold older and newer writes, and no \
         application may be started on them",
        device.display()
    );
    Ok(())
}

/// Fails unless the site's devices can be used, or somebody insists.
pub(super) fn ensure_consistent(device: &Path, insists: bool) -> Result<()> {
    match (check_quietly(device), insists) {
        (Err(refusal), true) => {
            eprintln!("replicator: {refusal:#}; started all the same, as --force says");
            Ok(())
        }
        (checked, _) => checked.context("nothing was started; --force starts all the same"),
    }
}

fn check_quietly(device: &Path) -> Result<()> {
    usable(device, &read(device, false)?)
}

/// Prints what the mark says, whatever that is.
fn dump(device: &Path, json: bool, live: bool) -> Result<()> {
    let mark = read(device, live)?;
    print(&if json { json_text(&MarkDump::of(&mark))? } else { format!("{mark}\n") })
}

fn read(device: &Path, live: bool) -> Result<Mark> {
    let disk = look(device, live, BLOCK)?;
    let mut block = vec![0; Mark::SIZE.len()];
    let whole = disk.read_into(Sector(0), &mut block);
    let unknown = || format!("{}: no mark says that the site is consistent", device.display());
    whole.with_context(unknown)?;
    Mark::decode(&block).with_context(unknown)
}

#[derive(Serialize)]
struct MarkDump<'a> {
    replicator: &'a str,
    log: String,
    site: u16,
    state: &'static str,
    seq: u64,
    generation: u64,
    wall_ns: u64,
}

impl<'a> MarkDump<'a> {
    fn of(mark: &'a Mark) -> Self {
        Self {
            replicator: &mark.name,
            log: mark.log.to_string(),
            site: mark.slink.0,
            state: mark.state.word(),
            seq: mark.seq.0,
            generation: mark.generation,
            wall_ns: mark.wall.0,
        }
    }
}
