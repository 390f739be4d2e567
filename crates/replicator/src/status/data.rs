//! How a replicator is, as data: what `--json` prints, and what all sentences are made of.
//!
//! Sizes are in bytes and times in seconds, unless the name says otherwise.

use serde::{Deserialize, Serialize};

use super::verify::VerifyStatus;

/// How a replicator is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Its name.
    pub name: String,
    /// What it is doing.
    pub state: RunState,
    /// Why it is not well, in a sentence; none if it is.
    pub trouble: Option<String>,
    /// Parts of reads that wait until a complete copy can be read.
    pub reads_waiting: usize,
    /// Its log; none before it is open.
    pub log: Option<LogStatus>,
    /// Its sites, in the order of the table.
    pub sites: Vec<SiteStatus>,
    /// Its devices, in the order of their numbers.
    pub devices: Vec<DeviceStatus>,
    /// What happened to its sites lately, oldest first.
    pub events: Vec<EventStatus>,
    /// Counters of the front end, after the message `statistics on`.
    pub statistics: Option<FrontStatistics>,
}

/// Requests since the start, or since the message `statistics reset`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrontStatistics {
    /// Reads, and of them those that were taken.
    pub reads: u64,
    /// See `reads`.
    pub reads_taken: u64,
    /// Changes, and of them those that were taken.
    pub writes: u64,
    /// See `writes`.
    pub writes_taken: u64,
    /// Changes that were taken at once, and those that waited for room.
    pub not_congested: u64,
    /// See `not_congested`.
    pub congested: u64,
}

/// The ring: places as sectors of the log device; counters since the start, or since the
/// message `replog statistics reset`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RingStatus {
    /// Where the ring begins, and behind its end.
    pub start: u64,
    /// See `start`.
    pub end: u64,
    /// Where the oldest group lies that a site needs.
    pub head: u64,
    /// Where the last group ends that is written.
    pub tail: u64,
    /// Where the next one goes.
    pub next_avail: u64,
    /// Sectors that may be written.
    pub free: u64,
    /// Laps since the log was made.
    pub laps: u64,
    /// Payloads read back, and groups written.
    pub reads: u64,
    /// See `reads`.
    pub writes: u64,
    /// Reads of applications that found something newer in the log than on the LD.
    pub met_pending: u64,
    /// Writes that a site needs, those that came in, and the most that were needed at once.
    pub live: u64,
    /// See `live`.
    pub inserts: u64,
    /// See `live`.
    pub live_max: u64,
    /// Groups that were let go of when one site, or each of several, had them.
    pub single: u64,
    /// See `single`.
    pub multi: u64,
    /// How often writes began to wait for space.
    pub stalls: u64,
}

/// What a replicator is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    /// Its log is being opened.
    #[default]
    Opening,
    /// It serves its devices.
    Running,
    /// Its sites catch up, then its log is closed.
    Stopping,
    /// It is closed.
    Stopped,
    /// Its log could not be opened.
    Failed,
}

