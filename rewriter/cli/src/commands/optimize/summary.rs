//! What `optimize` says about its output.

use std::fmt::Write as _;

use postlink_base::IndexVec;
use postlink_cfg::{Class, FunctionId, Program};
use postlink_layout::FunctionPlan;
use postlink_profile::FunctionWeight;
use postlink_report::{Code, Row};
use postlink_verify::Checked;
use serde::Serialize;

use crate::outcome::Stop;
use crate::pipeline::Outcome;
use crate::report::Report;

/// Counts and warnings; text for people and rows for programs are made from them.
pub(super) struct Summary {
    functions: u64,
    laid_out: u64,
    /// Among those laid out.
    split: u64,
    moved_whole: u64,
    kept_in_place: u64,
    /// Functions that equal ones stand for, and their bytes.
    folded: u64,
    folded_bytes: u64,
    rigid: u64,
    pinned: u64,
    samples: Option<Samples>,
    /// Names of functions that stay because their new code could not be written or proven, with the reason.
    contained: Vec<(String, String)>,
    checked: Option<Checked>,
    old_size: u64,
    new_size: u64,
    appended_code: u64,
    /// Calls through the GOT that became direct.
    direct_calls: u64,
    whole_only: bool,
    moved_headers: bool,
    dropped_sections: Vec<String>,
    dropped_relocations: Vec<String>,
}

/// How many samples there are, and where.
pub(super) struct Samples {
    /// Functions with samples.
    functions: u64,
    all: u64,
    /// In functions that may be rearranged.
    free: u64,
}

/// One number.
#[derive(Serialize)]
struct SummaryRow {
    what: &'static str,
    count: u64,
}

impl Row for SummaryRow {
    const TABLE: &'static str = "optimize-summary";
    const VERSION: u32 = 1;
}

/// One function that was kept because of a failure of postlink's own.
#[derive(Serialize)]
struct KeptRow<'a> {
    code: Code,
    function: &'a str,
    reason: &'a str,
}

impl Row for KeptRow<'_> {
    const TABLE: &'static str = "optimize-kept";
    const VERSION: u32 = 1;
}

impl Summary {
    pub(super) fn new(program: &Program<'_>, samples: Option<Samples>, outcome: &Outcome, old_size: usize) -> Self {
        let (mut laid_out, mut split, mut moved_whole, mut kept_in_place) = (0, 0, 0, 0);
        let (mut folded, mut folded_bytes) = (0, 0);
        for (id, plan) in outcome.plan.functions.iter_enumerated() {
            match plan {
                FunctionPlan::Stay => kept_in_place += 1,
                FunctionPlan::Whole { .. } => moved_whole += 1,
                FunctionPlan::Fold { .. } => {
                    folded += 1;
                    folded_bytes += program.functions[id].size();
                }
                FunctionPlan::Relay { fragments, .. } => {
                    laid_out += 1;
                    split += u64::from(fragments.len() > 1);
                }
            }
        }
        let rigid = program.functions.iter().filter(|function| function.class == Class::Rigid).count();
        let pinned = program.functions.iter().filter(|function| {
            function.class == Class::Pinned && function.reason != Some(postlink_cfg::Reason::SectionStays)
        });
        Self {
            functions: program.functions.len() as u64,
            laid_out,
            split,
            moved_whole,
            kept_in_place,
            folded,
            folded_bytes,
            rigid: rigid as u64,
            pinned: pinned.count() as u64,
            samples,
            contained: outcome.contained.iter().map(|(id, why)| (program.name(*id).to_string(), why.clone())).collect(),
            checked: outcome.proof.as_ref().map(|proof| proof.checked),
            old_size: old_size as u64,
            new_size: outcome.output.bytes.len() as u64,
            appended_code: outcome.output.appended_code,
            direct_calls: outcome.output.direct_calls,
            whole_only: outcome.whole_only,
            moved_headers: outcome.output.moved_headers,
            dropped_sections: outcome.output.dropped_sections.clone(),
            dropped_relocations: outcome.output.dropped_relocations.clone(),
        }
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(
            out,
            "functions  {}: {} laid out anew ({} split), {} moved whole, {} kept in place",
            self.functions, self.laid_out, self.split, self.moved_whole, self.kept_in_place
        );
        if self.folded > 0 {
            let _ = writeln!(out, "           {} folded into equal ones ({} bytes)", self.folded, self.folded_bytes);
        }
        if self.rigid + self.pinned > 0 {
            let _ = writeln!(
                out,
                "           {} rigid, {} pinned: `postlink doctor` names the reasons",
                self.rigid, self.pinned
            );
        }
        if let Some(samples) = &self.samples {
            let _ = writeln!(
                out,
                "profile    {} functions with samples; {:.2} % of all samples in functions that may be rearranged",
                samples.functions,
                percent(samples.free, samples.all)
            );
        }
        if self.direct_calls > 0 {
            let _ = writeln!(out, "calls      {} through the GOT made direct", self.direct_calls);
        }
        for (name, why) in &self.contained {
            let _ = writeln!(out, "kept       {name} [{}]: {why}", code_of(why));
        }
        if let Some(checked) = &self.checked {
            let _ = writeln!(
                out,
                "proof      P1-P7 hold: {} functions, {} instructions, {} pointers, {} table entries, {} unwind rows",
                checked.functions, checked.instructions, checked.pointers, checked.table_entries, checked.unwind_rows
            );
        }
        let _ = writeln!(
            out,
            "size       {} -> {} bytes ({:+.1} %), {} bytes of code behind the old text",
            self.old_size,
            self.new_size,
            (self.new_size as f64 / self.old_size as f64 - 1.0) * 100.0,
            self.appended_code
        );
        if self.whole_only {
            let code = "EMT002";
            let _ = writeln!(out, "warning[{code}]: the program header table has little room to grow: functions were moved as one piece");
        }
        if self.moved_headers {
            let code = "EMT003";
            let _ = writeln!(out, "warning[{code}]: the program header table had to move: do not run strip on the output (llvm-strip works)");
        }
        if !self.dropped_sections.is_empty() {
            let _ = writeln!(
                out,
                "warning[POSTLINK_SECTION]: debug information is left out: {}",
                self.dropped_sections.join(" ")
            );
        }
        if !self.dropped_relocations.is_empty() {
            let _ = writeln!(
                out,
                "warning[POSTLINK_SECTION]: relocations that cannot be kept are left out: {}",
                self.dropped_relocations.join(" ")
            );
        }
        out
    }

