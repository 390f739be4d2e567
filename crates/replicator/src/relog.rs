//! Another log in the place of one that was lost, or that works: asked for, found, at work.
//!
//! One that works is left in three steps, each when whoever keeps the table says so: the new log
//! is [`Relog::Prepared`]; after [`Replicator::give_up_log`] the local disks stand in for the old
//! one ([`Relog::GivenUp`]), and writers wait; a successor would go by the table from then on, so
//! that is to name the new log before [`Replicator::begin_new_log`].

use blk::{DiskId, DiskSeen, Effect, NotOpened, Sector, Sectors, Time};
use replog::{NewLog, ReplaceError, Replog};
use uuid::Uuid;

use crate::machine::Replicator;
use crate::plan::DiskFacts;

/// What somebody wishes for: where the new log is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogWish {
    /// The driver's number for its device, which it opens when it is asked to.
    pub disk: DiskId,
    /// Its path.
    pub path: String,
    /// Where the log begins on it.
    pub start: Sector,
    /// Sectors of the log; as many as the old one has if not given.
    pub size: Option<Sectors>,
    /// Its identity.
    pub uuid: Uuid,
    /// Whoever comes after a crash knows already where it is: it may be at work as soon as the
    /// local disks stand in for the old one, without [`Replicator::begin_new_log`].
    pub is_named: bool,
}

/// How far that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Relog {
    /// Something of it is being done.
    UnderWay(&'static str),
    /// The new log is ready, and the old one at work.
    Prepared,
    /// The new log is ready, and the old one not at work any more.
    GivenUp,
    /// It did not go well; the devices go on without a log.
    Failed(String),
    /// The log is at work.
    Done,
}

impl Replicator {
    /// Whether there is no log at work.
    #[must_use]
    pub fn has_lost_its_log(&self) -> bool {
        self.log.as_ref().is_some_and(Replog::is_lost)
    }

    /// How far the last [`Replicator::replace_log`] is.
    #[must_use]
    pub fn relog(&self) -> Relog {
        let step = self.log.as_ref().and_then(Replog::replacing);
        match (&self.new_log, step, &self.relog_trouble) {
            _ if self.log.as_ref().is_some_and(Replog::has_new_log_ready) => Relog::Prepared,
            _ if self.log.as_ref().is_some_and(Replog::has_new_log_waiting) => Relog::GivenUp,
            (Some(_), ..) => Relog::UnderWay("opening its device"),
            (None, Some(step), _) => Relog::UnderWay(step),
            (None, None, Some(why)) => Relog::Failed(why.clone()),
            (None, None, None) => Relog::Done,
        }
    }

    /// Has another log take the place of the one that is lost, on another device or on the same
    /// one again; or made ready for that, on another device, if there is one at work. What becomes
    /// of it, [`Replicator::relog`] says.
    ///
    /// # Errors
    /// If the log is lost, and the devices do not go on without it; or they are stopping.
    pub fn replace_log(&mut self, wish: LogWish) -> Result<(), ReplaceError> {
        if self.is_stopping() {
            return Err(ReplaceError::Stopping);
        }
        let fits = |log: &&Replog| log.is_bypassed() || !log.is_lost();
        let log = self.log.as_ref().filter(fits).ok_or(ReplaceError::NotBypassed)?;
        if !log.is_lost() && wish.disk == log.disk() {
            return Err(ReplaceError::AtWork { path: wish.path });
        }
        if self.new_log.is_some() || log.replacing().is_some() {
            return Err(ReplaceError::UnderWay);
        }
        self.relog_trouble = None;
        self.pending.push(Effect::Open { disk: wish.disk });
        self.new_log = Some(wish);
        Ok(())
    }

    /// Gives up the log at work for the one that is ready.
    ///
    /// # Errors
    /// If none is.
    pub fn give_up_log(&mut self, now: Time) -> Result<(), ReplaceError> {
        self.log.as_mut().ok_or(ReplaceError::NotPrepared)?.give_up(now)
    }

    /// Has the new log at work.
    ///
    /// # Errors
    /// If none is ready.
    pub fn begin_new_log(&mut self) -> Result<(), ReplaceError> {
        self.log.as_mut().ok_or(ReplaceError::NotPrepared)?.begin_new_log()
    }

    /// Nobody wants the new log any more. Whether it is given up: not if it is about to be at work.
    pub fn cancel_new_log(&mut self) -> bool {
        self.new_log = None;
        self.log.as_mut().is_none_or(Replog::cancel_new_log)
    }

    /// The old log is kept for who may not be left behind, and for nobody else.
    pub(crate) fn watch_catching_up(&mut self, now: Time) {
        let Some(log) = self.log.as_mut().filter(|log| log.catches_up_in_vain(now)) else { return };
        let lacking = self.links.iter().filter(|link| log.covered(link.nr()) < log.written());
        let kept_for = lacking.filter(|link| !link.nr().is_local() && !link.may_be_left());
        let keep = kept_for.map(|link| link.nr()).next();
        log.stop_catching_up(keep);
    }

    /// Without a log it is the links that groups go to, to each when the others have marked
    /// them: as far as that leads, and nothing else has to happen first.
    pub(crate) fn go_on_without_log(&mut self, now: Time, effects: &mut Vec<Effect>) {
        while let Some(before) = self.log.as_ref().and_then(Replog::steps_without_log) {
            self.poll_links(now, effects);
            self.poll_log(now, effects);
            if self.log.as_ref().and_then(Replog::steps_without_log) == Some(before) {
                return;
            }
        }
    }

    /// Whether a disk that was opened is the one that somebody wishes the log to be on.
    pub(crate) fn is_new_log(&self, disk: DiskId) -> bool {
        self.new_log.as_ref().is_some_and(|wish| wish.disk == disk)
    }

    pub(crate) fn new_log_opened(&mut self, result: Result<DiskSeen, NotOpened>) {
        let Some(wish) = self.new_log.take() else { return };
        let LogWish { disk, path, start, size, uuid, is_named } = wish;
        let Some(log) = &mut self.log else { return };
        let began = match result {
            Err(not) => Err(not.why),
            Ok(seen) => {
                let disk_size = seen.size;
                self.new_disk = Some(DiskFacts { id: disk, path: path.clone(), seen: Ok(seen) });
                let new = NewLog { disk, path, disk_size, start, size, uuid, is_named };
                log.replace(new).map_err(|error| error.to_string())
            }
        };
        self.relog_trouble = began.err();
    }

    /// Looks what has become of a new log.
    pub(crate) fn watch_new_log(&mut self) {
        match self.log.as_mut().and_then(Replog::take_replaced) {
            None => {}
            Some(Err(error)) => self.relog_trouble = Some(error.to_string()),
            Some(Ok(new)) => {
                let log = &mut self.plan.log;
                (log.table.path, log.table.start) = (new.path, new.start);
                log.table.size = self.log.as_ref().map(|log| log.geometry().size());
                log.kept = None;
                log.disk = self.new_disk.take().expect("it was opened before it was made");
            }
        }
    }
}
