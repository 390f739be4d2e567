//! The page on tables has every word, every default and every limit; tables in documents are tables.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::fs;
use std::path::Path;

use table::{SlinkOptions, TableFile, Target, limits, vocabulary};

const PAGE: &str = include_str!("../../../docs/table.md");

#[test]
fn the_page_has_every_word_that_a_table_can_say() {
    for (parameter, words) in vocabulary() {
        for word in words {
            let spans = [format!("`{word}`"), format!("`{word}:"), format!("`{word} ")];
            let said = spans.iter().any(|span| PAGE.contains(span.as_str()));
            assert!(said, "docs/table.md lacks `{word}` of {parameter}");
        }
    }
}

/// The words of an option stand in its own row; its default is how it is spelled there.
#[test]
fn an_option_s_row_has_its_words_and_its_default() {
    let vocabulary = vocabulary();
    let words = |key: &str| vocabulary.iter().find(|(it, _)| *it == key).map(|(_, words)| words);
    for default in defaults() {
        let (key, _) = default.split_once(':').unwrap();
        let row = PAGE.lines().find(|line| line.starts_with(&format!("| `{default}` |")));
        let row = row.unwrap_or_else(|| panic!("docs/table.md has no row for `{default}`"));
        for word in words(key).into_iter().flatten() {
            assert!(row.contains(&format!("`{word}`")), "`{default}`: {word}");
        }
    }
}

/// Each option with its default, as the table prints it.
fn defaults() -> Vec<String> {
    let text = "repl: 0 1 replicator ringbuffer 2 /log 0 blockdev 1 0";
    let mut file = TableFile::parse(text).unwrap();
    let Target::Replicator(group) = &mut file.entries[0].target else { panic!() };
    group.log.tail_bytes = Some(group.log.tail_bytes());
    group.log.ld_lag = Some(group.log.ld_lag());
    let options = &mut group.slinks[0].options;
    *options = SlinkOptions {
        on_limit: Some(options.on_limit()),
        on_down: Some(options.on_down()),
        timeout_io: Some(options.timeout_io()),
        resync_rate: Some(options.resync_rate()),
        order: Some(options.order()),
        // There is none.
        mark: Some("DEVICE".to_owned()),
    };
    let printed = file.to_string();
    let words = printed.split_whitespace().skip(1).filter(|word| word.contains(':'));
    words.map(str::to_owned).collect()
}

#[test]
fn the_page_has_the_limits_of_the_code() {
    let begin = "<!-- printed by crates/table/tests/documented.rs -->\n";
    let (_, rest) = PAGE.split_once(begin).unwrap();
    let (found, _) = rest.split_once("<!-- end -->").unwrap();
    let table = limits_table();
    assert_eq!(found, table, "docs/table.md: put this between the marks:\n{table}");
}

fn limits_table() -> String {
    use limits::*;
    let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
    let rows = [
        ("sites of a group, the local one included", SITES_MAX.to_string()),
        ("devices of a group", DEVICES_MAX.to_string()),
        ("legs of a group, over all devices", LEGS_MAX.to_string()),
        ("number of a device", format!("0 to {DEV_NR_MAX}")),
        ("size of a log", format!("{LOG_SECTORS_MIN} sectors at least")),
        ("`tail:`", format!("{} to {} GiB", mib(TAIL_BYTES_MIN), TAIL_BYTES_MAX >> 30)),
        ("size of a device, or a place on one", format!("{SECTORS_MAX} sectors")),
        (
            "region of a dirty log",
            format!("a power of two, {REGION_SECTORS_MIN} sectors at least, at most the device"),
        ),
        ("regions of a leg", REGIONS_MAX.to_string()),
        ("`timeout_io:`", format!("{TIMEOUT_IO_MS_MIN} ms to {} h", TIMEOUT_IO_MS_MAX / 3_600_000)),
        ("bytes of a name", NAME_BYTES_MAX.to_string()),
        ("bytes of a path", PATH_BYTES_MAX.to_string()),
        ("bytes of a table", mib(TEXT_BYTES_MAX as u64)),
    ];
    let row = |(what, limit): (&str, String)| format!("| {what} | {limit} |\n");
    "| | at most, if nothing else is said |\n|---|---|\n".to_owned()
        + &rows.into_iter().map(row).collect::<String>()
}

/// Every block of code with a log in it is a table of one group at least.
#[test]
fn what_documents_show_as_tables_can_be_started() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut tables = 0;
    for directory in [top.join("docs"), top] {
        let files = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path());
        for path in files.filter(|path| path.extension().is_some_and(|it| it == "md")) {
            let text = fs::read_to_string(&path).unwrap();
            for block in text.split("\n```").skip(1).step_by(2) {
                let (_, block) = block.split_once('\n').unwrap();
                if block.contains("ringbuffer ") && block.contains("replicator-dev ") {
                    let file = TableFile::parse(block);
                    let file = file.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                    assert!(!file.groups().unwrap().is_empty(), "{}", path.display());
                    tables += 1;
                }
            }
        }
    }
    assert!(tables >= 4, "{tables} tables");
}
