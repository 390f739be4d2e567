//! What a site link is to the rest of the house.

use blk::{BufMut, DevNr, DiskId, DiskSeen, Effect, Errno, IoOwner, NotOpened};
use blk::{Sector, Sectors, Seq, SlinkNr, Time};
use dirty_log::DirtyLog;
use replog::Replog;
use table::SlinkTable;

use crate::event::SiteEvent;
use crate::health::Down;
use crate::mend::Mend;
use crate::ordered::Ordered;

/// One site link: it moves a site's copy along the log.
pub trait SiteLink: Send {
    /// Its number.
    fn nr(&self) -> SlinkNr;

    /// Asks for all I/O that is to be done by now, and tells the log how far the site is.
    fn poll(&mut self, now: Time, log: &mut Replog, load: &Load, effects: &mut Vec<Effect>);

    /// An I/O of this link has ended.
    fn done(&mut self, now: Time, log: &mut Replog, ended: Ended);

    /// A disk that this link asked to be opened is open, or could not be opened.
    fn opened(
        &mut self,
        now: Time,
        log: &mut Replog,
        disk: DiskId,
        result: Result<DiskSeen, NotOpened>,
    );

    /// How far acknowledgements may go, as far as this site is concerned.
    fn grant(&mut self, now: Time, log: &Replog) -> Grant;

    /// Whether asking for the grant has shown something that `poll` has to act on.
    fn has_news(&self) -> bool {
        false
    }

    /// Whether nobody has to wait for the site if it can't have what it lacks from the log.
    fn may_be_left(&self) -> bool;

    /// When `poll` is to be called even if nothing happens.
    fn wakeup(&self, log: &Replog, load: &Load) -> Option<Time>;

    /// How it is.
    fn report(&self, now: Time, log: &Replog) -> Report;

    /// Which regions of a device are out of sync; none if it has no such device.
    fn dirty_log(&self, dev: DevNr) -> Option<&DirtyLog>;

    /// What has become of the site since this was last asked.
    fn take_events(&mut self) -> Vec<SiteEvent>;

    /// Somebody says that nothing on the site's copies, or one device's, can be believed:
    /// they are to be copied anew, whatever disks they are.
    fn resync(&mut self, now: Time, log: &mut Replog, dev: Option<DevNr>);

    /// The table says something else of it from now on: policy, limit, options. `nr`, `kind`,
    /// and whether a local site is `sync`, stay.
    fn reconfigure(&mut self, now: Time, log: &mut Replog, table: &SlinkTable);

    /// Somebody takes a remote site down, or (`held` is false) lets it be tried again.
    fn hold(&mut self, now: Time, log: &mut Replog, held: bool);

    /// Compares what the site holds with what it should hold, while applications write.
    fn verify(&mut self, _now: Time, _log: &Replog, _ask: Verification) {}

    /// Ends a comparison under way.
    fn stop_verifying(&mut self, _now: Time) {}

    /// Somebody tells that a device's copy there differs in these ranges, and with `end` that
    /// it does nowhere else: they are copied, and the disk that is there is taken for it.
    fn differs(
        &mut self,
        _now: Time,
        _log: &mut Replog,
        _dev: DevNr,
        _ranges: &[(Sector, Sectors)],
        _end: bool,
    ) {
    }

    /// Where the site keeps its own state from now on; where it did.
    fn set_mark(&mut self, now: Time, log: &mut Replog, mark: Option<DiskId>) -> Option<DiskId>;

    /// Whose site it is has another name from now on, which its mark is to say.
    fn rename(&mut self, replicator: &str);

    /// A leg joins the site. The roster knows it, and whether it is all dirty.
    fn add_leg(&mut self, now: Time, log: &mut Replog, leg: Leg);

    /// A device has grown: its leg and the dirty log, which is to be as `spec` says. `seen` is what
    /// was seen of a local disk since; a remote one is looked at anew, and what it holds behind the
    /// device's old end is dirty. Nothing happens if the leg has that size, or there is none.
    fn grow(
        &mut self,
        now: Time,
        log: &mut Replog,
        spec: &dirty_log::Spec,
        seen: &Result<DiskSeen, NotOpened>,
    );

    /// A leg leaves the site, when nothing of it is in flight any more (I15): then the roster
    /// has it as left out, and its disks are let go of.
    fn drop_leg(&mut self, dev: DevNr);

