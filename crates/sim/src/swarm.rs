//! Random lives: a seed draws a topology, applications, crashes, and what a power cut
//! leaves; then everything drains and every leg is compared with the model.

use std::rc::Rc;

use blk::Sectors;

use crate::disk::Keep;
use crate::less::{Part, Sieve};
use crate::oracle::Violation;
use crate::payload::Content;
use crate::rig::{Rig, Tally};
use crate::rng::Rng;
use crate::rot;
use crate::sweep::same;
use crate::topology::Topology;
use crate::workload::Workload;
use crate::world::{Cut, Faults, Halt, Host, Subject, Weather, World};

/// How one seed lives.
#[derive(Clone, Debug)]
pub struct Swarm {
    rng: Rng,
    /// Requests of all lives together.
    requests: u64,
    longest: Sectors,
    /// Percent of lives that end in a crash.
    crashes: u64,
    /// Percent of lives in which disks fail, whatever for.
    faults: u64,
    /// Percent of lives in which something befalls the sites.
    outages: u64,
    /// Percent of lives that begin with another table.
    retables: u64,
    /// Percent of lives before which a dirty log is spoiled.
    rots: u64,
    /// Percent of lives in which the driver is held up now and then.
    pauses: u64,
    /// Who has sites compared; dice of his own, so that lives are the same without him.
    auditor: Option<Rng>,
    /// Percent of lives in which somebody says something to the machine, and what.
    messages: u64,
    teller: Rng,
    /// What is said of the local site and the log's memory, in those and other tables; dice of
    /// his own.
    at_home: Option<Rng>,
    /// Percent of lives in which the log is lost, and when.
    log_losses: u64,
    misfortune: Rng,
    /// Percent of lives in which somebody asks for other sizes of the log; dice of his own.
    resizes: u64,
    resizer: Rng,
    /// Who has the log move to another disk, and back; dice of his own.
    mover: Option<Rng>,
    /// Percent of lives in which devices grow, before them or while they last; dice of his own.
    grows: u64,
    grower: Rng,
    /// What of all that is left out, and whether lives were.
    sieve: Rc<Sieve>,
    skips: bool,
}

/// Where a seed found a broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The promise.
    pub violation: Violation,
    /// In which life.
    pub life: u64,
}

impl Swarm {
    /// The topology and the lives that belong to `seed`.
    #[must_use]
    pub fn new(seed: u64) -> (Topology, Self) {
        let mut rng = Rng::new(seed);
        let auditor = seed.is_multiple_of(2).then(|| Rng::new(!seed));
        if rng.chance(25) {
            let topology = Topology::random_plain(&mut rng);
            return (topology, Self { faults: 30, auditor, ..Self::drawn(rng) });
        }
        let mut topology = Topology::random(&mut rng);
        let (faults, outages) = (*rng.pick(&[0, 0, 20]), *rng.pick(&[30, 90]));
        let retables = *rng.pick(&[0, 0, 30]);
        let (rots, pauses) = (*rng.pick(&[0, 0, 20]), *rng.pick(&[0, 0, 0, 50]));
        // Dice of their own: what a seed was without messages, or with its log, it still is.
        let mut teller = Rng::new(seed ^ 0x6d65_7373_6167_6573);
        let mut messages = *teller.pick(&[0, 0, 60]);
        // Only some seeds, and none that the tests know by number: those stay what they were.
        let at_home = (seed % 11 == 10).then(|| Rng::new(seed ^ 0x6174_686f_6d65));
        if at_home.is_some() {
            messages = 60;
        }
        let mut misfortune = Rng::new(seed ^ 0x6c6f_6773_6c6f_7374);
        let log_losses = *misfortune.pick(&[0, 0, 60]);
        let mut resizer = Rng::new(seed ^ 0x7265_7369_7a65);
        let resizes = *resizer.pick(&[0, 0, 60]);
        if resizes > 0 {
            topology.log = Sectors(topology.log_size.0 + resizer.pick(&[800, 4096, 9000]));
        }
        let mut grower = Rng::new(seed ^ 0x6c6f_6e67_6572);
        let grows = *grower.pick(&[0, 0, 60]);
        if grows > 0 {
            topology.make_room(&mut grower);
        }
        // Nor these.
        let mover = (seed % 19 == 16).then(|| Rng::new(seed ^ 0x6d6f_7669_6e67));
        topology.moves = mover.is_some();
        let of_sites = Self { faults, outages, retables, rots, pauses, ..Self::drawn(rng) };
        let of_log = Self { log_losses, misfortune, resizes, resizer, mover, ..of_sites };
        (topology, Self { auditor, messages, teller, at_home, grows, grower, ..of_log })
    }

