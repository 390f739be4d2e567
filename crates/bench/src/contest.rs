//! The method: reference, engine and reference again, in slices that alternate.
//!
//! The figures of a shared machine move by a factor of two within minutes; the ratio
//! of two neighbouring slices moves far less. So a round has one slice of each
//! contender, in random order, and only ratios *of the same round* count. The
//! reference runs twice: its ratio to itself, which should be 1, says what the
//! ratios beside it are worth.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use blk::{Machine, SlinkNr, Time};
use clap::Args;
use rand::seq::SliceRandom;
use replicator::{Phase as EnginePhase, Replicator};
use slink::State;

use crate::case::{Case, Kind, Phase};
use crate::drive::{Drive, Measured};
use crate::host::{Busy, cpu_time};
use crate::load::Load;
use crate::outcome::{Outcome, Round, Slice};
use crate::raw::Raw;
use crate::rig::{Place, Rig, Roles};
use crate::scaling::Moment;

/// How long, and how often.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Method {
    /// Rounds of one slice of each contender.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) rounds: u16,
    /// Milliseconds of each slice.
    #[arg(long, default_value_t = 500)]
    pub(crate) slice_ms: u64,
    /// Milliseconds before each slice that do not count.
    #[arg(long, default_value_t = 200)]
    pub(crate) warmup_ms: u64,
}

impl Method {
    /// Long enough for counters to say something.
    pub(crate) fn quick() -> Self {
        Self { rounds: 2, slice_ms: 150, warmup_ms: 50 }
    }
}

/// A machine that can be measured.
trait Contender: Machine {
    /// Whether it has come to the phase that is to be measured, having written `logged`
    /// bytes to its log before.
    fn has_reached(&self, phase: Phase, logged: u64) -> bool;
    /// Bytes it has written to a log.
    fn logged(&self) -> u64;
    /// Whether it is about to leave it.
    fn is_leaving(&self, phase: Phase) -> bool;
    /// Groups it has written to a log.
    fn groups(&self) -> u64;
    /// Bytes of its log, if it has one.
    fn lap(&self) -> u64;
}

/// Runs a case.
pub(crate) fn contest(case: &Case, place: &Place, method: &Method) -> Result<Outcome> {
    if let Some(fault) = case.fault() {
        anyhow::bail!("{case}: {fault}");
    }
    let rig = Rig::new(place, case)?;
    let raw = Raw::new(rig.roles.reference(case), case.depth);
    let mut track = Track { case, method, roles: &rig.roles, load: Load::new(case, SEED) };
    let mut raw = Drive::new(raw, &rig.disks)?;
    let mut engine = Drive::new(rig.engine()?, &rig.disks)?;
    track.open(&mut engine)?;
    track.prime(&mut engine)?;
    let rounds = rounds(method, |turn| match (turn, case.resync) {
        (Turn::Raw | Turn::RawAgain, false) => track.slice(&mut raw),
        (Turn::Engine, false) | (Turn::Raw | Turn::RawAgain, true) => track.slice(&mut engine),
        (Turn::Engine, true) => track.slice_beside_a_resync(&mut engine),
    })?;
    Ok(Outcome { name: case.to_string(), case: case.clone(), rounds, busy: Busy::probe() })
}

/// The engine alone, from an empty log until it has gone around it three times.
pub(crate) fn fill_up(case: &Case, place: &Place, method: &Method) -> Result<Vec<Moment>> {
    let rig = Rig::new(place, case)?;
    let mut track = Track { case, method, roles: &rig.roles, load: Load::new(case, SEED) };
    let mut engine = Drive::new(rig.engine()?, &rig.disks)?;
    track.open(&mut engine)?;
    track.prime(&mut engine)?;
    engine.begin(&mut track.load)?;
    let (began, logged) = (engine.now(), engine.machine.logged());
    let mut moments = Vec::new();
    while engine.machine.logged() - logged < LAPS * engine.machine.lap() {
        let at = engine.now().since(began);
        ensure!(at < WARM_UP_LIMIT, "{case}: the log was not filled within {WARM_UP_LIMIT:?}");
        let end = engine.now() + MOMENT;
        let found = engine.measure(&mut track.load, |_, now| now >= end)?;
        let slice = (found.tally.completed, found.elapsed.as_secs_f64());
        moments.push(Moment::new(at, fill_percent(&engine.machine), slice));
    }
    engine.settle(&mut track.load)?;
    Ok(moments)
}

