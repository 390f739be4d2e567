//! What one sector of a virtual disk holds.
//!
//! The log is kept as bytes, since it may be torn inside a sector. Backing devices
//! only ever hold sectors of writes or zeroes, so four bytes stand for 512 and a
//! world is small; anything else is refused on its way in.

use blk::SECTOR_BYTES;

/// The value of one sector.
pub trait Cell: Clone + PartialEq {
    /// What a fresh disk holds.
    fn zeroes() -> Self;

    /// The sector after a power cut in the middle of writing `new` over `old`: its
    /// first `bytes` are new. Disks of cells without bytes write whole sectors.
    #[must_use]
    fn shorn(new: &Self, old: &Self, bytes: usize) -> Self {
        if bytes == 0 { old.clone() } else { new.clone() }
    }
}

/// The bytes of a sector.
#[derive(Clone, PartialEq)]
pub struct Bytes(pub [u8; SECTOR_BYTES]);

impl Cell for Bytes {
    fn zeroes() -> Self {
        Self([0; SECTOR_BYTES])
    }

    fn shorn(new: &Self, old: &Self, bytes: usize) -> Self {
        let mut torn = old.clone();
        torn.0[..bytes].copy_from_slice(&new.0[..bytes]);
        torn
    }
}
