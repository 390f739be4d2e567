//! The tools believe what a load believes, and what they write is never cleaner.

use blk::{Errno, Sector, Sectors};
use dirty_log::tools::{BlockReader, Health, Line, Report, ToolError, check, dump, repair};

use crate::world::{BLOCK, Disk, World};

/// A disk of which some blocks can't be read.
struct Device<'a> {
    disk: &'a Disk,
    bad: Vec<usize>,
}

impl BlockReader for Device<'_> {
    fn size(&self) -> Sectors {
        Sectors(self.disk.stable.len() as u64 * 8 + 7)
    }

    fn read(&mut self, sector: Sector, buf: &mut [u8]) -> Result<(), Errno> {
        assert!(sector.0.is_multiple_of(8) && buf.len().is_multiple_of(BLOCK));
        for (nr, to) in (sector.0 as usize / 8..).zip(buf.chunks_exact_mut(BLOCK)) {
            if self.bad.contains(&nr) {
                return Err(Errno::EIO);
            }
            to.copy_from_slice(&self.disk.stable[nr]);
        }
        Ok(())
    }
}

fn on(disk: &Disk) -> Device<'_> {
    Device { disk, bad: vec![] }
}

/// Three blocks on a disk that has a fourth; some regions are dirty.
fn disk() -> Disk {
    let mut world = World::begun(3, 5);
    for sector in [0, 1, 2, 31_743, 31_744, 2 * 31_744 + 69] {
        world.mark(sector);
    }
    world.settle();
    world.disk.stable.push(vec![0xAA; BLOCK]);
    world.disk
}

fn lines(device: &mut Device<'_>) -> Vec<Line> {
    let mut lines = vec![];
    dump(device, &mut |line| lines.push(line)).unwrap();
    lines
}

/// Regions, by number, that a dump calls dirty.
fn dirty(lines: &[Line]) -> Vec<u64> {
    let runs = lines.iter().filter_map(|line| match line {
        Line::Dirty { region, regions, .. } => Some(*region..*region + *regions),
        Line::Header(_) | Line::Bad(_) => None,
    });
    runs.flatten().collect()
}

#[test]
fn a_check_is_a_page_to_read() {
    let expected = "\
dirty log of device 3 on site 2, session 5 of log 0f1e2d3c-4b5a-4978-8796-a5b4c3d2e1f0
device: 63558 sectors, 63558 regions of 1, in 3 blocks
dirty: 6 regions, 6 sectors
verdict: sound
";
    assert_eq!(check(&mut on(&disk())).to_string(), expected);
}

#[test]
fn a_dump_has_a_line_for_each_range_across_blocks() {
    let lines = lines(&mut on(&disk()));
    let text: Vec<_> = lines[1..].iter().map(ToString::to_string).collect();
    let expected = [
        "3 sectors at 0: 3 regions from 0 on",
        "2 sectors at 31743: 2 regions from 31743 on",
        "1 sectors at 63557: 1 regions from 63557 on",
    ];
    assert_eq!(text, expected);
    let json = serde_json::to_value(&lines[2]).unwrap();
    assert_eq!((&json["dirty"]["sector"], &json["dirty"]["sectors"]), (&31_743.into(), &2.into()));
    assert_eq!(serde_json::to_value(&lines[0]).unwrap()["header"]["session"], 5);
}

#[test]
fn what_is_not_believed_is_named_and_counts_as_dirty() {
    let mut disk = disk();
    disk.stable[1][200] ^= 1;
    let report = check(&mut on(&disk));
    assert_eq!((report.health, report.bad.len()), (Health::Damaged, 1));
    assert_eq!((report.bad[0].block, report.bad[0].sector), (1, 8));
    assert_eq!(report.log.as_ref().unwrap().dirty_regions, 4 + 31_744 + 1);
    let text = report.to_string();
    assert!(text.contains("block 1 at sector 8: checksum "), "{text}");
    let found = dirty(&lines(&mut on(&disk)));
    assert_eq!(found.len(), 4 + 31_744 + 1);
}

#[test]
fn a_block_that_cannot_be_read_is_bad_alone() {
    let disk = disk();
    let mut device = Device { disk: &disk, bad: vec![2] };
    let Report { health, bad, .. } = check(&mut device);
    assert_eq!((health, bad.len()), (Health::Damaged, 1));
    assert_eq!(bad[0].problem, "can't be read: Input/output error (os error 5)");
}

