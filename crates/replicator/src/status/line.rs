//! The status lines of 2009, each followed by `key:value` fields that 2009 had no place for.
//!
//! ```text
//! replicator:      { "<S|A>,<writes>,<sectors>" } per site, "<writes>/<sectors>/<log sectors>", key:value …
//! replicator-dev:  "<replicator> <dev_nr>" { "<A|R|W|RW>,<-|in sync[+]/regions>" } per site, key:value …
//! ```
//!
//! After the message `statistics on` a line of the target `replicator` begins with counters,
//! `v=VERSION r=.. w=.. rs=.. ws=.. nc=.. c=..`: reads and writes that came (`r`, `w`) and were
//! taken (`rs`, `ws`), writes taken at once (`nc`) and after waiting for room (`c`). After
//! `replog statistics on` the ring's follow the total.
//!
//! `S`: writers wait for the site now. Writes and sectors are those that the site lacks. `R`,
//! `W`, `RW`: the site is down since a read, a write, or either failed. `+`: a resync copies.
//! `unmarked`: whether the site is consistent is known only here, for it has no `mark:`.
//! All sizes are in 512-byte sectors unless they have a unit.

use super::data::{
    DeviceStatus, FrontStatistics, LegStatus, RingStatus, SiteState, SiteStatus, Status,
};
use super::verify::VerifyStatus;

impl Status {
    /// The line of the target `replicator`.
    #[must_use]
    pub fn replicator_line(&self) -> String {
        let mut words: Vec<String> = self.statistics.iter().map(FrontStatistics::words).collect();
        words.extend(self.sites.iter().map(SiteStatus::word));
        words.push(self.total());
        words.extend(self.log.iter().filter_map(|log| Some(log.statistics.as_ref()?.words())));
        words.push(format!("state:{}", self.state.word()));
        words.extend(self.log_field());
        words.extend(self.sites.iter().map(SiteStatus::field));
        words.join(" ")
    }

    /// The line of a target `replicator-dev`.
    #[must_use]
    pub fn device_line(&self, device: &DeviceStatus) -> String {
        let mut words = vec![self.name.clone(), device.dev.to_string()];
        words.extend(device.legs.iter().map(|leg| self.leg_word(leg)));
        let state = if device.suspended { "suspended" } else { "active" };
        words.push(format!("state:{state} in_flight:{}", device.in_flight));
        words.push(format!(
            "reads:{} changes:{} flushes:{} errors:{}",
            device.reads, device.changes, device.flushes, device.errors
        ));
        words.join(" ")
    }

    fn total(&self) -> String {
        let writes: u64 = self.sites.iter().map(|s| s.lag_writes).sum();
        let bytes: u64 = self.sites.iter().map(|s| s.lag_bytes).sum();
        let size = self.log.as_ref().map_or(0, |log| log.size_sectors);
        format!("{writes}/{}/{size}", sectors(bytes))
    }

    fn log_field(&self) -> Option<String> {
        let log = self.log.as_ref()?;
        let (written, durable, head) = (log.written, log.durable, log.head);
        let used = log.ring_used_percent();
        let state = match (&log.loss, log.full, log.tail_full) {
            (Some(loss), ..) if loss.bypassed => "lost,bypassed".to_owned(),
            (Some(_), ..) => "lost,held".to_owned(),
            (None, true, _) => format!("{used}%,full"),
            (None, false, true) => format!("{used}%,tail_full"),
            (None, false, false) => format!("{used}%"),
        };
        let mark = log.bookmark.as_ref().map(|mark| format!(" bookmark:{}", mark.seq));
        let mark = mark.unwrap_or_default();
        let resize = log.resize.as_ref().map(|resize| format!(" resize:{}", resize.to_sectors));
        let resize = resize.unwrap_or_default();
        Some(format!("log:{state} written:{written} durable:{durable} head:{head}{mark}{resize}"))
    }

    fn leg_word(&self, leg: &LegStatus) -> String {
        let site = self.site(leg.slink);
        let resyncing = site.is_some_and(|site| site.state == SiteState::Resyncing);
        let sync = match (leg.regions_in_sync, leg.regions) {
            (Some(clean), Some(all)) => {
                let copying = if resyncing && clean < all { "+" } else { "" };
                format!("{clean}{copying}/{all}")
            }
            _ => "-".to_owned(),
        };
        format!("{},{sync}", site.map_or("A", SiteStatus::error_word))
    }
}

