//! Reads: each sector from where its newest acknowledged content is (I8).
//!
//! A read is cut into pieces by the overlay. What is in memory is delivered at once; what is
//! only in the ring is read there and checked (P11); the rest comes from the base: the LD, or
//! while that can't be read a remote site's whole copy (P7). No read waits for a copy to be
//! made, or keeps another request back.
//!
//! | the base | a read of it |
//! |---|---|
//! | fails, and another whole copy can be read | comes from there, and is written again where it failed |
//! | fails with an error of the medium | ends with that error |
//! | fails otherwise | waits until the site has been looked at, and is tried once more |
//! | hangs, or can't be read | waits for a base, for as long as it takes (P6) |
//! | is a remote site's, which has as many reads to do as it may | waits for its turn (P13) |
//!
//! The ring alike: where it fails with an error that is not of the medium, something is written
//! to the log. If that fails, too, the log is lost and the read waits for the LD to have
//! everything (P8); if not, it is tried once more.

use std::collections::{BTreeMap, VecDeque};

use blk::{Buf, BufMut, Data, DevNr, DiskId, DiskOp, Effect, Errno, IoId, IoOwner, ReqId};
use blk::{Sector, Sectors, Seq, SlinkNr, Span, Time};
use replog::{Doubt, Piece, Replog, RingPlace, Source, Version};
use slink::Mend;
use smallvec::SmallVec;

use crate::plan::{DevicePlan, LegPlan, Plan};

/// The reads that wait for a disk.
#[derive(Debug)]
pub(crate) struct Reads {
    /// Each device's disk on each site.
    disks: BTreeMap<(DevNr, SlinkNr), DiskId>,
    timeouts: BTreeMap<SlinkNr, Span>,
    jobs: BTreeMap<ReqId, Job>,
    flying: BTreeMap<u64, Part>,
    /// Those that hang, and that nobody waits for any more; and the group of the log that one
    /// reads.
    given_up: BTreeMap<u64, Option<u64>>,
    /// What waits for a copy that can be read.
    waiting: Vec<Want>,
    /// What waits for its turn at a remote copy, which has its fill of reads.
    behind: VecDeque<Want>,
    /// When the first of `flying` may be past its deadline.
    deadline: Option<Time>,
    next_io: u64,
    /// Reads that found something newer in the log than on the disk that they come from.
    pub(crate) met_pending: u64,
    /// What is to be written again, and where.
    mends: Vec<(SlinkNr, Mend)>,
    /// The disks of what is in flight, also of what is given up.
    at: BTreeMap<u64, DiskId>,
    /// Nothing waits any more.
    closed: bool,
}

/// What a read asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadRequest {
    pub(crate) req: ReqId,
    pub(crate) dev: DevNr,
    pub(crate) sector: Sector,
    pub(crate) len: Sectors,
}

#[derive(Debug)]
struct Job {
    dev: DevNr,
    waiting: usize,
    result: Result<(), Errno>,
}

/// A stretch of a read, and what was tried for it.
#[derive(Clone, Debug)]
struct Want {
    req: ReqId,
    dev: DevNr,
    sector: Sector,
    len: Sectors,
    /// Where it belongs in the request.
    offset: Sectors,
    /// Copies that could not be read.
    tried: SmallVec<[SlinkNr; 2]>,
    /// Copies that failed, and are looked at before it is tried once more: if they fail again
    /// then, that is the answer.
    doubted: SmallVec<[SlinkNr; 2]>,
    /// The log failed, likewise; what is written there says whether it is lost.
    doubted_log: Option<Version>,
    /// Where to write it again, and what was in the log when it was looked for elsewhere.
    mend: Option<(SlinkNr, Seq)>,
}

/// A stretch on its way.
#[derive(Debug)]
struct Part {
    want: Want,
    from: From,
    began: Time,
}

#[derive(Debug)]
enum From {
    Copy(SlinkNr),
    /// From the log, and which bytes of the payload.
    Ring {
        place: RingPlace,
        skip: usize,
    },
}

