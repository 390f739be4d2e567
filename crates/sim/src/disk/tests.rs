//! What the virtual disk promises, one sentence each.

use super::*;
use crate::cell::Bytes;
use crate::payload::Content;

fn disk() -> SimDisk<Content> {
    SimDisk::new(64)
}

fn rng() -> Rng {
    Rng::new(1)
}

fn writing(sector: u64, content: u32, fua: bool) -> Command<Content> {
    Command::Write { sector, cells: vec![Content(content)], fua }
}

fn write(disk: &mut SimDisk<Content>, sector: u64, content: u32, fua: bool) {
    let ticket = disk.submit(writing(sector, content, fua)).unwrap();
    disk.complete(ticket);
}

fn flush(disk: &mut SimDisk<Content>) {
    let ticket = disk.submit(Command::Flush).unwrap();
    disk.complete(ticket);
}

fn candidates(disk: &SimDisk<Content>, sector: u64) -> Vec<u32> {
    disk.candidates(sector).iter().map(|content| content.0).collect()
}

#[test]
fn a_completed_write_is_readable_and_lost_in_a_power_cut() {
    let mut disk = disk();
    write(&mut disk, 5, 1, false);
    assert_eq!(disk.visible(5), Content(1));
    disk.cut(Keep::None, &mut rng());
    assert_eq!(disk.visible(5), Content::ZEROES);
}

#[test]
fn a_read_returns_the_cache_over_the_media() {
    let mut disk = disk();
    write(&mut disk, 5, 1, true);
    write(&mut disk, 6, 2, false);
    let ticket = disk.submit(Command::Read { sector: 4, sectors: 3 }).unwrap();
    assert_eq!(disk.complete(ticket), Ended::Read(vec![Content(0), Content(1), Content(2)]));
}

#[test]
fn a_flush_makes_durable_what_completed_before_its_submission() {
    let mut disk = disk();
    write(&mut disk, 5, 1, false);
    let ticket = disk.submit(Command::Flush).unwrap();
    write(&mut disk, 6, 2, false);
    write(&mut disk, 5, 3, false);
    disk.complete(ticket);
    assert_eq!((disk.durable(5), disk.durable(6)), (Content(1), Content::ZEROES));
    assert_eq!(disk.visible(5), Content(3), "the newer version stays in the cache");
}

#[test]
fn a_write_in_flight_is_not_covered_by_a_flush_that_ends_after_it() {
    let mut disk = disk();
    let write = disk.submit(writing(5, 1, false)).unwrap();
    let flush = disk.submit(Command::Flush).unwrap();
    disk.complete(write);
    disk.complete(flush);
    assert_eq!(disk.durable(5), Content::ZEROES);
}

#[test]
fn fua_makes_durable_its_own_write_and_no_other() {
    let mut disk = disk();
    write(&mut disk, 5, 1, false);
    write(&mut disk, 6, 2, true);
    disk.cut(Keep::None, &mut rng());
    assert_eq!((disk.visible(5), disk.visible(6)), (Content::ZEROES, Content(2)));
}

#[test]
fn a_flush_never_brings_an_older_version_over_a_fua_write() {
    let mut disk = disk();
    write(&mut disk, 5, 1, false);
    let ticket = disk.submit(Command::Flush).unwrap();
    write(&mut disk, 5, 2, true);
    disk.complete(ticket);
    assert_eq!(candidates(&disk, 5), [2]);
}

#[test]
fn every_unflushed_version_and_the_one_in_flight_may_survive_a_cut() {
    let mut disk = disk();
    write(&mut disk, 5, 1, false);
    write(&mut disk, 5, 2, false);
    disk.submit(writing(5, 3, false)).unwrap();
    assert_eq!(candidates(&disk, 5), [0, 1, 2, 3]);
    let survivors: std::collections::BTreeSet<u32> = (0..100)
        .map(|seed| {
            let mut disk = disk.clone();
            disk.cut(Keep::Any { torn: false }, &mut Rng::new(seed));
            disk.visible(5).0
        })
        .collect();
    assert_eq!(survivors.into_iter().collect::<Vec<_>>(), [0, 1, 2, 3]);
}

