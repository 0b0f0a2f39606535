//! Free, rigid or pinned: what may happen to each function, and the labels inside them.

mod boundaries;
mod gaps;
mod hidden;
mod inline_tables;
mod personality;
mod returns;

use postlink_base::Id;
use rayon::prelude::*;

use crate::bits::CodeSet;
use crate::code_relocs::CodeRelocs;
use crate::discover::{Extent, is_padding};
use crate::outward::Outward;
use crate::recover::LandingPads;
use crate::scan::{Doubt, Scan};
use crate::{Class, DataRef, DataRefKind, FixupKind, Function, FunctionId, Program, Reason};

pub(crate) struct Facts<'a, 'd> {
    pub(crate) extents: &'a [Extent],
    pub(crate) scans: &'a [Scan],
    pub(crate) doubts: &'a [Doubt],
    /// A function's address, and that of a place inside of it that it takes.
    pub(crate) own_places: &'a [(u64, u64)],
    pub(crate) outward: &'a [Outward],
    pub(crate) landing_pads: &'a [LandingPads],
    pub(crate) symbol_addrs: &'a [u64],
    /// Symbols without type and size.
    pub(crate) named_labels: &'a [u64],
    pub(crate) objects: &'a [(u64, u64)],
    pub(crate) doubtful_targets: &'a [u64],
    pub(crate) text_relocations: &'a [u64],
    pub(crate) doubtful_ranges: &'a [(u64, u64)],
    pub(crate) roots: &'a [FunctionId],
    pub(crate) relocs: &'a CodeRelocs<'d>,
}

/// Lowers a class; the first reason for the lowest class is the one that is kept.
fn lower(function: &mut Function, class: Class, reason: Reason) {
    if class > function.class {
        function.class = class;
        function.reason = Some(reason);
    }
}

pub(crate) fn classify(program: &mut Program<'_>, facts: &Facts<'_, '_>) {
    own_facts(program, facts);
    unwind_facts(program, facts);
    indirect_jumps(program, facts);
    let mut off_entries = off_entries(program);
    // What they look at none of them changes. Whose finding comes first, its reasons count.
    let seen: &Program<'_> = program;
    let (referred, gaps) =
        rayon::join(|| references(seen, facts, &off_entries), || gaps::gaps(seen, facts, &off_entries));
    referred.apply(program);
    if gaps.apply(program) {
        off_entries = self::off_entries(program);
    }
    let seen: &Program<'_> = program;
    let (bounded, jump_targets) =
        rayon::join(|| boundaries::boundaries(seen, facts, &off_entries), || jump_targets(seen, &off_entries));
    for (low, high) in bounded {
        pin_range(program, low, high, Reason::CodeBoundary);
    }
    program.jump_targets = jump_targets;
    for (id, class) in returns::return_addresses(program, &off_entries) {
        lower(&mut program.functions[id], class, Reason::ReturnAddress);
    }
    doubts(program, facts);
    distances(program, facts);
    near_data(program, facts);
    inline_tables::pin(program, facts);
    hidden::pin(program);
    ends(program);
}

/// A reference from data that does not lead to a function's entry.
#[derive(Clone, Copy)]
struct OffEntry {
    /// Position among all references.
    index: u32,
    /// The function that it leads into.
    inside: Option<FunctionId>,
}

fn off_entries(program: &Program<'_>) -> Vec<OffEntry> {
    let numbered = program.data_refs.par_iter().enumerate();
    let off_entry = |(index, data_ref): (usize, &DataRef)| {
        let place = program.place_of(data_ref.target);
        let index = u32::try_from(index).ok().filter(|_| !matches!(place, Some((_, true))))?;
        Some(OffEntry { index, inside: place.map(|(id, _)| id) })
    };
    numbered.filter_map(off_entry).collect()
}

/// What [`Program::jump_targets_in`] gives parts of.
fn jump_targets(program: &Program<'_>, off_entries: &[OffEntry]) -> Vec<u64> {
    let set = CodeSet::new(program.image.exec_ranges());
    let others = off_entries
        .par_iter()
        .filter(|off_entry| off_entry.inside.is_some())
        .filter_map(|off_entry| program.data_refs.get(off_entry.index as usize))
        .filter(|data_ref| !matches!(data_ref.kind, DataRefKind::Pc32 | DataRefKind::Pc64))
        .map(|data_ref| data_ref.target)
        .filter(|&target| !set.insert(target))
        .collect();
    all_of(&set, others)
}