/// A read that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EndedRead {
    pub(crate) req: ReqId,
    pub(crate) dev: DevNr,
    pub(crate) result: Result<(), Errno>,
}

/// What a read works with.
pub(crate) struct At<'a> {
    pub(crate) now: Time,
    pub(crate) log: &'a mut Replog,
    pub(crate) effects: &'a mut Vec<Effect>,
}

impl Reads {
    pub(crate) fn new(plan: &Plan) -> Self {
        let legs = |device: &DevicePlan| {
            let disk = |leg: &LegPlan| ((device.nr, leg.slink), leg.disk.id);
            device.legs.iter().map(disk).collect::<Vec<_>>()
        };
        Self {
            disks: plan.devices.iter().flat_map(legs).collect(),
            timeouts: plan.timeouts(),
            jobs: BTreeMap::new(),
            flying: BTreeMap::new(),
            given_up: BTreeMap::new(),
            waiting: Vec::new(),
            behind: VecDeque::new(),
            deadline: None,
            next_io: 0,
            met_pending: 0,
            mends: Vec::new(),
            at: BTreeMap::new(),
            closed: false,
        }
    }

    /// Sites and legs came or went. What is in flight to those that went still ends.
    pub(crate) fn follow(&mut self, plan: &Plan) {
        let Self { disks, timeouts, .. } = Self::new(plan);
        self.disks = disks;
        self.timeouts.extend(timeouts);
    }

    /// Whether anything is in flight to a disk.
    pub(crate) fn uses(&self, disk: DiskId) -> bool {
        self.at.values().any(|at| *at == disk)
    }

    /// Begins a read; its end, if nothing is to be waited for.
    pub(crate) fn begin(&mut self, request: &ReadRequest, mut at: At<'_>) -> Option<EndedRead> {
        let &ReadRequest { req, dev, sector, len } = request;
        let pieces = at.log.pieces(dev, sector, len);
        self.met_pending += u64::from(pieces.into_iter().any(|piece| piece.seq.is_some()));
        let want = Want {
            req,
            dev,
            sector,
            len,
            offset: Sectors(0),
            tried: SmallVec::new(),
            doubted: SmallVec::new(),
            doubted_log: None,
            mend: None,
        };
        match self.begin_stretch(&want, &mut at) {
            0 => Some(EndedRead { req, dev, result: Ok(()) }),
            waiting => {
                self.jobs.insert(req, Job { dev, waiting, result: Ok(()) });
                None
            }
        }
    }

    /// Begins a stretch; in how many parts it has to be waited for.
    fn begin_stretch(&mut self, want: &Want, at: &mut At<'_>) -> usize {
        let base = at.log.readable_base();
        let mut waiting = 0;
        for piece in at.log.pieces(want.dev, want.sector, want.len) {
            waiting += usize::from(self.begin_piece(want.part(&piece), &piece, base, at));
        }
        waiting
    }

    /// Begins a stretch that could not be read elsewhere.
    fn begin_beside(&mut self, want: &Want, copy: SlinkNr, at: &mut At<'_>) -> usize {
        let mut waiting = 0;
        for piece in at.log.pieces_beside(copy, want.dev, want.sector, want.len) {
            waiting += usize::from(self.begin_piece(want.part(&piece), &piece, Some(copy), at));
        }
        waiting
    }

