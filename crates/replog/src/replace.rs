//! Another log takes the place of one that was lost, while the devices are at work (P8); or of
//! one that works, which is given up when the new one is ready ([`crate::moving`]).
//!
//! ```text
//!  Look ─▶ Zero ─▶ Blank ─▶ Prepared ─▶ Hold ─────────────▶ Format ─▶ Retire ─▶ the new log is
//!                             │  ▲      no write is taken;   both      the record    at work
//!                             ▼  │      the LD is flushed    slots     says so
//!                           CatchUp
//! ```
//!
//! A crash before the record says that the old log is *retired* finds it bypassed, and what is
//! on the new device is nothing; one after that finds the new log, which has everything. The old
//! one is never opened again.
//!
//! Numbers go on: groups and writes of the new log follow those of the old one, so that nobody
//! who waits for one has to be told. The dirty logs on disks are of the old log, so in the new
//! roster all legs of detached sites are all dirty, until they are written anew (I7).

use blk::{Buf, BufMut, DiskId, DiskOp, Effect, Errno, Gather, IoId, IoOwner, Sector, Sectors};
use blk::{Seq, SlinkNr, Time};
use uuid::Uuid;

use crate::bypass::Bypass;
use crate::checkpoint::Checkpointing;
use crate::event::LogEvent;
use crate::format::group::Cursor;
use crate::format::kept::{Kept, RETIRED_MAX};
use crate::format::superblock::{Anchor, LogState, SiteRecord, Superblock, choose};
use crate::geometry::{Geometry, RingPos, SLOT_BYTES, SLOTS};
use crate::index::Index;
use crate::log::Replog;
use crate::standing::Version;
use crate::tail::Tail;

/// Where a new log is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewLog {
    /// Its device.
    pub disk: DiskId,
    /// Its path, for messages.
    pub path: String,
    /// Its size.
    pub disk_size: Sectors,
    /// Where the log begins on it.
    pub start: Sector,
    /// Sectors of the log; those of the old one if not given.
    pub size: Option<Sectors>,
    /// Its identity.
    pub uuid: Uuid,
    /// Whether it may be at work without [`Replog::begin_new_log`].
    pub is_named: bool,
}

/// Why no other log takes the place of one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplaceError {
    /// The log is lost, and the LD does not stand in for it.
    #[error("the log is lost, and the local disks do not stand in for it yet")]
    NotBypassed,
    /// The log works, and is there.
    #[error(
        "the log is at work on {path}: expected another device for it (`replog resize` makes it longer where it is)"
    )]
    AtWork {
        /// The device.
        path: String,
    },
    /// The log works, and there is none yet that could take its place.
    #[error("there is no log yet that could take the place of the one at work")]
    NotPrepared,
    /// The log works, and has what the LD lacks.
    #[error("the log stays where it is: the local disks could not stand in for it meanwhile")]
    NoStandIn,
    /// The log works, and is all that a site has to catch up from.
    #[error(
        "the log stays where it is: site {slink} lacks {writes} of the writes in it, and the table says to wait for that site"
    )]
    Lacking {
        /// The site.
        slink: SlinkNr,
        /// Writes that it lacks.
        writes: u64,
    },
    /// Somebody does not want it any more.
    #[error("the new log is not wanted any more")]
    Cancelled,
    /// Nothing begins any more.
    #[error("the replicator is stopping")]
    Stopping,
    /// It is being replaced already.
    #[error("the log is being replaced already")]
    UnderWay,
    /// It does not fit there.
    #[error(
        "{path}: a log of {size} sectors at sector {start} does not fit a device of {disk_size}"
    )]
    DoesNotFit {
        /// The device.
        path: String,
        /// Size of the log.
        size: Sectors,
        /// Where it begins.
        start: Sector,
        /// Size of the device.
        disk_size: Sectors,
    },
    /// The devices take requests that it could not hold.
    #[error(
        "{path}: a log of {size} sectors is too small: it has to hold writes of {longest} sectors"
    )]
    TooSmall {
        /// The device.
        path: String,
        /// Size of the log.
        size: Sectors,
        /// The longest write that the old log holds.
        longest: Sectors,
    },
    /// There is somebody else's log.
    #[error(
        "{path}: there is another replication log (UUID {uuid}); wipe its first 256 KiB if nothing in it is needed"
    )]
    InUse {
        /// The device.
        path: String,
        /// Whose it is.
        uuid: Uuid,
    },
    /// There is a log that this program does not understand.
    #[error("{path}: {reason}")]
    Newer {
        /// The device.
        path: String,
        /// What it says.
        reason: String,
    },
    /// The device failed.
    #[error("{path}: {what} ended with: {errno}")]
    Io {
        /// The device.
        path: String,
        /// What was being done.
        what: &'static str,
        /// How it ended.
        errno: Errno,
    },
}

