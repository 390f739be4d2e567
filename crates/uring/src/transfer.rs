//! One backing I/O on its way: which system call is next, and when it has ended.
//!
//! A transfer is a cursor over one [`DiskOp`]. Every completion moves it; what is
//! left is submitted again. So a short write, a gather list longer than the
//! kernel takes, and a zeroed range of a terabyte are one and the same case. What
//! a disk refuses is done by the next best means, and remembered in `Refusals`.
//!
//! ```text
//! Read ───────────────────────────────▶ end
//! WriteFua ──refused──▶ Write ──▶ Sync ─▶ end      (Sync only for FUA)
//! Punch ──refused──▶ ZeroRange ──refused──▶ ZeroWrite ──▶ Sync ─▶ end
//! ```
//!
//! If the disk may hang, no call of a transfer waits in a thread of this process: what would
//! is done by the helper of the disk's lane ([`Way`]).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use blk::{Buf, BufMut, DiskOp, Errno, Event, Gather, IoId, Sector, Sectors};
use io_uring::{opcode, squeue, types};

use crate::disk::Disk;
use crate::helper::{self, Work};
use crate::sys;

/// One [`DiskOp`] between its submission and its end; owns its buffers.
pub(crate) struct Transfer {
    io: IoId,
    disk: Arc<Disk>,
    step: Step,
    payload: Payload,
    start: Sector,
    /// Bytes to move or to zero; 0 for a flush.
    total: u64,
    done: u64,
    /// Bytes that the call now in flight was asked for.
    asked: u64,
    /// A `Sync` has to follow before the end may be called stable.
    sync_after: bool,
    attempts: u8,
    /// How the read or write in flight is made.
    way: Way,
    /// The next read or write would have to wait for the disk to take it.
    would_block: bool,
    /// What the read or write in flight points to.
    vectors: Vec<libc::iovec>,
}

/// What a transfer does next.
pub(crate) enum Next {
    /// Something for the ring.
    Entry(squeue::Entry),
    /// Something for the helper of the disk's lane.
    Work(Work),
}

/// How a read or a write is made. Also these may need a thread of the kernel that waits, and
/// keeps its process: when the disk's queue is full, for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// By the ring, with a thread if it takes one.
    Waiting,
    /// By the ring, or not at all if that took a thread.
    NotWaiting,
    /// By the helper.
    Elsewhere,
}

/// Where a transfer stands after a completion.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// [`Transfer::entry`] has more to submit.
    More,
    /// Nothing of it is in the kernel any more.
    Ended(Result<(), Errno>),
}

/// The call that is in flight, or next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Read,
    Write,
    WriteFua,
    Punch,
    ZeroRange,
    ZeroWrite,
    Sync,
}

/// The memory of a transfer. A bounce buffer stands in for memory that is not
/// aligned as the disk wants it.
enum Payload {
    None,
    Read { buf: BufMut, bounce: Option<BufMut> },
    Write { data: Gather },
    Zeroes { page: Buf },
}

impl Transfer {
    /// # Panics
    /// If a read or a write has no byte: nobody has a reason to ask for that.
    pub(crate) fn new(io: IoId, disk: Arc<Disk>, op: DiskOp, zeroes: &Buf) -> Self {
        let (step, payload, start, total, fua) = match op {
            DiskOp::Read { sector, mut buf } => {
                let bounce = disk
                    .wants_bounce(buf.as_mut_ptr() as usize, buf.len())
                    .then(|| BufMut::zeroed(buf.len()));
                let total = buf.len() as u64;
                (Step::Read, Payload::Read { buf, bounce }, sector, total, false)
            }
            DiskOp::Write { sector, data, fua } => {
                let data = aligned(&disk, data);
                let total = data.iter().map(|buf| buf.len() as u64).sum();
                let step = first_write(&disk, fua);
                (step, Payload::Write { data }, sector, total, fua && step == Step::Write)
            }
            DiskOp::Flush => (Step::Sync, Payload::None, Sector(0), 0, false),
            DiskOp::WriteZeroes { sector, len, unmap, fua } => {
                let payload = Payload::Zeroes { page: zeroes.clone() };
                (first_zero(&disk, unmap), payload, sector, len.bytes(), fua)
            }
        };
        assert!(step == Step::Sync || total > 0, "an I/O of no sector was submitted");
        let vectors = Vec::new();
        Self {
            io,
            disk,
            step,
            payload,
            start,
            total,
            done: 0,
            asked: 0,
            sync_after: fua,
            attempts: 0,
            way: Way::Waiting,
            would_block: false,
            vectors,
        }
    }

