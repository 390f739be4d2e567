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
//! gone, the newest are there. `write` says what was acknowledged, and what was flushed; less than
//! that in an image of the devices themselves is a lost write.

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
    Write {
        #[command(flatten)]
        pair: Pair,
        /// Flush one of the devices then, and say `flushed LANE NUMBER`: it is of both.
        #[arg(long)]
        flush: bool,
    },
    /// Fail unless the images are such as an application could have found.
    Judge {
        #[command(flatten)]
        pair: Pair,
        /// What `write` said: fail if any of it is missing.
        #[arg(long)]
        acked: Option<PathBuf>,
        /// The same file: fail if any of what it says was flushed is missing.
        #[arg(long)]
        flushed: Option<PathBuf>,
        /// A disk may have been writing each lane's next record when the power was cut.
        #[arg(long)]
        torn: bool,
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
        Command::Write { pair, flush } => write(&pair, flush),
        Command::Judge { pair, acked, flushed, torn } => {
            let mut promised = read_said("acked", acked.as_deref())?;
            for (lane, number) in read_said("flushed", flushed.as_deref())? {
                let most = promised.entry(lane).or_insert(0);
                *most = number.max(*most);
            }
            judge(&pair, &promised, torn)
        }
    }
}

fn write(pair: &Pair, flush: bool) -> Result<()> {
    let lanes = Lane::all().map(|lane| {
        let newest = newest(pair, lane, false)?;
        let devices = [open_direct(&pair.first)?, open_direct(&pair.second)?];
        Ok(thread::spawn(move || write_lane(&devices, lane, newest + 1, flush)))
    });
    for lane in lanes.collect::<Result<Vec<_>>>()? {
        lane.join().expect("a lane reports its failure")?;
    }
    Ok(())
}

/// One write in flight, for ever.
fn write_lane(devices: &[File; 2], lane: Lane, from: u64, flush: bool) -> Result<()> {
    let mut buf = BufMut::zeroed(RECORD_BYTES);
    for number in from.. {
        let record = Record { lane, number };
        record.encode(&mut buf);
        for device in devices {
            device.write_all_at(&buf, record.offset()).with_context(|| record.to_string())?;
        }
        if number.is_multiple_of(REPORT_EVERY) {
            println!("acked {lane} {number}");
            if flush {
                let one = &devices[usize::from(number.is_multiple_of(2 * REPORT_EVERY))];
                one.sync_data().with_context(|| format!("flushing behind {record}"))?;
                println!("flushed {lane} {number}");
            }
        }
    }
    Ok(())
}

fn judge(pair: &Pair, promised: &BTreeMap<Lane, u64>, torn: bool) -> Result<()> {
    let mut records = 0;
    for lane in Lane::all() {
        let newest = newest(pair, lane, torn).with_context(|| format!("lane {lane}"))?;
        let promised = promised.get(&lane).copied().unwrap_or(0);
        ensure!(
            newest >= promised,
            "lane {lane}: record {promised} was promised, and {newest} is the newest found"
        );
        records += newest;
    }
    println!("{records} records, in order on both");
    Ok(())
}

/// The newest record of a lane that is on both images, whole.
fn newest(pair: &Pair, lane: Lane, torn: bool) -> Result<u64> {
    let first = Present::on(&pair.first, lane, torn)?;
    let second = Present::on(&pair.second, lane, torn)?;
    let ahead = first.newest.checked_sub(second.newest);
    ensure!(
        ahead.is_some_and(|ahead| ahead <= 1),
        "the first device has record {} and the second has {}: \
         expected the first to be none or one ahead",
        first.newest,
        second.newest
    );
    // The lane's next record was asked for when the one before had ended, on the other device.
    let next = if ahead == Some(0) { second.next_begun } else { first.next_begun };
    ensure!(!next, "a part of a record is there that the lane had not yet written");
    Ok(second.newest)
}

/// What an image has of a lane.
struct Present {
    /// The newest record, below which none is missing.
    newest: u64,
    /// Whether sectors of the next one are there.
    next_begun: bool,
}

