//! What happened lately to the sites and to the log: each a line in the daemon's log, and there to
//! be looked at for a while (P13).

use std::collections::VecDeque;
use std::fmt;

use blk::{SlinkNr, Time};
use replog::LogEvent;
use slink::SiteEvent;

/// The newest of them, oldest first; at most [`KEPT`].
#[derive(Debug, Default)]
pub(crate) struct Events {
    all: VecDeque<Event>,
}

#[derive(Debug)]
pub(crate) enum Event {
    Site(SiteEvent),
    Log { at: Time, what: LogEvent },
}

impl Events {
    pub(crate) fn of_sites(&mut self, events: Vec<SiteEvent>) {
        self.add(events.into_iter().map(Event::Site));
    }

    pub(crate) fn of_log(&mut self, at: Time, events: Vec<LogEvent>) {
        self.add(events.into_iter().map(|what| Event::Log { at, what }));
    }

    fn add(&mut self, events: impl Iterator<Item = Event>) {
        for event in events {
            log::warn!("{event}");
            self.all.push_back(event);
        }
        let excess = self.all.len().saturating_sub(KEPT);
        self.all.drain(..excess);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Event> {
        self.all.iter()
    }

    /// Those of one site.
    pub(crate) fn of(&self, slink: SlinkNr) -> impl DoubleEndedIterator<Item = &SiteEvent> {
        let of_sites = self.all.iter().filter_map(|event| match event {
            Event::Site(event) => Some(event),
            Event::Log { .. } => None,
        });
        of_sites.filter(move |event: &&SiteEvent| event.slink == slink)
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Site(event) => event.fmt(f),
            Self::Log { what, .. } => write!(f, "the log: {what}"),
        }
    }
}

/// So many events are there to be looked at.
const KEPT: usize = 64;
