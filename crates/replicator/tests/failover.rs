//! After a failover: what the old log says that two copies may differ in, and a site whose
//! differences are told later.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod host;

use std::collections::BTreeMap;

use blk::{DiskId, Errno, Sector, Sectors, SlinkNr, Span};
use dirty_log::tools::{BlockReader, Line};
use host::{Fault, Host, assert_same};
use replog::tools::{Lacking, LogReader, lacking};

const LD: DiskId = DiskId(1);
const RD: DiskId = DiskId(2);
const DIRTY_LOG: DiskId = DiskId(3);
const SITES: &str = "blockdev 2 0 async blockdev 1 1";
const LATER: [&str; 3] =
    ["1 1 /rd0 nolog 0", "1 1 /rd0 core 2 8 later", "1 1 /rd0 disk 3 /dl0 8 later"];
const SECTORS: usize = 4096;

/// The image of a disk.
struct Image<'a>(&'a [u8]);

impl Image<'_> {
    fn copy(&self, sector: Sector, buf: &mut [u8]) {
        let at = sector.bytes() as usize;
        buf.copy_from_slice(&self.0[at..at + buf.len()]);
    }
}

impl LogReader for Image<'_> {
    fn read(&mut self, sector: Sector, buf: &mut [u8]) -> Result<(), Errno> {
        self.copy(sector, buf);
        Ok(())
    }
}

impl BlockReader for Image<'_> {
    fn size(&self) -> Sectors {
        Sectors::from_bytes(self.0.len() as u64)
    }

    fn read(&mut self, sector: Sector, buf: &mut [u8]) -> Result<(), Errno> {
        self.copy(sector, buf);
        Ok(())
    }
}

/// What the log and the dirty log of a dead host say.
fn told(disks: &BTreeMap<DiskId, Vec<u8>>) -> Lacking {
    let mut found = lacking(&mut Image(&disks[&DiskId(0)]), Sector(0), SlinkNr(1)).unwrap();
    let Some(session) = found.session else { return found };
    let mut own = None;
    let mut dirty = Vec::new();
    let health = dirty_log::tools::dump(&mut Image(&disks[&DIRTY_LOG]), &mut |line| match line {
        Line::Header(header) => own = Some(header),
        Line::Dirty { sector, sectors, .. } => dirty.push((sector, sectors)),
        Line::Bad(_) => {}
    });
    let believed = health == Ok(dirty_log::tools::Health::Sound)
        && own.is_some_and(|own| (own.session, &own.log) == (session, &found.uuid));
    if believed {
        dirty.into_iter().for_each(|(sector, sectors)| found.insert(0, sector, sectors));
    } else {
        found.devices[0].all = true;
    }
    found
}

/// The sectors in which two disks differ.
fn differing(disks: &BTreeMap<DiskId, Vec<u8>>) -> Vec<u64> {
    let sectors = |disk| disks[&disk][..SECTORS * 512].chunks(512);
    let pairs = sectors(LD).zip(sectors(RD)).zip(0..);
    pairs.filter(|((a, b), _)| a != b).map(|(_, at)| at).collect()
}

fn covers(found: &Lacking, sector: u64) -> bool {
    let device = &found.devices[0];
    let before = device.ranges.range(..=sector).next_back();
    device.all || before.is_some_and(|(at, len)| sector < at + len)
}

struct Dice(u64);

impl Dice {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % below
    }
}

#[test]
fn the_old_log_says_everything_in_which_the_copies_differ_at_any_instant() {
    let (mut differed, mut partial) = (0, 0);
    for seed in 0..60 {
        let mut dice = Dice(seed);
        let remote = [
            "1 1 /rd0 nolog 0",
            "1 1 /rd0 core 2 64 nosync",
            "1 1 /rd0 disk 3 /dl0 8 nosync",
            "1 1 /rd0 disk 3 /dl0 64 nosync",
        ][(seed % 4) as usize];
        let mut host = Host::of(SITES, "create 4096", remote, Host::blank(), BTreeMap::new());
        for _ in 0..dice.next(300) {
            host.write(dice.next(4000), 1 + dice.next(96), 1 + dice.next(200) as u8);
            match dice.next(40) {
                0 => drop(host.faults.insert(RD, Fault::Hangs)),
                1 => drop(host.faults.insert(RD, Fault::Fails)),
                2 | 3 => {
                    host.faults.clear();
                    host.release();
                }
                _ => {}
            }
            let micros = *[0, 20, 3000, 200_000].get(dice.next(4) as usize).unwrap();
            host.run_for(Span::from_micros(micros));
        }
        let found = told(&host.disks);
        let differ = differing(&host.disks);
        for sector in &differ {
            assert!(covers(&found, *sector), "seed {seed}: sector {sector} differs: {found:?}");
        }
        differed += usize::from(!differ.is_empty());
        partial += usize::from(!differ.is_empty() && !found.devices[0].all);
    }
    assert!(differed > 20 && partial > 10, "{differed} differed, {partial} in part");
}

#[test]
fn a_site_the_log_does_not_have_is_an_error_that_names_those_it_has() {
    let host = Host::of(SITES, "create 4096", LATER[1], Host::blank(), BTreeMap::new());
    let mut log = Image(&host.disks[&DiskId(0)]);
    let error = lacking(&mut log, Sector(0), SlinkNr(2)).unwrap_err();
    assert_eq!(error.to_string(), "expected one of the remote sites 1 of this log, found 2");
    lacking(&mut log, Sector(0), SlinkNr(0)).unwrap_err();
    lacking(&mut Image(&vec![0; 1 << 20]), Sector(0), SlinkNr(1)).unwrap_err();
}

