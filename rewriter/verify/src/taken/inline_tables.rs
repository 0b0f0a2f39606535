//! Tables of distances among code that count from another place in code.

use postlink_base::{NewAddr, OldAddr};

use super::Name;
use crate::proof::{Findings, Obligation, Violation};
use crate::walk::Context;

/// Longest distance from the base of a table among code, entries that may be left out in front of it, distinct ones that make one,
/// and how many are read.
const DISTANCE_MAX: u64 = 1 << 24;
const SKIPPED_MAX: usize = 4;
const ENTRIES_MIN: usize = 2;
const ENTRIES_MAX: usize = 1 << 12;
/// Instructions that are so near belong together.
const BESIDE: u64 = 256;
/// Pairs of table and base that are looked at for one function.
const PAIRS_MAX: usize = 1 << 10;

/// Looks for tables of distances among code that count from another place in code: assemblers resolve `dq target - $$` within a
/// section, and no relocation is left. A function that takes both, the table and the base, must still get to the same places.
pub(super) fn check(
    cx: &Context<'_, '_>,
    taken: &[(u64, u64)],
    places: &[(u64, u64)],
    names: &[Name],
    findings: &mut Findings,
) {
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
        let around = |at: u64| {
            let first = if is_one { 0 } else { group.partition_point(|taken| taken.1.saturating_add(BESIDE) < at) };
            group.iter().skip(first).take_while(move |taken| is_one || taken.1 <= at.saturating_add(BESIDE))
        };
        let tables = group.iter().filter(|taken| is_table(taken.2));
        let pairs = tables.flat_map(|table| around(table.1).map(|base| (table.2, base.2)));
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
