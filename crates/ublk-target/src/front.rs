//! All queues of an engine: requests come in by the ring, and go out by their names.
//!
//! A request's [`ReqId`] is a queue's place, a tag, and a number that no other
//! request of the engine has at the time. So an answer to a request whose device
//! is gone, or whose place another device has taken, finds nobody and is dropped.

use std::sync::mpsc::SyncSender;

use blk::{BufMut, Data, DevNr, Errno, Event, ReqId, Sectors};
use uring::{CommandTag, Ring};

use crate::channel::Channel;
use crate::engine::Attached;
use crate::inbox::QueueName;
use crate::listener::Listener;
use crate::queue::{Arrival, Queue};

/// The devices' side of an engine.
pub(crate) struct FrontEnd {
    places: Vec<Place>,
    /// Numbers requests.
    generation: u32,
    /// Queues whose FETCHes are on their way, and who waits for them.
    attaching: Vec<(QueueName, SyncSender<Attached>)>,
    detaching: Vec<(QueueName, SyncSender<()>)>,
    listener: Listener,
    zeroes: BufMut,
}

/// Where a queue can be; counts how many there have been.
#[derive(Default)]
struct Place {
    queue: Option<Queue>,
    epoch: u16,
}

impl FrontEnd {
    /// No device yet; `listener` hears of each that goes.
    pub(crate) fn new(listener: Listener) -> Self {
        Self {
            places: Vec::new(),
            generation: 0,
            attaching: Vec::new(),
            detaching: Vec::new(),
            listener,
            zeroes: BufMut::zeroed(ZEROES_BYTES),
        }
    }

    /// Begins to serve a device; `reply` hears of it at the next [`FrontEnd::settle`].
    pub(crate) fn attach(
        &mut self,
        ring: &mut Ring,
        channel: Channel,
        dev: DevNr,
        reply: SyncSender<Attached>,
    ) {
        let at = self.places.iter().position(|place| place.queue.is_none());
        let at = at.unwrap_or_else(|| {
            self.places.push(Place::default());
            self.places.len() - 1
        });
        let source = u16::try_from(at).expect("there are fewer than 65535 devices");
        let place = &mut self.places[at];
        place.epoch = place.epoch.wrapping_add(1);
        let name = QueueName { source, epoch: place.epoch };
        place.queue.insert(Queue::new(channel, dev, name.source, name.epoch)).fetch_all(ring);
        self.attaching.push((name, reply));
    }

    /// Lets go of a device, as soon as the driver has let go of its tags.
    pub(crate) fn detach(&mut self, name: QueueName, reply: SyncSender<()>) {
        if let Some(queue) = self.named(name) {
            queue.stop();
        }
        self.detaching.push((name, reply));
        self.release();
    }

    /// Whether somebody waits for an answer that the next turn can give.
    pub(crate) fn is_settling(&self) -> bool {
        !self.attaching.is_empty()
    }

    /// Tells those who attach how it went: what is refused at all is refused at
    /// once, and its completion has been taken by now.
    pub(crate) fn settle(&mut self) {
        for (name, reply) in std::mem::take(&mut self.attaching) {
            let failure = match self.named(name) {
                Some(queue) => queue.failure(),
                None => Some(Errno::ENODEV),
            };
            if let (Some(_), Some(queue)) = (failure, self.named(name)) {
                queue.stop();
            }
            let _ = reply.send(failure.map_or(Ok(name), Err));
            self.release();
        }
    }

    /// A command of some queue has ended; the request that it brings, if it does.
    pub(crate) fn completed(
        &mut self,
        ring: &mut Ring,
        tag: CommandTag,
        result: i32,
    ) -> Option<Event> {
        let name = QueueName { source: tag.source, epoch: tag.epoch };
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        let queue = self.named(name).expect("a queue outlives its commands");
        let arrival = queue.completed(ring, tag.index, result, generation);
        let dev = queue.dev();
        match arrival {
            Arrival::Request(op) => {
                let req = RequestName { source: tag.source, tag: tag.index, generation }.into();
                Some(Event::Request { req, dev, op })
            }
            Arrival::Nothing => {
                self.release();
                None
            }
        }
    }

