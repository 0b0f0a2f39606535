//! The front end in one function.

use std::sync::OnceLock;

use postlink_base::{AddressIndex, Id, IndexLists, IndexVec};
use postlink_image::{EhFrame, Image, Lsda, UnwindError};
use rayon::prelude::*;
use tracing::trace_span;

use crate::bits::CodeSet;
use crate::classify::{self, Facts};
use crate::code_relocs::CodeRelocs;
use crate::discover::{Discovered, Extent, discover, extent_at, guess_extent};
use crate::scan::{Doubt, Found, Reader, Scan, Scanner};
use crate::outward::{self, Outward};
use crate::program::FunctionIndex;
use crate::{Fixup, FixupKind, Function, FunctionId, Program, Traits, data_refs, tables};

/// Why nothing can be recovered from a file at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CfgError {
    /// `.eh_frame` cannot be read, so no function's unwinding could be kept right.
    #[error("the unwind table cannot be read: {0}")]
    Unwind(#[from] UnwindError),
}

/// Rounds of looking for functions that only branches lead to.
const MAX_ROUNDS: usize = 16;

/// Landing pads of one FDE's LSDA; `Err` if the table is not understood.
pub(crate) struct LandingPads {
    pub(crate) fde: u32,
    pub(crate) pads: Result<Vec<u64>, ()>,
}

/// Recovers functions, references and what may move.
///
/// Never fails for one function: what is not understood is rigid or pinned, with its reason.
///
/// # Errors
/// [`CfgError`] if the file's unwind table as a whole cannot be read.
pub fn recover<'d>(image: &'d Image<'d>) -> Result<Program<'d>, CfgError> {
    let eh_frame = trace_span!("frames").in_scope(|| EhFrame::parse(image))?;
    let (mut discovered, (relocs, landing_pads)) = trace_span!("discover").in_scope(|| {
        rayon::join(
            || discover(image, eh_frame.as_ref()),
            || (CodeRelocs::read(image), landing_pads(image, eh_frame.as_ref())),
        )
    });
    let span = trace_span!("scan").entered();
    let unwind = eh_frame.as_ref().map_or((0, 0), |eh| (eh.addr, eh.addr + eh.size));
    let inst_starts = CodeSet::new(image.exec_ranges());
    let pads = sorted_pads(&landing_pads);
    let scanner = Scanner { image, relocs: &relocs, objects: &discovered.objects, unwind, inst_starts: &inst_starts, got: OnceLock::new() };
    let extents = std::mem::take(&mut discovered.extents);
    let scanned = scan_all(&scanner, extents, &discovered, &pads);
    drop(pads);

    drop(span);
    let span = trace_span!("collect").entered();
    let Scanned { extents, scans, fixups, doubts, got_slots, inline_words, own_places } = scanned;
    let functions: IndexVec<FunctionId, Function> =
        extents.iter().zip(&scans).map(|(extent, scan)| function_of(extent, scan)).collect();
    let fixups = IndexLists::from_parts(fixups, scans.iter().map(|scan| scan.fixups).collect());
    drop(span);
    let span = trace_span!("data").entered();
    let data = data_refs::collect(image, &got_slots, &inline_words);

    drop(span);
    let span = trace_span!("tables").entered();
    let function_index = FunctionIndex::new(functions.as_slice());
    let mut program = Program {
        image,
        eh_frame,
        functions,
        function_index,
        fixups,
        data_refs: data.refs,
        jump_targets: Vec::new(),
        tables: Vec::new(),
        labels: Vec::new(),
        landing_pads: Vec::new(),
        obstacles: Vec::new(),
        padding_entries: Vec::new(),
        movable_sections: discovered.movable.clone(),
        inst_starts,
    };
    let is_cold = cold_parts(&program);
    let outward = outward::from_code(&program, &is_cold);
    find_parents(&mut program, &outward, &is_cold);
    let roots = roots(&program);
    let is_code = |addr: u64| image.exec_section_at(addr).is_some();
    let is_padding = |addr: u64| program.padding_at(addr).is_some();
    // Words were found by their place in the file, so there is one.
    let offset_of = |addr: u64| image.offset_of(addr).unwrap_or(0);
    let from_got = || relocs.got_distances();
    let context = tables::Context {
        functions: program.functions.as_slice(),
        function_index: &program.function_index,
        fixups: &program.fixups,
        inst_starts: &program.inst_starts,
        roots: &roots,
        is_code: &is_code,
        is_padding: &is_padding,
        from_got: &from_got,
        offset_of: &offset_of,
    };
    let found = tables::find(&context, &data.pc_words);
    drop(data.pc_words);
    program.tables = found.tables;
    program.tables.extend(tables::absolute_tables(&program));
    program.tables.sort_unstable_by_key(|table| table.base);
    let mut more = found.refs;
    more.extend(found.dead_entries);
    // Few sorted runs, as a rule one.
    more.sort_by_key(|data_ref| data_ref.file_offset);
    program.data_refs = tables::merge(std::mem::take(&mut program.data_refs), more);
    drop(span);
    let _span = trace_span!("classify").entered();
    classify::classify(
        &mut program,
        &Facts {
            extents: &extents,
            scans: &scans,
            doubts: &doubts,
            own_places: &own_places,
            outward: &outward,
            landing_pads: &landing_pads,
            symbol_addrs: &discovered.symbol_addrs,
            named_labels: &discovered.labels,
            objects: &discovered.objects,
            doubtful_targets: &data.doubtful_targets,
            text_relocations: &data.text_relocations,
            doubtful_ranges: &found.doubtful,
            roots: &roots,
            relocs: &relocs,
        },
    );
    Ok(program)
}