/// The new LD and an old one, which differ in sectors 100..110 and 3000.
fn two_copies() -> BTreeMap<DiskId, Vec<u8>> {
    let mut disks = Host::blank();
    disks.get_mut(&LD).unwrap()[..SECTORS * 512].fill(7);
    let old = disks[&LD].clone();
    disks.insert(RD, old);
    let rd = disks.get_mut(&RD).unwrap();
    rd[100 * 512..110 * 512].fill(9);
    rd[3000 * 512..3001 * 512].fill(9);
    disks
}

fn message(host: &mut Host, words: &str) {
    let words: Vec<&str> = words.split(' ').collect();
    let now = host.now;
    host.machine.message(now, None, &words).unwrap();
}

#[test]
fn a_disk_is_not_touched_before_all_is_told_and_then_copied_where_it_differs() {
    for remote in &LATER[1..] {
        let mut host = Host::of(SITES, "create 4096", remote, two_copies(), BTreeMap::new());
        let before = host.disks[&RD].clone();
        assert!(!host.site().consistent, "nothing was written yet, and nothing is known");
        // More than the log holds: the site is detached meanwhile.
        for i in 0..200 {
            host.write(2000 + i * 7 % 400, 16, i as u8);
            host.run_for(Span::from_millis(20));
        }
        message(&mut host, "differs 1 db 100+5 more");
        host.run();
        assert_same(&host.disks[&RD], &before);
        let failure = host.site().failure.unwrap().error;
        assert!(failure.contains("nobody has told yet"), "{failure}");
        assert!(!host.site().consistent);

        message(&mut host, "differs 1 0 105+5");
        host.run();
        let site = host.site();
        assert!(site.is_in_sync(), "{site:?}");
        // Nobody has told of this one: what is not told is not copied.
        let device = host.read(0, 4096);
        let rd = host.device_bytes(2).to_vec();
        assert_same(&rd[..3000 * 512], &device[..3000 * 512]);
        assert_same(&rd[3000 * 512..3001 * 512], &[9; 512]);
        assert_same(&rd[3001 * 512..], &device[3001 * 512..]);
    }
}

#[test]
fn a_crash_at_any_time_loses_nothing_that_was_told() {
    let mut lives = [0; 2];
    for remote in &LATER[1..] {
        for at in 0..120 {
            let mut host = Host::of(SITES, "create 4096", remote, two_copies(), BTreeMap::new());
            // Some of these lives are detached when it is told, some are not.
            for i in 0..at % 3 * 120 {
                host.write(2000 + i * 7 % 400, 16, i as u8);
                host.run_for(Span::from_millis(20));
            }
            let is_detached = host.machine.status(host.now).sites[1].detached;
            lives[usize::from(is_detached)] += 1;
            if at % 2 == 0 {
                // What was told is nowhere but in memory.
                host.faults.insert(DIRTY_LOG, Fault::Hangs);
            }
            message(&mut host, "differs 1 0 100+10 3000+1");
            host.effects_left = Some(at / 3);
            host.run_for(Span::from_secs(2));
            let mut next = Host::of(SITES, "open 4096", remote, host.disks, BTreeMap::new());
            next.run();
            if next.site().failure.is_some() {
                message(&mut next, "differs 1 0 100+10 3000+1");
                next.run();
            }
            assert!(next.site().is_in_sync(), "{remote}, {at}: {:?}", next.site());
            let device = next.read(0, 4096);
            assert_same(next.device_bytes(2), &device);
        }
    }
    assert!(lives.iter().all(|lives| *lives > 50), "{lives:?}");
}

#[test]
fn resync_copies_everything_to_a_disk_of_which_nothing_was_told() {
    let mut host = Host::of(SITES, "create 4096", LATER[2], two_copies(), BTreeMap::new());
    message(&mut host, "resync 1");
    host.run();
    assert!(host.site().is_in_sync());
    let device = host.read(0, 4096);
    assert_same(host.device_bytes(2), &device);
}

#[test]
fn ranges_can_be_told_of_a_site_that_is_in_sync_too() {
    let remote = "1 1 /rd0 core 2 8 nosync";
    let mut host = Host::of(SITES, "create 4096", remote, two_copies(), BTreeMap::new());
    host.run();
    message(&mut host, "differs 1 0 100+10 3000+1");
    host.run();
    assert!(host.site().is_in_sync());
    let device = host.read(0, 4096);
    assert_same(host.device_bytes(2), &device);
    let now = host.now;
    for (words, expected) in [
        ("differs", "expected one of the remote sites 1, found \"\""),
        ("differs 1", "expected one of the devices 0 (db), found \"\""),
        ("differs 1 0 4096+1", "expected SECTOR+SECTORS within the 4096 sectors of device 0"),
        ("differs 1 0 5", "found \"5\""),
        ("differs 1 0 5+0", "found \"5+0\""),
        ("differs 1 0 18446744073709551615+2", "found \"18446744073709551615+2\""),
    ] {
        let words: Vec<&str> = words.split(' ').collect();
        let error = host.machine.message(now, None, &words).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}
