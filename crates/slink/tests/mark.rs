//! The mark of a site: the bytes as agreed on once and for all, or not believed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use blk::{Seq, SlinkNr, Wall};
use replog::format::crc::crc32c;
use slink::mark::{Mark, MarkError, MarkState};
use uuid::Uuid;

/// Every field says something.
fn busy() -> Mark {
    Mark {
        log: Uuid::from_u128(0x0f1e_2d3c_4b5a_4978_8796_a5b4_c3d2_e1f0),
        generation: 1_000_003,
        slink: SlinkNr(2047),
        state: MarkState::Inconsistent,
        seq: Seq(400),
        wall: Wall(1_700_000_000_123_456_789),
        name: "naïve name".to_owned(),
    }
}

/// The block with a change that its checksum agrees with.
fn sealed(change: impl FnOnce(&mut [u8])) -> [u8; 4096] {
    let mut block = busy().encode();
    change(&mut block);
    let crc = crc32c(&block[12..]);
    block[8..12].copy_from_slice(&crc.to_le_bytes());
    block
}

#[test]
fn a_mark_lies_on_its_device_as_agreed() {
    let agreed = golden(include_str!("golden/mark-busy.hex"));
    let found = busy().encode();
    let differs = found.iter().zip(&agreed).position(|(found, agreed)| found != agreed);
    assert_eq!(differs, None, "the first byte that is not as agreed");
    assert_eq!(Mark::decode(&agreed), Ok(busy()));
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
fn every_single_bit_of_a_mark_counts() {
    let mut block = busy().encode();
    for bit in 0..4096 * 8 {
        block[bit / 8] ^= 1 << (bit % 8);
        assert!(Mark::decode(&block).is_err(), "bit {bit}");
        block[bit / 8] ^= 1 << (bit % 8);
    }
}

/// The one write that must not be half believed: "inconsistent", on its way over
/// "consistent".
#[test]
fn a_torn_mark_is_not_consistent() {
    let old = Mark { state: MarkState::Consistent, ..busy() }.encode();
    let new = Mark { generation: 1_000_004, ..busy() }.encode();
    for sectors in 1..8 {
        let torn = [&new[..sectors * 512], &old[sectors * 512..]].concat();
        assert!(torn == new || Mark::decode(&torn).is_err(), "{sectors} sectors of the new one");
        let torn = [&old[..sectors * 512], &new[sectors * 512..]].concat();
        assert!(torn == old || Mark::decode(&torn).is_err(), "{sectors} sectors of the old one");
    }
}

#[test]
fn every_sealed_byte_of_a_mark_is_refused_or_encodes_to_itself() {
    for at in 12..4096 {
        for byte in (0..=255).step_by(if at < 192 { 1 } else { 85 }) {
            let changed = sealed(|block| block[at] = byte);
            if let Ok(mark) = Mark::decode(&changed) {
                assert_eq!(mark.encode(), changed, "byte {at} = {byte}");
            }
        }
    }
}

#[test]
fn each_rule_of_a_mark_has_its_error() {
    type Breach = (fn(&mut [u8]), &'static str);
    let breaches: [Breach; 9] = [
        (|b| b[12] = 2, "version 1 expected, 2 found"),
        (|b| b[14..16].fill(0xFF), "slink is 65535, out of range"),
        (|b| b[32..40].fill(0), "generation is 0, out of range"),
        (|b| b[40] = 0, "state is 0, out of range"),
        (|b| b[40] = 3, "state is 3, out of range"),
        (|b| b[42] = 128, "the name is not a text"),
        (|b| b[42..44].fill(0xFF), "the name is not a text"),
        (|b| b[64] = 0xFF, "the name is not a text"),
        (|b| b[44] = 1, "byte 44 is reserved"),
    ];
    for (change, expected) in breaches {
        let message = Mark::decode(&sealed(change)).unwrap_err().to_string();
        assert!(message.contains(expected), "expected {expected:?} in {message:?}");
    }
    assert_eq!(Mark::decode(&[0; 4096]), Err(MarkError::NoMagic { found: [0; 8] }));
}

#[test]
fn a_mark_is_a_sentence_to_read() {
    let expected = "site 2047 of replicator naïve name, log 0f1e2d3c-4b5a-4978-8796-a5b4c3d2e1f0: \
                    inconsistent, has every write up to 400 at least; mark 1000003, \
                    written 1700000000.123456789";
    assert_eq!(busy().to_string(), expected);
}

#[test]
#[should_panic(expected = "would not be readable")]
fn a_mark_that_could_not_be_read_again_is_never_written() {
    let _ = Mark { name: "n".repeat(128), ..busy() }.encode();
}
