//! Messages to a running replicator: the words of 2009.

use blk::{DevNr, SlinkNr};

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
    /// The log is not open yet, or no more.
    #[error("the log is not open")]
    NotRunning,
}

impl Replicator {
    /// Carries out a message of the 2009 interface.
    ///
    /// # Errors
    /// Words that are no message.
    pub fn message(
        &mut self,
        target: Option<DevNr>,
        words: &[&str],
    ) -> Result<String, MessageError> {
        let (first, rest) = words.split_first().ok_or(MessageError::Empty)?;
        // As in 2009 a word may be cut short; the first list that matches wins.
        let is = |names: &[&str]| names.iter().any(|name| name.starts_with(&**first));
        let suspended = match () {
            () if first.is_empty() => return Err(MessageError::Empty),
            () if is(&["resume", "start"]) => false,
            () if is(&["suspend", "postsuspend", "stop"]) => true,
            () => return Err(MessageError::Unknown { found: (*first).to_owned() }),
        };
        let extra = rest.get(usize::from(rest.first() == Some(&"all")));
        if let Some(found) = extra {
            let (message, found) = ((*first).to_owned(), (*found).to_owned());
            return Err(MessageError::TooMany { message, found });
        }
        self.set_suspended(target, suspended)?;
        Ok(String::new())
    }
}

/// The messages there are.
const MESSAGES: &str = "resume [all], start [all], suspend [all], stop [all]";
