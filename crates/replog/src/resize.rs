//! Another length for the ring, while the log is in use.
//!
//! ```text
//!        lap base           head       tip
//!  ring    ├──────────────────┼─────────┼──────────┤                  as it is
//!          │ both put these bytes at the same place│
//!  ring    ├──────────────────┼─────────┼──────────┴─────────────┤    as it is to be
//! ```
//!
//! A position's place is what is left of its distance from the lap base after whole laps. Two
//! rings of different length whose laps begin at one position agree on the shorter lap. So:
//!
//! 1. A resize *waits* until everything that the log holds lies in one lap of both; or there
//!    is nothing, and a lap begins at the tip. That comes by at each lap. Meanwhile groups,
//!    and what may be unproven, keep to the limits of the shorter ring (I10, I12), and writers
//!    to what the local site can follow in a smaller one.
//! 2. Then a checkpoint with the new measures goes to both slots. Until both say so a crash may
//!    leave either; so nothing is appended that they would put elsewhere.
//! 3. From then on the new measures hold.
//!
//! What waits is not remembered: whoever opens the log again asks again.

use std::cmp::min;

use blk::{BLOCK_BYTES, Sector, Sectors, Seq, SlinkNr};

use crate::geometry::{Geometry, RingPos};
use crate::log::Replog;
use crate::standing::Version;

/// What is asked, and what is under way.
#[derive(Debug, Default)]
pub(crate) struct Resize {
    wanted: Option<Wanted>,
    changing: Option<Changing>,
}

/// A ring that was asked for.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    ring_bytes: u64,
    /// What was launched before keeps to older limits: all of it has to be durable, for a scan
    /// might not search far enough to find that proven (I12).
    proven: Seq,
    /// The last group that is longer than any may be in the new ring; 0 if none is.
    too_long: u64,
}

/// A ring that one slot says, or is about to.
#[derive(Clone, Copy, Debug)]
struct Changing {
    to: Geometry,
    /// Both agree up to here.
    agreed_end: RingPos,
    version: Version,
}

/// A resize that is not done yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resizing {
    /// The size that was asked for.
    pub to: Sectors,
    /// What it waits for; nothing if it is being done.
    pub waits_for: Option<Wait>,
}

/// What a resize waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// What this site lacks lies over the end of a lap.
    Wrapped(SlinkNr),
    /// What this site lacks lies beyond the new end.
    Beyond(SlinkNr),
    /// What this site lacks has groups that are too long for the new ring.
    Long(SlinkNr),
    /// What is being written, or read back.
    Io,
}

/// Why a log can't have a size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResizeError {
    /// Less than any log has, or more than any device.
    #[error("a log has {} sectors at least, found {found}", crate::geometry::LOG_SIZE_MIN)]
    Size {
        /// The size asked for.
        found: Sectors,
    },
    /// The devices may send requests that such a log has no room for (I10).
    #[error(
        "the devices in use send requests of up to {longest} sectors, which need a log of \
         {least} sectors at least, found {found}; a smaller one has to be made anew"
    )]
    Requests {
        /// The longest request.
        longest: Sectors,
        /// The size that has room for it.
        least: Sectors,
        /// The size asked for.
        found: Sectors,
    },
}

impl Replog {
    /// Asks for another size of the log, which fits its device; the present one takes back what
    /// was asked for. Requests of up to `longest` are to find room.
    ///
    /// # Errors
    /// A size that it can't have. Nothing has changed then.
    pub fn resize(&mut self, size: Sectors, longest: Sectors) -> Result<(), ResizeError> {
        let geometry = self.check_resize(size, longest)?;
        let ring_bytes = geometry.ring_bytes();
        let is_long = |bytes: u64| bytes > geometry.group_bytes_max();
        let long = self.index.groups().filter(|group| is_long(group.bytes)).last();
        self.resize.wanted = Some(Wanted {
            ring_bytes,
            proven: self.tip.seq,
            too_long: long.map_or(0, |group| group.nr),
        });
        self.take_back();
        Ok(())
    }

