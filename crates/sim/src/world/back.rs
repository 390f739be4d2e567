//! Backing operations in flight, and what the oracle is told of them.

use std::collections::BTreeMap;

use blk::{BufMut, DevNr, DiskId, DiskOp, Errno, Event, IoId, Sector, Sectors, Span, Time};

use slink::State;

use super::crash::Host;
use super::disks::{self, Outcome, shipment};
use super::faults::Faults;
use super::watching::{verb, word};
use crate::disk::{Command, Ticket};
use crate::oracle::Violation;
use crate::payload::Content;
use crate::rng::Rng;
use crate::topology::Role;

/// Operations in flight.
#[derive(Default)]
pub(super) struct Back {
    in_flight: BTreeMap<Serial, InFlight>,
    names: BTreeMap<IoId, Serial>,
    submitted: u64,
    /// Operations that hung, and ended after all.
    pub(super) hung: u64,
    /// Reads that met a bad sector.
    pub(super) bad: u64,
}

/// Names an operation for ever; its [`IoId`] may be used again when it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Serial(u64);

impl Serial {
    pub(super) fn number(self) -> u64 {
        self.0
    }
}

struct InFlight {
    io: IoId,
    disk: DiskId,
    /// None: it never reached the disk, or the disk lost it.
    ticket: Option<Ticket>,
    kind: OpKind,
    /// Where a read starts, and its buffer.
    into: Option<(Sector, BufMut)>,
    since: Time,
    fate: Fate,
}

/// What is known of an operation's end before it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Open,
    /// It hangs; nobody knows how it will end.
    Hangs,
    /// What it was sent to has gone away.
    Fails,
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

/// What became of an operation that was due.
pub(super) enum Due {
    /// It had ended before.
    Nothing,
    /// It hangs until then.
    Hangs(Time),
    /// It has ended.
    Ended(Event),
}

impl Back {
    /// Hands an operation to its disk, once the oracle has agreed. `reaches`: the disk is open.
    pub(super) fn submit(
        &mut self,
        io: IoId,
        disk: DiskId,
        op: DiskOp,
        reaches: bool,
        host: &mut Host,
    ) -> Result<Serial, Violation> {
        let role = host.disks.role(disk)?;
        let kind = kind(&op);
        if let (Role::Leg { site, .. }, OpKind::Write, true) = (role, kind, reaches) {
            self.check_fence(site, disk, host)?;
        }
        let ticket = match role {
            _ if !reaches => None,
            Role::Log | Role::NewLog | Role::DirtyLog { .. } => {
                Some(host.disks.submit_bytes(disk, &op)?)
            }
            Role::Mark { .. } => {
                let ticket = host.disks.submit_bytes(disk, &op)?;
                host.learn(role, Outcome::Other)?;
                Some(ticket)
            }
            Role::Leg { dev, site } => Some(submit_leg(disk, dev, site, &op, host)?),
        };
        let into = match op {
            DiskOp::Read { sector, buf } => Some((sector, buf)),
            DiskOp::Write { .. } | DiskOp::WriteZeroes { .. } | DiskOp::Flush => None,
        };
        self.submitted += 1;
        let serial = Serial(self.submitted);
        let (since, fate) = (host.time, Fate::Open);
        let flight = InFlight { io, disk, ticket, kind, into, since, fate };
        self.in_flight.insert(serial, flight);
        match self.names.insert(io, serial) {
            None => Ok(serial),
            Some(_) => Err(Violation::DoubleIo { io }),
        }
    }

    /// I15: what was given up on there has ended before anything new is written. P13.
    fn check_fence(&self, site: usize, disk: DiskId, host: &Host) -> Result<(), Violation> {
        let nr = host.topology.sites[site].link.nr;
        if host.strangers.contains(&disk) {
            return Err(Violation::Stranger { disk: disk.0 });
        }
        let of_site = |disk| matches!(host.disks.role(disk), Ok(Role::Leg { site: other, .. }) if other == site);
        let here = self.in_flight.values().filter(|flight| of_site(flight.disk));
        let (mut count, mut oldest) = (0, Span::ZERO);
        for flight in here {
            count += 1;
            if flight.kind == OpKind::Write {
                oldest = oldest.max(host.time.since(flight.since));
            }
        }
        if oldest > host.topology.sites[site].link.options.timeout_io() {
            return Err(Violation::NotFenced { site: nr, since: oldest });
        }
        if count > IN_FLIGHT_MAX && site > 0 {
            return Err(Violation::Unbounded { site, count });
        }
        Ok(())
    }

