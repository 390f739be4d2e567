//! How machines of one kind are made, again and again, on the same topology.

use std::fmt;

use crate::oracle::Violation;
use crate::topology::Topology;
use crate::world::{Cut, Host, Met, Subject, World};

/// Makes machines.
pub struct Rig<'a, M> {
    /// What they are made on.
    pub topology: Topology,
    /// Makes the machine of a life, for the host as it is.
    pub open: &'a dyn Fn(&Host) -> M,
    /// Tell on standard error what happens.
    pub trace: bool,
    /// Looks at each machine of a random life at its end.
    pub watch: &'a dyn Fn(&M),
}

/// A broken promise, and what shows it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The promise.
    pub violation: Violation,
    /// Where in the run.
    pub place: String,
    /// The command that shows it again.
    pub reproduce: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}; {}]", self.reproduce, self.violation, self.place)
    }
}

impl std::error::Error for Failure {}

/// What a run was made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Effects carried out and operations ended.
    pub points: u64,
    /// Process kills.
    pub kills: u64,
    /// Power cuts.
    pub power_cuts: u64,
    /// Recoveries that were judged.
    pub recoveries: u64,
    /// Times that everything drained and was compared.
    pub settled: u64,
    /// Recoveries that were cut, repeated and compared.
    pub repeated: u64,
    /// Logs with a rotten bit that were refused.
    pub refused: u64,
    /// What happened to the sites.
    pub met: Met,
    /// Depends on everything that happened.
    pub digest: u64,
}

impl Tally {
    /// Counts a death.
    pub fn count(&mut self, cut: Cut) {
        match cut {
            Cut::Kill => self.kills += 1,
            Cut::Power(_) | Cut::PowerEverywhere(_) => self.power_cuts += 1,
        }
    }

    /// Counts what a world did.
    pub fn add<M: Subject>(&mut self, world: &World<'_, M>) {
        self.digest = self.digest.rotate_left(5) ^ world.digest();
        self.points += world.points();
        self.met += world.met();
    }
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.points += other.points;
        self.kills += other.kills;
        self.power_cuts += other.power_cuts;
        self.recoveries += other.recoveries;
        self.settled += other.settled;
        self.repeated += other.repeated;
        self.refused += other.refused;
        self.met += other.met;
        self.digest = self.digest.rotate_left(7) ^ other.digest;
    }
}
