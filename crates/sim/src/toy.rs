//! The smallest machine that keeps the promises: one write at a time, through one slot
//! of a log. The world and the oracle are tested with it, and with its broken twins.
//!
//! ```text
//! log sector 0: magic, device, kind, sector, length, checksum    sectors 1..: payload
//! ```

use std::collections::VecDeque;

use blk::{
    Buf, BufMut, Data, DevNr, DiskOp, Effect, Event, Gather, IoId, IoOwner, Machine, Op, ReqId,
    SECTOR_BYTES, Sector, Sectors, Time,
};

use crate::oracle::Admission;
use crate::payload::{self, Content, Decoded};
use crate::topology::{Role, Topology};
use crate::world::{Stage, Subject};

/// A promise that a toy breaks on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// Acknowledges before the log has the write.
    AckEarly,
    /// Writes the log without FUA.
    LogWithoutFua,
    /// Ships to the legs without FUA.
    LegsWithoutFua,
    /// Starts again without repeating the last write.
    NoReplay,
    /// Ships the last write again before it is durable.
    NoFlushBeforeReplay,
    /// Takes any slot for whole.
    NoChecksum,
    /// Never writes device 1 of the last site.
    ForgetsALeg,
    /// Never ends a flush.
    LosesFlushes,
}

pub(crate) struct Toy {
    topology: Topology,
    flaw: Option<Flaw>,
    queue: VecDeque<(ReqId, DevNr, Op)>,
    state: State,
    draining: bool,
    next_io: u64,
    effects: Vec<Effect>,
}

enum State {
    /// Reading the slot.
    Opening,
    Idle,
    /// Waiting for the payload of the write at the queue's front.
    Fetching,
    /// The slot is being written.
    Logging {
        record: Record,
    },
    /// The payload is being written to these legs, one after the other.
    Shipping {
        record: Record,
        left: Vec<Role>,
    },
    /// The read at the queue's front is under way.
    Reading,
}

struct Record {
    req: Option<ReqId>,
    dev: DevNr,
    sector: Sector,
    payload: Buf,
}

impl Toy {
    pub(crate) fn open(topology: &Topology, flaw: Option<Flaw>) -> Self {
        let mut toy = Self {
            topology: topology.clone(),
            flaw,
            queue: VecDeque::new(),
            state: State::Opening,
            draining: false,
            next_io: 0,
            effects: Vec::new(),
        };
        let slot = topology.log.0.min(SLOT_SECTORS_MAX);
        let buf = BufMut::zeroed(Sectors(slot).len());
        toy.submit(Role::Log, DiskOp::Read { sector: Sector(0), buf });
        toy
    }

    fn submit(&mut self, role: Role, op: DiskOp) {
        self.next_io += 1;
        let io = IoId { owner: IoOwner(0), nr: self.next_io };
        self.effects.push(Effect::Submit { io, disk: self.topology.disk(role), op });
    }

    fn has(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }

    fn next(&mut self) {
        let Some(&(req, dev, op)) = self.queue.front() else { return };
        match op {
            Op::Flush => {
                self.queue.pop_front();
                if !self.has(Flaw::LosesFlushes) {
                    self.effects.push(Effect::Complete { req, result: Ok(()) });
                }
                self.next();
            }
            Op::Read { sector, len } => {
                self.state = State::Reading;
                let buf = BufMut::zeroed(len.len());
                self.submit(Role::Leg { dev, site: 0 }, DiskOp::Read { sector, buf });
            }
            Op::Write { len, .. } => {
                self.state = State::Fetching;
                self.effects.push(Effect::Fetch { req, buf: BufMut::zeroed(len.len()) });
            }
            Op::Discard { len, .. } | Op::WriteZeroes { len, .. } => {
                self.log(BufMut::zeroed(len.len()).freeze());
            }
        }
    }

    fn log(&mut self, payload: Buf) {
        let (req, dev, op) = self.queue.pop_front().expect("a write is at the front");
        let (sector, _) = op.range().expect("a write has a range");
        let mut header = BufMut::zeroed(SECTOR_BYTES);
        let words = [
            MAGIC,
            u64::from(dev.0),
            sector.0,
            payload.len() as u64,
            checksum(&payload) ^ u64::from(dev.0) ^ sector.0,
        ];
        for (slot, word) in header.chunks_exact_mut(8).zip(words) {
            slot.copy_from_slice(&word.to_le_bytes());
        }
        let data = Gather::from_iter([header.freeze(), payload.clone()]);
        let fua = !self.has(Flaw::LogWithoutFua);
        self.submit(Role::Log, DiskOp::Write { sector: Sector(0), data, fua });
        let req = if self.has(Flaw::AckEarly) { self.ack(req) } else { Some(req) };
        self.state = State::Logging { record: Record { req, dev, sector, payload } };
    }

    fn ack(&mut self, req: ReqId) -> Option<ReqId> {
        self.effects.push(Effect::Complete { req, result: Ok(()) });
        None
    }

