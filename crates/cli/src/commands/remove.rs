//! `remove`: a daemon ends properly, or what is left of one that died goes.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::find::{Found, ask, find, gone};
use crate::args::RemoveArgs;
use crate::control::Request;
use crate::daemon;
use crate::output::Progress;
use crate::runtime::{GroupDir, RuntimeDir, Tenant};

pub(super) fn remove(args: &RemoveArgs, runtime: &RuntimeDir) -> Result<()> {
    let found = args.names.iter().map(|name| find(runtime, name)).collect::<Result<Vec<_>>>()?;
    for Found { group, device } in &found {
        if let Some(device) = device {
            let name = group.name();
            bail!(
                "{device}: is a device of the replicator {name} and ends with it: \
                 `replicator remove {name}`"
            );
        }
    }
    for Found { group, .. } in found {
        remove_one(args, &group).with_context(|| group.name().to_string())?;
    }
    Ok(())
}

fn remove_one(args: &RemoveArgs, group: &GroupDir) -> Result<()> {
    if group.tenant()? == Tenant::Gone {
        ensure!(args.force, gone(group));
        return daemon::bury(group);
    }
    let limit_ms = u64::try_from(args.timeout.as_millis()).unwrap_or(u64::MAX);
    let ended = end(group, &Request::Remove { drain: !args.no_drain, force: args.force, limit_ms });
    if ended.is_err() && args.force && group.tenant()? == Tenant::Gone {
        // It died while it was asked.
        return daemon::bury(group);
    }
    ended
}

/// Ends a daemon that lives; returns when nothing is left of it.
pub(super) fn end(group: &GroupDir, request: &Request) -> Result<()> {
    let mut progress = Progress::new(group.name().as_str());
    ask::<()>(group, request, |text| progress.show(text, 0, 0))?;
    let deadline = Instant::now() + EXIT_LIMIT;
    while group.tenant()? != Tenant::Nobody {
        ensure!(
            Instant::now() < deadline,
            "its devices are gone, but its daemon has not ended within {} s; \
             a backing device may be hung",
            EXIT_LIMIT.as_secs()
        );
        std::thread::sleep(EXIT_PAUSE);
    }
    Ok(())
}

/// A process whose I/O hangs in the kernel cannot end.
const EXIT_LIMIT: Duration = Duration::from_secs(30);
const EXIT_PAUSE: Duration = Duration::from_millis(10);
