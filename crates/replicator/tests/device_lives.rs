//! Random lives of a group in which devices come and go: what the crash cases of `devices` walk
//! through one by one, in any order, with outages between.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod host;

use std::collections::BTreeMap;

use blk::{DiskId, Span};
use host::pair::*;
use host::{Fault, Host, assert_same};
use replicator::Phase;

/// Two devices that share a number, one at a time, and one that is always there.
struct Lives {
    host: Host,
    dice: u64,
    /// What each device holds, by its local disk.
    holds: BTreeMap<DiskId, Vec<u8>>,
    /// Which of the two is in the table of a successor, and in that of the daemon.
    kept: Option<bool>,
    now: Option<bool>,
    joined: [u32; 2],
}

impl Lives {
    fn new(seed: u64) -> Self {
        let mut disks = Host::blank();
        for disk in 5..11 {
            disks.insert(DiskId(disk), vec![disk as u8; 8192 * 512]);
        }
        // It is believed that the second one's are equal.
        disks.insert(DiskId(9), disks[&DiskId(8)].clone());
        let holds = [1, 5, 8].map(|disk| (DiskId(disk), disks[&DiskId(disk)].clone()));
        let (holds, dice) = (BTreeMap::from(holds), seed.wrapping_mul(2) + 1);
        let host = open(&table("create", &[]), disks);
        Self { host, dice, holds, kept: None, now: None, joined: [0, 0] }
    }

    fn roll(&mut self, sides: u64) -> u64 {
        self.dice = self.dice.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x14057b7ef767814f);
        (self.dice >> 33) % sides
    }

    fn text(which: Option<bool>) -> String {
        let device = match which {
            None => String::new(),
            Some(false) => first("disk 3 /dl1 64 sync"),
            Some(true) => second("core 2 8 nosync"),
        };
        table("auto", &[&device])
    }

    /// The local disk of a device.
    fn local(which: Option<bool>) -> DiskId {
        which.map_or(DiskId(1), |second| if second { DiskId(8) } else { LD1 })
    }

    fn write(&mut self) {
        let which = if self.roll(2) == 0 { None } else { self.now };
        let sectors = if which == Some(true) { SHORT } else { DEVICE };
        let (at, fill) = (self.roll(sectors / 8) * 8, self.roll(256) as u8);
        let req = self.host.write_of(u32::from(which.is_some()), at, 8, fill);
        let span = Span::from_millis(1 + self.roll(20));
        self.host.run_for(span);
        let range = at as usize * 512..(at as usize + 8) * 512;
        let holds = self.holds.get_mut(&Self::local(which)).unwrap();
        match acked(&self.host, req) {
            Some(Ok(())) => holds[range].fill(fill),
            Some(Err(errno)) => panic!("{errno:?}"),
            // Whether it was written who goes on sees.
            None => assert!(self.host.effects_left.is_some(), "it waits for nobody"),
        }
    }

    fn comes(&mut self, second: bool) {
        let (names, which) = (if second { SECOND } else { FIRST }, Some(second));
        // A number of its own for each disk that is opened is the driver's business.
        if self.host.reload_seen(&group(&Self::text(which)), &names).is_ok() {
            self.now = which;
            self.joined[usize::from(second)] += 1;
        }
    }

    fn goes(&mut self) {
        if take_away(&mut self.host, Span::from_secs(1)).is_ok() {
            self.now = None;
            self.host.closed.clear();
        }
    }

    /// The driver keeps a table when what it says has settled, and nothing else begins before.
    fn settle(&mut self) {
        let span = Span::from_millis(50);
        self.host.run_for(span);
        if self.host.machine.has_settled() {
            self.kept = self.now;
        }
    }

    /// The machine dies at some effect, and another goes on with what there is.
    fn crash(&mut self) {
        let table = if self.host.machine.has_settled() { self.now } else { self.kept };
        self.host = open(&Self::text(table), self.host.disks.clone());
        let phase = self.host.machine.phase();
        assert!(matches!(phase, Phase::Running), "{phase:?}, by the table {table:?}");
        (self.kept, self.now) = (table, table);
        self.host.run_for(Span::from_secs(1));
        // What was not acknowledged may be there.
        for which in [None, table].into_iter().take(1 + usize::from(table.is_some())) {
            let sectors = if which == Some(true) { SHORT } else { DEVICE };
            let found = self.host.read_of(u32::from(which.is_some()), 0, sectors);
            let holds = self.holds.get_mut(&Self::local(which)).unwrap();
            let mut differ = 0;
            for (found, held) in found.chunks(4096).zip(holds.chunks_mut(4096)) {
                differ += u32::from(found != held);
                held.copy_from_slice(found);
            }
            assert!(differ <= 1, "only the last write was on its way");
        }
    }

    fn step(&mut self) {
        match self.roll(12) {
            0 | 1 if self.now.is_none() => {
                let second = self.roll(2) == 0;
                self.comes(second);
                self.settle();
            }
            0 | 1 => {
                self.goes();
                self.settle();
            }
            2 => {
                let disks = [RD, RD1, DiskId(9)];
                let disk = disks[self.roll(3) as usize];
                self.host.faults.insert(disk, Fault::Fails);
            }
            3 | 4 => self.host.faults.clear(),
            5 => {
                self.host.effects_left = Some(self.roll(60));
                match (self.roll(3), self.now) {
                    (0, None) => self.comes(true),
                    (0, Some(_)) => self.goes(),
                    _ => self.write(),
                }
                self.host.run_for(Span::from_millis(100));
                self.host.effects_left = None;
                self.crash();
            }
            _ => self.write(),
        }
    }

    fn ends(mut self) -> [u32; 2] {
        self.host.faults.clear();
        is_well(&mut self.host);
        if let Some(second) = self.now {
            let (disks, sectors) = match second {
                true => ([DiskId(8), DiskId(9)], SHORT),
                false => ([LD1, RD1], DEVICE),
            };
            is_equal(&mut self.host, 1, sectors, disks);
        }
        for (disk, holds) in &self.holds {
            assert_same(&self.host.disks[disk], holds);
        }
        self.joined
    }
}

#[test]
fn two_devices_share_a_number_through_crashes_and_outages_and_each_keeps_its_own() {
    let mut joined = [0, 0];
    // The last one was away, came again, and a crash left the table without it.
    for seed in (0..50).chain([420]) {
        let mut lives = Lives::new(seed);
        eprintln!("seed {seed}");
        for _ in 0..60 {
            lives.step();
        }
        let these = lives.ends();
        (joined[0], joined[1]) = (joined[0] + these[0], joined[1] + these[1]);
    }
    assert!(joined.iter().all(|times| *times > 50), "{joined:?}");
}
