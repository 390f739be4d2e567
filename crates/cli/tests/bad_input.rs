//! Every verb and every kind of bad input, in one table: a name that nothing has, a thing of the
//! wrong kind, a daemon that is gone, starting, deaf, silent, or that answers what nobody can read,
//! files of a crash, a user who may not. Each ends soon, with the right status, and one sentence.
//!
//! What needs devices, as a busy one does, is in `tests/vm`. A verb that has no line here fails.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Mode, mkfifoat};

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bad {
    /// Nothing has that name.
    Unknown,
    /// A daemon died: its lock is free, its devices wait.
    Gone,
    /// The same, and its state is no state.
    GoneAndTorn,
    /// It lives, and nothing listens yet.
    Starting,
    /// It lives; a socket of its predecessor is there.
    Deaf,
    /// It takes the call, and says nothing.
    Silent,
    /// It is something else.
    Stranger,
    /// Its answer ends half-way.
    Half,
    /// It answers another question.
    Other,
    /// It hangs up.
    HangsUp,
}

use Bad::*;

const ALL: [Bad; 10] =
    [Unknown, Gone, GoneAndTorn, Starting, Deaf, Silent, Stranger, Half, Other, HangsUp];

/// The verbs that ask a daemon, by a name or by a table that has it.
const ASK: [&str; 19] = [
    "status repl",
    "status --json d0",
    "status --watch repl",
    "events repl",
    "events --json d0",
    "events --follow repl",
    "why repl",
    "wait repl",
    "suspend repl",
    "suspend d0",
    "resume d0",
    "message repl 0 resume",
    "message d0 0 resync",
    "differs repl 1 FILE",
    "remove repl",
    "rename repl east",
    "rename d0 e0",
    "upgrade repl",
    "reload TABLE",
];

/// Those that look at files only, or start a daemon; and what they say, if it is not what was asked for.
const LOOK_OR_START: [(&str, Bad, Option<&str>); 40] = [
    // A list has everybody; one that says nothing is `silent` there.
    ("ls", Unknown, None),
    ("ls", Gone, None),
    ("ls", GoneAndTorn, Some("state.json: expected the state of a daemon")),
    ("ls", Silent, None),
    ("ls", Stranger, None),
    ("ls", Other, None),
    ("table repl", Unknown, Some(NONE)),
    ("table repl", Gone, None),
    ("table repl", Stranger, None),
    ("table repl", Starting, Some("its daemon is just starting; try again")),
    ("create TABLE", Gone, Some(GONE)),
    ("create TABLE", GoneAndTorn, Some(GONE)),
    ("create TABLE", Silent, Some("the name repl is taken")),
    ("recover repl", Unknown, Some(NONE)),
    ("recover repl", Deaf, Some("lives; there is nothing to recover")),
    ("recover repl", GoneAndTorn, Some("state.json: expected the state of a daemon")),
    ("remove d0", Gone, Some("is a device of the replicator repl and ends with it")),
    ("remove --force repl", GoneAndTorn, Some("state.json: expected the state of a daemon")),
    ("remove --force repl", Gone, None),
    ("table repl", GoneAndTorn, None),
    ("create BAD", Unknown, Some("expected")),
    // Who is not up is told as that.
    ("metrics repl", Unknown, Some(NONE)),
    ("metrics repl", Gone, None),
    ("metrics repl", GoneAndTorn, None),
    ("metrics repl", Silent, None),
    ("metrics repl", Stranger, None),
    ("metrics repl", Half, None),
    ("metrics", Unknown, None),
    ("metrics --listen unix:FILE", Unknown, Some("expected a socket or nothing there")),
    ("top --once repl", Unknown, Some(NONE)),
    ("top --once repl", Gone, Some(GONE)),
    ("top --once repl", Silent, Some("repl: its daemon says nothing")),
    ("top --once repl", Other, Some("expected a known answer; is the daemon older?")),
    ("top --once", Unknown, None),
    ("top", Unknown, Some("expected a terminal, found none; `top --once` prints one picture")),
    ("create HOME", Unknown, Some("Is a directory")),
    ("create NOWHERE", Unknown, Some("No such file or directory")),
    ("create /dev/zero", Unknown, Some("expected a table of at most 1048576 bytes")),
    ("run HOME", Unknown, Some("Is a directory")),
    ("run BAD", Unknown, Some("expected")),
];

const GONE: &str = "its daemon is gone, its devices wait";
const NONE: &str = "expected a replicator or a device, found none";

