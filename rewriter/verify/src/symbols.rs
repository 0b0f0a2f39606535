//! P5: symbols and exports.

use postlink_image::{Image, Symbol, SymbolTable, elf};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::code::Landed;
use crate::proof::{Findings, Obligation};
use crate::walk::Context;

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
    let end = old.value.saturating_add(old.size);
    let first = cx.claim.piece(old.value);
    if !first.is_point && first.end >= end {
        // A function that fell through into the next one ends with a jump now.
        return new.size == old.size || !first.is_same && new.size > old.size && new.size - old.size <= 5;
    }
    let new_end = new.value.saturating_add(new.size);
    let mut at = old.value;
    let mut reached = new.value;
    while at < end {
        let piece = cx.claim.piece(at);
        let start = piece.new_of(at);
        let stop = piece.end.min(end);
        if start >= new.value && start < new_end {
            reached = reached.max(start.saturating_add(if piece.is_point { 0 } else { stop - at }));
        } else if !piece.is_point && others.is_some_and(|others| !others(start)) && cx.new_live.contains(start) {
            return false;
        }
        at = stop;
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
    for (old, new) in before.iter().zip(after.iter()) {
        findings.checked.symbols += 1;
        let same = old.name == new.name
            && old.info == new.info
            && old.other == new.other
            && new.value == expected_value(cx, &old)
            && section_fits(cx, &old, &new)
            && size_fits(cx, &old, &new, None);
        if !same {
            let texts = (text(cx.old, &before, &old), text(cx.new, &after, &new));
            let message = format!("the exported symbol must be the same with value {:#x}", expected_value(cx, &old));
            findings.fail(Obligation::Symbols, "dynamic-symbol", (Some(old.value), Some(new.value)), texts, &message);
        }
    }
}

fn check_static(
    cx: &Context<'_, '_>,
    before: SymbolTable<'_>,
    after: SymbolTable<'_>,
    landed: &Landed<'_>,
    findings: &mut Findings,
) {
    type Key<'d> = (&'d [u8], u8, u8, u64);
    let mut by_key: FxHashMap<Key<'_>, Vec<Symbol>> = FxHashMap::default();
    by_key.reserve(after.len());
    for symbol in after.iter().skip(1) {
        by_key.entry((after.name(&symbol), symbol.info, symbol.other, symbol.value)).or_default().push(symbol);
    }
    let old_names: FxHashSet<&[u8]> = before.iter().map(|symbol| before.name(&symbol)).collect();
    // Symbols that only the new file has: parts of functions that were split off.
    let mut extra: Vec<(u64, u64)> = Vec::new();
    for symbol in after.iter().filter(|symbol| symbol.is_function() && symbol.is_defined()) {
        let name = after.name(&symbol);
        // A name like `f.cold` may exist already, then a part of that name is one of several.
        if !old_names.contains(name) || name.windows(5).any(|part| part == b".cold") {
            extra.push((symbol.value, symbol.value.saturating_add(symbol.size)));
        }
    }
    extra.sort_unstable();
    let covered = |addr: u64| {
        let upto = extra.partition_point(|range| range.0 <= addr);
        extra.get(..upto).unwrap_or(&[]).iter().rev().take(4).any(|range| addr < range.1)
    };
    let mut missing_locals = 0u64;
    let mut expected: FxHashSet<(&[u8], u64)> = FxHashSet::default();
    for old in before.iter().skip(1) {
        let is_lasting = old.kind() != elf::STT_FILE
            && old.kind() != elf::STT_SECTION
            && (!old.is_defined()
                || old.section == elf::SHN_XINDEX
                || cx.old.sections().get(usize::from(old.section)).is_some_and(|section| section.is_alloc()));
        if !is_lasting {
            continue;
        }
        findings.checked.symbols += 1;
        let value = expected_value(cx, &old);
        if old.is_function() {
            expected.insert((before.name(&old), value));
        }
        let candidates = by_key.get(&(before.name(&old), old.info, old.other, value));
        if candidates.is_none() && old.binding() == elf::STB_LOCAL && cx.claim.is_empty() {
            missing_locals += 1;
            continue;
        }
        let others: &dyn Fn(u64) -> bool = &covered;
        let found = candidates.is_some_and(|candidates| {
            candidates.iter().any(|new| section_fits(cx, &old, new) && size_fits(cx, &old, new, Some(others)))
        });
        if !found {
            let shown = candidates.and_then(|candidates| candidates.first());
            let texts = (text(cx.old, &before, &old), shown.map_or_else(|| "(none)".to_owned(), |new| text(cx.new, &after, new)));
            let message = format!("a symbol of this name, kind and binding must have value {value:#x} and cover what the old one covered");
            findings.fail(Obligation::Symbols, "symbol", (Some(old.value), Some(value)), texts, &message);
        }
    }
    if missing_locals > 0 {
        findings.notes.push(format!("{missing_locals} local symbols are not in the new file (stripped)"));
    }
    for new in after.iter().filter(|symbol| symbol.is_function() && symbol.is_defined()) {
        if !expected.contains(&(after.name(&new), new.value)) && !is_fragment(cx, &new, landed) {
            let texts = (String::new(), text(cx.new, &after, &new));
            findings.fail(Obligation::Symbols, "new-symbol", (None, Some(new.value)), texts, "a new symbol must name a part of one function that was split off");
        }
    }
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
    let reached = inside().next_back().map_or(0, |piece| piece.new_end);
    let ends = last < reached || cx.new_live.contains(last);
    symbol.size > 0 && starts && is_one && reached <= end && ends
}
