//! Opening disks that may hang: another process opens them, and hands them over.

use std::io;
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
        Ok(Self { lane: lane.clone(), socket: Some(socket), child })
    }

    /// Opens a disk as [`Disk::open`] does, however long that takes.
    ///
    /// # Errors
    /// Those of [`Disk::open`], and those of a process that ends before it answers.
    pub fn open(&mut self, path: &Path, spec: &OpenSpec) -> Result<Disk, NotOpened> {
        match self.ask(path, spec) {
            Ok((Ok(facts), Some(fd))) => {
                Ok(Disk::new(fd.into(), path.to_owned(), facts, Some(self.lane.clone())))
            }
            Ok((Err(refusal), _)) => Err(refusal),
            Ok((Ok(_), None)) => Err(lost(path, "it was not handed over")),
            Err(error) => Err(lost(path, &error.to_string())),
        }
    }

    fn ask(&self, path: &Path, spec: &OpenSpec) -> io::Result<Opened> {
        let socket = self.socket.as_ref().expect("dropped only at the end").as_fd();
        // A helper has no working directory that anybody knows of.
        let request = Request::Open { path: std::path::absolute(path)?, spec: *spec };
        wire::send(socket, &request, None, SendFlags::empty())?;
        match wire::receive(socket, RecvFlags::empty())? {
            Some((Reply::Opened(result), fd)) => Ok((result, fd)),
            Some((reply, _)) => Err(io::Error::other(format!("unexpected {reply:?}"))),
            None => Err(io::Error::other("the process that was to open it has ended")),
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

type Opened = (Result<crate::facts::Facts, NotOpened>, Option<OwnedFd>);

fn lost(path: &Path, why: &str) -> NotOpened {
    NotOpened { errno: Errno::EIO, why: format!("{}: could not be opened: {why}", path.display()) }
}