    /// Delivers a piece, or asks a disk for it; whether it has to be waited for.
    fn begin_piece(
        &mut self,
        want: Want,
        piece: &Piece,
        copy: Option<SlinkNr>,
        at: &mut At<'_>,
    ) -> bool {
        let Some(seq) = piece.seq else {
            match copy {
                Some(copy) if self.has_its_fill(copy) => self.behind.push_back(want),
                Some(copy) => {
                    let disk = self.disks[&(want.dev, copy)];
                    let buf = BufMut::zeroed(want.len.len());
                    let op = DiskOp::Read { sector: want.sector, buf };
                    self.ends_by(at.now + self.timeouts[&copy]);
                    self.ask(disk, op, Part { want, from: From::Copy(copy), began: at.now }, at);
                }
                None => self.waiting.push(want),
            }
            return true;
        };
        let write = at.log.index().write(seq).expect("a write that shows is in the index");
        let skip = piece.sector.since(write.sector).len();
        let len = piece.len.len();
        match at.log.source(seq) {
            Source::Memory(payload) => {
                self.deliver(&want, payload.slice(skip..skip + len), at.effects);
                false
            }
            Source::Zeroes { .. } => {
                let (req, offset, data) = (want.req, want.offset, Data::Zeroes(piece.len));
                at.effects.push(Effect::Deliver { req, offset, data });
                if want.mend.is_some() {
                    self.mend(&want, BufMut::zeroed(len).freeze());
                }
                false
            }
            // Nobody reads a log that is lost: what is only there waits until it is back.
            Source::Ring(_) if at.log.is_lost() => {
                self.waiting.push(want);
                true
            }
            Source::Ring(place) => {
                at.log.pin(place.group);
                self.ends_by(at.log.read_deadline(at.now));
                let op = DiskOp::Read { sector: place.sector, buf: BufMut::zeroed(place.bytes) };
                let from = From::Ring { place, skip };
                self.ask(at.log.disk(), op, Part { want, from, began: at.now }, at);
                true
            }
            Source::Nothing => unreachable!("a bookmark never shows in the overlay"),
        }
    }

    /// Whether a remote site has as many reads to do as it may, also of those that nobody waits
    /// for any more: a site that hangs holds no more memory than that (P13). The local disks have
    /// what the devices' queues let in.
    fn has_its_fill(&self, copy: SlinkNr) -> bool {
        let there = |disk: &&DiskId| {
            self.disks.iter().any(|((_, site), of_site)| *site == copy && of_site == *disk)
        };
        !copy.is_local() && self.at.values().filter(there).count() >= AT_A_REMOTE_MAX
    }

    fn ends_by(&mut self, deadline: Time) {
        self.deadline = Some(self.deadline.map_or(deadline, |it| it.min(deadline)));
    }

    fn ask(&mut self, disk: DiskId, op: DiskOp, part: Part, at: &mut At<'_>) {
        let nr = self.next_io;
        self.next_io += 1;
        self.flying.insert(nr, part);
        self.at.insert(nr, disk);
        at.effects.push(Effect::Submit { io: IoId { owner: READ_IO, nr }, disk, op });
    }

    fn deliver(&mut self, want: &Want, bytes: Buf, effects: &mut Vec<Effect>) {
        if want.mend.is_some() {
            self.mend(want, bytes.clone());
        }
        let (req, offset) = (want.req, want.offset);
        effects.push(Effect::Deliver { req, offset, data: Data::Bytes(bytes) });
    }

    fn mend(&mut self, want: &Want, data: Buf) {
        if let Some((slink, since)) = want.mend {
            self.mends.push((slink, Mend { dev: want.dev, sector: want.sector, data, since }));
        }
    }

    /// An I/O has ended; the read's end, if it was the last.
    pub(crate) fn done(
        &mut self,
        nr: u64,
        result: Result<(), Errno>,
        buf: Option<BufMut>,
        mut at: At<'_>,
    ) -> Option<EndedRead> {
        self.at.remove(&nr);
        if let Some(group) = self.given_up.remove(&nr) {
            group.into_iter().for_each(|group| at.log.unpin(group));
            return None;
        }
        let Part { mut want, from, began } = self.flying.remove(&nr).expect("a part ends once");
        let buf = buf.expect("a read brings its buffer back").freeze();
        let outcome = match (from, result) {
            (From::Copy(_), Ok(())) => Ok(buf),
            (From::Copy(copy), Err(errno)) => {
                return self.failed(want, copy, errno, began, &mut at);
            }
            (From::Ring { place, .. }, Err(_)) if at.log.is_lost() => {
                at.log.unpin(place.group);
                self.waiting.push(want);
                return None;
            }
            (From::Ring { place, skip }, result) => {
                at.log.unpin(place.group);
                if let Err(errno) = result {
                    let asked = at.log.read_failed();
                    if want.doubted_log.is_none() && !is_of_the_medium(errno) && !self.closed {
                        want.doubted_log = Some(asked);
                        self.waiting.push(want);
                        return None;
                    }
                }
                let len = want.len.len();
                result.and_then(|()| payload(&place, &buf).map(|it| it.slice(skip..skip + len)))
            }
        };
        match outcome {
            Ok(bytes) => self.deliver(&want, bytes, at.effects),
            Err(errno) => self.fail(want.req, errno),
        }
        self.replaced(want.req, 0)
    }

