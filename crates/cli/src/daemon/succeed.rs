//! An upgrade, seen from the program that comes: it looks whether it can go on, and goes on, in the
//! process that another program served in a moment ago. See `upgrade`.

use std::io;

use anyhow::{Context, Result};
use blk::{Errno, Sector, Sectors};
use replog::tools::{LogReader, can_follow};
use rustix::process::{WaitOptions, wait};
use ublk_target::Ublk;
use ublk_target::process::given_descriptor;
use uring::{Access, Disk, OpenSpec};

use super::disks::path_of;
use super::job::{Job, Report, Takeover, ToParent};
use super::process::{Manner, go_on};
use crate::args::DaemonArgs;
use crate::runtime::{GroupDir, KeptFile, Name, RuntimeDir};
use crate::tables::{self, Replicator};

/// Goes on with what the program before had; or only says whether that could be.
pub(crate) fn succeed(args: &DaemonArgs, name: &Name, verbose: u8) -> Result<()> {
    if args.check {
        return say(look(name));
    }
    // First, while nobody else can have that number.
    let lock = given_descriptor(args.lock.unwrap_or(-1))
        .with_context(|| format!("{name}: expected the descriptor of its lock"))?;
    let group = RuntimeDir::open()?.group(name);
    let lock = group.inherit(lock)?;
    // The program was started by its descriptor's number.
    let _ = std::fs::write("/proc/self/comm", "replicator");
    take_leave_of_helpers();
    let manner = Manner::new(args.foreground, verbose);
    let job = table_of(&group).map(|table| Job {
        name: name.to_string(),
        table: table.text,
        takeover: Takeover::Must,
        only: None,
        require_all: false,
        verbose,
    });
    let ended = job.and_then(|job| go_on(&job, group.clone(), lock, &manner));
    if let Err(error) = &ended {
        // Nobody waits for this process: it is told to those who ask later.
        let _ = group.write_last_error(&format!("{error:#}"));
    }
    ended
}

fn say(able: Result<()>) -> Result<()> {
    let report = match &able {
        Ok(()) => Report::Able { version: env!("CARGO_PKG_VERSION").to_owned() },
        Err(error) => Report::Failed(format!("{error:#}")),
    };
    ToParent(io::stdout()).send(&report)?;
    able
}

/// Whether this program knows what the one that serves now would leave: its state, its table, the
/// driver, the log's format. Nothing is opened but to look.
fn look(name: &Name) -> Result<()> {
    let group = RuntimeDir::open()?.group(name);
    group.state()?.context("its daemon has no state")?;
    let log = table_of(&group)?.group.table.log;
    Ublk::probe()?;
    let kept = KeptFile::of(name).read()?;
    if kept.as_deref().is_some_and(replicator::is_bypassed) {
        return Ok(());
    }
    let path = path_of(&log.path);
    let look = OpenSpec { access: Access::Look, ..OpenSpec::default() };
    let what = || format!("the log {}", path.display());
    let disk = Disk::open(&path, &look).with_context(what)?;
    can_follow(&mut Looked(&disk), log.start).with_context(what)
}

fn table_of(group: &GroupDir) -> Result<Replicator> {
    let left = tables::left_in(group).context("the table of its daemon")?;
    left.context("its daemon has no table")
}

/// Those of the program before have nobody else who does, and most have ended with it.
fn take_leave_of_helpers() {
    while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
}

/// A disk with a log that is only to be looked at.
pub(super) struct Looked<'a>(pub(super) &'a Disk);

impl LogReader for Looked<'_> {
    fn read(&mut self, sector: Sector, buf: &mut [u8]) -> Result<(), Errno> {
        let read = self.0.pread(sector, Sectors::from_bytes(buf.len() as u64));
        buf.copy_from_slice(&read.map_err(|it| it.raw_os_error().map_or(Errno::EIO, Errno))?);
        Ok(())
    }
}
