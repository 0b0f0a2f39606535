//! What stands between functions.

use rayon::prelude::*;

use super::{Facts, OffEntry, pin_targets};
use crate::{DataRef, DataRefKind, Evidence, FixupKind, Program, Reason};
use crate::discover::is_padding;
use crate::program::sorted_range;
use crate::scan::possible_targets;

/// What stands between the functions.
pub(super) struct Gaps {
    obstacles: Vec<(u64, u64)>,
    /// Places in padding that control may go to, and where they lead.
    entries: Vec<(u64, u64)>,
    /// Places that must stay.
    doubtful: Vec<u64>,
    /// References that stand between functions.
    words: Vec<DataRef>,
}

impl Gaps {
    /// Puts it into the program. Says whether that changed the references from data.
    pub(super) fn apply(self, program: &mut Program<'_>) -> bool {
        let Self { obstacles, entries, doubtful, words } = self;
        program.obstacles = obstacles;
        program.padding_entries = entries;
        let added = !words.is_empty();
        program.data_refs.extend(words);
        // Sorted but for those words; several may be the same. As a rule there is nothing to do.
        let in_order = |pair: &[DataRef]| matches!(pair, [first, second] if first.file_offset < second.file_offset);
        let changed = !program.data_refs.par_windows(2).all(in_order);
        if changed {
            program.data_refs.sort_by_key(|data_ref| data_ref.file_offset);
            program.data_refs.dedup_by_key(|data_ref| data_ref.file_offset);
        }
        pin_targets(program, &doubtful, Reason::UnexplainedCodeReference);
        added || changed
    }
}

/// Looks at what stands between the functions: padding is free space; anything else stays, and what it might
/// refer to if it were code stays too.
pub(super) fn gaps(program: &Program<'_>, facts: &Facts<'_, '_>, off_entries: &[OffEntry]) -> Gaps {
    // Places that control may go to, and places whose address is taken.
    let seen = program;
    let from_code = facts.outward.par_iter().filter(|outward| outward.to.is_none()).map(|outward| {
        let branch = matches!(outward.kind, FixupKind::Call | FixupKind::Branch32 | FixupKind::Branch8);
        (branch, outward.target)
    });
    let from_data = off_entries
        .par_iter()
        .filter(|off_entry| off_entry.inside.is_none())
        .filter_map(|off_entry| seen.data_refs.get(off_entry.index as usize))
        .filter(|data_ref| seen.image.exec_section_at(data_ref.target).is_some())
        .map(|data_ref| (data_ref.evidence == Evidence::Table, data_ref.target));
    let (entered, referenced): (Vec<_>, Vec<_>) = from_code.chain(from_data).partition(|&(enters, _)| enters);
    let addresses = |list: Vec<(bool, u64)>| list.into_iter().map(|(_, addr)| addr).collect::<Vec<u64>>();
    let (mut entered, mut referenced) = (addresses(entered), addresses(referenced));
    let run_off = program.functions.iter().filter(|function| function.traits.falls_through);
    entered.extend(run_off.map(|function| function.end).filter(|&end| in_gap(program, end)));
    entered.sort_unstable();
    referenced.extend(facts.objects.iter().map(|object| object.0).filter(|&addr| in_gap(program, addr)));
    referenced.sort_unstable();
    let mut obstacles: Vec<(u64, u64)> = Vec::new();
    let mut entries: Vec<(u64, u64)> = Vec::new();
    let mut doubtful: Vec<u64> = Vec::new();
    let mut words: Vec<DataRef> = Vec::new();
    for &section in &program.movable_sections {
        let Some(header) = program.image.sections().get(section) else { continue };
        let (section_start, section_end) = (header.addr, header.addr + header.size);
        let functions = program.functions.as_slice();
        let first = functions.partition_point(|function| function.start < section_start);
        let last = functions.partition_point(|function| function.start < section_end);
        let inside = functions.get(first..last.max(first)).unwrap_or(&[]);
        let image = program.image;
        // The gap in front of each function, the one at the end of the section, and whether it is padding.
        let gaps: Vec<(u64, u64, bool)> = (0..=inside.len())
            .into_par_iter()
            .map(|index| {
                let before = index.checked_sub(1).and_then(|before| inside.get(before));
                let at = before.map_or(section_start, |function| function.end);
                let start = inside.get(index).map_or(section_end, |function| function.start);
                let bytes = start.checked_sub(at).and_then(|size| image.bytes_at(at, size)).unwrap_or(&[]);
                (at, start, is_padding(bytes, at))
            })
            .collect();
        for (at, start, padding) in gaps {
            if start > at {
                let bytes = program.image.bytes_at(at, start - at).unwrap_or(&[]);
                let used = sorted_range(&entered, at, start);
                let taken = !sorted_range(&referenced, at, start).is_empty();
                let runs_on = || start < section_end && is_nops(bytes, at);
                if padding && !taken && (used.is_empty() || runs_on()) {
                    // Who goes there runs into the next function: its entry does as well.
                    entries.extend(used.iter().map(|&addr| (addr, start)));
                } else {
                    obstacles.push((at, start));
                }
                if !padding {
                    // Data right in front of an entry may be found by counting back from it (type
                    // hashes of -fsanitize=function, tables next to code).
                    doubtful.push(start);
                    doubtful.extend(possible_targets(bytes, at));
                    gap_relocations(program, facts, at, start, &mut words, &mut doubtful);
                }
            }
        }
    }
    entries.dedup();
    Gaps { obstacles, entries, doubtful, words }
}

/// Whether padding consists of NOPs only, so that control runs through it.
pub(super) fn is_nops(bytes: &[u8], addr: u64) -> bool {
    let mut stream = postlink_isa::x86_64::Stream::new(bytes, addr);
    while !stream.at_end() {
        if !stream.next_inst().is_some_and(|inst| inst.is_nop) {
            return false;
        }
    }
    true
}

fn in_gap(program: &Program<'_>, addr: u64) -> bool {
    program.image.exec_section_at(addr).is_some() && program.function_at(addr).is_none()
}

fn gap_relocations(
    program: &Program<'_>,
    facts: &Facts<'_, '_>,
    start: u64,
    end: u64,
    words: &mut Vec<DataRef>,
    doubtful: &mut Vec<u64>,
) {
    for rela in facts.relocs.in_range(start, end) {
        let Some(value) = facts.relocs.symbol_value(&rela) else { continue };
        let word = program.image.bytes_at(rela.offset, 8).and_then(|bytes| bytes.first_chunk::<8>());
        let target = word.map_or(0, |bytes| u64::from_le_bytes(*bytes));
        match (rela.kind, program.image.offset_of(rela.offset)) {
            (postlink_image::reloc::R64, Some(file_offset)) if program.image.exec_section_at(target).is_some() => {
                let kind = DataRefKind::Abs64;
                words.push(DataRef { file_offset, addr: rela.offset, target, in_table: 0, kind, evidence: Evidence::Reloc });
            }
            _ => doubtful.extend([value, value.wrapping_add_signed(rela.addend)]),
        }
    }
}