    /// A copy could not be read.
    fn failed(
        &mut self,
        mut want: Want,
        copy: SlinkNr,
        errno: Errno,
        since: Time,
        at: &mut At<'_>,
    ) -> Option<EndedRead> {
        let req = want.req;
        want.tried.push(copy);
        if let Some(other) = at.log.another_copy(&want.tried) {
            want.mend.get_or_insert((copy, at.log.written()));
            let parts = self.begin_beside(&want, other, at);
            return self.replaced(req, parts);
        }
        let looked_at = want.tried.iter().all(|copy| want.doubted.contains(copy));
        if looked_at || is_of_the_medium(errno) || self.closed {
            self.fail(req, errno);
            return self.replaced(req, 0);
        }
        for copy in std::mem::take(&mut want.tried) {
            at.log.doubt(copy, Doubt { dev: want.dev, since, errno: Some(errno) });
            want.doubted.push(copy);
        }
        self.waiting.push(Want { mend: None, ..want });
        None
    }

    /// P5: what does not end within its copy's deadline is not waited for; nor what does not
    /// within the log's, which is lost then (P8).
    pub(crate) fn watch_deadlines(&mut self, now: Time, log: &mut Replog) {
        if self.deadline.is_none_or(|deadline| deadline > now) {
            return;
        }
        let mut next: Option<Time> = None;
        let (flying, timeouts) = (&self.flying, &self.timeouts);
        let late = flying.iter().filter_map(|(nr, part)| {
            let deadline = match part.from {
                From::Copy(copy) => part.began + timeouts[&copy],
                From::Ring { .. } => log.read_deadline(part.began),
            };
            if deadline > now {
                next = Some(next.map_or(deadline, |it| it.min(deadline)));
            }
            (deadline <= now).then_some(*nr)
        });
        let late: Vec<u64> = late.collect();
        self.deadline = next;
        for nr in late {
            let Part { want, began, from } = self.flying.remove(&nr).expect("looked at above");
            let group = match from {
                From::Copy(copy) => {
                    log.doubt(copy, Doubt { dev: want.dev, since: began, errno: None });
                    None
                }
                From::Ring { place, .. } => {
                    log.watch_read(now, began);
                    Some(place.group)
                }
            };
            self.given_up.insert(nr, group);
            self.waiting.push(want);
        }
    }

    /// When [`Reads::watch_deadlines`] is to be called even if nothing happens.
    pub(crate) fn wakeup(&self) -> Option<Time> {
        self.deadline
    }

    /// Begins again what waits for a base or for the log, if that can be read, and whose turn it
    /// is; the reads that end by it.
    pub(crate) fn go_on(&mut self, mut at: At<'_>) -> Vec<EndedRead> {
        let mut ended = Vec::new();
        let base = at.log.readable_base();
        if self.closed || base.is_none() {
            self.waiting.extend(self.behind.drain(..));
        }
        self.begin_waiting(base, &mut at, &mut ended);
        self.begin_behind(&mut at, &mut ended);
        ended
    }

    fn begin_waiting(
        &mut self,
        base: Option<SlinkNr>,
        at: &mut At<'_>,
        ended: &mut Vec<EndedRead>,
    ) {
        for want in std::mem::take(&mut self.waiting) {
            let req = want.req;
            let parts = match () {
                () if self.closed => {
                    self.fail(req, Errno::EIO);
                    0
                }
                () if !want.can_begin(base, at.log) => {
                    self.waiting.push(want);
                    continue;
                }
                () => self.begin_stretch(&want, at),
            };
            ended.extend(self.replaced(req, parts));
        }
    }

