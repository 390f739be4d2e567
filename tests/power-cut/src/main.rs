//! Writes to two devices in a known order, and judges from two images how much of it is there.
//!
//! Several lanes write at a time, each with one write in flight: record 1 to the first device,
//! record 1 to the second, record 2 to the first, … so that of a lane at any instant
//!
//! - each device holds the records up to some number, and none after a gap;
//! - the first device is no record, or one, ahead of the second.
//!
//! An image of both devices that shows anything else is none that an application could have
//! found after a crash. A lane's records go round in its own slots: what was overwritten is
//! gone, the newest are there. `write` says what was acknowledged; less than that in an image
//! of the devices themselves is a lost write.

#![forbid(unsafe_code)]

mod record;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use blk::BufMut;
use clap::{Args, Parser, Subcommand};

use record::{Lane, RECORD_BYTES, Record, SLOTS};

/// Writes to two devices in a known order, and judges how much of it is there.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write until somebody ends it; says `acked LANE NUMBER` now and then.
    Write(Pair),
    /// Fail unless the images are such as an application could have found.
    Judge {
        #[command(flatten)]
        pair: Pair,
        /// What `write` said: fail if any of it is missing.
        #[arg(long)]
        acked: Option<PathBuf>,
    },
}

#[derive(Args)]
struct Pair {
    /// The device, or image, that every record goes to first.
    first: PathBuf,
    /// The one it goes to next.
    second: PathBuf,
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Write(pair) => write(&pair),
        Command::Judge { pair, acked } => judge(&pair, acked.as_deref()),
    }
}

fn write(pair: &Pair) -> Result<()> {
    let lanes = Lane::all().map(|lane| {
        let newest = newest(pair, lane)?;
        let devices = [open_direct(&pair.first)?, open_direct(&pair.second)?];
        Ok(thread::spawn(move || write_lane(&devices, lane, newest + 1)))
    });
    for lane in lanes.collect::<Result<Vec<_>>>()? {
        lane.join().expect("a lane reports its failure")?;
    }
    Ok(())
}

/// One write in flight, for ever.
fn write_lane(devices: &[File; 2], lane: Lane, from: u64) -> Result<()> {
    let mut buf = BufMut::zeroed(RECORD_BYTES);
    for number in from.. {
        let record = Record { lane, number };
        record.encode(&mut buf);
        for device in devices {
            device.write_all_at(&buf, record.offset()).with_context(|| record.to_string())?;
        }
        if number.is_multiple_of(REPORT_EVERY) {
            println!("acked {lane} {number}");
        }
    }
    Ok(())
}

fn judge(pair: &Pair, acked: Option<&Path>) -> Result<()> {
    let acked = acked.map(read_acked).transpose()?.unwrap_or_default();
    let mut records = 0;
    for lane in Lane::all() {
        let newest = newest(pair, lane).with_context(|| format!("lane {lane}"))?;
        let promised = acked.get(&lane).copied().unwrap_or(0);
        ensure!(
            newest >= promised,
            "lane {lane}: record {promised} was acknowledged, and {newest} is the newest found"
        );
        records += newest;
    }
    println!("{records} records, in order on both");
    Ok(())
}

/// The newest record of a lane that is on both images.
fn newest(pair: &Pair, lane: Lane) -> Result<u64> {
    let first = newest_on(&pair.first, lane)?;
    let second = newest_on(&pair.second, lane)?;
    let ahead = first.checked_sub(second);
    ensure!(
        ahead.is_some_and(|ahead| ahead <= 1),
        "the first device has record {first} and the second has {second}: \
         expected the first to be none or one ahead"
    );
    Ok(second)
}