    /// Plain sites and disks that never fail, for machines that know no errors.
    #[must_use]
    pub fn plain(seed: u64) -> (Topology, Self) {
        let mut rng = Rng::new(seed);
        (Topology::random_plain(&mut rng), Self::drawn(rng))
    }

    fn drawn(mut rng: Rng) -> Self {
        let requests = *rng.pick(&[50, 200, 1000]);
        let longest = *rng.pick(&[Sectors(8), Sectors(64), Sectors(800), Sectors(800)]);
        let crashes = *rng.pick(&[50, 80, 95]);
        Self {
            rng,
            requests,
            longest,
            crashes,
            faults: 0,
            outages: 0,
            retables: 0,
            rots: 0,
            pauses: 0,
            auditor: None,
            messages: 0,
            teller: Rng::new(0),
            at_home: None,
            log_losses: 0,
            misfortune: Rng::new(0),
            resizes: 0,
            resizer: Rng::new(0),
            mover: None,
            grows: 0,
            grower: Rng::new(0),
            sieve: Rc::default(),
            skips: false,
        }
    }

    /// The same with another number of requests.
    #[must_use]
    pub fn with_requests(mut self, requests: u64) -> Self {
        self.requests = requests;
        self
    }

    /// The same without what is left out there; the topology is the rig's business.
    #[must_use]
    pub fn sifted(mut self, sieve: Rc<Sieve>) -> Self {
        self.sieve = sieve;
        self
    }

    /// Lives until all requests have been made and everything has drained.
    ///
    /// # Errors
    /// The first broken promise.
    pub fn run<M: Subject>(mut self, rig: &Rig<'_, M>) -> Result<Tally, Broken> {
        let mut tally = Tally::default();
        let mut host = Host::new(&rig.topology);
        let mut life = 0;
        while self.requests > 0 {
            if !self.sieve.keeps(Part::Life) {
                self.skip(&host, &rig.topology);
                continue;
            }
            host.make_startable();
            let lived = self.try_recoveries(&host, rig, &mut tally);
            host = match lived.and_then(|()| self.live(host, rig, &mut tally)) {
                Ok(host) => host,
                // So be it: of what is nowhere nothing can be said.
                Err(Violation::NothingLeft) => {
                    tally.met.nothing_left += 1;
                    return Ok(tally);
                }
                Err(violation) => return Err(Broken { violation, life }),
            };
            life += 1;
        }
        host.let_it_be_read();
        self.end(host, rig, &mut tally).map_err(|violation| Broken { violation, life })?;
        Ok(tally)
    }

    /// One machine's life: it serves a while, and crashes or drains.
    fn live<M: Subject>(
        &mut self,
        mut host: Host,
        rig: &Rig<'_, M>,
        tally: &mut Tally,
    ) -> Result<Host, Violation> {
        let life = self.draw(&mut host, &rig.topology, tally);
        let machine = (rig.open)(&host);
        let (end, crashes) = (life.end, life.crashes);
        let mut world = life.begin(host, machine, rig.trace).sifted(&self.sieve);
        let halt = serve(&mut world, end, tally);
        (rig.watch)(world.machine());
        tally.add(&world);
        match halt {
            Ok(Halt::Done) if !crashes => return Ok(world.close()?.0),
            Err(violation) if !world.is_excused(&violation) => return Err(violation),
            // Stuck by a fault: somebody pulls the plug.
            Ok(_) | Err(_) => {}
        }
        let cut = self.cut(tally);
        world.watch_cut(cut);
        Ok(world.crash(cut)?.0)
    }

    /// Draws a life, and nobody lives it.
    fn skip(&mut self, host: &Host, topology: &Topology) {
        let nowhere = &mut Tally::default();
        for _trial in 0..2 {
            self.rng.chance(10);
        }
        self.skips = true;
        if self.draw(&mut host.clone(), topology, nowhere).crashes {
            self.cut(nowhere);
        }
    }

