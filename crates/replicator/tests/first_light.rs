//! The whole machine on disks of plain memory, every I/O answered at once: the
//! shortest way of a write and a read through all the rooms.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::collections::BTreeMap;

use blk::{
    BufMut, Data, DevNr, DiskId, DiskOp, Effect, Errno, Event, Machine, Op, ReqId, Sector, Sectors,
    Span, Time, Wall,
};
use replicator::{DiskFacts, Phase, Plan, Replicator, Seed};

const DISK_SECTORS: u64 = 8192;
const SITE_FIELDS: &str = "1 1 /rd0 core 2 8 nosync";

struct Host {
    machine: Replicator,
    disks: BTreeMap<DiskId, Vec<u8>>,
    now: Time,
    payloads: BTreeMap<ReqId, Vec<u8>>,
    reads: BTreeMap<ReqId, Vec<u8>>,
    ended: BTreeMap<ReqId, Result<(), Errno>>,
    next_req: u64,
}

impl Host {
    fn new(log_mode: &str, policy: &str, disks: BTreeMap<DiskId, Vec<u8>>) -> Self {
        let text = format!(
            "repl: 0 1 replicator ringbuffer 4 /log 0 {log_mode} 4096 \
             blockdev 2 0 {policy} blockdev 2 1 {policy}\n\
             db: 0 4096 replicator-dev repl 0 0 1 /ld0 nolog 0 {SITE_FIELDS}\n"
        );
        let groups = table::TableFile::parse(&text).unwrap().groups().unwrap();
        let facts = |nr: u32, path: &str| DiskFacts {
            id: DiskId(nr),
            path: path.to_owned(),
            seen: Ok(blk::DiskSeen {
                size: Sectors(DISK_SECTORS),
                logical_block: 512,
                identity: format!("mem:{path}"),
            }),
        };
        let names = ["/log", "/ld0", "/rd0"];
        let facts: BTreeMap<String, DiskFacts> =
            names.iter().zip(0..).map(|(n, i)| ((*n).to_owned(), facts(i, n))).collect();
        let plan = Plan::new(&groups[0], &facts).unwrap();
        let seed = Seed { uuid: uuid::Uuid::from_u128(7), wall: Wall(1) };
        let mut host = Self {
            machine: Replicator::open(plan, seed).unwrap(),
            disks,
            now: Time(0),
            payloads: BTreeMap::new(),
            reads: BTreeMap::new(),
            ended: BTreeMap::new(),
            next_req: 0,
        };
        host.run();
        host
    }

    fn blank() -> BTreeMap<DiskId, Vec<u8>> {
        (0..3).map(|nr| (DiskId(nr), vec![0; DISK_SECTORS as usize * 512])).collect()
    }

    /// Runs until nothing is to be done, and until nothing is due in the next minute.
    fn run(&mut self) {
        let limit = self.now + Span::from_secs(60);
        for _ in 0..100_000 {
            let mut effects = Vec::new();
            self.machine.poll(self.now, &mut effects);
            let quiet = effects.is_empty();
            for effect in effects {
                self.carry_out(effect);
            }
            if quiet {
                match self.machine.wakeup() {
                    Some(at) if at < limit => {
                        assert!(at > self.now, "a wakeup lies ahead");
                        self.now = at;
                    }
                    _ => return,
                }
            }
        }
        panic!("it never falls quiet");
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Open { disk } => panic!("disk {disk:?} never went away"),
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
                let buf = self.disk_op(disk, op);
                self.machine.handle(self.now, Event::Done { io, result: Ok(()), buf });
            }
        }
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
                for part in &data {
                    image[at..at + part.len()].copy_from_slice(part);
                    at += part.len();
                }
                None
            }
            DiskOp::WriteZeroes { sector, len, .. } => {
                let at = sector.bytes() as usize;
                image[at..at + len.len()].fill(0);
                None
            }
            DiskOp::Flush => None,
        }
    }

    fn ask(&mut self, op: Op, payload: Option<Vec<u8>>) -> ReqId {
        self.next_req += 1;
        let req = ReqId(self.next_req);
        if let Some(payload) = payload {
            self.payloads.insert(req, payload);
        }
        if let Op::Read { len, .. } = op {
            self.reads.insert(req, vec![0xee; len.len()]);
        }
        self.machine.handle(self.now, Event::Request { req, dev: DevNr(0), op });
        req
    }

    fn write(&mut self, sector: u64, sectors: u64, fill: u8) -> ReqId {
        let payload = vec![fill; sectors as usize * 512];
        let (sector, len) = (Sector(sector), Sectors(sectors));
        self.ask(Op::Write { sector, len, fua: false }, Some(payload))
    }

    fn read(&mut self, sector: u64, sectors: u64) -> Vec<u8> {
        let req = self.ask(Op::Read { sector: Sector(sector), len: Sectors(sectors) }, None);
        self.run();
        assert_eq!(self.ended[&req], Ok(()));
        self.reads.remove(&req).unwrap()
    }

    fn device_bytes(&self, disk: u32) -> &[u8] {
        &self.disks[&DiskId(disk)][..4096 * 512]
    }
}

