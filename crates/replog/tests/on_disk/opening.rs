//! What opening does with what it finds: each mode with each kind of log, and nothing
//! changed on the device when it refuses.

use blk::{DiskId, DiskOp, Effect, Sector, Sectors, SlinkNr, Span, Wall};
use replog::format::superblock::{LogState, Superblock, choose};
use replog::geometry::{LOG_SIZE_MIN, RingPos};
use replog::tools::{Health, LogReader, check, repair};
use replog::{Joining, OpenError, OpenMode, OpenSpec, Opening, Replog, Roster, RosterError};

use crate::image::{Image, Put};
use crate::samples::{LOG, device, leg, site};

const START: Sector = Sector(64);

/// What a device may hold before it is opened.
fn contents() -> Vec<(&'static str, Image)> {
    let log = log();
    let mut blank = log.clone();
    blank.device.fill(0);
    let mut one_slot = log.clone();
    tear_slot(&mut one_slot, 0);
    let mut no_slot = one_slot.clone();
    tear_slot(&mut no_slot, 1);
    let mut torn = log.clone();
    torn.lose(&torn.groups[2].clone(), 1..2);
    let mut damaged = log.clone();
    damaged.lose(&damaged.groups[0].clone(), 1..2);
    let mut newer = log.clone();
    newer.sb.features.incompat = 2;
    write_unchecked(&mut newer);
    let mut read_only = log.clone();
    read_only.sb.features.ro_compat = 1;
    read_only.checkpoint();
    let mut bypassed = log.clone();
    bypassed.sb.bypassed_since = Some(1);
    bypassed.checkpoint();
    vec![
        ("blank", blank),
        ("a log", log),
        ("one slot torn", one_slot),
        ("both slots torn", no_slot),
        ("a torn tail", torn),
        ("damage", damaged),
        ("a later program's", newer),
        ("read-only", read_only),
        ("bypassed", bypassed),
    ]
}

/// Two durable groups and one that is not.
pub(crate) fn log() -> Image {
    let mut image = Image::new();
    image.sb.devices = vec![device(0, "data"), device(1, "logs")];
    image.sb.sites = vec![site(0, |site| site.covered = blk::Seq(0))];
    image.sb.legs = vec![leg(0, 0, "a"), leg(1, 0, "b")];
    image.checkpoint();
    image.checkpoint();
    image.append(&[Put::Data(8)]);
    image.append(&[Put::Data(8), Put::Discard(4)]);
    image.flush();
    image.append(&[Put::Data(8)]);
    image
}

pub(crate) fn tear_slot(image: &mut Image, slot: u64) {
    let at = image.geometry.slot(slot).bytes() as usize;
    image.device[at + 200..at + 512].fill(0xAA);
}

/// A superblock that only a later program would write, in both slots.
fn write_unchecked(image: &mut Image) {
    for slot in 0..2 {
        let generation = image.sb.generation + 2 + slot;
        let features = Default::default();
        let mut bytes = Superblock { generation, features, ..image.sb.clone() }.encode();
        bytes[64] = 2;
        let crc = replog::format::crc::crc32c(&bytes[12..]);
        bytes[8..12].copy_from_slice(&crc.to_le_bytes());
        let at = image.geometry.slot(generation % 2).bytes() as usize;
        image.device[at..at + bytes.len()].copy_from_slice(&bytes);
    }
}

fn roster() -> Roster {
    let joining = |dev, identity| Joining { leg: leg(dev, 0, identity), in_sync: true };
    Roster {
        sites: vec![SlinkNr::LOCAL],
        devices: vec![device(0, "data"), device(1, "logs")],
        legs: vec![joining(0, "a"), joining(1, "b")],
    }
}

/// A table that names site 1, too.
pub(crate) fn both(image: &Image) -> OpenSpec {
    let mut spec = spec(image, OpenMode::Open);
    spec.roster.sites.push(SlinkNr(1));
    let legs = [leg(0, 1, "c"), leg(1, 1, "d")];
    spec.roster.legs.extend(legs.map(|leg| Joining { leg, in_sync: true }));
    spec
}

/// A table that names site 0 only.
pub(crate) fn spec_of(image: &Image) -> OpenSpec {
    spec(image, OpenMode::Open)
}

