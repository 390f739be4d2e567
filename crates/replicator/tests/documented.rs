//! What people read about messages and status is what the code says.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::collections::{BTreeMap, BTreeSet};

use replicator::status::data::*;
use replicator::status::verify::{DifferenceStatus, VerifyStatus};
use serde_json::Value;

const MESSAGES: &str = include_str!("../../../docs/messages.md");
const STATUS: &str = include_str!("../../../docs/status.md");

#[test]
fn the_page_on_messages_begins_with_the_help_of_the_command() {
    let mark = "<!-- printed by replicator::message::HELP -->\n```text\n";
    let (_, rest) = MESSAGES.split_once(mark).expect("the page marks where the list begins");
    let (found, _) = rest.split_once("\n```\n").unwrap();
    let help = replicator::message::HELP;
    assert_eq!(found, help, "docs/messages.md: put this behind the mark:\n{help}");
}

/// Each message of the list has a heading, and each heading is one.
#[test]
fn the_page_explains_every_message_and_no_other() {
    let help = replicator::message::HELP.lines().skip(1);
    let first = |line: &str| line.split_whitespace().next().unwrap_or_default().to_owned();
    let is_message = |line: &&str| line.starts_with("  ") && !line.starts_with("   ");
    let of_help: BTreeSet<String> = help.filter(is_message).map(first).collect();
    let headings = MESSAGES.lines().filter_map(|line| line.strip_prefix("## `"));
    let of_page: BTreeSet<String> = headings
        .map(|line| first(line.trim_end_matches('`')))
        .map(|it| it.replace('`', ""))
        .collect();
    assert_eq!(of_page, of_help);
}

/// A status with everything in it that can be there.
fn full() -> Status {
    let verify =
        VerifyStatus { first: vec![DifferenceStatus::default()], ..VerifyStatus::default() };
    let log = LogStatus {
        loss: Some(LossStatus::default()),
        resize: Some(ResizeStatus::default()),
        bookmark: Some(BookmarkStatus::default()),
        statistics: Some(RingStatus::default()),
        ..LogStatus::default()
    };
    let site = SiteStatus {
        slink: 1,
        state: SiteState::Resyncing,
        resync: Some(ResyncStatus::default()),
        verify: Some(VerifyStatus { running: true, ..verify }),
        failure: Some(SiteFailure::default()),
        groups_per_round_trip: Some(1.0),
        limits: Limits { fall_behind: Some("ios 3".into()), over: true, ..Limits::default() },
        is_read: true,
        demoted: true,
        ..SiteStatus::default()
    };
    let device = DeviceStatus { legs: vec![LegStatus::default()], ..DeviceStatus::default() };
    Status {
        log: Some(log),
        sites: vec![site],
        devices: vec![device],
        events: vec![EventStatus::default()],
        statistics: Some(FrontStatistics::default()),
        ..Status::default()
    }
}

/// The fields of each object, by its place.
fn fields_of(place: &str, value: &Value, found: &mut BTreeMap<String, BTreeSet<String>>) {
    match value {
        Value::Object(fields) => {
            let names = fields.keys().cloned();
            found.entry(place.to_owned()).or_default().extend(names);
            for (name, value) in fields {
                let inner = if place.is_empty() { name.clone() } else { format!("{place}.{name}") };
                fields_of(&inner, value, found);
            }
        }
        Value::Array(all) => all.iter().for_each(|it| fields_of(&format!("{place}[]"), it, found)),
        _ => {}
    }
}

#[test]
fn the_page_on_status_has_every_field_of_the_json_and_no_other() {
    let mut of_code = BTreeMap::new();
    fields_of("", &serde_json::to_value(full()).unwrap(), &mut of_code);
    let mut of_page = BTreeMap::new();
    let (_, page) = STATUS.split_once("\n## JSON\n").unwrap();
    for section in page.split("\n### ").skip(1) {
        let (title, text) = section.split_once('\n').unwrap();
        let place = if title == "The replicator" { "" } else { title.trim_matches('`') };
        let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
        let cells = rows.map(|row| row.split_once(" | ").unwrap().0);
        let names = cells.flat_map(|cell| cell.split(", ")).map(|name| name.replace('`', ""));
        of_page.insert(place.to_owned(), names.collect::<BTreeSet<_>>());
    }
    assert_eq!(of_page, of_code);
}

#[test]
fn the_page_on_status_has_every_word_that_a_field_can_be() {
    use {FailureKind as How, SiteState as Site};
    let word = |value: Value| value.as_str().unwrap().to_owned();
    let words = |values: &[Value]| values.iter().cloned().map(word).collect::<Vec<_>>();
    let json = |value: &dyn Fn() -> serde_json::Result<Value>| value().unwrap();
    macro_rules! words_of { ($($it:expr),*) => { words(&[$(json(&|| serde_json::to_value($it))),*]) } }
    let rows = [
        (
            "state",
            words_of!(
                RunState::Opening,
                RunState::Running,
                RunState::Stopping,
                RunState::Stopped,
                RunState::Failed
            ),
        ),
        (
            "state",
            words_of!(Site::Opening, Site::Streaming, Site::Detached, Site::Resyncing, Site::Down),
        ),
        ("order", words_of!(SiteOrder::None, SiteOrder::Group, SiteOrder::Flush)),
        ("on_full", words_of!(Fate::Detach, Fate::Hold, Fate::Error)),
        ("how", words_of!(How::Error, How::Hung, How::NotOpened, How::Unfit, How::Asked)),
    ];
    let (_, page) = STATUS.split_once("\n## JSON\n").unwrap();
    for (field, words) in rows {
        let mut of_field = page.lines().filter(|line| line.starts_with(&format!("| `{field}` |")));
        let said = of_field.any(|row| words.iter().all(|word| row.contains(&format!("`{word}`"))));
        assert!(said, "{field}: {words:?}");
    }
}

#[test]
fn the_page_on_status_has_every_field_of_the_lines() {
    let status = full();
    let lines = [status.replicator_line(), status.device_line(&status.devices[0])];
    let stopped = SiteStatus {
        verify: Some(VerifyStatus { whole: true, ..VerifyStatus::default() }),
        ..status.sites[0].clone()
    };
    let other = Status { sites: vec![stopped], ..status };
    let lines = lines.into_iter().chain([other.replicator_line()]);
    let (page, _) = STATUS.split_once("\n## JSON\n").unwrap();
    for word in lines.flat_map(|line| line.split([' ', ',']).map(str::to_owned).collect::<Vec<_>>())
    {
        let end = word.find([':', '=']).map_or(word.len(), |at| at + 1);
        let field = word[..end].replace("site1:", "siteN:");
        // The words of 2009 have no names; states and orders are explained under JSON.
        if field.len() < 2 || field.starts_with(|c: char| c.is_ascii_digit()) || field == "RW" {
            continue;
        }
        let in_a_span = !field.ends_with([':', '=']) && page.contains(&field);
        let known = page.contains(&format!("`{field}`")) || in_a_span || field == "inconsistent";
        assert!(known, "docs/status.md: the field {field} of a line");
    }
}
