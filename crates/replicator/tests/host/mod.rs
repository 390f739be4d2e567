//! A driver of the machine on disks of plain memory: every I/O is answered at once.

#![allow(dead_code, reason = "each test uses a part of it")]

pub(crate) mod pair;

use std::collections::{BTreeMap, BTreeSet};

use blk::{
    BufMut, Data, DevNr, DiskId, DiskOp, DiskSeen, Effect, Errno, Event, IoId, Machine, NotOpened,
    Op, ReqId, Sector, Sectors, Span, Time, Wall,
};
use replicator::{DiskFacts, Plan, Replicator, Seed, SiteStatus};

const DISK_SECTORS: u64 = 8192;
const SITE_FIELDS: &str = "1 1 /rd0 core 2 8 nosync";

pub(crate) struct Host {
    pub(crate) machine: Replicator,
    pub(crate) disks: BTreeMap<DiskId, Vec<u8>>,
    pub(crate) now: Time,
    payloads: BTreeMap<ReqId, Vec<u8>>,
    pub(crate) reads: BTreeMap<ReqId, Vec<u8>>,
    pub(crate) ended: BTreeMap<ReqId, Result<(), Errno>>,
    next_req: u64,
    /// Disks that are not well.
    pub(crate) faults: BTreeMap<DiskId, Fault>,
    /// Sectors that can't be read before they are written.
    pub(crate) bad: BTreeSet<(DiskId, u64)>,
    /// What is said of them.
    pub(crate) bad_errno: Errno,
    /// Bytes written to each disk.
    pub(crate) written: BTreeMap<DiskId, u64>,
    /// Flushes of each disk.
    pub(crate) flushed: BTreeMap<DiskId, u64>,
    /// After so many effects the host is dead: nothing is carried out any more.
    pub(crate) effects_left: Option<u64>,
    /// I/O that hangs.
    pub(crate) hung: Vec<(IoId, Option<BufMut>)>,
    /// I/O that was done, and has not ended.
    late: Vec<(IoId, Option<BufMut>)>,
    /// Disks whose opening does.
    opening: Vec<DiskId>,
    /// Disks that were let go of.
    pub(crate) closed: BTreeSet<DiskId>,
    /// What was kept, and whether it can be.
    pub(crate) kept: Option<Vec<u8>>,
    pub(crate) keeps: bool,
    /// Every record that was to be kept, oldest first.
    pub(crate) records: Vec<Vec<u8>>,
}

/// What is wrong with a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Every I/O fails.
    Fails,
    /// One does; then it works.
    FailsOnce,
    /// No I/O ends.
    Hangs,
    /// No read does.
    ReadsHang,
    /// Nothing is written, and nothing but reads ends.
    WritesHang,
    /// Everything is done at once, and nobody told before `land`.
    Slow,
    /// It can't be opened, and what was open fails.
    Absent,
    /// Another disk is in its place; what was open fails.
    Other,
    /// Opening it takes until `release`.
    OpensLate,
    /// The same, and it works.
    OtherForGood,
}

impl Host {
    pub(crate) fn new(log_mode: &str, policy: &str, disks: BTreeMap<DiskId, Vec<u8>>) -> Self {
        let sites = format!("blockdev 2 0 {policy} blockdev 2 1 {policy}");
        Self::of(&sites, &format!("{log_mode} 4096"), SITE_FIELDS, disks, BTreeMap::new())
    }

    pub(crate) fn of(
        sites: &str,
        log: &str,
        remote: &str,
        disks: BTreeMap<DiskId, Vec<u8>>,
        faults: BTreeMap<DiskId, Fault>,
    ) -> Self {
        Self::with_local(sites, log, "nolog 0", remote, disks, faults)
    }

    pub(crate) fn with_local(
        sites: &str,
        log: &str,
        local_dirty_log: &str,
        remote: &str,
        disks: BTreeMap<DiskId, Vec<u8>>,
        faults: BTreeMap<DiskId, Fault>,
    ) -> Self {
        Self::again((sites, log, local_dirty_log, remote), disks, faults, None)
    }