    pub(crate) fn disk(&self) -> &Disk {
        &self.disk
    }

    /// The next call. What it points to lives as long as this transfer does.
    pub(crate) fn next(&mut self) -> Next {
        let may_hang = self.disk.lane().is_some();
        if let Some(work) = self.blocking_call() {
            return if may_hang { Next::Work(work) } else { Next::Entry(self.entry_of(work)) };
        }
        let refusals = self.disk.refusals();
        self.way = match may_hang && !refusals.elsewhere.is_set() {
            false => Way::Waiting,
            true if self.would_block || refusals.nowait.is_set() => Way::Elsewhere,
            true => Way::NotWaiting,
        };
        self.point(if may_hang { LANE_BYTES_MAX } else { MOVE_BYTES_MAX });
        match self.way {
            Way::Waiting => Next::Entry(self.entry(0)),
            Way::NotWaiting => Next::Entry(self.entry(libc::RWF_NOWAIT)),
            Way::Elsewhere => Next::Work(self.work()),
        }
    }

    /// The next call, if it always takes a thread that waits for the disk.
    fn blocking_call(&mut self) -> Option<Work> {
        let mode = match self.step {
            Step::Sync => return Some(Work::Sync),
            Step::Punch => libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE,
            Step::ZeroRange => libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE,
            Step::Read | Step::Write | Step::WriteFua | Step::ZeroWrite => return None,
        };
        self.asked = (self.total - self.done).min(ZERO_BYTES_MAX as u64);
        Some(Work::Fallocate { mode, offset: self.offset(), len: self.asked })
    }

    fn entry_of(&self, work: Work) -> squeue::Entry {
        let fd = types::Fd(self.disk.fd());
        match work {
            Work::Sync => opcode::Fsync::new(fd).flags(types::FsyncFlags::DATASYNC).build(),
            Work::Fallocate { mode, offset, len } => {
                opcode::Fallocate::new(fd, len).offset(offset).mode(mode).build()
            }
            Work::Read { .. } | Work::Write { .. } => unreachable!("`entry` makes these"),
        }
    }

    /// Points at what the next read or write moves, at most `room` bytes of it.
    fn point(&mut self, room: usize) {
        let (skip, left) =
            (in_memory(self.done), in_memory((self.total - self.done).min(ROOM_MAX)));
        self.vectors.clear();
        match &mut self.payload {
            Payload::None => unreachable!("what moves has memory"),
            Payload::Read { buf, bounce } => {
                let rest = &mut bounce.as_mut().unwrap_or(buf)[skip..];
                let len = rest.len().min(room);
                let iov_base = rest.as_mut_ptr().cast();
                self.vectors.push(libc::iovec { iov_base, iov_len: len });
            }
            Payload::Write { data } => fill_vectors(&mut self.vectors, data, skip, room),
            Payload::Zeroes { page } => {
                let mut left = left.min(room).min(ZERO_BYTES_MAX);
                while left > 0 {
                    let len = left.min(page.len());
                    self.vectors.push(vector(&page[..len]));
                    left -= len;
                }
            }
        }
        self.asked = self.vectors.iter().map(|vector| vector.iov_len as u64).sum();
    }

    /// The read or write that was pointed at, for the ring.
    fn entry(&mut self, flags: i32) -> squeue::Entry {
        let (fd, offset) = (types::Fd(self.disk.fd()), self.offset());
        let flags = if self.step == Step::WriteFua { flags | sys::RWF_DSYNC } else { flags };
        match (self.step, self.vectors.as_slice()) {
            (Step::Read, [one]) => {
                let (memory, len) = (one.iov_base.cast(), one.iov_len as u32);
                opcode::Read::new(fd, memory, len).offset(offset).rw_flags(flags).build()
            }
            (_, [one]) => {
                let (memory, len) = (one.iov_base.cast(), one.iov_len as u32);
                opcode::Write::new(fd, memory, len).offset(offset).rw_flags(flags).build()
            }
            (_, many) => {
                let (vectors, len) = (many.as_ptr(), many.len() as u32);
                opcode::Writev::new(fd, vectors, len).offset(offset).rw_flags(flags).build()
            }
        }
    }

