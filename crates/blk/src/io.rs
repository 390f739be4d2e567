//! Requests of the front end, operations on backing devices, and their names.

#![allow(
    missing_docs,
    reason = "every variant is documented; its fields say the rest by name and type"
)]

use std::fmt;

use crate::buf::{BufMut, Gather};
use crate::units::{Sector, Sectors};

/// One request of the front end, from its arrival to its completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReqId(pub u64);

/// One backing device or file, as the driver opened it: log, LD, RD or dirty log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DiskId(pub u32);

/// Which part of a machine asked for an I/O, so that its end finds the way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IoOwner(pub u16);

/// One backing I/O in flight. Unique among those in flight on one machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IoId {
    /// Who asked for it.
    pub owner: IoOwner,
    /// The owner's own number for it.
    pub nr: u64,
}

/// What an application asks of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Read `len` sectors.
    Read { sector: Sector, len: Sectors },
    /// Write `len` sectors; with `fua` the end means "on stable media".
    Write { sector: Sector, len: Sectors, fua: bool },
    /// Everything acknowledged so far is to be on stable media.
    Flush,
    /// The content is of no more use; it reads as zeroes from the end on (P2).
    Discard { sector: Sector, len: Sectors },
    /// The content is zeroes from the end on; `unmap` allows giving the space back.
    WriteZeroes { sector: Sector, len: Sectors, unmap: bool, fua: bool },
}

/// What a machine asks of a backing device. Addresses are absolute on that device.
#[derive(Debug)]
pub enum DiskOp {
    /// Fill `buf` from `sector` on. The buffer comes back with the end of the I/O.
    Read { sector: Sector, buf: BufMut },
    /// Write the buffers one after the other; `fua`: on stable media at the end.
    Write { sector: Sector, data: Gather, fua: bool },
    /// All completed writes of this disk are to be on stable media.
    Flush,
    /// Zeroes, as write-zeroes with (`unmap`) or without deallocation; explicit
    /// zeroes where the device can't. Never a bare discard (P2).
    WriteZeroes { sector: Sector, len: Sectors, unmap: bool, fua: bool },
}

/// What a driver sees of a disk when it opens it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskSeen {
    /// Its size.
    pub size: Sectors,
    /// Bytes of its logical block: 512 or 4096.
    pub logical_block: u32,
    /// What stays the same when its path changes (WWID, PARTUUID, …). Two paths to
    /// the same thing have the same identity.
    pub identity: String,
}

/// Why a disk is not open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotOpened {
    /// The kernel's word for it.
    pub errno: Errno,
    /// A sentence that names the path, and the holder of a busy disk.
    pub why: String,
}

/// A positive `errno` value, as the kernel reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Errno(pub i32);

impl Errno {
    /// Input/output error.
    pub const EIO: Self = Self(5);
    /// No such device or address.
    pub const ENXIO: Self = Self(6);
    /// No such device.
    pub const ENODEV: Self = Self(19);
    /// Invalid argument.
    pub const EINVAL: Self = Self(22);
    /// No space left on device.
    pub const ENOSPC: Self = Self(28);
    /// No data: what a disk says of a bad sector.
    pub const ENODATA: Self = Self(61);
    /// An illegal sequence of bytes: what a disk says of a sector whose protection is wrong.
    pub const EILSEQ: Self = Self(84);
    /// An error at the other end: what a disk's target says of itself.
    pub const EREMOTEIO: Self = Self(121);
    /// The operation timed out.
    pub const ETIMEDOUT: Self = Self(110);
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // std knows the words for every errno; it prints "… (os error N)".
        std::io::Error::from_raw_os_error(self.0).fmt(f)
    }
}

impl std::error::Error for Errno {}

impl Op {
    /// First sector and length, for operations that touch sectors.
    #[must_use]
    pub fn range(&self) -> Option<(Sector, Sectors)> {
        match *self {
            Self::Read { sector, len }
            | Self::Write { sector, len, .. }
            | Self::Discard { sector, len }
            | Self::WriteZeroes { sector, len, .. } => Some((sector, len)),
            Self::Flush => None,
        }
    }

    /// Whether the operation changes what the device holds.
    #[must_use]
    pub fn changes_data(&self) -> bool {
        match self {
            Self::Write { .. } | Self::Discard { .. } | Self::WriteZeroes { .. } => true,
            Self::Read { .. } | Self::Flush => false,
        }
    }

    /// Whether its end promises stable media for its own data.
    #[must_use]
    pub fn is_fua(&self) -> bool {
        match self {
            Self::Write { fua, .. } | Self::WriteZeroes { fua, .. } => *fua,
            Self::Read { .. } | Self::Flush | Self::Discard { .. } => false,
        }
    }
}

impl DiskOp {
    /// Whether the operation changes what the disk holds.
    #[must_use]
    pub fn changes_data(&self) -> bool {
        matches!(self, Self::Write { .. } | Self::WriteZeroes { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operation_touches_changes_and_promises_what_its_name_says() {
        let (sector, len) = (Sector(8), Sectors(16));
        let range = Some((sector, len));
        let ops = [
            (Op::Read { sector, len }, range, false, false),
            (Op::Write { sector, len, fua: false }, range, true, false),
            (Op::Write { sector, len, fua: true }, range, true, true),
            (Op::Discard { sector, len }, range, true, false),
            (Op::WriteZeroes { sector, len, fua: false, unmap: true }, range, true, false),
            (Op::WriteZeroes { sector, len, fua: true, unmap: false }, range, true, true),
            (Op::Flush, None, false, false),
        ];
        for (op, range, changes, fua) in ops {
            let found = (op.range(), op.changes_data(), op.is_fua());
            assert_eq!(found, (range, changes, fua), "{op:?}");
        }
    }
}
