//! Beginning, loading, clearing: what is written when.

use blk::{DiskOp, Sector, Sectors, SlinkNr};
use dirty_log::Spec;
use dirty_log::format::{Bypassed, REGIONS_PER_BLOCK};
use uuid::Uuid;

use crate::world::{LOG, World, blocks};

#[test]
fn a_session_is_settled_when_all_its_blocks_are_written_and_flushed() {
    let mut world = World::new(300);
    assert!(!world.log.is_settled() && world.log.survives());
    world.mark(7);
    world.log.begin(LOG, 5);
    let mut written = 0;
    while let Some(blocks) = next(&mut world) {
        assert!(!world.log.is_settled());
        written += blocks.len();
    }
    assert_eq!(written, 300);
    assert!(!world.log.is_settled(), "the flush is in flight");
    world.end(0, Ok(()));
    assert!(world.log.is_settled());
    assert_eq!(world.run(), 0);
}

/// Ends one write; nothing if it is a flush that is next.
fn next(world: &mut World) -> Option<std::ops::Range<usize>> {
    while world.poll() {}
    let blocks = blocks(&world.flights[0].op)?;
    world.end(0, Ok(()));
    Some(blocks)
}

#[test]
fn what_is_loaded_is_what_was_settled() {
    let mut world = World::begun(3, 5);
    let marked = [0, 63, 64, 31_743, 31_744, 2 * 31_744 + 69];
    marked.iter().for_each(|sector| world.mark(*sector));
    world.settle();
    world.restart();
    assert!(!world.log.is_dirty(Sector(0), Sectors(1)));
    world.load(5);
    assert_eq!(world.log.dirty_sectors(), Sectors(marked.len() as u64));
    assert!(marked.iter().all(|sector| world.is_dirty(*sector)));
}

/// 1. A daemon writes a mark and is killed before its flush.
/// 2. The next one reads the mark, from the disk's cache, and is asked to mark the same.
/// 3. The power fails. The mark must not have counted unless a flush was in between.
#[test]
fn what_was_read_from_a_cache_is_settled_by_a_flush_only() {
    let mut world = World::begun(2, 5);
    world.mark(7);
    assert!(world.poll());
    world.restart();
    world.load(5);
    assert!(world.is_dirty(7) && !world.log.is_settled());
    world.mark(7);
    assert!(world.poll() && matches!(world.flights[0].op, DiskOp::Flush));
    assert!(!world.log.is_settled());
    world.end(0, Ok(()));
    assert!(world.log.is_settled());
}

#[test]
fn a_mark_made_while_the_disk_is_read_stays() {
    let mut world = World::begun(2, 5);
    world.restart();
    world.log.load(LOG, 5);
    assert!(world.log.is_loading() && world.poll());
    world.mark(9);
    world.end(0, Ok(()));
    assert!(!world.log.is_loading() && world.is_dirty(9) && !world.log.is_settled());
    world.settle();
    world.restart();
    world.load(5);
    assert_eq!(world.log.dirty_sectors(), Sectors(1));
}

#[test]
fn a_block_of_another_time_leg_or_place_is_all_dirty_and_is_written_anew() {
    let world = World::begun(2, 5);
    let other = |change: fn(&mut Spec)| {
        let mut spec = world.spec.clone();
        change(&mut spec);
        spec
    };
    let others = [
        (other(|_| ()), LOG, 6),
        (other(|_| ()), Uuid::from_u128(1), 5),
        (other(|spec| spec.slink = SlinkNr(1)), LOG, 5),
        (other(|spec| spec.dev.0 = 4), LOG, 5),
        (other(|spec| spec.region = Sectors(2)), LOG, 5),
        (other(|spec| spec.len.0 += 1), LOG, 5),
    ];
    for (spec, log, session) in others {
        let mut world = World { spec, ..world.clone() };
        for _ in 0..2 {
            world.restart();
            world.log.load(log, session);
            world.settle();
            assert_eq!(world.log.dirty_sectors(), world.spec.len, "{:?}", world.spec);
        }
    }
    let mut swapped = world;
    swapped.disk.stable.swap(0, 1);
    swapped.restart();
    swapped.load(5);
    assert_eq!(swapped.log.dirty_sectors(), swapped.spec.len);
}

#[test]
fn one_bad_block_makes_its_own_regions_dirty_and_no_others() {
    let mut world = World::begun(40, 5);
    world.disk.stable[17][4095] ^= 1;
    world.restart();
    world.load(5);
    assert_eq!(world.log.dirty_sectors(), Sectors(REGIONS_PER_BLOCK));
    assert!(world.is_dirty(17 * REGIONS_PER_BLOCK) && world.is_dirty(18 * REGIONS_PER_BLOCK - 1));
    let wanted = next(&mut world);
    assert_eq!(wanted, Some(17..18), "it is written, and the flush follows");
}

#[test]
fn a_mark_that_the_disk_has_already_costs_no_write() {
    let mut world = World::begun(2, 5);
    world.mark(7);
    assert!(!world.log.is_settled());
    assert_eq!(world.run(), 2, "a write and a flush");
    world.mark(7);
    world.clear(7);
    world.mark(7);
    assert!(world.log.is_settled());
    assert_eq!(world.run(), 0);
}

#[test]
fn a_mark_that_the_disk_has_in_part_is_written() {
    let mut world = World::begun(2, 5);
    world.mark(7);
    world.mark(31_744);
    world.settle();
    world.log.mark(Sector(7), Sectors(2));
    assert!(!world.log.is_settled());
    world.settle();
    world.log.mark(Sector(31_742), Sectors(3));
    assert_eq!(world.run(), 2, "one block has it all, the other has not");
    world.restart();
    world.load(5);
    assert_eq!(world.log.dirty_sectors(), Sectors(5));
}

