//! The command line of `ublk.replicator`: the words that `ublk` passes on, read as `getopt_long`
//! reads them. Any words at all are safe to parse.
//!
//! Of the options that all types have some are what devices of ours always are, or ask for no more
//! than speed by other means: they are taken, and change nothing. One that would make another
//! device is refused.

use std::path::PathBuf;

use crate::control::Wish;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Add { table: PathBuf, wish: Wish },
    Recover { ublk: u32 },
    Help,
}

/// What an option means here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    Table,
    Name,
    Type,
    Number,
    Depth,
    BufBytes,
    /// A number of queues: a device has one, since its log takes one write after the other.
    Queues,
    /// The caller's pipe; `descriptor` looks for it.
    Pipe,
    /// It is so already, or makes no difference to users.
    Idle,
    /// It can't be had, if its value is not 0.
    Never(&'static str),
}

/// One option: its long and short names, and whether a value follows.
struct Spec {
    long: &'static str,
    short: Option<char>,
    has_value: bool,
    meaning: Meaning,
}

const fn spec(long: &'static str, short: Option<char>, has_value: bool, meaning: Meaning) -> Spec {
    Spec { long, short, has_value, meaning }
}

const SPECS: [Spec; 21] = [
    spec("table", None, true, Meaning::Table),
    spec("name", None, true, Meaning::Name),
    spec("type", Some('t'), true, Meaning::Type),
    spec("number", Some('n'), true, Meaning::Number),
    spec("queues", Some('q'), true, Meaning::Queues),
    spec("depth", Some('d'), true, Meaning::Depth),
    spec("max_io_buf_bytes", None, true, Meaning::BufBytes),
    spec(PIPE, None, true, Meaning::Pipe),
    spec("user_recovery", Some('r'), true, Meaning::Idle),
    spec("user_recovery_reissue", Some('i'), true, Meaning::Idle),
    spec("user_recovery_fail_io", Some('e'), true, Meaning::Never(FAIL_IO)),
    spec("unprivileged", None, false, Meaning::Never(UNPRIVILEGED)),
    spec("uring_comp", Some('u'), true, Meaning::Idle),
    spec("need_get_data", Some('g'), true, Meaning::Idle),
    spec("usercopy", None, false, Meaning::Idle),
    spec("zerocopy", Some('z'), false, Meaning::Idle),
    spec("batch-io", Some('b'), false, Meaning::Idle),
    spec("debug_mask", None, true, Meaning::Idle),
    spec("shmem_zc", None, false, Meaning::Idle),
    spec("htlb", None, true, Meaning::Idle),
    spec("rdonly_shmem_buf", None, false, Meaning::Idle),
];

/// Reads the words behind the program's name.
pub(super) fn parse(words: &[String]) -> Result<Asked, String> {
    let Some((verb, rest)) = words.split_first() else {
        return Err(
            "expected add, recover or help, found nothing; see `ublk help -t replicator`".into()
        );
    };
    match verb.as_str() {
        "help" | "-h" | "--help" => Ok(Asked::Help),
        "add" => add(&options(rest)?),
        "recover" => recover(&options(rest)?),
        other => Err(format!("expected add, recover or help, found {other:?}")),
    }
}

/// The pipe of the caller, whatever is wrong with the other words: it stands behind them.
pub(super) fn descriptor(words: &[String]) -> Option<i32> {
    let at = words.iter().rposition(|word| word.strip_prefix("--") == Some(PIPE))?;
    words.get(at + 1)?.parse().ok()
}

