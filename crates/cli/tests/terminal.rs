//! `top` on a terminal gives it back as it was, whatever ends it: a key, a signal, a panic, a
//! terminal that nobody reads or that is gone. It ends soon, and what it says then is to be read.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::ioctl_fionread;
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use End::*;

#[test]
fn keys_and_signals_end_it_and_the_terminal_is_as_it_was() {
    if !is_root() {
        return;
    }
    let ends = [
        ("q", Keys(b"q")),
        ("Ctrl-C", Keys(b"\x03")),
        ("Ctrl-C after Ctrl-S", Keys(b"\x13\x03")),
        ("SIGINT", Sent(Signal::INT)),
        ("SIGTERM", Sent(Signal::TERM)),
        ("SIGHUP", Sent(Signal::HUP)),
    ];
    for (how, end) in ends {
        let mut on = On::new(&[]);
        on.waits_for("gone");
        assert!(on.is_taken(), "keys come one by one, and are not shown");
        match end {
            Keys(keys) => on.types(keys),
            Sent(signal) => on.signals(signal),
        }
        assert!(on.ends(how).success(), "{how}");
        on.has_it_back(how);
    }
}

#[test]
fn a_panic_gives_it_back_before_it_is_told() {
    if !is_root() {
        return;
    }
    // A thread for whom no stack can be had is a panic; there is one for each replicator.
    let mut on = On::new(&[("RUST_MIN_STACK", "4503599627370496")]);
    on.waits_for(ENTER);
    on.has_a_replicator("more");
    assert_eq!(on.ends("panic").code(), Some(101));
    on.has_it_back("panic");
    let said = on.shown();
    let (picture, after) = said.rsplit_once(LEAVE).unwrap();
    assert!(!picture.contains("panicked") && after.contains("panicked"), "{said}");
}

#[test]
fn a_terminal_that_nobody_reads_does_not_keep_it() {
    if !is_root() {
        return;
    }
    let mut on = On::new(&[]);
    on.waits_for("gone");
    // From here on what is drawn stays where it is, until there is room for no more.
    on.stops_reading();
    on.waits_until_it_is_full();
    on.signals(Signal::TERM);
    assert!(on.ends("nobody reads").success());
    assert!(!on.is_taken());
}

#[test]
fn it_ends_with_its_terminal() {
    if !is_root() {
        return;
    }
    let mut on = On::new(&[]);
    on.waits_for("gone");
    on.hangs_up();
    on.ends("hung up");
}

/// How a user ends it.
enum End {
    Keys(&'static [u8]),
    Sent(Signal),
}

/// `top`, on a terminal of its own.
struct On {
    child: Child,
    /// What the user's side is; none: it has been closed.
    user: Option<File>,
    terminal: OwnedFd,
    before: LocalModes,
    shown: Arc<Mutex<Reading>>,
    run: PathBuf,
    _home: tempfile::TempDir,
}

#[derive(Default)]
struct Reading {
    text: Vec<u8>,
    stops: bool,
}

impl On {
    /// With one replicator, whose daemon is gone.
    fn new(env: &[(&str, &str)]) -> Self {
        let home = tempfile::tempdir().unwrap();
        let run = home.path().join("run");
        fs::DirBuilder::new().mode(0o700).create(&run).unwrap();
        let user = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&user).unwrap();
        unlockpt(&user).unwrap();
        let path = ptsname(&user, Vec::new()).unwrap().into_string().unwrap();
        let terminal = File::options().read(true).write(true).open(path).unwrap();
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&terminal, size).unwrap();
        let before = tcgetattr(&terminal).unwrap().local_modes;
        let is_alone = env.is_empty();
        if is_alone {
            replicator_in(&run, "repl");
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_replicator"));
        command.args(["top", "--every", "100ms"]).env("REPLICATOR_RUNTIME_DIR", &run);
        command.envs(env.iter().copied());
        let end = || terminal.try_clone().unwrap();
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let user = File::from(user);
        let shown = Arc::new(Mutex::new(Reading::default()));
        read_on(user.try_clone().unwrap(), Arc::clone(&shown));
        let terminal = terminal.into();
        Self { child, user: Some(user), terminal, before, shown, run, _home: home }
    }

