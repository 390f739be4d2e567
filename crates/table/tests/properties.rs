//! What holds for every table and for every text.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use blk::{DevNr, Sector, Sectors, SlinkNr};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use table::limits::{DEV_NR_MAX, SECTORS_MAX, TAIL_BYTES_MAX, TAIL_BYTES_MIN, TIMEOUT_IO_MS_MIN};
use table::{
    DirtyLogTable, Entry, FallBehind, Init, LdLag, LegTable, LogTable, Mode, OnDown, OnLimit,
    Order, Policy, ReplicatorDevTable, ReplicatorTable, SlinkOptions, SlinkTable, Sync, TableError,
    TableFile, Target,
};

proptest! {
    #[test]
    fn what_is_printed_parses_to_the_same_table(file in a_file()) {
        let text = file.to_string();
        let again = TableFile::parse(&text).map_err(|error| fail(&error))?;
        prop_assert_eq!(&again, &file);
        prop_assert_eq!(again.to_string(), text);
    }

    #[test]
    fn a_file_made_in_code_has_the_groups_of_the_same_file_read(file in a_file()) {
        let read = TableFile::parse(&file.to_string()).map_err(|error| fail(&error))?;
        let groups = file.groups().map_err(|error| fail(&error))?;
        prop_assert_eq!(&groups, &read.groups().map_err(|error| fail(&error))?);
        let devices: usize = groups.iter().map(|group| group.devices.len()).sum();
        prop_assert_eq!(groups.len() + devices, file.entries.len());
    }

    #[test]
    fn any_bytes_are_a_table_or_an_error(bytes in vec(any::<u8>(), 0..400)) {
        parse_every_way(&bytes);
    }

    #[test]
    fn any_words_of_the_language_are_a_table_or_an_error(text in words_of_the_language()) {
        parse_every_way(text.as_bytes());
    }

    #[test]
    fn a_table_with_a_piece_replaced_is_a_table_or_an_error(
        file in a_file(),
        at in any::<prop::sample::Index>(),
        length in 0..40usize,
        piece in vec(any::<u8>(), 0..20),
    ) {
        let mut bytes = file.to_string().into_bytes();
        let start = at.index(bytes.len() + 1);
        let end = bytes.len().min(start + length);
        bytes.splice(start..end, piece);
        parse_every_way(&bytes);
    }
}

#[test]
fn a_golden_table_with_any_one_byte_changed_or_cut_off_is_a_table_or_an_error() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    for file in fs::read_dir(golden).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "error") {
            continue;
        }
        let bytes = fs::read(path).unwrap();
        for at in 0..bytes.len() {
            parse_every_way(&bytes[..at]);
            for byte in *b" \n\\#:,;0\xff" {
                let mut bytes = bytes.clone();
                bytes[at] = byte;
                parse_every_way(&bytes);
            }
        }
    }
}

/// Whatever is read round-trips; whatever is not has a place in the text.
fn parse_every_way(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let results = [TableFile::parse_bytes(bytes), TableFile::parse_concise(&text)];
    for result in results {
        match result {
            Ok(file) => {
                assert_eq!(TableFile::parse(&file.to_string()), Ok(file.clone()));
                file.groups().map_or_else(|error| check_place(&error, &text), drop);
            }
            Err(error) => check_place(&error, &text),
        }
    }
    match Entry::parse(&text) {
        Ok(entry) => assert_eq!(Entry::parse(&entry.to_string()), Ok(entry)),
        Err(error) => check_place(&error, &text),
    }
}

/// The place is one of the text's, or just behind a line; the mark is printed.
fn check_place(error: &TableError, text: &str) {
    let position = error.position();
    let line = text.split('\n').nth(position.line - 1).unwrap_or_else(|| panic!("{error}"));
    assert!((1..=line.chars().count() + 1).contains(&position.column), "{error}");
    if let Some(first) = error.first() {
        assert!(first < position, "{error}");
    }
    let printed = error.to_string();
    assert_eq!(printed.lines().count(), 3, "{printed}");
    assert!(printed.lines().nth(2).unwrap().trim_start().starts_with('^'), "{printed}");
    assert!(printed.chars().all(|c| !c.is_control() || matches!(c, '\n' | '\t')), "{printed:?}");
}

