//! One machine in a world of virtual disks and virtual time, watched by the oracle.
//!
//! The world does what a driver does: hands in events, asks for effects, carries them
//! out in order. Every effect carried out and every operation ended is a *point*; the
//! world can be cut at any of them, between two effects of one batch too.

mod back;
mod clock;
mod crash;
mod disks;
mod faults;
mod front;
#[cfg(test)]
mod tests;

use blk::{DiskOp, Effect, Machine, Op, Sectors, Span, Time};

pub use back::OpKind;
pub use crash::{Cut, Host};
pub use disks::Disks;
pub use faults::{Fault, Faults};

use crate::oracle::{Admission, Violation};
use crate::payload::Content;
use crate::rng::Rng;
use crate::topology::Role;
use crate::workload::{Ask, Next, Workload};
use back::Back;
use clock::{Clock, Due};
use front::{Front, Orphan};

/// A machine that a world can open, stop and ask how it is.
pub trait Subject: Machine {
    /// Where it is in its life.
    fn stage(&self) -> Stage;
    /// Asks it to let every site catch up and then to stop.
    fn drain(&mut self);
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

/// A machine, its disks, its applications, and the oracle that watches them.
pub struct World<M> {
    machine: M,
    host: Host,
    back: Back,
    front: Front,
    clock: Clock,
    workload: Workload,
    orphans: Vec<Orphan>,
    faults: Faults,
    rng: Rng,
    points: u64,
    cut_at: Option<u64>,
    digest: u64,
    /// Whether applications are let in: not before recovery has been judged.
    serving: bool,
    arriving: bool,
    idle_polls: u32,
}

/// What a world is run towards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goal {
    /// The machine is in service.
    Running,
    /// The workload has ended, and so has every request.
    Quiet,
    /// The machine has drained and stopped.
    Stopped,
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halt {
    /// What it was run towards has come.
    Done,
    /// It was cut at the point set by [`World::cut_at`].
    Cut,
}

impl<M: Subject> World<M> {
    /// Starts `machine` on the disks of `host`, at time 0.
    pub fn start(host: Host, machine: M, workload: Workload, rng: Rng) -> Self {
        let orphans = host.orphans.clone();
        Self {
            machine,
            host,
            back: Back::default(),
            front: Front::default(),
            clock: Clock::default(),
            workload,
            orphans,
            faults: Faults::default(),
            rng,
            points: 0,
            cut_at: None,
            digest: 0,
            serving: false,
            arriving: false,
            idle_polls: 0,
        }
    }

    /// Cuts the world at its `point`-th point; points are counted from its start.
    #[must_use]
    pub fn cut_at(mut self, point: Option<u64>) -> Self {
        self.cut_at = point;
        self
    }

    /// Disks fail as `faults` say.
    #[must_use]
    pub fn with_faults(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }

    /// Whether a fault explains that it got stuck, stopped without a site that it could
    /// not reach, or, if it is the log's or an LD's, did not open.
    pub fn is_excused(&self, violation: &Violation) -> bool {
        match violation {
            Violation::Stuck { .. } => self.faults.stick(),
            Violation::Diverged { .. } => self.faults.any(),
            Violation::OpenFailed { .. } => self.faults.reach_applications(),
            _ => false,
        }
    }

    /// Points passed so far.
    pub fn points(&self) -> u64 {
        self.points
    }

    /// A number that depends on everything that has happened, in order.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// What the devices read as after the last recovery, in the row of all sectors.
    pub fn recovered(&self) -> &[Content] {
        self.host.recovered()
    }

    /// The machine.
    pub fn machine(&self) -> &M {
        &self.machine
    }

    /// Opens the machine and judges what it brought back.
    ///
    /// # Errors
    /// The promise that was seen broken.
    pub fn open(&mut self) -> Result<Halt, Violation> {
        match self.run_to(Goal::Running)? {
            Halt::Done => self.audit(),
            Halt::Cut => Ok(Halt::Cut),
        }
    }

