//! Where a scan ends: at the tip, whatever a crash made of what was not durable.

use blk::Seq;
use proptest::prelude::*;
use replog::format::group::{EntryOp, HeaderError};
use replog::scan::{EndReason, Fault, Proof};

use crate::image::{Image, Put};
use crate::samples::cursor;

/// Three durable groups, two that are not; a header that says so for the first two.
fn crashed() -> Image {
    let mut image = Image::new();
    image.append(&[Put::Data(8), Put::Data(1), Put::Discard(100)]);
    image.append(&[Put::Data(3)]);
    image.flush();
    image.cursors = vec![cursor(0, 3), cursor(1, 2)];
    image.append(&[Put::Data(16)]);
    image.append(&[Put::Data(24), Put::Data(8)]);
    image.append(&[Put::Data(8)]);
    image
}

fn assert_tip(image: &Image, groups: usize, reason: EndReason) {
    let (found, end) = image.scan();
    assert_eq!(found, image.groups[..groups]);
    let tip = end.unwrap();
    assert_eq!(tip.reason, reason);
    let expected = found.last().map_or(image.sb.head, |group| group.end());
    assert_eq!(tip.anchor, expected);
}

fn no_magic() -> EndReason {
    EndReason::Tail(Fault::Header(HeaderError::NoMagic { found: [0; 8] }))
}

fn is_payload_fault(reason: &EndReason, seq: u64) -> bool {
    matches!(reason, EndReason::Tail(Fault::Payload { seq: found, .. }) if found.0 == seq)
}

#[test]
fn an_empty_log_ends_where_it_begins() {
    assert_tip(&Image::new(), 0, no_magic());
}

#[test]
fn a_scan_hands_out_every_group_and_ends_behind_the_last() {
    let image = crashed();
    assert_tip(&image, 5, no_magic());
    let tip = image.scan().1.unwrap();
    assert_eq!(tip.anchor, image.tip);
    assert_eq!(tip.durable, Seq(4));
    assert_eq!(tip.cursors, [cursor(0, 3), cursor(1, 2)]);
}

#[test]
fn a_scan_starts_behind_the_head() {
    let mut image = crashed();
    image.release(2);
    let (groups, end) = image.scan();
    assert_eq!(groups, image.groups[2..]);
    assert_eq!(end.unwrap().anchor, image.tip);
}

#[test]
fn the_bytes_of_a_group_are_those_on_the_device() {
    use replog::scan::{Scanner, Step};
    let image = crashed();
    let mut scanner = Scanner::new(&image.sb, image.geometry);
    let mut seen = 0;
    loop {
        match scanner.step() {
            Step::Read { pos, len } => scanner.feed(pos, image.read(pos, len)),
            Step::Group(group) => {
                assert_eq!(scanner.bytes(), image.read(group.pos, group.header.bytes.into()));
                seen += 1;
            }
            Step::End(_) => break,
            Step::Wait | Step::Damage(_) => panic!("a sound log"),
        }
    }
    assert_eq!(seen, 5);
}

#[test]
fn a_header_that_never_arrived_is_the_end() {
    for last in 3..5 {
        let mut image = crashed();
        image.lose(&image.groups[last].clone(), 0..1);
        assert_tip(&image, last, no_magic());
    }
}

#[test]
fn a_header_that_arrived_in_part_is_the_end() {
    for sectors in 1..8 {
        let mut image = crashed();
        let pos = image.groups[4].pos;
        // Shorn: the first sectors are new, the rest holds what a previous lap left.
        image.at(pos)[sectors * 512..4096].fill(0x5A);
        let (groups, end) = image.scan();
        assert_eq!(groups.len(), 4, "{sectors} sectors of the header arrived");
        let torn = |reason| {
            matches!(reason, EndReason::Tail(Fault::Header(HeaderError::BadChecksum { .. })))
        };
        assert!(torn(end.unwrap().reason));
    }
}

