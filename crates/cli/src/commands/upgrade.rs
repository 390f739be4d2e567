//! `upgrade`: this program goes on where the daemon's is now, while its devices are in use.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::find::{ask, find_all, gone};
use crate::args::UpgradeArgs;
use crate::control::{Client, Info, Request};
use crate::daemon::own_program;
use crate::output::{Progress, print};
use crate::runtime::{GroupDir, Name, RuntimeDir, Tenant};

/// Upgrades one after the other; what one of them can't, it says, and the others follow.
pub(super) fn upgrade(args: &UpgradeArgs, runtime: &RuntimeDir) -> Result<()> {
    let found = find_all(runtime, &args.names)?;
    for found in &found {
        if let Some(device) = &found.device {
            let name = found.group.name();
            bail!(
                "{device}: is a device of the replicator {name}, whose daemon serves all of them: \
                 `replicator upgrade {name}`"
            );
        }
    }
    let mut refused = Vec::new();
    for found in found {
        match upgrade_one(&found.group) {
            Ok(sentence) => print(&sentence)?,
            Err(error) => refused.push(named(found.group.name(), &format!("{error:#}"))),
        }
    }
    if refused.is_empty() { Ok(()) } else { bail!(refused.join("\n  ")) }
}

/// Some sentences begin with the name already.
fn named(name: &Name, sentence: &str) -> String {
    let prefix = format!("{name}: ");
    if sentence.starts_with(&prefix) { sentence.to_owned() } else { prefix + sentence }
}

fn upgrade_one(group: &GroupDir) -> Result<String> {
    let name = group.name();
    let program = own_program().context("asking where this program is")?;
    let program = program.to_str().context("this program has a path that is no text")?.to_owned();
    let mut progress = Progress::new(name.as_str());
    let before: Info = ask(group, &Request::Info {}, |_| ())?;
    let version: String =
        ask(group, &Request::Upgrade { program }, |text| progress.show(text, 0, 0))?;
    let began = Instant::now();
    // It has hung up: whoever answers from now on is the successor, and has the devices.
    wait_for_successor(group, &mut progress)?;
    progress.clear();
    Ok(format!(
        "{name}: version {version} goes on where {} was, after {} ms\n",
        before.version,
        began.elapsed().as_millis()
    ))
}

fn wait_for_successor(group: &GroupDir, progress: &mut Progress) -> Result<()> {
    let began = Instant::now();
    let mut dead_since = None;
    loop {
        if let Ok(daemon) = Client::connect(&group.socket())
            && daemon.ask::<Info>(&Request::Info {}, |_| ()).is_ok()
        {
            return Ok(());
        }
        match group.tenant()? {
            Tenant::Alive(_) => dead_since = None,
            // A service manager may be about to start it again.
            Tenant::Gone | Tenant::Nobody => {
                if dead_since.get_or_insert_with(Instant::now).elapsed() > RESTART_LIMIT {
                    return Err(gone(group));
                }
            }
        }
        if began.elapsed() > SUCCESSOR_LIMIT {
            bail!(
                "it has begun, but serves nothing yet after {} s; its log lines say more",
                SUCCESSOR_LIMIT.as_secs()
            );
        }
        progress.show("waiting for its successor", 0, 0);
        thread::sleep(PAUSE);
    }
}

/// What a unit's RestartSec= is, and more.
const RESTART_LIMIT: Duration = Duration::from_secs(5);
/// Longer than a log takes to be read.
const SUCCESSOR_LIMIT: Duration = Duration::from_secs(180);
const PAUSE: Duration = Duration::from_millis(10);
