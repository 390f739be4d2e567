//! Which numbers there are, and what each is: names as Prometheus wants them, in base units;
//! counters end in `_total` and begin again with a daemon.

use replicator::status::data::{LegStatus, LogStatus};
use replicator::{DeviceStatus, SiteState, SiteStatus, Status};

use super::Asked;
use super::exposition::Sample;

/// One name and what it means.
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) help: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
}

impl Kind {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
        }
    }
}

const fn counter(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: Kind::Counter, help }
}

const fn gauge(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: Kind::Gauge, help }
}

/// All of them, in the order in which they are printed.
pub(super) const FAMILIES: &[Family] = &[
    gauge("replicator_up", "Whether its daemon answers."),
    gauge("replicator_running", "Whether it serves its devices."),
    gauge("replicator_reads_waiting", "Parts of reads that wait for a complete copy."),
    gauge("replicator_log_size_bytes", "Size of the ring."),
    gauge("replicator_log_used_bytes", "Bytes of the ring in use."),
    gauge("replicator_log_tail_size_bytes", "Size of the RAM tail."),
    gauge("replicator_log_tail_used_bytes", "Bytes of the RAM tail in use."),
    gauge("replicator_log_written_seq", "Number of the last write in the log."),
    gauge("replicator_log_durable_seq", "Number of the last write on its stable media."),
    gauge("replicator_log_head_seq", "Number of the last write that every site has."),
    gauge("replicator_log_full", "Whether writes wait for space in the log."),
    gauge("replicator_log_tail_full", "Whether writes wait for the local site."),
    gauge("replicator_log_lost", "Whether the log is lost."),
    gauge("replicator_log_held", "Whether everything waits, the log being lost."),
    gauge("replicator_whole_copies", "Sites with a complete copy."),
    counter("replicator_log_groups_total", "Commit groups since the start."),
    counter("replicator_log_writes_total", "Writes since the start."),
    counter("replicator_log_written_bytes_total", "Bytes written to the log since the start."),
    counter("replicator_log_flushes_total", "Flushes of the log since the start."),
    counter("replicator_log_checkpoints_total", "Checkpoints since the start."),
    gauge("replicator_site_state", "1 for the state that the site is in, 0 for the others."),
    gauge("replicator_site_in_sync", "Whether nothing is wrong with the site."),
    gauge("replicator_site_consistent", "Whether its image could have been found after a crash."),
    gauge("replicator_site_detached", "Whether what it lacks is in dirty regions."),
    gauge("replicator_site_demoted", "Whether it is sync and writers go on without it."),
    gauge("replicator_site_waited_for", "Whether writers wait for it."),
    gauge("replicator_site_over_limit", "Whether it is over its fall-behind limit."),
    gauge("replicator_site_read", "Whether reads come from there."),
    gauge("replicator_site_lag_writes", "Writes of the log that it lacks."),
    gauge("replicator_site_lag_bytes", "Their bytes."),
    gauge("replicator_site_lag_seconds", "The age of the oldest of them."),
    gauge("replicator_site_lag_groups", "The groups they are in."),
    gauge("replicator_site_cursor_seq", "Number of the last write that it covers."),
    gauge("replicator_site_in_flight", "Backing I/Os in flight."),
    gauge("replicator_site_dirty_bytes", "Bytes of its dirty regions."),
    gauge("replicator_site_down_seconds", "For how long it has been down; 0: it is up."),
    counter("replicator_site_shipped_total", "Groups, or local copies, that reached it."),
    counter("replicator_site_round_trips_total", "Barriers since the start."),
    gauge("replicator_site_resync_copied_bytes", "Bytes that the resync under way has copied."),
    gauge("replicator_site_resync_left_bytes", "Bytes that it has before it."),
    gauge("replicator_site_resync_bytes_per_second", "How fast it is."),
    gauge("replicator_site_resync_eta_seconds", "How long the rest takes at that rate."),
    gauge("replicator_site_verify_running", "Whether a comparison is under way."),
    gauge("replicator_site_verify_compared_bytes", "Bytes that it, or the last one, compared."),
    gauge("replicator_site_verify_size_bytes", "Bytes that it had to look at."),
    gauge("replicator_site_verify_differing_ranges", "Ranges that differ, as it found."),
    gauge("replicator_device_size_bytes", "Size of the device."),
    gauge("replicator_device_suspended", "Whether its requests are held back."),
    gauge("replicator_device_in_flight", "Requests that were taken and have not ended."),
    counter("replicator_device_reads_total", "Reads since the start."),
    counter("replicator_device_changes_total", "Writes, discards and write-zeroes."),
    counter("replicator_device_flushes_total", "Flushes since the start."),
    counter("replicator_device_errors_total", "Requests that ended with an error."),
    gauge("replicator_leg_dirty_bytes", "Bytes of the device that are to be copied to a site."),
    gauge("replicator_leg_dirty_log_failed", "Whether the disk of its dirty log failed."),
];