    fn ship(&mut self, mut record: Record) {
        let dev = record.dev;
        let skipped = Role::Leg { dev: DevNr(1), site: self.topology.sites.len() - 1 };
        let legs = (0..self.topology.sites.len()).map(|site| Role::Leg { dev, site });
        let left = legs.filter(|&leg| !(self.has(Flaw::ForgetsALeg) && leg == skipped)).collect();
        if !self.topology.rules().iter().any(|rule| rule.policy.sync) {
            record.req = record.req.and_then(|req| self.ack(req));
        }
        self.ship_next(record, left);
    }

    fn ship_next(&mut self, mut record: Record, mut left: Vec<Role>) {
        let Some(role) = left.pop() else {
            record.req.take().and_then(|req| self.ack(req));
            self.state = State::Idle;
            return self.next();
        };
        let data = Gather::from_iter([record.payload.clone()]);
        let fua = !self.has(Flaw::LegsWithoutFua);
        self.submit(role, DiskOp::Write { sector: record.sector, data, fua });
        self.state = State::Shipping { record, left };
    }

    fn replay(&mut self, slot: &BufMut) {
        self.state = State::Idle;
        let word = |at| word(slot, at);
        let (dev, sector, len) = (word(1), Sector(word(2)), word(3));
        let end = SECTOR_BYTES + usize::try_from(len).unwrap_or(usize::MAX / 2);
        if self.has(Flaw::NoReplay) || word(0) != MAGIC || len == 0 || end > slot.len() {
            return;
        }
        let payload = Buf::from(&slot[SECTOR_BYTES..end]);
        let whole = word(4) == checksum(&payload) ^ dev ^ sector.0;
        let dev = DevNr(u32::try_from(dev).unwrap_or_default());
        if whole || self.has(Flaw::NoChecksum) {
            let record = Record { req: None, dev, sector, payload };
            if self.has(Flaw::NoFlushBeforeReplay) {
                return self.ship(record);
            }
            // A killed process may have left the record in the disk's cache only (I3).
            self.submit(Role::Log, DiskOp::Flush);
            self.state = State::Logging { record };
        }
    }

    fn deliver(&mut self, buf: BufMut) {
        let (req, _, _) = self.queue.pop_front().expect("a read is at the front");
        let data = Data::Bytes(buf.freeze());
        self.effects.push(Effect::Deliver { req, offset: Sectors(0), data });
        self.ack(req);
        self.state = State::Idle;
        self.next();
    }
}

impl Machine for Toy {
    fn handle(&mut self, _now: Time, event: Event) {
        match event {
            Event::Request { req, dev, op } => {
                self.queue.push_back((req, dev, op));
                if matches!(self.state, State::Idle) {
                    self.next();
                }
            }
            Event::Fetched { buf, .. } => self.log(buf.freeze()),
            Event::Opened { .. } => unreachable!("it asks for no disk to be opened"),
            Event::Kept { .. } => unreachable!("it asks for nothing to be kept"),
            Event::Done { buf, .. } => match std::mem::replace(&mut self.state, State::Idle) {
                State::Opening => {
                    self.replay(&buf.expect("a read's buffer comes back"));
                    if matches!(self.state, State::Idle) {
                        self.next();
                    }
                }
                State::Logging { record } => self.ship(record),
                State::Shipping { record, left } => self.ship_next(record, left),
                State::Reading => self.deliver(buf.expect("a read's buffer comes back")),
                State::Idle | State::Fetching => unreachable!("nothing in flight"),
            },
        }
    }

    fn poll(&mut self, _now: Time, effects: &mut Vec<Effect>) {
        effects.append(&mut self.effects);
    }

    fn wakeup(&self) -> Option<Time> {
        None
    }
}

impl Subject for Toy {
    fn stage(&self) -> Stage {
        match self.state {
            State::Opening => Stage::Opening,
            State::Idle if self.draining => Stage::Stopped,
            State::Idle
            | State::Fetching
            | State::Logging { .. }
            | State::Shipping { .. }
            | State::Reading => Stage::Running,
        }
    }

    fn drain(&mut self) {
        self.draining = true;
    }

    fn admissions(op: &DiskOp) -> Vec<Admission> {
        let DiskOp::Write { data, .. } = op else { return Vec::new() };
        let (header, payload) = (&data[0], &data[1]);
        let content = match payload::decode(&payload[..SECTOR_BYTES]) {
            Decoded::Tagged { content, .. } => content,
            Decoded::Zeroes | Decoded::Torn | Decoded::Foreign => Content::ZEROES,
        };
        let len = Sectors::from_bytes(payload.len() as u64);
        let [dev, sector] = [1, 2].map(|at| word(header, at));
        let dev = DevNr(u32::try_from(dev).expect("as written"));
        vec![Admission { dev, sector: Sector(sector), len, content }]
    }
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at * 8..at * 8 + 8].try_into().expect("eight bytes"))
}

fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, &byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

const MAGIC: u64 = 0x7965_6b6e_6f6d_2121;
/// A header and the longest write that a workload asks for.
const SLOT_SECTORS_MAX: u64 = 1025;