/// Those that look at a disk that nobody has open, or write to it.
const ON_DISKS: [&str; 11] = [
    "log check",
    "log dump",
    "log dirty --site 1",
    "log repair",
    "log repair --yes",
    "dirty check",
    "dirty dump",
    "dirty repair",
    "dirty repair --yes",
    "mark check",
    "mark dump",
];

/// What may be given to them in a disk's place.
const NO_DISKS: [(&str, &str); 9] = [
    ("NOWHERE", "no such file or device"),
    ("HOME", "expected a block device or a regular file, found a directory"),
    ("PIPE", "expected a block device or a regular file, found a pipe"),
    ("SOCKET", "expected a block device or a regular file, found a socket"),
    ("/dev/null", "expected a block device or a regular file, found a character device"),
    ("EMPTY", ", found 0"),
    ("SHORT", ", found 7"),
    ("GARBAGE", "GARBAGE: "),
    // Somebody is about to write there.
    ("TAKEN", "in use by process"),
];

/// Those for which nothing can be wrong: they take no name and no path.
const NEVER: [&str; 2] = ["targets", "version"];

/// What each of them says then.
fn sentence(verb: &str, bad: Bad) -> &'static str {
    let by_device = verb.contains("d0");
    match bad {
        Unknown if verb == "reload TABLE" => "repl: it does not run; `create` starts it",
        Unknown => "expected a replicator or a device, found none; `replicator ls` lists them",
        Gone => "its daemon is gone, its devices wait",
        // Its devices are not to be known then.
        GoneAndTorn if by_device => "state.json: expected the state of a daemon",
        GoneAndTorn => "its daemon is gone, its devices wait",
        Starting if by_device => "expected a replicator or a device, found none",
        Starting => "cannot reach the daemon at",
        Deaf => "Connection refused",
        Silent => "expected a line in time, found none",
        Stranger => "expected an answer of a daemon",
        Half => "expected a whole line, found an end within one",
        Other => "expected a known answer; is the daemon older?",
        HangsUp => "expected an answer of the daemon, found it gone",
    }
}

#[test]
fn every_verb_that_asks_a_daemon_ends_with_one_sentence_whatever_answers() {
    if !is_root() {
        return;
    }
    let host = &Host::new();
    // All at once: each one may wait for as long as one may be silent.
    thread::scope(|scope| {
        for bad in ALL {
            let daemon = host.with(bad);
            for verb in ASK {
                let daemon = daemon.clone();
                scope.spawn(move || {
                    let output = host.run(&daemon, verb);
                    assert_refused(&output, verb, bad, sentence(verb, bad));
                    let said = String::from_utf8_lossy(&output.stderr);
                    // Whom it is about is said once.
                    let begins = ["replicator: repl: its", "replicator: d0: its"];
                    let begins = begins.iter().any(|it| said.starts_with(it));
                    assert!(bad != Gone || begins, "{verb}: {said}");
                });
            }
        }
    });
}

#[test]
fn what_looks_at_files_only_or_starts_a_daemon_says_what_it_found() {
    if !is_root() {
        return;
    }
    let host = &Host::new();
    thread::scope(|scope| {
        for (verb, bad, expected) in LOOK_OR_START {
            let daemon = host.with(bad);
            scope.spawn(move || {
                let output = host.run(&daemon, verb);
                match expected {
                    Some(sentence) => assert_refused(&output, verb, bad, sentence),
                    None => assert!(output.status.success(), "{verb}, {bad:?}: {output:?}"),
                }
            });
        }
    });
}

#[test]
fn what_is_no_disk_is_named_and_neither_read_nor_waited_for() {
    if !is_root() {
        return;
    }
    let host = &Host::new();
    let daemon = &host.with(Unknown);
    let _taken = host.lays_out_what_is_no_disk();
    // One after the other: they would find each other there.
    for (verb, (what, sentence)) in ON_DISKS.iter().flat_map(|it| NO_DISKS.map(|no| (it, no))) {
        let verb = format!("{verb} {what}");
        let output = host.run(daemon, &verb);
        let said = String::from_utf8_lossy(&output.stdout);
        // These say it as their result.
        let is_verdict = what == "GARBAGE" && said.contains("there is no ");
        assert!(is_verdict || said.is_empty(), "{verb}: {said}");
        let expected = sentence.replace("GARBAGE", &host.path("garbage"));
        match is_verdict {
            true => assert_eq!(output.status.code(), Some(1), "{verb}"),
            false => assert_refused(&output, &verb, Unknown, &expected),
        }
    }
    let garbage = fs::read(host.path("garbage")).unwrap();
    assert_eq!(garbage, GARBAGE.repeat(16384), "nothing is written to what is not known");
}

