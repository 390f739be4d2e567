//! What lives have come through: each state, each way from state to state, each kind of cut.
//!
//! What can happen to a site is not listed here: it follows from the table of states in
//! `slink`, so that a way that is new there is missed here until a life takes it.

use std::collections::BTreeMap;
use std::rc::Rc;

use blk::Errno;
use replog::{LogEvent, ReplaceError};
use slink::Transition;
use slink::states::{Fed, Standing};

use crate::less::{Less, Sieve};
use crate::rig;
use crate::runs::Seed;

/// Something that a machine tells of a site, or of its log.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// When, from the start of the machine.
    pub seconds: f64,
    /// The site; none if it is about the log.
    pub site: Option<usize>,
    /// What.
    pub what: String,
}

/// What was seen, and how often.
pub type Seen = BTreeMap<String, u64>;

/// Lives these seeds, and tells what was seen in them.
///
/// # Errors
/// The first broken promise.
pub fn of(seeds: impl IntoIterator<Item = u64>) -> Result<(Seen, rig::Tally), rig::Failure> {
    let (mut all, mut tally) = (Seen::new(), rig::Tally::default());
    for seed in seeds {
        let sieve = Rc::new(Sieve::seeing(Less::default()));
        tally += Seed::new(seed, None).live_by(&sieve)?;
        for (what, count) in sieve.seen() {
            *all.entry(what).or_default() += count;
        }
    }
    Ok((all, tally))
}

/// What was seen, and how often; and what could have been, and was not.
#[must_use]
pub fn table(seen: &Seen) -> String {
    let counts = seen.iter().map(|(what, count)| (what.clone(), count.to_string()));
    let missed = possible().into_iter().filter(|what| !seen.contains_key(what));
    let missed = missed.map(|what| (what, "-".to_owned()));
    let rows: BTreeMap<String, String> = counts.chain(missed).collect();
    rows.into_iter().map(|(what, count)| format!("{count:>8}  {what}\n")).collect()
}

/// Everything that the code's own tables say can happen to a site, or to the log.
#[must_use]
pub fn possible() -> Vec<String> {
    let mut all = Vec::new();
    for what in Transition::all() {
        let from = Standing::all().into_iter().filter(|from| from.after(&what).is_some());
        all.extend(from.map(|from| way(what.name(), from)));
        all.push(reason(&what.to_string()));
    }
    all.extend(log_events().iter().map(|what| of_log(&what.to_string())));
    all.retain(|what| !what.is_empty());
    all.sort();
    all.dedup();
    all
}

/// A way from a state: where the site is, whether it is up, and whether it is consistent.
/// Whether it is in force is left to those that are about it.
#[must_use]
pub fn way(name: &str, from: Standing) -> String {
    let fed = match from.fed {
        Fed::Streaming => "streaming",
        Fed::Detached => "detached",
        Fed::Attached => "attached",
    };
    let up = if from.up { "up" } else { "down" };
    let consistent = if from.consistent { "consistent" } else { "inconsistent" };
    format!("site: {name} when {fed}, {up}, {consistent}")
}

/// The ways that a site went, each from where it was; and where it is then.
#[derive(Clone, Debug)]
pub struct Ways {
    all: Vec<(&'static str, Standing)>,
    end: Standing,
}

impl Ways {
    /// Each with its name and where it began.
    pub fn iter(&self) -> impl Iterator<Item = &(&'static str, Standing)> {
        self.all.iter()
    }