#[test]
fn the_sectors_of_one_write_survive_a_cut_independently() {
    let mut disk = disk();
    let cells = vec![Content(1); 2];
    disk.submit(Command::Write { sector: 5, cells, fua: true }).unwrap();
    let outcomes: std::collections::BTreeSet<(u32, u32)> = (0..100)
        .map(|seed| {
            let mut disk = disk.clone();
            disk.cut(Keep::Any { torn: false }, &mut Rng::new(seed));
            (disk.visible(5).0, disk.visible(6).0)
        })
        .collect();
    assert_eq!(outcomes.into_iter().collect::<Vec<_>>(), [(0, 0), (0, 1), (1, 0), (1, 1)]);
}

#[test]
fn keep_all_leaves_the_newest_version_and_nothing_volatile() {
    let mut disk = disk();
    write(&mut disk, 5, 1, false);
    disk.submit(writing(5, 2, false)).unwrap();
    disk.cut(Keep::All, &mut rng());
    assert_eq!(disk.durable(5), Content(2));
    assert!(disk.is_settled());
}

#[test]
fn a_torn_sector_is_new_in_front_and_old_behind() {
    let mut disk: SimDisk<Bytes> = SimDisk::new(8);
    disk.submit(Command::Write { sector: 0, cells: vec![Bytes::new([9; 512])], fua: true })
        .unwrap();
    let torn = (0..200).any(|seed| {
        let mut disk = disk.clone();
        disk.cut(Keep::Any { torn: true }, &mut Rng::new(seed));
        let cell = disk.visible(0);
        let bytes = cell.get();
        let new = bytes.iter().take_while(|&&byte| byte == 9).count();
        assert!(bytes[new..].iter().all(|&byte| byte == 0));
        new > 0 && new < 512
    });
    assert!(torn, "200 cuts tear at least one sector");
}

#[test]
fn two_writes_in_flight_to_one_sector_are_refused() {
    let mut disk = disk();
    disk.submit(Command::Write { sector: 4, cells: vec![Content(1); 4], fua: false }).unwrap();
    assert!(matches!(disk.submit(writing(7, 2, false)), Err(Refused::Overlap { .. })));
    assert!(disk.submit(writing(8, 2, false)).is_ok());
    assert!(disk.submit(writing(3, 2, false)).is_ok());
}

#[test]
fn a_command_beyond_the_end_is_refused() {
    let refused = disk().submit(Command::Read { sector: 63, sectors: 2 });
    assert!(matches!(refused, Err(Refused::OutOfRange { .. })));
}

#[test]
fn a_failed_write_may_have_landed_and_a_failed_flush_did_nothing() {
    let mut landed = [false; 2];
    for seed in 0..50 {
        let mut disk = disk();
        let ticket = disk.submit(writing(5, 1, true)).unwrap();
        disk.fail(ticket, &mut Rng::new(seed));
        landed[usize::from(disk.visible(5) == Content(1))] = true;
        let ticket = disk.submit(Command::Flush).unwrap();
        disk.fail(ticket, &mut Rng::new(seed));
        assert_eq!(disk.durable(5), Content::ZEROES);
    }
    assert_eq!(landed, [true, true]);
}

#[test]
fn what_a_failed_flush_gave_up_is_durable_only_when_written_again() {
    let mut given_up = 0;
    for seed in 0..50 {
        let mut disk = disk();
        write(&mut disk, 5, 1, false);
        let ticket = disk.submit(Command::Flush).unwrap();
        disk.fail(ticket, &mut Rng::new(seed));
        flush(&mut disk);
        assert_eq!(disk.visible(5), Content(1), "it can be read all the same");
        given_up += usize::from(disk.durable(5) == Content::ZEROES);
        write(&mut disk, 5, 2, false);
        flush(&mut disk);
        assert_eq!(candidates(&disk, 5), [2]);
    }
    assert!((1..50).contains(&given_up), "{given_up} of 50");
}

#[test]
fn a_killed_process_leaves_the_cache_alone_and_its_writes_may_still_land() {
    let mut seen = [false; 2];
    for seed in 0..50 {
        let mut disk = disk();
        write(&mut disk, 4, 1, false);
        disk.submit(writing(5, 2, false)).unwrap();
        disk.orphan(&mut Rng::new(seed));
        assert_eq!(disk.visible(4), Content(1));
        seen[usize::from(disk.visible(5) == Content(2))] = true;
    }
    assert_eq!(seen, [true, true]);
}

#[test]
fn a_clone_goes_its_own_way() {
    let mut disk = disk();
    write(&mut disk, 5, 1, true);
    let mut other = disk.clone();
    write(&mut other, 5, 2, true);
    flush(&mut other);
    assert_eq!((disk.durable(5), other.durable(5)), (Content(1), Content(2)));
}