/// How a log is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogStatus {
    /// Its identity.
    pub uuid: String,
    /// How often it was opened.
    pub epoch: u64,
    /// Its size, headers included.
    pub size_sectors: u64,
    /// Bytes of the ring in use, and in all.
    pub ring_used_bytes: u64,
    /// See `ring_used_bytes`.
    pub ring_bytes: u64,
    /// Bytes of the RAM tail in use, and in all.
    pub tail_used_bytes: u64,
    /// See `tail_used_bytes`.
    pub tail_bytes: u64,
    /// The last write that is in the log.
    pub written: u64,
    /// The last write that is on its stable media.
    pub durable: u64,
    /// The last write that every site has.
    pub head: u64,
    /// The site that is read where memory and log have nothing newer: the local one, or
    /// another while that can't be read. None if no complete copy can be.
    pub reads_from: Option<u16>,
    /// The sites with a complete copy, whether it can be read now or not.
    pub whole_copies: Vec<u16>,
    /// Writes wait for the log's head to move.
    pub full: bool,
    /// Writes wait for the local site to take what the RAM tail holds.
    pub tail_full: bool,
    /// How its device failed, if it did.
    pub failure: Option<String>,
    /// What becomes of the devices without it, if it is lost.
    pub loss: Option<LossStatus>,
    /// Groups, writes, bytes, flushes and checkpoints since the start.
    pub groups: u64,
    /// See `groups`.
    pub writes: u64,
    /// See `groups`.
    pub bytes_written: u64,
    /// See `groups`.
    pub flushes: u64,
    /// See `groups`.
    pub checkpoints: u64,
    /// The last bookmark since the start.
    pub bookmark: Option<BookmarkStatus>,
    /// Another size that was asked for, and is not there yet.
    pub resize: Option<ResizeStatus>,
    /// Counters of the ring, after the message `replog statistics on`.
    pub statistics: Option<RingStatus>,
}

/// Another size for the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResizeStatus {
    /// The size that it has.
    pub from_sectors: u64,
    /// The size that it is to have.
    pub to_sectors: u64,
    /// What that waits for: "until …" or "for …".
    pub waits_for: String,
}

/// A bookmark.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BookmarkStatus {
    /// Its number among the writes.
    pub seq: u64,
    /// What it says.
    pub text: String,
}

/// How the devices are without their log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LossStatus {
    /// The local disks stand in for it.
    pub bypassed: bool,
    /// Why everything waits, if it does.
    pub held: Option<String>,
    /// What is being done about a new one.
    pub replacing: Option<String>,
    /// Why the last attempt at one did not go well.
    pub replace_failed: Option<String>,
}

/// How a site is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SiteStatus {
    /// Its number.
    pub slink: u16,
    /// Its type.
    pub kind: String,
    /// Its policy, as the table says it.
    pub policy: String,
    /// Whether the table says that acknowledgements wait for it.
    pub sync: bool,
    /// What it does.
    pub state: SiteState,
    /// Whether its image is one that the application could have found after a crash.
    pub consistent: bool,
    /// Reads come from there, as far as neither memory nor the log has newer content.
    pub is_read: bool,
    /// It keeps its own state on a device there (`mark:`). If not, whether it is consistent is
    /// known only here.
    pub marked: bool,
    /// What it lacks is, at least in part, in dirty regions and not in the log.
    pub detached: bool,
    /// Why it was detached, if that was since the start.
    pub detached_why: Option<String>,
    /// It is `sync`, and acknowledgements go on without it.
    pub demoted: bool,
    /// Writers wait for it, be it that it is `sync`, over its limit, or that the log is full.
    pub waited_for: bool,
    /// The last write that it has on its media, or in dirty regions.
    pub cursor: u64,
    /// Writes of the log that it lacks.
    pub lag_writes: u64,
    /// Their bytes.
    pub lag_bytes: u64,
    /// The age of the oldest of them.
    pub lag_seconds: f64,
    /// The groups they are in.
    pub lag_groups: u64,
    /// What is kept in order on the way to it.
    pub order: SiteOrder,
    /// Groups, or for a site without an order copies, that reached it since the start.
    pub shipped: u64,
    /// Barriers since the start.
    pub round_trips: u64,
    /// `shipped` by `round_trips`; none before the first.
    pub groups_per_round_trip: Option<f64>,
    /// Backing I/Os in flight.
    pub in_flight: usize,
    /// Bytes of its dirty regions.
    pub dirty_bytes: u64,
    /// The resync under way.
    pub resync: Option<ResyncStatus>,
    /// The comparison with what it should hold that is under way, or the last one.
    pub verify: Option<VerifyStatus>,
    /// What the table says of its falling behind.
    pub limits: Limits,
    /// The device whose backing device failed, and how; none if none did.
    pub failure: Option<SiteFailure>,
}

