//! What happened to a site, for logs, events and people.

use std::fmt;

use blk::{DevNr, SlinkNr, Time};

use crate::health::{Down, Failure};

/// One transition of one site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteEvent {
    /// When.
    pub at: Time,
    /// Which site.
    pub slink: SlinkNr,
    /// What.
    pub what: Transition,
}

/// What became of a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transition {
    /// A device failed, hangs or is absent.
    WentDown(Down),
    /// It works again.
    CameUp,
    /// What it lacks is in dirty regions from now on.
    Detached(Why),
    /// Dirty regions are being copied; its image is no state the devices ever had.
    ResyncBegan,
    /// Little is left to be copied: the log is kept for it from here on.
    Attached,
    /// No region is dirty any more: it is fed from the log again.
    Synced,
    /// Its image is one that the devices could have been found in.
    Consistent,
    /// Writers are not held to what the table says of it: a `sync` site's acknowledgements
    /// go on without it.
    Demoted,
    /// Writers are held to it again.
    Promoted,
    /// It crossed its fall-behind limit, and writers wait for it.
    OverLimit,
    /// It is well below its limit again.
    WithinLimit,
    /// It was compared with what it should hold: so many ranges differ.
    Verified(u64),
}

/// Why a site was detached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The log was full of what it lacks.
    LogFull,
    /// It crossed its fall-behind limit.
    Limit,
    /// Somebody asked for it.
    Asked,
    /// Something there is not what it should be.
    Differs,
    /// There is no log to feed it from.
    LogLost,
    /// A device has grown, and what the site holds behind its old end is unknown.
    Grown,
}

impl Transition {
    /// One of each, with each reason and each kind of result, for tables and tests of all of them.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let (since, retry_at) = (Time(0), Time(0));
        let down = Down { dev: DevNr(0), what: "a write", how: Failure::Hung, since, retry_at };
        let mut all = vec![Self::WentDown(down), Self::CameUp];
        all.extend(Why::ALL.map(Self::Detached));
        all.extend([Self::ResyncBegan, Self::Attached, Self::Synced, Self::Consistent]);
        all.extend([Self::Demoted, Self::Promoted, Self::OverLimit, Self::WithinLimit]);
        all.extend([0, 1].map(Self::Verified));
        all
    }

    /// Its name in tables. A new one wants a place in [`Transition::all`] as well.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::WentDown(_) => "WentDown",
            Self::CameUp => "CameUp",
            Self::Detached(_) => "Detached",
            Self::ResyncBegan => "ResyncBegan",
            Self::Attached => "Attached",
            Self::Synced => "Synced",
            Self::Consistent => "Consistent",
            Self::Demoted => "Demoted",
            Self::Promoted => "Promoted",
            Self::OverLimit => "OverLimit",
            Self::WithinLimit => "WithinLimit",
            Self::Verified(_) => "Verified",
        }
    }
}

impl Why {
    /// Each of them.
    pub const ALL: [Self; 6] =
        [Self::LogFull, Self::Limit, Self::Asked, Self::Differs, Self::LogLost, Self::Grown];
}

impl fmt::Display for SiteEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "site {}: {}", self.slink, self.what)
    }
}

impl fmt::Display for Transition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WentDown(down) => write!(f, "down: {down}; the log keeps what it lacks"),
            Self::CameUp => f.write_str("up again"),
            Self::Detached(why) => {
                write!(f, "detached, since {why}; what it lacks becomes dirty regions")
            }
            Self::ResyncBegan => {
                f.write_str("resync began; its image is inconsistent until its end")
            }
            Self::Attached => f.write_str("little is left to be copied; the log is kept for it"),
            Self::Synced => f.write_str("no region is dirty any more; fed from the log again"),
            Self::Consistent => f.write_str("consistent"),
            Self::Demoted => f.write_str("demoted: writers go on without it"),
            Self::Promoted => {
                f.write_str("promoted: writers are held to it again, as the table says")
            }
            Self::OverLimit => f.write_str("over its fall-behind limit; writers wait for it"),
            Self::WithinLimit => f.write_str("within its fall-behind limit again"),
            Self::Verified(0) => f.write_str("verified: nothing differs"),
            Self::Verified(1) => f.write_str("verified: 1 range differs"),
            Self::Verified(ranges) => write!(f, "verified: {ranges} ranges differ"),
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LogFull => "the log was full of what it lacks",
            Self::Limit => "it crossed its fall-behind limit",
            Self::Asked => "it was asked for",
            Self::Differs => "something there differed and is to be repaired",
            Self::LogLost => "the log was lost",
            Self::Grown => "a device has grown",
        })
    }
}
