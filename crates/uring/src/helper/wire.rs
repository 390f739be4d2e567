//! What a process and its helper say to each other: one message each, with at most one
//! descriptor. Both ends are the same program, so the bytes are of nobody else's concern.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::Duration;

use blk::{Errno, NotOpened, Sectors};
use rustix::cmsg_space;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};

use crate::extent::Extent;
use crate::facts::{Facts, Medium};
use crate::identity::Identity;
use crate::open::{Access, OpenSpec};

/// A system call that blocks whoever makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// `fdatasync`
    Sync,
    /// `fallocate` of `len` bytes from `offset` on.
    Fallocate { mode: i32, offset: u64, len: u64 },
    /// `pread` of `len` bytes from `offset` on; they come back in a file of their own.
    Read { offset: u64, len: u64 },
    /// `pwritev2` of `len` bytes to `offset`, which the asker keeps where `count` of its
    /// `iovec`s at the address `vectors` say.
    Write { offset: u64, len: u64, dsync: bool, vectors: u64, count: u64 },
}

/// A call to be made on the descriptor that comes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    /// The asker's own number for it.
    pub(crate) nr: u64,
    pub(crate) work: Work,
}

/// What a helper is asked.
#[derive(Debug)]
pub(super) enum Request {
    /// Whether it is there: nothing that could hang.
    Hello,
    Call(Call),
    Open {
        path: PathBuf,
        spec: OpenSpec,
    },
}

/// What a helper answers.
#[derive(Debug)]
pub(super) enum Reply {
    /// It is.
    Here,
    /// The call of that number has ended, with bytes moved (0 if none are to be) or a negative
    /// errno. What was read comes with it.
    Called { nr: u64, result: i32 },
    /// The disk is open, as the descriptor that comes with it, or could not be opened.
    Opened(Result<Facts, NotOpened>),
}

/// A message as bytes.
pub(super) trait Wire: Sized {
    fn write(&self, to: &mut Vec<u8>);
    fn read(from: &mut Reader<'_>) -> Option<Self>;
}

/// Sends a message; waits for room only if `flags` let it.
pub(super) fn send(
    socket: BorrowedFd<'_>,
    message: &impl Wire,
    fd: Option<BorrowedFd<'_>>,
    flags: SendFlags,
) -> io::Result<()> {
    let mut bytes = Vec::new();
    message.write(&mut bytes);
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = fd.map(|fd| [fd]);
    if let Some(fds) = &fds {
        let fits = control.push(SendAncillaryMessage::ScmRights(fds));
        assert!(fits, "the space was made for one descriptor");
    }
    let flags = flags | SendFlags::NOSIGNAL;
    rustix::io::retry_on_intr(|| {
        rustix::net::sendmsg(socket, &[IoSlice::new(&bytes)], &mut control, flags)
    })?;
    Ok(())
}

/// Receives a message; `None`: the other end is gone.
pub(super) fn receive<M: Wire>(
    socket: BorrowedFd<'_>,
    flags: RecvFlags,
) -> io::Result<Option<(M, Option<OwnedFd>)>> {
    let mut bytes = [0; MESSAGE_BYTES_MAX];
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = flags | RecvFlags::CMSG_CLOEXEC;
    let received = rustix::io::retry_on_intr(|| {
        let mut parts = [IoSliceMut::new(&mut bytes)];
        rustix::net::recvmsg(socket, &mut parts, &mut control, flags)
    });
    let len = match received {
        Ok(message) => message.bytes,
        Err(rustix::io::Errno::CONNRESET) => 0,
        Err(error) => return Err(error.into()),
    };
    if len == 0 {
        return Ok(None);
    }
    let fd = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    let mut reader = Reader(&bytes[..len]);
    let message = M::read(&mut reader).filter(|_| reader.0.is_empty());
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "a message of unknown form");
    Ok(Some((message.ok_or_else(malformed)?, fd)))
}

