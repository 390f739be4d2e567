//! What the fuzzers share: checksums that agree with any bytes, and a log to spoil.
//!
//! A fuzzer does not guess a checksum; so each input is tried as it is, and with the checksum of
//! somebody who means it.

use blk::{BLOCK_BYTES, Sector, Sectors};
use replicator::Replicator;
use replog::format::crc::crc32c;
use sim::disk::Keep;
use sim::engine;
use sim::rng::Rng;
use sim::topology::Topology;
use sim::workload::Workload;
use sim::world::{Cut, Host, World};

/// Where the checksum lies in all formats, and what it covers.
const CRC: std::ops::Range<usize> = 8..12;

/// The input as a block that is whole, without and with a checksum that agrees with it.
#[must_use]
pub fn blocks(input: &[u8], len: usize) -> [Vec<u8>; 2] {
    let mut plain = input[..input.len().min(len)].to_vec();
    plain.resize(len, 0);
    let mut sealed = plain.clone();
    seal(&mut sealed);
    [plain, sealed]
}

/// Makes the checksum of a block agree with it.
pub fn seal(block: &mut [u8]) {
    let crc = crc32c(&block[CRC.end..]);
    block[CRC].copy_from_slice(&crc.to_le_bytes());
}

/// A topology of two devices on two sites.
#[must_use]
pub fn topology() -> Topology {
    Topology::plain(&[Sectors(64), Sectors(16)], &[false, false], 512)
}

/// What a machine left on its disks that was killed at work.
///
/// # Panics
/// If it did not work.
#[must_use]
pub fn crashed(topology: &Topology) -> Host {
    let host = Host::new(topology);
    let machine = engine::open(topology, &host);
    let workload = Workload::mixed(topology, 40, Sectors(16), &mut Rng::new(7));
    let mut world = World::start(host, machine, workload, Rng::new(8)).cut_at(Some(400));
    let _ = world.open().and_then(|_| world.work()).expect("no promise is broken");
    world.crash(Cut::Power(Keep::All)).expect("no promise is broken").0
}

/// A machine at work.
///
/// # Panics
/// If it could not be opened.
#[must_use]
pub fn machine() -> Replicator {
    let topology = topology();
    let host = Host::new(&topology);
    let machine = engine::open(&topology, &host);
    let mut world = World::start(host, machine, Workload::script(Vec::new()), Rng::new(9));
    world.open().expect("no promise is broken");
    world.into_machine()
}

/// A disk in memory.
pub struct Image(pub Vec<u8>);

impl Image {
    /// What is on the log's media.
    #[must_use]
    pub fn of_log(host: &Host) -> Self {
        let disk = &host.disks.log;
        Self((0..disk.sectors()).flat_map(|sector| *disk.durable(sector).get()).collect())
    }

    /// Whole blocks are written.
    ///
    /// # Panics
    /// If they are not within the disk.
    pub fn write(&mut self, sector: Sector, bytes: &[u8]) {
        let at = usize::try_from(sector.0).expect("a disk in memory is small") * blk::SECTOR_BYTES;
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Bytes are changed as an input says: where, and to what; and blocks are sealed again where
    /// that is wished.
    pub fn spoil(&mut self, input: &[u8]) {
        for change in input.chunks_exact(6) {
            let at = u32::from_le_bytes([change[0], change[1], change[2], 0]) as usize;
            let at = at % self.0.len();
            self.0[at] = change[3];
            let block = at - at % BLOCK_BYTES;
            if change[4] & 1 == 1 {
                seal(&mut self.0[block..block + BLOCK_BYTES]);
            }
        }
    }
}

impl replog::tools::LogReader for Image {
    fn read(&mut self, sector: Sector, buf: &mut [u8]) -> Result<(), blk::Errno> {
        let at = usize::try_from(sector.0).ok().and_then(|at| at.checked_mul(blk::SECTOR_BYTES));
        let from = at.and_then(|at| self.0.get(at..at.checked_add(buf.len())?));
        buf.copy_from_slice(from.ok_or(blk::Errno::EIO)?);
        Ok(())
    }
}
