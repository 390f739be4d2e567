//! One device at a time, as ublksrv's front end asks for them: the first starts its replicator.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::create::{check_names, job, recover_one};
use super::find::{ask, find};
use crate::control::{Request, Wish};
use crate::daemon::{self, Job, Takeover};
use crate::runtime::{GroupDir, Name, RuntimeDir, Tenant};
use crate::tables::{self, Replicator};

/// Lets a device of a table be had; the N of its `/dev/ublkbN`. Without a name in `wish` it is the
/// only one there.
pub(crate) fn add(table: &Path, mut wish: Wish, runtime: &RuntimeDir) -> Result<u32> {
    let replicator = tables::choose_by_device(tables::from_file(table)?, &mut wish.device)?;
    let group = runtime.group(&replicator.name);
    let deadline = Instant::now() + TURN_LIMIT;
    loop {
        let before = group.tenant()?;
        match try_to_add(&replicator, &group, &wish, runtime) {
            Err(_) if is_changing(&group, before)? && Instant::now() < deadline => {
                std::thread::sleep(TURN_PAUSE);
            }
            result => return result.with_context(|| replicator.name.to_string()),
        }
    }
}

fn try_to_add(
    replicator: &Replicator,
    group: &GroupDir,
    wish: &Wish,
    runtime: &RuntimeDir,
) -> Result<u32> {
    if let Tenant::Alive(_) = group.tenant()? {
        ensure_not_another_s(replicator, wish, runtime)?;
        let request = Request::Add { table: replicator.text.clone(), wish: wish.clone() };
        return ask(group, &request, |_| ());
    }
    if group.tenant()? == Tenant::Nobody {
        check_names(replicator, runtime)?;
    }
    // Of a daemon that died devices may wait, or none: the next one looks.
    let job = Job { only: Some(wish.clone()), ..job(replicator, Takeover::Refuse, 0) };
    let devices = daemon::launch(&job)?;
    let device = devices.iter().find(|it| it.name == wish.device);
    Ok(device.context("expected its daemon to say which device it is")?.ublk)
}

/// Whether a daemon has just come or gone, or is about to: then another try finds it otherwise.
fn is_changing(group: &GroupDir, before: Tenant) -> Result<bool> {
    let now = group.tenant()?;
    Ok(now != before || (matches!(now, Tenant::Alive(_)) && !group.socket().exists()))
}

fn ensure_not_another_s(replicator: &Replicator, wish: &Wish, runtime: &RuntimeDir) -> Result<()> {
    let name: Name = wish.device.parse()?;
    let Ok(found) = find(runtime, &name) else { return Ok(()) };
    let holder = found.group.name();
    ensure!(
        *holder == replicator.name,
        "the name {name} is taken by the replicator {holder}, or a device of it; choose another"
    );
    Ok(())
}

/// Starts a daemon in place of the one that died and served `/dev/ublkbN`; all its devices go on.
pub(crate) fn recover_device(ublk: u32, runtime: &RuntimeDir) -> Result<u32> {
    let mut torn = None;
    for group in runtime.groups()? {
        let state = match group.state() {
            Ok(state) => state,
            // Whose devices are not to be known does not keep another's waiting.
            Err(error) => {
                torn = Some(error.context(format!("replicator {}", group.name())));
                continue;
            }
        };
        if !state.is_some_and(|state| state.devices.iter().any(|it| it.ublk == ublk)) {
            continue;
        }
        // Who recovers one recovers all: the next one finds it done.
        if group.tenant()? == Tenant::Gone {
            let name = group.name();
            let devices = recover_one(name, 0, runtime)?;
            ensure!(
                devices.iter().any(|it| it.ublk == ublk),
                "{name}: its devices go on, but /dev/ublkb{ublk} is none of them any more"
            );
        }
        return Ok(ublk);
    }
    if let Some(error) = torn {
        return Err(error);
    }
    bail!(
        "expected the number of a device that a replicator served, found {ublk}; \
         `replicator ls` lists them"
    )
}

/// How long a daemon that begins or ends is waited for: a log that is made is written once.
const TURN_LIMIT: Duration = Duration::from_secs(120);
const TURN_PAUSE: Duration = Duration::from_millis(100);
