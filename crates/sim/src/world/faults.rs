//! Disks that fail: the n-th operation of a kind, once or from then on.

use super::back::OpKind;
use super::watching::{verb, word};
use crate::less::{Part, Sieve};
use crate::rng::Rng;
use crate::topology::{Role, Topology};

/// An error on one disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which disk.
    pub role: Role,
    /// Which operations count, and fail.
    pub kind: OpKind,
    /// How many of them end well before.
    pub after: u64,
    /// How many fail then; `None`: all.
    pub times: Option<u64>,
}

/// The faults of a run.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    planned: Vec<Fault>,
    healed: bool,
}

impl Faults {
    /// These faults.
    #[must_use]
    pub fn new(planned: Vec<Fault>) -> Self {
        Self { planned, healed: false }
    }

    /// A few at random, on any disk; mostly none.
    #[must_use]
    pub fn random(topology: &Topology, rng: &mut Rng) -> Self {
        if rng.chance(70) {
            return Self::default();
        }
        let roles = topology.roles();
        let fault = |rng: &mut Rng| {
            let magnitude = rng.range(0, 6);
            Fault {
                role: *rng.pick(&roles),
                kind: *rng.pick(&[OpKind::Read, OpKind::Write, OpKind::Flush]),
                after: rng.below(1 << magnitude),
                times: *rng.pick(&[Some(1), Some(1), Some(4), None]),
            }
        };
        Self::new((0..rng.range(1, 2)).map(|_| fault(rng)).collect())
    }

    /// Those of them that are not left out.
    #[must_use]
    pub fn sifted(mut self, sieve: &Sieve) -> Self {
        self.planned.retain(|_| sieve.keeps(Part::Fault));
        for Fault { role, kind, .. } in &self.planned {
            sieve.saw(|| format!("fault: a {} of {}", verb(*kind), word(*role)));
        }
        self
    }

    /// From now on nothing fails any more. A log that failed has failed.
    pub fn heal(&mut self) {
        self.healed = true;
    }

    /// Whether anything may fail, or has failed.
    #[must_use]
    pub fn any(&self) -> bool {
        !self.planned.is_empty()
    }

    /// Whether something may get stuck by them for good: the log has failed while something
    /// was only there, or a disk never works again. Everything else is tried again.
    #[must_use]
    pub fn stick(&self) -> bool {
        let for_ever = |fault: &Fault| fault.times.is_none() && !self.healed;
        self.planned.iter().any(|fault| fault.role.is_log() || for_ever(fault))
    }

    /// Whether an application may see an error: never because of a remote site (P5).
    #[must_use]
    pub fn reach_applications(&self) -> bool {
        self.planned.iter().any(|fault| match fault.role {
            // What can't be read back from there is nowhere else.
            Role::Log | Role::NewLog => true,
            Role::Leg { site, .. } => site == 0,
            Role::DirtyLog { .. } | Role::Mark { .. } => false,
        })
    }

    /// Counts an operation; whether it fails.
    pub(super) fn strike(&mut self, role: Role, kind: OpKind) -> bool {
        if self.healed {
            return false;
        }
        let hit = |fault: &&mut Fault| fault.role == role && fault.kind == kind;
        self.planned.iter_mut().filter(hit).fold(false, |struck, fault| struck | fault.count())
    }
}

impl Fault {
    fn count(&mut self) -> bool {
        if self.after > 0 {
            self.after -= 1;
            return false;
        }
        match &mut self.times {
            None => true,
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
        }
    }
}