    /// The same for a helper, which copies what is written from here.
    fn work(&self) -> Work {
        let (offset, len) = (self.offset(), self.asked);
        if self.step == Step::Read {
            return Work::Read { offset, len };
        }
        let (vectors, count) = (self.vectors.as_ptr() as u64, self.vectors.len() as u64);
        Work::Write { offset, len, dsync: self.step == Step::WriteFua, vectors, count }
    }

    /// Takes what a helper has read.
    pub(crate) fn take(&mut self, bytes: &File, len: usize) -> io::Result<()> {
        let Payload::Read { buf, bounce } = &mut self.payload else {
            return Err(io::Error::other("nothing was to be read"));
        };
        let rest = &mut bounce.as_mut().unwrap_or(buf)[in_memory(self.done)..];
        let most = rest.len().min(in_memory(self.asked));
        let part = rest.get_mut(..len.min(most)).expect("not longer than it");
        bytes.read_exact_at(part, 0)
    }

    fn offset(&self) -> u64 {
        self.start.bytes() + self.done
    }

    /// Takes the result of the call that [`Transfer::next`] made.
    pub(crate) fn completed(&mut self, result: i32) -> Progress {
        if !matches!(self.step, Step::Sync | Step::Punch | Step::ZeroRange)
            && self.takes_another_way(result)
        {
            return Progress::More;
        }
        match (self.step, result) {
            // A failed flush has lost what it failed to write: asking again can
            // succeed without it ever having become stable (I11).
            (Step::Sync, result) if result < 0 => Progress::Ended(Err(Errno(-result))),
            (Step::Sync, _) => Progress::Ended(Ok(())),
            (_, result) if is_transient(result) && self.attempts < ATTEMPTS_MAX => {
                self.attempts += 1;
                Progress::More
            }
            (step, result) if is_refusal(result) => self.refused(step, Errno(-result)),
            (_, result) if result < 0 => Progress::Ended(Err(Errno(-result))),
            (Step::Punch | Step::ZeroRange, _) => self.moved(self.asked),
            // The end of a file that shrank, or a device that takes nothing more.
            (_, 0) => Progress::Ended(Err(Errno::EIO)),
            (_, bytes) => self.moved(u64::from(bytes.unsigned_abs())),
        }
    }

    /// The event that tells the machine; gives a read's buffer back.
    pub(crate) fn into_event(self, result: Result<(), Errno>) -> Event {
        let buf = match self.payload {
            Payload::Read { mut buf, bounce } => {
                if let Some(bounce) = bounce {
                    buf.copy_from_slice(&bounce);
                }
                Some(buf)
            }
            Payload::None | Payload::Write { .. } | Payload::Zeroes { .. } => None,
        };
        Event::Done { io: self.io, result, buf }
    }

    fn moved(&mut self, bytes: u64) -> Progress {
        assert!(bytes <= self.asked, "the kernel moved {bytes} of {} bytes", self.asked);
        // A direct I/O has to go on at a block boundary: a part of a block is moved again.
        let block = u64::from(self.disk.facts().logical_block);
        let moved = if self.done + bytes == self.total { bytes } else { bytes - bytes % block };
        if moved == 0 {
            self.attempts += 1;
            if self.attempts > ATTEMPTS_MAX {
                return Progress::Ended(Err(Errno::EIO));
            }
        }
        self.done += moved;
        self.would_block = false;
        match (self.done == self.total, self.sync_after) {
            (false, _) => Progress::More,
            (true, false) => Progress::Ended(Ok(())),
            (true, true) => {
                self.step = Step::Sync;
                Progress::More
            }
        }
    }

