//! One io_uring: backing I/O, and the commands of a front end beside it.
//!
//! The ring belongs to the thread that makes it. It owns the buffers of every I/O
//! from [`Ring::submit`] to its [`Reaped::Done`]: the kernel never writes into
//! memory that somebody else has got. A hung device holds its buffers as long as
//! it hangs, and nothing else of the ring.
//!
//! Most reads and writes wait in the kernel without a thread. A flush, a zeroing, or a
//! write that finds the disk's queue full takes a worker thread of this process, which
//! cannot be killed while its disk hangs, and the process cannot end before it. For a
//! disk that was opened on a [`crate::helper::Lane`] the lane's helper does these.
//!
//! Two rings may serve one thread: [`Ring::fd`] is readable when there is
//! something to reap, and can be polled from the other one.
#![allow(unsafe_code, reason = "whoever puts an entry into a ring vouches for its memory")]

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use blk::{Buf, BufMut, DiskId, DiskOp, Errno, Event, IoId, Span};
use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{Builder, IoUring, cqueue, opcode, squeue};
use slab::Slab;

use crate::disk::Disk;
use crate::error::RingError;
use crate::helper::{Answers, Call, Ended, Post};
use crate::token::{CommandTag, Token};
use crate::transfer::{Next, Progress, Transfer, ZERO_PAGE};

/// How large a ring is.
#[derive(Clone, Copy, Debug)]
pub struct RingSpec {
    /// Entries handed to the kernel at once; more are kept back and follow.
    pub submissions: u32,
    /// Completions that fit without the kernel setting memory aside for the rest.
    pub completions: u32,
}

/// One thing that has ended.
#[derive(Debug)]
pub enum Reaped {
    /// A backing I/O: always an [`Event::Done`].
    Done(Event),
    /// A command that [`Ring::command`] submitted.
    Command {
        /// The name it was given.
        tag: CommandTag,
        /// What the kernel answered; an errno if negative.
        result: i32,
    },
}

/// One io_uring with everything that is in flight on it.
pub struct Ring {
    // Declared before the ring: see `drop`.
    transfers: Slab<Transfer>,
    /// Entries for which the submission queue had no room. They go first.
    backlog: VecDeque<squeue::Entry>,
    /// I/O that ended without a system call.
    ended: Vec<Event>,
    completions: Vec<(u64, i32)>,
    disks: Vec<Option<Arc<Disk>>>,
    /// The lines to the helpers of disks that may hang, by their lanes.
    posts: BTreeMap<u16, Post>,
    zeroes: Buf,
    enters: u64,
    ring: IoUring,
}

impl Default for RingSpec {
    fn default() -> Self {
        Self { submissions: 256, completions: 8192 }
    }
}

impl Ring {
    /// A ring for the calling thread, with the fastest set-up this kernel knows.
    ///
    /// # Errors
    /// If there is no io_uring, or one that may lose completions.
    pub fn new(spec: RingSpec) -> Result<Self, RingError> {
        let ring = build(spec)?;
        check_features(&ring)?;
        allow_workers(&ring);
        Ok(Self {
            transfers: Slab::new(),
            backlog: VecDeque::new(),
            ended: Vec::new(),
            completions: Vec::new(),
            disks: Vec::new(),
            posts: BTreeMap::new(),
            zeroes: BufMut::zeroed(ZERO_PAGE.len()).freeze(),
            enters: 0,
            ring,
        })
    }

    /// Gives a disk the number by which I/O names it.
    ///
    /// # Panics
    /// If the number is taken: I/O would go to the wrong disk.
    pub fn add_disk(&mut self, id: DiskId, disk: Arc<Disk>) {
        let at = id.0 as usize;
        if self.disks.len() <= at {
            self.disks.resize(at + 1, None);
        }
        assert!(self.disks[at].is_none(), "disk number {} is taken", id.0);
        if let Some(lane) = disk.lane() {
            self.posts.entry(lane.nr()).or_insert_with(|| Post::new(lane));
            // Now, while all is well, rather than with the first call.
            if let Err(error) = self.connect(lane.nr()) {
                log::error!("{}: its helper cannot be reached: {error}", disk.path().display());
            }
        }
        self.disks[at] = Some(disk);
    }

    /// Takes a disk's number away. I/O in flight ends as it may, and keeps the
    /// disk open until then; new I/O to the number ends with `ENODEV`.
    pub fn remove_disk(&mut self, id: DiskId) -> Option<Arc<Disk>> {
        self.disks.get_mut(id.0 as usize)?.take()
    }

    /// Begins one backing I/O. It ends, always, with a [`Reaped::Done`].
    pub fn submit(&mut self, io: IoId, disk: DiskId, op: DiskOp) {
        let Some(disk) = self.disks.get(disk.0 as usize).and_then(Option::clone) else {
            self.ended.push(without_disk(io, op));
            return;
        };
        let slot = self.transfers.insert(Transfer::new(io, disk, op, &self.zeroes));
        self.submit_next(slot);
    }

