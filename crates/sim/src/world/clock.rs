//! Virtual time: what is due when, and how long things take.

use std::collections::BTreeMap;

use blk::{DevNr, DiskId, Span, Time};

use super::back::Serial;
use crate::rng::Rng;
use crate::topology::Role;

/// Something that will happen by itself.
#[derive(Clone, Copy, Debug)]
pub(super) enum Due {
    /// A disk ends this operation.
    Io(Serial),
    /// A disk that was to be opened is, or not.
    Opened(DiskId),
    /// What a dead process left in flight on a disk lands.
    Zombies(DiskId),
    /// The workload looks whether it has a request.
    Arrival,
    /// An outage begins.
    Outage(usize),
    /// What is to be kept on the host is.
    Kept,
    /// Somebody has a site copied anew, or one device there.
    Resync(usize, Option<DevNr>),
    /// Somebody has a site compared.
    Verify(usize),
    /// Somebody says something.
    Message,
    /// Somebody asks for another size of the log.
    Resize,
    /// Somebody thinks of moving the log.
    Move,
    /// The table that names another log is kept.
    Named,
    /// Somebody has a device grow.
    Grow,
}

/// What is due, in order of time; of equal times, in order of planning.
#[derive(Default)]
pub(super) struct Clock {
    pub(super) now: Time,
    agenda: BTreeMap<(Time, u64), Due>,
    planned: u64,
}

impl Clock {
    pub(super) fn plan(&mut self, after: Span, due: Due) {
        self.planned += 1;
        self.agenda.insert((self.now + after, self.planned), due);
    }

    pub(super) fn next(&self) -> Option<Time> {
        self.agenda.keys().next().map(|&(time, _)| time)
    }

    /// The next thing that is due by now.
    pub(super) fn pop(&mut self) -> Option<Due> {
        let (&(time, _), _) = self.agenda.first_key_value()?;
        (time <= self.now).then(|| self.agenda.pop_first().map(|(_, due)| due)).flatten()
    }
}

/// How long an operation takes: mostly short, now and then very long, so that
/// completions overtake each other.
pub(super) fn latency(role: Role, rng: &mut Rng) -> Span {
    let micros = match role {
        Role::Log | Role::NewLog => rng.range(10, 100),
        Role::Leg { site: 0, .. } | Role::DirtyLog { .. } => rng.range(20, 400),
        Role::Leg { .. } | Role::Mark { .. } => rng.range(50, 2000),
    };
    let factor = if rng.chance(3) { 30 } else { 1 };
    Span::from_micros(micros * factor)
}

/// How long it takes to open a disk.
pub(super) fn opening(rng: &mut Rng) -> Span {
    let micros = if rng.chance(90) { rng.range(50, 5000) } else { rng.range(5000, 1_000_000) };
    Span::from_micros(micros)
}

/// A moment, so that what is due together does not come together.
pub(super) fn moment(rng: &mut Rng) -> Span {
    Span::from_micros(rng.range(0, 5000))
}
