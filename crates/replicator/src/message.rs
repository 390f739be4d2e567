//! Messages to a running replicator: the words of 2009, and more.
//!
//! ```text
//! resume [all]  start [all]               take requests again
//! suspend [all] stop [all] postsuspend    hold requests back
//! slink message NR WORDS ...              another policy, limit, or option of a site
//! slink add NR ...    slink del NR        a site comes, or goes
//! device add ...      device del NR       a device comes to a site, or goes from it
//! statistics {on|off|reset}               show counters of the front end in `status`
//! replog statistics {on|off|reset}        the ring's
//! replog resize SECTORS                   another size for the log
//! replace-log [PATH [START [SIZE]]]       another log in the place of one, lost or at work
//! resync [all | SITE [DEV]]               copy everything there anew, whatever disk is there by now
//! invalidate ...                          the same
//! rebuild [DEV]                           the same for the local disks, from a remote site
//! verify [all | SITE [DEV]] [repair | stop]   compare what is there with what should be
//! differs SITE DEV [SECTOR+SECTORS ...] [more]   what is there differs in these ranges
//! down SITE     up SITE                   an outage by hand, and its end
//! drain                                   let everything that is written by now reach its sites
//! bookmark TEXT                           put a text between two writes
//! ```
//!
//! As in 2009 the first word may be cut short; the first line above that has it wins, so that
//! `res` is `resume`. A message to a device is about that device only.

mod differs;
mod error;
mod marks;
mod outage;
mod statistics;
mod verb;
mod verify;

use std::collections::BTreeMap;

use blk::{DevNr, SlinkNr, Time};

pub use error::MessageError;
pub use verb::{HELP, edit_noun, is_drain, is_replace_log};

use crate::machine::Replicator;
use verb::Verb;

impl Replicator {
    /// Carries out a message; the answer is for people, and often empty.
    ///
    /// # Errors
    /// Words that are no message, and sites or devices that are not there. Nothing has changed then.
    pub fn message(
        &mut self,
        now: Time,
        target: Option<DevNr>,
        words: &[&str],
    ) -> Result<String, MessageError> {
        let (first, rest) = words.split_first().ok_or(MessageError::Empty)?;
        match Verb::of(first)? {
            Verb::Resume => self.suspension(target, first, rest, false),
            Verb::Suspend => self.suspension(target, first, rest, true),
            Verb::Slink => self.edit(now, target, "slink", rest),
            Verb::Device => self.edit(now, target, "device", rest),
            Verb::Statistics => self.front_statistics(first, rest),
            Verb::Replog if rest.first() == Some(&"resize") => {
                self.edit(now, target, "replog", rest)
            }
            Verb::Replog => self.replog_message(first, rest),
            // Whoever can open its device does that: `Replicator::replace_log`.
            Verb::ReplaceLog => Err(MessageError::OfReplicator { message: (*first).to_owned() }),
            Verb::Down => self.hold_message(now, target, first, rest, true),
            Verb::Up => self.hold_message(now, target, first, rest, false),
            Verb::Drain => self.drain_message(now, target, first, rest),
            Verb::Bookmark => self.bookmark_message(first, rest),
            Verb::Resync => self.resync_message(now, target, first, rest),
            Verb::Differs => self.differs_message(now, rest),
            Verb::Verify => self.verify_message(now, target, first, rest),
            Verb::Rebuild => self.rebuild_message(now, target, first, rest),
        }
    }

    /// A message that says what the table says from now on.
    fn edit(
        &mut self,
        now: Time,
        target: Option<DevNr>,
        noun: &str,
        rest: &[&str],
    ) -> Result<String, MessageError> {
        let words: Vec<&str> = std::iter::once(noun).chain(rest.iter().copied()).collect();
        let group = self.plan.group().edited(target, &words)?;
        let changes = self.reload(now, &group, &BTreeMap::new())?;
        let said = changes.iter().map(ToString::to_string);
        let said = said.chain(self.resizing().filter(|_| noun == "replog"));
        Ok(said.map(|sentence| format!("{sentence}\n")).collect())
    }

    fn suspension(
        &mut self,
        target: Option<DevNr>,
        first: &str,
        rest: &[&str],
        suspended: bool,
    ) -> Result<String, MessageError> {
        refuse_more(first, rest, usize::from(rest.first() == Some(&"all")))?;
        self.set_suspended(target, suspended)?;
        Ok(String::new())
    }

