//! Another table for a replicator that is in use: all of it, or nothing.

use std::fmt;

use blk::Time;
use table::Group;

use crate::change::{Change, Fixed, changes};
use crate::machine::Replicator;

/// Why a table was not taken. Nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReloadError {
    /// It changes what can't be changed while the replicator is in use.
    Fixed(Vec<Fixed>),
    /// The log is not open yet, or no more.
    NotRunning,
}

impl Replicator {
    /// Goes on as `new` says; what was different.
    ///
    /// # Errors
    /// Something that can't be changed. Nothing has changed then.
    pub fn reload(&mut self, now: Time, new: &Group) -> Result<Vec<Change>, ReloadError> {
        let changes = changes(&self.plan.group(), new).map_err(ReloadError::Fixed)?;
        if self.log.is_none() {
            return Err(ReloadError::NotRunning);
        }
        changes.iter().for_each(|change| self.change(now, change));
        Ok(changes)
    }

    fn change(&mut self, now: Time, change: &Change) {
        let log = self.log.as_mut().expect("only a replicator that runs is changed");
        match change {
            Change::Slink { to, .. } => {
                let link = self.links.iter_mut().find(|link| link.nr() == to.nr);
                link.expect("a site of the plan has a link").reconfigure(now, log, to);
                let known = self.plan.slinks.iter_mut().find(|known| known.nr == to.nr);
                *known.expect("looked up by `changes`") = to.clone();
            }
        }
        log::warn!("{change}");
    }
}

impl fmt::Display for ReloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(fixed) => {
                let sentences: Vec<String> = fixed.iter().map(Fixed::to_string).collect();
                write!(f, "nothing was changed: {}", sentences.join("; "))
            }
            Self::NotRunning => f.write_str("the log is not open"),
        }
    }
}

impl std::error::Error for ReloadError {}
