//! What a world asks of a machine, beside what every driver does.

use blk::{DevNr, DiskOp, Machine, Time};

use super::log_loss::{Groups, Loss};
use crate::oracle::{Admission, View};

/// A machine that a world can open, stop and ask how it is.
pub trait Subject: Machine {
    /// Where it is in its life.
    fn stage(&self) -> Stage;
    /// Asks it to let every site catch up and then to stop.
    fn drain(&mut self);
    /// How its sites are, in the order of the topology; nothing if it does not say.
    fn views(&self, _now: Time, _views: &mut Vec<View>) {}
    /// Has a site, or one device there, copied anew, whatever disks are there; whether it does.
    fn resync(&mut self, _now: Time, _site: usize, _dev: Option<DevNr>) -> bool {
        true
    }
    /// How it is without its log.
    fn loss(&self) -> Loss {
        Loss::None
    }
    /// The groups it took in behind this one, as far as it has them in memory.
    fn groups_behind(&self, after: u64) -> Groups {
        (after, Vec::new())
    }
    /// Has another log, on the same disk, take the place of one that is lost.
    fn replace_log(&mut self) {}
    /// The writes that an operation on the log's disk takes into the log, in order.
    fn admissions(op: &DiskOp) -> Vec<Admission>;
}

/// Where a machine is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Recovering, or making its log.
    Opening,
    /// In service.
    Running,
    /// Drained and at rest.
    Stopped,
    /// It could not open.
    Failed(String),
}
