//! Disks that go, come back, are taken or hang, while an engine runs.

#![allow(clippy::unwrap_used, reason = "a test's answer to an error is to fail")]

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use blk::{
    DiskId, DiskOp, DiskSeen, Effect, Errno, Event, IoId, IoOwner, Machine, NotOpened, Sectors,
    Time,
};
use tempfile::TempDir;
use ublk_target::{Engine, EngineSpec, Keeper, Listener, Opener};
use uring::{Disk, OpenSpec, RingSpec};

/// Asks for what a test tells it, and tells the test what it hears.
struct Asker {
    todo: Vec<Effect>,
    heard: Sender<Heard>,
}

#[derive(Debug, PartialEq)]
enum Heard {
    Done(u64, Result<(), Errno>),
    Opened(DiskId, Result<DiskSeen, NotOpened>),
    Kept(Result<(), Errno>),
}

impl Machine for Asker {
    fn handle(&mut self, _now: Time, event: Event) {
        let heard = match event {
            Event::Done { io, result, .. } => Heard::Done(io.nr, result),
            Event::Opened { disk, result } => Heard::Opened(disk, result),
            Event::Kept { result } => Heard::Kept(result),
            Event::Request { .. } | Event::Fetched { .. } => panic!("there is no device"),
        };
        self.heard.send(heard).unwrap();
    }

    fn poll(&mut self, _now: Time, effects: &mut Vec<Effect>) {
        effects.append(&mut self.todo);
    }

    fn wakeup(&self) -> Option<Time> {
        None
    }
}

struct Rig {
    engine: Engine<Asker>,
    heard: Receiver<Heard>,
}

impl Rig {
    fn new(disks: Vec<(DiskId, Disk)>, opener: Opener) -> Self {
        let (sender, heard) = channel();
        let (ring, keeper) = (RingSpec::default(), Keeper::default());
        let spec = EngineSpec {
            name: "test".into(),
            disks,
            ring,
            opener,
            keeper,
            listener: Listener::default(),
        };
        let asker = Asker { todo: Vec::new(), heard: sender };
        Self { engine: Engine::spawn(asker, spec).unwrap(), heard }
    }

    /// A rig whose disk [`DISK`] is the file at `path`, open if it is there.
    fn on_file(path: PathBuf) -> Self {
        let open = move |_| Ok(Disk::open(&path, &OpenSpec::default())?);
        let disks = open(DISK).map(|disk| (DISK, disk)).into_iter().collect();
        Self::new(disks, Opener::new(open))
    }

    fn ask(&self, effect: Effect) {
        self.engine.handle().call(|asker, _| asker.todo.push(effect)).unwrap();
    }

    fn open(&self) -> Result<DiskSeen, NotOpened> {
        self.ask(Effect::Open { disk: DISK });
        let Heard::Opened(DISK, result) = self.next() else { panic!("it was not opened") };
        result
    }

    fn flush(&self) -> Result<(), Errno> {
        self.ask(flush(7));
        let Heard::Done(7, result) = self.next() else { panic!("it has not ended") };
        result
    }

    fn next(&self) -> Heard {
        self.heard.recv_timeout(Duration::from_secs(30)).unwrap()
    }
}

fn flush(nr: u64) -> Effect {
    Effect::Submit { io: IoId { owner: IoOwner(0), nr }, disk: DISK, op: DiskOp::Flush }
}