fn fail(error: &TableError) -> TestCaseError {
    TestCaseError::fail(error.to_string())
}

fn words_of_the_language() -> impl Strategy<Value = String> {
    let words = prop::sample::select(
        "r: d: 0 1 2 3 4 8 4096 18446744073709551615 -1 replicator replicator-dev ringbuffer auto \
         open create blockdev sync async+stall stall ios=5 size timeout 10m 16e nolog core disk \
         nosync /dev/a /dev/b 8:1 r tail:1m mark:/dev/m order:flush on_down: : = + # \\ \n , ;"
            .split(' ')
            .collect::<Vec<_>>(),
    );
    vec(words, 0..40).prop_map(|words| words.join(" "))
}

/// Replicators, each with devices; names and paths are made unique at the end.
fn a_file() -> impl Strategy<Value = TableFile> {
    vec((a_replicator(), vec(a_device(), 0..4), a_word(20)), 0..3).prop_map(|groups| {
        let mut file = TableFile::default();
        for (g, (mut replicator, devices, name)) in groups.into_iter().enumerate() {
            let sites = replicator.slinks.len();
            // Ends as no device of `a_device` does.
            let name = format!("{name}{g}R");
            unique(&mut replicator.log.path, &format!("{g}"));
            for (s, slink) in replicator.slinks.iter_mut().enumerate() {
                slink.nr = SlinkNr(u16::try_from(s * 7).unwrap());
                slink.options.mark.iter_mut().for_each(|mark| unique(mark, &format!("{g}m{s}")));
            }
            let table = Target::Replicator(replicator);
            let replicator = Entry::new(Some(name.clone()), Sector(0), Sectors(1), table);
            for (d, (len, mut table)) in devices.into_iter().enumerate() {
                table.replicator.clone_from(&name);
                table.dev_nr.0 = table.dev_nr.0 / 8 * 8 + u32::try_from(d).unwrap();
                table.legs.truncate(sites);
                number_legs(&mut table.legs, &format!("{g}d{d}"));
                let target = Target::ReplicatorDev(table);
                let entry = Entry::new(Some(format!("d{g}-{d}")), Sector(0), len, target);
                file.entries.push(entry);
            }
            file.entries.insert(file.entries.len() / 2, replicator);
        }
        file
    })
}

fn number_legs(legs: &mut [LegTable], tag: &str) {
    for (l, leg) in legs.iter_mut().enumerate() {
        leg.slink = SlinkNr(u16::try_from(l * 7).unwrap());
        unique(&mut leg.path, &format!("{tag}l{l}"));
        if let DirtyLogTable::Disk { path, .. } = &mut leg.dirty_log {
            unique(path, &format!("{tag}b{l}"));
        }
    }
}

fn unique(path: &mut String, tag: &str) {
    path.insert_str(0, &format!("/{tag}/"));
}

fn a_replicator() -> impl Strategy<Value = ReplicatorTable> {
    (a_log(), vec(a_slink(), 1..5)).prop_map(|(log, slinks)| ReplicatorTable { log, slinks })
}

fn a_log() -> impl Strategy<Value = LogTable> {
    let size = 4096..=SECTORS_MAX.0;
    let mode = prop_oneof![
        Just((Mode::Open, None)),
        (prop::sample::select(vec![Mode::Auto, Mode::Open, Mode::Create]), size.prop_map(Some)),
    ];
    let ld_lag = option::of(prop::sample::select(vec![LdLag::Tail, LdLag::Log]));
    let tail = option::of(TAIL_BYTES_MIN..=TAIL_BYTES_MAX);
    (a_path(), 0..=SECTORS_MAX.0, mode, tail, ld_lag).prop_map(
        |(path, start, (mode, size), tail_bytes, ld_lag)| LogTable {
            kind: "ringbuffer".into(),
            path,
            start: Sector(start),
            mode,
            size: size.map(Sectors),
            tail_bytes,
            ld_lag,
        },
    )
}