    /// What the next life is to be; `host` is as it is at its beginning then.
    fn draw(&mut self, host: &mut Host, topology: &Topology, tally: &mut Tally) -> Life {
        let most = *self.rng.pick(&[30, 150, 600]);
        let requests = self.rng.range(1, most).min(self.requests);
        self.requests -= requests;
        let workload = Workload::mixed(host.topology(), requests, self.longest, &mut self.rng);
        let crashes = self.rng.chance(self.crashes);
        let end = match crashes {
            true => *self.rng.pick(&[End::Crash, End::Crash, End::Converge]),
            false => *self.rng.pick(&[End::Drain, End::Converge]),
        };
        // How legs join, only their first table says.
        let joined = !host.recovered().is_empty();
        if self.rng.chance(self.retables) && (joined || self.skips) {
            let spare = host.topology().spare.clone();
            let other = Topology { spare, ..topology.clone() }.retabled(&mut self.rng);
            if self.sieve.keeps(Part::Table) && joined {
                host.retable(other);
            }
        }
        let now = host.topology().clone();
        if let Some(dice) = &mut self.at_home
            && dice.chance(20)
        {
            let other = now.rehomed(dice);
            if self.sieve.keeps(Part::Table) && joined {
                host.retable(other);
            }
        }
        let grows = self.grower.chance(self.grows);
        if grows && self.grower.chance(30) {
            let grow = |host: &mut Host| host.grow_at_random(&mut self.grower);
            let has_grown = on(host, self.sieve.keeps(Part::Growth), grow);
            tally.met.grown += u64::from(has_grown);
        }
        let faults = match self.rng.chance(self.faults) {
            true => Faults::random(topology, &mut self.rng).sifted(&self.sieve),
            false => Faults::default(),
        };
        self.befall(host, topology);
        let rng = self.sieve.less().dice(self.rng.fork());
        Life {
            workload,
            end,
            crashes,
            faults,
            rng,
            held_up: self.rng.chance(self.pauses) && self.sieve.keeps(Part::HoldUp),
            auditor: self.auditor.as_mut().map(Rng::fork),
            heal_at: self.rng.chance(30).then(|| point(&mut self.rng)),
            cut_at: crashes.then(|| point(&mut self.rng)),
            teller: self.teller.chance(self.messages).then(|| self.teller.fork()),
            at_home: self.at_home.as_mut().map(Rng::fork),
            resizer: self.resizer.chance(self.resizes).then(|| self.resizer.fork()),
            mover: self.mover.as_mut().and_then(|dice| dice.chance(60).then(|| dice.fork())),
            grower: grows.then(|| self.grower.fork()),
        }
    }

    /// What befalls the disks of a host before a life, and while it lasts.
    fn befall(&mut self, host: &mut Host, topology: &Topology) {
        let nobody = host.disks.dirty_logs().iter().all(|disk| !disk.is_busy());
        if self.rng.chance(self.rots) && nobody {
            let rot = |host: &mut Host| {
                rot::spoil_dirty_logs(host.disks.dirty_logs(), &mut self.rng);
            };
            on(host, self.sieve.keeps(Part::Rot), rot);
        }
        host.weather.forget_what_is_over(host.time());
        if self.rng.chance(self.outages) {
            let weather = Weather::random(topology, host.time(), &mut self.rng);
            host.weather.add(weather.sifted(&self.sieve, Part::Outage));
        }
        if self.rng.chance(self.outages / 4) {
            let spoil = |host: &mut Host| host.spoil_sectors(&mut self.rng);
            on(host, self.sieve.keeps(Part::BadSectors), spoil);
        }
        host.make_startable();
        if self.misfortune.chance(self.log_losses) {
            let weather = Weather::log_loss(host.time(), &mut self.misfortune);
            host.weather.add(weather.sifted(&self.sieve, Part::LogLoss));
        }
    }

    /// Now and then, on copies of the host: a recovery that is cut and repeated ends like
    /// one that is not (P10); a log in which a bit has rotted is refused, or right (P11).
    fn try_recoveries<M: Subject>(
        &mut self,
        host: &Host,
        rig: &Rig<'_, M>,
        tally: &mut Tally,
    ) -> Result<(), Violation> {
        if self.rng.chance(10) && self.sieve.keeps(Part::Trial) {
            self.repeat(host, rig, tally)?;
        }
        if !self.rng.chance(10) || !self.sieve.keeps(Part::Trial) {
            return Ok(());
        }
        let mut rotten = host.clone();
        rotten.let_it_be_read();
        if rot::flip(&mut rotten.disks.log, &mut self.rng) {
            match self.recover(rotten, rig) {
                Err(Violation::OpenFailed { .. }) => tally.refused += 1,
                recovered => drop(recovered?),
            }
        }
        Ok(())
    }

    fn repeat<M: Subject>(
        &mut self,
        host: &Host,
        rig: &Rig<'_, M>,
        tally: &mut Tally,
    ) -> Result<(), Violation> {
        let mut host = host.clone();
        // A recovery that can't read what it brings back can't be compared.
        host.let_it_be_read();
        let reference = self.recover(host.clone(), rig)?;
        let none = Workload::script(Vec::new());
        let mut world = World::start(host.clone(), (rig.open)(&host), none, self.rng.fork())
            .cut_at(Some(self.rng.range(1, 60)));
        if world.open()? == Halt::Done {
            return Ok(());
        }
        let cut = self.cut(tally);
        let (mut again, _) = world.crash(cut)?;
        again.make_startable();
        // After a kill the disks still cache what a power cut may take.
        let comparable = cut == Cut::Kill || host.is_on_media();
        let repeated = self.recover(again, rig)?;
        tally.repeated += 1;
        if comparable { same(&reference, &repeated, &host.oracle) } else { Ok(()) }
    }