#[test]
fn what_is_written_is_read_back_and_reaches_every_site() {
    let mut host = Host::new("create", "async", Host::blank());
    assert!(matches!(host.machine.phase(), Phase::Running), "{:?}", host.machine.phase());
    let writes = [host.write(0, 8, 1), host.write(4, 8, 2), host.write(100, 3, 3)];
    let flush = host.ask(Op::Flush, None);
    host.run();
    assert!(writes.iter().chain([&flush]).all(|req| host.ended[req] == Ok(())));
    let read = host.read(0, 16);
    assert!(read[..4 * 512].iter().all(|b| *b == 1));
    assert!(read[4 * 512..12 * 512].iter().all(|b| *b == 2));
    assert!(read[12 * 512..].iter().all(|b| *b == 0));
    assert_eq!(host.device_bytes(1), host.device_bytes(2));
    assert_eq!(host.device_bytes(1)[101 * 512], 3);
}

#[test]
fn a_log_that_wraps_many_times_loses_nothing() {
    for policy in ["async", "sync"] {
        let mut host = Host::new("create", policy, Host::blank());
        let mut model = vec![0_u8; 4096 * 512];
        for round in 0..200_u64 {
            for i in 0..8 {
                let (sector, len) = ((round * 131 + i * 517) % 3900, 1 + (round + i) % 128);
                let fill = (round * 8 + i) as u8;
                let write = host.write(sector, len, fill);
                model[sector as usize * 512..][..len as usize * 512].fill(fill);
                // One at a time: overlapping writes in flight may go either way.
                host.run();
                assert_eq!(host.ended.get(&write), Some(&Ok(())), "round {round} write {i}");
            }
        }
        assert_same(&host.read(0, 4096), &model);
        assert_same(host.device_bytes(1), &model);
        assert_same(host.device_bytes(2), &model);
        let wraps = host.machine.log().unwrap().counters().log_bytes
            / host.machine.log().unwrap().geometry().ring_bytes();
        assert!(wraps > 10, "the log wrapped {wraps} times");
    }
}

#[test]
fn a_stopped_replicator_opens_again_with_nothing_to_replay() {
    let mut host = Host::new("create", "async", Host::blank());
    host.write(7, 9, 5);
    host.run();
    host.machine.stop(true);
    host.run();
    assert!(matches!(host.machine.phase(), Phase::Stopped), "{:?}", host.machine.phase());
    let disks = host.disks;
    let mut again = Host::new("open", "async", disks);
    assert!(matches!(again.machine.phase(), Phase::Running), "{:?}", again.machine.phase());
    assert!(again.machine.log().unwrap().index().is_empty());
    assert_eq!(again.read(7, 9), vec![5; 9 * 512]);
}

#[test]
fn a_suspended_device_keeps_its_requests_until_it_is_resumed() {
    let mut host = Host::new("create", "async", Host::blank());
    // As in 2009 a word may be cut short.
    assert_eq!(host.machine.message(None, &["susp", "all"]), Ok(String::new()));
    let write = host.write(0, 8, 1);
    host.run();
    assert!(host.machine.is_suspended(None));
    assert_eq!(host.ended.get(&write), None);
    assert_eq!(host.machine.message(Some(DevNr(0)), &["start"]), Ok(String::new()));
    host.run();
    assert_eq!(host.ended.get(&write), Some(&Ok(())));
}

#[test]
fn words_that_are_no_message_change_nothing() {
    let mut host = Host::new("create", "async", Host::blank());
    for words in [&["jump"][..], &[], &[""], &["suspend", "now"], &["suspend", "all", "now"]] {
        assert!(host.machine.message(None, words).is_err(), "{words:?}");
    }
    assert!(host.machine.message(Some(DevNr(9)), &["suspend"]).is_err());
    assert!(!host.machine.is_suspended(None));
}

#[test]
fn what_no_log_could_hold_ends_with_an_error_and_stops_nothing() {
    let mut host = Host::new("create", "async", Host::blank());
    let too_long = host.write(0, 2000, 1);
    let outside = host.write(4090, 8, 1);
    let fits = host.write(0, 8, 2);
    host.run();
    assert_eq!(host.ended[&too_long], Err(Errno::EINVAL));
    assert_eq!(host.ended[&outside], Err(Errno::EINVAL));
    assert_eq!(host.ended[&fits], Ok(()));
}

fn assert_same(found: &[u8], expected: &[u8]) {
    let differs = found.iter().zip(expected).position(|(f, e)| f != e);
    assert_eq!(differs.map(|at| at / 512), None, "the first sector that differs");
}
