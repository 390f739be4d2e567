//! How far a comparison of a site is, and what it has found: as data, in a field of the
//! status line, and in a sentence.

use blk::Time;
use serde::{Deserialize, Serialize};
use slink::Verified;

use super::human::{bytes, seconds};

/// A comparison of a site with what it should hold; the last one since the start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct VerifyStatus {
    /// Whether it is under way.
    pub running: bool,
    /// Whether it has ended by itself, and not because somebody stopped it.
    pub whole: bool,
    /// Whether what differs is copied.
    pub repair: bool,
    /// How long it has been under way, or took.
    pub seconds: f64,
    /// How long ago it ended, if it has.
    pub ended_seconds: Option<f64>,
    /// Bytes to be looked at in all.
    pub total_bytes: u64,
    /// Bytes that were compared.
    pub compared_bytes: u64,
    /// Bytes that were passed over, since they are dirty.
    pub dirty_bytes: u64,
    /// Bytes that were given up: written to whenever they were looked at, or unreadable here.
    pub busy_bytes: u64,
    /// Bytes that the site could not read.
    pub unreadable_bytes: u64,
    /// Bytes of all sectors that differ.
    pub differing_bytes: u64,
    /// How many ranges they are.
    pub differing_ranges: u64,
    /// The first few of them.
    pub first: Vec<DifferenceStatus>,
    /// Bytes a second, lately.
    pub rate_bytes: u64,
    /// The share that was looked at.
    pub percent: u8,
    /// How long the rest takes at this rate; none while it stands still.
    pub eta_seconds: Option<f64>,
}

/// A range that differs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DifferenceStatus {
    /// The device.
    pub dev: u32,
    /// Where it begins.
    pub sector: u64,
    /// Its length.
    pub sectors: u64,
}

impl VerifyStatus {
    pub(super) fn of(found: &Verified, now: Time) -> Self {
        let passed = found.dirty_bytes + found.busy_bytes + found.unreadable_bytes;
        let looked = found.compared_bytes + passed;
        let left = found.total_bytes.saturating_sub(looked);
        let percent = (u128::from(looked) * 100).checked_div(u128::from(found.total_bytes));
        let eta_seconds = (found.rate > 0).then(|| left as f64 / found.rate as f64);
        let first = found.first.iter().map(|it| DifferenceStatus {
            dev: it.dev.0,
            sector: it.sector.0,
            sectors: it.len.0,
        });
        Self {
            running: found.ended.is_none(),
            whole: found.whole,
            repair: found.repair,
            seconds: found.ended.unwrap_or(now).since(found.since).as_secs_f64(),
            ended_seconds: found.ended.map(|ended| now.since(ended).as_secs_f64()),
            total_bytes: found.total_bytes,
            compared_bytes: found.compared_bytes,
            dirty_bytes: found.dirty_bytes,
            busy_bytes: found.busy_bytes,
            unreadable_bytes: found.unreadable_bytes,
            differing_bytes: found.differing_bytes,
            differing_ranges: found.differing_ranges,
            first: first.collect(),
            rate_bytes: found.rate,
            percent: u8::try_from(percent.unwrap_or(100).min(100)).expect("at most 100"),
            eta_seconds: eta_seconds.filter(|_| found.ended.is_none()),
        }
    }

    /// Something is not what it should be, and nobody has asked for it to be mended.
    #[must_use]
    pub fn is_wrong(&self) -> bool {
        (self.differing_ranges > 0 || self.unreadable_bytes > 0) && !self.repair
    }

    /// For the status line.
    pub(super) fn field(&self) -> String {
        let Self { percent, differing_ranges, .. } = self;
        match (self.running, self.whole) {
            (true, _) => {
                let eta = self.eta_seconds.map_or("-".to_owned(), |eta| format!("{eta:.0}s"));
                format!("verify={percent}%,differ={differing_ranges},eta={eta}")
            }
            (false, true) => format!("verified,differ={differing_ranges}"),
            (false, false) => format!("verify=stopped at {percent}%,differ={differing_ranges}"),
        }
    }

