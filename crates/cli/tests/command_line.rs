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

/// A dirty log of two blocks with three dirty regions, in a file.
fn dirty_log(path: &Path) {
    use dirty_log::format::{Block, Identity};
    let identity = Identity {
        log: uuid::Uuid::from_u128(7),
        session: 5,
        dev: blk::DevNr(0),
        slink: blk::SlinkNr(1),
        len: blk::Sectors(40_000 * 1024),
        region: blk::Sectors(1024),
    };
    let mut bytes = vec![0; 2 * 4096];
    for (nr, to) in (0..).zip(bytes.chunks_exact_mut(4096)) {
        let mut words = vec![0; identity.regions_of(nr).div_ceil(64) as usize];
        words[0] = if nr == 0 { 3 } else { 1 };
        Block { identity, nr, bypassed: None, words }.encode(to);
    }
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_dirty_log_is_checked_dumped_and_repaired() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("dirty");
    let run = |words: &[&str]| {
        let output = replicator(&[&["dirty"], words, &[path.to_str().unwrap()]].concat());
        (output.status.code(), String::from_utf8(output.stdout.clone()).unwrap(), stderr(&output))
    };
    dirty_log(&path);
    let (status, text, _) = run(&["check"]);
    assert_eq!(status, Some(0), "{text}");
    assert!(text.contains("dirty: 3 regions, 3072 sectors\nverdict: sound\n"), "{text}");
    let (status, text, _) = run(&["dump", "--json"]);
    let last: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!((status, &last["dirty"]["region"]), (Some(0), &31_744.into()));
    assert!(run(&["repair"]).1.contains("nothing to repair"));

    let mut bytes = std::fs::read(&path).unwrap();
    bytes[5000] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let (status, text, error) = run(&["check"]);
    assert_eq!(status, Some(1));
    assert!(text.contains("block 1 at sector 8: checksum "), "{text}");
    assert!(error.contains("damaged; what is not believed counts as dirty"), "{error}");
    let (status, _, error) = run(&["repair"]);
    assert!(status == Some(1) && error.contains("repeat with --yes"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), bytes, "nothing was written");
    assert_eq!(run(&["repair", "--yes"]).0, Some(0));
    let (status, text, _) = run(&["check"]);
    assert_eq!(status, Some(0));
    let dirty = 2 + 40_000 - 31_744;
    assert!(text.contains(&format!("dirty: {dirty} regions, ")), "{text}");
}

#[test]
fn a_mark_says_whether_a_site_can_be_used() {
    use slink::mark::{Mark, MarkState};
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("mark");
    let run = |verb: &str| replicator(&["mark", verb, path.to_str().unwrap()]);
    let mark = |state| Mark {
        log: uuid::Uuid::from_u128(7),
        generation: 3,
        slink: blk::SlinkNr(1),
        state,
        seq: blk::Seq(400),
        wall: blk::Wall(0),
        name: "repl".to_owned(),
    };
    std::fs::write(&path, mark(MarkState::Consistent).encode()).unwrap();
    assert!(run("check").status.success());
    std::fs::write(&path, mark(MarkState::Inconsistent).encode()).unwrap();
    let output = run("check");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("no application may be started"), "{}", stderr(&output));
    let output = run("dump");
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("site 1 of replicator repl, log "), "{text}");
    assert!(text.contains(": inconsistent, has every write up to 400"), "{text}");
    std::fs::write(&path, [0; 4096]).unwrap();
    for verb in ["check", "dump"] {
        let output = run(verb);
        assert_eq!(output.status.code(), Some(1));
        assert!(output.stdout.is_empty());
        assert!(stderr(&output).contains("no mark says that the site is consistent: expected"));
    }
}
