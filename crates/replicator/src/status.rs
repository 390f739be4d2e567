//! How a replicator is: as data, and in the layouts of 2009.
//!
//! ```text
//! replicator:      { "<S|A>,<writes>,<sectors>" } per site, "<writes>/<sectors>/<log sectors>", key:value …
//! replicator-dev:  "<replicator> <dev_nr>" { "<A|R|W|RW>,<-|regions in sync/regions>" } per site, key:value …
//! ```
//!
//! `S`: acknowledgements wait for the site. Writes and sectors are those that the
//! site lacks. All sizes are in 512-byte sectors unless the name says otherwise.

use blk::{Seq, Time};
use serde::Serialize;

use crate::device::Device;
use crate::machine::{Phase, Replicator, is_sync};

/// How a replicator is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Status {
    /// Its name.
    pub name: String,
    /// `opening`, `running`, `stopping`, `stopped` or `failed`.
    pub state: &'static str,
    /// Why it is not well, in a sentence; none if it is.
    pub trouble: Option<String>,
    /// Its log; none before it is open.
    pub log: Option<LogStatus>,
    /// Its sites, in the order of the table.
    pub sites: Vec<SiteStatus>,
    /// Its devices, in the order of their numbers.
    pub devices: Vec<DeviceStatus>,
}

/// How a log is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
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
    /// Writes wait for the log's head to move.
    pub full: bool,
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
}

/// How a site is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SiteStatus {
    /// Its number.
    pub slink: u16,
    /// Its type.
    pub kind: String,
    /// Whether acknowledgements wait for it.
    pub sync: bool,
    /// `streaming` or `down`.
    pub state: &'static str,
    /// Whether its image is one that the application could have found after a crash.
    pub consistent: bool,
    /// The last write it has on its media.
    pub cursor: u64,
    /// Writes, bytes and seconds it is behind.
    pub lag_writes: u64,
    /// See `lag_writes`.
    pub lag_bytes: u64,
    /// See `lag_writes`.
    pub lag_seconds: f64,
    /// Backing I/Os in flight.
    pub in_flight: usize,
    /// The device whose backing device failed, and how; none if none did.
    pub failure: Option<SiteFailure>,
}

/// What stopped a site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SiteFailure {
    /// The device.
    pub dev: u32,
    /// What failed.
    pub what: &'static str,
    /// How.
    pub error: String,
}

/// How a device is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LegStatus {
    /// The site.
    pub slink: u16,
    /// The backing device.
    pub path: String,
    /// What it is, whatever its path.
    pub identity: String,
    /// Regions that are in sync, and in all; none without a dirty log.
    pub regions_in_sync: Option<u64>,
    /// See `regions_in_sync`.
    pub regions: Option<u64>,
}

impl Replicator {
    /// How it is at `now`.
    #[must_use]
    pub fn status(&self, now: Time) -> Status {
        Status {
            name: self.plan.name.clone(),
            state: state_word(&self.phase()),
            trouble: self.trouble(now),
            log: self.log_status(),
            sites: (0..self.links.len()).map(|at| self.site_status(at, now)).collect(),
            devices: self.devices.values().map(|device| self.device_status(device)).collect(),
        }
    }

    /// The single reason why things don't move, if they don't.
    fn trouble(&self, now: Time) -> Option<String> {
        if let Phase::Failed(error) = self.phase() {
            return Some(error.to_string());
        }
        let log = self.log.as_ref()?;
        if let Some(failure) = log.failure() {
            return Some(failure.to_string());
        }
        let down = self.links.iter().find_map(|link| {
            let down = link.report(now, log).down?;
            Some(format!("site {}: {down}", link.nr()))
        });
        match (down, log.is_starved()) {
            (Some(down), true) => Some(format!("the log is full; {down}")),
            (Some(down), false) => Some(down),
            (None, _) => None,
        }
    }

    fn log_status(&self) -> Option<LogStatus> {
        let log = self.log.as_ref()?;
        let counters = log.counters();
        let (tail_used_bytes, tail_bytes) = log.tail_bytes();
        Some(LogStatus {
            uuid: log.superblock().uuid.to_string(),
            epoch: log.superblock().epoch,
            size_sectors: log.geometry().size().0,
            ring_used_bytes: log.used_bytes(),
            ring_bytes: log.geometry().ring_bytes(),
            tail_used_bytes,
            tail_bytes,
            written: log.written().0,
            durable: log.durable().0,
            head: log.index().first_seq().prev().0,
            full: log.is_starved(),
            groups: counters.groups,
            writes: counters.writes,
            bytes_written: counters.log_bytes,
            flushes: counters.flushes,
            checkpoints: counters.checkpoints,
        })
    }

