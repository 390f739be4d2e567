//! Group commit: the group that is being filled, and its way to the ring.
//!
//! While one group is being written, the next one fills; when the write ends, it
//! goes: an idle log commits at once, a busy one in batches. It may wait a moment for
//! writers who are about to come back ([`crate::gather`]). A group is an antichain:
//! none of its writes was acknowledged when it closed, and no two of them overlap
//! (I4), so that a site may apply one in any order.
//!
//! A flush makes many groups durable at once, while the next one is written. A lone write whose
//! acknowledgement waits for the media has nobody to share one with: it goes with FUA, one trip
//! to the device in place of two.

use blk::{BLOCK_BYTES, Buf, BufMut, DevNr, DiskOp, Effect, Errno, Gather};
use blk::{Sector, Sectors, Seq, SlinkNr, Span, Time};

use crate::format::crc::crc32c;
use crate::format::group::{Entry, EntryOp, GroupHeader};
use crate::format::superblock::Anchor;
use crate::index::{Group, Write};
use crate::log::{Change, GROUP_IO, Refusal, Replog};
use crate::overlay::Cuts;

/// The group that takes writes.
#[derive(Debug)]
pub(crate) struct OpenGroup {
    header: BufMut,
    /// Header and payloads so far; padding not included.
    bytes: u64,
    entries: Vec<Entry>,
    /// The payload of each entry that has one, once it is filled.
    payloads: Vec<Option<Buf>>,
    /// Payloads handed out to be filled, and not yet back.
    fetching: usize,
}

/// The group that is on its way to the ring.
#[derive(Debug)]
pub(crate) struct Launched {
    /// What `written` becomes when it has arrived.
    pub(crate) last_seq: Seq,
    /// The end of the group.
    pub(crate) end: Anchor,
    /// It has no writes, and ends a lap.
    pub(crate) is_pad: bool,
    /// It is durable when it has arrived, as is all before it.
    pub(crate) fua: bool,
}

impl OpenGroup {
    fn new(header: BufMut) -> Self {
        Self { header, bytes: BLOCK, entries: Vec::new(), payloads: Vec::new(), fetching: 0 }
    }

    pub(crate) fn len(&self) -> u64 {
        self.entries.len() as u64
    }

    pub(crate) fn padded_bytes(&self) -> u64 {
        self.bytes.next_multiple_of(BLOCK)
    }

    fn overlaps(&self, change: &Change) -> bool {
        let end = change.sector + change.len;
        self.entries
            .iter()
            .any(|e| e.dev == change.dev && e.sector < end && change.sector < e.sector + e.len)
    }
}

impl Replog {
    /// Takes a write into the open group, or says why not now.
    pub(crate) fn admit_to_group(&mut self, change: &Change) -> Result<Option<BufMut>, Refusal> {
        let payload = change.payload_bytes();
        if payload == 0 {
            self.make_room(change, 0)?;
        }
        let buf = (payload > 0).then(|| self.take_for(change, payload)).transpose()?;
        let open = self.open.as_mut().expect("make_room opened a group");
        let place = Sectors::from_bytes(if buf.is_some() { open.bytes } else { 0 });
        open.entries.push(change.entry(place));
        open.payloads.push(None);
        open.bytes += payload;
        open.fetching += usize::from(buf.is_some());
        Ok(buf)
    }

    /// Memory for a payload of the open group, or why there is none now.
    pub(crate) fn take_for(&mut self, change: &Change, payload: u64) -> Result<BufMut, Refusal> {
        self.make_room(change, payload)?;
        let nr = self.open_group_nr();
        Ok(self.tail.take(usize::try_from(payload).expect("a write fits in memory"), nr))
    }

    /// Adds an entry to the open group whose payload is there already.
    pub(crate) fn add_filled(&mut self, change: &Change, crc: u32, payload: Buf) {
        let open = self.open.as_mut().expect("make_room opened a group");
        let place = Sectors::from_bytes(open.bytes);
        open.entries.push(Entry { crc, ..change.entry(place) });
        open.bytes += payload.len() as u64;
        open.payloads.push(Some(payload));
    }

