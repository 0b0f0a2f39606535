//! P2: code to which tables lead by distances that have no relocation, and code that the program writes over, stays.
//!
//! Nothing but the names of sections and symbols tells of such tables.

use memchr::memmem;
use postlink_base::{NewAddr, OldAddr};
use postlink_image::{Image, Symbol};

use crate::proof::{Findings, Obligation, Violation};
use crate::walk::Context;

/// Sections whose relocated words lead to such code: LLVM's stack maps and implicit checks (offsets from the start of a
/// function), restartable sequences (lengths), XRay (sleds, which are written over).
const TABLES: [&[u8]; 5] = [b".llvm_stackmaps", b".llvm_faultmaps", b"__rseq_cs", b"xray_instr_map", b"xray_fn_idx"];

/// Checks that no such code moved.
pub(crate) fn check(cx: &Context<'_, '_>, findings: &mut Findings) {
    if cx.claim.is_empty() {
        return;
    }
    for (start, end) in held(cx) {
        findings.checked.pointers += 1;
        if cx.claim.stays(start, end) {
            continue;
        }
        for moved in cx.claim.pieces(start, end).filter(|piece| !piece.is_same) {
            let old = moved.start.max(start);
            findings.violate(Obligation::Pointers, || Violation {
                obligation: Obligation::Pointers,
                old_addr: Some(OldAddr::new(old)),
                rule: "hidden-distance",
                new_addr: Some(NewAddr::new(moved.new_of(old))),
                old_text: String::new(),
                new_text: String::new(),
                function: cx.functions.entry(old).map(OldAddr::new),
                message: "a table leads here, or is told to, by a distance without relocation: the code must stay".to_owned(),
            });
        }
    }
}

/// Ranges of such code.
fn held(cx: &Context<'_, '_>) -> Vec<(u64, u64)> {
    let mut ranges = Vec::new();
    for (table, target) in cx.old.static_relocations() {
        if !cx.old.sections().get(target).is_some_and(|section| TABLES.contains(&section.name)) {
            continue;
        }
        let link = cx.old.sections().get(table).map_or(0, |section| section.link);
        let Some(symbols) = cx.old.symbol_table(link as usize) else { continue };
        for relocation in cx.old.rela_table(table).iter() {
            let symbol = symbols.get(relocation.symbol as usize).filter(Symbol::is_defined);
            let place = symbol.map_or(0, |symbol| symbol.value.wrapping_add_signed(relocation.addend));
            let extent = cx.functions.extent(place);
            if extent.is_function {
                ranges.push((extent.start, extent.end));
            }
        }
    }
    ranges.extend(cx.relocations.from_code.iter().map(|&field| cx.functions.extent(field)).filter(|extent| extent.is_function).map(|extent| (extent.start, extent.end)));
    ranges.sort_unstable();
    ranges.dedup();
    ranges.extend(go_code(cx.old));
    ranges
}

/// The code whose instructions Go's `runtime.pclntab` counts from `runtime.text`; of GHC's tables no end is known, they are anywhere.
fn go_code(old: &Image<'_>) -> Option<(u64, u64)> {
    let table = old.symtab()?;
    let has = |name: &[u8]| memmem::find(table.strings(), name).is_some();
    let find = |name: &[u8]| table.iter().find(|symbol| table.name(symbol) == name);
    if has(b"stg_upd_frame_info") && find(b"stg_upd_frame_info").is_some() {
        return Some((0, u64::MAX));
    }
    if !has(b"runtime.pclntab") {
        return None;
    }
    find(b"runtime.pclntab").filter(Symbol::is_defined)?;
    let value = |name: &[u8]| find(name).filter(Symbol::is_defined).map(|symbol| symbol.value);
    Some((value(b"runtime.text").unwrap_or(0), value(b"runtime.etext").unwrap_or(u64::MAX)))
}
