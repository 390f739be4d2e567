//! Group headers: one way to say a thing, and an error for anything else.

use blk::{Sector, Sectors, Seq, SlinkNr};
use proptest::prelude::*;
use replog::format::crc::crc32c;
use replog::format::group::{Entry, EntryError, EntryOp, GroupHeader, HeaderError};

use crate::samples::{any_group, cursor, full, marks, mixed, pad, without_payload, write};

fn encoded(header: &GroupHeader) -> [u8; 4096] {
    let mut block = [0xEE; 4096];
    header.encode(&mut block);
    block
}

/// The block with a change that its checksum agrees with.
fn sealed(mut block: [u8; 4096]) -> [u8; 4096] {
    let crc = crc32c(&block[12..]);
    block[8..12].copy_from_slice(&crc.to_le_bytes());
    block
}

proptest! {
    #[test]
    fn a_header_decodes_to_what_was_encoded(header in any_group()) {
        let mut block = [0xEE; 4096];
        let crc = header.encode(&mut block);
        prop_assert_eq!(GroupHeader::decode(&block), Ok((header, crc)));
    }

    #[test]
    fn any_one_flipped_bit_is_found(header in any_group(), bit in 0..4096 * 8_usize) {
        let mut block = encoded(&header);
        block[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(GroupHeader::decode(&block).is_err());
    }

    #[test]
    fn random_bytes_give_an_error(bytes in prop::collection::vec(any::<u8>(), 0..5000)) {
        prop_assert!(GroupHeader::decode(&bytes).is_err());
    }

    /// With the checksum of an attacker, any bytes decode to a header that encodes to them, or to an error.
    #[test]
    fn sealed_bytes_are_refused_or_encode_to_themselves(
        header in any_group(),
        changes in prop::collection::vec((12..4096_usize, any::<u8>()), 1..4),
    ) {
        let mut block = encoded(&header);
        changes.iter().for_each(|(at, byte)| block[*at] = *byte);
        let block = sealed(block);
        if let Ok((header, _)) = GroupHeader::decode(&block) {
            prop_assert_eq!(encoded(&header), block);
        }
    }
}

#[test]
fn every_single_bit_of_every_kind_of_header_counts() {
    for header in [marks(), mixed(), full(), pad()] {
        let mut block = encoded(&header);
        for bit in 0..block.len() * 8 {
            block[bit / 8] ^= 1 << (bit % 8);
            assert!(GroupHeader::decode(&block).is_err(), "bit {bit} of group {header:?}");
            block[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

/// Every value of every byte, with a checksum that agrees: decoding is total, and
/// reserved bytes are never ignored. Behind the last entry a few values will do.
#[test]
fn every_sealed_byte_of_a_header_is_refused_or_encodes_to_itself() {
    let block = encoded(&mixed());
    let fields = 96 + 2 * 16 + 5 * 32;
    for at in 12..block.len() {
        for byte in (0..=255).step_by(if at < fields { 1 } else { 85 }) {
            let mut changed = block;
            changed[at] = byte;
            let changed = sealed(changed);
            if let Ok((header, _)) = GroupHeader::decode(&changed) {
                assert_eq!(encoded(&header), changed, "byte {at} = {byte}");
            }
        }
    }
}

#[test]
fn a_truncated_header_is_refused() {
    let block = encoded(&mixed());
    for len in 0..block.len() {
        assert_eq!(GroupHeader::decode(&block[..len]), Err(HeaderError::Size { found: len }));
    }
}

#[test]
fn a_block_without_magic_is_told_from_one_that_is_torn() {
    assert_eq!(GroupHeader::decode(&[0; 4096]), Err(HeaderError::NoMagic { found: [0; 8] }));
    let mut block = encoded(&mixed());
    block[512..].fill(0); // a shorn write: only the first sector arrived
    assert!(matches!(GroupHeader::decode(&block), Ok(_) | Err(HeaderError::BadChecksum { .. })));
    block[100] ^= 1;
    assert!(matches!(GroupHeader::decode(&block), Err(HeaderError::BadChecksum { .. })));
}

#[test]
fn a_later_version_is_named() {
    let mut block = encoded(&mixed());
    block[12] = 2;
    let error = GroupHeader::decode(&sealed(block)).unwrap_err();
    assert_eq!(error, HeaderError::UnsupportedVersion { found: 2 });
}

#[test]
fn entries_and_cursors_share_the_block() {
    assert_eq!(GroupHeader::entries_max(0), 125);
    assert_eq!(GroupHeader::entries_max(1), 124);
    assert_eq!(GroupHeader::entries_max(2), 124);
    assert_eq!(GroupHeader::entries_max(32), 109);
    let mut header = full();
    header.cursors.push(cursor(0, 1));
    let counts = HeaderError::Counts { cursors: 1, entries: 125 };
    assert_eq!(header.validate(), Err(counts));
}

/// A change to the sample `mixed`, and what is then wrong with it.
type Breach = (fn(&mut GroupHeader), HeaderError);

fn entry_error(index: usize, error: EntryError) -> HeaderError {
    HeaderError::Entry { index, error }
}

#[test]
fn each_rule_of_a_header_has_its_error() {
    let range = |index, sector, len| {
        entry_error(index, EntryError::Range { sector: Sector(sector), len: Sectors(len) })
    };
    let payload = |index, payload, len, from| {
        let (payload, len) = (Sectors(payload), Sectors(len));
        let within = (Sectors(from), Sectors(24));
        entry_error(index, EntryError::Payload { payload, len, within })
    };
    let number = |nr, epoch, first_seq| HeaderError::Number {
        nr,
        epoch,
        first_seq: Seq(first_seq),
        entries: 5,
    };
    let at = |index, slink, covered| HeaderError::Cursor {
        index,
        slink: SlinkNr(slink),
        covered: Seq(covered),
    };
    let breaches: [Breach; 23] = [
        (|h| h.epoch = u64::MAX, number(17, u64::MAX, 402)),
        (|h| h.nr = 0, number(0, 3, 402)),
        (|h| h.nr = u64::MAX, number(u64::MAX, 3, 402)),
        (|h| h.first_seq = Seq(0), number(17, 3, 0)),
        (|h| h.first_seq = Seq(u64::MAX), number(17, 3, u64::MAX)),
        (|h| h.bytes = 0, HeaderError::Bytes { found: 0 }),
        (|h| h.bytes = 12_289, HeaderError::Bytes { found: 12_289 }),
        (|h| h.durable = Seq(402), HeaderError::Durable { durable: Seq(402), first_seq: Seq(402) }),
        (|h| h.cursors[1].slink = SlinkNr(0), at(1, 0, 12)),
        (|h| h.cursors[1].slink = SlinkNr(2048), at(1, 2048, 12)),
        (|h| h.cursors[0].covered = Seq(402), at(0, 0, 402)),
        (|h| h.entries[0].len = Sectors(0), range(0, 2048, 0)),
        (|h| h.entries[2].len = Sectors(1 << 32), range(2, 1 << 40, 1 << 32)),
        (|h| h.entries[3].sector = Sector(u64::MAX), range(3, u64::MAX, 16)),
        (|h| h.entries[3].sector = Sector(1 << 55), range(3, 1 << 55, 16)),
        (|h| h.entries[4].len = Sectors(1), range(4, 99, 1)),
        (|h| h.entries[0].payload = Sectors(7), payload(0, 7, 8, 8)),
        (|h| h.entries[1].payload = Sectors(15), payload(1, 15, 3, 16)),
        (|h| h.entries[1].payload = Sectors(22), payload(1, 22, 3, 16)),
        (|h| h.entries[1].payload = Sectors(u64::MAX), payload(1, u64::MAX, 3, 16)),
        (|h| h.entries[2].crc = 1, entry_error(2, EntryError::NoPayload)),
        (|h| h.entries[3].payload = Sectors(8), entry_error(3, EntryError::NoPayload)),
        (|h| h.entries[3].sector = Sector(2055), HeaderError::Overlap { first: 0, second: 3 }),
    ];
    for (change, expected) in breaches {
        let mut header = mixed();
        change(&mut header);
        assert_eq!(header.validate(), Err(expected));
    }
}

#[test]
fn writes_of_one_group_may_touch_but_not_overlap() {
    let neighbours = |second| GroupHeader {
        bytes: 3 * 4096,
        entries: vec![write(0, 100, 8, 8), second],
        ..marks()
    };
    assert_eq!(neighbours(write(0, 108, 8, 16)).validate(), Ok(()));
    assert_eq!(neighbours(write(0, 92, 8, 16)).validate(), Ok(()));
    assert_eq!(neighbours(write(1, 100, 8, 16)).validate(), Ok(()), "another device");
    let bookmark = without_payload(EntryOp::Bookmark, 0, 100, 0);
    assert_eq!(neighbours(bookmark).validate(), Ok(()), "a bookmark is no write");
    for sector in 93..108 {
        assert!(neighbours(write(0, sector, 8, 16)).validate().is_err(), "sector {sector}");
    }
}

#[test]
fn a_bookmark_may_have_a_sector_of_text_where_a_payload_may_be() {
    let with = |payload, crc| GroupHeader {
        bytes: 2 * 4096,
        entries: vec![Entry {
            payload: Sectors(payload),
            crc,
            ..without_payload(EntryOp::Bookmark, 0, 0, 0)
        }],
        ..marks()
    };
    for payload in [8, 9, 15] {
        assert_eq!(with(payload, 7).validate(), Ok(()), "{payload}");
        let range = with(payload, 7).entries[0].payload_range();
        let start = payload as usize * 512;
        assert_eq!(range, Some(start..start + 512));
    }
    for payload in [1, 7, 16] {
        assert!(matches!(
            with(payload, 7).validate(),
            Err(HeaderError::Entry { error: EntryError::Payload { .. }, .. })
        ));
    }
    assert_eq!(with(0, 0).entries[0].payload_range(), None);
    assert_eq!(with(0, 7).validate().unwrap_err(), entry_error(0, EntryError::NoPayload));
}

#[test]
fn an_unknown_operation_is_named() {
    let mut block = encoded(&mixed());
    let op = 96 + 2 * 16 + 4;
    for code in (0..=255).filter(|code| !(1..=4).contains(code)) {
        block[op] = code;
        let error = GroupHeader::decode(&sealed(block)).unwrap_err();
        assert_eq!(error, entry_error(0, EntryError::Op { found: code }));
    }
}

#[test]
#[should_panic(expected = "group 17 would not be readable")]
fn a_header_that_could_not_be_read_again_is_never_written() {
    GroupHeader { durable: Seq(402), ..marks() }.encode(&mut [0; 4096]);
}