    /// Where they lead.
    #[must_use]
    pub fn end(&self) -> Standing {
        self.end
    }
}

/// The ways that a site went of which a machine told this: from where it was, if that is known
/// and the machine is the same still, to where it is `now`.
///
/// # Panics
/// If the table of states allows none.
#[must_use]
pub fn ways(before: Option<Standing>, told: &[&str], now: Standing) -> Ways {
    let all = Transition::all();
    let find = |told: &&str| {
        let what = all.iter().find(|what| is_told(what, told));
        what.unwrap_or_else(|| panic!("{told:?} is no transition that is known here"))
    };
    let told: Vec<&Transition> = told.iter().map(find).collect();
    if let Some(ways) = before.and_then(|before| went(before, &told)) {
        return ways;
    }
    // A machine that starts, or a site that comes, does not say where it began.
    let mut from: Vec<Ways> =
        Standing::all().into_iter().filter_map(|from| went(from, &told)).collect();
    from.sort_by_key(|ways| differences(ways.end, now));
    from.into_iter().next().unwrap_or_else(|| panic!("{told:?} can't happen anywhere"))
}

/// Whether a site is in force is not told of those that nobody waits for.
fn went(from: Standing, told: &[&Transition]) -> Option<Ways> {
    let (mut at, mut all) = (from, Vec::new());
    for what in told {
        let other = Standing { in_force: !at.in_force, ..at };
        all.push((what.name(), at));
        at = at.after(what).or_else(|| other.after(what))?;
    }
    Some(Ways { all, end: at })
}

fn differences(a: Standing, b: Standing) -> usize {
    let same = [a.up == b.up, a.fed == b.fed, a.consistent == b.consistent];
    same.iter().filter(|same| !**same).count()
}

fn is_told(what: &Transition, told: &str) -> bool {
    match what {
        Transition::WentDown(_) => told.starts_with("down: "),
        Transition::Verified(0) => told == what.to_string(),
        Transition::Verified(_) => {
            told.starts_with("verified: ") && !told.ends_with("nothing differs")
        }
        other => told == other.to_string(),
    }
}

/// Why a site was detached, or what a comparison came to; nothing for the others.
#[must_use]
pub fn reason(told: &str) -> String {
    let is_reason = told.starts_with("detached, ") || told == "verified: nothing differs";
    let reason = told.split(';').next().filter(|_| is_reason);
    reason.map_or_else(String::new, |reason| format!("site: {reason}"))
}

/// What happened to the log, without its particulars.
#[must_use]
pub fn of_log(told: &str) -> String {
    let all = log_events();
    let like = |what: &&LogEvent| told.starts_with(beginning(what));
    let what = all.iter().find(like);
    let what = what.unwrap_or_else(|| panic!("{told:?} is no event of a log that is known here"));
    let name = match what {
        LogEvent::Lost(_) => "lost",
        LogEvent::GivenUp => "given up",
        LogEvent::NotKept(_) => "its loss is not kept",
        LogEvent::Bypassed => "bypassed",
        LogEvent::Replaced { .. } => "replaced",
        LogEvent::NotReplaced(_) => "not replaced",
    };
    format!("log: {name}")
}

fn beginning(what: &LogEvent) -> &'static str {
    match what {
        LogEvent::Lost(_) => "lost: ",
        LogEvent::GivenUp => "given up for",
        LogEvent::NotKept(_) => "that it is not to be replayed",
        LogEvent::Bypassed => "the devices go on without it",
        LogEvent::Replaced { .. } => "log ",
        LogEvent::NotReplaced(_) => "it is not replaced",
    }
}

fn log_events() -> Vec<LogEvent> {
    vec![
        LogEvent::Lost(replog::Failure { what: "a write", errno: Errno::EIO }),
        LogEvent::GivenUp,
        LogEvent::NotKept(Errno::EIO),
        LogEvent::Bypassed,
        LogEvent::Replaced { uuid: uuid::Uuid::nil(), path: String::new() },
        LogEvent::NotReplaced(ReplaceError::UnderWay),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_machine_tells_is_the_transition_that_it_prints() {
        for what in Transition::all() {
            for from in Standing::all() {
                if let Some(to) = from.after(&what) {
                    let ways = ways(Some(from), &[&what.to_string()], to);
                    assert_eq!((&ways.all[..], ways.end), (&[(what.name(), from)][..], to));
                }
            }
        }
        for what in log_events() {
            assert!(what.to_string().starts_with(beginning(&what)), "{what}");
        }
    }

    #[test]
    fn every_transition_is_possible_somewhere() {
        let all = possible();
        for what in Transition::all() {
            let begins = format!("site: {} when ", what.name());
            assert!(all.iter().any(|way| way.starts_with(&begins)), "{begins}");
        }
    }
}
