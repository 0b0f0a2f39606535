//! Wall time, CPU time and peak memory per stage, as a tree.
//!
//! The command line names the stages; the crates below mark their parts with `tracing` spans, of which
//! those that the main thread enters are listed under the stage that is running.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// One stage, or a part of one. Figures are those at its start until it has ended.
#[derive(Clone, Copy)]
struct Stage {
    name: &'static str,
    depth: usize,
    /// Ran on a thread of its own: its cpu time is in that of the stages it ran beside, too.
    aside: bool,
    wall: Duration,
    cpu: Duration,
    peak_kb: u64,
}

#[derive(Default)]
struct Tree {
    /// In the order in which they began.
    stages: Vec<Stage>,
    /// Positions of those that have not ended.
    open: Vec<usize>,
    /// Names of spans, by their id less one.
    spans: Vec<&'static str>,
}

/// Collects stages in the order in which they ran.
pub(crate) struct Stages {
    start: Instant,
    tree: Arc<Mutex<Tree>>,
    last: &'static str,
}

impl Stages {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), tree: Arc::default(), last: "start" }
    }

    /// Lists the spans of this thread as well, from now on. Works once in a process.
    pub(crate) fn listen(&self) {
        let listener = Listener { start: self.start, tree: Arc::clone(&self.tree), thread: thread::current().id() };
        // Somebody else listens already only if this was called before.
        let _ = tracing::subscriber::set_global_default(listener);
    }

    /// Runs `work` as a stage.
    pub(crate) fn run<T>(&mut self, name: &'static str, work: impl FnOnce() -> T) -> T {
        self.last = name;
        begin(&self.tree, self.start, name);
        let result = work();
        end(&self.tree, self.start);
        result
    }

    /// A stage that runs beside the others, on a thread of its own: listed in front of those that begin after this.
    pub(crate) fn aside(&self, name: &'static str) -> Aside {
        let mut tree = self.tree.lock().unwrap_or_else(PoisonError::into_inner);
        let position = tree.stages.len();
        let depth = tree.open.len();
        tree.stages.push(Stage { name, depth, aside: true, wall: Duration::ZERO, cpu: Duration::ZERO, peak_kb: 0 });
        Aside { tree: Arc::clone(&self.tree), position }
    }

    /// The stage that was started last: the one at fault, if the run failed.
    pub(crate) const fn last(&self) -> &'static str {
        self.last
    }

    /// Seconds since the beginning.
    pub(crate) fn total(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    /// A tree of all stages.
    pub(crate) fn text(&self) -> String {
        let mut out = String::from("stage                       wall s    cpu s   peak MB\n");
        let mut line = |name: &str, wall: Duration, cpu: Duration, peak_kb: u64| {
            let _ = writeln!(
                out,
                "{name:<26} {:>7.3}  {:>7.3}  {:>8.1}",
                wall.as_secs_f64(),
                cpu.as_secs_f64(),
                peak_kb as f64 / 1024.0
            );
        };
        for stage in &self.tree.lock().unwrap_or_else(PoisonError::into_inner).stages {
            let aside = if stage.aside { " (beside)" } else { "" };
            let name = format!("{:width$}{}{aside}", "", stage.name, width = 2 * stage.depth + 2);
            line(&name, stage.wall, stage.cpu, stage.peak_kb);
        }
        line("total", self.start.elapsed(), cpu_time(ClockId::ProcessCPUTime), peak_kb());
        out
    }
}

fn begin(tree: &Mutex<Tree>, start: Instant, name: &'static str) {
    let mut tree = tree.lock().unwrap_or_else(PoisonError::into_inner);
    let depth = tree.open.len();
    let position = tree.stages.len();
    tree.open.push(position);
    tree.stages.push(Stage { name, depth, aside: false, wall: start.elapsed(), cpu: cpu_time(ClockId::ProcessCPUTime), peak_kb: 0 });
}

fn end(tree: &Mutex<Tree>, start: Instant) {
    let mut tree = tree.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(position) = tree.open.pop() else { return };
    if let Some(stage) = tree.stages.get_mut(position) {
        stage.wall = start.elapsed().saturating_sub(stage.wall);
        stage.cpu = cpu_time(ClockId::ProcessCPUTime).saturating_sub(stage.cpu);
        stage.peak_kb = peak_kb();
    }
}

/// A stage on a thread of its own.
pub(crate) struct Aside {
    tree: Arc<Mutex<Tree>>,
    position: usize,
}

impl Aside {
    /// Runs `work` as the stage; on the thread that does it.
    pub(crate) fn run<T>(self, work: impl FnOnce() -> T) -> T {
        let (start, cpu) = (Instant::now(), cpu_time(ClockId::ThreadCPUTime));
        let result = work();
        let mut tree = self.tree.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stage) = tree.stages.get_mut(self.position) {
            stage.wall = start.elapsed();
            stage.cpu = cpu_time(ClockId::ThreadCPUTime).saturating_sub(cpu);
            stage.peak_kb = peak_kb();
        }
        result
    }
}

/// Turns the spans of one thread into parts of the tree.
struct Listener {
    start: Instant,
    tree: Arc<Mutex<Tree>>,
    thread: ThreadId,
}

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_span() && metadata.target().starts_with("postlink")
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut tree = self.tree.lock().unwrap_or_else(PoisonError::into_inner);
        tree.spans.push(span.metadata().name());
        Id::from_u64(tree.spans.len() as u64)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, id: &Id) {
        if thread::current().id() != self.thread {
            return;
        }
        let index = usize::try_from(id.into_u64()).unwrap_or(0).wrapping_sub(1);
        let name = self.tree.lock().unwrap_or_else(PoisonError::into_inner).spans.get(index).copied();
        begin(&self.tree, self.start, name.unwrap_or("?"));
    }

    fn exit(&self, _: &Id) {
        if thread::current().id() == self.thread {
            end(&self.tree, self.start);
        }
    }
}

/// User and system time of this process or thread so far.
fn cpu_time(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
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
