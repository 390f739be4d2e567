//! What is encoded decodes to the same, down to the last field.

use blk::{DevNr, Sector, Sectors, Seq, SlinkNr, Wall};
use replog::format::group::{Cursor, Entry, EntryOp, GroupHeader};
use replog::format::superblock::{Anchor, Features, Superblock};
use replog::geometry::RingPos;

#[test]
fn a_group_decodes_to_what_was_encoded() {
    let header = GroupHeader {
        log: 7,
        epoch: 3,
        nr: 12,
        first_seq: Seq(100),
        bytes: 8192,
        durable: Seq(99),
        wall: Wall(5),
        prev_crc: 77,
        cursors: vec![Cursor { slink: SlinkNr(0), covered: Seq(98) }],
        entries: vec![Entry {
            dev: DevNr(1),
            op: EntryOp::Write,
            fua: true,
            sector: Sector(64),
            len: Sectors(8),
            payload: Sectors(8),
            crc: 9,
        }],
    };
    let mut block = [0; 4096];
    let crc = header.encode(&mut block);
    assert_eq!(GroupHeader::decode(&block), Ok((header, crc)));
}

#[test]
fn a_superblock_decodes_to_what_was_encoded() {
    let superblock = Superblock {
        generation: 4,
        uuid: uuid::Uuid::from_u128(1),
        features: Features::default(),
        ring_bytes: 4 << 20,
        epoch: 2,
        epoch_first_group: 10,
        durable: Seq(40),
        head: Anchor { pos: RingPos(4096), group: 9, seq: Seq(30), epoch: 1, crc: 2 },
        bypassed_since: None,
        sites: vec![],
        devices: vec![],
        legs: vec![],
    };
    assert_eq!(Superblock::decode(&superblock.encode()), Ok(superblock));
}
