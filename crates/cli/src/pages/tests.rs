//! Documents, man pages and completions say what the command line takes.

use super::*;
use crate::args::Arguments;
use clap::Parser;
use clap::error::ErrorKind;
use std::collections::BTreeSet;
use std::path::PathBuf;

const COMMANDS: &str = include_str!("../../../../docs/commands.md");

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn verbs() -> Vec<String> {
    shown().get_subcommands().map(|verb| verb.get_name().to_owned()).collect()
}

#[test]
fn the_page_on_commands_has_every_verb_and_option() {
    let begin = "<!-- printed by crates/cli/src/pages/commands.rs -->\n";
    let (_, rest) = COMMANDS.split_once(begin).unwrap();
    let (found, _) = rest.split_once("<!-- end -->").unwrap();
    let sections = commands::sections(shown());
    let again = "`replicator pages docs DIR` writes it to DIR/verbs.md";
    assert!(found == sections, "docs/commands.md is not what the program takes; {again}");
}

#[test]
fn what_the_help_ends_with_fits_in_80_columns() {
    for verb in shown().get_subcommands() {
        let end = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
        let wide = end.lines().find(|line| line.chars().count() > 80);
        assert_eq!(wide, None, "{}", verb.get_name());
    }
}

#[test]
fn the_help_of_every_verb_ends_with_examples() {
    for verb in shown().get_subcommands() {
        let end = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
        let name = verb.get_name();
        assert!(end.starts_with("Examples:\n"), "{name}: see args::examples");
        assert!(end.contains(&format!("  replicator {name} ")) || end.contains(name), "{name}");
    }
}

#[test]
fn a_completion_knows_every_verb() {
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let text = String::from_utf8(completion(shell)).unwrap();
        for verb in verbs() {
            assert!(text.contains(&verb), "{shell}: {verb}");
        }
        for option in ["no-drain", "require-all", "verified"] {
            assert!(text.contains(option), "{shell}: {option}");
        }
        assert!(!text.contains("daemon -"), "{shell}: what is not for people");
    }
}

/// The texts that stand in code in a document: lines of blocks, and spans, which may name a
/// command without its arguments.
fn code_of(text: &str) -> Vec<(String, bool)> {
    let mut found = Vec::new();
    let mut in_block = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if in_block || line.starts_with("    ") {
            found.push((line.to_owned(), true));
        } else {
            found.extend(line.split('`').skip(1).step_by(2).map(|span| (span.to_owned(), false)));
        }
    }
    found
}

/// The command lines of this program in a text; those with something left out are none.
fn command_lines(text: &str) -> BTreeSet<(Vec<String>, bool)> {
    let mut found = BTreeSet::new();
    for (line, is_whole) in code_of(text) {
        let line =
            line.split(" #").next().unwrap_or_default().replace("# replicator", "; replicator");
        for part in line.split([';', '|', '&']) {
            let words: Vec<&str> = part.split_whitespace().collect();
            let at = if words.first() == Some(&"$") { 1 } else { 0 };
            let is_ours = words.get(at) == Some(&"replicator") && words.len() > at + 1;
            let is_pattern = part.contains(['…', '[']) || words.contains(&"VERB");
            if !is_ours || is_pattern || words[at + 1].ends_with(':') {
                continue;
            }
            let words = words[at..].iter().take_while(|word| !word.starts_with(['>', '<']));
            let words: Vec<String> = words.map(|word| stand_in(word)).collect();
            found.insert((words, is_whole));
        }
    }
    found
}

/// What is wrong with a command that is only named.
const LACKING: [ErrorKind; 3] = [
    ErrorKind::MissingRequiredArgument,
    ErrorKind::MissingSubcommand,
    ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand,
];

/// What a word in capitals stands for.
fn stand_in(word: &str) -> String {
    match word {
        "N" | "SITE" | "NR" => "1".to_owned(),
        "FILE" | "DEVICE" | "LOG-DEVICE" | "PATH" => "/dev/x".to_owned(),
        word => word.trim_matches('"').to_owned(),
    }
}