/// What a site does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SiteState {
    /// The log is being opened; nothing is known yet.
    #[default]
    Opening,
    /// It is fed from the log.
    Streaming,
    /// What it lacks becomes dirty regions.
    Detached,
    /// Dirty regions are being copied.
    Resyncing,
    /// A device failed; it is tried again from time to time.
    Down,
}

/// What is kept in order on the way to a site: the bound on how fast it can be fed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SiteOrder {
    /// Nothing: a local site, which the log makes whole again.
    #[default]
    None,
    /// One commit group a round trip.
    Group,
    /// One flush epoch a round trip: as many groups as lie between two flushes.
    Flush,
}

/// How far a resync is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ResyncStatus {
    /// How long it has been under way.
    pub seconds: f64,
    /// Bytes copied, and bytes that are still dirty.
    pub copied_bytes: u64,
    /// See `copied_bytes`.
    pub left_bytes: u64,
    /// Bytes a second, lately.
    pub rate_bytes: u64,
    /// The share that is copied.
    pub percent: u8,
    /// How long the rest takes at this rate; none while it stands still.
    pub eta_seconds: Option<f64>,
}

/// How far a site may fall behind, and what becomes of writers then.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// The limit, as the table says it; none without one.
    pub fall_behind: Option<String>,
    /// It is crossed, and writers wait.
    pub over: bool,
    /// `sync` or `bitmap`.
    pub on_limit: String,
    /// `bitmap`, `hold` or `error`.
    pub on_down: String,
    /// What becomes of writers when the log is full of what it lacks, as it is now.
    pub on_full: Fate,
    /// The deadline of one backing I/O.
    pub timeout_io_seconds: f64,
    /// The most that a resync copies in a second; 0: as much as does not hurt.
    pub resync_rate_bytes: u64,
}

/// What becomes of writers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fate {
    /// Nothing: the site is detached.
    #[default]
    Detach,
    /// They wait for the site.
    Hold,
    /// They get an error.
    Error,
}

/// What stopped a site.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SiteFailure {
    /// The device.
    pub dev: u32,
    /// What failed: `a write`.
    pub what: String,
    /// How.
    pub how: FailureKind,
    /// What, where and how, in a sentence.
    pub error: String,
    /// Reads have failed since it is down, or can't be tried.
    pub reads_fail: bool,
    /// The same of writes and flushes.
    pub writes_fail: bool,
    /// How long it has been down.
    pub seconds: f64,
    /// When it is tried again, from now; none: not before somebody says so.
    pub retry_seconds: Option<f64>,
}

/// How a site's device failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// It said so.
    #[default]
    Error,
    /// It did not answer within its deadline.
    Hung,
    /// It could not be opened.
    NotOpened,
    /// It is not what it was, or can't be used.
    Unfit,
    /// Somebody took the site down.
    Asked,
}

/// How a device is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceStatus {
    /// Its name.
    pub name: String,
    /// Its number in the group.
    pub dev: u32,
    /// Its size.
    pub sectors: u64,
    /// Whether requests are held back.
    pub suspended: bool,
    /// Requests that were taken and have not ended.
    pub in_flight: u64,
    /// Reads since the start.
    pub reads: u64,
    /// Writes, discards and write-zeroes since the start.
    pub changes: u64,
    /// Flushes since the start.
    pub flushes: u64,
    /// Requests that ended with an error.
    pub errors: u64,
    /// Its legs.
    pub legs: Vec<LegStatus>,
}

/// How a leg is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegStatus {
    /// The site.
    pub slink: u16,
    /// The backing device.
    pub path: String,
    /// What it was when the replicator started, whatever its path; empty if it was not there.
    pub identity: String,
    /// The type of its dirty log.
    pub dirty_log: String,
    /// What became of the disk of its dirty log, if that failed.
    pub dirty_log_failure: Option<String>,
    /// Regions that are in sync, and in all; none without a dirty log.
    pub regions_in_sync: Option<u64>,
    /// See `regions_in_sync`.
    pub regions: Option<u64>,
    /// Bytes that are to be copied.
    pub dirty_bytes: u64,
}

