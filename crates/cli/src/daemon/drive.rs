//! The replicator at work on its engine, as the control side sees it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, anyhow, ensure};
use blk::{DevNr, Sectors, Time};
use replicator::{
    DiskFacts, EventPage, EventRecord, MessageError, Note, Phase, Plan, ReloadError, Replicator,
    Role, Seed, Status,
};
use rustix::thread::{Pid, gettid};
use table::Group;
use ublk_target::{Engine, EngineSpec, Handle, Keeper, Listener};
use uring::RingSpec;

use super::disks::{Disks, Newcomers, Places};
use crate::control::{EventsReply, ToldEvent};
use crate::output::rfc3339;
use crate::runtime::KeptFile;

/// A replicator at work. Calls wait for the engine, which never waits for them.
pub(super) struct Drive {
    engine: Engine<Replicator>,
    places: Arc<Places>,
    /// Its own; events are numbered within it.
    life: Arc<str>,
    /// What the host keeps of its log.
    kept: KeptFile,
}

/// A way to a [`Drive`] for threads that only look.
#[derive(Clone)]
pub(super) struct View {
    handle: Handle<Replicator>,
    life: Arc<str>,
}

impl Drive {
    /// Starts the engine; it begins to open its log.
    pub(super) fn start(
        plan: Plan,
        disks: Disks,
        kept: KeptFile,
        listener: Listener,
    ) -> Result<Self> {
        let name = format!("repl-{}", plan.name).chars().take(THREAD_NAME_MAX).collect();
        let machine = Replicator::open(plan, seed()?)?;
        let (opener, places) = (disks.opener(), disks.places());
        let keeper = kept.clone();
        let keeper = Keeper::new(move |bytes| keeper.write(bytes));
        let spec = EngineSpec { name, disks: disks.open, ring: RING, opener, keeper, listener };
        let engine = Engine::spawn(machine, spec).context("starting the engine")?;
        let life = random_uuid()?.simple().to_string().into();
        Ok(Self { engine, places, life, kept })
    }

    pub(super) fn handle(&self) -> &Handle<Replicator> {
        self.engine.handle()
    }

    /// Where disks are that come later.
    pub(super) fn places(&self) -> &Arc<Places> {
        &self.places
    }

    /// What the host keeps of its log, to follow its name.
    pub(super) fn kept(&self) -> &KeptFile {
        &self.kept
    }

    /// A device, or the replicator, is called `name` where the engine speaks of it.
    pub(super) fn rename(&self, dev: Option<DevNr>, name: &str) -> Result<()> {
        let name = name.to_owned();
        Ok(self.handle().call(move |machine, _| machine.rename(dev, &name))??)
    }

    pub(super) fn view(&self) -> View {
        View { handle: self.handle().clone(), life: Arc::clone(&self.life) }
    }

    /// Waits until the log is open; `progress` is told how far it is.
    pub(super) fn wait_until_running(
        &self,
        mut progress: impl FnMut(&str, u64, u64) -> Result<()>,
    ) -> Result<()> {
        loop {
            match self.view().phase()? {
                Phase::Running => return Ok(()),
                Phase::Opening { step, done, total } => progress(step, done, total)?,
                Phase::Failed(error) => return Err(anyhow!("{error}")),
                Phase::Stopping | Phase::Stopped => return Err(anyhow!("the engine stopped")),
            }
            thread::sleep(POLL);
        }
    }

    /// Stops the replicator: `drain`ing it first, it ships all it can; then a last checkpoint.
    pub(super) fn stop(&self, drain: bool, limit: Duration) -> Result<()> {
        self.handle().call(move |machine, _| machine.stop(drain))?;
        let deadline = Instant::now() + limit;
        loop {
            match self.view().phase()? {
                Phase::Stopped => return Ok(()),
                Phase::Failed(error) => return Err(anyhow!("{error}")),
                Phase::Opening { .. } | Phase::Running | Phase::Stopping => {}
            }
            ensure!(
                Instant::now() < deadline,
                "some I/O has not ended within {} s",
                limit.as_secs()
            );
            thread::sleep(POLL);
        }
    }

    /// What it is made of.
    pub(super) fn plan(&self) -> Result<Plan> {
        Ok(self.handle().call(|machine, _| machine.plan().clone())?)
    }

    /// What the group is, whatever it is called and wherever its log is.
    pub(super) fn group(&self) -> Result<uuid::Uuid> {
        let group = self.handle().call(|machine, _| Some(machine.log()?.superblock().group()))?;
        group.context("the log is not open")
    }

    /// The longest request that a device may send, in whole pages as the driver wants it.
    pub(super) fn request_max(&self) -> Result<Sectors> {
        let longest = self.handle().call(|machine, _| {
            let log = machine.log()?;
            Some(machine.plan().max_sectors(log.geometry().size()))
        })?;
        let longest = longest.context("the log is not open")?;
        Ok(Sectors(longest.0 - longest.0 % SECTORS_PER_PAGE))
    }

