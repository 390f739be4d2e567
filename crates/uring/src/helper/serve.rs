//! The helper itself: threads that each take a request, carry it out, and answer.
//!
//! Whoever takes a request while nobody else waits for the next one first sees to it that
//! somebody does: however many calls hang, the next one finds a thread.
#![allow(unsafe_code, reason = "ignoring a signal has no safe wrapper")]

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use blk::BufMut;
use rustix::fs::{FallocateFlags, MemfdFlags};
use rustix::io::{Errno, ReadWriteFlags};
use rustix::net::{RecvFlags, SendFlags, SocketType, sockopt};
use rustix::process::{Pid, Signal};

use super::wire::{self, Call, Reply, Request, Work};
use crate::{open, sys};

/// Serves the process at the other end of standard input until that is gone, and then ends
/// this one: it does not return if all is well.
///
/// # Errors
/// If standard input is no socket that a [`super::Program`] was given.
pub fn serve() -> io::Result<()> {
    let is_line = sockopt::socket_type(line()).is_ok_and(|kind| kind == SocketType::SEQPACKET);
    if !is_line {
        let why = "expected a socket as standard input: only a daemon starts this";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
        // A service manager tells all processes of a service to end; the one that is served
        // still needs its helpers for that.
        // SAFETY: ignoring a signal runs no code.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
    rustix::process::chdir("/")?;
    let asker = sockopt::socket_peercred(line())?.pid;
    Staff { waiting: Arc::default(), asker }.work(true);
    Ok(())
}

/// The threads of a helper.
#[derive(Clone)]
struct Staff {
    waiting: Arc<AtomicUsize>,
    /// The process that is served.
    asker: Pid,
}

impl Staff {
    /// Takes requests and answers them; a thread that is not `needed` stops when enough others
    /// wait for one.
    fn work(&self, needed: bool) {
        while needed || self.waiting.load(Ordering::Relaxed) < SPARE_MAX {
            self.waiting.fetch_add(1, Ordering::Relaxed);
            let request = wire::receive(line(), RecvFlags::empty());
            let others = self.waiting.fetch_sub(1, Ordering::Relaxed) - 1;
            let Ok(Some((request, fd))) = request else { std::process::exit(0) };
            if others == 0 {
                self.hire();
            }
            self.carry_out(request, fd);
        }
    }

    fn hire(&self) {
        let staff = self.clone();
        let thread = thread::Builder::new().stack_size(STACK_BYTES);
        // Without one the next request waits for this one.
        drop(thread.spawn(move || staff.work(false)));
    }

    fn carry_out(&self, request: Request, fd: Option<OwnedFd>) {
        match request {
            Request::Hello => answer(&Reply::Here, None),
            Request::Call(Call { nr, work }) => {
                let done = fd.as_ref().map_or(Err(Errno::BADF), |fd| self.call(work, fd));
                // Before the answer: then the disk is not busy any more.
                drop(fd);
                let (moved, bytes) = match done {
                    Ok((moved, bytes)) => (i32::try_from(moved).unwrap_or(i32::MAX), bytes),
                    Err(errno) => (-errno.raw_os_error(), None),
                };
                let reply = Reply::Called { nr, result: moved };
                answer(&reply, bytes.as_ref().map(AsFd::as_fd));
            }
            Request::Open { path, spec } => match open::open(&path, &spec) {
                Ok(disk) => answer(&Reply::Opened(Ok(disk.facts().clone())), Some(disk.as_fd())),
                Err(error) => answer(&Reply::Opened(Err(error.into())), None),
            },
        }
    }

    /// How many bytes were moved, and what was read.
    fn call(&self, work: Work, fd: &OwnedFd) -> rustix::io::Result<(usize, Option<OwnedFd>)> {
        match work {
            Work::Sync => rustix::fs::fdatasync(fd).map(|()| (0, None)),
            Work::Fallocate { mode, offset, len } => {
                let mode = FallocateFlags::from_bits_retain(mode.cast_unsigned());
                rustix::fs::fallocate(fd, mode, offset, len).map(|()| (0, None))
            }
            Work::Read { offset, len } => read(fd, offset, len),
            Work::Write { offset, len, dsync, vectors, count } => {
                let bytes = self.copy(len, vectors, count);
                let bytes = bytes.map_err(|_| Errno::from_raw_os_error(wire::OUT_OF_REACH))?;
                let flags = if dsync { ReadWriteFlags::DSYNC } else { ReadWriteFlags::empty() };
                let moved = rustix::io::pwritev2(fd, &[IoSlice::new(&bytes)], offset, flags)?;
                Ok((moved, None))
            }
        }
    }

    /// What the process that is served wants to be written.
    fn copy(&self, len: u64, vectors: u64, count: u64) -> io::Result<BufMut> {
        let mut bytes = BufMut::zeroed(in_memory(len)?);
        let asker = self.asker.as_raw_nonzero().get();
        sys::read_vectors_of_process(asker, vectors, in_memory(count)?, &mut bytes)?;
        // Its number may be another's once it is gone: then it is not this one's parent.
        if rustix::process::getppid() != Some(self.asker) {
            return Err(io::Error::other("the process that is served is gone"));
        }
        Ok(bytes)
    }
}

fn read(fd: &OwnedFd, offset: u64, len: u64) -> rustix::io::Result<(usize, Option<OwnedFd>)> {
    let mut bytes = BufMut::zeroed(in_memory(len).map_err(|_| Errno::INVAL)?);
    let moved = rustix::io::pread(fd, &mut bytes[..], offset)?;
    let file = rustix::fs::memfd_create("read", MemfdFlags::CLOEXEC)?;
    let mut written = 0;
    while written < moved {
        written += rustix::io::pwrite(&file, &bytes[written..moved], written as u64)?;
    }
    Ok((moved, Some(file)))
}

fn in_memory(number: u64) -> io::Result<usize> {
    let fits = usize::try_from(number).ok().filter(|number| *number <= COPIED_MAX);
    fits.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))
}

fn answer(reply: &Reply, fd: Option<BorrowedFd<'_>>) {
    // If nobody is there any more, the next look for a request ends this process.
    let _ = wire::send(line(), reply, fd, SendFlags::empty());
}

fn line() -> BorrowedFd<'static> {
    rustix::stdio::stdin()
}

/// Threads that wait for requests, beyond the one that has to.
const SPARE_MAX: usize = 4;
/// More than one call moves.
const COPIED_MAX: usize = 64 << 20;
const STACK_BYTES: usize = 256 << 10;
