//! `reload`: replicators that are in use go on as a changed table says.

use anyhow::{Context, Result, bail};

use super::find::{ask, gone};
use crate::args::TableSource;
use crate::control::Request;
use crate::output::print;
use crate::runtime::{GroupDir, RuntimeDir, Tenant};
use crate::tables::{self, Replicator};

/// Hands each replicator of the table its lines; prints what is different.
pub(super) fn reload(source: &TableSource, runtime: &RuntimeDir) -> Result<()> {
    let replicators = tables::from_arguments(source)?;
    // All of them first: one that does not run is no reason to stop half-way.
    let groups = replicators.iter().map(|it| running(it, runtime)).collect::<Result<Vec<_>>>()?;
    for (replicator, group) in replicators.iter().zip(groups) {
        let request = Request::Reload { table: replicator.text.clone() };
        let changes: Vec<String> =
            ask(&group, &request, |_| ()).with_context(|| replicator.name.to_string())?;
        let line = |change: &String| format!("{}: {change}\n", replicator.name);
        print(&changes.iter().map(line).collect::<String>())?;
    }
    Ok(())
}

fn running(replicator: &Replicator, runtime: &RuntimeDir) -> Result<GroupDir> {
    let group = runtime.group(&replicator.name);
    match group.tenant()? {
        Tenant::Alive(_) => Ok(group),
        Tenant::Gone => Err(gone(&group).context(replicator.name.to_string())),
        Tenant::Nobody => bail!("{}: it does not run; `create` starts it", replicator.name),
    }
}
