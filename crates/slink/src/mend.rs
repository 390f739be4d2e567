//! A sector that can't be read, on a site that works otherwise: it was read from another copy,
//! and is written again where it failed (P7). Disks give such a sector another place.
//!
//! What is written is what was newest when it was read, if the site has that already: so it
//! changes no image. It is not written if the log holds a write there that is newer, or that
//! the site is still to get (it will be met again); and nothing else is written to the site
//! meanwhile (I4).

use std::collections::VecDeque;

use blk::{Buf, DevNr, DiskOp, Gather, Sector, Sectors, Seq};
use replog::Replog;

use crate::flights::{To, Work};
use crate::ordered::Step;

/// What a site is to write again.
#[derive(Clone, Debug)]
pub struct Mend {
    /// The device.
    pub dev: DevNr,
    /// Where on it.
    pub sector: Sector,
    /// What was newest there.
    pub data: Buf,
    /// What was in the log when it was newest.
    pub since: Seq,
}

/// What is to be written again on one site.
#[derive(Debug, Default)]
pub(crate) struct Mender {
    waiting: VecDeque<Mend>,
    flying: bool,
}

impl Mender {
    /// More than a few sectors are not mended but met again.
    pub(crate) fn add(&mut self, mend: Mend) {
        if self.waiting.len() < WAITING_MAX {
            self.waiting.push_back(mend);
        }
    }

    /// Whether there is nothing to mend: the site may be fed.
    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && !self.flying
    }

    /// The site fails otherwise, or is fed otherwise: what is bad will be met again.
    pub(crate) fn forget(&mut self) {
        self.waiting.clear();
    }

    /// Writes what is to be written, now that nothing else is written to the site.
    pub(crate) fn poll(&mut self, log: &Replog, work: &mut Work<'_>) {
        while !self.flying {
            let Some(mend) = self.waiting.pop_front() else { return };
            let Mend { dev, sector, data, since } = mend;
            let len = Sectors::from_bytes(data.len() as u64);
            let Some(disk) = work.legs.disk(dev) else { continue };
            // P3, P4: nor may it hold a write that the site is still to get, in order.
            let since = since.min(log.covered(work.legs.site));
            if log.is_untouched_since(since, (dev, sector, len)) {
                let op = DiskOp::Write { sector, data: Gather::from_elem(data, 1), fua: true };
                work.submit(disk, op, (dev, "rewriting a bad sector", To::Site, Step::Mend));
                self.flying = true;
            }
        }
    }

    /// It was written, or could not be.
    pub(crate) fn done(&mut self) {
        self.flying = false;
    }
}

/// A bound on what is kept in memory for it (I10).
const WAITING_MAX: usize = 64;