fn directory() -> TempDir {
    TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn make(path: &PathBuf, size: Sectors) {
    File::create_new(path).unwrap().set_len(size.bytes()).unwrap();
}

#[test]
fn a_disk_that_goes_and_comes_back_is_opened_as_what_it_is_then() {
    let home = directory();
    let path = home.path().join("disk");
    make(&path, Sectors(2048));
    let rig = Rig::on_file(path.clone());
    let before = rig.open().unwrap();
    assert_eq!(before.size, Sectors(2048));
    assert_eq!(rig.flush(), Ok(()));

    fs::remove_file(&path).unwrap();
    let refusal = rig.open().unwrap_err();
    assert_eq!(refusal.errno, Errno(libc::ENOENT));
    assert_eq!(refusal.why, format!("{}: no such file or device", path.display()));
    assert_eq!(rig.flush(), Err(Errno::ENODEV), "what was open is let go of");

    make(&path, Sectors(4096));
    let after = rig.open().unwrap();
    assert_eq!(after.size, Sectors(4096));
    assert_ne!(after.identity, before.identity);
    assert_eq!(rig.flush(), Ok(()));
}

/// Runs this very test program again, as the process that has the disk.
#[test]
fn a_disk_that_another_process_has_is_busy_and_its_holder_is_named() {
    if let Some(path) = std::env::var_os(HOLD) {
        let _disk = Disk::open(path.as_ref(), &OpenSpec::default()).unwrap();
        println!("held");
        let _ = std::io::stdin().read_line(&mut String::new());
        return;
    }
    let home = directory();
    let path = home.path().join("disk");
    make(&path, Sectors(2048));
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_disk_that_another_process_has_is_busy_and_its_holder_is_named"])
        .arg("--nocapture")
        .env(HOLD, &path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(holder.stdout.take().unwrap()).lines();
    assert!(said.any(|line| line.unwrap().ends_with("held")));

    let rig = Rig::on_file(path);
    let refusal = rig.open().unwrap_err();
    assert_eq!(refusal.errno, Errno(libc::EBUSY));
    let expected = format!("process {}", holder.id());
    assert!(refusal.why.contains(&expected), "{} has no {expected}", refusal.why);

    drop(holder.stdin.take());
    for _ in said {}
    assert!(holder.wait().unwrap().success());
    rig.open().unwrap();
}

#[test]
fn an_opening_that_hangs_holds_up_nothing_and_is_not_begun_twice() {
    let home = directory();
    let path = home.path().join("disk");
    make(&path, Sectors(2048));
    let (release, released) = channel();
    let released = Mutex::new(released);
    let opener = Opener::new(move |_| {
        released.lock().unwrap().recv().unwrap();
        Ok(Disk::open(&path, &OpenSpec::default())?)
    });
    let rig = Rig::new(Vec::new(), opener);
    rig.ask(Effect::Open { disk: DISK });
    assert_eq!(rig.flush(), Err(Errno::ENODEV), "the engine goes on");
    assert_eq!(rig.open().unwrap_err().errno, Errno(libc::EALREADY));

    release.send(()).unwrap();
    assert!(matches!(rig.next(), Heard::Opened(DISK, Ok(_))));
    assert_eq!(rig.flush(), Ok(()));
}

#[test]
fn a_disk_that_opens_after_its_engine_has_stopped_is_closed() {
    let home = directory();
    let path = home.path().join("disk");
    make(&path, Sectors(2048));
    let (release, released) = channel();
    let (opened, is_open) = channel();
    let (released, opened) = (Mutex::new(released), Mutex::new(opened));
    let at = path.clone();
    let opener = Opener::new(move |_| {
        released.lock().unwrap().recv().unwrap();
        let disk = Disk::open(&at, &OpenSpec::default())?;
        opened.lock().unwrap().send(()).unwrap();
        Ok(disk)
    });
    let rig = Rig::new(Vec::new(), opener);
    rig.ask(Effect::Open { disk: DISK });
    drop(rig.engine.stop());
    release.send(()).unwrap();
    is_open.recv().unwrap();
    let patient = OpenSpec { busy_limit: Duration::from_secs(30), ..OpenSpec::default() };
    Disk::open(&path, &patient).unwrap();
}

#[test]
fn a_disk_that_is_closed_is_anybody_s_and_its_opener_is_told() {
    let home = directory();
    let path = home.path().join("disk");
    make(&path, Sectors(2048));
    let (at, (closed, is_closed)) = (path.clone(), channel());
    let closed = Mutex::new(closed);
    let opener = Opener::new(move |_| Ok(Disk::open(&at, &OpenSpec::default())?));
    let opener = opener.telling(move |disk| closed.lock().unwrap().send(disk).unwrap());
    let rig = Rig::new(Vec::new(), opener);
    rig.open().unwrap();
    assert!(Disk::open(&path, &OpenSpec::default()).is_err(), "it is the engine's");
    rig.ask(Effect::Close { disk: DISK });
    assert_eq!(is_closed.recv_timeout(Duration::from_secs(30)), Ok(DISK));
    assert_eq!(rig.flush(), Err(Errno::ENODEV));
    Disk::open(&path, &OpenSpec::default()).unwrap();
}

#[test]
fn an_engine_that_was_given_no_way_to_open_says_so() {
    let rig = Rig::new(Vec::new(), Opener::default());
    assert_eq!(rig.open().unwrap_err().errno, Errno::ENXIO);
}

const DISK: DiskId = DiskId(3);
const HOLD: &str = "UBLK_TARGET_TEST_HOLDS";
