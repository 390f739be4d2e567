//! What happened lately to the sites, to the log and to the replicator: each a line in the daemon's
//! log, and there to be looked at for a while (P13).
//!
//! Each has a number, one more than the one before, from 1 on. So whoever asks for those behind a
//! number gets every one of them, or sees which are missing: the oldest make room for the newest.

pub mod record;

use std::collections::VecDeque;
use std::fmt;

use blk::{SlinkNr, Time};
use replog::LogEvent;
use slink::SiteEvent;

use crate::machine::Replicator;

pub use record::{EventPage, EventRecord};

/// The newest of them, oldest first; at most [`KEPT`].
#[derive(Debug, Default)]
pub(crate) struct Events {
    all: VecDeque<Event>,
    /// The number of the newest there ever was.
    last: u64,
}

#[derive(Debug)]
pub(crate) enum Event {
    Site(SiteEvent),
    Log { at: Time, what: LogEvent },
    Group { at: Time, what: Note },
}

/// What whoever drives a replicator did with it, or was asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// It serves so many devices.
    Started(usize),
    /// It serves the devices of a daemon that died.
    Recovered(usize),
    /// Somebody asked for this. What comes of it comes behind it.
    Asked(String),
    /// And was refused, with this sentence.
    Refused(String),
    /// It ends, as somebody wants it.
    Stopping(String),
}

impl Events {
    pub(crate) fn of_sites(&mut self, events: Vec<SiteEvent>) {
        self.add(events.into_iter().map(Event::Site));
    }

    pub(crate) fn of_log(&mut self, at: Time, events: Vec<LogEvent>) {
        self.add(events.into_iter().map(|what| Event::Log { at, what }));
    }

    /// Of the group as a whole; nothing in it is longer than [`TEXT_MAX`].
    pub(crate) fn of_group(&mut self, at: Time, what: Note) {
        self.keep(Event::Group { at, what: what.cut() });
    }

    fn add(&mut self, events: impl Iterator<Item = Event>) {
        for event in events {
            log::warn!("{event}");
            self.keep(event);
        }
    }

    fn keep(&mut self, event: Event) {
        self.all.push_back(event);
        self.last += 1;
        let excess = self.all.len().saturating_sub(KEPT);
        self.all.drain(..excess);
    }

    /// Each with its number.
    fn numbered(&self) -> impl Iterator<Item = (u64, &Event)> {
        let first = self.last - self.all.len() as u64 + 1;
        self.all.iter().enumerate().map(move |(at, event)| (first + at as u64, event))
    }

    /// The first of those behind the one with the number `since`, at most `most`.
    pub(crate) fn since(&self, since: u64, most: usize) -> EventPage {
        let first = self.last - self.all.len() as u64 + 1;
        // As many as that are older: none is looked at that nobody asked for.
        let skip = usize::try_from(since.saturating_add(1).saturating_sub(first));
        let behind = self.numbered().skip(skip.unwrap_or(usize::MAX)).take(most);
        let records = behind.map(|(seq, event)| EventRecord::of(seq, event)).collect();
        EventPage { first, last: self.last, records }
    }

    /// The newest few of sites and log, oldest first.
    pub(crate) fn shown(&self) -> impl Iterator<Item = &Event> {
        let of_group = |event: &&Event| matches!(event, Event::Group { .. });
        let newest: Vec<&Event> =
            self.all.iter().rev().filter(|event| !of_group(event)).take(SHOWN).collect();
        newest.into_iter().rev()
    }

    /// Those of one site.
    pub(crate) fn of(&self, slink: SlinkNr) -> impl DoubleEndedIterator<Item = &SiteEvent> {
        let of_sites = self.all.iter().filter_map(|event| match event {
            Event::Site(event) => Some(event),
            Event::Log { .. } | Event::Group { .. } => None,
        });
        of_sites.filter(move |event: &&SiteEvent| event.slink == slink)
    }
}

impl Replicator {
    /// Whoever drives it did something, or was asked to.
    pub fn note(&mut self, now: Time, what: Note) {
        self.events.of_group(now, what);
    }

