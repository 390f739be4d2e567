//! One scan of the ring, for recovery, check, dump and whoever follows a log.
//!
//! The scanner is fed with bytes and does no I/O. It starts at the head that a
//! checkpoint names and walks from group to group; a group counts only if
//! everything about it agrees (I1). Where the first one does not, either the log
//! ends (a torn tail), or something says that this group was durable: then the log
//! is damaged there, and that is never silently cut (I12, P11).
//!
//! ```text
//!  step ──▶ Read ──▶ (caller reads) ──▶ feed ──▶ step ──▶ Group … Group ──▶ End or Damage
//! ```
//!
//! Every byte is asked for once, in the order of the ring, and never more than one
//! lap. What is kept in memory is one group and the reads on their way.

mod rules;
mod verdict;
mod window;

use std::collections::BTreeMap;

use blk::{BLOCK_BYTES, Seq, SlinkNr};

pub use rules::Fault;
pub use verdict::{Damage, Proof};

use crate::format::group::{Cursor, GroupHeader};
use crate::format::superblock::{Anchor, Superblock};
use crate::geometry::{Geometry, RingPos};
use rules::Rules;
use verdict::{Suspect, Verdict};
use window::Window;

/// A scan in progress.
#[derive(Debug)]
pub struct Scanner {
    rules: Rules,
    window: Window,
    phase: Phase,
    /// The end of the last group that counted.
    before: Anchor,
    /// The group handed out last: still in the window, for [`Scanner::bytes`].
    handed: usize,
    cursors: BTreeMap<SlinkNr, Seq>,
    durable: Seq,
}

/// What the caller is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Read `len` bytes at `pos` and feed them: contiguous on the device, whole
    /// blocks, at most [`CHUNK_BYTES`].
    Read {
        /// Where.
        pos: RingPos,
        /// How much.
        len: u64,
    },
    /// Nothing before a read on its way has been fed.
    Wait,
    /// A group that counts; its bytes are [`Scanner::bytes`] until the next step.
    Group(ScannedGroup),
    /// The log ends here. Every further step says the same.
    End(Tip),
    /// The log goes on, but not readably. Every further step says the same.
    Damage(Box<Damage>),
}

/// A group whose header and payloads have been verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScannedGroup {
    /// Where it begins.
    pub pos: RingPos,
    /// What it says.
    pub header: GroupHeader,
    /// Its header checksum.
    pub crc: u32,
}

/// The end of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tip {
    /// Where the next group goes, and what it has to continue.
    pub anchor: Anchor,
    /// How far each site is known to be, from the headers: ascending by site.
    pub cursors: Vec<Cursor>,
    /// Every write up to here is known to have been durable, from checkpoint and headers.
    pub durable: Seq,
    /// Why it ends here.
    pub reason: EndReason,
}

/// Why a log ends where it ends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndReason {
    /// What comes next is no group of this log.
    #[error("{0}")]
    Tail(Fault),
    /// The next group would begin at the head.
    #[error("the ring is full")]
    Full,
}

#[derive(Debug)]
enum Phase {
    /// From group to group.
    Groups,
    /// From block to block behind a group that does not count, up to `end`.
    Search { suspect: Suspect, end: RingPos },
    /// Decided: `End` or `Damage`.
    Over(Step),
}

impl Scanner {
    /// A scan from the head of `sb`.
    ///
    /// # Panics
    /// If `geometry` has another ring than `sb`; the caller compares the two first.
    #[must_use]
    pub fn new(sb: &Superblock, geometry: Geometry) -> Self {
        let laid_out = (geometry.ring_bytes(), geometry.lap_base());
        assert_eq!((sb.ring_bytes, sb.lap_base), laid_out, "the ring is the superblock's");
        let rules = Rules::new(sb, geometry);
        Self {
            window: Window::new(sb.head.pos, rules.lap_end(), geometry),
            rules,
            phase: Phase::Groups,
            before: sb.head,
            handed: 0,
            cursors: BTreeMap::new(),
            durable: sb.durable,
        }
    }

    /// Allows `chunks` reads on their way at a time; 1 unless said.
    ///
    /// # Panics
    /// If it is none: nothing could ever be read.
    #[must_use]
    pub fn read_ahead(mut self, chunks: usize) -> Self {
        self.window.set_read_ahead(chunks);
        self
    }

