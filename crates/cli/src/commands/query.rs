//! `ls`, `table` and `status`: what there is and how it does.

use anyhow::{Context, Error, Result, anyhow};
use replicator::Status;
use serde_json::{Map, Value, json};
use table::{Entry, TableFile, Target};

use super::find::{Found, ask, find_all};
use crate::args::{ListArgs, QueryArgs};
use crate::control::{Info, Request, StatusReply, TableLine};
use crate::output::{columns, dm_lines, json_text, print};
use crate::runtime::{GroupDir, RuntimeDir, Tenant};

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
pub(super) fn status(args: &QueryArgs, runtime: &RuntimeDir) -> Result<()> {
    let found = find_all(runtime, &args.names)?;
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
    if args.json {
        print(&json_text(&details)?)?;
    } else {
        print_lines(args, lines, only_a_device(&found))?;
    }
    all_of(&silent)
}

/// What went wrong, after what did not: one daemon that is gone must not hide how the others do.
fn all_of(errors: &[Error]) -> Result<()> {
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
    let text = group.table()?.context("its daemon is just starting; try again")?;
    Ok(TableFile::parse(&text)?.entries)
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

fn print_lines(args: &QueryArgs, mut lines: Vec<TableLine>, only_one: bool) -> Result<()> {
    lines.retain(|line| args.target.as_deref().is_none_or(|target| line.target == target));
    if args.json {
        return print(&json_text(&lines)?);
    }
    print(&dm_lines(&lines, !only_one))
}

const REPLICATOR: &str = "replicator";
const REPLICATOR_DEV: &str = "replicator-dev";