    /// Lets the applications run until they have no more to ask for.
    ///
    /// # Errors
    /// The promise that was seen broken.
    pub fn work(&mut self) -> Result<Halt, Violation> {
        self.serving = true;
        for orphan in std::mem::take(&mut self.orphans) {
            let event = self.front.hand_in(orphan.ask, orphan.content, &mut self.host.oracle);
            self.machine.handle(self.clock.now, event);
        }
        self.await_arrival(Span::ZERO);
        self.run_to(Goal::Quiet)
    }

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
        self.host.compare_legs()?;
        Ok(Halt::Done)
    }

    /// Lets time pass without asking for anything.
    ///
    /// # Errors
    /// The promise that was seen broken.
    pub fn idle(&mut self, time: Span) -> Result<Halt, Violation> {
        let end = self.clock.now + time;
        while self.next_time().is_some_and(|at| at <= end) {
            if self.step()? == Halt::Cut {
                return Ok(Halt::Cut);
            }
        }
        self.clock.now = self.clock.now.max(end);
        Ok(Halt::Done)
    }

    fn run_to(&mut self, goal: Goal) -> Result<Halt, Violation> {
        let start = self.clock.now;
        while !self.reached(goal)? {
            if self.step()? == Halt::Cut {
                return Ok(Halt::Cut);
            }
            let taken = self.clock.now.since(start);
            if taken > PATIENCE {
                let what = format!("{goal:?} is not reached");
                return Err(Violation::Stuck { what, seconds: taken.as_secs() });
            }
        }
        Ok(Halt::Done)
    }

    fn reached(&self, goal: Goal) -> Result<bool, Violation> {
        let stage = self.machine.stage();
        if let Stage::Failed(why) = stage {
            return Err(Violation::OpenFailed { why });
        }
        Ok(match goal {
            Goal::Running => stage == Stage::Running,
            Goal::Quiet => self.front.under_way() == 0 && !self.arriving,
            Goal::Stopped => stage == Stage::Stopped,
        })
    }

    /// Goes on to the next instant at which something is due.
    fn step(&mut self) -> Result<Halt, Violation> {
        let Some(at) = self.next_time() else { return self.wait_for_nothing() };
        self.clock.now = self.clock.now.max(at);
        if self.rng.chance(20) {
            // The driver was busy elsewhere: several things have happened meanwhile.
            self.clock.now = self.clock.now + Span::from_micros(self.rng.range(1, 300));
        }
        while let Some(due) = self.clock.pop() {
            self.happen(due)?;
            if self.point() == Halt::Cut {
                return Ok(Halt::Cut);
            }
        }
        self.pump()
    }

    fn next_time(&self) -> Option<Time> {
        self.machine.wakeup().into_iter().chain(self.clock.next()).min()
    }

    fn wait_for_nothing(&mut self) -> Result<Halt, Violation> {
        let what = format!(
            "nothing is in flight, the machine asks for no wakeup, {} requests wait",
            self.front.under_way()
        );
        // Opening may be a matter of asking once more.
        let before = self.points;
        match self.pump()? {
            Halt::Done if self.points == before => Err(Violation::Stuck { what, seconds: 0 }),
            halt => Ok(halt),
        }
    }

    fn happen(&mut self, due: Due) -> Result<(), Violation> {
        match due {
            Due::Io(io) => {
                self.note(1, io.nr ^ u64::from(io.owner.0) << 48);
                let event = self.back.end(io, &mut self.host, &mut self.faults, &mut self.rng)?;
                self.machine.handle(self.clock.now, event);
            }
            Due::Arrival => self.arrive(),
        }
        Ok(())
    }

