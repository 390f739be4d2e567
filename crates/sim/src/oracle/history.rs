//! Which writes there were, and which of them each sector has seen, in order.
//!
//! A write's number is its place in the order in which the log took it in. A sector of zeroes, or of
//! a write that the front end issued again after a crash, may stem from any of several
//! writes: what one look can mean is a set of *readings*, never a guess.

use std::fmt;
use std::ops::Range;

use smallvec::{SmallVec, smallvec};
use table::Order;

use crate::payload::Content;

/// The number of a write in the log's order; 0 stands for the initial zeroes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nr(pub u32);

/// An instant of the application: grows with every submission and acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(pub u64);

/// A write and what the application saw of it.
#[derive(Clone, Debug)]
pub struct Write {
    /// What it wrote.
    pub content: Content,
    /// Where, in the row of all sectors.
    pub row: Range<usize>,
    /// Sectors of groups that the log has taken in, up to the end of its own.
    pub log_end: u64,
    /// When it was submitted.
    pub submitted: Instant,
    /// When it was acknowledged; [`Instant::NEVER`] if it was not.
    pub acked: Instant,
    /// Whether an application was told, or only a recovery made it count as told.
    pub answered: bool,
    /// When it was promised to survive a power cut: by its own FUA, or a FLUSH behind it.
    pub stable: Instant,
}

/// All writes that are alive, and the sectors they touched.
#[derive(Clone, Debug)]
pub struct History {
    writes: Vec<Write>,
    /// Live writes of each sector, oldest first; the first is the oldest still of interest.
    sectors: Vec<SmallVec<[Nr; 4]>>,
    /// What the devices held before the first write.
    initial: Vec<Content>,
    /// Everything up to here that was acknowledged is stable.
    stable_to: Nr,
}

/// A crash-legal stretch: what is shown has been submitted at `from`, and nothing newer
/// was acknowledged before `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Stretch {
    pub(crate) from: Instant,
    pub(crate) to: Instant,
}

/// Stretches of the readings of one value, newest first, touching ones joined.
pub(super) type Stretches = SmallVec<[Stretch; 1]>;

impl History {
    /// Devices that hold `initial`, and no write.
    #[must_use]
    pub fn new(initial: Vec<Content>) -> Self {
        let origin = Write {
            content: Content::ZEROES,
            row: 0..initial.len(),
            log_end: 0,
            submitted: Instant(0),
            acked: Instant(0),
            answered: true,
            stable: Instant(0),
        };
        Self {
            writes: vec![origin],
            sectors: vec![smallvec![Nr(0)]; initial.len()],
            initial,
            stable_to: Nr(0),
        }
    }

    /// What the sector held before the first write.
    #[must_use]
    pub fn initial(&self, at: usize) -> Content {
        self.initial[at]
    }

    /// A sector of which there was no write until now turns out to hold this.
    ///
    /// # Panics
    /// If there was one.
    pub fn begin_with(&mut self, at: usize, content: Content) {
        assert_eq!(self.sectors[at].as_slice(), [Nr(0)], "nobody has written there");
        self.initial[at] = content;
    }

    /// What a write left in one of its sectors.
    #[must_use]
    pub fn content(&self, at: usize, nr: Nr) -> Content {
        if nr == Nr(0) { self.initial[at] } else { self.write(nr).content }
    }

    /// The newest write there is, alive or not.
    #[must_use]
    pub fn last(&self) -> Nr {
        Nr(u32::try_from(self.writes.len() - 1).expect("fewer than 2^32 writes"))
    }

    /// Adds a write and numbers it.
    pub fn push(&mut self, write: Write) -> Nr {
        let nr = self.last().next();
        for seen in &mut self.sectors[write.row.clone()] {
            seen.push(nr);
        }
        self.writes.push(write);
        nr
    }

    /// What there is to know of a write.
    ///
    /// # Panics
    /// If there is no such write.
    #[must_use]
    pub fn write(&self, nr: Nr) -> &Write {
        &self.writes[nr.index()]
    }

    /// Notes when a write was acknowledged; `fua`: as one that survives a power cut.
    pub fn ack(&mut self, nr: Nr, fua: bool, at: Instant) {
        let write = &mut self.writes[nr.index()];
        (write.acked, write.answered) = (at, true);
        if fua {
            write.stable = at;
        }
    }

    /// What was acknowledged by `submitted` and is not newer than `upto` is stable at `now`.
    /// Returns the writes for which that is new.
    pub fn stabilize(&mut self, upto: Nr, submitted: Instant, now: Instant) -> Vec<Nr> {
        let mut stabilized = Vec::new();
        for nr in self.stable_to.0 + 1..=upto.0 {
            let write = &mut self.writes[Nr(nr).index()];
            if write.acked <= submitted && write.stable > now {
                write.stable = now;
                stabilized.push(Nr(nr));
            }
        }
        self.stable_to = self.stable_to.max(upto);
        stabilized
    }

