//! P5: symbols and exports.

mod names;
mod twins;

use postlink_image::{Image, Symbol, SymbolTable, elf};
use rayon::prelude::*;
use rustc_hash::FxHashSet;

use crate::code::{Landed, Landing};
use crate::proof::{Findings, Obligation};
use crate::walk::Context;
pub(crate) use names::ColdNames;
use names::{ByNameAndValue, hash, name_of};
use twins::{Seen, Twins};

/// Compares `.dynsym` entry by entry and `.symtab` by name.
pub(crate) fn check(cx: &Context<'_, '_>, landed: &Landed<'_>, findings: &mut Findings) {
    check_dynamic(cx, findings);
    let Some(before) = cx.old.symtab() else { return };
    match cx.new.symtab() {
        None => findings.notes.push("the new file has no .symtab (stripped): P5 looked at .dynsym only".to_owned()),
        Some(after) => check_static(cx, before, after, landed, findings),
    }
}

fn text(image: &Image<'_>, table: &SymbolTable<'_>, symbol: &Symbol) -> String {
    let name = String::from_utf8_lossy(table.name(symbol)).into_owned();
    let section = section_name(image, symbol);
    format!("{name} = {:#x}, size {:#x}, info {:#x}, in {section}", symbol.value, symbol.size, symbol.info)
}

fn section_name(image: &Image<'_>, symbol: &Symbol) -> String {
    match image.sections().get(usize::from(symbol.section)) {
        Some(section) if symbol.section != 0 => section.display_name().into_owned(),
        _ => format!("section {:#x}", symbol.section),
    }
}

/// The value that `symbol` must have in the new file.
fn expected_value(cx: &Context<'_, '_>, symbol: &Symbol) -> u64 {
    let is_place = symbol.is_defined() && symbol.kind() != elf::STT_TLS;
    // The end of a section is no place inside of it.
    let is_end = cx.old.sections().get(usize::from(symbol.section)).is_some_and(|section| {
        symbol.value == section.addr.wrapping_add(section.size) && section.name != b".eh_frame"
    });
    if is_place && !is_end { cx.references.expected(symbol.value) } else { symbol.value }
}

/// Whether the symbol's section in the new file holds its value.
fn section_fits(cx: &Context<'_, '_>, old: &Symbol, new: &Symbol) -> bool {
    if !old.is_defined() || old.kind() == elf::STT_TLS {
        return old.is_defined() == new.is_defined() && (old.is_defined() || old.section == new.section);
    }
    if cx.new.sections().is_empty() {
        return true;
    }
    let old_section = cx.old.sections().get(usize::from(old.section));
    let new_section = cx.new.sections().get(usize::from(new.section));
    match (old_section, new_section) {
        (Some(old), Some(section)) => {
            old.name == section.name
                || section.is_alloc() && new.value >= section.addr && new.value - section.addr <= section.size
        }
        _ => false,
    }
}

/// Whether `size` is right for a function of the old file: unchanged if it stayed in one piece, else
/// covering its pieces from `value` on. `others` tells whether another new symbol covers an address.
fn size_fits(cx: &Context<'_, '_>, old: &Symbol, new: &Symbol, others: Option<&dyn Fn(u64) -> bool>) -> bool {
    let is_code = old.is_defined() && old.kind() != elf::STT_TLS && cx.old_code.contains(old.value);
    if !is_code || old.size == 0 {
        return old.size == new.size;
    }
    // A size that reaches behind the section says nothing about what is there.
    let limit = cx.old.sections().get(usize::from(old.section)).map_or(u64::MAX, |section| section.addr.saturating_add(section.size));
    let end = old.value.saturating_add(old.size).min(limit.max(old.value.saturating_add(1)));
    if cx.claim.stays(old.value, end) {
        return new.size == old.size;
    }
    let first = cx.claim.piece(old.value);
    if !first.is_point && first.end >= end {
        // A function that fell through into the next one ends with a jump now.
        return new.size == old.size || !first.is_same && new.size > old.size && new.size - old.size <= 5;
    }
    let new_end = new.value.saturating_add(new.size);
    let mut reached = new.value;
    for piece in cx.claim.pieces(old.value, end) {
        let at = piece.start.max(old.value);
        let start = piece.new_of(at);
        if start >= new.value && start < new_end {
            reached = reached.max(start.saturating_add(if piece.is_point { 0 } else { piece.end.min(end) - at }));
        } else if !piece.is_point && others.is_some_and(|others| !others(start)) && cx.new_live.contains(start) {
            return false;
        }
    }
    // A jump or two may be added behind the last copied byte.
    new.size > 0 && reached <= new_end && new_end - reached <= 16
}

