//! `create`, `run` and `recover`: a daemon comes to life.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::find::{Found, find};
use super::mark;
use super::remove::end;
use crate::args::{CreateArgs, RecoverArgs, RunArgs};
use crate::control::Request;
use crate::daemon::{self, Job, ReadyDevice, Takeover};
use crate::links::Links;
use crate::output::print;
use crate::runtime::{Name, RuntimeDir, Tenant};
use crate::tables::{self, Replicator};

/// Starts one daemon per replicator of the table; all of them, or none.
pub(super) fn create(args: &CreateArgs, verbose: u8, runtime: &RuntimeDir) -> Result<()> {
    let replicators = tables::from_arguments(&args.source)?;
    if let Some(device) = &args.mark {
        mark::ensure_consistent(device, args.force)?;
    }
    for replicator in &replicators {
        check_names(replicator, runtime)?;
    }
    let mut started: Vec<&Replicator> = Vec::new();
    for replicator in &replicators {
        let job =
            Job { require_all: args.require_all, ..job(replicator, Takeover::Refuse, verbose) };
        match daemon::launch(&job) {
            Ok(devices) => tell(&devices, verbose)?,
            Err(error) => {
                undo(&started, runtime)?;
                return Err(error.context(replicator.name.to_string()));
            }
        }
        started.push(replicator);
    }
    Ok(())
}

/// Serves one replicator of the table until SIGTERM, SIGINT or `remove`.
pub(super) fn run(args: &RunArgs, verbose: u8, runtime: &RuntimeDir) -> Result<()> {
    let replicator = tables::choose(tables::from_file(&args.file)?, args.name.as_ref())?;
    let job = job(&replicator, Takeover::IfAny, verbose);
    daemon::serve_in_foreground(&job, runtime, args.timeout)
        .with_context(|| replicator.name.to_string())
}

/// Starts a daemon in place of each that died.
pub(super) fn recover(args: &RecoverArgs, verbose: u8, runtime: &RuntimeDir) -> Result<()> {
    for name in &args.names {
        let devices = recover_one(name, verbose, runtime)?;
        tell(&devices, verbose)?;
    }
    Ok(())
}

pub(super) fn recover_one(
    name: &Name,
    verbose: u8,
    runtime: &RuntimeDir,
) -> Result<Vec<ReadyDevice>> {
    let found = find(runtime, name)?;
    recover_found(&found, verbose).with_context(|| name.to_string())
}

fn recover_found(found: &Found, verbose: u8) -> Result<Vec<ReadyDevice>> {
    if let Tenant::Alive(pid) = found.group.tenant()? {
        bail!("its daemon (process {pid}) lives; there is nothing to recover");
    }
    // What waits has to be known: better said here than by a daemon that has begun.
    found.group.state()?;
    let left = tables::left_in(&found.group).context("the table its daemon left")?;
    let replicator = left.context("its daemon left no table; use `create`")?;
    daemon::launch(&job(&replicator, Takeover::Must, verbose))
}

pub(super) fn job(replicator: &Replicator, takeover: Takeover, verbose: u8) -> Job {
    let (name, table) = (replicator.name.to_string(), replicator.text.clone());
    Job { name, table, takeover, only: None, require_all: false, verbose }
}

/// Refuses names that somebody has, before anything is started. The daemon looks again.
pub(super) fn check_names(replicator: &Replicator, runtime: &RuntimeDir) -> Result<()> {
    let own = &replicator.name;
    ensure_free(runtime, own, own)?;
    for device in &replicator.group.devices {
        ensure_free(runtime, own, &device.name.parse()?)?;
    }
    Ok(())
}

/// `name` is the replicator `own`, or a device of it.
fn ensure_free(runtime: &RuntimeDir, own: &Name, name: &Name) -> Result<()> {
    let Ok(found) = find(runtime, name) else { return Ok(()) };
    let holder = found.group.name();
    match found.group.tenant()? {
        Tenant::Nobody => Ok(()),
        Tenant::Gone if holder == own => {
            Err(super::find::gone(&found.group).context(own.to_string()))
        }
        Tenant::Gone | Tenant::Alive(_) => {
            ensure!(
                found.device.is_some(),
                "the name {name} is taken by a replicator that exists; \
                 `replicator remove {name}` ends it, or choose another name"
            );
            bail!(
                "the name {name} is taken by a device of the replicator {holder}; \
                 choose another name"
            )
        }
    }
}

/// Ends what was started for a table that could not be started as a whole.
fn undo(started: &[&Replicator], runtime: &RuntimeDir) -> Result<()> {
    for replicator in started.iter().rev() {
        let request = Request::Remove { drain: false, force: true, limit_ms: UNDO_LIMIT_MS };
        end(&runtime.group(&replicator.name), &request)
            .with_context(|| format!("ending the replicator {} again", replicator.name))?;
    }
    Ok(())
}

fn tell(devices: &[ReadyDevice], verbose: u8) -> Result<()> {
    if verbose == 0 {
        return Ok(());
    }
    let link = |it: &ReadyDevice| Links::of_host().path(&it.name);
    let lines = devices.iter().map(|it| format!("{} {}\n", link(it).display(), it.path));
    print(&lines.collect::<String>())
}

const UNDO_LIMIT_MS: u64 = Duration::from_secs(30).as_millis() as u64;