    /// Submits something other than a backing I/O; it comes back as [`Reaped::Command`].
    ///
    /// # Safety
    /// What `entry` points to must stay valid until the command has come back, or
    /// the ring is gone and the kernel has let go.
    pub unsafe fn command(&mut self, tag: CommandTag, entry: squeue::Entry) {
        self.push(entry.user_data(Token::Command(tag).encode()));
    }

    /// Hands everything to the kernel and waits until something has ended, at most
    /// for `timeout`; zero: not at all; `None`: as long as it takes.
    ///
    /// # Errors
    /// Only what makes the ring useless. That the time is up is none.
    pub fn submit_and_wait(&mut self, timeout: Option<Span>) -> Result<(), RingError> {
        let timeout = if self.has_completions() { Some(Span::ZERO) } else { timeout };
        while !self.fill_queue() {
            // More than the queue holds: hand over what it holds, without waiting.
            if !self.enter(Some(Span::ZERO))? {
                return Ok(());
            }
        }
        self.enter(timeout).map(drop)
    }

    /// Appends everything that has ended to `reaped`, without a system call.
    pub fn reap(&mut self, reaped: &mut Vec<Reaped>) {
        reaped.extend(self.ended.drain(..).map(Reaped::Done));
        let mut completions = std::mem::take(&mut self.completions);
        completions.extend(self.ring.completion().map(|cqe: cqueue::Entry| {
            assert!(!cqueue::more(cqe.flags()), "nothing here asks for more than one completion");
            (cqe.user_data(), cqe.result())
        }));
        for (user_data, result) in completions.drain(..) {
            match Token::decode(user_data) {
                Token::Command(tag) => reaped.push(Reaped::Command { tag, result }),
                Token::Post { lane } => self.take_post(lane),
                Token::Transfer { slot } => {
                    reaped.extend(self.transfer_completed(slot, result).map(Reaped::Done));
                }
            }
        }
        self.completions = completions;
        reaped.extend(self.ended.drain(..).map(Reaped::Done));
    }

    /// Backing I/O that has begun and not ended.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.transfers.len()
    }

    /// System calls made so far, for benchmarks.
    #[must_use]
    pub fn enters(&self) -> u64 {
        self.enters
    }

    /// The descriptor of the ring: readable when there is something to reap.
    #[must_use]
    pub fn fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }

    fn transfer_completed(&mut self, slot: usize, result: i32) -> Option<Event> {
        match self.transfers[slot].completed(result) {
            Progress::More => {
                self.submit_next(slot);
                None
            }
            Progress::Ended(result) => Some(self.transfers.remove(slot).into_event(result)),
        }
    }

    fn submit_next(&mut self, slot: usize) {
        match self.transfers[slot].next() {
            Next::Entry(entry) => self.push(entry.user_data(Token::Transfer { slot }.encode())),
            Next::Work(work) => self.ask(Call { nr: slot as u64, work }),
        }
    }

    /// Has the helper of a lane make a call.
    fn ask(&mut self, call: Call) {
        let slot = usize::try_from(call.nr).expect("it was made from a slot");
        let lane = self.transfers[slot].disk().lane().expect("only they have work").nr();
        let asked = self.connect(lane).and_then(|()| {
            let post = self.posts.get_mut(&lane).expect("a disk comes with its post");
            post.ask(call, self.transfers[slot].disk().as_fd())
        });
        if let Err(error) = asked {
            let path = self.transfers[slot].disk().path().display();
            log::error!("{path}: its helper cannot be asked: {error}");
            let event = self.transfer_completed(slot, -libc::EIO);
            self.ended.extend(event);
        }
    }

    /// Sees to it that there is a line to the helper of a lane, and that it is watched.
    fn connect(&mut self, lane: u16) -> io::Result<()> {
        let post = self.posts.get_mut(&lane).expect("a disk comes with its post");
        if post.connect()? {
            self.watch(lane);
        }
        Ok(())
    }

    fn watch(&mut self, lane: u16) {
        if let Some(fd) = self.posts[&lane].fd() {
            let entry = opcode::PollAdd::new(Fd(fd), libc::POLLIN as u32).build();
            self.push(entry.user_data(Token::Post { lane }.encode()));
        }
    }

    fn take_post(&mut self, lane: u16) {
        let post = self.posts.get_mut(&lane).expect("only what is there is watched");
        let Answers { ended, ready } = post.collect();
        self.watch(lane);
        for Ended { nr, result, bytes } in ended {
            let slot = usize::try_from(nr).expect("it was made from a slot");
            let result = self.take_bytes(slot, result, bytes);
            let event = self.transfer_completed(slot, result);
            self.ended.extend(event);
        }
        for nr in ready {
            self.submit_next(usize::try_from(nr).expect("it was made from a slot"));
        }
    }

    /// Puts what a helper has read where it belongs; the result of the read.
    fn take_bytes(&mut self, slot: usize, result: i32, bytes: Option<File>) -> i32 {
        let (Some(bytes), Ok(len)) = (bytes, usize::try_from(result)) else { return result };
        match self.transfers[slot].take(&bytes, len) {
            Ok(()) => result,
            Err(error) => {
                let path = self.transfers[slot].disk().path().display();
                log::error!("{path}: what its helper has read is lost: {error}");
                -libc::EIO
            }
        }
    }

    fn push(&mut self, entry: squeue::Entry) {
        // An entry that overtook the backlog could starve what waits in it.
        // SAFETY: a transfer lives in `transfers` until its completion, and so does all that its
        // entry points to; a poll points to nothing; for a command the caller of `command` has
        // vouched.
        if !self.backlog.is_empty() || unsafe { self.ring.submission().push(&entry) }.is_err() {
            self.backlog.push_back(entry);
        }
    }

    /// Moves the backlog into the submission queue; whether all of it fits.
    fn fill_queue(&mut self) -> bool {
        if self.backlog.is_empty() {
            return true;
        }
        let mut queue = self.ring.submission();
        while let Some(entry) = self.backlog.front() {
            // SAFETY: as in `push`.
            if unsafe { queue.push(entry) }.is_err() {
                return false;
            }
            self.backlog.pop_front();
        }
        true
    }

    /// One system call; whether the kernel takes more. If not, reap first.
    fn enter(&mut self, timeout: Option<Span>) -> Result<bool, RingError> {
        let timespec = timeout.map(Timespec::from);
        let args = match &timespec {
            Some(timespec) => SubmitArgs::new().timespec(timespec),
            None => SubmitArgs::new(),
        };
        self.enters += 1;
        match self.ring.submitter().submit_with_args(1, &args) {
            Ok(_) => Ok(true),
            Err(error) => match error.raw_os_error() {
                Some(libc::ETIME | libc::EINTR) => Ok(true),
                // Completions wait for room (EBUSY), or memory is short (EAGAIN).
                Some(libc::EBUSY) => Ok(false),
                Some(libc::EAGAIN) => {
                    std::thread::sleep(MEMORY_PAUSE);
                    Ok(false)
                }
                _ => Err(RingError::Enter(error)),
            },
        }
    }

    fn has_completions(&mut self) -> bool {
        !self.ended.is_empty() || !self.ring.completion().is_empty()
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // The kernel may still write into these buffers, also after the ring is closed.
        // Memory that is lost is better than memory that changes in other hands.
        if !self.transfers.is_empty() {
            log::warn!("{} backing I/Os were still in flight at the end", self.transfers.len());
            std::mem::forget(std::mem::take(&mut self.transfers));
        }
    }
}

