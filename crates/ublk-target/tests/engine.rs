//! The drive loop with real disks and without a ublk device: order, time, inbox, end.

#![allow(clippy::unwrap_used, reason = "a test's answer to an error is to fail")]

use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use blk::{
    BufMut, DiskId, DiskOp, Effect, Errno, Event, Gather, IoId, IoOwner, Machine, ReqId, Sector,
    Sectors, Time,
};
use tempfile::TempDir;
use ublk_target::{Engine, EngineSpec, Keeper, Listener, Opener};
use uring::{Disk, OpenSpec, RingSpec};

/// Does what a test tells it, and tells the test what it gets.
struct Puppet {
    todo: Vec<Effect>,
    wakeup: Option<Time>,
    seen: Sender<Seen>,
}

#[derive(Debug)]
enum Seen {
    Done { nr: u64, result: Result<(), Errno>, bytes: Option<Vec<u8>> },
    Fetched(Result<(), Errno>),
    Woken(Time),
}

impl Machine for Puppet {
    fn handle(&mut self, _now: Time, event: Event) {
        self.seen
            .send(match event {
                Event::Done { io, result, buf } => {
                    Seen::Done { nr: io.nr, result, bytes: buf.map(|buf| buf.to_vec()) }
                }
                Event::Fetched { result, .. } => Seen::Fetched(result),
                Event::Request { .. } => panic!("there is no device"),
                Event::Opened { .. } | Event::Kept { .. } => panic!("no test here asks for it"),
            })
            .unwrap();
    }

    fn poll(&mut self, now: Time, effects: &mut Vec<Effect>) {
        effects.append(&mut self.todo);
        if self.wakeup.is_some_and(|at| at <= now) {
            self.wakeup = None;
            self.seen.send(Seen::Woken(now)).unwrap();
        }
    }

    fn wakeup(&self) -> Option<Time> {
        self.wakeup
    }
}

fn engine(disks: Vec<(DiskId, Disk)>) -> (Engine<Puppet>, Receiver<Seen>) {
    let (seen, seen_by_test) = channel();
    let spec = EngineSpec {
        name: "test".into(),
        disks,
        ring: RingSpec::default(),
        opener: Opener::default(),
        keeper: Keeper::default(),
        listener: Listener::default(),
    };
    let puppet = Puppet { todo: Vec::new(), wakeup: None, seen };
    (Engine::spawn(puppet, spec).unwrap(), seen_by_test)
}

fn submit(nr: u64, disk: u32, op: DiskOp) -> Effect {
    Effect::Submit { io: IoId { owner: IoOwner(0), nr }, disk: DiskId(disk), op }
}

fn next(seen: &Receiver<Seen>) -> Seen {
    seen.recv_timeout(Duration::from_secs(30)).unwrap()
}

fn disk(directory: &TempDir, name: &str) -> Disk {
    let path = directory.path().join(name);
    std::fs::File::create_new(&path).unwrap().set_len(1 << 20).unwrap();
    Disk::open(&path, &OpenSpec::default()).unwrap()
}

