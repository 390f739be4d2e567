//! Canonical printing: one line per target, one blank between words, the
//! documented spelling, the largest unit that is exact. What is printed
//! parses to the same table.

use std::fmt::{self, Display, Formatter};

use crate::spelling::{INITS, LD_LAGS, MODES, ON_DOWNS, ON_LIMITS, ORDERS, SYNCS, spell};
use crate::units::{print_bytes, print_size, print_time};
use crate::{
    DirtyLogTable, Entry, FallBehind, LegTable, LogTable, Mode, Policy, ReplicatorDevTable,
    ReplicatorTable, SlinkOptions, SlinkTable, TableFile, Target,
};

impl Display for TableFile {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.entries.iter().try_for_each(|entry| writeln!(f, "{entry}"))
    }
}

impl Display for Entry {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(name) = &self.name {
            write!(f, "{}: ", escaped(name))?;
        }
        write!(f, "{} {} {}", self.start, self.len, self.target)
    }
}

/// The target's name and arguments, as behind `START LEN`.
impl Display for Target {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replicator(table) => write!(f, "{} {table}", self.kind()),
            Self::ReplicatorDev(table) => write!(f, "{} {table}", self.kind()),
        }
    }
}

/// The target's arguments, as behind its name.
impl Display for ReplicatorTable {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.log)?;
        self.slinks.iter().try_for_each(|slink| write!(f, " {slink}"))
    }
}

impl Display for LogTable {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut params = vec![escaped(&self.path), self.start.to_string()];
        // `open` without a size is what two parameters mean.
        if self.mode != Mode::Open || self.size.is_some() {
            params.push(spell(&self.mode, MODES).to_owned());
        }
        params.extend(self.size.map(|size| size.to_string()));
        params.extend(self.tail_bytes.map(|tail| format!("tail:{}", print_bytes(tail))));
        params.extend(self.ld_lag.map(|lag| format!("ld_lag:{}", spell(&lag, LD_LAGS))));
        counted(f, &self.kind, &params)
    }
}

impl Display for SlinkTable {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut params = vec![self.nr.to_string()];
        // A limit stands behind a policy, so it brings one along.
        if self.policy.is_some() || self.fall_behind.is_some() {
            params.push(self.policy().to_string());
        }
        params.extend(self.fall_behind.map(|limit| limit.to_string()));
        params.extend(options(&self.options));
        let count = params.len() + usize::from(self.fall_behind.is_some());
        write!(f, "{} {count} {}", self.kind, params.join(" "))
    }
}

impl Display for Policy {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(spell(&self.sync, SYNCS))?;
        f.write_str(if self.stall { "+stall" } else { "" })
    }
}

impl Display for FallBehind {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Ios(ios) => write!(f, "ios {ios}"),
            Self::Size(bytes) => write!(f, "size {}", print_size(bytes)),
            Self::Timeout(span) => write!(f, "timeout {}", print_time(span)),
        }
    }
}

/// The target's arguments, as behind its name.
impl Display for ReplicatorDevTable {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", escaped(&self.replicator), self.dev_nr)?;
        self.legs.iter().try_for_each(|leg| write!(f, " {leg}"))
    }
}

impl Display for LegTable {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} 1 {} {}", self.slink, escaped(&self.path), self.dirty_log)
    }
}

impl Display for DirtyLogTable {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut params = match self {
            Self::Nolog => Vec::new(),
            Self::Core { region, .. } => vec![region.to_string()],
            Self::Disk { path, region, .. } => vec![escaped(path), region.to_string()],
        };
        params.extend(self.init().map(|init| spell(&init, INITS).to_owned()));
        counted(f, self.kind(), &params)
    }
}

fn options(options: &SlinkOptions) -> Vec<String> {
    let SlinkOptions { on_limit, on_down, timeout_io, resync_rate, order, mark } = options;
    [
        on_limit.map(|on_limit| format!("on_limit:{}", spell(&on_limit, ON_LIMITS))),
        on_down.map(|on_down| format!("on_down:{}", spell(&on_down, ON_DOWNS))),
        timeout_io.map(|timeout| format!("timeout_io:{}", print_time(timeout))),
        resync_rate.map(|rate| format!("resync_rate:{}", print_bytes(rate))),
        order.map(|order| format!("order:{}", spell(&order, ORDERS))),
        mark.as_ref().map(|mark| format!("mark:{}", escaped(mark))),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A type, the number of its parameters, and these.
fn counted(f: &mut Formatter<'_>, kind: &str, params: &[String]) -> fmt::Result {
    write!(f, "{kind} {}", params.len())?;
    params.iter().try_for_each(|param| write!(f, " {param}"))
}

/// A word with a backslash before what would end it or begin a comment.
fn escaped(word: &str) -> String {
    let mut escaped = String::with_capacity(word.len());
    for (i, c) in word.chars().enumerate() {
        if c == '\\' || c.is_whitespace() || (i == 0 && c == '#') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}
