//! The bytes under the scanner: what was read and not yet looked at, and what is on
//! its way. Positions only grow; what lies behind is dropped.

use std::collections::VecDeque;

use super::{CHUNK_BYTES, Step};
use crate::geometry::{Geometry, RingPos};

#[derive(Debug)]
pub(super) struct Window {
    geometry: Geometry,
    /// Nothing is read from here on: the head, one lap further.
    limit: RingPos,
    read_ahead: usize,
    /// Bytes that were read; those before `start` are dropped at the next feed.
    bytes: Vec<u8>,
    start: usize,
    /// Where `bytes[start]` lies.
    pos: RingPos,
    /// Reads on their way, in the order of the ring.
    asked: VecDeque<Asked>,
    /// Where the next read begins.
    next_read: RingPos,
}

#[derive(Debug)]
struct Asked {
    pos: RingPos,
    len: u64,
    /// Fed before an earlier read was.
    early: Option<Vec<u8>>,
}

impl Window {
    pub(super) fn new(pos: RingPos, limit: RingPos, geometry: Geometry) -> Self {
        Self {
            geometry,
            limit,
            read_ahead: 1,
            bytes: Vec::new(),
            start: 0,
            pos,
            asked: VecDeque::new(),
            next_read: pos,
        }
    }

    pub(super) fn set_read_ahead(&mut self, chunks: usize) {
        assert!(chunks > 0, "a scan without reads never ends");
        self.read_ahead = chunks;
    }

    /// Where [`Window::bytes`] begins.
    pub(super) fn pos(&self) -> RingPos {
        self.pos
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Drops what lies before `pos`, whether or not it has been read.
    pub(super) fn advance_to(&mut self, pos: RingPos) {
        let dropped = usize::try_from(pos.since(self.pos)).unwrap_or(usize::MAX);
        self.start = self.start.saturating_add(dropped).min(self.bytes.len());
        self.pos = pos;
        self.next_read = self.next_read.max(pos);
    }

    /// The next read, if there may be one more on its way.
    pub(super) fn read(&mut self) -> Step {
        if self.asked.len() >= self.read_ahead || self.next_read >= self.limit {
            assert!(!self.asked.is_empty(), "a scan asks for no byte beyond its lap");
            return Step::Wait;
        }
        let pos = self.next_read;
        let len = CHUNK_BYTES.min(self.geometry.to_lap_end(pos)).min(self.limit.since(pos));
        self.asked.push_back(Asked { pos, len, early: None });
        self.next_read = pos.plus(len);
        Step::Read { pos, len }
    }

    pub(super) fn feed(&mut self, pos: RingPos, bytes: &[u8]) {
        let asked = self.asked.iter().position(|asked| asked.pos == pos);
        let index = asked.unwrap_or_else(|| panic!("nobody asked for ring position {}", pos.0));
        assert_eq!(self.asked[index].len, bytes.len() as u64, "a read has the length asked for");
        if index > 0 {
            self.asked[index].early = Some(bytes.to_vec());
            return;
        }
        self.asked.pop_front();
        self.append(pos, bytes);
        while let Some(early) = self.asked.front_mut().and_then(|first| first.early.take()) {
            let Asked { pos, .. } = self.asked.pop_front().expect("it is in front");
            self.append(pos, &early);
        }
    }

    fn append(&mut self, pos: RingPos, bytes: &[u8]) {
        self.bytes.drain(..self.start);
        self.start = 0;
        // Before the window only what a skip has made useless.
        let useless = self.pos.0.saturating_sub(pos.0).min(bytes.len() as u64);
        let useful = &bytes[usize::try_from(useless).expect("at most a chunk")..];
        let end = self.pos.plus(self.bytes.len() as u64);
        assert!(useful.is_empty() || pos <= end, "the window has no gap");
        self.bytes.extend_from_slice(useful);
    }
}
