//! One picture of `top`: what was seen, and a size, become lines. Pure.

use replicator::status::data::{LogStatus, ResyncStatus, SiteOrder};
use replicator::status::human::{bytes, seconds};
use replicator::status::verify::VerifyStatus;
use replicator::{Reason, SiteStatus, Status, why};

use super::columns::{bar, cut, wrapped};
use super::history::History;

/// How much room there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) columns: usize,
    pub(crate) rows: usize,
}

/// What somebody has chosen to see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct View {
    /// Which replicator, in the order of the list.
    pub(crate) chosen: usize,
    /// Lines that have gone out at the top.
    pub(crate) scrolled: usize,
}

/// A picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) lines: Vec<Line>,
    /// How far it may be scrolled.
    pub(crate) scroll_max: usize,
}

/// A line of a picture; how it looks is the terminal's affair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) text: String,
    pub(crate) tone: Tone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Title,
    Head,
    Plain,
    /// Somebody should look at it.
    Bad,
}

impl Frame {
    /// Draws all of it, at the time `clock` as people write it. Only what is too low for `size` is
    /// left out, and how much is said.
    pub(crate) fn draw(all: &[History], view: View, clock: &str, size: Size) -> Self {
        let chosen = view.chosen.min(all.len().saturating_sub(1));
        let mut fixed = vec![title(all.len(), clock)];
        let mut body = Vec::new();
        match all {
            [] => body
                .push(line("there is no replicator; `replicator create` starts one", Tone::Plain)),
            [only] => body.extend(of_one(only, size.columns)),
            several => {
                let rows = several.iter().enumerate();
                fixed.extend(rows.map(|(at, it)| in_list(at, it, at == chosen)));
                fixed.truncate(1.max(size.rows / 2));
                body.push(line("", Tone::Plain));
                body.extend(of_one(&several[chosen], size.columns));
            }
        }
        let room = size.rows.saturating_sub(fixed.len());
        let scroll_max = body.len().saturating_sub(room);
        let skipped = view.scrolled.min(scroll_max);
        let below = body.len() - skipped;
        let mut lines = fixed;
        lines.extend(body.into_iter().skip(skipped).take(room));
        if below > room && room > 0 {
            lines.pop();
            let more = below - room + 1;
            lines.push(line(&format!("… {more} more lines: j"), Tone::Head));
        }
        for line in &mut lines {
            line.text = cut(line.text.trim_end(), size.columns);
        }
        Self { lines, scroll_max }
    }
}

fn title(number: usize, clock: &str) -> Line {
    let plural = if number == 1 { "" } else { "s" };
    let keys = if number > 1 { "q quits, 1-9 choose, j k scroll" } else { "q quits, j k scroll" };
    line(&format!("replicator top  {number} replicator{plural}  {clock}  {keys}"), Tone::Title)
}

/// One of several.
fn in_list(at: usize, of: &History, chosen: bool) -> Line {
    let mark = if chosen { '>' } else { ' ' };
    let (state, log, how) = match (of.status(), &of.trouble) {
        (_, Some(trouble)) => ("-", String::new(), trouble.clone()),
        (None, None) => ("-", String::new(), "not seen yet".to_owned()),
        (Some(status), None) => {
            let log =
                status.log.as_ref().map(|log| format!("log {:>3} %", log.ring_used_percent()));
            (status.state.word(), log.unwrap_or_default(), first_reason(status))
        }
    };
    let tone = if is_well(of) { Tone::Plain } else { Tone::Bad };
    line(&format!("{mark}{:>2} {:<12} {state:<8} {log:<9} {how}", at + 1, of.name), tone)
}

/// What is worst, in a sentence.
fn first_reason(status: &Status) -> String {
    let bad = why(status).into_iter().find(|reason| !reason.in_sync);
    bad.map_or("in sync".to_owned(), |reason| reason.to_string())
}

fn is_well(of: &History) -> bool {
    let in_sync = |status: &Status| why(status).iter().all(|reason| reason.in_sync);
    of.trouble.is_none() && of.status().is_some_and(in_sync)
}

/// Everything of one replicator.
fn of_one(of: &History, columns: usize) -> Vec<Line> {
    let mut lines = Vec::new();
    if let Some(trouble) = &of.trouble {
        let begin = format!("{}: ", of.name);
        let trouble = trouble.strip_prefix(&begin).unwrap_or(trouble);
        let said = wrapped(&format!("{begin}{trouble}"), columns);
        lines.extend(said.iter().map(|text| line(text, Tone::Bad)));
        if of.status().is_some() {
            lines.push(line("what follows is how it was before", Tone::Plain));
        }
    }
    let Some(status) = of.status() else {
        if of.trouble.is_none() {
            lines.push(line(&format!("{}: not seen yet", of.name), Tone::Plain));
        }
        return lines;
    };
    lines.push(line(&format!("{}: {}", of.name, status.state.word()), Tone::Head));
    if let Some(log) = &status.log {
        lines.extend(of_log(log, columns));
    }
    lines.push(line(&traffic(of, status), Tone::Plain));
    lines.push(line("", Tone::Plain));
    lines.push(line(HEADINGS, Tone::Head));
    for site in &status.sites {
        lines.extend(of_site(of, site, columns));
    }
    lines.push(line("", Tone::Plain));
    lines.extend(reasons(status, columns));
    lines
}

