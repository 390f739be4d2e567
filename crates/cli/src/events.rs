//! What has been told of a replicator's events, and what is to be said of the next answer.
//!
//! A reader gets every event once and in order; what was overwritten before it was asked for, and a
//! daemon that does not answer, are lines as well. Nothing is missing without being said.

use std::time::{Duration, Instant, SystemTime};

use anyhow::Result;
use serde::Serialize;

use crate::control::{EventsReply, ToldEvent};
use crate::output::{json_line, rfc3339};

/// How far a reader has got with one replicator.
#[derive(Debug, Default)]
pub(crate) struct Cursor {
    /// The daemon whose numbers these are.
    life: Option<String>,
    seen: u64,
    /// It does not answer.
    silence: Option<Silence>,
}

#[derive(Clone, Copy, Debug)]
struct Silence {
    since: Instant,
    told: bool,
}

/// One line of output.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Line {
    pub(crate) replicator: String,
    /// The daemon, within which numbers count.
    #[serde(skip_serializing_if = "Option::is_none")]
    life: Option<String>,
    #[serde(flatten)]
    what: What,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
enum What {
    Event(ToldEvent),
    /// What no daemon says: it is seen by who reads.
    Seen {
        time: String,
        about: &'static str,
        event: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        from: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        to: Option<u64>,
        text: String,
    },
}

impl Cursor {
    /// Of one who knows everything up to the number `seen`.
    pub(crate) fn behind(seen: u64) -> Self {
        Self { seen, ..Self::default() }
    }

    /// The number behind which events are to be asked for.
    pub(crate) fn seen(&self) -> u64 {
        self.seen
    }

    /// What an answer to that says; and whether there is more to be asked for at once.
    pub(crate) fn take(&mut self, name: &str, now: &str, reply: EventsReply) -> (Vec<Line>, bool) {
        self.silence = None;
        let is_other = self.life.as_ref().is_some_and(|life| *life != reply.life);
        self.life = Some(reply.life);
        if is_other {
            // Its numbers begin again; these were asked for by those of another.
            self.seen = 0;
            return (Vec::new(), true);
        }
        let mut lines = Vec::new();
        let begin = reply.events.first().map_or(reply.first, |event| event.record.seq);
        if begin > self.seen + 1 && reply.last > self.seen {
            lines.push(self.gap(name, now, begin - 1));
            self.seen = begin - 1;
        }
        for event in reply.events {
            self.seen = event.record.seq;
            lines.push(self.line(name, What::Event(event)));
        }
        (lines, self.seen < reply.last)
    }

    /// It was asked at `asked` and has not answered by `now`: said once, until it answers; and not
    /// of one that is about to end, or just starts.
    pub(crate) fn unreachable(
        &mut self,
        name: &str,
        asked: Instant,
        now: Instant,
        why: &str,
    ) -> Option<Line> {
        let silence = self.silence.get_or_insert(Silence { since: asked, told: false });
        if silence.told || now.duration_since(silence.since) < SILENCE_MAX {
            return None;
        }
        silence.told = true;
        Some(self.seen_from_here(name, &clock(), "unreachable", why.to_owned()))
    }

    /// There is no such replicator any more.
    pub(crate) fn ended(&self, name: &str, now: &str) -> Line {
        self.seen_from_here(name, now, "ended", "there is no such replicator any more".to_owned())
    }

    fn gap(&self, name: &str, now: &str, to: u64) -> Line {
        let from = self.seen + 1;
        let text = match to - self.seen {
            1 => "1 event is missing: it was overwritten before it was asked for".to_owned(),
            n => {
                format!("{n} events are missing: they were overwritten before they were asked for")
            }
        };
        let (time, about, event) = (now.to_owned(), "events", "gap");
        let (from, to) = (Some(from), Some(to));
        self.line(name, What::Seen { time, about, event, from, to, text })
    }

    fn seen_from_here(&self, name: &str, now: &str, event: &'static str, text: String) -> Line {
        let (time, about, from, to) = (now.to_owned(), "daemon", None, None);
        self.line(name, What::Seen { time, about, event, from, to, text })
    }

    fn line(&self, name: &str, what: What) -> Line {
        Line { replicator: name.to_owned(), life: self.life.clone(), what }
    }
}

/// The wall clock, for what no daemon says.
pub(crate) fn clock() -> String {
    rfc3339(SystemTime::now())
}

/// So long a daemon may not answer that takes its devices away, or opens its log.
const SILENCE_MAX: Duration = Duration::from_secs(2);

