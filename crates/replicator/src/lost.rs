//! What `disk` dirty logs say of a log that was lost, before the log is opened (P8).
//!
//! All are read at a time. One that fails, or takes longer than [`LIMIT`], says nothing: a site
//! that hangs does not keep the devices from their users (P5).

use std::collections::BTreeMap;

use blk::{BLOCK_BYTES, BufMut, DiskId, DiskOp, Effect, IoId, IoOwner, Sector, Span, Time};
use dirty_log::format::Bypassed;
use replog::Lost;

use crate::plan::{DiskFacts, Plan, is_bypassed};

/// The first blocks of dirty logs, being read.
#[derive(Debug)]
pub(crate) struct Looks {
    /// Those that have not answered, by the numbers of their reads.
    open: BTreeMap<u64, DiskFacts>,
    /// Until when they are waited for; nothing: they are yet to be asked.
    until: Option<Time>,
    found: Vec<Lost>,
}

impl Looks {
    /// Of a plan's dirty logs; of none if the host knows that the log was lost.
    pub(crate) fn of(plan: &Plan) -> Self {
        let known = plan.log.kept.as_deref().is_some_and(is_bypassed);
        let legs = plan.devices.iter().filter(|_| !known).flat_map(|device| &device.legs);
        let disks = legs.filter_map(|leg| leg.dirty_log_disk.clone());
        let readable = disks.filter(|disk| disk.size().bytes() >= BLOCK_BYTES as u64);
        Self { open: (0..).zip(readable).collect(), until: None, found: Vec::new() }
    }

    /// What they say, once all have answered that are going to.
    pub(crate) fn poll(&mut self, now: Time, effects: &mut Vec<Effect>) -> Option<Vec<Lost>> {
        if self.until.is_none() {
            self.until = Some(now + LIMIT);
            effects.extend(self.open.iter().map(|(nr, disk)| look(*nr, disk.id)));
        }
        let is_over = self.open.is_empty() || self.until.is_some_and(|until| now >= until);
        is_over.then(|| std::mem::take(&mut self.found))
    }

    pub(crate) fn done(&mut self, nr: u64, bytes: Option<&[u8]>) {
        let Some(disk) = self.open.remove(&nr) else { return };
        let said = bytes.and_then(Bypassed::decode);
        let lost = said.map(|Bypassed { log, epoch }| Lost { log, epoch, said_by: disk.path });
        self.found.extend(lost);
    }

    pub(crate) fn wakeup(&self) -> Option<Time> {
        self.until
    }
}

fn look(nr: u64, disk: DiskId) -> Effect {
    let op = DiskOp::Read { sector: Sector(0), buf: BufMut::zeroed(BLOCK_BYTES) };
    Effect::Submit { io: IoId { owner: LOOK_IO, nr }, disk, op }
}

/// Whose these reads are.
pub(crate) const LOOK_IO: IoOwner = IoOwner(u16::MAX - 2);
/// Longer than a disk takes that is well; requests of a dead daemon's devices wait meanwhile.
const LIMIT: Span = Span::from_secs(3);