    /// Whether the log may have a size; where things lay in a new one.
    ///
    /// # Errors
    /// A size that it can't have.
    pub fn check_resize(&self, size: Sectors, longest: Sectors) -> Result<Geometry, ResizeError> {
        let start = self.geometry.slot(0);
        let geometry = Geometry::new(start, size).ok_or(ResizeError::Size { found: size })?;
        if geometry.write_max() < min(longest, self.geometry.write_max()) {
            let least = least_size(start, longest);
            return Err(ResizeError::Requests { longest, least, found: size });
        }
        Ok(geometry)
    }

    /// What a log of `size` uses of that: whole blocks. None if no log has it.
    #[must_use]
    pub fn used_of(&self, size: Sectors) -> Option<Sectors> {
        Geometry::new(self.geometry.slot(0), size).map(|geometry| geometry.size())
    }

    /// What was asked for, and is not done yet.
    #[must_use]
    pub fn resizing(&self) -> Option<Resizing> {
        let size = |ring_bytes| self.geometry.resized(ring_bytes, self.tip.pos).size();
        match (self.resize.wanted, self.resize.changing) {
            (Some(wanted), None) => {
                let waits_for = Some(self.resize_waits_for(&wanted).unwrap_or(Wait::Io));
                Some(Resizing { to: size(wanted.ring_bytes), waits_for })
            }
            (Some(Wanted { ring_bytes, .. }), Some(_)) => {
                Some(Resizing { to: size(ring_bytes), waits_for: Some(Wait::Io) })
            }
            (None, Some(Changing { to, .. })) => Some(Resizing { to: to.size(), waits_for: None }),
            (None, None) => None,
        }
    }

    /// Bytes of the ring, or of the one that was asked for if that has fewer.
    #[must_use]
    pub fn ring_bytes(&self) -> u64 {
        let wanted = self.resize.wanted.map(|wanted| wanted.ring_bytes);
        wanted.map_or(self.geometry.ring_bytes(), |wanted| wanted.min(self.geometry.ring_bytes()))
    }

    /// The longest group: as every ring has it that an opening might find, and the memory that
    /// groups are made in (I10).
    pub(crate) fn group_bytes_max(&self) -> u64 {
        let limits = self.rings().map(|ring| ring.group_bytes_max());
        limits.min().expect("the present ring is one").min(self.tail.group_bytes_max())
    }

    /// How much may be unproven, whichever ring an opening finds (I12).
    pub(crate) fn unproven_bytes_max(&self) -> u64 {
        let limits = self.rings().map(|ring| ring.unproven_bytes_max());
        limits.min().expect("the present ring is one")
    }

    /// The ring as it is, as one slot may say, and as was asked for.
    fn rings(&self) -> impl Iterator<Item = Geometry> {
        let Resize { wanted, changing } = self.resize;
        let of = |ring_bytes| Geometry::of_ring(Sector(0), ring_bytes, RingPos(0));
        let others = [wanted.map(|it| of(it.ring_bytes)), changing.map(|it| it.to)];
        std::iter::once(self.geometry).chain(others.into_iter().flatten())
    }

    /// Whether `bytes` may go to the ring now, behind a pad of `pad` bytes if there is one.
    pub(crate) fn may_append(&mut self, pad: u64, bytes: u64) -> bool {
        if let Some(Changing { agreed_end, .. }) = self.resize.changing {
            // P10: whichever slot is found, it finds this. What needs a pad goes further.
            return self.tip.pos.plus(bytes) <= agreed_end;
        }
        // It was admitted to a longer ring, or to one whose lap had another end.
        let fits = pad + bytes <= self.free_bytes();
        self.starved |= !fits;
        fits
    }

    /// Whether the local site lacks so much that a smaller ring could not hold it: writers have
    /// to wait for it, or that ring would never come.
    pub(crate) fn outruns_smaller_ring(&self, bytes: u64) -> bool {
        let ring = self.ring_bytes();
        ring < self.geometry.ring_bytes()
            && self.reads_locally()
            && self.bytes_behind(self.covered(SlinkNr::LOCAL)) + bytes > ring
    }

