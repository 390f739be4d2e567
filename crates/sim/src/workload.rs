//! What the applications do: at random, or by a script.

use blk::{DevNr, Op, Sector, Sectors, Span};

use crate::rng::Rng;
use crate::topology::Topology;
use crate::world::weather::{Trouble, Whom};

/// A request of an application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The device.
    pub dev: DevNr,
    /// What is asked of it.
    pub op: Op,
}

/// One step of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Requests that are under way together; they begin when those before have ended.
    Together(Vec<Ask>),
    /// Something else, whatever is under way.
    Do(Deed),
}

/// What a script does to the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Applications ask for nothing for so long.
    Rest(Span),
    /// Something befalls the sites, until it is healed.
    Outage(Whom, Trouble),
    /// Everything is healed.
    Heal,
    /// A site is to be copied anew.
    Resync(usize),
    /// The log is to have another size.
    Resize(Sectors),
    /// The first device is to be longer by that.
    Grow(Sectors),
}

/// What a workload wants now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Hand in this request.
    Ask(Ask),
    /// Do this to the world.
    Do(Deed),
    /// Something must end first.
    Wait,
    /// There is no more.
    End,
}

/// A source of requests. A clone goes on alike.
#[derive(Clone, Debug)]
pub enum Workload {
    /// A random mix.
    Mixed(Mixed),
    /// One step after the other.
    Script {
        /// The steps.
        steps: Vec<Step>,
        /// The next of them.
        at: usize,
        /// How many of its requests were handed out.
        handed_out: usize,
    },
}

/// A random mix of requests over the devices of a topology.
#[derive(Clone, Debug)]
pub struct Mixed {
    topology: Topology,
    /// Requests that may be under way at a time.
    depth: usize,
    /// Longest write.
    longest: Sectors,
    /// Percent of requests of any length up to that; the rest are short.
    long: u64,
    /// Requests still to come.
    left: u64,
    /// Percent of reads, of flushes, of zeroing requests; the rest are writes.
    reads: u64,
    flushes: u64,
    zeroes: u64,
    /// Percent of writes with FUA.
    fua: u64,
    /// How often, of 1000 pauses, one is long.
    rests: u64,
}

impl Workload {
    /// A mix drawn from `rng`, of `requests` requests of at most `longest`.
    #[must_use]
    pub fn mixed(topology: &Topology, requests: u64, longest: Sectors, rng: &mut Rng) -> Self {
        Self::Mixed(Mixed {
            topology: topology.clone(),
            depth: *rng.pick(&[1, 2, 4, 8, 32]),
            longest: *rng.pick(&[Sectors(8), longest, longest]),
            long: *rng.pick(&[10, 50, 90]),
            left: requests,
            reads: *rng.pick(&[0, 10, 40]),
            flushes: *rng.pick(&[0, 2, 10]),
            zeroes: *rng.pick(&[0, 5, 20]),
            fua: *rng.pick(&[0, 5, 50]),
            rests: *rng.pick(&[0, 2, 10, 50]),
        })
    }

    /// These steps, one after the other.
    #[must_use]
    pub fn script(steps: Vec<Step>) -> Self {
        Self::Script { steps, at: 0, handed_out: 0 }
    }

    /// These batches: all requests of one are under way together, the next follows their end.
    #[must_use]
    pub fn batches(batches: Vec<Vec<Ask>>) -> Self {
        Self::script(batches.into_iter().map(Step::Together).collect())
    }

    /// The next request, if one may be handed in beside `under_way` others.
    pub fn next(&mut self, under_way: usize, rng: &mut Rng) -> Next {
        match self {
            Self::Mixed(mixed) => mixed.next(under_way, rng),
            Self::Script { steps, at, handed_out } => script_next(steps, at, handed_out, under_way),
        }
    }

    /// How long the applications think before the next request.
    pub fn pause(&self, rng: &mut Rng) -> Span {
        let rests = match self {
            Self::Mixed(mixed) => mixed.rests,
            Self::Script { .. } => 0,
        };
        if rests > 0 && rng.below(1000) < rests {
            let longest = *rng.pick(&[10_000, 500_000, 5_000_000]);
            return Span::from_micros(rng.range(1000, longest));
        }
        let micros = if rng.chance(80) { rng.range(0, 50) } else { rng.range(50, 2000) };
        Span::from_micros(micros)
    }