#[test]
fn what_is_repaired_is_sound_and_nothing_dirty_is_clean() {
    for damage in [vec![0], vec![1], vec![2], vec![0, 2], vec![1, 2]] {
        let mut disk = disk();
        let before = dirty(&lines(&mut on(&disk)));
        damage.iter().for_each(|nr: &usize| disk.stable[*nr].fill(0x55));
        let plan = repair(&mut on(&disk)).unwrap();
        for (sector, bytes) in plan.writes() {
            disk.stable[sector.0 as usize / 8] = bytes;
        }
        assert_eq!(check(&mut on(&disk)).health, Health::Sound, "{damage:?}");
        let after = dirty(&lines(&mut on(&disk)));
        assert!(before.iter().all(|region| after.contains(region)));
        for nr in damage {
            let of_block = after.iter().filter(|region| **region / 31_744 == nr as u64).count();
            assert_eq!(of_block, if nr == 2 { 70 } else { 31_744 });
        }
        let mut world = World::new(3);
        world.disk = disk;
        world.load(5);
        assert_eq!(world.log.dirty_sectors(), Sectors(after.len() as u64));
    }
}

#[test]
fn a_sound_dirty_log_is_not_repaired() {
    let plan = repair(&mut on(&disk())).unwrap();
    assert!(plan.bad.is_empty() && plan.writes().next().is_none());
    assert!(plan.to_string().contains("nothing to repair"));
}

#[test]
fn what_an_older_and_larger_dirty_log_left_behind_does_not_count() {
    let mut old = World::begun(40, 4);
    old.mark(39 * 31_744);
    old.settle();
    let mut disk = disk();
    old.disk.stable.splice(0..3, disk.stable.drain(0..3));
    let report = check(&mut on(&old.disk));
    assert_eq!(report.health, Health::Sound, "{report}");
    assert_eq!(report.log.unwrap().dirty_regions, 6);
}

#[test]
fn a_session_that_was_cut_while_it_began_is_told() {
    let mut disk = disk();
    let begun = World::begun(3, 6);
    disk.stable[0] = begun.disk.stable[0].clone();
    let report = check(&mut on(&disk));
    assert_eq!(report.health, Health::Damaged);
    assert_eq!((report.bad.len(), report.bad[0].blocks), (1, 2));
    let text = report.to_string();
    assert!(text.contains("2 blocks from block 1 at sector 8 on: expected"), "{text}");
    assert!(text.contains("found log 0f1e2d3c-4b5a-4978-8796-a5b4c3d2e1f0, session 5"), "{text}");
}

#[test]
fn nothing_rubbish_a_later_version_and_a_cut_copy_are_told_apart() {
    let blank = Disk::new(5);
    assert_eq!(check(&mut on(&blank)).health, Health::Absent);
    assert_eq!(repair(&mut on(&blank)), Err(ToolError::Absent));
    assert_eq!(dump(&mut on(&blank), &mut |_| panic!("a line")), Err(ToolError::Absent));
    assert_eq!(check(&mut on(&Disk::new(0))).health, Health::Absent);
    let mut torn = disk();
    torn.stable[..3].iter_mut().for_each(|block| block[3000] ^= 1);
    assert_eq!(check(&mut on(&torn)).health, Health::Unbelievable);
    assert_eq!(repair(&mut on(&torn)), Err(ToolError::Unbelievable));
    let mut newer = disk();
    for block in &mut newer.stable[..3] {
        block[12] = 2;
        let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &block[12..]) as u32;
        block[8..12].copy_from_slice(&crc.to_le_bytes());
    }
    assert_eq!(check(&mut on(&newer)).health, Health::Newer);
    assert_eq!(repair(&mut on(&newer)), Err(ToolError::Newer));
    let mut cut = disk();
    cut.stable.truncate(2);
    assert_eq!(check(&mut on(&cut)).health, Health::TooSmall);
    let error = repair(&mut on(&cut)).unwrap_err();
    assert_eq!(error, ToolError::TooSmall { expected: Sectors(24), found: Sectors(23) });
}
