//! The dashboard and the alert rules ask only for what is exported: by that name, as a counter or a
//! gauge, with those labels; the page on monitoring says the same. What Grafana wants of a
//! dashboard that it imports is there.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::families::{FAMILIES, Kind};
use super::tests::{exported, names_in};

const PAGE: &str = include_str!("../../../../docs/monitoring.md");
const ALERTS: &str = include_str!("../../../../examples/monitoring/alerts.yml");
const DASHBOARD: &str = include_str!("../../../../examples/monitoring/dashboard.json");

/// The labels of each name, as they are exported.
fn labels() -> BTreeMap<String, BTreeSet<String>> {
    exported().into_iter().map(|(name, labels, _)| (name, labels.into_keys().collect())).collect()
}

fn dashboard() -> Value {
    serde_json::from_str(DASHBOARD).unwrap()
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("expected a string, found {value}"))
}

/// What is asked for, and what is shown of the answer.
fn queries() -> Vec<(String, String)> {
    let dashboard = dashboard();
    let targets = array(&dashboard["panels"]).iter().flat_map(|panel| array(&panel["targets"]));
    let of = |target: &Value| {
        (text(&target["expr"]).to_owned(), text(&target["legendFormat"]).to_owned())
    };
    targets.map(of).chain(rules()).collect()
}

/// Of the alert rules, each of which has an `expr` and then a `summary`.
fn rules() -> Vec<(String, String)> {
    let of = |key: &str| -> Vec<&str> {
        ALERTS.lines().filter_map(|line| line.trim().strip_prefix(key)).map(str::trim).collect()
    };
    let (names, exprs, summaries) = (of("- alert:"), of("expr:"), of("summary:"));
    assert_eq!((names.len(), names.len()), (exprs.len(), summaries.len()));
    exprs.iter().zip(summaries).map(|(expr, said)| ((*expr).to_owned(), said.to_owned())).collect()
}

/// A name in a query, and what stands around it.
#[derive(Debug)]
struct Selector<'a> {
    name: &'a str,
    /// Names of labels between the braces.
    labels: Vec<&'a str>,
    has_range: bool,
    /// The function whose first argument it is.
    function: &'a str,
}

fn selectors(query: &str) -> Vec<Selector<'_>> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let starts = query.match_indices("replicator_").map(|(at, _)| at);
    let starts = starts.filter(|at| !query[..*at].ends_with(word));
    let of = |at: usize| {
        let rest = &query[at..];
        let end = rest.find(|c| !word(c)).unwrap_or(rest.len());
        let (name, mut rest) = rest.split_at(end);
        let mut labels = Vec::new();
        if let Some((inner, behind)) = rest.strip_prefix('{').and_then(|it| it.split_once('}')) {
            labels.extend(inner.split(',').map(|it| it.split(['=', '!']).next().unwrap()));
            rest = behind;
        }
        let before = query[..at].strip_suffix('(').unwrap_or("");
        let function = before.rsplit(|c| !word(c)).next().unwrap();
        Selector { name, labels, has_range: rest.starts_with('['), function }
    };
    starts.map(of).collect()
}

/// `{{label}}`, `{{ $labels.label }}`.
fn shown(template: &str) -> Vec<&str> {
    let inner = template.split("{{").skip(1).map(|it| it.split("}}").next().unwrap().trim());
    inner.map(|it| it.strip_prefix("$labels.").unwrap_or(it)).collect()
}

#[test]
fn every_name_is_asked_for_as_what_it_is_and_by_labels_that_it_has() {
    let (labels, queries) = (labels(), queries());
    assert!(queries.len() > 20, "{queries:?}");
    for (query, template) in &queries {
        let selectors = selectors(query);
        assert!(!selectors.is_empty(), "{query}");
        for Selector { name, labels: asked, has_range, function } in selectors {
            let family = FAMILIES.iter().find(|family| family.name == name);
            let family = family.unwrap_or_else(|| panic!("{query}: nobody exports {name}"));
            // A counter means something by how it grows, a gauge by what it is.
            let of_counter = ["rate", "increase"].contains(&function);
            assert_eq!(
                (family.kind == Kind::Counter, has_range),
                (of_counter, of_counter),
                "{query}"
            );
            for label in asked.into_iter().chain(shown(template)) {
                assert!(labels[name].contains(label), "{query}: {name} has no label {label}");
            }
        }
    }
}

#[test]
fn what_is_divided_has_a_partner_for_each_series() {
    let (labels, mut divided) = (labels(), 0);
    for (query, _) in queries() {
        // Of a division, only series whose labels are the same meet.
        for (left, right) in query.split(" or ").filter_map(|it| it.split_once(" / ")) {
            let of = |side| labels[selectors(side).last().unwrap().name].clone();
            let right = of(right.split(" > ").next().unwrap());
            assert_eq!(of(left), right, "{query}");
            divided += 1;
        }
    }
    assert!(divided > 2);
}

