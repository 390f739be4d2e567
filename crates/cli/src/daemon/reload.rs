//! Another table for a daemon at work, all at once or in the words of messages.
//!
//! The table file is what a successor goes on with, should this daemon die at any moment. So it
//! names what comes only after the log knows of it, or what was said of it then would be
//! believed later; and what goes no more before the devices go on without it. But a device that
//! goes is named until the log says that it is gone: until then its writes are owed to its disks.

use std::fs::File;

use anyhow::{Context, Result, anyhow};
use blk::DevNr;
use replicator::message::edit_noun;
use replicator::{Change, ReloadError, changes};
use table::Group;

use super::disks::Newcomers;
use super::served::Daemon;
use super::stop::claim_some;
use crate::runtime::DeviceState;

impl Daemon {
    /// Goes on as `new` says; what is different, a sentence each.
    pub(super) fn reload(&mut self, new: &Group) -> Result<Vec<String>> {
        // The engine knows the log as it was opened, this the words that asked for it.
        let changes = changes(&self.table, new).map_err(ReloadError::Fixed)?;
        let old = self.table.clone();
        let (grown, going) = (self.who_grows(new), who_goes(&changes));
        let claims = self.claim_grown(&grown)?;
        let newcomers = self.look_at_newcomers(&changes, new).context("nothing was changed")?;
        self.part_with(&going, new, &newcomers)?;
        self.keep_table(&without_what_goes(&old, &changes))?;
        if let Err(refusal) = self.drive.reload(new.clone(), newcomers) {
            self.keep_table(&old)?;
            self.take_back(&going)?;
            return Err(refusal);
        }
        self.table = new.clone();
        if changes.iter().any(comes_or_goes) {
            // Not before: a log that does not know that a device has gone is not opened by a table
            // without it.
            self.drive.wait_until_settled()?;
        }
        self.keep_table(new)?;
        self.forget_withheld(&going)?;
        let mut said: Vec<String> = changes.iter().map(ToString::to_string).collect();
        drop(claims);
        self.serve_longer(&grown)?;
        if changes.iter().any(|change| matches!(change, Change::LogSize { .. })) {
            said.push(self.drive.wait_for_log_size()?);
        }
        Ok(said)
    }

    fn claim_grown(&self, grown: &[DevNr]) -> Result<Vec<File>> {
        let must_be_closed =
            |it: &DeviceState| !self.grows_in_use() && grown.contains(&DevNr(it.nr));
        claim_some(self, must_be_closed).map_err(|error| {
            anyhow!(
                "nothing was changed: {error}, and this kernel can't let it grow meanwhile (Linux \
                 6.16 can); end that, and reload again"
            )
        })
    }

    fn look_at_newcomers(&self, changes: &[Change], new: &Group) -> Result<Newcomers> {
        for change in changes {
            if let Change::DeviceAdded(device) = change {
                self.check_link(&device.name)?;
            }
        }
        self.drive.newcomers(&self.table, new)
    }

    /// Devices go: nobody has them open, every site that is up has all of them, and then they are
    /// there no more. Until the first is gone a refusal leaves everything as it was.
    fn part_with(&mut self, going: &[DevNr], new: &Group, newcomers: &Newcomers) -> Result<()> {
        if going.is_empty() {
            return Ok(());
        }
        let claims = claim_some(self, |it| going.contains(&DevNr(it.nr)))
            .map_err(|error| anyhow!("nothing was changed: {error}; end that, and reload again"))?;
        self.drive.let_go(new, &newcomers.facts, going)?;
        drop(claims);
        for dev in going {
            if let Err(error) = self.remove_device(*dev) {
                self.take_back(going)?;
                return Err(error.context("nothing was changed"));
            }
        }
        Ok(())
    }

    /// Devices that were to go stay.
    fn take_back(&mut self, going: &[DevNr]) -> Result<()> {
        self.drive.stay(going)?;
        let plan = self.drive.plan()?;
        let is_missing = |dev| going.contains(&dev) && !self.has(dev) && !self.withholds(dev);
        let devices = plan.devices.iter().filter(|device| is_missing(device.nr));
        for device in devices.collect::<Vec<_>>() {
            self.serve(device).with_context(|| format!("device {}", device.name))?;
        }
        Ok(())
    }