    /// What is to be done next. To be called again after each answer, and after each feed.
    pub fn step(&mut self) -> Step {
        self.handed = 0;
        loop {
            let next = match &self.phase {
                Phase::Groups => self.next_group(),
                Phase::Search { suspect, end } => self.search(suspect, *end),
                Phase::Over(step) => return step.clone(),
            };
            match next {
                Next::Bytes => return self.window.read(),
                Next::Group(group) => return Step::Group(group),
                Next::Phase(phase) => self.phase = phase,
                Next::Block => self.window.advance_to(self.window.pos().plus(BLOCK)),
            }
        }
    }

    /// The bytes of a [`Step::Read`]. Reads may end in any order.
    ///
    /// # Panics
    /// If they were not asked for, or are fewer or more.
    pub fn feed(&mut self, pos: RingPos, bytes: &[u8]) {
        self.window.feed(pos, bytes);
    }

    /// The group of the last [`Step::Group`], header included; of a pad the header alone.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.window.bytes()[..self.handed]
    }

    fn next_group(&mut self) -> Next {
        let pos = self.before.pos;
        self.window.advance_to(pos);
        if pos == self.rules.lap_end() {
            return self.suspect(None);
        }
        let Some(block) = self.window.bytes().get(..BLOCK_BYTES) else {
            return Next::Bytes;
        };
        let (header, crc) = match self.rules.header(&self.before, block) {
            Ok(found) => found,
            Err(fault) => return self.suspect(Some(fault)),
        };
        let len = if header.is_pad() { BLOCK_BYTES } else { header.bytes as usize };
        let Some(group) = self.window.bytes().get(..len) else {
            return Next::Bytes;
        };
        if let Err(fault) = rules::check_payloads(&header, group) {
            return self.suspect(Some(fault));
        }
        self.handed = len;
        Next::Group(self.accept(ScannedGroup { pos, header, crc }))
    }

    fn accept(&mut self, group: ScannedGroup) -> ScannedGroup {
        self.before = group.end();
        self.durable = self.durable.max(group.header.durable);
        for cursor in &group.header.cursors {
            let covered = self.cursors.entry(cursor.slink).or_default();
            *covered = (*covered).max(cursor.covered);
        }
        group
    }

    /// The group at `before` does not count; without a fault there is no room for one.
    fn suspect(&self, fault: Option<Fault>) -> Next {
        let suspect = Suspect::new(self.before, fault, &self.rules);
        Next::Phase(match suspect.by_checkpoint(&self.rules) {
            Verdict::Damage(damage) => Phase::Over(Step::Damage(damage)),
            Verdict::Tail if suspect.is_full() => self.end(&suspect),
            Verdict::Tail => {
                let end = self.rules.search_end(suspect.pos());
                Phase::Search { suspect, end }
            }
        })
    }

    /// One block on the search for something that was written when the suspect was durable.
    fn search(&self, suspect: &Suspect, end: RingPos) -> Next {
        if self.window.pos() >= end {
            return Next::Phase(self.end(suspect));
        }
        let Some(block) = self.window.bytes().get(..BLOCK_BYTES) else {
            return Next::Bytes;
        };
        match suspect.by_block(&self.rules, self.window.pos(), block) {
            Verdict::Damage(damage) => Next::Phase(Phase::Over(Step::Damage(damage))),
            Verdict::Tail => Next::Block,
        }
    }

    fn end(&self, suspect: &Suspect) -> Phase {
        let cursor =
            |(slink, covered): (&SlinkNr, &Seq)| Cursor { slink: *slink, covered: *covered };
        Phase::Over(Step::End(Tip {
            anchor: self.before,
            cursors: self.cursors.iter().map(cursor).collect(),
            durable: self.durable,
            reason: suspect.end_reason(),
        }))
    }
}

impl ScannedGroup {
    /// The end of this group: what the next one continues.
    #[must_use]
    pub fn end(&self) -> Anchor {
        Anchor {
            pos: self.pos.plus(self.header.bytes.into()),
            group: self.header.nr,
            seq: self.header.next_seq().prev(),
            epoch: self.header.epoch,
            crc: self.crc,
        }
    }
}

/// What a look at the window leads to.
enum Next {
    Bytes,
    Group(ScannedGroup),
    Phase(Phase),
    Block,
}

/// The longest read that a scan asks for.
pub const CHUNK_BYTES: u64 = 1024 * 1024;

const BLOCK: u64 = BLOCK_BYTES as u64;