    /// Checks every bound, in the order of how soon it lifts, and opens a group if none is.
    fn make_room(&mut self, change: &Change, payload: u64) -> Result<(), Refusal> {
        if let Some(open) = &self.open {
            if open.overlaps(change) {
                return Err(Refusal::Overlap);
            }
            let bytes = (open.bytes + payload).next_multiple_of(BLOCK);
            let full = open.entries.len() >= self.entries_max()
                || bytes > self.group_bytes_max()
                || payload.next_multiple_of(BLOCK) > self.tail.room() as u64;
            if full {
                return Err(Refusal::GroupFull);
            }
            return self.check_ring(bytes);
        }
        let bytes = (BLOCK + payload).next_multiple_of(BLOCK);
        self.check_ring(bytes)?;
        if (self.tail.room() as u64) < bytes {
            self.grow_tail()?;
        }
        let header = self.tail.take(BLOCK_BYTES, self.tip.group + 1);
        self.open = Some(OpenGroup::new(header));
        Ok(())
    }

    /// The number the open group will have if no pad group comes between. Memory
    /// bookkeeping only: one too low merely keeps a segment a moment longer.
    fn open_group_nr(&self) -> u64 {
        self.tip.group + 2
    }

    fn check_ring(&mut self, bytes: u64) -> Result<(), Refusal> {
        if self.footprint(bytes) <= self.free_bytes() {
            let waits = self.outruns_smaller_ring(bytes);
            return if waits { Err(Refusal::RingFull) } else { Ok(()) };
        }
        self.ring.stalls += u64::from(!self.starved);
        self.starved = true;
        Err(Refusal::RingFull)
    }

    /// What a group of `bytes` takes of the ring: a group never wraps, so it may need a pad.
    fn footprint(&self, bytes: u64) -> u64 {
        bytes + self.pad_before(bytes)
    }

    /// Groups that are not written to the ring may lie anywhere.
    fn pad_before(&self, bytes: u64) -> u64 {
        if self.is_lost() { 0 } else { self.geometry().pad_before(self.tip.pos, bytes) }
    }

    /// Begins a new segment of the RAM tail, letting go of the oldest if need be.
    fn grow_tail(&mut self) -> Result<(), Refusal> {
        while !self.tail.may_grow() {
            let oldest = self.tail.oldest().expect("a full tail has an oldest segment");
            if !self.may_leave_memory(oldest.last) {
                self.ring.stalls += u64::from(!self.tail_full);
                self.tail_full = true;
                return Err(Refusal::TailFull);
            }
            for nr in oldest.first..=oldest.last {
                if let Some(group) = self.index.group_mut(nr) {
                    group.memory = None;
                }
            }
            self.tail.drop_oldest();
        }
        self.tail.grow(self.tip.group + 1);
        self.tail_full = false;
        Ok(())
    }

    /// P8: what the LD lacks stays in memory, unless the table lets the LD lag further. While
    /// it was away that could not be; nobody waits for it to take what has left memory (P7).
    fn may_leave_memory(&self, group: u64) -> bool {
        if self.is_lost() {
            // There is no other place that it could be had from again.
            let has = self.covered(SlinkNr::LOCAL);
            return self.index.group(group).is_none_or(|g| g.last_seq <= has);
        }
        let first = self.first_shown();
        self.config.ld_may_outlag_tail
            || !self.reads_locally()
            || self.index.group_of(first).is_some_and(|g| g.memory.is_none())
            || self.index.group(group).is_none_or(|g| g.last_seq < first)
    }

    /// Takes a filled payload back; checksums it once, for its whole life (P11, P16).
    ///
    /// Where the payload could not be had, the write becomes a bookmark: its number and
    /// its place stay taken, so that numbers stay dense (I1), and nobody applies it.
    pub fn fetched(&mut self, seq: Seq, result: Result<(), Errno>, mut buf: BufMut) {
        let at = seq.lag(self.index.next_seq());
        let at = usize::try_from(at).expect("a group fits in memory");
        let open = self.open.as_mut().expect("a payload is fetched for the open group");
        open.fetching -= 1;
        let entry = &mut open.entries[at];
        match result {
            Ok(()) => entry.crc = crc32c(&buf),
            Err(_) => {
                // Whatever is there goes to the log device: let it be nobody's data.
                buf.fill(0);
                entry.op = EntryOp::Bookmark;
                (entry.len, entry.payload) = (Sectors(0), Sectors(0));
            }
        }
        open.payloads[at] = Some(buf.freeze());
    }

