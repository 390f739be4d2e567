//! What one sector of a virtual disk holds.
//!
//! The log is kept as bytes, since it may be torn inside a sector. Backing devices
//! only ever hold sectors of writes or zeroes, so four bytes stand for 512 and a
//! world is small; anything else is refused on its way in.

use std::rc::Rc;

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

/// The bytes of a sector, shared by everything that holds the same write of it.
#[derive(Clone, PartialEq)]
pub struct Bytes(Option<Rc<[u8; SECTOR_BYTES]>>);

impl Bytes {
    /// A sector with these bytes.
    #[must_use]
    pub fn new(bytes: [u8; SECTOR_BYTES]) -> Self {
        // Zeroes have one form only, or two equal sectors would differ.
        Self((bytes != ZEROES).then(|| Rc::new(bytes)))
    }

    /// What it holds.
    #[must_use]
    pub fn get(&self) -> &[u8; SECTOR_BYTES] {
        self.0.as_deref().unwrap_or(&ZEROES)
    }
}

impl Cell for Bytes {
    fn zeroes() -> Self {
        Self(None)
    }

    fn shorn(new: &Self, old: &Self, bytes: usize) -> Self {
        let mut torn = *old.get();
        torn[..bytes].copy_from_slice(&new.get()[..bytes]);
        Self::new(torn)
    }
}

const ZEROES: [u8; SECTOR_BYTES] = [0; SECTOR_BYTES];
