//! Headers and superblocks to encode: one of each kind, and arbitrary ones.

use blk::{DevNr, Sector, Sectors, Seq, SlinkNr, Wall};
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use replog::format::group::{Cursor, Entry, EntryOp, GroupHeader};
use replog::format::superblock::{
    Anchor, DeviceRecord, Features, LegRecord, SiteRecord, Superblock,
};
use replog::geometry::RingPos;
use uuid::Uuid;

pub(crate) const LOG: Uuid = Uuid::from_u128(0x0f1e_2d3c_4b5a_4978_8796_a5b4_c3d2_e1f0);

/// A group without cursors and entries.
pub(crate) fn marks() -> GroupHeader {
    GroupHeader {
        log: LOG.as_u64_pair().0,
        epoch: 3,
        nr: 17,
        first_seq: Seq(402),
        bytes: 4096,
        durable: Seq(401),
        wall: Wall(1_700_000_000_123_456_789),
        prev_crc: 0x0BAD_CAFE,
        cursors: vec![],
        entries: vec![],
    }
}

pub(crate) fn write(dev: u32, sector: u64, len: u64, payload: u64) -> Entry {
    Entry {
        dev: DevNr(dev),
        op: EntryOp::Write,
        fua: false,
        sector: Sector(sector),
        len: Sectors(len),
        payload: Sectors(payload),
        crc: 0xFEED_0000 + payload as u32,
    }
}

pub(crate) fn without_payload(op: EntryOp, dev: u32, sector: u64, len: u64) -> Entry {
    Entry { op, len: Sectors(len), payload: Sectors(0), crc: 0, ..write(dev, sector, 1, 0) }
}

pub(crate) fn cursor(slink: u16, covered: u64) -> Cursor {
    Cursor { slink: SlinkNr(slink), covered: Seq(covered) }
}

/// Every kind of entry, and two sites.
pub(crate) fn mixed() -> GroupHeader {
    GroupHeader {
        bytes: 3 * 4096,
        cursors: vec![cursor(0, 399), cursor(2047, 12)],
        entries: vec![
            write(0, 2048, 8, 8),
            Entry { fua: true, ..write(1, 2048, 3, 16) },
            without_payload(EntryOp::Discard, 1, 1 << 40, 0xFFFF_FFFF),
            without_payload(EntryOp::WriteZeroes, 0, 4096, 16),
            without_payload(EntryOp::Bookmark, 0, 99, 0),
        ],
        ..marks()
    }
}

/// A header without a free byte.
pub(crate) fn full() -> GroupHeader {
    let entries = (0..125).map(|i| write(i as u32 % 3, 1000 + 10 * i, 1, 8 + i)).collect();
    GroupHeader { bytes: 17 * 4096, entries, ..marks() }
}

pub(crate) fn pad() -> GroupHeader {
    GroupHeader { bytes: 5 * 4096, cursors: vec![cursor(0, 401), cursor(1, 380)], ..marks() }
}

/// A log that has just been made.
pub(crate) fn fresh() -> Superblock {
    Superblock {
        generation: 1,
        uuid: LOG,
        first: Uuid::nil(),
        features: Features::default(),
        ring_bytes: 448 * 4096,
        lap_base: RingPos(0),
        epoch: 1,
        epoch_first_group: 1,
        durable: Seq(0),
        head: Anchor::default(),
        bypassed_since: None,
        sites: vec![],
        devices: vec![],
        legs: vec![],
    }
}

/// A log in use: every field and flag says something.
pub(crate) fn busy() -> Superblock {
    Superblock {
        generation: 1_000_002,
        epoch: 9,
        epoch_first_group: 70,
        durable: Seq(410),
        head: Anchor {
            pos: RingPos(1_000 * 4096),
            group: 40,
            seq: Seq(400),
            epoch: 8,
            crc: 0x1234_5678,
        },
        bypassed_since: Some(7),
        sites: vec![
            site(0, |s| s.lost_since = Some(Seq(77))),
            site(5, |s| (s.all_dirty, s.detached) = (true, Some(1_000_001))),
            site(2047, |s| {
                (s.inconsistent, s.demoted) = (true, true);
                s.peer = Uuid::from_u128(0xA5);
            }),
        ],
        devices: vec![device(0, "data"), device(7, "naïve name")],
        legs: vec![
            leg(0, 0, "wwid:naa.5000c500a1b2c3d4"),
            leg(7, 0, ""),
            LegRecord { all_dirty: true, left_out: true, ..leg(0, 5, "partuuid:x") },
        ],
        ..fresh()
    }
}