    /// Begins what was asked for, if it has not to wait any more.
    pub(crate) fn resize_if_possible(&mut self) {
        let Some(wanted) = self.resize.wanted.filter(|_| self.resize.changing.is_none()) else {
            return;
        };
        if self.failure.is_some() || self.checkpointing.is_writing() {
            return;
        }
        match self.resize_waits_for(&wanted) {
            None => self.begin_resize(&wanted),
            Some(Wait::Io) if self.durable < wanted.proven && wanted.proven <= self.written => {
                self.want_durable(self.written);
            }
            Some(_) => {}
        }
    }

    fn begin_resize(&mut self, wanted: &Wanted) {
        let (to, agreed_end) = self.resized_to(wanted.ring_bytes);
        self.members.change(|_| ());
        self.resize = Resize {
            wanted: None,
            changing: Some(Changing { to, agreed_end, version: self.members.version() }),
        };
    }

    /// The measures that the next checkpoint says.
    pub(crate) fn next_geometry(&self) -> Geometry {
        self.resize.changing.map_or(self.geometry, |changing| changing.to)
    }

    /// A checkpoint has arrived: when both slots say the new measures, they hold.
    pub(crate) fn resized(&mut self) {
        let Some(Changing { to, version, .. }) = self.resize.changing else { return };
        if !self.stands(version) {
            return;
        }
        let oldest = self.head.pos.min(self.superblock.head.pos);
        assert!(oldest >= to.lap_base(), "I6: what the log holds has a place in the new ring");
        let (from, now) = (self.geometry.size(), to.size());
        log::info!("the log has {now} sectors now, {from} before");
        self.geometry = to;
        self.resize.changing = None;
        self.take_back();
    }

    /// The log is lost: it gets no other size any more, whatever one of its slots says.
    pub(crate) fn forget_resize(&mut self) {
        self.resize = Resize::default();
    }

    /// Forgets what was asked for if it is what there is.
    fn take_back(&mut self) {
        let present = self.geometry.ring_bytes();
        if self.resize.changing.is_none() {
            self.resize.wanted = self.resize.wanted.filter(|it| it.ring_bytes != present);
        }
    }

    /// The ring of another length, and up to where it agrees with the present one.
    fn resized_to(&self, ring_bytes: u64) -> (Geometry, RingPos) {
        let (head, tip) = (self.head.pos, self.tip.pos);
        let to = self.geometry.resized(ring_bytes, tip);
        let shorter = min(ring_bytes, self.geometry.ring_bytes());
        let agreed_end = to.lap_base().plus(shorter);
        if head == tip && tip > agreed_end {
            return (Geometry::of_ring(to.slot(0), ring_bytes, tip), tip);
        }
        (to, agreed_end)
    }

    /// What keeps it from being done at once.
    fn resize_waits_for(&self, wanted: &Wanted) -> Option<Wait> {
        let (to, agreed_end) = self.resized_to(wanted.ring_bytes);
        let begin = to.lap_base();
        let slowest = self.consumers.slowest();
        let open = self.open.as_ref().map_or(0, |open| open.padded_bytes());
        match () {
            () if self.head.pos < begin => Some(Wait::Wrapped(slowest)),
            () if self.tip.pos > agreed_end => Some(Wait::Beyond(slowest)),
            () if self.head.group < wanted.too_long => Some(Wait::Long(slowest)),
            () if self.durable < wanted.proven
                || self.pins.oldest().is_some_and(|pos| pos < begin)
                || open > to.group_bytes_max() =>
            {
                Some(Wait::Io)
            }
            () => None,
        }
    }
}

/// The smallest log that has room for requests of `longest`.
fn least_size(start: Sector, longest: Sectors) -> Sectors {
    let quarter = longest.bytes().next_multiple_of(BLOCK) + BLOCK;
    Geometry::of_ring(start, 4 * quarter, RingPos(0)).size().max(crate::geometry::LOG_SIZE_MIN)
}

const BLOCK: u64 = BLOCK_BYTES as u64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_log_for_a_request_has_room_for_it_and_a_smaller_one_has_not() {
        for longest in [1, 7, 8, 9, 888, 2047, 2048].map(Sectors) {
            let least = least_size(Sector(0), longest);
            let room =
                |size| Geometry::new(Sector(0), size).map_or(Sectors(0), |it| it.write_max());
            assert!(room(least) >= longest, "{longest}");
            assert!(room(Sectors(least.0 - 8)) < longest || least.0 == 4096, "{longest}");
        }
    }
}
