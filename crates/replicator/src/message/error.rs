//! What is wrong with a message, with the facts.

use blk::{DevNr, SlinkNr};

use super::verb::MESSAGES;

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
    /// A word that is not one of those that may stand there, or none.
    #[error("message \"{message}\": expected {expected}, found {found}")]
    Word {
        /// The message, as far as it was understood.
        message: String,
        /// What may stand there.
        expected: String,
        /// What was found, in quotes.
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
        "message \"{message}\": expected {}one of the remote sites {sites}, found \"{found}\"",
        if *or_all { "`all` or " } else { "" }
    )]
    WhichSite {
        /// The message.
        message: String,
        /// It could be about all of them.
        or_all: bool,
        /// What was found.
        found: String,
        /// The remote sites there are.
        sites: String,
    },
    /// A word that is no device of the table.
    #[error("message \"{message}\": expected one of the devices {devices}, found \"{found}\"")]
    WhichDevice {
        /// The message.
        message: String,
        /// What was found.
        found: String,
        /// The devices there are.
        devices: String,
    },
    /// A word that is no range of the device.
    #[error(
        "message \"differs\": expected SECTOR+SECTORS within the {size} sectors of device {dev}, \
         found \"{found}\""
    )]
    Range {
        /// What was found.
        found: String,
        /// The device.
        dev: DevNr,
        /// Its size.
        size: blk::Sectors,
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
    /// What is said to a device, and concerns all of them.
    #[error(
        "message \"{message}\": a site, and the log, are all devices'; send it to the replicator"
    )]
    OfReplicator {
        /// The message.
        message: String,
    },
    /// A text that no bookmark may have.
    #[error("message \"bookmark\": expected {max} bytes of printable text at most, found {found}")]
    BookmarkText {
        /// The most.
        max: usize,
        /// What was found.
        found: String,
    },
    /// There is no room for it in the log at this moment.
    #[error("the log has no room for it at this moment ({why}); try again")]
    Busy {
        /// Why.
        why: &'static str,
    },
    /// Words that no table may say, or that change nothing there is.
    #[error("nothing was changed: {0}")]
    Edit(#[from] table::EditError),
    /// Words that can't be changed while the replicator is in use.
    #[error(transparent)]
    Reload(#[from] crate::reload::ReloadError),
    /// The log is not open yet, or no more.
    #[error("the log is not open")]
    NotRunning,
}

impl MessageError {
    /// `expected` was expected behind the words of `message`.
    pub(super) fn word(message: &str, expected: impl Into<String>, found: Option<&&str>) -> Self {
        let found = found.map_or("nothing".to_owned(), |found| format!("\"{found}\""));
        Self::Word { message: message.to_owned(), expected: expected.into(), found }
    }
}
