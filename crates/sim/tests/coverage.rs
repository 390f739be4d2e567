//! What random lives come through: a state, a way between states, or a kind of cut that is reached
//! today is reached tomorrow, and what is new in the tables of the code is not overlooked.

use std::collections::BTreeMap;

use sim::coverage;

const LIST: &str = include_str!("coverage.txt");

/// What is listed, by the first word of its heading.
fn listed() -> BTreeMap<&'static str, Vec<&'static str>> {
    let parts = LIST.split("\n== ").skip(1);
    let part = |part: &'static str| {
        let (heading, names) = part.split_once('\n').expect("a heading is a line");
        let word = heading.split([':', ' ']).next().unwrap_or_default();
        (word, names.lines().filter(|line| !line.is_empty()).collect())
    };
    parts.map(part).collect()
}

#[test]
fn random_lives_meet_everything_that_befalls_sites() {
    let (seen, tally) = coverage::of(1000..1300).unwrap_or_else(|failure| panic!("{failure}"));
    let met = tally.met;
    let sites = [met.down, met.detached, met.resyncs, met.inconsistent, met.consistent];
    let disks = [met.outages, met.hung, met.zombies, met.not_opened, met.replaced];
    let all = [met.demoted, met.promoted, met.converged, met.grown];
    let all = sites.into_iter().chain(disks).chain(all);
    assert!(all.clone().all(|count| count > 0), "{met}");

    let listed = listed();
    let lost: Vec<_> = listed["reached"].iter().filter(|name| !seen.contains_key(**name)).collect();
    assert!(lost.is_empty(), "no life comes through this any more: {lost:#?}");
}

#[test]
fn everything_that_the_tables_say_is_possible_is_listed() {
    let listed: Vec<&str> = listed().into_values().flatten().collect();
    let possible = coverage::possible();
    let missing: Vec<_> = possible.iter().filter(|name| !listed.contains(&name.as_str())).collect();
    assert!(
        missing.is_empty(),
        "tests/coverage.txt lacks this; `sim coverage` says whether lives come through it: {missing:#?}"
    );
    let of_tables = |name: &&&str| name.starts_with("site: ") && name.contains(" when ");
    let gone = listed.iter().filter(of_tables).filter(|name| !possible.contains(&(**name).into()));
    assert_eq!(gone.collect::<Vec<_>>(), Vec::<&&str>::new(), "no table says so any more");
    let mut once = listed.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), listed.len(), "something is listed twice");
}

/// Who looks changes nothing.
#[test]
fn lives_are_the_same_when_somebody_notes_what_they_come_through() {
    let (_, noted) = coverage::of(0..20).unwrap_or_else(|failure| panic!("{failure}"));
    let (lived, failure) = sim::runs::seeds(0..20, None);
    assert_eq!((noted, None), (lived, failure));
}
