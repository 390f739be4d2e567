//! Decide, do, drive: the contract between what decides and what does.
//!
//! A driver hands in events as they come, in batches if it has them, and asks
//! once per batch for effects. It carries out *all* effects, in order. `Fetch`,
//! `Deliver` and `Complete` end at once; `Submit` ends later with `Event::Done`, `Open`
//! with `Event::Opened`, `Keep` with `Event::Kept`.
//!
//! ```text
//!            Event                    Effect
//!  front end ─────▶ ┌─────────────┐ ─────▶ Fetch, Deliver, Complete ─▶ front end
//!  disks     ─────▶ │   Machine   │ ─────▶ Submit, Open, Close ─▶ disks ─▶ Event::Done, Opened
//!  clock     ─────▶ └─────────────┘ ─────▶ wakeup()
//! ```

#![allow(
    missing_docs,
    reason = "every variant is documented; its fields say the rest by name and type"
)]

use crate::buf::{Buf, BufMut};
use crate::io::{DiskId, DiskOp, DiskSeen, Errno, IoId, NotOpened, Op, ReqId};
use crate::time::Time;
use crate::units::{DevNr, Sectors};

/// Something that happened outside.
#[derive(Debug)]
pub enum Event {
    /// The front end has a request. Its payload, if any, stays where it is until `Fetch`.
    Request { req: ReqId, dev: DevNr, op: Op },
    /// The payload asked for by `Fetch` is in the buffer, or could not be had. The
    /// buffer comes back, whatever the result: its place in a group is taken.
    Fetched { req: ReqId, result: Result<(), Errno>, buf: BufMut },
    /// A submitted I/O has ended. A read's buffer comes back, whatever the result.
    Done { io: IoId, result: Result<(), Errno>, buf: Option<BufMut> },
    /// A disk that `Open` asked for is open under its number, or could not be opened.
    Opened { disk: DiskId, result: Result<DiskSeen, NotOpened> },
    /// What `Keep` was given is kept, or could not be.
    Kept { result: Result<(), Errno> },
}

/// Something to be done outside.
#[derive(Debug)]
pub enum Effect {
    /// Copy the payload of a write request into `buf`, once (P16), and answer with
    /// `Event::Fetched` before anything else that is handed in.
    Fetch { req: ReqId, buf: BufMut },
    /// Copy bytes out to a read request, `offset` sectors behind its start.
    Deliver { req: ReqId, offset: Sectors, data: Data },
    /// The request has ended. Nothing more is said about it.
    Complete { req: ReqId, result: Result<(), Errno> },
    /// Do this on a backing device, and answer with `Event::Done`.
    Submit { io: IoId, disk: DiskId, op: DiskOp },
    /// Open the disk with this number afresh, exclusively, and answer with
    /// `Event::Opened`: once, and however long it takes without holding anything else
    /// up. What was open under the number is let go of: operations in flight on it
    /// still end as they may, new ones fail until the answer has come.
    Open { disk: DiskId },
    /// Let go of the disk with this number: nothing of it is in flight that the machine waits
    /// for, and nothing more is asked of it. There is no answer.
    Close { disk: DiskId },
    /// Keep this on the host, in the place of what was kept there before, so that whoever opens
    /// the machine again gets it, after a loss of power too; and answer with `Event::Kept`.
    /// A crash before that leaves one or the other, whole. One at a time.
    Keep { bytes: Vec<u8> },
}

/// What a read request gets.
#[derive(Debug)]
pub enum Data {
    /// These bytes.
    Bytes(Buf),
    /// That many sectors of zeroes.
    Zeroes(Sectors),
}

/// A state machine that decides: no file, thread, clock or random number of its own.
pub trait Machine {
    /// Takes one event in. Effects come out of [`Machine::poll`].
    fn handle(&mut self, now: Time, event: Event);

    /// Appends everything that is to be done by now. To be called after each batch
    /// of events and when [`Machine::wakeup`]'s time has come; again, until it
    /// appends nothing, when effects were answered at once (`Fetched`).
    fn poll(&mut self, now: Time, effects: &mut Vec<Effect>);

    /// When `poll` must be called even if nothing happens; `None`: not before the
    /// next event. Ask again after each `poll`.
    #[must_use]
    fn wakeup(&self) -> Option<Time>;
}
