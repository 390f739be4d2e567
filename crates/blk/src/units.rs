//! Numbers with a meaning: an address is not a length, a device is not a site.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};

/// Bytes in a sector, the unit of every address and length on a block device.
pub const SECTOR_BYTES: usize = 512;

/// Bytes in a block, the unit in which the replication log is laid out.
pub const BLOCK_BYTES: usize = 4096;

/// A number of 512-byte sectors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sectors(pub u64);

/// The address of a 512-byte sector on one device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sector(pub u64);

/// A device of the group: the number that tags its writes in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DevNr(pub u32);

/// A site link; 0 is the local site. Range 0..=[`SlinkNr::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlinkNr(pub u16);

/// The number of a write: dense, increasing by one over all devices of a group.
///
/// `Seq(0)` is "before the first write"; the first write is `Seq(1)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

impl Sectors {
    /// The length in bytes.
    #[must_use]
    pub fn bytes(self) -> u64 {
        self.0 * SECTOR_BYTES as u64
    }

    /// The length in bytes, for a length that is known to fit in memory.
    #[must_use]
    pub fn len(self) -> usize {
        usize::try_from(self.bytes()).expect("a buffer's length fits the address space")
    }

    /// Whether this is no sector at all.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whole sectors in `bytes`; a rest is dropped.
    #[must_use]
    pub fn from_bytes(bytes: u64) -> Self {
        Self(bytes / SECTOR_BYTES as u64)
    }
}

impl Sector {
    /// The address in bytes.
    #[must_use]
    pub fn bytes(self) -> u64 {
        self.0 * SECTOR_BYTES as u64
    }

    /// How many sectors `self` lies behind `start`.
    #[must_use]
    pub fn since(self, start: Self) -> Sectors {
        Sectors(self.0 - start.0)
    }
}

impl Add<Sectors> for Sector {
    type Output = Self;
    fn add(self, len: Sectors) -> Self {
        Self(self.0 + len.0)
    }
}

impl Add for Sectors {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl AddAssign for Sectors {
    fn add_assign(&mut self, other: Self) {
        self.0 += other.0;
    }
}

impl Sub for Sectors {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }
}

impl SlinkNr {
    /// The local site.
    pub const LOCAL: Self = Self(0);
    /// The highest number a table may give a site link.
    pub const MAX: Self = Self(2047);

    /// Whether this is the local site.
    #[must_use]
    pub fn is_local(self) -> bool {
        self == Self::LOCAL
    }
}

impl Seq {
    /// The write after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The write before this one; `Seq(0)` stays `Seq(0)`.
    #[must_use]
    pub fn prev(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// How many writes `self` is ahead of `earlier`; 0 if it is not.
    #[must_use]
    pub fn lag(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

macro_rules! display {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}
display!(Sectors, Sector, DevNr, SlinkNr, Seq);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sectors_are_of_512_bytes_and_a_rest_is_none() {
        assert_eq!((Sectors(3).bytes(), Sectors(3).len(), Sector(3).bytes()), (1536, 1536, 1536));
        assert_eq!(
            (Sectors::from_bytes(1535), Sectors::from_bytes(1536)),
            (Sectors(2), Sectors(3))
        );
        assert!(Sectors(0).is_empty() && !Sectors(1).is_empty());
    }

    #[test]
    fn a_length_behind_an_address_is_an_address_and_between_two_lies_a_length() {
        let (start, len) = (Sector(7), Sectors(5));
        assert_eq!((start + len, (start + len).since(start)), (Sector(12), len));
        let mut sum = len + Sectors(3);
        sum += Sectors(2);
        assert_eq!((sum, sum - len), (Sectors(10), Sectors(5)));
    }

    #[test]
    fn writes_are_numbered_from_one_and_nothing_is_before_the_first() {
        assert_eq!((Seq(0).next(), Seq(5).next(), Seq(5).prev()), (Seq(1), Seq(6), Seq(4)));
        assert_eq!(Seq(0).prev(), Seq(0));
        assert_eq!((Seq(9).lag(Seq(4)), Seq(4).lag(Seq(9))), (5, 0));
    }

    #[test]
    fn the_local_site_is_number_zero() {
        assert!(SlinkNr(0).is_local() && !SlinkNr(1).is_local() && !SlinkNr::MAX.is_local());
    }
}
