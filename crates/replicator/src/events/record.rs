//! One event as data: what `events --json` prints, but for the name and the wall clock.

use blk::Time;
use replog::LogEvent;
use serde::{Deserialize, Serialize};
use slink::event::Why;
use slink::{Failure, SiteEvent, Transition};

use super::{Event, Note};

/// Events behind a number.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EventPage {
    /// The number of the oldest event that is kept. What is before it made room.
    pub first: u64,
    /// The number of the newest there ever was.
    pub last: u64,
    /// The next ones, in order.
    pub records: Vec<EventRecord>,
}

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EventRecord {
    /// Its number.
    pub seq: u64,
    /// When, from the start of the daemon.
    pub seconds: f64,
    /// `site`, `log` or `replicator`.
    pub about: String,
    /// The site, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub slink: Option<u16>,
    /// What happened, in one word.
    pub event: String,
    /// The number of the device that failed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub dev: Option<u32>,
    /// Why, in one word.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// Ranges that differ.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ranges: Option<u64>,
    /// What happened, for people.
    pub text: String,
}

impl EventRecord {
    pub(crate) fn of(seq: u64, event: &Event) -> Self {
        match event {
            Event::Site(event) => Self { seq, ..Self::of_site(event) },
            Event::Log { at, what } => Self {
                seq,
                seconds: seconds(*at),
                about: "log".to_owned(),
                event: of_log(what).to_owned(),
                text: what.to_string(),
                ..Self::default()
            },
            Event::Group { at, what } => Self {
                seq,
                seconds: seconds(*at),
                about: "replicator".to_owned(),
                event: of_group(what).to_owned(),
                text: what.to_string(),
                ..Self::default()
            },
        }
    }

    fn of_site(event: &SiteEvent) -> Self {
        let (dev, reason, ranges) = match &event.what {
            Transition::WentDown(down) => (Some(down.dev.0), Some(of_failure(&down.how)), None),
            Transition::Detached(why) => (None, Some(of_why(*why)), None),
            Transition::Verified(ranges) => (None, None, Some(*ranges)),
            _ => (None, None, None),
        };
        Self {
            seconds: seconds(event.at),
            about: "site".to_owned(),
            slink: Some(event.slink.0),
            event: snake(event.what.name()),
            dev,
            reason: reason.map(str::to_owned),
            ranges,
            text: event.what.to_string(),
            ..Self::default()
        }
    }

    /// Whom it is about, as sentences begin.
    #[must_use]
    pub fn subject(&self) -> String {
        match self.slink {
            Some(slink) => format!("site {slink}: "),
            None if self.about == "log" => "the log: ".to_owned(),
            None => String::new(),
        }
    }
}

fn seconds(at: Time) -> f64 {
    at.since(Time(0)).as_secs_f64()
}

/// `WentDown` as programs like it: `went_down`.
fn snake(name: &str) -> String {
    let mut word = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !word.is_empty() {
            word.push('_');
        }
        word.extend(letter.to_lowercase());
    }
    word
}

fn of_log(what: &LogEvent) -> &'static str {
    match what {
        LogEvent::Lost(_) => "lost",
        LogEvent::GivenUp => "given_up",
        LogEvent::NotKept(_) => "not_kept",
        LogEvent::Bypassed => "bypassed",
        LogEvent::Replaced { .. } => "replaced",
        LogEvent::NotReplaced(_) => "not_replaced",
    }
}

fn of_group(what: &Note) -> &'static str {
    match what {
        Note::Started(_) => "started",
        Note::Recovered(_) => "recovered",
        Note::Asked(_) => "asked",
        Note::Refused(_) => "refused",
        Note::Stopping(_) => "stopping",
    }
}

/// The words of `failure.how` in the status.
fn of_failure(how: &Failure) -> &'static str {
    match how {
        Failure::Error(_) => "error",
        Failure::Hung => "hung",
        Failure::NotOpened(_) => "not_opened",
        Failure::Unfit(_) => "unfit",
        Failure::Asked => "asked",
    }
}

fn of_why(why: Why) -> &'static str {
    match why {
        Why::LogFull => "log_full",
        Why::Limit => "limit",
        Why::Asked => "asked",
        Why::Differs => "differs",
        Why::LogLost => "log_lost",
        Why::Grown => "grown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use blk::{Errno, SlinkNr};
    use std::collections::BTreeSet;

    const PAGE: &str = include_str!("../../../../docs/monitoring.md");

    fn events() -> Vec<Event> {
        let at = Time(1_500_000_000);
        let site = |what| Event::Site(SiteEvent { at, slink: SlinkNr(2), what });
        let log = [LogEvent::GivenUp, LogEvent::NotKept(Errno::EIO), LogEvent::Bypassed];
        let text = || "down 1".to_owned();
        let notes = [
            Note::Started(1),
            Note::Recovered(1),
            Note::Asked(text()),
            Note::Refused(text()),
            Note::Stopping(text()),
        ];
        let sites = Transition::all().into_iter().map(site);
        let log = log.into_iter().map(|what| Event::Log { at, what });
        sites.chain(log).chain(notes.into_iter().map(|what| Event::Group { at, what })).collect()
    }

    #[test]
    fn every_word_of_an_event_stands_in_the_page_on_monitoring() {
        let (_, page) = PAGE.split_once("\n## Events\n").unwrap();
        let records = events().into_iter().map(|event| EventRecord::of(7, &event));
        let words = records.flat_map(|it| [it.about, it.event].into_iter().chain(it.reason));
        let more = ["lost", "replaced", "not_replaced", "not_opened", "unfit", "error"];
        let words: BTreeSet<String> = words.chain(more.map(str::to_owned)).collect();
        let missing: Vec<_> =
            words.iter().filter(|word| !page.contains(&format!("`{word}`"))).collect();
        assert!(missing.is_empty(), "docs/monitoring.md: {missing:?}");
    }

    #[test]
    fn a_record_has_what_is_known_and_nothing_else() {
        let mut records = events().into_iter().map(|event| EventRecord::of(7, &event));
        let down = serde_json::to_value(records.next().unwrap()).unwrap();
        let text = "down: a write for device 0 hangs; the log keeps what it lacks";
        let expected = serde_json::json!({
            "seq": 7, "seconds": 1.5, "about": "site", "slink": 2, "event": "went_down",
            "dev": 0, "reason": "hung", "text": text,
        });
        assert_eq!(down, expected);
        let up = serde_json::to_value(records.next().unwrap()).unwrap();
        assert_eq!(up.get("dev"), None);
    }

    #[test]
    fn a_record_survives_the_socket() {
        for event in events() {
            let record = EventRecord::of(7, &event);
            let text = serde_json::to_string(&record).unwrap();
            assert_eq!(serde_json::from_str::<EventRecord>(&text).unwrap(), record);
        }
    }
}
