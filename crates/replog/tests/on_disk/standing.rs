//! How a site stands counts when no crash takes it back: when both slots say it.

use blk::{DiskOp, Effect, Seq, SlinkNr, Time};
use replog::Replog;
use replog::format::kept::Kept;
use replog::format::superblock::SiteRecord;

use crate::image::Image;
use crate::opening::{both, carry_out, log, open, stored, tear_slot};
use crate::samples::{leg, site};

const SITE: SlinkNr = SlinkNr(1);

/// An open log of two sites, and its device.
pub(crate) fn opened() -> (Image, Replog) {
    let mut image = log();
    image.sb.sites.push(site(1, |site| site.covered = Seq(0)));
    image.sb.legs.extend([leg(0, 1, "c"), leg(1, 1, "d")]);
    image.checkpoint();
    image.checkpoint();
    let spec = both(&image);
    let mut replog = open(&mut image, spec).unwrap();
    while let Some((nr, op)) = next(&mut replog) {
        carry_out(&mut image, op);
        replog.done(Time::default(), nr, Ok(()));
    }
    (image, replog)
}

/// What an otherwise idle log wants to have done.
pub(crate) fn next(replog: &mut Replog) -> Option<(u64, DiskOp)> {
    let mut effects = Vec::new();
    replog.poll(Time::default(), &mut effects);
    assert!(effects.len() < 2, "one superblock at a time: {effects:?}");
    match effects.pop()? {
        Effect::Submit { io, op, .. } => Some((io.nr, op)),
        other => panic!("{other:?}"),
    }
}

fn detach(replog: &mut Replog) -> replog::Version {
    let session = replog.new_session();
    replog.change_site(SITE, |site| site.detached = Some(session));
    replog.change_leg(blk::DevNr(1), SITE, |leg| leg.all_dirty = true);
    replog.standing()
}

/// What the next opening finds: with both slots as they are, and with either one rotten.
fn found(image: &Image) -> [SiteRecord; 3] {
    let of = |image: &Image| stored(image).sites[1].clone();
    let rotten = |slot| {
        let mut image = image.clone();
        tear_slot(&mut image, slot);
        of(&image)
    };
    [of(image), rotten(0), rotten(1)]
}

fn are_detached(image: &Image) -> [bool; 3] {
    found(image).map(|site| site.detached.is_some())
}

/// The slot that a write of a superblock goes to, torn.
fn torn(image: &Image, op: &DiskOp) -> Image {
    let DiskOp::Write { sector, .. } = op else { panic!("{op:?}") };
    let slot = u64::from(*sector != image.geometry.slot(0));
    let mut image = image.clone();
    tear_slot(&mut image, slot);
    image
}

#[test]
fn a_change_stands_when_both_slots_say_it_and_not_before() {
    let (mut image, mut replog) = opened();
    let version = detach(&mut replog);
    assert!(!replog.stands(version));
    assert_eq!(are_detached(&image), [false; 3]);
    let (nr, first) = next(&mut replog).unwrap();
    assert!(stored(&torn(&image, &first)).sites[1].detached.is_none(), "cut in the first write");
    carry_out(&mut image, first);
    assert!(!replog.stands(version), "nobody has said that it ended");
    replog.done(Time::default(), nr, Ok(()));
    assert!(!replog.stands(version));
    let between = are_detached(&image);
    assert_eq!(
        between.iter().filter(|detached| **detached).count(),
        2,
        "the newer slot, unless rotten"
    );
    let (nr, second) = next(&mut replog).unwrap();
    assert!(stored(&torn(&image, &second)).sites[1].detached.is_some(), "cut in the second write");
    carry_out(&mut image, second);
    replog.done(Time::default(), nr, Ok(()));
    assert!(replog.stands(version));
    assert_eq!(are_detached(&image), [true; 3]);
    assert!(stored(&image).legs.iter().any(|leg| leg.slink == SITE && leg.all_dirty));
    assert!(next(&mut replog).is_none());
}

#[test]
fn a_change_made_while_a_superblock_is_written_waits_for_two_more() {
    let (mut image, mut replog) = opened();
    detach(&mut replog);
    let (nr, op) = next(&mut replog).unwrap();
    replog.change_site(SITE, |site| site.inconsistent = true);
    let version = replog.standing();
    carry_out(&mut image, op);
    replog.done(Time::default(), nr, Ok(()));
    let mut writes = 0;
    while !replog.stands(version) {
        assert!(!found(&image).iter().all(|site| site.inconsistent), "it stood before");
        let (nr, op) = next(&mut replog).unwrap();
        carry_out(&mut image, op);
        replog.done(Time::default(), nr, Ok(()));
        writes += 1;
    }
    assert_eq!(writes, 2);
    assert!(found(&image).iter().all(|site| site.inconsistent && site.detached.is_some()));
}

#[test]
fn a_change_that_changes_nothing_costs_no_superblock() {
    let (_, mut replog) = opened();
    let version = replog.standing();
    replog.change_site(SITE, |site| site.demoted = false);
    assert!(replog.standing() == version && replog.stands(version));
    assert!(next(&mut replog).is_none());
}

#[test]
fn a_change_whose_superblock_fails_stands_when_the_host_has_kept_it() {
    let (_, mut replog) = opened();
    let version = detach(&mut replog);
    let (nr, _) = next(&mut replog).unwrap();
    replog.done(Time::default(), nr, Err(blk::Errno::EIO));
    assert!(!replog.stands(version) && replog.failure().is_some());
    let mut effects = Vec::new();
    replog.poll(Time::default(), &mut effects);
    let [Effect::Keep { bytes }] = &effects[..] else { panic!("one record to be kept") };
    let said = Kept::decode(bytes).unwrap().superblock;
    assert!(said.sites[1].detached.is_some());
    // What the sites lack is only in the log: it may be opened again.
    assert_eq!(said.bypassed_since, None);
    replog.kept(Time::default(), Err(blk::Errno::ENOSPC));
    assert!(!replog.stands(version));
    effects.clear();
    replog.poll(replog.wakeup().unwrap(), &mut effects);
    assert_eq!(effects.len(), 1, "it is tried again");
    replog.kept(Time::default(), Ok(()));
    assert!(replog.stands(version) && !replog.is_bypassed());
}

#[test]
fn no_site_is_detached_under_a_number_that_any_was_detached_under() {
    let (mut image, mut replog) = opened();
    let mut last = 0;
    for opening in 0..3 {
        for _ in 0..5 {
            let session = replog.new_session();
            assert!(session > last, "opening {opening}: {session} after {last}");
            last = session;
            replog.change_site(SITE, |site| site.detached = Some(session));
        }
        while let Some((nr, op)) = next(&mut replog) {
            carry_out(&mut image, op);
            replog.done(Time::default(), nr, Ok(()));
        }
        let spec = both(&image);
        replog = open(&mut image, spec).unwrap();
        assert_eq!(replog.site(SITE).detached, Some(last));
    }
}