/// The addresses of a set and others, as a rule none, which lie in no executable section.
fn all_of(set: &CodeSet, others: Vec<u64>) -> Vec<u64> {
    let mut list = set.list();
    if !others.is_empty() {
        list.extend(others);
        list.sort_unstable();
        list.dedup();
    }
    list
}

/// What the function's own bytes and symbols say.
fn own_facts(program: &mut Program<'_>, facts: &Facts<'_, '_>) {
    let movable = program.movable_sections.clone();
    for ((function, extent), scan) in program.functions.as_mut_slice().iter_mut().zip(facts.extents).zip(facts.scans) {
        if extent.stub || !movable.contains(&extent.section) {
            lower(function, Class::Pinned, Reason::SectionStays);
        }
        if extent.overlapping {
            lower(function, Class::Rigid, Reason::OverlappingSymbols);
        }
        if let Some(reason) = scan.rigid {
            lower(function, Class::Rigid, reason);
        }
        if let Some(reason) = scan.pinned {
            lower(function, Class::Pinned, reason);
        }
        if extent.guessed && scan.has_code_behind_trap {
            lower(function, Class::Rigid, Reason::EndGuessed);
        }
        function.traits.must_relay = scan.short_branch_out;
    }
}

/// FDEs and LSDAs: at most one FDE, from the first byte on; landing pads at instructions of the
/// function itself.
fn unwind_facts(program: &mut Program<'_>, facts: &Facts<'_, '_>) {
    let Some(eh_frame) = program.eh_frame.take() else { return };
    let known = personality::known(program.image, &eh_frame);
    let mut pads = facts.landing_pads.iter().peekable();
    let mut all_pads: Vec<u64> = Vec::new();
    let mut foreign_pads: Vec<u64> = Vec::new();
    for (index, fde) in eh_frame.fdes.iter().enumerate() {
        let own_pads = pads.next_if(|pads| pads.fde as usize == index);
        if fde.dead || fde.pc_end <= fde.pc_begin {
            continue;
        }
        let Some(id) = program.function_at(fde.pc_begin) else { continue };
        let rest_is_padding = {
            let function = &program.functions[id];
            fde.pc_end >= function.end || {
                let rest = program.image.bytes_at(fde.pc_end, function.end - fde.pc_end).unwrap_or(&[]);
                is_padding(rest, fde.pc_end)
            }
        };
        let function = &mut program.functions[id];
        if fde.pc_begin == function.start && function.fde.is_none() && rest_is_padding {
            function.fde = u32::try_from(index).ok();
        } else {
            lower(function, Class::Rigid, Reason::UnwindInconsistent);
        }
        if fde.lsda.is_some() && known.get(fde.cie as usize).is_none_or(|known| !known) {
            lower(function, Class::Rigid, Reason::ForeignPersonality);
        }
        match own_pads.map(|own| &own.pads) {
            None => {}
            Some(Err(())) => lower(function, Class::Pinned, Reason::LsdaNotUnderstood),
            Some(Ok(own)) => {
                for &pad in own {
                    let inside = function.contains(pad);
                    if inside {
                        all_pads.push(pad);
                    } else {
                        // The distance to a landing pad elsewhere is stored in the table: neither
                        // side may move.
                        lower(function, Class::Pinned, Reason::LsdaNotUnderstood);
                        foreign_pads.push(pad);
                    }
                }
            }
        }
    }
    for pad in foreign_pads {
        if let Some(id) = program.function_at(pad) {
            lower(&mut program.functions[id], Class::Pinned, Reason::LsdaNotUnderstood);
        }
    }
    all_pads.sort_unstable();
    all_pads.dedup();
    program.landing_pads = all_pads;
    program.eh_frame = Some(eh_frame);
}