    /// The disks that it uses.
    fn disks(&self) -> Vec<DiskId>;

    /// Whether nothing of it is in flight, not even what hangs.
    fn is_still(&self) -> bool;

    /// A device's disks on all sites, from now on.
    fn set_copies(&mut self, dev: DevNr, copies: &[(SlinkNr, DiskId)]);

    /// Whether anything is in flight to a disk.
    fn uses(&self, disk: DiskId) -> bool;

    /// A sector there could not be read, and this is what it is to hold.
    fn mend(&mut self, mend: Mend);

    /// Whether it has I/O in flight that can be waited for: not what hangs, nor what is read
    /// from a log that is lost.
    fn is_busy(&self, now: Time, log: &Replog) -> bool;

    /// When the next I/O in flight that does not hang yet will.
    fn next_deadline(&self, now: Time, log: &Replog) -> Option<Time>;
}

/// How far acknowledgements may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// As far as anybody else allows.
    All,
    /// Up to this write.
    UpTo(Seq),
    /// Up to this write; who waits for more, and whoever comes, gets an error.
    Refuse(Seq),
}

/// What is to be compared, and what is to become of what differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verification {
    /// One device, or all.
    pub dev: Option<DevNr>,
    /// Ranges that differ are to be copied.
    pub repair: bool,
}

/// How far a comparison is, and what it has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// When it began.
    pub since: Time,
    /// When it ended, if it has.
    pub ended: Option<Time>,
    /// It has looked at everything; not if somebody stopped it.
    pub whole: bool,
    /// What differs is copied when all was seen.
    pub repair: bool,
    /// Bytes of the devices that are compared.
    pub total_bytes: u64,
    /// Bytes that were compared.
    pub compared_bytes: u64,
    /// Bytes that were not, since they are dirty: nobody claims that they are equal.
    pub dirty_bytes: u64,
    /// Bytes that were not, since somebody wrote to them whenever they were looked at, or
    /// they could not be read here.
    pub busy_bytes: u64,
    /// Bytes that the site could not read, though it was up: as good as different.
    pub unreadable_bytes: u64,
    /// Bytes of all sectors that differ.
    pub differing_bytes: u64,
    /// How many ranges they are.
    pub differing_ranges: u64,
    /// The first few.
    pub first: Vec<Difference>,
    /// Bytes a second, lately.
    pub rate: u64,
}

/// A range that is not what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The device.
    pub dev: DevNr,
    /// Where it begins.
    pub sector: Sector,
    /// How long it is.
    pub len: Sectors,
}

/// The end of an I/O that a link asked for.
#[derive(Debug)]
pub struct Ended {
    /// The link's number for it.
    pub nr: u64,
    /// How it ended.
    pub result: Result<(), Errno>,
    /// What a read brought.
    pub buf: Option<BufMut>,
}

/// What is asked of the devices, as far as it concerns links.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// When an application last changed something, or the log did so for it.
    pub last_change: Time,
    /// When an application last asked for anything.
    pub last_request: Time,
    /// An application waits for an answer.
    pub is_waited_for: bool,
    /// It waits for a remote site and for nothing else: what it asks for next will want the disks.
    pub waits_for_remote: bool,
    /// The replicator is being stopped: everything is to reach its site now.
    pub draining: bool,
    /// Somebody waits for everything written to reach the local site.
    pub hurry: bool,
}

/// What a link is made of.
#[derive(Clone, Debug)]
pub struct LinkSpec {
    /// Name of the replicator.
    pub replicator: String,
    /// What the table says of it: number, policy, limits.
    pub table: SlinkTable,
    /// Whose I/O it asks for.
    pub owner: IoOwner,
    /// The backing device of each device that this site has.
    pub legs: Vec<Leg>,
    /// Where the site keeps its own state, if the table says so.
    pub mark: Option<DiskId>,
}

/// The backing device of one device.
#[derive(Clone, Debug)]
pub struct Leg {
    /// The device.
    pub dev: DevNr,
    /// Sectors of the device.
    pub size: Sectors,
    /// Bytes of the device's logical block.
    pub block: u32,
    /// Its LD or RD.
    pub disk: DiskId,
    /// The device's disk on every site, to read from what a resync copies.
    pub copies: Vec<(SlinkNr, DiskId)>,
    /// What was seen of `disk` when it was opened, or why it could not be.
    pub seen: Result<DiskSeen, NotOpened>,
    /// Which of its regions are out of sync.
    pub dirty_log: DirtyLog,
}

