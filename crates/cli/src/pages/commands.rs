//! The verbs, as clap knows them, in markdown: what stands in `docs/commands.md`.

use clap::builder::StyledStr;
use clap::{Arg, Command};

/// A section for each verb that people use.
pub(super) fn sections(mut all: Command) -> String {
    all.build();
    all.get_subcommands().filter(|verb| !verb.is_hide_set()).map(of_verb).collect()
}

fn of_verb(verb: &Command) -> String {
    let verb = verb.clone();
    let inner: Vec<&Command> =
        verb.get_subcommands().filter(|inner| inner.get_name() != "help").collect();
    let mut text = format!("### `{}`\n\n", verb.get_name());
    if inner.is_empty() {
        text += &usage(&verb);
    }
    text += &about(&verb);
    text += &options(&verb);
    for inner in inner {
        text += &usage(inner);
        text += &about(inner);
        text += &options(inner);
    }
    text + &end(&verb)
}

/// How it is typed.
fn usage(verb: &Command) -> String {
    let usage = verb.clone().render_usage().to_string();
    format!("    {}\n\n", usage.trim_start_matches("Usage: ").trim())
}

/// What it does.
fn about(verb: &Command) -> String {
    let about = verb.get_long_about().or(verb.get_about());
    format!("{}\n\n", about.map(StyledStr::to_string).unwrap_or_default().trim())
}

fn options(verb: &Command) -> String {
    let of_verb = verb.get_arguments().filter(|arg| !arg.is_hide_set());
    let rows: String =
        of_verb.filter(|arg| !EVERYWHERE.contains(&arg.get_id().as_str())).map(row).collect();
    if rows.is_empty() { rows } else { format!("| | |\n|---|---|\n{rows}\n") }
}

/// An option and what it means.
fn row(arg: &Arg) -> String {
    let value = || {
        let names = arg.get_value_names().unwrap_or_default();
        names.iter().map(|name| format!(" {name}")).collect::<String>()
    };
    let takes_one = arg.get_action().takes_values();
    let name = match (arg.get_short(), arg.get_long()) {
        (Some(short), Some(long)) => format!("-{short}, --{long}"),
        (None, Some(long)) => format!("--{long}"),
        _ => String::new(),
    };
    let value = if takes_one { value() } else { String::new() };
    let help = arg.get_long_help().or(arg.get_help()).map(StyledStr::to_string).unwrap_or_default();
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|");
    let default = arg.get_default_values().first().and_then(|value| value.to_str());
    let default = default.filter(|_| takes_one);
    let default = default.map_or(String::new(), |value| format!("; {value} if not given"));
    format!("| `{}` | {help}{default} |\n", format!("{name}{value}").trim())
}

/// What its help ends with.
fn end(verb: &Command) -> String {
    let after = verb.get_after_help().map(StyledStr::to_string).unwrap_or_default();
    if after.is_empty() {
        return after;
    }
    let lines = after.lines().map(|line| format!("    {line}").trim_end().to_owned() + "\n");
    lines.collect::<String>() + "\n"
}

/// What every verb has.
const EVERYWHERE: [&str; 3] = ["help", "version", "verbose"];
