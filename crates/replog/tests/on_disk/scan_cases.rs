//! Torn tail or damage: the decision, over everything that may be known of a group
//! that does not count.

use blk::{Sectors, Seq};
use replog::scan::{Damage, EndReason, Fault, Proof, Tip};

use crate::image::{Image, Put};

/// What is wrong with the group.
const FAULTS: [&str; 9] = [
    "no header",
    "torn header",
    "torn payload",
    "another log's",
    "an older opening's",
    "another number",
    "another first write",
    "another chain",
    "too long",
];

/// What stands behind the group, if anything.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Behind {
    Nothing,
    /// A header that does not know of it as durable.
    LowMark,
    /// One that does.
    Mark,
    /// One that does, of an older opening.
    DeadMark,
    /// One that does, of another log.
    ForeignMark,
    /// Any header of an opening that the superblock does not know.
    LaterOpening,
    /// One that does, further away than a proof can be.
    FarMark,
}

const BEHIND: [Behind; 7] = [
    Behind::Nothing,
    Behind::LowMark,
    Behind::Mark,
    Behind::DeadMark,
    Behind::ForeignMark,
    Behind::LaterOpening,
    Behind::FarMark,
];

#[derive(Clone, Copy, Debug)]
struct Case {
    fault: &'static str,
    /// The checkpoint's mark is at the group's first write.
    checkpoint: bool,
    /// The superblock's opening began behind the group.
    earlier_opening: bool,
    behind: Behind,
}

/// The table of the module: its rows in order, the first that applies.
fn expected(case: Case) -> &'static str {
    match (case.earlier_opening, case.checkpoint, case.behind) {
        (true, _, _) => "A opening",
        (false, true, _) => "B checkpoint",
        (false, false, Behind::LaterOpening) => "C lost superblock",
        (false, false, Behind::Mark) => "D header",
        (false, false, Behind::Nothing | Behind::LowMark | Behind::DeadMark)
        | (false, false, Behind::ForeignMark | Behind::FarMark) => "E end",
    }
}

fn found(end: &Result<Tip, Damage>) -> &'static str {
    match end {
        Ok(tip) => match tip.reason {
            EndReason::Tail(_) => "E end",
            EndReason::Full => "full",
        },
        Err(damage) => match damage.proof {
            Proof::Opening { .. } => "A opening",
            Proof::Checkpoint { .. } => "B checkpoint",
            Proof::LostSuperblock { .. } => "C lost superblock",
            Proof::Header { .. } => "D header",
        },
    }
}

#[test]
fn every_case_is_decided_as_the_table_says() {
    for fault in FAULTS {
        for behind in BEHIND {
            for flags in 0..4 {
                let (checkpoint, earlier_opening) = (flags & 1 != 0, flags & 2 != 0);
                let case = Case { fault, checkpoint, earlier_opening, behind };
                let (groups, end) = image(case).scan();
                assert_eq!(groups.len(), 2, "{case:?}");
                assert_eq!(found(&end), expected(case), "{case:?}");
            }
        }
    }
}

/// Two good groups of opening 5, then the group that does not count.
fn image(case: Case) -> Image {
    // Large enough that there is something beyond the reach of a proof.
    let is_far = case.behind == Behind::FarMark;
    let mut image = if is_far { Image::sized(Sectors(64 << 10)) } else { Image::new() };
    image.sb.epoch = 5;
    image.append(&[Put::Data(8)]);
    image.append(&[Put::Data(8)]);
    image.flush();
    let good = image.tip;
    bad_group(&mut image, case.fault);
    // Whatever was found there, the next writer would have gone on behind it.
    (image.tip.group, image.tip.seq) = (good.group + 1, Seq(good.seq.0 + 1));
    stand_behind(&mut image, case.behind);
    if case.checkpoint {
        image.sb.durable = good.seq.next();
    }
    if case.earlier_opening {
        (image.sb.epoch, image.sb.epoch_first_group) = (6, good.group + 2);
    }
    image
}

