//! What people read about writers and sites is what the code does.

use slink::event::Transition;
use slink::states::{Fed, Standing};

const README: &str = include_str!("../../../README.md");
const ARCHITECTURE: &str = include_str!("../../../ARCHITECTURE.md");

/// What stands in a document behind a mark, up to the end mark.
fn printed<'a>(document: &'a str, by: &str) -> &'a str {
    let begin = format!("<!-- printed by {by} -->\n");
    let (_, rest) = document.split_once(&begin).expect("the document marks where its table begins");
    rest.split_once("<!-- end -->").expect("the document marks where its table ends").0
}

#[test]
fn the_readme_has_the_decision_table_as_the_code_decides() {
    let table = slink::policy::decision_table();
    let found = printed(README, "slink::policy::decision_table");
    assert_eq!(found, table, "README.md: put this between the marks:\n{table}");
}

#[test]
fn the_architecture_has_the_ways_between_states_as_the_code_asserts_them() {
    let table = ways();
    let found = printed(ARCHITECTURE, "crates/slink/tests/documented.rs");
    assert_eq!(found, table, "ARCHITECTURE.md: put this between the marks:\n{table}");
}

/// One row for each transition: where it can happen, and what it changes.
fn ways() -> String {
    let mut text =
        String::from("| transition | only when the site is | and then it is |\n|---|---|---|\n");
    let mut each = Transition::all();
    each.dedup_by_key(|what| what.name());
    for what in each {
        let from: Vec<Standing> =
            Standing::all().into_iter().filter(|it| it.after(&what).is_some()).collect();
        let name = what.name();
        text += &format!("| `{name}` | {} | {} |\n", conditions(&from), change(&from, &what));
    }
    text
}

/// What a standing has to be, one word for each thing that matters.
fn conditions(from: &[Standing]) -> String {
    let fed: Vec<&str> = FEDS
        .into_iter()
        .filter(|(fed, _)| from.iter().any(|it| it.fed == *fed))
        .map(|(_, word)| word)
        .collect();
    let fed = (fed.len() < FEDS.len()).then(|| fed.join(" or "));
    let bits = BITS.into_iter().filter_map(|(bit, yes, no)| {
        let first = bit(from.first()?);
        from.iter().all(|it| bit(it) == first).then(|| if first { yes } else { no }.to_owned())
    });
    let words: Vec<String> = fed.into_iter().chain(bits).collect();
    // Nothing is left unsaid: as many standings as the words allow are possible.
    let told = Standing::all().into_iter().filter(|it| {
        let same_fed = from.iter().any(|from| from.fed == it.fed);
        let same_bits =
            BITS.into_iter().all(|(bit, ..)| from.iter().any(|from| bit(from) == bit(it)));
        same_fed && same_bits
    });
    assert_eq!(told.count(), from.len(), "a condition that words can't say");
    if words.is_empty() { "anything".to_owned() } else { words.join(", ") }
}

/// What a transition changes, whatever it begins with.
fn change(from: &[Standing], what: &Transition) -> &'static str {
    let mut words: Vec<&'static str> = from
        .iter()
        .filter_map(|it| {
            let to = it.after(what)?;
            let fed = FEDS.into_iter().find(|(fed, _)| *fed == to.fed && to.fed != it.fed);
            let bit = BITS.into_iter().find(|(bit, ..)| bit(&to) != bit(it));
            fed.map(|(_, word)| word).or(bit.map(|(bit, yes, no)| if bit(&to) { yes } else { no }))
        })
        .collect();
    words.dedup();
    assert!(words.len() <= 1, "one transition, one change: {words:?}");
    words.pop().unwrap_or("as it was")
}

const FEDS: [(Fed, &str); 3] =
    [(Fed::Streaming, "streaming"), (Fed::Detached, "detached"), (Fed::Attached, "attached")];

type Bit = (fn(&Standing) -> bool, &'static str, &'static str);
const BITS: [Bit; 3] = [
    (|it| it.up, "up", "down"),
    (|it| it.consistent, "consistent", "inconsistent"),
    (|it| it.in_force, "in force", "not in force"),
];