fn spec(image: &Image, mode: OpenMode) -> OpenSpec {
    OpenSpec {
        disk: DiskId(0),
        path: "/dev/log".to_owned(),
        disk_size: Sectors::from_bytes(image.device.len() as u64),
        start: START,
        mode,
        size: (mode != OpenMode::Open).then_some(LOG_SIZE_MIN),
        tail_bytes: 8 << 20,
        ld_may_outlag_tail: false,
        timeouts: [(SlinkNr::LOCAL, Span::from_secs(10))].into(),
        kept: None,
        wall: Wall(0),
        uuid: LOG,
        roster: roster(),
    }
}

/// Opens a log on a device that does at once what it is asked to.
pub(crate) fn open(image: &mut Image, spec: OpenSpec) -> Result<Replog, OpenError> {
    let mut opening = Opening::new(spec);
    loop {
        let mut effects = Vec::new();
        opening.poll(&mut effects);
        if let Some(outcome) = opening.outcome() {
            return outcome;
        }
        assert!(!effects.is_empty(), "an opening that waits for nothing");
        for effect in effects {
            let Effect::Submit { io, op, .. } = effect else { panic!("{effect:?}") };
            let buf = carry_out(image, op);
            opening.done(io.nr, Ok(()), buf);
        }
    }
}

pub(crate) fn carry_out(image: &mut Image, op: DiskOp) -> Option<blk::BufMut> {
    match op {
        DiskOp::Read { sector, mut buf } => {
            image.read_sectors(sector, &mut buf).unwrap();
            return Some(buf);
        }
        DiskOp::Write { sector, data, .. } => {
            let mut at = sector.bytes() as usize;
            for piece in &data {
                image.device[at..at + piece.len()].copy_from_slice(piece);
                at += piece.len();
            }
        }
        DiskOp::WriteZeroes { sector, len, .. } => {
            let at = sector.bytes() as usize;
            image.device[at..at + len.len()].fill(0);
        }
        DiskOp::Flush => {}
    }
    None
}

/// A word for what came of it.
fn word(outcome: &Result<Replog, OpenError>) -> &'static str {
    match outcome {
        Ok(_) => "open",
        Err(error) => match error {
            OpenError::Absent { .. } => "absent",
            OpenError::Exists { .. } => "exists",
            OpenError::Headers { .. } => "headers",
            OpenError::OtherSize { .. } => "size",
            OpenError::TooSmall { .. } => "too small",
            OpenError::DoesNotFit { .. } => "does not fit",
            OpenError::ReadOnly { .. } => "read-only",
            OpenError::Bypassed { .. } => "bypassed",
            OpenError::NotThere { .. } => "not there",
            OpenError::Kept { .. } => "kept",
            OpenError::Damaged { .. } => "damaged",
            OpenError::Roster { .. } => "roster",
            OpenError::Io { .. } => "io",
            OpenError::Lost { .. } => "lost",
        },
    }
}

/// `auto` never makes a log over a damaged one, `create` never over any.
#[test]
fn each_mode_does_with_each_kind_of_log_what_is_documented() {
    let table = [
        ("blank", ["open", "open", "absent"]),
        ("a log", ["open", "exists", "open"]),
        ("one slot torn", ["open", "exists", "open"]),
        ("both slots torn", ["headers", "headers", "headers"]),
        ("a torn tail", ["open", "exists", "open"]),
        ("damage", ["damaged", "exists", "damaged"]),
        ("a later program's", ["headers", "headers", "headers"]),
        ("read-only", ["read-only", "exists", "read-only"]),
        ("bypassed", ["bypassed", "exists", "bypassed"]),
    ];
    for ((kind, before), (row, expected)) in contents().into_iter().zip(table) {
        assert_eq!(kind, row);
        let modes = [OpenMode::Auto, OpenMode::Create, OpenMode::Open];
        for (mode, expected) in modes.into_iter().zip(expected) {
            let mut image = before.clone();
            let outcome = open(&mut image, spec(&before, mode));
            assert_eq!(word(&outcome), expected, "{kind}, {mode:?}: {:?}", outcome.err());
            let is_untouched = image.device == before.device;
            assert_eq!(is_untouched, outcome.is_err(), "{kind}, {mode:?}: refused, so untouched");
        }
    }
}

#[test]
fn a_log_that_was_made_or_opened_is_sound_for_the_tools() {
    for (kind, mut image) in contents() {
        let spec = spec(&image, OpenMode::Auto);
        if open(&mut image, spec).is_ok() {
            let report = check(&mut Device(&image), START);
            assert_eq!(report.health, Health::Sound, "{kind}: {report}");
        }
    }
}

