//! The states of a site and the ways between them, as one table.
//!
//! A link moves itself; this says where it may go. Every transition is an event, one line
//! in the daemon's log, and one row here; a link that notes one that its state does not
//! allow, or is not then where the table says, is a bug and stops (release builds too).

use crate::event::Transition;

/// Where a site is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Where its content comes from.
    pub fed: Fed,
    /// Its disks answer.
    pub up: bool,
    /// Its image is one that the devices could have been found in.
    pub consistent: bool,
    /// Writers are held to what the table says of it.
    pub in_force: bool,
}

/// Where a site's content comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fed {
    /// From the log.
    Streaming,
    /// From nowhere, or by copies, while what it lacks is marked.
    Detached,
    /// By copies of the little that is left, while the log is kept for it.
    Attached,
}

impl Standing {
    /// Each of them.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for fed in [Fed::Streaming, Fed::Detached, Fed::Attached] {
            for bits in 0..8 {
                let [up, consistent, in_force] = [1, 2, 4].map(|bit| bits & bit != 0);
                all.push(Self { fed, up, consistent, in_force });
            }
        }
        all
    }

    /// Where a transition leads from here; `None`: it can't happen here.
    #[must_use]
    pub fn after(self, what: &Transition) -> Option<Self> {
        use Fed::{Attached, Detached, Streaming};
        let Self { fed, up, consistent, in_force } = self;
        let (possible, next) = match what {
            Transition::WentDown(_) => (up, Self { up: false, ..self }),
            Transition::CameUp => (!up, Self { up: true, ..self }),
            Transition::Detached(_) => (fed != Detached, Self { fed: Detached, ..self }),
            Transition::ResyncBegan => {
                (up && fed != Streaming && !in_force, Self { consistent: false, ..self })
            }
            Transition::Attached => (up && fed == Detached, Self { fed: Attached, ..self }),
            Transition::Synced => (fed == Attached, Self { fed: Streaming, ..self }),
            Transition::Consistent => {
                (fed == Streaming && !consistent, Self { consistent: true, ..self })
            }
            Transition::Demoted => (in_force, Self { in_force: false, ..self }),
            Transition::Promoted => {
                (up && fed == Streaming && consistent && !in_force, Self { in_force: true, ..self })
            }
            Transition::OverLimit | Transition::WithinLimit | Transition::Verified(_) => {
                (true, self)
            }
        };
        possible.then_some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transition_changes_one_thing() {
        for from in Standing::all() {
            for what in Transition::all() {
                let Some(to) = from.after(&what) else { continue };
                let changes = [
                    from.fed != to.fed,
                    from.up != to.up,
                    from.consistent != to.consistent,
                    from.in_force != to.in_force,
                ];
                let count = changes.iter().filter(|changed| **changed).count();
                assert!(count <= 1, "{from:?} {what:?} {to:?}");
            }
        }
    }

    #[test]
    fn from_every_state_a_site_can_come_back_to_all_that_was_promised() {
        for start in Standing::all() {
            let mut reached = vec![start];
            let mut at = 0;
            while at < reached.len() {
                let from = reached[at];
                for next in Transition::all().iter().filter_map(|what| from.after(what)) {
                    if !reached.contains(&next) {
                        reached.push(next);
                    }
                }
                at += 1;
            }
            let well = Standing { fed: Fed::Streaming, up: true, consistent: true, in_force: true };
            assert!(reached.contains(&well), "{start:?}");
        }
    }

    #[test]
    fn only_out_of_the_log_does_an_image_become_inconsistent_and_only_in_it_consistent() {
        for from in Standing::all() {
            for what in Transition::all() {
                match from.after(&what) {
                    Some(to) if from.consistent && !to.consistent => {
                        assert_ne!(from.fed, Fed::Streaming);
                    }
                    Some(to) if !from.consistent && to.consistent => {
                        assert_eq!(from.fed, Fed::Streaming);
                    }
                    _ => {}
                }
            }
        }
    }

    #[test]
    fn nobody_waits_for_a_site_that_is_being_copied() {
        for from in Standing::all().into_iter().filter(|from| from.in_force) {
            assert_eq!(from.after(&Transition::ResyncBegan), None);
        }
    }
}