fn landing_pads(image: &Image<'_>, eh_frame: Option<&EhFrame>) -> Vec<LandingPads> {
    let fdes = eh_frame.map_or(&[][..], |eh| &eh.fdes);
    fdes.par_iter()
        .enumerate()
        .filter_map(|(index, fde)| {
            let lsda = fde.lsda.filter(|_| !fde.dead)?;
            let pads = Lsda::parse(image, lsda, fde.pc_begin).map_err(|_| ()).map(|lsda| {
                let mut pads: Vec<u64> = lsda.call_sites.iter().filter_map(|site| site.landing_pad).collect();
                pads.sort_unstable();
                pads.dedup();
                pads
            });
            Some(LandingPads { fde: u32::try_from(index).unwrap_or(u32::MAX), pads })
        })
        .collect()
}

/// All landing pads in address order.
fn sorted_pads(landing_pads: &[LandingPads]) -> Vec<u64> {
    let mut pads: Vec<u64> =
        landing_pads.iter().filter_map(|entry| entry.pads.as_ref().ok()).flatten().copied().collect();
    pads.par_sort_unstable();
    pads
}

/// What the scan of all functions gives. `extents` and `scans` belong together, in address order.
struct Scanned {
    extents: Vec<Extent>,
    scans: Vec<Scan>,
    /// Parts that the places in `scans` name.
    fixups: Vec<Vec<Fixup>>,
    /// In the order of the functions that they come from.
    doubts: Vec<Doubt>,
    got_slots: Vec<u64>,
    inline_words: Vec<u64>,
    own_places: Vec<(u64, u64)>,
}

/// Functions that one thread scans at a time.
const CHUNK: usize = 1024;