impl FrontStatistics {
    fn words(&self) -> String {
        let Self { reads, reads_taken, writes, writes_taken, not_congested, congested } = self;
        format!(
            "v={} r={reads} w={writes} rs={reads_taken} ws={writes_taken} nc={not_congested} \
             c={congested}",
            env!("CARGO_PKG_VERSION")
        )
    }
}

impl RingStatus {
    fn words(&self) -> String {
        let Self { start, end, head, tail, next_avail, free, laps, reads, writes, .. } = self;
        let Self { met_pending, live, inserts, live_max, single, multi, stalls, .. } = self;
        format!(
            "ring->start={start} ring->head={head} ring->tail={tail} ring->next_avail={next_avail} \
             ring->end={end} ring_free={free} wrap={laps} r={reads} w={writes} wp={met_pending} \
             he={live} hash_insert={inserts} hash_insert_max={live_max} single={single} \
             multi={multi} stall={stalls}"
        )
    }
}

impl SiteStatus {
    /// As in 2009.
    fn word(&self) -> String {
        let forced = if self.waited_for { 'S' } else { 'A' };
        format!("{forced},{},{}", self.lag_writes, sectors(self.lag_bytes))
    }

    /// What 2009 had no words for.
    fn field(&self) -> String {
        let consistent = if self.consistent { "consistent" } else { "inconsistent" };
        let mut parts = vec![
            format!("site{}:{},{consistent}", self.slink, self.state.word()),
            format!("cursor={}", self.cursor),
            format!("lag={}w/{}B/{:.1}s", self.lag_writes, self.lag_bytes, self.lag_seconds),
            format!("order={}", self.order.word()),
            format!("round_trips={}", self.round_trips),
        ];
        parts.extend(self.groups_per_round_trip.map(|n| format!("groups_per_round_trip={n:.2}")));
        parts.push(format!("dirty={}B", self.dirty_bytes));
        if let Some(resync) = &self.resync {
            let eta = resync.eta_seconds.map_or("-".to_owned(), |eta| format!("{eta:.0}s"));
            let (percent, rate) = (resync.percent, resync.rate_bytes);
            parts.push(format!("resync={percent}%,rate={rate}B/s,eta={eta}"));
        }
        parts.extend(self.verify.as_ref().map(VerifyStatus::field));
        parts.extend(self.limit_field());
        if self.demoted {
            parts.push("demoted".to_owned());
        }
        if self.is_read && !self.is_local() {
            parts.push("read".to_owned());
        }
        if !self.marked && !self.is_local() {
            parts.push("unmarked".to_owned());
        }
        if let Some(failure) = &self.failure {
            let retry = failure.retry_seconds.map_or("-".to_owned(), |s| format!("{s:.0}s"));
            parts.push(format!("down={:.0}s,retry={retry}", failure.seconds));
        }
        parts.join(",")
    }

    fn limit_field(&self) -> Option<String> {
        let limit = self.limits.fall_behind.as_ref()?.replace(' ', ":");
        let over = if self.limits.over { ",over" } else { "" };
        Some(format!("limit={limit}{over}"))
    }

    /// The flag of 2009: the site's, for a site moves as one.
    fn error_word(&self) -> &'static str {
        match &self.failure {
            None => "A",
            Some(failure) => match (failure.reads_fail, failure.writes_fail) {
                (true, true) => "RW",
                (true, false) => "R",
                (false, _) => "W",
            },
        }
    }
}

fn sectors(bytes: u64) -> u64 {
    bytes / blk::SECTOR_BYTES as u64
}

#[cfg(test)]
mod tests {
    use super::super::data::{Limits, LogStatus, ResyncStatus, RunState, SiteFailure, SiteOrder};
    use super::*;

    fn site(slink: u16) -> SiteStatus {
        SiteStatus {
            slink,
            state: SiteState::Streaming,
            consistent: true,
            order: if slink == 0 { SiteOrder::None } else { SiteOrder::Group },
            ..SiteStatus::default()
        }
    }

