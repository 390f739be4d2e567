//! What callers get besides the text of a golden error: typed facts, places,
//! defaults, and the same checks for tables made in code.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::time::Duration;

use blk::{DevNr, Sector, Sectors, SlinkNr};
use table::{
    DirtyLogTable, Entry, ErrorKind, LdLag, LegTable, OnDown, OnLimit, Order, Policy, Position,
    ReplicatorDevTable, Sync, TableFile, Target,
};

const REPL: &str = "repl: 0 1 replicator ringbuffer 2 /dev/log 0 blockdev 1 0\n";

#[test]
fn an_error_carries_its_facts_and_its_place() {
    let text = format!("{REPL}db: 0 8 replicator-dev repl 0 0 1 /dev/log nolog 0");
    let error = TableFile::parse(&text).unwrap_err();
    let (path, role, taken) =
        ("/dev/log".into(), "the LD of `db`".into(), "the log of `repl`".into());
    assert_eq!(*error.kind(), ErrorKind::PathTwice { path, role, taken });
    assert_eq!(error.position(), Position { line: 2, column: 35 });
    assert_eq!(error.first(), Some(Position { line: 1, column: 35 }));
    assert!(error.to_string().starts_with("2:35: `/dev/log`: expected"));
    assert!(error.in_file("my.table").to_string().starts_with("my.table:2:35: "));
}

#[test]
fn what_a_table_leaves_out_has_its_default() {
    let entry = Entry::parse("0 1 replicator ringbuffer 2 /dev/log 0 blockdev 1 0").unwrap();
    let Target::Replicator(table) = entry.target else { panic!("it is a replicator") };
    assert_eq!((table.log.tail_bytes(), table.log.ld_lag()), (256 << 20, LdLag::Tail));
    let slink = &table.slinks[0];
    assert_eq!(slink.policy(), Policy { sync: Sync::Async, stall: false });
    let options = &slink.options;
    assert_eq!((options.on_limit(), options.on_down()), (OnLimit::Sync, OnDown::Bitmap));
    assert_eq!(options.timeout_io(), Duration::from_secs(10));
    assert_eq!((options.resync_rate(), options.order()), (0, Order::Group));
}

#[test]
fn nolog_is_one_region_the_whole_device() {
    assert_eq!(DirtyLogTable::Nolog.region(Sectors(4711)), Sectors(4711));
}

#[test]
fn entries_are_equal_wherever_they_were_read() {
    let once = TableFile::parse(REPL).unwrap();
    let again = TableFile::parse(&format!("# elsewhere\n\n  {REPL}")).unwrap();
    assert_eq!(once, again);
}

#[test]
fn a_table_made_in_code_is_checked_like_one_that_was_read() {
    let mut file = TableFile::parse(REPL).unwrap();
    file.entries.push(device(Sectors(1000)));
    let error = file.groups().unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Region { found: "1000".into() });
    assert_eq!(error.position().line, 2);

    file.entries[1] = device(Sectors(1024));
    assert_eq!(file.groups().unwrap()[0].devices[0].name, "db");
}

#[test]
fn entries_from_two_texts_are_checked_against_each_other() {
    let mut file = TableFile::parse(REPL).unwrap();
    let table = "0 8 replicator-dev repl 0 0 1 /dev/log nolog 0";
    file.entries.push(Entry::parse(table).unwrap().named("db").unwrap());
    let error = file.groups().unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::PathTwice { .. }), "{error}");
    assert_eq!(error.position(), Position { line: 1, column: 31 });
}

#[test]
fn a_name_from_elsewhere_is_checked_too() {
    let entry = Entry::parse("0 1 replicator ringbuffer 2 /dev/log 0 blockdev 1 0").unwrap();
    assert_eq!(entry.clone().named("repl").unwrap().name.as_deref(), Some("repl"));
    let error = entry.named("../repl").unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Name { found: "../repl".into() });
}

fn device(region: Sectors) -> Entry {
    let leg = LegTable {
        slink: SlinkNr::LOCAL,
        path: "/dev/ld".into(),
        dirty_log: DirtyLogTable::Core { region, init: None },
    };
    let (replicator, dev_nr) = ("repl".into(), DevNr(0));
    let table = ReplicatorDevTable { replicator, dev_nr, legs: vec![leg] };
    Entry::new(Some("db".into()), Sector(0), Sectors(4096), Target::ReplicatorDev(table))
}