/// A new log in the making.
#[derive(Debug)]
pub(crate) struct Replacing {
    new: NewLog,
    geometry: Geometry,
    pub(crate) stage: Stage,
    /// Whether the new log may be at work as soon as the LD stands in for the old one.
    pub(crate) may_begin: bool,
    /// Whether the old log was given up for it.
    pub(crate) given_up: bool,
    /// I/O in flight, and when the last of it began.
    flying: usize,
    began: Time,
}

#[derive(Debug)]
pub(crate) enum Stage {
    Look { asked: bool, read: [Option<Buf>; 2] },
    Zero { next: u64 },
    Blank { asked: bool },
    Prepared,
    CatchUp { since: Time, left_behind: bool },
    Hold { since: Time },
    Format { superblock: Superblock, says: Version, asked: bool },
    Retire { superblock: Superblock, says: Version, again_at: Option<Time>, kept: bool },
}

impl Stage {
    fn what(&self) -> &'static str {
        match self {
            Self::Look { .. } => "reading what is there",
            Self::Zero { .. } => "writing zeroes over the new log",
            Self::Blank { .. } => "flushing the new log",
            Self::Prepared => "waiting until the local disks stand in for the old log",
            Self::CatchUp { .. } => "waiting until the sites have what is in the old log",
            Self::Hold { .. } => {
                "waiting until the local disks have every write, and sites are marked"
            }
            Self::Format { .. } => "writing a superblock of the new log",
            Self::Retire { .. } => "keeping that the old log is retired",
        }
    }
}

impl Replog {
    /// Has a new log take the place of the one that is lost; or made ready to take that of the
    /// one at work, if [`Replog::give_up`] says so.
    ///
    /// # Errors
    /// If nothing of the kind can begin; nothing has changed then.
    pub fn replace(&mut self, new: NewLog) -> Result<(), ReplaceError> {
        if self.is_lost() && !self.is_bypassed() {
            return Err(ReplaceError::NotBypassed);
        }
        if !self.is_lost() && new.disk == self.config.disk {
            return Err(ReplaceError::AtWork { path: new.path });
        }
        if self.replacing.is_some() {
            return Err(ReplaceError::UnderWay);
        }
        let size = new.size.unwrap_or(self.geometry().size());
        let fits = new.disk_size.0.checked_sub(new.start.0).is_some_and(|room| size.0 <= room);
        let geometry = Geometry::new(new.start, size).filter(|_| fits);
        let Some(geometry) = geometry else {
            let NewLog { path, start, disk_size, .. } = new;
            return Err(ReplaceError::DoesNotFit { path, size, start, disk_size });
        };
        let longest = self.geometry().write_max();
        if geometry.write_max() < longest {
            let (path, longest) = (new.path, longest);
            return Err(ReplaceError::TooSmall { path, size, longest });
        }
        let stage = Stage::Look { asked: false, read: [None, None] };
        let began = Time::default();
        self.replaced = None;
        self.replacements += 1;
        let (may_begin, given_up) = (new.is_named, false);
        self.replacing =
            Some(Replacing { new, geometry, stage, may_begin, given_up, flying: 0, began });
        Ok(())
    }

