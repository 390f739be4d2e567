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

use std::sync::Arc;

use blk::{Buf, BufMut, DiskOp, Errno, Event, Gather, IoId, Sector, Sectors};
use io_uring::{opcode, squeue, types};

use crate::disk::Disk;
use crate::helper::Work;
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
    /// What the call in flight points to, if it is vectored.
    vectors: Vec<libc::iovec>,
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
            vectors,
        }
    }

    pub(crate) fn disk(&self) -> &Disk {
        &self.disk
    }

    /// The next call, if it takes a thread that waits for the disk.
    pub(crate) fn work(&mut self) -> Option<Work> {
        let mode = match self.step {
            Step::Sync => return Some(Work::Sync),
            Step::Punch => libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE,
            Step::ZeroRange => libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE,
            Step::Read | Step::Write | Step::WriteFua | Step::ZeroWrite => return None,
        };
        let (offset, left) = (self.start.bytes() + self.done, self.total - self.done);
        self.asked = left.min(ZERO_BYTES_MAX);
        Some(Work::Fallocate { mode, offset, len: self.asked })
    }

    /// The next call. What it points to lives as long as this transfer does.
    pub(crate) fn entry(&mut self) -> squeue::Entry {
        let fd = types::Fd(self.disk.fd());
        match self.work() {
            Some(Work::Sync) => {
                return opcode::Fsync::new(fd).flags(types::FsyncFlags::DATASYNC).build();
            }
            Some(Work::Fallocate { mode, offset, len }) => {
                return opcode::Fallocate::new(fd, len).offset(offset).mode(mode).build();
            }
            None => {}
        }
        let offset = self.start.bytes() + self.done;
        match self.step {
            Step::Read => self.read_entry(fd, offset),
            Step::Write => self.write_entry(fd, offset, 0),
            Step::WriteFua => self.write_entry(fd, offset, sys::RWF_DSYNC),
            Step::ZeroWrite => self.zero_entry(fd, offset),
            Step::Sync | Step::Punch | Step::ZeroRange => unreachable!("`work` has these"),
        }
    }

    /// Takes the result of the call that [`Transfer::entry`] made.
    pub(crate) fn completed(&mut self, result: i32) -> Progress {
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

    fn read_entry(&mut self, fd: types::Fd, offset: u64) -> squeue::Entry {
        let Payload::Read { buf, bounce } = &mut self.payload else {
            unreachable!("a read has a buffer")
        };
        let target = bounce.as_mut().unwrap_or(buf);
        let done = in_memory(self.done);
        let rest = &mut target[done..];
        let len = rest.len().min(MOVE_BYTES_MAX);
        self.asked = len as u64;
        opcode::Read::new(fd, rest.as_mut_ptr(), len as u32).offset(offset).build()
    }

    fn write_entry(&mut self, fd: types::Fd, offset: u64, flags: i32) -> squeue::Entry {
        let Payload::Write { data } = &self.payload else { unreachable!("a write has data") };
        fill_vectors(&mut self.vectors, data, in_memory(self.done));
        self.vectored(fd, offset, flags)
    }

    fn zero_entry(&mut self, fd: types::Fd, offset: u64) -> squeue::Entry {
        let Payload::Zeroes { page } = &self.payload else { unreachable!("zeroing has a page") };
        let mut left = (self.total - self.done).min(ZERO_BYTES_MAX);
        self.vectors.clear();
        while left > 0 {
            let len = left.min(page.len() as u64);
            self.vectors.push(vector(&page[..in_memory(len)]));
            left -= len;
        }
        self.vectored(fd, offset, 0)
    }

    fn vectored(&mut self, fd: types::Fd, offset: u64, flags: i32) -> squeue::Entry {
        self.asked = self.vectors.iter().map(|vector| vector.iov_len as u64).sum();
        match self.vectors.as_slice() {
            [one] => opcode::Write::new(fd, one.iov_base.cast(), one.iov_len as u32)
                .offset(offset)
                .rw_flags(flags)
                .build(),
            many => opcode::Writev::new(fd, many.as_ptr(), many.len() as u32)
                .offset(offset)
                .rw_flags(flags)
                .build(),
        }
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
fn fill_vectors(vectors: &mut Vec<libc::iovec>, data: &Gather, mut skip: usize) {
    let mut room = MOVE_BYTES_MAX;
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
const ZERO_BYTES_MAX: u64 = 64 << 20;
/// How often an interrupted call is made again before its error counts.
const ATTEMPTS_MAX: u8 = 16;
/// The memory that explicit zeroes are written from.
pub(crate) const ZERO_PAGE: Sectors = Sectors((1 << 20) / 512);

#[cfg(test)]
mod tests;
