//! The program as a shell sees it: exit status, standard output, standard error. What needs
//! devices is in `tests/vm`.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn replicator(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_replicator")).args(words).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

#[test]
fn a_wrong_command_line_is_status_2_and_says_how_it_is_meant() {
    for words in [&[][..], &["destroy"], &["status", "a/b"], &["remove"], &["message", "repl", "0"]]
    {
        let output = replicator(words);
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        assert!(output.stdout.is_empty() && stderr(&output).contains("--help"), "{words:?}");
    }
}

#[test]
fn an_error_is_status_1_and_one_sentence_without_partial_output() {
    let output = replicator(&["log", "dump", "/nowhere/log"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let expected = "replicator: /nowhere/log: no such file or device\n";
    assert_eq!(stderr(&output), expected);
}

#[test]
fn targets_are_listed_as_dmsetup_lists_them() {
    let output = replicator(&["targets"]);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let names: Vec<_> =
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
    assert_eq!(names, [["replicator", "v0.1.0"], ["replicator-dev", "v0.1.0"]]);
}

#[test]
fn a_reader_that_hangs_up_is_no_error() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_replicator"))
        .args(["targets", "-v"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", stderr(&output));
}

#[test]
fn a_host_without_replicators_has_nothing_to_list() {
    if !is_root() {
        return; // the verbs that look at the host are root's
    }
    let home = tempfile::tempdir().unwrap();
    let output = on_host(home.path(), &["ls"]);
    assert!(output.status.success() && output.stdout.is_empty(), "{}", stderr(&output));
    let output = on_host(home.path(), &["why"]);
    assert!(output.status.success() && output.stdout.is_empty(), "nothing is out of sync");
    for words in [["status", "repl"], ["why", "repl"], ["wait", "repl"]] {
        let output = on_host(home.path(), &words);
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains("repl: expected a replicator or a device, found none"));
    }
}

#[test]
fn a_runtime_directory_that_is_open_to_others_stops_every_verb() {
    if !is_root() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let runtime = home.path().join("run");
    std::fs::DirBuilder::new().mode(0o700).create(&runtime).unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(&runtime, open).unwrap();
    let verbs = [&["ls"][..], &["status"], &["table"], &["why"], &["wait", "repl"]];
    for words in verbs.into_iter().chain([&["remove", "repl"][..], &["recover", "repl"]]) {
        let output = on_host(home.path(), words);
        assert_eq!(output.status.code(), Some(1), "{words:?}");
        assert!(stderr(&output).contains("expected mode 0700, found 0777"), "{}", stderr(&output));
    }
}

fn on_host(home: &Path, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_replicator"))
        .args(words)
        .env("REPLICATOR_RUNTIME_DIR", home.join("run"))
        .output()
        .unwrap()
}