/// How a link is, for people.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// What it does.
    pub state: State,
    /// Whether its image is one that the devices could have been found in (P3).
    pub consistent: bool,
    /// Whether acknowledgements wait for it, if it is `sync`, or its limit holds for them:
    /// not while it is down or being copied.
    pub in_force: bool,
    /// Writers wait for it, since it crossed its limit.
    pub over_limit: bool,
    /// The failure that stopped it, if one did.
    pub down: Option<Down>,
    /// Groups, or for a site that is fed lazily copies, that reached the site since the start.
    pub shipped: u64,
    /// Barriers since the start: round trips to the site.
    pub round_trips: u64,
    /// Backing I/Os in flight.
    pub in_flight: usize,
    /// Bytes of dirty regions; what a resync has to copy.
    pub dirty_bytes: u64,
    /// The resync under way.
    pub resync: Option<Resync>,
    /// The comparison under way, or the last one since the start.
    pub verified: Option<Verified>,
}

/// How far a resync is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Resync {
    /// When it began.
    pub since: Time,
    /// Bytes that are on the site since then; more than there were if some were copied again.
    pub copied_bytes: u64,
    /// Bytes a second, lately.
    pub rate: u64,
}

/// What a link does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is fed from the log.
    Streaming,
    /// What it lacks becomes dirty regions.
    Detached,
    /// Dirty regions are being copied.
    Resyncing,
    /// A device failed; it is tried again from time to time, and the log keeps what it lacks.
    Down,
}

/// The class of site link types in the registry.
pub struct SlinkClass;

impl registry::Class for SlinkClass {
    const NAME: &'static str = "slink";
    type Constructor = fn(LinkSpec) -> Box<dyn SiteLink>;
}

/// The type `blockdev`: a site whose copies are block devices of this host.
#[must_use]
pub fn blockdev(spec: LinkSpec) -> Box<dyn SiteLink> {
    Box::new(Ordered::new(spec))
}

impl Leg {
    /// The device's disk on a site that has it; none if that site has not.
    pub(crate) fn disk_at(&self, slink: SlinkNr) -> Option<DiskId> {
        self.copies.iter().find(|(site, _)| *site == slink).map(|(_, disk)| *disk)
    }
}

impl Grant {
    /// The last write that may be acknowledged, if there is a last one.
    #[must_use]
    pub fn limit(self) -> Option<Seq> {
        match self {
            Self::All => None,
            Self::UpTo(seq) | Self::Refuse(seq) => Some(seq),
        }
    }

    /// The last write that does not get an error, if others do.
    #[must_use]
    pub fn refusal(self) -> Option<Seq> {
        match self {
            Self::All | Self::UpTo(_) => None,
            Self::Refuse(seq) => Some(seq),
        }
    }
}

impl State {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Streaming => "streaming",
            Self::Detached => "detached",
            Self::Resyncing => "resyncing",
            Self::Down => "down",
        }
    }
}

impl Load {
    /// Whether no application wants anything of the disks, nor has for a moment.
    #[must_use]
    pub fn is_at_rest(&self, now: Time) -> bool {
        !self.is_waited_for && now.since(self.last_request) >= IDLE_AFTER
    }

    /// Whether no application has changed anything for a moment, or waits for the log: a
    /// slow log device is not an idle application. Nor is one that waits for a slow site.
    #[must_use]
    pub fn is_idle(&self, now: Time, log: &Replog) -> bool {
        self.draining || self.hurry || (now >= self.idle_at() && !log.is_committing())
    }

    /// When the application counts as idle, if it asks for nothing before.
    #[must_use]
    pub fn idle_at(&self) -> Time {
        self.last_change + if self.waits_for_remote { STALLED_AFTER } else { IDLE_AFTER }
    }
}

/// How far a site's link is behind what is written, in writes.
#[must_use]
pub fn lag(log: &Replog, slink: SlinkNr) -> u64 {
    let covered: Seq = log.covered(slink);
    log.written().lag(covered)
}

/// How long nothing is written before the local site takes the disk for itself.
pub const IDLE_AFTER: blk::Span = blk::Span::from_millis(5);
/// The same while an application waits for a remote site: that one may be away for hours.
pub const STALLED_AFTER: blk::Span = blk::Span::from_secs(1);
