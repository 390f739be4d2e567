//! What a world is to go through, said before it starts.

use std::rc::Rc;

use super::{Faults, Probe, Strike, Subject, World};
use crate::less::Sieve;

impl<'p, M: Subject> World<'p, M> {
    /// Has `probe` look at it at every point.
    #[must_use]
    pub fn probed(mut self, probe: Probe<'p, M>) -> Self {
        self.probe = Some(probe);
        self
    }

    /// Now and then, the driver is held up for long: many things happen at once then.
    #[must_use]
    pub fn held_up(mut self, held_up: bool) -> Self {
        self.held_up = held_up;
        self
    }

    /// Without what is left out there.
    #[must_use]
    pub fn sifted(mut self, sieve: &Rc<Sieve>) -> Self {
        self.sieve = Rc::clone(sieve);
        self
    }

    /// At its `point`-th point, everything is healed; applications go on.
    #[must_use]
    pub fn healed_at(mut self, point: Option<u64>) -> Self {
        self.heal_at = point;
        self
    }

    /// At its `point`-th point, something befalls the sites.
    #[must_use]
    pub fn struck_at(mut self, point: u64, strike: Strike<'p>) -> Self {
        self.strike = Some((point, strike));
        self
    }

    /// Cuts the world at its `point`-th point; points are counted from its start.
    #[must_use]
    pub fn cut_at(mut self, point: Option<u64>) -> Self {
        self.cut_at = point;
        self
    }

    /// Tells on standard error what happens, if `trace`.
    #[must_use]
    pub fn traced(mut self, trace: bool) -> Self {
        self.trace = trace;
        if trace {
            eprintln!("---- a machine starts; the weather: {:?}", self.host.weather);
            eprint!("{}", crate::engine::table_text(&self.host.topology));
        }
        self
    }

    /// Disks fail as `faults` say.
    #[must_use]
    pub fn with_faults(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }
}
