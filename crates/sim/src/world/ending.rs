//! How a life ends that is not cut: everything drains, or is healed and comes back.

use super::{Goal, Halt, Loss, Subject, World};
use crate::oracle::{View, Violation};

impl<M: Subject> World<'_, M> {
    /// Lets everything end, has every site catch up, and compares every leg with the model.
    ///
    /// # Errors
    /// The promise that was seen broken.
    pub fn settle(&mut self) -> Result<Halt, Violation> {
        self.workload.end();
        if self.work()? == Halt::Cut {
            return Ok(Halt::Cut);
        }
        self.machine.drain();
        if self.pump()? == Halt::Cut || self.run_to(Goal::Stopped)? == Halt::Cut {
            return Ok(Halt::Cut);
        }
        if matches!(self.loss, Loss::Held | Loss::TakingOver) {
            // What was on its way to the log when that failed, the next life finds there, or not.
            return Ok(Halt::Done);
        }
        // A machine that does not say how its sites are says that all are well.
        let has_everything = |site: usize| self.views.get(site).is_none_or(View::has_everything);
        // Nobody looks at an idle site: nor whether its disks are still the same.
        let is_old = |site: &usize| !self.host.has_replaced(*site);
        let sites = 0..self.host.topology.sites.len();
        let reached: Vec<usize> =
            sites.filter(|&site| has_everything(site)).filter(is_old).collect();
        self.host.compare_legs(&reached)?;
        let all_named = self.host.topology.sites.iter().all(|site| site.named);
        if reached.len() == self.host.topology.sites.len() && all_named {
            // Only now: a machine that goes on may feed a site once more what it has, and the
            // log keeps what a site lacks that the table leaves out.
            self.host.oracle.settled();
        }
        Ok(Halt::Done)
    }

    /// Heals everything, lets everything end, and gives the sites some minutes: then every one
    /// of them has everything, and is held to what the table says (liveness).
    ///
    /// # Errors
    /// The promise that was seen broken.
    pub fn converge(&mut self) -> Result<Halt, Violation> {
        self.workload.end();
        self.heal()?;
        if self.work()? == Halt::Cut || self.run_to(Goal::Converged)? == Halt::Cut {
            return Ok(Halt::Cut);
        }
        if self.views.is_empty() {
            // It does not say how its sites are; when it has drained, they are to be equal.
            return Ok(Halt::Done);
        }
        let all: Vec<usize> = (0..self.host.topology.sites.len()).collect();
        self.host.compare_legs(&all)?;
        self.met.converged += 1;
        Ok(Halt::Done)
    }
}
