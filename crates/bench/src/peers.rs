//! The replicator beside other drivers: what `ci/bench.d/peers` measured, as a table, with the
//! goals it is held to.
//!
//! ```text
//! DIR/WORKLOAD/ROUND/CONTENDER.json     what fio says of one slice
//! ```
//!
//! A ratio compares slices of the same round. A workload in which `raw` differs from itself by
//! more than [`CONTROL_MAX`] proves nothing, and meets no goal.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::host::Host;
use crate::outcome::CONTROL_MAX;
use crate::stats::Quartiles;

/// Everything that was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Peers {
    /// When, and at which commit.
    taken: String,
    /// The machine that the guest ran on.
    host: Host,
    workloads: BTreeMap<String, Workload>,
}

/// The rounds of a workload.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Workload {
    rounds: Vec<BTreeMap<String, Slice>>,
}

/// One contender at work, for some seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Slice {
    iops: f64,
    p50_ms: f64,
    p99_ms: f64,
}

/// What is to be reached, as a share of what somebody else does.
struct Goal {
    workload: &'static str,
    who: &'static str,
    against: &'static str,
    at_least: f64,
}

impl Peers {
    /// Reads the slices below a directory.
    pub(crate) fn read(dir: &Path, taken: &str) -> Result<Self> {
        let mut workloads = BTreeMap::new();
        for (name, path) in entries(dir)? {
            let workload: &mut Workload = workloads.entry(name).or_default();
            for (_, path) in entries(&path)? {
                let slices = entries(&path)?.into_iter().map(|(file, path)| {
                    let who = file.trim_end_matches(".json").to_owned();
                    Ok((who, Slice::read(&path).with_context(|| path.display().to_string())?))
                });
                workload.rounds.push(slices.collect::<Result<_>>()?);
            }
        }
        ensure!(!workloads.is_empty(), "{}: expected slices, found none", dir.display());
        Ok(Self { taken: taken.to_owned(), host: Host::probe(), workloads })
    }

    /// A section of a document.
    pub(crate) fn markdown(&self, title: &str) -> String {
        let mut to = String::new();
        let rounds = self.workloads.values().map(|it| it.rounds.len()).max().unwrap_or(0);
        // Writing to a string does not fail.
        let _ = write!(to, "## {title}\n\n`ci/bench --peers`, {rounds} rounds, {}\n\n", self.taken);
        let _ = write!(
            to,
            "{}, {} cores, under QEMU without KVM: how fast a contender's CPU work is shows only \
             where its disks leave it the time; what its design asks of them shows everywhere.\n\n",
            self.host.cpu, self.host.cores
        );
        to.push_str(LEGEND);
        self.figures(&mut to);
        self.goals(&mut to);
        to.push_str(BOUNDS);
        to
    }

    fn figures(&self, to: &mut String) {
        let names: Vec<&str> = CONTENDERS.iter().map(|(_, name)| *name).collect();
        let _ = writeln!(to, "| workload | {} | control |", names.join(" | "));
        let _ = writeln!(to, "|---|{}---|", "---:|".repeat(names.len()));
        for (name, workload) in &self.workloads {
            let cells: Vec<String> = CONTENDERS.iter().map(|(who, _)| workload.cell(who)).collect();
            let control = workload.ratio("again", "raw").map_or_else(unknown, spread);
            let _ = writeln!(to, "| {name} | {} | {control} |", cells.join(" | "));
        }
    }

    fn goals(&self, to: &mut String) {
        to.push_str("\n| goal | at least | found | |\n|---|---:|---|---|\n");
        for goal in GOALS {
            let workload = self.workloads.get(goal.workload);
            let ratio = workload.and_then(|it| it.ratio(goal.who, goal.against));
            let verdict = match ratio {
                None => "not measured",
                Some(_) if !workload.is_some_and(Workload::is_conclusive) => "inconclusive",
                Some(ratio) if ratio.median >= goal.at_least => "met",
                Some(_) => "**missed**",
            };
            let found = ratio.map_or_else(unknown, spread);
            let Goal { workload, who, against, at_least } = goal;
            let [who, against] = [who, against].map(|it| title(it));
            let _ = writeln!(
                to,
                "| {workload}: {who} / {against} | {at_least:.2} | {found} | {verdict} |"
            );
        }
    }
}

