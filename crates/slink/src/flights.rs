//! I/O in flight for one site, each with its deadline.
//!
//! What does not end within its deadline *hangs*: the site is down from then on. It stays
//! in flight all the same, with its buffers, until the kernel lets go of it (I15): nobody
//! asks anything else of the site before.

use std::collections::BTreeMap;

use blk::{DevNr, DiskId, DiskOp, Effect, IoId, IoOwner, Span, Time};

/// The I/O of one link.
#[derive(Debug)]
pub(crate) struct Flights<S> {
    owner: IoOwner,
    timeout: Span,
    next: u64,
    all: BTreeMap<u64, Flight<S>>,
}

/// One I/O in flight.
#[derive(Debug)]
pub(crate) struct Flight<S> {
    /// The device it is for.
    pub(crate) dev: DevNr,
    /// What is being done: "a write".
    pub(crate) what: &'static str,
    /// Where it goes.
    pub(crate) to: To,
    /// What its end means.
    pub(crate) step: S,
    began: Time,
}

/// Whose disk an I/O goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum To {
    /// The site's own: it has a deadline, and its failure is the site's.
    Site,
    /// A dirty log's: it has a deadline.
    DirtyLog,
    /// The log or the LD, which the whole replicator depends on.
    Source,
}

impl<S> Flights<S> {
    pub(crate) fn new(owner: IoOwner, timeout: Span) -> Self {
        Self { owner, timeout, next: 0, all: BTreeMap::new() }
    }

    /// The deadline is another one, also for what is in flight.
    pub(crate) fn set_timeout(&mut self, timeout: Span) {
        self.timeout = timeout;
    }

    /// Asks for an I/O.
    pub(crate) fn submit(
        &mut self,
        now: Time,
        disk: DiskId,
        op: DiskOp,
        (dev, what, to, step): (DevNr, &'static str, To, S),
        effects: &mut Vec<Effect>,
    ) {
        self.next += 1;
        let (io, began) = (IoId { owner: self.owner, nr: self.next }, now);
        self.all.insert(self.next, Flight { dev, what, to, step, began });
        effects.push(Effect::Submit { io, disk, op });
    }

    /// An I/O has ended.
    pub(crate) fn end(&mut self, nr: u64) -> Flight<S> {
        self.all.remove(&nr).expect("an I/O ends once")
    }

    /// The I/O of one kind that is past its deadline, oldest first, and when it began.
    pub(crate) fn overdue(
        &self,
        now: Time,
        to: To,
    ) -> impl Iterator<Item = (DevNr, &'static str, Time)> {
        let late = move |f: &&Flight<S>| {
            f.to == to && self.deadline(f).is_some_and(|deadline| deadline <= now)
        };
        self.all.values().filter(late).map(|f| (f.dev, f.what, f.began))
    }

    /// When the next I/O will be past its deadline that is not yet so at `now`.
    pub(crate) fn next_deadline(&self, now: Time) -> Option<Time> {
        self.all.values().filter_map(|f| self.deadline(f)).find(|at| *at > now)
    }

    fn deadline(&self, flight: &Flight<S>) -> Option<Time> {
        (flight.to != To::Source).then(|| flight.began + self.timeout)
    }

    /// How many there are to the site itself.
    pub(crate) fn to_site(&self) -> usize {
        self.all.values().filter(|f| f.to == To::Site).count()
    }

    /// Whether any is for this device.
    pub(crate) fn any_of(&self, dev: DevNr) -> bool {
        self.all.values().any(|f| f.dev == dev)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether any is in flight that can be expected to end.
    pub(crate) fn any_lively(&self, now: Time) -> bool {
        self.all.values().any(|f| self.deadline(f).is_none_or(|at| at > now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_goes_to_the_site_or_its_dirty_logs_has_a_deadline() {
        let mut flights = Flights::new(IoOwner(1), Span::from_secs(1));
        let mut effects = Vec::new();
        for to in [To::Source, To::Site] {
            let flight = (DevNr(0), "a write", to, ());
            flights.submit(Time(5), DiskId(0), DiskOp::Flush, flight, &mut effects);
        }
        let deadline = Time(5) + Span::from_secs(1);
        assert_eq!(flights.next_deadline(Time(5)), Some(deadline));
        assert_eq!(flights.overdue(Time(6), To::Site).count(), 0);
        let late: Vec<_> = flights.overdue(deadline, To::Site).collect();
        assert_eq!(late, [(DevNr(0), "a write", Time(5))]);
        assert_eq!(flights.overdue(deadline, To::Source).count(), 0);
        flights.end(2);
        assert!(flights.any_lively(deadline), "a read of the log is waited for");
    }
}
