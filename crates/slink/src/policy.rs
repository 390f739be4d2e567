//! What becomes of writers when a site does not keep up: one table for all sites.
//!
//! It is pure, small, and asked about everything that acknowledges, holds, detaches or
//! refuses. A word that the user gave wins over a default; where two such words meet, the
//! one for the narrower case wins (`on_down` over `stall` over nothing). The table that
//! users read in the README is printed from here ([`decision_table`]).

use table::{OnDown, OnLimit, SlinkTable, Sync};

/// What the table says of a site, as far as it decides about writers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Acknowledgements wait for the site.
    pub sync: bool,
    /// Writers wait rather than that the site is given up.
    pub stall: bool,
    /// `on_limit:`, if it was given.
    pub on_limit: Option<OnLimit>,
    /// `on_down:`, if it was given.
    pub on_down: Option<OnDown>,
}

/// How a site is, as far as it decides about writers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    /// The link works; or it has failed for less than its deadline.
    pub up: bool,
    /// A write waits that would take the site over its fall-behind limit.
    pub over_limit: bool,
    /// The log is full, and would not be without the site.
    pub log_full: bool,
}

/// What becomes of writers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// They are acknowledged, whatever the site has.
    Acknowledge,
    /// They are acknowledged when the site has caught up with them.
    Hold,
    /// The site is detached: what it lacks becomes dirty regions.
    Detach,
    /// They get an error.
    Refuse,
}

impl Policy {
    /// What the table says.
    #[must_use]
    pub fn of(slink: &SlinkTable) -> Self {
        let policy = slink.policy();
        Self {
            sync: policy.sync == Sync::Sync,
            stall: policy.stall,
            on_limit: slink.options.on_limit,
            on_down: slink.options.on_down,
        }
    }

    /// The table.
    #[must_use]
    pub fn verdict(self, is: Condition) -> Verdict {
        match is {
            Condition { up: true, .. } if self.sync => Verdict::Hold,
            Condition { up: true, over_limit: true, .. } => self.over_limit(),
            Condition { up: true, log_full: true, .. } => self.give_up_or(Verdict::Hold),
            Condition { up: true, .. } => Verdict::Acknowledge,
            // A `sync` site that is down stops writers at once, any other when something is full.
            Condition { over_limit: false, log_full: false, .. } if !self.sync => {
                Verdict::Acknowledge
            }
            Condition { log_full, .. } => self.down(log_full),
        }
    }

    fn over_limit(self) -> Verdict {
        match self.on_limit.unwrap_or_default() {
            OnLimit::Sync => Verdict::Hold,
            OnLimit::Bitmap => Verdict::Detach,
        }
    }

    /// What becomes of writers while the site is down, or there is no log to feed it from.
    fn down(self, log_full: bool) -> Verdict {
        match self.on_down {
            Some(OnDown::Hold) => Verdict::Hold,
            Some(OnDown::Error) => Verdict::Refuse,
            Some(OnDown::Bitmap) => self.without_it(log_full),
            None if self.stall => Verdict::Hold,
            None => self.without_it(log_full),
        }
    }

    /// A `sync` site is first done without, and given up only when the log is full of it.
    fn without_it(self, log_full: bool) -> Verdict {
        if self.sync && !log_full { Verdict::Acknowledge } else { Verdict::Detach }
    }

    fn give_up_or(self, stalled: Verdict) -> Verdict {
        if self.stall { stalled } else { Verdict::Detach }
    }
}

/// The table as users read it: every policy, every condition.
#[must_use]
pub fn decision_table() -> String {
    let mut text = String::from(
        "| policy | up | up, limit crossed | up, log full | down | down, limit crossed | down, log full |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for (words, policy) in policies() {
        text += &format!("| {words} |");
        for is in conditions() {
            let word = match (policy.verdict(is), is.over_limit && policy.sync) {
                (_, true) => "–",
                (Verdict::Acknowledge, _) => "acknowledge",
                (Verdict::Hold, _) => "hold",
                (Verdict::Detach, _) => "detach",
                (Verdict::Refuse, _) => "error",
            };
            text += &format!(" {word} |");
        }
        text.push('\n');
    }
    text
}

/// The columns.
fn conditions() -> impl Iterator<Item = Condition> {
    let trouble = [(false, false), (true, false), (false, true)];
    [true, false].into_iter().flat_map(move |up| {
        trouble.map(|(over_limit, log_full)| Condition { up, over_limit, log_full })
    })
}

/// The rows: every combination of words that decides differently from the row it would be
/// merged with, `stall` and `on_limit` left out where they change nothing.
fn policies() -> Vec<(String, Policy)> {
    let mut rows: Vec<(String, Policy)> = Vec::new();
    for sync in [false, true] {
        for stall in [false, true] {
            for on_limit in [None, Some(OnLimit::Bitmap)] {
                for on_down in [None, Some(OnDown::Bitmap), Some(OnDown::Hold), Some(OnDown::Error)]
                {
                    let policy = Policy { sync, stall, on_limit, on_down };
                    let same = |other: &Policy| {
                        other.sync == sync
                            && conditions().all(|is| other.verdict(is) == policy.verdict(is))
                    };
                    if !rows.iter().any(|(_, other)| same(other)) {
                        rows.push((words(policy), policy));
                    }
                }
            }
        }
    }
    rows
}

