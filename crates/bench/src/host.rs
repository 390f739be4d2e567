//! The machine that figures were taken on, and how busy it was.

use std::fs;

use serde::{Deserialize, Serialize};

/// What does not change during a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Host {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) kernel: String,
    pub(crate) memory_gib: u64,
    /// How the bench's thread is scheduled.
    pub(crate) scheduling: String,
}

/// How busy a machine is, with the bench itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Busy {
    /// Load average of the last minute.
    pub(crate) load: f64,
    /// Percent of the last ten seconds in which some task waited for a CPU.
    pub(crate) cpu_pressure: f64,
}

impl Host {
    /// This machine; what it does not tell is "unknown".
    pub(crate) fn probe() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let kib = field("/proc/meminfo", "MemTotal:").and_then(|kib| kib.parse::<u64>().ok());
        Self {
            cpu: line("/proc/cpuinfo", "model name").unwrap_or_else(unknown),
            cores,
            kernel: read("/proc/sys/kernel/osrelease").map_or_else(unknown, |s| s.trim().into()),
            memory_gib: kib.unwrap_or(0) >> 20,
            scheduling: scheduling().unwrap_or_else(unknown),
        }
    }
}

impl Busy {
    /// Now.
    pub(crate) fn probe() -> Self {
        let load = read("/proc/loadavg");
        let load = load.as_deref().and_then(|text| text.split_whitespace().next()?.parse().ok());
        let some = field("/proc/pressure/cpu", "some");
        let pressure = some.as_deref().and_then(|avg| avg.strip_prefix("avg10=")?.parse().ok());
        Self { load: load.unwrap_or_default(), cpu_pressure: pressure.unwrap_or_default() }
    }
}

/// CPU time of this process, in nanoseconds; the threads that the kernel runs for its ring
/// are part of it, also those that are gone.
pub(crate) fn cpu_time() -> u64 {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let (seconds, nanos) = (spent.tv_sec.unsigned_abs(), spent.tv_nsec.unsigned_abs());
    seconds * 1_000_000_000 + nanos
}

fn scheduling() -> Option<String> {
    let stat = read("/proc/self/stat")?;
    let behind_name = stat.rsplit_once(')')?.1;
    // proc(5): field 41 is the policy, field 40 the real-time priority; state is field 3.
    let fields: Vec<&str> = behind_name.split_whitespace().collect();
    let (priority, policy) = (fields.get(37)?, fields.get(38)?);
    Some(match *policy {
        "0" => "normal".to_owned(),
        "1" => format!("SCHED_FIFO {priority}"),
        "2" => format!("SCHED_RR {priority}"),
        other => format!("policy {other}"),
    })
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// What follows `name` on its line, up to the next space.
fn field(path: &str, name: &str) -> Option<String> {
    let text = read(path)?;
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next().map(str::to_owned)
}

/// What follows the colon on the first line that begins with `name`.
fn line(path: &str, name: &str) -> Option<String> {
    let text = read(path)?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_once(':').map(|(_, value)| value.trim().to_owned())
}

fn unknown() -> String {
    "unknown".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_kernel_and_spends_cpu_time() {
        let host = Host::probe();
        assert!(host.cores > 0 && host.kernel != "unknown", "{host:?}");
        let before = cpu_time();
        let sum = (0..10_000_000_u64).fold(0_u64, |a, b| a.wrapping_add(3).wrapping_mul(b));
        assert!(cpu_time() > before, "{sum}");
    }
}
