//! Bugs, planted on purpose between a machine and its driver: proof that the oracle
//! can fail. None of them is inside the machine, so none has to be built into it.

use std::collections::{BTreeMap, BTreeSet};

use blk::{
    Buf, BufMut, Data, DevNr, DiskId, DiskOp, DiskSeen, Effect, Errno, Event, Gather, IoId,
    IoOwner, Machine, Op, ReqId, Sectors, Time,
};
use slink::State;
use table::{Policy, Sync};

use crate::coverage::Told;
use crate::oracle::{Admission, View};
use crate::topology::{Role, Topology};
use crate::world::{Groups, Loss, Moving, Stage, Subject};

/// A planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// The log's flush reports success and does nothing.
    LogFlushLies,
    /// Checkpoints are not durable when they say so: ring space is reused too early.
    CheckpointsInCache,
    /// A write is acknowledged as soon as its payload is in memory.
    AckBeforeWrite,
    /// A FLUSH is acknowledged as soon as it arrives.
    FlushAckedAtOnce,
    /// FUA is taken for a plain write.
    FuaIgnored,
    /// Flushes and FUA of the last site's first device do nothing.
    RemoteFlushLies,
    /// Flushes of the LDs do nothing.
    LocalFlushLies,
    /// Now and then a bit flips on its way to a remote site.
    BitFlips,
    /// Now and then a write to a remote site is reported done and never sent.
    RemoteWriteLost,
    /// Now and then a write to a remote site is reported done, and sent after others.
    BarrierIgnored,
    /// Reads are served from the LD, whatever the log holds.
    ReadsFromLd,
    /// Payloads of remote writes go to the neighbouring sector.
    Misdirected,
    /// The dirty logs' flushes report success and do nothing.
    DirtyLogFlushLies,
    /// Now and then a write to a dirty log is reported done and never sent.
    MarksLost,
    /// The mark at a site is not durable when it says so.
    MarkInCache,
    /// While a site is copied to, flushes of its disks report success and do nothing.
    ResyncFlushLies,
    /// Now and then a copy to a site is reported done and never sent.
    CopyLost,
    /// Now and then a write to a site is given up, and lands later all the same.
    ZombieLands,
    /// A disk that was replaced says that it is the old one.
    OldIdentity,
    /// Every site is said to be consistent.
    ClaimsConsistent,
    /// Every site is said to be in force.
    ClaimsInForce,
    /// The table's limits are not heeded.
    LimitIgnored,
    /// The table's `sync` is not heeded.
    SyncIgnored,
    /// A full log makes writers wait, though the table does not say so.
    Stalls,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 24] = [
        Self::LogFlushLies,
        Self::CheckpointsInCache,
        Self::AckBeforeWrite,
        Self::FlushAckedAtOnce,
        Self::FuaIgnored,
        Self::RemoteFlushLies,
        Self::LocalFlushLies,
        Self::BitFlips,
        Self::RemoteWriteLost,
        Self::BarrierIgnored,
        Self::ReadsFromLd,
        Self::Misdirected,
        Self::DirtyLogFlushLies,
        Self::MarksLost,
        Self::MarkInCache,
        Self::ResyncFlushLies,
        Self::CopyLost,
        Self::ZombieLands,
        Self::OldIdentity,
        Self::ClaimsConsistent,
        Self::ClaimsInForce,
        Self::LimitIgnored,
        Self::SyncIgnored,
        Self::Stalls,
    ];

    /// What a machine with the bug takes the topology for.
    #[must_use]
    pub fn misread(bug: Option<Self>, topology: &Topology) -> Topology {
        let mut misread = topology.clone();
        for site in misread.sites.iter_mut().skip(1) {
            let policy = site.link.policy();
            match bug {
                Some(Self::LimitIgnored) => site.link.fall_behind = None,
                Some(Self::SyncIgnored) => {
                    site.link.policy = Some(Policy { sync: Sync::Async, ..policy });
                }
                Some(Self::Stalls) => site.link.policy = Some(Policy { stall: true, ..policy }),
                _ => {}
            }
        }
        misread
    }
}