    /// Devices that are shorter than a table has them: they grow now, or did so before a crash, or
    /// an error.
    fn who_grows(&self, new: &Group) -> Vec<DevNr> {
        let served = |dev: DevNr| self.states().iter().find(|it| it.nr == dev.0);
        let all = new.devices.iter().map(|device| (device.table.dev_nr, device.len.0));
        let all = all.filter(|(dev, _)| !self.withholds(*dev));
        let shorter = all.filter(|(dev, len)| served(*dev).is_none_or(|it| it.sectors < *len));
        shorter.map(|(dev, _)| dev).collect()
    }

    /// The log knows of the new sizes; now those who use the devices may.
    fn serve_longer(&mut self, grown: &[DevNr]) -> Result<()> {
        let plan = self.drive.plan()?;
        for dev in grown {
            let device = plan.device(*dev).expect("a device of the table is in the plan");
            self.lengthen(device).with_context(|| {
                format!("device {} is not there yet, or not as long; reload again", device.name)
            })?;
        }
        Ok(())
    }

    /// Carries out a message; one that says what the table says from now on changes that.
    pub(super) fn message(&mut self, dev: Option<DevNr>, words: Vec<String>) -> Result<String> {
        let Some(noun) = edit_noun(&words) else {
            return self.drive.message(dev, words);
        };
        let rest = words[1..].iter().map(String::as_str);
        let words: Vec<&str> = std::iter::once(noun).chain(rest).collect();
        let new = self.table.edited(dev, &words).context("nothing was changed")?;
        let changes = self.reload(&new)?;
        Ok(changes.iter().map(|sentence| format!("{sentence}\n")).collect())
    }

    /// Serves this table from now on, and has a successor do so.
    pub(super) fn keep_table(&mut self, table: &Group) -> Result<()> {
        self.table = table.clone();
        if self.kept.as_ref() == Some(table) {
            return Ok(());
        }
        self.dir
            .write_table(&table.file().to_string())
            .context("it is changed until this daemon ends; its table could not be written")?;
        self.kept = Some(table.clone());
        Ok(())
    }
}

fn who_goes(changes: &[Change]) -> Vec<DevNr> {
    let goes = |change: &Change| match change {
        Change::DeviceRemoved { dev, .. } => Some(*dev),
        _ => None,
    };
    changes.iter().filter_map(goes).collect()
}

fn comes_or_goes(change: &Change) -> bool {
    matches!(change, Change::DeviceAdded(_) | Change::DeviceRemoved { .. })
}

/// The table as it was, without the sites and legs that go.
fn without_what_goes(old: &Group, changes: &[Change]) -> Group {
    let mut group = old.clone();
    for change in changes {
        match change {
            Change::SlinkRemoved(nr) => {
                group.table.slinks.retain(|slink| slink.nr != *nr);
                let legs = group.devices.iter_mut().map(|device| &mut device.table.legs);
                legs.for_each(|legs| legs.retain(|leg| leg.slink != *nr));
            }
            Change::LegRemoved { dev, slink } => {
                let devices = group.devices.iter_mut().filter(|it| it.table.dev_nr == *dev);
                devices.for_each(|it| it.table.legs.retain(|leg| leg.slink != *slink));
            }
            // A device is named until the log says that it is gone.
            Change::DeviceRemoved { .. }
            | Change::DeviceAdded(_)
            | Change::LogSize { .. }
            | Change::LogMemory { .. }
            | Change::Grown { .. }
            | Change::Slink { .. }
            | Change::SlinkAdded(_)
            | Change::LegAdded { .. } => {}
        }
    }
    group
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_is_left_out_before_it_has_gone_and_nothing_else() {
        let text = |sites: &str, legs: &str| {
            format!(
                "a: 0 1 replicator ringbuffer 4 /log 0 auto 8192 blockdev 1 0{sites}\n\
                 x: 0 4096 replicator-dev a 0 0 1 /x nolog 0{legs}\n"
            )
        };
        let group = |text: &str| crate::tables::from_text(text).unwrap().group;
        let old = group(&text(
            " blockdev 1 1 blockdev 1 2 blockdev 1 3",
            " 1 1 /x1 nolog 0 2 1 /x2 nolog 0 3 1 /x3 nolog 0",
        ));
        let new = group(&text(
            " blockdev 2 1 sync blockdev 1 3 blockdev 1 4",
            " 1 1 /x1 nolog 0 4 1 /x4 nolog 0",
        ));
        let between = without_what_goes(&old, &changes(&old, &new).unwrap());
        let expected = text(" blockdev 1 1 blockdev 1 3", " 1 1 /x1 nolog 0");
        assert_eq!(between.file().to_string(), expected);
    }
}