/// An option that was found, and its value; an empty one if it has none.
type Found = (&'static Spec, String);

fn add(found: &[Found]) -> Result<Asked, String> {
    let (mut table, mut wish) = (None, Wish::default());
    for (spec, value) in found {
        let whole = |least: u64, most: u64| number(spec, value, least, most);
        match spec.meaning {
            Meaning::Table => table = Some(PathBuf::from(value)),
            Meaning::Name => {
                let name = value.parse::<crate::runtime::Name>();
                wish.device = name.map_err(|error| format!("--name: {error:#}"))?.to_string();
            }
            Meaning::Type => type_is_ours(value)?,
            // ublksrv's word for whichever is free.
            Meaning::Number if value == "-1" => wish.ublk = None,
            Meaning::Number => wish.ublk = Some(narrow(whole(0, NUMBER_MAX)?)),
            Meaning::Depth => wish.depth = Some(narrow(whole(1, DEPTH_MAX)?)),
            Meaning::BufBytes => {
                let bytes = whole(PAGE_BYTES, REQUEST_BYTES_MAX)?;
                if bytes % PAGE_BYTES != 0 {
                    return Err(format!(
                        "--{}: expected whole pages of {PAGE_BYTES} bytes, found {value}",
                        spec.long
                    ));
                }
                wish.request_max = Some(bytes / SECTOR_BYTES);
            }
            Meaning::Queues => drop(whole(1, QUEUES_MAX)?),
            Meaning::Never(why) if value != "0" => return Err(format!("--{}: {why}", spec.long)),
            Meaning::Never(_) | Meaning::Pipe | Meaning::Idle => {}
        }
    }
    let table = table.ok_or("expected --table FILE, found none; see `ublk help -t replicator`")?;
    Ok(Asked::Add { table, wish })
}

fn recover(found: &[Found]) -> Result<Asked, String> {
    let mut ublk = None;
    for (spec, value) in found {
        match spec.meaning {
            Meaning::Number => ublk = Some(narrow(number(spec, value, 0, NUMBER_MAX)?)),
            Meaning::Type => type_is_ours(value)?,
            Meaning::Pipe | Meaning::Idle => {}
            _ => return Err(format!("expected -n NUMBER, found --{}", spec.long)),
        }
    }
    let ublk = ublk.ok_or("expected -n NUMBER, found none")?;
    Ok(Asked::Recover { ublk })
}

fn type_is_ours(value: &str) -> Result<(), String> {
    if value == crate::runtime::TYPE {
        return Ok(());
    }
    Err(format!("--type: expected {}, found {value:?}", crate::runtime::TYPE))
}

fn number(spec: &Spec, value: &str, least: u64, most: u64) -> Result<u64, String> {
    let found = value.parse().ok().filter(|found| (least..=most).contains(found));
    found.ok_or_else(|| {
        format!("--{}: expected a number from {least} to {most}, found {value:?}", spec.long)
    })
}

fn narrow<T: TryFrom<u64>>(number: u64) -> T {
    T::try_from(number).unwrap_or_else(|_| unreachable!("it was found to be in range"))
}

/// Takes words apart into options.
fn options(words: &[String]) -> Result<Vec<Found>, String> {
    let mut found = Vec::new();
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        if let Some(long) = word.strip_prefix("--") {
            let (name, value) = long.split_once('=').map_or((long, None), |(n, v)| (n, Some(v)));
            let spec = long_option(name)?;
            let value = match (spec.has_value, value) {
                (true, Some(value)) => value.to_owned(),
                (true, None) => rest.next().ok_or_else(|| lacks_value(spec))?.clone(),
                (false, None) => String::new(),
                (false, Some(_)) => return Err(format!("--{}: expected no value", spec.long)),
            };
            found.push((spec, value));
        } else if let Some(cluster) = word.strip_prefix('-').filter(|it| !it.is_empty()) {
            short_options(cluster, &mut rest, &mut found)?;
        } else {
            return Err(format!("expected options, found {word:?}"));
        }
    }
    Ok(found)
}

/// Several letters behind one dash; the first that has a value takes what is left.
fn short_options<'a>(
    cluster: &str,
    rest: &mut impl Iterator<Item = &'a String>,
    found: &mut Vec<Found>,
) -> Result<(), String> {
    let mut letters = cluster.chars();
    while let Some(letter) = letters.next() {
        let spec = SPECS.iter().find(|spec| spec.short == Some(letter));
        let spec = spec.ok_or_else(|| format!("unknown option -{letter}"))?;
        if !spec.has_value {
            found.push((spec, String::new()));
            continue;
        }
        let value = match letters.as_str() {
            "" => rest.next().ok_or_else(|| lacks_value(spec))?.clone(),
            value => value.to_owned(),
        };
        found.push((spec, value));
        break;
    }
    Ok(())
}

/// A long option by its name, or by so much of it as tells it from the others.
fn long_option(name: &str) -> Result<&'static Spec, String> {
    let exact = SPECS.iter().find(|spec| spec.long == name);
    let mut begins = SPECS.iter().filter(|spec| !name.is_empty() && spec.long.starts_with(name));
    match (exact, begins.next(), begins.next()) {
        (Some(spec), ..) | (None, Some(spec), None) => Ok(spec),
        (None, Some(one), Some(other)) => {
            Err(format!("--{name} can mean --{} and --{}", one.long, other.long))
        }
        (None, None, _) => Err(format!("unknown option --{name}")),
    }
}

fn lacks_value(spec: &Spec) -> String {
    format!("--{}: expected a value behind it, found none", spec.long)
}

const PIPE: &str = "eventfd";
const FAIL_IO: &str =
    "requests of a device whose daemon died wait for the next one, and never fail; leave it out";
const UNPRIVILEGED: &str = "the driver gives what a replicator needs to root only; leave it out";
/// The driver's bounds.
const NUMBER_MAX: u64 = (1 << 20) - 1;
const DEPTH_MAX: u64 = 4096;
const QUEUES_MAX: u64 = 4096;
const REQUEST_BYTES_MAX: u64 = 32 << 20;
const PAGE_BYTES: u64 = 4096;
const SECTOR_BYTES: u64 = 512;