fn bad_group(image: &mut Image, fault: &str) {
    let group = image.append(&[Put::Data(8)]);
    let mut header = group.header.clone();
    match fault {
        "no header" => return image.lose(&group, 0..1),
        "torn header" => return image.at(group.pos)[300] = 1,
        "torn payload" => return image.lose(&group, 1..2),
        "another log's" => header.log ^= 1,
        "an older opening's" => header.epoch = 1,
        "another number" => header.nr += 1,
        "another first write" => header.first_seq = header.first_seq.next(),
        "another chain" => header.prev_crc ^= 1,
        "too long" => header.bytes += image.geometry.group_bytes_max() as u32,
        unknown => panic!("{unknown}"),
    }
    header.encode(&mut image.at(group.pos)[..4096]);
}

/// How far behind a group that does not count anything can be known of it: what may
/// be written and not durable, the group itself, and a pad.
fn search_bytes(image: &Image) -> u64 {
    image.geometry.unproven_bytes_max() + 2 * image.geometry.group_bytes_max()
}

fn stand_behind(image: &mut Image, behind: Behind) {
    if behind == Behind::Nothing {
        return;
    }
    image.durable = image.tip.seq.0;
    if behind == Behind::FarMark {
        image.tip.pos = image.groups[2].pos.plus(search_bytes(image));
    }
    if behind == Behind::LowMark {
        image.durable -= 1;
    }
    let (entries, bytes) = (vec![], 4096);
    let mut header = image.header(bytes, entries);
    match behind {
        Behind::DeadMark => header.epoch -= 1,
        Behind::ForeignMark => header.log ^= 1,
        Behind::LaterOpening => (header.epoch, header.durable) = (7, Seq(0)),
        Behind::Nothing | Behind::LowMark | Behind::Mark | Behind::FarMark => {}
    }
    image.place(header, vec![0; 4096]);
}

#[test]
fn a_proof_is_found_as_far_away_as_it_can_be_and_no_further() {
    let mut image = Image::sized(Sectors(64 << 10));
    image.append(&[Put::Data(8)]);
    image.flush();
    image.lose(&image.groups[0].clone(), 0..1);
    let reach = search_bytes(&image);
    assert!(reach < image.geometry.ring_bytes());
    for (bytes, is_proof) in [(2 * 4096, true), (reach - 4096, true), (reach, false)] {
        let mut image = image.clone();
        image.tip.pos = image.groups[0].pos.plus(bytes);
        image.marks();
        assert_eq!(image.scan().1.is_err(), is_proof, "{bytes} bytes behind the group");
    }
}

/// A checkpoint that was lost with its slot: the older one leads to groups that it
/// can't know, and never to a shorter log.
#[test]
fn an_older_checkpoint_finds_the_log_or_damage_never_less() {
    let mut image = Image::new();
    let mut checkpoints = vec![image.sb.clone()];
    for _ in 0..12 {
        image.append_small(60);
        image.flush();
        image.marks();
        image.release(image.tip.group - 20);
        image.checkpoint();
        checkpoints.push(image.sb.clone());
    }
    let ends: Vec<_> = checkpoints.iter().map(|older| image.scan_from(older).1).collect();
    for (older, end) in checkpoints.iter().zip(&ends) {
        match end {
            Ok(tip) => assert_eq!(tip.anchor, image.tip),
            Err(damage) => assert!(damage.seq > older.head.seq),
        }
    }
    assert!(ends.first().is_some_and(Result::is_err), "the ring was reused since");
    assert!(ends.last().is_some_and(Result::is_ok));
}

#[test]
fn an_opening_whose_superblock_was_lost_is_damage_not_an_end() {
    let mut image = Image::new();
    image.append_small(3);
    let before = image.sb.clone();
    image.reopen(image.tip);
    image.append_small(1);
    let damage = image.scan_from(&before).1.unwrap_err();
    assert!(matches!(damage.what, Some(Fault::Epoch { nr: 4, expected: (1, 1), found: 2 })));
    assert!(matches!(damage.proof, Proof::LostSuperblock { epoch: 2, group: 4, .. }));
}
