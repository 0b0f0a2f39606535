//! One program in one layout.

use std::path::{Path, PathBuf};

use super::Line;
use crate::corpus::{Corpus, Program};
use crate::postlink::{Layout, Tool, output_path, rewrite};
use crate::process::{Job, Result};

/// Rewrites, verifies, strips and runs; every fault is a line of the result.
pub(super) fn check(
    corpus: &Corpus,
    tool: &Tool,
    program: &Program,
    layout: Layout,
    phase: &str,
    keep: bool,
) -> Line {
    let mut line = Line::new(&program.name, layout.name(), program.size);
    let mut files = Vec::new();
    if let Err(fault) = steps(corpus, tool, program, layout, phase, &mut line, &mut files) {
        line.faults.push(fault);
    }
    // A failed output is what a bug report starts from.
    if line.faults.is_empty() && !keep {
        for file in files {
            let _ = std::fs::remove_file(file);
        }
    }
    line
}

/// An error ends the check; faults that leave an output to look at are collected in the line.
fn steps(
    corpus: &Corpus,
    tool: &Tool,
    program: &Program,
    layout: Layout,
    phase: &str,
    line: &mut Line,
    files: &mut Vec<PathBuf>,
) -> Result<()> {
    let output = output_path(corpus, "check", program, layout.name())?;
    let _ = std::fs::remove_file(&output);
    let done = rewrite(tool, program, layout, &output)?;
    files.push(output.clone());
    line.new_size = done.size;
    line.wall = done.run.wall;
    line.peak_kb = done.run.peak_kb;
    line.proof = done.proof;
    line.kept = done.kept.len();
    if let Some(first) = done.kept.first() {
        line.faults.push(format!(
            "{} functions kept for want of a proof, first: {first}",
            done.kept.len()
        ));
    }
    if layout == Layout::Full && done.size > program.size {
        line.faults.push(format!(
            "larger than the input by {} bytes",
            done.size - program.size
        ));
    }
    if let Some(run) = tool.verify(&program.path, &output)?
        && run.status != 0
    {
        line.faults
            .push(format!("verify: status {}: {}", run.status, run.tail(4)));
    }
    let mut note = |what: &str, done: Result<()>| {
        if let Err(fault) = done {
            line.faults.push(format!("{what}: {fault}"));
        }
    };
    note("output", corpus.compare(program, &output, phase));
    match strip(&output) {
        Ok(stripped) => {
            // The program is the same code as before: a short run shows whether the file survived.
            note("stripped", corpus.compare(program, &stripped, "train"));
            files.push(stripped);
        }
        Err(fault) => note("strip", Err(fault)),
    }
    Ok(())
}

/// Strips a copy, which keeps the file's name.
fn strip(output: &Path) -> Result<PathBuf> {
    let folder = output.with_file_name("stripped");
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let name = output
        .file_name()
        .ok_or_else(|| format!("{}: no file name", output.display()))?;
    let stripped = folder.join(name);
    let done = Job::new("strip")
        .arg(output)
        .arg("-o")
        .arg(&stripped)
        .succeed()?;
    // Warnings are the first sign of a file that strip lays out wrongly.
    if done.stderr.trim().is_empty() {
        Ok(stripped)
    } else {
        Err(done.tail(3))
    }
}
