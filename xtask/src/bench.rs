//! `bench`: postlink against llvm-bolt, on the same programs, profiles and inputs, in one run.

mod markdown;
mod orders;
mod plot;
mod quality;
mod series;
mod variant;

use std::path::PathBuf;

use crate::corpus::{Corpus, Program};
use crate::postlink::Tool;
use crate::process::{Job, Result};
use series::{Metric, Results};
use variant::{Built, Variant};

/// Arguments of `bench`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Which programs (default: lua sqlite zstd perl python ripgrep clang)
    programs: Vec<String>,
    /// How often every tool runs on every program
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// What to measure; the rest of the table stays as an earlier run left it
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "cost,misses,branches,time"
    )]
    parts: Vec<Part>,
    /// Which builds to make and to measure; what the table says of others stays. A change of postlink leaves the counts of
    /// the original and of llvm-bolt's builds as they were
    #[arg(long, value_delimiter = ',', default_values_t = Variant::ALL)]
    builds: Vec<Variant>,
    /// Leave out llvm-bolt's -lite=0 above this size of program: it takes 60 times the file's size in memory
    #[arg(long, value_name = "MB", default_value_t = 100)]
    bolt_all_below: u64,
    /// Seconds of cpu time to spend on each build in the paired comparison
    #[arg(long, default_value_t = 6.0)]
    time_budget: f64,
    /// Only write the tables and plots again, from earlier results
    #[arg(long)]
    render: bool,
    /// Use this executable instead of building one
    #[arg(long, value_name = "FILE")]
    postlink: Option<PathBuf>,
}

/// A group of figures.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Wall and cpu time, peak memory and output size of the tools
    Cost,
    /// Instructions, L1I misses and mispredicted branches of the outputs, by cachegrind
    Misses,
    /// Taken branches of the outputs, by callgrind
    Branches,
    /// Cpu time of the outputs, paired with the original's
    Time,
}

const DEFAULT_PROGRAMS: [&str; 7] = [
    "lua", "sqlite", "zstd", "perl", "python", "ripgrep", "clang",
];

/// Runs the task.
pub(crate) fn run(arguments: &Arguments) -> Result<bool> {
    let corpus = Corpus::open()?;
    if !arguments.render {
        let tool = Tool::build(&corpus.root, None, arguments.postlink.as_deref())?;
        let names: Vec<String> = if arguments.programs.is_empty() {
            DEFAULT_PROGRAMS.map(str::to_owned).to_vec()
        } else {
            arguments.programs.clone()
        };
        for program in &corpus.programs(&names)? {
            eprintln!("{}:", program.name);
            measure(&corpus, &tool, program, arguments)?;
            // After each program: a long run that is stopped leaves what it has.
            render(&corpus)?;
        }
    }
    render(&corpus)?;
    println!(
        "BENCHMARKING.md and {}",
        corpus.cache.join("bench.tsv").display()
    );
    Ok(true)
}

fn measure(corpus: &Corpus, tool: &Tool, program: &Program, arguments: &Arguments) -> Result<()> {
    let path = corpus
        .folder("bench")?
        .join(format!("{}.tsv", program.name));
    let mut results = Results::read(&path);
    results.set(Variant::Original, Metric::Size, vec![program.size as f64]);
    results.set(
        Variant::Original,
        Metric::Text,
        vec![text_size(program)? as f64],
    );
    let rounds = if arguments.parts.contains(&Part::Cost) {
        arguments.rounds.max(1)
    } else {
        1
    };
    let is_too_large = program.size >= arguments.bolt_all_below * 1_000_000;
    let is_wanted = |variant: &Variant| arguments.builds.contains(variant) && !(is_too_large && *variant == Variant::BoltAll);
    let wanted: Vec<Variant> = Variant::ALL.into_iter().filter(is_wanted).collect();
    let built = variant::build(corpus, tool, program, rounds, &wanted, &mut results)?;
    // The original is always there, to pair others with.
    let counted: Vec<&Built> = built.iter().filter(|built| wanted.contains(&built.variant)).collect();
    results.write(&program.name, &path)?;
    let save = |results: &Results| results.write(&program.name, &path);
    for part in &arguments.parts {
        match part {
            Part::Cost => {}
            Part::Misses => quality::misses(corpus, tool, program, &counted, &mut results, &save)?,
            Part::Branches => quality::branches(corpus, program, &counted, &mut results, &save)?,
            Part::Time => {
                quality::time(corpus, program, &built, arguments.time_budget, &mut results)?
            }
        }
        save(&results)?;
    }
    for Built { path, .. } in built
        .iter()
        .filter(|built| built.variant != Variant::Original)
    {
        let _ = std::fs::remove_file(path);
    }
    Ok(())
}

/// Size of the section `.text` in bytes.
fn text_size(program: &Program) -> Result<u64> {
    let sections = Job::new("readelf")
        .args(["-S", "-W"])
        .arg(&program.path)
        .succeed()?
        .stdout;
    let size = sections.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(']').nth(1)?.split_whitespace().collect();
        if fields.first() == Some(&".text") {
            u64::from_str_radix(fields.get(4)?, 16).ok()
        } else {
            None
        }
    });
    size.ok_or_else(|| format!("{}: no .text", program.path.display()))
}

/// Writes the TSV of all programs, BENCHMARKING.md's tables and the plots.
fn render(corpus: &Corpus) -> Result<()> {
    let all = series::read_all(&corpus.folder("bench")?)?;
    series::write_all(&all, &corpus.cache.join("bench.tsv"))?;
    markdown::write(&corpus.root.join("BENCHMARKING.md"), &all)?;
    let folder = corpus.root.join("xtask/plots");
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    plot::write(&folder, &all)
}
