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
    let names = names_of(cx.old, &places);
    check_tables(cx, taken, &places, &names, findings);
    let mut eyes = Eyes::new();
    // A name makes it a label: functions in assembly often have no size, by which they would be known.
    for ((place, instruction), _) in places.into_iter().zip(names).filter(|(_, name)| *name == Name::None) {
        if cx.claim.piece(place).is_same {
            continue;
        }
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

/// What a place in code is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Name {
    None,
    Label,
    Function,
}

/// What each of `places` is called; these are sorted.
fn names_of(image: &Image<'_>, places: &[(u64, u64)]) -> Vec<Name> {
    let mut names = vec![Name::None; places.len()];
    for table in [image.symtab(), image.dynsym()].into_iter().flatten().filter(|_| !places.is_empty()) {
        let is_name = |symbol: &Symbol| symbol.is_defined() && !matches!(symbol.kind(), elf::STT_SECTION | elf::STT_FILE | elf::STT_TLS);
        for symbol in table.iter().filter(is_name) {
            let at = places.binary_search_by_key(&symbol.value, |place| place.0);
            if let Some(name) = at.ok().and_then(|at| names.get_mut(at)) {
                *name = (*name).max(if symbol.is_function() { Name::Function } else { Name::Label });
            }
        }
    }
    names
}

/// Longest distance from the base of a table among code, entries that may be left out in front of it, distinct ones that make one,
/// and how many are read.
const DISTANCE_MAX: u64 = 1 << 24;
const SKIPPED_MAX: usize = 4;
const ENTRIES_MIN: usize = 2;
const ENTRIES_MAX: usize = 1 << 14;
/// Instructions that are so near belong together.
const BESIDE: u64 = 256;
/// Pairs of table and base that are looked at for one function.
const PAIRS_MAX: usize = 1 << 10;

/// Looks for tables of distances among code that count from another place in code: assemblers resolve `dq target - $$` within a
/// section, and no relocation is left. A function that takes both, the table and the base, must still get to the same places.
fn check_tables(cx: &Context<'_, '_>, taken: &[(u64, u64)], places: &[(u64, u64)], names: &[Name], findings: &mut Findings) {
    let is_table = |place: u64| {
        let at = places.binary_search_by_key(&place, |place| place.0);
        at.ok().and_then(|at| names.get(at)).is_some_and(|name| *name != Name::Function)
    };
    // Start of the function, instruction, place.
    let mut by_function: Vec<(u64, u64, u64)> =
        taken.iter().map(|&(place, instruction)| (cx.functions.extent(instruction).start, instruction, place)).collect();
    by_function.sort_unstable();
    for group in by_function.chunk_by(|a, b| a.0 == b.0) {
        let is_one = group.first().is_some_and(|taken| cx.functions.extent(taken.1).is_function);
        // Where functions end is not known in assembly without sizes.
        let belong = |a: u64, b: u64| is_one || a.abs_diff(b) <= BESIDE;
        let tables = group.iter().filter(|taken| is_table(taken.2));
        let pairs = tables.flat_map(|table| group.iter().filter(|base| belong(table.1, base.1)).map(|base| (table.2, base.2)));
        let mut pairs: Vec<(u64, u64)> = pairs.filter(|pair| pair.0 != pair.1).take(PAIRS_MAX).collect();
        pairs.sort_unstable();
        pairs.dedup();
        for (table, base) in pairs {
            for width in [4usize, 8] {
                if let Some(target) = wrong_entry(cx, table, base, width) {
                    findings.violate(Obligation::Code, || Violation {
                        obligation: Obligation::Code,
                        old_addr: Some(OldAddr::new(target)),
                        rule: "inline-table",
                        new_addr: Some(NewAddr::new(cx.claim.to_new(target))),
                        old_text: format!("counts from {base:#x} in a table at {table:#x}"),
                        new_text: String::new(),
                        function: cx.functions.entry(target).map(OldAddr::new),
                        message: "words among the code may be distances, and do not lead to the same place".to_owned(),
                    });
                }
            }
        }
    }
}

/// The first place to which the words of `width` bytes at `table` lead, counted from `base`, and those of the new file do not.
fn wrong_entry(cx: &Context<'_, '_>, table: u64, base: u64, width: usize) -> Option<u64> {
    let old = cx.old_code.from(table)?;
    let section = |addr: u64| cx.old.exec_section_at(addr);
    let home = section(table).filter(|home| section(base) == Some(*home))?;
    let distance = |bytes: &[u8]| match *bytes {
        [a, b, c, d] => i64::from(i32::from_le_bytes([a, b, c, d])),
        [a, b, c, d, e, f, g, h] => i64::from_le_bytes([a, b, c, d, e, f, g, h]),
        _ => 0,
    };
    let leads = |bytes: &[u8]| {
        let distance = Some(distance(bytes)).filter(|distance| *distance != 0 && distance.unsigned_abs() <= DISTANCE_MAX)?;
        Some(base.wrapping_add_signed(distance)).filter(|&target| section(target) == Some(home))
    };
    let mut words = old.chunks_exact(width).enumerate().map(|(index, bytes)| (index, leads(bytes))).peekable();
    for _ in 0..SKIPPED_MAX {
        words.next_if(|word| word.1.is_none());
    }
    let entries: Vec<(usize, u64)> = words.map_while(|(index, target)| Some((index, target?))).take(ENTRIES_MAX).collect();
    let mut distinct: Vec<u64> = entries.iter().map(|entry| entry.1).collect();
    distinct.sort_unstable();
    distinct.dedup();
    if distinct.len() < ENTRIES_MIN {
        return None;
    }
    let new = cx.new_code.from(cx.references.expected(table)).unwrap_or(&[]);
    let new_base = cx.references.expected(base);
    let is_wrong = |&(index, target): &(usize, u64)| {
        let word = new.get(index * width..).and_then(|bytes| bytes.get(..width));
        word.is_none_or(|word| new_base.wrapping_add_signed(distance(word)) != cx.references.expected(target))
    };
    entries.into_iter().find(is_wrong).map(|entry| entry.1)
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
