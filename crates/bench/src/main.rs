//! `replbench`: the engine against the bare disk, in one process, with a control.
//!
//! It drives the very machine that the ublk target drives, on the same ring, with a
//! closed loop in place of the ublk queue. What it prints are ratios; a figure alone
//! says little on a shared machine.

#![forbid(unsafe_code)]

mod case;
mod checks;
mod contest;
mod drive;
mod gates;
mod host;
mod load;
mod outcome;
mod peers;
mod plot;
mod print;
mod raw;
mod rig;
mod scaling;
mod stats;
mod suites;
mod tally;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use serde::Deserialize;

use crate::case::Case;
use crate::contest::{Method, contest};
use crate::gates::Verdict;
use crate::host::Host;
use crate::outcome::Report;
use crate::peers::Peers;
use crate::print::Text;
use crate::rig::Place;
use crate::scaling::Backlog;
use crate::suites::Suite;

/// Measures the replicator's engine against the bare disk: one case as the options say,
/// or a set of cases.
#[derive(Parser)]
#[command(name = "replbench", version, args_override_self = true)]
struct Cli {
    #[command(flatten)]
    case: Case,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    method: Method,
    /// Runs a set of cases.
    #[arg(long, value_enum)]
    suite: Option<Suite>,
    /// Runs small cases, shortly, and ends with 1 if a counter is not what it must be on
    /// any machine; their times prove nothing.
    #[arg(long, conflicts_with = "suite")]
    quick: bool,
    /// Runs the cases that the design has to pass on a device of 3000 I/Os and 125 MiB a second
    /// (`ci/bench --gates` makes one), and ends with 1 if one is missed.
    #[arg(long, conflicts_with_all = ["suite", "quick"])]
    gates: bool,
    /// When, and at which commit: printed with the figures.
    #[arg(long, default_value = "")]
    taken: String,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
    /// Runs nothing: prints as JSON what `ci/bench.d/peers` left in a directory.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["suite", "quick"])]
    peers: Option<PathBuf>,
    /// Runs the case from an empty log to a full one, and prints as JSON how fast it is meanwhile.
    #[arg(long, conflicts_with_all = ["suite", "quick", "gates"])]
    fill_up: bool,
    /// Where pictures go that belong to a document.
    #[arg(long, value_name = "DIR", default_value = "docs/benchmarks")]
    pictures: PathBuf,
    /// Runs nothing: prints JSON reports as one document, each as a section.
    #[arg(long, value_name = "TITLE=FILE", num_args = 1.., conflicts_with_all = ["suite", "quick", "gates", "fill_up", "peers"])]
    render: Vec<String>,
}

/// What a section of a document is made of.
#[derive(Deserialize)]
#[serde(untagged)]
enum Found {
    Report(Report),
    Peers(Peers),
    Backlog(Backlog),
}

fn main() -> Result<ExitCode> {
    let cli = Cli::parse();
    if !cli.render.is_empty() {
        return render(&cli.render, &cli.pictures);
    }
    if let Some(dir) = &cli.peers {
        println!("{}", serde_json::to_string(&Peers::read(dir, &cli.taken)?)?);
        return Ok(ExitCode::SUCCESS);
    }
    if cli.gates {
        return pass_gates(&cli);
    }
    if cli.fill_up {
        println!("{}", serde_json::to_string(&fill_up(&cli)?)?);
        return Ok(ExitCode::SUCCESS);
    }
    let report = run(&cli)?;
    if cli.json {
        println!("{}", serde_json::to_string(&report)?);
    }
    Ok(if cli.quick { judged(&report) } else { ExitCode::SUCCESS })
}

fn run(cli: &Cli) -> Result<Report> {
    let (cases, method) = match (cli.quick, cli.suite) {
        (true, _) => (suites::quick(), Method::quick()),
        (false, Some(suite)) => (suite.cases(), cli.method),
        (false, None) => (vec![cli.case.clone()], cli.method),
    };
    let (command, taken) = (command(), cli.taken.clone());
    let mut report = Report { command, taken, host: Host::probe(), outcomes: Vec::new() };
    for case in cases {
        let outcome = contest(&case, &cli.place, &method).with_context(|| case.to_string())?;
        eprintln!("{}", Text(&outcome));
        report.outcomes.push(outcome);
    }
    Ok(report)
}

fn fill_up(cli: &Cli) -> Result<Backlog> {
    if let Some(fault) = cli.case.fault() {
        anyhow::bail!("{}: {fault}", cli.case);
    }
    let moments = contest::fill_up(&cli.case, &cli.place, &cli.method)?;
    let (command, taken) = (command(), cli.taken.clone());
    // Which phase it is changes all the while.
    let name = cli.case.to_string().replace(", burst", "");
    Ok(Backlog { command, taken, name, moments })
}

fn pass_gates(cli: &Cli) -> Result<ExitCode> {
    let mut missed = 0;
    for gate in gates::gates() {
        let attempt = |case: &Case| contest(case, &cli.place, &cli.method);
        let (verdict, outcome) =
            gates::pass(&gate, attempt).with_context(|| gate.case.to_string())?;
        let (least, found) = (gate.at_least, gates::best_ratio(&outcome));
        missed += usize::from(verdict == Verdict::Missed);
        if verdict != Verdict::Kept {
            eprintln!("{}", Text(&outcome));
        }
        println!("{:<45} at least {least:>6.3}, found {found:>6.3}: {verdict}", outcome.name);
    }
    Ok(if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn judged(report: &Report) -> ExitCode {
    let faults: Vec<String> = report.outcomes.iter().flat_map(checks::faults).collect();
    faults.iter().for_each(|fault| eprintln!("replbench: {fault}"));
    if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn render(reports: &[String], pictures: &Path) -> Result<ExitCode> {
    print!("{}", print::preface());
    for named in reports {
        let (title, file) = named.split_once('=').context("expected TITLE=FILE")?;
        let file = PathBuf::from(file);
        let text = fs::read_to_string(&file).with_context(|| format!("{}", file.display()))?;
        let found = serde_json::from_str(&text).with_context(|| format!("{}", file.display()))?;
        let section = match &found {
            Found::Report(report) if scaling::is(report) => {
                let drawn = plot::of_scaling(report, pictures)?;
                print::gallery(title, (&report.command, &report.taken), pictures, &drawn)
            }
            Found::Report(report) => print::markdown(title, report),
            Found::Peers(peers) => peers.markdown(title),
            Found::Backlog(backlog) => {
                let drawn = [plot::of_backlog(backlog, pictures)?];
                print::gallery(title, (&backlog.command, &backlog.taken), pictures, &drawn)
            }
        };
        print!("\n{section}");
    }
    Ok(ExitCode::SUCCESS)
}

/// The command that was given, without the path of this program and the note at its end.
fn command() -> String {
    let words = std::env::args().skip(1).take_while(|word| word != "--taken");
    std::iter::once("replbench".to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}
