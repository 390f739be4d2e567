//! One file per family of verbs.

mod add;
mod control;
mod create;
mod differs;
mod dirty;
mod disks;
mod events;
mod find;
mod log;
mod mark;
mod metrics;
mod query;
mod reload;
mod remove;
mod rename;
mod report;
mod top;
mod upgrade;
mod wait;
mod why;

pub(crate) use add::{add, recover_device};
pub(crate) use why::Told;

use anyhow::Result;

use crate::args::{Arguments, Command};
use crate::daemon;
use crate::pages;
use crate::runtime::RuntimeDir;

/// Does what the command line asks for.
pub(crate) fn run(arguments: Arguments) -> Result<()> {
    let verbose = arguments.verbose;
    match arguments.command {
        Command::Targets => report::targets(verbose),
        Command::Version => report::version(),
        Command::Log(command) => log::log(&command),
        Command::Dirty(command) => dirty::dirty(&command),
        Command::Mark(command) => mark::mark(&command),
        Command::Daemon(args) => match &args.succeed {
            Some(name) => daemon::succeed(&args, name, verbose),
            None => daemon::serve_job(),
        },
        Command::Pages(args) => pages::write(&args),
        command => on_host(command, verbose, &RuntimeDir::open()?),
    }
}

/// The verbs that need the runtime directory, and so root.
fn on_host(command: Command, verbose: u8, runtime: &RuntimeDir) -> Result<()> {
    match command {
        Command::Create(args) => create::create(&args, verbose, runtime),
        Command::Run(args) => create::run(&args, verbose, runtime),
        Command::Recover(args) => create::recover(&args, verbose, runtime),
        Command::Upgrade(args) => upgrade::upgrade(&args, runtime),
        Command::Reload(source) => reload::reload(&source, runtime),
        Command::Remove(args) => remove::remove(&args, runtime),
        Command::Rename(args) => rename::rename(&args, runtime),
        Command::Ls(args) => query::ls(&args, runtime),
        Command::Table(args) => query::table(&args, runtime),
        Command::Status(args) => query::status(&args, runtime),
        Command::Top(args) => top::top(&args, runtime),
        Command::Events(args) => events::events(&args, runtime),
        Command::Metrics(args) => metrics::metrics(&args, runtime),
        Command::Why(args) => why::why(&args, runtime),
        Command::Wait(args) => wait::wait(&args, runtime),
        Command::Suspend(args) => control::suspend(&args, runtime),
        Command::Resume(args) => control::resume(&args, runtime),
        Command::Message(args) => control::message(&args, runtime),
        Command::Differs(args) => differs::differs(&args, runtime),
        Command::Log(_)
        | Command::Dirty(_)
        | Command::Mark(_)
        | Command::Targets
        | Command::Version
        | Command::Daemon(_)
        | Command::Pages(_) => unreachable!("`run` has done it"),
    }
}
