//! Calls behind which something must stay: data holds the address to which they return, or the callee computes with it.

use postlink_base::Id;
use postlink_image::{Symbol, reloc};
use postlink_isa::Flow;
use postlink_isa::x86_64::Stream;
use rayon::prelude::*;

use super::OffEntry;
use crate::{Class, DataRefKind, Fixup, FixupKind, FunctionId, Program};

/// Bytes of the longest call that compilers write: prefixes, opcode, ModRM, SIB, displacement.
const MAX_CALL: u64 = 9;

/// Bytes from one word to the next in a table of labels.
const WORD: u64 = 8;

/// Functions of which this is true, and what may happen to them.
pub(super) fn return_addresses(seen: &Program<'_>, off_entries: &[OffEntry]) -> Vec<(FunctionId, Class)> {
    let mut found = callers_of_morestack(seen);
    found.extend(in_data(seen, off_entries));
    found
}

/// Functions of `-fsplit-stack`: behind the call of one of these stands a return, which returns from the function, and behind
/// that its body, to which the callee goes by adding 1 to the address on the stack (libgcc, `morestack.S`).
const MORESTACK: [&[u8]; 3] = [b"__morestack", b"__morestack_non_split", b"__morestack_large_model"];

fn callers_of_morestack(seen: &Program<'_>) -> Vec<(FunctionId, Class)> {
    let Some(table) = seen.symtab() else { return Vec::new() };
    let symbols = (0..table.len()).into_par_iter().filter_map(|at| table.get(at));
    let is_one = |symbol: &Symbol| symbol.is_function() && symbol.is_defined() && MORESTACK.contains(&table.name(symbol));
    let callees: Vec<u64> = symbols.filter(is_one).map(|symbol| symbol.value).collect();
    if callees.is_empty() {
        return Vec::new();
    }
    let calls = |index: &usize| {
        let calls = |fixup: &Fixup| fixup.kind == FixupKind::Call && callees.contains(&fixup.target);
        seen.fixups.at(*index).iter().any(calls)
    };
    let callers = (0..seen.fixups.len()).into_par_iter().filter(calls);
    callers.map(|index| (FunctionId::from_index(index), Class::Rigid)).collect()
}

/// Functions with a call to whose end a word of data leads, which the runtime system of a language compares with return
/// addresses that it finds on the stack (OCaml's frame tables): what stands behind the call must stay behind it.
///
/// A word next to one that leads into the same function is an entry of a table of labels, which are jumped to and not
/// returned to. That a call stands in front of one of these is chance: it does not return, or runs into the next case.
fn in_data(seen: &Program<'_>, off_entries: &[OffEntry]) -> Vec<(FunctionId, Class)> {
    let candidates = off_entries.par_iter().filter_map(|off_entry| {
        let target = seen.data_refs.get(off_entry.index as usize).filter(|data_ref| is_absolute(data_ref.kind))?.target;
        off_entry.inside.filter(|_| call_before(seen, target))
    });
    if candidates.find_any(|_| true).is_none() {
        return Vec::new();
    }
    let words = words(seen);
    let lone = |index: usize, inside: FunctionId| {
        let Some(&(addr, _)) = words.get(index) else { return false };
        let neighbours = [index.checked_sub(1), index.checked_add(1)].into_iter().flatten().filter_map(|at| words.get(at));
        let mut near = neighbours.filter(|word| word.0.abs_diff(addr) <= WORD);
        !near.any(|word| seen.function_at(word.1) == Some(inside))
    };
    let numbered = || words.par_iter().enumerate();
    let mut found: Vec<(FunctionId, Class)> = numbered()
        .filter_map(|(index, &(_, target))| {
            let (inside, is_entry) = seen.place_of(target)?;
            (!is_entry && call_before(seen, target) && lone(index, inside)).then_some((inside, Class::Rigid))
        })
        .collect();
    if !found.is_empty() {
        // In such a program the address of a function, right behind one that ends with a call, may be meant as the
        // place to which that call returns. (Padding between the two is kept for other reasons.)
        let behind = numbered().flat_map_iter(|(_, &(_, target))| {
            let ends = seen.place_of(target).filter(|&(_, is_entry)| is_entry && call_before(seen, target));
            let before = ends.and_then(|(id, _)| Some((FunctionId::from_index(id.index().checked_sub(1)?), id)));
            let touch = before.filter(|&(before, _)| seen.functions[before].end == target);
            touch.into_iter().flat_map(|(before, behind)| [before, behind]).map(|id| (id, Class::Pinned))
        });
        found.par_extend(behind);
    }
    found
}

const fn is_absolute(kind: DataRefKind) -> bool {
    matches!(kind, DataRefKind::Abs64 | DataRefKind::Abs32)
}

/// Whether a call ends at `target`.
fn call_before(seen: &Program<'_>, target: u64) -> bool {
    (2..=MAX_CALL).any(|len| {
        let Some(start) = target.checked_sub(len).filter(|&start| seen.is_inst_start(start)) else { return false };
        let inst = seen.image.bytes_at(start, len).and_then(|bytes| Stream::new(bytes, start).next_inst());
        inst.is_some_and(|inst| u64::from(inst.len) == len && matches!(inst.flow, Flow::Call { .. } | Flow::IndirectCall))
    })
}

/// Loaded words that hold the address of code, and that address, sorted.
fn words(seen: &Program<'_>) -> Vec<(u64, u64)> {
    let image = seen.image;
    let loaded = seen.data_refs.iter().filter(|data_ref| is_absolute(data_ref.kind) && data_ref.addr != 0);
    let mut words: Vec<(u64, u64)> = loaded.map(|data_ref| (data_ref.addr, data_ref.target)).collect();
    for table in image.dynamic_relocations() {
        let relative = image.rela_table(table).iter().filter(|rela| matches!(rela.kind, reloc::RELATIVE | reloc::RELATIVE64));
        words.extend(relative.map(|rela| (rela.offset, rela.addend.cast_unsigned())));
    }
    words.retain(|word| image.exec_section_at(word.1).is_some());
    words.sort_unstable();
    words.dedup();
    words
}
