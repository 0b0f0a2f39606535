//! The symbol tables of the output.

use std::collections::HashMap;

use postlink_base::{Id, OldAddr};
use postlink_cfg::{FunctionId, Program};
use postlink_image::{Symbol, SymbolTable, elf};
use postlink_layout::{FunctionPlan, Plan};
use rayon::prelude::*;

use crate::code::Assembled;
use crate::placement::Placement;
use crate::relay::RelaidFragment;
use crate::relocator::Relocator;

/// A rebuilt static symbol table.
pub(crate) struct Symtab {
    pub(crate) symbols: Vec<u8>,
    /// What comes behind the old string table.
    pub(crate) more_strings: Vec<u8>,
    /// `sh_info`: number of local symbols.
    pub(crate) locals: u32,
    /// Old index to new one, `u32::MAX` for symbols that are gone.
    pub(crate) new_index: Vec<u32>,
}

/// What the symbol writers need to know about the new file.
pub(crate) struct Context<'a, 'd> {
    pub(crate) program: &'a Program<'d>,
    pub(crate) plan: &'a Plan,
    pub(crate) assembled: &'a Assembled,
    pub(crate) relocator: &'a Relocator<'a>,
    /// Old section index to new one, 0 for sections that are gone.
    pub(crate) section_map: &'a [u16],
    /// Appended code: start, end, section index.
    pub(crate) appended_code: Option<(u64, u64, u16)>,
    /// Sections that have another address now: old index, new address.
    pub(crate) section_addrs: &'a [(usize, u64)],
    /// New addresses of the fragments of each function that was laid out anew.
    pub(crate) fragment_starts: HashMap<u32, Vec<u64>>,
}

/// New addresses of all fragments, by function and fragment.
pub(crate) fn fragment_starts(plan: &Plan, assembled: &Assembled, placement: &Placement) -> HashMap<u32, Vec<u64>> {
    let mut starts: HashMap<u32, Vec<u64>> = HashMap::new();
    for (placed, &start) in plan.order.iter().zip(&placement.starts) {
        if let Some(fragments) = assembled.of(placed.function) {
            let entry = starts.entry(placed.function.0).or_insert_with(|| vec![0; fragments.len()]);
            if let Some(slot) = entry.get_mut(placed.fragment as usize) {
                *slot = start;
            }
        }
    }
    starts
}

impl Context<'_, '_> {
    /// The symbol as it stands in the output.
    fn moved(&self, symbol: Symbol) -> Symbol {
        let mut new = symbol;
        if !symbol.is_defined() || symbol.section == elf::SHN_XINDEX {
            return new;
        }
        let old_section = usize::from(symbol.section);
        new.section = self.section_map.get(old_section).copied().unwrap_or(0);
        if matches!(symbol.kind(), elf::STT_TLS | elf::STT_FILE) {
            return new;
        }
        if symbol.kind() == elf::STT_SECTION {
            if let Some(&(_, addr)) = self.section_addrs.iter().find(|entry| entry.0 == old_section) {
                new.value = addr;
            }
            return new;
        }
        let in_code = self.program.image.sections().get(old_section).is_some_and(|section| section.is_exec());
        if !in_code {
            // An end marker has the address of what follows but belongs to its own section.
            let inside = self.program.image.sections().get(old_section).is_some_and(|section| {
                symbol.value >= section.addr && (symbol.value - section.addr < section.size || section.size == 0 && section.name == b".eh_frame")
            });
            if inside {
                new.value = self.relocator.to_new(symbol.value);
            }
            return new;
        }
        let Some(addr) = self.relocator.map.moved(OldAddr::new(symbol.value)) else { return new };
        new.value = addr.raw();
        if let Some((start, end, index)) = self.appended_code
            && new.value >= start
            && new.value < end
        {
            new.section = index;
        }
        // Of any type: hand-written assembly gives sizes to symbols without one.
        if symbol.size > 0 {
            new.size = self.new_size(&symbol, new.value);
        }
        new
    }

