//! One machine in a world of virtual disks and virtual time, watched by the oracle.
//!
//! The world does what a driver does: hands in events, asks for effects, carries them
//! out in order. Every effect carried out and every operation ended is a *point*; the
//! world can be cut at any of them, between two effects of one batch too.

mod arrivals;
mod back;
mod clock;
mod copies;
mod crash;
mod disks;
mod ending;
mod excuses;
mod faults;
mod front;
mod growing;
mod handles;
mod log_loss;
mod messages;
mod met;
mod moving;
mod outages;
mod resizing;
mod setup;
mod subject;
#[cfg(test)]
mod tests;
mod trace;
mod verifying;
pub(crate) mod watching;
pub mod weather;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use blk::{DevNr, DiskId, Effect, Span, Time};

pub use back::OpKind;
pub use crash::{Cut, Host};
pub use disks::Disks;
pub use faults::{Fault, Faults};
pub use log_loss::{Groups, Loss};
pub use met::Met;
pub use moving::Moving;
pub use subject::{Stage, Subject};
pub use weather::Weather;

use crate::less::{Part, Sieve};
use crate::oracle::{View, Violation};
use crate::payload::Content;
use crate::rng::Rng;
use crate::topology::Site;
use crate::workload::Workload;
use back::Back;
use clock::{Clock, Due};
use front::{Front, Orphan, Terms};
use handles::Handles;
use moving::Mover;
use resizing::Resizer;
use trace::ended;
use verifying::Auditor;
use watching::Watcher;

/// A machine, its disks, its applications, and the oracle that watches them.
pub struct World<'p, M> {
    machine: M,
    host: Host,
    back: Back,
    front: Front,
    clock: Clock,
    workload: Workload,
    orphans: Vec<Orphan>,
    faults: Faults,
    handles: Handles,
    /// Disks on which something of a dead process is still in flight.
    zombies: BTreeSet<DiskId>,
    /// What waits for everything to be healed.
    parked: Vec<Due>,
    /// How the machine says that its sites are.
    views: Vec<View>,
    rng: Rng,
    /// The host's time when the machine was started.
    base: Time,
    points: u64,
    cut_at: Option<u64>,
    probe: Option<Probe<'p, M>>,
    /// Whether the driver is held up now and then.
    held_up: bool,
    /// At which point everything is healed.
    heal_at: Option<u64>,
    /// At which point something befalls the sites, and what.
    strike: Option<(u64, Strike<'p>)>,
    met: Met,
    /// What is left out, and what was seen.
    sieve: Rc<Sieve>,
    watcher: Watcher,
    /// Has sites compared.
    auditor: Option<Auditor>,
    /// Who says something now and then, and which sites he has taken down.
    teller: Option<Rng>,
    at_home: Option<Rng>,
    held: BTreeSet<usize>,
    resizer: Resizer,
    mover: Mover,
    /// Who has devices grow.
    grower: Option<Rng>,
    /// Sites that he has taken something of, as they were.
    whole: BTreeMap<usize, Site>,
    /// Tells what happens.
    trace: bool,
    digest: u64,
    /// Something was, or may be, wrong with the local site.
    local_trouble: bool,
    /// Since when a remote site has everything and nothing will befall it.
    sound_since: copies::SoundSince,
    /// What is to be asked for again, once it may be copied anew.
    asking: BTreeSet<(usize, Option<DevNr>)>,
    /// How the machine is without its log, and the last group that it was seen to take in.
    loss: Loss,
    newest_group: u64,
    /// Sites that somebody gave up since there is no log.
    given_up: BTreeSet<usize>,
    /// What is being kept on the host.
    keeping: Option<Vec<u8>>,
    /// Whether all was healed: from then on, who replaces a disk says so.
    healed: bool,
    /// Whether applications are let in: not before recovery has been judged.
    serving: bool,
    arriving: bool,
    idle_polls: u32,
}

/// Looks at a world at every point.
pub type Probe<'p, M> = Box<dyn FnMut(&World<'p, M>) -> Result<(), Violation> + 'p>;

/// The outage that begins at an instant.
pub type Strike<'p> = Box<dyn FnOnce(Time) -> weather::Outage + 'p>;

