//! Disks that fail: the n-th operation of a kind, once or from then on.

use super::back::OpKind;
use crate::topology::Role;

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
}

impl Faults {
    /// These faults.
    #[must_use]
    pub fn new(planned: Vec<Fault>) -> Self {
        Self { planned }
    }

    /// Whether there are or were any: then errors have an explanation.
    #[must_use]
    pub fn any(&self) -> bool {
        !self.planned.is_empty()
    }

    /// Counts an operation; whether it fails.
    pub(super) fn strike(&mut self, role: Role, kind: OpKind) -> bool {
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
