//! What ublksrv's `ublk` does to a program `ublk.TYPE` beside it, and with `/run/ublksrvd/N.pid`,
//! as version 1.8 does it: no registry carries that, and tests want one. It takes nothing that the
//! original does not; where that dies of an exception, this one aborts, and it is stricter: what
//! the original reads by luck it refuses.
//!
//! ```text
//! ublk-front add -t TYPE WORDS…          ublk-front list [-n N]
//! ublk-front recover -n N                ublk-front del -n N | -a
//! ublk-front help -t TYPE                ublk-front set_affinity -n N -q 0 --cpuset [CPU]
//! ```
//!
//! Beside that it has `stop -n N`: `del`, killed half-way. A result below 0 becomes an exit status as it does there: of -22 the low byte, 234.
#![allow(unsafe_code, reason = "pipes that are inherited, and streams that are closed")]

use std::error::Error;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{FromRawFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;
use ublk_target::{Device, DeviceState, Ublk};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    if !fs::exists("/sys/module/ublk_drv").unwrap_or(false) {
        eprintln!("ublk module not loaded");
        return ExitCode::FAILURE;
    }
    match run(&words) {
        Ok(result) => ExitCode::from((result & 0xff) as u8),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[String]) -> Result<i32> {
    let verb = words.get(1).map_or("", String::as_str);
    let number = option(words, 'n', "number").map(str::parse).transpose()?;
    match (verb, number) {
        ("add" | "help", _) => match option(words, 't', "type") {
            Some(kind) => start(kind, words),
            None => Ok(-libc::EINVAL),
        },
        ("recover", Some(id)) => recover(id, words),
        ("list", Some(id)) => list(id),
        ("list", None) => Ublk::devices().into_iter().try_fold(0, |_, id| list(id)),
        ("del", Some(id)) => delete(id),
        ("del", None) => Ublk::devices().into_iter().try_fold(0, |_, id| delete(id)),
        ("stop", Some(id)) => Ublk::query(id).map_err(Into::into).and_then(|info| {
            Device::abandon(id, info.mark)?;
            Ok(0)
        }),
        ("set_affinity", Some(id)) => set_affinity(id, words),
        _ => Err(format!("unknown command: {verb}").into()),
    }
}

/// The value of an option, wherever it stands; all others are left to whom they are for.
fn option<'a>(words: &'a [String], short: char, long: &str) -> Option<&'a str> {
    let mut found = None;
    let mut words = words.iter().skip(2);
    while let Some(word) = words.next() {
        let is_long = word.strip_prefix("--") == Some(long);
        if is_long || *word == format!("-{short}") {
            found = words.next().map(String::as_str);
        } else if let Some(value) = word.strip_prefix(&format!("-{short}")) {
            found = Some(value);
        } else if let Some(value) = word.strip_prefix(&format!("--{long}=")) {
            found = Some(value);
        }
    }
    found
}

/// Starts `ublk.TYPE`, which stands beside this program, and waits for what it writes into a pipe.
fn start(kind: &str, words: &[String]) -> Result<i32> {
    if words.iter().any(|word| word == "--eventfd") {
        return Ok(-libc::EINVAL);
    }
    let path = format!("{}.{kind}", fs::read_link("/proc/self/exe")?.display());
    let mut command = Command::new(path);
    command.arg0(format!("ublk.{kind}")).args(&words[1..]);
    if words[1] == "help" {
        return Err(command.exec().into());
    }
    let [reads, writes] = pipe()?;
    command.args(["--eventfd", &writes.to_string()]);
    // SAFETY: takes no pointer. It fails for who leads a group, and nobody minds.
    unsafe { libc::setsid() };
    // SAFETY: closes only what this child has no use for; nothing here allocates.
    unsafe {
        command.pre_exec(move || {
            for fd in [libc::STDIN_FILENO, libc::STDOUT_FILENO, libc::STDERR_FILENO, reads] {
                libc::close(fd);
            }
            Ok(())
        });
    }
    let child = command.spawn();
    // SAFETY: this process's own end, which only the child is to have now.
    unsafe { libc::close(writes) };
    // SAFETY: open, and nobody else's.
    let mut pipe = unsafe { File::from_raw_fd(reads) };
    if child.is_err() {
        return Ok(-libc::EINVAL);
    }
    let mut id = [0; 8];
    match pipe.read(&mut id)? {
        8 => list(u64::from_ne_bytes(id).wrapping_sub(1) as u32),
        0 => Ok(-libc::EINVAL),
        short => Ok(short as i32),
    }
}

/// Both ends are left open in whatever is started.
fn pipe() -> Result<[RawFd; 2]> {
    let mut ends = [0; 2];
    // SAFETY: the array has room for both.
    match unsafe { libc::pipe(ends.as_mut_ptr()) } {
        0 => Ok(ends),
        _ => Err(std::io::Error::last_os_error().into()),
    }
}