type Labels = Vec<(&'static str, String)>;

/// What one replicator tells.
pub(super) fn samples((name, status): &Asked) -> Vec<Sample> {
    let of = |more: &[(&'static str, String)]| -> Labels {
        std::iter::once(("replicator", name.clone())).chain(more.iter().cloned()).collect()
    };
    let mut all = Samples { all: Vec::new(), labels: of(&[]) };
    all.add("replicator_up", yes(status.is_some()));
    let Some(status) = status else { return all.all };
    all.of_replicator(status);
    if let Some(log) = &status.log {
        all.of_log(log);
    }
    for site in &status.sites {
        all.labels = of(&[("site", site.slink.to_string())]);
        all.of_site(site);
    }
    for device in &status.devices {
        all.labels = of(&[("device", device.name.clone())]);
        all.of_device(device);
        for leg in &device.legs {
            let site = leg.slink.to_string();
            all.labels = of(&[("device", device.name.clone()), ("site", site)]);
            all.of_leg(leg);
        }
    }
    all.all
}

struct Samples {
    all: Vec<Sample>,
    labels: Labels,
}

impl Samples {
    fn add(&mut self, family: &'static str, value: f64) {
        self.all.push(Sample { family, labels: self.labels.clone(), value });
    }

    fn of_replicator(&mut self, status: &Status) {
        self.add("replicator_running", yes(status.state.word() == "running"));
        self.add("replicator_reads_waiting", status.reads_waiting as f64);
    }

    fn of_log(&mut self, log: &LogStatus) {
        let held = log.loss.as_ref().is_some_and(|loss| loss.held.is_some());
        self.add("replicator_log_size_bytes", log.ring_bytes as f64);
        self.add("replicator_log_used_bytes", log.ring_used_bytes as f64);
        self.add("replicator_log_tail_size_bytes", log.tail_bytes as f64);
        self.add("replicator_log_tail_used_bytes", log.tail_used_bytes as f64);
        self.add("replicator_log_written_seq", log.written as f64);
        self.add("replicator_log_durable_seq", log.durable as f64);
        self.add("replicator_log_head_seq", log.head as f64);
        self.add("replicator_log_full", yes(log.full));
        self.add("replicator_log_tail_full", yes(log.tail_full));
        self.add("replicator_log_lost", yes(log.loss.is_some()));
        self.add("replicator_log_held", yes(held));
        self.add("replicator_whole_copies", log.whole_copies.len() as f64);
        self.add("replicator_log_groups_total", log.groups as f64);
        self.add("replicator_log_writes_total", log.writes as f64);
        self.add("replicator_log_written_bytes_total", log.bytes_written as f64);
        self.add("replicator_log_flushes_total", log.flushes as f64);
        self.add("replicator_log_checkpoints_total", log.checkpoints as f64);
    }

    fn of_site(&mut self, site: &SiteStatus) {
        let down = site.failure.as_ref().map_or(0.0, |failure| failure.seconds);
        self.add("replicator_site_in_sync", yes(site.is_in_sync()));
        self.add("replicator_site_consistent", yes(site.consistent));
        self.add("replicator_site_detached", yes(site.detached));
        self.add("replicator_site_demoted", yes(site.demoted));
        self.add("replicator_site_waited_for", yes(site.waited_for));
        self.add("replicator_site_over_limit", yes(site.limits.over));
        self.add("replicator_site_read", yes(site.is_read));
        self.add("replicator_site_lag_writes", site.lag_writes as f64);
        self.add("replicator_site_lag_bytes", site.lag_bytes as f64);
        self.add("replicator_site_lag_seconds", site.lag_seconds);
        self.add("replicator_site_lag_groups", site.lag_groups as f64);
        self.add("replicator_site_cursor_seq", site.cursor as f64);
        self.add("replicator_site_in_flight", site.in_flight as f64);
        self.add("replicator_site_dirty_bytes", site.dirty_bytes as f64);
        self.add("replicator_site_down_seconds", down);
        self.add("replicator_site_shipped_total", site.shipped as f64);
        self.add("replicator_site_round_trips_total", site.round_trips as f64);
        self.of_copies(site);
        let labels = self.labels.clone();
        for state in STATES {
            self.labels = labels.clone();
            self.labels.push(("state", state.word().to_owned()));
            self.add("replicator_site_state", yes(site.state == state));
        }
    }

    /// What is there only while it is under way, or since it was.
    fn of_copies(&mut self, site: &SiteStatus) {
        if let Some(resync) = &site.resync {
            self.add("replicator_site_resync_copied_bytes", resync.copied_bytes as f64);
            self.add("replicator_site_resync_left_bytes", resync.left_bytes as f64);
            self.add("replicator_site_resync_bytes_per_second", resync.rate_bytes as f64);
            let eta = resync.eta_seconds.unwrap_or(f64::INFINITY);
            self.add("replicator_site_resync_eta_seconds", eta);
        }
        if let Some(verify) = &site.verify {
            self.add("replicator_site_verify_running", yes(verify.running));
            self.add("replicator_site_verify_compared_bytes", verify.compared_bytes as f64);
            self.add("replicator_site_verify_size_bytes", verify.total_bytes as f64);
            let ranges = verify.differing_ranges as f64;
            self.add("replicator_site_verify_differing_ranges", ranges);
        }
    }

    fn of_device(&mut self, device: &DeviceStatus) {
        self.add("replicator_device_size_bytes", device.sectors as f64 * SECTOR);
        self.add("replicator_device_suspended", yes(device.suspended));
        self.add("replicator_device_in_flight", device.in_flight as f64);
        self.add("replicator_device_reads_total", device.reads as f64);
        self.add("replicator_device_changes_total", device.changes as f64);
        self.add("replicator_device_flushes_total", device.flushes as f64);
        self.add("replicator_device_errors_total", device.errors as f64);
    }

    fn of_leg(&mut self, leg: &LegStatus) {
        self.add("replicator_leg_dirty_bytes", leg.dirty_bytes as f64);
        self.add("replicator_leg_dirty_log_failed", yes(leg.dirty_log_failure.is_some()));
    }
}

fn yes(is: bool) -> f64 {
    f64::from(u8::from(is))
}

const STATES: [SiteState; 5] = [
    SiteState::Opening,
    SiteState::Streaming,
    SiteState::Detached,
    SiteState::Resyncing,
    SiteState::Down,
];

const SECTOR: f64 = 512.0;
