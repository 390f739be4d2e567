//! Reads: each sector from where its newest acknowledged content is (I8).
//!
//! A read is cut into pieces by the overlay. What is in memory is delivered at once;
//! what is only in the ring is read there and checked (P11); the rest comes from the
//! LD. A read never waits for a copy, and never keeps another request back.

use std::collections::BTreeMap;

use blk::{Buf, BufMut, Data, DevNr, DiskId, DiskOp, Effect, Errno, IoId, IoOwner, ReqId};
use blk::{Sector, Sectors};
use replog::{Piece, Replog, RingPlace, Source};

/// The reads that wait for a disk.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    jobs: BTreeMap<ReqId, Job>,
    flying: BTreeMap<u64, Part>,
    next_io: u64,
    /// Reads that found something newer in the log than on the LD.
    pub(crate) met_pending: u64,
}

/// What a read asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadRequest {
    pub(crate) req: ReqId,
    pub(crate) dev: DevNr,
    pub(crate) ld: DiskId,
    pub(crate) sector: Sector,
    pub(crate) len: Sectors,
}

#[derive(Debug)]
struct Job {
    dev: DevNr,
    waiting: usize,
    result: Result<(), Errno>,
}

/// A part of a read on its way.
#[derive(Debug)]
struct Part {
    req: ReqId,
    /// Where it belongs in the request.
    offset: Sectors,
    from_ring: Option<FromRing>,
}

/// Which bytes of a payload in the ring are wanted.
#[derive(Debug)]
struct FromRing {
    place: RingPlace,
    skip: usize,
    len: usize,
}

/// A read that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EndedRead {
    pub(crate) req: ReqId,
    pub(crate) dev: DevNr,
    pub(crate) result: Result<(), Errno>,
}

impl Reads {
    /// Begins a read; its end, if nothing is to be waited for.
    pub(crate) fn begin(
        &mut self,
        request: &ReadRequest,
        log: &mut Replog,
        effects: &mut Vec<Effect>,
    ) -> Option<EndedRead> {
        let (mut waiting, mut met) = (0, false);
        for piece in log.pieces(request.dev, request.sector, request.len) {
            met |= piece.seq.is_some();
            waiting += usize::from(self.begin_piece(request, &piece, log, effects));
        }
        self.met_pending += u64::from(met);
        let (req, dev) = (request.req, request.dev);
        if waiting == 0 {
            return Some(EndedRead { req, dev, result: Ok(()) });
        }
        self.jobs.insert(req, Job { dev, waiting, result: Ok(()) });
        None
    }

    /// Delivers a piece, or asks a disk for it; whether it has to be waited for.
    fn begin_piece(
        &mut self,
        request: &ReadRequest,
        piece: &Piece,
        log: &mut Replog,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let (req, offset) = (request.req, piece.sector.since(request.sector));
        let Some(seq) = piece.seq else {
            let buf = BufMut::zeroed(piece.len.len());
            let op = DiskOp::Read { sector: piece.sector, buf };
            self.ask(request.ld, op, Part { req, offset, from_ring: None }, effects);
            return true;
        };
        let write = log.index().write(seq).expect("a write that shows is in the index");
        let skip = piece.sector.since(write.sector).len();
        let len = piece.len.len();
        match log.source(seq) {
            Source::Memory(payload) => {
                let data = Data::Bytes(payload.slice(skip..skip + len));
                effects.push(Effect::Deliver { req, offset, data });
                false
            }
            Source::Zeroes { .. } => {
                effects.push(Effect::Deliver { req, offset, data: Data::Zeroes(piece.len) });
                false
            }
            Source::Ring(place) => {
                log.pin(place.group);
                let op = DiskOp::Read { sector: place.sector, buf: BufMut::zeroed(place.bytes) };
                let from_ring = Some(FromRing { place, skip, len });
                self.ask(log.disk(), op, Part { req, offset, from_ring }, effects);
                true
            }
            Source::Nothing => unreachable!("a bookmark never shows in the overlay"),
        }
    }

    fn ask(&mut self, disk: DiskId, op: DiskOp, part: Part, effects: &mut Vec<Effect>) {
        let nr = self.next_io;
        self.next_io += 1;
        self.flying.insert(nr, part);
        effects.push(Effect::Submit { io: IoId { owner: READ_IO, nr }, disk, op });
    }

    /// A part has come in; the read's end, if it was the last.
    pub(crate) fn done(
        &mut self,
        nr: u64,
        result: Result<(), Errno>,
        buf: Option<BufMut>,
        log: &mut Replog,
        effects: &mut Vec<Effect>,
    ) -> Option<EndedRead> {
        let part = self.flying.remove(&nr).expect("a part of a read ends once");
        if let Some(from_ring) = &part.from_ring {
            log.unpin(from_ring.place.group);
        }
        let buf = buf.expect("a read brings its buffer back").freeze();
        let outcome = result.and_then(|()| part.content(&buf));
        let job = self.jobs.get_mut(&part.req).expect("a read outlives its parts");
        job.waiting -= 1;
        match outcome {
            Ok(bytes) => {
                let (req, offset) = (part.req, part.offset);
                effects.push(Effect::Deliver { req, offset, data: Data::Bytes(bytes) });
            }
            Err(errno) => job.result = Err(errno),
        }
        if job.waiting > 0 {
            return None;
        }
        let job = self.jobs.remove(&part.req).expect("looked up above");
        Some(EndedRead { req: part.req, dev: job.dev, result: job.result })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.flying.is_empty()
    }
}

impl Part {
    fn content(&self, read: &Buf) -> Result<Buf, Errno> {
        let Some(from_ring) = &self.from_ring else { return Ok(read.clone()) };
        let payload = from_ring.place.payload(read).ok_or_else(|| {
            log::error!(
                "the log entry at sector {} of group {} is damaged: its checksum does not match; \
                 the read ends with an error",
                from_ring.place.sector,
                from_ring.place.group
            );
            Errno::EIO
        })?;
        Ok(payload.slice(from_ring.skip..from_ring.skip + from_ring.len))
    }
}

/// Who the I/O of reads belongs to.
pub(crate) const READ_IO: IoOwner = IoOwner(u16::MAX);
