//! A device that becomes longer: what was dirty stays so, and media of the old size are not believed.

use blk::{DevNr, DiskId, DiskOp, Sector, Sectors, SlinkNr};
use dirty_log::{DirtyLog, Spec, disk};

use crate::world::LOG;

const SIZE: usize = 1 << 20;

fn spec(len: u64) -> Spec {
    let (dev, slink, region) = (DevNr(0), SlinkNr(1), Sectors(8));
    let disk = Some((DiskId(3), Sectors::from_bytes(SIZE as u64)));
    Spec { dev, slink, len: Sectors(len), region, disk }
}

/// Carries out what it asks for, and counts that.
fn run(log: &mut DirtyLog, media: &mut [u8]) -> usize {
    let mut asked = 0;
    while end_one(log, media) {
        asked += 1;
    }
    asked
}

/// Carries out the next thing that it asks for, if there is one.
fn end_one(log: &mut DirtyLog, media: &mut [u8]) -> bool {
    let Some(ask) = log.poll() else { return false };
    let buf = match ask.op {
        DiskOp::Read { sector, mut buf } => {
            let at = sector.0 as usize * 512;
            let len = buf.len();
            buf.copy_from_slice(&media[at..at + len]);
            Some(buf)
        }
        DiskOp::Write { sector, data, .. } => {
            let mut at = sector.0 as usize * 512;
            for part in &data {
                media[at..at + part.len()].copy_from_slice(part);
                at += part.len();
            }
            None
        }
        _ => None,
    };
    log.done(ask.nr, Ok(()), buf);
    true
}

fn is_dirty(log: &DirtyLog, sector: u64) -> bool {
    log.is_dirty(Sector(sector), Sectors(1))
}

#[test]
fn what_was_dirty_stays_so_and_a_crash_at_any_time_makes_nothing_clean() {
    let mut media = vec![0; SIZE];
    let mut log = disk(spec(100));
    log.begin(LOG, 5);
    log.mark(Sector(40), Sectors(1));
    run(&mut log, &mut media);
    assert!(log.is_settled());
    log.grow(&spec(1_000_000));
    assert!(!log.is_settled(), "the disk says it of another size");
    assert!(is_dirty(&log, 40) && !is_dirty(&log, 0) && !is_dirty(&log, 999_999));
    log.mark(Sector(100), Sectors(999_900));
    // A crash now: the next one finds blocks of the old size.
    let mut next = disk(spec(1_000_000));
    next.load(LOG, 5);
    run(&mut next, &mut media.clone());
    assert_eq!(next.dirty_sectors(), Sectors(1_000_000));
    // One later finds what was marked, and no more.
    run(&mut log, &mut media);
    assert!(log.is_settled());
    let mut next = disk(spec(1_000_000));
    next.load(LOG, 5);
    run(&mut next, &mut media);
    assert!(is_dirty(&next, 40) && is_dirty(&next, 100) && is_dirty(&next, 999_999));
    assert!(!is_dirty(&next, 0) && !is_dirty(&next, 80));
}

#[test]
fn what_was_in_flight_when_it_grew_counts_for_nothing() {
    let mut log = disk(spec(100));
    log.begin(LOG, 5);
    let early = log.poll().unwrap();
    log.grow(&spec(200));
    log.mark(Sector(150), Sectors(1));
    assert!(log.poll().is_none(), "first the disk must be done with what it was given");
    log.done(early.nr, Ok(()), None);
    assert!(!log.is_settled());
    assert!(run(&mut log, &mut vec![0; SIZE]) > 0 && log.is_settled());
}

#[test]
fn a_block_of_the_old_size_is_not_believed_where_it_could_say_as_much_as_one_of_the_new() {
    let mut media = vec![0; SIZE];
    let mut log = disk(spec(100));
    log.begin(LOG, 5);
    run(&mut log, &mut media);
    log.grow(&spec(200));
    log.mark(Sector(100), Sectors(100));
    // A crash now: the disk says that the first 100 sectors are clean, and nothing of the others.
    let mut next = disk(spec(200));
    next.load(LOG, 5);
    run(&mut next, &mut media);
    assert_eq!(next.dirty_sectors(), Sectors(200));
}

/// Of two blocks, as it grows: while they are written, while that is flushed, and when it was.
#[test]
fn whenever_one_grows_its_disk_says_what_is_dirty_before_it_is_settled() {
    for ended in 0..=2 {
        let mut media = vec![0; SIZE];
        let mut log = disk(spec(300_000));
        log.begin(LOG, 5);
        (0..ended).for_each(|_| assert!(end_one(&mut log, &mut media)));
        let under_way = log.poll();
        assert_eq!(under_way.is_some(), ended < 2);
        log.grow(&spec(400_000));
        under_way.into_iter().for_each(|ask| log.done(ask.nr, Ok(()), None));
        assert!(!log.is_settled(), "after {ended} operations the disk says it of another size");
        log.mark(Sector(399_999), Sectors(1));
        run(&mut log, &mut media);
        assert!(log.is_settled(), "after {ended} operations");
        let mut next = disk(spec(400_000));
        next.load(LOG, 5);
        run(&mut next, &mut media);
        assert_eq!(next.dirty_sectors(), Sectors(8), "after {ended} operations");
    }
}

#[test]
fn one_whose_disk_is_too_small_for_the_new_size_has_failed() {
    let mut log = disk(spec(100));
    log.begin(LOG, 5);
    run(&mut log, &mut vec![0; SIZE]);
    log.grow(&spec(1 << 27));
    assert!(log.failure().is_some() && !log.is_settled() && !log.survives());
}

#[test]
fn a_load_that_is_interrupted_leaves_everything_dirty() {
    let mut log = disk(spec(100));
    log.load(LOG, 5);
    log.grow(&spec(200));
    assert!(is_dirty(&log, 0) && is_dirty(&log, 99));
}
