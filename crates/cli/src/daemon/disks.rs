//! Opening everything that a table names: first a look, which can find everything wrong
//! without touching anything, then exclusively.
//!
//! Without its log a replicator serves nothing, so that is waited for. The others may be absent
//! or hang (P5, P7): each has a thread and a process of its own, and what is not open in time
//! is opened when the machine asks. That time is the disk's own: what a busy host takes to start
//! the process is not in it. Remote ones may also be busy, and have [`OTHERS_LIMIT`] for each
//! step, all at a time. A local one is waited for; who else has it open may change it, so that a fresh
//! start without it is none. Whether a start without it is one at all, the log says.

mod newcomers;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use blk::{DiskId, Errno, NotOpened};
use replicator::{DiskFacts, Plan, Role};
use rustix::io::Errno as Word;
use table::Group;
use ublk_target::Opener;
use uring::helper::{Lane, Program};
use uring::{Access, Disk, Extent, Identity, OpenSpec};

use crate::runtime::{Claim, Claims};
pub(super) use newcomers::Newcomers;

/// The disks of one replicator, open for it alone.
#[derive(Debug)]
pub(super) struct Disks {
    pub(super) open: Vec<(DiskId, Disk)>,
    places: Arc<Places>,
    missing: BTreeMap<DiskId, NotOpened>,
}

/// The paths of a table, and of those before it, in an order in which each one's place is the
/// number of its disk.
#[derive(Debug)]
pub(super) struct Places {
    all: Mutex<Vec<Place>>,
    helper: Option<Arc<Program>>,
    /// What was found at them, as far as something is open there.
    found: Mutex<BTreeMap<DiskId, Seen>>,
    /// Where other replicators see it.
    pub(super) claims: Option<Claims>,
    /// What the host kept of a log that was lost.
    kept: Option<Vec<u8>>,
}

/// What a disk is, and where its bytes are.
#[derive(Clone, Debug)]
struct Seen {
    identity: Identity,
    extent: Extent,
}

#[derive(Clone, Debug)]
struct Place {
    id: DiskId,
    text: String,
    role: Role,
    /// Who does what may hang with it; `None`: this process.
    lane: Option<Lane>,
}

/// How long a start waits for what is busy.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waits {
    pub(super) busy: Duration,
    /// How long a local disk may take at least: one that has to spin up, on a busy host.
    pub(super) local: Duration,
    /// How long the start of a process that opens a remote disk may take.
    pub(super) helper: Duration,
    /// Its last writes hold what is busy; nobody else does.
    pub(super) for_dead: bool,
}

/// What became of places, by the numbers of their disks.
type Found<T> = BTreeMap<DiskId, Result<T, NotOpened>>;

/// What a thread that opens a disk says.
enum Step {
    /// From now on whatever takes long is the disk's doing.
    Asked(DiskId, Instant),
    Ended(DiskId, Result<Disk, NotOpened>),
}