impl Workload {
    /// One to another, of the rounds that have both.
    fn ratio(&self, who: &str, against: &str) -> Option<Quartiles> {
        let both =
            self.rounds.iter().filter_map(|round| Some((round.get(who)?, round.get(against)?)));
        let ratios: Vec<f64> = both.map(|(who, against)| who.iops / against.iops).collect();
        (!ratios.is_empty()).then(|| Quartiles::of(ratios))
    }

    fn is_conclusive(&self) -> bool {
        let control = self.ratio("again", "raw");
        control.is_some_and(|control| (control.median - 1.0).abs() <= CONTROL_MAX)
    }

    /// I/Os a second, that to raw, and the 99th percentile of their latency.
    fn cell(&self, who: &str) -> String {
        let slices = || self.rounds.iter().filter_map(|round| round.get(who));
        let Some(ratio) = self.ratio(who, "raw") else { return unknown() };
        let median = |of: fn(&Slice) -> f64| Quartiles::of(slices().map(of)).median;
        let (iops, p99) = (median(|it| it.iops), median(|it| it.p99_ms));
        format!("{iops:.0}, {:.2} ×, {p99:.0} ms", ratio.median)
    }
}

impl Slice {
    fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path)?;
        // It says things of its own before, if something is unusual.
        let json = text.find("{\n").map_or("", |at| &text[at..]);
        let said: Fio = serde_json::from_str(json)?;
        let [job] = &said.jobs[..] else {
            anyhow::bail!("expected one job, found {}", said.jobs.len());
        };
        let done = if job.write.iops > 0.0 { &job.write } else { &job.read };
        ensure!(done.iops > 0.0, "expected reads or writes, found none");
        let percentile = |name: &str| {
            let nanos = done.clat_ns.percentile.get(name);
            nanos.map(|nanos| nanos / 1e6).with_context(|| format!("there is no percentile {name}"))
        };
        let (p50_ms, p99_ms) = (percentile("50.000000")?, percentile("99.000000")?);
        Ok(Self { iops: done.iops, p50_ms, p99_ms })
    }
}

/// What is needed of fio's JSON.
#[derive(Deserialize)]
struct Fio {
    jobs: Vec<Job>,
}

#[derive(Deserialize)]
struct Job {
    read: Direction,
    write: Direction,
}

#[derive(Deserialize)]
struct Direction {
    iops: f64,
    clat_ns: Latency,
}

#[derive(Deserialize)]
struct Latency {
    #[serde(default)]
    percentile: BTreeMap<String, f64>,
}

/// What is in a directory, by name.
fn entries(dir: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let entry = entry?;
        found.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
    }
    found.sort();
    Ok(found)
}

fn spread(of: Quartiles) -> String {
    let Quartiles { p25, median, p75 } = of;
    format!("{median:.2} [{p25:.2}..{p75:.2}]")
}

fn unknown() -> String {
    "–".to_owned()
}

fn title(who: &str) -> &str {
    CONTENDERS.iter().find(|(key, _)| *key == who).map_or(who, |(_, title)| title)
}

/// By the names of their files, in the order of the table.
const CONTENDERS: [(&str, &str); 8] = [
    ("raw", "raw"),
    ("ublk-loop", "ublk loop"),
    ("replicator", "replicator"),
    ("replicator-async", "replicator, `async` site"),
    ("drbd-a", "DRBD A"),
    ("md", "md, write-behind"),
    ("replicator-sync", "replicator, `sync` site"),
    ("drbd-c", "DRBD C"),
];

const GOALS: &[Goal] = &[
    goal("4k random write, QD1", "replicator", "ublk-loop", 0.9),
    goal("4k random read, QD1", "replicator", "ublk-loop", 0.9),
    goal("4k random write, QD32", "replicator", "ublk-loop", 5.0),
    goal("4k random write, QD32", "replicator-async", "drbd-a", 1.5),
    goal("4k random write, QD1", "replicator-sync", "drbd-c", 1.0),
    goal("4k random write, QD32", "replicator-sync", "drbd-c", 1.5),
    goal("4k random write and fsync, 16 writers", "replicator", "ublk-loop", 3.0),
    // b/(b+1) of the disk, with groups of 16 and the log on it.
    goal("4k random write, QD32, the log full", "replicator", "raw", 0.95 * 16.0 / 17.0),
];

const fn goal(
    workload: &'static str,
    who: &'static str,
    against: &'static str,
    at_least: f64,
) -> Goal {
    Goal { workload, who, against, at_least }
}

