//! What a site is told of itself: its mark ([`crate::mark`]), if the table names a device
//! for it. It says `inconsistent` before the first write out of order, and `consistent`
//! after the last.

use blk::{BLOCK_BYTES, Buf, BufMut, DevNr, DiskId, DiskOp, Effect, Errno, Gather, Sector, Time};
use replog::Replog;

use super::{Ordered, Step};
use crate::feed::Failed;
use crate::flights::To;
use crate::health::Failure;
use crate::mark::{Mark, MarkError, MarkState};

/// A site's mark, and what it is known to say.
#[derive(Debug)]
pub(super) struct Notice {
    pub(super) disk: DiskId,
    /// The replicator's.
    name: String,
    stage: Stage,
    generation: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nobody has looked at what is there.
    Unread,
    Reading,
    /// It may be written; whether it says that the site is consistent, if that is known.
    Says(Option<bool>),
    Writing(bool),
}

impl Notice {
    pub(super) fn new(disk: DiskId, name: String) -> Self {
        Self { disk, name, stage: Stage::Unread, generation: 0 }
    }

    /// Whether the site itself knows that it is inconsistent.
    pub(super) fn warns(&self) -> bool {
        self.stage == Stage::Says(Some(false))
    }

    /// The log is another: the site is to be told. What is on its way there comes first (I4).
    pub(super) fn renew(&mut self) {
        if let Stage::Says(_) = self.stage {
            self.stage = Stage::Unread;
        }
    }

    /// The replicator is called otherwise: the site is to be told, after what is on its way there.
    pub(super) fn rename(&mut self, name: &str) {
        name.clone_into(&mut self.name);
        self.renew();
    }

    /// The site was away: another disk may be there by now.
    pub(super) fn forget(&mut self) {
        self.stage = Stage::Unread;
    }

    /// What is there is ours to write over, or an error that says what it is.
    fn read(&mut self, bytes: &Buf, log: &Replog, site: blk::SlinkNr) -> Result<(), String> {
        let found = match Mark::decode(bytes) {
            Ok(mark) if log.is_or_replaced(mark.log) && mark.slink == site => {
                self.generation = mark.generation;
                return Ok(());
            }
            // Torn by a crash: the magic is ours.
            Err(MarkError::BadChecksum { .. }) => return Ok(()),
            Err(_) if bytes.iter().all(|byte| *byte == 0) => return Ok(()),
            Ok(mark) => format!("the mark of site {} of {}", mark.slink, mark.name),
            Err(other) => other.to_string(),
        };
        Err(format!("its mark's device holds something else ({found}); wipe it, or name another"))
    }
}

impl Ordered {
    /// Lets the mark say what is.
    pub(super) fn tell(&mut self, now: Time, log: &Replog, effects: &mut Vec<Effect>) {
        let may_ask = self.may_ask();
        let Some(notice) = self.notice.as_mut().filter(|_| may_ask) else { return };
        let site = log.site(self.nr);
        let consistent = !site.inconsistent;
        let op = match notice.stage {
            Stage::Unread => {
                notice.stage = Stage::Reading;
                DiskOp::Read { sector: Sector(0), buf: BufMut::zeroed(BLOCK_BYTES) }
            }
            Stage::Says(says) if says != Some(consistent) => {
                notice.stage = Stage::Writing(consistent);
                notice.generation += 1;
                let mark = Mark {
                    log: log.superblock().uuid,
                    slink: self.nr,
                    generation: notice.generation,
                    seq: log.covered(self.nr),
                    wall: log.wall(now),
                    state: if consistent { MarkState::Consistent } else { MarkState::Inconsistent },
                    name: notice.name.clone(),
                };
                let data = Gather::from_elem(Buf::from(&mark.encode()[..]), 1);
                DiskOp::Write { sector: Sector(0), data, fua: true }
            }
            Stage::Says(_) | Stage::Reading | Stage::Writing(_) => return,
        };
        let flight = (self.legs.first(), "its mark", To::Site, Step::Mark);
        self.flights.submit(now, notice.disk, op, flight, effects);
    }

    /// The mark was read, or written.
    pub(super) fn told(
        &mut self,
        now: Time,
        dev: DevNr,
        result: Result<(), Errno>,
        buf: Option<BufMut>,
        log: &mut Replog,
    ) {
        let Some(notice) = &mut self.notice else { return };
        let outcome = match (notice.stage, result) {
            (_, Err(errno)) => Err(Failure::Error(errno)),
            (Stage::Reading, Ok(())) => {
                let bytes = buf.expect("a read brings its buffer back").freeze();
                notice.read(&bytes, log, self.nr).map(|()| None).map_err(Failure::Unfit)
            }
            (Stage::Writing(says), Ok(())) => Ok(Some(says)),
            // It hung, and the site was given up meanwhile.
            (Stage::Unread | Stage::Says(_), Ok(())) => return,
        };
        match outcome {
            Ok(says) => notice.stage = Stage::Says(says),
            Err(how) => {
                notice.stage = Stage::Unread;
                self.went_down(now, now, log, Failed { dev, what: "its mark", how });
            }
        }
    }
}
