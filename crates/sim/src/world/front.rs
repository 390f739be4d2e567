//! The front end: requests from their arrival to their completion, and what the
//! oracle is told of them.

use std::collections::BTreeMap;
use std::ops::Range;

use blk::{BufMut, Data, DevNr, Errno, Event, Op, ReqId, SECTOR_BYTES, Sectors, Span, Time};

use super::disks::content;
use crate::oracle::{FlushFloor, Oracle, ReadFloor, Token, Violation};
use crate::payload::{self, Content};
use crate::workload::Ask;

/// Requests under way.
#[derive(Default)]
pub(super) struct Front {
    live: BTreeMap<ReqId, Live>,
    handed_in: u64,
    /// What audit reads returned, in the row of all sectors.
    audited: Vec<Content>,
    audit_failed: bool,
    /// The longest that a request has taken that nothing may hold up.
    pub(super) longest: Span,
}

struct Live {
    ask: Ask,
    kind: Kind,
    since: Time,
}

/// What a completed request is measured by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) now: Time,
    /// Any request may fail.
    pub(super) any_fails: bool,
    /// A read may fail.
    pub(super) read_fails: bool,
    /// A change may fail.
    pub(super) change_fails: bool,
    /// How long a request may take.
    pub(super) patience: Span,
}

enum Kind {
    Write {
        token: Token,
        content: Content,
        fetched: bool,
    },
    Zeroes {
        token: Token,
    },
    Flush {
        floor: FlushFloor,
    },
    Read {
        floor: ReadFloor,
        got: Vec<Option<Content>>,
    },
    /// A look at what recovery brought back: the oracle judges all of it together.
    Audit {
        row: Range<usize>,
        got: Vec<Option<Content>>,
    },
}

/// A request that a process took with it, and what it was to write.
#[derive(Clone, Copy, Debug)]
pub(super) struct Orphan {
    pub(super) ask: Ask,
    pub(super) content: Option<Content>,
}

impl Front {
    pub(super) fn under_way(&self) -> usize {
        self.live.len()
    }

    /// Admits a request; an orphan's content stays what it was.
    pub(super) fn hand_in(
        &mut self,
        now: Time,
        ask: Ask,
        again: Option<Content>,
        oracle: &mut Oracle,
    ) -> Event {
        let kind = kind(ask, again, oracle);
        self.admit(now, ask, kind)
    }

    pub(super) fn hand_in_audit(&mut self, now: Time, ask: Ask, oracle: &Oracle) -> Event {
        if self.audited.is_empty() {
            // What no device has yet holds what it always has.
            self.audited = (0..oracle.layout().total()).map(|at| oracle.newest(at)).collect();
        }
        let row = row(ask, oracle);
        let got = vec![None; row.len()];
        self.admit(now, ask, Kind::Audit { row, got })
    }

    /// What the audit returned; `None` if some of it could not be read.
    pub(super) fn audited(&mut self) -> Option<Vec<Content>> {
        let shown = std::mem::take(&mut self.audited);
        (!self.audit_failed).then_some(shown)
    }

    /// Requests that end with their process, to be handed in to the next.
    pub(super) fn orphans(&self) -> Vec<Orphan> {
        let orphan = |live: &Live| match live.kind {
            Kind::Write { content, .. } => Some(Orphan { ask: live.ask, content: Some(content) }),
            Kind::Audit { .. } => None,
            Kind::Zeroes { .. } | Kind::Flush { .. } | Kind::Read { .. } => {
                Some(Orphan { ask: live.ask, content: None })
            }
        };
        self.live.values().filter_map(orphan).collect()
    }

    /// Copies a payload out, once (P16).
    pub(super) fn fetch(&mut self, req: ReqId, mut buf: BufMut) -> Result<Event, Violation> {
        let wrong = |what| Violation::Payload { req, what };
        let live = self.live.get_mut(&req).ok_or(wrong("fetched, but not under way"))?;
        let Kind::Write { content, fetched, .. } = &mut live.kind else {
            return Err(wrong("fetched, but it has no payload"));
        };
        if std::mem::replace(fetched, true) {
            return Err(wrong("its payload is fetched twice"));
        }
        let (sector, len) = live.ask.op.range().expect("a write has a range");
        if buf.len() != len.len() {
            return Err(wrong("its payload is fetched into a buffer of another length"));
        }
        payload::fill(&mut buf, live.ask.dev, sector, *content);
        Ok(Event::Fetched { req, buf, result: Ok(()) })
    }

