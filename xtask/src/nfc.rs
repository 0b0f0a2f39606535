//! `nfc`: no functional change. Two builds of postlink rewrite the corpus; the outputs must be equal.

use std::path::{Path, PathBuf};

use crate::check::first_difference;
use crate::corpus::{Corpus, Program};
use crate::postlink::{Layout, Tool, output_path};
use crate::process::{Job, Result};

/// Arguments of `nfc`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The commit to compare the working tree with
    #[arg(long, value_name = "REV")]
    against: String,
    /// Which programs (default: all below 20 MB)
    programs: Vec<String>,
}

/// Larger programs are compared on request only.
const DEFAULT_LIMIT: u64 = 20_000_000;

/// Runs the task; false if any output differs.
pub(crate) fn run(arguments: &Arguments) -> Result<bool> {
    let corpus = Corpus::open()?;
    let new = Tool::build(&corpus.root, None, None)?;
    let old = build_revision(&corpus, &arguments.against)?;
    let mut programs = corpus.programs(&arguments.programs)?;
    if arguments.programs.is_empty() {
        programs.retain(|program| program.size < DEFAULT_LIMIT);
    }
    let (mut equal, mut different) = (0, 0);
    for program in &programs {
        for layout in Layout::ALL {
            match compare(&corpus, &old, &new, program, layout)? {
                None => equal += 1,
                Some(how) => {
                    different += 1;
                    println!("{:<11} {:<12} {how}", program.name, layout.name());
                }
            }
        }
    }
    println!("{equal} equal, {different} different");
    Ok(different == 0 && equal > 0)
}

/// How the outputs of two builds differ.
fn compare(
    corpus: &Corpus,
    old: &Tool,
    new: &Tool,
    program: &Program,
    layout: Layout,
) -> Result<Option<String>> {
    let old_output = output_path(corpus, "nfc/old", program, layout.name())?;
    let new_output = output_path(corpus, "nfc/new", program, layout.name())?;
    let old_run = old.optimize(program, layout, &old_output)?;
    let new_run = new.optimize(program, layout, &new_output)?;
    if old_run.status != new_run.status {
        return Ok(Some(format!(
            "status {} became {}: {}",
            old_run.status,
            new_run.status,
            new_run.tail(2)
        )));
    }
    if new_run.status != 0 {
        return Ok(Some(format!("both fail: {}", new_run.tail(2))));
    }
    let difference = first_difference(&old_output, &new_output)?;
    if let Some(offset) = difference {
        return Ok(Some(format!(
            "differs at byte {offset:#x}; outputs kept in {}",
            corpus.cache.join("nfc").display()
        )));
    }
    for output in [old_output, new_output] {
        let _ = std::fs::remove_file(output);
    }
    Ok(None)
}

/// Builds a commit in a folder of its own. Unpacked, not checked out: the repository's state stays as it is.
fn build_revision(corpus: &Corpus, revision: &str) -> Result<Tool> {
    let resolve =
        Job::new("git")
            .arg("-C")
            .arg(&corpus.root)
            .args(["rev-parse", "--verify", "--quiet"]);
    let commit = resolve
        .arg(format!("{revision}^{{commit}}"))
        .succeed()?
        .stdout
        .trim()
        .to_owned();
    let target: PathBuf = corpus.folder("nfc/target")?;
    let source = corpus.folder(&format!("nfc/source/{commit}"))?;
    unpack(&corpus.root, &commit, &source)?;
    let tool = Tool::build(&source, Some(&target), None);
    let _ = std::fs::remove_dir_all(&source);
    tool
}

fn unpack(root: &Path, commit: &str, folder: &Path) -> Result<()> {
    let archive =
        tempfile::NamedTempFile::new().map_err(|error| format!("temporary file: {error}"))?;
    let pack = Job::new("git")
        .arg("-C")
        .arg(root)
        .args(["archive", "--format=tar", "-o"]);
    pack.arg(archive.path()).arg(commit).succeed()?;
    Job::new("tar")
        .arg("-xf")
        .arg(archive.path())
        .arg("-C")
        .arg(folder)
        .succeed()?;
    Ok(())
}
