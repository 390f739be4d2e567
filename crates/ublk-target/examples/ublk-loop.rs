//! Serves files or block devices as ublk devices, one to one: the least machine
//! that an engine can drive, for tests of the way between kernel and machine.
//!
//! Reads commands from standard input, one a line, and answers each with one line:
//!
//! ```text
//! add PATH [LOGICAL_BLOCK]   ▶ ok N        serves PATH as /dev/ublkbN
//! recover N PATH             ▶ ok N        takes over a dead server's device
//! remove N                   ▶ ok N
//! hold N                     ▶ ok N        keeps requests of device N unanswered
//! release N                  ▶ ok N        answers them
//! quit                       ▶ ok          leaves the devices to a successor
//! ```

use std::collections::HashMap;
use std::error::Error;
use std::io::{self, BufRead, Write};
use std::path::Path;
use std::time::Duration;

use blk::{
    BufMut, Data, DevNr, DiskId, DiskOp, Effect, Errno, Event, Gather, IoId, IoOwner, Machine, Op,
    ReqId, Sectors, Time,
};
use ublk_target::{
    Device, DeviceError, DeviceSpec, Engine, EngineSpec, Handle, Keeper, Listener, Opener, Ublk,
    process,
};
use uring::{Disk, OpenSpec, RingSpec};

fn main() -> Result<(), Box<dyn Error>> {
    Ublk::probe()?;
    process::enter_own_mount_namespace()?;
    process::lock_memory()?;
    let spec = EngineSpec {
        name: "ublk-loop".into(),
        disks: Vec::new(),
        ring: RingSpec::default(),
        opener: Opener::default(),
        keeper: Keeper::default(),
        listener: Listener::default(),
    };
    let mut server =
        Server { engine: Engine::spawn(Loop::default(), spec)?, served: HashMap::new() };
    for line in io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        if words == ["quit"] {
            break;
        }
        match server.obey(&words) {
            Ok(id) => println!("ok {id}"),
            Err(error) => println!("error: {error}"),
        }
        io::stdout().flush()?;
    }
    let _machine = server.engine.stop();
    println!("ok");
    Ok(())
}

/// The control side: which device is served from which disk.
struct Server {
    engine: Engine<Loop>,
    served: HashMap<u32, (Device, DevNr)>,
}

impl Server {
    fn obey(&mut self, words: &[&str]) -> Result<u32, Box<dyn Error>> {
        match *words {
            ["add", path] => self.add(path, None),
            ["add", path, block] => self.add(path, Some(block.parse()?)),
            ["recover", id, path] => self.recover(id.parse()?, path),
            ["remove", id] => self.remove(id.parse()?),
            ["hold", id] => self.hold(id.parse()?, true),
            ["release", id] => self.hold(id.parse()?, false),
            _ => Err(format!("unknown command {words:?}").into()),
        }
    }

    fn add(&mut self, path: &str, block: Option<u32>) -> Result<u32, Box<dyn Error>> {
        let disk = open(path, Duration::ZERO)?;
        let block = block.unwrap_or(disk.facts().logical_block);
        let spec = DeviceSpec { mark: MARK, ..DeviceSpec::new(disk.size(), block) };
        let added = Device::create(spec)?;
        self.serve(added.id(), disk, |engine, dev| added.start(engine, dev))
    }

    fn recover(&mut self, id: u32, path: &str) -> Result<u32, Box<dyn Error>> {
        // The dead server's writes may still be on their way to the disk.
        let disk = open(path, Duration::from_secs(30))?;
        self.serve(id, disk, |engine, dev| Device::recover(id, MARK, engine, dev))
    }

    fn serve(
        &mut self,
        id: u32,
        disk: Disk,
        start: impl FnOnce(&Handle<Loop>, DevNr) -> Result<Device, DeviceError>,
    ) -> Result<u32, Box<dyn Error>> {
        let (engine, dev) = (self.engine.handle(), DevNr(id));
        engine.add_disk(DiskId(id), disk)?;
        match start(engine, dev) {
            Ok(device) => {
                self.served.insert(id, (device, dev));
                Ok(id)
            }
            Err(error) => {
                engine.remove_disk(DiskId(id))?;
                Err(error.into())
            }
        }
    }

