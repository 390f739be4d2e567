//! Virtual time: what is due when, and how long things take.

use std::collections::BTreeMap;

use blk::{IoId, Span, Time};

use crate::rng::Rng;
use crate::topology::Role;

/// Something that will happen by itself.
#[derive(Clone, Copy, Debug)]
pub(super) enum Due {
    /// A disk ends this operation.
    Io(IoId),
    /// The workload looks whether it has a request.
    Arrival,
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
        Role::Log => rng.range(10, 100),
        Role::Leg { site: 0, .. } => rng.range(20, 400),
        Role::Leg { .. } => rng.range(50, 2000),
    };
    let factor = if rng.chance(3) { 30 } else { 1 };
    Span::from_micros(micros * factor)
}

/// The pause of an application between two requests.
pub(super) fn think_time(rng: &mut Rng) -> Span {
    let micros = if rng.chance(80) { rng.range(0, 50) } else { rng.range(50, 2000) };
    Span::from_micros(micros)
}