impl Present {
    fn on(image: &Path, lane: Lane, torn: bool) -> Result<Self> {
        let file = open_direct(image)?;
        let mut found = Vec::new();
        let mut begun = Vec::new();
        let mut buf = BufMut::zeroed(RECORD_BYTES);
        for slot in 0..SLOTS {
            file.read_exact_at(&mut buf, lane.offset_of(slot)).context("reading")?;
            let slot_holds = Record::decode(&buf, lane, slot)
                .with_context(|| format!("{}: lane {lane}, slot {slot}", image.display()))?;
            found.push(slot_holds.whole);
            begun.extend(slot_holds.begun);
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
        let expected: &[u64] = if torn { &[newest + 1] } else { &[] };
        ensure!(
            begun.is_empty() || begun == expected,
            "{}: lane {lane} has record {newest}, and parts of {begun:?}: expected {expected:?}",
            image.display()
        );
        Ok(Self { newest, next_begun: !begun.is_empty() })
    }
}

/// The highest number of each lane in `WORD LANE NUMBER` lines; other lines are others' words.
fn read_said(word: &str, path: Option<&Path>) -> Result<BTreeMap<Lane, u64>> {
    let Some(path) = path else { return Ok(BTreeMap::new()) };
    let text = fs::read(path).with_context(|| path.display().to_string())?;
    let mut most = BTreeMap::new();
    for line in BufReader::new(&text[..]).lines() {
        let line = line.unwrap_or_default();
        if let [said, lane, number] = line.split(' ').collect::<Vec<_>>()[..]
            && said == word
        {
            let (lane, number) = (lane.parse()?, number.parse::<u64>()?);
            let newest = most.entry(lane).or_insert(0);
            *newest = number.max(*newest);
        }
    }
    Ok(most)
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
        judge(&pair, &read_said("acked", Some(&path)).unwrap(), false)
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

    /// A cut while `at` was being written to a device that had all before it.
    fn judged_torn(at: [u64; 2], torn: [bool; 2]) -> Result<()> {
        let home = tempfile::tempdir().unwrap();
        let pair = images(home.path(), |number, device| number < at[device]);
        for (device, path) in [&pair.first, &pair.second].into_iter().enumerate() {
            if !torn[device] {
                continue;
            }
            for lane in Lane::all() {
                let record = Record { lane, number: at[device] };
                let mut buf = BufMut::zeroed(RECORD_BYTES);
                record.encode(&mut buf);
                let file = File::options().write(true).open(path).unwrap();
                file.write_all_at(&buf[1024..1536], record.offset() + 1024).unwrap();
            }
        }
        judge(&pair, &BTreeMap::new(), true)
    }

    #[test]
    fn the_next_record_of_a_lane_may_be_torn_where_it_was_being_written() {
        for next in [5, SLOTS, NEWEST] {
            judged_torn([next, next], [true, false]).unwrap();
            judged_torn([next + 1, next], [false, true]).unwrap();
            judged_torn([next, next], [false, true]).unwrap_err();
            judged_torn([next + 1, next], [true, false]).unwrap_err();
        }
    }

    #[test]
    fn a_torn_record_is_found_where_no_disk_was_cut() {
        let home = tempfile::tempdir().unwrap();
        let pair = images(home.path(), |_, _| true);
        let record = Record { lane: "3".parse().unwrap(), number: NEWEST + 1 };
        let mut buf = BufMut::zeroed(RECORD_BYTES);
        record.encode(&mut buf);
        let file = File::options().write(true).open(&pair.first).unwrap();
        file.write_all_at(&buf[..512], record.offset()).unwrap();
        judge(&pair, &BTreeMap::new(), true).unwrap();
        judge(&pair, &BTreeMap::new(), false).unwrap_err();
    }

    #[test]
    fn what_was_flushed_is_told_from_what_was_acknowledged() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("said");
        fs::write(&path, "acked 0 32\nflushed 0 16\nflushed 1 48\nflushed 1 32\n").unwrap();
        let flushed = read_said("flushed", Some(&path)).unwrap();
        let numbers: Vec<u64> = flushed.into_values().collect();
        assert_eq!(numbers, [16, 48]);
    }

    /// Round all slots, and a little further.
    const NEWEST: u64 = SLOTS + 17;
}
