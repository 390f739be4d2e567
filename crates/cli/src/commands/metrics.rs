//! `metrics`: the numbers of all replicators for Prometheus, once or whenever it asks.

use std::thread;
use std::time::Duration;

use anyhow::Result;

use super::find::find_all;
use super::query::look_within;
use crate::args::MetricsArgs;
use crate::metrics::{Asked, Listening, exposition};
use crate::output::print;
use crate::runtime::{GroupDir, Name, RuntimeDir};

pub(super) fn metrics(args: &MetricsArgs, runtime: &RuntimeDir) -> Result<()> {
    let Some(address) = &args.listen else {
        return print(&exposition(&ask_all(&named(&args.names, runtime)?)));
    };
    let listening = Listening::at(address)?;
    // Whoever named a replicator wants to know when it is not there: it is not up.
    listening.serve(|| {
        let groups = match args.names.is_empty() {
            true => named(&[], runtime).unwrap_or_default(),
            false => args.names.iter().map(|name| runtime.group(name)).collect(),
        };
        exposition(&ask_all(&groups))
    })
}

/// Each once, by whatever name.
fn named(names: &[Name], runtime: &RuntimeDir) -> Result<Vec<GroupDir>> {
    let mut groups: Vec<_> = find_all(runtime, names)?.into_iter().map(|it| it.group).collect();
    groups.sort_by(|a, b| a.name().cmp(b.name()));
    groups.dedup_by(|a, b| a.name() == b.name());
    Ok(groups)
}

/// All at once: one that says nothing keeps the others waiting for no longer than that.
fn ask_all(groups: &[GroupDir]) -> Vec<Asked> {
    thread::scope(|scope| {
        let asking: Vec<_> =
            groups.iter().map(|it| scope.spawn(|| look_within(SILENCE_MAX, it).ok())).collect();
        let answers = asking.into_iter().map(|it| it.join().ok().flatten());
        groups.iter().map(|it| it.name().to_string()).zip(answers).collect()
    })
}

/// Shorter than Prometheus waits for a scrape (10 s).
const SILENCE_MAX: Duration = Duration::from_secs(3);
