//! From a name on the command line to a replicator, or to one device of it.

use anyhow::{Context, Result, anyhow, bail};
use serde::de::DeserializeOwned;

use crate::control::{Client, Request};
use crate::runtime::{GroupDir, Name, RuntimeDir, Tenant};

/// What a name means.
#[derive(Clone, Debug)]
pub(super) struct Found {
    /// The replicator.
    pub(super) group: GroupDir,
    /// The device of it that was named; `None`: the replicator itself was.
    pub(super) device: Option<String>,
}

/// Finds the replicator or device called `name`.
pub(super) fn find(runtime: &RuntimeDir, name: &Name) -> Result<Found> {
    let group = runtime.group(name);
    if group.tenant()? != Tenant::Nobody {
        return Ok(Found { group, device: None });
    }
    for group in runtime.groups()? {
        if has_device(&group, name)? {
            return Ok(Found { group, device: Some(name.to_string()) });
        }
    }
    bail!("{name}: expected a replicator or a device, found none; `replicator ls` lists them")
}

/// Finds every name, or everything there is if none is given.
pub(super) fn find_all(runtime: &RuntimeDir, names: &[Name]) -> Result<Vec<Found>> {
    if !names.is_empty() {
        return names.iter().map(|name| find(runtime, name)).collect();
    }
    let mut found = Vec::new();
    for group in runtime.groups()? {
        if group.tenant()? != Tenant::Nobody {
            found.push(Found { group, device: None });
        }
    }
    Ok(found)
}

/// Asks the daemon of a replicator, or says how to get one.
pub(super) fn ask<T: DeserializeOwned>(
    group: &GroupDir,
    request: &Request,
    progress: impl FnMut(&str),
) -> Result<T> {
    if group.tenant()? == Tenant::Gone {
        return Err(gone(group));
    }
    Client::connect(&group.socket())?.ask(request, progress)
}

/// The sentence about a replicator whose daemon died.
pub(super) fn gone(group: &GroupDir) -> anyhow::Error {
    let name = group.name();
    let why = group.last_error().map(|why| format!(" ({why})")).unwrap_or_default();
    anyhow!(
        "{name}: its daemon is gone{why}, its devices wait; \
         `replicator recover {name}` lets them go on, `replicator remove --force {name}` gives them up"
    )
}

fn has_device(group: &GroupDir, name: &Name) -> Result<bool> {
    let state = group.state().with_context(|| format!("replicator {}", group.name()))?;
    Ok(state.is_some_and(|state| state.devices.iter().any(|it| it.name == name.as_str())))
}