/// Scans all functions, and those that only direct branches of others reveal, until none is new.
fn scan_all(scanner: &Scanner<'_, '_>, extents: Vec<Extent>, discovered: &Discovered, pads: &[u64]) -> Scanned {
    let image = scanner.image;
    let is_code = |target: u64| image.exec_section_at(target).is_some();
    let mut all = Scanned {
        extents: Vec::new(),
        scans: Vec::new(),
        fixups: Vec::new(),
        doubts: Vec::new(),
        got_slots: Vec::new(),
        inline_words: Vec::new(),
        own_places: Vec::new(),
    };
    let mut fresh = extents;
    for round in 0..=MAX_ROUNDS {
        let first_part = all.fixups.len();
        all.scan(scanner, discovered, pads, fresh);
        if round == MAX_ROUNDS {
            break;
        }
        let extents = &all.extents;
        let starts = AddressIndex::new(extents, |extent| extent.start);
        let is_known = |target: u64| {
            let last = starts.last_upto(extents, |extent| extent.start, target).and_then(|index| extents.get(index));
            last.is_some_and(|extent| target < extent.end)
        };
        let mut targets: Vec<u64> = all
            .fixups
            .get(first_part..)
            .unwrap_or_default()
            .par_iter()
            .flat_map_iter(|part| part.iter())
            .filter(|fixup| matches!(fixup.kind, FixupKind::Call | FixupKind::Branch32 | FixupKind::Branch8))
            .map(|fixup| fixup.target)
            .chain(rayon::iter::once(image.header().entry))
            // Where an instruction starts there is a function; that is asked sooner.
            .filter(|&target| !scanner.inst_starts.get(target) && is_code(target) && !is_known(target))
            .collect();
        targets.sort_unstable();
        targets.dedup();
        fresh = targets
            .iter()
            .enumerate()
            .filter(|&(_, &target)| !in_ranges(&discovered.objects, target))
            .filter_map(|(index, &start)| {
                // A named place behind the target bounds the function as another target does.
                let symbols = &discovered.symbol_addrs;
                let named = symbols.get(symbols.partition_point(|&addr| addr <= start)).copied();
                let next = [targets.get(index + 1).copied(), named].into_iter().flatten().min();
                guess_extent(image, extents, &discovered.objects, start, next, None)
            })
            .collect();
        if fresh.is_empty() {
            break;
        }
    }
    // Rounds add functions between those of others.
    all.doubts.sort_by_key(|doubt| doubt.from);
    name_others(image, &mut all.extents);
    all
}

impl Scanned {
    /// Adds the functions at `fresh`, which are in address order.
    fn scan(&mut self, scanner: &Scanner<'_, '_>, discovered: &Discovered, pads: &[u64], fresh: Vec<Extent>) {
        let first_part = self.fixups.len();
        let chunks: Vec<(Vec<Scan>, Found)> = fresh
            .par_chunks(CHUNK)
            .with_max_len(1)
            .enumerate()
            .map(|(index, chunk)| {
                let mut reader = Reader::new(scanner, u32::try_from(first_part + index).unwrap_or(u32::MAX));
                let mut scan_one = |extent: &Extent| {
                    reader.scan(extent.start, extent.end, || {
                        let named = crate::program::sorted_range(&discovered.symbol_addrs, extent.start, extent.end);
                        let landed = crate::program::sorted_range(pads, extent.start, extent.end);
                        let entries = named.iter().chain(landed).copied();
                        entries.filter(|&entry| !in_ranges(&discovered.objects, entry)).collect()
                    })
                };
                (chunk.iter().map(&mut scan_one).collect(), reader.finish())
            })
            .collect();
        let mut scans = Vec::with_capacity(fresh.len());
        for (some, found) in chunks {
            scans.extend(some);
            self.fixups.push(found.fixups);
            self.doubts.extend(found.doubts);
            self.got_slots.extend(found.got_slots);
            self.inline_words.extend(found.inline_words);
            self.own_places.extend(found.own_places);
        }
        if self.extents.is_empty() {
            (self.extents, self.scans) = (fresh, scans);
            return;
        }
        // Few, as a rule.
        let place = |new: &Extent| self.extents.partition_point(|extent| extent.start <= new.start);
        let places: Vec<usize> = fresh.iter().map(place).collect();
        insert_all(&mut self.extents, &places, &fresh);
        insert_all(&mut self.scans, &places, &scans);
    }
}

/// Inserts each of `new` before the element that is at its place now. Places ascend.
fn insert_all<T: Copy>(list: &mut Vec<T>, places: &[usize], new: &[T]) {
    let mut end = list.len();
    list.extend_from_slice(new);
    for (number, (&place, &value)) in places.iter().zip(new).enumerate().rev() {
        // Behind this place `number + 1` are inserted.
        list.copy_within(place..end, place + number + 1);
        if let Some(slot) = list.get_mut(place + number) {
            *slot = value;
        }
        end = place;
    }
}

/// Functions that a branch or an FDE revealed may still have a name: a symbol without type. (Parts that are split off
/// are named after it.)
fn name_others(image: &Image<'_>, extents: &mut [Extent]) {
    if extents.iter().all(|extent| extent.symbol.is_some() || extent.stub) {
        return;
    }
    let Some(table) = image.symtab() else { return };
    for (index, symbol) in table.iter().enumerate() {
        if !symbol.is_defined() || symbol.kind() != postlink_image::elf::STT_NOTYPE {
            continue;
        }
        let Some(position) = extent_at(extents, symbol.value) else { continue };
        if let Some(extent) = extents.get_mut(position)
            && extent.start == symbol.value
            && extent.symbol.is_none()
            && !extent.stub
        {
            extent.symbol = u32::try_from(index).ok();
        }
    }
}