/// Indirect jumps need an explanation: a table, relocated labels, or a value loaded from elsewhere
/// (a tail call). A register computed by adding is none of these unless the function reads a table.
fn indirect_jumps(program: &mut Program<'_>, facts: &Facts<'_, '_>) {
    let mut has_table = vec![false; program.functions.len()];
    for table in &program.tables {
        for id in [table.owner, facts.roots.get(table.owner.index()).copied().unwrap_or(table.owner)] {
            if let Some(flag) = has_table.get_mut(id.index()) {
                *flag = true;
            }
        }
    }
    let mut tainted: Vec<u64> = Vec::new();
    for (index, scan) in facts.scans.iter().enumerate() {
        let id = FunctionId::from_index(index);
        let root = facts.roots.get(index).copied().unwrap_or(id);
        let explained = has_table.get(index).copied().unwrap_or(false)
            || has_table.get(root.index()).copied().unwrap_or(false);
        if scan.computed_jumps == 0 || explained {
            continue;
        }
        lower(&mut program.functions[id], Class::Rigid, Reason::UnknownIndirectJump);
        // The sum may start at any code address that the function takes; if that lies elsewhere, the
        // distance between the two places must stay.
        let taken: Vec<u64> = program.fixups[id]
            .iter()
            .filter(|fixup| takes_address(fixup.kind) && program.image.exec_section_at(fixup.target).is_some())
            .map(|fixup| fixup.target)
            .collect();
        if taken.iter().any(|&target| !program.functions[id].contains(target)) {
            lower(&mut program.functions[id], Class::Pinned, Reason::AddressArithmetic);
        }
        tainted.extend(taken);
    }
    for target in tainted {
        if let Some(id) = program.function_at(target) {
            lower(&mut program.functions[id], Class::Pinned, Reason::AddressArithmetic);
        }
    }
}

/// Whether the address itself is what the operand is there for.
const fn takes_address(kind: FixupKind) -> bool {
    matches!(kind, FixupKind::Address) || !kind.is_pc_relative()
}

/// What a reference into the middle of a function means for it.
enum Referred {
    /// A place that its graph must have a block at.
    Label(u64),
    Lower(FunctionId, Class, Reason),
}

/// Looks at one reference; `inside` is the function that it leads into, not to the entry of; `from` is the function and operand that it stands in, if it stands in code. A symbol
/// refers to nothing by itself.
fn refer(
    program: &Program<'_>,
    target: u64,
    inside: Option<FunctionId>,
    from: Option<(FunctionId, FixupKind)>,
    symbol: bool,
) -> impl Iterator<Item = Referred> + use<> {
    let (label, lowered) = match inside {
        None => (None, None),
        Some(id) if !program.inst_starts.get(target) => {
            // What an instruction takes the address of is no label then, but data at some distance.
            let class = if from.is_some_and(|from| takes_address(from.1)) { Class::Pinned } else { Class::Rigid };
            (None, (!symbol).then_some((id, class, Reason::ReferenceIntoInstruction)))
        }
        Some(id) => {
            let lowered = match from {
                Some((source, _)) if source == id => None,
                // A lea of a place inside another function: a label used as a value.
                Some((_, FixupKind::Address | FixupKind::Abs32 | FixupKind::Abs32S | FixupKind::Delta64)) => {
                    Some((id, Class::Rigid, Reason::InteriorAddressTaken))
                }
                Some((_, FixupKind::Memory | FixupKind::Pc64)) => {
                    Some((id, Class::Pinned, Reason::DataInCode))
                }
                _ => None,
            };
            (Some(target), lowered)
        }
    };
    let lowered = lowered.map(|(id, class, reason)| Referred::Lower(id, class, reason));
    label.map(Referred::Label).into_iter().chain(lowered)
}

/// What all references mean.
struct References {
    labels: Vec<u64>,
    lowered: Vec<(FunctionId, Class, Reason)>,
}

impl References {
    fn apply(self, program: &mut Program<'_>) {
        for (id, class, reason) in self.lowered {
            lower(&mut program.functions[id], class, reason);
        }
        program.labels = self.labels;
    }
}