fn a_slink() -> impl Strategy<Value = SlinkTable> {
    let policy = (any::<bool>(), any::<bool>()).prop_map(|(sync, stall)| {
        let sync = if sync { Sync::Sync } else { Sync::Async };
        Policy { sync, stall }
    });
    let limited = (any::<bool>(), a_limit())
        .prop_map(|(stall, limit)| (Some(Policy { sync: Sync::Async, stall }), Some(limit)));
    let policy = prop_oneof![option::of(policy).prop_map(|policy| (policy, None)), limited];
    (policy, some_options()).prop_map(|((policy, fall_behind), options)| SlinkTable {
        kind: "blockdev".into(),
        nr: SlinkNr::LOCAL,
        policy,
        fall_behind,
        options,
    })
}

fn a_limit() -> impl Strategy<Value = FallBehind> {
    prop_oneof![
        any::<u64>().prop_map(FallBehind::Ios),
        a_round_number().prop_map(|n| FallBehind::Size(n / 512 * 512)),
        a_round_number().prop_map(|n| FallBehind::Timeout(Duration::from_millis(n))),
    ]
}

/// Numbers that have large units in them more often than chance would.
fn a_round_number() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        (0..10_000u64, 0..64u32).prop_map(|(n, shift)| n << (shift % 50)),
        (0..10_000u64).prop_map(|n| n * 86_400_000),
    ]
}

fn some_options() -> impl Strategy<Value = SlinkOptions> {
    let on_limit = option::of(prop::sample::select(vec![OnLimit::Sync, OnLimit::Bitmap]));
    let on_down =
        option::of(prop::sample::select(vec![OnDown::Bitmap, OnDown::Hold, OnDown::Error]));
    let timeout_io = option::of((TIMEOUT_IO_MS_MIN..3_600_000).prop_map(Duration::from_millis));
    let order = option::of(prop::sample::select(vec![Order::Group, Order::Flush]));
    let rate = option::of(a_round_number());
    (on_limit, on_down, timeout_io, rate, order, option::of(a_path())).prop_map(
        |(on_limit, on_down, timeout_io, resync_rate, order, mark)| SlinkOptions {
            on_limit,
            on_down,
            timeout_io,
            resync_rate,
            order,
            mark,
        },
    )
}

fn a_device() -> impl Strategy<Value = (Sectors, ReplicatorDevTable)> {
    let nr = 0..=DEV_NR_MAX - 8;
    (3..40u32, 1..1_000_000u64, nr, vec(a_leg(), 1..5)).prop_map(|(exponent, rest, nr, legs)| {
        // Long enough for the largest region that a_leg makes, short enough for its smallest.
        let len = Sectors((1 << exponent.min(30)) + (1 << 20) + rest);
        let replicator = String::new();
        (len, ReplicatorDevTable { replicator, dev_nr: DevNr(nr), legs })
    })
}

fn a_leg() -> impl Strategy<Value = LegTable> {
    let region = || (3..20u32).prop_map(|exponent| Sectors(1 << exponent));
    let init = || option::of(prop::sample::select(vec![Init::Sync, Init::Nosync, Init::Later]));
    let dirty_log = prop_oneof![
        Just(DirtyLogTable::Nolog),
        (region(), init()).prop_map(|(region, init)| DirtyLogTable::Core { region, init }),
        (a_path(), region(), init()).prop_map(|(path, region, init)| DirtyLogTable::Disk {
            path,
            region,
            init
        }),
    ];
    let slink = SlinkNr::LOCAL;
    (a_path(), dirty_log).prop_map(move |(path, dirty_log)| LegTable { slink, path, dirty_log })
}

/// What a path may hold after its first slash: anything that can be seen.
fn a_path() -> impl Strategy<Value = String> {
    "[^\\p{Cc}\u{feff}]{0,12}"
}

fn a_word(length: usize) -> impl Strategy<Value = String> {
    vec(prop::char::range('!', '~'), 1..length)
        .prop_map(|chars| chars.into_iter().filter(|c| *c != '/').collect())
}
