//! `ls`, `table` and `status`: what there is and how it does.

use std::io::{self, IsTerminal};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow};
use replicator::Status;
use serde_json::{Map, Value, json};
use table::{Entry, TableFile, Target};

use super::find::{Found, ask, ask_within, find_all};
use crate::args::{ListArgs, QueryArgs, StatusArgs, Watch};
use crate::control::{Info, Request, StatusReply, TableLine};
use crate::output::{Reader, columns, dm_lines, json_line, json_text, print, tell};
use crate::runtime::{GroupDir, Name, RuntimeDir, Tenant};

/// Lists replicators and their devices: name, target, state, block device.
pub(super) fn ls(args: &ListArgs, runtime: &RuntimeDir) -> Result<()> {
    let (mut rows, mut torn) = (Vec::new(), Vec::new());
    for Found { group, .. } in find_all(runtime, &[])? {
        match rows_of(&group) {
            Ok(of_group) => rows.extend(of_group),
            Err(error) => torn.push(error.context(group.name().to_string())),
        }
    }
    rows.retain(|row| args.target.as_deref().is_none_or(|target| row.target == target));
    if args.json {
        print(&json_text(&rows.iter().map(Row::json).collect::<Vec<_>>())?)?;
    } else {
        print(&columns(&rows.iter().map(Row::cells).collect::<Vec<_>>()))?;
    }
    all_of(&torn)
}

/// Prints tables. They come from the runtime directory, so a hung daemon hides nothing.
pub(super) fn table(args: &QueryArgs, runtime: &RuntimeDir) -> Result<()> {
    let found = find_all(runtime, &args.names)?;
    let mut entries = Vec::new();
    for Found { group, device } in &found {
        let of_group = entries_of(group).with_context(|| group.name().to_string())?;
        let wanted = |entry: &Entry| device.is_none() || entry.name == *device;
        entries.extend(of_group.into_iter().filter(wanted));
    }
    entries.retain(|entry| args.target.as_deref().is_none_or(|it| target_name(entry) == it));
    if args.json {
        return print(&json_text(&entries.iter().map(table_line).collect::<Vec<_>>())?);
    }
    if only_a_device(&found) {
        entries.iter_mut().for_each(|entry| entry.name = None);
    }
    print(&TableFile { entries }.to_string())
}

/// Prints the status of replicators and devices, in the layouts of 2009 and then more.
pub(super) fn status(args: &StatusArgs, runtime: &RuntimeDir) -> Result<()> {
    let query = &args.query;
    let mut names = query.names.clone();
    let pause = match &args.watch {
        None => {
            let (text, errors) = look_at(query, &names, runtime, json_text)?;
            print(&text)?;
            return all_of(&errors);
        }
        Some(Watch::Every(pause)) => *pause,
        Some(Watch::Named(name)) => {
            names.insert(0, name.clone());
            WATCH_PAUSE
        }
    };
    watch(pause, || look_at(query, &names, runtime, json_line))
}

/// Shows what `look` finds again and again, as long as somebody reads it. What is wrong from the
/// first look on is an error; later it may be over with the next one.
fn watch(pause: Duration, mut look: impl FnMut() -> Result<(String, Vec<Error>)>) -> Result<()> {
    let on_terminal = io::stdout().is_terminal();
    let (mut text, mut errors) = look()?;
    all_of(&errors)?;
    loop {
        for error in &errors {
            text += &format!("{error:#}\n");
        }
        // From the top left corner, and nothing is left behind it.
        let begin = if on_terminal { "\x1b[H\x1b[2J" } else { "" };
        if tell(&format!("{begin}{text}"))? == Reader::HasHadEnough {
            return Ok(());
        }
        thread::sleep(pause);
        (text, errors) = look().unwrap_or_else(|error| (String::new(), vec![error]));
    }
}

/// The text of a status, and whose could not be had.
fn look_at(
    args: &QueryArgs,
    names: &[Name],
    runtime: &RuntimeDir,
    json: impl Fn(&Map<String, Value>) -> Result<String>,
) -> Result<(String, Vec<Error>)> {
    let found = find_all(runtime, names)?;
    let (mut lines, mut details, mut silent) = (Vec::new(), Map::new(), Vec::new());
    for Found { group, device } in &found {
        let name = group.name().to_string();
        match ask::<StatusReply>(group, &Request::Status {}, |_| ()) {
            Ok(reply) => {
                lines.extend(of_device(reply.lines, device.as_deref()));
                details.insert(name, reply.detail);
            }
            Err(error) => silent.push(error.context(name)),
        }
    }
    let text = match args.json {
        true => json(&details)?,
        false => text_of(args, lines, only_a_device(&found)),
    };
    Ok((text, silent))
}