    fn remove(&mut self, id: u32) -> Result<u32, Box<dyn Error>> {
        let (device, dev) = self.served.get(&id).ok_or("not served here")?;
        device.remove(self.engine.handle())?;
        self.engine.handle().remove_disk(DiskId(dev.0))?;
        self.served.remove(&id);
        Ok(id)
    }

    fn hold(&self, id: u32, hold: bool) -> Result<u32, Box<dyn Error>> {
        self.engine.handle().call(move |machine, _| machine.hold(DevNr(id), hold))?;
        Ok(id)
    }
}

fn open(path: &str, busy_limit: Duration) -> Result<Disk, uring::OpenError> {
    let spec = OpenSpec { busy_limit, ..OpenSpec::default() };
    Disk::open(Path::new(path), &spec)
}

/// Device N is disk N; every request becomes the one I/O that it asks for.
#[derive(Default)]
struct Loop {
    requests: HashMap<u64, ReqId>,
    writes: HashMap<ReqId, (DevNr, Op)>,
    next: u64,
    held_device: Option<DevNr>,
    held: Vec<(ReqId, DevNr, Op)>,
    effects: Vec<Effect>,
}

impl Machine for Loop {
    fn handle(&mut self, _now: Time, event: Event) {
        match event {
            Event::Request { req, dev, op } => self.request(req, dev, op),
            Event::Fetched { req, result, buf } => self.fetched(req, result, buf),
            Event::Done { io, result, buf } => self.done(io, result, buf),
            Event::Opened { .. } | Event::Kept { .. } => unreachable!("it asks for neither"),
        }
    }

    fn poll(&mut self, _now: Time, effects: &mut Vec<Effect>) {
        effects.append(&mut self.effects);
    }

    fn wakeup(&self) -> Option<Time> {
        None
    }
}

impl Loop {
    fn hold(&mut self, dev: DevNr, hold: bool) {
        self.held_device = hold.then_some(dev);
        for (req, dev, op) in std::mem::take(&mut self.held) {
            self.request(req, dev, op);
        }
    }

    fn request(&mut self, req: ReqId, dev: DevNr, op: Op) {
        if self.held_device == Some(dev) {
            self.held.push((req, dev, op));
            return;
        }
        match op {
            Op::Read { sector, len } => {
                let buf = BufMut::zeroed(len.len());
                self.submit(req, dev, DiskOp::Read { sector, buf });
            }
            Op::Write { len, .. } => {
                self.writes.insert(req, (dev, op));
                self.effects.push(Effect::Fetch { req, buf: BufMut::zeroed(len.len()) });
            }
            Op::Flush => self.submit(req, dev, DiskOp::Flush),
            Op::Discard { sector, len } => {
                let zero = DiskOp::WriteZeroes { sector, len, unmap: true, fua: false };
                self.submit(req, dev, zero);
            }
            Op::WriteZeroes { sector, len, unmap, fua } => {
                self.submit(req, dev, DiskOp::WriteZeroes { sector, len, unmap, fua });
            }
        }
    }

    fn fetched(&mut self, req: ReqId, result: Result<(), Errno>, buf: BufMut) {
        match (self.writes.remove(&req), result) {
            (Some((dev, Op::Write { sector, fua, .. })), Ok(())) => {
                let data = Gather::from_elem(buf.freeze(), 1);
                self.submit(req, dev, DiskOp::Write { sector, data, fua });
            }
            (_, result) => self.effects.push(Effect::Complete { req, result }),
        }
    }

    fn done(&mut self, io: IoId, result: Result<(), Errno>, buf: Option<BufMut>) {
        let req = self.requests.remove(&io.nr).expect("every I/O has its request");
        if let (Some(buf), Ok(())) = (buf, result) {
            let data = Data::Bytes(buf.freeze());
            self.effects.push(Effect::Deliver { req, offset: Sectors(0), data });
        }
        self.effects.push(Effect::Complete { req, result });
    }

    fn submit(&mut self, req: ReqId, dev: DevNr, op: DiskOp) {
        self.next += 1;
        self.requests.insert(self.next, req);
        let io = IoId { owner: IoOwner(0), nr: self.next };
        self.effects.push(Effect::Submit { io, disk: DiskId(dev.0), op });
    }
}

/// By which a successor knows devices of this program.
const MARK: u64 = 0x6c6f_6f70;
