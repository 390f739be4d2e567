//! I/O in flight for one site, each with its deadline.
//!
//! What does not end within its deadline *hangs*: the site is down from then on. It stays
//! in flight all the same, with its buffers, until the kernel lets go of it (I15): nobody
//! asks anything else of the site before.

use std::collections::BTreeMap;

use blk::{DevNr, DiskId, DiskOp, Effect, IoId, IoOwner, SlinkNr, Span, Time};

use crate::legs::Legs;
use crate::ordered::Step;

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
    disk: DiskId,
    pub(crate) began: Time,
}

/// Whose disk an I/O goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum To {
    /// The site's own: it has a deadline, and its failure is the site's.
    Site,
    /// A dirty log's: it has a deadline.
    DirtyLog,
    /// The log, which the whole replicator depends on.
    Log,
    /// The disk of another site, to be read from: it has that site's deadline, for its failure
    /// is that site's.
    Copy(SlinkNr, Span),
    /// Nobody waits for it any more.
    Nobody,
}

/// What the parts of a link work with.
pub(crate) struct Work<'a> {
    pub(crate) now: Time,
    pub(crate) legs: &'a mut Legs,
    pub(crate) flights: &'a mut Flights<Step>,
    pub(crate) effects: &'a mut Vec<Effect>,
}

impl Work<'_> {
    /// Asks for an I/O.
    pub(crate) fn submit(
        &mut self,
        disk: DiskId,
        op: DiskOp,
        flight: (DevNr, &'static str, To, Step),
    ) {
        self.flights.submit(self.now, disk, op, flight, self.effects);
    }
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
        self.all.insert(self.next, Flight { dev, what, to, step, disk, began });
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
        let all = self.all.values().filter(move |f| f.to == to);
        all.filter(move |f| self.is_overdue(f, now)).map(|f| (f.dev, f.what, f.began))
    }

    /// Reads of other sites' copies that are past their deadline: whose, of which device, and
    /// since when. From now on nobody waits for them.
    pub(crate) fn give_up_reads(&mut self, now: Time) -> Vec<(SlinkNr, DevNr, Time)> {
        let mut given_up = Vec::new();
        for flight in self.all.values_mut() {
            if let To::Copy(slink, timeout) = flight.to
                && flight.began + timeout <= now
            {
                given_up.push((slink, flight.dev, flight.began));
                flight.to = To::Nobody;
            }
        }
        given_up
    }

    /// When the next I/O will be past its deadline that is not yet so at `now`.
    pub(crate) fn next_deadline(&self, now: Time) -> Option<Time> {
        self.all.values().filter_map(|f| self.deadline(f)).filter(|at| *at > now).min()
    }

    fn is_overdue(&self, flight: &Flight<S>, now: Time) -> bool {
        self.deadline(flight).is_some_and(|at| at <= now)
    }

    fn deadline(&self, flight: &Flight<S>) -> Option<Time> {
        match flight.to {
            To::Log => None,
            To::Copy(_, timeout) => Some(flight.began + timeout),
            To::Nobody => Some(flight.began),
            To::Site | To::DirtyLog => Some(flight.began + self.timeout),
        }
    }

    /// When the oldest began that reads from the log.
    pub(crate) fn oldest_from_log(&self) -> Option<Time> {
        self.all.values().find(|f| f.to == To::Log).map(|f| f.began)
    }

    /// How many there are to the site itself.
    pub(crate) fn to_site(&self) -> usize {
        self.all.values().filter(|f| f.to == To::Site).count()
    }

    /// Whether any is for this device.
    pub(crate) fn any_of(&self, dev: DevNr) -> bool {
        self.all.values().any(|f| f.dev == dev)
    }

    /// Whether any is at this disk.
    pub(crate) fn any_at(&self, disk: DiskId) -> bool {
        self.all.values().any(|f| f.disk == disk)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether any is in flight that can be expected to end; of what is read from the log, it
    /// is the log that knows.
    pub(crate) fn any_lively(&self, now: Time, is_read: impl Fn(Time) -> bool) -> bool {
        self.all.values().any(|f| self.deadline(f).map_or_else(|| is_read(f.began), |at| at > now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_but_what_goes_to_the_log_has_a_deadline() {
        let mut flights = Flights::new(IoOwner(1), Span::from_secs(1));
        let mut effects = Vec::new();
        for to in [To::Log, To::Site] {
            let flight = (DevNr(0), "a write", to, ());
            flights.submit(Time(5), DiskId(0), DiskOp::Flush, flight, &mut effects);
        }
        let deadline = Time(5) + Span::from_secs(1);
        assert_eq!(flights.next_deadline(Time(5)), Some(deadline));
        assert_eq!(flights.overdue(Time(6), To::Site).count(), 0);
        let late: Vec<_> = flights.overdue(deadline, To::Site).collect();
        assert_eq!(late, [(DevNr(0), "a write", Time(5))]);
        assert_eq!(flights.overdue(deadline, To::Log).count(), 0);
        flights.end(2);
        assert!(flights.any_lively(deadline, |_| true), "a read of the log is waited for");
        assert!(!flights.any_lively(deadline, |began| began > Time(5)), "as long as the log says");
    }

    #[test]
    fn a_read_of_another_copy_that_hangs_is_given_up_once() {
        let mut flights = Flights::new(IoOwner(1), Span::from_secs(1));
        let flight = (DevNr(3), "a read", To::Copy(SlinkNr(2), Span::from_secs(3)), ());
        flights.submit(Time(5), DiskId(0), DiskOp::Flush, flight, &mut Vec::new());
        let (own, deadline) = (Time(5) + Span::from_secs(1), Time(5) + Span::from_secs(3));
        assert_eq!(flights.next_deadline(Time(6)), Some(deadline));
        assert_eq!(flights.give_up_reads(own), []);
        assert_eq!(flights.give_up_reads(deadline), [(SlinkNr(2), DevNr(3), Time(5))]);
        assert_eq!(flights.give_up_reads(deadline), []);
        assert!(!flights.any_lively(deadline, |_| true));
    }
}