fn check_dynamic(cx: &Context<'_, '_>, findings: &mut Findings) {
    let (before, after) = match (cx.old.dynsym(), cx.new.dynsym()) {
        (None, None) => return,
        (Some(before), Some(after)) => (before, after),
        (Some(_), None) if cx.new.sections().is_empty() => {
            findings.notes.push("the new file has no section headers: exports were not compared".to_owned());
            return;
        }
        _ => {
            findings.fail(Obligation::Symbols, "dynsym", (None, None), (String::new(), String::new()), "only one of the files has .dynsym");
            return;
        }
    };
    if before.len() != after.len() {
        let texts = (before.len().to_string(), after.len().to_string());
        findings.fail(Obligation::Symbols, "dynsym", (None, None), texts, "the number of dynamic symbols differs");
    }
    let mut renumbered = 0u64;
    for (old, new) in before.iter().zip(after.iter()) {
        findings.checked.symbols += 1;
        if old.is_function() && cx.references.loses_low_bit(old.value) {
            findings.lost_low_bit(Obligation::Symbols, old.value, new.value);
        }
        let fits = section_fits(cx, &old, &new);
        // GNU strip may put sections into another order and leaves the numbers in .dynsym as they are. All that dynamic
        // linkers ask of them is whether they are special.
        let is_ordinary = |section: u16| section != elf::SHN_UNDEF && section < elf::SHN_LORESERVE;
        let is_renumbered = !fits && is_ordinary(old.section) && is_ordinary(new.section);
        renumbered += u64::from(is_renumbered);
        let same = old.name == new.name
            && old.info == new.info
            && old.other == new.other
            && new.value == expected_value(cx, &old)
            && (fits || is_renumbered)
            && size_fits(cx, &old, &new, None);
        if !same {
            let texts = (text(cx.old, &before, &old), text(cx.new, &after, &new));
            let message = format!("the exported symbol must be the same with value {:#x}", expected_value(cx, &old));
            findings.fail(Obligation::Symbols, "dynamic-symbol", (Some(old.value), Some(new.value)), texts, &message);
        }
    }
    if renumbered > 0 {
        findings.notes.push(format!("{renumbered} dynamic symbols name another section than the one that holds them (the order of sections changed, as strip does it)"));
    }
}

fn check_static(
    cx: &Context<'_, '_>,
    before: SymbolTable<'_>,
    after: SymbolTable<'_>,
    landed: &Landed<'_>,
    findings: &mut Findings,
) {
    let twins = Twins::new(cx, before, after);
    let cold = ColdNames::new(after.strings());
    let added = twins.added(after);
    let extra = extra_ranges(before, after, &cold, &added);
    let covered = |addr: u64| {
        let upto = extra.partition_point(|range| range.0 <= addr);
        extra.get(..upto).unwrap_or(&[]).iter().rev().take(4).any(|range| addr < range.1)
    };
    let others: &(dyn Fn(u64) -> bool + Sync) = &covered;
    let fits = |old: &Symbol, new: &Symbol| {
        (new.info, new.other) == (old.info, old.other) && section_fits(cx, old, new) && size_fits(cx, old, new, Some(others))
    };
    findings.checked.symbols += twins.seen.par_iter().filter(|seen| seen.is_lasting).count() as u64;
    // Nearly all symbols are done with here.
    let open = |&(at, seen): &(usize, &Seen)| {
        let fits_twin = || before.get(at).zip(after.get(seen.twin as usize)).is_some_and(|(old, new)| fits(&old, &new));
        seen.is_lasting && (seen.twin == 0 || !fits_twin())
    };
    let open: Vec<(usize, &Seen)> = twins.seen.par_iter().enumerate().filter(open).collect();
    if !open.is_empty() {
        let index = ByNameAndValue::new(after);
        let parts: Vec<Part> = open
            .par_chunk_by(|a, b| a.0 / CHUNK == b.0 / CHUNK)
            .map(|open| {
                let mut part = Part::default();
                for (old, seen) in open.iter().filter_map(|&(at, seen)| Some((before.get(at)?, seen))) {
                    let name = name_of(&before, &old);
                    let mut candidates = index
                        .all(name, seen.value)
                        .filter(|new| (new.info, new.other) == (old.info, old.other))
                        .peekable();
                    let shown = candidates.peek().copied();
                    if shown.is_none() && old.binding() == elf::STB_LOCAL && cx.claim.is_empty() {
                        part.missing_locals += 1;
                        continue;
                    }
                    // `objcopy --strip-debug` drops symbols that name nothing in the file and that nothing refers to.
                    if shown.is_none() && !old.is_defined() {
                        part.missing_undefined += 1;
                        continue;
                    }
                    if !candidates.any(|new| fits(&old, &new)) {
                        let texts = (text(cx.old, &before, &old), shown.map_or_else(|| "(none)".to_owned(), |new| text(cx.new, &after, &new)));
                        let value = seen.value;
                        let wrong = shown.and_then(|new| what_differs(cx, &old, &new));
                        let wrong = wrong.map_or_else(String::new, |wrong| format!(" ({wrong})"));
                        let message = format!("a symbol of this name, kind and binding must have value {value:#x} and cover what the old one covered{wrong}");
                        part.findings.fail(Obligation::Symbols, "symbol", (Some(old.value), Some(value)), texts, &message);
                    }
                }
                part
            })
            .collect();
        let missing_locals: u64 = parts.iter().map(|part| part.missing_locals).sum();
        let missing_undefined: u64 = parts.iter().map(|part| part.missing_undefined).sum();
        parts.into_iter().for_each(|part| findings.merge(part.findings));
        if missing_undefined > 0 {
            findings.notes.push(format!("{missing_undefined} undefined symbols are not in the new .symtab (stripped)"));
        }
        if missing_locals > 0 {
            findings.notes.push(format!("{missing_locals} local symbols are not in the new file (stripped)"));
        }
    }
    let strangers: Vec<&Symbol> = added.par_iter().filter(|new| !is_fragment(cx, new, landed)).collect();
    for new in strangers {
        let texts = (String::new(), text(cx.new, &after, new));
        findings.fail(Obligation::Symbols, "new-symbol", (None, Some(new.value)), texts, "a new symbol must name a part of one function that was split off");
    }
}