/// Labels: every place inside a function that something else refers to.
fn references(seen: &Program<'_>, facts: &Facts<'_, '_>, off_entries: &[OffEntry]) -> References {
    let inside = |target: u64| seen.place_of(target).filter(|&(_, is_entry)| !is_entry).map(|(id, _)| id);
    let from_code = facts.outward.par_iter().map(|outward| {
        (outward.target, inside(outward.target), Some((outward.from, outward.kind)), false)
    });
    let from_data = off_entries.par_iter().filter_map(|off_entry| {
        let data_ref = seen.data_refs.get(off_entry.index as usize)?;
        Some((data_ref.target, off_entry.inside, None, false))
    });
    let symbols = facts.symbol_addrs.par_iter().map(|&addr| (addr, inside(addr), None, true));
    let entry = seen.image.header().entry;
    let labels = CodeSet::new(seen.image.exec_ranges());
    let lowered: Vec<(FunctionId, Class, Reason)> = from_code
        .chain(from_data)
        .chain(symbols)
        .chain(rayon::iter::once((entry, inside(entry), None, false)))
        .flat_map_iter(|(target, inside, from, symbol)| refer(seen, target, inside, from, symbol))
        .filter_map(|referred| match referred {
            Referred::Label(label) => {
                // Instructions start in executable sections only.
                labels.insert(label);
                None
            }
            Referred::Lower(id, class, reason) => Some((id, class, reason)),
        })
        .collect();
    let others = seen.landing_pads.iter().copied().filter(|&pad| !labels.insert(pad)).collect();
    References { labels: all_of(&labels, others), lowered }
}

/// Pins every function that overlaps `low..=high`.
fn pin_range(program: &mut Program<'_>, low: u64, high: u64, reason: Reason) {
    let first = program.functions.as_slice().partition_point(|function| function.end <= low);
    let last = program.functions.as_slice().partition_point(|function| function.start <= high);
    for index in first..last {
        lower(&mut program.functions[FunctionId::from_index(index)], Class::Pinned, reason);
    }
}

fn pin_targets(program: &mut Program<'_>, targets: &[u64], reason: Reason) {
    for &target in targets {
        if let Some(id) = program.function_at(target) {
            lower(&mut program.functions[id], Class::Pinned, reason);
        }
    }
}

/// References that are not understood.
fn doubts(program: &mut Program<'_>, facts: &Facts<'_, '_>) {
    for doubt in facts.doubts {
        pin_targets(program, &[doubt.target], doubt.reason);
    }
    pin_targets(program, facts.doubtful_targets, Reason::UnexplainedCodeReference);
    pin_targets(program, facts.text_relocations, Reason::TextRelocation);
    for &(low, high) in facts.doubtful_ranges {
        pin_range(program, low, high, Reason::UnexplainedTableEntry);
    }
}

/// Operands that count from a place in code: it is the address that some `lea` takes, which one is not known. All such places stay.
fn distances(program: &mut Program<'_>, facts: &Facts<'_, '_>) {
    if !facts.scans.iter().any(|scan| scan.counts_from_code) {
        return;
    }
    for (index, scan) in facts.scans.iter().enumerate() {
        let id = FunctionId::from_index(index);
        let taken = program.fixups[id].iter().filter(|fixup| takes_address(fixup.kind)).map(|fixup| fixup.target);
        let mut stay: Vec<FunctionId> = taken.filter_map(|target| program.function_at(target)).collect();
        // The place may be in the function that takes it.
        stay.extend(scan.rigid.map(|_| id));
        for id in stay {
            lower(&mut program.functions[id], Class::Pinned, Reason::PositionDependentField);
        }
    }
}

/// Data between functions that is so near may be meant by an address in code.
const NEAR: u64 = 4096;

/// Addresses inside of functions that code takes: near data between functions they may mean that data (`lea table - 8(%rip)`,
/// the index counts from 1), which stays.
fn near_data(program: &mut Program<'_>, facts: &Facts<'_, '_>) {
    if program.obstacles.is_empty() {
        return;
    }
    let own = facts.own_places.iter().filter_map(|&(_, place)| program.function_at(place));
    let others = facts.outward.iter().filter(|outward| takes_address(outward.kind)).filter_map(|outward| {
        let (id, is_entry) = program.place_of(outward.target)?;
        (!is_entry).then_some(id)
    });
    let mut ids: Vec<FunctionId> = own.chain(others).collect();
    ids.sort_unstable();
    ids.dedup();
    for id in ids {
        let (start, end) = (program.functions[id].start, program.functions[id].end);
        let first = program.obstacles.partition_point(|obstacle| obstacle.1.saturating_add(NEAR) <= start);
        if program.obstacles.get(first).is_some_and(|obstacle| obstacle.0 <= end.saturating_add(NEAR)) {
            lower(&mut program.functions[id], Class::Pinned, Reason::NearData);
        }
    }
}

