//! The helper itself: threads that each take a request, carry it out, and answer.
//!
//! Whoever takes a request while nobody else waits for the next one first sees to it that
//! somebody does: however many calls hang, the next one finds a thread.
#![allow(unsafe_code, reason = "ignoring a signal has no safe wrapper")]

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rustix::fs::FallocateFlags;
use rustix::net::{RecvFlags, SendFlags, SocketType, sockopt};
use rustix::process::Signal;

use super::wire::{self, Call, Reply, Request, Work};
use crate::open;

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
    Staff::default().work(true);
    Ok(())
}

/// The threads of a helper.
#[derive(Clone, Default)]
struct Staff {
    waiting: Arc<AtomicUsize>,
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
            carry_out(request, fd);
        }
    }

    fn hire(&self) {
        let staff = self.clone();
        let thread = thread::Builder::new().stack_size(STACK_BYTES);
        // Without one the next request waits for this one.
        drop(thread.spawn(move || staff.work(false)));
    }
}

fn carry_out(request: Request, fd: Option<OwnedFd>) {
    match request {
        Request::Call(Call { nr, work }) => {
            let result = fd.as_ref().map_or(Err(rustix::io::Errno::BADF), |fd| call(work, fd));
            // Before the answer: then the disk is not busy any more.
            drop(fd);
            let result = result.map_or_else(|errno| -errno.raw_os_error(), |()| 0);
            answer(&Reply::Called { nr, result }, None);
        }
        Request::Open { path, spec } => match open::open(&path, &spec) {
            Ok(disk) => answer(&Reply::Opened(Ok(disk.facts().clone())), Some(disk.as_fd())),
            Err(error) => answer(&Reply::Opened(Err(error.into())), None),
        },
    }
}

fn call(work: Work, fd: &OwnedFd) -> rustix::io::Result<()> {
    match work {
        Work::Sync => rustix::fs::fdatasync(fd),
        Work::Fallocate { mode, offset, len } => {
            let mode = FallocateFlags::from_bits_retain(mode.cast_unsigned());
            rustix::fs::fallocate(fd, mode, offset, len)
        }
    }
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
const STACK_BYTES: usize = 256 << 10;
