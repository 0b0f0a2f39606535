//! `postlink verify`.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use postlink_base::AddressMap;
use postlink_image::{Image, elf};
use postlink_report::{Code, Row, RowError, json_lines, tsv};
use postlink_verify::{CheckOptions, Checked, Proof, check, read_map};
use serde::Serialize;

use super::optimize::violations;
use crate::args::Verify;
use crate::input;
use crate::outcome::{REFUSED, Stop};

pub(crate) fn run(arguments: &Verify) -> Result<ExitCode, Stop> {
    let (old_bytes, new_bytes) = (input::read(&arguments.old)?, input::read(&arguments.new)?);
    let old = parse(&arguments.old, &old_bytes)?;
    let new = parse(&arguments.new, &new_bytes)?;
    let map = address_map(&arguments.new, &new, arguments.map.as_deref())?;
    let proof = check(&old, &new, &map, &CheckOptions::default());
    if let Some(folder) = &arguments.report {
        write_report(folder, &proof)?;
    }
    super::print(&page(arguments, &proof));
    Ok(if proof.is_proven() { ExitCode::SUCCESS } else { ExitCode::from(REFUSED) })
}

fn parse<'d>(path: &Path, bytes: &'d [u8]) -> Result<Image<'d>, Stop> {
    let image = input::parse(path, bytes)?;
    let machine = image.header().machine;
    if machine != elf::EM_X86_64 {
        let message = format!("{}: machine type {machine} is not x86-64", path.display());
        return Err(Stop::refused("POSTLINK_TARGET_UNSUPPORTED", message).hint("postlink verifies x86-64 files only"));
    }
    Ok(image)
}

/// The map from a file, or from the output itself. A file without one (identical, or stripped of it)
/// is taken to have moved nothing; the proof shows whether that is so.
pub(crate) fn address_map(path: &Path, new: &Image<'_>, file: Option<&Path>) -> Result<AddressMap, Stop> {
    let refuse = |path: &Path, error: &dyn std::fmt::Display| {
        Stop::refused("POSTLINK_PROOF", format!("{}: {error}", path.display()))
            .hint("give the map that `postlink optimize --map-file` wrote with this very output")
    };
    match file {
        Some(file) => AddressMap::decode(&input::read(file)?).map_err(|error| refuse(file, &error)),
        None => read_map(new).unwrap_or_else(|| Ok(AddressMap::default())).map_err(|error| refuse(path, &error)),
    }
}

fn page(arguments: &Verify, proof: &Proof) -> String {
    let mut out = String::new();
    if !proof.violations.is_empty() {
        let _ = writeln!(out, "violations, {} in all:", proof.obligations.iter().map(|one| one.violated).sum::<u64>());
        out.push_str(&violations(proof, arguments.limit));
        out.push('\n');
    }
    for summary in &proof.obligations {
        let state = if summary.violated == 0 { "holds".to_owned() } else { format!("{} violations", summary.violated) };
        let unit = if summary.checked == 1 { "comparison" } else { "comparisons" };
        let _ = writeln!(
            out,
            "{} {:<20} {:>12} {unit:<11}  {state}",
            summary.obligation.id(),
            summary.obligation.title(),
            summary.checked
        );
    }
    out.push_str("\nchecked\n");
    for count in counts(&proof.checked) {
        let _ = writeln!(out, "  {:<30} {:>12}", count.what, count.count);
    }
    for note in &proof.notes {
        let _ = writeln!(out, "note: {note}");
    }
    let (old, new) = (arguments.old.display(), arguments.new.display());
    let _ = if proof.is_proven() {
        writeln!(out, "\nPROVEN: {new} is the program {old}")
    } else {
        writeln!(out, "\nNOT PROVEN [POSTLINK_PROOF]: {new} is not shown to be the program {old}")
    };
    out
}

/// One obligation.
#[derive(Serialize)]
struct ObligationRow {
    obligation: &'static str,
    title: &'static str,
    checked: u64,
    violated: u64,
}

impl Row for ObligationRow {
    const TABLE: &'static str = "verify-obligations";
    const VERSION: u32 = 1;
}

/// One violation.
#[derive(Serialize)]
struct ViolationRow {
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

/// How much of one kind was looked at.
#[derive(Serialize)]
struct CountRow {
    what: &'static str,
    count: u64,
}

impl Row for CountRow {
    const TABLE: &'static str = "verify-counts";
    const VERSION: u32 = 1;
}

fn counts(checked: &Checked) -> Vec<CountRow> {
    [
        ("functions", checked.functions),
        ("instructions", checked.instructions),
        ("position-dependent operands", checked.operands),
        ("pointers", checked.pointers),
        ("table entries", checked.table_entries),
        ("unwind rows", checked.unwind_rows),
        ("call sites", checked.call_sites),
        ("symbols", checked.symbols),
        ("bytes of data", checked.data_bytes),
        ("bytes without live code", checked.dead_bytes),
        ("calls taken not to return", checked.assumed_no_return),
        ("bytes kept, not decoded", checked.undecoded_bytes),
        ("bytes kept, not reached", checked.unreached_bytes),
    ]
    .into_iter()
    .map(|(what, count)| CountRow { what, count })
    .collect()
}

fn write_report(folder: &Path, proof: &Proof) -> Result<(), Stop> {
    std::fs::create_dir_all(folder)
        .map_err(|error| Stop::refused("CLI002", format!("cannot create {}: {error}", folder.display())))?;
    let hex = |addr: u64| format!("{addr:#x}");
    let obligations: Vec<ObligationRow> = proof
        .obligations
        .iter()
        .map(|one| ObligationRow {
            obligation: one.obligation.id(),
            title: one.obligation.title(),
            checked: one.checked,
            violated: one.violated,
        })
        .collect();
    let violations: Vec<ViolationRow> = proof
        .violations
        .iter()
        .map(|one| ViolationRow {
            code: const { Code::new("POSTLINK_PROOF") },
            obligation: one.obligation.id(),
            rule: one.rule,
            function: one.function.map(|addr| hex(addr.raw())),
            old_addr: one.old_addr.map(|addr| hex(addr.raw())),
            old_text: one.old_text.clone(),
            new_addr: one.new_addr.map(|addr| hex(addr.raw())),
            new_text: one.new_text.clone(),
            message: one.message.clone(),
        })
        .collect();
    write_table(folder, &obligations)?;
    write_table(folder, &violations)?;
    write_table(folder, &counts(&proof.checked))
}

/// Writes one table as `TABLE.tsv` and `TABLE.jsonl`.
fn write_table<R: Row>(folder: &Path, rows: &[R]) -> Result<(), Stop> {
    let render = |text: Result<String, RowError>| {
        text.map_err(|error| Stop::contradiction("CLI002", format!("table {}: {error}", R::TABLE)))
    };
    for (extension, text) in [("tsv", render(tsv(rows))?), ("jsonl", render(json_lines(rows))?)] {
        let path = folder.join(R::TABLE).with_extension(extension);
        std::fs::write(&path, text)
            .map_err(|error| Stop::refused("CLI002", format!("cannot write {}: {error}", path.display())))?;
    }
    Ok(())
}