/// Functions that run into the next one, and short branches between functions.
fn ends(program: &mut Program<'_>) {
    for index in 0..program.functions.len() {
        let id = FunctionId::from_index(index);
        if program.functions[id].traits.falls_through {
            if is_prefix(program, id) {
                let next = program.fallthrough_target(id).and_then(|next| program.function_at(next));
                for both in next.into_iter().chain([id]) {
                    lower(&mut program.functions[both], Class::Pinned, Reason::DataInCode);
                }
            } else if program.fallthrough_target(id).is_some() {
                program.functions[id].traits.must_relay = true;
            } else {
                lower(&mut program.functions[id], Class::Pinned, Reason::FallsOffTheEnd);
            }
        }
        let function = &mut program.functions[id];
        if function.traits.must_relay && function.class == Class::Rigid {
            let falls = function.traits.falls_through;
            lower(function, Class::Pinned, if falls { Reason::FallsOffTheEnd } else { Reason::ShortBranchOut });
        }
    }
    let mut stays: Vec<bool> = program.functions.iter().map(|function| function.class == Class::Pinned).collect();
    program.spread_stays(&mut stays);
    for (id, stays) in (0..stays.len()).map(FunctionId::from_index).zip(stays) {
        if stays {
            lower(&mut program.functions[id], Class::Pinned, Reason::ShortBranchOut);
        }
    }
}

/// Whether a few instructions that run into the next function are really data in front of its entry:
/// without an FDE of their own (the type hashes of `-fsanitize=kcfi` are made to look like that).
fn is_prefix(program: &Program<'_>, id: FunctionId) -> bool {
    const MAX_PREFIX: u64 = 32;
    let function = &program.functions[id];
    let next_has_fde = program
        .fallthrough_target(id)
        .and_then(|next| program.function_at(next))
        .is_some_and(|next| program.functions[next].fde.is_some());
    function.size() <= MAX_PREFIX && function.fde.is_none() && next_has_fde
}

impl Program<'_> {
    /// Where control goes that runs past the end of a function: the next function's entry.
    pub fn fallthrough_target(&self, id: FunctionId) -> Option<u64> {
        let end = self.functions[id].end;
        let next = self.functions.get(FunctionId(id.0.checked_add(1)?))?;
        if next.section != self.functions[id].section || next.start < end {
            return None;
        }
        let gap = self.image.bytes_at(end, next.start - end)?;
        gaps::is_nops(gap, end).then_some(next.start)
    }

    /// Given which functions stay where they are, adds those that must stay because of them: what a
    /// staying function runs into or reaches by a short branch only.
    pub fn spread_stays(&self, stays: &mut [bool]) {
        let mut work: Vec<usize> =
            stays.iter().enumerate().filter(|&(_, &stays)| stays).map(|(index, _)| index).collect();
        while let Some(index) = work.pop() {
            let id = FunctionId::from_index(index);
            let Some(function) = self.functions.get(id) else { continue };
            let mut reached: Vec<u64> = Vec::new();
            if function.traits.falls_through {
                reached.extend(self.fallthrough_target(id));
            }
            reached.extend(
                self.fixups[id].iter().filter(|fixup| fixup.kind == FixupKind::Branch8).map(|fixup| fixup.target),
            );
            for target in reached {
                // Who goes to the padding behind a function runs into the next one.
                let target = if self.function_at(target).is_some() { target } else { self.padding_at(target).map_or(target, |gap| gap.1) };
                if let Some(other) = self.function_at(target)
                    && let Some(flag) = stays.get_mut(other.index())
                    && !*flag
                {
                    *flag = true;
                    work.push(other.index());
                }
            }
        }
    }
}
