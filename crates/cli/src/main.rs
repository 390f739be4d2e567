//! The `replicator` command: dmsetup-shaped verbs, and the daemon that serves the devices.
//!
//! It promises: an error is one sentence on standard error that says what was expected, what
//! was found and what to do; what failed left nothing half made; the exit status is 0 when
//! everything asked for is done, 2 for a command line that is wrong, else 1.
//!
//! Called `ublk.replicator`, it is what ublksrv's `ublk` starts for devices of that type.

#![forbid(unsafe_code)]

mod args;
mod commands;
mod control;
mod daemon;
mod events;
mod helper;
mod links;
mod logging;
mod metrics;
mod output;
mod pages;
mod ranges;
mod runtime;
mod tables;
mod top;
mod ublk;
mod udev;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    if helper::is_asked_for() {
        return helper::serve();
    }
    if ublk::is_asked_for() {
        return ublk::run();
    }
    let ended = commands::run(args::Arguments::parse());
    // A daemon's last words are written by another thread.
    log::logger().flush();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<commands::Told>() => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("replicator: {error:#}");
            ExitCode::FAILURE
        }
    }
}
