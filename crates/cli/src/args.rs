//! The command line: dmsetup's verbs and options where it has them.

pub(crate) mod examples;
mod seeing;

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand};

use crate::runtime::Name;

pub(crate) use seeing::{EventsArgs, MetricsArgs, StatusArgs, TopArgs, Watch};

/// Replicates block devices in order, to local and remote sites, from a dm-style table.
#[derive(Debug, Parser)]
#[command(name = "replicator", version, propagate_version = false, disable_help_subcommand = true)]
#[command(after_help = examples::ALL)]
pub(crate) struct Arguments {
    /// Say more; twice for everything.
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What is to be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start the replicators of a table; return when their devices are usable.
    #[command(after_help = examples::CREATE)]
    Create(CreateArgs),
    /// Serve one replicator in the foreground, for a service manager; SIGTERM ends it.
    ///
    /// If a daemon of that name died, its devices and its waiting I/O are taken over.
    #[command(after_help = examples::RUN)]
    Run(RunArgs),
    /// Catch up, stop, and take the devices away.
    #[command(after_help = examples::REMOVE)]
    Remove(RemoveArgs),
    /// Let replicators go on as a changed table says, while they are in use.
    ///
    /// Prints what is different. What can't be changed says so, and then nothing is.
    #[command(after_help = examples::RELOAD)]
    Reload(TableSource),
    /// Call a replicator, or a device, otherwise, while it is in use.
    ///
    /// Returns when its links have the new name, and the old ones are gone.
    #[command(after_help = examples::RENAME)]
    Rename(RenameArgs),
    /// List replicators and their devices.
    #[command(after_help = examples::LS)]
    Ls(ListArgs),
    /// Print tables, in the form that `create` reads.
    #[command(after_help = examples::TABLE)]
    Table(QueryArgs),
    /// Print how replicators and devices are doing.
    #[command(after_help = examples::STATUS)]
    Status(StatusArgs),
    /// Say in a sentence per site why it is not in sync; the exit status is 1 if one is not.
    #[command(after_help = examples::WHY)]
    Why(WhyArgs),
    /// Show how replicators are doing, again and again, on a terminal.
    #[command(after_help = examples::TOP)]
    Top(TopArgs),
    /// Print what happened: states of sites, limits, the log, and what was asked for.
    #[command(after_help = examples::EVENTS)]
    Events(EventsArgs),
    /// Print numbers for Prometheus, or serve them.
    #[command(after_help = examples::METRICS)]
    Metrics(MetricsArgs),
    /// Wait until the sites have everything that is written by now, and are consistent.
    #[command(after_help = examples::WAIT)]
    Wait(WaitArgs),
    /// Hold new requests back, and wait until none is in flight.
    #[command(after_help = examples::SUSPEND)]
    Suspend(SuspendArgs),
    /// Take the requests that were held back, and go on.
    #[command(after_help = examples::RESUME)]
    Resume(ResumeArgs),
    /// Send a message, as `dmsetup message` does.
    Message(MessageArgs),
    /// Tell where a site's copies differ, as `log dirty` printed it: there they are copied.
    #[command(after_help = examples::DIFFERS)]
    Differs(DiffersArgs),
    /// Start a daemon in place of one that died; its devices go on.
    #[command(after_help = examples::RECOVER)]
    Recover(RecoverArgs),
    /// Let this program go on where the daemon's is, while the devices are in use.
    ///
    /// What they are asked meanwhile waits, and nothing fails. A program that can't read what the
    /// daemon has is refused, and then nothing is changed.
    #[command(after_help = examples::UPGRADE)]
    Upgrade(UpgradeArgs),
    /// Look at a log that nobody has open, or cut it where it is damaged.
    #[command(subcommand, after_help = examples::LOG)]
    Log(LogCommand),
    /// Look at a dirty log on a disk that nobody has open, or write its bad blocks anew.
    #[command(subcommand, after_help = examples::DIRTY)]
    Dirty(DirtyCommand),
    /// At a remote site: say whether its devices can be used, as the device of its `mark:` knows.
    #[command(subcommand, after_help = examples::MARK)]
    Mark(MarkCommand),
    /// List the targets that tables can name; with -v, all types.
    #[command(after_help = examples::TARGETS)]
    Targets,
    /// Print the version of this program and of the kernel's driver.
    #[command(after_help = examples::VERSION)]
    Version,
    /// Serve what standard input asks for. Started by the other commands.
    #[command(hide = true)]
    Daemon(DaemonArgs),
    /// Write man pages and completions, for a package.
    #[command(hide = true)]
    Pages(PagesArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    pub(crate) source: TableSource,
    /// Everything that the table names must be there, or nothing is started. Otherwise a
    /// remote site whose devices are absent, busy or hang is down until they are back.
    #[arg(long)]
    pub(crate) require_all: bool,
    /// The devices of the table were a remote site's, and this is where its `mark:` is: start
    /// only if that says that they are consistent.
    #[arg(long, value_name = "DEVICE")]
    pub(crate) mark: Option<PathBuf>,
    /// Start whatever the mark says: applications may find what they never wrote.
    #[arg(long, requires = "mark")]
    pub(crate) force: bool,
}

/// Where a table comes from.
#[derive(Debug, Args)]
pub(crate) struct TableSource {
    /// Table file, lines of `NAME: START LEN TARGET ARGS`; `-` is standard input.
    #[arg(conflicts_with_all = ["table", "concise", "all"])]
    #[arg(required_unless_present_any = ["table", "concise", "all"])]
    pub(crate) file: Option<PathBuf>,
    /// One such line instead of a file; once for each target.
    #[arg(long, value_name = "LINE", conflicts_with_all = ["concise", "all"])]
    pub(crate) table: Vec<String>,
    /// A table in dmsetup's one-line form: `NAME,UUID,MINOR,FLAGS,TABLE[,TABLE];…`.
    #[arg(long, value_name = "SPEC", conflicts_with = "all")]
    pub(crate) concise: Option<String>,
    /// All of /etc/replicator/*.table.
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Table file; `-` is standard input.
    pub(crate) file: PathBuf,
    /// Which replicator of the file, if it has several.
    #[arg(long)]
    pub(crate) name: Option<Name>,
    /// How long SIGTERM may wait for the sites to catch up.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    pub(crate) timeout: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    /// Replicators.
    #[arg(required = true)]
    pub(crate) names: Vec<Name>,
    /// How long to wait for the sites to catch up; if they don't, nothing is removed.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    pub(crate) timeout: Duration,
    /// Don't wait for the sites: the log keeps what they lack, for the next start.
    #[arg(long)]
    pub(crate) no_drain: bool,
    /// Remove it also while a device is in use, or while its daemon is dead.
    #[arg(short, long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RenameArgs {
    /// A replicator or a device.
    pub(crate) name: Name,
    /// What it is to be called.
    #[arg(value_name = "NEW_NAME")]
    pub(crate) to: Name,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Only devices of this target.
    #[arg(long, value_name = "TARGET", value_parser = ["replicator", "replicator-dev"])]
    pub(crate) target: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct QueryArgs {
    /// Replicators or devices; all if none is given.
    pub(crate) names: Vec<Name>,
    /// Print everything, as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Only devices of this target.
    #[arg(long, value_name = "TARGET", value_parser = ["replicator", "replicator-dev"])]
    pub(crate) target: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct WhyArgs {
    /// Replicators; all if none is given.
    pub(crate) names: Vec<Name>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct WaitArgs {
    /// A replicator.
    pub(crate) name: Name,
    /// Only for this site.
    #[arg(long, value_name = "NUMBER")]
    pub(crate) site: Option<u16>,
    /// Also for the comparisons that the message `verify` began; fails if something differs.
    #[arg(long)]
    pub(crate) verified: bool,
    /// How long to wait; without end if not given.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
}

#[derive(Debug, Args)]
pub(crate) struct SuspendArgs {
    /// Replicators or devices.
    #[arg(required = true)]
    pub(crate) names: Vec<Name>,
    /// Don't wait for requests in flight.
    #[arg(long)]
    pub(crate) noflush: bool,
    /// Taken for dmsetup's sake: no file system is ever frozen here.
    #[arg(long, hide = true)]
    pub(crate) nolockfs: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ResumeArgs {
    /// Replicators or devices.
    #[arg(required = true)]
    pub(crate) names: Vec<Name>,
}

#[derive(Debug, Args)]
#[command(after_help = examples::message())]
pub(crate) struct MessageArgs {
    /// A replicator or a device.
    pub(crate) name: Name,
    /// dmsetup's sector; it has no meaning here.
    pub(crate) sector: u64,
    /// The message.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) words: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct DiffersArgs {
    /// A replicator.
    pub(crate) name: Name,
    /// The site whose copies differ.
    pub(crate) site: u16,
    /// What `log dirty` printed; `-` is standard input.
    pub(crate) file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct RecoverArgs {
    /// Replicators whose daemons died.
    #[arg(required = true)]
    pub(crate) names: Vec<Name>,
}

#[derive(Debug, Args)]
pub(crate) struct UpgradeArgs {
    /// Replicators.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub(crate) names: Vec<Name>,
    /// All that there are.
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DaemonArgs {
    /// Go on with this replicator, in the process that has served it so far.
    #[arg(long, value_name = "NAME")]
    pub(crate) succeed: Option<Name>,
    /// Only say whether this program could do that.
    #[arg(long, requires = "succeed")]
    pub(crate) check: bool,
    /// The descriptor of its lock.
    #[arg(long, value_name = "NUMBER", requires = "succeed")]
    pub(crate) lock: Option<i32>,
    /// It serves in the foreground, and SIGTERM waits so long for the sites.
    #[arg(long, value_name = "TIME", requires = "succeed", value_parser = duration)]
    pub(crate) foreground: Option<Duration>,
}

#[derive(Debug, Args)]
pub(crate) struct PagesArgs {
    /// The documents that man pages are made of: `docs` of the repository.
    pub(crate) docs: PathBuf,
    /// Where they go, below `man` and `completions`.
    pub(crate) to: PathBuf,
}

/// Tools for a log.
#[derive(Debug, Subcommand)]
pub(crate) enum LogCommand {
    /// Say what the log holds, and whether it can be opened.
    Check {
        #[command(flatten)]
        place: LogPlace,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// Look also while the log is in use.
        #[arg(long)]
        live: bool,
    },
    /// Print every group and every write of the log.
    Dump {
        #[command(flatten)]
        place: LogPlace,
        /// Print one JSON object a line.
        #[arg(long)]
        json: bool,
        /// Look also while the log is in use.
        #[arg(long)]
        live: bool,
    },
    /// Print where the copies of a site, which took over, may differ from the local ones:
    /// what the log holds beyond what both have. `differs` reads it.
    Dirty {
        #[command(flatten)]
        place: LogPlace,
        /// The site.
        #[arg(long, value_name = "NUMBER")]
        site: u16,
        /// The disk of a dirty log of that site; once for each. Without them all of a device
        /// differs if the site was detached.
        #[arg(long, value_name = "DEVICE")]
        dirty_log: Vec<PathBuf>,
    },
    /// Show what cutting a damaged log costs; do it with --yes.
    Repair {
        #[command(flatten)]
        place: LogPlace,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// Cut the log: what is said to be lost is lost.
        #[arg(short, long)]
        yes: bool,
    },
}

/// Where a log is.
#[derive(Debug, Args)]
pub(crate) struct LogPlace {
    /// The log device.
    pub(crate) device: PathBuf,
    /// The sector at which the log begins on it.
    #[arg(default_value_t = 0)]
    pub(crate) start: u64,
}

/// Tools for a dirty log of type `disk`.
#[derive(Debug, Subcommand)]
pub(crate) enum DirtyCommand {
    /// Say whose dirty log it is, how much is dirty, and whether all of it is believed.
    Check {
        /// The dirty log's disk.
        device: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// Look also while it is in use.
        #[arg(long)]
        live: bool,
    },
    /// Print every dirty range.
    Dump {
        /// The dirty log's disk.
        device: PathBuf,
        /// Print one JSON object a line.
        #[arg(long)]
        json: bool,
        /// Look also while it is in use.
        #[arg(long)]
        live: bool,
    },
    /// Show which blocks are not believed; with --yes, write them anew as all dirty.
    ///
    /// They count as that anyway, and the replicator does the same when it starts.
    Repair {
        /// The dirty log's disk.
        device: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// Write.
        #[arg(short, long)]
        yes: bool,
    },
}

/// Tools for a site's mark.
#[derive(Debug, Subcommand)]
pub(crate) enum MarkCommand {
    /// Say whether the site's devices can be used; the exit status is 1 if not.
    Check {
        /// The device of `mark:`.
        device: PathBuf,
        /// Look also while it is in use.
        #[arg(long)]
        live: bool,
    },
    /// Print what the mark says.
    Dump {
        /// The device of `mark:`.
        device: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// Look also while it is in use.
        #[arg(long)]
        live: bool,
    },
}

/// `90s`, `1500ms`, `5m`, `2h` or plain seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let expected = || "expected a time such as 60s, 1500ms, 5m or 2h".to_owned();
    let unit_ms = match unit {
        "" | "s" => 1000,
        "ms" => 1,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(expected()),
    };
    let ms = number.parse::<u64>().ok().and_then(|n| n.checked_mul(unit_ms));
    ms.filter(|ms| *ms <= DURATION_MS_MAX).map(Duration::from_millis).ok_or_else(expected)
}

/// A year: more is a slip of the finger.
const DURATION_MS_MAX: u64 = 365 * 24 * 3_600_000;

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(words: &str) -> Result<Command, clap::Error> {
        let words = std::iter::once("replicator").chain(words.split_whitespace());
        Arguments::try_parse_from(words).map(|arguments| arguments.command)
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn create_reads_a_file_or_words() {
        let Ok(Command::Create(from_file)) = parse("create tables/two") else { panic!() };
        assert_eq!(from_file.source.file.unwrap().to_str(), Some("tables/two"));
        assert!(parse("create -").is_ok());
        assert!(parse("create --table a --table b").is_ok());
        assert!(parse("create --concise a,,,,b").is_ok());
        assert!(parse("create --all").is_ok());
        assert!(!from_file.require_all);
        let Ok(Command::Create(all)) = parse("create --require-all a") else { panic!() };
        assert!(all.require_all);
        let wrong = ["create", "create a b", "create a --concise b", "create a --table b"];
        let of_two = ["create --table a --concise b", "create --all a", "create --all --table a"];
        for wrong in wrong.into_iter().chain(of_two).chain(["create --all --concise a"]) {
            assert_eq!(parse(wrong).unwrap_err().exit_code(), 2, "{wrong}");
        }
    }

    #[test]
    fn reload_reads_a_table_as_create_does() {
        let Ok(Command::Reload(source)) = parse("reload tables/two") else { panic!() };
        assert_eq!(source.file.unwrap().to_str(), Some("tables/two"));
        assert!(parse("reload --table a --table b").is_ok());
        for wrong in ["reload", "reload a b", "reload a --table b", "reload --require-all a"] {
            assert_eq!(parse(wrong).unwrap_err().exit_code(), 2, "{wrong}");
        }
    }

    #[test]
    fn a_message_takes_the_sector_and_any_words() {
        let Ok(Command::Message(message)) = parse("message repl 0 slink message 1 policy -x --y")
        else {
            panic!()
        };
        assert_eq!(message.words, ["slink", "message", "1", "policy", "-x", "--y"]);
        assert!(parse("message repl resume").is_err(), "the sector is not optional");
        assert!(parse("message repl 0").is_err(), "nor are the words");
    }

    #[test]
    fn remove_waits_a_minute_unless_told_otherwise() {
        let Ok(Command::Remove(remove)) = parse("remove repl") else { panic!() };
        assert_eq!((remove.timeout, remove.force), (Duration::from_secs(60), false));
        let Ok(Command::Remove(remove)) = parse("remove -f a b --timeout 5m") else { panic!() };
        assert_eq!((remove.timeout, remove.names.len()), (Duration::from_secs(300), 2));
    }

    #[test]
    fn wait_is_for_one_replicator_or_one_site_of_it_with_or_without_an_end() {
        let Ok(Command::Wait(wait)) = parse("wait repl") else { panic!() };
        assert_eq!((wait.site, wait.timeout), (None, None));
        let Ok(Command::Wait(wait)) = parse("wait repl --site 3 --timeout 5m") else { panic!() };
        assert_eq!((wait.site, wait.timeout), (Some(3), Some(Duration::from_secs(300))));
        for wrong in ["wait", "wait a b", "wait a --site far", "wait a --timeout soon"] {
            assert_eq!(parse(wrong).unwrap_err().exit_code(), 2, "{wrong}");
        }
    }

    #[test]
    fn times_have_units_and_limits() {
        assert_eq!(duration("1500ms").unwrap(), Duration::from_millis(1500));
        assert_eq!(duration("0").unwrap(), Duration::ZERO);
        for wrong in ["", "s", "-1", "1d", "1.5s", "99999999999999999999", "9000h", "1 s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_log_is_repaired_only_on_a_clear_word() {
        let words = "log repair /dev/sdx 8";
        let Ok(Command::Log(LogCommand::Repair { place, yes, .. })) = parse(words) else {
            panic!()
        };
        assert_eq!((place.start, yes), (8, false));
        assert!(parse("log repair /dev/sdx --yes").is_ok());
        for wrong in ["log", "log repair", "log check a --yes", "log dump a b"] {
            assert_eq!(parse(wrong).unwrap_err().exit_code(), 2, "{wrong}");
        }
    }

    #[test]
    fn a_dirty_log_is_repaired_only_on_a_clear_word() {
        let Ok(Command::Dirty(DirtyCommand::Repair { yes, .. })) = parse("dirty repair /dev/sdx")
        else {
            panic!()
        };
        assert!(!yes && parse("dirty repair /dev/sdx --yes").is_ok());
        for wrong in ["dirty", "dirty check", "dirty dump a --yes", "mark", "mark repair a"] {
            assert_eq!(parse(wrong).unwrap_err().exit_code(), 2, "{wrong}");
        }
        assert!(parse("mark check /dev/sdx").is_ok() && parse("mark dump --json a").is_ok());
    }

    #[test]
    fn a_target_is_one_that_there_is() {
        for right in ["ls --target replicator", "status --target replicator-dev repl"] {
            assert!(parse(right).is_ok(), "{right}");
        }
        for wrong in ["ls --target linear", "table --target x", "status --target replicator_dev"] {
            assert_eq!(parse(wrong).unwrap_err().exit_code(), 2, "{wrong}");
        }
    }

    #[test]
    fn upgrade_is_for_names_or_for_all() {
        let Ok(Command::Upgrade(two)) = parse("upgrade a b") else { panic!() };
        assert_eq!((two.names.len(), two.all), (2, false));
        assert!(parse("upgrade --all").is_ok());
        for wrong in ["upgrade", "upgrade --all a", "daemon --check", "daemon --lock 3"] {
            assert_eq!(parse(wrong).unwrap_err().exit_code(), 2, "{wrong}");
        }
    }

    #[test]
    fn a_name_that_is_a_path_is_a_usage_error() {
        assert_eq!(parse("status ../../etc").unwrap_err().exit_code(), 2);
    }
}
