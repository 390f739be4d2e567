//! The house rules that no compiler checks: who may use whom, what is pure, how long a file may be.
//!
//! A rule that is broken is reported with file and line; all places at once.

mod documents;
mod source;

use source::{Crate, Place, SourceFile, crates};

/// The crates in the order of the house: each may use only those before it.
const RANKS: [&str; 12] = [
    "blk",
    "registry",
    "table",
    "dirty-log",
    "replog",
    "slink",
    "replicator",
    "uring",
    "ublk-target",
    "cli",
    "sim",
    "bench",
];

/// What decides, and does no I/O: the same code runs on disks and in the simulator.
const PURE: [&str; 8] =
    ["blk", "registry", "table", "dirty-log", "replog", "slink", "replicator", "sim"];

/// The crates that may hold unsafe code; in `blk` only the file of its aligned buffers.
const UNSAFE: [&str; 3] = ["blk", "uring", "ublk-target"];
const UNSAFE_IN_BLK: &str = "crates/blk/src/buf.rs";

/// What a pure crate has no business with: files, the network, threads, clocks, the host's randomness.
const IMPURE: [&str; 11] = [
    "std::fs",
    "std::net",
    "std::os",
    "std::thread",
    "std::process",
    "Instant::now",
    "SystemTime",
    "RandomState",
    "HashMap",
    "HashSet",
    "Uuid::new_v4",
];

/// Marks of work that is not done.
const UNFINISHED: [&str; 5] = ["FIXME", "TODO", "XXX", "HACK", "dbg!"];

const LINES_MAX: usize = 600;

#[test]
fn a_crate_uses_only_crates_before_it() {
    for krate in crates() {
        let Some(rank) = RANKS.iter().position(|name| *name == krate.name) else {
            panic!("crates/{}: expected a place in RANKS", krate.name);
        };
        for used in krate.dependencies() {
            let of_used = RANKS.iter().position(|name| *name == used);
            let fine = of_used.is_none_or(|of_used| of_used < rank);
            assert!(fine, "crates/{} uses {used}, which comes after it", krate.name);
        }
    }
}

#[test]
fn a_crate_that_simulates_sees_only_pure_crates() {
    let sim = crates().into_iter().find(|krate| krate.name == "sim").expect("there is a sim");
    for used in sim.dependencies() {
        let fine = PURE.contains(&used.as_str()) || !RANKS.contains(&used.as_str());
        assert!(fine, "crates/sim uses {used}, which does I/O");
    }
}

#[test]
fn what_decides_knows_no_file_no_thread_and_no_clock() {
    let pure = crates().into_iter().filter(|krate| PURE.contains(&krate.name.as_str()));
    // A program around the pure library may look at its arguments and the time.
    let library = |file: &SourceFile| !file.is_test() && !file.path.ends_with("src/main.rs");
    let files = pure.flat_map(|krate| krate.sources()).filter(library);
    none(files.flat_map(|file| file.product_lines_with(&IMPURE)), "a pure crate does no I/O");
}

#[test]
fn unsafe_code_is_where_it_belongs() {
    for krate in crates() {
        let may = UNSAFE.contains(&krate.name.as_str());
        let forbids = krate.root().text.contains("#![forbid(unsafe_code)]");
        assert!(may != forbids, "crates/{}: expected forbid(unsafe_code) in its root", krate.name);
    }
    let blk = crates().into_iter().find(|krate| krate.name == "blk").expect("there is a blk");
    let others = blk.sources().into_iter().filter(|file| file.path != UNSAFE_IN_BLK);
    none(others.flat_map(|file| file.product_lines_with(&["unsafe {"])), "blk's unsafe is in buf");
}

#[test]
fn every_file_says_first_what_it_is() {
    let silent = all_sources().into_iter().filter(|file| !file.text.starts_with("//!"));
    none(silent.map(|file| file.place(1)), "a file opens with `//!`");
}

#[test]
fn no_file_is_too_long_to_be_read() {
    let long = all_sources().into_iter().filter(|file| file.text.lines().count() > LINES_MAX);
    none(long.map(|file| file.place(LINES_MAX)), "a file has at most 600 lines");
}

#[test]
fn nothing_is_left_for_later() {
    // This file names the words.
    let others = all_sources().into_iter().filter(|file| file.path != "tests/tidy/tidy.rs");
    none(others.flat_map(|file| file.lines_with(&UNFINISHED)), "no mark of unfinished work");
}

#[test]
fn every_source_file_is_part_of_a_crate() {
    for krate in crates() {
        let sources = krate.sources();
        let in_src =
            |file: &&SourceFile| file.path.starts_with(&format!("crates/{}/src/", krate.name));
        for file in sources.iter().filter(in_src).filter(|file| !file.is_root()) {
            let declared = sources.iter().any(|other| other.declares(&file.module()));
            assert!(declared, "{}: expected a `mod {};` somewhere", file.path, file.module());
        }
    }
}

fn all_sources() -> Vec<SourceFile> {
    let of_tests = source::files_under("tests");
    crates().iter().flat_map(Crate::sources).chain(of_tests).collect()
}

fn none(places: impl Iterator<Item = Place>, rule: &str) {
    let places: Vec<String> = places.map(|place| place.to_string()).collect();
    assert!(places.is_empty(), "{rule}; found\n  {}", places.join("\n  "));
}