/// What a world is run towards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goal {
    /// The machine is in service.
    Running,
    /// The workload has ended, and so has every request.
    Quiet,
    /// Every site has everything.
    Converged,
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

impl<'p, M: Subject> World<'p, M> {
    /// Starts `machine`, which was made for `host` as it is, on the disks of `host`, at time 0.
    pub fn start(host: Host, machine: M, workload: Workload, rng: Rng) -> Self {
        let orphans = host.orphans.clone();
        let disks: Vec<DiskId> = host.disks.all().map(|(disk, _)| disk).collect();
        let mut world = Self {
            machine,
            back: Back::default(),
            front: Front::default(),
            clock: Clock::default(),
            workload,
            orphans,
            faults: Faults::default(),
            handles: Handles::new(disks.iter().map(|&disk| host.seen(disk).is_ok())),
            zombies: disks.into_iter().filter(|&disk| host.disks.is_busy(disk)).collect(),
            parked: Vec::new(),
            views: Vec::new(),
            rng,
            base: host.time,
            points: 0,
            cut_at: None,
            probe: None,
            held_up: false,
            heal_at: None,
            strike: None,
            met: Met::default(),
            sieve: Rc::default(),
            watcher: Watcher::default(),
            auditor: None,
            teller: None,
            at_home: None,
            held: BTreeSet::new(),
            resizer: Resizer::default(),
            mover: Mover::default(),
            grower: None,
            whole: BTreeMap::new(),
            trace: false,
            digest: 0,
            local_trouble: false,
            asking: BTreeSet::new(),
            sound_since: None,
            loss: Loss::None,
            newest_group: 0,
            given_up: BTreeSet::new(),
            keeping: None,
            healed: false,
            serving: false,
            arriving: false,
            idle_polls: 0,
            host,
        };
        world.met.zombies += world.zombies.len() as u64;
        // One that starts without its local disks reads elsewhere until it has looked again.
        world.local_trouble = world.host.is_local_in_trouble() || !world.host.sees_local_disks();
        world.plan_weather();
        world
    }

    /// Points passed so far.
    pub fn points(&self) -> u64 {
        self.points
    }

    /// A number that depends on everything that has happened, in order.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// What it met so far.
    pub fn met(&self) -> Met {
        let (hung, bad) = (self.back.hung, self.back.bad);
        Met { hung, bad, longest: self.front.longest, ..self.met }
    }

    /// What the devices read as after the last recovery, in the row of all sectors.
    pub fn recovered(&self) -> &[Content] {
        self.host.recovered()
    }

    /// The machine.
    pub fn machine(&self) -> &M {
        &self.machine
    }

