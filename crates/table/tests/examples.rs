//! The tables that users copy from.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use blk::{Sectors, SlinkNr};
use table::{DirtyLogTable, Group, Init, LegTable, OnLimit, Sync, TableFile};

#[test]
fn every_example_is_one_group_and_prints_to_the_same_tables() {
    let examples = examples();
    let names: Vec<&str> = examples.keys().map(String::as_str).collect();
    let expected =
        ["long-outage.table", "one-device.table", "quickstart.table", "three-sites.table"];
    assert_eq!(names, expected);
    for (name, file) in &examples {
        assert_eq!(file.groups().unwrap().len(), 1, "{name}");
        assert_eq!(TableFile::parse(&file.to_string()).unwrap(), *file, "{name}");
    }
}

/// So that nobody waits for a copy of what is new and equal; one shows how to ask for it.
#[test]
fn only_the_example_of_a_first_copy_asks_for_one() {
    for (name, file) in examples() {
        if name == "long-outage.table" {
            continue;
        }
        for leg in group(&file).devices.iter().flat_map(|device| &device.table.legs) {
            let expected = if leg.slink.is_local() { None } else { Some(Init::Nosync) };
            assert_eq!(leg.dirty_log.init(), expected, "{name}: {leg}");
        }
    }
}

#[test]
fn a_long_outage_is_given_up_at_a_limit_and_remembered_on_a_disk() {
    let group = group(&examples()["long-outage.table"]);
    let slink = &group.table.slinks[1];
    assert!(slink.fall_behind.is_some());
    assert_eq!(slink.options.on_limit, Some(OnLimit::Bitmap));
    let leg = &group.devices[0].table.legs[1];
    assert_eq!((leg.dirty_log.kind(), leg.dirty_log.init()), ("disk", Some(Init::Sync)));
}

#[test]
fn one_device_is_one_device_with_one_copy() {
    let group = group(&examples()["one-device.table"]);
    assert_eq!(group.table.slinks.len(), 2);
    assert_eq!(device_names(&group), ["data"]);
    assert_eq!(group.devices[0].table.legs.len(), 2);
}

#[test]
fn the_quickstart_has_two_devices_with_one_ld_and_one_rd_each() {
    let group = group(&examples()["quickstart.table"]);
    assert_eq!(device_names(&group), ["db", "wal"]);
    assert_eq!(group.devices.iter().map(|device| device.table.legs.len()).sum::<usize>(), 4);
    assert!(group.devices[0].len > group.devices[1].len, "sizes differ, to show that they may");
}

#[test]
fn three_sites_is_the_picture_of_2009() {
    let group = group(&examples()["three-sites.table"]);
    assert_eq!(device_names(&group), ["d1", "d2", "d3"]);
    for device in &group.devices {
        let sites: Vec<SlinkNr> = device.table.legs.iter().map(|leg| leg.slink).collect();
        assert_eq!(sites, [0, 1, 2, 3].map(SlinkNr));
        assert!(matches!(
            device.table.legs[3],
            LegTable { dirty_log: DirtyLogTable::Core { region: Sectors(128), .. }, .. }
        ));
    }
    let policies: Vec<(Sync, bool)> = group
        .table
        .slinks
        .iter()
        .map(|slink| (slink.policy().sync, slink.policy().stall))
        .collect();
    let expected =
        [(Sync::Async, false), (Sync::Sync, false), (Sync::Async, false), (Sync::Async, true)];
    assert_eq!(policies, expected);
    assert_eq!(group.table.slinks[3].to_string(), "blockdev 4 3 async+stall size 200m");
}

fn examples() -> BTreeMap<String, TableFile> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/tables");
    fs::read_dir(directory)
        .unwrap()
        .map(|file| {
            let path = file.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let table = TableFile::parse_bytes(&fs::read(&path).unwrap())
                .unwrap_or_else(|error| panic!("{}", error.in_file(&name)));
            (name, table)
        })
        .collect()
}

fn group(file: &TableFile) -> Group {
    file.groups().unwrap().remove(0)
}

fn device_names(group: &Group) -> Vec<&str> {
    group.devices.iter().map(|device| device.name.as_str()).collect()
}