impl Disks {
    /// Opens them and joins them with the table, waiting as `waits` says for the log and the
    /// local ones (I14). `helper` is the program that does what may hang; `claims`, where other
    /// replicators of this host see what is taken; `kept`, what it knows of a log that was lost.
    pub(super) fn open(
        group: &Group,
        waits: Waits,
        helper: Option<Program>,
        claims: Option<Claims>,
        kept: Option<Vec<u8>>,
    ) -> Result<(Self, Plan)> {
        let places = Places::of(group, helper, claims, kept);
        let local = waits.for_local(group);
        let limit =
            |role: Role| if role.is_local() { local.max(OTHERS_LIMIT) } else { OTHERS_LIMIT };
        // An exclusive open of one disk by two paths would only say "busy".
        let look = |_| OpenSpec { access: Access::Look, ..OpenSpec::default() };
        let mut there = places.lock().clone();
        let mut missing = BTreeMap::new();
        let helper = |role| waits.for_helper(role);
        // A dead one has had each of them open once, and claims it still: users need not wait for two looks.
        if !waits.for_dead {
            let mut looked = places.open_all(&there, helper, limit, look)?;
            places.plan(group, &looked)?;
            places.check_overlaps(&looked)?;
            places.refuse_taken(&mut looked)?;
            places.check_local(&looked)?;
            there.retain(|place| looked[&place.id].is_ok());
            missing = failures(looked);
        }
        let mut found = places.open_all(&there, helper, limit, |role| {
            // Who is busy is to be told before the time is up.
            let busy_limit = match role {
                _ if places.is_vital(role) => waits.busy,
                _ if role.is_local() && waits.for_dead => local,
                _ if role.is_local() => waits.busy,
                _ => OTHERS_LIMIT / 2,
            };
            OpenSpec { busy_limit, ..OpenSpec::default() }
        })?;
        // Two replicators that start at a time each see what the other one has.
        let claiming = places.claims.as_ref().map(Claims::begin).transpose()?;
        places.refuse_taken(&mut found)?;
        if !waits.for_dead {
            places.check_local(&found)?;
        }
        found.extend(missing.clone().into_iter().map(|(id, why)| (id, Err(why))));
        let plan = places.plan(group, &found)?;
        let mut open = Vec::new();
        for (id, result) in found {
            match result {
                Ok(disk) => open.push((id, places.keep(id, disk).map_err(|not| anyhow!(not.why))?)),
                Err(why) => drop(missing.insert(id, why)),
            }
        }
        if let Some(claiming) = claiming {
            claiming.write(&places.own_claims())?;
        }
        Ok((Self { open, places: Arc::new(places), missing }, plan))
    }

    /// How a disk of them is opened again.
    pub(super) fn opener(&self) -> Opener {
        let (places, known) = (Arc::clone(&self.places), Arc::clone(&self.places));
        Opener::new(move |id| places.open_again(id)).telling(move |id| known.forget(id))
    }

    /// Where they are, for tables and logs to come.
    pub(super) fn places(&self) -> Arc<Places> {
        Arc::clone(&self.places)
    }

    /// A sentence for each that is not there.
    pub(super) fn missing(&self) -> Vec<String> {
        let sentence = |(id, not): (&DiskId, &NotOpened)| {
            let role = self.places.at(*id).role;
            format!("{role}: {}; {}", not.why, until_it_is_back(role))
        };
        self.missing.iter().map(sentence).collect()
    }

    /// Fails if one is not there.
    pub(super) fn require_all(&self) -> Result<()> {
        let sentence =
            |(id, not): (&DiskId, &NotOpened)| format!("{}: {}", self.places.at(*id).role, not.why);
        let missing: Vec<String> = self.missing.iter().map(sentence).collect();
        ensure!(
            missing.is_empty(),
            "{}; without --require-all it starts, and takes them in when they are there",
            missing.join("; ")
        );
        Ok(())
    }

    /// Whether nearness of sectors matters on any of them.
    pub(super) fn any_rotational(&self) -> bool {
        self.open.iter().any(|(_, disk)| disk.facts().medium.rotational)
    }
}

/// What is known of a disk whose link is to look.
fn being_opened(id: DiskId, path: String) -> (String, DiskFacts) {
    let why = format!("{path}: it is being opened");
    let seen = Err(NotOpened { errno: Errno(Word::INPROGRESS.raw_os_error()), why });
    (path.clone(), DiskFacts { id, path, seen })
}

impl Places {
    fn of(
        group: &Group,
        helper: Option<Program>,
        claims: Option<Claims>,
        kept: Option<Vec<u8>>,
    ) -> Self {
        let helper = helper.map(Arc::new);
        let places = Self { all: Mutex::default(), helper, found: Mutex::default(), claims, kept };
        for (text, role) in Plan::paths(group) {
            places.add(text, role);
        }
        places
    }

    fn add(&self, text: String, role: Role) -> DiskId {
        let lane = lane(role).zip(self.helper.clone());
        let lane = lane.map(|(nr, program)| Lane::new(nr, program));
        let mut all = self.lock();
        let id = DiskId(u32::try_from(all.len()).expect("paths are counted in thousands"));
        all.push(Place { id, text, role, lane });
        id
    }

