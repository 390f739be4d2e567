//! Another table for a daemon at work, all at once or in the words of messages.
//!
//! The table file follows the engine: a daemon that dies in between is followed by one that
//! goes on as before the change.

use anyhow::{Context, Result};
use blk::DevNr;
use replicator::{ReloadError, changes};
use table::Group;

use super::served::Daemon;

impl Daemon {
    /// Goes on as `new` says; what is different, a sentence each.
    pub(super) fn reload(&mut self, new: &Group) -> Result<Vec<String>> {
        // The engine knows the log as it was opened, this the words that asked for it.
        let changes = changes(&self.table, new).map_err(ReloadError::Fixed)?;
        self.drive.reload(new.clone())?;
        self.keep_table(new)?;
        Ok(changes.iter().map(ToString::to_string).collect())
    }

    /// Carries out a message; one that says what the table says from now on changes it.
    pub(super) fn message(&mut self, dev: Option<DevNr>, words: Vec<String>) -> Result<String> {
        let answer = self.drive.message(dev, words)?;
        let mut now = self.drive.plan()?.group();
        now.table.log = self.table.table.log.clone();
        self.keep_table(&now)?;
        Ok(answer)
    }

    fn keep_table(&mut self, table: &Group) -> Result<()> {
        if *table == self.table {
            return Ok(());
        }
        self.table = table.clone();
        self.dir
            .write_table(&table.file().to_string())
            .context("it is changed until this daemon ends; its table could not be written")
    }
}
