//! The dirty log: which regions of one device are out of sync on one site.
//!
//! Two sizes: a *region* is what the table says, and what stable media remember; a
//! *grain* is what memory remembers, a region or a part of one, so that a write into
//! a large region does not have all of it copied. Both are powers of two of sectors,
//! but the last one of a device may be shorter.
//!
//! | type | what survives the daemon |
//! |---|---|
//! | `nolog` | nothing: one region, the whole device |
//! | `core` | nothing: after a crash, all regions count as dirty |
//! | `disk` | every region marked before [`DirtyLog::is_settled`] said so (I7) |
//!
//! Promise: a range is clean only if nobody marked any sector of it since it was last
//! cleared; after a crash too, for whoever waits for `is_settled` before he relies on a
//! mark, and clears only what is on the replica's stable media.

#![forbid(unsafe_code)]

mod bits;
pub mod format;
mod image;
mod media;
pub mod tools;

use blk::{BufMut, DevNr, DiskId, DiskOp, Errno, Sector, Sectors, SlinkNr};
use uuid::Uuid;

use crate::bits::Bits;
use crate::format::{Bypassed, Identity};
use crate::media::Media;

/// The class of dirty log types in the registry.
pub struct DirtyLogClass;

impl registry::Class for DirtyLogClass {
    const NAME: &'static str = "dirty-log";
    type Constructor = fn(Spec) -> DirtyLog;
}

/// What a dirty log is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// The device.
    pub dev: DevNr,
    /// The site.
    pub slink: SlinkNr,
    /// Sectors of the device; at least one.
    pub len: Sectors,
    /// Sectors to a region; a power of two, or `len`.
    pub region: Sectors,
    /// Where a `disk` dirty log lives, and how large that is.
    pub disk: Option<(DiskId, Sectors)>,
}

/// One I/O that a dirty log asks for, on its own disk.
#[derive(Debug)]
pub struct Ask {
    /// The dirty log's number for it; comes back by [`DirtyLog::done`].
    pub nr: u64,
    /// What is to be done.
    pub op: DiskOp,
}

/// The regions of one device that are out of sync on one site.
#[derive(Clone, Debug)]
pub struct DirtyLog {
    bits: Bits,
    media: Option<Media>,
}

/// The type `core`: in memory. All clean.
///
/// # Panics
/// If the device or the region has no sector.
#[must_use]
pub fn core(spec: Spec) -> DirtyLog {
    DirtyLog { bits: Bits::new(spec.len, spec.region), media: None }
}

/// The type `nolog`: one region, whatever `region` says. Clean.
///
/// # Panics
/// If the device has no sector.
#[must_use]
pub fn nolog(spec: Spec) -> DirtyLog {
    DirtyLog { bits: Bits::new(spec.len, spec.len), media: None }
}

/// The type `disk`: in memory, and on a disk of its own. All clean. Without a disk, or with
/// one that is too small, it is as `core`, and says so as a [`DirtyLog::failure`].
///
/// # Panics
/// If the device or the region has no sector.
#[must_use]
pub fn disk(spec: Spec) -> DirtyLog {
    let Spec { dev, slink, len, region, disk } = spec;
    let identity = Identity { log: Uuid::nil(), session: 0, dev, slink, len, region };
    DirtyLog { bits: Bits::new(len, region), media: Some(Media::new(identity, disk)) }
}

impl DirtyLog {
    // ---- what is dirty

    /// Marks every grain that a range touches.
    ///
    /// # Panics
    /// If the range is not on the device.
    pub fn mark(&mut self, sector: Sector, len: Sectors) {
        self.bits.mark(sector, len);
        if let Some(media) = &mut self.media {
            media.mark(self.bits.regions_touched(sector, len));
        }
    }

    /// Marks the whole device.
    pub fn mark_all(&mut self) {
        self.mark(Sector(0), self.bits.len());
    }

    /// Clears every grain that lies in a range as a whole.
    ///
    /// # Panics
    /// If the range is not on the device.
    pub fn clear(&mut self, sector: Sector, len: Sectors) {
        self.bits.clear(sector, len);
        if let Some(media) = &mut self.media {
            let regions = self.bits.regions_touched(sector, len);
            let clean = regions.filter(|region| !self.bits.is_region_dirty(*region as u64));
            clean.for_each(|region| media.clear(region));
        }
    }

    /// Whether any grain that a range touches is dirty.
    ///
    /// # Panics
    /// If the range is not on the device.
    #[must_use]
    pub fn is_dirty(&self, sector: Sector, len: Sectors) -> bool {
        self.bits.is_dirty(sector, len)
    }

    /// The first dirty grains that begin at or behind `from`, as one range of at most `max` sectors
    /// (at least one grain).
    #[must_use]
    pub fn next_dirty(&self, from: Sector, max: Sectors) -> Option<(Sector, Sectors)> {
        self.bits.next_dirty(from, max)
    }

    /// Sectors of all dirty grains.
    #[must_use]
    pub fn dirty_sectors(&self) -> Sectors {
        self.bits.dirty_sectors()
    }

    /// How many regions there are.
    #[must_use]
    pub fn regions(&self) -> u64 {
        self.bits.regions()
    }

    /// How many of them are in sync.
    #[must_use]
    pub fn regions_in_sync(&self) -> u64 {
        self.bits.regions_in_sync()
    }