    fn recover<M: Subject>(
        &mut self,
        host: Host,
        rig: &Rig<'_, M>,
    ) -> Result<Vec<Content>, Violation> {
        let (machine, none) = ((rig.open)(&host), Workload::script(Vec::new()));
        let mut world = World::start(host, machine, none, self.rng.fork()).traced(rig.trace);
        world.open()?;
        Ok(world.recovered().to_vec())
    }

    fn cut(&mut self, tally: &mut Tally) -> Cut {
        let keep = *self.rng.pick(&[Keep::None, Keep::All, Keep::Any { torn: true }]);
        let cut = *self.rng.pick(&[Cut::Kill, Cut::Power(keep), Cut::PowerEverywhere(keep)]);
        tally.count(cut);
        cut
    }

    /// No more crashes: it opens, every site comes back, and every leg equals the model.
    fn end<M: Subject>(
        &mut self,
        host: Host,
        rig: &Rig<'_, M>,
        tally: &mut Tally,
    ) -> Result<(), Violation> {
        let (machine, none) = ((rig.open)(&host), Workload::script(Vec::new()));
        let mut world = World::start(host, machine, none, self.rng.fork())
            .traced(rig.trace)
            .sifted(&self.sieve);
        let halt = serve(&mut world, End::Converge, tally);
        tally.add(&world);
        match halt {
            Err(Violation::Stuck { .. }) if world.has_lost_log_and_local() => Ok(()),
            halt => halt.map(drop),
        }
    }
}

/// A life that was drawn.
struct Life {
    workload: Workload,
    end: End,
    crashes: bool,
    faults: Faults,
    rng: Rng,
    held_up: bool,
    auditor: Option<Rng>,
    heal_at: Option<u64>,
    cut_at: Option<u64>,
    teller: Option<Rng>,
    at_home: Option<Rng>,
    resizer: Option<Rng>,
    mover: Option<Rng>,
    grower: Option<Rng>,
}

impl Life {
    fn begin<M: Subject>(self, host: Host, machine: M, trace: bool) -> World<'static, M> {
        World::start(host, machine, self.workload, self.rng)
            .held_up(self.held_up)
            .verified_by(self.auditor)
            .healed_at(self.heal_at)
            .cut_at(self.cut_at)
            .traced(trace)
            .told(self.teller, self.at_home)
            .resized(self.resizer)
            .moved(self.mover)
            .grown(self.grower)
            .with_faults(self.faults)
    }
}

/// Does something to a host; or, with the same dice, to one that nobody sees.
fn on<T>(host: &mut Host, stays: bool, what: impl FnOnce(&mut Host) -> T) -> T {
    if stays { what(host) } else { what(&mut host.clone()) }
}

/// How a life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Crash,
    /// Everything drains that can be reached.
    Drain,
    /// Everything is healed and comes back, and then drains.
    Converge,
}

fn serve<M: Subject>(
    world: &mut World<'_, M>,
    end: End,
    tally: &mut Tally,
) -> Result<Halt, Violation> {
    if world.open()? == Halt::Cut {
        return Ok(Halt::Cut);
    }
    tally.recoveries += 1;
    let halt = world.work()?;
    if halt == Halt::Cut || end == End::Crash {
        return Ok(halt);
    }
    if end == End::Converge && world.converge()? == Halt::Cut {
        return Ok(Halt::Cut);
    }
    let halt = world.settle()?;
    tally.settled += u64::from(halt == Halt::Done);
    Ok(halt)
}

/// Early or late, every order of magnitude alike.
fn point(rng: &mut Rng) -> u64 {
    let magnitude = rng.range(3, 12);
    rng.range(1, 1 << magnitude)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bugs::{Bug, Buggy};
    use crate::toy::Toy;

    fn run(seed: u64, bug: Option<Bug>) -> Result<Tally, Broken> {
        let (topology, swarm) = Swarm::plain(seed);
        let open = |_: &Host| Buggy::new(Toy::open(&topology, None), bug, &topology);
        swarm.run(&Rig { topology: topology.clone(), open: &open, trace: false, watch: &|_| {} })
    }

    #[test]
    fn a_machine_that_keeps_the_promises_is_never_accused() {
        for seed in 0..60 {
            let ran = run(seed, None);
            assert!(ran.is_ok(), "seed {seed}: {ran:?}");
        }
    }

    #[test]
    fn a_seed_runs_the_same_way_every_time() {
        for seed in 0..5 {
            assert_eq!(run(seed, None), run(seed, None));
        }
    }
}
