//! When ring space may be written again (I6).

use blk::{DiskOp, SlinkNr, Time};
use replog::Replog;

use crate::image::Image;
use crate::opening::carry_out;
use crate::standing::{next, opened};

/// Has a superblock written that says how far the sites are.
fn checkpoint(image: &mut Image, replog: &mut Replog) {
    while !replog.settle_down() {
        let (nr, op) = next(replog).unwrap();
        assert!(matches!(op, DiskOp::Write { .. } | DiskOp::Flush), "{op:?}");
        carry_out(image, op);
        replog.done(Time::default(), nr, Ok(()));
    }
}

#[test]
fn space_is_free_when_a_durable_checkpoint_says_so_and_nobody_reads_it() {
    let (mut image, mut replog) = opened();
    let groups = [1, 2].map(|seq| replog.index().group_of(blk::Seq(seq)).unwrap().nr);
    let before = replog.free_bytes();
    groups.into_iter().for_each(|group| replog.pin(group));
    for site in [SlinkNr::LOCAL, SlinkNr(1)] {
        replog.cover(site, replog.written());
    }
    assert_eq!(replog.free_bytes(), before, "no superblock says so");
    checkpoint(&mut image, &mut replog);
    assert_eq!(replog.free_bytes(), before, "the first group is read");
    replog.unpin(groups[0]);
    let between = replog.free_bytes();
    assert!(between > before && between < replog.geometry().ring_bytes(), "the second is read");
    replog.unpin(groups[1]);
    assert_eq!(replog.free_bytes(), replog.geometry().ring_bytes());
}
