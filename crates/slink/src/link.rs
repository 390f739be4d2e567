//! What a site link is to the rest of the house.

use blk::{BufMut, DevNr, DiskId, Effect, Errno, IoOwner, Seq, SlinkNr, Time};
use replog::Replog;

use crate::health::Down;
use crate::lazy::Lazy;
use crate::ordered::Ordered;

/// One site link: it moves a site's copy along the log.
pub trait SiteLink: Send {
    /// Its number.
    fn nr(&self) -> SlinkNr;

    /// Asks for all I/O that is to be done by now, and tells the log how far the site is.
    fn poll(&mut self, now: Time, log: &mut Replog, load: &Load, effects: &mut Vec<Effect>);

    /// An I/O of this link has ended.
    fn done(&mut self, now: Time, log: &mut Replog, ended: Ended);

    /// When `poll` is to be called even if nothing happens.
    fn wakeup(&self, log: &Replog, load: &Load) -> Option<Time>;

    /// How it is.
    fn report(&self, log: &Replog) -> Report;

    /// Whether it has I/O in flight.
    fn is_busy(&self) -> bool;
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
    /// The replicator is being stopped: everything is to reach its site now.
    pub draining: bool,
}

/// What a link is made of.
#[derive(Clone, Debug)]
pub struct LinkSpec {
    /// Its number.
    pub nr: SlinkNr,
    /// Whose I/O it asks for.
    pub owner: IoOwner,
    /// Whether acknowledgements wait for it.
    pub sync: bool,
    /// The backing device of each device that this site has.
    pub legs: Vec<Leg>,
}

/// The backing device of one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leg {
    /// The device.
    pub dev: DevNr,
    /// Its LD or RD.
    pub disk: DiskId,
}

/// How a link is, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What it does.
    pub state: State,
    /// The failure that stopped it, if one did.
    pub down: Option<Down>,
    /// Groups, or for the local site copies, that reached the site since the start.
    pub shipped: u64,
    /// Backing I/Os in flight.
    pub in_flight: usize,
}

/// What a link does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is fed from the log.
    Streaming,
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
    if spec.nr.is_local() && !spec.sync {
        Box::new(Lazy::new(spec))
    } else {
        Box::new(Ordered::new(spec))
    }
}

impl Report {
    /// A link is down from a failure to the next success, and streaming otherwise.
    pub(crate) fn new(down: Option<Down>, shipped: u64, in_flight: usize) -> Self {
        let state = if down.is_some() { State::Down } else { State::Streaming };
        Self { state, down, shipped, in_flight }
    }
}

impl Load {
    /// Whether no application has changed anything for a moment, or waits for the log: a
    /// slow log device is not an idle application.
    #[must_use]
    pub fn is_idle(&self, now: Time, log: &Replog) -> bool {
        self.draining || (now.since(self.last_change) >= IDLE_AFTER && !log.is_committing())
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