#[test]
fn a_query_is_read_as_prometheus_reads_it() {
    let query = "rate(replicator_a_total{x=~\"$y\",z!=\"0\"}[5m]) / replicator_b > 0";
    let [a, b] = &selectors(query)[..] else { panic!("{:?}", selectors(query)) };
    assert_eq!((a.name, a.function, a.has_range), ("replicator_a_total", "rate", true));
    assert_eq!(a.labels, ["x", "z"]);
    assert_eq!((b.name, b.function, b.has_range), ("replicator_b", "", false));
    assert_eq!(shown("{{a}} of {{ $labels.b }}"), ["a", "b"]);
}

#[test]
fn the_dashboard_has_what_grafana_s_importer_asks_for() {
    let dashboard = dashboard();
    assert!(!text(&dashboard["title"]).is_empty());
    let uid = text(&dashboard["uid"]);
    let is_uid = |c: u8| c.is_ascii_alphanumeric() || b"-_".contains(&c);
    assert!((1..=40).contains(&uid.len()) && uid.bytes().all(is_uid), "{uid}");
    // A number is one that another Grafana gave.
    assert!(dashboard["id"].is_null());
    assert!(dashboard["schemaVersion"].as_u64().is_some_and(|it| it >= 30));
    let (mut ids, mut taken) = (BTreeSet::new(), BTreeSet::new());
    for panel in array(&dashboard["panels"]) {
        let title = text(&panel["title"]);
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: its number is another's");
        // Those that are in every Grafana.
        let kinds = ["stat", "timeseries", "state-timeline"];
        assert!(kinds.contains(&text(&panel["type"])), "{title}");
        let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        assert!(at("w") > 0 && at("h") > 0 && at("x") + at("w") <= 24, "{title}");
        for cell in (at("y")..at("y") + at("h")).flat_map(|y| (at("x")..24).map(move |x| (x, y))) {
            let is_in = cell.0 < at("x") + at("w");
            assert!(!is_in || taken.insert(cell), "{title}: it lies on another one");
        }
        let refs: Vec<&str> =
            array(&panel["targets"]).iter().map(|it| text(&it["refId"])).collect();
        assert!(!refs.is_empty(), "{title}");
        assert_eq!(refs.iter().collect::<BTreeSet<_>>().len(), refs.len(), "{title}");
    }
    assert_eq!(ids.len(), 12);
}

#[test]
fn the_dashboard_names_no_source_of_data_but_the_one_that_is_chosen() {
    let dashboard = dashboard();
    let variables = array(&dashboard["templating"]["list"]);
    let variable = |name: &str| {
        let found = variables.iter().find(|it| it["name"] == name);
        found.unwrap_or_else(|| panic!("expected a variable {name}"))
    };
    assert_eq!(variable("datasource")["type"], "datasource");
    assert_eq!(variable("datasource")["query"], "prometheus");
    let panels = array(&dashboard["panels"]);
    let targets = panels.iter().flat_map(|panel| array(&panel["targets"]));
    let of_variable = std::iter::once(variable("replicator"));
    for asks in panels.iter().chain(targets).chain(of_variable) {
        assert_eq!(asks["datasource"]["uid"], "${datasource}", "{asks}");
        assert_eq!(asks["datasource"]["type"], "prometheus", "{asks}");
    }
    let names = text(&variable("replicator")["query"]["query"]);
    let (name, label) = names.strip_prefix("label_values(").unwrap().split_once(", ").unwrap();
    assert!(labels()[name].contains(label.strip_suffix(')').unwrap()), "{names}");
    // Names of variables that are there, or Grafana's own.
    for (query, _) in queries() {
        for used in query.split('$').skip(1) {
            let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let name = used.split(|c| !word(c)).next().unwrap();
            assert!(name.starts_with("__") || variable(name)["name"] == name, "{query}");
        }
    }
}

#[test]
fn the_page_has_every_alert_and_every_name_as_it_is_exported() {
    let alerts = |text: &'static str, before: &'static str, after: char| -> BTreeSet<&str> {
        let rest = text.lines().filter_map(move |line| line.trim().strip_prefix(before));
        rest.map(|it| it.split(after).next().unwrap()).collect()
    };
    assert_eq!(alerts(PAGE, "| `Replicator", '`'), alerts(ALERTS, "- alert: Replicator", ' '));
    let labels = labels();
    for family in FAMILIES {
        let more = labels[family.name].iter().filter(|it| *it != "replicator");
        let more: Vec<String> = more.map(|it| format!("`{it}`")).collect();
        let (name, kind) = (family.name, family.kind.word());
        let row = format!("| `{name}` | {kind} | {} | {} |", more.join(", "), family.help);
        assert!(PAGE.lines().any(|line| line == row), "docs/monitoring.md: expected {row}");
    }
    let (_, page) = PAGE.split_once("\n## Metrics\n").unwrap();
    assert_eq!(names_in(page).len(), FAMILIES.len(), "and no other");
}
