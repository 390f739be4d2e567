//! What the applications do: at random, or by a script.

use blk::{DevNr, Op, Sector, Sectors};

use crate::rng::Rng;
use crate::topology::Topology;

/// A request of an application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The device.
    pub dev: DevNr,
    /// What is asked of it.
    pub op: Op,
}

/// What a workload wants now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Hand in this request.
    Ask(Ask),
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
    /// Batches: all requests of one are under way together, the next follows their end.
    Script {
        /// The batches, in order.
        batches: Vec<Vec<Ask>>,
        /// How many requests were handed out.
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
        })
    }

    /// These batches, one after the other.
    #[must_use]
    pub fn script(batches: Vec<Vec<Ask>>) -> Self {
        Self::Script { batches, handed_out: 0 }
    }

    /// The next request, if one may be handed in beside `under_way` others.
    pub fn next(&mut self, under_way: usize, rng: &mut Rng) -> Next {
        match self {
            Self::Mixed(mixed) => mixed.next(under_way, rng),
            Self::Script { batches, handed_out } => {
                let next = script_next(batches, *handed_out, under_way);
                *handed_out += usize::from(matches!(next, Next::Ask(_)));
                next
            }
        }
    }

    /// Nothing more is asked for from now on.
    pub fn end(&mut self) {
        *self = Self::script(Vec::new());
    }
}

fn script_next(batches: &[Vec<Ask>], handed_out: usize, under_way: usize) -> Next {
    let mut before = 0;
    for batch in batches {
        if handed_out < before + batch.len() {
            let starts = handed_out == before;
            let ask = batch[handed_out - before];
            return if starts && under_way > 0 { Next::Wait } else { Next::Ask(ask) };
        }
        before += batch.len();
    }
    Next::End
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
        let blocks = self.topology.layout().size(dev).0 / block;
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
        Topology {
            devices: vec![Sectors(64), Sectors(40)],
            sync: vec![false, false],
            log: Sectors(4096),
            logical_block: 4096,
        }
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
        let mut script = Workload::script(vec![vec![ask(0), ask(1)], vec![ask(2)]]);
        let mut next = |under_way| script.next(under_way, &mut rng);
        assert_eq!(next(0), Next::Ask(ask(0)));
        assert_eq!(next(1), Next::Ask(ask(1)));
        assert_eq!(next(1), Next::Wait);
        assert_eq!(next(0), Next::Ask(ask(2)));
        assert_eq!(next(0), Next::End);
    }
}