    /// Size of a symbol in code that was laid out anew: up to the end of the fragment that it starts in,
    /// at most its old share.
    fn new_size(&self, symbol: &Symbol, new_value: u64) -> u64 {
        let Some(own) = self.program.function_at(symbol.value) else { return symbol.size };
        // Another function's code may stand for this one's.
        let id = self.plan.functions.get(own).and_then(FunctionPlan::folded).unwrap_or(own);
        let Some(fragments) = self.assembled.of(id) else { return symbol.size };
        let function = &self.program.functions[own];
        let starts = self.fragment_starts.get(&id.0);
        let first = fragments
            .iter()
            .zip(starts.into_iter().flatten())
            .position(|(fragment, &start)| new_value >= start && new_value - start < fragment.code.len() as u64);
        let end = first.zip(starts).map_or(new_value, |(first, starts)| end_of_part(fragments, starts, first));
        if symbol.value == function.start && symbol.size >= function.size() {
            return end - new_value;
        }
        // A symbol for a part of the function: up to the last of its bytes in the fragment.
        let (old_start, old_end) = (symbol.value - function.start, symbol.value - function.start + symbol.size);
        fragments
            .iter()
            .zip(starts.into_iter().flatten())
            .flat_map(|(fragment, &start)| fragment.pieces.iter().map(move |piece| (start, piece)))
            .filter(|(start, piece)| {
                let new = start + u64::from(piece.new);
                u64::from(piece.old) < old_end
                    && u64::from(piece.old + piece.old_len) > old_start
                    && new >= new_value
                    && new < end
            })
            .map(|(start, piece)| {
                let beyond = if piece.copied {
                    u64::from(piece.old + piece.old_len).saturating_sub(old_end)
                } else {
                    0
                };
                start + u64::from(piece.new + piece.new_len) - beyond
            })
            .max()
            .map_or(0, |last| last.saturating_sub(new_value))
    }
}

/// Whether `next` stands behind `fragment` as it did in the old code, with nothing added: then both are one part
/// of their function, and no reader of the map could tell them apart.
fn continues(fragment: (&RelaidFragment, u64), next: (&RelaidFragment, u64)) -> bool {
    let last = fragment.0.pieces.iter().rev().find(|piece| piece.new_len > 0 || piece.old_len > 0);
    let first = next.0.pieces.iter().find(|piece| piece.new_len > 0 || piece.old_len > 0);
    let (Some(last), Some(first)) = (last, first) else { return false };
    last.copied
        && first.copied
        && last.old + last.old_len == first.old
        && fragment.1 + u64::from(last.new + last.new_len) == next.1 + u64::from(first.new)
}

/// New end of the part of a function that begins with fragment `first`: that fragment and those that continue it.
fn end_of_part(fragments: &[RelaidFragment], starts: &[u64], first: usize) -> u64 {
    let all = || fragments.iter().zip(starts.iter().copied());
    let mut end = 0;
    let mut at = all().nth(first);
    // Ends: the starts of fragments ascend along the way.
    while let Some(part) = at {
        end = part.1 + part.0.code.len() as u64;
        at = all().find(|&next| next.1 > part.1 && continues(part, next));
    }
    end
}

fn push(out: &mut Vec<u8>, symbol: &Symbol) {
    out.extend(symbol.name.to_le_bytes());
    out.push(symbol.info);
    out.push(symbol.other);
    out.extend(symbol.section.to_le_bytes());
    out.extend(symbol.value.to_le_bytes());
    out.extend(symbol.size.to_le_bytes());
}

/// Old symbols as they stand in the output, those of one run.
#[derive(Default)]
struct Run {
    locals: Vec<u8>,
    globals: Vec<u8>,
    /// For each old symbol, whether it is a local one; none for those that are gone.
    kinds: Vec<Option<bool>>,
}

/// Symbols that one thread writes at a time.
const RUN: usize = 1 << 12;