#[test]
fn root_of_a_container_hears_what_it_lacks() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let daemon = host.with(Unknown);
    let asked = host.command(&daemon, "create TABLE");
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", "-sys_resource"]).arg(asked.get_program());
    command.args(asked.get_args()).env("REPLICATOR_RUNTIME_DIR", &daemon.run);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let lacks = "which root lacks in most containers";
    assert_refused(&host.output(&mut command), "create TABLE", Unknown, lacks);
    assert!(!daemon.run.join("repl").exists(), "nothing of it is left");
}

#[test]
fn those_that_are_started_by_others_say_what_they_want() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().display().to_string();
    let table: [(&[&str], &str); 4] = [
        (&["daemon"], "expected a job on standard input"),
        (&["pages", "/nowhere", &path], "/nowhere/commands.md: No such file"),
        (&["pages", &path], ""),
        (&["daemon", "--check"], ""),
    ];
    for (words, sentence) in table {
        let mut command = Command::new(env!("CARGO_BIN_EXE_replicator"));
        let output = command.args(words).stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        // Without a sentence: it is the command line that is wrong.
        let status = if sentence.is_empty() { 2 } else { 1 };
        assert_eq!(output.status.code(), Some(status), "{words:?}: {said}");
        assert!(said.contains(sentence), "{words:?}: {said}");
    }
}

/// The verbs that the help of `words` has.
fn verbs(words: &[&str]) -> Vec<String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_replicator"));
    let output = command.args(words).arg("--help").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let Some((_, behind)) = help.split_once("Commands:\n") else { return Vec::new() };
    let lines = behind.lines().take_while(|line| !line.is_empty());
    let first = lines.filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    first.filter(|verb| !verb.is_empty() && *verb != "help").map(str::to_owned).collect()
}

#[test]
fn every_verb_has_a_line_here() {
    let here: Vec<&str> = ASK
        .into_iter()
        .chain(LOOK_OR_START.map(|row| row.0))
        .chain(ON_DISKS)
        .chain(NEVER)
        .collect();
    let top = verbs(&[]);
    assert!(top.len() > 20, "{top:?}");
    for verb in top {
        let below = verbs(&[&verb]);
        let all = match below.is_empty() {
            true => vec![verb.clone()],
            false => below.iter().map(|it| format!("{verb} {it}")).collect(),
        };
        for verb in all {
            let words = verb.split(' ').count();
            let begins = |line: &&str| line.split(' ').take(words).eq(verb.split(' '));
            assert!(here.iter().any(begins), "{verb}: what does it say when something is wrong?");
        }
    }
}

#[test]
fn a_replicator_whose_state_is_torn_hides_no_other() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let (torn, other) = (host.with(GoneAndTorn), host.with(Gone));
    fs::rename(other.run.join("repl"), torn.run.join("zoo")).unwrap();
    let state = torn.run.join("zoo/state.json");
    fs::write(&state, fs::read_to_string(&state).unwrap().replace("d0", "e0")).unwrap();
    let output = host.run(&torn, "ls");
    let listed = String::from_utf8_lossy(&output.stdout);
    assert!(listed.contains("zoo") && listed.contains("waiting"), "{listed}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("repl: "), "{output:?}");
    assert_eq!(output.status.code(), Some(1));
    let sentence = "its devices wait; `replicator recover zoo` lets them go on";
    assert_refused(&host.run(&torn, "suspend e0"), "suspend e0", Gone, sentence);
}