    /// The number of a log that is to take another's place.
    pub(super) fn add_log(&self, path: &str) -> DiskId {
        self.add(path.to_owned(), Role::Log)
    }

    /// What `new` names and `old` does not: numbers for it, and nothing is open yet. A number is
    /// never used twice, for something of an earlier disk may still be in flight.
    pub(super) fn extend(&self, old: &Group, new: &Group) -> BTreeMap<String, DiskFacts> {
        // A path that serves another end is another disk: the earlier one is yet to be closed.
        let known = Plan::paths(old);
        let fresh = Plan::paths(new).into_iter().filter(|named| !known.contains(named));
        fresh.map(|(path, role)| being_opened(self.add(path.clone(), role), path)).collect()
    }

    /// A disk in use that can't be said to be as it was when it was opened, nor how it is now.
    pub(super) fn unseen(&self, role: Role, path: &str) -> Option<(String, DiskFacts)> {
        let id = self.lock().iter().rfind(|it| it.role == role && it.text == path)?.id;
        Some(being_opened(id, path.to_owned()))
    }

    /// A disk in use as it is now: it may have grown since it was opened.
    pub(super) fn look_at(&self, role: Role, path: &str) -> Result<Option<(String, DiskFacts)>> {
        let all = self.lock().clone();
        let place = all.iter().rfind(|place| place.role == role && place.text == path);
        let Some(place) = place else { return Ok(None) };
        let look = OpenSpec { access: Access::Look, ..OpenSpec::default() };
        let disk = Disk::open(&place.path(), &look).with_context(|| place.role.to_string())?;
        let (seen, now) = (self.found().get(&place.id).cloned(), Seen::of(&disk));
        // Another disk by the same path says nothing of the one that is open.
        if seen.is_none_or(|seen| seen.identity != now.identity) {
            return Ok(None);
        }
        self.grown(place.id, now)?;
        let (path, seen) = (path.to_owned(), Ok(disk.facts().seen()));
        Ok(Some((path.clone(), DiskFacts { id: place.id, path, seen })))
    }

    /// What a disk has gained is this replicator's, too (P15).
    fn grown(&self, id: DiskId, now: Seen) -> Result<()> {
        let claiming = self.claims.as_ref().map(Claims::begin).transpose()?;
        self.found().insert(id, now);
        if let Some(claiming) = claiming {
            claiming.write(&self.own_claims())?;
        }
        Ok(())
    }

