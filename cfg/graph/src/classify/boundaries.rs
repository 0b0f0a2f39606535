//! Addresses of places where code ends.

use postlink_base::{AddressIndex, Id};
use rayon::prelude::*;

use super::{Facts, OffEntry, takes_address};
use crate::{Evidence, FunctionId, Program};

/// Pairs of addresses that bound a range of code, farther apart than which they are taken for
/// unrelated.
const MAX_BOUNDED_RANGE: u64 = 0x1_0000;

/// Addresses taken of places that are no function but where one ends: a label behind the last
/// instruction, or a label that only happens to have the next function's address. What stands on both
/// sides stays, and so does everything between such a place and another address that the same function
/// takes: the two may bound a range that is compared with or copied.
///
/// Gives the ranges to pin.
pub(super) fn boundaries(seen: &Program<'_>, facts: &Facts<'_, '_>, off_entries: &[OffEntry]) -> Vec<(u64, u64)> {
    let is_boundary = |program: &Program<'_>, target: u64| {
        if program.image.exec_section_at(target).is_none() {
            return false;
        }
        match program.function_at(target) {
            Some(id) => {
                let function = &program.functions[id];
                // A label at the start of a section belongs to that section, and is no end of the one before it.
                function.start == target
                    && program.movable_sections.contains(&(function.section as usize))
                    && !function.traits.size_guessed
                    && facts.named_labels.binary_search(&target).is_ok()
            }
            None => program.padding_at(target).is_some(),
        }
    };
    let names = AddressIndex::new(facts.named_labels, |&addr| addr);
    let is_named = |target: u64| {
        let last = names.last_upto(facts.named_labels, |&addr| addr, target);
        last.and_then(|last| facts.named_labels.get(last)) == Some(&target)
    };
    // Only labels and places between functions can be boundaries.
    let labels = (0..seen.fixups.len()).into_par_iter().with_min_len(1024).flat_map_iter(|index| {
        let taken = seen.fixups.at(index).iter().filter(|fixup| takes_address(fixup.kind) && is_named(fixup.target));
        taken.map(move |fixup| (FunctionId::from_index(index), fixup.target))
    });
    let between = facts.outward.par_iter().filter(|outward| outward.to.is_none() && takes_address(outward.kind));
    let taken: Vec<(FunctionId, u64)> = labels.chain(between.map(|outward| (outward.from, outward.target))).collect();
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for (from, bound) in taken.into_iter().filter(|&(_, bound)| is_boundary(seen, bound)) {
        ranges.push(around(seen, bound));
        let others = seen.fixups[from].iter().filter(|fixup| takes_address(fixup.kind)).map(|fixup| fixup.target);
        let near = others.filter(|other| other.abs_diff(bound) <= MAX_BOUNDED_RANGE);
        ranges.extend(near.map(|other| (other.min(bound), other.max(bound))));
    }
    let named = seen.data_refs.par_iter().filter(|data_ref| is_named(data_ref.target));
    let others = off_entries.par_iter().filter_map(|off_entry| seen.data_refs.get(off_entry.index as usize));
    ranges.par_extend(
        named
            .chain(others)
            .filter(|data_ref| data_ref.evidence != Evidence::Table && is_boundary(seen, data_ref.target))
            .map(|data_ref| around(seen, data_ref.target)),
    );
    ranges
}

/// From the end of what stands before a boundary to the start of what follows it: control may run from
/// the one to the other (NOPs before an entry that are there to be patched).
fn around(program: &Program<'_>, bound: u64) -> (u64, u64) {
    let (start, end) = program.padding_at(bound).unwrap_or((bound, bound));
    (start.saturating_sub(16), end)
}