    pub(crate) fn again(
        table: (&str, &str, &str, &str),
        disks: BTreeMap<DiskId, Vec<u8>>,
        faults: BTreeMap<DiskId, Fault>,
        kept: Option<Vec<u8>>,
    ) -> Self {
        Self::of_size(4096, table, disks, faults, kept)
    }

    pub(crate) fn of_size(
        sectors: u64,
        (sites, log, local_dirty_log, remote): (&str, &str, &str, &str),
        disks: BTreeMap<DiskId, Vec<u8>>,
        faults: BTreeMap<DiskId, Fault>,
        kept: Option<Vec<u8>>,
    ) -> Self {
        let text = format!(
            "repl: 0 1 replicator ringbuffer {} /log 0 {log} {sites}\n\
             db: 0 {sectors} replicator-dev repl 0 0 1 /ld0 {local_dirty_log} {remote}\n",
            2 + log.split(' ').count(),
        );
        let names = ["/log", "/ld0", "/rd0", "/dl0"];
        let names: Vec<(&str, u32)> = names.into_iter().zip(0..).collect();
        Self::of_text(&text, &names, disks, faults, kept)
    }

    /// A whole table, and the numbers of the disks that it names.
    pub(crate) fn of_text(
        text: &str,
        names: &[(&str, u32)],
        disks: BTreeMap<DiskId, Vec<u8>>,
        faults: BTreeMap<DiskId, Fault>,
        kept: Option<Vec<u8>>,
    ) -> Self {
        let groups = table::TableFile::parse(text).unwrap().groups().unwrap();
        let facts = |(path, nr): &(&str, u32)| {
            let (id, path) = (DiskId(*nr), (*path).to_owned());
            let seen = seen(id, faults.get(&id).copied(), &disks);
            (path.clone(), DiskFacts { id, path, seen })
        };
        let facts: BTreeMap<String, DiskFacts> = names.iter().map(facts).collect();
        let plan = Plan::with_kept(&groups[0], &facts, kept.clone()).unwrap();
        let seed = Seed { uuid: uuid::Uuid::from_u128(7), wall: Wall(1) };
        let mut host = Self {
            machine: Replicator::open(plan, seed).unwrap(),
            disks,
            now: Time(0),
            payloads: BTreeMap::new(),
            reads: BTreeMap::new(),
            ended: BTreeMap::new(),
            next_req: 0,
            faults,
            bad: BTreeSet::new(),
            bad_errno: Errno::EIO,
            written: BTreeMap::new(),
            flushed: BTreeMap::new(),
            effects_left: None,
            hung: Vec::new(),
            late: Vec::new(),
            opening: Vec::new(),
            closed: BTreeSet::new(),
            kept,
            keeps: true,
            records: Vec::new(),
        };
        host.run();
        host
    }

    pub(crate) fn blank() -> BTreeMap<DiskId, Vec<u8>> {
        (0..4).map(|nr| (DiskId(nr), vec![0; DISK_SECTORS as usize * 512])).collect()
    }

    /// Runs until nothing is to be done, and until nothing is due in the next minute.
    pub(crate) fn run(&mut self) {
        self.run_for(Span::from_secs(60));
    }

    pub(crate) fn run_for(&mut self, span: Span) {
        let limit = self.now + span;
        for _ in 0..100_000 {
            let mut effects = Vec::new();
            self.machine.poll(self.now, &mut effects);
            let quiet = effects.is_empty();
            for effect in effects {
                match &mut self.effects_left {
                    Some(0) => return,
                    Some(left) => *left -= 1,
                    None => {}
                }
                self.carry_out(effect);
            }
            if quiet {
                match self.machine.wakeup() {
                    Some(at) if at < limit => {
                        assert!(at > self.now, "a wakeup lies ahead");
                        self.now = at;
                    }
                    Some(_) => return self.now = limit,
                    None => return,
                }
            }
        }
        panic!("it never falls quiet");
    }

