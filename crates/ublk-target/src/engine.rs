//! The drive: one thread, one ring, all devices of a group and all their disks.
//!
//! ```text
//!  ┌▶ submit, and wait for completions or the machine's wake-up
//!  │  all completions that are there ──▶ events ──▶ Machine::handle
//!  │  messages of other threads      ──▶ calls
//!  │  Machine::poll ──▶ effects, carried out in order, until it is quiet
//!  └──┘
//! ```
//!
//! No I/O ever waits for another thread. A panic here ends the process: a machine
//! that broke an invariant must not go on, and devices whose server is gone keep
//! their requests for the next one.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use blk::{DiskId, Effect, Event, Machine, NotOpened, ReqId, Span, Time};
use uring::{CommandTag, Disk, Reaped, Ring, RingError, RingSpec};

use crate::error::EngineError;
use crate::front::FrontEnd;
use crate::inbox::{Handle, Inbox, Message, QueueName, WAKE};
use crate::keeper::Keeper;
use crate::listener::Listener;
use crate::process;
use crate::reopen::{Opener, Openings};

/// A machine at work on a thread of its own, until [`Engine::stop`]: dropping this
/// ends nothing.
pub struct Engine<M> {
    handle: Handle<M>,
    thread: JoinHandle<M>,
}

/// What an engine begins with.
#[derive(Debug)]
pub struct EngineSpec {
    /// Name of its thread, for people who look at processes; 15 characters count.
    pub name: String,
    /// The disks that the machine's I/O names, by their numbers.
    pub disks: Vec<(DiskId, Disk)>,
    /// How large its ring is.
    pub ring: RingSpec,
    /// How a disk is opened that the machine wants to be opened again.
    pub opener: Opener,
    /// How something is kept that the machine wants its next life to know.
    pub keeper: Keeper,
    /// Who hears that a device was let go of.
    pub listener: Listener,
}

impl<M: Machine + Send + 'static> Engine<M> {
    /// Starts a thread that drives `machine` from now on: time begins at 0, and it
    /// is polled once before anything happens.
    ///
    /// # Errors
    /// If there is no io_uring, or no thread to be had.
    pub fn spawn(machine: M, spec: EngineSpec) -> Result<Self, EngineError> {
        let (inbox, handle) = Inbox::new().map_err(EngineError::Inbox)?;
        let (ready, began) = sync_channel(1);
        let name = spec.name.clone();
        let thread = std::thread::Builder::new()
            .name(name)
            .spawn({
                let handle = handle.clone();
                move || run(machine, inbox, handle, spec, &ready)
            })
            .map_err(EngineError::Thread)?;
        match began.recv() {
            Ok(Ok(())) => Ok(Self { handle, thread }),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(EngineError::Thread(io::Error::other("it ended before it began"))),
        }
    }

    /// A way to talk to it.
    #[must_use]
    pub fn handle(&self) -> &Handle<M> {
        &self.handle
    }

    /// Ends the thread, and gives the machine back. Backing I/O in flight is waited
    /// for, with a limit. A device that is still attached loses its server, and
    /// keeps its requests for the next one.
    #[must_use]
    pub fn stop(self) -> M {
        self.stop_within(STOP_LIMIT)
    }

    /// The same, and how long backing I/O in flight is waited for. What has not ended then keeps its
    /// disk busy for a successor (I14).
    #[must_use]
    pub fn stop_within(self, limit: Duration) -> M {
        // Gone already: then there is a machine to be had.
        let _ = self.handle.stop(limit);
        self.thread.join().expect("a panic of the engine ends the process")
    }
}

/// What became of an attached queue: its name, or why it cannot be served.
pub(crate) type Attached = Result<QueueName, blk::Errno>;

fn run<M: Machine + 'static>(
    machine: M,
    inbox: Inbox<M>,
    handle: Handle<M>,
    spec: EngineSpec,
    ready: &SyncSender<Result<(), RingError>>,
) -> M {
    let _guard = EndProcessOnPanic;
    if let Err(error) = process::become_io_flusher() {
        log::warn!("the engine may be asked to free memory through its own devices: {error}");
    }
    // On this thread: a ring belongs to the one that makes it.
    let ring = match Ring::new(spec.ring) {
        Ok(ring) => ring,
        Err(error) => {
            let _ = ready.send(Err(error));
            return machine;
        }
    };
    let openings = Openings::new(spec.opener, handle.clone());
    let keeping = (spec.keeper, handle);
    let front = FrontEnd::new(spec.listener);
    let mut drive = Drive::new(machine, inbox, (ring, front), spec.disks, openings, keeping);
    let _ = ready.send(Ok(()));
    drive.run();
    drive.machine
}

struct Drive<M> {
    machine: M,
    ring: Ring,
    front: FrontEnd,
    inbox: Inbox<M>,
    openings: Openings<M>,
    keeping: (Keeper, Handle<M>),
    began: Instant,
    now: Time,
    /// It stops, and backing I/O in flight has so long to end.
    stopping: Option<Duration>,
    // Emptied in every turn; kept for their memory.
    reaped: Vec<Reaped>,
    effects: Vec<Effect>,
}

