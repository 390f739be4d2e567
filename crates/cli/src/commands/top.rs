//! `top`: one thread asks each replicator how it is, this one draws.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, anyhow};
use replicator::Status;

use super::find::find_all;
use super::query::{all_of, look};
use crate::args::TopArgs;
use crate::output::{print, rfc3339};
use crate::runtime::{GroupDir, Name, RuntimeDir, Tenant};
use crate::top::{Frame, History, Key, Terminal, View, size_of_output};

pub(super) fn top(args: &TopArgs, runtime: &RuntimeDir) -> Result<()> {
    let mut watched = Watched::new(args.every);
    for found in find_all(runtime, &args.names)? {
        watched.add(&found.group)?;
    }
    if args.once {
        return once(args.every, watched);
    }
    let terminal = Terminal::take()?;
    let (mut view, mut looked) = (View::default(), Instant::now());
    loop {
        if args.names.is_empty() && looked.elapsed() >= args.every {
            looked = Instant::now();
            runtime.groups()?.iter().try_for_each(|group| watched.add(group))?;
        }
        watched.take_news();
        let frame = watched.frame(view);
        terminal.draw(&frame)?;
        let key = terminal.key_within(DRAW_PAUSE.min(args.every))?;
        match next(view, key, watched.histories.len(), frame.scroll_max) {
            Some(next) => view = next,
            None => return Ok(()),
        }
    }
}

/// Two looks, so that there are rates; whoever is silent for longer is shown as that.
fn once(every: Duration, mut watched: Watched) -> Result<()> {
    let until = Instant::now() + every + SILENCE_MAX;
    while !watched.histories.values().all(|it| it.looks >= 2) && Instant::now() < until {
        thread::sleep(Duration::from_millis(20));
        watched.take_news();
    }
    let unseen = watched.unseen();
    // There is no picture of nobody.
    if unseen.is_empty() || unseen.len() < watched.histories.len() {
        let lines = watched.whole().lines;
        print(&lines.iter().map(|line| format!("{}\n", line.text)).collect::<String>())?;
    }
    all_of(&unseen)
}

/// What is to be seen after a key; none: nothing any more.
fn next(view: View, key: Option<Key>, number: usize, scroll_max: usize) -> Option<View> {
    let View { chosen, scrolled } = view;
    let last = number.saturating_sub(1);
    let choose = |chosen: usize| View { chosen: chosen.min(last), scrolled: 0 };
    // What got shorter meanwhile is not scrolled back line by line.
    let scroll = |scrolled: usize| View { chosen, scrolled: scrolled.min(scroll_max) };
    Some(match key {
        Some(Key::Quit) => return None,
        Some(Key::Up) => scroll(scrolled.min(scroll_max).saturating_sub(1)),
        Some(Key::Down) => scroll(scrolled + 1),
        Some(Key::Left) => choose(chosen.saturating_sub(1)),
        Some(Key::Right) => choose(chosen + 1),
        Some(Key::Number(nr)) if nr <= number => choose(nr - 1),
        Some(Key::Number(_) | Key::Redraw) | None => view,
    })
}

/// Replicators that are looked at, each by a thread of its own: one that is silent hides no other.
struct Watched {
    every: Duration,
    began: Instant,
    histories: BTreeMap<Name, Seen>,
    news: Receiver<News>,
    sender: Sender<News>,
}

struct Seen {
    history: History,
    looks: usize,
    /// Why the last look failed; or there was none.
    fault: Option<String>,
}

/// How one was at a moment; nothing if it is not there any more.
type News = (Name, Instant, Option<Result<Status, String>>);

impl Watched {
    fn new(every: Duration) -> Self {
        let (sender, news) = channel();
        Self { every, began: Instant::now(), histories: BTreeMap::new(), news, sender }
    }

    fn add(&mut self, group: &GroupDir) -> Result<()> {
        let name = group.name().clone();
        if self.histories.contains_key(&name) || group.tenant()? == Tenant::Nobody {
            return Ok(());
        }
        let history = History::new(name.as_str());
        let fault = Some("its daemon says nothing".to_owned());
        self.histories.insert(name, Seen { history, looks: 0, fault });
        let (group, sender, every) = (group.clone(), self.sender.clone(), self.every);
        thread::spawn(move || {
            loop {
                let is_there = !matches!(group.tenant(), Ok(Tenant::Nobody));
                let seen = is_there.then(|| look(&group).map_err(|error| format!("{error:#}")));
                let over = seen.is_none();
                // Nobody looks any more, or it has ended.
                if sender.send((group.name().clone(), Instant::now(), seen)).is_err() || over {
                    return;
                }
                thread::sleep(every);
            }
        });
        Ok(())
    }

    fn take_news(&mut self) {
        while let Ok((name, at, seen)) = self.news.try_recv() {
            let Some(seen) = seen else {
                self.histories.remove(&name);
                continue;
            };
            if let Some(of) = self.histories.get_mut(&name) {
                of.fault = seen.as_ref().err().cloned();
                of.history.add(at.duration_since(self.began).as_secs_f64(), seen);
                of.looks += 1;
            }
        }
    }

    fn unseen(&self) -> Vec<anyhow::Error> {
        let faults =
            self.histories.iter().filter_map(|(name, it)| Some((name, it.fault.as_ref()?)));
        faults.map(|(name, fault)| anyhow!("{name}: {fault}")).collect()
    }

    fn frame(&self, view: View) -> Frame {
        self.drawn(view, size_of_output())
    }

    /// Of any height.
    fn whole(&self) -> Frame {
        let size = crate::top::Size { rows: ROWS_MAX, ..size_of_output() };
        self.drawn(View::default(), size)
    }

    fn drawn(&self, view: View, size: crate::top::Size) -> Frame {
        let all: Vec<History> = self.histories.values().map(|it| it.history.clone()).collect();
        let clock = rfc3339(SystemTime::now());
        Frame::draw(&all, view, &clock[11..19], size)
    }
}

/// How soon news are seen, and a change of the size.
const DRAW_PAUSE: Duration = Duration::from_millis(250);
/// How long `--once` waits for one that says nothing.
const SILENCE_MAX: Duration = Duration::from_secs(3);
const ROWS_MAX: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_choose_and_scroll_within_what_there_is() {
        let at = |chosen, scrolled| View { chosen, scrolled };
        let table = [
            (at(0, 0), Key::Right, at(1, 0)),
            (at(2, 4), Key::Right, at(2, 0)),
            (at(0, 4), Key::Left, at(0, 0)),
            (at(0, 0), Key::Number(3), at(2, 0)),
            (at(1, 2), Key::Number(4), at(1, 2)),
            (at(1, 2), Key::Down, at(1, 3)),
            (at(1, 5), Key::Down, at(1, 5)),
            (at(1, 9), Key::Up, at(1, 4)),
            (at(1, 0), Key::Up, at(1, 0)),
            (at(1, 2), Key::Redraw, at(1, 2)),
        ];
        for (view, key, expected) in table {
            assert_eq!(next(view, Some(key), 3, 5), Some(expected), "{view:?} {key:?}");
        }
        assert_eq!(next(at(1, 0), Some(Key::Quit), 3, 5), None);
        assert_eq!(next(at(1, 2), None, 3, 5), Some(at(1, 2)));
    }
}
