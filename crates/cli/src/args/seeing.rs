//! The options of those verbs that only look, and go on looking.

use std::time::Duration;

use clap::Args;

use super::{QueryArgs, duration};
use crate::metrics::Address;
use crate::runtime::Name;

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) query: QueryArgs,
    /// Again and again, every 2 s if not said otherwise; Ctrl-C ends it. A terminal is drawn
    /// anew; elsewhere each is appended, JSON as one line.
    #[arg(long, value_name = "TIME", num_args = 0..=1, default_missing_value = "2s")]
    pub(crate) watch: Option<Watch>,
}

/// What follows `--watch`, which may be left out, and then a name may follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Watch {
    Every(Duration),
    Named(Name),
}

#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    /// Replicators; all if none is given.
    pub(crate) names: Vec<Name>,
    /// Print it once, as 80 columns if this is no terminal, and end.
    #[arg(long)]
    pub(crate) once: bool,
    /// How often to look.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = pause)]
    pub(crate) every: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Replicators; all if none is given.
    pub(crate) names: Vec<Name>,
    /// Print one JSON object a line.
    #[arg(long)]
    pub(crate) json: bool,
    /// Go on with what happens from now on, until Ctrl-C, or the replicators end.
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only those with a higher number.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub(crate) since: u64,
}

#[derive(Debug, Args)]
pub(crate) struct MetricsArgs {
    /// Replicators; all there are, whenever it is asked, if none is given.
    pub(crate) names: Vec<Name>,
    /// Serve them as `/metrics` by HTTP: `127.0.0.1:PORT`, `[::1]:PORT` or `unix:PATH`.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<Address>,
}

impl std::str::FromStr for Watch {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match pause(text) {
            Ok(pause) => Ok(Self::Every(pause)),
            // A name that begins like a time is given before `--watch`.
            Err(error) if text.starts_with(|c: char| c.is_ascii_digit()) => Err(error),
            Err(_) => text.parse().map(Self::Named).map_err(|error| format!("{error:#}")),
        }
    }
}

/// A time between two looks: daemons have other things to do, too.
fn pause(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        pause if pause < PAUSE_MIN => Err("expected at least 100ms".to_owned()),
        pause => Ok(pause),
    }
}

const PAUSE_MIN: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Arguments, Command};
    use clap::Parser;

    fn parse(words: &str) -> Result<Command, clap::Error> {
        let words = std::iter::once("replicator").chain(words.split_whitespace());
        Arguments::try_parse_from(words).map(|arguments| arguments.command)
    }

    fn watched(words: &str) -> (Option<Watch>, usize) {
        let Ok(Command::Status(args)) = parse(words) else { panic!("{words}") };
        (args.watch, args.query.names.len())
    }

    #[test]
    fn a_status_is_watched_every_two_seconds_or_as_often_as_one_likes() {
        let every = |seconds| Some(Watch::Every(Duration::from_secs(seconds)));
        assert_eq!(watched("status"), (None, 0));
        assert_eq!(watched("status --watch"), (every(2), 0));
        assert_eq!(watched("status --watch 5"), (every(5), 0));
        assert_eq!(watched("status repl --watch 5m"), (every(300), 1));
        assert_eq!(watched("status --watch --json repl"), (every(2), 1));
        let named = Some(Watch::Named("repl".parse().unwrap()));
        assert_eq!(watched("status --watch repl other"), (named, 1));
        for wrong in ["status --watch 0", "status --watch 5x", "status --watch=../a"] {
            assert_eq!(parse(wrong).unwrap_err().exit_code(), 2, "{wrong}");
        }
    }

    #[test]
    fn events_are_followed_on_request() {
        let Ok(Command::Events(args)) = parse("events --json -f a b --since 7") else { panic!() };
        assert_eq!((args.json, args.follow, args.since, args.names.len()), (true, true, 7, 2));
        for wrong in ["events --since x", "events --since -1", "events ../a"] {
            assert_eq!(parse(wrong).unwrap_err().exit_code(), 2, "{wrong}");
        }
    }

    #[test]
    fn metrics_are_served_to_this_host_only() {
        for right in ["127.0.0.1:9917", "[::1]:9917", "127.8.9.1:1", "unix:/run/x"] {
            assert!(parse(&format!("metrics --listen {right}")).is_ok(), "{right}");
        }
        let wrong = ["0.0.0.0:9917", "[::]:1", "10.0.0.1:1", "127.0.0.1", "unix:", "unix:a", "x"];
        for wrong in wrong.map(|it| format!("metrics --listen {it}")) {
            let error = parse(&wrong).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{wrong}");
            assert!(error.to_string().contains("expected"), "{wrong}: {error}");
        }
    }

    #[test]
    fn top_looks_no_more_often_than_it_may() {
        let Ok(Command::Top(args)) = parse("top --once repl") else { panic!() };
        assert_eq!((args.once, args.every), (true, Duration::from_secs(1)));
        assert!(parse("top --every 100ms").is_ok());
        assert_eq!(parse("top --every 99ms").unwrap_err().exit_code(), 2);
    }
}