/// A machine with a bug between it and the world, or none.
pub struct Buggy<M> {
    inner: M,
    bug: Option<Bug>,
    topology: Topology,
    /// Effects of the bug's own.
    extra: Vec<Effect>,
    /// Operations that the machine is told have ended, and how.
    lies: Vec<(IoId, Result<(), Errno>)>,
    /// Requests that were acknowledged too early.
    acked: BTreeSet<ReqId>,
    /// Reads that the machine never saw.
    reads: BTreeMap<IoId, ReqId>,
    /// A write that is sent later, and after how many others.
    held: Option<(DiskId, DiskOp, u32)>,
    writes: u32,
    own_ios: u64,
    now: Time,
}

impl<M: Subject> Buggy<M> {
    /// `inner` with `bug` planted.
    pub fn new(inner: M, bug: Option<Bug>, topology: &Topology) -> Self {
        Self {
            inner,
            bug,
            topology: topology.clone(),
            extra: Vec::new(),
            lies: Vec::new(),
            acked: BTreeSet::new(),
            reads: BTreeMap::new(),
            held: None,
            writes: 0,
            own_ios: 0,
            now: Time::default(),
        }
    }

    /// The machine itself.
    pub fn inner(&self) -> &M {
        &self.inner
    }

    fn is(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    fn own_io(&mut self) -> IoId {
        self.own_ios += 1;
        IoId { owner: OWN, nr: self.own_ios }
    }

    fn read_from_ld(&mut self, req: ReqId, dev: DevNr, sector: blk::Sector, len: Sectors) {
        let io = self.own_io();
        self.reads.insert(io, req);
        let disk = self.topology.disk(Role::Leg { dev, site: 0 });
        let op = DiskOp::Read { sector, buf: BufMut::zeroed(len.len()) };
        self.extra.push(Effect::Submit { io, disk, op });
    }

    fn pass(&mut self, effect: Effect, effects: &mut Vec<Effect>) {
        match effect {
            Effect::Complete { req, .. } if self.acked.remove(&req) => {}
            Effect::Submit { io, disk, op } => {
                if let Some(op) = self.spoil(io, disk, op) {
                    effects.push(Effect::Submit { io, disk, op });
                }
            }
            other => effects.push(other),
        }
    }

    /// What becomes of an operation; `None`: the machine is told that it is done.
    fn spoil(&mut self, io: IoId, disk: DiskId, op: DiskOp) -> Option<DiskOp> {
        let site = match self.topology.roles().get(disk.0 as usize)? {
            Role::Log | Role::NewLog => return self.spoil_log(io, op),
            Role::Leg { site, .. } => *site,
            Role::DirtyLog { .. } => return self.spoil_dirty_log(io, op),
            Role::Mark { .. } => return self.spoil_mark(io, op),
        };
        match (self.bug?, site, op) {
            (Bug::ResyncFlushLies, 1.., DiskOp::Flush) if self.is_resyncing(site) => self.lie(io),
            (Bug::LocalFlushLies, 0, DiskOp::Flush) => self.lie(io),
            (Bug::RemoteFlushLies, 1.., op) if self.is_weak_leg(disk) => self.weaken(io, op),
            (_, 1.., op @ DiskOp::Write { .. }) => self.spoil_remote_write(io, disk, site, op),
            (_, _, op) => Some(op),
        }
    }

    fn spoil_log(&mut self, io: IoId, op: DiskOp) -> Option<DiskOp> {
        match (self.bug?, op) {
            (Bug::LogFlushLies, DiskOp::Flush) => self.lie(io),
            (Bug::CheckpointsInCache, op @ DiskOp::Write { .. }) => self.weaken(io, op),
            (_, op) => Some(op),
        }
    }

    fn spoil_dirty_log(&mut self, io: IoId, op: DiskOp) -> Option<DiskOp> {
        self.writes += 1;
        match (self.bug?, op) {
            (Bug::DirtyLogFlushLies, op) => self.weaken(io, op),
            (Bug::MarksLost, DiskOp::Write { .. }) if self.writes.is_multiple_of(3) => self.lie(io),
            (_, op) => Some(op),
        }
    }

    fn spoil_mark(&mut self, io: IoId, op: DiskOp) -> Option<DiskOp> {
        match (self.bug?, op) {
            (Bug::MarkInCache, op) => self.weaken(io, op),
            (_, op) => Some(op),
        }
    }

    fn is_resyncing(&self, site: usize) -> bool {
        let mut views = Vec::new();
        self.inner.views(self.now, &mut views);
        views.get(site).is_some_and(|view| view.state == State::Resyncing)
    }

    fn is_weak_leg(&self, disk: DiskId) -> bool {
        disk == self.topology.disk(Role::Leg { dev: DevNr(0), site: self.topology.sites.len() - 1 })
    }

    /// The operation without anything that makes it durable.
    fn weaken(&mut self, io: IoId, op: DiskOp) -> Option<DiskOp> {
        match op {
            DiskOp::Flush => self.lie(io),
            DiskOp::Write { sector, data, .. } => Some(DiskOp::Write { sector, data, fua: false }),
            DiskOp::WriteZeroes { sector, len, unmap, .. } => {
                Some(DiskOp::WriteZeroes { sector, len, unmap, fua: false })
            }
            DiskOp::Read { .. } => Some(op),
        }
    }

    fn spoil_remote_write(
        &mut self,
        io: IoId,
        disk: DiskId,
        site: usize,
        op: DiskOp,
    ) -> Option<DiskOp> {
        self.writes += 1;
        let now_and_then = self.writes.is_multiple_of(7);
        match (self.bug?, op) {
            (Bug::CopyLost, _) if now_and_then && self.is_resyncing(site) => self.lie(io),
            (Bug::ZombieLands, op) if now_and_then && self.held.is_none() => {
                self.held = Some((disk, op, 3));
                self.fail(io)
            }
            (Bug::BitFlips, DiskOp::Write { sector, data, fua }) if now_and_then => {
                Some(DiskOp::Write { sector, data: flipped(&data), fua })
            }
            (Bug::RemoteWriteLost, _) if now_and_then => self.lie(io),
            (Bug::BarrierIgnored, op) if now_and_then && self.held.is_none() => {
                self.held = Some((disk, op, 3));
                self.lie(io)
            }
            (Bug::Misdirected, DiskOp::Write { sector, data, fua })
                if now_and_then && sector.0 > 0 =>
            {
                Some(DiskOp::Write { sector: blk::Sector(sector.0 - 1), data, fua })
            }
            (_, op) => Some(op),
        }
    }

    fn lie(&mut self, io: IoId) -> Option<DiskOp> {
        self.lies.push((io, Ok(())));
        None
    }

    fn fail(&mut self, io: IoId) -> Option<DiskOp> {
        self.lies.push((io, Err(Errno::EIO)));
        None
    }

    /// What is told of a disk that was opened.
    fn told(&self, seen: DiskSeen) -> DiskSeen {
        let old = |identity: &str| identity.split('#').next().map(|path| format!("{path}#0"));
        match (self.bug, old(&seen.identity)) {
            (Some(Bug::OldIdentity), Some(identity)) => DiskSeen { identity, ..seen },
            _ => seen,
        }
    }

    fn release_held(&mut self) {
        if let Some((disk, op, left)) = self.held.take() {
            if left > 0 {
                self.held = Some((disk, op, left - 1));
            } else {
                let io = self.own_io();
                self.extra.push(Effect::Submit { io, disk, op });
            }
        }
    }

    fn own_done(&mut self, io: IoId, buf: Option<BufMut>) {
        let (Some(req), Some(buf)) = (self.reads.remove(&io), buf) else { return };
        let data = Data::Bytes(buf.freeze());
        self.extra.push(Effect::Deliver { req, offset: Sectors(0), data });
        self.extra.push(Effect::Complete { req, result: Ok(()) });
    }
}

impl<M: Subject> Machine for Buggy<M> {
    fn handle(&mut self, now: Time, event: Event) {
        match event {
            Event::Request { req, dev, op: Op::Read { sector, len } }
                if self.is(Bug::ReadsFromLd) && self.stage() == Stage::Running =>
            {
                self.read_from_ld(req, dev, sector, len);
            }
            Event::Request { req, dev, op: Op::Write { sector, len, fua: true } }
                if self.is(Bug::FuaIgnored) =>
            {
                let op = Op::Write { sector, len, fua: false };
                self.inner.handle(now, Event::Request { req, dev, op });
            }
            Event::Request { req, op: Op::Flush, .. } if self.is(Bug::FlushAckedAtOnce) => {
                self.extra.push(Effect::Complete { req, result: Ok(()) });
            }
            Event::Fetched { req, result, buf } => {
                if self.is(Bug::AckBeforeWrite) && self.acked.insert(req) {
                    self.extra.push(Effect::Complete { req, result: Ok(()) });
                }
                self.inner.handle(now, Event::Fetched { req, result, buf });
            }
            Event::Done { io, buf, .. } if io.owner == OWN => self.own_done(io, buf),
            Event::Done { .. } => {
                self.release_held();
                self.inner.handle(now, event);
            }
            Event::Opened { disk, result } => {
                let result = result.map(|seen| self.told(seen));
                self.inner.handle(now, Event::Opened { disk, result });
            }
            event @ (Event::Request { .. } | Event::Kept { .. }) => self.inner.handle(now, event),
        }
    }