#[test]
fn what_is_marked_while_its_block_is_written_is_written_after_it() {
    let mut world = World::begun(2, 5);
    world.mark(7);
    assert!(world.poll());
    world.mark(8);
    assert!(!world.poll(), "two writes of one block");
    world.end(0, Ok(()));
    assert!(world.poll() && matches!(world.flights[0].op, DiskOp::Flush));
    world.end(0, Ok(()));
    assert!(!world.log.is_settled());
    assert_eq!(world.run(), 2);
    assert!(world.log.is_settled());
}

#[test]
fn a_few_clears_are_written_when_nothing_is_dirty_or_when_there_are_many_and_never_flushed() {
    let mut world = World::begun(2, 5);
    world.log.mark(Sector(0), Sectors(5_000));
    world.settle();
    (0..990).for_each(|sector| world.clear(sector));
    assert_eq!(world.run(), 0);
    (990..1_000).for_each(|sector| world.clear(sector));
    assert_eq!(world.run(), 1);
    assert!(world.log.is_settled());
    world.clear(1_000);
    assert_eq!(world.run(), 0);
    world.log.clear(Sector(0), Sectors(5_000));
    assert_eq!(world.run(), 1);
    assert_eq!(world.run(), 0);
    world.restart();
    world.load(5);
    assert_eq!(world.log.dirty_sectors(), Sectors(0));
}

#[test]
fn clears_wait_for_marks() {
    let mut world = World::begun(600, 5);
    world.log.mark_all();
    world.settle();
    let all = world.spec.len;
    world.log.clear(Sector(0), Sectors(all.0 - 70));
    while world.poll() {}
    assert_eq!(world.flights.len(), 8);
    world.mark(3);
    assert!(!world.log.is_settled());
    for _ in 0..8 {
        assert!(!world.poll());
        world.end(0, Ok(()));
    }
    let first = next(&mut world);
    assert_eq!(first, Some(0..1));
    world.settle();
    world.restart();
    world.load(5);
    assert!(world.is_dirty(3) && world.log.dirty_sectors().0 >= 71);
}

#[test]
fn a_region_is_clean_on_the_disk_when_all_of_it_is() {
    let mut world = World::new(1);
    world.spec.region = Sectors(1 << 12);
    world.spec.len = Sectors(1 << 20);
    world.restart();
    world.log.begin(LOG, 5);
    world.log.mark(Sector(0), Sectors(256));
    world.settle();
    world.log.clear(Sector(0), Sectors(128));
    assert_eq!(world.log.dirty_sectors(), Sectors(128));
    world.mark(1 << 12);
    assert_eq!(world.run(), 2, "the block is written as it is");
    world.restart();
    world.load(5);
    assert_eq!(world.log.dirty_sectors(), Sectors(2 << 12));
    world.log.clear(Sector(0), Sectors(2 << 12));
    world.settle();
    world.restart();
    world.load(5);
    assert_eq!(world.log.dirty_sectors(), Sectors(0));
}

#[test]
fn a_new_session_waits_for_the_writes_of_the_one_before() {
    let mut world = World::begun(2, 5);
    world.mark(7);
    assert!(world.poll());
    world.log.begin(LOG, 6);
    assert!(!world.poll() && !world.log.is_settled());
    world.end(0, Ok(()));
    world.settle();
    world.restart();
    world.load(6);
    assert_eq!(world.log.dirty_sectors(), Sectors(1));
}

#[test]
fn a_load_waits_for_the_writes_of_the_session_before() {
    let mut world = World::begun(2, 5);
    world.mark(7);
    assert!(world.poll());
    world.log.load(LOG, 5);
    assert!(!world.poll() && world.log.is_loading());
    world.end(0, Ok(()));
    world.settle();
    assert_eq!(world.log.dirty_sectors(), Sectors(1));
}

const LOST: Bypassed = Bypassed { log: LOG, epoch: 9 };

/// What a disk that lost its power now says of a lost log.
fn says(world: &World) -> Option<Bypassed> {
    Bypassed::decode(&world.disk.stable[0])
}

#[test]
fn a_dirty_log_is_settled_when_it_says_durably_that_a_log_was_lost() {
    let mut world = World::begun(2, 5);
    world.log.bypass(LOST);
    while !world.log.is_settled() {
        assert_eq!(says(&world), None);
        assert!(world.poll() || !world.flights.is_empty());
        if !world.flights.is_empty() {
            world.end(0, Ok(()));
        }
    }
    assert_eq!(says(&world), Some(LOST));
    world.log.bypass(LOST);
    assert_eq!(world.run(), 0, "it says so already");
}

#[test]
fn a_dirty_log_whose_disk_fails_never_says_that_a_log_was_lost() {
    let mut world = World::begun(2, 5);
    world.log.bypass(LOST);
    assert!(world.poll());
    world.end(0, Err(blk::Errno::EIO));
    world.run();
    assert!(!world.log.is_settled() && !world.log.survives());
}

#[test]
fn that_a_log_was_lost_outlives_sessions_and_daemons() {
    let mut world = World::begun(2, 5);
    world.log.bypass(LOST);
    world.settle();
    world.log.begin(LOG, 6);
    world.settle();
    assert_eq!(says(&world), Some(LOST));
    world.restart();
    world.load(6);
    world.mark(7);
    world.settle();
    assert_eq!(says(&world), Some(LOST));
    // The next loss is another one, told while the disk is still being read.
    let next = Bypassed { epoch: 12, ..LOST };
    world.restart();
    world.log.load(LOG, 6);
    world.log.bypass(next);
    world.settle();
    assert_eq!(says(&world), Some(next));
    assert!(world.is_dirty(7) && !world.is_dirty(8));
}
