//! The bytes of a block: as agreed on once and for all, or not believed.

use blk::{DevNr, Sectors, SlinkNr};
use dirty_log::format::{Block, BlockError, Bypassed, Identity};
use uuid::Uuid;

use crate::world::{LOG, World};

/// Every field says something.
fn busy() -> Block {
    let identity = Identity {
        log: LOG,
        session: 1_000_003,
        dev: DevNr(7),
        slink: SlinkNr(2047),
        len: Sectors((31_744 + 100) * 1024 - 1),
        region: Sectors(1024),
    };
    let words = vec![0x8000_0000_0000_0001, 0x0000_000F_0123_4567];
    Block { identity, nr: 1, bypassed: None, words }
}

const LOST: Bypassed = Bypassed {
    log: Uuid::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff),
    epoch: 0x0102_0304,
};

/// The same, and a log was lost.
fn bypassed() -> Block {
    Block { bypassed: Some(LOST), ..busy() }
}

fn encoded(block: &Block) -> [u8; 4096] {
    let mut bytes = [0xEE; 4096];
    block.encode(&mut bytes);
    bytes
}

/// The bytes with a change that their checksum agrees with.
fn sealed(mut bytes: [u8; 4096], change: impl FnOnce(&mut [u8])) -> [u8; 4096] {
    change(&mut bytes);
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &bytes[12..]) as u32;
    bytes[8..12].copy_from_slice(&crc.to_le_bytes());
    bytes
}

#[test]
fn a_block_lies_on_the_disk_as_agreed() {
    let agreed = golden(include_str!("../golden/block-busy.hex"));
    let found = encoded(&busy());
    let differs = found.iter().zip(&agreed).position(|(found, agreed)| found != agreed);
    assert_eq!(differs, None, "the first byte that is not as agreed");
    assert_eq!(Block::decode(&agreed), Ok(busy()));
}

#[test]
fn a_block_that_knows_of_a_lost_log_lies_on_the_disk_as_agreed() {
    let agreed = golden(include_str!("../golden/block-bypassed.hex"));
    let found = encoded(&bypassed());
    let differs = found.iter().zip(&agreed).position(|(found, agreed)| found != agreed);
    assert_eq!(differs, None, "the first byte that is not as agreed");
    assert_eq!(Block::decode(&agreed), Ok(bypassed()));
}