    /// P5: a site where something hangs for longer than its deadline is down.
    pub(super) fn check_deadline(
        &self,
        site: usize,
        state: State,
        host: &Host,
    ) -> Result<(), Violation> {
        let of_site = |flight: &&InFlight| {
            host.disks.role(flight.disk).is_ok_and(|role| role.site() == Some(site))
        };
        let deadline = host.topology.sites[site].link.options.timeout_io();
        // A read may be somebody else's, who has given it up.
        let late = |flight: &InFlight| {
            flight.kind != OpKind::Read && host.time.since(flight.since) > deadline
        };
        // Of one that is none of the table's any more nobody asks.
        let named = host.topology.sites[site].named;
        if named && state != State::Down && self.in_flight.values().filter(of_site).any(late) {
            return Err(Violation::NotDown { site: host.topology.sites[site].link.nr });
        }
        Ok(())
    }

    /// Ends an operation, well or, if a fault strikes, with an error; unless it hangs.
    pub(super) fn end(
        &mut self,
        serial: Serial,
        host: &mut Host,
        faults: &mut Faults,
        rng: &mut Rng,
    ) -> Result<Due, Violation> {
        let Some(flight) = self.in_flight.get_mut(&serial) else { return Ok(Due::Nothing) };
        let role = host.disks.role(flight.disk)?;
        let reached = flight.ticket.is_some();
        if let Some(until) = host.weather.hangs(role, host.time).filter(|_| reached) {
            self.hung += u64::from(flight.fate == Fate::Open);
            if flight.fate == Fate::Open {
                flight.fate = Fate::Hangs;
            }
            return Ok(Due::Hangs(until));
        }
        let mut ended = self.in_flight.remove(&serial).expect("looked at above");
        self.names.remove(&ended.io);
        let bad = ended.into.as_ref().is_some_and(|(start, buf)| {
            host.is_bad(ended.disk, start.0..start.0 + disks::sectors(buf))
        });
        self.bad += u64::from(bad && reached);
        let struck = (reached && faults.strike(role, ended.kind)) || bad;
        let fails = struck
            || host.weather.fails(role, host.time)
            || host.weather.is_absent(role, host.time)
            || ended.fate == Fate::Fails
            || (ended.fate == Fate::Hangs && rng.chance(50));
        let outcome = match ended.ticket {
            None => Outcome::Nothing,
            Some(ticket) if fails => host.disks.fail(ended.disk, ticket, rng),
            Some(ticket) => host.disks.complete(ended.disk, ticket, ended.into.as_mut()),
        };
        host.learn(role, outcome)?;
        let result = if fails || !reached { Err(Errno::EIO) } else { Ok(()) };
        let (io, buf) = (ended.io, ended.into.map(|(_, buf)| buf));
        Ok(Due::Ended(Event::Done { io, result, buf }))
    }

    /// What is in flight to a disk fails; `lost`: the disk knows nothing of it any more.
    pub(super) fn doom(&mut self, disk: DiskId, lost: bool) {
        for flight in self.in_flight.values_mut().filter(|flight| flight.disk == disk) {
            flight.fate = Fate::Fails;
            if lost {
                flight.ticket = None;
            }
        }
    }

    /// An operation that is about to end, in a few words.
    pub(super) fn what(&self, serial: Serial, host: &Host) -> String {
        let Some(flight) = self.in_flight.get(&serial) else { return "nothing".to_owned() };
        let of = host.disks.role(flight.disk).map_or("no disk", word);
        format!("a {} of {of} has ended, or hangs", verb(flight.kind))
    }

    /// The next operation's.
    pub(super) fn next(&self) -> Serial {
        Serial(self.submitted + 1)
    }

    /// Everything in flight that hangs.
    pub(super) fn hanging(&self) -> Vec<Serial> {
        let hangs = self.in_flight.iter().filter(|(_, flight)| flight.fate == Fate::Hangs);
        hangs.map(|(&serial, _)| serial).collect()
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
        host.known.insert(disk);
        host.unused.remove(&disk);
        host.oracle.put_to_use(site, dev);
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
    let disk = host.topology.disk(Role::Leg { dev, site });
    (sector.0..).zip(row).zip(cells).try_for_each(|((sector, at), &content)| {
        match host.is_bad(disk, sector..sector + 1) {
            true => host.oracle.shipped_to_bad_sector(site, at, content).map(drop),
            false => host.oracle.shipped(site, at, content),
        }
    })
}

pub(super) fn kind(op: &DiskOp) -> OpKind {
    match op {
        DiskOp::Read { .. } => OpKind::Read,
        DiskOp::Write { .. } | DiskOp::WriteZeroes { .. } => OpKind::Write,
        DiskOp::Flush => OpKind::Flush,
    }
}

/// What a hung site may hold of the machine's memory is bounded.
const IN_FLIGHT_MAX: usize = 128;

/// Sectors that an operation writes.
pub(super) fn written(op: &DiskOp) -> Sectors {
    match op {
        DiskOp::Write { data, .. } => {
            Sectors::from_bytes(data.iter().map(|buf| buf.len() as u64).sum())
        }
        DiskOp::WriteZeroes { len, .. } => *len,
        DiskOp::Read { .. } | DiskOp::Flush => Sectors(0),
    }
}