#[test]
fn any_lost_block_of_the_last_group_is_the_end() {
    for block in 1..5 {
        let mut image = crashed();
        image.lose(&image.groups[3].clone(), block..block + 1);
        let (groups, end) = image.scan();
        assert_eq!(groups.len(), 3, "block {block}: whole behind it, and not durable");
        let write = if block < 4 { 6 } else { 7 };
        assert!(is_payload_fault(&end.unwrap().reason, write));
    }
}

#[test]
fn a_flipped_bit_in_an_undurable_group_is_the_end() {
    for byte in [0, 9, 40, 4095, 4096, 4096 + 511, 3 * 4096] {
        let mut image = crashed();
        let pos = image.groups[3].pos;
        image.at(pos)[byte] ^= 0x10;
        let (groups, end) = image.scan();
        assert_eq!(groups.len(), 3, "byte {byte}");
        assert_eq!(end.unwrap().anchor, image.groups[2].end());
    }
}

#[test]
fn a_flipped_bit_in_padding_that_nobody_wrote_is_nothing() {
    let mut image = crashed();
    let pos = image.groups[1].pos; // 3 sectors of payload, 5 of padding
    image.at(pos)[4096 + 3 * 512 + 7] ^= 1;
    assert_tip(&image, 5, no_magic());
}

#[test]
fn a_flipped_bit_in_a_durable_group_is_damage_with_its_place() {
    for (group, bytes) in [(0, [12, 4096, 4096 + 8 * 512]), (1, [70, 4096, 4096 + 2 * 512])] {
        for byte in bytes {
            let mut image = crashed();
            let place = image.groups[group].clone();
            image.at(place.pos)[byte] ^= 2;
            let (groups, end) = image.scan();
            let damage = end.unwrap_err();
            assert_eq!(groups.len(), group, "byte {byte} of group {group}");
            assert_eq!((damage.group, damage.seq), (place.header.nr, place.header.first_seq));
            assert_eq!(damage.sector, image.geometry.sector(place.pos));
            let witness = image.geometry.sector(image.groups[2].pos);
            let proof = Proof::Header { durable: Seq(4), group: 3, sector: witness };
            assert_eq!(damage.proof, proof);
        }
    }
}

#[test]
fn damage_is_one_sentence_that_names_place_fault_and_proof() {
    let mut image = crashed();
    let pos = image.groups[0].pos;
    image.at(pos)[4096] ^= 2;
    let damage = image.scan().1.unwrap_err();
    let Some(Fault::Payload { stored, computed, .. }) = damage.what else { panic!("{damage}") };
    assert_eq!(
        damage.to_string(),
        format!(
            "the log is damaged at sector 576 of its device, in group 1, which begins with write \
             1: payload checksum of write 1 (device 1, sector 0, 8 sectors) is {computed:08x}, \
             expected {stored:08x}; it is no torn end: group 3 at sector 616 says that writes up \
             to 4 were durable"
        )
    );
}

#[test]
fn a_dead_group_of_an_older_opening_does_not_come_back_at_the_tail() {
    let mut image = crashed();
    // The crash took group 4; group 5 is whole on the device, and dead.
    image.lose(&image.groups[3].clone(), 0..1);
    let tip = image.scan().1.unwrap().anchor;
    assert_eq!(tip.group, 3);
    let dead = image.clone();
    image.reopen(tip);
    assert_eq!(image.scan().1.unwrap().anchor, tip, "nothing written yet");
    // A group as long as the lost one: the dead group 5 stands right behind it.
    let group = image.append(&[Put::Data(24), Put::Data(8)]);
    assert_eq!(image.tip.pos, dead.groups[4].pos);
    assert_eq!(image.scan().1.unwrap().anchor, group.end());
}

/// F3: the dead group is a perfect successor of the tip but for its epoch.
#[test]
fn a_dead_group_that_continues_the_log_in_all_but_its_opening_is_dead() {
    let mut image = crashed();
    image.flush();
    let tip = image.groups[3].end();
    image.reopen(tip);
    let (groups, end) = image.scan();
    assert_eq!(groups.len(), 4);
    let end = end.unwrap();
    assert_eq!(end.anchor, tip);
    let fault = Fault::Epoch { nr: 5, expected: (2, 2), found: 1 };
    assert_eq!(end.reason, EndReason::Tail(fault));
    // The same right at the head, with nothing before it to scan.
    image.release(4);
    let (groups, end) = image.scan();
    assert_eq!((groups.len(), end.unwrap().anchor), (0, tip));
}

