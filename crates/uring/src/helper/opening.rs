//! Opening disks that may hang: another process opens them, and hands them over.

use std::io::{self, ErrorKind::BrokenPipe, ErrorKind::ConnectionReset};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::Child;

use blk::{Errno, NotOpened};
use rustix::net::{RecvFlags, SendFlags};

use super::Lane;
use super::wire::{self, Reply, Request};
use crate::disk::Disk;
use crate::open::OpenSpec;

/// A helper that opens disks for one thread, as long as that thread lives.
#[derive(Debug)]
pub struct Opening {
    lane: Lane,
    // Gone before the child is waited for: that is what makes it end.
    socket: Option<OwnedFd>,
    child: Child,
}

impl Opening {
    pub(super) fn begin(lane: &Lane) -> io::Result<Self> {
        let (socket, end) = super::line()?;
        let child = lane.program.start(end)?;
        let opening = Self { lane: lane.clone(), socket: Some(socket), child };
        match opening.ask(&Request::Hello)? {
            (Reply::Here, _) => Ok(opening),
            (reply, _) => Err(unexpected(&reply)),
        }
    }

    /// Opens a disk as [`Disk::open`] does, however long that takes.
    ///
    /// # Errors
    /// Those of [`Disk::open`], and those of a process that ends before it answers.
    pub fn open(&mut self, path: &Path, spec: &OpenSpec) -> Result<Disk, NotOpened> {
        // A helper has no working directory that anybody knows of.
        let absolute = std::path::absolute(path);
        let request = absolute.map(|path| Request::Open { path, spec: *spec });
        match request.and_then(|request| self.ask(&request)) {
            Ok((Reply::Opened(Ok(facts)), Some(fd))) => {
                Ok(Disk::new(fd.into(), path.to_owned(), facts, Some(self.lane.clone())))
            }
            Ok((Reply::Opened(Err(refusal)), _)) => Err(refusal),
            Ok((Reply::Opened(Ok(_)), None)) => Err(lost(path, "it was not handed over")),
            Ok((reply, _)) => Err(lost(path, &unexpected(&reply).to_string())),
            Err(error) => Err(lost(path, &error.to_string())),
        }
    }

    fn ask(&self, request: &Request) -> io::Result<(Reply, Option<OwnedFd>)> {
        let socket = self.socket.as_ref().expect("dropped only at the end").as_fd();
        let sent = wire::send(socket, request, None, SendFlags::empty());
        let received = sent.and_then(|()| wire::receive(socket, RecvFlags::empty()));
        let ended = || io::Error::other("the process that was to open it has ended");
        match received {
            Ok(reply) => reply.ok_or_else(ended),
            // It did before it was asked; which of them it is depends on what it had not read.
            Err(error) if [BrokenPipe, ConnectionReset].contains(&error.kind()) => Err(ended()),
            Err(error) => Err(error),
        }
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        drop(self.socket.take());
        if let Err(error) = self.child.wait() {
            log::warn!("a helper that has ended could not be taken leave of: {error}");
        }
    }
}

fn unexpected(reply: &Reply) -> io::Error {
    io::Error::other(format!("unexpected {reply:?}"))
}

fn lost(path: &Path, why: &str) -> NotOpened {
    NotOpened { errno: Errno::EIO, why: format!("{}: could not be opened: {why}", path.display()) }
}
