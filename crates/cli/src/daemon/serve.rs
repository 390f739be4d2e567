//! The daemon's life between its start and its end: orders, one after the other.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::PoisonError;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Error, Result, anyhow, ensure};
use blk::DevNr;
use replicator::{DeviceStatus, Note, Phase};
use serde_json::Value;

use super::drive::View;
use super::orders::{Ask, Desk, Order};
use super::process::Manner;
use super::relog;
use super::served::{Daemon, Shown};
use super::service::Service;
use super::stop;
use super::ublk::Rest;
use crate::control::{Info, InfoDevice, Replies, Reply, Request, StatusReply, TableLine};
use crate::runtime::DeviceState;
use crate::tables;

/// Carries out orders until one of them, or a failure, ends the daemon.
pub(super) fn serve(
    mut daemon: Daemon,
    orders: &Receiver<Order>,
    manner: &Manner,
    service: &Service,
) -> Result<()> {
    loop {
        match orders.recv_timeout(WATCH_PAUSE) {
            Ok(Order::Ask(ask)) => match obey(daemon, ask, manner, service) {
                ControlFlow::Continue(alive) => daemon = alive,
                ControlFlow::Break(ended) => return ended,
            },
            Ok(Order::Signal(name)) => {
                note(&daemon, Note::Stopping(name.to_owned()));
                service.stopping();
                return stop::on_signal(daemon, manner.limit);
            }
            Ok(Order::Released(released)) => {
                if daemon.let_go_of(released) == Rest::Nothing {
                    return stop::without_devices(daemon, manner.limit);
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                watch(&daemon)?;
                daemon.delete_what_others_stopped(DELETION_PAUSE);
            }
            Err(RecvTimeoutError::Disconnected) => unreachable!("the control threads hold a desk"),
        }
    }
}

/// Does what a caller asks for; the daemon goes on, or has ended.
fn obey(
    mut daemon: Daemon,
    ask: Ask,
    manner: &Manner,
    service: &Service,
) -> ControlFlow<Result<()>, Daemon> {
    note(&daemon, Note::Asked(in_words(&ask.request)));
    match ask.request.clone() {
        Request::Remove { drain, force, limit_ms } => {
            let limit = Duration::from_millis(limit_ms);
            remove(daemon, ask, stop::Terms { drain, force, limit })
        }
        Request::Upgrade { program } => {
            service.upgrading();
            upgrade(daemon, ask, Path::new(&program), manner)
        }
        Request::Rename { device: None, to } => {
            let renamed = rename(&mut daemon, &to, manner, service);
            note_refusal(&daemon, renamed.as_ref().err());
            ask.finish(reply(renamed.map(|()| Value::Null)));
            ControlFlow::Continue(daemon)
        }
        request => {
            let answer = answer(&mut daemon, &ask, request);
            note_refusal(&daemon, answer.as_ref().err());
            ask.finish(reply(answer));
            ControlFlow::Continue(daemon)
        }
    }
}

/// A refusal leaves everything as it was; behind it there is no way back.
fn remove(mut daemon: Daemon, ask: Ask, terms: stop::Terms) -> ControlFlow<Result<()>, Daemon> {
    match stop::take_devices_away(&mut daemon, &terms, |text| ask.progress(text)) {
        Ok(()) => {
            let ended = daemon.end(terms.drain);
            ask.finish(reply(ended.as_ref().map(|()| Value::Null).map_err(|it| anyhow!("{it:#}"))));
            ControlFlow::Break(ended)
        }
        Err(refusal) => {
            note_refusal(&daemon, Some(&refusal));
            ask.finish(reply(Err(refusal)));
            ControlFlow::Continue(daemon)
        }
    }
}

/// The same: whoever was told the version reaches nobody here any more.
fn upgrade(
    daemon: Daemon,
    ask: Ask,
    program: &Path,
    manner: &Manner,
) -> ControlFlow<Result<()>, Daemon> {
    let successor = daemon.successor(program).and_then(|it| daemon.dir.hang_up().map(|()| it));
    match successor {
        Ok(successor) => {
            ask.finish(Reply::Ok(successor.version.clone().into()));
            ControlFlow::Break(Err(daemon.become_successor(&successor, manner)))
        }
        Err(refusal) => {
            ask.finish(reply(Err(refusal)));
            ControlFlow::Continue(daemon)
        }
    }
}

/// Gives the replicator another name, by which whoever would start it again must know it.
fn rename(daemon: &mut Daemon, to: &str, manner: &Manner, service: &Service) -> Result<()> {
    ensure!(
        !service.is_there(),
        "nothing was changed: it is a service, which would be started again by its old name; stop that, give its table \
         the other name, and start it by that"
    );
    daemon.rename(None, to)?;
    manner.follow(&daemon.dir);
    Ok(())
}

/// What is asked for, and what comes of it, stands among the events in the order in which it
/// happens.
fn note(daemon: &Daemon, what: Note) {
    log::info!("{what}");
    if let Err(error) = daemon.drive.note(what) {
        log::debug!("it is not among the events: {error:#}");
    }
}

fn note_refusal(daemon: &Daemon, refusal: Option<&Error>) {
    if let Some(refusal) = refusal {
        note(daemon, Note::Refused(format!("{refusal:#}")));
    }
}

/// A request as one could have typed it.
fn in_words(request: &Request) -> String {
    let of = |verb: &str, device: &Option<String>| match device {
        Some(device) => format!("{verb} {device}"),
        None => verb.to_owned(),
    };
    match request {
        Request::Suspend { device, .. } => of("suspend", device),
        Request::Resume { device } => of("resume", device),
        Request::Message { device, words } => {
            format!("{} {}", of("message", device), words.join(" "))
        }
        Request::Add { wish, .. } => format!("ublk add {}", wish.device),
        Request::Reload { .. } => "reload".to_owned(),
        Request::Remove { force: true, .. } => "remove --force".to_owned(),
        Request::Remove { .. } => "remove".to_owned(),
        Request::Rename { device, to } => format!("{} to {to}", of("rename", device)),
        Request::Upgrade { .. } => "upgrade".to_owned(),
        Request::Info {} | Request::Status {} | Request::Events { .. } => "a look".to_owned(),
    }
}

fn reply(result: Result<Value>) -> Reply {
    result.map_or_else(|error| Reply::Error(format!("{error:#}")), Reply::Ok)
}

/// Answers callers who only look, on their own threads, and passes the others on.
pub(super) fn receive(
    desk: &Desk,
    view: &View,
    devices: &Shown,
    request: Request,
    replies: &mut Replies<'_>,
) {
    let looked = match request {
        Request::Info {} => {
            let devices = devices.lock().unwrap_or_else(PoisonError::into_inner).clone();
            info(view, &devices)
        }
        Request::Status {} => status(view),
        Request::Events { since } => {
            view.events(since).and_then(|it| Ok(serde_json::to_value(it)?))
        }
        Request::Suspend { .. }
        | Request::Resume { .. }
        | Request::Message { .. }
        | Request::Add { .. }
        | Request::Reload { .. }
        | Request::Rename { .. }
        | Request::Upgrade { .. }
        | Request::Remove { .. } => return desk.pass(request, replies),
    };
    replies.send(&reply(looked));
}

fn answer(daemon: &mut Daemon, ask: &Ask, request: Request) -> Result<Value> {
    match request {
        Request::Suspend { device, wait } => {
            let dev = number(daemon, device)?;
            daemon.drive.suspend(dev)?;
            daemon.tell_udev_who_is_suspended()?;
            if wait {
                wait_until_quiet(daemon, ask, dev)?;
            }
            Ok(Value::Null)
        }
        Request::Resume { device } => {
            daemon.drive.resume(number(daemon, device)?)?;
            daemon.tell_udev_who_is_suspended()?;
            Ok(Value::Null)
        }
        Request::Message { device: None, words } if relog::is_it(&words) => {
            Ok(Value::String(relog::replace_log(daemon, ask, &words)?))
        }
        Request::Message { device, words } => {
            let dev = number(daemon, device)?;
            let said = daemon.message(dev, words)?;
            daemon.tell_udev_who_is_suspended()?;
            Ok(Value::String(said))
        }
        Request::Add { table, wish } => {
            Ok(daemon.give(&tables::from_text(&table)?.group, &wish)?.into())
        }
        Request::Reload { table } => {
            Ok(serde_json::to_value(daemon.reload(&tables::from_text(&table)?.group)?)?)
        }
        Request::Rename { device, to } => {
            daemon.rename(number(daemon, device)?, &to)?;
            Ok(Value::Null)
        }
        Request::Info {}
        | Request::Status {}
        | Request::Events { .. }
        | Request::Upgrade { .. }
        | Request::Remove { .. } => {
            unreachable!("others answer these")
        }
    }
}

fn wait_until_quiet(daemon: &Daemon, ask: &Ask, dev: Option<DevNr>) -> Result<()> {
    let began = Instant::now();
    while !daemon.drive.view().is_suspended(dev)? {
        ensure!(
            began.elapsed() < QUIET_LIMIT,
            "new requests are held back, but some are still in flight after {} s; \
             `resume` lets them all go on",
            QUIET_LIMIT.as_secs()
        );
        ask.progress("waiting for requests in flight");
        std::thread::sleep(QUIET_PAUSE);
    }
    Ok(())
}

/// The number of a device; a device that was named is one of this daemon's.
fn number(daemon: &Daemon, device: Option<String>) -> Result<Option<DevNr>> {
    let Some(name) = device else { return Ok(None) };
    let found = daemon.states().iter().find(|it| it.name == name);
    let found =
        found.ok_or_else(|| anyhow!("expected a device of this replicator, found {name}"))?;
    Ok(Some(DevNr(found.nr)))
}

fn info(view: &View, devices: &[DeviceState]) -> Result<Value> {
    let phase = view.phase()?;
    let mut state = match phase {
        Phase::Opening { .. } => "opening",
        Phase::Running => "running",
        Phase::Stopping => "stopping",
        Phase::Stopped => "stopped",
        Phase::Failed(_) => "failed",
    };
    let mut infos = Vec::new();
    for it in devices {
        let suspended = view.is_suspended(Some(DevNr(it.nr)))?;
        infos.push(InfoDevice { name: it.name.clone(), path: it.path(), suspended });
    }
    if state == "running" && !infos.is_empty() && infos.iter().all(|it| it.suspended) {
        state = "suspended";
    }
    Ok(serde_json::to_value(Info {
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        state: state.to_owned(),
        devices: infos,
    })?)
}

fn status(view: &View) -> Result<Value> {
    let status = view.status()?;
    let replicator = TableLine {
        name: status.name.clone(),
        start: 0,
        len: 1,
        target: "replicator".into(),
        text: status.replicator_line(),
    };
    let device = |it: &DeviceStatus| TableLine {
        name: it.name.clone(),
        start: 0,
        len: it.sectors,
        target: "replicator-dev".into(),
        text: status.device_line(it),
    };
    let lines = std::iter::once(replicator).chain(status.devices.iter().map(device)).collect();
    let detail = serde_json::to_value(&status)?;
    Ok(serde_json::to_value(StatusReply { lines, detail })?)
}

/// A replicator that failed is left as it is: its devices wait for `recover`.
fn watch(daemon: &Daemon) -> Result<()> {
    let failure = match daemon.drive.view().phase() {
        Ok(Phase::Failed(error)) => error.to_string(),
        Ok(_) => return Ok(()),
        Err(gone) => gone.to_string(),
    };
    log::error!("{failure}");
    daemon.dir.write_last_error(&failure)?;
    Err(anyhow!(failure))
}

/// How long somebody who stopped a device may take to delete it; then it is done for him.
const DELETION_PAUSE: Duration = Duration::from_secs(10);

/// How often the engine is looked at when nobody asks for anything.
const WATCH_PAUSE: Duration = Duration::from_secs(1);

/// How long requests in flight may take before `suspend` says that they hang.
const QUIET_LIMIT: Duration = Duration::from_secs(60);
const QUIET_PAUSE: Duration = Duration::from_millis(20);
