//! The ring's counters, in the terms of 2009, since the start or since they were reset.

use blk::{SECTOR_BYTES, Sector};

use crate::log::Replog;

/// What the ring has done, and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingStatistics {
    /// First sector of the ring on the log device.
    pub start: Sector,
    /// Where the oldest group begins that somebody needs.
    pub head: Sector,
    /// Where the last group ends that is written.
    pub tail: Sector,
    /// Where the next group goes.
    pub next_avail: Sector,
    /// The sector behind the ring.
    pub end: Sector,
    /// Sectors that may be written.
    pub free: u64,
    /// Laps, since the log was made or resized.
    pub laps: u64,
    /// Writes that some site needs.
    pub live: u64,
    /// What was counted.
    pub counters: RingCounters,
}

/// What is counted of a ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingCounters {
    /// Payloads that were read back.
    pub reads: u64,
    /// Groups that were written.
    pub writes: u64,
    /// Writes that came in, and the most of them that were needed at once.
    pub inserts: u64,
    /// See `inserts`.
    pub live_max: u64,
    /// Groups that were let go of when one site, or every one of several, had them.
    pub single: u64,
    /// See `single`.
    pub multi: u64,
    /// How often writes began to wait for space.
    pub stalls: u64,
}

impl RingCounters {
    pub(crate) fn entered(&mut self, writes: u64, live: u64) {
        self.writes += u64::from(writes > 0);
        self.inserts += writes;
        self.live_max = self.live_max.max(live);
    }

    pub(crate) fn let_go(&mut self, groups: u64, sites: usize) {
        if sites == 1 {
            self.single += groups;
        } else {
            self.multi += groups;
        }
    }
}

impl Replog {
    /// What the ring has done, and where it stands.
    #[must_use]
    pub fn ring_statistics(&self) -> RingStatistics {
        let geometry = self.geometry();
        let start = geometry.ring_start();
        RingStatistics {
            start,
            head: geometry.sector(self.head.pos),
            tail: geometry.sector(self.written_end.pos),
            next_avail: geometry.sector(self.tip.pos),
            end: Sector(start.0 + geometry.ring_bytes() / SECTOR_BYTES as u64),
            free: self.free_bytes() / SECTOR_BYTES as u64,
            laps: geometry.laps(self.tip.pos),
            live: self.index.len() as u64,
            counters: self.ring,
        }
    }

    /// Counts from here on.
    pub fn reset_ring_statistics(&mut self) {
        self.ring = RingCounters { live_max: self.index.len() as u64, ..RingCounters::default() };
    }
}
