//! The socket at which metrics are served: one caller at a time, each with limits, by one thread.
//!
//! It is a process of its own: a daemon, which holds data, speaks no HTTP. Whatever a caller does
//! costs the others a few seconds at most.

use std::fmt;
use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use super::http::{self, Asked, Refusal};

/// Where: on this host only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    Loopback(SocketAddr),
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || {
            Err("expected 127.0.0.1:PORT, [::1]:PORT or unix:PATH, for nobody but this host; \
                 a proxy can say who else may see them"
                .to_owned())
        };
        if let Some(path) = text.strip_prefix("unix:") {
            let is_path = path.starts_with('/');
            return if is_path { Ok(Self::Unix(path.into())) } else { expected() };
        }
        match text.parse::<SocketAddr>() {
            Ok(address) if address.ip().is_loopback() => Ok(Self::Loopback(address)),
            _ => expected(),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loopback(address) => write!(f, "http://{address}/metrics"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A socket that takes callers.
pub(crate) enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listening {
    pub(crate) fn at(address: &Address) -> Result<Self> {
        let listening = match address {
            Address::Loopback(address) => TcpListener::bind(address).map(Self::Tcp),
            Address::Unix(path) => {
                make_room(path)?;
                UnixListener::bind(path).and_then(|listener| {
                    fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
                    Ok(Self::Unix(listener))
                })
            }
        };
        listening.with_context(|| format!("listening at {address}"))
    }

    /// Answers callers with what `text` says, for ever.
    pub(crate) fn serve(&self, text: impl Fn() -> String) -> ! {
        loop {
            let answered = match self {
                Self::Tcp(listener) => listener.accept().map(|(it, _)| answer(&it, &text)),
                Self::Unix(listener) => listener.accept().map(|(it, _)| answer(&it, &text)),
            };
            match answered {
                // Who hangs up, or is too slow, has no answer.
                Ok(_) => {}
                // Out of file descriptors, most likely: no reason to spin.
                Err(_) => thread::sleep(ACCEPT_PAUSE),
            }
        }
    }
}

/// A socket that a process left which is gone makes room; nothing else does.
fn make_room(path: &Path) -> Result<()> {
    let what = || path.display().to_string();
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Ok(it) if it.file_type().is_socket() => {}
        Ok(_) => bail!("{}: expected a socket or nothing there, found something else", what()),
        Err(error) => return Err(error).with_context(what),
    }
    match call(path) {
        Err(Errno::CONNREFUSED) => fs::remove_file(path).with_context(what),
        Ok(()) | Err(Errno::AGAIN) => bail!("{}: somebody else listens there", what()),
        Err(error) => Err(error).with_context(what),
    }
}

/// Whether somebody takes calls there, also if he takes none at present: nobody is waited for.
fn call(path: &Path) -> Result<(), Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&fd, &SocketAddrUnix::new(path)?)
}

/// A caller.
trait Caller {
    fn limit(&self, time: Duration) -> io::Result<()>;
    fn finish(&self) -> io::Result<()>;
}

