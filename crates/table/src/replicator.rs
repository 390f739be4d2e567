//! The arguments of the `replicator` target:
//!
//! ```text
//! ringbuffer <#replog_params> <dev_path> <dev_start> [<mode> <size>] [key:value]...
//! { blockdev <#slink_params> <slink_nr> [<slink_policy> [<fall_behind> <N>]] [key:value]... }+
//! ```

use blk::{Sector, Sectors, SlinkNr};

use crate::args::{Args, Counted};
use crate::error::Fault;
use crate::limits::{LOG_SECTORS_MIN, SECTORS_MAX, SITES_MAX};
use crate::name::path;
use crate::options::{count_positional, read_log, read_slink};
use crate::origin::{Part, Places};
use crate::spelling::{LOG_TYPES, MODES, SLINK_TYPES, SYNCS, choose, find};
use crate::words::Word;
use crate::{
    ErrorKind, FallBehind, LogTable, Mode, Policy, ReplicatorTable, SlinkTable, Sync, units,
};

/// Reads the arguments behind the word `replicator`.
pub(crate) fn read(args: &mut Args<'_>, places: &mut Places) -> Result<ReplicatorTable, Fault> {
    let log = log(args, places)?;
    let mut slinks: Vec<SlinkTable> = Vec::new();
    while slinks.is_empty() || !args.is_empty() {
        let (kind, count) = slink_head(args, slinks.len())?;
        let (nr, word) = slink_nr(&mut count.args())?;
        check_nr(nr, word, &slinks, places)?;
        places.note(Part::SlinkNr(slinks.len()), word);
        slinks.push(slink(kind, nr, &count, slinks.len(), places)?);
    }
    Ok(ReplicatorTable { log, slinks })
}

/// A site link number, 0..=2047.
pub(crate) fn slink_nr<'w>(args: &mut Args<'w>) -> Result<(SlinkNr, &'w Word<'w>), Fault> {
    let (nr, word) = args.number("<slink_nr>", 0..u64::from(SlinkNr::MAX.0) + 1)?;
    Ok((SlinkNr(u16::try_from(nr).expect("the range fits 16 bits")), word))
}

fn log(args: &mut Args<'_>, places: &mut Places) -> Result<LogTable, Fault> {
    let kind = choose("<replog_type>", args.next("<replog_type>", "`ringbuffer`")?, LOG_TYPES)?;
    let count = args.counted("#replog_params")?;
    let positional = count_positional(count.words);
    let mut params = count.args();
    let word = match positional {
        2 | 4 => params.next("<dev_path>", "the log device")?,
        _ => return Err(count.wrong(LOG_COUNTS, positional)),
    };
    let path = path("<dev_path>", word)?;
    places.note(Part::LogPath, word);
    let (start, _) = params.number("<dev_start> (sectors)", 0..SECTORS_MAX.0 + 1)?;
    let (mode, size) = match positional {
        4 => mode_and_size(&mut params)?,
        _ => (Mode::Open, None),
    };
    let mut log = LogTable {
        kind: kind.to_owned(),
        path,
        start: Sector(start),
        mode,
        size,
        tail_bytes: None,
        ld_lag: None,
    };
    read_log(&count.words[positional..], &mut log)?;
    Ok(log)
}

fn mode_and_size(params: &mut Args<'_>) -> Result<(Mode, Option<Sectors>), Fault> {
    let mode = choose("<mode>", params.next("<mode>", "how to open the log")?, MODES)?;
    Ok((mode, Some(log_size("<size> (sectors)", params)?)))
}

/// A size that a log may have.
pub(crate) fn log_size(argument: &'static str, args: &mut Args<'_>) -> Result<Sectors, Fault> {
    let (size, _) = args.number(argument, LOG_SECTORS_MIN.0..SECTORS_MAX.0 + 1)?;
    Ok(Sectors(size))
}

/// The type and the parameters of the `nth` site link.
fn slink_head<'w>(args: &mut Args<'w>, nth: usize) -> Result<(&'static str, Counted<'w>), Fault> {
    let word = args.next("<slink_type>", "`blockdev`")?;
    let Some(kind) = find(&word.text, SLINK_TYPES) else {
        let kind = ErrorKind::Next {
            argument: "<slink_type>",
            expected: "`blockdev`",
            found: word.owned(),
            count: if nth == 0 { "#replog_params" } else { "#slink_params" },
        };
        return Err(word.fault(kind));
    };
    if nth == SITES_MAX {
        return Err(word.fault(ErrorKind::Sites));
    }
    let count = args.counted("#slink_params")?;
    if count.words.is_empty() {
        return Err(count.wrong(SLINK_COUNTS, 0));
    }
    Ok((kind, count))
}

