//! A ring's line to the helper of a lane: calls go out, answers come in by the ring.
//!
//! The helper is kept by a thread, which starts another one when it ends. What it had been
//! asked then ends with an error, and that is true: a process whose end of the line is
//! closed has no call under way any more.

use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use rustix::net::{RecvFlags, SendFlags};

use super::wire::{self, Reply, Request};
use super::{Call, Lane, Program};

/// A ring's end of the line.
pub(crate) struct Post {
    lane: u16,
    /// For the other ends of new lines; `None`: nobody keeps a helper.
    keeper: Option<Sender<OwnedFd>>,
    socket: Option<OwnedFd>,
    /// Calls that the helper has been asked for.
    under_way: BTreeSet<u64>,
    /// Calls that wait until it has fewer.
    waiting: VecDeque<u64>,
}

/// What a look into the post brought.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    pub(crate) ended: Vec<Ended>,
    /// Calls that can be made now.
    pub(crate) ready: Vec<u64>,
}

/// A call that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) nr: u64,
    /// What the kernel answered; an errno if negative.
    pub(crate) result: i32,
    /// What was read.
    pub(crate) bytes: Option<File>,
}

impl Post {
    pub(crate) fn new(lane: &Lane) -> Self {
        Self {
            lane: lane.nr,
            keeper: keep(lane),
            socket: None,
            under_way: BTreeSet::new(),
            waiting: VecDeque::new(),
        }
    }

    /// The descriptor that is readable when there is something in the post. A new one needs
    /// to be watched; the answer to `connect` says so.
    pub(crate) fn fd(&self) -> Option<RawFd> {
        self.socket.as_ref().map(AsRawFd::as_raw_fd)
    }

    /// Sees to it that there is a line; whether it is new.
    pub(crate) fn connect(&mut self) -> io::Result<bool> {
        if self.socket.is_some() {
            return Ok(false);
        }
        let keeper = self.keeper.as_ref().ok_or_else(|| io::Error::other("nobody keeps it"))?;
        let (socket, end) = super::line()?;
        keeper.send(end).map_err(|_| io::Error::other("whoever kept it is gone"))?;
        self.socket = Some(socket);
        Ok(true)
    }

    /// Has a call made on `fd`, now or when the helper has done others.
    ///
    /// # Errors
    /// If it cannot be made: then there will be no answer.
    pub(crate) fn ask(&mut self, call: Call, fd: BorrowedFd<'_>) -> io::Result<()> {
        if self.under_way.len() >= UNDER_WAY_MAX {
            self.waiting.push_back(call.nr);
            return Ok(());
        }
        let socket = self.socket.as_ref().ok_or_else(|| io::Error::other("there is no line"))?;
        wire::send(socket.as_fd(), &Request::Call(call), Some(fd), SendFlags::DONTWAIT)?;
        self.under_way.insert(call.nr);
        Ok(())
    }

    /// Takes what is in the post, without waiting.
    pub(crate) fn collect(&mut self) -> Answers {
        let mut answers = Answers::default();
        while let Some(socket) = &self.socket {
            match wire::receive(socket.as_fd(), RecvFlags::DONTWAIT) {
                Ok(Some((Reply::Called { nr, result }, fd))) if self.under_way.remove(&nr) => {
                    answers.ended.push(Ended { nr, result, bytes: fd.map(File::from) });
                    answers.ready.extend(self.waiting.pop_front());
                }
                Ok(Some((reply, _))) => {
                    log::error!("helper {}: it said {reply:?}, unasked", self.lane);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Ok(None) => self.lose(&mut answers),
                Err(error) => {
                    log::error!("helper {}: it cannot be understood: {error}", self.lane);
                    break;
                }
            }
        }
        answers
    }

    /// The helper has ended.
    fn lose(&mut self, answers: &mut Answers) {
        self.socket = None;
        let lost = std::mem::take(&mut self.under_way).into_iter();
        let lost = lost.chain(std::mem::take(&mut self.waiting)).chain(answers.ready.drain(..));
        answers.ended.extend(lost.map(|nr| Ended { nr, result: -libc::EIO, bytes: None }));
    }
}

/// Starts a thread that keeps a helper for each line it gets, one at a time.
fn keep(lane: &Lane) -> Option<Sender<OwnedFd>> {
    let (sender, lines) = channel();
    let (nr, program) = (lane.nr, lane.program.clone());
    let thread = thread::Builder::new().name(format!("helper-{nr}"));
    match thread.spawn(move || keep_helpers(nr, &program, &lines)) {
        Ok(_) => Some(sender),
        Err(error) => {
            log::error!("helper {nr}: no thread to keep it could be started: {error}");
            None
        }
    }
}

fn keep_helpers(nr: u16, program: &Program, lines: &Receiver<OwnedFd>) {
    for end in lines {
        // This thread outlives the process, which would otherwise be killed with it.
        match program.start(end).and_then(|mut helper| helper.wait()) {
            Ok(status) if status.success() => {}
            Ok(status) => log::warn!("helper {nr}: its process has ended: {status}"),
            Err(error) => log::error!("helper {nr}: it could not be started: {error}"),
        }
        thread::sleep(PAUSE);
    }
}

/// Each takes a thread of the helper, if they all hang.
const UNDER_WAY_MAX: usize = 64;
/// The rest between the end of a helper and the start of the next.
const PAUSE: Duration = Duration::from_millis(500);