    /// Ends with an error what waits, and whatever comes.
    pub(super) fn refuse_all(&self) -> Result<()> {
        Ok(self.handle().call(|machine, _| machine.refuse_all())?)
    }

    /// The thread that does all I/O, as the kernel knows it.
    pub(super) fn thread(&self) -> Result<Pid> {
        Ok(self.handle().call(|_, _| gettid())?)
    }

    pub(super) fn suspend(&self, dev: Option<DevNr>) -> Result<()> {
        Ok(self.handle().call(move |machine, _| machine.suspend(dev))??)
    }

    pub(super) fn resume(&self, dev: Option<DevNr>) -> Result<()> {
        Ok(self.handle().call(move |machine, _| machine.resume(dev))??)
    }

    pub(super) fn message(&self, dev: Option<DevNr>, words: Vec<String>) -> Result<String> {
        let deadline = Instant::now() + ROOM_LIMIT;
        loop {
            let words = words.clone();
            let answer = self.handle().call(move |machine, now| {
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                machine.message(now, dev, &words)
            })?;
            match answer {
                // It may find room in the next group, a few milliseconds from now.
                Err(MessageError::Busy { .. }) if Instant::now() < deadline => thread::sleep(POLL),
                answer => return Ok(answer?),
            }
        }
    }

    /// The disks that `new` names and `old` does not, and those that may have grown; nothing has
    /// changed.
    pub(super) fn newcomers(&self, old: &Group, new: &Group) -> Result<Newcomers> {
        let mut newcomers = self.places.newcomers(old, new)?;
        if new.table.log.size != old.table.log.size {
            newcomers.facts.extend(self.places.look_at(Role::Log, &new.table.log.path)?);
        }
        newcomers.facts.extend(self.look_at_who_grows(old, new)?);
        Ok(newcomers)
    }

    /// Waits until `going` may go, and has them turned away what is asked of them. Nobody has them
    /// open; what sites lack of them is sent there first.
    pub(super) fn let_go(
        &self,
        new: &Group,
        facts: &BTreeMap<String, DiskFacts>,
        going: &[DevNr],
    ) -> Result<()> {
        let deadline = Instant::now() + PART_LIMIT;
        self.handle().call(|machine, _| machine.hurry())?;
        loop {
            let (new, facts, going) = (new.clone(), facts.clone(), going.to_vec());
            let may = self.handle().call(move |machine, _| {
                machine.may_reload(&new, &facts)?;
                // In one step: nothing may come between.
                going.into_iter().for_each(|dev| machine.turn_away(dev));
                Ok(())
            })?;
            match may {
                Err(ReloadError::Lacks { .. } | ReloadError::Busy { .. })
                    if Instant::now() < deadline =>
                {
                    thread::sleep(POLL);
                }
                may => return Ok(may?),
            }
        }
    }

    /// They stay after all.
    pub(super) fn stay(&self, devs: &[DevNr]) -> Result<()> {
        let devs = devs.to_vec();
        Ok(self
            .handle()
            .call(move |machine, _| devs.into_iter().for_each(|it| machine.stay(it)))?)
    }

    /// Goes on as another table says; what is not open of its disks is opened by and by.
    pub(super) fn reload(&self, new: Group, mut newcomers: Newcomers) -> Result<()> {
        let facts = std::mem::take(&mut newcomers.facts);
        let mut added = Vec::new();
        for (id, disk) in newcomers.take() {
            self.handle().add_disk(id, disk)?;
            added.push(id);
        }
        let done = self.handle().call(move |machine, now| machine.reload(now, &new, &facts))?;
        if let Err(refusal) = done {
            for id in added {
                drop(self.handle().remove_disk(id)?);
                self.places.forget(id);
            }
            return Err(refusal.into());
        }
        Ok(())
    }

    /// Waits until no crash takes back what another table has changed.
    pub(super) fn wait_until_settled(&self) -> Result<()> {
        let deadline = Instant::now() + SETTLE_LIMIT;
        while !self.handle().call(|machine, _| machine.has_settled())? {
            ensure!(
                Instant::now() < deadline,
                "the log has not said so within {} s: a successor may not know of it yet; reload \
                 again",
                SETTLE_LIMIT.as_secs()
            );
            thread::sleep(POLL);
        }
        Ok(())
    }

