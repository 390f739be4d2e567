//! The decision between the two superblock slots, over all that they may hold.

use replog::format::superblock::{LogState, RosterError, Superblock, SuperblockError, choose};
use uuid::Uuid;

use crate::samples::fresh;

type Content = Result<Superblock, SuperblockError>;

/// What a slot may hold, as the decision sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Blank,
    /// Magic, but not whole.
    Bad(usize),
    /// Whole, but of the other slot.
    Misplaced,
    Readable {
        older: bool,
        other_log: bool,
    },
    Newer {
        older: bool,
        version: bool,
    },
}

fn kinds() -> Vec<Kind> {
    let mut kinds = vec![Kind::Blank, Kind::Misplaced];
    kinds.extend((0..bad().len()).map(Kind::Bad));
    for older in [false, true] {
        for other in [false, true] {
            kinds.push(Kind::Readable { older, other_log: other });
            kinds.push(Kind::Newer { older, version: other });
        }
    }
    kinds
}

/// Every error that means "damaged".
fn bad() -> Vec<SuperblockError> {
    vec![
        SuperblockError::BadLength { found: 1, slot: 4096 },
        SuperblockError::BadChecksum { stored: 1, computed: 2 },
        SuperblockError::Invalid { field: "epoch", found: 0 },
        SuperblockError::Roster(RosterError::TooMany { what: "legs", found: 9, max: 1 }),
        SuperblockError::Reserved { at: 700 },
        SuperblockError::Unreadable(blk::Errno::EIO),
    ]
}

/// Generations 10 and 11 are old, 20 and 21 new; even ones belong into slot 0.
fn content(kind: Kind, slot: u64) -> Content {
    let generation = |older| if older { 10 + slot } else { 20 + slot };
    match kind {
        Kind::Blank => Err(SuperblockError::NoMagic { found: [0; 8] }),
        Kind::Bad(which) => Err(bad()[which].clone()),
        Kind::Misplaced => Ok(Superblock { generation: 21 - slot, ..fresh() }),
        Kind::Readable { older, other_log } => {
            let uuid = if other_log { Uuid::from_u128(99) } else { fresh().uuid };
            Ok(Superblock { generation: generation(older), uuid, ..fresh() })
        }
        Kind::Newer { older, version: true } => {
            Err(SuperblockError::UnsupportedVersion { found: 2, generation: generation(older) })
        }
        Kind::Newer { older, version: false } => {
            Err(SuperblockError::UnknownFeature { incompat: 4, generation: generation(older) })
        }
    }
}

#[derive(Debug, PartialEq)]
enum Decision {
    Absent,
    Slot(u64),
    Damaged,
    Newer(usize),
}

fn decided(contents: [Content; 2]) -> Decision {
    let [slot0, slot1] = contents;
    match choose(slot0, slot1) {
        LogState::Absent => Decision::Absent,
        LogState::Valid(superblock) => Decision::Slot(superblock.generation % 2),
        LogState::Damaged(_) => Decision::Damaged,
        LogState::Newer(newer) => Decision::Newer(newer.slot),
    }
}

/// The table of the module, said in another way: what each slot by itself would be,
/// then the newer of the two.
fn expected(kinds: [Kind; 2]) -> Decision {
    use Kind::{Blank, Newer, Readable};
    let generation = |slot: usize| match kinds[slot] {
        Readable { older, .. } | Newer { older, .. } => Some(if older { 10 } else { 20 } + slot),
        _ => None,
    };
    if kinds == [Blank, Blank] {
        return Decision::Absent;
    }
    let (Some(_), Some(_)) = (generation(0), generation(1)) else {
        let known = (0..2).find(|slot| generation(*slot).is_some());
        return match known.map(|slot| (slot, kinds[slot])) {
            Some((slot, Readable { .. })) => Decision::Slot(slot as u64),
            Some((slot, _)) => Decision::Newer(slot),
            None => Decision::Damaged,
        };
    };
    let newest = if generation(0) > generation(1) { 0 } else { 1 };
    match kinds {
        [Readable { other_log: a, .. }, Readable { other_log: b, .. }] if a != b => {
            Decision::Damaged
        }
        [Newer { .. }, Newer { .. }] => Decision::Newer(0),
        _ => match kinds[newest] {
            Readable { .. } => Decision::Slot(newest as u64),
            _ => Decision::Newer(newest),
        },
    }
}

#[test]
fn every_pair_of_slots_is_decided_as_the_table_says() {
    for a in kinds() {
        for b in kinds() {
            let decision = decided([content(a, 0), content(b, 1)]);
            assert_eq!(decision, expected([a, b]), "slot 0: {a:?}, slot 1: {b:?}");
        }
    }
}

#[test]
fn a_torn_update_leaves_the_other_slot() {
    for newest in [20_u64, 21] {
        let whole = Superblock { generation: newest, ..fresh() };
        let mut next = Superblock { generation: newest + 1, ..fresh() }.encode();
        next[300] ^= 0xFF;
        let torn = Superblock::decode(&next);
        let slots = if newest == 20 { [Ok(whole), torn] } else { [torn, Ok(whole)] };
        assert_eq!(decided(slots), Decision::Slot(newest % 2));
    }
}

#[test]
fn damage_names_what_is_wrong_with_each_slot() {
    let state = choose(content(Kind::Bad(1), 0), content(Kind::Misplaced, 1));
    let LogState::Damaged(damaged) = state else { panic!("{state:?}") };
    assert_eq!(
        damaged.to_string(),
        "both superblocks are damaged; slot 0: superblock checksum 00000001 expected, 00000002 \
         found; slot 1: generation 20 does not belong here"
    );
}