fn in_ranges(ranges: &[(u64, u64)], addr: u64) -> bool {
    let index = ranges.partition_point(|range| range.0 <= addr);
    index.checked_sub(1).and_then(|index| ranges.get(index)).is_some_and(|range| addr < range.1)
}

fn function_of(extent: &Extent, scan: &Scan) -> Function {
    Function {
        start: extent.start,
        end: extent.end,
        section: u32::try_from(extent.section).unwrap_or(u32::MAX),
        symbol: extent.symbol,
        fde: None,
        class: crate::Class::Free,
        reason: None,
        parent: None,
        traits: Traits {
            indirect_jump: scan.indirect_jumps > 0,
            must_relay: false,
            // If nothing says where the function ends, a call is no sign that it ends there.
            falls_through: scan.falls_through || extent.guessed && scan.ends_with_call,
            has_calls: scan.has_calls,
            size_guessed: extent.guessed,
        },
    }
}

/// For each function whether it is a part of another one by its name: `NAME.cold`.
fn cold_parts(program: &Program<'_>) -> Vec<bool> {
    let table = program.image.symtab();
    let functions = program.functions.as_slice().par_iter();
    let is_cold = |function: &Function| {
        let symbol = function.symbol.and_then(|index| table.as_ref()?.get(index as usize));
        symbol.is_some_and(|symbol| {
            let name = table.map_or(&[][..], |table| table.name(&symbol));
            // Few names have a dot at all.
            name.contains(&b'.') && name.windows(5).any(|part| part == b".cold")
        })
    };
    functions.map(is_cold).collect()
}

/// A function named `NAME.cold` is a part of the function that it exchanges jumps with.
fn find_parents(program: &mut Program<'_>, outward: &[Outward], is_cold: &[bool]) {
    let is_cold = |id: FunctionId| is_cold.get(id.index()).copied().unwrap_or(false);
    let parents: Vec<(FunctionId, FunctionId)> = outward
        .iter()
        .filter(|outward| matches!(outward.kind, FixupKind::Branch32 | FixupKind::Branch8))
        .filter_map(|outward| {
            let (id, other) = (outward.from, outward.to.filter(|&other| other != outward.from)?);
            let interior = program.functions[other].start != outward.target;
            match (is_cold(id), is_cold(other)) {
                (true, false) if interior => Some((id, other)),
                (false, true) => Some((other, id)),
                _ => None,
            }
        })
        .collect();
    // The parent by name, if it is among those that exchange jumps with the part; else the first in
    // address order. (An empty cold part has the address of the next function's.)
    let named_after = |child: FunctionId, parent: FunctionId| {
        let (child, parent) = (program.name(child), program.name(parent));
        child.strip_prefix(parent.as_str()).is_some_and(|rest| rest.starts_with(".cold"))
    };
    let chosen: Vec<(FunctionId, FunctionId)> = {
        let mut sorted = parents;
        sorted.sort_unstable();
        sorted.dedup();
        sorted
            .chunk_by(|a, b| a.0 == b.0)
            .filter_map(|group| {
                let best = group.iter().find(|(child, parent)| named_after(*child, *parent));
                best.or(group.first()).copied()
            })
            .collect()
    };
    for (child, parent) in chosen {
        program.functions[child].parent = Some(parent);
    }
}

fn roots(program: &Program<'_>) -> Vec<FunctionId> {
    program.functions.iter_enumerated().map(|(id, function)| function.parent.unwrap_or(id)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inserts_at_all_places() {
        let mut list = vec![10, 20, 30];
        insert_all(&mut list, &[0, 1, 1, 3, 3], &[5, 11, 12, 31, 32]);
        assert_eq!(list, [5, 10, 11, 12, 20, 30, 31, 32]);
        let mut list: Vec<u8> = Vec::new();
        insert_all(&mut list, &[0, 0], &[1, 2]);
        assert_eq!(list, [1, 2]);
    }
}