#[test]
fn groups_of_a_whole_lap_ago_are_not_taken_for_new_ones() {
    let mut image = Image::new();
    while image.tip.pos.0 < image.geometry.ring_bytes() {
        image.append_small(1);
        image.release(image.tip.group);
    }
    for _ in 0..5 {
        assert_tip_with_stale_lap(&image);
        image.append_small(1);
        image.release(image.tip.group - 1);
    }
}

fn assert_tip_with_stale_lap(image: &Image) {
    let tip = image.scan().1.unwrap();
    assert_eq!(tip.anchor, image.tip);
    assert!(matches!(tip.reason, EndReason::Tail(Fault::Number { .. })), "{}", tip.reason);
}

#[test]
fn a_pad_ends_a_lap_and_the_scan_goes_on_in_the_next() {
    let mut image = Image::new();
    image.append_small(220); // 440 of 448 blocks
    image.release(200);
    image.append(&[Put::Data(64)]); // 9 blocks: they don't fit
    assert!(image.groups[220].header.is_pad());
    assert_eq!(image.groups[221].pos.0, image.geometry.ring_bytes());
    let (groups, end) = image.scan();
    assert_eq!(groups, image.groups[200..]);
    assert_eq!(end.unwrap().anchor, image.tip);
}

#[test]
fn a_lost_pad_is_the_end_although_a_group_stands_behind_it() {
    let mut image = Image::new();
    image.append_small(220);
    image.append(&[Put::Discard(8)]);
    image.release(100);
    image.append(&[Put::Data(64)]);
    image.lose(&image.groups[221].clone(), 0..1);
    let (groups, end) = image.scan();
    assert_eq!(groups.len(), 121);
    assert_eq!(end.unwrap().anchor, image.groups[220].end());
}

#[test]
fn a_group_may_end_with_the_last_block_of_a_lap() {
    let mut image = Image::new();
    image.append_small(224); // 448 blocks
    assert_eq!(image.geometry.to_lap_end(image.tip.pos), image.geometry.ring_bytes());
    let (groups, end) = image.scan();
    assert_eq!(groups.len(), 224);
    let tip = end.unwrap();
    assert_eq!((tip.anchor, tip.reason), (image.tip, EndReason::Full));
    image.release(10);
    image.append_small(10);
    let (groups, end) = image.scan();
    assert_eq!(groups, image.groups[10..]);
    assert_eq!(end.unwrap().reason, EndReason::Full);
}

#[test]
fn a_full_log_whose_checkpoint_knows_of_more_is_damaged() {
    let mut image = Image::new();
    image.append_small(224);
    let mut sb = image.sb.clone();
    sb.durable = Seq(225);
    let damage = image.scan_from(&sb).1.unwrap_err();
    assert_eq!((damage.what, damage.group), (None, 225));
}

/// The longest groups of this ring, each across many reads.
#[test]
fn groups_of_the_greatest_length_are_scanned() {
    let mut image = Image::new();
    let sectors = image.geometry.write_max().0;
    for _ in 0..3 {
        image.append(&[Put::Data(sectors)]);
    }
    assert_eq!(image.scan().0, image.groups);
}

/// A crash between two openings, again and again, with whatever arrived of the last
/// groups, never loses a durable group and never brings a dead one back.
#[derive(Clone, Debug)]
struct Life {
    groups: Vec<(u64, bool)>,
    lost: Vec<(usize, u8)>,
    released: usize,
}

fn lives() -> impl Strategy<Value = Vec<Life>> {
    let group = (1..40_u64, any::<bool>());
    let life = (
        prop::collection::vec(group, 0..12),
        prop::collection::vec((0..64_usize, any::<u8>()), 0..6),
        0..12_usize,
    );
    let life = life.prop_map(|(groups, lost, released)| Life { groups, lost, released });
    prop::collection::vec(life, 1..12)
}

