//! `/dev/ublkcN`: request descriptors to look at, payloads to copy.
//!
//! The descriptors are memory shared with the driver; payloads stay in the pages
//! of whoever asked, until they are copied by `pread` and `pwrite` at a position
//! that names queue, tag and offset (`UBLK_F_USER_COPY`).
#![allow(unsafe_code, reason = "mmap, and memory that the kernel shares")]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use blk::{Errno, Sectors};
use libublk::io::UblkIOCtx;
use libublk::sys;

use crate::error::DeviceError;

/// The data side of one device with one queue; open exactly once at a time.
pub(crate) struct Channel {
    // Unmapped before the file is closed; the device lives on until both are done.
    descriptors: Descriptors,
    file: File,
}

impl Channel {
    pub(crate) fn open(device: u32, depth: u16) -> Result<Self, DeviceError> {
        let path = format!("/dev/ublkc{device}");
        let file = open_node(&path).map_err(|source| DeviceError::Channel { device, source })?;
        let descriptors = Descriptors::map(&file, depth)
            .map_err(|source| DeviceError::Descriptors { device, source })?;
        Ok(Self { descriptors, file })
    }

    /// Requests that can be in flight.
    pub(crate) fn depth(&self) -> u16 {
        self.descriptors.depth
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// The descriptor of a tag that the driver has handed over and not taken back.
    pub(crate) fn descriptor(&self, tag: u16) -> sys::ublksrv_io_desc {
        self.descriptors.read(tag)
    }

    /// Copies the whole of `buf` from the payload of a write request.
    pub(crate) fn fetch(&self, tag: u16, buf: &mut [u8]) -> Result<(), Errno> {
        self.file.read_exact_at(buf, position(tag, Sectors(0))).map_err(errno_of)
    }

    /// Copies `bytes` to a read request, `offset` behind its start.
    pub(crate) fn deliver(&self, tag: u16, offset: Sectors, bytes: &[u8]) -> Result<(), Errno> {
        self.file.write_all_at(bytes, position(tag, offset)).map_err(errno_of)
    }
}

/// udev may be slow to make the node, or to set its mode.
fn open_node(path: &str) -> io::Result<File> {
    let began = Instant::now();
    loop {
        match OpenOptions::new().read(true).write(true).open(path) {
            Err(error)
                if error.kind() == io::ErrorKind::NotFound && began.elapsed() < NODE_LIMIT =>
            {
                std::thread::sleep(NODE_POLL);
            }
            opened => return opened,
        }
    }
}

fn position(tag: u16, offset: Sectors) -> u64 {
    let offset = u32::try_from(offset.bytes()).expect("a request is at most 32 MiB");
    UblkIOCtx::ublk_user_copy_pos(QUEUE, tag, offset)
}

fn errno_of(error: io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno)
}

/// The shared array of descriptors, one for each tag.
struct Descriptors {
    memory: NonNull<sys::ublksrv_io_desc>,
    depth: u16,
}

impl Descriptors {
    fn map(file: &File, depth: u16) -> io::Result<Self> {
        // SAFETY: a new, read-only, shared mapping at an address of the kernel's choice.
        let memory = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                mapped_bytes(depth),
                libc::PROT_READ,
                libc::MAP_SHARED | libc::MAP_POPULATE,
                file.as_raw_fd(),
                libc::off_t::from(sys::UBLKSRV_CMD_BUF_OFFSET),
            )
        };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let memory = NonNull::new(memory.cast()).expect("a mapping is not at address 0");
        Ok(Self { memory, depth })
    }

    fn read(&self, tag: u16) -> sys::ublksrv_io_desc {
        assert!(tag < self.depth, "tag {tag} of a queue of {}", self.depth);
        // SAFETY: inside the mapping (asserted). Volatile: the driver wrote it before it
        // completed the FETCH, and does not touch it before the next one.
        unsafe { self.memory.add(usize::from(tag)).read_volatile() }
    }
}

impl Drop for Descriptors {
    fn drop(&mut self) {
        // SAFETY: mapped by `map` with this very length; nothing refers to it any more.
        unsafe { libc::munmap(self.memory.as_ptr().cast(), mapped_bytes(self.depth)) };
    }
}

// SAFETY: read-only memory that belongs to no thread.
unsafe impl Send for Descriptors {}

fn mapped_bytes(depth: u16) -> usize {
    (usize::from(depth) * size_of::<sys::ublksrv_io_desc>()).next_multiple_of(PAGE_BYTES)
}

/// Each device has one queue: its log serialises requests anyway.
pub(crate) const QUEUE: u16 = 0;
const PAGE_BYTES: usize = 4096;
const NODE_LIMIT: Duration = Duration::from_secs(3);
const NODE_POLL: Duration = Duration::from_millis(5);