    /// The next best means for what the disk does not know.
    fn refused(&mut self, step: Step, errno: Errno) -> Progress {
        let refusals = self.disk.refusals();
        self.step = match step {
            Step::WriteFua => {
                refusals.fua.set();
                self.sync_after = true;
                Step::Write
            }
            Step::Punch => {
                refusals.punch.set();
                Step::ZeroRange
            }
            Step::ZeroRange => {
                refusals.zero_range.set();
                Step::ZeroWrite
            }
            Step::Read | Step::Write | Step::ZeroWrite | Step::Sync => {
                return Progress::Ended(Err(errno));
            }
        };
        Progress::More
    }

    /// Whether the read or write was not made, because the way in which it was tried does not
    /// lead there: no error of the disk, and not counted as an attempt.
    fn takes_another_way(&mut self, result: i32) -> bool {
        let refusals = self.disk.refusals();
        match (self.way, -result) {
            (Way::NotWaiting, libc::EAGAIN) => self.would_block = true,
            (Way::NotWaiting, libc::EOPNOTSUPP) => refusals.nowait.set(),
            (Way::Elsewhere, helper::OUT_OF_REACH) => {
                if !refusals.elsewhere.is_set() {
                    let path = self.disk.path().display();
                    log::warn!(
                        "{path}: its helper may not read what is to be written; if the disk hangs, this process may have to wait for it when it ends"
                    );
                }
                refusals.elsewhere.set();
            }
            _ => return false,
        }
        true
    }
}

fn first_write(disk: &Disk, fua: bool) -> Step {
    if fua && !disk.refusals().fua.is_set() { Step::WriteFua } else { Step::Write }
}

fn first_zero(disk: &Disk, unmap: bool) -> Step {
    let refusals = disk.refusals();
    match (unmap && !refusals.punch.is_set(), refusals.zero_range.is_set()) {
        (true, _) => Step::Punch,
        (false, false) => Step::ZeroRange,
        (false, true) => Step::ZeroWrite,
    }
}

/// The same bytes in memory that the disk takes: themselves, or a copy.
fn aligned(disk: &Disk, data: Gather) -> Gather {
    if !data.iter().any(|buf| disk.wants_bounce(buf.as_ptr() as usize, buf.len())) {
        return data;
    }
    let mut bounce = BufMut::zeroed(data.iter().map(Buf::len).sum());
    let mut at = 0;
    for buf in &data {
        bounce[at..at + buf.len()].copy_from_slice(buf);
        at += buf.len();
    }
    Gather::from_elem(bounce.freeze(), 1)
}

/// Points `vectors` at `data` behind its first `skip` bytes, as far as one call reaches.
fn fill_vectors(vectors: &mut Vec<libc::iovec>, data: &Gather, mut skip: usize, mut room: usize) {
    vectors.clear();
    for buf in data {
        if skip >= buf.len() {
            skip -= buf.len();
            continue;
        }
        if vectors.len() == sys::IOV_MAX || room == 0 {
            return;
        }
        let part = &buf[skip..];
        let part = &part[..part.len().min(room)];
        skip = 0;
        room -= part.len();
        vectors.push(vector(part));
    }
}

fn vector(bytes: &[u8]) -> libc::iovec {
    libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() }
}

fn in_memory(bytes: u64) -> usize {
    usize::try_from(bytes).expect("a position inside a buffer is an index")
}

fn is_transient(result: i32) -> bool {
    result == -libc::EINTR || result == -libc::EAGAIN
}

fn is_refusal(result: i32) -> bool {
    result == -libc::EOPNOTSUPP || result == -libc::ENOSYS
}

/// How much one call moves: far below the kernel's limit of 2 GiB, and whole blocks.
const MOVE_BYTES_MAX: usize = 64 << 20;
/// How much one call zeroes: a piece has to end within a deadline.
const ZERO_BYTES_MAX: usize = 64 << 20;
/// How much one call moves that a helper may have to make: it needs as much memory for it.
const LANE_BYTES_MAX: usize = 1 << 20;
/// More than any call moves.
const ROOM_MAX: u64 = 1 << 30;
/// How often an interrupted call is made again before its error counts.
const ATTEMPTS_MAX: u8 = 16;
/// The memory that explicit zeroes are written from.
pub(crate) const ZERO_PAGE: Sectors = Sectors((1 << 20) / 512);

#[cfg(test)]
mod tests;
