//! How a site stands counts when no crash takes it back: when both slots say it.

use blk::{DiskOp, Effect, Sector, Seq, SlinkNr, Time};
use replog::format::kept::Kept;
use replog::format::superblock::{SiteRecord, Superblock};
use replog::{OpenSpec, Opening, Replog};
use uuid::Uuid;

use crate::image::Image;
use crate::opening::{both, carry_out, log, open, stored, tear_slot};
use crate::samples::{fresh, leg, site};

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

#[test]
fn a_site_counts_as_a_whole_copy_after_an_opening_if_it_has_all_devices_and_was_not_detached() {
    for (detached, complete) in [(None, true), (None, false), (Some(1), true), (Some(1), false)] {
        let mut image = log();
        image.sb.sites.push(site(1, |site| {
            site.covered = Seq(0);
            site.detached = detached;
        }));
        image.sb.legs.push(leg(0, 1, "c"));
        if complete {
            image.sb.legs.push(leg(1, 1, "d"));
        }
        image.checkpoint();
        image.checkpoint();
        let mut spec = both(&image);
        if !complete {
            spec.roster.legs.retain(|it| (it.leg.dev.0, it.leg.slink) != (1, SITE));
        }
        let replog = open(&mut image, spec).unwrap();
        assert!(replog.is_whole(SlinkNr::LOCAL));
        let expected = detached.is_none() && complete;
        assert_eq!(replog.is_whole(SITE), expected, "{detached:?}, all devices: {complete}");
    }
}

#[test]
fn what_a_host_kept_is_believed_of_its_own_log_only_and_only_if_it_is_newer() {
    let at = |generation, uuid| Superblock { generation, uuid, ..fresh() };
    let (own, other, old) = (fresh().uuid, Uuid::from_u128(98), Uuid::from_u128(99));
    let kept = Kept { superblock: at(9, own), retired: vec![old] };
    let newer = |generation, uuid| kept.is_newer_than(&at(generation, uuid));
    assert_eq!([8, 9, 10].map(|found| newer(found, own)), [true, false, false]);
    assert_eq!([8, 9, 10].map(|found| newer(found, other)), [false; 3]);
    assert_eq!([own, old, other].map(|log| kept.is_about(log)), [true, true, false]);
}

/// Where an opening first writes to.
fn first_write(image: &mut Image, spec: OpenSpec) -> Sector {
    let mut opening = Opening::new(spec);
    loop {
        let mut effects = Vec::new();
        opening.poll(&mut effects);
        assert!(!effects.is_empty(), "an opening that waits for nothing");
        for effect in effects {
            let Effect::Submit { io, op, .. } = effect else { panic!("{effect:?}") };
            if let DiskOp::Write { sector, .. } = op {
                return sector;
            }
            let buf = carry_out(image, op);
            opening.done(io.nr, Ok(()), buf);
        }
    }
}

/// Where the other slot was torn when the log was lost, the only whole one is not written over.
#[test]
fn after_a_loss_with_a_torn_slot_the_first_superblock_goes_to_that_slot() {
    for torn in [0, 1] {
        for more in [1, 2] {
            let (mut image, _) = opened();
            tear_slot(&mut image, torn);
            let found = stored(&image);
            let superblock = Superblock { generation: found.generation + more, ..found.clone() };
            let mut spec = both(&image);
            spec.kept = Some(Kept { superblock, retired: Vec::new() }.encode());
            let first = first_write(&mut image, spec);
            assert_eq!(first, image.geometry.slot(torn), "slot {torn}, {more} more");
        }
    }
}