fn rounds(method: &Method, mut slice: impl FnMut(Turn) -> Result<Slice>) -> Result<Vec<Round>> {
    let mut rng = rand::rng();
    let mut rounds = Vec::new();
    for _ in 0..method.rounds {
        let mut order = [Turn::Raw, Turn::Engine, Turn::RawAgain];
        order.shuffle(&mut rng);
        let (mut first, mut ours, mut again) = (None, None, None);
        for turn in order {
            let slice = Some(slice(turn)?);
            match turn {
                Turn::Raw => first = slice,
                Turn::Engine => ours = slice,
                Turn::RawAgain => again = slice,
            }
        }
        let all = first.zip(ours).zip(again);
        let ((raw, engine), raw_again) = all.expect("each contender had its turn");
        rounds.push(Round { raw, engine, raw_again });
    }
    Ok(rounds)
}

#[derive(Clone, Copy)]
enum Turn {
    Raw,
    Engine,
    RawAgain,
}

/// Where the contenders run.
struct Track<'a> {
    case: &'a Case,
    method: &'a Method,
    roles: &'a Roles,
    load: Load,
}

impl Track<'_> {
    fn open(&mut self, engine: &mut Drive<Replicator>) -> Result<()> {
        engine.settle(&mut self.load).context("while the log was made")?;
        let phase = engine.machine.phase();
        ensure!(matches!(phase, EnginePhase::Running), "the engine did not open: {phase:?}");
        Ok(())
    }

    /// Fills the log once as a burst will. Memory that was never used before costs more than
    /// all that is done with it here, but only once.
    fn prime(&mut self, engine: &mut Drive<Replicator>) -> Result<()> {
        if self.case.kind == Kind::Read || self.case.phase == Phase::Steady {
            return Ok(());
        }
        engine.begin(&mut self.load)?;
        let limit = engine.now() + PRIME_LIMIT;
        engine.run_until(&mut self.load, |m, now| now >= limit || m.is_leaving(Phase::Burst))?;
        engine.settle(&mut self.load)
    }

    /// One slice, from a quiet machine to a quiet machine.
    fn slice<M: Contender>(&mut self, drive: &mut Drive<M>) -> Result<Slice> {
        self.slice_until(drive, |_, _| {})
    }

    /// The same with a last look at the machine while it is still at work.
    fn slice_until<M: Contender>(
        &mut self,
        drive: &mut Drive<M>,
        look: impl FnOnce(&M, Time),
    ) -> Result<Slice> {
        self.warm_up(drive)?;
        let (cpu, groups) = (cpu_time(), drive.machine.groups());
        let end = drive.now() + Duration::from_millis(self.method.slice_ms);
        let phase = self.case.phase;
        let measured = drive.measure(&mut self.load, |m, now| now >= end || m.is_leaving(phase))?;
        let (cpu, groups) = (cpu_time() - cpu, drive.machine.groups() - groups);
        look(&drive.machine, drive.now());
        drive.settle(&mut self.load)?;
        ensure!(measured.tally.completed > 0, "{}: nothing was completed in a slice", self.case);
        Ok(self.summary(&measured, cpu, groups))
    }

    /// A slice all through which the first remote site is copied anew; the copy ends behind it.
    fn slice_beside_a_resync(&mut self, engine: &mut Drive<Replicator>) -> Result<Slice> {
        let site = SlinkNr(1);
        engine.machine.resync(engine.now(), site, None)?;
        let mut lasted = false;
        let slice = self.slice_until(engine, |machine, now| {
            let report = machine.reports(now).find(|(slink, _)| *slink == site);
            lasted = report.is_some_and(|(_, report)| report.state == State::Resyncing);
        })?;
        ensure!(lasted, "{}: the resync was over before the slice; expected more data", self.case);
        Ok(slice)
    }

    fn warm_up<M: Contender>(&mut self, drive: &mut Drive<M>) -> Result<()> {
        drive.begin(&mut self.load)?;
        let (phase, limit) = (self.case.phase, drive.now() + WARM_UP_LIMIT);
        let mut reached = self.case.kind == Kind::Read;
        let logged = drive.machine.logged();
        drive.run_until(&mut self.load, |machine, now| {
            reached |= machine.has_reached(phase, logged);
            reached || now >= limit
        })?;
        ensure!(reached, "{}: the log did not fill within {WARM_UP_LIMIT:?}", self.case);
        // A log that is to take a whole slice has no room for a long warm-up.
        let share = if phase == Phase::Burst { 4 } else { 1 };
        let warm = drive.now() + Duration::from_millis(self.method.warmup_ms / share);
        drive.run_until(&mut self.load, |_, now| now >= warm)
    }

    fn summary(&self, measured: &Measured, cpu_ns: u64, groups: u64) -> Slice {
        let (tally, latencies) = (&measured.tally, &measured.latencies);
        let micros = |quantile| latencies.value_at_quantile(quantile) as f64 / 1000.0;
        Slice {
            seconds: measured.elapsed.as_secs_f64(),
            completed: tally.completed,
            p50_us: micros(0.50),
            p99_us: micros(0.99),
            longest_us: Some(latencies.max() as f64 / 1000.0),
            cpu_us: cpu_ns as f64 / 1000.0,
            enters: tally.enters,
            groups,
            log: tally.of(&self.roles.log),
            ld: tally.of(&self.roles.ld),
            rd: tally.of(&self.roles.rd),
        }
    }
}

