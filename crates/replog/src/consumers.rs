//! Who reads the log, how far each has come, and what of that is durable.
//!
//! A consumer is a number here, not a link. `covered` says: everything up to here
//! is on the consumer's media, or durably marked dirty; the slowest one is the
//! log's head (I5). A *durable cursor* is a `covered` that the log device is known
//! to hold, in a group header or a superblock: a consumer that must never rewind
//! waits for it (I13).

use blk::{Seq, SlinkNr};

use crate::copies::Worth;
use crate::format::group::Cursor;

/// The consumers of a log, in the order of their numbers.
#[derive(Debug, Default)]
pub(crate) struct Consumers {
    all: Vec<Consumer>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Consumer {
    pub(crate) slink: SlinkNr,
    /// On the consumer's media up to here.
    pub(crate) covered: Seq,
    /// What its copy of the devices is worth.
    pub(crate) worth: Worth,
    /// What the consumer wants its durable cursor to reach.
    wanted: Seq,
    /// In the header of the group that is being written.
    launched: Seq,
    /// In the header of a group that is written.
    written: Seq,
    /// In the last group that the flush in flight will make durable.
    flushing: Seq,
    /// Known to be durable.
    durable: Seq,
}

impl Consumers {
    /// Adds a consumer that has everything up to `covered`, of which the log knows.
    pub(crate) fn add(&mut self, slink: SlinkNr, covered: Seq) {
        assert!(self.position(slink).is_none(), "a site link is one consumer");
        let at = self.all.partition_point(|c| c.slink < slink);
        let none = Seq::default();
        self.all.insert(
            at,
            Consumer {
                slink,
                covered,
                worth: Worth::Partial,
                wanted: none,
                launched: none,
                written: none,
                flushing: none,
                durable: covered,
            },
        );
    }

    pub(crate) fn of(&self, slink: SlinkNr) -> &Consumer {
        &self.all[self.position(slink).expect("every site link is a consumer")]
    }

    /// Moves a consumer on (I5: never back).
    pub(crate) fn cover(&mut self, slink: SlinkNr, covered: Seq) {
        let consumer = self.of_mut(slink);
        assert!(covered >= consumer.covered, "I5: covered never moves back");
        consumer.covered = covered;
    }

    /// What a consumer's copy is worth from now on.
    pub(crate) fn value(&mut self, slink: SlinkNr, worth: Worth) {
        self.of_mut(slink).worth = worth;
    }

    /// The consumer will not go on before its durable cursor is at `seq`.
    pub(crate) fn want(&mut self, slink: SlinkNr, seq: Seq) {
        let consumer = self.of_mut(slink);
        consumer.wanted = consumer.wanted.max(seq);
    }

    /// The log's head: what every consumer has (I5).
    pub(crate) fn head(&self) -> Seq {
        self.all.iter().map(|c| c.covered).min().expect("the local site is always a consumer")
    }

    /// The first of those that keep the head back.
    pub(crate) fn slowest(&self) -> SlinkNr {
        let slowest = self.all.iter().min_by_key(|c| (c.covered, c.slink));
        slowest.expect("the local site is always a consumer").slink
    }

    pub(crate) fn cursors(&self) -> Vec<Cursor> {
        self.all.iter().map(|c| Cursor { slink: c.slink, covered: c.covered }).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// A group with these cursors is on its way.
    pub(crate) fn launched(&mut self, cursors: &[Cursor]) {
        for (consumer, cursor) in self.all.iter_mut().zip(cursors) {
            consumer.launched = cursor.covered;
        }
    }

    /// It has arrived.
    pub(crate) fn arrived(&mut self) {
        self.all.iter_mut().for_each(|c| c.written = c.launched);
    }

    /// A flush begins.
    pub(crate) fn flushing(&mut self) {
        self.all.iter_mut().for_each(|c| c.flushing = c.written);
    }

    /// It has ended well.
    pub(crate) fn flushed(&mut self) {
        self.all.iter_mut().for_each(|c| c.durable = c.durable.max(c.flushing));
    }

    /// A checkpoint with these cursors is durable.
    pub(crate) fn checkpointed(&mut self, cursors: impl Iterator<Item = Cursor>) {
        for Cursor { slink, covered } in cursors {
            // Others may have come since it was launched.
            let consumer = self.of_mut(slink);
            consumer.durable = consumer.durable.max(covered);
        }
    }

    pub(crate) fn durable(&self, slink: SlinkNr) -> Seq {
        self.of(slink).durable
    }

    /// Whether a flush would give some consumer the durable cursor that it waits for.
    pub(crate) fn flush_helps(&self) -> bool {
        self.all.iter().any(|c| c.waits() && c.written >= c.wanted)
    }

    /// Whether some consumer waits for a cursor that no header on its way carries.
    pub(crate) fn needs_carrier(&self) -> bool {
        self.all.iter().any(|c| c.waits() && c.written.max(c.launched) < c.wanted)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Consumer> {
        self.all.iter()
    }

    fn position(&self, slink: SlinkNr) -> Option<usize> {
        self.all.binary_search_by_key(&slink, |c| c.slink).ok()
    }

    fn of_mut(&mut self, slink: SlinkNr) -> &mut Consumer {
        let at = self.position(slink).expect("every site link is a consumer");
        &mut self.all[at]
    }
}

impl Consumer {
    fn waits(&self) -> bool {
        // A wish is served only by a `covered` that has come that far.
        self.durable < self.wanted && self.covered >= self.wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SITE: SlinkNr = SlinkNr(1);

    fn site(covered: u64) -> Consumers {
        let mut consumers = Consumers::default();
        consumers.add(SlinkNr::LOCAL, Seq(100));
        consumers.add(SITE, Seq(covered));
        consumers
    }

    #[test]
    fn the_head_is_the_slowest_consumer() {
        assert_eq!(site(7).head(), Seq(7));
    }

    #[test]
    #[should_panic(expected = "I5")]
    fn covered_never_moves_back() {
        site(7).cover(SITE, Seq(6));
    }

    #[test]
    fn a_wish_is_served_by_a_header_that_carries_it_and_then_by_a_flush() {
        let mut consumers = site(1);
        consumers.cover(SITE, Seq(5));
        consumers.want(SITE, Seq(5));
        assert!(consumers.needs_carrier() && !consumers.flush_helps());
        let cursors = consumers.cursors();
        consumers.launched(&cursors);
        assert!(!consumers.needs_carrier() && !consumers.flush_helps(), "it is on its way");
        consumers.arrived();
        assert!(consumers.flush_helps());
    }

    #[test]
    fn a_cursor_is_durable_only_after_the_flush_that_began_behind_its_group() {
        let mut consumers = site(1);
        consumers.cover(SITE, Seq(5));
        consumers.want(SITE, Seq(5));
        let cursors = consumers.cursors();
        consumers.launched(&cursors);
        consumers.flushing();
        consumers.arrived();
        consumers.flushed();
        assert_eq!(consumers.durable(SITE), Seq(1), "the flush began before the group arrived");
        consumers.flushing();
        consumers.flushed();
        assert_eq!(consumers.durable(SITE), Seq(5));
        assert!(!consumers.flush_helps() && !consumers.needs_carrier());
    }
}
