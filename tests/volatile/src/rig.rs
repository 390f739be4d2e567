//! All disks of one machine, and the moment at which it loses its power.
//!
//! There is one order of all changes to all disks. A cut comes between two of them: from then on
//! nothing is answered any more, the media of every disk are what the cut left, and it is said.

use std::fmt::Write as _;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, Error, Result, bail};

use crate::disk::{Disk, Fate, SECTOR};
use crate::seed::Seed;

pub(crate) struct Rig {
    disks: Vec<(String, Disk)>,
    /// Changes until now.
    at: u64,
    cut: Option<Cut>,
    dead: bool,
}

/// A cut to come: after how many changes, and what it leaves.
#[derive(Clone, Debug)]
pub(crate) struct Cut {
    pub(crate) after: u64,
    pub(crate) seed: u64,
    pub(crate) how: How,
}

/// What becomes of the caches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// Each disk keeps all of its cache, or none, or some; the seed says which.
    Each,
    /// Every disk keeps all.
    Kept,
    /// No disk keeps anything.
    Lost,
    /// Every disk loses some, here and there.
    Scattered,
    /// All disks have what was written before one moment in their common order.
    Ordered,
    /// The seed says which of these.
    Any,
}

/// What a client asks of a disk, in sectors.
#[derive(Debug)]
pub(crate) enum Request {
    Read { sector: u64, count: u64 },
    Write { sector: u64, bytes: Vec<u8>, fua: bool },
    Zero { sector: u64, count: u64, fua: bool },
    Trim { sector: u64, count: u64, fua: bool },
    Flush,
}

/// The machine that asked has no power any more.
pub(crate) struct Dead;

impl Rig {
    pub(crate) fn new() -> Self {
        Self { disks: Vec::new(), at: 0, cut: None, dead: false }
    }

    pub(crate) fn add(&mut self, name: &str, path: &Path) -> Result<()> {
        self.disks.push((name.to_owned(), Disk::open(path)?));
        Ok(())
    }

    /// The number of the disk of that name, and its size in bytes.
    pub(crate) fn find(&self, name: &str) -> Option<(usize, u64)> {
        let number = self.disks.iter().position(|(known, _)| known == name)?;
        Some((number, self.disks[number].1.bytes()))
    }

    pub(crate) fn lie(&mut self, name: &str) -> Result<()> {
        let (number, _) = self.find(name).with_context(|| format!("there is no disk {name}"))?;
        self.disks[number].1.lie();
        Ok(())
    }

    pub(crate) fn arm(&mut self, cut: Cut) {
        self.cut = Some(cut);
    }

    /// Does what was asked, and returns what was read, unless the machine is dead or dies of it.
    pub(crate) fn ask(&mut self, disk: usize, request: &Request) -> Result<Result<Vec<u8>, Dead>> {
        if self.dead {
            return Ok(Err(Dead));
        }
        if let Request::Read { sector, count } = *request {
            let mut bytes = vec![0; count as usize * SECTOR];
            self.disks[disk].1.read(sector, &mut bytes)?;
            return Ok(Ok(bytes));
        }
        let due = match &mut self.cut {
            Some(cut) => {
                cut.after = cut.after.saturating_sub(1);
                cut.after == 0
            }
            None => false,
        };
        // What is on its way may arrive, but for a flush: that has not ended.
        if !(due && matches!(request, Request::Flush)) {
            self.change(disk, request, due)?;
        }
        if due {
            self.die()?;
            return Ok(Err(Dead));
        }
        Ok(Ok(Vec::new()))
    }

    fn change(&mut self, disk: usize, request: &Request, last: bool) -> Result<()> {
        let (at, disk) = (self.at, &mut self.disks[disk].1);
        self.at += 1;
        let (sector, count, fua) = match *request {
            Request::Write { sector, ref bytes, fua } => {
                disk.write(at, sector, bytes);
                (sector, (bytes.len() / SECTOR) as u64, fua)
            }
            Request::Zero { sector, count, fua } => {
                disk.write(at, sector, &vec![0; count as usize * SECTOR]);
                (sector, count, fua)
            }
            Request::Trim { sector, count, fua } => {
                // What is there afterwards is anybody's guess: here zeroes, there what was.
                for sector in sector..sector + count {
                    if Seed::new(at ^ sector).below(2) == 0 {
                        disk.write(at, sector, &[0; SECTOR]);
                    }
                }
                (sector, count, fua)
            }
            Request::Flush => return disk.flush(),
            Request::Read { .. } => unreachable!("a read changes nothing"),
        };
        if fua && !last { disk.flush_range(sector, count) } else { Ok(()) }
    }

    fn die(&mut self) -> Result<()> {
        self.dead = true;
        let cut = self.cut.take().expect("a cut was armed");
        let mut seed = Seed::new(cut.seed);
        let how = match cut.how {
            How::Any => ANY[seed.below(ANY.len() as u64) as usize],
            how => how,
        };
        let spans = self.disks.iter().filter_map(|(_, disk)| disk.span());
        let span = spans.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))).unwrap_or((self.at, self.at));
        let moment = span.0 + seed.below(span.1 + 2 - span.0);
        let mut said = format!("cut after {} changes, {how:?}, seed {}:", self.at, cut.seed);
        for (name, disk) in &mut self.disks {
            let fate = how.fate(moment, &mut seed);
            let loss = disk.cut(fate, &mut seed)?;
            if loss.cached > 0 {
                write!(said, " {name} lost {}/{}", loss.lost, loss.cached)?;
            }
        }
        println!("{said}");
        Ok(())
    }

    /// A machine that ended by itself: its disks had the time to write back what they had.
    pub(crate) fn end(&mut self) -> Result<()> {
        for (_, disk) in &mut self.disks {
            disk.cut(Fate::Kept, &mut Seed::new(0))?;
        }
        Ok(())
    }
}

