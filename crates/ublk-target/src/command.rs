//! One command to the ublk driver, with a limit of time.
//!
//! Some kernels never answer (ADD_DEV of 6.17 and 6.18.4), and START_DEV waits for
//! every FETCH of a queue: so every command is given up after its limit, with a
//! sentence. A command that was given up may still end later; what it points to is
//! left to the kernel for good.
//!
//! Each command is sent once, on a ring of its own: no thread is bound to a device,
//! and what one command left behind cannot be taken for the answer to another.
#![allow(unsafe_code, reason = "a control command carries the address of its payload")]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use blk::Errno;
use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, opcode, squeue};
use libublk::sys;

use crate::error::ControlError;

/// One command, before it is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Command {
    /// Its name in the kernel's documentation, for errors.
    pub(crate) name: &'static str,
    pub(crate) opcode: u32,
    /// `None`: the driver itself, or a device that has no number yet.
    pub(crate) device: Option<u32>,
    /// Inline argument.
    pub(crate) data: u64,
    pub(crate) limit: Duration,
}

impl Command {
    /// Sends the command without a payload.
    pub(crate) fn send(self) -> Result<(), ControlError> {
        self.run(0, 0)
    }

    /// Sends the command with `payload`, which the kernel reads or overwrites.
    pub(crate) fn exchange<T: Copy>(self, payload: T) -> Result<T, ControlError> {
        let mut payload = Box::new(payload);
        let address = &raw mut *payload as u64;
        let len = u16::try_from(size_of::<T>()).expect("a payload is a small structure");
        match self.run(address, len) {
            Ok(()) => Ok(*payload),
            Err(error) => {
                if matches!(error, ControlError::TimedOut { .. } | ControlError::Ring(_)) {
                    // The kernel may yet write to it.
                    Box::leak(payload);
                }
                Err(error)
            }
        }
    }

    fn run(self, address: u64, len: u16) -> Result<(), ControlError> {
        let control = open()?;
        let mut ring =
            IoUring::<squeue::Entry128>::builder().build(2).map_err(ControlError::Ring)?;
        let entry = self.entry(&control, address, len);
        // SAFETY: `exchange` keeps the payload until the command has ended, and for ever if
        // it has not; the command structure itself is copied into the entry.
        unsafe { ring.submission().push(&entry) }.expect("a new ring has room for one entry");
        match wait(&mut ring, self.limit).map_err(ControlError::Ring)? {
            Some(result) if result < 0 => Err(self.refused(Errno(-result))),
            Some(_) => Ok(()),
            None => Err(ControlError::TimedOut {
                doing: self.name,
                device: self.device,
                limit: self.limit,
            }),
        }
    }

    fn refused(self, errno: Errno) -> ControlError {
        ControlError::Refused { doing: self.name, device: self.device, errno }
    }

    fn entry(self, control: &File, address: u64, len: u16) -> squeue::Entry128 {
        let command = sys::ublksrv_ctrl_cmd {
            dev_id: self.device.unwrap_or(u32::MAX),
            queue_id: u16::MAX,
            addr: address,
            len,
            data: [self.data],
            ..Default::default()
        };
        let mut bytes = [0_u8; 80];
        // SAFETY: the structure is plain numbers without padding, and smaller than the array.
        unsafe {
            let source = (&raw const command).cast::<u8>();
            let len = size_of::<sys::ublksrv_ctrl_cmd>();
            std::ptr::copy_nonoverlapping(source, bytes.as_mut_ptr(), len);
        }
        opcode::UringCmd80::new(Fd(control.as_raw_fd()), self.opcode).cmd(bytes).build()
    }
}

/// Opens the driver's control device.
pub(crate) fn open() -> Result<File, ControlError> {
    OpenOptions::new().read(true).write(true).open(CONTROL_PATH).map_err(ControlError::Open)
}

/// The result of the one command on `ring`, or `None` after `limit`.
fn wait(ring: &mut IoUring<squeue::Entry128>, limit: Duration) -> io::Result<Option<i32>> {
    let began = Instant::now();
    loop {
        let left = Timespec::from(limit.saturating_sub(began.elapsed()));
        match ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&left)) {
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
            Err(error) if error.raw_os_error() == Some(libc::ETIME) => {}
            Err(error) => return Err(error),
        }
        if let Some(ended) = ring.completion().next() {
            return Ok(Some(ended.result()));
        }
        if began.elapsed() >= limit {
            return Ok(None);
        }
    }
}

/// The driver's control device; there while the module is loaded.
pub(crate) const CONTROL_PATH: &str = "/dev/ublk-control";
