//! Backing operations in flight, and what the oracle is told of them.

use std::collections::BTreeMap;

use blk::{BufMut, DevNr, DiskId, DiskOp, Errno, Event, IoId, Sector};

use super::crash::Host;
use super::disks::{self, Outcome, shipment};
use super::faults::Faults;
use crate::disk::{Command, Ticket};
use crate::oracle::Violation;
use crate::payload::Content;
use crate::rng::Rng;
use crate::topology::Role;

/// Operations in flight.
#[derive(Default)]
pub(super) struct Back {
    in_flight: BTreeMap<IoId, InFlight>,
}

struct InFlight {
    disk: DiskId,
    ticket: Ticket,
    kind: OpKind,
    /// Where a read starts, and its buffer.
    into: Option<(Sector, BufMut)>,
}

/// What kind of operation, for faults that strike one kind only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpKind {
    /// A read.
    Read,
    /// A write or a write of zeroes.
    Write,
    /// A flush.
    Flush,
}

impl Back {
    /// Hands an operation to its disk, once the oracle has agreed.
    pub(super) fn submit(
        &mut self,
        io: IoId,
        disk: DiskId,
        op: DiskOp,
        host: &mut Host,
    ) -> Result<(), Violation> {
        let ticket = match host.disks.role(disk)? {
            Role::Log => host.disks.submit_log(&op)?,
            Role::Leg { dev, site } => submit_leg(disk, dev, site, &op, host)?,
        };
        let kind = kind(&op);
        let into = match op {
            DiskOp::Read { sector, buf } => Some((sector, buf)),
            DiskOp::Write { .. } | DiskOp::WriteZeroes { .. } | DiskOp::Flush => None,
        };
        match self.in_flight.insert(io, InFlight { disk, ticket, kind, into }) {
            None => Ok(()),
            Some(_) => Err(Violation::DoubleIo { io }),
        }
    }

    /// Ends an operation, well or, if a fault strikes, with an error.
    pub(super) fn end(
        &mut self,
        io: IoId,
        host: &mut Host,
        faults: &mut Faults,
        rng: &mut Rng,
    ) -> Result<Event, Violation> {
        let mut ended = self.in_flight.remove(&io).expect("what is due is in flight");
        let role = host.disks.role(ended.disk)?;
        let fails = faults.strike(role, ended.kind);
        let outcome = if fails {
            host.disks.fail(ended.disk, ended.ticket, rng)
        } else {
            host.disks.complete(ended.disk, ended.ticket, ended.into.as_mut())
        };
        host.learn(role, outcome)?;
        let result = if fails { Err(Errno::EIO) } else { Ok(()) };
        Ok(Event::Done { io, result, buf: ended.into.map(|(_, buf)| buf) })
    }
}

fn submit_leg(
    disk: DiskId,
    dev: DevNr,
    site: usize,
    op: &DiskOp,
    host: &mut Host,
) -> Result<Ticket, Violation> {
    let command = match (shipment(dev, op)?, op) {
        (Some(cells), DiskOp::Write { sector, fua, .. })
        | (Some(cells), DiskOp::WriteZeroes { sector, fua, .. }) => {
            allow(dev, site, *sector, &cells, host)?;
            Command::Write { sector: sector.0, cells, fua: *fua }
        }
        (_, DiskOp::Read { sector, buf }) => {
            Command::Read { sector: sector.0, sectors: disks::sectors(buf) }
        }
        _ => Command::Flush,
    };
    let changed = match &command {
        Command::Write { sector, cells, .. } => Some(*sector..*sector + cells.len() as u64),
        Command::Read { .. } | Command::Flush => None,
    };
    let ticket = host.disks.submit_leg(disk, command)?;
    if let Some(row) = changed {
        host.learn(Role::Leg { dev, site }, Outcome::Leg(vec![row]))?;
    }
    Ok(ticket)
}

/// Asks the oracle whether these contents may be shipped to that place.
fn allow(
    dev: DevNr,
    site: usize,
    sector: Sector,
    cells: &[Content],
    host: &Host,
) -> Result<(), Violation> {
    let len = blk::Sectors(cells.len() as u64);
    // Legs may be longer than their device; nothing is ever shipped there.
    let Some(row) = host.oracle.layout().range(dev, sector, len) else { return Ok(()) };
    row.zip(cells).try_for_each(|(at, &content)| host.oracle.shipped(site, at, content))
}

fn kind(op: &DiskOp) -> OpKind {
    match op {
        DiskOp::Read { .. } => OpKind::Read,
        DiskOp::Write { .. } | DiskOp::WriteZeroes { .. } => OpKind::Write,
        DiskOp::Flush => OpKind::Flush,
    }
}