const ANY: [How; 4] = [How::Each, How::Lost, How::Scattered, How::Ordered];

impl How {
    fn fate(self, moment: u64, seed: &mut Seed) -> Fate {
        match self {
            Self::Kept => Fate::Kept,
            Self::Lost => Fate::Lost,
            Self::Scattered => Fate::Scattered(1 + seed.below(7)),
            Self::Ordered => Fate::Before(moment),
            Self::Each | Self::Any => match seed.below(3) {
                0 => Fate::Kept,
                1 => Fate::Lost,
                _ => Fate::Scattered(1 + seed.below(7)),
            },
        }
    }
}

impl FromStr for How {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(match text {
            "each" => Self::Each,
            "kept" => Self::Kept,
            "lost" => Self::Lost,
            "scattered" => Self::Scattered,
            "ordered" => Self::Ordered,
            "any" => Self::Any,
            _ => bail!("expected each, kept, lost, scattered, ordered or any, found {text}"),
        })
    }
}

impl FromStr for Cut {
    type Err = Error;

    /// `cut AFTER SEED HOW`.
    fn from_str(text: &str) -> Result<Self> {
        let ["cut", after, seed, how] = text.split_whitespace().collect::<Vec<_>>()[..] else {
            bail!("expected cut AFTER SEED HOW, found {text}");
        };
        Ok(Self { after: after.parse()?, seed: seed.parse()?, how: how.parse()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use tempfile::TempDir;

    fn rig() -> (TempDir, Rig) {
        let home = tempfile::tempdir().unwrap();
        let mut rig = Rig::new();
        for name in ["a", "b"] {
            fs::write(home.path().join(name), [0; 16 * SECTOR]).unwrap();
            rig.add(name, &home.path().join(name)).unwrap();
        }
        (home, rig)
    }

    fn image(home: &TempDir, name: &str) -> Vec<u8> {
        let image = fs::read(home.path().join(name)).unwrap();
        image.chunks_exact(SECTOR).map(|sector| sector[0]).collect()
    }

    fn write(sector: u64, byte: u8, fua: bool) -> Request {
        Request::Write { sector, bytes: vec![byte; SECTOR], fua }
    }

    fn done(rig: &mut Rig, disk: usize, request: &Request) -> bool {
        rig.ask(disk, request).unwrap().is_ok()
    }

    #[test]
    fn a_write_with_fua_is_durable_and_one_without_may_be_lost() {
        let (home, mut rig) = rig();
        rig.arm("cut 4 0 lost".parse().unwrap());
        assert!(done(&mut rig, 0, &write(1, 1, true)));
        assert!(done(&mut rig, 0, &write(2, 2, false)));
        assert!(done(&mut rig, 0, &Request::Zero { sector: 1, count: 1, fua: false }));
        assert!(!done(&mut rig, 0, &write(3, 3, true)), "what dies with the machine has no end");
        assert_eq!(image(&home, "a")[..4], [0, 1, 0, 0]);
    }

    #[test]
    fn a_flush_is_of_one_disk() {
        let (home, mut rig) = rig();
        rig.arm("cut 4 0 lost".parse().unwrap());
        for disk in [0, 1] {
            assert!(done(&mut rig, disk, &write(0, 7, false)));
        }
        assert!(done(&mut rig, 1, &Request::Flush));
        assert!(!done(&mut rig, 0, &Request::Flush), "a flush that has not ended flushed nothing");
        assert_eq!((image(&home, "a")[0], image(&home, "b")[0]), (0, 7));
    }

    #[test]
    fn an_ordered_cut_leaves_a_prefix_over_all_disks() {
        let mut lengths = Vec::new();
        for seed in 0..40 {
            let (home, mut rig) = rig();
            rig.arm(Cut { after: 20, seed, how: How::Ordered });
            for number in 0..20 {
                rig.ask(number % 2, &write(number as u64 / 2, 1, false)).unwrap().ok();
            }
            let (a, b) = (image(&home, "a"), image(&home, "b"));
            let there: Vec<u8> =
                (0..20).map(|n| if n % 2 == 0 { a[n / 2] } else { b[n / 2] }).collect();
            let length = there.iter().filter(|byte| **byte == 1).count();
            assert!(there[..length].iter().all(|byte| *byte == 1), "{there:?}");
            lengths.push(length);
        }
        assert!(lengths.iter().max() > lengths.iter().min(), "{lengths:?}");
    }

    #[test]
    fn a_machine_that_ends_by_itself_has_everything() {
        let (home, mut rig) = rig();
        assert!(done(&mut rig, 0, &write(5, 5, false)));
        rig.end().unwrap();
        assert_eq!(image(&home, "a")[5], 5);
    }

    #[test]
    fn nothing_is_answered_after_a_cut() {
        let (home, mut rig) = rig();
        rig.arm("cut 1 0 kept".parse().unwrap());
        assert!(!done(&mut rig, 0, &write(0, 1, false)));
        assert!(!done(&mut rig, 0, &write(1, 1, true)));
        assert!(!done(&mut rig, 0, &Request::Read { sector: 0, count: 1 }));
        assert_eq!(image(&home, "a")[..2], [1, 0]);
    }
}
