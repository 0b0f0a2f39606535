//! Builds and runs the tool itself.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::corpus::{Corpus, Program, size_of};
use crate::process::{Finished, Job, Result};

/// A way to lay a program out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Layout {
    /// By profile, in place.
    Full,
    /// By profile, hot functions in a segment of their own.
    Hot,
    /// In place, everything at random: a stress test.
    Random,
    /// In place, every block but the entry away from its function: a stress test.
    SplitAll,
}

impl Layout {
    pub(crate) const ALL: [Layout; 4] =
        [Layout::Full, Layout::Hot, Layout::Random, Layout::SplitAll];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Layout::Full => "full",
            Layout::Hot => "hot",
            Layout::Random => "random",
            Layout::SplitAll => "split-all",
        }
    }

    pub(crate) fn has_profile(self) -> bool {
        matches!(self, Layout::Full | Layout::Hot)
    }

    /// The options of `postlink optimize`; `profile` is used where the layout asks for one.
    pub(crate) fn options(self, profile: &Path) -> Vec<OsString> {
        let fixed: &[&str] = match self {
            Layout::Full => &["--mode", "full"],
            Layout::Hot => &["--mode", "hot"],
            Layout::Random => &[
                "--block-order",
                "random",
                "--function-order",
                "random",
                "--split",
                "random",
                "--seed",
                "1",
            ],
            Layout::SplitAll => &["--split", "all"],
        };
        let mut options: Vec<OsString> = fixed.iter().map(OsString::from).collect();
        if self.has_profile() {
            options.extend(["--profile".into(), profile.into()]);
        }
        options
    }
}

/// The tool's executable.
pub(crate) struct Tool {
    path: PathBuf,
    has_verify: bool,
    // Keeps the copy alive as long as it is used.
    _folder: tempfile::TempDir,
}

impl Tool {
    /// Builds the tool in `root`, or takes a `given` one. Works on a copy, so that later builds do not change a long run.
    pub(crate) fn build(root: &Path, target: Option<&Path>, given: Option<&Path>) -> Result<Self> {
        let built = match given {
            Some(path) => path.to_owned(),
            None => {
                let target = target
                    .map(Path::to_owned)
                    .or_else(|| std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from))
                    .unwrap_or_else(|| root.join("target"));
                let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
                eprintln!("building postlink");
                Job::new(cargo)
                    .args([
                        "build",
                        "--quiet",
                        "--release",
                        "--package",
                        "postlink",
                        "--manifest-path",
                    ])
                    .arg(root.join("Cargo.toml"))
                    .arg("--target-dir")
                    .arg(&target)
                    .succeed()?;
                target.join("release/postlink")
            }
        };
        let folder = tempfile::tempdir().map_err(|error| format!("temporary folder: {error}"))?;
        let path = folder.path().join("postlink");
        std::fs::copy(&built, &path).map_err(|error| format!("{}: {error}", built.display()))?;
        let help = Job::new(&path).arg("--help").succeed()?.stdout;
        let has_verify = help
            .lines()
            .any(|line| line.trim_start().starts_with("verify "));
        Ok(Self {
            path,
            has_verify,
            _folder: folder,
        })
    }

    /// The executable.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn optimize(
        &self,
        program: &Program,
        layout: Layout,
        output: &Path,
    ) -> Result<Finished> {
        self.optimize_with(&program.path, layout.options(&program.profile), output)
    }

    pub(crate) fn optimize_with(
        &self,
        input: &Path,
        options: Vec<OsString>,
        output: &Path,
    ) -> Result<Finished> {
        Job::new(&self.path)
            .arg("optimize")
            .arg(input)
            .arg("-o")
            .arg(output)
            .arg("--time")
            .args(options)
            .run()
    }

    /// `postlink verify`, or `None` while this build has no such command.
    pub(crate) fn verify(&self, old: &Path, new: &Path) -> Result<Option<Finished>> {
        if !self.has_verify {
            return Ok(None);
        }
        Job::new(&self.path)
            .arg("verify")
            .arg(old)
            .arg(new)
            .run()
            .map(Some)
    }
}

/// What one run of `optimize` came to.
pub(crate) struct Rewrite {
    pub(crate) run: Finished,
    /// Size of the output in bytes.
    pub(crate) size: u64,
    /// Functions that were kept because their proof failed.
    pub(crate) kept: Vec<String>,
    /// Seconds in proofs; several, if functions had to be kept.
    pub(crate) proof: f64,
}

