//! The end-to-end matrix: every program of `testdata/programs`, in every build variant it asks for,
//! rewritten in every layout, run, and compared with what the original does.
//!
//! ```text
//! program x (compiler, kind, linker, flags) -> original -> run twice: stdout and exit status
//!                                                  |
//!                    (layout, mode) -> rewritten -> run: must be equal; file checks: see checks.rs
//! ```
//!
//! | environment variable | meaning |
//! |---|---|
//! | `POSTLINK_MATRIX=all` | every variant; default: per program a fixed choice that covers each compiler, kind and linker, each build with half of the layouts |
//! | `POSTLINK_MATRIX_ONLY=TEXT,...` | only builds whose label contains one of the texts (so do command-line arguments) |
//! | `POSTLINK_MATRIX_LAYOUTS=NAME,...` | only these layouts (`reverse.full`, `keep.hot`, ...) |
//! | `POSTLINK_MATRIX_TOOL=identity` | copy instead of rewriting: tests the matrix itself |
//! | `POSTLINK_MATRIX_TOOL=bolt` | what llvm-bolt does with the same programs |
//! | `POSTLINK_MATRIX_TOOL=PATH` | another postlink binary |
//! | `POSTLINK_MATRIX_JOBS=N` | worker threads, default 2 |
#![allow(clippy::print_stdout, reason = "a test runner with its own main talks to the user")]

#[path = "matrix/build.rs"]
mod build;
#[path = "matrix/case.rs"]
mod case;
#[path = "matrix/checks.rs"]
mod checks;
#[path = "matrix/layouts.rs"]
mod layouts;
#[path = "matrix/outcome.rs"]
mod outcome;
#[path = "matrix/process.rs"]
mod process;
#[path = "matrix/select.rs"]
mod select;
#[path = "matrix/trial.rs"]
mod trial;

use outcome::{Failure, Tally};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What the run was asked to do, read once from the environment.
pub(crate) struct Settings {
    /// Every variant instead of the covering choice.
    pub(crate) all: bool,
    /// Substrings of which a build label must contain one; empty: no filter.
    pub(crate) only: Vec<String>,
    /// Layout names to run; empty: all.
    pub(crate) layouts: Vec<String>,
    /// The program under test.
    pub(crate) tool: layouts::Tool,
    /// Worker threads.
    pub(crate) jobs: usize,
    /// Folder of the program sources.
    pub(crate) programs: PathBuf,
    /// Folder for builds (cached) and rewritten files.
    pub(crate) scratch: PathBuf,
}

impl Settings {
    fn from_environment() -> Result<Self, String> {
        let list = |name: &str| -> Vec<String> {
            std::env::var(name)
                .unwrap_or_default()
                .split(',')
                .filter(|item| !item.is_empty())
                .map(str::to_owned)
                .collect()
        };
        let mut only = list("POSTLINK_MATRIX_ONLY");
        // `cargo test -- FILTER`; options of the standard harness are not ours.
        only.extend(std::env::args().skip(1).filter(|arg| !arg.starts_with('-')));
        let jobs = match std::env::var("POSTLINK_MATRIX_JOBS") {
            Ok(text) => text.parse().map_err(|_| format!("POSTLINK_MATRIX_JOBS={text}: not a number"))?,
            Err(_) => 2,
        };
        let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/programs");
        Ok(Self {
            all: std::env::var("POSTLINK_MATRIX").is_ok_and(|value| value == "all"),
            only,
            layouts: list("POSTLINK_MATRIX_LAYOUTS"),
            tool: layouts::Tool::from_environment(env!("CARGO_BIN_EXE_postlink")),
            jobs,
            programs: programs.canonicalize().map_err(|error| format!("{}: {error}", programs.display()))?,
            scratch: Path::new(env!("CARGO_TARGET_TMPDIR")).join("matrix"),
        })
    }

    fn wants(&self, label: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|text| label.contains(text.as_str()))
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            println!("matrix: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool, String> {
    let settings = Settings::from_environment()?;
    let toolchain = build::Toolchain::find(&settings)?;
    let cases = case::load_all(&settings.programs)?;
    let mut builds = Vec::new();
    for case in &cases {
        for build in select::builds_of(case, settings.all) {
            if settings.wants(&build.label()) {
                builds.push(build);
            }
        }
    }
    if builds.is_empty() {
        return Err("no build matches the filter".to_owned());
    }
    println!("{} programs, {} builds, tool: {}", cases.len(), builds.len(), settings.tool);

    // One unit of work is one build with all its layouts: the original is built and run once for them.
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<(usize, Tally)>> = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..settings.jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(build) = builds.get(index) else { break };
                    let tally = trial::run_build(&settings, &toolchain, build);
                    for failure in &tally.failures {
                        println!("FAIL {}", failure.headline());
                    }
                    if let Ok(mut results) = results.lock() {
                        results.push((index, tally));
                    }
                }
            });
        }
    });
    let mut results = results.into_inner().map_err(|_| "a worker thread died".to_owned())?;
    results.sort_by_key(|(index, _)| *index);
    if results.len() != builds.len() {
        return Err("a worker thread lost its result".to_owned());
    }
    let mut total = Tally::default();
    for (_, tally) in results {
        total.add(tally);
    }
    for failure in &total.failures {
        println!("\n{}", failure.detail());
    }
    println!("{}", outcome::groups(&total.failures));
    println!("{}", total.statistics());
    println!("{} passed, {} failed", total.passed, total.failures.len());
    Ok(total.failures.is_empty())
}

/// A failure that happened before any layout was tried.
fn build_failure(label: String, kind: &'static str, message: String, commands: Vec<String>) -> Failure {
    Failure { label, layout: String::new(), kind, message, commands, kept: None }
}
