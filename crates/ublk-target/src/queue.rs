//! The data plane of one device: FETCH, serve, COMMIT, for each tag on its own.
//!
//! ```text
//!            FETCH                 request              answer
//! Away ─────────────▶ Parked ─────────────▶ Serving ─────────────▶ Parked (COMMIT_AND_FETCH)
//!                       │ -ENODEV: the device stops
//!                       ▼
//!                     Away
//! ```
//!
//! A tag that is `Parked` belongs to the driver: the queue can be let go of only
//! when none is. `/dev/ublkcN` is used by its plain descriptor: as a registered
//! file of a ring that other devices keep busy, it could not be released, and the
//! device not be deleted, before the others are.
#![allow(unsafe_code, reason = "commands are put into the ring")]

use blk::{BufMut, Data, DevNr, Errno, Op, Sectors};
use io_uring::opcode::UringCmd16;
use io_uring::squeue;
use io_uring::types::Fd;
use libublk::sys;
use uring::{CommandTag, Ring};

use crate::channel::{Channel, QUEUE};
use crate::request;

/// One device's queue on an engine.
pub(crate) struct Queue {
    channel: Channel,
    dev: DevNr,
    /// Names this queue in completions of the ring.
    source: u16,
    epoch: u16,
    tags: Vec<Tag>,
    parked: u16,
    /// The first answer that was neither a request nor the end.
    failure: Option<Errno>,
    /// The device stops: the driver gives its tags back.
    stopping: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tag {
    /// Neither here nor there: not fetched yet, or given back for good.
    Away,
    /// With the driver.
    Parked,
    /// With the machine.
    Serving { generation: u32, op: Op, failed: Option<Errno> },
}

/// What a completed command means to the engine.
pub(crate) enum Arrival {
    /// A request for the machine.
    Request(Op),
    /// Nothing that the machine has to know.
    Nothing,
}

impl Queue {
    pub(crate) fn new(channel: Channel, dev: DevNr, source: u16, epoch: u16) -> Self {
        let tags = vec![Tag::Away; usize::from(channel.depth())];
        Self { channel, dev, source, epoch, tags, parked: 0, failure: None, stopping: false }
    }

    pub(crate) fn dev(&self) -> DevNr {
        self.dev
    }

    pub(crate) fn source(&self) -> u16 {
        self.source
    }

    pub(crate) fn epoch(&self) -> u16 {
        self.epoch
    }

    /// The first thing that went wrong with a command, if any.
    pub(crate) fn failure(&self) -> Option<Errno> {
        self.failure
    }

    /// Whether the driver has given every tag back, for good: the channel can go.
    pub(crate) fn is_released(&self) -> bool {
        self.stopping && self.parked == 0
    }

    /// No request will come any more, or none that counts.
    pub(crate) fn stop(&mut self) {
        self.stopping = true;
    }

    /// Offers every tag to the driver.
    pub(crate) fn fetch_all(&mut self, ring: &mut Ring) {
        for tag in 0..self.channel.depth() {
            self.park(ring, tag, sys::UBLK_U_IO_FETCH_REQ, 0);
        }
    }

    /// A command for `tag` has ended with `result`; `generation` names the request
    /// that it may bring.
    pub(crate) fn completed(
        &mut self,
        ring: &mut Ring,
        tag: u16,
        result: i32,
        generation: u32,
    ) -> Arrival {
        let state = &mut self.tags[usize::from(tag)];
        assert_eq!(*state, Tag::Parked, "tag {tag} came back without having been parked");
        *state = Tag::Away;
        self.parked -= 1;
        match result {
            RESULT_OK => self.arrived(ring, tag, generation),
            sys::UBLK_IO_RES_ABORT => {
                self.stopping = true;
                Arrival::Nothing
            }
            result => {
                self.failed(Errno(-result));
                Arrival::Nothing
            }
        }
    }

