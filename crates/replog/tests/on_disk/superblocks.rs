//! Superblocks: one way to say a thing, and an error for anything else.

use blk::{DevNr, Sectors, Seq, SlinkNr};
use proptest::prelude::*;
use replog::format::crc::crc32c;
use replog::format::superblock::{Features, RosterError, Superblock, SuperblockError};
use replog::geometry::{RingPos, SLOT_BYTES};
use uuid::Uuid;

use crate::samples::{any_superblock, busy, device, fresh, largest, leg, moved, site};

/// The slot with a change that its checksum agrees with.
fn sealed(mut slot: Vec<u8>) -> Vec<u8> {
    let crc = crc32c(&slot[12..]);
    slot[8..12].copy_from_slice(&crc.to_le_bytes());
    slot
}

fn changed(change: impl FnOnce(&mut [u8])) -> Result<Superblock, SuperblockError> {
    let mut slot = busy().encode();
    change(&mut slot);
    Superblock::decode(&sealed(slot))
}

proptest! {
    #[test]
    fn a_superblock_decodes_to_what_was_encoded(superblock in any_superblock()) {
        let bytes = superblock.encode();
        prop_assert!(bytes.len().is_multiple_of(4096));
        prop_assert_eq!(Superblock::decode(&bytes), Ok(superblock));
    }

    #[test]
    fn what_lies_behind_it_in_the_slot_does_not_matter(
        superblock in any_superblock(),
        rest in prop::collection::vec(any::<u8>(), 0..9000),
    ) {
        let mut slot = superblock.encode();
        slot.extend(rest);
        prop_assert_eq!(Superblock::decode(&slot), Ok(superblock));
    }

    #[test]
    fn any_one_flipped_bit_is_found(superblock in any_superblock(), bit in any::<prop::sample::Index>()) {
        let mut slot = superblock.encode();
        let bit = bit.index(slot.len() * 8);
        slot[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(Superblock::decode(&slot).is_err());
    }

    #[test]
    fn random_bytes_give_an_error(bytes in prop::collection::vec(any::<u8>(), 0..9000)) {
        prop_assert!(Superblock::decode(&bytes).is_err());
    }
}

#[test]
fn every_single_bit_of_a_superblock_counts() {
    let mut slot = busy().encode();
    for bit in 0..slot.len() * 8 {
        slot[bit / 8] ^= 1 << (bit % 8);
        assert!(Superblock::decode(&slot).is_err(), "bit {bit}");
        slot[bit / 8] ^= 1 << (bit % 8);
    }
}

/// Every value of every byte, with a checksum that agrees: decoding is total, and
/// reserved bytes are ignored only where a foreign feature may have filled them. Behind
/// the last record a few values will do.
#[test]
fn every_sealed_byte_of_a_superblock_is_refused_or_encodes_to_itself() {
    let slot = busy().encode();
    let fields = 256 + 3 * 64 + 2 * 160 + 3 * 224;
    for at in 12..slot.len() {
        for byte in (0..=255).step_by(if at < fields { 1 } else { 85 }) {
            let mut changed = slot.clone();
            changed[at] = byte;
            let changed = sealed(changed);
            if let Ok(superblock) = Superblock::decode(&changed) {
                assert_eq!(superblock.encode(), changed, "byte {at} = {byte}");
            }
        }
    }
}

#[test]
fn a_truncated_superblock_is_refused() {
    let slot = largest().encode();
    for len in (0..slot.len()).step_by(509) {
        assert!(Superblock::decode(&slot[..len]).is_err(), "{len} bytes");
    }
}

#[test]
fn a_superblock_torn_between_two_generations_is_refused() {
    let (old, new) = (busy(), Superblock { generation: 1_000_004, durable: Seq(411), ..busy() });
    let (old, new) = (old.encode(), new.encode());
    for sectors in 1..old.len() / 512 {
        let torn = [&new[..sectors * 512], &old[sectors * 512..]].concat();
        let decoded = Superblock::decode(&torn);
        // The rest of this superblock is the same in both: a tear there changes nothing.
        assert!(decoded.is_err() || torn == new, "{sectors} sectors of the new one");
    }
    let torn = [&old[..512], &new[512..]].concat();
    assert!(torn == old || Superblock::decode(&torn).is_err());
}

#[test]
fn the_largest_roster_fits_its_slot_and_one_more_record_does_not() {
    let bytes = largest().encode();
    assert!(bytes.len() as u64 <= SLOT_BYTES);
    assert_eq!(Superblock::decode(&bytes), Ok(largest()));
    type More = (fn(&mut Superblock), &'static str, usize);
    let more: [More; 3] = [
        (|sb| sb.sites.push(site(32, |_| ())), "sites", 32),
        (|sb| sb.devices.push(device(64, "")), "devices", 64),
        (|sb| sb.legs.push(leg(0, 31, "")), "legs", 512),
    ];
    for (add, what, max) in more {
        let mut superblock = largest();
        add(&mut superblock);
        let error = RosterError::TooMany { what, found: max + 1, max };
        assert_eq!(superblock.validate(), Err(error.into()));
    }
}

#[test]
fn no_log_a_torn_one_and_a_later_one_are_told_apart() {
    use SuperblockError::{BadChecksum, BadLength, NoMagic, UnknownFeature, UnsupportedVersion};
    assert_eq!(Superblock::decode(&[0; 8192]), Err(NoMagic { found: [0; 8] }));
    let mut torn = busy().encode();
    torn[200] ^= 1;
    assert!(matches!(Superblock::decode(&torn), Err(BadChecksum { .. })));
    let later = changed(|slot| slot[16] = 2);
    assert_eq!(later, Err(UnsupportedVersion { found: 2, generation: 1_000_002 }));
    let foreign = changed(|slot| slot[64] = 0x81);
    assert_eq!(foreign, Err(UnknownFeature { incompat: 0x80, generation: 1_000_002 }));
    let long = changed(|slot| slot[12..16].copy_from_slice(&8192_u32.to_le_bytes()));
    assert_eq!(long, Err(BadLength { found: 8192, slot: 4096 }));
}

#[test]
fn a_foreign_feature_that_may_be_ignored_may_fill_reserved_bytes() {
    let readable = changed(|slot| (slot[48], slot[190]) = (2, 0xAB)).unwrap();
    assert_eq!(readable.features, Features { compat: 2, ..Features::default() });
    assert!(readable.features.are_writable());
    let read_only = changed(|slot| (slot[56], slot[190]) = (1, 0xAB)).unwrap();
    assert!(!read_only.features.are_writable());
    let unexplained = changed(|slot| slot[190] = 0xAB);
    assert_eq!(unexplained, Err(SuperblockError::Reserved { at: 190 }));
}

#[test]
fn a_group_is_known_by_its_first_log_whatever_log_it_has() {
    assert_eq!((fresh().group(), moved().group()), (fresh().uuid, moved().first));
    let not_said = changed(|slot| slot[170] = 0xAB);
    assert!(matches!(not_said, Err(SuperblockError::Invalid { field: "group", .. })));
    let its_own = Superblock { first: moved().uuid, ..moved() };
    assert!(matches!(its_own.validate(), Err(SuperblockError::Invalid { field: "group", .. })));
    // A program that does not know of it keeps the bit, and writes zeroes: then this log is the first.
    let forgotten = Superblock { first: Uuid::nil(), ..moved() };
    assert_eq!(Superblock::decode(&forgotten.encode()).unwrap().group(), moved().uuid);
}

#[test]
fn each_rule_of_a_superblock_has_its_error() {
    type Breach = (fn(&mut Superblock), &'static str, u64);
    let breaches: [Breach; 18] = [
        (|sb| sb.generation = u64::MAX, "generation", u64::MAX),
        (|sb| sb.ring_bytes = 447 * 4096, "ring_bytes", 447 * 4096),
        (|sb| sb.ring_bytes += 512, "ring_bytes", 448 * 4096 + 512),
        (|sb| sb.ring_bytes = 1 << 63, "ring_bytes", 1 << 63),
        (|sb| sb.lap_base = RingPos(4096), "lap_base", 4096),
        (|sb| sb.features.incompat = 1, "lap_base", 0),
        (|sb| (sb.features.incompat, sb.lap_base) = (1, RingPos(512)), "lap_base", 512),
        (
            |sb| (sb.features.incompat, sb.lap_base) = (1, RingPos(1001 * 4096)),
            "lap_base",
            1001 * 4096,
        ),
        (|sb| sb.epoch = u64::MAX, "epoch", u64::MAX),
        (|sb| sb.epoch_first_group = 0, "epoch_first_group", 0),
        (|sb| sb.durable = Seq(u64::MAX), "durable", u64::MAX),
        (|sb| sb.durable = Seq(399), "head.seq", 400),
        (|sb| sb.head.pos = RingPos(512), "head.pos", 512),
        (|sb| sb.head.pos = RingPos(3 << 62), "head.pos", 3 << 62),
        (|sb| sb.head.group = u64::MAX, "head.group", u64::MAX),
        (|sb| sb.head.epoch = 10, "head.epoch", 10),
        // From its first group on, all groups are of this opening.
        (|sb| sb.head.group = 70, "head.epoch", 8),
        (|sb| sb.epoch_first_group = 40, "head.epoch", 8),
    ];
    for (change, field, found) in breaches {
        let mut superblock = busy();
        change(&mut superblock);
        assert_eq!(superblock.validate(), Err(SuperblockError::Invalid { field, found }));
    }
}

#[test]
fn each_rule_of_a_roster_has_its_error() {
    type Breach = (fn(&mut Superblock), &'static str);
    let breaches: [Breach; 14] = [
        (|sb| sb.sites[1].slink = SlinkNr(0), "site 0 is named twice"),
        (|sb| sb.devices[1].nr = DevNr(0), "device 0 is named twice"),
        (|sb| sb.legs[2].slink = SlinkNr(0), "the leg of device 0 on site 0 is named twice"),
        (|sb| sb.sites[2].slink = SlinkNr(2048), "site 2048: number is 2048, out of range"),
        (|sb| sb.sites[0].covered = Seq(u64::MAX), "site 0: covered is 18446744073709551615"),
        (|sb| sb.sites[0].covered = Seq(411), "site 0: covered is 411, out of range"),
        (|sb| sb.sites[2].detached = Some(0), "site 2047: session is 0, out of range"),
        (|sb| sb.sites[2].detached = Some(u64::MAX), "site 2047: session is 18446744073709551615"),
        (|sb| sb.devices[0].size = Sectors(1 << 62), "device 0: size is 4611686018427387904"),
        (|sb| sb.devices[0].name = "n".repeat(128), "device 0: name is not a text of at most 127"),
        (|sb| sb.devices[0].name = "a\0b".to_owned(), "device 0: name is not a text"),
        (
            |sb| sb.legs[0].identity = "i".repeat(193),
            "site 0: identity is not a text of at most 192",
        ),
        (
            |sb| sb.legs[0].dev = DevNr(3),
            "belongs to a device or site that the roster does not name",
        ),
        (
            |sb| sb.legs[0].slink = SlinkNr(3),
            "belongs to a device or site that the roster does not",
        ),
    ];
    for (change, expected) in breaches {
        let mut superblock = busy();
        change(&mut superblock);
        let message = superblock.validate().unwrap_err().to_string();
        assert!(message.contains(expected), "expected {expected:?} in {message:?}");
    }
}

#[test]
fn a_roster_of_foreign_bytes_gives_an_error() {
    let site_0 = 256;
    let device_0 = site_0 + 3 * 64;
    let not_utf8 = changed(|slot| slot[device_0 + 32] = 0xFF);
    assert!(matches!(not_utf8, Err(SuperblockError::Roster(RosterError::Text { .. }))));
    let too_long = changed(|slot| slot[device_0 + 6] = 200);
    assert!(matches!(too_long, Err(SuperblockError::Roster(RosterError::Text { .. }))));
    let more_sites = changed(|slot| slot[152..154].copy_from_slice(&u16::MAX.to_le_bytes()));
    assert!(matches!(more_sites, Err(SuperblockError::Roster(RosterError::TooMany { .. }))));
    let more_legs = changed(|slot| slot[156] = 200);
    assert_eq!(more_legs, Err(SuperblockError::Invalid { field: "bytes", found: 4096 }));
}

#[test]
fn a_log_is_named_by_the_first_half_of_its_uuid() {
    assert_eq!(fresh().log(), 0x0f1e_2d3c_4b5a_4978);
}

/// Whoever opens a log counts on from its numbers: none that is read is near its end.
#[test]
fn numbers_that_are_read_leave_room_to_count_on() {
    let near_the_end = [
        Superblock { generation: (1 << 62) + 1, ..fresh() },
        Superblock { epoch: (1 << 62) + 1, ..fresh() },
        Superblock { durable: Seq((1 << 62) + 1), ..fresh() },
        Superblock {
            durable: Seq(400),
            sites: vec![site(0, |site| site.detached = Some((1 << 62) + 1))],
            ..fresh()
        },
    ];
    for superblock in near_the_end {
        assert_eq!(superblock.validate(), Ok(()), "there is nothing to fear in writing it");
        let decoded = Superblock::decode(&superblock.encode());
        use SuperblockError::{Invalid, Roster};
        let is_refused = matches!(decoded, Err(Invalid { .. } | Roster(_)));
        assert!(is_refused, "{decoded:?}");
    }
}
