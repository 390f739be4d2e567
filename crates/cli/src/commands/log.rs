//! `log check`, `log dump` and `log repair`: tools for a log that nobody has open.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use blk::{BLOCK_BYTES, Errno, SECTOR_BYTES, Sector, Sectors};
use replog::tools::{self, Health, Line, LogReader, Repair};
use uring::{Access, Disk, OpenSpec, holder_of};

use crate::args::{LogCommand, LogPlace};
use crate::output::{json_line, json_text, print};

pub(super) fn log(command: &LogCommand) -> Result<()> {
    match command {
        LogCommand::Check { place, json, live } => check(place, *json, *live),
        LogCommand::Dump { place, json, live } => dump(place, *json, *live),
        LogCommand::Repair { place, json, yes } => repair(place, *json, *yes),
    }
}

/// Says how the log is. A log that cannot be opened as it is makes this fail.
fn check(place: &LogPlace, json: bool, live: bool) -> Result<()> {
    let report = tools::check(&mut look(&place.device, live)?, start(place)?);
    print(&if json { json_text(&report)? } else { report.to_string() })?;
    match report.health {
        Health::Sound => Ok(()),
        sick => bail!("{}: {sick}", place.device.display()),
    }
}

/// Prints every group and every write, a line each. A log that cannot be opened makes this fail.
fn dump(place: &LogPlace, json: bool, live: bool) -> Result<()> {
    let mut reader = look(&place.device, live)?;
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
    let take = OpenSpec { access: Access::Exclusive, busy_limit: BUSY_LIMIT, size_min: Sectors(0) };
    let mut reader = DiskReader(Disk::open(&place.device, &take)?);
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

fn look(path: &Path, live: bool) -> Result<DiskReader> {
    if let Some(holder) = holder_of(path).filter(|_| !live) {
        bail!(
            "{}: in use by {holder}: what is read may be changing, and look damaged; \
             stop that first, or use --live",
            path.display()
        );
    }
    let look = OpenSpec { access: Access::Look, ..OpenSpec::default() };
    Ok(DiskReader(Disk::open(path, &look)?))
}

fn start(place: &LogPlace) -> Result<Sector> {
    ensure!(
        place.start.is_multiple_of(SECTORS_PER_BLOCK),
        "expected a start that is a multiple of {SECTORS_PER_BLOCK} sectors, found {}",
        place.start
    );
    Ok(Sector(place.start))
}

/// Reads a log while the caller waits.
struct DiskReader(Disk);

impl LogReader for DiskReader {
    fn read(&mut self, sector: Sector, buf: &mut [u8]) -> Result<(), Errno> {
        let len = Sectors::from_bytes(buf.len() as u64);
        let read = self.0.pread(sector, len);
        let bytes = read.map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno))?;
        buf.copy_from_slice(&bytes);
        Ok(())
    }
}

const SECTORS_PER_BLOCK: u64 = (BLOCK_BYTES / SECTOR_BYTES) as u64;

/// udev and its like look at a device for moments.
const BUSY_LIMIT: Duration = Duration::from_secs(2);
