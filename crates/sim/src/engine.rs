//! The machine that production runs, made for a topology.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use blk::{BLOCK_BYTES, Buf, DiskOp, DiskSeen, SECTOR_BYTES, Sectors, Wall};
use replicator::{DiskFacts, Phase, Plan, Replicator, Seed};
use replog::EntryOp;
use replog::format::group::{Entry, GroupHeader};

use crate::oracle::Admission;
use crate::payload::{self, Content, Decoded};
use crate::topology::{Role, Topology};
use crate::world::{Stage, Subject};

/// A replicator on the disks of `topology`, as a driver would open it.
///
/// # Panics
/// If the table that describes the topology is refused.
#[must_use]
pub fn open(topology: &Topology) -> Replicator {
    let text = table_text(topology);
    let file = table::TableFile::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let groups = file.groups().unwrap_or_else(|error| panic!("{error}\n{text}"));
    let plan = Plan::new(&groups[0], &disk_facts(topology)).expect("the disks fit the table");
    // Whoever opens a log again does not know the identity it was made with.
    let seed = Seed { uuid: uuid::Uuid::from_u128(0x5ead), wall: Wall(1) };
    Replicator::open(plan, seed).expect("the table names built-in types")
}

/// The topology as a dm table.
#[must_use]
pub fn table_text(topology: &Topology) -> String {
    let log = path(Role::Log);
    let size = topology.log;
    let mut text = format!("sim: 0 1 replicator ringbuffer 5 {log} 0 auto {size} tail:1m");
    for (site, sync) in topology.sync.iter().enumerate() {
        let policy = if *sync { "sync" } else { "async" };
        write!(text, " blockdev 2 {site} {policy}").expect("a string takes all");
    }
    for dev in topology.layout().devices() {
        let len = topology.layout().size(dev);
        write!(text, "\ndev{dev}: 0 {len} replicator-dev sim {dev}").expect("a string takes all");
        for site in 0..topology.sync.len() {
            let leg = path(Role::Leg { dev, site });
            // Fresh disks are all zeroes, and so equal: no initial copy is needed.
            let dirty_log = if site == 0 { "nolog 0" } else { "core 2 8 nosync" };
            write!(text, " {site} 1 {leg} {dirty_log}").expect("a string takes all");
        }
    }
    text
}

fn disk_facts(topology: &Topology) -> BTreeMap<String, DiskFacts> {
    let facts = |role: Role| {
        let path = path(role);
        let size = match role {
            Role::Log => topology.log,
            Role::Leg { dev, .. } => topology.layout().size(dev),
        };
        let facts = DiskFacts {
            id: topology.disk(role),
            path: path.clone(),
            seen: Ok(DiskSeen {
                identity: format!("sim:{path}"),
                size,
                logical_block: topology.logical_block,
            }),
        };
        (path, facts)
    };
    topology.roles().into_iter().map(facts).collect()
}

fn path(role: Role) -> String {
    match role {
        Role::Log => "/sim/log".to_owned(),
        Role::Leg { dev, site } => format!("/sim/dev{dev}-site{site}"),
    }
}

impl Subject for Replicator {
    fn stage(&self) -> Stage {
        match self.phase() {
            Phase::Opening { .. } => Stage::Opening,
            Phase::Running | Phase::Stopping => Stage::Running,
            Phase::Stopped => Stage::Stopped,
            Phase::Failed(error) => Stage::Failed(error.to_string()),
        }
    }

    fn drain(&mut self) {
        self.stop(true);
    }

    fn admissions(op: &DiskOp) -> Vec<Admission> {
        let DiskOp::Write { data, .. } = op else { return Vec::new() };
        let Some((header, _)) = first_block(data).and_then(|b| GroupHeader::decode(b).ok()) else {
            return Vec::new();
        };
        let writes = header.entries.iter().filter(|entry| entry.op != EntryOp::Bookmark);
        writes.map(|entry| admission(entry, data)).collect()
    }
}

fn first_block(data: &[Buf]) -> Option<&[u8]> {
    data.first()?.get(..BLOCK_BYTES)
}

fn admission(entry: &Entry, group: &[Buf]) -> Admission {
    let content = match entry.op {
        EntryOp::Write => sector_of(group, entry.payload).map_or(Content::ZEROES, tagged),
        EntryOp::Discard | EntryOp::WriteZeroes | EntryOp::Bookmark => Content::ZEROES,
    };
    Admission { dev: entry.dev, sector: entry.sector, len: entry.len, content }
}

/// One sector of a gathered write.
fn sector_of(group: &[Buf], at: Sectors) -> Option<&[u8]> {
    let mut start = at.len();
    for buf in group {
        if start < buf.len() {
            return buf.get(start..start + SECTOR_BYTES);
        }
        start -= buf.len();
    }
    None
}

fn tagged(sector: &[u8]) -> Content {
    match payload::decode(sector) {
        Decoded::Tagged { content, .. } => content,
        Decoded::Zeroes | Decoded::Torn | Decoded::Foreign => Content::ZEROES,
    }
}