impl Wire for Request {
    fn write(&self, to: &mut Vec<u8>) {
        match self {
            Self::Call(Call { nr, work: Work::Sync }) => put(to, &[SYNC, *nr]),
            Self::Call(Call { nr, work: Work::Fallocate { mode, offset, len } }) => {
                put(to, &[FALLOCATE, *nr, u64::from(mode.cast_unsigned()), *offset, *len]);
            }
            Self::Call(Call { nr, work: Work::Read { offset, len } }) => {
                put(to, &[READ, *nr, *offset, *len]);
            }
            Self::Call(Call { nr, work: Work::Write { offset, len, dsync, vectors, count } }) => {
                put(to, &[WRITE, *nr, *offset, *len, u64::from(*dsync), *vectors, *count]);
            }
            Self::Hello => put(to, &[HELLO]),
            Self::Open { path, spec } => {
                let busy_ms = u64::try_from(spec.busy_limit.as_millis()).unwrap_or(u64::MAX);
                let exclusive = u64::from(spec.access == Access::Exclusive);
                put(to, &[OPEN, exclusive, busy_ms, spec.size_min.0]);
                put_bytes(to, path.as_os_str().as_bytes());
            }
        }
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(match from.number()? {
            SYNC => Self::Call(Call { nr: from.number()?, work: Work::Sync }),
            FALLOCATE => {
                let nr = from.number()?;
                let mode = u32::try_from(from.number()?).ok()?.cast_signed();
                let (offset, len) = (from.number()?, from.number()?);
                Self::Call(Call { nr, work: Work::Fallocate { mode, offset, len } })
            }
            READ => {
                let nr = from.number()?;
                let work = Work::Read { offset: from.number()?, len: from.number()? };
                Self::Call(Call { nr, work })
            }
            WRITE => {
                let (nr, offset, len) = (from.number()?, from.number()?, from.number()?);
                let (dsync, vectors, count) = (from.flag()?, from.number()?, from.number()?);
                Self::Call(Call { nr, work: Work::Write { offset, len, dsync, vectors, count } })
            }
            OPEN => {
                let access = if from.flag()? { Access::Exclusive } else { Access::Look };
                let busy_limit = Duration::from_millis(from.number()?);
                let size_min = Sectors(from.number()?);
                let path = std::ffi::OsString::from_vec(from.bytes()?.to_vec()).into();
                Self::Open { path, spec: OpenSpec { access, busy_limit, size_min } }
            }
            HELLO => Self::Hello,
            _ => return None,
        })
    }
}

impl Wire for Reply {
    fn write(&self, to: &mut Vec<u8>) {
        match self {
            Self::Here => put(to, &[HERE]),
            Self::Called { nr, result } => {
                put(to, &[CALLED, *nr, u64::from(result.cast_unsigned())]);
            }
            Self::Opened(Ok(facts)) => {
                put(to, &[OPENED, facts.size.0]);
                put(to, &[facts.logical_block, facts.memory_align].map(u64::from));
                let Medium { volatile_cache, rotational } = facts.medium;
                put(to, &[facts.direct, volatile_cache, rotational].map(u64::from));
                put_bytes(to, facts.identity.as_str().as_bytes());
                put_bytes(to, facts.extent.of.as_str().as_bytes());
                put(to, &[facts.extent.from, facts.extent.to]);
            }
            Self::Opened(Err(NotOpened { errno, why })) => {
                put(to, &[NOT_OPENED, u64::from(errno.0.cast_unsigned())]);
                put_bytes(to, why.as_bytes());
            }
        }
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(match from.number()? {
            HERE => Self::Here,
            CALLED => Self::Called { nr: from.number()?, result: from.signed()? },
            OPENED => Self::Opened(Ok(Facts {
                size: Sectors(from.number()?),
                logical_block: u32::try_from(from.number()?).ok()?,
                memory_align: u32::try_from(from.number()?).ok()?,
                direct: from.flag()?,
                medium: Medium { volatile_cache: from.flag()?, rotational: from.flag()? },
                identity: Identity::new(&from.text()?),
                extent: Extent {
                    of: Identity::new(&from.text()?),
                    from: from.number()?,
                    to: from.number()?,
                },
            })),
            NOT_OPENED => {
                let errno = Errno(from.signed()?);
                Self::Opened(Err(NotOpened { errno, why: from.text()? }))
            }
            _ => return None,
        })
    }
}

/// What is left of a message.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn number(&mut self) -> Option<u64> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*number))
    }

    fn signed(&mut self) -> Option<i32> {
        Some(u32::try_from(self.number()?).ok()?.cast_signed())
    }

    fn flag(&mut self) -> Option<bool> {
        match self.number()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.number()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }

    fn text(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?.to_vec()).ok()
    }
}

fn put(to: &mut Vec<u8>, numbers: &[u64]) {
    numbers.iter().for_each(|number| to.extend(number.to_le_bytes()));
}

fn put_bytes(to: &mut Vec<u8>, bytes: &[u8]) {
    put(to, &[bytes.len() as u64]);
    to.extend(bytes);
}

/// A path, a sentence with a path in it, and room to spare.
const MESSAGE_BYTES_MAX: usize = 16 << 10;

const SYNC: u64 = 1;
const FALLOCATE: u64 = 2;
const OPEN: u64 = 3;
const CALLED: u64 = 4;
const OPENED: u64 = 5;
const NOT_OPENED: u64 = 6;
const READ: u64 = 7;
const WRITE: u64 = 8;
const HELLO: u64 = 9;
const HERE: u64 = 10;

/// A write was not made: the helper cannot read the asker's memory. No file says this.
pub(crate) const OUT_OF_REACH: i32 = libc::EUNATCH;

#[cfg(test)]
mod tests;