proptest! {
    #[test]
    fn crashes_cut_only_what_was_not_durable(lives in lives()) {
        let mut image = Image::new();
        for life in lives {
            live(&mut image, &life);
            let (groups, end) = image.scan();
            let tip = end.expect("a crash is no damage");
            prop_assert!(tip.anchor.seq.0 >= image.durable);
            let first = image.groups.iter().position(|g| g.pos == image.sb.head.pos);
            let expected = first.map_or(&[][..], |first| &image.groups[first..]);
            prop_assert_eq!(&groups[..], &expected[..groups.len()]);
            image.reopen(tip.anchor);
            prop_assert_eq!(image.scan().1.map(|tip| tip.anchor), Ok(tip.anchor), "I9");
        }
    }

    #[test]
    fn any_flipped_bit_in_the_log_is_noticed_or_behind_the_end(
        at in any::<prop::sample::Index>(), bit in 0..8,
    ) {
        let sound = crashed();
        let mut image = sound.clone();
        let end = image.groups[4].end().pos.0 as usize;
        let ring = image.geometry.sector(Default::default()).bytes() as usize;
        image.device[ring + at.index(end)] ^= 1_u8 << bit;
        let (groups, end) = image.scan();
        prop_assert_eq!(&groups[..], &sound.groups[..groups.len()], "what counts is unchanged");
        let durable = 2;
        prop_assert!(groups.len() >= durable || end.is_err());
    }

    #[test]
    fn random_rings_end_at_their_head(seed in any::<u64>(), magics in 0..64_usize) {
        let mut image = Image::new();
        let ring = image.geometry.sector(Default::default()).bytes() as usize;
        let noise = crate::image::content(seed, 448 * 8);
        image.device[ring..ring + noise.len()].copy_from_slice(&noise);
        for block in 0..magics {
            image.device[ring + block * 7 * 4096..][..8].copy_from_slice(b"RPLGROUP");
        }
        prop_assert_eq!(image.scan().0, []);
    }

    /// An attacker's changes to a log, with checksums that agree, are refused or taken
    /// for a log; nothing panics and the scan ends.
    #[test]
    fn sealed_changes_never_hang_or_panic(
        changes in prop::collection::vec((0..5_usize, 12..700_usize, any::<u8>()), 1..6),
    ) {
        let mut image = crashed();
        for (group, at, byte) in changes {
            let pos = image.groups[group].pos;
            let block = &mut image.at(pos)[..4096];
            block[at] = byte;
            let crc = replog::format::crc::crc32c(&block[12..]);
            block[8..12].copy_from_slice(&crc.to_le_bytes());
        }
        let (groups, _) = image.scan();
        prop_assert!(groups.iter().all(|g| g.header.entries.iter().all(|e| e.op != EntryOp::Bookmark || e.len.0 == 0)));
    }
}

/// Writes groups, flushes now and then, lets the head go, and loses blocks of what
/// was not flushed.
fn live(image: &mut Image, life: &Life) {
    for (sectors, flush) in &life.groups {
        let used = image.tip.pos.since(image.sb.head.pos);
        if used + image.geometry.group_bytes_max() > image.geometry.ring_bytes() {
            break;
        }
        image.append(&[Put::Data(*sectors), Put::Discard(3)]);
        if *flush {
            image.flush();
        }
    }
    release(image, life.released);
    let durable = Seq(image.durable);
    for (nth, block) in &life.lost {
        let torn: Vec<_> =
            image.groups.iter().filter(|g| g.header.next_seq().prev() > durable).cloned().collect();
        if let Some(group) = torn.get(nth % torn.len().max(1)) {
            let blocks = group.header.bytes as usize / 4096;
            let block = usize::from(*block) % blocks;
            image.lose(group, block..block + 1);
        }
    }
}

/// The head goes behind the n-th group that is durable, and a checkpoint says so.
fn release(image: &mut Image, nth: usize) {
    let live = image.groups.iter().filter(|g| g.pos >= image.sb.head.pos);
    let durable = live.filter(|g| g.header.next_seq().prev().0 <= image.durable);
    if let Some(nr) = durable.map(|g| g.header.nr).nth(nth) {
        image.release(nr);
        image.checkpoint();
    }
}