    fn at(&self, id: DiskId) -> Place {
        self.lock()[id.0 as usize].clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Place>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing can be served without it: not the log, if the local disks stand in for it.
    fn is_vital(&self, role: Role) -> bool {
        role.is_vital() && !self.kept.as_deref().is_some_and(replicator::is_bypassed)
    }

    /// A disk was let go of: its path, and others to it, may be used again, also by other
    /// replicators. They are told on a thread of its own: an engine does not wait.
    pub(super) fn forget(self: &Arc<Self>, id: DiskId) {
        self.found().remove(&id);
        let places = Arc::clone(self);
        let tell = move || {
            let Some(claims) = &places.claims else { return Ok(()) };
            claims.begin()?.write(&places.own_claims())
        };
        drop(thread::spawn(move || {
            if let Err(error) = tell() {
                log::warn!("giving a disk back: {error:#}");
            }
        }));
    }

    /// Opens `places` as `spec` says: all that are vital, and of the others each that can be
    /// opened within its limit.
    fn open_all(
        &self,
        places: &[Place],
        helper: impl Fn(Role) -> Duration,
        limit: impl Fn(Role) -> Duration,
        spec: impl Fn(Role) -> OpenSpec,
    ) -> Result<Found<Disk>> {
        let (vital, others): (Vec<_>, Vec<_>) =
            places.iter().partition(|place| self.is_vital(place.role));
        let began = Instant::now();
        let answers = begin(&others, &spec)?;
        let mut found = BTreeMap::new();
        for place in vital {
            let disk = Disk::open(&place.path(), &spec(place.role));
            found.insert(place.id, Ok(disk.with_context(|| place.role.to_string())?));
        }
        let mut asked = BTreeMap::new();
        let late = |found: &Found<Disk>, asked: &BTreeMap<DiskId, Instant>| {
            let open = others.iter().filter(|place| !found.contains_key(&place.id));
            let last = |place: &&Place| match asked.get(&place.id) {
                Some(at) => *at + limit(place.role) + ANSWER_LIMIT,
                None => began + helper(place.role),
            };
            open.map(last).max()
        };
        while let Some(last) = late(&found, &asked) {
            let left = last.saturating_duration_since(Instant::now());
            match answers.recv_timeout(left) {
                Ok(Step::Asked(id, at)) => drop(asked.insert(id, at)),
                Ok(Step::Ended(id, result)) => drop(found.insert(id, result)),
                Err(_) => break,
            }
        }
        // Whoever is late finds nobody who would take his disk, and closes it.
        for place in others {
            let too_slow = || Err(place.too_slow(asked.contains_key(&place.id)));
            found.entry(place.id).or_insert_with(too_slow);
        }
        Ok(found)
    }

    /// Somebody else has a local disk open: he may be changing it (P15).
    fn check_local(&self, found: &Found<Disk>) -> Result<()> {
        for place in self.lock().iter().filter(|place| place.role.is_local()) {
            if let Some(Err(not)) = found.get(&place.id)
                && not.errno.0 == Word::BUSY.raw_os_error()
            {
                return Err(anyhow!(not.why.clone()).context(place.role.to_string()));
            }
        }
        Ok(())
    }

    fn plan(&self, group: &Group, found: &Found<Disk>) -> Result<Plan> {
        let all = self.lock().clone();
        let facts = all.iter().map(|place| {
            let seen = match &found[&place.id] {
                Ok(disk) => Ok(disk.facts().seen()),
                Err(why) => Err(why.clone()),
            };
            let (id, path) = (place.id, place.text.clone());
            (place.text.clone(), DiskFacts { id, path, seen })
        });
        Ok(Plan::with_kept(group, &facts.collect(), self.kept.clone())?)
    }

    /// What an engine asks for: waits as long as it takes.
    fn open_again(&self, id: DiskId) -> Result<Disk, NotOpened> {
        self.found().remove(&id);
        let spec = OpenSpec { busy_limit: BUSY_LIMIT, ..OpenSpec::default() };
        let disk = self.at(id).open(&spec)?;
        let Some(claims) = &self.claims else { return self.keep(id, disk) };
        let told = |error: anyhow::Error| busy(format!("{}: {error:#}", self.at(id).text));
        let claiming = claims.begin().map_err(told)?;
        if let Some(refusal) = self.taken(id, &disk).map_err(told)? {
            return Err(refusal);
        }
        let disk = self.keep(id, disk)?;
        claiming.write(&self.own_claims()).map_err(told)?;
        Ok(disk)
    }

    /// Takes a disk that was opened, unless another path has led to it already (P15).
    fn keep(&self, id: DiskId, disk: Disk) -> Result<Disk, NotOpened> {
        let seen = Seen::of(&disk);
        let mut found = self.found();
        if let Some((other, known)) = found.iter().find(|(_, known)| known.overlaps(&seen)) {
            return Err(busy(self.sentence((id, &seen), (*other, known))));
        }
        found.insert(id, seen);
        Ok(disk)
    }

    /// P15: no byte serves twice, whatever it is a part of.
    fn check_overlaps(&self, found: &Found<Disk>) -> Result<()> {
        let mut before: Vec<(DiskId, Seen)> = Vec::new();
        for (id, disk) in found.iter().filter_map(|(id, result)| Some((*id, result.as_ref().ok()?)))
        {
            let seen = Seen::of(disk);
            let other = before.iter().find(|(_, known)| known.overlaps(&seen));
            if let Some((other, known)) = other {
                bail!(self.sentence((id, &seen), (*other, known)));
            }
            before.push((id, seen));
        }
        Ok(())
    }

    fn sentence(&self, (id, seen): (DiskId, &Seen), (other, known): (DiskId, &Seen)) -> String {
        let (here, there) = (self.at(id), self.at(other));
        let (text, role) = (&there.text, there.role);
        let what = if seen.identity == known.identity {
            format!("is the same as {text} ({role}): {}", seen.identity)
        } else {
            format!(
                "has bytes in common with {text} ({role}): both are parts of {}",
                seen.extent.of
            )
        };
        format!("{}: {what}; each needs a disk of its own", here.text)
    }

    /// What other replicators have is not there for this one.
    fn refuse_taken(&self, found: &mut Found<Disk>) -> Result<()> {
        for (id, result) in found {
            let Ok(disk) = result else { continue };
            let Some(refusal) = self.taken(*id, disk)? else { continue };
            let role = self.at(*id).role;
            ensure!(!self.is_vital(role), "{role}: {}", refusal.why);
            *result = Err(refusal);
        }
        Ok(())
    }

    fn taken(&self, id: DiskId, disk: &Disk) -> Result<Option<NotOpened>> {
        let Some(claims) = &self.claims else { return Ok(None) };
        let holder = claims.holder(&disk.facts().extent)?;
        Ok(holder.map(|holder| busy(format!("{}: in use by {holder}", self.at(id).text))))
    }

    fn own_claims(&self) -> Vec<Claim> {
        let claim = |(id, seen): (&DiskId, &Seen)| {
            let place = self.at(*id);
            Claim::new(place.role.to_string(), place.text.clone(), &seen.extent)
        };
        self.found().iter().map(claim).collect()
    }

    fn found(&self) -> MutexGuard<'_, BTreeMap<DiskId, Seen>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    fn of(disk: &Disk) -> Self {
        let facts = disk.facts();
        Self { identity: facts.identity.clone(), extent: facts.extent.clone() }
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.identity == other.identity || self.extent.overlaps(&other.extent)
    }
}