/// The same with a ring that was resized.
pub(crate) fn resized() -> Superblock {
    Superblock {
        features: Features { incompat: Features::LAP_BASE, ..Features::default() },
        ring_bytes: 512 * 4096,
        lap_base: RingPos(896 * 4096),
        ..busy()
    }
}

/// One that took the place of another.
pub(crate) fn moved() -> Superblock {
    Superblock {
        features: Features { compat: Features::FIRST, ..resized().features },
        first: Uuid::from_u128(0x5a1e_0000_1111_4222_8333_4444_5555_6666),
        ..resized()
    }
}

/// One in use with all sites fed from the log.
pub(crate) fn streaming() -> Superblock {
    let mut superblock = busy();
    superblock.sites.iter_mut().for_each(|site| (site.detached, site.demoted) = (None, false));
    superblock.legs.iter_mut().for_each(|leg| (leg.all_dirty, leg.left_out) = (false, false));
    superblock
}

pub(crate) fn site(slink: u16, change: impl FnOnce(&mut SiteRecord)) -> SiteRecord {
    let mut site = SiteRecord {
        slink: SlinkNr(slink),
        covered: Seq(400),
        lost_since: None,
        all_dirty: false,
        inconsistent: false,
        detached: None,
        demoted: false,
        peer: Uuid::nil(),
    };
    change(&mut site);
    site
}

pub(crate) fn device(nr: u32, name: &str) -> DeviceRecord {
    DeviceRecord { nr: DevNr(nr), size: Sectors(1 << 21), name: name.to_owned() }
}

pub(crate) fn leg(dev: u32, slink: u16, identity: &str) -> LegRecord {
    LegRecord {
        dev: DevNr(dev),
        slink: SlinkNr(slink),
        size: Sectors(1 << 21),
        identity: identity.to_owned(),
        all_dirty: false,
        left_out: false,
    }
}

/// A roster at its stated maxima, every text as long as it may be.
pub(crate) fn largest() -> Superblock {
    Superblock {
        durable: Seq(400),
        sites: (0..32).map(|nr| site(nr, |_| ())).collect(),
        devices: (0..64).map(|nr| device(nr, &"n".repeat(127))).collect(),
        legs: (0..512).map(|i| leg(i % 64, (i / 64) as u16, &"i".repeat(192))).collect(),
        ..fresh()
    }
}

prop_compose! {
    /// Any header that may be written.
    pub(crate) fn any_group()(
        slinks in btree_set(0..2048_u16, 0..33),
    )(
        entries in vec(any_entry(), 0..=GroupHeader::entries_max(slinks.len())),
        slinks in Just(slinks),
        numbers in (any::<u64>(), 0..1_u64 << 62, 1..1_u64 << 62, 1..1_u64 << 62),
        (wall, prev_crc, behind) in (any::<u64>(), any::<u32>(), 1..10_u64),
    ) -> GroupHeader {
        let (log, epoch, nr, first_seq) = numbers;
        let mark = first_seq.saturating_sub(behind);
        let entries = placed(entries);
        let end = entries.iter().map(|e| e.payload.0 + e.len.0).max().unwrap_or(0).max(8);
        GroupHeader {
            log, epoch, nr,
            first_seq: Seq(first_seq),
            bytes: (end as u32 % (1 << 22) * 512).next_multiple_of(4096),
            durable: Seq(mark),
            wall: Wall(wall),
            prev_crc,
            cursors: slinks.into_iter().map(|slink| cursor(slink, mark)).collect(),
            entries,
        }
    }
}

/// Operation, device, gap to the entry before, sectors, FUA, checksum.
type RawEntry = (usize, u32, u64, u64, bool, u32);