    fn site_status(&self, at: usize, now: Time) -> SiteStatus {
        let (slink, link) = (&self.plan.slinks[at], &self.links[at]);
        let mut status = SiteStatus {
            slink: slink.nr.0,
            kind: slink.kind.clone(),
            sync: is_sync(slink),
            state: "opening",
            consistent: true,
            cursor: 0,
            lag_writes: 0,
            lag_bytes: 0,
            lag_seconds: 0.0,
            in_flight: 0,
            failure: None,
        };
        let Some(log) = &self.log else { return status };
        let report = link.report(now, log);
        let covered = log.covered(slink.nr);
        status.state = report.state.word();
        status.consistent = report.consistent;
        status.cursor = covered.0;
        status.lag_writes = log.written().lag(covered);
        status.lag_bytes = self.lacking_sectors(covered) * blk::SECTOR_BYTES as u64;
        let oldest = log.index().group_of(covered.next()).filter(|_| status.lag_writes > 0);
        status.lag_seconds = oldest.map_or(0.0, |g| now.since(g.closed).as_secs_f64());
        status.in_flight = report.in_flight;
        status.failure = report.down.map(|down| SiteFailure {
            dev: down.dev.0,
            what: down.what,
            error: down.to_string(),
        });
        status
    }

    /// Sectors of the writes that a site lacks.
    fn lacking_sectors(&self, covered: Seq) -> u64 {
        let Some(log) = &self.log else { return 0 };
        let lacking = (covered.0 + 1..=log.written().0).filter_map(|s| log.index().write(Seq(s)));
        lacking.map(|write| write.len.0).sum()
    }

    fn device_status(&self, device: &Device) -> DeviceStatus {
        let plan = self.plan.device(device.nr).expect("a device has a plan");
        let legs = plan.legs.iter().map(|leg| {
            let link = self.links.iter().find(|link| link.nr() == leg.slink);
            let dirty_log = link
                .and_then(|link| link.dirty_log(device.nr))
                .filter(|_| is_logged(&leg.dirty_log));
            LegStatus {
                slink: leg.slink.0,
                path: leg.disk.path.clone(),
                identity: leg.disk.identity().to_owned(),
                regions_in_sync: dirty_log.map(dirty_log::DirtyLog::regions_in_sync),
                regions: dirty_log.map(dirty_log::DirtyLog::regions),
            }
        });
        DeviceStatus {
            name: plan.name.clone(),
            dev: device.nr.0,
            sectors: device.size.0,
            suspended: device.suspended,
            in_flight: device.in_flight,
            reads: device.counters.reads,
            changes: device.counters.changes,
            flushes: device.counters.flushes,
            errors: device.counters.errors,
            legs: legs.collect(),
        }
    }
}

impl Status {
    /// The line of the target `replicator`, as in 2009, then `key:value` fields.
    #[must_use]
    pub fn replicator_line(&self) -> String {
        let site = |s: &SiteStatus| {
            let forced = if s.sync { 'S' } else { 'A' };
            format!("{forced},{},{}", s.lag_writes, sectors(s.lag_bytes))
        };
        let mut words: Vec<String> = self.sites.iter().map(site).collect();
        let writes: u64 = self.sites.iter().map(|s| s.lag_writes).sum();
        let bytes: u64 = self.sites.iter().map(|s| s.lag_bytes).sum();
        let size = self.log.as_ref().map_or(0, |log| log.size_sectors);
        words.push(format!("{writes}/{}/{size}", sectors(bytes)));
        words.push(format!("state:{}", self.state));
        if let Some(log) = &self.log {
            let used = log.ring_used_bytes * 100 / log.ring_bytes;
            words.push(format!("log:{used}%{}", if log.full { ",full" } else { "" }));
            words
                .push(format!("written:{} durable:{} head:{}", log.written, log.durable, log.head));
        }
        words.extend(self.sites.iter().map(SiteStatus::field));
        words.join(" ")
    }

    /// The line of a target `replicator-dev`, as in 2009, then `key:value` fields.
    #[must_use]
    pub fn device_line(&self, device: &DeviceStatus) -> String {
        let mut words = vec![self.name.clone(), device.dev.to_string()];
        for leg in &device.legs {
            let failed = self.sites.iter().any(|s| s.slink == leg.slink && s.failure.is_some());
            let sync = match (leg.regions_in_sync, leg.regions) {
                (Some(clean), Some(all)) => format!("{clean}/{all}"),
                _ => "-".to_owned(),
            };
            words.push(format!("{},{sync}", if failed { 'W' } else { 'A' }));
        }
        let state = if device.suspended { "suspended" } else { "active" };
        words.push(format!("state:{state} in_flight:{}", device.in_flight));
        words.push(format!(
            "reads:{} changes:{} flushes:{} errors:{}",
            device.reads, device.changes, device.flushes, device.errors
        ));
        words.join(" ")
    }
}

impl SiteStatus {
    fn field(&self) -> String {
        let consistent = if self.consistent { "consistent" } else { "inconsistent" };
        format!(
            "site{}:{},{consistent},cursor={},lag={}w/{}B/{:.1}s",
            self.slink, self.state, self.cursor, self.lag_writes, self.lag_bytes, self.lag_seconds
        )
    }
}

fn state_word(phase: &Phase) -> &'static str {
    match phase {
        Phase::Opening { .. } => "opening",
        Phase::Running => "running",
        Phase::Stopping => "stopping",
        Phase::Stopped => "stopped",
        Phase::Failed(_) => "failed",
    }
}

fn sectors(bytes: u64) -> u64 {
    bytes / blk::SECTOR_BYTES as u64
}

fn is_logged(dirty_log: &table::DirtyLogTable) -> bool {
    !matches!(dirty_log, table::DirtyLogTable::Nolog)
}