fn directory() -> TempDir {
    TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

#[test]
fn effects_become_io_and_io_becomes_events() {
    let directory = directory();
    let (engine, seen) = engine(vec![(DiskId(0), disk(&directory, "a"))]);
    let data = Gather::from_elem([7; 4096].as_slice().into(), 1);
    let write = DiskOp::Write { sector: Sector(8), data, fua: true };
    engine.handle().call(|puppet, _| puppet.todo.push(submit(1, 0, write))).unwrap();
    assert!(matches!(next(&seen), Seen::Done { nr: 1, result: Ok(()), bytes: None }));

    let read = DiskOp::Read { sector: Sector(8), buf: BufMut::zeroed(4096) };
    engine.handle().call(|puppet, _| puppet.todo.push(submit(2, 0, read))).unwrap();
    let Seen::Done { nr: 2, result: Ok(()), bytes: Some(bytes) } = next(&seen) else { panic!() };
    assert_eq!(bytes, [7; 4096]);
}

#[test]
fn a_machine_is_woken_when_it_asked_for_it_and_not_earlier() {
    let (engine, seen) = engine(Vec::new());
    let asked = engine
        .handle()
        .call(|puppet, now| {
            let at = now + Duration::from_millis(50);
            puppet.wakeup = Some(at);
            at
        })
        .unwrap();
    let Seen::Woken(at) = next(&seen) else { panic!() };
    assert!(at >= asked, "woken at {at:?}, asked for {asked:?}");
}

#[test]
fn calls_come_back_with_their_results_from_any_number_of_threads() {
    let (engine, _seen) = engine(Vec::new());
    std::thread::scope(|scope| {
        for thread in 0..8_u64 {
            let handle = engine.handle().clone();
            scope.spawn(move || {
                for i in 0..200 {
                    assert_eq!(
                        handle.call(move |_, _| thread * 1000 + i).unwrap(),
                        thread * 1000 + i
                    );
                }
            });
        }
    });
}

#[test]
fn disks_come_and_go_while_an_engine_runs() {
    let directory = directory();
    let (engine, seen) = engine(Vec::new());
    let flush = |nr| move |puppet: &mut Puppet, _| puppet.todo.push(submit(nr, 5, DiskOp::Flush));
    engine.handle().call(flush(1)).unwrap();
    assert!(matches!(next(&seen), Seen::Done { nr: 1, result: Err(Errno::ENODEV), .. }));
    engine.handle().add_disk(DiskId(5), disk(&directory, "late")).unwrap();
    engine.handle().call(flush(2)).unwrap();
    assert!(matches!(next(&seen), Seen::Done { nr: 2, result: Ok(()), .. }));
    let taken = engine.handle().remove_disk(DiskId(5)).unwrap().unwrap();
    assert!(taken.path().ends_with("late"));
    engine.handle().call(flush(3)).unwrap();
    assert!(matches!(next(&seen), Seen::Done { nr: 3, result: Err(Errno::ENODEV), .. }));
}

#[test]
fn effects_for_a_request_whose_device_is_gone_do_no_harm() {
    let (engine, seen) = engine(Vec::new());
    let req = ReqId(0x0001_0002_0000_0003);
    engine
        .handle()
        .call(move |puppet, _| {
            puppet.todo.push(Effect::Fetch { req, buf: BufMut::zeroed(512) });
            let data = blk::Data::Zeroes(Sectors(1));
            puppet.todo.push(Effect::Deliver { req, offset: Sectors(0), data });
            puppet.todo.push(Effect::Complete { req, result: Ok(()) });
        })
        .unwrap();
    assert!(matches!(next(&seen), Seen::Fetched(Err(Errno::ENODEV))));
    engine.handle().call(|_, _| ()).unwrap();
}

#[test]
fn an_engine_that_stops_ends_its_io_and_gives_its_machine_back() {
    let directory = directory();
    let (engine, seen) = engine(vec![(DiskId(0), disk(&directory, "a"))]);
    let handle = engine.handle().clone();
    handle
        .call(|puppet, _| puppet.todo.extend((0..100).map(|nr| submit(nr, 0, DiskOp::Flush))))
        .unwrap();
    let puppet = engine.stop();
    assert_eq!(seen.try_iter().count(), 100);
    assert!(puppet.todo.is_empty());
    assert!(handle.call(|_, _| ()).is_err());
}

#[test]
fn a_handle_outlives_its_engine_without_harm() {
    let (engine, _seen) = engine(Vec::new());
    let handle = engine.handle().clone();
    drop(engine.stop());
    assert_eq!(handle.call(|_, _| ()).unwrap_err().to_string(), "the engine has stopped");
    assert!(handle.remove_disk(DiskId(0)).is_err());
}

/// Runs this very test program again, as the process that is to end.
#[test]
fn a_machine_that_fails_ends_its_process() {
    if std::env::var_os(FAIL).is_some() {
        let (engine, _seen) = engine(Vec::new());
        let _ = engine.handle().call(|_, _| panic!("an invariant is broken"));
        std::thread::sleep(Duration::from_secs(60));
        return;
    }
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_machine_that_fails_ends_its_process"])
        .env(FAIL, "1")
        .output()
        .unwrap()
        .status;
    let signal = std::os::unix::process::ExitStatusExt::signal(&status);
    assert_eq!(signal, Some(6), "expected SIGABRT, found {status}");
}

const FAIL: &str = "UBLK_TARGET_TEST_FAILS";
