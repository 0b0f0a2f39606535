//! `ratchet`: how many instructions postlink itself executes on a fixed input, against what was committed.
//!
//! Counted by callgrind on one thread, so that the count is the same on every machine with the same compiler. A change
//! that makes it larger fails; one that makes it smaller is to be committed with `--update`.

use std::path::Path;

use crate::process::{Job, Result};
use crate::table::{self, Table};

/// Arguments of `ratchet`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Write the counts of today into xtask/ratchet.tsv
    #[arg(long)]
    update: bool,
    /// Use this executable instead of building one
    #[arg(long, value_name = "FILE")]
    postlink: Option<std::path::PathBuf>,
}

/// By how much a count may exceed the committed one: another compiler or C library is not a regression.
const TOLERANCE: f64 = 0.03;

const HEAD: &[&str] = &["run", "instructions"];

/// Runs the task; false if a count is too large.
pub(crate) fn run(arguments: &Arguments) -> Result<bool> {
    let root = crate::corpus::Corpus::open()?.root;
    let tool = crate::postlink::Tool::build(&root, None, arguments.postlink.as_deref())?;
    let folder = tempfile::tempdir().map_err(|error| format!("temporary folder: {error}"))?;
    let demo = root.join("testdata/demo");
    let (program, profile) = (demo.join("tally"), demo.join("tally.fdata"));
    let output = folder.path().join("tally");
    let mut counts = Vec::new();
    for mode in ["full", "hot"] {
        let job = Job::new("valgrind")
            .args(valgrind(folder.path()))
            .arg(tool.path())
            .arg("optimize")
            .arg(&program)
            .arg("-o")
            .arg(&output)
            .arg("--profile")
            .arg(&profile)
            .args(["--quiet", "--mode", mode]);
        counts.push((format!("optimize --mode {mode}"), count(job)?));
    }
    let verify = Job::new("valgrind")
        .args(valgrind(folder.path()))
        .arg(tool.path())
        .arg("verify")
        .arg(&program)
        .arg(&output);
    counts.push(("verify".to_owned(), count(verify)?));

    let path = root.join("xtask/ratchet.tsv");
    if arguments.update {
        let mut table = Table::new(HEAD);
        for (run, count) in &counts {
            table.push(vec![run.clone(), count.to_string()]);
        }
        table.write(&path)?;
        println!("{}", path.display());
        return Ok(true);
    }
    let committed = table::read(&path);
    let mut good = true;
    for (run, count) in counts {
        let before = committed.iter().find(|row| row.first() == Some(&run)).and_then(|row| row.get(1)?.parse::<f64>().ok());
        let Some(before) = before else {
            return Err(format!("{}: no count of `{run}`; --update writes it", path.display()));
        };
        let ratio = count as f64 / before;
        let fits = ratio <= 1.0 + TOLERANCE;
        good &= fits;
        println!("{run:<20} {count:>12} instructions, {ratio:.3} of what is committed{}", if fits { "" } else { ": TOO MANY" });
    }
    Ok(good)
}

fn valgrind(folder: &Path) -> Vec<String> {
    let out = format!("--callgrind-out-file={}", folder.join("counts").display());
    vec!["--tool=callgrind".to_owned(), out]
}

/// The sum that callgrind prints when it is done.
fn count(job: Job) -> Result<u64> {
    let done = job.env("RAYON_NUM_THREADS", "1").succeed()?;
    let line = done.stderr.lines().find_map(|line| line.split_once("Collected : "));
    line.and_then(|(_, count)| count.trim().parse().ok()).ok_or_else(|| format!("callgrind: no count in: {}", done.tail(3)))
}