#[test]
fn a_torn_block_still_says_which_log_was_lost_and_a_flipped_bit_of_that_says_nothing() {
    let mut bytes = encoded(&bypassed());
    bytes[512..].fill(0xEE);
    assert!(Block::decode(&bytes).is_err());
    assert_eq!(Bypassed::decode(&bytes), Some(LOST));
    for bit in 72 * 8..100 * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(Bypassed::decode(&bytes), None, "bit {bit}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    assert_eq!(Bypassed::decode(&encoded(&busy())), None);
    assert_eq!(Bypassed::decode(&[0; 512]), None);
}

#[test]
fn a_lost_log_is_covered_up_to_the_opening_that_was_its_last() {
    assert!(LOST.covers(LOST.log, 1) && LOST.covers(LOST.log, LOST.epoch));
    assert!(!LOST.covers(LOST.log, LOST.epoch + 1) && !LOST.covers(LOG, 1));
}

/// Lines of `OFFSET  BYTES  # comment`, all in hex; what is not listed is zero; the
/// last line is the length.
fn golden(fixture: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in fixture.lines() {
        let mut numbers = line.split('#').next().unwrap().split_whitespace();
        let Some(offset) = numbers.next() else { continue };
        let offset = usize::from_str_radix(offset, 16).unwrap();
        assert!(offset >= bytes.len(), "offsets ascend: {line}");
        bytes.resize(offset, 0);
        bytes.extend(numbers.map(|byte| u8::from_str_radix(byte, 16).unwrap()));
    }
    bytes
}

#[test]
fn every_single_bit_of_a_block_counts() {
    let mut bytes = encoded(&busy());
    for bit in 0..4096 * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(Block::decode(&bytes).is_err(), "bit {bit}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

/// Through the machine: nothing that flips makes a region clean.
#[test]
fn no_flipped_bit_of_an_image_makes_a_dirty_region_clean() {
    let mut world = World::begun(2, 5);
    let dirty = [1, 500, 31_743, 31_744];
    dirty.iter().for_each(|sector| world.mark(*sector));
    world.settle();
    for bit in (0..2 * 4096 * 8).filter(|bit| bit % 4096 < 1100 || bit % 97 == 0) {
        let (block, at, mask) = (bit / (4096 * 8), bit / 8 % 4096, 1 << (bit % 8));
        let mut flipped = world.clone();
        flipped.disk.stable[block][at] ^= mask;
        flipped.restart();
        flipped.load(5);
        assert!(dirty.iter().all(|sector| flipped.is_dirty(*sector)), "bit {bit}");
    }
}

#[test]
fn every_sealed_byte_of_a_block_is_refused_or_encodes_to_itself() {
    for bytes in [encoded(&busy()), encoded(&bypassed())] {
        each_sealed_byte(bytes);
    }
}

fn each_sealed_byte(bytes: [u8; 4096]) {
    for at in 12..4096 {
        for byte in (0..=255).step_by(if at < 160 { 1 } else { 85 }) {
            let changed = sealed(bytes, |bytes| bytes[at] = byte);
            if let Ok(block) = Block::decode(&changed) {
                assert_eq!(encoded(&block), changed, "byte {at} = {byte}");
            }
        }
    }
}

#[test]
fn each_rule_of_a_block_has_its_error() {
    type Breach = (fn(&mut [u8]), &'static str);
    let breaches: [Breach; 9] = [
        (|b| b[12] = 2, "version 1 expected, 2 found"),
        (|b| b[14..16].fill(0xFF), "slink is 65535, out of range"),
        (|b| b[44] = 1, "byte 44 is reserved"),
        (|b| b[48..56].fill(0), "len is 0, out of range"),
        (|b| b[48..56].fill(0xFF), "len is 18446744073709551615, out of range"),
        (|b| b[56..64].fill(0), "region is 0, out of range"),
        (|b| b[56] = 3, "region is 1027, out of range"),
        (|b| b[64] = 2, "block is 2, out of range"),
        (|b| b[128 + 12] = 0x1F, "bits of the last region is"),
    ];
    for (change, expected) in breaches {
        let changed = sealed(encoded(&busy()), change);
        let message = Block::decode(&changed).unwrap_err().to_string();
        assert!(message.contains(expected), "expected {expected:?} in {message:?}");
    }
    let empty = Block::decode(&[0; 4096]);
    assert_eq!(empty, Err(BlockError::NoMagic { found: [0; 8] }));
}

#[test]
fn a_block_is_believed_by_its_own_log_session_leg_and_place_only() {
    let (block, bytes) = (busy(), encoded(&busy()));
    assert_eq!(Block::decode_as(&block.identity, 1, &bytes), Ok(block.clone()));
    let misplaced = Block::decode_as(&block.identity, 0, &bytes);
    assert_eq!(misplaced, Err(BlockError::Misplaced { expected: 0, found: 1 }));
    let others: [fn(&mut Identity); 6] = [
        |other| other.log = Uuid::nil(),
        |other| other.session += 1,
        |other| other.dev.0 += 1,
        |other| other.slink.0 -= 1,
        |other| other.len.0 += 1,
        |other| other.region.0 *= 2,
    ];
    for change in others {
        let mut other = block.identity;
        change(&mut other);
        let error = Block::decode_as(&other, 1, &bytes).unwrap_err();
        assert!(matches!(error, BlockError::Foreign { .. }), "{error}");
    }
}
