//! Bytes that were agreed on once and for all. The fixtures were made from the byte
//! diagrams, not by the code under test; a format that changes gets a new version
//! and new fixtures, and the old ones stay readable.

use replog::format::group::GroupHeader;
use replog::format::kept::Kept;
use replog::format::superblock::Superblock;

use uuid::Uuid;

use crate::samples::{LOG, busy, fresh, full, marks, mixed, moved, pad, resized, streaming};

#[test]
fn groups_lie_on_the_device_as_agreed() {
    let fixtures = [
        ("marks", marks(), include_str!("../golden/group-marks.hex")),
        ("mixed", mixed(), include_str!("../golden/group-mixed.hex")),
        ("pad", pad(), include_str!("../golden/group-pad.hex")),
        ("full", full(), include_str!("../golden/group-full.hex")),
    ];
    for (name, header, fixture) in fixtures {
        let agreed = bytes(fixture);
        let mut block = [0xEE; 4096];
        let crc = header.encode(&mut block);
        assert_same(name, &block, &agreed);
        assert_eq!(GroupHeader::decode(&agreed), Ok((header, crc)), "group {name}");
    }
}

#[test]
fn superblocks_lie_on_the_device_as_agreed() {
    let fixtures = [
        ("fresh", fresh(), include_str!("../golden/superblock-fresh.hex")),
        ("busy", busy(), include_str!("../golden/superblock-busy.hex")),
        ("resized", resized(), include_str!("../golden/superblock-resized.hex")),
        ("moved", moved(), include_str!("../golden/superblock-moved.hex")),
        ("streaming", streaming(), include_str!("../golden/superblock-streaming.hex")),
    ];
    for (name, superblock, fixture) in fixtures {
        let agreed = bytes(fixture);
        assert_same(name, &superblock.encode(), &agreed);
        assert_eq!(Superblock::decode(&agreed), Ok(superblock), "superblock {name}");
    }
}

#[test]
fn what_a_host_keeps_of_a_lost_log_is_as_agreed() {
    let mut agreed = bytes(include_str!("../golden/kept.hex"));
    agreed.extend(bytes(include_str!("../golden/superblock-busy.hex")));
    let other = Uuid::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff);
    let kept = Kept { superblock: busy(), retired: vec![LOG, other] };
    assert_same("kept", &kept.encode(), &agreed);
    assert_eq!(Kept::decode(&agreed), Ok(kept));
}

/// A record is believed as a whole or not at all.
#[test]
fn a_kept_record_with_any_bit_flipped_is_refused() {
    let whole = Kept { superblock: fresh(), retired: vec![LOG] }.encode();
    for at in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        assert!(Kept::decode(&flipped).is_err(), "byte {at}");
    }
    for len in [0, 1, 4095, 4096, 8191] {
        assert!(Kept::decode(&whole[..len]).is_err(), "{len} bytes");
    }
}

fn assert_same(name: &str, found: &[u8], agreed: &[u8]) {
    let differs = found.iter().zip(agreed).position(|(found, agreed)| found != agreed);
    assert_eq!(differs, None, "{name}: the first byte that is not as agreed");
    assert_eq!(found.len(), agreed.len(), "{name}: length");
}

/// Lines of `OFFSET  BYTES  # comment`, all in hex; what is not listed is zero; the
/// last line is the length.
fn bytes(fixture: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in fixture.lines() {
        let listed = line.split('#').next().unwrap();
        let mut numbers = listed.split_whitespace();
        let Some(offset) = numbers.next() else { continue };
        let offset = usize::from_str_radix(offset, 16).unwrap();
        assert!(offset >= bytes.len(), "offsets ascend: {line}");
        bytes.resize(offset, 0);
        bytes.extend(numbers.map(|byte| u8::from_str_radix(byte, 16).unwrap()));
    }
    bytes
}
