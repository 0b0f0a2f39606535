//! How good the outputs are, on inputs that the profile has not seen.

use std::path::Path;

use super::orders::near_equal;
use super::series::{Figure, Metric, Results};
use super::variant::{Built, Variant};
use crate::corpus::{Corpus, Program};
use crate::postlink::Tool;
use crate::process::{Result, accounts};

/// Simulated runs are repeated while they take less than this: hash seeds make some programs differ by 0.2 %.
const REPEAT_BELOW_SECONDS: f64 = 20.0;
const REPEATS: usize = 3;

/// Orders of functions for which misses are counted: one order is one sample; see [`near_equal`].
const ORDERS: u64 = 5;

/// Only where a simulated run takes less than this. Larger programs, whose hot code is many times the cache, differ little.
const ORDERS_BELOW_SECONDS: f64 = 60.0;

/// Instructions, L1I misses and mispredicts, by cachegrind. `save` gets the results after every build: of clang, one takes
/// minutes.
pub(super) fn misses(
    corpus: &Corpus,
    tool: &Tool,
    program: &Program,
    built: &[&Built],
    results: &mut Results,
    save: &dyn Fn(&Results) -> Result<()>,
) -> Result<()> {
    for Built { variant, path } in built {
        let (first, seconds) = counts(corpus, program, path)?;
        let mut samples = vec![first];
        if *variant != Variant::Original && seconds < ORDERS_BELOW_SECONDS {
            let profile = std::fs::read_to_string(&program.profile)
                .map_err(|error| format!("{}: {error}", program.profile.display()))?;
            for seed in 1..ORDERS {
                let near = tempfile::NamedTempFile::new().map_err(|error| format!("temporary file: {error}"))?;
                std::fs::write(near.path(), near_equal(&profile, seed))
                    .map_err(|error| format!("{}: {error}", near.path().display()))?;
                let output = variant.with_profile(corpus, tool, program, near.path())?;
                samples.push(counts(corpus, program, &output)?.0);
                let _ = std::fs::remove_file(output);
            }
        }
        for (at, metric) in [Metric::Instructions, Metric::Misses, Metric::Mispredicts].into_iter().enumerate() {
            results.set(*variant, metric, samples.iter().map(|sample| sample[at]).collect());
        }
        save(results)?;
        eprintln!("  {} cachegrind done", variant.name());
    }
    Ok(())
}

/// Instructions, L1I misses and mispredicts of a build, each the median of its runs, and the seconds of a run. The cache is
/// spelled out: by default it is that of the machine.
fn counts(corpus: &Corpus, program: &Program, path: &Path) -> Result<([f64; 3], f64)> {
    let mut sums: [Vec<f64>; 3] = Default::default();
    let tool = "--tool=cachegrind --cache-sim=yes --branch-sim=yes --I1=32768,8,64 --cachegrind-out-file";
    let seconds = simulate(corpus, program, path, tool, |out| {
        let events = Events::read(out)?;
        sums[0].push(events.sum(&["Ir"])?);
        sums[1].push(events.sum(&["I1mr"])?);
        sums[2].push(events.sum(&["Bcm", "Bim"])?);
        Ok(())
    })?;
    Ok((sums.map(|values| Figure::of(values).map_or(0.0, |figure| figure.median)), seconds))
}

/// Taken branches, by callgrind.
pub(super) fn branches(
    corpus: &Corpus,
    program: &Program,
    built: &[&Built],
    results: &mut Results,
    save: &dyn Fn(&Results) -> Result<()>,
) -> Result<()> {
    for Built { variant, path } in built {
        let mut taken = Vec::new();
        // Without --dump-instr callgrind records calls, and no jumps.
        let options = "--tool=callgrind --dump-instr=yes --collect-jumps=yes --callgrind-out-file";
        simulate(corpus, program, path, options, |out| {
            taken.push(taken_branches(out)?);
            Ok(())
        })?;
        results.set(*variant, Metric::Taken, taken);
        save(results)?;
        eprintln!("  {} callgrind done", variant.name());
    }
    Ok(())
}

/// Cpu time, in turns with the original; the metric is the ratio within one round.
pub(super) fn time(
    corpus: &Corpus,
    program: &Program,
    built: &[Built],
    budget: f64,
    results: &mut Results,
) -> Result<()> {
    // The whole evaluation of these two takes minutes; a part of it is long enough for a clock.
    let phase = if program.name.contains("python") || program.name.contains("clang") {
        "measure"
    } else {
        "eval"
    };
    let seconds = |path: &Path| -> Result<f64> {
        let file =
            tempfile::NamedTempFile::new().map_err(|error| format!("temporary file: {error}"))?;
        let under = format!(
            "{} {}",
            corpus.root.join("scripts/lib/cpu-time").display(),
            file.path().display()
        );
        let job = corpus
            .script("workload")
            .arg(&program.name)
            .arg(phase)
            .arg(path);
        job.env("POSTLINK_RUN_UNDER", under).succeed()?;
        Ok(accounts(file.path()).0)
    };
    // The first run warms the page cache and says how many rounds fit.
    let once = seconds(&program.path)?;
    let rounds = (budget / once.max(0.01)).clamp(3.0, 31.0) as usize;
    let mut times = vec![Vec::new(); built.len()];
    for round in 0..rounds {
        for index in 0..built.len() {
            // Another one begins in every round: what runs first is not always the same.
            let at = (index + round) % built.len();
            times[at].push(seconds(&built[at].path)?);
        }
    }
    let Some(original) = built
        .iter()
        .position(|built| built.variant == Variant::Original)
    else {
        return Err("no original to compare with".to_owned());
    };
    for (built, own) in built.iter().zip(&times) {
        let ratios = own
            .iter()
            .zip(&times[original])
            .map(|(own, original)| own / original.max(1e-3))
            .collect();
        results.set(built.variant, Metric::Time, ratios);
    }
    eprintln!("  cpu time: {rounds} rounds");
    Ok(())
}

