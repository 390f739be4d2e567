//! The daemon's side of the control socket: a few callers at a time, each with limits.
//!
//! Nothing here knows the engine: a request goes to the handler, whose replies go back.
//! A caller that is slow, silent or wrong costs one thread for a few seconds.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{fs, io, thread};

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::lines::{Lines, write_line};
use super::protocol::{Reply, Request};

/// The listening socket.
pub(crate) struct Server {
    listener: UnixListener,
    allowed: u32,
}

/// Where a handler sends what it has to say to one request.
pub(crate) struct Replies<'a> {
    stream: &'a UnixStream,
}

impl Server {
    /// Listens at `socket`, in a directory that only its owner can enter, for callers
    /// with the user id `allowed`. A socket left there by a daemon that is gone goes.
    pub(crate) fn bind(socket: &Path, allowed: u32) -> Result<Self> {
        let what = || format!("listening at {}", socket.display());
        match fs::remove_file(socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(what);
            }
            _ => {}
        }
        let listener = UnixListener::bind(socket).with_context(what)?;
        fs::set_permissions(socket, fs::Permissions::from_mode(0o600)).with_context(what)?;
        Ok(Self { listener, allowed })
    }

    /// Serves callers on threads of its own until the process ends.
    pub(crate) fn start(
        self,
        handler: impl Fn(Request, &mut Replies<'_>) + Send + Sync + 'static,
    ) -> Result<()> {
        thread::Builder::new()
            .name("control".into())
            .spawn(move || self.accept_all(&Arc::new(handler)))
            .context("starting the control thread")?;
        Ok(())
    }

    fn accept_all<H>(&self, handler: &Arc<H>)
    where
        H: Fn(Request, &mut Replies<'_>) + Send + Sync + 'static,
    {
        let callers = Arc::new(AtomicUsize::new(0));
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => self.admit(stream, handler, &callers),
                Err(error) => {
                    log::warn!("control socket: cannot accept a call: {error}");
                    // Out of file descriptors, most likely: no reason to spin.
                    thread::sleep(ACCEPT_PAUSE);
                }
            }
        }
    }

    fn admit<H>(&self, stream: UnixStream, handler: &Arc<H>, callers: &Arc<AtomicUsize>)
    where
        H: Fn(Request, &mut Replies<'_>) + Send + Sync + 'static,
    {
        let refusal = match prepare(&stream, self.allowed) {
            Ok(()) if callers.load(Ordering::Acquire) < CALLERS_MAX => None,
            Ok(()) => Some(format!("{CALLERS_MAX} callers are being served; try again")),
            Err(error) => Some(format!("{error:#}")),
        };
        if let Some(refusal) = refusal {
            Replies { stream: &stream }.send(&Reply::Error(refusal));
            return;
        }
        callers.fetch_add(1, Ordering::AcqRel);
        let (handler, seat) = (Arc::clone(handler), Seat(Arc::clone(callers)));
        let spawned = thread::Builder::new().name("caller".into()).spawn(move || {
            let _seat = seat;
            converse(&stream, handler.as_ref());
        });
        if let Err(error) = spawned {
            log::warn!("control socket: cannot serve a caller: {error}");
        }
    }
}

impl Replies<'_> {
    /// Sends one line. A caller that went away misses it, and nothing else happens.
    pub(crate) fn send(&mut self, reply: &Reply) {
        if let Err(error) = write_line(&mut self.stream, reply) {
            log::debug!("control socket: the caller is gone: {error:#}");
        }
    }
}