fn words(policy: Policy) -> String {
    let mut words = format!("`{}`", if policy.sync { "sync" } else { "async" });
    if policy.stall {
        words = format!("`{}+stall`", if policy.sync { "sync" } else { "async" });
    }
    if let Some(OnLimit::Bitmap) = policy.on_limit {
        words += " `on_limit:bitmap`";
    }
    match policy.on_down {
        None => {}
        Some(OnDown::Bitmap) => words += " `on_down:bitmap`",
        Some(OnDown::Hold) => words += " `on_down:hold`",
        Some(OnDown::Error) => words += " `on_down:error`",
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    const ON_LIMITS: [Option<OnLimit>; 3] = [None, Some(OnLimit::Sync), Some(OnLimit::Bitmap)];
    const ON_DOWNS: [Option<OnDown>; 4] =
        [None, Some(OnDown::Bitmap), Some(OnDown::Hold), Some(OnDown::Error)];

    fn all() -> Vec<(Policy, Condition)> {
        let bools = [false, true];
        let mut all = Vec::new();
        for sync in bools {
            for stall in bools {
                for on_limit in ON_LIMITS {
                    for on_down in ON_DOWNS {
                        for up in bools {
                            for over_limit in bools {
                                for log_full in bools {
                                    let policy = Policy { sync, stall, on_limit, on_down };
                                    all.push((policy, Condition { up, over_limit, log_full }));
                                }
                            }
                        }
                    }
                }
            }
        }
        all
    }

    /// The same table, written a second time as sentences that each claim a part of it.
    #[test]
    fn every_combination_is_claimed_by_one_sentence_and_decided_as_it_says() {
        for (policy, is) in all() {
            let Policy { sync, stall, on_limit, on_down } = policy;
            let Condition { up, over_limit, log_full } = is;
            let sentences = [
                // P1: an acknowledgement of a sync site that works means that it has the write.
                (up && sync, Verdict::Hold),
                // P5: an asynchronous site that is inside its bounds is nobody's business.
                (!sync && !over_limit && !log_full, Verdict::Acknowledge),
                // P12: a limit that is crossed holds writers, or gives the site up.
                (up && !sync && over_limit && on_limit == Some(OnLimit::Bitmap), Verdict::Detach),
                (up && !sync && over_limit && on_limit != Some(OnLimit::Bitmap), Verdict::Hold),
                // P6: a full log gives the laggard up, unless the table says stall.
                (up && !sync && !over_limit && log_full && stall, Verdict::Hold),
                (up && !sync && !over_limit && log_full && !stall, Verdict::Detach),
                // What was said for a link that is down is done.
                (
                    !up && (sync || over_limit || log_full) && on_down == Some(OnDown::Hold),
                    Verdict::Hold,
                ),
                (
                    !up && (sync || over_limit || log_full) && on_down == Some(OnDown::Error),
                    Verdict::Refuse,
                ),
                // A stall that was given wins over a default.
                (
                    !up && (sync || over_limit || log_full) && on_down.is_none() && stall,
                    Verdict::Hold,
                ),
                (
                    !up && !sync
                        && (over_limit || log_full)
                        && (on_down == Some(OnDown::Bitmap) || (on_down.is_none() && !stall)),
                    Verdict::Detach,
                ),
                // A sync site is demoted first; the log holds what it lacks while it can.
                (
                    !up && sync
                        && log_full
                        && (on_down == Some(OnDown::Bitmap) || (on_down.is_none() && !stall)),
                    Verdict::Detach,
                ),
                (
                    !up && sync
                        && !log_full
                        && (on_down == Some(OnDown::Bitmap) || (on_down.is_none() && !stall)),
                    Verdict::Acknowledge,
                ),
            ];
            let claims: Vec<_> = sentences.iter().filter(|(claims, _)| *claims).collect();
            assert_eq!(claims.len(), 1, "{policy:?} {is:?}");
            assert_eq!(policy.verdict(is), claims[0].1, "{policy:?} {is:?}");
        }
    }

    #[test]
    fn only_a_limit_a_stall_a_sync_or_a_word_for_it_ever_holds_writers() {
        for (policy, is) in all() {
            let asked = policy.sync
                || policy.stall
                || is.over_limit
                || matches!(policy.on_down, Some(OnDown::Hold | OnDown::Error));
            let verdict = policy.verdict(is);
            assert!(asked || verdict < Verdict::Hold || verdict == Verdict::Detach, "P5, P6");
        }
    }
}