fn run(context: &Context<'_, '_>, table: &SymbolTable<'_>, first: usize) -> Run {
    let mut run = Run { locals: Vec::with_capacity(RUN * 24), ..Run::default() };
    for index in first..table.len().min(first + RUN) {
        let Some(symbol) = table.get(index) else { continue };
        let dropped_section = symbol.kind() == elf::STT_SECTION
            && context.section_map.get(usize::from(symbol.section)).copied().unwrap_or(0) == 0;
        if index > 0 && dropped_section {
            run.kinds.push(None);
            continue;
        }
        let new = context.moved(symbol);
        let is_local = symbol.binding() == elf::STB_LOCAL;
        run.kinds.push(Some(is_local));
        push(if is_local { &mut run.locals } else { &mut run.globals }, &new);
    }
    run
}

/// Rebuilds `.symtab`: old symbols at their new addresses, in old order, and a sized local symbol
/// `NAME.cold` for every fragment behind the first.
pub(crate) fn symtab(context: &Context<'_, '_>, table: &SymbolTable<'_>) -> Symtab {
    let mut added = (Vec::new(), Vec::new());
    let (runs, ()) = rayon::join(
        || {
            let runs = (0..table.len().div_ceil(RUN)).into_par_iter().with_max_len(1);
            runs.map(|number| run(context, table, number * RUN)).collect::<Vec<Run>>()
        },
        || add_fragments(context, table, &mut added),
    );
    let (added, more_strings) = added;
    let size = runs.iter().map(|run| run.locals.len() + run.globals.len()).sum::<usize>() + added.len();
    let mut symbols = Vec::with_capacity(size);
    // Locals stand in front.
    runs.iter().for_each(|run| symbols.extend_from_slice(&run.locals));
    symbols.extend_from_slice(&added);
    let count = u32::try_from(symbols.len() / 24).unwrap_or(u32::MAX);
    runs.iter().for_each(|run| symbols.extend_from_slice(&run.globals));
    let (mut local, mut global) = (0u32, count);
    let mut new_index = Vec::with_capacity(table.len());
    for kind in runs.iter().flat_map(|run| &run.kinds) {
        let next = match kind {
            Some(true) => &mut local,
            Some(false) => &mut global,
            None => {
                new_index.push(u32::MAX);
                continue;
            }
        };
        new_index.push(*next);
        *next = next.saturating_add(1);
    }
    Symtab { symbols, more_strings, locals: count, new_index }
}

/// Fills symbols and the strings of their names.
fn add_fragments(context: &Context<'_, '_>, table: &SymbolTable<'_>, (locals, strings): &mut (Vec<u8>, Vec<u8>)) {
    let old_size = table.strings().len();
    if old_size == 0 {
        strings.push(0);
    }
    for index in 0..context.program.functions.len() {
        let id = FunctionId::from_index(index);
        if !matches!(context.plan.functions.get(id), Some(FunctionPlan::Relay { .. })) {
            continue;
        }
        let (Some(fragments), Some(starts)) = (context.assembled.of(id), context.fragment_starts.get(&id.0)) else {
            continue;
        };
        let function = &context.program.functions[id];
        let Some(symbol) = function.symbol.and_then(|index| table.get(index as usize)) else { continue };
        for (number, (fragment, &start)) in fragments.iter().zip(starts).enumerate().skip(1) {
            if fragments.iter().zip(starts).any(|(before, &at)| continues((before, at), (fragment, start))) {
                continue;
            }
            let name = u32::try_from(old_size + strings.len()).unwrap_or(0);
            strings.extend_from_slice(table.name(&symbol));
            strings.extend_from_slice(b".cold");
            if number > 1 {
                strings.extend_from_slice(format!(".{}", number - 1).as_bytes());
            }
            strings.push(0);
            let section = match context.appended_code {
                Some((low, high, index)) if start >= low && start < high => index,
                _ => context.section_map.get(function.section as usize).copied().unwrap_or(0),
            };
            let size = end_of_part(fragments, starts, number) - start;
            push(locals, &Symbol { name, info: elf::STT_FUNC, other: 0, section, value: start, size });
        }
    }
}

/// Rewrites `.dynsym` in place: same order, names and hashes.
pub(crate) fn dynsym(context: &Context<'_, '_>, table: &SymbolTable<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(table.len() * 24);
    for symbol in table.iter() {
        push(&mut out, &context.moved(symbol));
    }
    out
}
