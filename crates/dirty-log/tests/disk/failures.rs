//! Disks that are too small, fail, or hang.

use blk::{DiskId, DiskOp, Errno, Sectors};

use crate::world::{LOG, World, blocks};

#[test]
fn a_disk_that_is_too_small_or_absent_fails_and_asks_for_nothing() {
    let cases = [(Some((DiskId(9), Sectors(15))), Errno::ENOSPC), (None, Errno::ENODEV)];
    for (disk, errno) in cases {
        let mut world = World::new(2);
        world.spec.disk = disk;
        world.restart();
        for load in [false, true] {
            if load {
                world.log.load(LOG, 5);
            } else {
                world.log.begin(LOG, 5);
            }
            assert_eq!(world.log.failure(), Some(errno));
            assert!(!world.log.survives() && !world.log.is_settled() && !world.log.is_loading());
            assert_eq!(world.run(), 0);
        }
        assert_eq!(world.log.dirty_sectors(), world.spec.len, "nothing was loaded");
        world.log.give_up(Errno::ETIMEDOUT);
        assert_eq!(world.log.failure(), Some(errno));
    }
}

#[test]
fn a_disk_that_was_absent_is_used_when_it_is_there_and_large_enough() {
    let mut world = World::new(2);
    world.spec.disk = Some((DiskId(9), Sectors(0)));
    world.restart();
    world.log.load(LOG, 5);
    assert_eq!(world.log.failure(), Some(Errno::ENODEV));
    world.log.found(Sectors(15));
    world.log.begin(LOG, 5);
    assert_eq!(world.log.failure(), Some(Errno::ENOSPC));
    world.log.found(Sectors(16));
    assert_eq!(world.log.failure(), Some(Errno::ENOSPC), "nobody has begun anew");
    world.log.begin(LOG, 5);
    world.settle();
    world.restart();
    world.log.found(Sectors(16));
    world.load(5);
    assert_eq!(world.log.dirty_sectors(), world.spec.len, "nothing was known, so all is dirty");
}

#[test]
fn a_flush_of_a_disk_that_has_shrunk_makes_nothing_good() {
    let mut world = World::begun(2, 5);
    world.mark(7);
    for _ in 0..2 {
        assert!(world.poll());
        if world.flights.len() == 1 && matches!(world.flights[0].op, DiskOp::Write { .. }) {
            world.end(0, Ok(()));
        }
    }
    assert!(matches!(world.flights[0].op, DiskOp::Flush));
    world.log.found(Sectors(15));
    world.end(0, Ok(()));
    assert_eq!((world.log.failure(), world.log.is_settled()), (Some(Errno::ENOSPC), false));
}

#[test]
fn a_write_or_a_flush_that_fails_fails_the_log_until_the_next_session() {
    for fails in 0..2 {
        let mut world = World::begun(2, 5);
        world.mark(7);
        for _ in 0..fails {
            assert!(world.poll());
            world.end(0, Ok(()));
        }
        assert!(world.poll());
        assert_eq!(matches!(world.flights[0].op, DiskOp::Flush), fails == 1);
        world.end(0, Err(Errno::EIO));
        assert_eq!(world.log.failure(), Some(Errno::EIO));
        world.mark(8);
        assert!(!world.log.survives() && !world.log.is_settled());
        assert_eq!(world.run(), 0, "a flush is not repeated into success");
        world.log.begin(LOG, 6);
        assert!(world.log.survives());
        assert_eq!(world.run(), 2, "all blocks, and a flush");
        assert!(world.log.is_settled());
        world.restart();
        world.load(6);
        assert_eq!(world.log.dirty_sectors(), Sectors(2));
    }
}

#[test]
fn one_of_many_writes_that_fails_is_enough() {
    let mut world = World::new(300);
    world.log.begin(LOG, 5);
    while world.poll() {}
    world.end(3, Err(Errno::EIO));
    assert!(!world.poll());
    while !world.flights.is_empty() {
        world.end(0, Ok(()));
    }
    assert_eq!(world.run(), 0);
    assert_eq!((world.log.failure(), world.log.is_settled()), (Some(Errno::EIO), false));
}

#[test]
fn a_session_after_a_failure_waits_for_what_is_still_in_flight() {
    let mut world = World::new(300);
    world.log.begin(LOG, 5);
    while world.poll() {}
    world.end(3, Err(Errno::EIO));
    world.log.begin(LOG, 6);
    while !world.flights.is_empty() {
        assert!(!world.poll());
        let result = if world.flights.len() == 2 { Err(Errno::EIO) } else { Ok(()) };
        world.end(0, result);
    }
    assert!(world.log.survives(), "the failure of an earlier session's write is its own");
    world.settle();
}

#[test]
fn what_hangs_and_was_given_up_is_not_overtaken() {
    let mut world = World::begun(2, 5);
    world.mark(7);
    assert!(world.poll());
    world.log.give_up(Errno::ETIMEDOUT);
    assert_eq!(world.log.failure(), Some(Errno::ETIMEDOUT));
    world.log.begin(LOG, 6);
    world.log.load(LOG, 5);
    assert_eq!(world.log.failure(), Some(Errno::ETIMEDOUT), "it may still be written");
    assert!(!world.poll() && !world.log.is_loading());
    world.end(0, Ok(()));
    assert_eq!(world.log.failure(), Some(Errno::ETIMEDOUT), "nobody has begun anew");
    world.log.begin(LOG, 6);
    world.settle();
}

#[test]
fn a_load_that_is_given_up_leaves_everything_dirty() {
    let mut world = World::begun(100, 5);
    world.restart();
    world.log.load(LOG, 5);
    while world.poll() {}
    world.end(0, Ok(()));
    assert_eq!(world.log.dirty_sectors(), Sectors(0));
    world.log.give_up(Errno::ETIMEDOUT);
    assert_eq!(world.log.dirty_sectors(), world.spec.len);
    assert!(!world.log.is_loading());
    while !world.flights.is_empty() {
        world.end(0, Ok(()));
    }
    assert_eq!(world.log.failure(), Some(Errno::ETIMEDOUT));
}

#[test]
fn a_session_that_begins_before_a_load_has_ended_begins_with_everything_dirty() {
    let mut world = World::begun(100, 5);
    world.mark(99 * 31_744);
    world.settle();
    world.restart();
    world.log.load(LOG, 5);
    assert!(world.poll());
    world.log.begin(LOG, 6);
    assert_eq!(world.log.dirty_sectors(), world.spec.len);
    world.end(0, Ok(()));
    world.settle();
}

#[test]
fn a_block_that_cannot_be_read_is_dirty_and_its_neighbours_are_not() {
    let mut world = World::begun(40, 5);
    world.restart();
    world.log.load(LOG, 5);
    while world.log.is_loading() {
        if !world.poll() {
            let bad = blocks(&world.flights[0].op).unwrap().contains(&11);
            world.end(0, if bad { Err(Errno::EIO) } else { Ok(()) });
        }
    }
    assert_eq!(world.log.dirty_sectors(), Sectors(31_744));
    assert!(world.is_dirty(11 * 31_744) && !world.is_dirty(12 * 31_744));
    world.settle();
    world.restart();
    world.load(5);
    assert_eq!(world.log.dirty_sectors(), Sectors(31_744), "it was written anew");
}