/// One transition of a site, or of the log.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EventStatus {
    /// When, from the start of the daemon.
    pub seconds: f64,
    /// The site; none if it is about the log.
    pub slink: Option<u16>,
    /// What happened to it.
    pub what: String,
}

impl Status {
    /// A site.
    #[must_use]
    pub fn site(&self, slink: u16) -> Option<&SiteStatus> {
        self.sites.iter().find(|site| site.slink == slink)
    }

    /// Whether nothing can be sent to a site now: it is down, or there is no log to feed it from.
    #[must_use]
    pub fn is_cut_off(&self, site: &SiteStatus) -> bool {
        let is_lost = self.log.as_ref().is_some_and(|log| log.loss.is_some());
        site.state == SiteState::Down || (is_lost && !site.is_local())
    }
}

impl LogStatus {
    /// The share of the ring in use.
    #[must_use]
    pub fn ring_used_percent(&self) -> u64 {
        (self.ring_used_bytes * 100).checked_div(self.ring_bytes).unwrap_or_default()
    }
}

impl SiteStatus {
    /// Whether it is the local site.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.slink == 0
    }

    /// Whether nothing is wrong with it: it keeps up, and nothing that was compared differs.
    #[must_use]
    pub fn is_in_sync(&self) -> bool {
        self.keeps_up() && !self.verify.as_ref().is_some_and(VerifyStatus::is_wrong)
    }

    /// Whether it is consistent, and lacks no more than the group on
    /// its way to it and the one behind that. A local site may lack whatever the log holds,
    /// which makes it whole again.
    #[must_use]
    pub(super) fn keeps_up(&self) -> bool {
        let near = self.lag_groups <= NEAR_GROUPS || self.order == SiteOrder::None;
        self.state == SiteState::Streaming
            && self.consistent
            && !self.detached
            && !self.demoted
            && !self.limits.over
            && near
    }

    /// Whether it holds every write up to `seq`, and its image is one that could have been
    /// found after a crash. What it has in dirty regions does not count.
    #[must_use]
    pub fn has_everything_up_to(&self, seq: u64) -> bool {
        let streams = self.state == SiteState::Streaming && !self.detached;
        streams && self.consistent && self.cursor >= seq
    }
}

impl ResyncStatus {
    /// How far a resync is that has copied `copied_bytes` and has `left_bytes` before it.
    #[must_use]
    pub fn new(seconds: f64, copied_bytes: u64, left_bytes: u64, rate_bytes: u64) -> Self {
        let all = u128::from(copied_bytes) + u128::from(left_bytes);
        let percent = (u128::from(copied_bytes) * 100).checked_div(all).unwrap_or(100);
        let eta_seconds = match (left_bytes, rate_bytes) {
            (0, _) => Some(0.0),
            (_, 0) => None,
            (left, rate) => Some(left as f64 / rate as f64),
        };
        Self {
            seconds,
            copied_bytes,
            left_bytes,
            rate_bytes,
            percent: u8::try_from(percent).expect("a share is at most 100 %"),
            eta_seconds,
        }
    }

    /// Bytes to be copied in all, as far as known by now.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.copied_bytes.saturating_add(self.left_bytes)
    }
}

impl RunState {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
        }
    }
}

impl SiteState {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Streaming => "streaming",
            Self::Detached => "detached",
            Self::Resyncing => "resyncing",
            Self::Down => "down",
        }
    }
}

impl SiteOrder {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Group => "group",
            Self::Flush => "flush",
        }
    }
}

/// What a site that is fed as fast as it can may lack at any moment.
const NEAR_GROUPS: u64 = 2;
