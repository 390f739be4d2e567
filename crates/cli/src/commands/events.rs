//! `events`: what happened, and with `--follow` what happens, a line each.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::find::{ask, find_all};
use crate::args::EventsArgs;
use crate::control::{EventsReply, Request};
use crate::events::{Cursor, Line, clock};
use crate::output::{Reader, tell};
use crate::runtime::{GroupDir, Name, RuntimeDir, Tenant};

pub(super) fn events(args: &EventsArgs, runtime: &RuntimeDir) -> Result<()> {
    let mut reading = Reading { json: args.json, since: args.since, cursors: BTreeMap::new() };
    let mut groups: BTreeMap<Name, GroupDir> = BTreeMap::new();
    for found in find_all(runtime, &args.names)? {
        groups.insert(found.group.name().clone(), found.group);
    }
    // What is wrong from the start on is an error; later it is an event.
    for group in groups.values() {
        let lines = reading.next(group).with_context(|| group.name().to_string())?;
        if reading.print(&lines)? == Reader::HasHadEnough {
            return Ok(());
        }
    }
    if args.follow {
        return follow(args, runtime, &mut reading, groups);
    }
    Ok(())
}

/// Goes on until all that were named have ended, or nobody reads any more.
fn follow(
    args: &EventsArgs,
    runtime: &RuntimeDir,
    reading: &mut Reading,
    mut groups: BTreeMap<Name, GroupDir>,
) -> Result<()> {
    loop {
        thread::sleep(PAUSE);
        if args.names.is_empty() {
            let there = runtime.groups()?.into_iter();
            groups.extend(there.map(|group| (group.name().clone(), group)));
        }
        let (lines, ended) = reading.look_at_all(groups.values());
        groups.retain(|name, _| !ended.contains(name));
        let is_over = groups.is_empty() && !args.names.is_empty();
        if reading.print(&lines)? == Reader::HasHadEnough || is_over {
            return Ok(());
        }
    }
}

/// How far it is with each replicator.
struct Reading {
    json: bool,
    since: u64,
    cursors: BTreeMap<Name, Cursor>,
}

impl Reading {
    /// What is new, of everybody, and who has ended.
    fn look_at_all<'a>(
        &mut self,
        groups: impl Iterator<Item = &'a GroupDir>,
    ) -> (Vec<Line>, BTreeSet<Name>) {
        let (mut lines, mut ended) = (Vec::new(), BTreeSet::new());
        for group in groups {
            let name = group.name();
            if matches!(group.tenant(), Ok(Tenant::Nobody)) {
                let cursor = self.cursors.remove(name);
                lines.extend(cursor.map(|cursor| cursor.ended(name.as_str(), &clock())));
                ended.insert(name.clone());
                continue;
            }
            let asked = Instant::now();
            match self.next(group) {
                Ok(new) => lines.extend(new),
                Err(error) => {
                    let cursor = self.cursors.entry(name.clone()).or_default();
                    let why = format!("{error:#}");
                    let line = cursor.unreachable(name.as_str(), asked, Instant::now(), &why);
                    lines.extend(line);
                }
            }
        }
        (lines, ended)
    }

    /// All that is new of one replicator.
    fn next(&mut self, group: &GroupDir) -> Result<Vec<Line>> {
        let (name, since) = (group.name(), self.since);
        let cursor = self.cursors.entry(name.clone()).or_insert_with(|| Cursor::behind(since));
        let mut lines = Vec::new();
        loop {
            let since = cursor.seen();
            let reply: EventsReply = ask(group, &Request::Events { since }, |_| ())?;
            let (new, more) = cursor.take(name.as_str(), &clock(), reply);
            lines.extend(new);
            if !more || lines.len() >= LINES_MAX {
                return Ok(lines);
            }
        }
    }

    fn print(&self, lines: &[Line]) -> Result<Reader> {
        let mut text = String::new();
        for line in lines {
            text += &if self.json { line.json()? } else { line.text() };
        }
        tell(&text)
    }
}

/// How often somebody is asked who is followed.
const PAUSE: Duration = Duration::from_millis(250);

/// More than one daemon keeps: one that had more to say all the time would keep the others waiting.
const LINES_MAX: usize = 2000;