    /// What is being done about a new log.
    #[must_use]
    pub fn replacing(&self) -> Option<&'static str> {
        self.replacing.as_ref().map(|it| it.stage.what())
    }

    /// The new log is at work, or why there is none; once.
    pub fn take_replaced(&mut self) -> Option<Result<NewLog, ReplaceError>> {
        self.replaced.take()
    }

    /// Whether no write is taken, because a new log is about to be at work.
    pub(crate) fn holds_for_new_log(&self) -> bool {
        let holds = |it: &Replacing| match it.stage {
            Stage::Look { .. } | Stage::Zero { .. } | Stage::Blank { .. } => false,
            Stage::Prepared => it.given_up,
            Stage::CatchUp { .. } | Stage::Hold { .. } => true,
            Stage::Format { .. } | Stage::Retire { .. } => true,
        };
        self.replacing.as_ref().is_some_and(holds)
    }

    /// Whether what the roster says is in a new log already, and no record says more.
    pub(crate) fn is_in_new_log(&self) -> bool {
        let is = |it: &Replacing| matches!(it.stage, Stage::Format { .. } | Stage::Retire { .. });
        self.replacing.as_ref().is_some_and(is)
    }

    /// Goes on with it.
    pub(crate) fn poll_replacing(&mut self, now: Time, effects: &mut Vec<Effect>) {
        loop {
            let quiet = self.is_quiet_for_new_log();
            let is_bypassed = self.is_bypassed();
            let Some(replacing) = &mut self.replacing else { return };
            if replacing.flying > 0 {
                if replacing.began + self.own_timeout() <= now {
                    self.give_up_replacing(Errno::ETIMEDOUT);
                }
                return;
            }
            match &mut replacing.stage {
                Stage::Look { asked: false, .. }
                | Stage::Blank { asked: false }
                | Stage::Format { asked: false, .. } => {
                    replacing.ask(now, self.replacements, effects);
                    return;
                }
                Stage::Zero { next } if *next < replacing.geometry.ring_bytes() => {
                    replacing.ask(now, self.replacements, effects);
                    return;
                }
                Stage::Look { read, .. } => {
                    let read = std::mem::take(read);
                    self.looked(&read);
                }
                Stage::Zero { .. } => replacing.stage = Stage::Blank { asked: false },
                Stage::Blank { .. } => replacing.stage = Stage::Prepared,
                Stage::Prepared if is_bypassed && replacing.may_begin => {
                    replacing.stage = Stage::Hold { since: now };
                    self.cover_nothing();
                }
                Stage::Prepared => return,
                Stage::CatchUp { .. } => return self.poll_catching_up(now),
                Stage::Hold { .. } if quiet => self.begin_format(),
                Stage::Hold { since } => {
                    // A site that the table says to wait for is in the way.
                    if *since + self.own_timeout() <= now {
                        self.give_up_replacing(Errno::ETIMEDOUT);
                    }
                    return;
                }
                Stage::Format { .. } => self.begin_retirement(),
                Stage::Retire { kept: true, .. } => {
                    self.begin_with_new_log();
                    return;
                }
                Stage::Retire { .. } => {
                    self.keep_retirement(now, effects);
                    return;
                }
            }
        }
    }

    /// When [`Replog::poll_replacing`] has to look, even if nothing happens.
    pub(crate) fn replacing_wakeup(&self) -> Option<Time> {
        let replacing = self.replacing.as_ref()?;
        match replacing.stage {
            Stage::Retire { again_at, .. } => again_at,
            Stage::Hold { since } => Some(since + self.own_timeout()),
            Stage::CatchUp { .. } => self.catching_up_wakeup(),
            _ => (replacing.flying > 0).then(|| replacing.began + self.own_timeout()),
        }
    }

    /// Who lacks writes of nothing only lacks nothing.
    fn cover_nothing(&mut self) {
        let lacking = self.consumers.iter().filter(|it| !it.slink.is_local());
        let lacking = lacking.filter(|it| {
            let mut seqs = (it.covered.0 + 1..=self.written.0).map(Seq);
            seqs.all(|seq| self.index.write(seq).is_some_and(|write| write.len.is_empty()))
        });
        let lacking: Vec<SlinkNr> = lacking.map(|it| it.slink).collect();
        lacking.into_iter().for_each(|slink| self.cover(slink, self.written));
    }

    /// Everything written is on the LD's media, and every other site is marked for it.
    fn is_quiet_for_new_log(&self) -> bool {
        self.open.is_none()
            && self.launched.is_none()
            && self.durable == self.written
            && self.consumers.head() >= self.written
            && !self.is_keeping()
    }

    fn looked(&mut self, read: &[Option<Buf>; 2]) {
        let is_lost = self.is_lost();
        let replacing = self.replacing.as_mut().expect("looked at before");
        let slot = |nr: usize| Superblock::decode(read[nr].as_ref().expect("both were read"));
        let path = replacing.new.path.clone();
        let refusal = match choose(slot(0), slot(1)) {
            LogState::Absent | LogState::Damaged(_) => None,
            LogState::Newer(newer) => Some(ReplaceError::Newer { path, reason: newer.to_string() }),
            LogState::Valid(found) => {
                // One at work that is there, too, is there by another name.
                let is_same = self.superblock.uuid == found.uuid;
                let is_ours = (is_same && is_lost)
                    || !is_same && found.legs.iter().any(|leg| self.superblock.legs.contains(leg));
                (!is_ours).then_some(ReplaceError::InUse { path, uuid: found.uuid })
            }
        };
        match refusal {
            None => replacing.stage = Stage::Zero { next: 0 },
            Some(error) => self.end_replacing(error),
        }
    }

    fn begin_format(&mut self) {
        let next = self.next_superblock();
        let replacing = self.replacing.as_mut().expect("looked at before");
        let next = next.laid_out(&replacing.geometry).moved_to(replacing.new.uuid);
        let (sites, mut legs) = (next.sites, next.legs);
        for site in sites.iter().filter(|site| site.detached.is_some()) {
            let of_site = legs.iter_mut().filter(|leg| leg.slink == site.slink);
            of_site.for_each(|leg| leg.all_dirty = true);
        }
        let superblock = Superblock {
            generation: next.generation + 1,
            epoch: 1,
            epoch_first_group: self.tip.group + 1,
            durable: self.written,
            head: Anchor {
                pos: RingPos(0),
                group: self.tip.group,
                seq: self.written,
                epoch: 0,
                crc: 0,
            },
            bypassed_since: None,
            sites,
            legs,
            ..next
        };
        let says = self.members.version();
        replacing.stage = Stage::Format { superblock, says, asked: false };
    }

    fn begin_retirement(&mut self) {
        let replacing = self.replacing.as_mut().expect("looked at before");
        let Stage::Format { superblock, says, .. } = &replacing.stage else {
            unreachable!("looked at before")
        };
        let (superblock, says) = (superblock.clone(), *says);
        replacing.stage = Stage::Retire { superblock, says, again_at: None, kept: false };
    }

    /// From here on there is no way back: nobody knows what a record says that could not be kept.
    fn keep_retirement(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let mut retired = self.retired();
        retired.retain(|uuid| *uuid != self.superblock.uuid);
        retired.push(self.superblock.uuid);
        let excess = retired.len().saturating_sub(RETIRED_MAX);
        retired.drain(..excess);
        let superblock = self.superblock.clone();
        let replacing = self.replacing.as_mut().expect("looked at before");
        let Stage::Retire { again_at, .. } = &mut replacing.stage else {
            unreachable!("looked at before")
        };
        if again_at.is_some_and(|at| now < at) {
            return;
        }
        *again_at = None;
        replacing.flying += 1;
        replacing.began = Time(u64::MAX / 2);
        self.retire(retired.clone());
        effects.push(Effect::Keep { bytes: Kept { superblock, retired }.encode() });
    }

    /// Whether the record in flight is about that, and what became of it.
    pub(crate) fn kept_retirement(&mut self, at: Time, result: Result<(), Errno>) -> bool {
        let Some(replacing) = &mut self.replacing else { return false };
        let Stage::Retire { again_at, kept, .. } = &mut replacing.stage else { return false };
        replacing.flying -= 1;
        match result {
            Ok(()) => *kept = true,
            Err(_) => *again_at = Some(at),
        }
        true
    }

    /// The new log has everything, and nothing else counts.
    fn begin_with_new_log(&mut self) {
        let Replacing { new, geometry, stage, .. } =
            self.replacing.take().expect("looked at before");
        let Stage::Retire { superblock, says, .. } = stage else {
            unreachable!("looked at before")
        };
        self.events.push(LogEvent::Replaced { uuid: new.uuid, path: new.path.clone() });
        let retired = self.retired();
        (self.config.disk, self.config.geometry, self.geometry) = (new.disk, geometry, geometry);
        self.head = superblock.head;
        (self.tip, self.written_end) = (superblock.head, superblock.head);
        self.durable_end = superblock.head.pos;
        self.index = Index::behind(&superblock.head);
        self.first_shown = superblock.head.seq.next();
        self.superblock = superblock;
        self.members.formatted(says);
        let dirty = self.superblock.legs.iter().filter(|leg| leg.all_dirty);
        let dirty: Vec<_> = dirty.map(|leg| (leg.dev, leg.slink)).collect();
        for (dev, slink) in dirty {
            self.change_leg(dev, slink, |leg| leg.all_dirty = true);
        }
        self.bypass = Bypass::default();
        self.retire(retired);
        self.checkpointing = Checkpointing::default();
        (self.failure, self.starved, self.tail_full) = (None, false, false);
        self.own_io.begin_anew();
        self.forget_pins();
        let sites = self.superblock.sites.iter();
        let cursor = |site: &SiteRecord| Cursor { slink: site.slink, covered: site.covered };
        self.consumers.checkpointed(sites.map(cursor));
        // Nothing of it is needed; whoever still reads a part keeps that.
        self.tail = Tail::new(self.config.tail_bytes, geometry.group_bytes_max());
        self.replaced = Some(Ok(new));
    }

    fn give_up_replacing(&mut self, errno: Errno) {
        let Some(replacing) = &self.replacing else { return };
        let (path, what) = (replacing.new.path.clone(), replacing.stage.what());
        self.end_replacing(ReplaceError::Io { path, what, errno });
    }

    /// The devices stay without a log, or with the one at work.
    pub(crate) fn end_replacing(&mut self, error: ReplaceError) {
        self.events.push(LogEvent::NotReplaced(error.clone()));
        self.replacing = None;
        self.replaced = Some(Err(error));
    }

    /// An I/O of [`REPLACE_IO`] has ended.
    pub fn replacing_done(&mut self, nr: u64, result: Result<(), Errno>, buf: Option<BufMut>) {
        let of_this = nr / PER_REPLACEMENT == self.replacements;
        let Some(replacing) = self.replacing.as_mut().filter(|_| of_this) else { return };
        replacing.flying -= 1;
        if let Err(errno) = result {
            self.give_up_replacing(errno);
        } else if let Stage::Look { read, .. } = &mut replacing.stage {
            let slot = usize::from(!nr.is_multiple_of(PER_REPLACEMENT));
            read[slot] = Some(buf.expect("a read brings its buffer back").freeze());
        }
    }
}

