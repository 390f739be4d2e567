//! The troubleshooting page has every sentence that `why` can say, and no other.

use super::*;

const PAGE: &str = include_str!("../../../../../../docs/troubleshooting.md");

/// The sentences that it explains: its headings, without what only makes them legible. `…`, `N` and
/// `NAME` stand for anything.
fn headings() -> Vec<String> {
    let lines = PAGE.lines().filter_map(|line| line.strip_prefix("### "));
    let spans = lines.filter(|line| line.starts_with('`'));
    // A span with a backtick in it stands between two of them, and blanks.
    let text = |line: &str| match line.strip_prefix("`` ") {
        Some(rest) => rest.strip_suffix(" ``").map(str::to_owned),
        None => line.strip_prefix('`').and_then(|rest| Some(rest.strip_suffix('`')?.to_owned())),
    };
    spans.map(|line| text(line).expect("a heading that is one span of code")).collect()
}

fn matches(pattern: &str, sentence: &str) -> bool {
    let pattern =
        pattern.replace("site N", "site …").replace("up N", "up …").replace("verify N", "verify …");
    let mut parts = pattern.split('…');
    let first = parts.next().expect("a split has one part at least");
    let Some(mut rest) = sentence.strip_prefix(first) else { return false };
    for part in parts {
        if part.is_empty() {
            return true;
        }
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.is_empty()
}

/// All that the tests of this module expect `why` to say.
fn sentences() -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let mut say = |status: &Status| all.extend(why(status).iter().map(ToString::to_string));
    OF_A_SITE.iter().for_each(|(change, _)| say(&status(change, |_| ())));
    OF_WRITERS.iter().for_each(|(change, _)| say(&status(change, |_| ())));
    OF_ALL.iter().for_each(|(change, _)| say(&status(|_| (), change)));
    for (fate, _) in OF_A_FULL_LOG {
        let full = |status: &mut Status| {
            status.log.as_mut().unwrap().full = true;
            status.sites[0].cursor = 100;
        };
        say(&status(|site| site.limits.on_full = *fate, full));
    }
    for full in [false, true] {
        say(&no_copy(full));
    }
    say(&resized());
    say(&status(|site| lacks(site, 1, 4096, 0.02), |_| ()));
    say(&status(|_| (), |status| lacks(&mut status.sites[0], 900, 3 * MIB, 5.0)));
    let asked = |site: &mut SiteStatus| {
        down(site);
        let failure = site.failure.as_mut().unwrap();
        (failure.how, failure.retry_seconds) = (FailureKind::Asked, None);
    };
    say(&status(asked, |_| ()));
    for (running, differing_ranges) in [(true, 0), (false, 0), (false, 1)] {
        let verify = VerifyStatus { running, differing_ranges, whole: true, ..Default::default() };
        say(&status(|site| site.verify = Some(verify), |_| ()));
    }
    all
}

#[test]
fn the_page_explains_every_sentence() {
    let headings = headings();
    for sentence in sentences() {
        let found = headings.iter().any(|heading| matches(heading, &sentence));
        assert!(found, "docs/troubleshooting.md has no heading for: {sentence}");
    }
}

#[test]
fn the_page_explains_no_sentence_that_nobody_says() {
    let sentences = sentences();
    for heading in headings() {
        let found = sentences.iter().any(|sentence| matches(&heading, sentence));
        assert!(found, "docs/troubleshooting.md explains what is never said: {heading}");
    }
}

#[test]
fn a_heading_stands_for_what_it_says_and_no_more() {
    let heading = "site N: down for …: …; being tried again; …";
    assert!(matches(heading, "site 2: down for 3 s: EIO; being tried again; the log keeps it"));
    assert!(!matches(heading, "site 2: down for 3 s: EIO; next try in 3 s; the log keeps it"));
    assert!(
        matches("it is stopped", "it is stopped")
            && !matches("it is stopped", "it is stopped, too")
    );
}
