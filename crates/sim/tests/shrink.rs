//! A seed that breaks a promise is made smaller, and breaks the same promise.

use sim::bugs::Bug;
use sim::less::{Less, Part, Sieve};
use sim::oracle::Violation;
use sim::runs::Seed;
use sim::shrink::{self, Shrunk};

fn shrunk(seed: u64, bug: Bug) -> Shrunk {
    let shrunk = shrink::shrink(&Seed::new(seed, Some(bug)), &|| true);
    shrunk.unwrap_or_else(|| panic!("{bug:?} is not seen in seed {seed}"))
}

#[test]
fn what_is_left_of_a_life_breaks_the_same_promise_and_is_much_shorter() {
    // From 1452 points in nine lives, with 107 requests and 23 outages.
    let Shrunk { seed, failure, before, after, .. } = shrunk(267, Bug::OldIdentity);
    assert!(matches!(failure.violation, Violation::Stranger { .. }), "{failure}");
    assert!(after.points * 4 < before.points, "{before}; {after}");
    let count = |part| after.parts.iter().find(|(of, _)| *of == part).unwrap().1;
    assert!(count(Part::Request) <= 20 && count(Part::Life) <= 3, "{after}");
    assert!(count(Part::Outage) <= 2, "what replaced the disk is all that it takes: {after}");
    // The command that is printed is all that it takes, and without the bug nothing is broken.
    assert!(failure.reproduce.ends_with(&seed.command()), "{failure}");
    assert_eq!(seed.live(), Err(failure));
    let well = Seed { bug: None, ..seed };
    assert!(well.live().is_ok());
}

#[test]
fn a_life_that_breaks_no_promise_is_not_made_smaller() {
    assert!(shrink::shrink(&Seed::new(0, None), &|| true).is_none());
}

#[test]
fn what_leaves_nothing_out_changes_nothing() {
    for seed in 0..20 {
        let whole = Seed::new(seed, None);
        let sieve = std::rc::Rc::new(Sieve::default());
        assert_eq!(whole.live_by(&sieve), whole.live(), "seed {seed}");
        assert!(sieve.met(Part::Life) > 0, "seed {seed}");
        let nothing: Less = Part::ALL
            .into_iter()
            .map(|part| {
                let beyond = sieve.met(part) + 10;
                Less::default().and(part, beyond..u64::MAX)
            })
            .collect();
        assert_eq!(Seed { less: nothing, ..whole.clone() }.live(), whole.live(), "seed {seed}");
    }
}

/// What is left keeps the promises, whatever is left out.
#[test]
fn no_promise_is_broken_by_leaving_something_out() {
    for seed in 0..60 {
        let part = Part::ALL[usize::try_from(seed).unwrap() % Part::ALL.len()];
        let half = Less::default().and(part, 1..3).and(Part::Request, 20..40);
        let lived = Seed { less: half, ..Seed::new(seed, None) }.live();
        assert!(lived.is_ok(), "{}", lived.unwrap_err());
    }
}
