//! Sites that the log knows and the table does not name.
//!
//! The log keeps what they lack, so that they can come back; but not at the price of the
//! devices (P6): when it is full of that, they are written down as all dirty, durably, and
//! the head passes. They are copied anew when a table names them again. For a site that was
//! removed while the devices are in use nothing is kept to begin with.

use blk::{SlinkNr, Time};
use replog::{Replog, Version};
use slink::event::Why;
use slink::{SiteEvent, Transition};

/// The sites of a log that nobody feeds.
#[derive(Debug, Default)]
pub(crate) struct Orphans {
    sites: Vec<Orphan>,
}

#[derive(Debug)]
struct Orphan {
    slink: SlinkNr,
    /// The roster says that it is all dirty, once this stands.
    given_up: Option<Version>,
}

impl Orphans {
    /// Those of `log` that are none of `linked`.
    pub(crate) fn of(log: &Replog, linked: &[SlinkNr]) -> Self {
        let known = log.superblock().sites.iter().map(|site| site.slink);
        let alone = known.filter(|slink| !linked.contains(slink));
        Self { sites: alone.map(|slink| Orphan { slink, given_up: None }).collect() }
    }

    /// A site has no link any more, and nothing is kept for it.
    pub(crate) fn removed(&mut self, slink: SlinkNr, log: &mut Replog) {
        let given_up = Some(give_up(slink, log));
        self.sites.push(Orphan { slink, given_up });
    }

    /// A site has a link again.
    pub(crate) fn adopted(&mut self, slink: SlinkNr) {
        self.sites.retain(|orphan| orphan.slink != slink);
    }

    /// Lets the head pass what only they keep it from, if the log is full.
    pub(crate) fn poll(&mut self, now: Time, log: &mut Replog) -> Vec<SiteEvent> {
        let mut events = Vec::new();
        for orphan in &mut self.sites {
            // So far another complete copy has everything: nothing passes that (P6). Without the
            // log the LD gets nothing before all others are marked for it (P8).
            let takes_over = log.may_take_over();
            let kept = log.kept_beside(orphan.slink);
            let upto = if takes_over { Some(log.marked_upto()) } else { kept };
            let Some(upto) = upto else { continue };
            let keeps = orphan.given_up.is_none() && !log.is_nearly_full() && !takes_over;
            if log.covered(orphan.slink) >= upto || keeps {
                continue;
            }
            let version = *orphan.given_up.get_or_insert_with(|| {
                let what = Transition::Detached(Why::LogFull);
                events.push(SiteEvent { at: now, slink: orphan.slink, what });
                give_up(orphan.slink, log)
            });
            if log.stands(version) {
                log.cover(orphan.slink, upto);
            }
        }
        events
    }
}

fn give_up(slink: SlinkNr, log: &mut Replog) -> Version {
    let session = log.new_session();
    log.change_site(slink, |site| {
        site.detached.get_or_insert(session);
    });
    let legs = log.superblock().legs.iter().filter(|leg| leg.slink == slink);
    let devs: Vec<_> = legs.map(|leg| leg.dev).collect();
    for dev in devs {
        log.change_leg(dev, slink, |leg| leg.all_dirty = true);
    }
    log.standing()
}
