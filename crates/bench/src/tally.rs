//! Counters: I/O asked for, by disk, and what was completed with it.
//!
//! They don't depend on how fast a machine is, or how busy: they may be judged.

use std::ops::{Add, Sub};

use blk::{Buf, DiskId, DiskOp};
use serde::{Deserialize, Serialize};

/// What happened, from some moment on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Requests of the application that ended.
    pub(crate) completed: u64,
    /// System calls of the ring.
    pub(crate) enters: u64,
    /// By the number of the disk.
    disks: Vec<DiskTally>,
}

/// I/O of one disk, or of several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DiskTally {
    pub(crate) reads: u64,
    pub(crate) read_bytes: u64,
    /// Writes, with and without FUA, and write-zeroes.
    pub(crate) writes: u64,
    pub(crate) written_bytes: u64,
    pub(crate) fua: u64,
    pub(crate) flushes: u64,
}

impl Tally {
    /// Counts one I/O.
    pub(crate) fn count(&mut self, disk: DiskId, op: &DiskOp) {
        let at = disk.0 as usize;
        if self.disks.len() <= at {
            self.disks.resize(at + 1, DiskTally::default());
        }
        self.disks[at].count(op);
    }

    /// What went to some disks, together.
    pub(crate) fn of(&self, disks: &[DiskId]) -> DiskTally {
        let found = disks.iter().filter_map(|disk| self.disks.get(disk.0 as usize));
        found.fold(DiskTally::default(), |sum, disk| sum + *disk)
    }
}

impl DiskTally {
    /// I/Os of any kind.
    pub(crate) fn ios(&self) -> u64 {
        self.reads + self.writes + self.flushes
    }

    fn count(&mut self, op: &DiskOp) {
        match op {
            DiskOp::Read { buf, .. } => {
                self.reads += 1;
                self.read_bytes += buf.len() as u64;
            }
            DiskOp::Write { data, fua, .. } => {
                self.writes += 1;
                self.written_bytes += data.iter().map(Buf::len).sum::<usize>() as u64;
                self.fua += u64::from(*fua);
            }
            DiskOp::WriteZeroes { len, fua, .. } => {
                self.writes += 1;
                self.written_bytes += len.bytes();
                self.fua += u64::from(*fua);
            }
            DiskOp::Flush => self.flushes += 1,
        }
    }

    fn zip(self, other: Self, f: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            reads: f(self.reads, other.reads),
            read_bytes: f(self.read_bytes, other.read_bytes),
            writes: f(self.writes, other.writes),
            written_bytes: f(self.written_bytes, other.written_bytes),
            fua: f(self.fua, other.fua),
            flushes: f(self.flushes, other.flushes),
        }
    }
}

impl Add for DiskTally {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }
}

impl Sub for DiskTally {
    type Output = Self;
    fn sub(self, earlier: Self) -> Self {
        self.zip(earlier, |a, b| a - b)
    }
}

impl Sub for Tally {
    type Output = Self;
    fn sub(self, earlier: Self) -> Self {
        let before = earlier.disks.into_iter().chain(std::iter::repeat(DiskTally::default()));
        Self {
            completed: self.completed - earlier.completed,
            enters: self.enters - earlier.enters,
            disks: self.disks.into_iter().zip(before).map(|(now, then)| now - then).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use blk::{BufMut, Gather, Sector};

    #[test]
    fn what_happened_between_two_moments_is_a_difference() {
        let write = |len, fua| {
            let data = Gather::from_elem(BufMut::zeroed(len).freeze(), 1);
            DiskOp::Write { sector: Sector(0), data, fua }
        };
        let mut tally = Tally::default();
        tally.count(DiskId(0), &write(4096, false));
        let before = tally.clone();
        tally.count(DiskId(0), &write(8192, true));
        tally.count(DiskId(2), &DiskOp::Flush);
        let between = tally - before;
        let log = between.of(&[DiskId(0)]);
        assert_eq!((log.writes, log.written_bytes, log.fua, log.flushes), (1, 8192, 1, 0));
        assert_eq!(between.of(&[DiskId(1), DiskId(2), DiskId(9)]).ios(), 1);
    }
}
