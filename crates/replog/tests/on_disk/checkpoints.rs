//! When the log says on its device how far it is, without being told to: when it falls idle (P11),
//! when space is wanted (I6), and when a site waits for its cursor (I13).

use blk::{BLOCK_BYTES, DevNr, DiskOp, Sectors, Seq, SlinkNr, Span};
use replog::format::group::{CURSORS_MAX, EntryOp, GroupHeader};
use replog::format::superblock::Superblock;
use replog::{Change, Refusal};

use crate::committing::Log;

const SITE: SlinkNr = SlinkNr(1);
/// The number of the I/O that writes a superblock.
const CHECKPOINT_IO: u64 = 2;
/// So long nothing happens until a log counts as idle.
const IDLE: Span = Span::from_millis(500);

/// The superblock among what is asked, and the number of its I/O.
fn superblock(asked: &[(u64, DiskOp)]) -> Option<(u64, Superblock)> {
    asked.iter().find_map(|(nr, op)| match op {
        DiskOp::Write { data, .. } if *nr == CHECKPOINT_IO => {
            Some((*nr, Superblock::decode(&data[0]).unwrap()))
        }
        _ => None,
    })
}

fn all_sites_have_all(log: &mut Log) {
    for site in [SlinkNr::LOCAL, SITE] {
        log.replog.cover(site, log.replog.durable());
    }
}

/// A write that is durable; the superblock does not say so.
fn durable_write(log: &mut Log, bytes: u64) {
    log.comes(bytes, true);
    let (nr, fua) = log.launches();
    assert!(fua);
    log.ends(nr);
}

#[test]
fn an_idle_log_wakes_up_to_say_how_far_it_is_durable() {
    let mut log = Log::opened();
    assert_eq!(log.replog.wakeup(), None, "all is said");
    let seq = log.write();
    log.commits(100);
    let idle = log.now + IDLE;
    assert_eq!(log.replog.wakeup(), Some(idle));
    log.after(499_999);
    assert!(log.asked().is_empty());
    log.now = idle;
    let asked = log.asked();
    let [(flush, DiskOp::Flush)] = asked[..] else { panic!("{asked:?}") };
    assert!(log.replog.wakeup().unwrap() > log.now + IDLE, "the flush has a deadline, no more");
    log.ends(flush);
    assert_eq!((log.replog.durable(), log.replog.wakeup()), (seq, Some(log.now + IDLE)));
    log.after(500_000);
    let (nr, said) = superblock(&log.asked()).unwrap();
    assert_eq!(said.durable, seq);
    assert!(log.replog.wakeup().unwrap() > log.now + IDLE, "the write has a deadline, no more");
    log.ends(nr);
    assert_eq!(log.replog.wakeup(), None);
}

#[test]
fn a_site_that_waits_for_its_cursor_has_it_said_at_once_if_no_group_is_to_carry_it() {
    let mut log = Log::opened();
    durable_write(&mut log, 4096);
    let seq = log.replog.durable();
    log.replog.cover(SITE, seq);
    assert!(log.asked().is_empty(), "nobody waits");
    log.replog.want_durable_cursor(SITE, seq);
    let (nr, said) = superblock(&log.asked()).unwrap();
    assert_eq!(said.sites[1].covered, seq);
    assert!(log.replog.durable_cursor(SITE) < seq);
    log.ends(nr);
    assert_eq!(log.replog.durable_cursor(SITE), seq);
}

#[test]
fn a_site_that_waits_for_its_cursor_waits_for_the_group_that_carries_it() {
    let mut log = Log::opened();
    durable_write(&mut log, 4096);
    let seq = log.replog.durable();
    log.replog.cover(SITE, seq);
    log.replog.want_durable_cursor(SITE, seq);
    log.write();
    let (nr, _) = log.launches();
    assert!(log.asked().is_empty(), "the group that is written carries it");
    log.ends(nr);
    let asked = log.asked();
    let [(flush, DiskOp::Flush)] = asked[..] else { panic!("{asked:?}") };
    assert!(log.replog.durable_cursor(SITE) < seq);
    log.ends(flush);
    assert_eq!(log.replog.durable_cursor(SITE), seq);
}

#[test]
fn space_that_nobody_needs_is_said_to_be_free_when_half_of_the_ring_is_used() {
    let mut log = Log::opened();
    let ring = log.replog.geometry().ring_bytes();
    let bytes = log.replog.geometry().group_bytes_max() / 4;
    loop {
        log.comes(bytes - BLOCK_BYTES as u64, true);
        let asked = log.asked();
        let free = log.replog.free_bytes();
        let said = superblock(&asked);
        assert_eq!(said.is_some(), free < ring / 2, "{free} of {ring} are free");
        asked.iter().for_each(|(nr, _)| log.ends(*nr));
        if let Some((_, said)) = said {
            assert!(said.head.seq > Seq(0) && log.replog.free_bytes() > ring / 2);
            return;
        }
        all_sites_have_all(&mut log);
    }
}

#[test]
fn a_group_takes_as_many_writes_as_its_header_holds() {
    let mut log = Log::opened();
    let most = GroupHeader::entries_max(CURSORS_MAX);
    let zeroes = |at: usize| {
        Change::new(DevNr(0), EntryOp::WriteZeroes, blk::Sector(at as u64), Sectors(1), false)
    };
    for at in 0..most {
        assert!(log.replog.admit(&zeroes(at)).is_ok(), "{at} of {most}");
    }
    assert_eq!(log.replog.admit(&zeroes(most)).unwrap_err(), Refusal::GroupFull);
    let before = log.replog.written();
    log.commits(100);
    assert_eq!(log.replog.written(), Seq(before.0 + most as u64));
}

#[test]
fn a_group_takes_no_more_bytes_than_a_group_may_have() {
    let mut log = Log::opened();
    let most = log.replog.geometry().group_bytes_max();
    log.comes(most - 2 * BLOCK_BYTES as u64, false);
    let change =
        |sectors| Change::new(DevNr(1), EntryOp::Write, blk::Sector(0), Sectors(sectors), false);
    assert_eq!(log.replog.admit(&change(9)).unwrap_err(), Refusal::GroupFull);
    assert!(log.replog.admit(&change(8)).is_ok(), "the block that is left");
}

/// I12: recovery searches that far for proof of damage, and no further.
#[test]
fn what_is_not_durable_is_bounded_and_a_flush_is_asked_for_when_it_would_be_more() {
    let mut log = Log::opened();
    let bytes = log.replog.geometry().group_bytes_max() / 8;
    let most = log.replog.geometry().unproven_bytes_max();
    let mut unproven = 0;
    let flush = loop {
        log.comes(bytes - BLOCK_BYTES as u64, false);
        match log.asked()[..] {
            [(nr, DiskOp::Write { .. })] => log.ends(nr),
            [(nr, DiskOp::Flush)] => break nr,
            ref other => panic!("{other:?}"),
        }
        unproven += bytes;
        assert!(unproven <= most, "{unproven} of {most}");
    };
    assert!(unproven + bytes > most, "there was room: {unproven} of {most}");
    assert!(log.asked().is_empty(), "the group waits for the flush");
    log.ends(flush);
    log.launches();
}