    fn resync_message(
        &mut self,
        now: Time,
        target: Option<DevNr>,
        first: &str,
        rest: &[&str],
    ) -> Result<String, MessageError> {
        let (sites, dev) = self.copies_named(target, first, rest)?;
        let mut answer = String::new();
        for slink in sites {
            self.resync(now, slink, dev)?;
            let what = dev.map_or("everything there".to_owned(), |dev| self.device_label(dev));
            answer += &format!("site {slink}: {what} is copied anew\n");
        }
        Ok(answer)
    }

    /// The copies that `[all | SITE [DEV]]` means.
    fn copies_named(
        &self,
        target: Option<DevNr>,
        first: &str,
        rest: &[&str],
    ) -> Result<(Vec<SlinkNr>, Option<DevNr>), MessageError> {
        let site = rest.first().filter(|word| **word != "all");
        // Who speaks to a device, or of all sites, has no device to name.
        let device = rest.get(1).filter(|_| site.is_some() && target.is_none());
        refuse_more(first, rest, if device.is_some() { 2 } else { 1 })?;
        let dev = device.map(|word| self.device_called(first, word)).transpose()?.or(target);
        let sites = match site {
            Some(word) => vec![self.remote_site(first, word)?],
            None => self.remote_sites_of(dev)?,
        };
        Ok((sites, dev))
    }

    fn rebuild_message(
        &mut self,
        now: Time,
        target: Option<DevNr>,
        first: &str,
        rest: &[&str],
    ) -> Result<String, MessageError> {
        // Who speaks to a device has no device to name.
        let device = rest.first().filter(|_| target.is_none());
        refuse_more(first, rest, usize::from(device.is_some()))?;
        let dev = device.map(|word| self.device_called(first, word)).transpose()?.or(target);
        self.rebuild(now, dev)?;
        let what = dev.map_or("everything there".to_owned(), |dev| self.device_label(dev));
        Ok(format!("site 0: {what} is copied anew\n"))
    }

    fn remote_site(&self, message: &str, word: &str) -> Result<SlinkNr, MessageError> {
        let mut sites = self.remote_sites();
        sites.find(|slink| slink.to_string() == word).ok_or_else(|| MessageError::WhichSite {
            message: message.to_owned(),
            or_all: matches!(Verb::of(message), Ok(Verb::Resync | Verb::Verify)),
            found: word.to_owned(),
            sites: joined(self.remote_sites().map(|slink| slink.to_string())),
        })
    }

    /// The remote sites that have a device, or all of them.
    fn remote_sites_of(&self, dev: Option<DevNr>) -> Result<Vec<SlinkNr>, MessageError> {
        let has = |slink: &SlinkNr| {
            let plan = dev.map(|dev| self.plan.device(dev));
            plan.is_none_or(|plan| plan.is_some_and(|plan| plan.leg(*slink).is_some()))
        };
        let sites: Vec<SlinkNr> = self.remote_sites().filter(has).collect();
        let of_device =
            || dev.map_or(String::new(), |dev| format!(" of {}", self.device_label(dev)));
        if sites.is_empty() {
            Err(MessageError::Nowhere { of_device: of_device() })
        } else {
            Ok(sites)
        }
    }

    fn remote_sites(&self) -> impl Iterator<Item = SlinkNr> {
        self.plan.slinks.iter().map(|slink| slink.nr).filter(|slink| !slink.is_local())
    }

    /// A device by its number or by its name.
    fn device_called(&self, message: &str, word: &str) -> Result<DevNr, MessageError> {
        let devices = &self.plan.devices;
        let by_number = devices.iter().find(|device| device.nr.to_string() == word);
        let found = by_number.or_else(|| devices.iter().find(|device| device.name == word));
        found.map(|device| device.nr).ok_or_else(|| MessageError::WhichDevice {
            message: message.to_owned(),
            found: word.to_owned(),
            devices: joined(devices.iter().map(|it| format!("{} ({})", it.nr, it.name))),
        })
    }

    fn device_label(&self, dev: DevNr) -> String {
        let name = self.plan.device(dev).map_or(String::new(), |plan| format!(" ({})", plan.name));
        format!("device {dev}{name}")
    }
}

fn refuse_more(message: &str, words: &[&str], taken: usize) -> Result<(), MessageError> {
    words.get(taken).map_or(Ok(()), |found| {
        Err(MessageError::TooMany { message: message.to_owned(), found: (*found).to_owned() })
    })
}

fn joined(words: impl Iterator<Item = String>) -> String {
    words.collect::<Vec<_>>().join(", ")
}
