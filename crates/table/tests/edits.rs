//! Edits of a group by messages: what the table is afterwards, and what is said of wrong ones.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use blk::DevNr;
use table::{Group, TableFile};

const BEFORE: &str = "\
repl: 0 1 replicator ringbuffer 4 /log 0 auto 8192 blockdev 1 0 blockdev 4 1 async ios 9 blockdev 1 2
db: 0 4096 replicator-dev repl 0 0 1 /ld0 nolog 0 1 1 /rd0 core 2 8 nosync
wal: 0 4096 replicator-dev repl 7 0 1 /ld7 nolog 0
";

fn before() -> Group {
    TableFile::parse(BEFORE).unwrap().groups().unwrap().pop().unwrap()
}

fn edited(target: Option<u32>, words: &str) -> Result<String, String> {
    let words: Vec<&str> = words.split(' ').collect();
    let group = before().edited(target.map(DevNr), &words);
    group.map(|group| group.file().to_string()).map_err(|kind| kind.to_string())
}

#[test]
fn a_group_prints_as_the_file_it_came_from() {
    assert_eq!(before().file().to_string(), BEFORE);
    assert_eq!(before().checked().unwrap(), before());
}

#[test]
fn an_edit_changes_what_it_says_and_nothing_else() {
    let one = "blockdev 4 1 async ios 9";
    let wal = "/ld7 nolog 0";
    for (target, words, from, to) in [
        (None, "slink message 1 policy async+stall", one, "blockdev 4 1 async+stall ios 9"),
        (None, "slink message 1 policy asynchronous", one, one),
        (None, "slink message 1 fallbehind size=2m", one, "blockdev 4 1 async size 2m"),
        (None, "slink message 1 fallbehind t 5s", one, "blockdev 4 1 async timeout 5s"),
        (None, "slink message 1 fallbehind ios=0", one, "blockdev 2 1 async"),
        (None, "slink message 1 on_down:hold", one, "blockdev 5 1 async ios 9 on_down:hold"),
        (
            None,
            "slink message 1 resync_rate:10m fallbehind ios=0 policy sync timeout_io:1s",
            one,
            "blockdev 4 1 sync timeout_io:1s resync_rate:10m",
        ),
        (None, "slink message 0 timeout_io:3s", "blockdev 1 0", "blockdev 2 0 timeout_io:3s"),
        (None, "replog resize 16384", "auto 8192", "auto 16384"),
        (None, "slink add 3", " blockdev 1 2", " blockdev 1 2 blockdev 1 3"),
        (
            None,
            "slink add 5 sync mark:/mark",
            " blockdev 1 2",
            " blockdev 1 2 blockdev 3 5 sync mark:/mark",
        ),
        (
            None,
            "slink add blockdev 4 3 async size 8",
            " blockdev 1 2",
            " blockdev 1 2 blockdev 4 3 async size 4k",
        ),
        (None, "slink del 2", " blockdev 1 2", ""),
        (Some(7), "device add 2 1 /rd7 nolog 0", wal, "/ld7 nolog 0 2 1 /rd7 nolog 0"),
        (Some(7), "device add repl 7 1 1 /rd7 core 1 8", wal, "/ld7 nolog 0 1 1 /rd7 core 1 8"),
        (
            None,
            "device add wal 2 1 /rd7 disk 3 /dl7 8 sync",
            wal,
            "/ld7 nolog 0 2 1 /rd7 disk 3 /dl7 8 sync",
        ),
        (Some(0), "device del 1", " 1 1 /rd0 core 2 8 nosync", ""),
        (None, "device del 0 1", " 1 1 /rd0 core 2 8 nosync", ""),
        (None, "device del db 1", " 1 1 /rd0 core 2 8 nosync", ""),
    ] {
        let expected = BEFORE.replacen(from, to, 1);
        assert_eq!(edited(target, words).as_deref(), Ok(&*expected), "{words}");
    }
}

