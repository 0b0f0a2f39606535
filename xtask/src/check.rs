//! `corpus-check`: real programs, every layout, the same results as before.

mod determinism;

mod program;

pub(crate) use determinism::first_difference;

use std::path::PathBuf;

use crate::corpus::Corpus;
use crate::postlink::{Layout, Tool};
use crate::process::Result;
use crate::table::Table;

/// Arguments of `corpus-check`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Which programs (default: all, smallest first)
    programs: Vec<String>,
    /// Only programs below 20 MB, on their training workload
    #[arg(long)]
    quick: bool,
    /// Only these layouts: full, hot, random, split-all
    #[arg(long, value_name = "LAYOUT", value_delimiter = ',')]
    layouts: Vec<String>,
    /// Leave out the comparison of outputs by threads, paths and profile order
    #[arg(long)]
    no_determinism: bool,
    /// Check this many programs at a time
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// Keep the outputs of layouts that passed, in .cache/check
    #[arg(long)]
    keep: bool,
    /// Use this executable instead of building one
    #[arg(long, value_name = "FILE")]
    postlink: Option<PathBuf>,
}

/// Programs above this size are left out of a quick run.
const QUICK_LIMIT: u64 = 20_000_000;

const HEAD: &[&str] = &[
    "program",
    "layout",
    "result",
    "old_bytes",
    "new_bytes",
    "wall_s",
    "peak_kb",
    "proof_s",
    "kept",
    "remarks",
];

/// One line of the result.
pub(crate) struct Line {
    program: String,
    layout: String,
    old_size: u64,
    new_size: u64,
    wall: f64,
    peak_kb: u64,
    proof: f64,
    kept: usize,
    /// What is wrong; empty when all is well.
    faults: Vec<String>,
}

impl Line {
    pub(crate) fn new(program: &str, layout: &str, old_size: u64) -> Self {
        let (program, layout) = (program.to_owned(), layout.to_owned());
        Self {
            program,
            layout,
            old_size,
            new_size: 0,
            wall: 0.0,
            peak_kb: 0,
            proof: 0.0,
            kept: 0,
            faults: Vec::new(),
        }
    }

    fn result(&self) -> &'static str {
        if self.faults.is_empty() {
            "passed"
        } else {
            "FAILED"
        }
    }

    fn print(&self) {
        let (program, layout, size) = (&self.program, &self.layout, self.new_size);
        let change = if self.new_size == 0 {
            0.0
        } else {
            (size as f64 / self.old_size as f64 - 1.0) * 100.0
        };
        let peak = self.peak_kb as f64 / 1024.0;
        println!(
            "{program:<11} {layout:<12} {size:>10} B {change:>+6.1} %  {:>7.2} s {peak:>8.1} MB  proof {:>6.2} s  kept {:>3}  {}",
            self.wall,
            self.proof,
            self.kept,
            self.result()
        );
        for fault in &self.faults {
            println!("    {fault}");
        }
    }

    fn cells(&self) -> Vec<String> {
        vec![
            self.program.clone(),
            self.layout.clone(),
            self.result().to_owned(),
            self.old_size.to_string(),
            self.new_size.to_string(),
            format!("{:.3}", self.wall),
            self.peak_kb.to_string(),
            format!("{:.3}", self.proof),
            self.kept.to_string(),
            self.faults.join("; "),
        ]
    }
}

/// Runs the task; false if anything failed.
pub(crate) fn run(arguments: &Arguments) -> Result<bool> {
    let corpus = Corpus::open()?;
    let layouts = layouts(&arguments.layouts)?;
    let tool = Tool::build(&corpus.root, None, arguments.postlink.as_deref())?;
    let mut programs = corpus.programs(&arguments.programs)?;
    if arguments.quick {
        programs.retain(|program| program.size < QUICK_LIMIT);
    }
    let phase = if arguments.quick { "train" } else { "eval" };

    let lines = std::sync::Mutex::new(Vec::new());
    let next = std::sync::atomic::AtomicUsize::new(0);
    let report = |line: Line| {
        line.print();
        if let Ok(mut lines) = lines.lock() {
            lines.push(line);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..arguments.jobs.clamp(1, 16) {
            scope.spawn(|| {
                while let Some(program) =
                    programs.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
                {
                    for &layout in &layouts {
                        report(program::check(
                            &corpus,
                            &tool,
                            program,
                            layout,
                            phase,
                            arguments.keep,
                        ));
                    }
                    // One small program and the largest: other programs repeat what these two show.
                    if !arguments.no_determinism
                        && ["lua", "clang"].contains(&program.name.as_str())
                    {
                        report(determinism::check(&tool, program));
                    }
                }
            });
        }
    });

    let lines = lines
        .into_inner()
        .map_err(|_| "a check ended early".to_owned())?;
    let mut table = Table::new(HEAD);
    for line in &lines {
        table.push(line.cells());
    }
    let path = corpus.cache.join("corpus-check.tsv");
    table.write(&path)?;
    let failed = lines.iter().filter(|line| !line.faults.is_empty()).count();
    println!("{} passed, {failed} failed", lines.len() - failed);
    Ok(failed == 0 && !lines.is_empty())
}

fn layouts(names: &[String]) -> Result<Vec<Layout>> {
    if names.is_empty() {
        return Ok(Layout::ALL.to_vec());
    }
    let find = |name: &String| {
        Layout::ALL
            .into_iter()
            .find(|layout| layout.name() == name)
            .ok_or_else(|| format!("no layout '{name}'"))
    };
    names.iter().map(find).collect()
}