/// Fastest first; each kernel takes the first set-up that it knows.
fn build(spec: RingSpec) -> Result<IoUring, RingError> {
    let setups: [fn(&mut Builder<squeue::Entry, cqueue::Entry>); 3] = [
        |builder| {
            builder.setup_single_issuer().setup_defer_taskrun().setup_submit_all();
        },
        |builder| {
            builder.setup_coop_taskrun().setup_submit_all();
        },
        |_| {},
    ];
    let mut refusal = io::Error::from(io::ErrorKind::Unsupported);
    for setup in setups {
        let mut builder = IoUring::builder();
        builder.dontfork().setup_clamp().setup_cqsize(spec.completions);
        setup(&mut builder);
        match builder.build(spec.submissions) {
            Ok(ring) => return Ok(ring),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => refusal = error,
            Err(error) => return Err(RingError::Setup(error)),
        }
    }
    Err(RingError::Setup(refusal))
}

fn check_features(ring: &IoUring) -> Result<(), RingError> {
    let params = ring.params();
    let needed = [
        (params.is_feature_nodrop(), "completions that are never dropped", "5.5"),
        (params.is_feature_submit_stable(), "parameters that are read at submission", "5.5"),
        (params.is_feature_ext_arg(), "a time limit for waiting", "5.11"),
    ];
    match needed.into_iter().find(|(present, ..)| !present) {
        Some((_, feature, since)) => Err(RingError::Feature { feature, since }),
        None => Ok(()),
    }
}

/// Flushes and zeroing block a worker each. The kernel's own limit, four for each
/// processor, could be used up by hanging disks, and the others would wait (P5).
fn allow_workers(ring: &IoUring) {
    if let Err(error) = ring.submitter().register_iowq_max_workers(&mut [WORKERS_MAX; 2]) {
        log::warn!("disks that hang may slow the others down: more workers were refused: {error}");
    }
}

fn without_disk(io: IoId, op: DiskOp) -> Event {
    let buf = match op {
        DiskOp::Read { buf, .. } => Some(buf),
        DiskOp::Write { .. } | DiskOp::Flush | DiskOp::WriteZeroes { .. } => None,
    };
    Event::Done { io, result: Err(Errno::ENODEV), buf }
}

/// More than can be blocked at a time, whatever hangs; they exist while they are needed.
const WORKERS_MAX: u32 = 4096;
/// Rest for a kernel that is short of memory.
const MEMORY_PAUSE: Span = Span::from_millis(1);