/// One of the few places for callers.
struct Seat(Arc<AtomicUsize>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

fn prepare(stream: &UnixStream, allowed: u32) -> Result<()> {
    let peer = rustix::net::sockopt::socket_peercred(stream).context("asking who calls")?;
    anyhow::ensure!(
        peer.uid.as_raw() == allowed,
        "expected user id {allowed}, found {}",
        peer.uid.as_raw()
    );
    stream.set_read_timeout(Some(REQUEST_LIMIT)).context("limiting a call")?;
    stream.set_write_timeout(Some(REQUEST_LIMIT)).context("limiting a call")
}

/// Serves one caller until it hangs up, says nothing for too long, or says nonsense
/// whose end cannot be found.
fn converse(stream: &UnixStream, handler: &impl Fn(Request, &mut Replies<'_>)) {
    let mut lines = Lines::new(stream);
    let mut replies = Replies { stream };
    loop {
        match lines.next(Instant::now() + REQUEST_LIMIT) {
            Ok(None) => return,
            Ok(Some(line)) => match Request::parse(&line) {
                // Who was kept waiting for too long has been told that nothing came of it.
                Ok(_) if has_hung_up(stream) => return,
                Ok(request) => handler(request, &mut replies),
                Err(refusal) => replies.send(&Reply::Error(refusal)),
            },
            Err(error) => return replies.send(&Reply::Error(format!("{error:#}"))),
        }
    }
}

/// Whether nobody is there to be told.
fn has_hung_up(stream: &UnixStream) -> bool {
    let mut fds = [PollFd::new(stream, PollFlags::empty())];
    let polled = poll(&mut fds, Some(&Timespec::default()));
    polled.is_ok() && fds[0].revents().contains(PollFlags::HUP)
}

/// More than people and scripts need at once; each costs one thread.
const CALLERS_MAX: usize = 8;

/// How long a caller may take to say what it wants, and to take the answer.
const REQUEST_LIMIT: Duration = Duration::from_secs(5);

const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Write};
    use std::path::PathBuf;

    use super::super::lines::LINE_BYTES_MAX;

    fn me() -> u32 {
        rustix::process::geteuid().as_raw()
    }

    /// A server whose answer to anything is the request itself.
    fn echo(allowed: u32) -> (tempfile::TempDir, PathBuf) {
        let home = tempfile::tempdir().unwrap();
        let socket = home.path().join("control");
        let server = Server::bind(&socket, allowed).unwrap();
        server
            .start(|request, replies| {
                replies.send(&Reply::Ok(serde_json::to_value(&request).unwrap()));
            })
            .unwrap();
        (home, socket)
    }

    fn answer(stream: &UnixStream) -> Reply {
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("no reply: {line:?}"))
    }

    fn said(socket: &Path, bytes: &[u8]) -> Reply {
        let mut stream = UnixStream::connect(socket).unwrap();
        stream.write_all(bytes).unwrap();
        answer(&stream)
    }

    #[test]
    fn a_caller_can_ask_more_than_once() {
        let (_home, socket) = echo(me());
        let mut stream = UnixStream::connect(&socket).unwrap();
        for _ in 0..2 {
            stream.write_all(b"{\"verb\":\"info\"}\n").unwrap();
            assert!(matches!(answer(&stream), Reply::Ok(_)));
        }
    }

    #[test]
    fn what_somebody_asked_who_has_gone_is_not_begun() {
        let home = tempfile::tempdir().unwrap();
        let socket = home.path().join("control");
        let server = Server::bind(&socket, me()).unwrap();
        // It takes no calls yet, and he has waited for long enough.
        let mut gone = UnixStream::connect(&socket).unwrap();
        gone.write_all(b"{\"verb\":\"remove\",\"drain\":true,\"force\":true,\"limit_ms\":1}\n")
            .unwrap();
        drop(gone);
        let (sender, asked) = std::sync::mpsc::channel();
        server
            .start(move |request, replies| {
                sender.send(request).unwrap();
                replies.send(&Reply::Ok(serde_json::Value::Null));
            })
            .unwrap();
        // Who only says that he has no more to ask is answered.
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.write_all(b"{\"verb\":\"info\"}\n").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(matches!(answer(&stream), Reply::Ok(_)));
        // Callers have threads of their own: the first one's has its time.
        let others = asked.recv_timeout(Duration::from_millis(500)).into_iter();
        let all: Vec<Request> =
            others.chain(asked.recv_timeout(Duration::from_millis(500))).collect();
        assert!(matches!(all[..], [Request::Info {}]), "{all:?}");
    }

    #[test]
    fn nonsense_is_answered_and_the_next_request_still_heard() {
        let (_home, socket) = echo(me());
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.write_all(b"hello\n").unwrap();
        assert!(matches!(answer(&stream), Reply::Error(_)));
        stream.write_all(b"{\"verb\":\"info\"}\n").unwrap();
        assert!(matches!(answer(&stream), Reply::Ok(_)));
    }

    #[test]
    fn a_line_without_end_is_refused_at_its_limit() {
        let (_home, socket) = echo(me());
        let Reply::Error(refusal) = said(&socket, &vec![b' '; LINE_BYTES_MAX + 4096]) else {
            panic!("an endless line was accepted");
        };
        assert!(refusal.contains("at most 262144 bytes"), "{refusal}");
    }

    #[test]
    fn another_user_is_turned_away() {
        let (_home, socket) = echo(me() + 1);
        let stream = UnixStream::connect(&socket).unwrap();
        let Reply::Error(refusal) = answer(&stream) else { panic!("a stranger was served") };
        assert!(refusal.contains("expected user id"), "{refusal}");
    }

    #[test]
    fn silent_callers_take_a_bounded_number_of_places() {
        let (_home, socket) = echo(me());
        let mut silent: Vec<_> =
            (0..CALLERS_MAX).map(|_| UnixStream::connect(&socket).unwrap()).collect();
        let Reply::Error(refusal) = answer(&UnixStream::connect(&socket).unwrap()) else {
            panic!("one caller too many was served");
        };
        assert!(refusal.contains("try again"), "{refusal}");
        // One who speaks late is served all the same.
        let last = silent.last_mut().unwrap();
        last.write_all(b"{\"verb\":\"info\"}\n").unwrap();
        assert!(matches!(answer(last), Reply::Ok(_)));
    }

    #[test]
    fn the_socket_is_for_its_owner_only() {
        let (_home, socket) = echo(me());
        assert_eq!(fs::metadata(socket).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
