//! The tables of a report: rows, and how they are made from a proof.

use postlink_report::{Code, Row};
use postlink_verify::{Checked, FunctionEvidence, Obligation, Proof};
use serde::Serialize;

/// One obligation.
#[derive(Serialize)]
pub(super) struct ObligationRow {
    obligation: &'static str,
    title: &'static str,
    checked: u64,
    violated: u64,
}

impl Row for ObligationRow {
    const TABLE: &'static str = "verify-obligations";
    const VERSION: u32 = 1;
}

pub(super) fn obligations(proof: &Proof) -> Vec<ObligationRow> {
    let row = |one: &postlink_verify::ObligationSummary| ObligationRow {
        obligation: one.obligation.id(),
        title: one.obligation.title(),
        checked: one.checked,
        violated: one.violated,
    };
    proof.obligations.iter().map(row).collect()
}

/// One violation.
#[derive(Serialize)]
pub(super) struct ViolationRow {
    code: Code,
    obligation: &'static str,
    rule: &'static str,
    function: Option<String>,
    old_addr: Option<String>,
    old_text: String,
    new_addr: Option<String>,
    new_text: String,
    message: String,
}

impl Row for ViolationRow {
    const TABLE: &'static str = "verify-violations";
    const VERSION: u32 = 1;
}

pub(super) fn violations(proof: &Proof) -> Vec<ViolationRow> {
    let row = |one: &postlink_verify::Violation| ViolationRow {
        code: const { Code::new("POSTLINK_PROOF") },
        obligation: one.obligation.id(),
        rule: one.rule,
        function: one.function.map(|addr| hex(addr.raw())),
        old_addr: one.old_addr.map(|addr| hex(addr.raw())),
        old_text: one.old_text.clone(),
        new_addr: one.new_addr.map(|addr| hex(addr.raw())),
        new_text: one.new_text.clone(),
        message: one.message.clone(),
    };
    proof.violations.iter().map(row).collect()
}

/// How much of one kind was looked at.
#[derive(Serialize)]
pub(crate) struct CountRow {
    pub(crate) what: &'static str,
    pub(crate) count: u64,
}

impl Row for CountRow {
    const TABLE: &'static str = "verify-counts";
    const VERSION: u32 = 1;
}

/// What the checker looked at, by kind.
pub(crate) fn counts(checked: &Checked) -> Vec<CountRow> {
    [
        ("functions", checked.functions),
        ("instructions", checked.instructions),
        ("bytes kept, compared as such", checked.fixed_bytes),
        ("position-dependent operands", checked.operands),
        ("pointers", checked.pointers),
        ("table entries", checked.table_entries),
        ("unwind rows", checked.unwind_rows),
        ("call sites", checked.call_sites),
        ("symbols", checked.symbols),
        ("bytes of data", checked.data_bytes),
        ("bytes without live code", checked.dead_bytes),
        ("calls taken not to return", checked.assumed_no_return),
        ("calls through the GOT made direct", checked.got_calls),
        ("functions folded into equal ones", checked.folded_functions),
        ("bytes of functions folded into equal ones", checked.folded_bytes),
        ("bytes kept, not decoded", checked.undecoded_bytes),
        ("bytes kept, not reached", checked.unreached_bytes),
    ]
    .into_iter()
    .map(|(what, count)| CountRow { what, count })
    .collect()
}

/// One function of the old file; see [`FunctionEvidence`] and docs/proof.md.
#[derive(Serialize)]
pub(super) struct FunctionRow {
    function: Option<String>,
    old_addr: String,
    old_size: u64,
    moved: bool,
    /// `ADDRESS+SIZE`, the range with the entry first, separated by spaces.
    new_ranges: String,
    /// Old address of the first function with the same code in the new file, if there are several.
    shared_with: Option<String>,
    old_blake3: Option<String>,
    /// Of the ranges' bytes, joined.
    new_blake3: Option<String>,
    /// Identifiers, separated by spaces.
    obligations: String,
    violated: String,
    relocated_places: u64,
    data_words: u64,
    got_words: u64,
    init_words: u64,
    relr_words: u64,
    dynamic_relocations: u64,
    table_entries: u64,
    symbols: u64,
    frames: u64,
    entry_points: u64,
}

impl Row for FunctionRow {
    const TABLE: &'static str = "functions";
    const VERSION: u32 = 1;
}

pub(super) fn functions(functions: &[FunctionEvidence]) -> Vec<FunctionRow> {
    let ids = |list: &[Obligation]| list.iter().map(|one| one.id()).collect::<Vec<_>>().join(" ");
    let row = |one: &FunctionEvidence| FunctionRow {
        function: one.name.clone(),
        old_addr: hex(one.start),
        old_size: one.size,
        moved: one.moved,
        new_ranges: one.ranges.iter().map(|(start, size)| format!("{start:#x}+{size}")).collect::<Vec<_>>().join(" "),
        shared_with: one.shared.map(hex),
        old_blake3: one.old_digest.map(|digest| digest.to_string()),
        new_blake3: one.new_digest.map(|digest| digest.to_string()),
        obligations: ids(&one.obligations),
        violated: ids(&one.violated),
        relocated_places: one.references.relocated_places,
        data_words: one.references.data_words,
        got_words: one.references.got_words,
        init_words: one.references.init_words,
        relr_words: one.references.relr_words,
        dynamic_relocations: one.references.dynamic_relocations,
        table_entries: one.references.table_entries,
        symbols: one.references.symbols,
        frames: one.references.frames,
        entry_points: one.references.entry_points,
    };
    functions.iter().map(row).collect()
}

fn hex(addr: u64) -> String {
    format!("{addr:#x}")
}
