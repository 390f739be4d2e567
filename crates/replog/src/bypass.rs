//! The devices go on without their log (P8).
//!
//! ```text
//!           a failure, a deadline        the LD has everything      the record stands
//!  at work ──────────────────────▶ taking over ───────────▶ sealing ───────────────▶ bypassed
//!                                  held: no write is taken, none is acknowledged
//! ```
//!
//! *Taking over*: what the LD lacks is in memory, and goes there; before anything does that the
//! log may have lost, each remote site is marked for it, durably. So whoever opens the log again
//! (it may come back) finds the LD no further than the sites know. *Sealing*: a record on the
//! host says that the log is never to be replayed. Only then is anything acknowledged that the
//! log lacks, and the LD stands in for it: a group is written when the LD has it in its cache,
//! durable when that was flushed. Each remote site is marked before the LD gets it.
//!
//! What the superblock would say, the record says instead (`format::kept`): how sites and legs
//! stand. What is only in the ring, or could be read from another site only, is waited for: then
//! everything is *held*, until the log is back and another life begins with it.

use blk::{BLOCK_BYTES, DevNr, Effect, Errno, Sector, Sectors, Seq, SlinkNr, Span, Time};
use uuid::Uuid;

use crate::event::LogEvent;
use crate::format::group::EntryOp;
use crate::format::kept::Kept;
use crate::format::superblock::Superblock;
use crate::index::{Group, Write};
use crate::log::Replog;
use crate::overlay::Cuts;

/// How far the devices are without their log.
#[derive(Debug, Default)]
pub(crate) struct Bypass {
    stage: Stage,
    /// Memory has all that shows: the LD can get everything it lacks.
    has_all: bool,
    /// What the record in flight says.
    keeping: Option<Superblock>,
    /// It could not be kept; it is tried again then.
    failed: Option<(Errno, Time)>,
    /// Logs that others took the place of.
    retired: Vec<Uuid>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// The log is at work.
    #[default]
    No,
    /// The LD gets what it lacks.
    TakingOver,
    /// It has everything; the record is to say so.
    Sealing,
    /// The LD stands in for the log.
    Bypassed,
}

/// Why nothing goes on without the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Held {
    /// What the LD lacks is in the log only.
    #[error("only it has what the local disks lack: bring its device back and start again")]
    InLog,
    /// The LD is not what is read.
    #[error("the local disks, which would stand in for it, can't be used")]
    NoBase,
    /// The record can't be kept.
    #[error("that it is not to be replayed can't be kept on this host ({0}); it is tried again")]
    NotKept(Errno),
}

impl Replog {
    // ---- for everybody