    /// A part of a sentence about site `nr`.
    #[must_use]
    pub fn sentence(&self, nr: u16) -> String {
        let passed = [
            (self.dirty_bytes, "dirty"),
            (self.busy_bytes, "never at rest"),
            (self.unreadable_bytes, "that the site can't read"),
        ];
        let passed = passed.iter().filter(|(size, _)| *size > 0);
        let passed: String =
            passed.map(|(size, why)| format!(", {} {why}", bytes(*size))).collect();
        let differ = self.differences(nr);
        match (self.running, self.ended_seconds) {
            (true, _) => {
                let eta = self.eta_seconds.map_or(String::new(), |eta| {
                    format!(" at {}/s, about {}", bytes(self.rate_bytes), seconds(eta))
                });
                format!("being verified: {} %{eta}{passed}; {differ}", self.percent)
            }
            (false, ended) => {
                let ago = seconds(ended.unwrap_or_default());
                let how = if self.whole { "verified" } else { "verified in part" };
                format!("{how} {ago} ago, {}{passed}; {differ}", bytes(self.compared_bytes))
            }
        }
    }

    fn differences(&self, nr: u16) -> String {
        if self.differing_ranges == 0 {
            return "nothing differs".to_owned();
        }
        let of_one = |it: &DifferenceStatus| {
            format!("device {} from sector {} on, {}", it.dev, it.sector, bytes(it.sectors * 512))
        };
        let mut places: Vec<String> = self.first.iter().map(of_one).collect();
        if self.differing_ranges > self.first.len() as u64 {
            places.push("…".to_owned());
        }
        let (ranges, places) = (self.differing_ranges, places.join("; "));
        let plural = if ranges == 1 { " differs" } else { "s differ" };
        let then = match (self.repair, self.running) {
            (true, true) => ", and will be copied".to_owned(),
            (true, false) => ", and became dirty to be copied".to_owned(),
            (false, _) => format!("; `verify {nr} repair` copies them"),
        };
        format!("{ranges} range{plural} ({places}){then}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found() -> VerifyStatus {
        let first = vec![DifferenceStatus { dev: 3, sector: 8, sectors: 2 }];
        VerifyStatus {
            total_bytes: 4 << 20,
            compared_bytes: 1 << 20,
            differing_ranges: 1,
            first,
            percent: 25,
            ..VerifyStatus::default()
        }
    }

    #[test]
    fn a_comparison_says_how_far_it_is_and_what_differs() {
        let running = VerifyStatus {
            running: true,
            rate_bytes: 1 << 20,
            eta_seconds: Some(3.0),
            dirty_bytes: 1024,
            ..found()
        };
        assert_eq!(
            running.sentence(2),
            "being verified: 25 % at 1 MiB/s, about 3 s, 1 KiB dirty; 1 range differs \
             (device 3 from sector 8 on, 1 KiB); `verify 2 repair` copies them"
        );
        assert_eq!(running.field(), "verify=25%,differ=1,eta=3s");
        assert!(running.is_wrong());
    }

    #[test]
    fn one_that_ended_says_when_and_what_becomes_of_what_differs() {
        let ended = VerifyStatus { whole: true, repair: true, ended_seconds: Some(7.0), ..found() };
        assert_eq!(
            ended.sentence(2),
            "verified 7 s ago, 1 MiB; 1 range differs (device 3 from sector 8 on, 1 KiB), \
             and became dirty to be copied"
        );
        assert_eq!(ended.field(), "verified,differ=1");
        assert!(!ended.is_wrong());
        let stopped = VerifyStatus { whole: false, differing_ranges: 0, ..ended };
        assert_eq!(stopped.sentence(2), "verified in part 7 s ago, 1 MiB; nothing differs");
    }

    #[test]
    fn of_many_ranges_the_first_are_named() {
        let many = VerifyStatus { differing_ranges: 9, busy_bytes: 512, ..found() };
        let said = many.sentence(1);
        assert!(said.contains("512 B never at rest; 9 ranges differ (device 3"), "{said}");
        assert!(said.contains("1 KiB; …)"), "{said}");
    }
}
