//! The start: from a job to devices that are usable, or to nothing at all.
//!
//! 1. what a dead daemon left, the disks, the plan, the driver: whatever can be wrong
//! 2. the engine: the log is opened, recovered or created
//! 3. the devices: each is made or taken over, recorded, then started, then linked
//! 4. the control socket
//!
//! What fails is undone from where it stands. Only two things stay: a log that was created
//! (it is valid and empty: `auto` and `open` go on with it), and devices that wait for a
//! successor of a dead daemon: they are as they were, and it can be tried again.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use replicator::{Note, Plan, why};
use replog::format::kept::Kept;
use replog::tools::uuid;
use table::{Group, Mode};
use ublk_target::Ublk;

use super::disks::{Disks, Waits};
use super::drive::Drive;
use super::job::{Job, ReadyDevice, Reporter};
use super::orders::Desk;
use super::served::{Daemon, Shape};
use super::succeed::Looked;
use super::takeover::{Left, as_left, finish_rename, inheritance};
use crate::helper;
use crate::links::Links;
use crate::runtime::{DeviceState, GroupDir, KeptFile, Lock, RuntimeDir};
use crate::tables;

/// Starts what the job asks for; the name's lock is held already.
pub(super) fn start(
    job: &Job,
    dir: GroupDir,
    lock: Lock,
    desk: &Desk,
    reporter: &mut impl Reporter,
) -> Result<Daemon> {
    let inherited = inheritance(job, &dir)?;
    let fresh = inherited.waiting.is_empty();
    let left = if fresh { None } else { Some(as_left(job, &dir)?) };
    let job = left.as_ref().unwrap_or(job);
    let (drive, shape, table) = match open(job, &dir, fresh, desk, reporter) {
        Ok(opened) => opened,
        Err(error) => {
            if fresh {
                log_failure(dir.clear(lock));
            }
            return Err(error);
        }
    };
    let mut daemon = Daemon::new(dir, lock, table, drive, shape);
    // A signal until here just ends the process; from here on there are devices to think of.
    match desk
        .watch_signals()
        .and_then(|()| serve_devices(&mut daemon, job, inherited, reporter))
        .and_then(|()| daemon.listen(desk.clone()))
        .and_then(|()| reporter.ready(daemon.states().iter().map(ready).collect()))
    {
        Ok(()) => {
            let how = if fresh { "started" } else { "recovered" };
            let devices = daemon.states().len();
            log::info!("{}: {how}, {devices} devices", job.name);
            daemon.drive.note(if fresh {
                Note::Started(devices)
            } else {
                Note::Recovered(devices)
            })?;
            Ok(daemon)
        }
        Err(error) => {
            if fresh {
                log_failure(daemon.undo());
            }
            Err(error)
        }
    }
}

/// Opens the disks and the log: from here on the replicator runs, without devices.
fn open(
    job: &Job,
    dir: &GroupDir,
    fresh: bool,
    desk: &Desk,
    reporter: &mut impl Reporter,
) -> Result<(Drive, Shape, Group)> {
    let table = tables::from_text(&job.table)?.group;
    let mut group = table.clone();
    check_links(&group)?;
    if !fresh {
        // The dead daemon made the log, if the table asked for that.
        (group.table.log.mode, group.table.log.size) = (Mode::Open, None);
    }
    reporter.progress("opening its devices", 0, 0)?;
    let waits = if fresh { Waits::FRESH } else { Waits::RECOVERY };
    let kept = KeptFile::of(&job.name.parse()?);
    let claims = RuntimeDir::open()?.claims(dir.name());
    let (disks, plan) =
        Disks::open(&group, waits, Some(helper::program()), Some(claims), kept.read()?)?;
    if fresh {
        check_other_names(&kept, &disks, &plan)?;
    }
    if job.require_all {
        disks.require_all()?;
    }
    let tells_of_growth = Ublk::probe()?.tells_of_growth();
    for sentence in disks.missing() {
        reporter.notice(&sentence)?;
    }
    let rotational = disks.any_rotational();
    let drive = Drive::start(plan, disks, kept, desk.listener())?;
    let running =
        drive.wait_until_running(|step, done, total| reporter.progress(step, done, total));
    // Who takes devices over has users who wait already, for as long as it takes (P6).
    match running.and_then(|()| if fresh { require_copy(&drive) } else { Ok(()) }) {
        Ok(()) => {
            if !fresh {
                go_on_resizing(&drive, &group, &table);
            }
            let request_max = drive.request_max()?;
            let group = drive.group()?;
            let shape = Shape { rotational, request_max, group, tells_of_growth };
            Ok((drive, shape, table))
        }
        Err(error) => {
            drive.end();
            Err(error)
        }
    }
}

