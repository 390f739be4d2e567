//! Torn tail or damage: what becomes of the first group that does not count.
//!
//! A crash may leave the last groups torn, in any way, if they were not durable;
//! such a tail is cut. A group that was durable must be there. So all depends on
//! whether anything knows of its durability:
//!
//! | | it was to be written before this opening | the checkpoint says durable | behind it | verdict |
//! |---|---|---|---|---|
//! | A | yes | – | – | damage: that opening began by finding it whole |
//! | B | no | yes | – | damage |
//! | C | no | no | a header of an opening to come | damage: the superblock that knew it is lost |
//! | D | no | no | a header that says durable | damage |
//! | E | no | no | none of these | the log ends here |
//!
//! Only headers of the present opening are asked in D. Dead ones of older openings
//! say nothing about this group: what they knew as durable, the present opening found
//! and kept, and this group came after it. For the same reason a header is a witness
//! wherever a copy of it may lie, in a payload even: nobody could have written that
//! mark before this group was durable.

use blk::{Sector, Seq};

use super::EndReason;
use super::rules::{Fault, Rules};
use crate::format::group::GroupHeader;
use crate::format::superblock::Anchor;
use crate::geometry::RingPos;

/// The log goes on behind this place, but can't be read here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the log is damaged at sector {sector} of its device, in group {group}, which begins with \
     write {seq}: {}; it is no torn end: {proof}",
    self.what_is_wrong()
)]
pub struct Damage {
    /// Where the group is or should be.
    pub pos: RingPos,
    /// The same on the device.
    pub sector: Sector,
    /// Number of the group.
    pub group: u64,
    /// Its first write; this and all later writes are cut off from the log.
    pub seq: Seq,
    /// What does not agree; nothing if the ring ends before the group does.
    pub what: Option<Fault>,
    /// How it is known that the group was durable.
    pub proof: Proof,
}

/// How it is known that a group was durable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Proof {
    /// Row A.
    #[error("opening {epoch} found it whole and went on with group {first_group}")]
    Opening {
        /// The present opening.
        epoch: u64,
        /// Its first group.
        first_group: u64,
    },
    /// Row B.
    #[error("the superblock says that writes up to {durable} were durable")]
    Checkpoint {
        /// Its mark.
        durable: Seq,
    },
    /// Row C.
    #[error(
        "group {group} at sector {sector} is of opening {epoch}, of which a lost superblock knew"
    )]
    LostSuperblock {
        /// The opening.
        epoch: u64,
        /// The group that tells of it.
        group: u64,
        /// Where that is.
        sector: Sector,
    },
    /// Row D.
    #[error("group {group} at sector {sector} says that writes up to {durable} were durable")]
    Header {
        /// Its mark.
        durable: Seq,
        /// The group that tells of it.
        group: u64,
        /// Where that is.
        sector: Sector,
    },
}

/// A group that does not count.
#[derive(Clone, Debug)]
pub(super) struct Suspect {
    /// The end of the last group that does.
    before: Anchor,
    /// What is wrong with it; nothing if there is no room for one.
    fault: Option<Fault>,
    sector: Sector,
}

/// What the evidence says so far.
#[derive(Debug)]
pub(super) enum Verdict {
    Damage(Box<Damage>),
    Tail,
}

impl Damage {
    fn what_is_wrong(&self) -> String {
        match &self.what {
            Some(fault) => fault.to_string(),
            None => "the ring ends before it".to_owned(),
        }
    }
}

impl Suspect {
    pub(super) fn new(before: Anchor, fault: Option<Fault>, rules: &Rules) -> Self {
        Self { before, fault, sector: rules.geometry.sector(before.pos) }
    }

    pub(super) fn pos(&self) -> RingPos {
        self.before.pos
    }

    pub(super) fn is_full(&self) -> bool {
        self.fault.is_none()
    }

    pub(super) fn end_reason(&self) -> EndReason {
        match &self.fault {
            Some(fault) => EndReason::Tail(fault.clone()),
            None => EndReason::Full,
        }
    }

    /// Rows A and B: what the superblock knows.
    pub(super) fn by_checkpoint(&self, rules: &Rules) -> Verdict {
        let (epoch, first_group) = (rules.epoch, rules.epoch_first_group);
        if self.group() < first_group {
            return self.damage(Proof::Opening { epoch, first_group });
        }
        if rules.durable >= self.seq() {
            return self.damage(Proof::Checkpoint { durable: rules.durable });
        }
        Verdict::Tail
    }

    /// Rows C and D: what a block in the ring knows, if it is a header.
    pub(super) fn by_block(&self, rules: &Rules, pos: RingPos, block: &[u8]) -> Verdict {
        match GroupHeader::decode(block) {
            Ok((header, _)) if header.log == rules.log => {
                self.by_header(rules, rules.geometry.sector(pos), &header)
            }
            Ok(_) | Err(_) => Verdict::Tail,
        }
    }

    fn by_header(&self, rules: &Rules, sector: Sector, header: &GroupHeader) -> Verdict {
        let (group, epoch, durable) = (header.nr, header.epoch, header.durable);
        if epoch > rules.epoch {
            return self.damage(Proof::LostSuperblock { epoch, group, sector });
        }
        if epoch == rules.epoch && group > self.group() && durable >= self.seq() {
            return self.damage(Proof::Header { durable, group, sector });
        }
        Verdict::Tail
    }

    fn group(&self) -> u64 {
        self.before.group + 1
    }

    fn seq(&self) -> Seq {
        self.before.seq.next()
    }

    fn damage(&self, proof: Proof) -> Verdict {
        Verdict::Damage(Box::new(Damage {
            pos: self.before.pos,
            sector: self.sector,
            group: self.group(),
            seq: self.seq(),
            what: self.fault.clone(),
            proof,
        }))
    }
}