    /// What happened behind the event with the number `since`, at most `most` events.
    #[must_use]
    pub fn events_since(&self, since: u64, most: usize) -> EventPage {
        self.events.since(since, most)
    }
}

impl Note {
    /// What others say is kept, but not at any length (P13).
    fn cut(self) -> Self {
        let cut = |text: String| match text.char_indices().nth(TEXT_MAX) {
            Some((end, _)) => text[..end].to_owned() + "…",
            None => text,
        };
        match self {
            Self::Asked(text) => Self::Asked(cut(text)),
            Self::Refused(text) => Self::Refused(cut(text)),
            Self::Stopping(text) => Self::Stopping(cut(text)),
            Self::Started(_) | Self::Recovered(_) => self,
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Site(event) => event.fmt(f),
            Self::Log { what, .. } => write!(f, "the log: {what}"),
            Self::Group { what, .. } => what.fmt(f),
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started(devices) => write!(f, "started; devices: {devices}"),
            Self::Recovered(devices) => {
                write!(f, "goes on where a daemon died; devices: {devices}")
            }
            Self::Asked(what) => write!(f, "asked for: {what}"),
            Self::Refused(why) => write!(f, "refused: {why}"),
            Self::Stopping(why) => write!(f, "stopping: {why}"),
        }
    }
}

/// So many events are there to be asked for, and so many of sites and log stand in the status.
const KEPT: usize = 1000;
const SHOWN: usize = 64;

/// Characters of what others say.
const TEXT_MAX: usize = 400;

#[cfg(test)]
mod tests {
    use super::*;
    use slink::Transition;

    fn site(at: u64, what: Transition) -> SiteEvent {
        SiteEvent { at: Time(at), slink: SlinkNr(1), what }
    }

    fn numbers(page: &EventPage) -> Vec<u64> {
        page.records.iter().map(|record| record.seq).collect()
    }

    #[test]
    fn events_are_numbered_from_one_on_and_asked_for_by_the_last_that_is_known() {
        let mut events = Events::default();
        let none = events.since(0, 10);
        assert_eq!((none.last, numbers(&none)), (0, vec![]));
        events.of_group(Time(1), Note::Started(2));
        events.of_sites(vec![site(2, Transition::CameUp), site(3, Transition::Synced)]);
        events.of_log(Time(4), vec![LogEvent::Bypassed]);
        assert_eq!(numbers(&events.since(0, 10)), [1, 2, 3, 4]);
        assert_eq!(numbers(&events.since(0, 2)), [1, 2], "no more than asked for");
        assert_eq!(numbers(&events.since(2, 10)), [3, 4]);
        for nothing_new in [4, 5, u64::MAX] {
            assert_eq!(numbers(&events.since(nothing_new, 10)), [0; 0]);
        }
        assert_eq!(events.since(4, 10).last, 4);
    }

    #[test]
    fn what_made_room_is_missing_by_its_numbers() {
        let mut events = Events::default();
        for at in 0..KEPT as u64 + 5 {
            events.of_sites(vec![site(at, Transition::CameUp)]);
        }
        let page = events.since(0, 3);
        assert_eq!((page.first, page.last), (6, KEPT as u64 + 5));
        assert_eq!(numbers(&page), [6, 7, 8]);
        assert_eq!(events.all.len(), KEPT);
    }

    #[test]
    fn the_status_shows_the_newest_of_sites_and_log() {
        let mut events = Events::default();
        events.of_log(Time(0), vec![LogEvent::Bypassed; 3]);
        events.of_sites(vec![site(1, Transition::CameUp); SHOWN - 1]);
        events.of_group(Time(2), Note::Asked("drain".into()));
        let shown: Vec<&Event> = events.shown().collect();
        assert_eq!(shown.len(), SHOWN);
        assert!(matches!(shown[0], Event::Log { .. }) && matches!(shown[1], Event::Site(_)));
    }

    #[test]
    fn what_somebody_says_at_length_is_cut() {
        let mut events = Events::default();
        events.of_group(Time(0), Note::Asked("ä".repeat(100_000)));
        let text = &events.since(0, 1).records[0].text;
        assert!(text.chars().count() < TEXT_MAX + 20 && text.ends_with('…'), "{text}");
    }
}