/// Runs the small workload under a valgrind tool; `read` gets the folder with one file per process. Returns the seconds of a run.
fn simulate(
    corpus: &Corpus,
    program: &Program,
    binary: &Path,
    tool: &str,
    mut read: impl FnMut(&Path) -> Result<()>,
) -> Result<f64> {
    let (mut spent, mut runs) = (0.0, 0.0);
    for _ in 0..REPEATS {
        let out = tempfile::tempdir().map_err(|error| format!("temporary folder: {error}"))?;
        let under = format!("valgrind -q {tool}={}/%p", out.path().display());
        let job = corpus
            .script("workload")
            .arg(&program.name)
            .arg("measure")
            .arg(binary);
        spent += job.env("POSTLINK_RUN_UNDER", under).succeed()?.wall;
        runs += 1.0;
        read(out.path())?;
        if spent > REPEAT_BELOW_SECONDS {
            break;
        }
    }
    Ok(spent / runs)
}

/// All files of a folder.
fn texts(folder: &Path) -> Result<Vec<String>> {
    let fail = |error: std::io::Error| format!("{}: {error}", folder.display());
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(fail)? {
        let bytes = std::fs::read(entry.map_err(fail)?.path()).map_err(fail)?;
        all.push(String::from_utf8_lossy(&bytes).into_owned());
    }
    if all.is_empty() {
        Err("valgrind wrote nothing".to_owned())
    } else {
        Ok(all)
    }
}

/// Cachegrind's events: name and sum over the processes of a run.
struct Events(Vec<(String, f64)>);

impl Events {
    fn read(folder: &Path) -> Result<Self> {
        let mut sums: Vec<(String, f64)> = Vec::new();
        for text in texts(folder)? {
            let line = |key: &str| text.lines().find_map(|line| line.strip_prefix(key));
            let (Some(names), Some(values)) = (line("events:"), line("summary:")) else {
                return Err("a file of valgrind without a summary".to_owned());
            };
            for (name, value) in names.split_whitespace().zip(values.split_whitespace()) {
                let value: f64 = value
                    .parse()
                    .map_err(|_| format!("summary: not a number: {value}"))?;
                match sums.iter_mut().find(|(known, _)| known == name) {
                    Some((_, sum)) => *sum += value,
                    None => sums.push((name.to_owned(), value)),
                }
            }
        }
        Ok(Self(sums))
    }

    fn sum(&self, names: &[&str]) -> Result<f64> {
        names.iter().try_fold(0.0, |sum, name| {
            let event = self.0.iter().find(|(known, _)| known == name);
            event
                .map(|(_, value)| sum + value)
                .ok_or_else(|| format!("no event {name}"))
        })
    }
}

/// Taken branches in callgrind's files. It writes a jump that leaves its function as a call, so that only the sum of calls,
/// jumps and taken conditional jumps can be compared between layouts. Returns are not recorded.
fn taken_branches(folder: &Path) -> Result<f64> {
    let mut sum = 0u64;
    let mut jumps = false;
    for text in texts(folder)? {
        for line in text.lines() {
            let count = if let Some(rest) = line
                .strip_prefix("calls=")
                .or_else(|| line.strip_prefix("jump="))
            {
                rest.split_whitespace().next()
            } else if let Some(rest) = line.strip_prefix("jcnd=") {
                jumps = true;
                rest.split('/').next()
            } else {
                continue;
            };
            sum += count
                .and_then(|count| count.parse::<u64>().ok())
                .ok_or_else(|| format!("callgrind: {line}"))?;
        }
    }
    if !jumps {
        Err("callgrind recorded no jumps".to_owned())
    } else {
        Ok(sum as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::{Events, taken_branches};

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (index, text) in files.iter().enumerate() {
            std::fs::write(folder.path().join(index.to_string()), text).unwrap();
        }
        folder
    }

    #[test]
    fn events_of_several_processes_add_up() {
        let out = folder(&[
            "events: Ir I1mr\n1 2 3\nsummary: 10 2\n",
            "events: Ir I1mr\nsummary: 5 1\n",
        ]);
        let events = Events::read(out.path()).unwrap();
        assert_eq!(
            (events.sum(&["Ir"]), events.sum(&["Ir", "I1mr"])),
            (Ok(15.0), Ok(18.0))
        );
        assert!(events.sum(&["Bcm"]).is_err());
        assert!(Events::read(folder(&[]).path()).is_err());
    }

    #[test]
    fn calls_jumps_and_taken_conditional_jumps() {
        let out = folder(&["fn=main\ncalls=3 0\njump=4 12\njcnd=5/9 13\n1 2\n"]);
        assert_eq!(taken_branches(out.path()), Ok(12.0));
        assert!(taken_branches(folder(&["fn=main\ncalls=3 0\n"]).path()).is_err());
    }
}
