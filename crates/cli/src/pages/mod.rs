//! Man pages, completions and the page on commands: made of the command line that clap knows and
//! of the documents, so that there is one source of each.

mod commands;
mod roff;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use clap::{Command, CommandFactory};
use clap_complete::{Generator, Shell};

use crate::args::{Arguments, PagesArgs};

/// A man page, and the document that it is made of.
struct ManPage {
    document: &'static str,
    name: &'static str,
    section: u8,
    /// What it is, in a few words.
    about: &'static str,
}

const MAN_PAGES: [ManPage; 12] = [
    page(
        "commands.md",
        "replicator",
        8,
        "replicate block devices in order, to local and remote sites",
    ),
    page("table.md", "replicator.table", 5, "which logs, sites, devices and disks there are"),
    page(
        "concepts.md",
        "replicator-concepts",
        7,
        "the parts, a write's way, what one can count on",
    ),
    page(
        "operations.md",
        "replicator-operations",
        7,
        "copies, outages, failed disks, changes in use",
    ),
    page("failover.md", "replicator-failover", 7, "to go on at the other site, and back"),
    page("linux.md", "replicator-linux", 7, "with udev and systemd, and in /etc/fstab"),
    page("transports.md", "replicator-transports", 7, "remote disks over NVMe/TCP, iSCSI, NBD"),
    page("messages.md", "replicator-messages", 7, "what can be said to a replicator in use"),
    page("ublk.md", "ublk.replicator", 8, "replicators by ublk add of ublksrv"),
    page("status.md", "replicator-status", 7, "every field of replicator status"),
    page("monitoring.md", "replicator-monitoring", 7, "top, events, and metrics for Prometheus"),
    page("troubleshooting.md", "replicator-troubleshooting", 7, "every sentence of replicator why"),
];

const fn page(
    document: &'static str,
    name: &'static str,
    section: u8,
    about: &'static str,
) -> ManPage {
    ManPage { document, name, section, about }
}

/// Writes all of them.
pub(crate) fn write(args: &PagesArgs) -> Result<()> {
    for page in &MAN_PAGES {
        let path = args.docs.join(page.document);
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let name = format!("{}.{}", page.name, page.section);
        keep(&args.to.join("man"), &name, roff::page(page, &text).as_bytes())?;
    }
    let completions = args.to.join("completions");
    // For whoever changed a verb: what `docs/commands.md` has to say then.
    keep(&args.to, "verbs.md", commands::sections(shown()).as_bytes())?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        keep(&completions, &shell.file_name("replicator"), &completion(shell))?;
    }
    Ok(())
}

fn keep(directory: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    let path = directory.join(name);
    fs::write(&path, bytes).with_context(|| path.display().to_string())
}

fn completion(shell: Shell) -> Vec<u8> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut shown(), "replicator", &mut text);
    text
}

/// The command line without what is not for people.
fn shown() -> Command {
    let all = Arguments::command();
    let shown = all.get_subcommands().filter(|verb| !verb.is_hide_set()).cloned();
    let about = all.get_about().cloned().unwrap_or_default();
    Command::new("replicator")
        .about(about)
        .version(env!("CARGO_PKG_VERSION"))
        .disable_help_subcommand(true)
        .args(all.get_arguments().cloned())
        .subcommands(shown)
}

#[cfg(test)]
mod tests;