    /// Copies a write's payload into `buf`; `ENODEV` if its device is gone.
    pub(crate) fn fetch(&mut self, req: ReqId, buf: &mut BufMut) -> Result<(), Errno> {
        let (queue, tag, _) = self.serving(req).ok_or(Errno::ENODEV)?;
        queue.fetch(tag, buf)
    }

    /// Copies to a read; nothing if its device is gone.
    pub(crate) fn deliver(&mut self, req: ReqId, offset: Sectors, data: &Data) {
        if let Some((queue, tag, zeroes)) = self.serving(req) {
            queue.deliver(tag, offset, data, zeroes);
        }
    }

    /// Answers a request; nothing if its device is gone.
    pub(crate) fn complete(&mut self, ring: &mut Ring, req: ReqId, result: Result<(), Errno>) {
        if let Some((queue, tag, _)) = self.serving(req) {
            queue.complete(ring, tag, result);
        }
    }

    fn serving(&mut self, req: ReqId) -> Option<(&mut Queue, u16, &[u8])> {
        let RequestName { source, tag, generation } = req.into();
        let queue = self.places.get_mut(usize::from(source))?.queue.as_mut()?;
        queue.serves(tag, generation).then_some((queue, tag, &*self.zeroes))
    }

    fn named(&mut self, name: QueueName) -> Option<&mut Queue> {
        let queue = self.places.get_mut(usize::from(name.source))?.queue.as_mut()?;
        (queue.epoch() == name.epoch).then_some(queue)
    }

    /// Closes what the driver has let go of: it waits for that before a device is
    /// deleted, whoever stopped it.
    fn release(&mut self) {
        for place in &mut self.places {
            if let Some(gone) = place.queue.take_if(|queue| queue.is_released()) {
                let name = QueueName { source: gone.source(), epoch: gone.epoch() };
                // Closed before anybody hears of it: the driver deletes it only then.
                drop(gone);
                self.listener.tell(name);
            }
        }
        for (name, reply) in std::mem::take(&mut self.detaching) {
            if self.named(name).is_some() {
                self.detaching.push((name, reply));
            } else {
                let _ = reply.send(());
            }
        }
    }
}

/// A [`ReqId`] taken apart: `source` in bits 48-63, `tag` in 32-47, `generation` below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RequestName {
    source: u16,
    tag: u16,
    generation: u32,
}

impl From<RequestName> for ReqId {
    fn from(name: RequestName) -> Self {
        let RequestName { source, tag, generation } = name;
        Self((u64::from(source) << 48) | (u64::from(tag) << 32) | u64::from(generation))
    }
}

impl From<ReqId> for RequestName {
    fn from(ReqId(bits): ReqId) -> Self {
        Self { source: (bits >> 48) as u16, tag: (bits >> 32) as u16, generation: bits as u32 }
    }
}

/// Zeroes are delivered in parts of this size.
const ZEROES_BYTES: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_found_by_its_name_again() {
        for (source, tag, generation) in [(0, 0, 0), (u16::MAX, 0, 1), (1, 4095, u32::MAX)] {
            let name = RequestName { source, tag, generation };
            assert_eq!(RequestName::from(ReqId::from(name)), name);
        }
    }

    #[test]
    fn an_answer_to_a_request_whose_device_is_gone_finds_nobody() {
        let mut front = FrontEnd::new(Listener::default());
        let req = ReqId::from(RequestName { source: 3, tag: 7, generation: 9 });
        assert_eq!(front.fetch(req, &mut BufMut::zeroed(512)), Err(Errno::ENODEV));
        front.deliver(req, Sectors(0), &Data::Zeroes(Sectors(1)));
    }
}