    /// Whether `tag` still serves the request of that `generation`.
    pub(crate) fn serves(&self, tag: u16, generation: u32) -> bool {
        matches!(self.tags.get(usize::from(tag)),
            Some(Tag::Serving { generation: found, .. }) if *found == generation)
    }

    /// Copies the payload of a write into `buf`.
    pub(crate) fn fetch(&self, tag: u16, buf: &mut BufMut) -> Result<(), Errno> {
        self.channel.fetch(tag, buf)
    }

    /// Copies `data` to a read. A failure fails the request when it completes.
    pub(crate) fn deliver(&mut self, tag: u16, offset: Sectors, data: &Data, zeroes: &[u8]) {
        let result = match data {
            Data::Bytes(bytes) => self.channel.deliver(tag, offset, bytes),
            Data::Zeroes(len) => self.deliver_zeroes(tag, offset, *len, zeroes),
        };
        if let (Err(errno), Tag::Serving { failed, .. }) =
            (result, &mut self.tags[usize::from(tag)])
        {
            *failed = Some(errno);
        }
    }

    /// Answers a request, and offers its tag to the driver again.
    pub(crate) fn complete(&mut self, ring: &mut Ring, tag: u16, result: Result<(), Errno>) {
        let Tag::Serving { op, failed, .. } = self.tags[usize::from(tag)] else {
            panic!("tag {tag} was completed without a request")
        };
        let result = failed.map_or(result, Err);
        let answer = request::answer(&op, result);
        self.park(ring, tag, sys::UBLK_U_IO_COMMIT_AND_FETCH_REQ, answer);
    }

    fn arrived(&mut self, ring: &mut Ring, tag: u16, generation: u32) -> Arrival {
        match request::decode(&self.channel.descriptor(tag)) {
            Ok(op) => {
                self.tags[usize::from(tag)] = Tag::Serving { generation, op, failed: None };
                Arrival::Request(op)
            }
            Err(errno) => {
                log::warn!("device {}: a request of unknown kind was refused", self.dev);
                self.park(ring, tag, sys::UBLK_U_IO_COMMIT_AND_FETCH_REQ, -errno.0);
                Arrival::Nothing
            }
        }
    }

    fn failed(&mut self, errno: Errno) {
        log::error!("device {}: the ublk driver refused a command: {errno}", self.dev);
        self.failure.get_or_insert(errno);
    }

    fn deliver_zeroes(
        &self,
        tag: u16,
        offset: Sectors,
        len: Sectors,
        zeroes: &[u8],
    ) -> Result<(), Errno> {
        let mut done = 0;
        while done < len.len() {
            let part = (len.len() - done).min(zeroes.len());
            let at = offset + Sectors::from_bytes(done as u64);
            self.channel.deliver(tag, at, &zeroes[..part])?;
            done += part;
        }
        Ok(())
    }

    /// Hands a tag to the driver.
    fn park(&mut self, ring: &mut Ring, tag: u16, opcode: u32, result: i32) {
        let name = CommandTag { epoch: self.epoch, source: self.source, index: tag };
        let entry = self.entry(tag, opcode, result);
        // SAFETY: the entry carries numbers only; with user copy it points to no memory.
        unsafe { ring.command(name, entry) };
        self.tags[usize::from(tag)] = Tag::Parked;
        self.parked += 1;
    }

    fn entry(&self, tag: u16, opcode: u32, result: i32) -> squeue::Entry {
        let mut bytes = [0_u8; size_of::<sys::ublksrv_io_cmd>()];
        // struct ublksrv_io_cmd: queue, tag, result, and an address that has to be 0.
        bytes[0..2].copy_from_slice(&QUEUE.to_ne_bytes());
        bytes[2..4].copy_from_slice(&tag.to_ne_bytes());
        bytes[4..8].copy_from_slice(&result.to_ne_bytes());
        UringCmd16::new(Fd(self.channel.fd()), opcode).cmd(bytes).build()
    }
}

const RESULT_OK: i32 = sys::UBLK_IO_RES_OK as i32;
