//! The limits of `table::limits`: the largest table passes, one more does not.

use std::fmt::Write as _;

use table::limits::{DEVICES_MAX, LEGS_MAX, SITES_MAX, TEXT_BYTES_MAX};
use table::{ErrorKind, TableError, TableFile};

#[test]
fn as_many_sites_as_allowed_are_a_replicator_and_one_more_is_not() {
    assert!(TableFile::parse(&replicator(SITES_MAX)).is_ok());
    let error = TableFile::parse(&replicator(SITES_MAX + 1)).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Sites);
}

#[test]
fn as_many_devices_as_allowed_are_a_group_and_one_more_is_not() {
    assert_eq!(groups(DEVICES_MAX, 1), Ok(DEVICES_MAX));
    let error = groups(DEVICES_MAX + 1, 1).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Devices { replicator: "repl".into() });
    // The line after the replicator and the devices that fit.
    assert_eq!(error.position().line, 1 + DEVICES_MAX + 1);
}

#[test]
fn as_many_legs_as_allowed_are_a_group_and_one_more_is_not() {
    let devices = LEGS_MAX / SITES_MAX;
    assert_eq!(groups(devices, SITES_MAX), Ok(devices));
    let error = groups(devices + 1, SITES_MAX).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Legs { replicator: "repl".into() });
}

#[test]
fn a_text_of_the_longest_length_is_read_and_a_longer_one_is_not() {
    let mut text = replicator(1);
    text.push_str(&"#".repeat(TEXT_BYTES_MAX - text.len()));
    assert!(TableFile::parse(&text).is_ok());
    text.push('#');
    let bytes = TEXT_BYTES_MAX + 1;
    for result in [TableFile::parse(&text), TableFile::parse_concise(&text)] {
        assert_eq!(*result.unwrap_err().kind(), ErrorKind::TextBytes { bytes });
    }
}

#[test]
fn a_text_of_nothing_but_short_lines_is_read_in_time() {
    for line in ["a:\n", "\\\n", "#\n", ",", ";", "\\ ", "a: 0 1 replicator\n"] {
        let text = line.repeat(TEXT_BYTES_MAX / line.len());
        let _ = TableFile::parse(&text);
        let _ = TableFile::parse_concise(&text);
    }
}

/// The number of devices of the group of `devices`, with a leg on each of `sites`.
fn groups(devices: usize, sites: usize) -> Result<usize, TableError> {
    let mut text = replicator(sites);
    for nr in 0..devices {
        let _ = write!(text, "d{nr}: 0 8 replicator-dev repl {nr}");
        for site in 0..sites {
            let _ = write!(text, " {site} 1 /dev/d{nr}s{site} nolog 0");
        }
        text.push('\n');
    }
    Ok(TableFile::parse(&text)?.groups()?[0].devices.len())
}

fn replicator(sites: usize) -> String {
    let slinks: String = (0..sites).map(|nr| format!(" blockdev 1 {nr}")).collect();
    format!("repl: 0 1 replicator ringbuffer 2 /dev/log 0{slinks}\n")
}