    /// The devices are as long as this says from now on.
    pub fn follow(&mut self, topology: &Topology) {
        if let Self::Mixed(mixed) = self {
            mixed.topology.spare.clone_from(&topology.spare);
        }
    }

    /// Nothing more is asked for from now on.
    pub fn end(&mut self) {
        *self = Self::script(Vec::new());
    }
}

fn script_next(steps: &[Step], at: &mut usize, handed_out: &mut usize, under_way: usize) -> Next {
    loop {
        let Some(step) = steps.get(*at) else { return Next::End };
        match step {
            Step::Together(asks) if *handed_out < asks.len() => {
                if *handed_out == 0 && under_way > 0 {
                    return Next::Wait;
                }
                *handed_out += 1;
                return Next::Ask(asks[*handed_out - 1]);
            }
            Step::Together(_) => (*at, *handed_out) = (*at + 1, 0),
            Step::Do(deed) => {
                *at += 1;
                return Next::Do(*deed);
            }
        }
    }
}

impl Mixed {
    fn next(&mut self, under_way: usize, rng: &mut Rng) -> Next {
        if self.left == 0 {
            return Next::End;
        }
        if under_way >= self.depth {
            return Next::Wait;
        }
        self.left -= 1;
        let dev = DevNr(u32::try_from(rng.index(self.topology.devices.len())).expect("few"));
        Next::Ask(Ask { dev, op: self.op(dev, rng) })
    }

    fn op(&self, dev: DevNr, rng: &mut Rng) -> Op {
        let (sector, len) = self.place(dev, rng);
        let drawn = rng.below(100);
        let (flushes, zeroes) =
            (self.reads + self.flushes, self.reads + self.flushes + self.zeroes);
        let fua = rng.chance(self.fua);
        match drawn {
            _ if drawn < self.reads => Op::Read { sector, len },
            _ if drawn < flushes => Op::Flush,
            _ if drawn < zeroes && rng.chance(50) => Op::Discard { sector, len },
            _ if drawn < zeroes => Op::WriteZeroes { sector, len, unmap: rng.chance(50), fua },
            _ => Op::Write { sector, len, fua },
        }
    }

    /// Half of them in a hot corner, so that requests overlap.
    fn place(&self, dev: DevNr, rng: &mut Rng) -> (Sector, Sectors) {
        let block = self.topology.block().0;
        let blocks = self.topology.length(dev).0 / block;
        let longest = (self.longest.0 / block).clamp(1, blocks);
        let len = if rng.chance(self.long) {
            rng.range(1, longest)
        } else {
            rng.range(1, longest.min(4))
        };
        let room = blocks - len;
        let hot = if rng.chance(50) { room.min(8) } else { room };
        (Sector(rng.range(0, hot) * block), Sectors(len * block))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topology() -> Topology {
        Topology::plain(&[Sectors(64), Sectors(40)], &[false, false], 4096)
    }

    #[test]
    fn random_requests_are_aligned_and_inside_their_device() {
        let mut rng = Rng::new(3);
        for _ in 0..20 {
            let mut workload = Workload::mixed(&topology(), 200, Sectors(1024), &mut rng);
            while let Next::Ask(ask) = workload.next(0, &mut rng) {
                let Some((sector, len)) = ask.op.range() else { continue };
                assert!(topology().layout().range(ask.dev, sector, len).is_some(), "{ask:?}");
                assert!(sector.0 % 8 == 0 && len.0 % 8 == 0 && len.0 > 0, "{ask:?}");
            }
        }
    }

    #[test]
    fn a_batch_of_a_script_waits_for_the_end_of_the_one_before() {
        let ask = |dev| Ask { dev: DevNr(dev), op: Op::Flush };
        let mut rng = Rng::new(1);
        let mut script = Workload::batches(vec![vec![ask(0), ask(1)], vec![ask(2)]]);
        let mut next = |under_way| script.next(under_way, &mut rng);
        assert_eq!(next(0), Next::Ask(ask(0)));
        assert_eq!(next(1), Next::Ask(ask(1)));
        assert_eq!(next(1), Next::Wait);
        assert_eq!(next(0), Next::Ask(ask(2)));
        assert_eq!(next(0), Next::End);
    }
}