    fn begin_behind(&mut self, at: &mut At<'_>, ended: &mut Vec<EndedRead>) {
        for _ in 0..self.behind.len() {
            let Some(want) = self.behind.front() else { return };
            let beside =
                (!want.tried.is_empty()).then(|| at.log.another_copy(&want.tried)).flatten();
            let Some(copy) = beside.or(at.log.readable_base()) else { return };
            if self.has_its_fill(copy) {
                return;
            }
            let want = self.behind.pop_front().expect("looked at above");
            let parts = match beside {
                Some(copy) => self.begin_beside(&want, copy, at),
                None => self.begin_stretch(&want, at),
            };
            ended.extend(self.replaced(want.req, parts));
        }
    }

    /// Whatever waits for a copy, now or later, ends with an error.
    pub(crate) fn close(&mut self) {
        self.closed = true;
    }

    /// How many stretches wait for a base.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// What is to be written again, and where.
    pub(crate) fn take_mends(&mut self) -> Vec<(SlinkNr, Mend)> {
        std::mem::take(&mut self.mends)
    }

    fn fail(&mut self, req: ReqId, errno: Errno) {
        self.jobs.get_mut(&req).expect("a read outlives its parts").result = Err(errno);
    }

    /// In the place of one part there are so many now; the read's end, if none is left.
    fn replaced(&mut self, req: ReqId, parts: usize) -> Option<EndedRead> {
        let job = self.jobs.get_mut(&req).expect("a read outlives its parts");
        job.waiting = job.waiting - 1 + parts;
        if job.waiting > 0 {
            return None;
        }
        let Job { dev, result, .. } = self.jobs.remove(&req).expect("looked up above");
        Some(EndedRead { req, dev, result })
    }

    /// Whether no read is under way.
    pub(crate) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }
}

impl Want {
    /// The stretch of it that is one piece.
    fn part(&self, piece: &Piece) -> Self {
        let offset = self.offset + piece.sector.since(self.sector);
        Self { sector: piece.sector, len: piece.len, offset, ..self.clone() }
    }

    /// Whether there is something to read it from, and whoever failed was looked at.
    fn can_begin(&self, base: Option<SlinkNr>, log: &Replog) -> bool {
        let is_asked = |since| !log.stands(since) && !log.is_lost();
        let base_is_doubted = !self.doubted.is_empty() && !log.reads_well();
        let log_is_doubted = self.doubted_log.is_some_and(is_asked);
        !base_is_doubted && !log_is_doubted && (base.is_some() || self.is_in_log(log))
    }

    /// Whether some of it is where no base is needed.
    fn is_in_log(&self, log: &Replog) -> bool {
        let mut pieces = log.pieces(self.dev, self.sector, self.len).into_iter();
        !log.is_lost() && pieces.any(|piece| piece.seq.is_some())
    }
}

/// A payload as it was read from the log (P11).
fn payload(place: &RingPlace, read: &Buf) -> Result<Buf, Errno> {
    place.payload(read).ok_or_else(|| {
        log::error!(
            "the log entry at sector {} of group {} is damaged: its checksum does not match; \
             the read ends with an error",
            place.sector,
            place.group
        );
        Errno::EIO
    })
}

/// Whether the disk itself says that it lost what it held there: looking at it again changes
/// nothing.
fn is_of_the_medium(errno: Errno) -> bool {
    [Errno::ENODATA, Errno::EILSEQ, Errno::EREMOTEIO].contains(&errno)
}

/// Who the I/O of reads belongs to.
pub(crate) const READ_IO: IoOwner = IoOwner(u16::MAX);

/// Reads in flight to a remote site: with what is fed to it (64) and copied to or from it, they
/// stay below 128 (P13).
const AT_A_REMOTE_MAX: usize = 32;
