//! The message `replace-log`: another log in the place of one that was lost, or that works.
//!
//! ```text
//! replace-log                       on the device that the table names, once more
//! replace-log SIZE                  the same, with so many sectors
//! replace-log PATH [START [SIZE]]   on another device
//! ```

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail, ensure};
use blk::{DiskId, Sector, Sectors};
use replicator::message::is_replace_log;
use replicator::{LogWish, Relog};
use table::{Group, LogTable};

use super::drive::random_uuid;
use super::orders::Ask;
use super::served::Daemon;

/// Whether a message is one of these.
pub(super) fn is_it(words: &[String]) -> bool {
    words.first().is_some_and(|word| is_replace_log(word))
}

/// Carries it out; returns when the new log is at work, or could not be made.
pub(super) fn replace_log(daemon: &mut Daemon, ask: &Ask, words: &[String]) -> Result<String> {
    let wish = Wish::parse(&words[1..])?;
    if let Relog::UnderWay(step) = daemon.drive.handle().call(|machine, _| machine.relog())? {
        bail!("the log is being replaced already: {step}");
    }
    let before = daemon.drive.plan()?.log;
    let path = wish.path.unwrap_or_else(|| before.disk.path.clone());
    let same = path == before.disk.path;
    let start = wish.start.unwrap_or(if same { before.table.start } else { Sector(0) });
    let disk = if same { before.disk.id } else { daemon.drive.places().add_log(&path) };
    let uuid = random_uuid()?;
    // One that fails just now is given up like one that works: the table comes first then, too.
    let is_named = daemon.drive.handle().call(|machine, _| machine.has_lost_its_log())?;
    let wish = LogWish { disk, path: path.clone(), start, size: wish.size, uuid, is_named };
    let old = daemon.table.clone();
    let table = renamed(&old, &LogTable { path: path.clone(), start, ..before.table });
    match carry_out(daemon, ask, wish, &table) {
        Err(why) => {
            if !daemon.drive.handle().call(|machine, _| machine.cancel_new_log())? {
                // The old log may be refused by now.
                return Err(why);
            }
            daemon.keep_table(&old)?;
            if !same {
                let_go(daemon, disk)?;
            }
            Err(why)
        }
        Ok(()) => {
            if !same {
                let_go(daemon, before.disk.id)?;
            }
            let now = daemon.drive.plan()?.log.table;
            daemon.keep_table(&renamed(&old, &now))?;
            Ok(format!("the log is on {path} now\n"))
        }
    }
}

/// P8: a crash is followed by one who goes by the table. As long as there is a log at work that
/// has to name it: nothing else knows what is in it. When the local disks stand in for it, what
/// the table names does not matter, and from when the new log is at work the old one is refused.
fn carry_out(daemon: &mut Daemon, ask: &Ask, wish: LogWish, table: &Group) -> Result<()> {
    if wish.is_named {
        daemon.keep_table(table)?;
    }
    daemon.drive.handle().call(move |machine, _| machine.replace_log(wish))??;
    let mut given_up = None;
    loop {
        let handle = daemon.drive.handle();
        match handle.call(|machine, _| machine.relog())? {
            Relog::UnderWay(step) => ask.progress(step),
            Relog::Prepared => {
                handle.call(|machine, now| machine.give_up_log(now))??;
                given_up = Some(Instant::now());
            }
            Relog::GivenUp => {
                daemon.keep_table(table)?;
                daemon.drive.handle().call(|machine, _| machine.begin_new_log())??;
            }
            Relog::Failed(why) => bail!(why),
            Relog::Done => return Ok(()),
        }
        if given_up.is_some_and(|at| at.elapsed() > HOLD_LIMIT) {
            bail!("it takes longer than {HOLD_LIMIT:?}, and everything waits for it: `why` tells");
        }
        thread::sleep(POLL);
    }
}

/// Closes a disk that is no log of this replicator.
fn let_go(daemon: &Daemon, disk: DiskId) -> Result<()> {
    drop(daemon.drive.handle().remove_disk(disk)?);
    daemon.drive.places().forget(disk);
    Ok(())
}

/// What `table` prints, and what a successor goes by, with the new log.
fn renamed(group: &Group, now: &LogTable) -> Group {
    let mut renamed = group.clone();
    let log = &mut renamed.table.log;
    (log.path, log.start) = (now.path.clone(), now.start);
    log.size = log.size.and(now.size);
    renamed
}

/// What the words say.
#[derive(Debug, PartialEq, Eq)]
struct Wish {
    path: Option<String>,
    start: Option<Sector>,
    size: Option<Sectors>,
}

impl Wish {
    fn parse(words: &[String]) -> Result<Self> {
        let (path, numbers) = match words.split_first() {
            Some((path, rest)) if path.starts_with('/') => (Some(path.clone()), rest),
            _ => (None, words),
        };
        let most = if path.is_some() { 2 } else { 1 };
        let expected = "expected `replace-log [SIZE]` or `replace-log PATH [START [SIZE]]`";
        ensure!(numbers.len() <= most, "{expected}, found \"{}\" behind it", numbers[most]);
        let sectors = |word: &String| {
            word.parse().map_err(|_| anyhow!("{expected}, in sectors; found \"{word}\""))
        };
        let numbers = numbers.iter().map(sectors).collect::<Result<Vec<u64>>>()?;
        let (start, size) = match (path.is_some(), &numbers[..]) {
            (true, numbers) => (numbers.first(), numbers.get(1)),
            (false, numbers) => (None, numbers.first()),
        };
        Ok(Self { path, start: start.copied().map(Sector), size: size.copied().map(Sectors) })
    }
}

/// How often it is asked how far it is: writers may be waiting.
const POLL: Duration = Duration::from_millis(5);
/// After this a log that was given up is not waited for any more.
const HOLD_LIMIT: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Wish> {
        let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        Wish::parse(&words)
    }

    #[test]
    fn a_number_alone_is_the_size_and_behind_a_path_where_it_begins() {
        let wish = |path: Option<&str>, start: Option<u64>, size: Option<u64>| Wish {
            path: path.map(str::to_owned),
            start: start.map(Sector),
            size: size.map(Sectors),
        };
        let said = [
            ("", wish(None, None, None)),
            ("8192", wish(None, None, Some(8192))),
            ("/dev/a", wish(Some("/dev/a"), None, None)),
            ("/dev/a 8", wish(Some("/dev/a"), Some(8), None)),
            ("/dev/a 8 4096", wish(Some("/dev/a"), Some(8), Some(4096))),
        ];
        for (text, expected) in said {
            assert_eq!(parse(text).unwrap(), expected, "{text}");
        }
        for text in ["1 2", "/dev/a 1 2 3", "8k", "/dev/a -1", "dev/a"] {
            assert!(
                parse(text).unwrap_err().to_string().contains("expected `replace-log"),
                "{text}"
            );
        }
    }

    #[test]
    fn the_table_names_the_new_log_and_nothing_else_changes() {
        let text = "a: 0 1 replicator ringbuffer 4 /dev/log 0 auto 8192 blockdev 1 0\n\
                    x: 0 4096 replicator-dev a 0 0 1 /dev/x nolog 0\n";
        let group = |text: &str| crate::tables::from_text(text).unwrap().group;
        let before = group(text);
        let now = LogTable {
            path: "/dev/new".to_owned(),
            start: Sector(16),
            size: Some(Sectors(4096)),
            ..before.table.log.clone()
        };
        let expected = text.replace("/dev/log 0 auto 8192", "/dev/new 16 auto 4096");
        assert_eq!(renamed(&before, &now), group(&expected));
    }
}