    /// A change was admitted.
    pub fn came(&mut self, now: Time) {
        self.gather.came(now);
    }

    /// So many changes were acknowledged: who asked for them may ask for more.
    pub fn acknowledged(&mut self, now: Time, changes: u64) {
        self.gather.acknowledged(now, changes);
    }

    /// Sends the open group on its way, if nothing else is.
    pub(crate) fn launch(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let ready = self.launched.is_none() && (!self.is_lost() || self.is_bypassed());
        self.held_until = None;
        let Some(open) = self.open.as_ref().filter(|open| ready && open.fetching == 0) else {
            return;
        };
        let bytes = open.padded_bytes();
        let holds = self.gather.holds_until(now).or_else(|| self.site_holds_until(now));
        self.held_until = holds.filter(|_| bytes < GATHER_BYTES_MAX && !self.is_lost());
        if self.is_held() {
            return;
        }
        let pad = self.pad_before(bytes);
        let may = self.is_lost()
            || (self.may_append(pad, bytes)
                && self.may_be_unproven(if pad > 0 { pad } else { bytes }));
        if !may {
            return;
        }
        if pad > 0 {
            self.launch_pad(now, pad, effects);
        } else {
            let open = self.open.take().expect("looked at above");
            self.launch_group(now, open, effects);
        }
    }

    /// How long the write of a group takes, of late, and how many writes it has.
    #[must_use]
    pub fn pace(&self) -> (Span, u64) {
        self.gather.pace()
    }