    fn arrive(&mut self) {
        self.arriving = false;
        match self.workload.next(self.front.under_way(), &mut self.rng) {
            Next::Ask(ask) if self.is_ambiguous(ask) => self.await_arrival(Span::ZERO),
            Next::Ask(ask) => {
                let event = self.front.hand_in(ask, None, &mut self.host.oracle);
                self.machine.handle(self.clock.now, event);
                let pause = clock::think_time(&mut self.rng);
                self.await_arrival(pause);
            }
            Next::Wait | Next::End => {}
        }
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

    fn await_arrival(&mut self, pause: Span) {
        if self.serving && !std::mem::replace(&mut self.arriving, true) {
            self.clock.plan(pause, Due::Arrival);
        }
    }

    /// Carries out effects until the machine has no more.
    fn pump(&mut self) -> Result<Halt, Violation> {
        let before = self.points;
        let mut effects = Vec::new();
        loop {
            self.machine.poll(self.clock.now, &mut effects);
            if effects.is_empty() {
                break;
            }
            for effect in effects.drain(..) {
                self.carry_out(effect)?;
                if self.point() == Halt::Cut {
                    return Ok(Halt::Cut);
                }
            }
        }
        self.watch_idling(before)?;
        Ok(Halt::Done)
    }

    /// A machine that keeps asking to be woken at once, and then does nothing, is stuck.
    fn watch_idling(&mut self, points_before: u64) -> Result<(), Violation> {
        let asks_at_once = self.machine.wakeup().is_some_and(|at| at <= self.clock.now);
        let idle = self.points == points_before && asks_at_once;
        self.idle_polls = if idle { self.idle_polls + 1 } else { 0 };
        if self.idle_polls > IDLE_POLLS_MAX {
            let what = "the machine asks for a wakeup in the past, again and again".into();
            return Err(Violation::Stuck { what, seconds: 0 });
        }
        Ok(())
    }

    fn carry_out(&mut self, effect: Effect) -> Result<(), Violation> {
        match effect {
            Effect::Fetch { req, buf } => {
                self.note(2, req.0);
                let event = self.front.fetch(req, buf)?;
                self.machine.handle(self.clock.now, event);
            }
            Effect::Deliver { req, offset, data } => {
                self.note(3, req.0 ^ offset.0 << 48);
                self.front.deliver(req, offset, &data)?;
            }
            Effect::Complete { req, result } => {
                self.note(4, req.0 << 1 | u64::from(result.is_ok()));
                let faults = self.faults.reach_applications();
                self.front.complete(req, result, faults, &mut self.host.oracle)?;
                self.await_arrival(Span::ZERO);
            }
            Effect::Open { disk } => self.note(6, u64::from(disk.0)),
            Effect::Submit { io, disk, op } => {
                self.note(5, io.nr ^ u64::from(disk.0) << 48);
                let role = self.host.disks.role(disk)?;
                let latency = clock::latency(role, &mut self.rng);
                if role == Role::Log {
                    self.host.oracle.admitted(&M::admissions(&op), written(&op))?;
                }
                self.back.submit(io, disk, op, &mut self.host)?;
                self.clock.plan(latency, Due::Io(io));
            }
        }
        Ok(())
    }

    fn point(&mut self) -> Halt {
        self.points += 1;
        if self.cut_at == Some(self.points) { Halt::Cut } else { Halt::Done }
    }

    fn note(&mut self, what: u64, which: u64) {
        let Time(now) = self.clock.now;
        for word in [what, which, now] {
            self.digest = (self.digest ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
        }
    }
}

fn written(op: &DiskOp) -> Sectors {
    match op {
        DiskOp::Write { data, .. } => {
            Sectors::from_bytes(data.iter().map(|buf| buf.len() as u64).sum())
        }
        DiskOp::WriteZeroes { len, .. } => *len,
        DiskOp::Read { .. } | DiskOp::Flush => Sectors(0),
    }
}

/// Virtual time after which something that must end is taken to be stuck. Beyond every
/// deadline and back-off of the machine.
const PATIENCE: Span = Span::from_secs(600);

/// Polls without any effect, in a row, that a machine may ask for.
const IDLE_POLLS_MAX: u32 = 1000;
