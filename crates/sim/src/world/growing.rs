//! Devices that grow, between two lives or while applications work. Their disks are long enough
//! from the beginning; what lies behind a device's end was never promised to be anything.

use std::ops::Range;
use std::rc::Rc;

use blk::{DevNr, Sectors, Span};

use super::clock::Due;
use super::copies::Truth;
use super::{Host, Stage, Subject, World};
use crate::less::Part;
use crate::payload::Content;
use crate::rng::Rng;
use crate::topology::Topology;

impl Host {
    /// What devices may grow by is nobody's yet; on remote disks it is anything.
    pub(super) fn set_spare_aside(&mut self) {
        let topology = self.topology.clone();
        for dev in topology.layout().devices() {
            let row = self.beyond(dev, topology.length(dev));
            self.oracle.set_aside(&row);
            let size = topology.layout().size(dev).0;
            for site in 1..topology.sites.len() {
                for sector in topology.length(dev).0..size {
                    self.disks.damage_leg(dev, site, sector, Content::initial(site));
                }
            }
        }
    }

    /// The row's indices of a device, as long as it is by the table.
    pub(super) fn row_of(&self, dev: DevNr) -> Range<usize> {
        let whole = self.oracle.layout().device(dev);
        whole.start..self.beyond(dev, self.topology.length(dev)).start
    }

    /// The row's indices of what lies behind an end of a device, on its disks.
    fn beyond(&self, dev: DevNr, end: Sectors) -> Range<usize> {
        let whole = self.oracle.layout().device(dev);
        whole.start + usize::try_from(end.0).expect("a simulated device fits in memory")..whole.end
    }

    /// The table is this, of longer devices: remote sites lack what is new.
    fn grow(&mut self, topology: Topology) {
        let before = std::mem::replace(&mut self.topology, Rc::new(topology));
        self.oracle.retable(self.topology.rules());
        let topology = self.topology.clone();
        let is_longer = |dev: &DevNr| topology.length(*dev) > before.length(*dev);
        for dev in topology.layout().devices().filter(is_longer) {
            let (start, end) = (self.beyond(dev, before.length(dev)).start, self.row_of(dev).end);
            let first = self.oracle.layout().device(dev).start;
            for site in 0..before.sites.len() {
                let leg = self.disks.leg(dev, site);
                self.oracle.grown(site, start..end, |at| leg.candidates((at - first) as u64));
            }
            self.truths[1..].fill(Truth::Partial);
        }
    }

    /// A device grows before the next life begins, if its local disk has what it holds; whether
    /// one does.
    pub fn grow_at_random(&mut self, rng: &mut Rng) -> bool {
        let has_history = !self.recovered().is_empty();
        let is_whole = self.truths[0] == Truth::Whole && !self.oracle.is_without_log();
        let grown = self.topology.grown(rng).filter(|_| has_history && is_whole);
        let Some(topology) = grown else { return false };
        self.grow(topology);
        true
    }
}

impl<M: Subject> World<'_, M> {
    /// Now and then, somebody has a device grow; `rng` decides which.
    #[must_use]
    pub fn grown(mut self, rng: Option<Rng>) -> Self {
        if let Some(mut rng) = rng {
            let after = pause(&mut rng);
            self.clock.plan(after, Due::Grow);
            self.grower = Some(rng);
        }
        self
    }

    pub(super) fn grow_at_random(&mut self) {
        let Some(mut rng) = self.grower.take() else { return };
        if self.serving && self.machine.stage() == Stage::Running {
            self.grow(&mut rng);
        }
        if !self.healed {
            let after = pause(&mut rng);
            self.clock.plan(after, Due::Grow);
        }
        self.grower = Some(rng);
    }

    /// A device grows, if the machine lets it.
    fn grow(&mut self, rng: &mut Rng) {
        let Some(topology) = self.host.topology.grown(rng) else { return };
        if self.host.truths[0] == Truth::Whole && self.sieve.keeps(Part::Growth) {
            self.grow_to(topology);
        }
    }

    /// The first device becomes longer by that.
    pub(super) fn grow_first(&mut self, by: Sectors) {
        let mut topology = (*self.host.topology).clone();
        topology.spare[0] = topology.spare[0] - by;
        self.grow_to(topology);
    }

    fn grow_to(&mut self, topology: Topology) {
        self.tell(|| format!("     devices grow, but for {:?}", topology.spare));
        let takes = self.machine.reload(self.clock.now, &topology);
        self.sieve.saw(|| format!("table: a device grows{}", if takes { "" } else { ", refused" }));
        if takes {
            self.met.grown += 1;
            self.workload.follow(&topology);
            self.host.grow(topology);
        }
    }
}

fn pause(rng: &mut Rng) -> Span {
    let most = *rng.pick(&[1_000, 30_000, 1_000_000]);
    Span::from_micros(rng.range(1, most))
}