#[test]
fn ublksrv_s_front_end_gets_a_number_that_no_device_has_whatever_is_wrong() {
    if !is_root() {
        return;
    }
    let host = &Host::new();
    let table: [(&str, Bad, &str); 11] = [
        ("add", Unknown, "expected --table FILE, found none"),
        ("add --table TABLE --name d7", Unknown, "the table has no device d7; it has d0"),
        ("add --table /nowhere", Unknown, "reading the table /nowhere: No such file"),
        ("add --table BAD", Unknown, "expected"),
        ("add --table TABLE", Deaf, "Connection refused"),
        ("add --table TABLE", Silent, "expected a line in time"),
        ("add --table TABLE", Stranger, "expected an answer of a daemon"),
        ("add --table TABLE", Other, "expected a known answer"),
        ("recover -n 901", Gone, "expected the number of a device that a replicator served"),
        ("recover -n 900", GoneAndTorn, "state.json: expected the state of a daemon"),
        ("recover", Unknown, "expected -n NUMBER, found none"),
    ];
    thread::scope(|scope| {
        for (words, bad, expected) in table {
            let daemon = host.with(bad);
            scope.spawn(move || {
                let (told, output) = host.asked_by_front_end(&daemon, words);
                let none = (u64::MAX - 1).to_ne_bytes();
                assert_eq!(told, none, "{words}, {bad:?}");
                assert_eq!(output.status.code(), Some(1), "{words}, {bad:?}");
                let kept = fs::read_to_string(daemon.run.join("ublk.error")).unwrap();
                assert!(kept.contains(expected), "{words}, {bad:?}: {kept}");
            });
        }
    });
}

#[test]
fn nobody_but_root_is_served_by_any_verb() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let daemon = host.with(Gone);
    let more = ["ls", "table", "create TABLE", "run TABLE", "recover repl"];
    let looks = ["top --once", "events", "metrics", "why", "upgrade --all"];
    for verb in ASK.into_iter().chain(more).chain(looks) {
        let output = host.output(host.command(&daemon, verb).uid(65534).gid(65534));
        assert_refused(&output, verb, Gone, "expected to be started by root, found user id 65534");
    }
}

/// A directory, with a table of one device, and as many hosts in it as are asked for.
struct Host {
    home: tempfile::TempDir,
}

/// One runtime directory, and who lives there.
#[derive(Clone)]
struct Daemon {
    run: PathBuf,
}

impl Host {
    fn new() -> Self {
        // Others may come here, so that what keeps them out is the program.
        let home = tempfile::Builder::new().permissions(mode(0o755)).tempdir().unwrap();
        let table = format!(
            "repl: 0 1 replicator ringbuffer 4 {0}/log 0 auto 131072 blockdev 1 0\n\
             d0: 0 65536 replicator-dev repl 0 0 1 {0}/ld nolog 0\n",
            home.path().display()
        );
        fs::write(home.path().join("table"), &table).unwrap();
        fs::write(home.path().join("bad"), &table[..40]).unwrap();
        fs::write(home.path().join("file"), "device 0 65536\nall\nend\n").unwrap();
        let program = home.path().join("replicator");
        fs::copy(env!("CARGO_BIN_EXE_replicator"), &program).unwrap();
        Self { home }
    }

    /// A runtime directory of its own, with what a daemon in that state has there.
    fn with(&self, bad: Bad) -> Daemon {
        let run = tempfile::tempdir_in(self.home.path()).unwrap().keep();
        if bad == Unknown {
            return Daemon { run };
        }
        let dir = run.join("repl");
        fs::DirBuilder::new().mode(0o700).create(&dir).unwrap();
        let mut lock = File::create(dir.join("lock")).unwrap();
        writeln!(lock, "{}", std::process::id()).unwrap();
        if bad != Starting {
            let state = if bad == GoneAndTorn { "{\"pid\":".to_owned() } else { state() };
            fs::write(dir.join("state.json"), state).unwrap();
            fs::copy(self.home.path().join("table"), dir.join("table")).unwrap();
        }
        if !matches!(bad, Gone | GoneAndTorn) {
            lock.lock().unwrap();
            // Held until this process ends, as a daemon would.
            std::mem::forget(lock);
        }
        if !matches!(bad, Gone | GoneAndTorn | Starting) {
            listen(&dir.join("control"), bad);
        }
        Daemon { run }
    }

    fn path(&self, name: &str) -> String {
        self.home.path().join(name).display().to_string()
    }

    /// Who holds what is taken.
    fn lays_out_what_is_no_disk(&self) -> File {
        mkfifoat(CWD, self.path("pipe"), Mode::from_raw_mode(0o600)).unwrap();
        // Its file stays when it is closed.
        drop(UnixListener::bind(self.path("socket")).unwrap());
        File::create(self.path("empty")).unwrap();
        fs::write(self.path("short"), GARBAGE.repeat(112)).unwrap();
        fs::write(self.path("garbage"), GARBAGE.repeat(16384)).unwrap();
        fs::write(self.path("taken"), GARBAGE.repeat(16384)).unwrap();
        let taken = File::options().write(true).open(self.path("taken")).unwrap();
        taken.lock().unwrap();
        taken
    }

