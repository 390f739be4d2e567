//! What counters must say, however slow or busy the machine is.

use crate::case::{Case, Kind, Phase};
use crate::outcome::{Outcome, Slice};

/// A sentence for every counter that is not what it must be.
pub(crate) fn faults(outcome: &Outcome) -> Vec<String> {
    let (case, rounds) = (&outcome.case, outcome.rounds.len() as u64);
    let mut found = Faults { name: outcome.name.clone(), list: Vec::new() };
    // At both ends of a slice, requests are counted without their I/O, or the other way round.
    let slack = 2 * case.depth as u64 * rounds;
    if case.resync {
        // Both are the engine.
        found.check_writes(case, &outcome.raw(), slack);
    } else {
        found.check_raw(case, &outcome.raw(), slack);
    }
    match case.kind {
        Kind::Read => found.check_reads(&outcome.engine(), slack),
        Kind::Write => found.check_writes(case, &outcome.engine(), slack),
    }
    found.list
}

struct Faults {
    name: String,
    list: Vec<String>,
}

impl Faults {
    fn expect(&mut self, holds: bool, what: &str, found: impl std::fmt::Display) {
        if !holds {
            self.list.push(format!("{}: {what}; found {found}", self.name));
        }
    }

    fn check_raw(&mut self, case: &Case, raw: &Slice, slack: u64) {
        let ios = match case.kind {
            Kind::Read => raw.ld.reads,
            Kind::Write => raw.ld.writes,
        };
        let off = ios.abs_diff(raw.completed);
        self.expect(
            off <= slack,
            "raw: expected one LD I/O for each request",
            format!("{off} off"),
        );
        let to_rd = if case.sync { raw.completed } else { 0 };
        let off = raw.log.ios() + raw.rd.ios().abs_diff(to_rd);
        let slack = if case.sync { slack } else { 0 };
        self.expect(off <= slack, "raw: expected no I/O but what it is asked for", off);
    }

    fn check_reads(&mut self, engine: &Slice, slack: u64) {
        let off = engine.ld.reads.abs_diff(engine.completed);
        self.expect(off <= slack, "expected one LD read for each read", format!("{off} off"));
        self.expect(engine.log.writes == 0, "expected no log write", engine.log.writes);
    }

    fn check_writes(&mut self, case: &Case, engine: &Slice, slack: u64) {
        let completed = engine.completed;
        let per_group = completed as f64 / engine.groups.max(1) as f64;
        if case.depth >= 32 && !case.sync {
            self.expect(per_group > 4.0, "expected more than 4 writes in a group", per_group);
        }
        // Payloads once; for each group a header and less than a block of padding.
        let payload = case.block * completed.saturating_sub(slack);
        let most = case.block * (completed + slack) + (engine.groups + slack) * 2 * 4096;
        let bytes = engine.log.written_bytes;
        let in_bounds = (payload..=most + LAP_BYTES).contains(&bytes);
        self.expect(in_bounds, &format!("expected {payload} to {most} bytes in the log"), bytes);
        if case.fua {
            let flushes = engine.log.flushes;
            let bound = completed + slack;
            self.expect(
                flushes <= bound,
                "expected at most one log flush for a FUA write",
                flushes,
            );
        }
        if case.phase == Phase::Steady {
            self.expect(engine.ld.writes > 0, "expected copies to the LD", engine.ld.writes);
        }
        if case.remotes > 0 {
            self.expect(engine.rd.writes > 0, "expected writes to the RDs", engine.rd.writes);
        }
    }
}

/// Pads at the ends of laps, and superblocks.
const LAP_BYTES: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Busy;
    use crate::outcome::Round;
    use crate::tally::DiskTally;

    fn outcome(engine: Slice) -> Outcome {
        let ld = DiskTally { writes: 1000, ..DiskTally::default() };
        let raw = Slice { seconds: 1.0, completed: 1000, ld, ..Slice::default() };
        let case = Case { fua: true, ..Case::random_writes(32, Phase::Burst) };
        let rounds = vec![Round { raw: raw.clone(), engine, raw_again: raw }];
        Outcome { name: "test".into(), case, rounds, busy: Busy::default() }
    }

    fn sane() -> Slice {
        let written_bytes = 1000 * 4096 + 32 * 4096;
        let log = DiskTally { writes: 32, written_bytes, flushes: 32, ..DiskTally::default() };
        Slice { seconds: 1.0, completed: 1000, groups: 32, log, ..Slice::default() }
    }

    #[test]
    fn sane_counters_have_no_fault() {
        assert_eq!(faults(&outcome(sane())), Vec::<String>::new());
    }

    #[test]
    fn a_flush_too_many_or_a_group_too_small_is_found() {
        let log = DiskTally { flushes: 2000, ..sane().log };
        assert_eq!(faults(&outcome(Slice { log, ..sane() })).len(), 1);
        assert_eq!(faults(&outcome(Slice { groups: 900, ..sane() })).len(), 1);
        let log = DiskTally { written_bytes: 1000, ..sane().log };
        assert_eq!(faults(&outcome(Slice { log, ..sane() })).len(), 1);
    }
}
