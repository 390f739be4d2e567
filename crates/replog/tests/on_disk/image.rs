//! A log device in memory, and a writer that lays groups on it by the rules of the
//! architecture page, without the help of the engine.

use blk::{BLOCK_BYTES, DevNr, Errno, Sector, Sectors, Seq, Wall};
use replog::format::crc::crc32c;
use replog::format::group::{Cursor, Entry, EntryOp, GroupHeader};
use replog::format::superblock::{Anchor, Superblock};
use replog::geometry::{Geometry, LOG_SIZE_MIN, RingPos};
use replog::scan::{Damage, ScannedGroup, Scanner, Step, Tip};

use crate::samples::{LOG, fresh};

/// A log device, and the state of whoever writes to it.
#[derive(Clone)]
pub(crate) struct Image {
    /// All of the device, what lies before the log included.
    pub(crate) device: Vec<u8>,
    pub(crate) geometry: Geometry,
    /// The checkpoint that a scan starts from; on the device after [`Image::checkpoint`].
    pub(crate) sb: Superblock,
    /// Where the next group goes.
    pub(crate) tip: Anchor,
    /// The mark that the next header carries.
    pub(crate) durable: u64,
    pub(crate) cursors: Vec<Cursor>,
    /// Every group that was written, in order.
    pub(crate) groups: Vec<ScannedGroup>,
}

/// What to write.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Put {
    /// A payload of so many sectors.
    Data(u64),
    /// A discard of so many sectors.
    Discard(u64),
}

pub(crate) type Scanned = (Vec<ScannedGroup>, Result<Tip, Damage>);

impl Image {
    /// A new log of the smallest size, behind 64 foreign sectors.
    pub(crate) fn new() -> Self {
        Self::sized(LOG_SIZE_MIN)
    }

    /// A new log of `size`, behind 64 foreign sectors.
    pub(crate) fn sized(size: Sectors) -> Self {
        let geometry = Geometry::new(Sector(64), size).unwrap();
        let sb = Superblock { ring_bytes: geometry.ring_bytes(), ..fresh() };
        let mut image = Self {
            device: vec![0; 64 * 512 + size.len()],
            geometry,
            tip: sb.head,
            durable: 0,
            cursors: vec![],
            groups: vec![],
            sb,
        };
        image.device[..64 * 512].fill(0xF0);
        image.checkpoint();
        image.checkpoint();
        image
    }

    /// Appends a group of writes, with a pad before it if it does not fit its lap.
    pub(crate) fn append(&mut self, puts: &[Put]) -> ScannedGroup {
        let (entries, body) = self.entries(puts);
        let bytes = body.len();
        if bytes as u64 > self.geometry.to_lap_end(self.tip.pos) {
            self.pad();
        }
        let header = self.header(bytes, entries);
        self.place(header, body)
    }

    /// So many groups of one 4 KiB write each.
    pub(crate) fn append_small(&mut self, groups: usize) {
        for _ in 0..groups {
            self.append(&[Put::Data(8)]);
        }
    }

    /// A group without writes that ends the lap.
    pub(crate) fn pad(&mut self) -> ScannedGroup {
        let bytes = self.geometry.to_lap_end(self.tip.pos) as usize;
        self.place(self.header(bytes, vec![]), vec![0; BLOCK_BYTES])
    }

    /// A group without writes that says how far things are.
    pub(crate) fn marks(&mut self) -> ScannedGroup {
        self.place(self.header(BLOCK_BYTES, vec![]), vec![0; BLOCK_BYTES])
    }

    /// Everything written so far is durable, as the next header will say.
    pub(crate) fn flush(&mut self) {
        self.durable = self.tip.seq.0;
    }

    /// The head goes behind the group of this number.
    pub(crate) fn release(&mut self, nr: u64) {
        let group = self.groups.iter().find(|group| group.header.nr == nr).unwrap();
        self.sb.head = group.end();
        self.sb.durable = self.sb.durable.max(self.sb.head.seq);
    }

    /// The daemon died; the next one begins a new epoch where its scan ended.
    pub(crate) fn reopen(&mut self, tip: Anchor) {
        self.tip = tip;
        self.durable = tip.seq.0;
        self.sb.epoch += 1;
        self.sb.epoch_first_group = tip.group + 1;
        self.sb.durable = tip.seq;
        self.groups.retain(|group| group.header.nr <= tip.group);
        self.checkpoint();
    }

    /// Writes the superblock to the slot whose turn it is.
    pub(crate) fn checkpoint(&mut self) {
        self.sb.generation += 1;
        let at = self.geometry.slot(self.sb.generation % 2).bytes() as usize;
        let bytes = self.sb.encode();
        self.device[at..at + bytes.len()].copy_from_slice(&bytes);
    }