    /// What is written in capitals is a path of this host.
    fn command(&self, daemon: &Daemon, verb: &str) -> Command {
        let is_path = |word: &str| word.bytes().all(|c| c.is_ascii_uppercase());
        let words = verb.split_whitespace().map(|word| match word {
            "HOME" => self.path(""),
            "unix:FILE" => format!("unix:{}", self.path("file")),
            word if is_path(word) => self.path(&word.to_lowercase()),
            word => word.to_owned(),
        });
        let mut command = Command::new(self.home.path().join("replicator"));
        command.args(words).env("REPLICATOR_RUNTIME_DIR", &daemon.run);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, daemon: &Daemon, verb: &str) -> Output {
        self.output(&mut self.command(daemon, verb))
    }

    /// What it says, unless it hangs.
    fn output(&self, command: &mut Command) -> Output {
        let mut child = loop {
            // A child of another test has what was copied open for a moment yet.
            match command.spawn() {
                Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => {}
                child => break child.unwrap(),
            }
        };
        let began = Instant::now();
        while child.try_wait().unwrap().is_none() {
            if began.elapsed() > LIMIT {
                child.kill().unwrap();
                panic!("{command:?} hangs");
            }
            thread::sleep(Duration::from_millis(20));
        }
        child.wait_with_output().unwrap()
    }

    /// What comes through the pipe that the front end gives.
    fn asked_by_front_end(&self, daemon: &Daemon, words: &str) -> (Vec<u8>, Output) {
        let (mut reads, writes) = std::io::pipe().unwrap();
        let command = self.command(daemon, words);
        // Only a shell may give a program a descriptor of any number, and no standard streams.
        let script = r#"exec -a ublk.replicator "$0" "$@" --eventfd 9 9<&0 <&- >&- 2>&-"#;
        let mut shell = Command::new("bash");
        shell.arg("-c").arg(script).arg(command.get_program()).args(command.get_args());
        shell.env("REPLICATOR_RUNTIME_DIR", &daemon.run).stdin(writes);
        let output = self.output(shell.stdout(Stdio::null()).stderr(Stdio::null()));
        drop(shell);
        let mut told = Vec::new();
        reads.read_to_end(&mut told).unwrap();
        (told, output)
    }
}

/// A daemon that can do only one thing.
fn listen(socket: &Path, bad: Bad) {
    let listener = UnixListener::bind(socket).unwrap();
    if bad == Deaf {
        return; // closed, and its file is left
    }
    thread::spawn(move || {
        let mut silent = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let answer: &[u8] = match bad {
                Silent => {
                    silent.push(stream);
                    continue;
                }
                Stranger => b"SSH-2.0-OpenSSH_9.2\n",
                Half => b"{\"ok\":",
                Other => b"{\"ok\":{\"colour\":\"blue\"}}\n",
                _ => b"",
            };
            if bad != HangsUp {
                let _ = stream.read(&mut [0; 4096]);
            }
            let _ = stream.write_all(answer);
        }
    });
}

fn state() -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let mut text = format!("{{\"pid\":{},\"boot\":\"{}\",", std::process::id(), boot.trim());
    let device = "{\"name\":\"d0\",\"nr\":0,\"ublk\":900,\"mark\":7,\"sectors\":65536}";
    write!(text, "\"devices\":[{device}]}}").unwrap();
    text
}

/// Status 1, nothing on standard output but what others said, and one sentence.
fn assert_refused(output: &Output, verb: &str, bad: Bad, sentence: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{verb}, {bad:?}: {said}");
    assert!(said.contains(sentence), "{verb}, {bad:?}: expected '{sentence}', found: {said}");
    assert!(
        !said.contains("repl: repl: "),
        "{verb}, {bad:?}: expected the name once, found: {said}"
    );
    let sentences = said.lines().filter(|line| line.starts_with("replicator: ")).count();
    assert_eq!(sentences, 1, "{verb}, {bad:?}: expected one sentence, found: {said}");
    let out = String::from_utf8_lossy(&output.stdout);
    let is_empty = out.is_empty() || (verb.contains("--json") && out == "{}\n");
    assert!(is_empty, "{verb}, {bad:?}: expected no output, found: {out}");
}

fn mode(bits: u32) -> fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(bits)
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// No log, no dirty log, no mark begins like this.
const GARBAGE: &[u8] = b"not one word of this is known. \n";

/// Longer than a daemon may be silent, on a busy host.
const LIMIT: Duration = Duration::from_secs(60);