#[test]
fn what_documents_show_as_commands_is_taken() {
    let top = top();
    let mut number = 0;
    for directory in [top.join("docs"), top] {
        let files = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path());
        for path in files.filter(|path| path.extension().is_some_and(|it| it == "md")) {
            for (words, is_whole) in command_lines(&fs::read_to_string(&path).unwrap()) {
                let line = words.join(" ");
                let refused = Arguments::try_parse_from(&words).err();
                let refused = refused.filter(|it| is_whole || !LACKING.contains(&it.kind()));
                assert!(refused.is_none(), "{}: {line}: {refused:?}", path.display());
                number += 1;
                let message =
                    words.iter().position(|it| it == "message").and_then(|at| words.get(at + 3));
                if let Some(message) = message {
                    let known = replicator::message::HELP.contains(&format!("\n  {message}"));
                    assert!(known, "{}: {line}", path.display());
                }
            }
        }
    }
    assert!(number > 80, "{number} command lines");
}

#[test]
fn what_the_help_shows_as_commands_is_taken() {
    for verb in shown().get_subcommands().chain([&Arguments::command()]) {
        let end = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
        let examples: String = end.lines().map(|line| format!("  {line}\n")).collect();
        for (words, _) in command_lines(&examples) {
            assert!(Arguments::try_parse_from(&words).is_ok(), "{}", words.join(" "));
        }
    }
}

#[test]
fn a_document_becomes_a_man_page() {
    let page = ManPage { document: "", name: "a-b", section: 7, about: "an example" };
    let text = "# Title\n\n![a picture](x.svg)\n\nSome `code -x` and **bold** [text](x.md#y),\n.dots.\n\n## A part\n\n    $ run it\n\n\
                | what | means |\n|---|---|\n| `a` | one |\n\n* item\n  goes on\n* other\n\n\
                ```text\n'quoted\n```\n\nEnd.\n";
    let made = roff::page(&page, text);
    let expected = [
        ".SH NAME",
        "a\\-b \\- an example",
        ".SH DESCRIPTION",
        ".PP",
        "Some \\fBcode \\-x\\fR and \\fBbold\\fR text,",
        "\\&.dots.",
        ".SH \"A PART\"",
        ".PP",
        ".RS 4",
        ".nf",
        "$ run it",
        ".fi",
        ".RE",
        ".TP",
        "\\fBa\\fR",
        "one",
        ".IP \\(bu 3",
        "item",
        "goes on",
        ".IP \\(bu 3",
        "other",
        ".PP",
        ".RS 4",
        ".nf",
        "\\(aqquoted",
        ".fi",
        ".RE",
        ".PP",
        "End.",
    ];
    let found: Vec<&str> = made.lines().skip(1).collect();
    assert_eq!(found, expected);
}

#[test]
fn pages_are_written_where_they_are_wanted() {
    let to = tempfile::tempdir().unwrap();
    let args = PagesArgs { docs: top().join("docs"), to: to.path().to_owned() };
    write(&args).unwrap();
    let names = |directory: &str| {
        let found = fs::read_dir(to.path().join(directory)).unwrap();
        found.map(|it| it.unwrap().file_name().into_string().unwrap()).collect::<BTreeSet<_>>()
    };
    assert!(names("man").contains("replicator.8") && names("man").contains("replicator.table.5"));
    let completions = ["_replicator", "replicator.bash", "replicator.fish"].map(str::to_owned);
    assert_eq!(names("completions"), BTreeSet::from(completions));
    for page in MAN_PAGES {
        let path = to.path().join(format!("man/{}.{}", page.name, page.section));
        let text = fs::read_to_string(path).unwrap();
        // What is left of markdown would be read as text.
        let left = text.lines().find(|line| line.contains("](") || line.starts_with('|'));
        assert_eq!(left, None, "{}", page.document);
    }
}
