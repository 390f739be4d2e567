//! The ways in which a promise can be seen broken.

#![allow(
    missing_docs,
    reason = "every variant is documented; its fields say the rest by name and type"
)]

use blk::{Errno, IoId, ReqId, SlinkNr, Span};
use table::FallBehind;

use super::history::Nr;
use super::layout::Place;
use crate::disk::Refused;
use crate::payload::Content;

/// A broken promise, with the smallest set of facts that proves it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Nothing was broken: of several copies each was lost before another could make it good.
    #[error("no complete copy is left")]
    NothingLeft,
    /// P1: what had been promised is gone after a recovery.
    #[error("P1: write {promised} was promised to survive, recovery ends with write {head}")]
    Lost { promised: Nr, head: Nr },
    /// P1, P10: no end of the log explains what all sectors show.
    #[error(
        "P1: {place} shows write {content:?}, which no end of the log allows that explains \
             the sectors before it (they need an end in {heads:?})"
    )]
    NotAPrefix { place: Place, content: Content, heads: Vec<(Nr, Nr)> },
    /// P10: two recoveries of one log differ.
    #[error("P10: {place} shows {first:?} after one recovery and {second:?} after another")]
    RecoveriesDiffer { place: Place, first: Content, second: Content },
    /// P1: acknowledged before a `sync` site has it on its media.
    #[error("P1: write {nr} was acknowledged, but {place} of sync site {site} may hold {held:?}")]
    SyncAck { nr: Nr, site: SlinkNr, place: Place, held: Content },
    /// P1: a `sync` site had what was acknowledged, and could lose it.
    #[error(
        "P1: write {nr} was acknowledged and on sync site {site}; now {place} there may hold {held:?}"
    )]
    SyncLost { nr: Nr, site: SlinkNr, place: Place, held: Content },
    /// P1: a `sync` site is said to have what was acknowledged, and does not.
    #[error(
        "P1: site {site} is said to be in force, but {place} there may hold {held:?}, \
             and write {nr} was acknowledged"
    )]
    FalselyInForce { nr: Nr, site: SlinkNr, place: Place, held: Content },
    /// P1: acknowledgements go on without a site, and the table does not allow it.
    #[error("P1: site {site} is not in force any more, against what the table says")]
    GivenUp { site: SlinkNr },
    /// P12: acknowledged though a site is too far behind.
    #[error(
        "P12: a write was acknowledged while site {site} lacks {writes} acknowledged writes, \
             {bytes} bytes, the oldest since {age:?}; its limit is {limit:?}"
    )]
    OverLimit { site: SlinkNr, limit: FallBehind, writes: u64, bytes: u64, age: Span },
    /// P1: acknowledged while it is nowhere but in memory.
    #[error("P1: a write was acknowledged before the log took it in")]
    AckBeforeLog,
    /// P11: the log holds what nobody wrote.
    #[error("P11: the log takes in a write of {content:?} at {place} that nobody submitted")]
    UnknownEntry { place: Place, content: Content },
    /// P2: a read returned something older than what was acknowledged or read before.
    #[error("P2: a read of {place} returned {returned:?}, write {newest} had been seen before")]
    StaleRead { place: Place, returned: Content, newest: Nr },
    /// P3: a crash now could leave an image that no local disk could show.
    #[error(
        "P3: site {site} may show write {shown} at {shown_at} while {lacking_at} may lack \
             write {lacking}, which was acknowledged before write {shown} was submitted"
    )]
    Order { site: SlinkNr, shown: Nr, shown_at: Place, lacking: Nr, lacking_at: Place },
    /// P3: a site is said to be consistent, and was never copied to.
    #[error("P3: site {site} is said to be consistent, and {place} holds what it did at first")]
    Unsynced { site: SlinkNr, place: Place },
    /// P3: a site is fed older data than it may hold.
    #[error("P3: site {site} is fed write {fed} at {place}, it may already hold write {held}")]
    Rewind { site: SlinkNr, place: Place, fed: Nr, held: Nr },
    /// P4: shipped what the log could still lose.
    #[error("P4: {content:?} is shipped to {place} of site {site}, the log may still lose it")]
    AheadOfLog { site: SlinkNr, place: Place, content: Content },
    /// P4, P10: a leg shows a write that is lost or never was.
    #[error("P4: {place} of site {site} may show {content:?}, which is no write of this history")]
    Phantom { site: SlinkNr, place: Place, content: Content },
    /// P11: bytes that no write wrote, on a leg or in a read.
    #[error("P11: {what} for {place} holds {found}")]
    Garbage { what: &'static str, place: Place, found: String },
    /// P16: the payload of a request was asked for twice, or not as the request says.
    #[error("P16: request {}: {what}", req.0)]
    Payload { req: ReqId, what: &'static str },
    /// I4 and plain sense: a disk refused a command.
    #[error("I4: disk {disk}: {refused}")]
    Disk { disk: u32, refused: Refused },
    /// A request ended that was not there, or ended incomplete.
    #[error("request {}: {what}", req.0)]
    Request { req: ReqId, what: &'static str },
    /// An application saw an error that no fault explains.
    #[error("P5: request {} failed with {error}, no fault explains it", req.0)]
    AppError { req: ReqId, error: Errno },
    /// P5, P6: a write waited, and nothing in the table says that it may.
    #[error("P5: request {} waited for {waited:?}, because of a remote site", req.0)]
    Stall { req: ReqId, waited: Span },
    /// P5: something hangs at a site that is not said to be down.
    #[error("P5: an operation at site {site} is past its deadline, and the site is not down")]
    NotDown { site: SlinkNr },
    /// P15: written to a disk that is not the one the site had, and nobody allowed it.
    #[error("P15: disk {disk} is a stranger's, and is written to")]
    Stranger { disk: u32 },
    /// I15: written to a site while something that hangs there is still in flight.
    #[error("I15: site {site} is written to while a write is in flight there since {since:?}")]
    NotFenced { site: SlinkNr, since: Span },
    /// A comparison finds what is not there.
    #[error("site {site} is said to differ in {ranges} ranges, and nothing has rotted there")]
    FalseAlarm { site: SlinkNr, ranges: u64 },
    /// A disk is to be opened while it is being opened.
    #[error("disk {disk} is to be opened twice at a time")]
    DoubleOpen { disk: u32 },
    /// P13: more in flight at a time than a site may hold.
    #[error("P13: {count} operations are in flight to site {site}")]
    Unbounded { site: usize, count: usize },
    /// The machine found that it had broken a rule of its own.
    #[error("the machine panicked: {what}")]
    Panicked { what: String },
    /// Something that must end does not.
    #[error("{what} after {seconds} virtual seconds without a fault")]
    Stuck { what: String, seconds: u64 },
    /// The log could not be opened again.
    #[error("the replicator does not open: {why}")]
    OpenFailed { why: String },
    /// After everything has drained, a leg differs from what was written.
    #[error("{place} of site {site} holds {found:?} after draining, expected {expected:?}")]
    Diverged { site: SlinkNr, place: Place, expected: Content, found: Content },
    /// An I/O was addressed to a disk that is not there.
    #[error("an operation on disk {disk}, which does not exist")]
    NoSuchDisk { disk: u32 },
    /// An operation's name is used for two at a time.
    #[error("two operations {io:?} are in flight at a time")]
    DoubleIo { io: IoId },
}