pub(super) const HELP: &str = "\
ublk add -t replicator --table FILE [--name NAME]
\t--table FILE: the whole table of a replicator, as `replicator create` reads it
\t--name NAME: which of its devices; not needed if there is one
\tOne device for each add. The first starts the replicator, with all the disks of its table.
\t-n NUMBER: the N of /dev/ublkbN (default: one that is free)
\t-d DEPTH: requests in flight (default: 128)
\t--max_io_buf_bytes BYTES: the longest request, if shorter than usual
\t-q -r -i -u -g -z -b --usercopy --debug_mask: taken, and change nothing: a device has one queue,
\t\tand always outlives its daemon. -e 1 and --unprivileged are refused.
ublk recover -n NUMBER
\tA new daemon in place of one that died; all its devices go on.
ublk help -t replicator
Why an add or a recover failed is in the host's log, and in /run/replicator/ublk.error.
";

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn wish(text: &str) -> Wish {
        match parse(&words(&format!("add -t replicator --table t {text}"))).unwrap() {
            Asked::Add { wish, .. } => wish,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_device_is_asked_for_in_the_words_of_ublksrv() {
        let asked = parse(&words("add -t replicator --table /a/table --name d0 -n 5 --eventfd 7"));
        let wish = Wish { device: "d0".into(), ublk: Some(5), ..Wish::default() };
        assert_eq!(asked.unwrap(), Asked::Add { table: "/a/table".into(), wish });
        assert_eq!(parse(&words("recover -n 3 --eventfd 4")).unwrap(), Asked::Recover { ublk: 3 });
        for help in ["help", "help -t replicator", "-h", "--help"] {
            assert_eq!(parse(&words(help)).unwrap(), Asked::Help, "{help}");
        }
    }

    #[test]
    fn options_are_read_as_getopt_reads_them() {
        let five = Wish { ublk: Some(5), ..Wish::default() };
        for same in ["-n 5", "-n5", "--number 5", "--number=5", "--num 5", "-zbn5", "-zb -n 5"] {
            assert_eq!(wish(same), five, "{same}");
        }
        assert_eq!(wish("-n -1"), Wish::default());
        let table = ["add", "--table", "a table with blanks", "--eventfd", "3"];
        let asked = parse(&table.map(str::to_owned)).unwrap();
        assert!(
            matches!(asked, Asked::Add { table, .. } if table.ends_with("a table with blanks"))
        );
    }

    #[test]
    fn the_classic_options_are_taken_and_those_that_matter_are_kept() {
        let classic = "-q 4 -d 64 -u 1 -g 0 -r 1 -i 1 -e 0 -z -b --debug_mask ff --usercopy \
                       --max_io_buf_bytes 65536 --shmem_zc --htlb /dev/hugepages/x --rdonly_shmem_buf";
        let kept = Wish { depth: Some(64), request_max: Some(128), ..Wish::default() };
        assert_eq!(wish(classic), kept);
    }

    #[test]
    fn what_can_t_be_done_is_said_in_a_sentence() {
        for (wrong, expected) in [
            ("", "expected add, recover or help, found nothing"),
            ("del -n 0", "found \"del\""),
            ("add", "expected --table FILE"),
            ("add --table", "--table: expected a value"),
            ("add --table t stray", "found \"stray\""),
            ("add --table t -", "found \"-\""),
            ("add --table t --", "unknown option --"),
            ("add --table t -x", "unknown option -x"),
            ("add --table t --frobnicate", "unknown option --frobnicate"),
            ("add --table t --user 1", "can mean --user_recovery and"),
            ("add --table t --usercopy=1", "expected no value"),
            ("add --table t -n five", "expected a number from 0"),
            ("add --table t -n 1048576", "expected a number from 0 to 1048575"),
            ("add --table t -d 0", "expected a number from 1 to 4096"),
            ("add --table t -q 0", "--queues: expected a number"),
            ("add --table t --max_io_buf_bytes 5000", "whole pages"),
            ("add --table t --name ../x", "--name: the name"),
            ("add --table t -e 1", "never fail"),
            ("add --table t --unprivileged", "root only"),
            ("add --table t -t loop", "expected replicator, found \"loop\""),
            ("recover", "expected -n NUMBER, found none"),
            ("recover -n -1", "expected a number from 0"),
            ("recover -n 0 --table t", "found --table"),
        ] {
            let refusal = parse(&words(wrong)).unwrap_err();
            assert!(refusal.contains(expected), "{wrong}: {refusal}");
        }
    }

    #[test]
    fn the_caller_s_pipe_is_found_whatever_else_is_wrong() {
        assert_eq!(descriptor(&words("add --nonsense --eventfd 9")), Some(9));
        assert_eq!(descriptor(&words("add --eventfd 1 --eventfd 9")), Some(9));
        for none in ["", "add", "add --eventfd", "add --eventfd x", "add --eventfd=9"] {
            assert_eq!(descriptor(&words(none)), None, "{none}");
        }
    }
}