impl Line {
    /// For programs.
    pub(crate) fn json(&self) -> Result<String> {
        json_line(self)
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let name = &self.replicator;
        let (time, text) = match &self.what {
            What::Event(ToldEvent { time, record }) => {
                (time, format!("{}{}", record.subject(), record.text))
            }
            What::Seen { time, text, .. } => (time, text.clone()),
        };
        // Others' words may have any character in them, and a line is a line.
        let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        format!("{time} {name}: {text}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use replicator::EventRecord;

    const NOW: &str = "2026-01-01T00:00:00.000Z";

    fn reply(life: &str, first: u64, last: u64, numbers: &[u64]) -> EventsReply {
        let told = |seq: &u64| {
            let (event, text) = ("came_up".to_owned(), "up again".to_owned());
            let about = "site".to_owned();
            let record = EventRecord {
                seq: *seq,
                about,
                slink: Some(1),
                event,
                text,
                ..EventRecord::default()
            };
            ToldEvent { time: NOW.to_owned(), record }
        };
        EventsReply {
            life: life.to_owned(),
            first,
            last,
            events: numbers.iter().map(told).collect(),
        }
    }

    fn taken(cursor: &mut Cursor, reply: EventsReply) -> (Vec<String>, bool) {
        let (lines, more) = cursor.take("repl", NOW, reply);
        let said = |line: &Line| match &line.what {
            What::Event(event) => event.record.seq.to_string(),
            What::Seen { event, from, to, .. } => {
                format!("{event} {}-{}", from.unwrap_or(0), to.unwrap_or(0))
            }
        };
        (lines.iter().map(said).collect(), more)
    }

    #[test]
    fn each_event_is_told_once_and_more_is_asked_for_as_long_as_there_is_more() {
        let mut cursor = Cursor::default();
        let empty: [&str; 0] = [];
        assert_eq!(
            taken(&mut cursor, reply("a", 1, 0, &[])),
            (empty.map(str::to_owned).into(), false)
        );
        let (lines, more) = taken(&mut cursor, reply("a", 1, 4, &[1, 2]));
        assert!(lines == ["1", "2"] && more && cursor.seen() == 2);
        let (lines, more) = taken(&mut cursor, reply("a", 1, 4, &[3, 4]));
        assert!(lines == ["3", "4"] && !more);
        let (lines, more) = taken(&mut cursor, reply("a", 1, 4, &[]));
        assert!(lines.is_empty() && !more);
    }

    #[test]
    fn what_was_overwritten_is_told_as_a_gap() {
        let mut cursor = Cursor::behind(3);
        let (lines, more) = taken(&mut cursor, reply("a", 9, 10, &[9, 10]));
        assert!(lines == ["gap 4-8", "9", "10"] && !more);
        let mut cursor = Cursor::default();
        let (lines, _) = taken(&mut cursor, reply("a", 2, 2, &[2]));
        assert_eq!(lines, ["gap 1-1", "2"]);
    }

    #[test]
    fn another_daemon_begins_again() {
        let mut cursor = Cursor::default();
        taken(&mut cursor, reply("a", 1, 7, &[7]));
        let (lines, more) = taken(&mut cursor, reply("b", 1, 9, &[8, 9]));
        assert!(lines.is_empty() && more && cursor.seen() == 0, "these are not all of b's");
        let (lines, _) = taken(&mut cursor, reply("b", 1, 2, &[1, 2]));
        assert_eq!(lines, ["1", "2"]);
    }

    #[test]
    fn a_number_that_is_not_there_yet_is_waited_for() {
        let mut cursor = Cursor::behind(100);
        let (lines, more) = taken(&mut cursor, reply("a", 1, 4, &[]));
        assert!(lines.is_empty() && !more && cursor.seen() == 100);
    }

    #[test]
    fn a_daemon_that_does_not_answer_is_told_once_each_time() {
        let mut cursor = Cursor::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let why = "its daemon is gone";
        let told = |cursor: &mut Cursor, asked, now| {
            let line = cursor.unreachable("repl", at(asked), at(now), why);
            line.map(|line| line.text().split_once(' ').unwrap().1.to_owned())
        };
        assert_eq!(told(&mut cursor, 10, 10), None, "it may be about to end");
        assert_eq!(told(&mut cursor, 11, 11), None);
        assert_eq!(told(&mut cursor, 12, 12).as_deref(), Some("repl: its daemon is gone\n"));
        assert_eq!(told(&mut cursor, 13, 99), None);
        cursor.take("repl", NOW, reply("a", 1, 0, &[]));
        assert_eq!(told(&mut cursor, 100, 100), None);
        assert!(told(&mut cursor, 101, 111).is_some());
        cursor.take("repl", NOW, reply("a", 1, 0, &[]));
        assert!(told(&mut cursor, 200, 210).is_some(), "it has been silent for long");
    }

    #[test]
    fn a_line_is_one_object_or_one_sentence() {
        let (mut lines, _) = Cursor::default().take("repl", NOW, reply("a", 1, 1, &[1]));
        let line = &mut lines[0];
        assert_eq!(line.text(), format!("{NOW} repl: site 1: up again\n"));
        let text = line.json().unwrap();
        assert_eq!(text.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let expected = serde_json::json!({
            "replicator": "repl", "life": "a", "time": NOW, "seq": 1, "seconds": 0.0,
            "about": "site", "slink": 1, "event": "came_up", "text": "up again",
        });
        assert_eq!(value, expected);
        let What::Event(event) = &mut line.what else { panic!() };
        event.record.text = "asked for: bookmark a\n\x1b[2Jb".to_owned();
        assert_eq!(line.text().matches(['\n', '\x1b']).count(), 1);
    }
}