/// The newest record on an image, below which none may be missing.
fn newest_on(image: &Path, lane: Lane) -> Result<u64> {
    let file = open_direct(image)?;
    let mut found = Vec::new();
    let mut buf = BufMut::zeroed(RECORD_BYTES);
    for slot in 0..SLOTS {
        file.read_exact_at(&mut buf, lane.offset_of(slot)).context("reading")?;
        let number = Record::decode(&buf, lane, slot)
            .with_context(|| format!("{}: lane {lane}, slot {slot}", image.display()))?;
        found.push(number);
    }
    let newest = found.iter().copied().max().unwrap_or(0);
    for (slot, &number) in (0..).zip(&found) {
        let expected = record::newest_in_slot(newest, slot);
        if number != expected {
            bail!(
                "{}: lane {lane} has record {newest}, but its slot {slot} has {number}: \
                 expected {expected}",
                image.display()
            );
        }
    }
    Ok(newest)
}

/// The highest number of each lane in `acked LANE NUMBER` lines; other lines are others' words.
fn read_acked(path: &Path) -> Result<BTreeMap<Lane, u64>> {
    let text = fs::read(path).with_context(|| path.display().to_string())?;
    let mut acked = BTreeMap::new();
    for line in BufReader::new(&text[..]).lines() {
        let line = line.unwrap_or_default();
        if let ["acked", lane, number] = line.split(' ').collect::<Vec<_>>()[..] {
            let (lane, number) = (lane.parse()?, number.parse::<u64>()?);
            let newest = acked.entry(lane).or_insert(0);
            *newest = number.max(*newest);
        }
    }
    Ok(acked)
}

/// Past the page cache: what is judged is what the device has.
fn open_direct(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(libc::O_DIRECT);
    options.open(path).with_context(|| path.display().to_string())
}

/// Small against [`SLOTS`], so that a lost write is noticed, and rare enough to cost nothing.
const REPORT_EVERY: u64 = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// Two images in a directory, with the records that `present` says are there.
    fn images(directory: &Path, present: impl Fn(u64, usize) -> bool) -> Pair {
        let paths = ["first", "second"].map(|name| directory.join(name));
        for (device, path) in paths.iter().enumerate() {
            let file = File::create(path).unwrap();
            file.set_len(record::IMAGE_BYTES).unwrap();
            let mut buf = BufMut::zeroed(RECORD_BYTES);
            for lane in Lane::all() {
                for number in (1..=NEWEST).filter(|number| present(*number, device)) {
                    let record = Record { lane, number };
                    record.encode(&mut buf);
                    file.write_all_at(&buf, record.offset()).unwrap();
                }
            }
        }
        let [first, second] = paths;
        Pair { first, second }
    }

    fn judged(present: impl Fn(u64, usize) -> bool, acked: &str) -> Result<()> {
        let home = tempfile::tempdir().unwrap();
        let pair = images(home.path(), present);
        let path = home.path().join("acked");
        File::create(&path).unwrap().write_all(acked.as_bytes()).unwrap();
        judge(&pair, Some(&path))
    }

    #[test]
    fn a_prefix_on_both_is_what_an_application_could_have_found() {
        judged(|_, _| false, "").unwrap();
        judged(|_, _| true, &format!("acked 0 {NEWEST}\nsomebody else's words\n")).unwrap();
        judged(|number, device| number + device as u64 <= NEWEST, "").unwrap();
    }

    #[test]
    fn a_hole_is_found() {
        judged(|number, _| number != NEWEST - 3, "").unwrap_err();
    }

    #[test]
    fn a_second_device_that_is_ahead_is_found() {
        judged(|number, device| number <= NEWEST - 1 + device as u64, "").unwrap_err();
    }

    #[test]
    fn a_first_device_that_is_two_ahead_is_found() {
        judged(|number, device| number <= NEWEST - 2 * device as u64, "").unwrap_err();
    }

    #[test]
    fn a_lost_acknowledged_record_is_found() {
        judged(|_, _| true, &format!("acked 1 {}\n", NEWEST + 1)).unwrap_err();
    }

    /// Round all slots, and a little further.
    const NEWEST: u64 = SLOTS + 17;
}