    /// Live writes of a sector, oldest first.
    #[must_use]
    pub fn of(&self, at: usize) -> &[Nr] {
        &self.sectors[at]
    }

    /// What the sector holds once everything is done.
    #[must_use]
    pub fn newest(&self, at: usize) -> Content {
        let nr = self.sectors[at].last().expect("a sector has a newest write");
        self.content(at, *nr)
    }

    /// The writes that `content` in this sector may stem from, newest first.
    pub fn readings(&self, at: usize, content: Content) -> impl Iterator<Item = Nr> + '_ {
        let all = self.sectors[at].iter().rev().copied();
        all.filter(move |&nr| self.content(at, nr) == content)
    }

    /// When `content` in this sector is crash-legal beside what other sectors show: on a
    /// disk that keeps what was acknowledged or, with a volatile cache, what is stable.
    /// Empty if no live write explains it.
    #[must_use]
    pub(super) fn stretches(&self, at: usize, content: Content, order: Order) -> Stretches {
        let mut all = Stretches::new();
        let mut to = Instant::NEVER;
        for &nr in self.sectors[at].iter().rev() {
            let write = self.write(nr);
            if self.content(at, nr) == content {
                match all.last_mut() {
                    Some(newer) if newer.from <= to => {
                        newer.from = newer.from.min(write.submitted);
                    }
                    _ => all.push(Stretch { from: write.submitted, to }),
                }
            }
            to = to.min(match order {
                Order::Group => write.acked,
                Order::Flush => write.stable,
            });
        }
        all
    }

    /// Ends of the log for which the sector shows `content`, oldest first, inclusive.
    #[must_use]
    pub fn heads(&self, at: usize, content: Content) -> SmallVec<[(Nr, Nr); 1]> {
        let seen = &self.sectors[at];
        let ends = seen.iter().skip(1).map(|next| next.prev()).chain([self.last()]);
        let showing = seen.iter().zip(ends);
        showing
            .filter(|&(&nr, _)| self.content(at, nr) == content)
            .map(|(&nr, end)| (nr, end))
            .collect()
    }

    /// Everything behind `head` is lost; everything up to it counts as acknowledged now.
    /// `on_media`: as stable, too, since applications found it after a power cut.
    pub fn truncate(&mut self, head: Nr, on_media: bool, now: Instant) {
        for seen in &mut self.sectors {
            while seen.last().is_some_and(|&nr| nr > head) {
                seen.pop();
            }
        }
        for write in &mut self.writes[..=head.index()] {
            write.acked = write.acked.min(now);
            if on_media {
                write.stable = write.stable.min(now);
            }
        }
    }

    /// The newest write of a sector that was promised to survive; `power_cut`: that, too.
    #[must_use]
    pub fn promised(&self, at: usize, power_cut: bool) -> Nr {
        let is_promised = |nr: &Nr| {
            let Write { acked, stable, .. } = self.write(*nr);
            (if power_cut { *stable } else { *acked }) != Instant::NEVER
        };
        let mut newest_first = self.sectors[at].iter().rev().copied();
        newest_first.find(is_promised).unwrap_or(self.sectors[at][0])
    }

    /// Of one sector everything behind `last` is lost, and that counts as acknowledged now;
    /// `on_media`: as stable, too.
    pub fn truncate_sector(&mut self, at: usize, last: Nr, on_media: bool, now: Instant) {
        self.sectors[at].retain(|nr| *nr <= last);
        let write = &mut self.writes[last.index()];
        write.acked = write.acked.min(now);
        if on_media {
            write.stable = write.stable.min(now);
        }
    }

    /// Forgets what is older than `oldest` in this sector, once nothing shows it.
    pub fn forget_before(&mut self, at: usize, oldest: Nr) {
        self.sectors[at].retain(|nr| *nr >= oldest);
    }

    /// Forgets all but the newest write of this sector, once nothing shows older ones.
    pub fn forget_overwritten(&mut self, at: usize) {
        let newest = *self.sectors[at].last().expect("a sector has a newest write");
        self.forget_before(at, newest);
    }
}

impl Nr {
    pub(super) fn next(self) -> Self {
        Self(self.0 + 1)
    }

    fn prev(self) -> Self {
        Self(self.0 - 1)
    }

    fn index(self) -> usize {
        usize::try_from(self.0).expect("a write's number fits an index")
    }
}

impl Instant {
    /// Later than everything.
    pub const NEVER: Self = Self(u64::MAX);
}

impl fmt::Display for Nr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