/// Where a disk is that a table names.
pub(super) fn path_of(text: &str) -> PathBuf {
    if text.starts_with('/') { text.into() } else { Path::new("/dev/block").join(text) }
}

impl Waits {
    /// For disks that nobody had open a moment ago.
    pub(super) const FRESH: Self =
        Self { busy: BUSY_LIMIT, local: LOCAL_LIMIT, helper: HELPER_LIMIT, for_dead: false };
    /// For those that a dead daemon had.
    /// Applications wait meanwhile, and know already how large the blocks are.
    pub(super) const RECOVERY: Self =
        Self { busy: DRAIN_LIMIT, local: LOCAL_LIMIT, helper: OTHERS_LIMIT, for_dead: true };

    /// How long a local disk may take. Where others could have everything in its place it
    /// hangs after its deadline; where not, there is no other way.
    fn for_local(self, group: &Group) -> Duration {
        let local = group.table.slinks.iter().find(|slink| slink.nr.is_local());
        let deadline = local.map_or(Duration::ZERO, |slink| slink.options.timeout_io());
        let alone = group.table.slinks.len() < 2;
        deadline.max(self.local).max(if alone { self.busy } else { Duration::ZERO })
    }

    /// Without a remote disk applications go on; where others do not have everything, without a
    /// local one nothing does.
    fn for_helper(self, role: Role) -> Duration {
        if role.is_local() { HELPER_LIMIT } else { self.helper }
    }
}

impl Place {
    /// The path, or where the kernel keeps the block device `MAJOR:MINOR`.
    fn path(&self) -> PathBuf {
        path_of(&self.text)
    }

    /// Opens it, however long that takes.
    fn open(&self, spec: &OpenSpec) -> Result<Disk, NotOpened> {
        let (sender, steps) = channel();
        self.open_in_steps(spec, &sender);
        let result = steps.try_iter().find_map(|step| match step {
            Step::Ended(_, result) => Some(result),
            Step::Asked(..) => None,
        });
        result.expect("an opening has an end")
    }

