//! Another name for a device in use, or for the replicator, as `dmsetup rename` gives it.
//!
//! There is one moment at which a name is another, and a crash finds the one or the other:
//!
//! | name of | before | that moment | behind it |
//! |---|---|---|---|
//! | a device | the log's roster has the new one, durably | the table has it, for a successor | state, link, udev |
//! | the replicator | the record of a lost log, if there is one, has both | its runtime directory has it | that record, table, udev |
//!
//! What comes before is undone by a refusal, and by whoever opens the log by the old name. What comes behind it a
//! successor does: it finds a device whose state says otherwise than its table, or a table that says otherwise than the
//! name of its directory. A link goes from one name to the other in one step.

use anyhow::{Context, Error, Result, bail, ensure};
use blk::DevNr;
use table::Group;

use super::served::Daemon;
use crate::runtime::{GroupDir, Lock, Name, RuntimeDir};

impl Daemon {
    /// A device, or the replicator, is called `to` from now on.
    pub(super) fn rename(&mut self, dev: Option<DevNr>, to: &str) -> Result<()> {
        let to: Name = to.parse().context(NOTHING)?;
        let new = self.table.renamed(dev, to.as_str()).context(NOTHING)?;
        ensure!(new != self.table, "{NOTHING}: it is called {to} already");
        check_free(&to).context(NOTHING)?;
        match dev {
            Some(dev) => self.rename_device(dev, &to, new),
            None => self.rename_replicator(&to, new),
        }
    }

    fn rename_device(&mut self, dev: DevNr, to: &Name, new: Group) -> Result<()> {
        self.check_link(to.as_str()).context(NOTHING)?;
        let old = self.table.clone();
        self.drive.rename(Some(dev), to.as_str()).context(NOTHING)?;
        let settled = self.drive.wait_until_settled();
        if let Err(why) = settled.and_then(|()| self.take_name(to, &new)) {
            return Err(self.called_as_before(Some(dev), &old, why));
        }
        (self.table, self.kept) = (new.clone(), Some(new));
        let what = || format!("it is called {to} now, but that is not yet seen everywhere");
        self.note_name(dev, to.as_str()).and_then(|()| self.show_name(dev)).with_context(what)
    }

    /// From here on a successor calls a device so. Nobody else takes a name meanwhile.
    fn take_name(&self, to: &Name, new: &Group) -> Result<()> {
        let claims = self.drive.places().claims.as_ref();
        let claiming = claims.map(|claims| claims.begin()).transpose()?;
        check_free(to)?;
        self.dir.write_table(&new.file().to_string())?;
        drop(claiming);
        Ok(())
    }

    /// Whatever was done before the name was another is undone; the refusal.
    fn called_as_before(&self, dev: Option<DevNr>, old: &Group, why: Error) -> Error {
        let device = old.devices.iter().find(|it| Some(it.table.dev_nr) == dev);
        let name = device.map_or(&old.name, |device| &device.name);
        if let Err(error) = self.drive.rename(dev, name) {
            log::warn!("{name}: the log has another name for it until its next start: {error:#}");
        }
        why.context(NOTHING)
    }

    fn rename_replicator(&mut self, to: &Name, new: Group) -> Result<()> {
        let old = self.table.clone();
        let target = RuntimeDir::open()?.group(to);
        let placeholder = target.lock().context(NOTHING)?;
        // What a daemon that died left would be lost.
        ensure!(
            target.state()?.is_none(),
            "{NOTHING}: the name {to} is taken by a replicator whose daemon died"
        );
        let named = self.drive.rename(None, to.as_str());
        let kept = self.drive.kept();
        if let Err(why) = named.and_then(|()| kept.rename(to, || self.dir.swap_with(&target))) {
            let refusal = self.called_as_before(None, &old, why);
            let_go(&target, placeholder);
            return Err(refusal);
        }
        let before = std::mem::replace(&mut self.dir, target);
        let_go(&before, placeholder);
        log::info!("{}: is called {to} from now on", old.name);
        let claims = self.drive.places().claims.as_ref();
        claims.into_iter().for_each(|claims| claims.follow(&self.dir));
        self.keep_table(&new)?;
        self.tell_udev_who_is_suspended()?;
        self.states().iter().for_each(|it| self.describe(it.ublk));
        Ok(())
    }
}

/// Refuses a name that somebody has.
fn check_free(name: &Name) -> Result<()> {
    match RuntimeDir::open()?.holder_of(name)? {
        Some(holder) => bail!("the name {name} is taken by {holder}; choose another name"),
        None => Ok(()),
    }
}

/// Gives a name back that nothing has any more.
fn let_go(dir: &GroupDir, lock: Lock) {
    if let Err(error) = dir.clear(lock) {
        log::warn!("{error:#}");
    }
}

const NOTHING: &str = "nothing was changed";