    pub(crate) fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Open { disk } if self.faults.get(&disk) == Some(&Fault::OpensLate) => {
                self.opening.push(disk);
            }
            Effect::Open { disk } => {
                let result = seen(disk, self.faults.get(&disk).copied(), &self.disks);
                self.machine.handle(self.now, Event::Opened { disk, result });
            }
            Effect::Close { disk } => assert!(self.closed.insert(disk), "{disk:?} is closed once"),
            Effect::Keep { bytes } => {
                self.records.push(bytes.clone());
                let result = if self.keeps { Ok(()) } else { Err(Errno::ENOSPC) };
                self.kept = if self.keeps { Some(bytes) } else { self.kept.take() };
                self.machine.handle(self.now, Event::Kept { result });
            }
            Effect::Fetch { req, mut buf } => {
                buf.copy_from_slice(&self.payloads[&req]);
                self.machine.handle(self.now, Event::Fetched { req, result: Ok(()), buf });
            }
            Effect::Deliver { req, offset, data } => {
                let read = self.reads.get_mut(&req).unwrap();
                let at = offset.len();
                match data {
                    Data::Bytes(bytes) => read[at..at + bytes.len()].copy_from_slice(&bytes),
                    Data::Zeroes(len) => read[at..at + len.len()].fill(0),
                }
            }
            Effect::Complete { req, result } => {
                assert!(self.ended.insert(req, result).is_none(), "a request ends once");
            }
            Effect::Submit { io, disk, op } => {
                let fault = self.faults.get(&disk).copied();
                if fault == Some(Fault::FailsOnce) {
                    self.faults.remove(&disk);
                }
                let (result, buf) = match (fault, op) {
                    (Some(Fault::Hangs | Fault::ReadsHang), DiskOp::Read { buf, .. }) => {
                        return self.hung.push((io, Some(buf)));
                    }
                    (Some(Fault::WritesHang), DiskOp::Read { sector, buf }) => {
                        (Ok(()), self.disk_op(disk, DiskOp::Read { sector, buf }))
                    }
                    (Some(Fault::Hangs | Fault::WritesHang), _) => {
                        return self.hung.push((io, None));
                    }
                    (Some(Fault::Slow), op) => {
                        let buf = self.disk_op(disk, op);
                        return self.late.push((io, buf));
                    }
                    (None | Some(Fault::OtherForGood), DiskOp::Read { sector, buf })
                        if self.is_bad(disk, sector, &buf) =>
                    {
                        (Err(self.bad_errno), Some(buf))
                    }
                    (None | Some(Fault::OtherForGood | Fault::ReadsHang), op) => {
                        (Ok(()), self.disk_op(disk, op))
                    }
                    (Some(_), DiskOp::Read { buf, .. }) => (Err(Errno::EIO), Some(buf)),
                    (Some(_), _) => (Err(Errno::EIO), None),
                };
                self.machine.handle(self.now, Event::Done { io, result, buf });
            }
        }
    }

    fn is_bad(&self, disk: DiskId, sector: Sector, buf: &BufMut) -> bool {
        let end = sector.0 + buf.len() as u64 / 512;
        self.bad.range((disk, sector.0)..(disk, end)).next().is_some()
    }

    fn disk_op(&mut self, disk: DiskId, op: DiskOp) -> Option<BufMut> {
        let image = self.disks.get_mut(&disk).unwrap();
        match op {
            DiskOp::Read { sector, mut buf } => {
                let at = sector.bytes() as usize;
                let len = buf.len();
                buf.copy_from_slice(&image[at..at + len]);
                Some(buf)
            }
            DiskOp::Write { sector, data, .. } => {
                let mut at = sector.bytes() as usize;
                let end = sector.0 + data.iter().map(|part| part.len() as u64).sum::<u64>() / 512;
                self.bad.retain(|(bad, at)| *bad != disk || *at < sector.0 || *at >= end);
                *self.written.entry(disk).or_default() += (end - sector.0) * 512;
                for part in &data {
                    image[at..at + part.len()].copy_from_slice(part);
                    at += part.len();
                }
                None
            }
            DiskOp::WriteZeroes { sector, len, .. } => {
                let at = sector.bytes() as usize;
                *self.written.entry(disk).or_default() += len.bytes();
                image[at..at + len.len()].fill(0);
                None
            }
            DiskOp::Flush => {
                *self.flushed.entry(disk).or_default() += 1;
                None
            }
        }
    }

    /// The table says something else from now on; disks that are new have these numbers.
    pub(crate) fn edit(
        &mut self,
        target: Option<u32>,
        words: &str,
        new: &[(&str, u32)],
    ) -> Result<Vec<String>, String> {
        let words: Vec<&str> = words.split(' ').collect();
        let group = self.machine.plan().group();
        let group = group.edited(target.map(DevNr), &words).map_err(|error| error.to_string())?;
        self.reload(&group, new)
    }

    /// The same, as a whole table.
    pub(crate) fn reload(
        &mut self,
        group: &table::Group,
        new: &[(&str, u32)],
    ) -> Result<Vec<String>, String> {
        let facts = |(path, nr): &(&str, u32)| {
            let why = "nobody has opened it yet".to_owned();
            let seen = Err(NotOpened { errno: Errno::ENODEV, why });
            let path = (*path).to_owned();
            (path.clone(), DiskFacts { id: DiskId(*nr), path, seen })
        };
        let disks = new.iter().map(facts).collect();
        for (_, nr) in new {
            self.disks
                .entry(DiskId(*nr))
                .or_insert_with(|| vec![0x77; DISK_SECTORS as usize * 512]);
        }
        self.reload_to(group, &disks)
    }

    /// The same, with disks that were looked at, the local ones being open.
    pub(crate) fn reload_seen(
        &mut self,
        group: &table::Group,
        new: &[(&str, u32)],
    ) -> Result<Vec<String>, String> {
        let mut disks = BTreeMap::new();
        for (path, nr) in new {
            let (id, path) = (DiskId(*nr), (*path).to_owned());
            self.disks.entry(id).or_insert_with(|| vec![0x77; DISK_SECTORS as usize * 512]);
            let seen = seen(id, self.faults.get(&id).copied(), &self.disks);
            disks.insert(path.clone(), DiskFacts { id, path, seen });
        }
        self.reload_to(group, &disks)
    }

    fn reload_to(
        &mut self,
        group: &table::Group,
        disks: &BTreeMap<String, DiskFacts>,
    ) -> Result<Vec<String>, String> {
        let changes = self.machine.reload(self.now, group, disks);
        let changes = changes.map_err(|error| error.to_string())?;
        Ok(changes.iter().map(ToString::to_string).collect())
    }

    /// What hangs ends: I/O with an error, openings well.
    pub(crate) fn release(&mut self) {
        for disk in std::mem::take(&mut self.opening) {
            let result = seen(disk, None, &self.disks);
            self.machine.handle(self.now, Event::Opened { disk, result });
        }
        for (io, buf) in std::mem::take(&mut self.hung) {
            self.machine.handle(self.now, Event::Done { io, result: Err(Errno::EIO), buf });
        }
    }

    /// What is late ends well.
    pub(crate) fn land(&mut self) {
        for (io, buf) in std::mem::take(&mut self.late) {
            self.machine.handle(self.now, Event::Done { io, result: Ok(()), buf });
        }
    }

    /// The oldest I/O of those that were done ends.
    pub(crate) fn land_one(&mut self) {
        if !self.late.is_empty() {
            let (io, buf) = self.late.remove(0);
            self.machine.handle(self.now, Event::Done { io, result: Ok(()), buf });
        }
    }

    pub(crate) fn site(&self) -> SiteStatus {
        self.site_at(1)
    }

    pub(crate) fn site_at(&self, nr: usize) -> SiteStatus {
        self.machine.status(self.now).sites[nr].clone()
    }

    /// The site that is read.
    pub(crate) fn reads_from(&self) -> Option<u16> {
        self.machine.status(self.now).log.unwrap().reads_from
    }

    /// Requests that ended with an error.
    pub(crate) fn errors(&self) -> u64 {
        self.machine.status(self.now).devices[0].errors
    }

    pub(crate) fn ask(&mut self, op: Op, payload: Option<Vec<u8>>) -> ReqId {
        self.ask_of(0, op, payload)
    }

    /// Something is asked of a device.
    pub(crate) fn ask_of(&mut self, dev: u32, op: Op, payload: Option<Vec<u8>>) -> ReqId {
        self.next_req += 1;
        let req = ReqId(self.next_req);
        if let Some(payload) = payload {
            self.payloads.insert(req, payload);
        }
        if let Op::Read { len, .. } = op {
            self.reads.insert(req, vec![0xee; len.len()]);
        }
        self.machine.handle(self.now, Event::Request { req, dev: DevNr(dev), op });
        req
    }

    pub(crate) fn write(&mut self, sector: u64, sectors: u64, fill: u8) -> ReqId {
        self.write_of(0, sector, sectors, fill)
    }

    pub(crate) fn write_of(&mut self, dev: u32, sector: u64, sectors: u64, fill: u8) -> ReqId {
        let payload = vec![fill; sectors as usize * 512];
        let (sector, len) = (Sector(sector), Sectors(sectors));
        self.ask_of(dev, Op::Write { sector, len, fua: false }, Some(payload))
    }

    pub(crate) fn read(&mut self, sector: u64, sectors: u64) -> Vec<u8> {
        self.read_of(0, sector, sectors)
    }

    pub(crate) fn read_of(&mut self, dev: u32, sector: u64, sectors: u64) -> Vec<u8> {
        let op = Op::Read { sector: Sector(sector), len: Sectors(sectors) };
        let req = self.ask_of(dev, op, None);
        self.run();
        assert_eq!(self.ended[&req], Ok(()));
        self.reads.remove(&req).unwrap()
    }

    /// What is read, if it comes within that time.
    pub(crate) fn read_within(&mut self, sector: u64, sectors: u64, span: Span) -> Option<Vec<u8>> {
        let req = self.ask(Op::Read { sector: Sector(sector), len: Sectors(sectors) }, None);
        let limit = self.now + span;
        while !self.ended.contains_key(&req) && self.now < limit {
            let next = self.now + Span::from_millis(1);
            self.run_for(Span::from_millis(1));
            self.now = self.now.max(next);
        }
        assert_eq!(*self.ended.get(&req)?, Ok(()));
        self.reads.remove(&req)
    }

    pub(crate) fn device_bytes(&self, disk: u32) -> &[u8] {
        &self.disks[&DiskId(disk)][..4096 * 512]
    }
}

fn seen(
    disk: DiskId,
    fault: Option<Fault>,
    disks: &BTreeMap<DiskId, Vec<u8>>,
) -> Result<DiskSeen, NotOpened> {
    if fault == Some(Fault::Absent) {
        return Err(NotOpened { errno: Errno::ENODEV, why: format!("disk {} is gone", disk.0) });
    }
    let is_other = matches!(fault, Some(Fault::Other | Fault::OtherForGood));
    let other = if is_other { "other" } else { "" };
    Ok(DiskSeen {
        size: Sectors::from_bytes(disks[&disk].len() as u64),
        logical_block: 512,
        identity: format!("mem:{}{other}", disk.0),
    })
}

pub(crate) fn assert_same(found: &[u8], expected: &[u8]) {
    let differs = found.iter().zip(expected).position(|(f, e)| f != e);
    assert_eq!(differs.map(|at| at / 512), None, "the first sector that differs");
}