    /// Whether a group waits that could go.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.held_until.is_some() && self.open.is_some()
    }

    /// A site that is waited for has a group to apply, and another one that comes next: nobody is
    /// the worse for it if the one behind them waits and grows. Each is a barrier there.
    fn site_holds_until(&self, now: Time) -> Option<Time> {
        let applying = self.index.group_of(self.waited_for?.next())?.nr;
        let is_next_there = self.written_end.group > applying;
        let until = self.gather.arrived_at() + SITE_PATIENCE;
        (is_next_there && now < until).then_some(until)
    }

    fn launch_group(&mut self, now: Time, mut open: OpenGroup, effects: &mut Vec<Effect>) {
        let bytes = open.padded_bytes();
        let fua = self.goes_with_fua(&open);
        let header = self.header(now, bytes, std::mem::take(&mut open.entries));
        // The LD gets payloads; nobody will read the header.
        let crc = if self.is_bypassed() { 0 } else { header.encode(&mut open.header) };
        let pad = usize::try_from(bytes - open.bytes).expect("padding is less than a block");
        let group_nr = header.nr;
        let mut memory = open.header.freeze();
        for payload in open.payloads.iter().flatten() {
            memory = memory.join(payload);
        }
        if pad > 0 {
            let mut padding = self.tail.take(pad, group_nr);
            padding.fill(0);
            memory = memory.join(&padding.freeze());
        }
        self.enter(now, header, crc, Some(memory.clone()));
        if self.is_bypassed() {
            self.show_launched();
        } else {
            self.send(now, memory, fua, effects);
        }
    }

    /// FUA says nothing of what was written before, which may still be in a cache: be it a pad.
    fn goes_with_fua(&self, open: &OpenGroup) -> bool {
        let waits = self.waited_for.is_some() || open.entries.iter().any(|entry| entry.fua);
        let all_before = self.durable_end == self.written_end.pos;
        open.entries.len() == 1 && waits && all_before
    }

    fn launch_pad(&mut self, now: Time, rest: u64, effects: &mut Vec<Effect>) {
        let header = self.header(now, rest, Vec::new());
        let mut block = BufMut::zeroed(BLOCK_BYTES);
        let crc = header.encode(&mut block);
        self.enter(now, header, crc, None);
        self.send(now, block.freeze(), false, effects);
    }

    fn header(&self, now: Time, bytes: u64, entries: Vec<Entry>) -> GroupHeader {
        GroupHeader {
            log: self.log_hash(),
            epoch: self.epoch(),
            nr: self.tip.group + 1,
            first_seq: self.index.next_seq(),
            bytes: u32::try_from(bytes).expect("a group, or the rest of a lap, is below 4 GiB"),
            durable: self.durable,
            wall: self.wall(now),
            prev_crc: self.tip.crc,
            cursors: self.consumers.cursors(),
            entries,
        }
    }

    /// Puts a group that is about to be written into the index; from here on it has its place.
    fn enter(&mut self, now: Time, header: GroupHeader, crc: u32, memory: Option<Buf>) {
        let pos = self.tip.pos;
        let count = header.entries.len() as u64;
        let group = Group {
            nr: header.nr,
            pos,
            bytes: u64::from(header.bytes),
            first_seq: header.first_seq,
            last_seq: Seq(header.first_seq.0 - 1 + count),
            epoch: header.epoch,
            crc,
            durable: header.durable,
            sectors_before: 0,
            closed: now,
            memory,
        };
        self.tip = group.anchor();
        let (last_seq, is_pad) = (group.last_seq, count == 0);
        self.launched = Some(Launched { last_seq, end: self.tip, is_pad, fua: false });
        self.consumers.launched(&header.cursors);
        self.counters.groups += u64::from(count > 0);
        self.counters.log_bytes += group.bytes;
        self.index.push(group, header.entries.iter().map(|entry| write(entry, header.nr)));
        self.ring.entered(count, self.index.len() as u64);
    }

    fn send(&mut self, now: Time, memory: Buf, fua: bool, effects: &mut Vec<Effect>) {
        let launched = self.launched.as_mut().expect("a group was entered");
        launched.fua = fua;
        let writes = self.written.lag(launched.last_seq);
        let group = self.index.group(launched.end.group).expect("a group was entered");
        let op = DiskOp::Write {
            sector: self.geometry().sector(group.pos),
            data: Gather::from_elem(memory, 1),
            fua,
        };
        self.gather.sent(now, writes);
        effects.push(self.submit(now, GROUP_IO, op));
    }

    /// The launched group has arrived: its writes show, and may be acknowledged (I2).
    pub(crate) fn group_written(&mut self, now: Time) {
        self.gather.arrived(now);
        let launched = self.launched.take().expect("a group write ends once");
        self.consumers.arrived();
        self.written = launched.last_seq;
        self.written_end = launched.end;
        if launched.fua {
            self.is_durable_at_once();
        }
        if !launched.is_pad {
            let group = launched.end.group;
            let first = self.index.group(group).map_or(launched.last_seq.next(), |g| g.first_seq);
            for seq in first.0..=launched.last_seq.0 {
                self.show(Seq(seq));
            }
            // Of a bookmark the LD lacks nothing, and nothing that is copied goes past it.
            self.hidden(&Cuts::new());
        }
    }

    /// Lets a write show in the overlay, and hides what is older.
    pub(crate) fn show(&mut self, seq: Seq) {
        let Some(write) = self.index.write_mut(seq) else { return };
        if write.op == EntryOp::Bookmark {
            return;
        }
        write.shown = write.len;
        let (dev, sector, len) = (write.dev, write.sector, write.len);
        let cuts = self.overlay.insert(dev, sector, len, seq);
        if !cuts.is_empty() {
            self.superseded_by = self.superseded_by.max(seq);
        }
        self.hidden(&cuts);
    }
}

pub(crate) fn write(entry: &Entry, group: u64) -> Write {
    Write {
        dev: entry.dev,
        op: entry.op,
        sector: entry.sector,
        len: entry.len,
        payload: entry.payload,
        crc: entry.crc,
        group,
        shown: Sectors(0),
    }
}

impl Change {
    fn payload_bytes(&self) -> u64 {
        if self.op == EntryOp::Write { self.len.bytes() } else { 0 }
    }

    fn entry(&self, payload: Sectors) -> Entry {
        Entry {
            dev: self.dev,
            op: self.op,
            fua: self.fua,
            sector: self.sector,
            len: self.len,
            payload,
            crc: 0,
        }
    }

    /// A write of a whole range, for callers that have it in pieces.
    #[must_use]
    pub fn new(dev: DevNr, op: EntryOp, sector: Sector, len: Sectors, fua: bool) -> Self {
        Self { dev, op, sector, len, fua }
    }
}

const BLOCK: u64 = BLOCK_BYTES as u64;

/// From this size on a disk's bandwidth counts, and not how many groups it takes.
const GATHER_BYTES_MAX: u64 = 256 * 1024;
/// A group does not wait longer than this for a site that may be away.
const SITE_PATIENCE: Span = Span::from_millis(50);
