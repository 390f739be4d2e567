//! What applications ask for as it comes, and what a script does besides.

use blk::{Op, Span};

use super::clock::Due;
use super::weather::{FOR_EVER, Outage};
use super::{Subject, World};
use crate::less::Part;
use crate::oracle::Violation;
use crate::workload::{Ask, Deed, Next};

impl<M: Subject> World<'_, M> {
    pub(super) fn arrive(&mut self) -> Result<(), Violation> {
        self.arriving = false;
        match self.workload.next(self.front.under_way(), &mut self.rng) {
            Next::Ask(_) if !self.sieve.keeps(Part::Request) => {
                let pause = self.workload.pause(&mut self.rng);
                self.await_arrival(pause);
            }
            Next::Ask(ask) if self.is_ambiguous(ask) || self.is_beyond(ask) => {
                self.await_arrival(Span::ZERO);
            }
            Next::Ask(ask) => {
                let (now, oracle) = (self.clock.now, &mut self.host.oracle);
                let event = self.front.hand_in(now, ask, None, oracle);
                self.tell(|| format!("     {event:?}"));
                self.machine.handle(now, event);
                let pause = self.workload.pause(&mut self.rng);
                self.await_arrival(pause);
            }
            Next::Do(deed) => {
                let pause = self.carry_out_deed(deed)?;
                self.await_arrival(pause);
            }
            Next::Wait | Next::End => {}
        }
        Ok(())
    }

    /// What a script does to the world. Returns the pause until it goes on.
    fn carry_out_deed(&mut self, deed: Deed) -> Result<Span, Violation> {
        self.tell(|| format!("     {deed:?}"));
        match deed {
            Deed::Rest(pause) => return Ok(pause),
            Deed::Outage(whom, trouble) => {
                let from = self.host.time;
                self.begin(Outage { whom, from, until: FOR_EVER, trouble })?;
            }
            Deed::Heal => self.heal()?,
            Deed::Resync(site) => self.resync(site, None),
            Deed::Resize(size) => self.resize(size),
            Deed::Grow(by) => self.grow_first(by),
        }
        Ok(Span::ZERO)
    }

    /// Two equal requests for zeroes at a time could not be told apart in the log.
    fn is_ambiguous(&self, ask: Ask) -> bool {
        match ask.op {
            Op::Discard { sector, len } | Op::WriteZeroes { sector, len, .. } => {
                self.host.oracle.is_zeroing(ask.dev, sector, len)
            }
            Op::Read { .. } | Op::Write { .. } | Op::Flush => false,
        }
    }

    /// A script writes where a device has not grown, which the machine refused to do, the log being
    /// lost: a kernel lets nothing through to there.
    fn is_beyond(&self, ask: Ask) -> bool {
        let end = ask.op.range().map(|(sector, len)| sector.0 + len.0);
        end > Some(self.host.topology.length(ask.dev).0)
    }

    pub(super) fn await_arrival(&mut self, pause: Span) {
        if self.serving && !std::mem::replace(&mut self.arriving, true) {
            self.clock.plan(pause, Due::Arrival);
        }
    }
}
