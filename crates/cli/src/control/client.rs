//! The client's side of the control socket: ask one thing, wait with a limit.

use std::io::{self, ErrorKind};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, bail};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::lines::{Lines, write_line};
use super::protocol::{Reply, Request};

/// A conversation with one daemon.
pub(crate) struct Client {
    stream: UnixStream,
    silence_max: Duration,
}

impl Client {
    /// Calls the daemon behind `socket`.
    pub(crate) fn connect(socket: &Path) -> Result<Self> {
        Self::connect_within(socket, SILENCE_MAX)
    }

    /// The same, when a silence of `silence_max` is too long.
    pub(crate) fn connect_within(socket: &Path, silence_max: Duration) -> Result<Self> {
        let stream = connect(socket, silence_max)
            .with_context(|| format!("cannot reach the daemon at {}", socket.display()))?;
        Ok(Self { stream, silence_max })
    }

    /// Asks, shows progress through `progress`, and returns the answer.
    pub(crate) fn ask<T: DeserializeOwned>(
        self,
        request: &Request,
        progress: impl FnMut(&str),
    ) -> Result<T> {
        let value = self.ask_value(request, progress)?;
        serde_json::from_value(value).context("expected a known answer; is the daemon older?")
    }

    fn ask_value(self, request: &Request, progress: impl FnMut(&str)) -> Result<Value> {
        // Whether it goes before it is asked, meanwhile or behind it: users see one thing.
        self.converse(request, progress).map_err(|error| match hung_up(&error) {
            true => error.context("expected an answer of the daemon, found it gone"),
            false => error,
        })
    }

    fn converse(mut self, request: &Request, mut progress: impl FnMut(&str)) -> Result<Value> {
        write_line(&mut self.stream, request).context("asking the daemon")?;
        let mut lines = Lines::with_line_bytes_max(&self.stream, REPLY_BYTES_MAX);
        loop {
            let line = lines
                .next(Instant::now() + self.silence_max)
                .context("waiting for the daemon's answer")?
                .ok_or_else(|| io::Error::from(ErrorKind::UnexpectedEof))?;
            match serde_json::from_slice(&line).context("expected an answer of a daemon")? {
                Reply::Progress(text) => progress(&text),
                Reply::Ok(value) => return Ok(value),
                Reply::Error(sentence) => bail!(sentence),
            }
        }
    }
}

/// Whether a conversation failed because the daemon hung up, as one does that dies meanwhile.
pub(crate) fn hung_up(error: &Error) -> bool {
    use ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset, UnexpectedEof};
    error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>()).any(|cause| {
        matches!(cause.kind(), BrokenPipe | ConnectionRefused | ConnectionReset | UnexpectedEof)
    })
}

/// Connects with a limit: a daemon that hangs leaves its queue of callers full.
fn connect(socket: &Path, limit: Duration) -> Result<UnixStream> {
    let address = SocketAddrUnix::new(socket)?;
    let fd = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    sockopt::set_socket_timeout(&fd, sockopt::Timeout::Send, Some(limit))?;
    sockopt::set_socket_timeout(&fd, sockopt::Timeout::Recv, Some(limit))?;
    match rustix::net::connect(&fd, &address).map_err(io::Error::from) {
        Ok(()) => Ok(fd.into()),
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            bail!("it takes no calls for {} s", limit.as_secs())
        }
        Err(error) => Err(error.into()),
    }
}

/// A daemon says something at least this often while it works on a request.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Status of a group with the most devices and sites, and room to spare.
const REPLY_BYTES_MAX: usize = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;
    use std::thread;

    const SHORT: Duration = Duration::from_millis(100);

    /// A daemon that answers everybody with `answer` and hangs up.
    fn answered_with(answer: &'static [u8]) -> Result<Value> {
        let home = tempfile::tempdir().unwrap();
        let socket = home.path().join("control");
        let listener = UnixListener::bind(&socket).unwrap();
        let daemon = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1024]).unwrap();
            stream.write_all(answer).unwrap();
        });
        let client = Client::connect(&socket).unwrap();
        let answer = client.ask_value(&Request::Info {}, |_| ());
        daemon.join().unwrap();
        answer
    }

    #[test]
    fn the_answer_is_what_follows_the_progress() {
        let answer = answered_with(b"{\"progress\":\"1 of 2\"}\n{\"ok\":[1]}\n").unwrap();
        assert_eq!(answer, serde_json::json!([1]));
    }

    #[test]
    fn the_daemon_s_error_is_the_client_s_error() {
        let error = answered_with(b"{\"error\":\"the device is mounted\"}\n").unwrap_err();
        assert_eq!(error.to_string(), "the device is mounted");
    }

    #[test]
    fn garbage_half_an_answer_and_none_are_clear_errors() {
        for (answer, expected) in [
            (b"SSH-2.0-OpenSSH\n".as_slice(), "expected an answer of a daemon"),
            (b"{\"maybe\":1}\n", "expected an answer of a daemon"),
            (b"{\"ok\":", "waiting for the daemon's answer"),
            (b"", "found it gone"),
        ] {
            let error = format!("{:#}", answered_with(answer).unwrap_err());
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_daemon_that_says_nothing_is_waited_for_with_a_limit() {
        let home = tempfile::tempdir().unwrap();
        let socket = home.path().join("control");
        let _listener = UnixListener::bind(&socket).unwrap();
        let client = Client::connect_within(&socket, SHORT).unwrap();
        let error = format!("{:#}", client.ask_value(&Request::Info {}, |_| ()).unwrap_err());
        assert!(error.contains("expected a line in time"), "{error}");
    }

    #[test]
    fn a_daemon_that_takes_no_calls_is_waited_for_with_a_limit() {
        let home = tempfile::tempdir().unwrap();
        let socket = home.path().join("control");
        let _listener = UnixListener::bind(&socket).unwrap();
        let mut callers = Vec::new();
        let error = loop {
            match Client::connect_within(&socket, SHORT) {
                Ok(caller) => callers.push(caller),
                Err(error) => break format!("{error:#}"),
            }
        };
        assert!(error.contains("it takes no calls"), "{error}");
    }

    #[test]
    fn a_socket_that_is_not_there_is_named() {
        let error = Client::connect(Path::new("/nowhere/control")).err().unwrap();
        assert!(format!("{error:#}").contains("/nowhere/control: No such file"), "{error:#}");
    }
}
