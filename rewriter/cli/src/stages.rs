//! Wall time, CPU time and peak memory per stage.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// One finished stage.
struct Stage {
    name: &'static str,
    wall: Duration,
    cpu: Duration,
    peak_kb: u64,
}

/// Collects stages in the order in which they ran.
pub(crate) struct Stages {
    start: Instant,
    done: Vec<Stage>,
}

impl Stages {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), done: Vec::new() }
    }

    /// Runs `work` as a stage.
    pub(crate) fn run<T>(&mut self, name: &'static str, work: impl FnOnce() -> T) -> T {
        let (start, cpu) = (Instant::now(), cpu_time());
        let result = work();
        self.done.push(Stage {
            name,
            wall: start.elapsed(),
            cpu: cpu_time().saturating_sub(cpu),
            peak_kb: peak_kb(),
        });
        result
    }

    /// Seconds since the beginning.
    pub(crate) fn total(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    /// A tree of all stages.
    pub(crate) fn text(&self) -> String {
        let mut out = String::from("stage               wall s    cpu s   peak MB\n");
        let mut line = |name: &str, wall: Duration, cpu: Duration, peak_kb: u64| {
            let _ = writeln!(
                out,
                "{name:<18} {:>7.3}  {:>7.3}  {:>8.1}",
                wall.as_secs_f64(),
                cpu.as_secs_f64(),
                peak_kb as f64 / 1024.0
            );
        };
        for stage in &self.done {
            line(&format!("  {}", stage.name), stage.wall, stage.cpu, stage.peak_kb);
        }
        line("total", self.start.elapsed(), cpu_time(), peak_kb());
        out
    }
}

/// User and system time of this process so far; zero where /proc does not tell.
fn cpu_time() -> Duration {
    let ticks = std::fs::read_to_string("/proc/self/stat").ok().and_then(|stat| {
        // Fields 14 and 15, counted behind the command's closing parenthesis (field 2).
        let rest = stat.rsplit_once(')')?.1;
        let mut fields = rest.split_whitespace().skip(11);
        let user: u64 = fields.next()?.parse().ok()?;
        let system: u64 = fields.next()?.parse().ok()?;
        Some(user + system)
    });
    // The kernel reports in units of 10 ms on every Linux that postlink runs on (USER_HZ).
    Duration::from_millis(ticks.unwrap_or(0) * 10)
}

/// Peak resident memory of this process so far, in KiB.
fn peak_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse().ok())
        .unwrap_or(0)
}
