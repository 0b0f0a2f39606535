//! P3: tables of distances, read as the code reads them.
//!
//! A table of absolute addresses is made of ordinary pointers (P2). What remains are the tables of
//! position-independent code: entry `i` is `target - base`, and the code computes `base + entry`
//! with a base that it takes with `lea`. A relocation against such an entry says that it is a
//! distance; only the code says from where. So the base of an entry is the nearest address at or
//! before it that visited code takes, with nothing but distances in between. A distance that counts
//! from its own place (`.long target - .`) is told apart by where it leads.

use postlink_base::{NewAddr, OldAddr};
use postlink_image::{Image, Symbol};
use rayon::prelude::*;

use crate::code::Functions;
use crate::decode::Eyes;
use crate::proof::{Findings, Obligation, Violation};
use crate::walk::{Context, little};

/// A table of distances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Table {
    /// Address that the entries count from and where the first one stands.
    base: u64,
    /// Known from [`sweep`] only.
    is_hint: bool,
    /// Code that takes the base: start of the function.
    reader: u64,
    /// Index of the first entry in the list of distances.
    first: usize,
    width: u8,
}

/// One entry and what it designates in the old program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Where it stands.
    pub(crate) addr: u64,
    pub(crate) width: u8,
    /// What it counts from.
    base: u64,
    pub(crate) target: u64,
    reader: Option<u64>,
}

/// Addresses of data that code takes which the walk has not reached yet: the body of one `switch` may
/// hold another one, whose table would be taken for the end of the first one's. Only the bounds of
/// tables come from here; the code itself is compared when it is reached.
pub(crate) fn sweep(cx: &Context<'_, '_>) -> Vec<(u64, u64)> {
    cx.functions
        .ranges()
        .par_chunks(512)
        .flat_map_iter(|functions| {
            let mut eyes = Eyes::new();
            let mut taken = Vec::new();
            for &(start, end) in functions {
                let mut at = start;
                while let Some(from) = cx.old_covered.next(at, end, false) {
                    let to = cx.old_covered.next(from, end, true).unwrap_or(end);
                    at = from;
                    while at < to {
                        let Some(Ok(decoded)) = cx.old_code.from(at).map(|bytes| eyes.decode(bytes, at)) else { break };
                        if let Some(memory) = decoded.memory
                            && memory.taken
                        {
                            taken.push((memory.target, at));
                        }
                        at += u64::from(decoded.len);
                    }
                    at = to;
                }
            }
            taken
        })
        .collect()
}

/// Which code a table may lead to.
struct Reach<'a> {
    functions: &'a Functions,
    /// Starts of parts of functions that the compiler split off.
    cold: Vec<u64>,
}

impl<'a> Reach<'a> {
    fn new(cx: &'a Context<'_, '_>) -> Self {
        let mut cold = Vec::new();
        if let Some(table) = cx.old.symtab() {
            let is_cold = |symbol: &Symbol| symbol.is_defined() && table.name(symbol).windows(5).any(|part| part == b".cold");
            cold.extend(table.iter().filter(is_cold).map(|symbol| symbol.value));
        }
        cold.sort_unstable();
        Self { functions: &cx.functions, cold }
    }

    /// A `switch` leads into its function or a part of it that was split off; a case that cannot
    /// happen may lead to the end, which is the start of another function.
    fn may_lead(&self, reader: u64, target: u64) -> bool {
        let extent = self.functions.extent(target);
        let is_cold = |start: u64| self.cold.binary_search(&start).is_ok();
        extent.start == reader || extent.start == target || extent.is_function && (is_cold(extent.start) || is_cold(reader))
    }
}