    /// The disks of devices that are to be longer; they may be it already. One of a site that does
    /// not answer is not asked: it is looked at when it does (P5).
    fn look_at_who_grows(&self, old: &Group, new: &Group) -> Result<BTreeMap<String, DiskFacts>> {
        let sites = self.view().status()?.sites;
        let answers = |slink| sites.iter().any(|it| it.slink == slink && it.failure.is_none());
        let mut looked = BTreeMap::new();
        for device in &new.devices {
            let dev = device.table.dev_nr;
            let before = old.devices.iter().find(|before| before.table.dev_nr == dev);
            if before.is_none_or(|before| before.len >= device.len) {
                continue;
            }
            for leg in &device.table.legs {
                let role = Role::Leg { dev, slink: leg.slink };
                looked.extend(match leg.slink.is_local() || answers(leg.slink.0) {
                    true => self.places.look_at(role, &leg.path)?,
                    false => self.places.unseen(role, &leg.path),
                });
            }
        }
        Ok(looked)
    }

    /// How a resize of the log goes: a sentence, after a moment if it is not done at once.
    pub(super) fn wait_for_log_size(&self) -> Result<String> {
        let deadline = Instant::now() + RESIZE_LIMIT;
        loop {
            let (waits, size) = self.handle().call(|machine, _| {
                (machine.resizing(), machine.log().map(|log| log.geometry().size()))
            })?;
            match waits {
                Some(waits) if Instant::now() >= deadline => return Ok(waits),
                Some(_) => thread::sleep(POLL),
                None => return Ok(format!("the log has {} sectors", size.unwrap_or_default())),
            }
        }
    }

    /// Has an event for what was done, or asked for.
    pub(super) fn note(&self, what: Note) -> Result<()> {
        Ok(self.handle().call(move |machine, now| machine.note(now, what))?)
    }

    /// Ends the engine's thread; its disks are closed when this returns.
    pub(super) fn end(self) {
        drop(self.engine.stop());
    }

    /// The same, and what is in flight has so long to end.
    pub(super) fn end_within(self, limit: Duration) {
        drop(self.engine.stop_within(limit));
    }
}

impl View {
    pub(super) fn phase(&self) -> Result<Phase> {
        Ok(self.handle.call(|machine, _| machine.phase())?)
    }

    pub(super) fn status(&self) -> Result<Status> {
        Ok(self.handle.call(|machine, now| machine.status(now))?)
    }

    /// What happened behind the event with the number `since`.
    pub(super) fn events(&self, since: u64) -> Result<EventsReply> {
        let look = move |machine: &mut Replicator, now: Time| {
            (machine.events_since(since, EVENTS_MAX), now)
        };
        let (EventPage { first, last, records }, now) = self.handle.call(look)?;
        let started = SystemTime::now() - now.since(Time(0));
        let told = |record: EventRecord| {
            // The clock of the host as it is now: who has set it meanwhile knows better.
            let at = started + Duration::from_secs_f64(record.seconds);
            ToldEvent { time: rfc3339(at), record }
        };
        let events = records.into_iter().map(told).collect();
        Ok(EventsReply { life: self.life.to_string(), first, last, events })
    }

    /// Whether new requests are held back and none is in flight.
    pub(super) fn is_suspended(&self, dev: Option<DevNr>) -> Result<bool> {
        Ok(self.handle.call(move |machine, _| machine.is_suspended(dev))?)
    }
}

fn seed() -> Result<Seed> {
    let since_1970 = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .context("the wall clock is before 1970")?;
    let wall = blk::Wall(u64::try_from(since_1970.as_nanos()).context("reading the wall clock")?);
    Ok(Seed { uuid: random_uuid()?, wall })
}

/// A random UUID of the kernel.
pub(super) fn random_uuid() -> Result<uuid::Uuid> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/uuid")
        .context("asking the kernel for a random UUID")?;
    text.trim().parse().context("reading the kernel's random UUID")
}

/// As many submissions as a device's queue and its legs can make at once; the rest waits.
const RING: RingSpec = RingSpec { submissions: 512, completions: 4096 };

/// What Linux shows of a thread's name.
const THREAD_NAME_MAX: usize = 15;

/// A random number of the kernel.
pub(super) fn random_u64() -> Result<u64> {
    let (number, _) = random_uuid()?.as_u64_pair();
    Ok(number)
}

/// How long a message waits for room in the log.
const ROOM_LIMIT: Duration = Duration::from_secs(5);

/// How long sites may take to get all of a device that is to go. Longer is for `wait`.
const PART_LIMIT: Duration = Duration::from_secs(10);

/// How long the log may take to know who belongs to it: one that hangs is lost by then.
const SETTLE_LIMIT: Duration = Duration::from_secs(30);

/// How long who asks for another size of the log waits for it; then he is told what it waits for.
const RESIZE_LIMIT: Duration = Duration::from_secs(1);

/// Events in one answer: the engine's thread copies them.
const EVENTS_MAX: usize = 100;

const SECTORS_PER_PAGE: u64 = 8;

/// How often a phase is asked for while a command waits for the next one.
const POLL: Duration = Duration::from_millis(20);
