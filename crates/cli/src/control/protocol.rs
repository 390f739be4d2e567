//! The words of the control socket. A request is one line; its replies are any number of
//! `progress` lines and then one `ok` or `error`.
//!
//! ```text
//! > {"verb":"suspend","device":"data","wait":true}
//! < {"progress":"3 requests in flight"}
//! < {"ok":null}
//! ```

use replicator::EventRecord;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a daemon can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Request {
    /// Who are you, and which devices do you serve? Answered with [`Info`].
    Info {},
    /// How are you? Answered with [`StatusReply`].
    Status {},
    /// What happened behind the event with this number? Answered with [`EventsReply`].
    Events { since: u64 },
    /// Park new requests of one device or all; with `wait`, until nothing is in flight.
    Suspend { device: Option<String>, wait: bool },
    /// Take the parked requests and go on.
    Resume { device: Option<String> },
    /// A message to the replicator or, with `device`, to one of its devices.
    Message { device: Option<String>, words: Vec<String> },
    /// Let one device of this table be had, which may be new to the replicator. Answered with the N
    /// of its `/dev/ublkbN`.
    Add { table: String, wish: Wish },
    /// Go on as this table says. Answered with a sentence for each thing that is different.
    Reload { table: String },
    /// Call a device `to` from now on or, without one, the replicator.
    Rename { device: Option<String>, to: String },
    /// Become the program at this path. Answered with its version when it is sure that it can go on,
    /// and nobody is served here any more.
    Upgrade { program: String },
    /// End: catch up (within the limit), stop, take the devices away.
    Remove { drain: bool, force: bool, limit_ms: u64 },
}

/// One device to be had, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wish {
    /// Its name.
    pub(crate) device: String,
    /// The N of `/dev/ublkbN`, if not any.
    pub(crate) ublk: Option<u32>,
    /// Requests in flight, if not as many as usual.
    pub(crate) depth: Option<u16>,
    /// The longest request in sectors, if shorter than usual.
    pub(crate) request_max: Option<u64>,
}

/// One line of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reply {
    /// Still at it; for people.
    Progress(String),
    /// Done.
    Ok(Value),
    /// Not done, and why; one sentence.
    Error(String),
}

/// A daemon in a few words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Info {
    pub(crate) pid: u32,
    pub(crate) version: String,
    /// `running`, `suspended`, `stopping`, …
    pub(crate) state: String,
    pub(crate) devices: Vec<InfoDevice>,
}

/// A device in a few words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InfoDevice {
    pub(crate) name: String,
    pub(crate) path: String,
    pub(crate) suspended: bool,
}

/// Status: the 2009 lines, and all there is to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StatusReply {
    pub(crate) lines: Vec<TableLine>,
    pub(crate) detail: Value,
}

/// Some events, the next ones in order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct EventsReply {
    /// Another one for each daemon: numbers begin again with it.
    pub(crate) life: String,
    /// The oldest number that is kept.
    pub(crate) first: u64,
    /// The newest there ever was.
    pub(crate) last: u64,
    pub(crate) events: Vec<ToldEvent>,
}

/// An event, and when it was by the wall clock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ToldEvent {
    /// As RFC 3339 has it, in UTC.
    pub(crate) time: String,
    #[serde(flatten)]
    pub(crate) record: EventRecord,
}

/// `NAME: START LEN TARGET TEXT`, the shape of `dmsetup table` and `dmsetup status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TableLine {
    pub(crate) name: String,
    pub(crate) start: u64,
    pub(crate) len: u64,
    pub(crate) target: String,
    pub(crate) text: String,
}

impl Request {
    /// Reads a request, whatever the bytes.
    pub(crate) fn parse(line: &[u8]) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(line)
            .map_err(|error| format!("expected one JSON object a line, found {error}"))?;
        serde_json::from_value(value).map_err(|error| format!("expected a request, found {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_survives_the_line() {
        let requests = [
            Request::Info {},
            Request::Status {},
            Request::Events { since: 7 },
            Request::Suspend { device: Some("data".into()), wait: true },
            Request::Resume { device: None },
            Request::Message { device: None, words: vec!["resume".into(), "a b\n".into()] },
            Request::Add { table: "a: 0 1\n".into(), wish: Wish::default() },
            Request::Reload { table: "a: 0 1\nb: 0 1\n".into() },
            Request::Rename { device: Some("data".into()), to: "b".into() },
            Request::Upgrade { program: "/usr/bin/replicator".into() },
            Request::Remove { drain: true, force: false, limit_ms: 60_000 },
        ];
        for request in requests {
            let line = serde_json::to_vec(&request).unwrap();
            assert!(!line.contains(&b'\n'), "{request:?} needs more than one line");
            assert_eq!(Request::parse(&line).unwrap(), request);
        }
    }

    #[test]
    fn whatever_is_no_request_is_answered_with_what_was_expected() {
        let hostile: [(&[u8], &str); 9] = [
            (b"", "expected one JSON object a line"),
            (b"{", "expected one JSON object a line"),
            (b"\xff\xfe", "expected one JSON object a line"),
            (b"null", "expected a request"),
            (b"[1,2]", "expected a request"),
            (b"{\"verb\":\"format\"}", "unknown variant `format`"),
            (b"{\"verb\":\"info\",\"more\":1}", "unknown field `more`"),
            (b"{\"verb\":\"suspend\",\"wait\":1}", "invalid type"),
            (b"{\"verb\":\"remove\"}", "missing field"),
        ];
        for (line, expected) in hostile {
            let refusal = Request::parse(line).unwrap_err();
            assert!(refusal.contains(expected), "{line:?}: {refusal}");
        }
    }

    #[test]
    fn a_deeply_nested_line_is_refused_and_does_not_exhaust_the_stack() {
        let line = "[".repeat(60_000);
        assert!(Request::parse(line.as_bytes()).unwrap_err().contains("recursion limit"));
    }
}