/// Splits all distances into entries of tables. `taken` are the addresses of data that visited code
/// takes, with the address of the instruction; `hints` the same for other code. Distances that no
/// code was seen to read are left out.
pub(crate) fn resolve(cx: &Context<'_, '_>, taken: &mut Vec<(u64, u64)>, hints: &[(u64, u64)]) -> Vec<Entry> {
    taken.sort_unstable();
    taken.dedup();
    let distances = &cx.relocations.distances;
    let reach = Reach::new(cx);
    let mut tables: Vec<Table> = Vec::new();
    for (is_read, &(base, instruction)) in taken.iter().map(|taken| (true, taken)).chain(hints.iter().map(|hint| (false, hint))) {
        let Ok(first) = distances.binary_search_by_key(&base, |distance| distance.0) else { continue };
        let Some(&(_, width)) = distances.get(first) else { continue };
        let reader = cx.functions.entry(instruction).unwrap_or(instruction);
        tables.push(Table { base, is_hint: !is_read, reader, first, width });
    }
    tables.sort_unstable();
    tables.dedup_by_key(|table| table.base);
    let mut entries = Vec::new();
    for (index, table) in tables.iter().enumerate() {
        if table.is_hint {
            continue;
        }
        let limit = tables.get(index + 1).map_or(distances.len(), |next| next.first);
        let mut next = table.base;
        for &(addr, width) in distances.get(table.first..limit).unwrap_or(&[]) {
            if addr != next || width != table.width {
                break;
            }
            next = next.wrapping_add(u64::from(width));
            let Some(distance) = distance(cx.old, addr, width) else { break };
            let from_base = table.base.wrapping_add_signed(distance);
            let from_here = addr.wrapping_add_signed(distance);
            if reach.may_lead(table.reader, from_base) {
                entries.push(Entry { addr, width, base: table.base, target: from_base, reader: Some(table.reader) });
            } else if cx.functions.entry(from_here) == Some(from_here) {
                entries.push(Entry { addr, width, base: addr, target: from_here, reader: None });
            } else {
                break;
            }
        }
    }
    // Distances outside of tables: those that count from their own place and lead to a function.
    let mut at = 0usize;
    let known: Vec<u64> = entries.iter().map(|entry| entry.addr).collect();
    for &(addr, width) in distances {
        while known.get(at).is_some_and(|&known| known < addr) {
            at += 1;
        }
        if known.get(at) == Some(&addr) {
            continue;
        }
        let Some(target) = distance(cx.old, addr, width).map(|distance| addr.wrapping_add_signed(distance)) else { continue };
        if cx.functions.entry(target) == Some(target) {
            entries.push(Entry { addr, width, base: addr, target, reader: None });
        }
    }
    entries.sort_unstable_by_key(|entry| entry.addr);
    entries
}

/// The signed number at `addr`.
fn distance(image: &Image<'_>, addr: u64, width: u8) -> Option<i64> {
    let value = little(image.bytes_at(addr, u64::from(width))?);
    Some(if width == 4 { i64::from(value as u32 as i32) } else { value.cast_signed() })
}

/// Checks each entry in the new file. Gives the words that may differ from the old file.
pub(crate) fn check(cx: &Context<'_, '_>, entries: &[Entry], findings: &mut Findings, leads: &mut dyn FnMut(u64, u64) -> bool) -> Vec<(u64, u8)> {
    let mut explained = Vec::new();
    for entry in entries {
        findings.checked.table_entries += 1;
        let new_target =
            distance(cx.new, entry.addr, entry.width).map(|distance| entry.base.wrapping_add_signed(distance));
        let expected = cx.references.expected(entry.target);
        if expected != entry.target || new_target != Some(entry.target) {
            explained.push((entry.addr, entry.width));
        }
        let fits = new_target == Some(expected)
            || cx.old_code.contains(entry.target) && new_target.is_some_and(|target| leads(entry.target, target));
        if !fits {
            let message = format!("the entry of the table at {:#x} must lead to {expected:#x}", entry.base);
            findings.violate(Obligation::Tables, || Violation {
                obligation: Obligation::Tables,
                old_addr: Some(OldAddr::new(entry.addr)),
                rule: "table-entry",
                new_addr: Some(NewAddr::new(entry.addr)),
                old_text: format!("-> {:#x}", entry.target),
                new_text: new_target.map_or_else(|| "(no data)".to_owned(), |target| format!("-> {target:#x}")),
                function: cx.functions.entry(entry.target).or(entry.reader).map(OldAddr::new),
                message,
            });
        }
    }
    explained
}