    fn status(sites: Vec<SiteStatus>) -> Status {
        let log = LogStatus {
            size_sectors: 131_072,
            ring_bytes: 1000,
            ring_used_bytes: 120,
            written: 9,
            durable: 8,
            head: 7,
            ..LogStatus::default()
        };
        let log = Some(log);
        Status { name: "repl".into(), state: RunState::Running, log, sites, ..Status::default() }
    }

    #[test]
    fn the_replicator_s_line_begins_as_in_2009_and_goes_on_with_fields() {
        let mut far = site(1);
        (far.waited_for, far.lag_writes, far.lag_bytes, far.lag_seconds) = (true, 3, 4096, 0.25);
        (far.cursor, far.shipped, far.round_trips) = (6, 4, 4);
        far.groups_per_round_trip = Some(1.0);
        far.limits = Limits { fall_behind: Some("ios 2".into()), over: true, ..Limits::default() };
        let line = status(vec![site(0), far]).replicator_line();
        assert_eq!(
            line,
            "A,0,0 S,3,8 3/8/131072 state:running log:12% written:9 durable:8 head:7 \
             site0:streaming,consistent,cursor=0,lag=0w/0B/0.0s,order=none,round_trips=0,dirty=0B \
             site1:streaming,consistent,cursor=6,lag=3w/4096B/0.2s,order=group,round_trips=4,\
             groups_per_round_trip=1.00,dirty=0B,limit=ios:2,over,unmarked"
        );
    }

    #[test]
    fn a_resync_shows_its_share_its_rate_and_the_time_it_still_takes() {
        let mut far = site(1);
        (far.state, far.consistent, far.dirty_bytes) = (SiteState::Resyncing, false, 300);
        far.resync = Some(ResyncStatus::new(4.0, 100, 300, 20));
        let line = status(vec![far]).replicator_line();
        assert!(line.contains("site1:resyncing,inconsistent,"), "{line}");
        assert!(line.contains(",dirty=300B,resync=25%,rate=20B/s,eta=15s"), "{line}");
        let mut stalled = site(1);
        stalled.resync = Some(ResyncStatus::new(4.0, 100, 300, 0));
        assert!(status(vec![stalled]).replicator_line().contains(",rate=0B/s,eta=-"));
    }

    #[test]
    fn a_device_s_line_says_of_each_leg_how_its_site_failed_and_what_is_in_sync() {
        let failed = |slink, reads_fail, writes_fail| {
            let failure = SiteFailure { reads_fail, writes_fail, ..SiteFailure::default() };
            SiteStatus { failure: Some(failure), state: SiteState::Down, ..site(slink) }
        };
        let resyncing = SiteStatus { state: SiteState::Resyncing, ..site(1) };
        let sites = vec![
            site(0),
            resyncing,
            failed(2, true, false),
            failed(3, false, true),
            failed(4, true, true),
        ];
        let leg = |slink, regions: Option<(u64, u64)>| LegStatus {
            slink,
            regions_in_sync: regions.map(|it| it.0),
            regions: regions.map(|it| it.1),
            ..LegStatus::default()
        };
        let device = DeviceStatus {
            name: "db".into(),
            dev: 7,
            legs: vec![
                leg(0, None),
                leg(1, Some((120, 10_240))),
                leg(2, Some((3, 4))),
                leg(3, Some((4, 4))),
                leg(4, None),
            ],
            ..DeviceStatus::default()
        };
        let line = status(sites).device_line(&device);
        let expected = "repl 7 A,- A,120+/10240 R,3/4 W,4/4 RW,- state:active in_flight:0 ";
        assert!(line.starts_with(expected), "{line}");
    }

    #[test]
    fn a_plus_stands_only_where_something_is_copied() {
        let resyncing = SiteStatus { state: SiteState::Resyncing, ..site(1) };
        let leg = LegStatus {
            slink: 1,
            regions_in_sync: Some(4),
            regions: Some(4),
            ..LegStatus::default()
        };
        assert_eq!(status(vec![resyncing]).leg_word(&leg), "A,4/4");
    }
}