const LEGEND: &str = "\
On one kernel (6.12, `ublk_drv`), on the same disks, in an order that changes with each round; each cell is I/Os a second, \
their ratio to *raw*, and the 99th percentile of their latency. The disks do 300 I/Os a second each, whoever does them; \
those of the row with `fsync` have no such limit, and a flush takes 10 ms. The log and the LD share the local disk; \
*control* is *raw* once more. *ublk loop* passes every request straight to the disk, by the same way into user space. DRBD 8.4 \
is connected to itself over the loopback, with its metadata on the disks; the replicator and md have the remote disk as a block \
device.

";

const BOUNDS: &str = "
What nobody gets past here: a `sync` site takes one I/O of the remote disk for each write, whoever feeds it, so the \
replicator and DRBD C both end at that disk's 300 a second. And with `fsync` behind each write the block layer joins the \
flushes of all writers before it asks a device for one: a plain server has as few of them to wait for as a log that was \
made for it.
";

#[cfg(test)]
mod tests {
    use super::*;

    fn peers(slices: &[(&str, usize, &str, f64)]) -> Peers {
        let mut workloads: BTreeMap<String, Workload> = BTreeMap::new();
        for (workload, round, who, iops) in slices {
            let slice = Slice { iops: *iops, p50_ms: 1.0, p99_ms: 2.0 };
            let workload = workloads.entry((*workload).to_owned()).or_default();
            workload.rounds.resize_with(workload.rounds.len().max(*round), BTreeMap::new);
            workload.rounds[*round - 1].insert((*who).to_owned(), slice);
        }
        Peers { taken: String::new(), host: Host::probe(), workloads }
    }

    fn verdict_of(peers: &Peers, goal: &str) -> String {
        let text = peers.markdown("");
        let line = text.lines().find(|line| line.contains(goal)).unwrap().to_owned();
        line.rsplit('|').nth(1).unwrap().trim().to_owned()
    }

    const GOAL: &str = "QD32: replicator / ublk loop";
    const QD32: &str = "4k random write, QD32";

    #[test]
    fn a_goal_is_met_by_the_median_of_ratios_within_rounds() {
        let round = |nr, scale: f64, ours| {
            let raw = 300.0 * scale;
            [("raw", raw), ("again", raw), ("ublk-loop", raw), ("replicator", ours * scale)]
                .map(|(who, iops)| (QD32, nr, who, iops))
        };
        let met = peers(&[round(1, 1.0, 1600.0), round(2, 9.0, 1600.0)].concat());
        assert_eq!(verdict_of(&met, GOAL), "met");
        let missed = peers(&[round(1, 1.0, 1400.0), round(2, 9.0, 1400.0)].concat());
        assert_eq!(verdict_of(&missed, GOAL), "**missed**");
        assert_eq!(verdict_of(&missed, "QD1: replicator / ublk loop"), "not measured");
    }

    #[test]
    fn a_workload_whose_control_is_off_meets_no_goal() {
        let found =
            [("raw", 300.0), ("again", 340.0), ("ublk-loop", 300.0), ("replicator", 9000.0)];
        let found = peers(&found.map(|(who, iops)| (QD32, 1, who, iops)));
        assert_eq!(verdict_of(&found, GOAL), "inconclusive");
    }

    #[test]
    fn slices_are_read_from_what_fio_wrote() {
        let dir = tempfile::tempdir().unwrap();
        let round = dir.path().join(QD32).join("1");
        fs::create_dir_all(&round).unwrap();
        let said = r#"{
            "jobs": [{"read": {"iops": 0.0, "clat_ns": {}},
                "write": {"iops": 290.5, "clat_ns": {"percentile": {"50.000000": 3e6, "99.000000": 4e7}}}}]}"#;
        fs::write(round.join("raw.json"), format!("fio: something unusual\n{said}")).unwrap();
        let found = Peers::read(dir.path(), "").unwrap();
        assert_eq!(found.workloads[QD32].cell("raw"), "290, 1.00 ×, 40 ms");
        let again = serde_json::to_string(&found).unwrap();
        assert_eq!(serde_json::from_str::<Peers>(&again).unwrap(), found);
        fs::write(round.join("md.json"), "nothing").unwrap();
        assert!(Peers::read(dir.path(), "").unwrap_err().to_string().ends_with("1/md.json"));
    }
}
