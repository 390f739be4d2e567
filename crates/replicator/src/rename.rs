//! Another name for a device, or for the replicator itself, while it is in use.
//!
//! To the machine names are words: what belongs together it knows by numbers. They are told to those who read of them
//! elsewhere: the log's roster has the devices', the mark of a site the replicator's. Whoever drives it waits until the
//! roster stands ([`Replicator::has_settled`]) before anybody else uses the name.

use std::fmt;

use blk::DevNr;
use table::EditError;

use crate::machine::{Phase, Replicator};

/// Why something keeps its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RenameError {
    /// No table may say it.
    Name(EditError),
    /// The log is not open yet, or no more.
    NotRunning,
}

impl Replicator {
    /// A device, or with `None` the replicator, is called `name` from now on.
    ///
    /// # Errors
    /// A name that it can't have. Nothing has changed then.
    pub fn rename(&mut self, dev: Option<DevNr>, name: &str) -> Result<(), RenameError> {
        let group = self.plan.group().renamed(dev, name).map_err(RenameError::Name)?;
        let running = matches!(self.phase(), Phase::Running);
        let log = self.log.as_mut().filter(|_| running).ok_or(RenameError::NotRunning)?;
        self.plan.name.clone_from(&group.name);
        for (known, named) in self.plan.devices.iter_mut().zip(&group.devices) {
            if known.name != named.name {
                known.name.clone_from(&named.name);
                log.rename_device(known.nr, &named.name);
            }
        }
        self.links.iter_mut().for_each(|link| link.rename(&group.name));
        self.reloaded = Some(log.standing());
        Ok(())
    }
}

impl fmt::Display for RenameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(error) => error.fmt(f),
            Self::NotRunning => f.write_str("the log is not open"),
        }
    }
}

impl std::error::Error for RenameError {}
