//! This program as `ublk.replicator`, which ublksrv's `ublk` starts for `ublk add -t replicator`
//! and `ublk recover`.
//!
//! It stands beside the `ublk` program under that name. It is given the command line as it was
//! typed, and a pipe; standard streams are closed. When the device can be used, and not before, the
//! number of it plus one goes into the pipe; else a number that no device has. What went wrong
//! nobody reads from here: it is told to the host's log, and kept in the runtime directory.

mod args;

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use ublk_target::process;

use args::Asked;

use crate::commands;
use crate::logging;
use crate::output::print;
use crate::runtime::{RuntimeDir, TYPE};

/// Whether this process is to be that program: by the name it was called.
pub(crate) fn is_asked_for() -> bool {
    std::env::args_os().next().is_some_and(|name| is_its_name(&name))
}

fn is_its_name(called: &OsStr) -> bool {
    let file = Path::new(called).file_name().unwrap_or_default().as_bytes();
    file.strip_suffix(TYPE.as_bytes()).is_some_and(|front| front == b"ublk.")
}

/// Does what the command line says.
pub(crate) fn run() -> ExitCode {
    let words: Vec<String> =
        std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let caller = Caller::of(&words);
    let done = args::parse(&words).map_err(anyhow::Error::msg).and_then(|asked| obey(&asked));
    let told = match &caller {
        Ok(caller) => caller.tell(done.as_ref().ok().copied().flatten()),
        Err(_) => Ok(()),
    };
    let ended = done.and_then(|id| caller.and(told).map(|()| id));
    if !matches!(ended, Ok(None)) {
        keep(ended.as_ref().err());
    }
    match ended {
        Ok(_) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// The number of the device that can be used now; none if nothing but words were asked for.
fn obey(asked: &Asked) -> Result<Option<u32>> {
    let runtime = || RuntimeDir::open();
    match asked {
        Asked::Help => print(args::HELP).map(|()| None),
        Asked::Add { table, wish } => commands::add(table, wish.clone(), &runtime()?).map(Some),
        Asked::Recover { ublk } => commands::recover_device(*ublk, &runtime()?).map(Some),
    }
}

/// Tells why it failed to all who may ask later; if it did not, forgets why an earlier one did.
fn keep(error: Option<&anyhow::Error>) {
    let sentence = error.map(|error| format!("{error:#}"));
    if let Some(sentence) = &sentence {
        eprintln!("ublk.{TYPE}: {sentence}");
        logging::say_once("ublk.replicator", sentence);
    }
    // Who may not even look at the directory has heard of that above.
    let _ = RuntimeDir::open().and_then(|it| it.write_front_end_error(sentence.as_deref()));
}

/// Who waits for the number of a device; nobody if a person typed the command.
struct Caller(Option<File>);

impl Caller {
    fn of(words: &[String]) -> Result<Self> {
        // A daemon that had the pipe open, too, would keep whoever waits for its end.
        process::keep_descriptors_to_itself().context("keeping the caller's pipe from others")?;
        let Some(number) = args::descriptor(words) else { return Ok(Self(None)) };
        let pipe = process::given_descriptor(number)
            .with_context(|| format!("--eventfd {number}: expected an open descriptor"))?;
        Ok(Self(Some(pipe)))
    }

    fn tell(&self, device: Option<u32>) -> Result<()> {
        let Some(pipe) = &self.0 else { return Ok(()) };
        // Of a pipe that takes all of it at once, and of an eventfd.
        let mut pipe: &File = pipe;
        pipe.write_all(&answer(device).to_ne_bytes())
            .context("nobody waits for the device any more")
    }
}

/// What `ublk` reads: it takes one from it, and asks the driver for that device.
fn answer(device: Option<u32>) -> u64 {
    device.map_or(NONE, |id| u64::from(id) + 1)
}

/// A device that there is not: -2, whose successor is taken for the number.
const NONE: u64 = u64::MAX - 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_known_by_its_name_wherever_it_is() {
        for name in ["ublk.replicator", "/usr/local/sbin/ublk.replicator", "./ublk.replicator"] {
            assert!(is_its_name(OsStr::new(name)), "{name}");
        }
        for name in ["replicator", "ublk", "ublk.replicator/x", "xublk.replicator", "ublk.loop", ""]
        {
            assert!(!is_its_name(OsStr::new(name)), "{name}");
        }
    }

    #[test]
    fn a_device_is_answered_with_its_number_plus_one_and_none_with_what_ublksrv_says() {
        assert_eq!(answer(Some(0)).to_le_bytes(), [1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(answer(Some(0xfffff)), 0x10_0000);
        assert_eq!(answer(None), 0xffff_ffff_ffff_fffe);
    }
}