    /// Adds its tables to a report.
    pub(super) fn add_to(&self, report: &mut Report) -> Result<(), Stop> {
        let mut rows = vec![
            SummaryRow { what: "functions", count: self.functions },
            SummaryRow { what: "functions laid out anew", count: self.laid_out },
            SummaryRow { what: "functions split", count: self.split },
            SummaryRow { what: "functions moved whole", count: self.moved_whole },
            SummaryRow { what: "functions kept in place", count: self.kept_in_place },
            SummaryRow { what: "functions folded into equal ones", count: self.folded },
            SummaryRow { what: "bytes of functions folded into equal ones", count: self.folded_bytes },
            SummaryRow { what: "functions that may only move whole", count: self.rigid },
            SummaryRow { what: "functions that may not move", count: self.pinned },
            SummaryRow { what: "bytes of the input", count: self.old_size },
            SummaryRow { what: "bytes of the output", count: self.new_size },
            SummaryRow { what: "bytes of code behind the old text", count: self.appended_code },
            SummaryRow { what: "calls through the GOT made direct", count: self.direct_calls },
            SummaryRow { what: "sections of debug information left out", count: self.dropped_sections.len() as u64 },
        ];
        if let Some(samples) = &self.samples {
            rows.push(SummaryRow { what: "functions with samples", count: samples.functions });
            rows.push(SummaryRow { what: "samples", count: samples.all });
            rows.push(SummaryRow { what: "samples in functions that may be rearranged", count: samples.free });
        }
        report.table(&rows)?;
        let kept: Vec<KeptRow<'_>> = self
            .contained
            .iter()
            .map(|(name, why)| KeptRow { code: code_of(why), function: name, reason: why })
            .collect();
        report.table(&kept)
    }
}

impl Samples {
    pub(super) fn new(program: &Program<'_>, weights: &IndexVec<FunctionId, FunctionWeight>) -> Self {
        let free = weights.iter_enumerated().filter(|(id, _)| program.functions[*id].class == Class::Free);
        Self {
            functions: weights.iter().filter(|weight| weight.samples > 0).count() as u64,
            all: weights.iter().fold(0, |sum, weight| sum.saturating_add(weight.samples)),
            free: free.fold(0, |sum, (_, weight)| sum.saturating_add(weight.samples)),
        }
    }
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

/// The code of a function that was kept, by the violation: that the checker does not know an instruction is no mistake.
fn code_of(why: &str) -> Code {
    if why.starts_with("P1 undecodable:") { const { Code::new("CFG027") } } else { const { Code::new("CFG020") } }
}