    /// The device has grown to what `spec` says. What lies behind its old end is clean until
    /// somebody marks it, but where a region reaches across; media of an earlier size are not
    /// believed any more (I7), so a session that is under way is written anew.
    ///
    /// # Panics
    /// If it became shorter.
    pub fn grow(&mut self, spec: &Spec) {
        assert!(spec.len >= self.bits.len(), "a device does not become shorter");
        if self.is_loading() {
            self.mark_all();
        }
        let before = std::mem::replace(&mut self.bits, Bits::new(spec.len, spec.region));
        if let Some(media) = &mut self.media {
            media.grow(spec);
        }
        let mut from = Sector(0);
        while let Some((sector, len)) = before.next_dirty(from, before.len()) {
            self.mark(sector, len);
            from = sector + len;
        }
    }

    // ---- what of it survives

    /// Where it lives, if it is of type `disk`.
    #[must_use]
    pub fn disk(&self) -> Option<DiskId> {
        self.media.as_ref().and_then(Media::disk)
    }

    /// The site leaves `streaming` under this number, which no other leaving of it has: from
    /// now on media are to say what memory says, for `session` of `log`.
    ///
    /// What failed is tried anew, unless I/O that was given up has not ended yet (I15). What
    /// was not read yet of a load is all dirty.
    pub fn begin(&mut self, log: Uuid, session: u64) {
        if self.is_loading() {
            self.mark_all();
        }
        if let Some(media) = &mut self.media {
            media.begin(log, session);
        }
    }

    /// Reads back what media say for `session` of `log`. Until it [`DirtyLog::is_loading`] no
    /// more, nothing is known. What can't be believed, all of it or a block, is all dirty;
    /// marks made meanwhile stay. The session goes on: what it marks from now on is added.
    pub fn load(&mut self, log: Uuid, session: u64) {
        let is_readable = self.media.as_mut().is_some_and(|media| media.load(log, session));
        if !is_readable {
            self.mark_all();
        }
    }

    /// Whether a load has found a block that can't be believed, since this was last asked. The
    /// right one may come back, as old as it is by then: so the session is to end (I7).
    pub fn take_doubt(&mut self) -> bool {
        self.media.as_mut().is_some_and(Media::take_doubt)
    }

    /// The devices go on without this log (P8): the disk is to say so too, in this session
    /// and in those to come. It does when it [`DirtyLog::is_settled`].
    pub fn bypass(&mut self, bypassed: Bypassed) {
        if let Some(media) = &mut self.media {
            media.bypass(bypassed);
        }
    }

    /// Whether a load is under way.
    #[must_use]
    pub fn is_loading(&self) -> bool {
        self.media.as_ref().is_some_and(Media::is_loading)
    }

    /// The next I/O to be done by now, if there is one. To be asked again until there is none.
    pub fn poll(&mut self) -> Option<Ask> {
        let is_clean = self.bits.dirty_sectors().is_empty();
        self.media.as_mut()?.poll(is_clean)
    }

    /// An I/O has ended. A write counts only with its flush; a failed one never (I11).
    ///
    /// # Panics
    /// If it was not asked for, or has ended before.
    pub fn done(&mut self, nr: u64, result: Result<(), Errno>, buf: Option<BufMut>) {
        let Some(media) = &mut self.media else { return };
        for regions in media.done(nr, result, buf) {
            let (sector, len) = self.bits.sectors_of(&regions);
            self.mark(sector, len);
        }
    }

    /// Its disk was opened afresh, and has `size`; the next [`DirtyLog::begin`] can use it.
    pub fn found(&mut self, size: Sectors) {
        if let Some(media) = &mut self.media {
            media.found(size);
        }
    }

    /// Its disk does not answer: nothing more is asked of it, and what still ends is of no
    /// meaning. What was not read yet of a load is all dirty.
    pub fn give_up(&mut self, errno: Errno) {
        let was_loading = self.is_loading();
        if let Some(media) = &mut self.media {
            media.give_up(errno);
        }
        if was_loading {
            self.mark_all();
        }
    }

    /// Whether a crash now would bring back every mark that memory has: never, for one
    /// that lives in memory or whose disk failed. Then somebody else has to remember
    /// that everything is dirty.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.media.as_ref().is_some_and(Media::is_settled)
    }

    /// Whether it could ever settle: it has a disk that has not failed.
    #[must_use]
    pub fn survives(&self) -> bool {
        self.media.is_some() && self.failure().is_none()
    }

    /// What became of its disk, if it failed.
    #[must_use]
    pub fn failure(&self) -> Option<Errno> {
        self.media.as_ref().and_then(Media::failure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_tells_what_is_dirty_by_its_regions_and_where_it_lives() {
        let place = (DiskId(3), Sectors(1 << 20));
        let spec = |disk| Spec {
            dev: DevNr(1),
            slink: SlinkNr(2),
            len: Sectors(100),
            region: Sectors(8),
            disk,
        };
        let all = [
            (core(spec(None)), 13, Some((Sector(16), Sectors(8))), None),
            (disk(spec(Some(place))), 13, Some((Sector(16), Sectors(8))), Some(DiskId(3))),
            (nolog(spec(None)), 1, Some((Sector(0), Sectors(100))), None),
        ];
        for (mut log, regions, dirty, lives_on) in all {
            assert_eq!(
                (log.regions(), log.regions_in_sync(), log.disk()),
                (regions, regions, lives_on)
            );
            assert_eq!(log.next_dirty(Sector(0), Sectors(100)), None);
            log.mark(Sector(20), Sectors(1));
            assert_eq!(log.regions_in_sync(), regions - 1);
            assert_eq!(log.next_dirty(Sector(0), Sectors(100)), dirty);
        }
    }
}
