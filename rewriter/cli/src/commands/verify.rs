//! `postlink verify`.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use postlink_base::{AddressMap, digest};
use postlink_image::{Image, elf};
use postlink_verify::{CheckOptions, Proof, check, read_map};

use super::optimize::violations;
use crate::args::Verify;
use crate::evidence::{Agreement, Evidence, Pair, content};
use crate::input;
use crate::note::Note;
use crate::outcome::{REFUSED, Stop};
use crate::report::{Report, Resource, counts, file_name};

pub(crate) fn run(arguments: &Verify) -> Result<ExitCode, Stop> {
    let (old_bytes, new_bytes) = (input::read_program(&arguments.old)?, input::read_program(&arguments.new)?);
    let old = parse(&arguments.old, &old_bytes)?;
    let new = parse(&arguments.new, &new_bytes)?;
    let map = address_map(&arguments.new, &new, arguments.map.as_deref())?;
    let (note, hash_place) = Note::read(&new).unzip();
    let mut options = CheckOptions::default();
    options.table_targets = arguments.report.is_some();
    let (proof, (old_blake3, new_content)) = rayon::join(
        || check(&old, &new, &map, &options),
        || rayon::join(|| digest(&old_bytes).to_string(), || content(&new, hash_place.flatten())),
    );
    let pair = Pair { old_blake3, new_size: new_bytes.len(), new_content };
    let evidence = Evidence::new(&old, pair, (&map, &map.encode()), note.as_ref(), &proof);
    let agreement = Agreement::of(&evidence.bytes(), note.as_ref(), &new, new_content);
    if let Some(folder) = &arguments.report {
        let report = Report::new(&old, &new, &map, &proof, &evidence)?;
        let mut dependencies = vec![Resource::new(&file_name(&arguments.old), &old_bytes, Some("old"))];
        if let Some(file) = &arguments.map {
            dependencies.extend(Resource::read(file, "map")?);
        }
        let subject = Resource::new(&file_name(&arguments.new), &new_bytes, None);
        report.write(folder, &evidence, subject, dependencies)?;
    }
    super::print(&page(arguments, &proof, agreement));
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

fn page(arguments: &Verify, proof: &Proof, agreement: Agreement) -> String {
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
    let _ = writeln!(out, "evidence: {}", agreement.text());
    let (old, new) = (arguments.old.display(), arguments.new.display());
    let _ = if proof.is_proven() {
        writeln!(out, "\nPROVEN: {new} is the program {old}")
    } else {
        writeln!(out, "\nNOT PROVEN [POSTLINK_PROOF]: {new} is not shown to be the program {old}")
    };
    out
}