/// P8: what is to be known of a log went with its replicator to another name; by the name in an older table it would not
/// be looked for.
fn check_other_names(kept: &KeptFile, disks: &Disks, plan: &Plan) -> Result<()> {
    let log = disks.open.iter().find(|(id, _)| *id == plan.log.disk.id);
    let Some(found) = log.and_then(|(_, disk)| uuid(&mut Looked(disk), plan.log.table.start))
    else {
        return Ok(());
    };
    for (name, bytes) in kept.others()? {
        if Kept::decode(&bytes).is_ok_and(|kept| kept.is_about(found)) {
            bail!(
                "the log {} is known to this host as one of the replicator {name}, which has another by now or had to go on \
                 without it: name the replicator so, and its log; or, if that is not to come again, remove {name}.log from the \
                 state directory",
                plan.log.disk.path
            );
        }
    }
    Ok(())
}

/// A device of which no copy can be read keeps even those waiting who make it: the kernel looks for
/// partitions on it.
fn require_copy(drive: &Drive) -> Result<()> {
    let deadline = Instant::now() + COPY_LIMIT;
    loop {
        let status = drive.view().status()?;
        if status.log.as_ref().is_some_and(|log| log.reads_from.is_some()) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let why: Vec<String> = why(&status).iter().map(ToString::to_string).collect();
            bail!("no complete copy of the devices can be read:\n  {}", why.join("\n  "));
        }
        thread::sleep(POLL);
    }
}

/// Makes or takes over every device.
fn serve_devices(
    daemon: &mut Daemon,
    job: &Job,
    inherited: Left,
    reporter: &mut impl Reporter,
) -> Result<()> {
    if !inherited.waiting.is_empty() {
        finish_rename(&daemon.dir)?;
    }
    daemon.dir.write_table(&job.table)?;
    let withheld = withheld(daemon, job, &inherited)?;
    inherited.hide(&inherited.deleted)?;
    daemon.inherit(inherited.waiting, withheld)?;
    let mut devices = daemon.drive.plan()?.devices;
    devices.retain(|device| !daemon.withholds(device.nr));
    for device in &devices {
        reporter.progress("starting its devices", 0, 0)?;
        let wish = job.only.clone().filter(|wish| wish.device == device.name);
        daemon
            .serve_as(device, &wish.unwrap_or_default())
            .with_context(|| format!("device {}", device.name))?;
    }
    Ok(())
}

/// The devices that nobody is to be given: all but the one that is asked for; or those that nobody
/// had of the daemon before, or somebody has deleted since.
fn withheld(daemon: &Daemon, job: &Job, inherited: &Left) -> Result<BTreeSet<u32>> {
    if !inherited.waiting.is_empty() {
        let deleted = inherited.deleted.iter().map(|it| it.nr);
        return Ok(inherited.withheld.iter().copied().chain(deleted).collect());
    }
    let Some(wish) = &job.only else { return Ok(BTreeSet::new()) };
    let others = daemon.drive.plan()?.devices.into_iter().filter(|it| it.name != wish.device);
    Ok(others.map(|it| it.nr.0).collect())
}

/// What the dead daemon was asked for, and had not done yet, is in its table only.
fn go_on_resizing(drive: &Drive, opened: &Group, table: &Group) {
    let reload = |newcomers| drive.reload(table.clone(), newcomers);
    if let Err(refusal) = drive.newcomers(opened, table).and_then(reload) {
        log::warn!("the log keeps its size: {refusal:#}");
    }
}

fn ready(device: &DeviceState) -> ReadyDevice {
    ReadyDevice { name: device.name.clone(), path: device.path(), ublk: device.ublk }
}

fn check_links(group: &Group) -> Result<()> {
    let links = Links::of_host();
    group.devices.iter().try_for_each(|device| links.check(&device.name))
}

/// The error that made it necessary is the one to be told.
fn log_failure(undone: Result<()>) {
    if let Err(error) = undone {
        log::error!("undoing a start that failed: {error:#}");
    }
}

/// How long a fresh start waits for a copy that can be read, and how often it looks.
const COPY_LIMIT: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(5);
