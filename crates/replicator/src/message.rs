//! Messages to a running replicator: the words of 2009, and `resync`.
//!
//! ```text
//! resume [all]  start [all]             take requests again
//! suspend [all] stop [all] postsuspend  hold requests back
//! resync [all | SITE [DEV]]             copy everything there anew, whatever disk is there by now
//! rebuild [DEV]                         the same for the local disks, from a remote site
//! ```
//!
//! As in 2009 the first word may be cut short; the first line above that has it wins, so that
//! `res` is `resume`. A message to a device is about that device only.

use blk::{DevNr, SlinkNr, Time};

use crate::machine::Replicator;

/// Why a message was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// No word at all.
    #[error("an empty message: expected one of: {MESSAGES}")]
    Empty,
    /// An unknown word.
    #[error("unknown message \"{found}\": expected one of: {MESSAGES}")]
    Unknown {
        /// What was found.
        found: String,
    },
    /// Something behind the message's words.
    #[error("message \"{message}\": unexpected \"{found}\" behind it")]
    TooMany {
        /// The message.
        message: String,
        /// What was found.
        found: String,
    },
    /// A device that the replicator does not have.
    #[error("there is no device {dev}")]
    NoDevice {
        /// Its number.
        dev: DevNr,
    },
    /// A remote site that the table does not name.
    #[error("there is no remote site {slink}")]
    NoSite {
        /// Its number.
        slink: SlinkNr,
    },
    /// A device that a site does not have.
    #[error("site {slink} has no copy of device {dev}")]
    NoLeg {
        /// The site.
        slink: SlinkNr,
        /// The device.
        dev: DevNr,
    },
    /// A word that is no remote site of the table.
    #[error(
        "message \"resync\": expected `all` or one of the remote sites {sites}, found \"{found}\""
    )]
    WhichSite {
        /// What was found.
        found: String,
        /// The remote sites there are.
        sites: String,
    },
    /// A word that is no device of the table.
    #[error("message \"resync\": expected one of the devices {devices}, found \"{found}\"")]
    WhichDevice {
        /// What was found.
        found: String,
        /// The devices there are.
        devices: String,
    },
    /// Nothing but the local site, from which others are copied.
    #[error("there is no remote site{of_device} that could be copied to")]
    Nowhere {
        /// Of which device.
        of_device: String,
    },
    /// What would be copied anew is what everything else would be copied from (P6).
    #[error(
        "site {slink} has the only complete copy that can be read: there is nothing that it \
         could be copied from"
    )]
    LastCopy {
        /// The site.
        slink: SlinkNr,
    },
    /// The log is not open yet, or no more.
    #[error("the log is not open")]
    NotRunning,
}

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
        match verb(first)? {
            Verb::Resume => self.suspension(target, first, rest, false),
            Verb::Suspend => self.suspension(target, first, rest, true),
            Verb::Resync => self.resync_message(now, target, first, rest),
            Verb::Rebuild => self.rebuild_message(now, target, first, rest),
        }
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
        let site = rest.first().filter(|word| **word != "all");
        // Who speaks to a device, or of all sites, has no device to name.
        let device = rest.get(1).filter(|_| site.is_some() && target.is_none());
        refuse_more(first, rest, if device.is_some() { 2 } else { 1 })?;
        let dev = device.map(|word| self.device_called(word)).transpose()?.or(target);
        let sites = match site {
            Some(word) => vec![self.remote_site(word)?],
            None => self.remote_sites_of(dev)?,
        };
        let mut answer = String::new();
        for slink in sites {
            self.resync(now, slink, dev)?;
            let what = dev.map_or("everything there".to_owned(), |dev| self.device_label(dev));
            answer += &format!("site {slink}: {what} is copied anew\n");
        }
        Ok(answer)
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
        let dev = device.map(|word| self.device_called(word)).transpose()?.or(target);
        self.rebuild(now, dev)?;
        let what = dev.map_or("everything there".to_owned(), |dev| self.device_label(dev));
        Ok(format!("site 0: {what} is copied anew\n"))
    }

    fn remote_site(&self, word: &str) -> Result<SlinkNr, MessageError> {
        let mut sites = self.remote_sites();
        sites.find(|slink| slink.to_string() == word).ok_or_else(|| MessageError::WhichSite {
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
    fn device_called(&self, word: &str) -> Result<DevNr, MessageError> {
        let devices = &self.plan.devices;
        let by_number = devices.iter().find(|device| device.nr.to_string() == word);
        let found = by_number.or_else(|| devices.iter().find(|device| device.name == word));
        found.map(|device| device.nr).ok_or_else(|| MessageError::WhichDevice {
            found: word.to_owned(),
            devices: joined(devices.iter().map(|it| format!("{} ({})", it.nr, it.name))),
        })
    }

    fn device_label(&self, dev: DevNr) -> String {
        let name = self.plan.device(dev).map_or(String::new(), |plan| format!(" ({})", plan.name));
        format!("device {dev}{name}")
    }
}

/// What a message asks for.
#[derive(Clone, Copy)]
enum Verb {
    Resume,
    Suspend,
    Resync,
    Rebuild,
}

fn verb(word: &str) -> Result<Verb, MessageError> {
    let is = |names: &[&str]| names.iter().any(|name| name.starts_with(word));
    match () {
        () if word.is_empty() => Err(MessageError::Empty),
        () if is(&["resume", "start"]) => Ok(Verb::Resume),
        () if is(&["suspend", "postsuspend", "stop"]) => Ok(Verb::Suspend),
        () if is(&["resync"]) => Ok(Verb::Resync),
        () if is(&["rebuild"]) => Ok(Verb::Rebuild),
        () => Err(MessageError::Unknown { found: word.to_owned() }),
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

/// The messages there are.
const MESSAGES: &str = "resume [all], start [all], suspend [all], stop [all], \
                        resync [all | SITE [DEV]], rebuild [DEV]";
