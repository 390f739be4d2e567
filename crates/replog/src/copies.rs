//! Which sites have a whole copy of the devices, and which of these the overlay is about.
//!
//! ```text
//!              whole copy                              what reads find
//!  ┌──────────────────────────────┐
//!  │ media: all up to `covered`   │ + the log behind it  =  all that was written
//!  └──────────────────────────────┘
//! ```
//!
//! A copy is *whole* while nothing that it lacks has left the log. The *base* is a whole copy:
//! the overlay shows what it lacks, and reads go there for everything else. It is the local one
//! while that can be read (P7). There is always a whole copy, and the last one that can be read
//! is never given up (P6): so the head passes only what one complete copy has on its media.

use blk::{DevNr, Errno, Sector, Sectors, Seq, SlinkNr, Time};
use smallvec::SmallVec;

use crate::consumers::Consumers;
use crate::log::Replog;
use crate::overlay::{Cuts, Overlay, Piece};

/// What a site's copy of the devices is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Worth {
    /// It lacks something that is in the log no more.
    Partial,
    /// It is whole, and can be read or not.
    Whole(Readable),
}

/// Whether a copy can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Readable {
    /// It is not there, or hangs; it may come back.
    No,
    /// Something there failed; a read may still go well.
    Perhaps,
    /// It can.
    Yes,
}

/// What somebody met who read from a copy, for the link that looks after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// The device.
    pub dev: DevNr,
    /// When the read began.
    pub since: Time,
    /// How it failed; `None`: it hangs.
    pub errno: Option<Errno>,
}

impl Consumers {
    /// The whole copy to read from, now that it is `before`: the one that can best be read; the
    /// local one before others, the one that is read already before those.
    fn base(&self, before: SlinkNr) -> SlinkNr {
        let whole = self.iter().filter_map(|c| match c.worth {
            Worth::Partial => None,
            Worth::Whole(readable) => {
                let slink = c.slink;
                Some(((readable, slink.is_local(), slink == before, c.covered), slink))
            }
        });
        whole.max().map_or(before, |(_, slink)| slink)
    }

    fn whole(&self, readable: Readable) -> impl Iterator<Item = (SlinkNr, Seq)> {
        let is = move |worth: Worth| matches!(worth, Worth::Whole(found) if found >= readable);
        self.iter().filter(move |c| is(c.worth)).map(|c| (c.slink, c.covered))
    }
}

impl Replog {
    /// A site's link says what its copy is worth: whether it is fed from the log and lacks
    /// nothing else, and whether it can be read.
    ///
    /// # Panics
    /// If the last whole copy that can be read is given up (P6).
    pub fn value_copy(&mut self, slink: SlinkNr, whole: bool, readable: Readable) {
        let whole = whole && self.config.complete_sites.contains(&slink);
        let worth = if whole { Worth::Whole(readable) } else { Worth::Partial };
        let before = self.consumers.of(slink).worth;
        if before == worth {
            return;
        }
        let given_up = before != Worth::Partial && !whole;
        assert!(
            !given_up || self.kept_beside(slink).is_some(),
            "P6: site {slink} is the last whole copy that can be read"
        );
        self.consumers.value(slink, worth);
        let base = self.consumers.base(self.base);
        if base != self.base || base == slink {
            // What was copied there and not flushed may be gone with what happened to it.
            self.base = base;
            self.show_again(self.covered(base));
        }
    }

    /// Other sites have every device from now on. Those that have it no more are not whole.
    ///
    /// # Panics
    /// If one of these is the last whole copy that can be read (P6).
    pub fn set_complete_sites(&mut self, sites: Vec<SlinkNr>) {
        self.config.complete_sites = sites;
        let whole: Vec<SlinkNr> = self.whole_copies().collect();
        for slink in whole {
            if !self.config.complete_sites.contains(&slink) {
                self.value_copy(slink, false, Readable::No);
                self.doubts.remove(&slink);
            }
        }
    }

    /// The sites that have every device.
    #[must_use]
    pub fn complete_sites(&self) -> &[SlinkNr] {
        &self.config.complete_sites
    }

    /// The log is open: what its sites have, it says itself, before any link has looked.
    pub(crate) fn begin_with_copies(&mut self) {
        self.base = self.consumers.base(self.base);
        self.show_again(self.covered(self.base));
    }

    /// Whether a site lacks nothing but what the log still holds.
    #[must_use]
    pub fn is_whole(&self, slink: SlinkNr) -> bool {
        self.consumers.of(slink).worth != Worth::Partial
    }

    /// How far the best of the other whole copies is that can be read: so far the head may pass
    /// whatever this site lacks (P6). `None`: this one must not be given up.
    #[must_use]
    pub fn kept_beside(&self, slink: SlinkNr) -> Option<Seq> {
        let others = self.consumers.whole(Readable::Yes).filter(|(other, _)| *other != slink);
        others.map(|(_, covered)| covered).max()
    }

    /// The whole copy that the overlay is about.
    #[must_use]
    pub fn base(&self) -> SlinkNr {
        self.base
    }

    /// The same, if a read may be tried there.
    #[must_use]
    pub fn readable_base(&self) -> Option<SlinkNr> {
        let may_try = self.consumers.of(self.base).worth >= Worth::Whole(Readable::Perhaps);
        may_try.then_some(self.base)
    }

    /// Whether the base is a copy that nothing speaks against.
    #[must_use]
    pub fn reads_well(&self) -> bool {
        self.consumers.of(self.base).worth == Worth::Whole(Readable::Yes)
    }