/// Rewrites and reads what the tool says of it. An error is a run that wrote nothing.
pub(crate) fn rewrite(
    tool: &Tool,
    program: &Program,
    layout: Layout,
    output: &Path,
) -> Result<Rewrite> {
    let run = tool.optimize(program, layout, output)?;
    if run.status != 0 {
        return Err(format!("optimize: status {}: {}", run.status, run.tail(6)));
    }
    if !run.stderr.lines().any(|line| line.starts_with("proof ")) {
        return Err("optimize: no word of a proof".to_owned());
    }
    let kept = run
        .stderr
        .lines()
        .filter(|line| line.starts_with("kept "))
        .map(squeeze)
        .collect();
    let proof = run.stderr.lines().filter_map(stage_seconds("verify")).sum();
    Ok(Rewrite {
        size: size_of(output)?,
        kept,
        proof,
        run,
    })
}

fn squeeze(line: &str) -> String {
    line.split_whitespace()
        .skip(1)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Reads the wall time of a stage from a line of `--time`: `  verify  0.115  0.040  21.4`.
fn stage_seconds(stage: &'static str) -> impl Fn(&str) -> Option<f64> {
    move |line| Some(stage_figures(stage, line)?[0])
}

/// Wall time and cpu time in seconds and peak memory so far in MB, from the line of a stage.
fn stage_figures(stage: &str, line: &str) -> Option<[f64; 3]> {
    let mut figures = line
        .trim_start()
        .strip_prefix(stage)?
        .split_whitespace()
        .map(str::parse);
    let mut next = || figures.next()?.ok();
    Some([next()?, next()?, next()?])
}

/// What the proof cost in a run with `--time`: its cpu time divided by that of all the rest, and the memory in MB by
/// which it raised the peak.
pub(crate) fn proof_cost(stderr: &str) -> Option<(f64, f64)> {
    let last = |stage: &str| stderr.lines().filter_map(|line| stage_figures(stage, line)).next_back();
    let all = |stage: &str| -> f64 {
        stderr.lines().filter_map(|line| stage_figures(stage, line)).map(|figures| figures[1]).sum()
    };
    // The output is written meanwhile; a part of the input is read before.
    let proof = all("verify") - all("write (beside)") + all("proof's input (beside)");
    let total = last("total")?[1];
    let memory = last("verify")?[2] - last("emit")?[2];
    (total > proof).then(|| (proof / (total - proof), memory))
}

/// A folder of its own for one output, which keeps the program's file name: some programs look at it.
pub(crate) fn output_path(
    corpus: &Corpus,
    area: &str,
    program: &Program,
    variant: &str,
) -> Result<PathBuf> {
    let folder = corpus.folder(&format!("{area}/{}/{variant}", program.name))?;
    let name = program
        .path
        .file_name()
        .ok_or_else(|| format!("{}: no file name", program.path.display()))?;
    Ok(folder.join(name))
}

#[cfg(test)]
mod tests {
    use super::{proof_cost, stage_seconds};

    #[test]
    fn the_cost_of_the_proof() {
        let text = "stage   wall s    cpu s   peak MB\n  emit  0.1  0.5  100.0\n    unwind bytes  0.1 0.1 90.0\n  verify  0.1  0.5  130.0\ntotal  0.4  1.5  130.0\n";
        assert_eq!(proof_cost(text), Some((0.5, 30.0)));
        let beside = text.replace("  verify  0.1  0.5", "  write (beside)  0.1 0.1 120.0\n  verify  0.1  0.6");
        assert_eq!(proof_cost(&beside), Some((0.5, 30.0)));
        let ahead = text.replace("  emit  0.1  0.5", "  proof's input (beside)  0.1 0.25 90.0\n  emit  0.1  0.5").replace("1.5  130.0", "2.25  130.0");
        assert_eq!(proof_cost(&ahead), Some((0.5, 30.0)));
    }

    #[test]
    fn the_proof_in_a_stage_tree() {
        let lines = [
            "  verify               0.115    0.040      21.4",
            "verified",
            "  write  0.1 0.1 3.0",
        ];
        let found: Vec<f64> = lines
            .iter()
            .copied()
            .filter_map(stage_seconds("verify"))
            .collect();
        assert_eq!(found, [0.115]);
    }
}