    fn poll(&mut self, now: Time, effects: &mut Vec<Effect>) {
        self.now = now;
        let mut wanted = Vec::new();
        loop {
            self.inner.poll(now, &mut wanted);
            for effect in wanted.drain(..) {
                if self.bug.is_some() {
                    self.pass(effect, effects);
                } else {
                    effects.push(effect);
                }
            }
            effects.append(&mut self.extra);
            if self.lies.is_empty() {
                return;
            }
            for (io, result) in std::mem::take(&mut self.lies) {
                self.inner.handle(now, Event::Done { io, result, buf: None });
            }
        }
    }

    fn wakeup(&self) -> Option<Time> {
        self.inner.wakeup()
    }
}

impl<M: Subject> Subject for Buggy<M> {
    fn stage(&self) -> Stage {
        self.inner.stage()
    }

    fn drain(&mut self) {
        self.inner.drain();
    }

    fn views(&self, now: Time, views: &mut Vec<View>) {
        self.inner.views(now, views);
        for view in views {
            view.consistent |= self.is(Bug::ClaimsConsistent);
            view.in_force |= self.is(Bug::ClaimsInForce);
        }
    }

    fn resync(&mut self, now: Time, site: usize, dev: Option<DevNr>) -> bool {
        self.inner.resync(now, site, dev)
    }

