//! The builds that are compared, and what making them costs.

use std::path::{Path, PathBuf};

use super::series::{Metric, Results};
use crate::corpus::{Corpus, Program, size_of};
use crate::postlink::{Layout, Tool, output_path, proof_cost};
use crate::process::{Finished, Job, Result};

/// A build of a program.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, clap::ValueEnum)]
pub(super) enum Variant {
    /// As linked
    Original,
    /// By postlink in full mode
    PostlinkFull,
    /// By postlink in hot mode
    PostlinkHot,
    /// By llvm-bolt in its lite mode
    BoltLite,
    /// By llvm-bolt with -lite=0
    BoltAll,
}

impl Variant {
    pub(super) const ALL: [Variant; 5] = [
        Variant::Original,
        Variant::PostlinkFull,
        Variant::PostlinkHot,
        Variant::BoltLite,
        Variant::BoltAll,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Variant::Original => "original",
            Variant::PostlinkFull => "postlink full",
            Variant::PostlinkHot => "postlink hot",
            Variant::BoltLite => "llvm-bolt lite",
            Variant::BoltAll => "llvm-bolt -lite=0",
        }
    }

    /// Another build of this kind, by another profile.
    pub(super) fn with_profile(self, corpus: &Corpus, tool: &Tool, program: &Program, profile: &Path) -> Result<PathBuf> {
        let output = output_path(corpus, "bench", program, "near-equal")?;
        let _ = std::fs::remove_file(&output);
        let program = Program { profile: profile.to_path_buf(), ..program.clone() };
        let run = make(tool, &program, self, &output)?;
        if run.status == 0 { Ok(output) } else { Err(format!("{}: status {}: {}", self.name(), run.status, run.tail(2))) }
    }
}

impl std::fmt::Display for Variant {
    /// The name of its argument.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let value = clap::ValueEnum::to_possible_value(self);
        f.write_str(value.as_ref().map_or("", |value| value.get_name()))
    }
}

/// An output that does what the original does.
pub(super) struct Built {
    pub(super) variant: Variant,
    pub(super) path: PathBuf,
}

/// By its full path: Debian's /usr/bin/llvm-bolt-19 is a wrapper that misses parts.
const BOLT: &str = "/usr/lib/llvm-19/bin/llvm-bolt";

/// What llvm-bolt's manual and its users recommend. -icf=1 folds equal functions, also those whose addresses a program may compare.
const BOLT_OPTIONS: [&str; 6] = [
    "-reorder-blocks=ext-tsp",
    "-reorder-functions=cdsort",
    "-split-functions",
    "-split-all-cold",
    "-split-eh",
    "-icf=1",
];

/// Makes the `wanted` variants `rounds` times, in turns, so that a slow minute of the machine hits all tools alike.
/// Returns the original and all outputs that pass the comparison.
pub(super) fn build(
    corpus: &Corpus,
    tool: &Tool,
    program: &Program,
    rounds: usize,
    wanted: &[Variant],
    results: &mut Results,
) -> Result<Vec<Built>> {
    let mut alive: Vec<Variant> = wanted.iter().copied().filter(|variant| *variant != Variant::Original).collect();
    let mut costs: Vec<(Variant, Finished)> = Vec::new();
    for round in 0..rounds {
        for variant in alive.clone() {
            let output = output_path(
                corpus,
                "bench",
                program,
                &variant.name().replace([' ', '='], "-"),
            )?;
            let _ = std::fs::remove_file(&output);
            let run = make(tool, program, variant, &output)?;
            eprintln!(
                "  {} round {}: {:.2} s, status {}",
                variant.name(),
                round + 1,
                run.wall,
                run.status
            );
            let fault = if run.status != 0 {
                Some(format!("status {}: {}", run.status, run.tail(2)))
            } else if round == 0 {
                corpus.compare(program, &output, "measure").err()
            } else {
                None
            };
            if let Some(fault) = fault {
                eprintln!("  {} fails: {fault}", variant.name());
                results.fail(variant);
                alive.retain(|other| *other != variant);
            } else {
                costs.push((variant, run));
            }
        }
    }
    let mut built = vec![Built {
        variant: Variant::Original,
        path: program.path.clone(),
    }];
    for variant in alive {
        let path = output_path(
            corpus,
            "bench",
            program,
            &variant.name().replace([' ', '='], "-"),
        )?;
        let of = |figure: fn(&Finished) -> f64| -> Vec<f64> {
            costs
                .iter()
                .filter(|(other, _)| *other == variant)
                .map(|(_, run)| figure(run))
                .collect()
        };
        // A single run is no measurement of time.
        if rounds > 1 || results.get(variant, Metric::Wall).is_none() {
            results.set(variant, Metric::Wall, of(|run| run.wall));
            results.set(variant, Metric::Cpu, of(|run| run.cpu));
            results.set(variant, Metric::Peak, of(|run| run.peak_kb as f64));
            let proofs = costs.iter().filter(|(other, _)| *other == variant);
            let (shares, memory) = proofs.filter_map(|(_, run)| proof_cost(&run.stderr)).unzip();
            results.set(variant, Metric::Proof, shares);
            results.set(variant, Metric::ProofPeak, memory);
        }
        results.set(variant, Metric::Size, vec![size_of(&path)? as f64]);
        built.push(Built { variant, path });
    }
    Ok(built)
}

fn make(tool: &Tool, program: &Program, variant: Variant, output: &Path) -> Result<Finished> {
    match variant {
        Variant::Original => Err("the original is not made".to_owned()),
        Variant::PostlinkFull => tool.optimize(program, Layout::Full, output),
        Variant::PostlinkHot => tool.optimize(program, Layout::Hot, output),
        Variant::BoltLite => bolt(program, output).run(),
        Variant::BoltAll => bolt(program, output).arg("-lite=0").run(),
    }
}

fn bolt(program: &Program, output: &Path) -> Job {
    let job = Job::new(BOLT)
        .arg(&program.path)
        .arg("-o")
        .arg(output)
        .arg("-data")
        .arg(&program.profile);
    job.args(BOLT_OPTIONS)
}
