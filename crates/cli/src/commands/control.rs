//! `suspend`, `resume` and `message`: one request to a daemon that lives.

use anyhow::{Context, Result};

use replicator::message::is_drain;

use super::find::{Found, ask, find};
use super::wait::drain;
use crate::args::{MessageArgs, ResumeArgs, SuspendArgs};
use crate::control::Request;
use crate::output::{Progress, print};
use crate::runtime::{Name, RuntimeDir};

pub(super) fn suspend(args: &SuspendArgs, runtime: &RuntimeDir) -> Result<()> {
    let wait = !args.noflush;
    for_each(runtime, &args.names, |device| Request::Suspend { device, wait })
}

pub(super) fn resume(args: &ResumeArgs, runtime: &RuntimeDir) -> Result<()> {
    for_each(runtime, &args.names, |device| Request::Resume { device })
}

/// Sends a message; an answer, if there is one, goes to standard output.
pub(super) fn message(args: &MessageArgs, runtime: &RuntimeDir) -> Result<()> {
    let Found { group, device } = find(runtime, &args.name)?;
    let request = Request::Message { device, words: args.words.clone() };
    if args.words.first().is_some_and(|word| is_drain(word)) {
        return drain(&group, &request).with_context(|| args.name.to_string());
    }
    let answer: String = ask(&group, &request, |_| ()).with_context(|| args.name.to_string())?;
    if answer.is_empty() {
        return Ok(());
    }
    print(&format!("{}\n", answer.trim_end()))
}

fn for_each(
    runtime: &RuntimeDir,
    names: &[Name],
    request: impl Fn(Option<String>) -> Request,
) -> Result<()> {
    // All names first: a wrong one is no reason to stop half-way.
    let found = names.iter().map(|name| find(runtime, name)).collect::<Result<Vec<_>>>()?;
    for (name, Found { group, device }) in names.iter().zip(found) {
        let mut progress = Progress::new(name.as_str());
        let show = |text: &str| progress.show(text, 0, 0);
        ask::<()>(&group, &request(device), show).with_context(|| name.to_string())?;
    }
    Ok(())
}