    /// The bytes on the device from a ring position on, to the end of the lap.
    pub(crate) fn at(&mut self, pos: RingPos) -> &mut [u8] {
        let at = self.geometry.sector(pos).bytes() as usize;
        &mut self.device[at..]
    }

    /// Whole blocks of a group are as they were before it was written.
    pub(crate) fn lose(&mut self, group: &ScannedGroup, blocks: std::ops::Range<usize>) {
        let range = blocks.start * BLOCK_BYTES..blocks.end * BLOCK_BYTES;
        self.at(group.pos)[range].fill(0);
    }

    pub(crate) fn scan(&self) -> Scanned {
        self.scan_from(&self.sb)
    }

    pub(crate) fn scan_from(&self, sb: &Superblock) -> Scanned {
        let mut scanner = Scanner::new(sb, self.geometry);
        let mut groups = Vec::new();
        loop {
            match scanner.step() {
                Step::Read { pos, len } => scanner.feed(pos, self.read(pos, len)),
                Step::Group(group) => groups.push(group),
                Step::End(tip) => return (groups, Ok(tip)),
                Step::Damage(damage) => return (groups, Err(*damage)),
                Step::Wait => panic!("a scan waits only for what is on its way"),
            }
        }
    }

    /// What a scan asks for; it must be on one piece of the device.
    pub(crate) fn read(&self, pos: RingPos, len: u64) -> &[u8] {
        assert!(len <= self.geometry.to_lap_end(pos), "a read stays within its lap");
        assert!(len > 0 && len.is_multiple_of(BLOCK_BYTES as u64), "a read has whole blocks");
        let at = self.geometry.sector(pos).bytes() as usize;
        &self.device[at..at + len as usize]
    }

    /// As a tool reads it.
    pub(crate) fn read_sectors(&self, sector: Sector, buf: &mut [u8]) -> Result<(), Errno> {
        let at = sector.bytes() as usize;
        let bytes = self.device.get(at..at + buf.len()).ok_or(Errno::EIO)?;
        buf.copy_from_slice(bytes);
        Ok(())
    }

    /// A header that continues the log.
    pub(crate) fn header(&self, bytes: usize, entries: Vec<Entry>) -> GroupHeader {
        GroupHeader {
            log: LOG.as_u64_pair().0,
            epoch: self.sb.epoch,
            nr: self.tip.group + 1,
            first_seq: self.tip.seq.next(),
            bytes: bytes as u32,
            durable: Seq(self.durable),
            wall: Wall(1_700_000_000_000_000_000 + self.tip.group),
            prev_crc: self.tip.crc,
            cursors: self.cursors.clone(),
            entries,
        }
    }

    /// Writes a header and what is behind it where the next group goes.
    pub(crate) fn place(&mut self, header: GroupHeader, mut body: Vec<u8>) -> ScannedGroup {
        let crc = header.encode(&mut body[..BLOCK_BYTES]);
        let pos = self.tip.pos;
        self.at(pos)[..body.len()].copy_from_slice(&body);
        let group = ScannedGroup { pos, header, crc };
        self.tip = group.end();
        self.groups.push(group.clone());
        group
    }

    fn entries(&self, puts: &[Put]) -> (Vec<Entry>, Vec<u8>) {
        let mut body = vec![0; BLOCK_BYTES];
        let mut sector = 0;
        let entries = puts.iter().enumerate().map(|(i, put)| {
            let seq = self.tip.seq.0 + 1 + i as u64;
            let entry = self.entry(*put, seq, sector, &mut body);
            sector += entry.len.0;
            entry
        });
        let entries = entries.collect();
        body.resize(body.len().next_multiple_of(BLOCK_BYTES), 0);
        (entries, body)
    }

    fn entry(&self, put: Put, seq: u64, sector: u64, body: &mut Vec<u8>) -> Entry {
        let (op, len, payload) = match put {
            Put::Data(len) => (EntryOp::Write, len, body.len() / 512),
            Put::Discard(len) => (EntryOp::Discard, len, 0),
        };
        let data = if op == EntryOp::Write { content(seq, len) } else { vec![] };
        body.extend(&data);
        Entry {
            dev: DevNr(seq as u32 % 2),
            op,
            fua: false,
            sector: Sector(sector),
            len: Sectors(len),
            payload: Sectors(payload as u64),
            crc: if data.is_empty() { 0 } else { crc32c(&data) },
        }
    }
}

/// The payload of a write: no two writes, and no two sectors of one, are alike.
pub(crate) fn content(seq: u64, sectors: u64) -> Vec<u8> {
    let mut state = seq << 20;
    let mut word = || {
        state = u64::wrapping_add(state, 0x9E37_79B9_7F4A_7C15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed ^ (mixed >> 27)
    };
    (0..sectors * 64).flat_map(|_| word().to_le_bytes()).collect()
}