/// What went wrong, after what did not: one daemon that is gone must not hide how the others do.
pub(super) fn all_of(errors: &[Error]) -> Result<()> {
    match errors {
        [] => Ok(()),
        errors => Err(anyhow!(
            errors.iter().map(|it| format!("{it:#}")).collect::<Vec<_>>().join("\nreplicator: ")
        )),
    }
}

/// Asks a replicator how it is.
pub(super) fn look(group: &GroupDir) -> Result<Status> {
    let reply: StatusReply = ask(group, &Request::Status {}, |_| ())?;
    serde_json::from_value(reply.detail).context("expected a status; is the daemon older?")
}

/// The same, and who is silent for longer than `limit` says nothing.
pub(super) fn look_within(limit: Duration, group: &GroupDir) -> Result<Status> {
    let reply: StatusReply = ask_within(limit, group, &Request::Status {})?;
    serde_json::from_value(reply.detail).context("expected a status; is the daemon older?")
}

/// One line of `ls`.
struct Row {
    name: String,
    target: &'static str,
    state: String,
    device: Option<String>,
}

impl Row {
    fn cells(&self) -> Vec<String> {
        let device = self.device.clone().unwrap_or_default();
        vec![self.name.clone(), self.target.to_owned(), self.state.clone(), device]
    }

    fn json(&self) -> Value {
        let Self { name, target, state, device } = self;
        json!({ "name": name, "target": target, "state": state, "device": device })
    }
}

fn rows_of(group: &GroupDir) -> Result<Vec<Row>> {
    let row = |name: &str, state: &str| Row {
        name: name.to_owned(),
        target: REPLICATOR,
        state: state.to_owned(),
        device: None,
    };
    let name = group.name().as_str();
    let dead = |state: &str| -> Result<Vec<Row>> {
        let devices = group.state()?.map(|state| state.devices).unwrap_or_default();
        let waiting = devices.iter().map(|it| Row {
            target: REPLICATOR_DEV,
            device: Some(it.path()),
            ..row(&it.name, "waiting")
        });
        Ok(std::iter::once(row(name, state)).chain(waiting).collect())
    };
    let Ok(info) = ask::<Info>(group, &Request::Info {}, |_| ()) else {
        return dead(match group.tenant()? {
            Tenant::Gone => "dead",
            _ if group.state()?.is_none() => "starting",
            _ => "silent",
        });
    };
    let devices = info.devices.iter().map(|it| Row {
        target: REPLICATOR_DEV,
        device: Some(it.path.clone()),
        ..row(&it.name, if it.suspended { "suspended" } else { &info.state })
    });
    Ok(std::iter::once(row(name, &info.state)).chain(devices).collect())
}

fn entries_of(group: &GroupDir) -> Result<Vec<Entry>> {
    let left = crate::tables::left_in(group)?.context("its daemon is just starting; try again")?;
    Ok(left.group.file().entries)
}

fn table_line(entry: &Entry) -> TableLine {
    let text = match &entry.target {
        Target::Replicator(table) => table.to_string(),
        Target::ReplicatorDev(table) => table.to_string(),
    };
    TableLine {
        name: entry.name.clone().unwrap_or_default(),
        start: entry.start.0,
        len: entry.len.0,
        target: target_name(entry).to_owned(),
        text,
    }
}

fn target_name(entry: &Entry) -> &'static str {
    match entry.target {
        Target::Replicator(_) => REPLICATOR,
        Target::ReplicatorDev(_) => REPLICATOR_DEV,
    }
}

fn of_device(lines: Vec<TableLine>, device: Option<&str>) -> impl Iterator<Item = TableLine> {
    let device = device.map(str::to_owned);
    lines.into_iter().filter(move |line| device.as_ref().is_none_or(|name| line.name == *name))
}

/// dmsetup leaves the name out when one device was asked for by name.
fn only_a_device(found: &[Found]) -> bool {
    matches!(found, [Found { device: Some(_), .. }])
}

fn text_of(args: &QueryArgs, mut lines: Vec<TableLine>, only_one: bool) -> String {
    lines.retain(|line| args.target.as_deref().is_none_or(|target| line.target == target));
    dm_lines(&lines, !only_one)
}

/// Between two looks of somebody who only named what he wants to see.
const WATCH_PAUSE: Duration = Duration::from_secs(2);

const REPLICATOR: &str = "replicator";
const REPLICATOR_DEV: &str = "replicator-dev";