    /// Whether it is the local one: then that is what the log looks after.
    #[must_use]
    pub fn reads_locally(&self) -> bool {
        self.base.is_local() && self.reads_well()
    }

    /// The sites with a whole copy, whether it can be read or not.
    pub fn whole_copies(&self) -> impl Iterator<Item = SlinkNr> {
        self.consumers.whole(Readable::No).map(|(slink, _)| slink)
    }

    /// A whole copy that can be read, other than these; the one that lacks least.
    #[must_use]
    pub fn another_copy(&self, tried: &[SlinkNr]) -> Option<SlinkNr> {
        let others =
            self.consumers.whole(Readable::Yes).filter(|(slink, _)| !tried.contains(slink));
        others.max_by_key(|(_, covered)| *covered).map(|(slink, _)| slink)
    }

    /// Somebody met a failure at a site's copy.
    pub fn doubt(&mut self, slink: SlinkNr, doubt: Doubt) {
        self.doubts.entry(slink).or_insert(doubt);
    }

    /// What somebody met there, to be looked into.
    pub fn take_doubt(&mut self, slink: SlinkNr) -> Option<Doubt> {
        self.doubts.remove(&slink)
    }

    // ---- what the base lacks

    /// The oldest write that still shows in the overlay; one behind the newest if none.
    #[must_use]
    pub fn first_shown(&self) -> Seq {
        self.first_shown.max(self.index.first_seq())
    }

    /// The newest write that hid an older one in the overlay. The LD may count the older
    /// as settled only once this one is durable: until then only the log could bring it back.
    #[must_use]
    pub fn superseded_by(&self) -> Seq {
        self.superseded_by
    }

    /// A range of a device in pieces: which write has its newest content, or the base (I8).
    #[must_use]
    pub fn pieces(
        &self,
        dev: DevNr,
        sector: Sector,
        len: Sectors,
    ) -> impl IntoIterator<Item = Piece> + use<> {
        self.overlay.pieces(dev, sector, len)
    }

    /// The same for another whole copy. It walks through the log: for what is rare.
    #[must_use]
    pub fn pieces_beside(
        &self,
        slink: SlinkNr,
        dev: DevNr,
        sector: Sector,
        len: Sectors,
    ) -> SmallVec<[Piece; 4]> {
        assert!(self.is_whole(slink), "what is partial is not read");
        let mut lacking = Overlay::default();
        let mut seq = self.covered(slink).next();
        while seq <= self.written {
            let write = self.index.write(seq).expect("I5: the log holds what a site lacks");
            if write.dev == dev && !write.len.is_empty() {
                lacking.put(dev, write.sector, write.len, seq);
            }
            seq = seq.next();
        }
        lacking.pieces(dev, sector, len)
    }

    /// Whether no write behind `since` has touched a range; not known of what is forgotten.
    #[must_use]
    pub fn is_untouched_since(
        &self,
        since: Seq,
        (dev, sector, len): (DevNr, Sector, Sectors),
    ) -> bool {
        let touches = |seq: u64| {
            let write = self.index.write(Seq(seq)).expect("the index is dense");
            let end = write.sector + write.len;
            write.dev == dev && write.sector < sector + len && sector < end
        };
        since.next() >= self.index.first_seq() && !(since.0 + 1..=self.written.0).any(touches)
    }

    /// Whether some of the write still shows: the base lacks it.
    #[must_use]
    pub fn is_shown(&self, seq: Seq) -> bool {
        self.index.write(seq).is_some_and(|write| !write.shown.is_empty())
    }

    /// The base has a range of write `seq` (in its cache at least): reads may go there.
    pub fn settle(&mut self, dev: DevNr, sector: Sector, len: Sectors, seq: Seq) {
        let cuts = self.overlay.settle(dev, sector, len, seq);
        self.hidden(&cuts);
    }

    /// The base has all of these writes.
    pub(crate) fn settle_all(&mut self, after: Seq, last: Seq) {
        for seq in (after.0 + 1..=last.0).map(Seq) {
            let write = self.index.write(seq).filter(|write| !write.shown.is_empty());
            if let Some((dev, sector, len)) = write.map(|it| (it.dev, it.sector, it.len)) {
                self.settle(dev, sector, len, seq);
            }
        }
    }

    pub(crate) fn hidden(&mut self, cuts: &Cuts) {
        for cut in cuts {
            let write = self.index.write_mut(cut.seq).expect("a write that shows is in the index");
            write.shown = write.shown - cut.len;
        }
        while self.first_shown <= self.written && !self.is_shown(self.first_shown) {
            self.first_shown = self.first_shown.next();
        }
    }

    /// Lets every write behind `after` show again, and no other: another copy is the base, or
    /// what was copied to it can't be relied on; also after recovery, when nothing is known.
    pub(crate) fn show_again(&mut self, after: Seq) {
        self.overlay = Overlay::default();
        for seq in self.index.first_seq().0..=self.written.0 {
            self.index.write_mut(Seq(seq)).expect("the index is dense").shown = Sectors(0);
        }
        let written = std::mem::replace(&mut self.written, after);
        self.first_shown = after.next();
        for seq in after.0 + 1..=written.0 {
            self.written = Seq(seq);
            self.show(Seq(seq));
        }
        // What never shows, like a bookmark, holds nothing up.
        self.hidden(&Cuts::new());
        self.shown_again();
    }
}