impl Replacing {
    /// Asks for the I/O of its stage.
    fn ask(&mut self, now: Time, replacement: u64, effects: &mut Vec<Effect>) {
        let slots = [0, 1].map(|slot| self.geometry.slot(slot));
        let zero = |data: Vec<u8>, sector| DiskOp::Write {
            sector,
            data: Gather::from_elem(Buf::from(&data[..]), 1),
            fua: false,
        };
        let ops: Vec<DiskOp> = match &mut self.stage {
            Stage::Look { asked, .. } => {
                *asked = true;
                let read = |sector| {
                    let len = usize::try_from(SLOT_BYTES).expect("a slot fits in memory");
                    DiskOp::Read { sector, buf: BufMut::zeroed(len) }
                };
                slots.into_iter().map(read).collect()
            }
            Stage::Zero { next } => {
                let at = *next;
                *next = self.geometry.ring_bytes().min(at + ZERO_BYTES);
                let len = usize::try_from(*next - at).expect("a chunk fits in memory");
                vec![zero(vec![0; len], self.geometry.sector(RingPos(at)))]
            }
            Stage::Blank { asked } => {
                *asked = true;
                vec![DiskOp::Flush]
            }
            Stage::Format { superblock, asked, .. } => {
                *asked = true;
                let write = |generation: u64| {
                    let bytes = Superblock { generation, ..superblock.clone() }.encode();
                    let sector = self.geometry.slot(generation % SLOTS);
                    let data = Gather::from_elem(Buf::from(&bytes[..]), 1);
                    DiskOp::Write { sector, data, fua: true }
                };
                [superblock.generation - 1, superblock.generation].map(write).into()
            }
            Stage::Prepared | Stage::CatchUp { .. } => Vec::new(),
            Stage::Hold { .. } | Stage::Retire { .. } => Vec::new(),
        };
        self.began = now;
        for (nr, op) in (0..).zip(ops) {
            self.flying += 1;
            let io = IoId { owner: REPLACE_IO, nr: replacement * PER_REPLACEMENT + nr };
            effects.push(Effect::Submit { io, disk: self.new.disk, op });
        }
    }
}

/// Who the I/O belongs to by which a new log is made.
pub const REPLACE_IO: IoOwner = IoOwner(u16::MAX - 1);
/// I/Os of one stage; more than there are.
const PER_REPLACEMENT: u64 = 16;
/// How much of a new log one write zeroes.
const ZERO_BYTES: u64 = 1024 * 1024;