impl Caller for TcpStream {
    fn limit(&self, time: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(time))?;
        self.set_write_timeout(Some(time))
    }

    fn finish(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

impl Caller for UnixStream {
    fn limit(&self, time: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(time))?;
        self.set_write_timeout(Some(time))
    }

    fn finish(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

fn answer<C: Caller>(caller: &C, text: impl Fn() -> String) -> io::Result<()>
where
    for<'a> &'a C: Read + Write,
{
    let asked = hear(caller)?;
    let bytes = match asked {
        Asked::Metrics => http::answer(&text(), true),
        Asked::Head => http::answer(&text(), false),
        Asked::Bad(refusal) => refusal.answer(),
        Asked::More => return Ok(()),
    };
    say(caller, &bytes)?;
    caller.finish()?;
    // Closed with something unread, a socket takes back what it was given last.
    let until = Instant::now() + LAST_WORDS;
    let mut unread = caller;
    while remaining(caller, until).is_ok() && matches!(unread.read(&mut [0; 4096]), Ok(1..)) {}
    Ok(())
}

/// Hears a caller out, for as long as one may take.
fn hear<C: Caller>(caller: &C) -> io::Result<Asked>
where
    for<'a> &'a C: Read,
{
    let until = Instant::now() + REQUEST_LIMIT;
    let (mut bytes, mut stream) = (Vec::new(), caller);
    loop {
        match http::asked(&bytes) {
            Asked::More => {}
            asked => return Ok(asked),
        }
        if remaining(caller, until).is_err() {
            return Ok(Asked::Bad(Refusal::TimedOut));
        }
        let mut chunk = [0; 1024];
        match stream.read(&mut chunk) {
            Ok(0) => return Ok(Asked::More),
            Ok(len) => bytes.extend_from_slice(&chunk[..len]),
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
                _ => return Err(error),
            },
        }
    }
}

fn say<C: Caller>(caller: &C, mut bytes: &[u8]) -> io::Result<()>
where
    for<'a> &'a C: Write,
{
    let until = Instant::now() + REQUEST_LIMIT;
    let mut stream = caller;
    while !bytes.is_empty() {
        remaining(caller, until)?;
        match stream.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(len) => bytes = &bytes[len..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Has the next system call end in time: a caller who sends a byte now and then is late as well.
fn remaining<C: Caller>(caller: &C, until: Instant) -> io::Result<()> {
    match until.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(ErrorKind::TimedOut.into()),
        left => caller.limit(left),
    }
}

/// How long a caller may take to ask, and to take the answer.
const REQUEST_LIMIT: Duration = Duration::from_secs(2);
const LAST_WORDS: Duration = Duration::from_millis(200);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "a 1\n";

    fn tcp() -> SocketAddr {
        let listening = Listening::at(&"127.0.0.1:0".parse().unwrap()).unwrap();
        let Listening::Tcp(listener) = &listening else { panic!() };
        let address = listener.local_addr().unwrap();
        thread::spawn(move || listening.serve(|| TEXT.to_owned()));
        address
    }

    fn said(mut stream: impl Read + Write, bytes: &[u8]) -> String {
        stream.write_all(bytes).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn metrics_are_served_at_a_port_and_nonsense_is_refused_there() {
        let address = tcp();
        let ask = |bytes: &[u8]| said(TcpStream::connect(address).unwrap(), bytes);
        let begins = |bytes: &[u8], status: &str| {
            let answer = ask(bytes);
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        };
        assert!(ask(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").ends_with("\r\n\r\na 1\n"));
        begins(b"GET /x HTTP/1.1\r\n\r\n", "404");
        begins(b"POST /metrics HTTP/1.1\r\n\r\n", "405");
        begins(b"hello\n", "400");
        begins(&[b'A'; 20_000], "431");
    }

    #[test]
    fn who_hangs_up_or_says_nothing_keeps_the_next_one_waiting_for_a_moment_only() {
        let address = tcp();
        drop(TcpStream::connect(address).unwrap());
        let began = Instant::now();
        let mut silent = TcpStream::connect(address).unwrap();
        silent.write_all(b"GET /metrics HTT").unwrap();
        let next = TcpStream::connect(address).unwrap();
        assert!(said(next, b"GET /metrics HTTP/1.1\r\n\r\n").ends_with(TEXT));
        assert!(began.elapsed() < Duration::from_secs(30));
        let mut text = String::new();
        silent.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("HTTP/1.1 408 "), "{text}");
    }

    #[test]
    fn a_unix_socket_that_was_left_makes_room_and_nothing_else_does() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("metrics");
        let address = Address::Unix(path.clone());
        drop(Listening::at(&address).unwrap());
        assert!(path.exists(), "a process that was killed leaves it");
        let listening = Listening::at(&address).unwrap();
        let second = Listening::at(&address).err().unwrap().to_string();
        assert!(second.contains("somebody else listens there"), "{second}");
        thread::spawn(move || listening.serve(|| TEXT.to_owned()));
        let stream = UnixStream::connect(&path).unwrap();
        assert!(said(stream, b"GET /metrics HTTP/1.1\r\n\r\n").ends_with(TEXT));
        // One who takes no calls is there all the same.
        let busy = home.path().join("busy");
        let of = (AddressFamily::UNIX, SocketType::STREAM);
        let listener = socket_with(of.0, of.1, SocketFlags::CLOEXEC, None).unwrap();
        rustix::net::bind(&listener, &SocketAddrUnix::new(&busy).unwrap()).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let _calls = UnixStream::connect(&busy).unwrap();
        let error = Listening::at(&Address::Unix(busy.clone())).err().unwrap().to_string();
        assert!(error.contains("somebody else listens there") && busy.exists(), "{error}");
        let file = home.path().join("file");
        fs::write(&file, "mine").unwrap();
        let error = Listening::at(&Address::Unix(file.clone())).err().unwrap().to_string();
        assert!(error.contains("found something else"), "{error}");
        assert_eq!(fs::read_to_string(file).unwrap(), "mine");
    }
}