    /// Opens it; whoever listens takes the disk.
    fn open_in_steps(&self, spec: &OpenSpec, sender: &Sender<Step>) {
        let tell = |step| drop(sender.send(step));
        let mut opening = match self.lane.as_ref().map(Lane::opening).transpose() {
            Ok(opening) => opening,
            Err(error) => return tell(Step::Ended(self.id, Err(self.has_no_helper(&error)))),
        };
        tell(Step::Asked(self.id, Instant::now()));
        let result = match &mut opening {
            Some(opening) => opening.open(&self.path(), spec),
            None => Disk::open(&self.path(), spec).map_err(NotOpened::from),
        };
        // Before the end of the process is waited for.
        tell(Step::Ended(self.id, result));
    }

    fn has_no_helper(&self, error: &std::io::Error) -> NotOpened {
        NotOpened {
            errno: Errno(error.raw_os_error().unwrap_or(Errno::EIO.0)),
            why: format!("{}: the process that opens it could not be started: {error}", self.text),
        }
    }

    fn too_slow(&self, was_asked: bool) -> NotOpened {
        let what = match was_asked {
            true => "it could not be opened in time, as if it hung",
            false => "the process that opens it did not start in time",
        };
        NotOpened { errno: Errno::ETIMEDOUT, why: format!("{}: {what}", self.text) }
    }
}

/// Begins to open each on a thread of its own.
fn begin(places: &[&Place], spec: &impl Fn(Role) -> OpenSpec) -> Result<Receiver<Step>> {
    let (sender, answers) = channel();
    for place in places {
        let (its, spec, sender) = ((*place).clone(), spec(place.role), sender.clone());
        let thread = thread::Builder::new().name(format!("open-{}", place.id.0));
        let open = move || its.open_in_steps(&spec, &sender);
        thread.spawn(open).with_context(|| format!("starting a thread to open {}", place.text))?;
    }
    Ok(answers)
}

/// With which others a disk is lost, unless nothing can be served without it. A site that
/// hangs must not keep its dirty logs from being written: these are elsewhere.
fn lane(role: Role) -> Option<u16> {
    let nr = match role {
        Role::Log => return None,
        Role::Leg { slink, .. } | Role::Mark { slink } => slink.0,
        Role::DirtyLog { slink, .. } => DIRTY_LOGS + slink.0,
    };
    (!role.is_vital()).then_some(nr)
}

fn failures(found: Found<Disk>) -> BTreeMap<DiskId, NotOpened> {
    found.into_iter().filter_map(|(id, result)| Some((id, result.err()?))).collect()
}

fn busy(why: String) -> NotOpened {
    NotOpened { errno: Errno(Word::BUSY.raw_os_error()), why }
}

fn until_it_is_back(role: Role) -> &'static str {
    match role {
        Role::Log => "the devices go on without it, as before",
        Role::Leg { .. } => "the site is down until it is back",
        Role::DirtyLog { .. } => "all of the device counts as dirty there until it is back",
        Role::Mark { .. } => "the site's state is not kept there until it is back",
    }
}

/// How long the last writes of a daemon that died may take to end or to fail.
const DRAIN_LIMIT: Duration = Duration::from_secs(60);
/// How long who has opened a disk, or has found it busy, may take to say so.
const ANSWER_LIMIT: Duration = Duration::from_millis(500);
const LOCAL_LIMIT: Duration = Duration::from_secs(10);
/// How long a look at a remote disk may take, and then its opening.
const OTHERS_LIMIT: Duration = Duration::from_secs(2);
/// A process is there soon, but for a host that has no time for it. That is no outage, and a
/// device that begins without a remote disk does not know how large its blocks are.
const HELPER_LIMIT: Duration = Duration::from_secs(10);
/// Sites have smaller numbers.
const DIRTY_LOGS: u16 = 1000;
/// udev and its like look at a device for moments.
const BUSY_LIMIT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
