//! `log dirty` and `differs`: where a site that took over, and what it took over from, may
//! differ, on the way from the old log to the new replicator.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use blk::{Sector, SlinkNr};
use dirty_log::tools::{self as dirty_logs, Health, Line};
use replicator::Status;
use replog::tools::{Lacking, lacking};

use super::disks::{BLOCK, look};
use super::find::{ask, find};
use super::log::size_min;
use super::query::look as status_of;
use crate::args::{DiffersArgs, LogPlace};
use crate::control::Request;
use crate::output::print;
use crate::ranges::{self, DeviceRanges};
use crate::runtime::RuntimeDir;

/// Prints where the copies of a site may differ from those that the log is beside.
pub(super) fn log_dirty(
    place: &LogPlace,
    start: Sector,
    site: u16,
    logs: &[PathBuf],
) -> Result<()> {
    let device = &place.device;
    let mut reader = look(device, false, size_min(place))?;
    let mut found =
        lacking(&mut reader, start, SlinkNr(site)).with_context(|| device.display().to_string())?;
    if let Some(session) = found.session {
        let mut known = Vec::new();
        for path in logs {
            let dev = add_dirty_log(&mut found, session, path);
            known.push(dev.with_context(|| path.display().to_string())?);
        }
        for device in found.devices.iter_mut().filter(|device| !known.contains(&device.dev)) {
            // Nothing else says what the log let go of.
            device.all = true;
        }
    }
    print(&ranges::text(&found))
}

/// What a dirty log says of its device; nothing less than all of it may be believed.
fn add_dirty_log(found: &mut Lacking, session: u64, path: &Path) -> Result<u32> {
    let (mut header, mut dirty) = (None, Vec::new());
    let health = dirty_logs::dump(&mut look(path, false, BLOCK)?, &mut |line| match line {
        Line::Header(summary) => header = Some(summary),
        Line::Dirty { sector, sectors, .. } => dirty.push((sector, sectors)),
        Line::Bad(_) => {}
    })?;
    let header = header.context("expected a dirty log, found none")?;
    ensure!(
        header.log == found.uuid && header.slink == found.slink && header.session == session,
        "expected a dirty log of site {}, session {session}, of the log {}, found one of site {}, \
         session {}, of the log {}; leave it out, and all of its device is copied",
        found.slink,
        found.uuid,
        header.slink,
        header.session,
        header.log
    );
    ensure!(health == Health::Sound, "{health}; leave it out, and all of its device is copied");
    dirty.into_iter().for_each(|(sector, sectors)| found.insert(header.dev, sector, sectors));
    Ok(header.dev)
}

/// Tells a replicator where a site's copies differ.
pub(super) fn differs(args: &DiffersArgs, runtime: &RuntimeDir) -> Result<()> {
    let group = find(runtime, &args.name)?.group;
    let text = read(&args.file).with_context(|| args.file.display().to_string())?;
    let told = ranges::parse(&text).with_context(|| args.file.display().to_string())?;
    let status = status_of(&group).with_context(|| group.name().to_string())?;
    check(&told, &status, args.site)?;
    for device in &told {
        for words in messages(args.site, device) {
            let request = Request::Message { device: None, words };
            let _: String = ask(&group, &request, |_| ()).with_context(|| args.name.to_string())?;
        }
    }
    let sectors: u64 = told.iter().flat_map(|it| &it.ranges).map(|(_, len)| len).sum();
    let size = replicator::status::human::bytes(sectors * 512);
    print(&format!("site {}: {size} of its devices differ, and are copied\n", args.site))
}

/// Everything that is told must be of devices that are there, and nothing may be left out.
fn check(told: &[DeviceRanges], status: &Status, site: u16) -> Result<()> {
    let has = |device: &&replicator::DeviceStatus| device.legs.iter().any(|leg| leg.slink == site);
    let there: Vec<_> = status.devices.iter().filter(has).collect();
    for device in told {
        let found = there.iter().find(|it| it.dev == device.dev);
        let Some(found) = found else {
            bail!("expected a device that has a copy on site {site}, found device {}", device.dev)
        };
        ensure!(
            found.sectors == device.sectors,
            "device {} ({}): expected {} sectors, found {}",
            device.dev,
            found.name,
            found.sectors,
            device.sectors
        );
    }
    for device in there {
        let is_told = told.iter().any(|it| it.dev == device.dev);
        ensure!(is_told, "nothing is said of device {} ({})", device.dev, device.name);
    }
    Ok(())
}

/// The messages for one device; the last one says that it is the last.
fn messages(site: u16, device: &DeviceRanges) -> Vec<Vec<String>> {
    let head = || vec!["differs".to_owned(), site.to_string(), device.dev.to_string()];
    let mut all = Vec::new();
    for batch in device.ranges.chunks(RANGES_PER_MESSAGE) {
        let ranges = batch.iter().map(|(sector, len)| format!("{sector}+{len}"));
        all.push(head().into_iter().chain(ranges).chain(["more".to_owned()]).collect());
    }
    all.push(head());
    all
}

fn read(path: &Path) -> Result<String> {
    if path != Path::new("-") {
        return Ok(fs::read_to_string(path)?);
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    Ok(text)
}

/// A request is one line of at most 64 KiB.
const RANGES_PER_MESSAGE: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_ranges_are_several_messages_and_only_the_last_one_ends_it() {
        let ranges = (0..2500).map(|at| (at * 16, 8)).collect();
        let messages = messages(2, &DeviceRanges { dev: 7, sectors: 1 << 20, ranges });
        assert_eq!(messages.iter().map(Vec::len).collect::<Vec<_>>(), [1004, 1004, 504, 3]);
        assert_eq!(messages[0][..4], ["differs", "2", "7", "0+8"]);
        assert!(messages[..3].iter().all(|words| words.last().unwrap() == "more"));
        assert_eq!(messages[3], ["differs", "2", "7"]);
        let none = DeviceRanges { dev: 0, sectors: 8, ranges: Vec::new() };
        assert_eq!(super::messages(1, &none), [["differs", "1", "0"]]);
    }

    #[test]
    fn a_range_of_the_largest_numbers_fits_a_message() {
        let longest = format!("{}+{}", u64::MAX, u64::MAX).len();
        assert!(RANGES_PER_MESSAGE * (longest + 3) < 64 << 10);
    }
}
