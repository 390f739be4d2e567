//! From a name on the command line to a replicator, or to one device of it.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde::de::DeserializeOwned;

use crate::control::{Client, Request, hung_up};
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
    let mut torn = None;
    for group in runtime.groups()? {
        match has_device(&group, name) {
            Ok(true) => return Ok(Found { group, device: Some(name.to_string()) }),
            Ok(false) => {}
            // Whose devices are not to be known does not hide another's.
            Err(error) => torn = Some(error),
        }
    }
    if let Some(error) = torn {
        return Err(error);
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
    ask_through(Client::connect, group, request, progress)
}

/// The same, of one that may not be silent for longer than `limit`.
pub(super) fn ask_within<T: DeserializeOwned>(
    limit: Duration,
    group: &GroupDir,
    request: &Request,
) -> Result<T> {
    ask_through(|socket| Client::connect_within(socket, limit), group, request, |_| ())
}

fn ask_through<T: DeserializeOwned>(
    connect: impl Fn(&Path) -> Result<Client>,
    group: &GroupDir,
    request: &Request,
    progress: impl FnMut(&str),
) -> Result<T> {
    if group.tenant()? == Tenant::Gone {
        return Err(gone(group));
    }
    let answer = connect(&group.socket()).and_then(|daemon| daemon.ask(request, progress));
    match answer {
        Err(error) if hung_up(&error) && dies(group)? => Err(gone(group)),
        answer => answer,
    }
}

/// Whether the daemon that hung up is one that dies: its sockets may be closed before its lock is.
fn dies(group: &GroupDir) -> Result<bool> {
    let deadline = Instant::now() + DEATH_LIMIT;
    while matches!(group.tenant()?, Tenant::Alive(_)) && Instant::now() < deadline {
        std::thread::sleep(DEATH_PAUSE);
    }
    Ok(group.tenant()? == Tenant::Gone)
}

/// The sentence about a replicator whose daemon died; who asked for it puts its name before it.
pub(super) fn gone(group: &GroupDir) -> anyhow::Error {
    let name = group.name();
    let why = group.last_error().map(|why| format!(" ({why})")).unwrap_or_default();
    anyhow!(
        "its daemon is gone{why}, its devices wait; \
         `replicator recover {name}` lets them go on, `replicator remove --force {name}` gives them up"
    )
}

fn has_device(group: &GroupDir, name: &Name) -> Result<bool> {
    let state = group.state().with_context(|| format!("replicator {}", group.name()))?;
    Ok(state.is_some_and(|state| state.devices.iter().any(|it| it.name == name.as_str())))
}

/// Between what a dying process closes first and last.
const DEATH_LIMIT: Duration = Duration::from_secs(2);
const DEATH_PAUSE: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::State;
    use std::os::unix::net::UnixListener;
    use std::thread;

    /// Asks a daemon that takes the call and hangs up; a moment later it has died, or not.
    fn asked_of_one_that_hangs_up(it_dies: bool) -> String {
        let (_home, runtime) = crate::runtime::tests::scratch();
        let group = runtime.group(&"repl".parse().unwrap());
        let lock = group.lock().unwrap();
        group.write_state(&State::of_this_process()).unwrap();
        let listener = UnixListener::bind(group.socket()).unwrap();
        let daemon = thread::spawn(move || {
            drop(listener.accept().unwrap());
            drop(listener);
            thread::sleep(Duration::from_millis(50));
            if it_dies {
                drop(lock);
                return None;
            }
            Some(lock)
        });
        let error = ask::<()>(&group, &Request::Info {}, |_| ()).unwrap_err();
        daemon.join().unwrap();
        format!("{error:#}")
    }

    #[test]
    fn a_daemon_that_dies_while_it_is_asked_is_one_that_is_gone() {
        let error = asked_of_one_that_hangs_up(true);
        assert!(error.contains("its daemon is gone, its devices wait"), "{error}");
    }

    #[test]
    fn a_daemon_that_hangs_up_and_lives_is_not_taken_for_dead() {
        let error = asked_of_one_that_hangs_up(false);
        assert!(!error.contains("its devices wait"), "{error}");
    }
}