    fn has_a_replicator(&self, name: &str) {
        replicator_in(&self.run, name);
    }

    fn types(&mut self, keys: &[u8]) {
        for key in keys {
            self.user.as_mut().unwrap().write_all(&[*key]).unwrap();
            thread::sleep(Duration::from_millis(300));
        }
    }

    fn signals(&mut self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn stops_reading(&self) {
        self.shown.lock().unwrap().stops = true;
    }

    fn hangs_up(&mut self) {
        self.stops_reading();
        // The reader looks whether it is to stop now and then.
        thread::sleep(Duration::from_millis(500));
        self.user = None;
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap().text).into_owned()
    }

    fn waits_for(&mut self, text: &str) {
        let began = Instant::now();
        while !self.shown().contains(text) {
            assert!(self.child.try_wait().unwrap().is_none(), "it ended: {}", self.shown());
            assert!(began.elapsed() < LIMIT, "expected {text:?}, found: {}", self.shown());
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn is_taken(&self) -> bool {
        tcgetattr(&self.terminal).unwrap().local_modes != self.before
    }

    /// A picture comes every 100 ms, as long as there is room.
    fn waits_until_it_is_full(&mut self) {
        let (began, mut since, mut unread) = (Instant::now(), Instant::now(), 0);
        while unread == 0 || since.elapsed() < Duration::from_secs(2) {
            assert!(self.child.try_wait().unwrap().is_none() && began.elapsed() < 2 * LIMIT);
            let now = ioctl_fionread(&self.terminal).unwrap()
                + ioctl_fionread(self.user.as_ref().unwrap()).unwrap();
            if now != unread {
                (since, unread) = (Instant::now(), now);
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn ends(&mut self, how: &str) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            if began.elapsed() > LIMIT {
                self.child.kill().unwrap();
                self.child.wait().unwrap();
                panic!("{how}: it goes on: {}", self.shown());
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// What is drawn comes between taking and giving back, and then nothing does.
    fn has_it_back(&self, how: &str) {
        assert!(!self.is_taken(), "{how}: keys are shown, and come as lines");
        let began = Instant::now();
        while !self.shown().contains(LEAVE) {
            assert!(began.elapsed() < LIMIT, "{how}: {:?}", self.shown());
            thread::sleep(Duration::from_millis(20));
        }
        let said = self.shown();
        let (_, after) = said.split_once(LEAVE).unwrap();
        assert!(!after.contains("\x1b["), "{how}: nothing is drawn any more: {after:?}");
    }
}

impl Drop for On {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads what is shown, until it is told not to, or nobody shows anything.
fn read_on(mut user: File, shown: Arc<Mutex<Reading>>) {
    thread::spawn(move || {
        let mut chunk = [0; 4096];
        while let Ok(len @ 1..) = user.read(&mut chunk) {
            let mut shown = shown.lock().unwrap();
            shown.text.extend_from_slice(&chunk[..len]);
            if shown.stops {
                return;
            }
        }
    });
}

/// What a daemon that died left.
fn replicator_in(run: &Path, name: &str) {
    let dir = run.join(name);
    fs::DirBuilder::new().mode(0o700).create(&dir).unwrap();
    let device = "{\"name\":\"d0\",\"nr\":0,\"ublk\":900,\"mark\":7,\"sectors\":65536}";
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let state = format!("{{\"pid\":1,\"boot\":\"{}\",\"devices\":[{device}]}}", boot.trim());
    fs::write(dir.join("state.json"), state).unwrap();
    fs::write(dir.join("lock"), "1\n").unwrap();
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

const ENTER: &str = "\x1b[?1049h";
/// The cursor is shown, lines are not cut, and the ordinary screen is back.
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";
/// On a busy host.
const LIMIT: Duration = Duration::from_secs(20);