#[test]
fn each_opening_begins_a_new_epoch_behind_what_it_found() {
    let mut image = log();
    for opening in 2..5 {
        let spec = spec(&image, OpenMode::Open);
        open(&mut image, spec).unwrap();
        let sb = stored(&image);
        assert_eq!((sb.epoch, sb.epoch_first_group, sb.durable.0), (opening, 4, 4));
        assert_eq!(image.scan_from(&sb).1.unwrap().anchor, image.tip);
    }
}

#[test]
fn a_repaired_log_opens_with_its_other_sites_to_be_copied_anew() {
    let mut image = log();
    image.sb.sites.push(site(1, |site| site.covered = blk::Seq(0)));
    image.sb.legs.extend([leg(0, 1, "c"), leg(1, 1, "d")]);
    image.checkpoint();
    image.lose(&image.groups[1].clone(), 1..2);
    let plan = repair(&mut Device(&image), START).unwrap();
    for write in plan.writes {
        let at = write.sector.bytes() as usize;
        image.device[at..at + write.bytes.len()].copy_from_slice(&write.bytes);
    }
    let mut opened = image.clone();
    open(&mut opened, both(&image)).unwrap();
    let sb = stored(&opened);
    let site = &sb.sites[1];
    assert!(site.detached.is_some() && !site.all_dirty, "the mark is its legs' now: {site:?}");
    let dirty: Vec<_> = sb.legs.iter().filter(|l| l.all_dirty).map(|l| l.slink.0).collect();
    assert_eq!((dirty, sb.legs.len()), (vec![1, 1], 4));
    open(&mut image.clone(), spec(&image, OpenMode::Open)).unwrap();
}

/// P10: the first group ever is at the ring's first block. Where that is zero nothing was written.
#[test]
fn a_creation_that_was_cut_is_begun_again_unless_something_was_written_behind_it() {
    let mut used = log();
    (0..2).for_each(|slot| tear_slot(&mut used, slot));
    let mut cut = used.clone();
    let ring = cut.geometry.sector(RingPos(0)).bytes() as usize;
    cut.device[ring..].fill(0);
    for mode in [OpenMode::Auto, OpenMode::Create] {
        let replog = open(&mut cut.clone(), spec(&cut, mode)).unwrap();
        assert_eq!(replog.written(), blk::Seq(0));
        assert_eq!(word(&open(&mut used.clone(), spec(&used, mode))), "headers");
        let mut short = spec(&cut, mode);
        short.disk_size = Sectors(ring as u64 / 512 + 7);
        assert_eq!(word(&open(&mut cut.clone(), short)), "headers", "nobody can say");
    }
    assert_eq!(word(&open(&mut cut.clone(), spec(&cut, OpenMode::Open))), "headers");
}

#[test]
fn members_that_no_superblock_holds_are_refused_not_half_written() {
    let mut blank = log();
    blank.device.fill(0);
    for image in [blank, log()] {
        let mut spec = spec(&image, OpenMode::Auto);
        spec.roster.devices[0].name = "n".repeat(128);
        let mut after = image.clone();
        let outcome = open(&mut after, spec);
        let Err(OpenError::Roster { error, .. }) = outcome else { panic!("a name too long") };
        assert!(matches!(error, RosterError::Unfit(_)), "{error}");
        assert!(after.device == image.device);
    }
}

#[test]
fn a_size_that_the_log_has_not_is_refused() {
    let image = log();
    let other = [LOG_SIZE_MIN + Sectors(8), Sectors(8), Sectors(u64::MAX)];
    for size in other {
        let spec = OpenSpec { size: Some(size), ..spec(&image, OpenMode::Open) };
        assert_eq!(word(&open(&mut image.clone(), spec)), "size", "{size}");
    }
    let same = LOG_SIZE_MIN + Sectors(7); // less than a block more
    let spec = OpenSpec { size: Some(same), ..spec(&image, OpenMode::Open) };
    assert_eq!(word(&open(&mut image.clone(), spec)), "open");
}

pub(crate) fn stored(image: &Image) -> Superblock {
    let slot = |nr| Superblock::decode(&image.device[image.geometry.slot(nr).bytes() as usize..]);
    let LogState::Valid(sb) = choose(slot(0), slot(1)) else { panic!("no superblock") };
    sb
}

struct Device<'a>(&'a Image);

impl LogReader for Device<'_> {
    fn read(&mut self, sector: Sector, buf: &mut [u8]) -> Result<(), blk::Errno> {
        self.0.read_sectors(sector, buf)
    }
}
