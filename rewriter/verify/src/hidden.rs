//! P2: code to which tables lead by distances that have no relocation, and code that the program writes over, stays.
//!
//! Nothing but the names of sections and symbols tells of such tables.

use memchr::memmem;
use postlink_base::{NewAddr, OldAddr};
use postlink_image::{Image, Symbol, elf};

use crate::decode::Eyes;
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

/// Data between functions that is so near may be meant by an address in code.
const NEAR: u64 = 4096;

/// Looks at the addresses inside of functions that instructions take and that moved: one in the middle of an instruction, or near data
/// between functions, may mean data at some distance, which stays. Nothing but what is executed for sure may have been walked.
pub(crate) fn check_taken(cx: &Context<'_, '_>, taken: &[(u64, u64)], findings: &mut Findings) {
    let mut places: Vec<(u64, u64)> = taken.iter().copied().filter(|&(place, _)| cx.functions.entry(place) != Some(place)).collect();
    places.sort_unstable();
    places.dedup_by_key(|place| place.0);
    // A name makes it a label: functions in assembly often have no size, by which they would be known.
    let mut named = vec![false; places.len()];
    for table in [cx.old.symtab(), cx.old.dynsym()].into_iter().flatten().filter(|_| !places.is_empty()) {
        let is_label = |symbol: &Symbol| symbol.is_defined() && !matches!(symbol.kind(), elf::STT_SECTION | elf::STT_FILE | elf::STT_TLS);
        for symbol in table.iter().filter(is_label) {
            if let Ok(at) = places.binary_search_by_key(&symbol.value, |place| place.0)
                && let Some(is_named) = named.get_mut(at)
            {
                *is_named = true;
            }
        }
    }
    let mut eyes = Eyes::new();
    for ((place, instruction), _) in places.into_iter().zip(named).filter(|(_, is_named)| !is_named) {
        let is_amid = cx.old_covered.contains(place) && !cx.visited.contains(place);
        if is_amid || is_near_data(cx, &mut eyes, place) {
            findings.violate(Obligation::Code, || Violation {
                obligation: Obligation::Code,
                old_addr: Some(OldAddr::new(place)),
                rule: "taken-near-data",
                new_addr: Some(NewAddr::new(cx.claim.to_new(place))),
                old_text: format!("taken at {instruction:#x}"),
                new_text: String::new(),
                function: cx.functions.entry(place).or(cx.functions.entry(instruction)).map(OldAddr::new),
                message: "the address is no label for sure, and data may be meant that did not move along".to_owned(),
            });
        }
    }
}

/// Whether bytes between functions near `place` are neither executed nor padding.
fn is_near_data(cx: &Context<'_, '_>, eyes: &mut Eyes, place: u64) -> bool {
    let (mut at, end) = (place.saturating_sub(NEAR), place.saturating_add(NEAR));
    while at < end {
        let extent = cx.functions.extent(at);
        let stop = extent.end.min(end);
        while !extent.is_function
            && at < stop
            && let Some(bytes) = cx.old_code.from(at)
        {
            let room = stop.min(at.saturating_add(bytes.len() as u64));
            let Some(from) = cx.old_covered.next(at, room, false) else { break };
            let to = cx.old_covered.next(from, room, true).unwrap_or(room);
            let rest = cx.old_code.from(from).and_then(|bytes| bytes.get(..usize::try_from(to - from).ok()?)).unwrap_or(&[]);
            // What begins before the stretch that is looked at may be padding cut in two.
            let is_whole = from != place.saturating_sub(NEAR);
            if is_whole && crate::gaps::padding(rest, eyes, true) < rest.len() {
                return true;
            }
            at = to;
        }
        at = stop.max(at + 1);
    }
    false
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