    /// The machine alone, for who goes on with it without a world.
    pub fn into_machine(self) -> M {
        self.machine
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
            let (now, oracle) = (self.clock.now, &mut self.host.oracle);
            let event = self.front.hand_in(now, orphan.ask, orphan.content, oracle);
            self.machine.handle(self.clock.now, event);
        }
        self.await_arrival(Span::ZERO);
        self.plan_verify();
        self.run_to(Goal::Quiet)
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
        self.set_now(end);
        Ok(Halt::Done)
    }

    fn run_to(&mut self, goal: Goal) -> Result<Halt, Violation> {
        let (start, mut healed) = (self.clock.now, 0);
        while !self.reached(goal)? {
            let stepped = self.step();
            if stepped == Ok(Halt::Cut) {
                return Ok(Halt::Cut);
            }
            let taken = self.clock.now.since(start);
            let waits = matches!(stepped, Err(Violation::Stuck { .. })) || taken > OUTAGE_PATIENCE;
            let heals = waits && taken <= PATIENCE && healed < HEALINGS_MAX;
            if heals && self.waits_for_a_site(goal) {
                self.heal()?;
                healed += 1;
                continue;
            }
            stepped?;
            // What can't be helped need not be waited for that long.
            if taken > PATIENCE || (waits && self.has_lost_log_and_local()) {
                let what = format!("{goal:?} is not reached, {:?}", self.views);
                return Err(Violation::Stuck { what, seconds: taken.as_secs() });
            }
        }
        Ok(Halt::Done)
    }

    fn set_now(&mut self, now: Time) {
        self.clock.now = self.clock.now.max(now);
        self.host.time = self.base + self.clock.now.since(Time(0));
    }

    fn reached(&self, goal: Goal) -> Result<bool, Violation> {
        let stage = self.machine.stage();
        if let Stage::Failed(why) = stage {
            return Err(Violation::OpenFailed { why });
        }
        Ok(match goal {
            Goal::Running => stage == Stage::Running,
            Goal::Quiet => self.front.under_way() == 0 && !self.arriving,
            Goal::Converged => {
                let all_well = self.views.iter().all(View::is_well);
                // Another log takes the place of one that is lost, and has everything.
                self.host.strangers.is_empty() && all_well && self.loss == Loss::None
            }
            Goal::Stopped => stage == Stage::Stopped,
        })
    }

    /// Goes on to the next instant at which something is due.
    fn step(&mut self) -> Result<Halt, Violation> {
        let Some(at) = self.next_time() else { return self.wait_for_nothing() };
        self.set_now(at);
        if self.rng.chance(20) {
            // The driver was busy elsewhere: several things have happened meanwhile.
            let delayed = self.sieve.keeps(Part::Delay);
            let held_up = self.held_up && self.rng.chance(2);
            let most = if held_up { 3_000_000 } else { 300 };
            let busy = Span::from_micros(self.rng.range(1, most));
            if delayed {
                self.set_now(self.clock.now + busy);
            }
        }
        while let Some(due) = self.clock.pop() {
            self.happen(due)?;
            if self.point()? == Halt::Cut {
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
        self.watch(|_| due.word().to_owned());
        match due {
            Due::Io(serial) => {
                self.watch(|world| world.back.what(serial, &world.host));
                let (host, rng) = (&mut self.host, &mut self.rng);
                match self.back.end(serial, host, &mut self.faults, rng)? {
                    back::Due::Nothing => {}
                    back::Due::Hangs(until) => {
                        self.tell(|| format!("     {serial:?} hangs"));
                        self.postpone(until, due);
                    }
                    back::Due::Ended(event) => {
                        self.note(1, serial.number());
                        self.tell(|| format!("     {serial:?} {}", ended(&event)));
                        self.machine.handle(self.clock.now, event);
                    }
                }
            }
            Due::Opened(disk) => {
                if let Some(event) = self.opened(disk)? {
                    self.note(7, u64::from(disk.0));
                    self.tell(|| format!("     {event:?}"));
                    self.machine.handle(self.clock.now, event);
                }
            }
            Due::Zombies(disk) => {
                self.tell(|| format!("     zombies land on {disk:?}"));
                self.zombies_land(disk)?;
            }
            Due::Outage(nr) => {
                self.tell(|| format!("     {:?}", self.host.weather.get(nr)));
                self.outage_begins(nr)?;
            }
            Due::Resync(site, dev) => {
                self.tell(|| format!("     resync {site} {dev:?}"));
                self.asking.remove(&(site, dev));
                self.resync(site, dev);
            }
            Due::Verify(site) => {
                self.tell(|| format!("     verify {site}"));
                self.audit_site(site);
            }
            Due::Message => self.message(),
            Due::Kept => {
                let event = self.kept();
                self.tell(|| format!("     {event:?}"));
                self.machine.handle(self.clock.now, event);
            }
            Due::Resize => self.resize_at_random(),
            Due::Move => self.move_at_random(),
            Due::Named => self.log_is_named(),
            Due::Grow => self.grow_at_random(),
            Due::Arrival => self.arrive()?,
        }
        Ok(())
    }

    /// Carries out effects until the machine has no more.
    fn pump(&mut self) -> Result<Halt, Violation> {
        let before = self.points;
        let mut effects = Vec::new();
        loop {
            self.machine.poll(self.clock.now, &mut effects);
            let told = self.look_at_log()? | self.look_at_move();
            if effects.is_empty() && !told {
                break;
            }
            self.look_at_sites()?;
            for effect in effects.drain(..) {
                self.carry_out(effect)?;
                if self.point()? == Halt::Cut {
                    return Ok(Halt::Cut);
                }
            }
        }
        self.look_at_sites()?;
        self.watch_idling(before)?;
        Ok(Halt::Done)
    }

    /// Hears how the machine says that its sites are.
    fn look_at_sites(&mut self) -> Result<(), Violation> {
        let before = std::mem::take(&mut self.views);
        self.machine.views(self.clock.now, &mut self.views);
        if before.is_empty() && !self.views.is_empty() {
            self.tell(|| format!("sites: {:?}", self.views));
        }
        self.watch_sites(&before);
        for (site, (before, now)) in before.into_iter().zip(&self.views).enumerate() {
            self.met.compare(before, *now);
            if self.trace && before != *now {
                self.tell(|| format!("site {site}: {now:?}"));
            }
        }
        for site in 0..self.views.len() {
            self.back.check_deadline(site, self.views[site].state, &self.host)?;
            if self.views[site].state == slink::State::Streaming {
                self.has_taken_its_disks(site);
            }
        }
        self.check_alarms()?;
        self.look_at_copies()?;
        self.look_at_log_size();
        self.host.oracle.reported(&self.views)
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
        self.tell(|| self.wanted(&effect));
        self.watch(|world| world.what(&effect));
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
                let terms = self.terms();
                self.front.complete(req, result, terms, &mut self.host.oracle)?;
                self.await_arrival(Span::ZERO);
            }
            Effect::Open { disk } => {
                self.note(6, u64::from(disk.0));
                self.open_disk(disk)?;
            }
            Effect::Close { disk } => {
                self.note(8, u64::from(disk.0));
                self.handles.opened(disk, false);
            }
            Effect::Keep { bytes } => {
                self.note(9, bytes.len() as u64);
                self.keep(bytes)?;
            }
            Effect::Submit { io, disk, op } => {
                self.note(5, io.nr ^ u64::from(disk.0) << 48);
                let role = self.host.disks.role(disk)?;
                let slowness = self.host.weather.slowness(role, self.host.time);
                let latency = clock::latency(role, &mut self.rng) * slowness;
                if role.is_log() {
                    self.host.oracle.admitted(&M::admissions(&op), back::written(&op))?;
                }
                let reaches = self.handles.is_open(disk);
                let serial = self.back.submit(io, disk, op, reaches, &mut self.host)?;
                self.clock.plan(latency, Due::Io(serial));
            }
        }
        Ok(())
    }

    fn point(&mut self) -> Result<Halt, Violation> {
        self.points += 1;
        self.sieve.passed();
        if self.points > POINTS_MAX {
            let what = "it does something all the time, and comes to no end".into();
            return Err(Violation::Stuck {
                what,
                seconds: self.clock.now.since(Time(0)).as_secs(),
            });
        }
        let heals = self.serving && self.heal_at.take_if(|at| *at <= self.points).is_some();
        if heals && self.sieve.keeps(Part::Healing) {
            self.heal()?;
        }
        if let Some((_, strike)) = self.strike.take_if(|(point, _)| *point == self.points) {
            self.begin(strike(self.host.time))?;
        }
        if let Some(mut probe) = self.probe.take() {
            let seen = probe(self);
            self.probe = Some(probe);
            seen?;
        }
        Ok(if self.cut_at == Some(self.points) { Halt::Cut } else { Halt::Done })
    }

    fn note(&mut self, what: u64, which: u64) {
        let Time(now) = self.clock.now;
        for word in [what, which, now] {
            self.digest = (self.digest ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
        }
    }
}

/// Virtual time after which something that must end is taken to be stuck. Beyond every
/// deadline and back-off of the machine.
const PATIENCE: Span = Span::from_secs(600);

/// Virtual time that a table that makes writers wait for a site that is down is given; then
/// the site is healed.
const OUTAGE_PATIENCE: Span = Span::from_secs(30);

/// Whoever is still stuck after so many has to be told of: time may not even pass.
const HEALINGS_MAX: u32 = 100_000;

/// Far more than a life takes that is not driven in circles (P13).
const POINTS_MAX: u64 = 2_000_000;

/// Polls without any effect, in a row, that a machine may ask for.
const IDLE_POLLS_MAX: u32 = 1000;
