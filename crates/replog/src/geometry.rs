//! Where things lie on the log device: slots, ring, laps. Arithmetic only.
//!
//! ```text
//! start              +128 KiB           +256 KiB                       +size
//!   │ superblock slot 0 │ superblock slot 1 │ ring ─────────────────────▶ │
//! ```
//!
//! Positions in the ring never wrap: a [`RingPos`] counts bytes since the log was
//! made, and its place on the device is what is left after whole laps. So "how
//! full" and "which came first" are subtractions and comparisons.

use blk::{BLOCK_BYTES, Sector, Sectors};

/// A place in the ring, in bytes since the log was made; a multiple of 4096.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RingPos(pub u64);

/// The measures of one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Where the log begins on its device.
    start: Sector,
    /// Bytes in one lap of the ring; a multiple of 4096.
    ring_bytes: u64,
}

impl Geometry {
    /// The measures of a log of `size` that begins at `start`; `None` if `size` is
    /// less than [`LOG_SIZE_MIN`].
    #[must_use]
    pub fn new(start: Sector, size: Sectors) -> Option<Self> {
        if size < LOG_SIZE_MIN {
            return None;
        }
        let ring = size.bytes() - RING_OFFSET;
        Some(Self { start, ring_bytes: ring - ring % BLOCK })
    }

    /// The measures of a log whose superblock says how long its ring is.
    #[must_use]
    pub fn of_ring(start: Sector, ring_bytes: u64) -> Self {
        Self { start, ring_bytes }
    }

    /// Bytes in one lap.
    #[must_use]
    pub fn ring_bytes(&self) -> u64 {
        self.ring_bytes
    }

    /// The size of the whole log, headers included, as far as it is used.
    #[must_use]
    pub fn size(&self) -> Sectors {
        Sectors::from_bytes(RING_OFFSET + self.ring_bytes)
    }

    /// First sector of a superblock slot; `slot` is 0 or 1.
    #[must_use]
    pub fn slot(&self, slot: u64) -> Sector {
        assert!(slot < SLOTS, "there are two slots");
        self.start + Sectors::from_bytes(slot * SLOT_BYTES)
    }

    /// Where `pos` lies on the device.
    #[must_use]
    pub fn sector(&self, pos: RingPos) -> Sector {
        self.start + Sectors::from_bytes(RING_OFFSET + pos.0 % self.ring_bytes)
    }

    /// Bytes from `pos` to the end of its lap; never 0.
    #[must_use]
    pub fn to_lap_end(&self, pos: RingPos) -> u64 {
        self.ring_bytes - pos.0 % self.ring_bytes
    }

    /// The longest group: a quarter of the ring (I10), and no more than [`GROUP_BYTES_MAX`].
    #[must_use]
    pub fn group_bytes_max(&self) -> u64 {
        let quarter = self.ring_bytes / 4;
        (quarter - quarter % BLOCK).min(GROUP_BYTES_MAX)
    }

    /// The longest write: one that fits a group by itself, behind its header.
    #[must_use]
    pub fn write_max(&self) -> Sectors {
        Sectors::from_bytes(self.group_bytes_max() - BLOCK)
    }

    /// How much may be written to the ring and not yet be durable, and so how far
    /// recovery searches behind a torn group for proof of damage (I12).
    #[must_use]
    pub fn unproven_bytes_max(&self) -> u64 {
        let half = self.ring_bytes / 2;
        (half - half % BLOCK).min(UNPROVEN_BYTES_MAX)
    }
}

impl RingPos {
    /// The place `bytes` further on.
    #[must_use]
    pub fn plus(self, bytes: u64) -> Self {
        Self(self.0 + bytes)
    }

    /// Bytes between `earlier` and here.
    #[must_use]
    pub fn since(self, earlier: Self) -> u64 {
        self.0.checked_sub(earlier.0).expect("a ring position lies behind its head")
    }
}

/// The smallest log a table may ask for: 4096 sectors, 2 MiB, as in 2009.
pub const LOG_SIZE_MIN: Sectors = Sectors(4096);
/// Superblock slots; they are written in turn.
pub const SLOTS: u64 = 2;
/// Bytes of a superblock slot: a header and a roster at its stated maxima.
pub const SLOT_BYTES: u64 = 128 * 1024;
/// Where the ring begins, from the start of the log.
pub const RING_OFFSET: u64 = SLOTS * SLOT_BYTES;
/// No group is longer, whatever the ring: it is one write, and one barrier at a site.
pub const GROUP_BYTES_MAX: u64 = 2 * 1024 * 1024;
/// No more than this is ever written and not durable.
pub const UNPROVEN_BYTES_MAX: u64 = 64 * 1024 * 1024;

const BLOCK: u64 = BLOCK_BYTES as u64;