    fn verify(&mut self, now: Time, site: usize, repair: bool) {
        // It would find some of the bugs before the oracle does.
        if self.bug.is_none() {
            self.inner.verify(now, site, repair);
        }
    }

    fn differing(&self, now: Time) -> Vec<(usize, u64)> {
        self.inner.differing(now)
    }

    fn told(&self, now: Time) -> Vec<Told> {
        self.inner.told(now)
    }

    fn reload(&mut self, now: Time, topology: &Topology) -> bool {
        self.inner.reload(now, topology)
    }

    fn log_sectors(&self) -> Option<Sectors> {
        self.inner.log_sectors()
    }

    fn message(&mut self, now: Time, words: &str) {
        self.inner.message(now, words);
    }

    fn loss(&self) -> Loss {
        self.inner.loss()
    }

    fn groups_behind(&self, after: u64) -> Groups {
        self.inner.groups_behind(after)
    }

    fn replace_log(&mut self) -> bool {
        self.inner.replace_log()
    }

    fn move_log(&mut self, disk: DiskId, size: Sectors, nr: u64) -> bool {
        self.inner.move_log(disk, size, nr)
    }

    fn log_disk(&self) -> DiskId {
        self.inner.log_disk()
    }

    fn moving(&self) -> Moving {
        self.inner.moving()
    }

    fn give_up_log(&mut self, now: Time) {
        self.inner.give_up_log(now);
    }

    fn begin_new_log(&mut self) {
        self.inner.begin_new_log();
    }

    fn cancel_new_log(&mut self) -> bool {
        self.inner.cancel_new_log()
    }

    fn admissions(op: &DiskOp) -> Vec<Admission> {
        M::admissions(op)
    }
}

/// The same bytes, but for one bit in the middle.
fn flipped(data: &Gather) -> Gather {
    let mut bytes: Vec<u8> = data.iter().flat_map(|buf| buf.iter().copied()).collect();
    let middle = bytes.len() / 2 + 40;
    bytes[middle] ^= 4;
    Gather::from_elem(Buf::from(&bytes[..]), 1)
}

/// The owner of operations that only the bug knows; no machine has so many parts.
const OWN: IoOwner = IoOwner(0xb0b0);
