//! BENCHMARKING.md's tables, between markers.

use std::fmt::Write as _;
use std::path::Path;

use super::series::{Metric, Results};
use super::variant::Variant;
use crate::process::Result;

const BEGIN: &str = "<!-- begin: cargo xtask bench -->";
const END: &str = "<!-- end: cargo xtask bench -->";

/// Replaces what stands between the markers.
pub(super) fn write(path: &Path, all: &[(String, Results)]) -> Result<()> {
    let old =
        std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let new = replace(&old, &tables(all))
        .ok_or_else(|| format!("{}: no markers {BEGIN} {END}", path.display()))?;
    std::fs::write(path, new).map_err(|error| format!("{}: {error}", path.display()))
}

fn replace(text: &str, tables: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{tables}\n{END}{after}"))
}

fn tables(all: &[(String, Results)]) -> String {
    let mut out = String::new();
    out.push_str("### Cost of a run\n\n");
    out.push_str("| program | .text MB | build | wall s (min to max) | cpu s | peak MB | proof, rest = 1 | proof MB | file, input = 1 |\n");
    out.push_str("|---|---:|---|---:|---:|---:|---:|---:|---:|\n");
    for (program, results) in all {
        let text = results.get(Variant::Original, Metric::Text).unwrap_or(0.0) / 1e6;
        for variant in Variant::ALL
            .into_iter()
            .filter(|variant| *variant != Variant::Original)
        {
            cost_row(&mut out, program, text, variant, results);
        }
    }
    ratios(&mut out, all);
    out.push_str("\n### Quality on unseen inputs, original = 1\n\n");
    out.push_str("| program | build | instructions | L1I misses (min to max) | mispredicts | taken branches | cpu time (min to max) |\n");
    out.push_str("|---|---|---:|---:|---:|---:|---:|\n");
    for (program, results) in all {
        for variant in Variant::ALL {
            quality_row(&mut out, program, variant, results);
        }
    }
    out
}

/// llvm-bolt's figures divided by postlink's. Cpu time suffers least from other work on the machine.
fn ratios(out: &mut String, all: &[(String, Results)]) {
    out.push_str("\n### llvm-bolt's cost, postlink's = 1\n\n");
    out.push_str(
        "| program | lite : hot, wall | cpu | memory | -lite=0 : full, wall | cpu | memory |\n",
    );
    out.push_str("|---|---:|---:|---:|---:|---:|---:|\n");
    let pairs = [
        (Variant::BoltLite, Variant::PostlinkHot),
        (Variant::BoltAll, Variant::PostlinkFull),
    ];
    for (program, results) in all {
        let _ = write!(out, "| {program} |");
        for (bolt, own) in pairs {
            for metric in [Metric::Wall, Metric::Cpu, Metric::Peak] {
                let cell = match (results.get(bolt, metric), results.get(own, metric)) {
                    (Some(bolt), Some(own)) if own > 0.0 => format!("{:.1}", bolt / own),
                    _ => "–".to_owned(),
                };
                let _ = write!(out, " {cell} |");
            }
        }
        out.push('\n');
    }
}

fn cost_row(out: &mut String, program: &str, text: f64, variant: Variant, results: &Results) {
    let name = variant.name();
    if results.failed(variant) {
        let _ = writeln!(out, "| {program} | {text:.2} | {name} | fails | | | | | |");
        return;
    }
    let Some(wall) = results.figure(variant, Metric::Wall) else {
        return;
    };
    let cpu = results.get(variant, Metric::Cpu).unwrap_or(0.0);
    let peak = results.get(variant, Metric::Peak).unwrap_or(0.0) / 1024.0;
    let size = results.ratio(variant, Metric::Size).unwrap_or(0.0);
    let cell = |metric, digits| {
        results
            .get(variant, metric)
            .map_or_else(String::new, |value| format!("{value:.digits$}"))
    };
    let (proof, memory) = (cell(Metric::Proof, 2), cell(Metric::ProofPeak, 0));
    let _ = writeln!(
        out,
        "| {program} | {text:.2} | {name} | {:.2} ({:.2} to {:.2}) | {cpu:.2} | {peak:.0} | {proof} | {memory} | {size:.3} |",
        wall.median, wall.min, wall.max
    );
}

fn abbreviated(count: f64) -> String {
    if count < 1e6 {
        format!("{:.1} k", count / 1e3)
    } else {
        format!("{:.2} M", count / 1e6)
    }
}

/// The original's row holds the counts themselves.
fn quality_row(out: &mut String, program: &str, variant: Variant, results: &Results) {
    if variant == Variant::Original {
        let count = |metric| {
            results
                .get(variant, metric)
                .map_or_else(String::new, abbreviated)
        };
        let _ = writeln!(
            out,
            "| {program} | {} | {} | {} | {} | {} | |",
            variant.name(),
            count(Metric::Instructions),
            count(Metric::Misses),
            count(Metric::Mispredicts),
            count(Metric::Taken)
        );
        return;
    }
    let ratio = |metric| {
        results
            .ratio(variant, metric)
            .map_or_else(String::new, |ratio| format!("{ratio:.3}"))
    };
    // Of several orders; see `orders.rs`.
    let original = results.get(Variant::Original, Metric::Misses).filter(|misses| *misses > 0.0);
    let misses = match (results.figure(variant, Metric::Misses), original) {
        (Some(misses), Some(original)) if misses.runs > 1 => {
            let [median, min, max] = [misses.median, misses.min, misses.max].map(|misses| misses / original);
            format!("{median:.3} ({min:.2} to {max:.2}, {})", misses.runs)
        }
        _ => ratio(Metric::Misses),
    };
    let time = results
        .figure(variant, Metric::Time)
        .map_or_else(String::new, |time| {
            format!(
                "{:.3} ({:.2} to {:.2}, {})",
                time.median, time.min, time.max, time.runs
            )
        });
    if results.get(variant, Metric::Size).is_some() {
        let _ = writeln!(
            out,
            "| {program} | {} | {} | {misses} | {} | {} | {time} |",
            variant.name(),
            ratio(Metric::Instructions),
            ratio(Metric::Mispredicts),
            ratio(Metric::Taken)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::{BEGIN, END, replace};

    #[test]
    fn only_the_tables_are_replaced() {
        let text = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        let new = replace(&text, "new").unwrap();
        assert_eq!(new, format!("before\n{BEGIN}\n\nnew\n{END}\nafter\n"));
        assert_eq!(replace("no markers", "new"), None);
    }
}