    pub(super) fn deliver(
        &mut self,
        req: ReqId,
        offset: Sectors,
        data: &Data,
    ) -> Result<(), Violation> {
        let wrong = |what| Violation::Request { req, what };
        let live = self.live.get_mut(&req).ok_or(wrong("data delivered, but not under way"))?;
        let (Kind::Read { got, .. } | Kind::Audit { got, .. }) = &mut live.kind else {
            return Err(wrong("data delivered, but it is no read"));
        };
        let start = usize::try_from(offset.0).expect("a read fits in memory");
        let cells = contents(live.ask, offset, data)?;
        let slots = got.get_mut(start..start + cells.len());
        let slots = slots.ok_or(wrong("data delivered beyond its end"))?;
        for (slot, cell) in slots.iter_mut().zip(cells) {
            if slot.replace(cell).is_some() {
                return Err(wrong("a sector is delivered twice"));
            }
        }
        Ok(())
    }

    /// Ends a request.
    pub(super) fn complete(
        &mut self,
        req: ReqId,
        result: Result<(), Errno>,
        terms: Terms,
        oracle: &mut Oracle,
    ) -> Result<(), Violation> {
        let wrong = |what| Violation::Request { req, what };
        let live = self.live.remove(&req).ok_or(wrong("completed, but not under way"))?;
        let waited = terms.now.since(live.since);
        if terms.patience < Span::MAX {
            self.longest = self.longest.max(waited);
        }
        if waited > terms.patience {
            return Err(Violation::Stall { req, waited });
        }
        let is_read = matches!(live.ask.op, Op::Read { .. });
        let may_fail = terms.any_fails
            || (terms.read_fails && is_read)
            || (terms.change_fails && live.ask.op.changes_data());
        match result {
            Err(_) if may_fail => {
                match live.kind {
                    Kind::Audit { .. } => self.audit_failed = true,
                    Kind::Read { .. } => oracle.read_failed(),
                    // The log may still take it in.
                    Kind::Write { .. } | Kind::Zeroes { .. } | Kind::Flush { .. } => {}
                }
                return Ok(());
            }
            Err(error) => return Err(Violation::AppError { req, error }),
            Ok(()) => {}
        }
        let fua = live.ask.op.is_fua();
        match live.kind {
            Kind::Write { fetched: false, .. } => Err(wrong("acknowledged, but never fetched")),
            Kind::Write { token, .. } | Kind::Zeroes { token } => {
                oracle.acked(token, fua, terms.now)
            }
            Kind::Flush { floor } => oracle.flush_acked(floor),
            Kind::Read { floor, got } => {
                oracle.read(&floor, &whole(got).ok_or(wrong("a sector was never delivered"))?)
            }
            Kind::Audit { row, got } => {
                let got = whole(got).ok_or(wrong("a sector was never delivered"))?;
                self.audited[row].copy_from_slice(&got);
                Ok(())
            }
        }
    }

    fn admit(&mut self, now: Time, ask: Ask, kind: Kind) -> Event {
        self.handed_in += 1;
        let req = ReqId(self.handed_in);
        self.live.insert(req, Live { ask, kind, since: now });
        Event::Request { req, dev: ask.dev, op: ask.op }
    }
}

fn kind(ask: Ask, again: Option<Content>, oracle: &mut Oracle) -> Kind {
    match ask.op {
        Op::Write { sector, len, .. } => {
            let (token, content) = oracle.submitted(ask.dev, sector, len, again);
            Kind::Write { token, content, fetched: false }
        }
        Op::Discard { sector, len } | Op::WriteZeroes { sector, len, .. } => {
            let zeroes = Some(Content::ZEROES);
            let (token, _) = oracle.submitted(ask.dev, sector, len, zeroes);
            Kind::Zeroes { token }
        }
        Op::Flush => Kind::Flush { floor: oracle.flush_submitted() },
        Op::Read { .. } => {
            let row = row(ask, oracle);
            let got = vec![None; row.len()];
            Kind::Read { floor: oracle.read_submitted(row), got }
        }
    }
}

fn row(ask: Ask, oracle: &Oracle) -> Range<usize> {
    let (sector, len) = ask.op.range().expect("a read has a range");
    oracle.layout().range(ask.dev, sector, len).expect("workloads stay inside devices")
}

fn contents(ask: Ask, offset: Sectors, data: &Data) -> Result<Vec<Content>, Violation> {
    let (sector, _) = ask.op.range().expect("a read has a range");
    let (dev, start): (DevNr, _) = (ask.dev, sector + offset);
    match data {
        Data::Zeroes(len) => {
            let len = usize::try_from(len.0).expect("a read fits in memory");
            Ok(vec![Content::ZEROES; len])
        }
        Data::Bytes(buf) => {
            let cells = (start.0..).zip(buf.chunks_exact(SECTOR_BYTES));
            cells.map(|(at, cell)| content("a read", dev, blk::Sector(at), cell)).collect()
        }
    }
}

fn whole(got: Vec<Option<Content>>) -> Option<Vec<Content>> {
    got.into_iter().collect()
}