fn any_entry() -> impl Strategy<Value = RawEntry> {
    (0..4_usize, 0..64_u32, 0..1_u64 << 40, 1..65_u64, any::<bool>(), any::<u32>())
}

/// Gives entries places that are disjoint on the devices and in the group.
fn placed(raw: Vec<RawEntry>) -> Vec<Entry> {
    const OPS: [EntryOp; 4] =
        [EntryOp::Write, EntryOp::Discard, EntryOp::WriteZeroes, EntryOp::Bookmark];
    let (mut sector, mut payload) = (0, 8);
    raw.into_iter()
        .map(|(op, dev, gap, len, fua, crc)| {
            sector += gap;
            let op = OPS[op];
            let mut entry = without_payload(op, dev, sector, len);
            entry.fua = fua;
            match op {
                EntryOp::Write => (entry.payload, entry.crc) = (Sectors(payload), crc),
                EntryOp::Bookmark => entry.len = Sectors(0),
                EntryOp::Discard | EntryOp::WriteZeroes => {}
            }
            payload += if op == EntryOp::Write { len } else { 0 };
            sector += len;
            entry
        })
        .collect()
}

prop_compose! {
    /// Any superblock that may be written.
    pub(crate) fn any_superblock()(
        slinks in btree_set(0..2048_u16, 1..6),
        devs in btree_set(any::<u32>(), 1..6),
        names in vec("[^\\x00]{0,31}", 6),
        identities in vec("[^\\x00]{0,48}", 36),
        (generation, uuid, ring) in (0..1_u64 << 62, any::<u128>(), 448..1_u64 << 40),
        (epoch, first_group, group) in (1..1_u64 << 62, 1..1_u64 << 62, 0..1_u64 << 62),
        (pos, seq, ahead, crc) in
            (0..1_u64 << 50, 0..1_u64 << 61, 0..1_u64 << 60, any::<u32>()),
        (bypassed, flags, session) in (any::<Option<u64>>(), any::<u64>(), 1..1_u64 << 61),
        (dirty_legs, since_base) in (any::<u64>(), 0..1_u64 << 51),
    ) -> Superblock {
        let sites: Vec<_> = slinks.iter().enumerate().map(|(i, slink)| site(*slink, |site| {
            let bits = flags >> (5 * i);
            site.covered = Seq(seq);
            site.lost_since = (bits & 1 != 0).then_some(Seq(seq));
            site.all_dirty = bits & 2 != 0;
            site.inconsistent = bits & 4 != 0;
            site.detached = (bits & 8 != 0).then_some(session + i as u64);
            site.demoted = bits & 16 != 0;
            site.peer = Uuid::from_u128(uuid.rotate_left(i as u32));
        })).collect();
        let devices: Vec<_> = devs.iter().zip(&names).map(|(nr, name)| device(*nr, name)).collect();
        let pairs = devices.iter().flat_map(|d| sites.iter().map(|s| (d.nr, s.slink)));
        let legs = pairs.zip(&identities)
            .enumerate()
            .map(|(i, ((dev, slink), identity))| {
                let (all_dirty, left_out) = (dirty_legs >> i & 1 != 0, dirty_legs >> i & 2 != 0);
                LegRecord { all_dirty, left_out, ..leg(dev.0, slink.0, identity) }
            })
            .collect();
        let base = pos.saturating_sub(since_base);
        let first = if flags >> 63 == 0 { Uuid::nil() } else { Uuid::from_u128(!uuid) };
        let compat = u64::from(!first.is_nil());
        Superblock {
            generation,
            uuid: Uuid::from_u128(uuid),
            first,
            features: Features { compat, incompat: u64::from(base > 0), ..Features::default() },
            ring_bytes: ring * 4096,
            lap_base: RingPos(base * 4096),
            epoch,
            epoch_first_group: first_group,
            durable: Seq(seq + ahead),
            head: Anchor {
                pos: RingPos(pos * 4096),
                group,
                seq: Seq(seq),
                epoch: if group < first_group { epoch - 1 } else { epoch },
                crc,
            },
            bypassed_since: bypassed,
            sites, devices, legs,
        }
    }
}