impl Contender for Raw {
    fn has_reached(&self, _phase: Phase, _logged: u64) -> bool {
        true
    }

    fn logged(&self) -> u64 {
        0
    }

    fn is_leaving(&self, _phase: Phase) -> bool {
        false
    }

    fn groups(&self) -> u64 {
        0
    }

    fn lap(&self) -> u64 {
        0
    }
}

impl Contender for Replicator {
    /// A steady state is one that lasts: with a whole lap of the log behind it, no write that
    /// the log had room for is counted without its copy.
    fn has_reached(&self, phase: Phase, logged: u64) -> bool {
        phase == Phase::Burst || self.logged() - logged >= self.lap()
    }

    fn logged(&self) -> u64 {
        self.log().map_or(0, |log| log.counters().log_bytes)
    }

    fn is_leaving(&self, phase: Phase) -> bool {
        phase == Phase::Burst && fill_percent(self) >= BURST_TO_PERCENT
    }

    fn groups(&self) -> u64 {
        self.log().map_or(0, |log| log.counters().groups)
    }

    fn lap(&self) -> u64 {
        self.log().map_or(0, |log| log.geometry().ring_bytes())
    }
}

fn fill_percent(engine: &Replicator) -> u64 {
    engine.log().map_or(0, |log| log.used_bytes() * 100 / log.geometry().ring_bytes())
}

/// Every run asks for the same addresses.
const SEED: u64 = 2009;
/// The engine begins to copy when its log is half full; a burst ends a little before that.
const BURST_TO_PERCENT: u64 = 42;
const PRIME_LIMIT: Duration = Duration::from_secs(2);
/// So often a log that fills up is written.
const LAPS: u64 = 3;
/// A limit of a device is spent in tenths of a second: less would show that.
const MOMENT: Duration = Duration::from_millis(200);
const WARM_UP_LIMIT: Duration = Duration::from_secs(60);
