//! What a world asks of a machine, beside what every driver does.

use blk::{DevNr, DiskId, DiskOp, Machine, Sectors, Time};

use super::log_loss::{Groups, Loss};
use super::moving::Moving;
use crate::coverage::Told;
use crate::oracle::{Admission, View};
use crate::topology::Topology;

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
    /// Has a site compared with what it should hold, and what differs copied.
    fn verify(&mut self, _now: Time, _site: usize, _repair: bool) {}
    /// The ranges in which sites are said to differ, by site.
    fn differing(&self, _now: Time) -> Vec<(usize, u64)> {
        Vec::new()
    }
    /// What it tells of its sites and its log, the newest last; it forgets the oldest.
    fn told(&self, _now: Time) -> Vec<Told> {
        Vec::new()
    }
    /// Lets it go on as another table says, which describes the same disks; not if something
    /// is to come again that has not gone yet, or what goes is the last copy.
    fn reload(&mut self, _now: Time, _topology: &Topology) -> bool {
        true
    }
    /// Says something to it.
    fn message(&mut self, _now: Time, _words: &str) {}
    /// How it is without its log.
    fn loss(&self) -> Loss {
        Loss::None
    }
    /// The groups it took in behind this one, as far as it has them in memory.
    fn groups_behind(&self, after: u64) -> Groups {
        (after, Vec::new())
    }
    /// Has another log, on the same disk, take the place of one that is lost; unless one is
    /// about to.
    fn replace_log(&mut self) -> bool {
        false
    }
    /// Has a log on another disk take the place of its log, whether that works or is lost;
    /// whether that begins. No two have the same number.
    fn move_log(&mut self, _disk: DiskId, _size: Sectors, _nr: u64) -> bool {
        false
    }
    /// The disk of its log.
    fn log_disk(&self) -> DiskId {
        DiskId(0)
    }
    /// How far it is with that.
    fn moving(&self) -> Moving {
        Moving::Done
    }
    /// Gives up the log at work for the one that is ready.
    fn give_up_log(&mut self, _now: Time) {}
    /// Goes on with the new log, which the table names by now.
    fn begin_new_log(&mut self) {}
    /// Nobody wants the new log any more; whether it is given up.
    fn cancel_new_log(&mut self) -> bool {
        true
    }
    /// The size of its log, if that may change.
    fn log_sectors(&self) -> Option<Sectors> {
        None
    }
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
