//! The reference: every request straight to the LD, without any log.
//!
//! It is driven exactly as the engine is, and asks for a write's payload as the
//! engine does, so that what is compared is the engine and nothing else.
//!
//! Where acknowledgements wait for a remote site, it does what somebody would do who keeps two
//! disks alike by himself, and is never to find the second ahead of the first: each write goes to
//! the LD with FUA, and then to the RD with FUA.

use std::collections::VecDeque;

use blk::{Buf, BufMut, Data, DevNr, DiskId, DiskOp, Effect, Errno, Event, Gather, IoId};
use blk::{IoOwner, Machine, Op, ReqId, Sectors, Time};

/// A machine that passes requests on.
#[derive(Debug)]
pub(crate) struct Raw {
    /// Where a write of each device goes, one disk after the other, by the device's number.
    disks: Vec<Vec<DiskId>>,
    /// What is in flight, by the request's number.
    flying: Vec<Option<Flying>>,
    pool: Pool,
    pending: Vec<Effect>,
}

#[derive(Debug)]
struct Flying {
    dev: DevNr,
    op: Op,
    /// How many of its disks have it.
    has: usize,
    /// A handle to what is being written, so that its memory can be used again.
    payload: Option<Buf>,
}

/// Memory for requests, used again and again: the reference is not to pay for allocations.
#[derive(Debug, Default)]
struct Pool {
    free: Vec<BufMut>,
    /// Handed out for the last time; somebody may still look at it.
    lent: VecDeque<Buf>,
}

impl Raw {
    /// A reference on the disks of each device, for requests with numbers below `depth`. Reads go
    /// to the first.
    pub(crate) fn new(disks: Vec<Vec<DiskId>>, depth: usize) -> Self {
        let flying = (0..depth).map(|_| None).collect();
        Self { disks, flying, pool: Pool::default(), pending: Vec::new() }
    }

    fn requested(&mut self, req: ReqId, dev: DevNr, op: Op) {
        *self.flying(req) = Some(Flying { dev, op, has: 0, payload: None });
        match op {
            Op::Write { len, .. } => {
                let buf = self.pool.take(len);
                self.pending.push(Effect::Fetch { req, buf });
            }
            Op::Read { sector, len } => {
                let buf = self.pool.take(len);
                self.submit(req, self.disks[dev.0 as usize][0], DiskOp::Read { sector, buf });
            }
            Op::Flush | Op::Discard { .. } | Op::WriteZeroes { .. } => {
                unreachable!("no load asks for this")
            }
        }
    }

    fn fetched(&mut self, req: ReqId, buf: BufMut) {
        let flying = self.flying(req).as_mut().expect("a payload is fetched for a request");
        flying.payload = Some(buf.freeze());
        self.write(req);
    }

    /// Writes to the next disk that lacks it.
    fn write(&mut self, req: ReqId) {
        let flying = self.flying(req).as_ref().expect("a request that has not ended");
        let Op::Write { sector, fua, .. } = flying.op else { unreachable!("only writes do") };
        let (dev, has) = (flying.dev.0 as usize, flying.has);
        let data = Gather::from_elem(flying.payload.clone().expect("it was fetched"), 1);
        let fua = fua || self.disks[dev].len() > 1;
        self.submit(req, self.disks[dev][has], DiskOp::Write { sector, data, fua });
    }

    fn submit(&mut self, req: ReqId, disk: DiskId, op: DiskOp) {
        let io = IoId { owner: IoOwner(0), nr: req.0 };
        self.pending.push(Effect::Submit { io, disk, op });
    }

    fn done(&mut self, req: ReqId, result: Result<(), Errno>, read: Option<BufMut>) {
        let flying = self.flying(req).as_mut().expect("a request that has not ended");
        flying.has += 1;
        let (dev, has) = (flying.dev.0 as usize, flying.has);
        if result.is_ok() && read.is_none() && has < self.disks[dev].len() {
            return self.write(req);
        }
        self.end(req, result, read);
    }

    fn end(&mut self, req: ReqId, result: Result<(), Errno>, read: Option<BufMut>) {
        let flying = self.flying(req).take().expect("a request ends once");
        self.pool.lent.extend(flying.payload);
        if let Some(read) = read.map(BufMut::freeze) {
            self.pool.lent.push_back(read.clone());
            let data = Data::Bytes(read);
            self.pending.push(Effect::Deliver { req, offset: Sectors(0), data });
        }
        self.pending.push(Effect::Complete { req, result });
    }

    fn flying(&mut self, req: ReqId) -> &mut Option<Flying> {
        &mut self.flying[usize::try_from(req.0).expect("a request's number is below the depth")]
    }
}

impl Machine for Raw {
    fn handle(&mut self, _now: Time, event: Event) {
        match event {
            Event::Request { req, dev, op } => self.requested(req, dev, op),
            Event::Fetched { req, buf, .. } => self.fetched(req, buf),
            Event::Done { io, result, buf } => self.done(ReqId(io.nr), result, buf),
            Event::Opened { .. } | Event::Kept { .. } => unreachable!("it asks for neither"),
        }
    }

    fn poll(&mut self, _now: Time, effects: &mut Vec<Effect>) {
        effects.append(&mut self.pending);
    }

    fn wakeup(&self) -> Option<Time> {
        None
    }
}

impl Pool {
    fn take(&mut self, len: Sectors) -> BufMut {
        self.reclaim();
        self.free.pop().unwrap_or_else(|| BufMut::zeroed(len.len()))
    }

    fn reclaim(&mut self) {
        while let Some(oldest) = self.lent.pop_front() {
            match oldest.try_into_mut() {
                Ok(buf) => self.free.push(buf),
                Err(in_use) => return self.lent.push_front(in_use),
            }
        }
    }
}
