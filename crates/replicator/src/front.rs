//! Counters of the front end, as 2009 had them: what came, and what was taken.

use blk::Op;

use crate::status::data::FrontStatistics;

/// Requests since the start, or since the counters were reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FrontCounters {
    /// `status` shows them.
    pub(crate) shown: bool,
    /// Reads that came, and those that were taken.
    pub(crate) reads: u64,
    pub(crate) reads_taken: u64,
    /// The same of changes.
    pub(crate) writes: u64,
    pub(crate) writes_taken: u64,
    /// Changes that were taken at once, and those that had to wait for room.
    pub(crate) not_congested: u64,
    pub(crate) congested: u64,
}

impl FrontCounters {
    pub(crate) fn came(&mut self, op: Op) {
        self.reads += u64::from(matches!(op, Op::Read { .. }));
        self.writes += u64::from(op.changes_data());
    }

    pub(crate) fn taken(&mut self, op: Op, waited: bool) {
        self.reads_taken += u64::from(matches!(op, Op::Read { .. }));
        if op.changes_data() {
            self.writes_taken += 1;
            self.congested += u64::from(waited);
            self.not_congested += u64::from(!waited);
        }
    }

    pub(crate) fn reset(&mut self) {
        *self = Self { shown: self.shown, ..Self::default() };
    }

    pub(crate) fn status(&self) -> FrontStatistics {
        FrontStatistics {
            reads: self.reads,
            reads_taken: self.reads_taken,
            writes: self.writes,
            writes_taken: self.writes_taken,
            not_congested: self.not_congested,
            congested: self.congested,
        }
    }
}