#[test]
fn a_wrong_edit_is_answered_with_what_was_expected() {
    let change = "slink message: expected `policy`, `fallbehind` or `key:value`, found ";
    let sites = "<slink_nr>: expected a site link of `repl` (0, 1, 2), found ";
    for (target, words, expected) in [
        (None, "slink", "slink: expected `message`, `add` or `del`, found the end"),
        (None, "slink change 1", "slink: expected `message`, `add` or `del`, found `change`"),
        (None, "slink message", "<slink_nr>: expected a whole number, found the end"),
        (None, "slink message 9 policy sync", &format!("{sites}9")),
        (None, "slink message one", "<slink_nr>: expected a whole number from 0 to 2047, found"),
        (None, "slink message 1", "slink message: expected `policy`, `fallbehind` or `key:value`,"),
        (None, "slink message 1 pol sync", &format!("{change}`pol`")),
        (None, "slink message 1 policy", "<slink_policy>: expected `sync`, `async` or `stall`, "),
        (
            None,
            "slink message 1 policy fast",
            "<slink_policy>: expected `sync`, `async` or `stall`",
        ),
        (None, "slink message 1 policy sync", "<fall_behind>: expected none with policy `sync`, "),
        (None, "slink message 1 fallbehind", "<fall_behind>: expected `ios`, `size` or `timeout`"),
        (None, "slink message 1 fallbehind ios", "<N>: expected a limit, found the end"),
        (None, "slink message 1 fallbehind ios=many", "<N>: expected a whole number of writes"),
        (
            None,
            "slink message 1 fallbehind rate=1",
            "<fall_behind>: expected `ios`, `size` or `tim",
        ),
        (None, "slink message 1 speed:9", "option: expected `on_limit`, `on_down`, `timeout_io`"),
        (None, "slink message 1 on_down:cry", "on_down: expected `bitmap`, `hold` or `error`, "),
        (None, "slink message 1 timeout_io:0", "timeout_io: expected "),
        (
            None,
            "slink message 1 on_down:hold on_down:hold",
            "option: expected `on_down` once, found it twice",
        ),
        (None, "slink message 1 on_down:hold now", &format!("{change}`now`")),
        (None, "replog", "replog: expected `resize`, found the end"),
        (None, "replog reset", "replog: expected `resize`, found `reset`"),
        (None, "replog resize", "replog resize (sectors): expected a whole number"),
        (None, "replog resize 4095", "replog resize (sectors): expected a whole number from 4096"),
        (None, "replog resize 1g", "replog resize (sectors): expected a whole number from 4096"),
        (None, "replog resize 8192 now", "expected nothing more, found `now`"),
        (None, "slink add", "slink add: expected a site link number, found the end"),
        (None, "slink add 1", "<slink_nr>: expected "),
        (None, "slink add 3 sync ios 4", "<fall_behind>: expected none with policy `sync`"),
        (None, "slink add blockdev 1 3 sync", "expected nothing more, found `sync`"),
        (None, "slink del 0", "<slink_nr>: expected a remote site link; 0 is the local one"),
        (None, "slink del 1", "<slink_nr>: expected a site link without devices, found 1, which h"),
        (None, "slink del 2 now", "expected nothing more, found `now`"),
        (None, "slink del 9", &format!("{sites}9")),
        (None, "device add 2 1 /x nolog 0", "expected a device of `repl` (0 db, 7 wal), found `2`"),
        (Some(0), "device add 9 1 /x nolog 0", &format!("{sites}9")),
        (Some(0), "device add 1 1 /x nolog 0", "<slink_nr>: expected one leg of a device per site"),
        (Some(0), "device add 2 1 x nolog 0", "<dev_path>: expected an absolute path"),
        (Some(0), "device add 2 1 /ld7 nolog 0", "`/ld7`: expected a device of its own for "),
        (Some(0), "device add 2 1 /x core 1 3", "<region_size>: expected a power of two"),
        (Some(0), "device add 2 1 /x nolog 0 0", "expected nothing more, found `0`"),
        (Some(0), "device add repl 7 2 1 /x nolog 0", "expected a device of `repl` (0), found `7 "),
        (Some(0), "device del 0", "<slink_nr>: expected a remote site link"),
        (Some(0), "device del 2", "<slink_nr>: expected a site link that has `db` (0, 1), found 2"),
        (Some(0), "device del 1\u{7}", "expected printable text"),
    ] {
        let error = edited(target, words).unwrap_err();
        assert!(error.starts_with(expected), "{words}: {error}");
    }
}

#[test]
fn another_name_stands_wherever_the_one_before_did_and_nothing_else_changes() {
    let device = before().renamed(Some(DevNr(7)), "journal").unwrap();
    assert_eq!(device.file().to_string(), BEFORE.replace("wal:", "journal:"));
    let group = before().renamed(None, "east").unwrap();
    assert_eq!(
        group.file().to_string(),
        BEFORE.replace("repl: ", "east: ").replace("-dev repl", "-dev east")
    );
    assert_eq!(group.renamed(None, "repl").unwrap(), before());
}

#[test]
fn a_name_that_no_table_may_have_or_that_is_taken_is_refused() {
    for dev in [None, Some(DevNr(0))] {
        for bad in ["", "a b", "a/b", "..", "x: 0 1\n", "x\0", &"n".repeat(128)] {
            let refusal = before().renamed(dev, bad).unwrap_err().to_string();
            assert!(refusal.contains("name"), "{bad:?}: {refusal}");
        }
        let refusal = before().renamed(dev, "wal").unwrap_err().to_string();
        assert!(refusal.contains("wal"), "{refusal}");
    }
}