fn recover(id: u32, words: &[String]) -> Result<i32> {
    // SAFETY: a C string. Left open in what is started, as the original does.
    unsafe { libc::open(c"/dev/ublk-control".as_ptr(), libc::O_RDWR) };
    let Some(object) = object(id)? else {
        eprintln!("get dev {id} data failed");
        return Ok(1);
    };
    let kind = text(&object["target"]["name"]);
    if kind.len() >= 32 { Ok(1) } else { start(&kind, words) }
}

fn list(id: u32) -> Result<i32> {
    let Ok(info) = Ublk::query(id) else { return Ok(-libc::ENODEV) };
    let details = Ublk::details(id)?;
    let of = |name: &str| {
        let parts = details.parts.iter().flat_map(|(_, fields)| fields);
        parts.filter(|(found, _)| *found == name).map(|(_, value)| *value).sum::<u64>()
    };
    println!(
        "dev id {id}: nr_hw_queues {} queue_depth {} block size {} dev_capacity {}",
        info.queues,
        info.depth,
        1_u64 << of("logical_bs_shift"),
        of("dev_sectors")
    );
    let state = match info.state {
        DeviceState::Live => "LIVE",
        DeviceState::Quiesced => "QUIESCED",
        DeviceState::Dead => "DEAD",
        _ => "OTHER",
    };
    let (most, pid) = (info.request_max.bytes(), info.server.unwrap_or_default());
    println!("\tmax rq size {most} daemon pid {pid} state {state}");
    let Some(object) = object(id)? else { return Ok(0) };
    for queue in 0..info.queues {
        let queue = &object["queues"][queue.to_string()];
        let tid = whole(&queue["tid"]);
        println!("\tqueue {}: tid {tid} affinity({})", queue["qid"], text(&queue["affinity"]));
    }
    let target = object["target"].to_string();
    assert!(target.len() < 512, "a target of {} bytes is printed as garbage", target.len());
    println!("\ttarget {target}");
    Ok(0)
}

fn delete(id: u32) -> Result<i32> {
    let Ok(info) = Ublk::query(id) else { return Ok(0) };
    Device::abandon(id, info.mark)?;
    let is_served = || {
        let pid = fs::read_to_string(path(id)).ok();
        let pid = pid.and_then(|text| text.split('\n').next()?.parse::<u32>().ok());
        pid.is_some_and(|pid| fs::exists(format!("/proc/{pid}")).unwrap_or(false))
    };
    if !(0..30).any(|_| {
        !is_served() || {
            sleep(Duration::from_millis(100));
            false
        }
    }) {
        eprintln!("stop daemon {id} failed");
        return Ok(-19);
    }
    // Its server may not do that itself: then there is nothing to delete.
    match Device::delete_stopped(id, info.mark) {
        Ok(()) => Ok(0),
        Err(error) => {
            eprintln!("delete dev {id} failed: {error}");
            Ok(-19)
        }
    }
}

fn set_affinity(id: u32, words: &[String]) -> Result<i32> {
    let queue = option(words, 'q', "queue").ok_or("Must specify -q / --queue")?;
    let set = option(words, '\0', "cpuset").ok_or("Must specify --cpuset")?;
    let cpu = set.strip_prefix('[').and_then(|set| set.strip_suffix(']'));
    let cpu = cpu.ok_or("No cpuset provided")?.parse::<usize>()?;
    let Some(object) = object(id)? else {
        eprintln!("can't get json from {id}");
        return Ok(-libc::EINVAL);
    };
    let tid = whole(&object["queues"][queue]["tid"]);
    // SAFETY: a set of this very size, zeroed before.
    let result = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(tid as i32, size_of::<libc::cpu_set_t>(), &raw const set)
    };
    Ok(result)
}

/// What `N.pid` says; nothing if it is not there. It has the process and a newline, then zeroes,
/// from byte 32 on JSON, and one zero at its end.
fn object(id: u32) -> Result<Option<Value>> {
    let Ok(bytes) = fs::read(path(id)) else { return Ok(None) };
    let (head, json) = bytes.split_at(bytes.len().min(32));
    let head = std::str::from_utf8(head)?;
    let (pid, padding) = head.split_once('\n').ok_or("no newline behind the process")?;
    let well_formed = pid.parse::<u32>().is_ok() && padding.bytes().all(|byte| byte == 0);
    let json = json.strip_suffix(&[0]).filter(|json| !json.contains(&0));
    match (well_formed, json) {
        (true, Some(json)) => Ok(Some(serde_json::from_slice(json)?)),
        _ => die("its head or its end is wrong"),
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| die("a string is expected"), str::to_owned)
}

fn whole(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| die("a number is expected"))
}

/// The end of the original when it meets what it did not expect.
fn die<T>(why: &str) -> T {
    eprintln!("terminate called: {why}");
    std::process::abort()
}

fn path(id: u32) -> String {
    format!("/run/ublksrvd/{id}.pid")
}