/// Site link 0 comes first, and each number once.
fn check_nr(
    nr: SlinkNr,
    word: &Word<'_>,
    slinks: &[SlinkTable],
    places: &Places,
) -> Result<(), Fault> {
    if slinks.is_empty() && !nr.is_local() {
        return Err(word.fault(ErrorKind::FirstSlink { found: nr }));
    }
    let Some(taken) = slinks.iter().position(|slink| slink.nr == nr) else { return Ok(()) };
    let fault = word.fault(ErrorKind::SlinkTwice { nr });
    Err(fault.with_first(places.find(Part::SlinkNr(taken))))
}

/// The parameters behind the number of the `nth` site link.
pub(crate) fn slink(
    kind: &str,
    nr: SlinkNr,
    count: &Counted<'_>,
    nth: usize,
    places: &mut Places,
) -> Result<SlinkTable, Fault> {
    let (params, options) = count.words.split_at(count_positional(count.words));
    let (policy_word, limit) = match params {
        [_] => (None, None),
        [_, policy] => (Some(policy), None),
        [_, policy, glued] if glued.text.contains('=') => (Some(policy), glued.split_once('=')),
        [_, policy, word, n] => (Some(policy), Some((word.clone(), n.clone()))),
        _ => return Err(count.wrong(SLINK_COUNTS, params.len())),
    };
    let policy = policy_word.map(policy).transpose()?;
    let fall_behind = limit.map(|(word, n)| fall_behind(policy, &word, &n)).transpose()?;
    let options = read_slink(options, nth, places)?;
    Ok(SlinkTable { kind: kind.to_owned(), nr, policy, fall_behind, options })
}

/// Words joined by `+`: one of `sync` and `async`, and `stall`.
pub(crate) fn policy(word: &Word<'_>) -> Result<Policy, Fault> {
    let (mut sync, mut stall) = (None, false);
    for part in word.split('+') {
        let fault = |kind| Err(part.fault(kind));
        match (find(&part.text, SYNCS), &*part.text) {
            (None, "stall") if stall => return fault(ErrorKind::PolicyTwice { word: "stall" }),
            (None, "stall") => stall = true,
            (None, _) => {
                let allowed = vec!["sync", "async", "stall"];
                let (argument, found) = ("<slink_policy>", part.owned());
                return fault(ErrorKind::Word { argument, allowed, found });
            }
            (found, _) if sync.is_none() => sync = found,
            (found, _) if sync != found => return fault(ErrorKind::PolicyConflict),
            (Some(Sync::Sync), _) => return fault(ErrorKind::PolicyTwice { word: "sync" }),
            (Some(Sync::Async), _) => return fault(ErrorKind::PolicyTwice { word: "async" }),
        }
    }
    Ok(Policy { sync: sync.unwrap_or(Sync::Async), stall })
}

/// A limit, which a site that can't fall behind may not have.
fn fall_behind(policy: Option<Policy>, word: &Word<'_>, n: &Word<'_>) -> Result<FallBehind, Fault> {
    let limit = limit(word, n)?;
    let sync = policy.is_some_and(|policy| policy.sync == Sync::Sync);
    if sync && !limit.is_unlimited() {
        return Err(word.fault(ErrorKind::SyncFallBehind { found: word.owned() }));
    }
    Ok(limit)
}

/// A limit: which one, in any abbreviation and case as in 2009, and how much.
pub(crate) fn limit(word: &Word<'_>, n: &Word<'_>) -> Result<FallBehind, Fault> {
    let given = word.text.to_ascii_lowercase();
    let full = FALL_BEHINDS.iter().find(|full| !given.is_empty() && full.starts_with(&given));
    match full.copied() {
        Some("ios") => ios(n),
        Some("timeout") => Ok(FallBehind::Timeout(units::time("<N>", n)?)),
        Some(_) => Ok(FallBehind::Size(units::size("<N>", n)?)),
        None => {
            let (argument, allowed) = ("<fall_behind>", vec!["ios", "size", "timeout"]);
            let found = word.owned();
            Err(word.fault(ErrorKind::Word { argument, allowed, found }))
        }
    }
}

fn ios(n: &Word<'_>) -> Result<FallBehind, Fault> {
    let (argument, expected, found) = ("<N>", "a whole number of writes", n.owned());
    let ios = units::digits(&n.text);
    ios.map(FallBehind::Ios)
        .ok_or_else(|| n.fault(ErrorKind::Quantity { argument, expected, found }))
}

/// `data` is what LVM's tables called `size`.
const FALL_BEHINDS: [&str; 4] = ["ios", "size", "data", "timeout"];

const LOG_COUNTS: &str = "2 parameters (<dev_path> <dev_start>) or 4 (and <mode> <size>) before \
                          the options";

const SLINK_COUNTS: &str = "1 parameter (<slink_nr>), 2 (and <slink_policy>) or 4 (and \
                            <fall_behind> <N>) before the options";
