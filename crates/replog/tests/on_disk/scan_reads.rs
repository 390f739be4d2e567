//! How a scan reads: in order, every byte once, never more than a lap, as far ahead
//! as it is allowed to.

use blk::Sectors;
use replog::geometry::RingPos;
use replog::scan::{CHUNK_BYTES, Scanner, Step};

use crate::image::{Image, Put};

/// A log that bites its tail, with a pad in it.
fn long() -> Image {
    let mut image = Image::new();
    image.append_small(200);
    image.release(150);
    for _ in 0..9 {
        image.append(&[Put::Data(200), Put::Discard(9), Put::Data(33)]);
    }
    image
}

/// Answers reads in an order that `pick` chooses among those on their way.
fn scan(image: &Image, ahead: usize, mut pick: impl FnMut(usize) -> usize) -> (usize, Vec<u64>) {
    let mut scanner = Scanner::new(&image.sb, image.geometry).read_ahead(ahead);
    let (mut flying, mut reads, mut groups) = (Vec::new(), Vec::new(), 0);
    loop {
        match scanner.step() {
            Step::Read { pos, len } => {
                assert!(len <= CHUNK_BYTES);
                reads.push((pos, len));
                flying.push((pos, len));
                assert!(flying.len() <= ahead, "more reads than allowed");
            }
            Step::Wait => {
                let (pos, len) = flying.remove(pick(flying.len()));
                scanner.feed(pos, image.read(pos, len));
            }
            Step::Group(_) => groups += 1,
            Step::End(tip) => {
                assert_eq!(tip.anchor, image.tip);
                assert_once_and_in_order(image, &reads);
                return (groups, reads.iter().map(|(_, len)| *len).collect());
            }
            Step::Damage(damage) => panic!("{damage}"),
        }
    }
}

fn assert_once_and_in_order(image: &Image, reads: &[(RingPos, u64)]) {
    let lap_end = image.sb.head.pos.plus(image.geometry.ring_bytes());
    let mut from = image.sb.head.pos;
    for (pos, len) in reads {
        assert!(*pos >= from, "a byte was asked for twice, or backwards");
        from = pos.plus(*len);
    }
    assert!(from <= lap_end, "more than a lap");
}

#[test]
fn reads_may_end_in_any_order() {
    let image = long();
    let groups = image.groups.len() - 150;
    assert!(image.groups.iter().any(|group| group.header.is_pad()));
    for ahead in 1..6 {
        assert_eq!(scan(&image, ahead, |_| 0).0, groups, "in order, {ahead} ahead");
        assert_eq!(scan(&image, ahead, |flying| flying - 1).0, groups, "last first");
        let mut turn = 0;
        let around = |flying| {
            turn += 1;
            turn % flying
        };
        assert_eq!(scan(&image, ahead, around).0, groups, "in turns");
    }
}

#[test]
fn what_a_pad_skips_is_not_read() {
    let mut image = Image::sized(Sectors(32 << 10));
    image.append_small(1);
    image.release(1);
    let pad = image.pad();
    image.append_small(1);
    let (groups, reads) = scan(&image, 1, |_| 0);
    assert_eq!(groups, 2);
    // The chunk that begins with the pad's header, and the group in the next lap.
    assert_eq!(reads, [CHUNK_BYTES, 2 * 4096]);
    assert!(u64::from(pad.header.bytes) > 10 * CHUNK_BYTES);
}

#[test]
fn the_end_is_said_again_and_late_reads_do_no_harm() {
    let image = long();
    let mut scanner = Scanner::new(&image.sb, image.geometry).read_ahead(4);
    let mut flying = Vec::new();
    let end = loop {
        match scanner.step() {
            Step::Read { pos, len } => flying.push((pos, len)),
            Step::Wait => {
                let (pos, len) = flying.remove(0);
                scanner.feed(pos, image.read(pos, len));
            }
            Step::Group(_) => {}
            end @ (Step::End(_) | Step::Damage(_)) => break end,
        }
    };
    for (pos, len) in flying {
        scanner.feed(pos, image.read(pos, len));
    }
    assert_eq!(scanner.step(), end);
}

#[test]
#[should_panic(expected = "nobody asked for ring position 4096")]
fn bytes_that_nobody_asked_for_are_refused() {
    let image = long();
    Scanner::new(&image.sb, image.geometry).feed(RingPos(4096), &[0; 4096]);
}