    /// Whether nothing is asked of the log device any more.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.bypass.stage != Stage::No
    }

    /// Whether the LD stands in for it.
    #[must_use]
    pub fn is_bypassed(&self) -> bool {
        self.bypass.stage == Stage::Bypassed
    }

    /// Whether every write has to wait: until the LD stands in for the log, or a new one does.
    pub(crate) fn takes_nothing(&self) -> bool {
        (self.is_lost() && !self.is_bypassed()) || self.holds_for_new_log()
    }

    /// Why the devices wait although the LD could stand in for the log, if they do.
    #[must_use]
    pub fn held(&self) -> Option<Held> {
        match () {
            () if !self.is_lost() => None,
            () if !self.reads_locally() => Some(Held::NoBase),
            () if !self.bypass.has_all => Some(Held::InLog),
            () => self.bypass.failed.map(|(errno, _)| Held::NotKept(errno)),
        }
    }

    /// Whether a site may be fed: without the log only the LD, with what memory has.
    #[must_use]
    pub fn may_feed(&self, slink: SlinkNr) -> bool {
        !self.is_lost() || (slink.is_local() && self.may_take_over())
    }

    /// Whether the LD can stand in for the log.
    #[must_use]
    pub fn may_take_over(&self) -> bool {
        self.is_lost() && self.bypass.has_all && self.reads_locally()
    }

    /// How far changes may be acknowledged that need not be durable: while nothing stands in for
    /// a lost log, only what it has for sure. A `sync` local site may have more by then; but
    /// whoever opens the log again would replay what is older over that, or show it (P1).
    #[must_use]
    pub fn acknowledged_upto(&self) -> Seq {
        if self.is_lost() && !self.is_bypassed() { self.durable } else { self.written }
    }

    /// What a detached site is to have marked: with the log what is durable there, without it
    /// what the LD is about to get.
    #[must_use]
    pub fn marked_upto(&self) -> Seq {
        match self.bypass.stage {
            Stage::No => self.durable,
            Stage::TakingOver | Stage::Sealing => self.written,
            Stage::Bypassed => self.index.next_seq().prev(),
        }
    }

    /// What sites may be given (I3): what is durable in the log; the LD, when it is to stand in
    /// for that, what every other site has or is marked for.
    #[must_use]
    pub fn ships_upto(&self) -> Seq {
        let others = self.consumers.iter().filter(|it| !it.slink.is_local());
        let marked = others.map(|it| it.covered).min();
        let limit = self.marked_upto();
        self.durable.max(marked.map_or(limit, |marked| marked.min(limit)))
    }

    /// How far everything is without the log: while that changes, somebody may have more to do.
    #[must_use]
    pub fn steps_without_log(&self) -> Option<([bool; 2], [Seq; 4])> {
        let steps = [self.marked_upto(), self.ships_upto(), self.written, self.durable];
        self.is_lost().then(|| ([self.is_bypassed(), self.holds_for_new_log()], steps))
    }

    /// Whether the LD, which stands in for the log and has everything up to `upto` in its cache,
    /// is to be flushed for somebody who waits.
    #[must_use]
    pub fn wants_local_flush(&self, upto: Seq) -> bool {
        match self.bypass.stage {
            Stage::No => false,
            Stage::TakingOver | Stage::Sealing => upto >= self.ships_upto(),
            Stage::Bypassed => {
                let wanted = self.checkpointing.wanted();
                let ends = self.checkpointing.is_closing() || self.holds_for_new_log();
                (ends && upto >= self.written) || (wanted > self.durable && upto >= wanted)
            }
        }
    }

    /// Whether that is this log, or one that it took the place of.
    #[must_use]
    pub fn is_or_replaced(&self, log: Uuid) -> bool {
        log == self.superblock.uuid || self.bypass.retired.contains(&log)
    }

    // ---- the way there

    /// The log device failed: it is never asked for anything again in this life.
    pub(crate) fn lose(&mut self) {
        if let Some(generation) = self.checkpointing.forget() {
            // It may still arrive, or have arrived: what the record says is newer.
            self.superblock.generation = generation;
        }
        // Whether it may lie at one end of the ring or the other, all that it holds is found.
        self.forget_resize();
        self.forget_catching_up();
        self.bypass.stage = Stage::TakingOver;
        self.bypass.has_all = self.has_all_in_memory();
    }

    /// The devices ran without the log in an earlier life, and go on so.
    pub(crate) fn begin_bypassed(&mut self, retired: Vec<Uuid>) {
        self.bypass =
            Bypass { stage: Stage::Bypassed, has_all: true, retired, ..Bypass::default() };
        // What a dead daemon wrote may be in the LDs' caches only. So there is one write more, of
        // nothing: whoever needs all that was written to be durable needs a flush of them (I3).
        let seq = self.written.next();
        let group = Group {
            nr: self.tip.group + 1,
            pos: self.tip.pos,
            bytes: BLOCK_BYTES as u64,
            first_seq: seq,
            last_seq: seq,
            epoch: self.epoch(),
            crc: 0,
            durable: self.durable,
            sectors_before: 0,
            closed: Time::default(),
            memory: None,
        };
        let nothing = Write {
            dev: DevNr(0),
            op: EntryOp::Bookmark,
            sector: Sector(0),
            len: Sectors(0),
            payload: Sectors(0),
            crc: 0,
            group: group.nr,
            shown: Sectors(0),
        };
        self.tip = group.anchor();
        (self.written, self.written_end) = (seq, self.tip);
        self.index.push(group, [nothing]);
        self.hidden(&Cuts::default());
    }

    pub(crate) fn retired(&self) -> Vec<Uuid> {
        self.bypass.retired.clone()
    }

    /// These are never to be opened again.
    pub(crate) fn retire(&mut self, retired: Vec<Uuid>) {
        self.bypass.retired = retired;
    }

    /// Whether a record is in flight.
    pub(crate) fn is_keeping(&self) -> bool {
        self.bypass.keeping.is_some()
    }

    fn has_all_in_memory(&self) -> bool {
        let in_memory = |seq: Seq| {
            let write = self.index.write(seq).filter(|write| !write.shown.is_empty());
            write.is_none_or(|write| {
                let group = self.index.group(write.group);
                !write.has_payload() || group.is_some_and(|group| group.memory.is_some())
            })
        };
        (self.first_shown().0..=self.written.0).map(Seq).all(in_memory)
    }

    pub(crate) fn go_on_without_log(&mut self, now: Time, effects: &mut Vec<Effect>) {
        // An LD that was lost before is marked for everything as well, but has not got it.
        let has_everything = self.may_take_over() && self.consumers.head() >= self.written;
        if self.bypass.stage == Stage::TakingOver && has_everything {
            self.bypass.stage = Stage::Sealing;
        }
        if self.is_bypassed() {
            while self.end_group() {
                self.launch(now, effects);
            }
            self.launch(now, effects);
        }
        self.poll_replacing(now, effects);
        if self.is_lost() && !self.is_in_new_log() {
            self.keep_if_due(now, effects);
        }
    }

    /// From now on the LD stands in for the log. What was on its way there goes first.
    fn bypass(&mut self) {
        self.events.push(LogEvent::Bypassed);
        self.bypass.stage = Stage::Bypassed;
        self.durable = self.written;
        self.show_launched();
    }

    // ---- groups

    /// The group on its way goes to the LD: by what the overlay shows.
    pub(crate) fn show_launched(&mut self) {
        for seq in self.launched_seqs() {
            self.show(seq);
        }
    }

    fn launched_seqs(&self) -> impl Iterator<Item = Seq> + use<> {
        let group = self.launched.as_ref().and_then(|it| self.index.group(it.end.group));
        let seqs = group.map(|group| group.first_seq.0..=group.last_seq.0);
        seqs.into_iter().flatten().map(Seq)
    }

    /// The LD has what shows no more. Whether that was a whole group.
    fn end_group(&mut self) -> bool {
        if self.launched_seqs().any(|seq| self.is_shown(seq)) {
            return false;
        }
        let Some(launched) = self.launched.take() else { return false };
        self.consumers.arrived();
        (self.written, self.written_end) = (launched.last_seq, launched.end);
        self.hidden(&Cuts::default());
        true
    }

    /// What the overlay shows was found anew.
    pub(crate) fn shown_again(&mut self) {
        if self.is_bypassed() {
            self.show_launched();
        }
        if self.is_lost() {
            self.bypass.has_all = self.has_all_in_memory();
        }
    }

    /// A site has something on its media: if it is the LD, that is what durable means.
    pub(crate) fn covered_without_log(&mut self, slink: SlinkNr, seq: Seq) {
        if self.is_bypassed() && slink.is_local() {
            self.durable = self.durable.max(seq);
        }
        self.starved &= !self.is_lost();
    }

    // ---- the record

    fn keep_if_due(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let waits = self.bypass.failed.is_some_and(|(_, at)| now < at);
        if self.bypass.keeping.is_some() || waits || !self.has_to_keep() {
            return;
        }
        let superblock = self.kept_superblock();
        self.members.launched();
        self.counters.checkpoints += 1;
        let retired = self.bypass.retired.clone();
        self.bypass.keeping = Some(superblock.clone());
        effects.push(Effect::Keep { bytes: Kept { superblock, retired }.encode() });
    }

    fn has_to_keep(&self) -> bool {
        let seals = self.bypass.stage == Stage::Sealing && self.superblock.bypassed_since.is_none();
        seals || !self.members.are_durable(self.members.version())
    }

    /// What the record says. While the log may still be opened again, nothing about the ring
    /// that it does not hold for sure.
    fn kept_superblock(&self) -> Superblock {
        let mut next = self.next_superblock();
        match self.bypass.stage {
            Stage::No | Stage::TakingOver => next.head = self.superblock.head,
            Stage::Sealing => next.durable = self.written,
            Stage::Bypassed => {}
        }
        if matches!(self.bypass.stage, Stage::Sealing | Stage::Bypassed) {
            next.bypassed_since = Some(next.epoch);
        }
        for site in &mut next.sites {
            site.covered = site.covered.min(next.durable);
        }
        next
    }

    /// The record is kept, or could not be.
    pub fn kept(&mut self, now: Time, result: Result<(), Errno>) {
        if self.kept_retirement(now + KEEP_AGAIN, result) {
            return;
        }
        let said = self.bypass.keeping.take().expect("a record is kept once");
        if let Err(errno) = result {
            if self.bypass.failed.is_none() {
                self.events.push(LogEvent::NotKept(errno));
            }
            self.bypass.failed = Some((errno, now + KEEP_AGAIN));
            return;
        }
        self.bypass.failed = None;
        self.members.kept();
        self.superblock = said;
        if self.bypass.stage == Stage::Sealing && self.superblock.bypassed_since.is_some() {
            self.bypass();
        }
    }

    /// When the record is to be tried again.
    pub(crate) fn keep_again_at(&self) -> Option<Time> {
        // What it would say is in the new log already, if there is one.
        let is_due = self.bypass.keeping.is_none() && !self.is_in_new_log();
        let failed = self.bypass.failed.filter(|_| is_due);
        failed.filter(|_| self.has_to_keep()).map(|(_, at)| at)
    }

    /// Whether nothing more can be done that would have to be waited for.
    pub(crate) fn has_settled_without_log(&self) -> bool {
        let done = self.is_idle() && self.durable == self.written && !self.has_to_keep();
        done || (!self.is_bypassed() && self.held().is_some())
    }
}

/// Between attempts to keep the record.
const KEEP_AGAIN: Span = Span::from_secs(1);
