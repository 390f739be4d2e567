//! A run's outcome as text, and as the tables of a document.

use std::fmt::{self, Display, Formatter, Write};
use std::path::Path;

use crate::case::Kind;
use crate::outcome::{CONTROL_MAX, Outcome, Report, Slice};
use crate::stats::Quartiles;

/// An outcome for somebody who waits at a terminal.
pub(crate) struct Text<'a>(pub(crate) &'a Outcome);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let outcome = self.0;
        writeln!(f, "{}", outcome.name)?;
        for (who, slice) in [("raw", outcome.raw()), ("engine", outcome.engine())] {
            writeln!(
                f,
                "  {who:<7} {:>9.0} IOPS {:>7.0} MB/s  p50 {:>7.0} us  p99 {:>7.0} us  longest {:>8} us  \
                 CPU {:>5.1} us",
                slice.iops(),
                slice.iops() * outcome.case.block as f64 / 1e6,
                slice.p50_us,
                slice.p99_us,
                whole(slice.longest_us),
                slice.cpu_us_per_request()
            )?;
        }
        let verdict = if outcome.is_conclusive() { "" } else { "  inconclusive" };
        let (ratio, control) = (Spread(outcome.ratio()), Spread(outcome.control()));
        writeln!(f, "  engine/raw {ratio}  control raw/raw {control}{verdict}")?;
        let engine = outcome.engine();
        writeln!(
            f,
            "  per request: log {:.3} I/O {:.0} B {:.3} flush, LD {:.3} I/O {:.4} flush, RD {:.3} I/O, \
             {:.3} enter; {:.1} in a group",
            engine.per_request(engine.log.reads + engine.log.writes),
            engine.per_request(engine.log.written_bytes),
            engine.per_request(engine.log.flushes),
            engine.per_request(engine.ld.reads + engine.ld.writes),
            engine.per_request(engine.ld.flushes),
            engine.per_request(engine.rd.ios()),
            engine.per_request(engine.enters),
            writes_per_group(&engine),
        )?;
        let busy = outcome.busy;
        write!(f, "  load {:.1}, CPU pressure {:.0} %", busy.load, busy.cpu_pressure)
    }
}

/// Reports as the body of a document.
pub(crate) fn markdown(title: &str, report: &Report) -> String {
    let mut to = String::new();
    let host = &report.host;
    // Writing to a string does not fail.
    let _ = writeln!(to, "## {title}\n\n`{}` {}\n", report.command, report.taken);
    let _ = writeln!(
        to,
        "{}, {} cores, {} GiB, Linux {}, scheduling: {}\n",
        host.cpu, host.cores, host.memory_gib, host.kernel, host.scheduling
    );
    to.push_str(RATIO_HEAD);
    report.outcomes.iter().for_each(|outcome| ratio_row(&mut to, outcome));
    to.push_str(COUNTER_HEAD);
    let writes = report.outcomes.iter().filter(|outcome| outcome.case.kind == Kind::Write);
    writes.for_each(|outcome| counter_row(&mut to, outcome));
    to
}

/// Pictures as a section of a document.
pub(crate) fn gallery(
    title: &str,
    (command, taken): (&str, &str),
    dir: &Path,
    pictures: &[(String, String)],
) -> String {
    let mut to = format!("## {title}\n\n`{command}` {taken}\n");
    for (file, what) in pictures {
        // Writing to a string does not fail.
        let _ = write!(to, "\n![{what}]({})\n", dir.join(file).display());
    }
    to
}

fn ratio_row(to: &mut String, outcome: &Outcome) {
    let (raw, engine) = (outcome.raw(), outcome.engine());
    let ratio = Spread(outcome.ratio());
    let ratio = match outcome.is_conclusive() {
        true => format!("**{ratio}**"),
        false => format!("inconclusive ({ratio})"),
    };
    let _ = writeln!(
        to,
        "| {} | {:.0} | {:.0} | {ratio} | {} | {:.0} / {:.0} / {} | {:.0} / {:.0} / {} | {:.1} / {:.1} | {:.1} / {:.0} % |",
        outcome.name,
        raw.iops(),
        engine.iops(),
        Spread(outcome.control()),
        raw.p50_us,
        raw.p99_us,
        whole(raw.longest_us),
        engine.p50_us,
        engine.p99_us,
        whole(engine.longest_us),
        raw.cpu_us_per_request(),
        engine.cpu_us_per_request(),
        outcome.busy.load,
        outcome.busy.cpu_pressure,
    );
}

fn counter_row(to: &mut String, outcome: &Outcome) {
    let engine = outcome.engine();
    let _ = writeln!(
        to,
        "| {} | {:.1} | {:.3} | {:.2} | {:.3} | {:.3} | {:.5} | {:.3} | {:.3} |",
        outcome.name,
        writes_per_group(&engine),
        engine.per_request(engine.log.writes),
        engine.per_request(engine.log.written_bytes) / outcome.case.block as f64,
        engine.per_request(engine.log.flushes),
        engine.per_request(engine.ld.writes),
        engine.per_request(engine.ld.flushes),
        engine.per_request(engine.rd.ios()),
        engine.per_request(engine.enters),
    );
}

fn writes_per_group(engine: &Slice) -> f64 {
    if engine.groups == 0 { 0.0 } else { engine.completed as f64 / engine.groups as f64 }
}

fn whole(figure: Option<f64>) -> String {
    figure.map_or("-".to_owned(), |figure| format!("{figure:.0}"))
}

/// A median with its quartiles.
struct Spread(Quartiles);

impl Display for Spread {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Quartiles { p25, median, p75 } = self.0;
        write!(f, "{median:.2} [{p25:.2}..{p75:.2}]")
    }
}

/// What a reader has to know before the figures.
pub(crate) fn preface() -> String {
    format!(
        "# Benchmarks\n\n\
         Generated by `ci/bench`; not to be edited. *Raw* is a machine in the same process that \
         passes every request straight to the LD, over the same kind of ring, with the same load; \
         *engine* is the replicator that the ublk target drives. Neither goes through ublk here. In \
         each round both run once, in random order, and raw once more as a control; a ratio \
         compares slices of the same round, and is given as median [lower quartile..upper \
         quartile]. A case whose control is off by more than {:.0} % is inconclusive: the machine \
         was too busy with other things. *Burst*: the log has room, and copies to the LD wait. \
         *Steady*: the log is kept full, so writes are acknowledged as fast as they are copied. \
         *Beside a resync*: both are the engine; in place of *raw* its sites are in sync, in place of \
         *engine* one of them is copied anew all the while, at the pace that is the default.\n",
        CONTROL_MAX * 100.0
    )
}

const RATIO_HEAD: &str = "\
| workload | raw IOPS | engine IOPS | engine / raw | control | raw p50 / p99 / longest us | engine p50 / p99 / longest us | CPU us/request, raw / engine | load / CPU pressure |
|---|---:|---:|---|---|---:|---:|---:|---:|
";

const COUNTER_HEAD: &str = "
What each acknowledged write of the engine costs; these counters do not depend on the machine's speed:

| workload | writes in a group | log writes | log bytes / payload | log flushes | LD writes | LD flushes | RD I/Os | system calls |
|---|---:|---:|---:|---:|---:|---:|---:|---:|
";