impl<M: Machine + 'static> Drive<M> {
    fn new(
        machine: M,
        inbox: Inbox<M>,
        (mut ring, front): (Ring, FrontEnd),
        disks: Vec<(DiskId, Disk)>,
        openings: Openings<M>,
        keeping: (Keeper, Handle<M>),
    ) -> Self {
        for (id, disk) in disks {
            ring.add_disk(id, Arc::new(disk));
        }
        inbox.arm(&mut ring);
        Self {
            machine,
            ring,
            front,
            inbox,
            openings,
            keeping,
            began: Instant::now(),
            now: Time::default(),
            stopping: None,
            reaped: Vec::new(),
            effects: Vec::new(),
        }
    }

    fn run(&mut self) {
        self.act();
        let limit = loop {
            match self.stopping {
                Some(limit) => break limit,
                None => self.turn(self.timeout()),
            }
        };
        let stopped = Instant::now();
        while self.ring.in_flight() > 0 && stopped.elapsed() < limit {
            self.turn(Some(STOP_POLL));
        }
    }

    fn turn(&mut self, timeout: Option<Span>) {
        self.ring.submit_and_wait(timeout).expect("a ring that was set up can be entered");
        self.now = Time(u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX));
        let woken = self.take_completions();
        self.front.settle();
        if woken {
            self.take_messages();
        }
        self.act();
    }

    /// How long the machine can wait; not at all while somebody waits to be attached.
    fn timeout(&self) -> Option<Span> {
        if self.front.is_settling() {
            return Some(Span::ZERO);
        }
        self.machine.wakeup().map(|at| at.since(self.now))
    }

    /// Hands everything in that has ended; whether the inbox has something.
    fn take_completions(&mut self) -> bool {
        let mut woken = false;
        let mut reaped = std::mem::take(&mut self.reaped);
        self.ring.reap(&mut reaped);
        for ended in reaped.drain(..) {
            match ended {
                Reaped::Done(event) => self.machine.handle(self.now, event),
                Reaped::Command { tag: WAKE, .. } => woken = true,
                Reaped::Command { tag, result } => self.command_ended(tag, result),
            }
        }
        self.reaped = reaped;
        woken
    }

    fn command_ended(&mut self, tag: CommandTag, result: i32) {
        if let Some(request) = self.front.completed(&mut self.ring, tag, result) {
            self.machine.handle(self.now, request);
        }
    }

    fn take_messages(&mut self) {
        self.inbox.clear();
        while let Some(message) = self.inbox.take() {
            self.obey(message);
        }
        self.inbox.arm(&mut self.ring);
    }

    fn obey(&mut self, message: Message<M>) {
        match message {
            Message::Call(work) => work(&mut self.machine, self.now),
            Message::AddDisk { id, disk } => self.ring.add_disk(id, disk),
            Message::RemoveDisk { id, reply } => {
                let _ = reply.send(self.ring.remove_disk(id));
            }
            Message::Attach { channel, dev, reply } => {
                self.front.attach(&mut self.ring, channel, dev, reply);
            }
            Message::Detach { queue, reply } => self.front.detach(queue, reply),
            Message::Opened { id, result } => self.opened(id, result),
            Message::Kept { result } => {
                self.machine.handle(self.now, Event::Kept { result });
            }
            Message::Stop(limit) => self.stopping = Some(limit),
        }
    }

    /// Carries effects out until the machine has no more for now.
    fn act(&mut self) {
        let mut effects = std::mem::take(&mut self.effects);
        loop {
            self.machine.poll(self.now, &mut effects);
            let mut answered = false;
            for effect in effects.drain(..) {
                answered |= self.carry_out(effect);
            }
            if !answered {
                break;
            }
        }
        self.effects = effects;
    }

    /// Whether the machine was answered at once, and so may have more to do.
    fn carry_out(&mut self, effect: Effect) -> bool {
        match effect {
            Effect::Submit { io, disk, op } => self.ring.submit(io, disk, op),
            Effect::Deliver { req, offset, data } => self.front.deliver(req, offset, &data),
            Effect::Complete { req, result } => self.front.complete(&mut self.ring, req, result),
            Effect::Fetch { req, buf } => {
                self.fetch(req, buf);
                return true;
            }
            Effect::Open { disk } => return self.open(disk),
            Effect::Close { disk } => {
                drop(self.ring.remove_disk(disk));
                self.openings.closed(disk);
            }
            Effect::Keep { bytes } => return self.keep(bytes),
        }
        false
    }

    /// Has a disk opened afresh; whether the machine was told at once that it can't be.
    fn open(&mut self, disk: DiskId) -> bool {
        // I/O in flight keeps what was open until it has ended, and so keeps it busy (I15).
        drop(self.ring.remove_disk(disk));
        let Err(refusal) = self.openings.begin(disk) else { return false };
        self.machine.handle(self.now, Event::Opened { disk, result: Err(refusal) });
        true
    }

    /// Has something kept; whether the machine was told at once that it can't be.
    fn keep(&mut self, bytes: Vec<u8>) -> bool {
        let (keeper, engine) = &self.keeping;
        let Err(errno) = keeper.begin(bytes, engine.clone()) else { return false };
        self.machine.handle(self.now, Event::Kept { result: Err(errno) });
        true
    }

    fn opened(&mut self, id: DiskId, result: Result<Disk, NotOpened>) {
        self.openings.ended(id);
        let result = result.map(|disk| {
            let seen = disk.facts().seen();
            self.ring.add_disk(id, Arc::new(disk));
            seen
        });
        self.machine.handle(self.now, Event::Opened { disk: id, result });
    }

    fn fetch(&mut self, req: ReqId, mut buf: blk::BufMut) {
        let result = self.front.fetch(req, &mut buf);
        self.machine.handle(self.now, Event::Fetched { req, result, buf });
    }
}

/// A thread that panics leaves its process running; a server of block devices
/// that has lost its engine must not: only when it is gone can another take over.
struct EndProcessOnPanic;

impl Drop for EndProcessOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            log::error!("the engine has failed; its devices wait for a new server");
            std::process::abort();
        }
    }
}

/// How long backing I/O may take to end when an engine stops.
const STOP_LIMIT: Duration = Duration::from_secs(5);
const STOP_POLL: Span = Span::from_millis(50);