/// What is wrong with a new symbol of the right name, kind and value.
fn what_differs(cx: &Context<'_, '_>, old: &Symbol, new: &Symbol) -> Option<&'static str> {
    if !section_fits(cx, old, new) {
        return Some("its section does not hold it");
    }
    (!size_fits(cx, old, new, None)).then_some("its size does not")
}

/// Symbols that one thread looks at in one go.
const CHUNK: usize = 4096;

/// What a chunk of symbols gave.
#[derive(Default)]
struct Part {
    findings: Findings,
    missing_locals: u64,
    missing_undefined: u64,
}

/// Ranges of symbols that name parts of functions, sorted: those whose name only the new file has. A
/// name like `f.cold` may exist already, then a part of that name is one of several.
fn extra_ranges(before: SymbolTable<'_>, after: SymbolTable<'_>, cold: &ColdNames, added: &[Symbol]) -> Vec<(u64, u64)> {
    let others: Vec<&Symbol> = added.iter().filter(|symbol| !cold.holds(symbol.name)).collect();
    let hashes: FxHashSet<u32> = others.iter().map(|symbol| hash(name_of(&after, symbol))).collect();
    let known: FxHashSet<&[u8]> = if hashes.is_empty() {
        FxHashSet::default()
    } else {
        let name = |at: usize| Some(name_of(&before, &before.get(at)?));
        (0..before.len()).into_par_iter().filter_map(name).filter(|name| hashes.contains(&hash(name))).collect()
    };
    let range = |symbol: &Symbol| (symbol.value, symbol.value.saturating_add(symbol.size));
    let is_cold = |symbol: &Symbol| symbol.is_function() && symbol.is_defined() && cold.holds(symbol.name);
    let mut extra: Vec<(u64, u64)> = (1..after.len()).into_par_iter().filter_map(|at| after.get(at)).filter(is_cold).map(|symbol| range(&symbol)).collect();
    extra.extend(others.into_iter().filter(|symbol| !known.contains(name_of(&after, symbol))).map(range));
    extra.sort_unstable();
    extra.dedup();
    extra
}

/// Whether `symbol` covers pieces of one old function: it starts with a copied piece or an added
/// instruction, and ends with live code.
fn is_fragment(cx: &Context<'_, '_>, symbol: &Symbol, landed: &Landed<'_>) -> bool {
    let end = symbol.value.saturating_add(symbol.size);
    let inside = || (landed.before(symbol.value)..landed.before(end)).filter_map(|at| landed.get(at));
    let starts = inside().next().is_some_and(|piece| piece.new == symbol.value) || cx.glue_starts.contains(symbol.value);
    let function = inside().next().and_then(|piece| cx.functions.entry(piece.old));
    let is_one = inside().all(|piece| cx.functions.entry(piece.old) == function);
    let last = end.saturating_sub(1);
    // A piece may go on into the next function, where both follow each other in both files: the part ends
    // where its function does.
    let own_end = |piece: Landing| {
        let rest = cx.functions.extent(piece.old).end.saturating_sub(piece.old);
        piece.new_end.min(piece.new.saturating_add(rest))
    };
    let is_one = is_one && inside().all(|piece| own_end(piece) >= piece.new_end.min(end));
    let reached = inside().next_back().map_or(0, own_end);
    let ends = last < reached || cx.new_live.contains(last);
    symbol.size > 0 && starts && is_one && reached <= end && ends
}