fn of_log(log: &LogStatus, columns: usize) -> Vec<Line> {
    let loss = log.loss.as_ref().map(|loss| match (&loss.held, loss.bypassed) {
        (Some(_), _) => "LOST, all waits",
        (None, true) => "LOST, bypassed",
        (None, false) => "LOST",
    });
    let waits = |is: bool| if is { Some("writers wait") } else { None };
    let ring = loss.or(waits(log.full));
    let (used, all) = (log.ring_used_bytes, log.ring_bytes);
    let ring = filled("log", used, all, ring, columns);
    let (used, all) = (log.tail_used_bytes, log.tail_bytes);
    vec![ring, filled("memory", used, all, waits(log.tail_full), columns)]
}

/// A bar that has a name, and behind it what it means.
fn filled(name: &str, used: u64, all: u64, note: Option<&str>, columns: usize) -> Line {
    let share = if all == 0 { 0.0 } else { used as f64 / all as f64 };
    let percent = (share * 100.0).floor();
    let bar = bar(bar_width(columns), share);
    let text = format!("{name:<7}{bar} {percent:>3} %  {} of {}", bytes(used), bytes(all));
    match note {
        Some(note) => line(&format!("{text}  {note}"), Tone::Bad),
        None => line(&text, Tone::Plain),
    }
}

/// As wide as leaves room for what stands behind it.
fn bar_width(columns: usize) -> usize {
    columns.saturating_sub(BESIDE_BAR).clamp(6, 60)
}

fn traffic(of: &History, status: &Status) -> String {
    let errors: u64 = status.devices.iter().map(|device| device.errors).sum();
    let suspended = status.devices.iter().filter(|device| device.suspended).count();
    let mut text = match of.rates() {
        Some(it) => format!(
            "writes {}/s  {}/s  reads {}/s  flushes {}/s",
            bytes(it.bytes as u64),
            count(it.writes),
            count(it.reads),
            count(it.flushes)
        ),
        None => "writes -".to_owned(),
    };
    if errors > 0 {
        text += &format!("  errors {errors}");
    }
    if suspended > 0 {
        text += &format!("  suspended {suspended}");
    }
    text
}

/// Few of them with a digit behind the point.
fn count(rate: f64) -> String {
    if rate > 0.0 && rate < 9.95 { format!("{rate:.1}") } else { format!("{rate:.0}") }
}

fn of_site(of: &History, site: &SiteStatus, columns: usize) -> Vec<Line> {
    let rate =
        of.rate_of(site.slink).map_or("-".to_owned(), |it| format!("{}/s", bytes(it as u64)));
    let text = format!(
        "{:>4}  {:<9} {:>10} {:>8} {:>7} {:>11}  {}",
        site.slink,
        site.state.word(),
        site.lag_writes,
        bytes(site.lag_bytes),
        seconds(site.lag_seconds),
        rate,
        notes(site)
    );
    let tone = if site.is_in_sync() { Tone::Plain } else { Tone::Bad };
    let mut lines = vec![line(&text, tone)];
    lines.extend(site.resync.as_ref().map(|it| copying(it, columns)));
    lines.extend(site.verify.as_ref().filter(|it| it.running).map(|it| comparing(it, columns)));
    lines
}

/// What else is to be known of a site, the most important first.
fn notes(site: &SiteStatus) -> String {
    let limit = site.limits.fall_behind.as_ref();
    let over = if site.limits.over { "OVER " } else { "" };
    let words = [
        (site.waited_for && !site.sync).then(|| "waited for".to_owned()),
        (site.sync && site.waited_for).then(|| "sync".to_owned()),
        site.demoted.then(|| "demoted".to_owned()),
        (!site.consistent).then(|| "inconsistent".to_owned()),
        (site.is_read && site.order != SiteOrder::None).then(|| "read".to_owned()),
        limit.map(|limit| format!("{over}limit {limit}")),
    ];
    words.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn copying(it: &ResyncStatus, columns: usize) -> Line {
    under_way("copying", it.percent, it.rate_bytes, it.eta_seconds, columns)
}

fn comparing(it: &VerifyStatus, columns: usize) -> Line {
    under_way("comparing", it.percent, it.rate_bytes, it.eta_seconds, columns)
}

fn under_way(what: &str, percent: u8, rate: u64, eta: Option<f64>, columns: usize) -> Line {
    let bar = bar(bar_width(columns).saturating_sub(10), f64::from(percent) / 100.0);
    let eta = eta.map_or("stands still".to_owned(), |eta| format!("about {}", seconds(eta)));
    line(&format!("      {what:<9} {bar} {percent:>3} %  {}/s  {eta}", bytes(rate)), Tone::Plain)
}

/// The sentences of `why`.
fn reasons(status: &Status, columns: usize) -> Vec<Line> {
    let of_reason = |reason: &Reason| {
        let tone = if reason.in_sync { Tone::Plain } else { Tone::Bad };
        wrapped(&reason.to_string(), columns).into_iter().map(move |text| Line { text, tone })
    };
    why(status).iter().flat_map(of_reason).collect()
}

fn line(text: &str, tone: Tone) -> Line {
    // A name of others' making must not move a cursor.
    Line { text: text.chars().filter(|c| !c.is_control()).collect(), tone }
}

const HEADINGS: &str = "site  state     lag writes    bytes     age        rate  notes";

/// `log    `, ` 100 %  1023 KiB of 1023 MiB  `, and a few words.
const BESIDE_BAR: usize = 48;
