//! Figures: what was measured, of which build, how often.

use std::collections::BTreeMap;
use std::path::Path;

use super::variant::Variant;
use crate::process::Result;
use crate::table::{self, Table};

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Metric {
    /// Bytes of `.text` in the input.
    Text,
    /// Wall time of the tool in seconds.
    Wall,
    /// User and system time of the tool in seconds.
    Cpu,
    /// Peak resident memory of the tool in KiB.
    Peak,
    /// Cpu time of the proof, divided by that of all the rest.
    Proof,
    /// MB by which the proof raised the tool's peak memory.
    ProofPeak,
    /// Bytes of the file.
    Size,
    /// Executed instructions (cachegrind).
    Instructions,
    /// Misses of the first-level instruction cache (cachegrind).
    Misses,
    /// Mispredicted branches, conditional and indirect (cachegrind's model).
    Mispredicts,
    /// Taken branches: conditional, unconditional, calls; returns are not counted (callgrind).
    Taken,
    /// Cpu time of the program, divided by the original's in the same round.
    Time,
    /// 1 if the tool failed or its output does something else.
    Failed,
}

impl Metric {
    const ALL: [Metric; 13] = [
        Metric::Text,
        Metric::Wall,
        Metric::Cpu,
        Metric::Peak,
        Metric::Proof,
        Metric::ProofPeak,
        Metric::Size,
        Metric::Instructions,
        Metric::Misses,
        Metric::Mispredicts,
        Metric::Taken,
        Metric::Time,
        Metric::Failed,
    ];

    fn name(self) -> &'static str {
        match self {
            Metric::Text => "text_bytes",
            Metric::Wall => "tool_wall_s",
            Metric::Cpu => "tool_cpu_s",
            Metric::Peak => "tool_peak_kb",
            Metric::Proof => "proof_cpu_ratio",
            Metric::ProofPeak => "proof_mb",
            Metric::Size => "file_bytes",
            Metric::Instructions => "instructions",
            Metric::Misses => "l1i_misses",
            Metric::Mispredicts => "mispredicts",
            Metric::Taken => "taken_branches",
            Metric::Time => "cpu_time_ratio",
            Metric::Failed => "failed",
        }
    }
}

/// A median and its spread.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Figure {
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
    pub(super) runs: usize,
}

impl Figure {
    /// Of any number of runs but none.
    pub(super) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        };
        Some(Self {
            median,
            min,
            max,
            runs: values.len(),
        })
    }
}

/// All figures of one program.
#[derive(Default)]
pub(super) struct Results(BTreeMap<(Variant, Metric), Figure>);

const HEAD: &[&str] = &["program", "build", "metric", "median", "min", "max", "runs"];

impl Results {
    pub(super) fn get(&self, variant: Variant, metric: Metric) -> Option<f64> {
        self.figure(variant, metric).map(|figure| figure.median)
    }

    pub(super) fn figure(&self, variant: Variant, metric: Metric) -> Option<Figure> {
        self.0.get(&(variant, metric)).copied()
    }

    /// A figure divided by the original's.
    pub(super) fn ratio(&self, variant: Variant, metric: Metric) -> Option<f64> {
        let original = self.get(Variant::Original, metric)?;
        if original > 0.0 {
            Some(self.get(variant, metric)? / original)
        } else {
            None
        }
    }

    pub(super) fn set(&mut self, variant: Variant, metric: Metric, values: Vec<f64>) {
        if let Some(figure) = Figure::of(values) {
            self.0.remove(&(variant, Metric::Failed));
            self.0.insert((variant, metric), figure);
        }
    }

    /// Forgets all figures of a build that is wrong.
    pub(super) fn fail(&mut self, variant: Variant) {
        self.0.retain(|(other, _), _| *other != variant);
        self.0.insert(
            (variant, Metric::Failed),
            Figure {
                median: 1.0,
                min: 1.0,
                max: 1.0,
                runs: 1,
            },
        );
    }

    pub(super) fn failed(&self, variant: Variant) -> bool {
        self.0.contains_key(&(variant, Metric::Failed))
    }

    /// What an earlier run wrote; nothing if there was none.
    pub(super) fn read(path: &Path) -> Self {
        let mut results = Self::default();
        for row in table::read(path) {
            let [_, build, name, median, min, max, runs] = row.as_slice() else {
                continue;
            };
            let variant = Variant::ALL
                .into_iter()
                .find(|variant| variant.name() == build);
            let metric = Metric::ALL.into_iter().find(|metric| metric.name() == name);
            let (Some(variant), Some(metric)) = (variant, metric) else {
                continue;
            };
            let (Ok(median), Ok(min), Ok(max), Ok(runs)) =
                (median.parse(), min.parse(), max.parse(), runs.parse())
            else {
                continue;
            };
            results.0.insert(
                (variant, metric),
                Figure {
                    median,
                    min,
                    max,
                    runs,
                },
            );
        }
        results
    }

    pub(super) fn write(&self, program: &str, path: &Path) -> Result<()> {
        let mut table = Table::new(HEAD);
        self.rows(program, &mut table);
        table.write(path)
    }

    fn rows(&self, program: &str, table: &mut Table) {
        for ((variant, metric), figure) in &self.0 {
            table.push(vec![
                program.to_owned(),
                variant.name().to_owned(),
                metric.name().to_owned(),
                figure.median.to_string(),
                figure.min.to_string(),
                figure.max.to_string(),
                figure.runs.to_string(),
            ]);
        }
    }
}

/// The results of all programs that were ever measured here, smallest text first.
pub(super) fn read_all(folder: &Path) -> Result<Vec<(String, Results)>> {
    let entries =
        std::fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut all = Vec::new();
    for entry in entries.filter_map(std::result::Result::ok) {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "tsv") {
            let name = path
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            all.push((name, Results::read(&path)));
        }
    }
    let text = |results: &Results| results.get(Variant::Original, Metric::Text).unwrap_or(0.0);
    all.sort_by(|a, b| {
        text(&a.1)
            .total_cmp(&text(&b.1))
            .then_with(|| a.0.cmp(&b.0))
    });
    Ok(all)
}

pub(super) fn write_all(all: &[(String, Results)], path: &Path) -> Result<()> {
    let mut table = Table::new(HEAD);
    for (program, results) in all {
        results.rows(program, &mut table);
    }
    table.write(path)
}

#[cfg(test)]
mod tests {
    use super::{Figure, Metric, Results, Variant};

    #[test]
    fn medians() {
        let median = |values: &[f64]| Figure::of(values.to_vec()).map(|figure| figure.median);
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0]), Some(2.5));
    }

    #[test]
    fn results_survive_a_file_and_failures_replace_figures() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut results = Results::default();
        results.set(Variant::Original, Metric::Misses, vec![200.0]);
        results.set(Variant::BoltAll, Metric::Misses, vec![100.0, 50.0, 300.0]);
        results.write("p", file.path()).unwrap();
        let mut again = Results::read(file.path());
        assert_eq!(again.ratio(Variant::BoltAll, Metric::Misses), Some(0.5));
        assert_eq!(
            again
                .figure(Variant::BoltAll, Metric::Misses)
                .map(|figure| figure.runs),
            Some(3)
        );
        again.fail(Variant::BoltAll);
        assert_eq!(again.get(Variant::BoltAll, Metric::Misses), None);
        assert!(again.failed(Variant::BoltAll));
    }
}
