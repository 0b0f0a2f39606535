//! Static relocations of the output: those of the input, brought up to date (`--keep-relocs`).
//!
//! The loaded words are final by now, so each addend is solved for: symbol + addend (minus the place) gives exactly the word
//! that stands there. What has to be chosen is the symbol. It stays the same where the addend does; a place that moved
//! apart from its symbol is named by the section's symbol if it is still in that section, else by the function's or part's.
//!
//! Some relocations of linked files do not give the word even in the input: those that go through the PLT or the GOT, and
//! those whose instruction the linker changed. The first lead to the same slot as before and keep symbol and addend; so
//! do the others, unless what they lead to moved.

use std::collections::BTreeMap;

use postlink_base::{MapKind, OldAddr};
use postlink_cfg::{DataRefKind, Program};
use postlink_image::{Image, Rela, Section, Symbol, elf, reloc};
use postlink_layout::Plan;
use rayon::prelude::*;

use crate::code::Assembled;
use crate::direct;
use crate::placement::Placement;
use crate::relocator::Relocator;
use crate::symbols::Symtab;

/// What is needed of the output.
pub(crate) struct Context<'a, 'd, W> {
    pub(crate) program: &'a Program<'d>,
    pub(crate) plan: &'a Plan,
    pub(crate) relocator: &'a Relocator<'a>,
    pub(crate) symtab: &'a Symtab,
    /// Old section index to new one, 0 for sections that are gone.
    pub(crate) section_map: &'a [u16],
    /// Appended code: start, end, section index.
    pub(crate) appended: Option<(u64, u64, u16)>,
    /// The word at a new address: width 1, 2, 4 or 8, zero-extended.
    pub(crate) word: W,
}

/// A direct branch that emission added: from the field at a new address to an old one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AddedBranch {
    /// New address of its 4-byte field.
    pub(crate) place: u64,
    /// Old address that it leads to.
    pub(crate) target: u64,
    /// Old range of the function that it is part of.
    pub(crate) function: (u64, u64),
}

/// The branches behind blocks that leave their fragment. Those inside of one need no relocation.
pub(crate) fn added_branches(
    program: &Program<'_>,
    plan: &Plan,
    assembled: &Assembled,
    placement: &Placement,
) -> Vec<AddedBranch> {
    let mut branches = Vec::new();
    for (placed, &start) in plan.order.iter().zip(&placement.starts) {
        let fragments = assembled.of(placed.function);
        let Some(fragment) = fragments.and_then(|all| all.get(placed.fragment as usize)) else { continue };
        let function = &program.functions[placed.function];
        let mut pieces = fragment.pieces.iter().filter(|piece| piece.copied && piece.new_len > 0).peekable();
        for fixup in &fragment.fixups {
            while pieces.next_if(|piece| piece.new + piece.new_len <= fixup.offset).is_some() {}
            let is_copied = pieces.peek().is_some_and(|piece| piece.new <= fixup.offset);
            if !is_copied {
                let (place, function) = (start + u64::from(fixup.offset), (function.start, function.end));
                branches.push(AddedBranch { place, target: fixup.target, function });
            }
        }
    }
    branches
}

/// The relocations of the output, by the old index of the section whose bytes they describe; `None` for appended code.
/// Sorted by place.
pub(crate) type Tables = BTreeMap<Option<usize>, Vec<Rela>>;

/// Whether a table is brought up to date: not the tables of debug information and of unwind tables, which are written anew.
pub(crate) fn is_kept(image: &Image<'_>, table: &Section<'_>, unwind_written: bool) -> bool {
    let Some(target) = image.sections().get(table.info as usize) else { return false };
    let is_unwind = target.name == b".eh_frame" || target.name.starts_with(b".gcc_except_table");
    let by_symtab = image.symtab().is_some_and(|symtab| symtab.section == table.link as usize);
    table.kind == elf::SHT_RELA && table.info != 0 && by_symtab && target.is_alloc() && !(is_unwind && unwind_written)
}

/// How a type computes its field: width in bytes, whether the place is subtracted. `None` for those that depend on no address
/// that a layout changes, or on more than symbol, addend and place.
const fn form(kind: u32) -> Option<(u8, bool)> {
    match kind {
        reloc::R64 => Some((8, false)),
        reloc::R32 | reloc::R32S => Some((4, false)),
        reloc::R16 => Some((2, false)),
        reloc::R8 => Some((1, false)),
        reloc::PC64 | reloc::GOTPC64 => Some((8, true)),
        reloc::PC32 | reloc::PLT32 | reloc::GOTPC32 => Some((4, true)),
        reloc::GOTPCREL | reloc::GOTPCRELX | reloc::REX_GOTPCRELX => Some((4, true)),
        reloc::PC16 => Some((2, true)),
        reloc::PC8 => Some((1, true)),
        _ => None,
    }
}

const fn is_got_load(kind: u32) -> bool {
    matches!(kind, reloc::GOTPCREL | reloc::GOTPCRELX | reloc::REX_GOTPCRELX)
}

fn extend(value: u64, width: u8) -> i64 {
    let unused = 64 - 8 * u32::from(width.min(8));
    (value << unused).cast_signed() >> unused
}

/// A relocation's field before and after.
#[derive(Clone, Copy, Debug)]
struct Field {
    old_place: u64,
    old_value: u64,
    new_place: u64,
    new_value: u64,
}

/// What words hold that the dynamic linker writes: the addend of a RELATIVE relocation counts, not the word.
struct Governed {
    /// Sorted: place, old addend, new address of the addend; no addend for other types.
    words: Vec<(u64, Option<(u64, u64)>)>,
}

impl Governed {
    fn read(image: &Image<'_>, relocator: &Relocator<'_>) -> Self {
        let mut words = Vec::new();
        for table in image.dynamic_relocations() {
            let Some(section) = image.sections().get(table) else { continue };
            for (index, rela) in image.rela_table(table).iter().enumerate() {
                let at = relocator.to_new(section.addr).wrapping_add(index as u64 * 24 + 16);
                let relative = matches!(rela.kind, reloc::RELATIVE | reloc::RELATIVE64);
                words.push((rela.offset, relative.then_some((rela.addend.cast_unsigned(), at))));
            }
        }
        words.sort_unstable();
        Self { words }
    }
    fn get(&self, place: u64) -> Option<Option<(u64, u64)>> {
        let at = self.words.binary_search_by_key(&place, |word| word.0).ok()?;
        self.words.get(at).map(|word| word.1)
    }
}

struct Updater<'a, 'd, W> {
    context: &'a Context<'a, 'd, W>,
    governed: Governed,
    /// Functions of the new symbol table, sorted: start, end, index.
    functions: Vec<(u64, u64, u32)>,
    /// Words of jump tables: address and old target, sorted.
    table_words: Vec<(u64, u64)>,
}

/// Brings all tables up to date.
pub(crate) fn update<W>(context: &Context<'_, '_, W>, added: &[AddedBranch], unwind_written: bool) -> Tables
where
    W: Fn(u64, u8) -> Option<u64> + Sync,
{
    let image = context.program.image;
    let mut functions: Vec<(u64, u64, u32)> = (0u32..)
        .zip(context.symtab.symbols.as_chunks::<24>().0)
        .map(|(index, raw)| (index, symbol(raw)))
        .filter(|(_, symbol)| symbol.is_function() && symbol.is_defined() && symbol.size > 0)
        .map(|(index, symbol)| (symbol.value, symbol.value.saturating_add(symbol.size), index))
        .collect();
    functions.sort_unstable();
    let mut table_words: Vec<(u64, u64)> = context
        .program
        .data_refs
        .iter()
        .filter(|word| matches!(word.kind, DataRefKind::Table32 | DataRefKind::Pc32 | DataRefKind::Table64 | DataRefKind::Pc64))
        .map(|word| (word.addr, word.target))
        .collect();
    table_words.sort_unstable();
    let updater = Updater { context, governed: Governed::read(image, context.relocator), functions, table_words };

    let mut tables = Tables::new();
    let mut ends: Vec<Rela> = Vec::new();
    for (table, target) in image.static_relocations() {
        let (Some(section), Some(described)) = (image.sections().get(table), image.sections().get(target)) else { continue };
        if !is_kept(image, section, unwind_written) {
            continue;
        }
        let entries = image.rela_table(table);
        let done: Vec<Result<Option<Rela>, Rela>> = (0..entries.len())
            .into_par_iter()
            .filter_map(|index| entries.get(index))
            .map(|rela| updater.one(rela, described))
            .collect();
        tables.entry(Some(target)).or_default();
        for result in done {
            match result {
                Ok(Some(rela)) => tables.entry(updater.home(rela.offset, target)).or_default().push(rela),
                Ok(None) => {}
                Err(at_end) => ends.push(at_end),
            }
        }
    }
    ends.sort_unstable_by_key(|rela| rela.offset);
    let new: Vec<Rela> = added.par_iter().filter_map(|branch| updater.added(*branch, &ends)).collect();
    for rela in new {
        if let Some(home) = updater.home_of_code(rela.offset) {
            tables.entry(home).or_default().push(rela);
        }
    }
    // Code may have moved into a section whose bytes had no relocations: places are addresses, so any table of code will do.
    let kept = |key: &Option<usize>| {
        key.is_none() || image.static_relocations().any(|(table, target)| {
            Some(target) == *key && image.sections().get(table).is_some_and(|table| is_kept(image, table, unwind_written))
        })
    };
    let homeless: Vec<Option<usize>> = tables.keys().copied().filter(|key| !kept(key)).collect();
    let is_code = |key: &Option<usize>| key.and_then(|key| image.sections().get(key)).is_some_and(Section::is_exec);
    for key in homeless {
        let entries = tables.remove(&key).unwrap_or_default();
        if let Some((_, table)) = tables.iter_mut().find(|(key, _)| is_code(key) && kept(key)) {
            table.extend(entries);
        }
    }
    for table in tables.values_mut() {
        table.par_sort_by_key(|rela| rela.offset);
    }
    tables
}

/// The table as bytes.
pub(crate) fn encode(table: &[Rela]) -> Vec<u8> {
    let mut out = Vec::with_capacity(table.len() * 24);
    for rela in table {
        out.extend(rela.offset.to_le_bytes());
        out.extend((u64::from(rela.symbol) << 32 | u64::from(rela.kind)).to_le_bytes());
        out.extend(rela.addend.to_le_bytes());
    }
    out
}

fn symbol(raw: &[u8; 24]) -> Symbol {
    let number = |from: usize, to: usize| {
        raw.get(from..to).unwrap_or(&[]).iter().rev().fold(0u64, |sum, &byte| sum << 8 | u64::from(byte))
    };
    Symbol {
        name: number(0, 4) as u32,
        info: number(4, 5) as u8,
        other: number(5, 6) as u8,
        section: number(6, 8) as u16,
        value: number(8, 16),
        size: number(16, 24),
    }
}

impl<W: Fn(u64, u8) -> Option<u64> + Sync> Updater<'_, '_, W> {
    /// The old section whose table holds a relocation at that new place.
    fn home(&self, place: u64, target: usize) -> Option<usize> {
        self.home_of_code(place).unwrap_or(Some(target))
    }

    fn home_of_code(&self, place: u64) -> Option<Option<usize>> {
        match self.context.appended {
            Some((start, end, _)) if place >= start && place < end => Some(None),
            _ => self.context.program.image.exec_section_at(place).map(Some),
        }
    }

    fn new_symbol(&self, index: u32) -> Option<Symbol> {
        let at = index as usize * 24;
        self.context.symtab.symbols.get(at..at + 24)?.first_chunk::<24>().map(symbol)
    }

    /// One relocation of the input. `Err` gives it back if its field was in a branch that is written anew.
    fn one(&self, rela: Rela, described: &Section<'_>) -> Result<Option<Rela>, Rela> {
        let image = self.context.program.image;
        let rela = if described.is_exec() { self.moved_field(rela) } else { rela };
        if described.is_exec() && self.is_folded(rela.offset) {
            return Ok(None);
        }
        let range = self.context.relocator.map.range_of(OldAddr::new(rela.offset));
        if range.is_some_and(|range| range.kind == MapKind::Point) {
            return Err(rela);
        }
        let new_place = self.context.relocator.to_new(rela.offset);
        let Some(&index) = self.context.symtab.new_index.get(rela.symbol as usize).filter(|&&index| index != u32::MAX) else {
            return Ok(None);
        };
        let same = Rela { offset: new_place, symbol: index, ..rela };
        if is_got_load(rela.kind) && self.became_direct(rela.offset, new_place) {
            return Ok(self.direct_call(same));
        }
        let from_got = matches!(rela.kind, reloc::GOTOFF64 | reloc::PLTOFF64);
        let width = match form(rela.kind) {
            Some((width, _)) => width,
            None if from_got => 8,
            None => return Ok(Some(same)),
        };
        let word = |place: u64| {
            let bytes = image.bytes_at(place, u64::from(width))?;
            Some(bytes.iter().rev().fold(0u64, |sum, &byte| sum << 8 | u64::from(byte)))
        };
        let governed = if width == 8 { self.governed.get(rela.offset) } else { None };
        let values = match governed {
            Some(Some((old, at))) => (self.context.word)(at, 8).map(|new| (old, new)),
            // The symbol's value is not known before the program runs.
            Some(None) => None,
            None => word(rela.offset).zip((self.context.word)(new_place, width)),
        };
        let Some((old_value, new_value)) = values else { return Ok(Some(same)) };
        if from_got {
            // The table stays: the addend takes what the symbol does not.
            let before = image.symtab().and_then(|table| table.get(rela.symbol as usize)).map_or(0, |symbol| symbol.value);
            let after = self.new_symbol(index).map_or(0, |symbol| symbol.value);
            let moved = new_value.wrapping_sub(old_value).wrapping_sub(after.wrapping_sub(before));
            return Ok(Some(Rela { addend: rela.addend.wrapping_add(moved.cast_signed()), ..same }));
        }
        let field = Field { old_place: rela.offset, old_value, new_place, new_value };
        Ok(Some(self.solve(rela, same, field)))
    }

    /// Whether a place is in a function that another one stands for: that one's relocations are enough.
    fn is_folded(&self, place: u64) -> bool {
        let plan = self.context.program.function_at(place).and_then(|id| self.context.plan.functions.get(id));
        plan.is_some_and(|plan| plan.folded().is_some())
    }

    fn became_direct(&self, old_place: u64, new_place: u64) -> bool {
        let old = self.context.program.image.bytes_at(old_place.wrapping_sub(2), 2);
        let new = (self.context.word)(new_place.wrapping_sub(2), 2);
        old.zip(new).is_some_and(|(old, new)| direct::is_change(old, new))
    }

    /// The relocation of a call that led through the GOT, against the same symbol if that is what it calls.
    fn direct_call(&self, through_got: Rela) -> Option<Rela> {
        let word = (self.context.word)(through_got.offset, 4)?;
        let target = through_got.offset.wrapping_add(4).wrapping_add_signed(extend(word, 4));
        let own = self.new_symbol(through_got.symbol).filter(|symbol| symbol.value == target);
        let (value, symbol) = own.map(|own| (own.value, through_got.symbol)).or_else(|| self.covering(target))?;
        let addend = target.wrapping_sub(value).cast_signed().wrapping_sub(4);
        Some(Rela { symbol, kind: reloc::PLT32, addend, ..through_got })
    }

    /// lld turns `jmp *f@GOTPCREL(%rip)` into `jmp f; nop`, whose field stands a byte in front of where the relocation says.
    fn moved_field(&self, rela: Rela) -> Rela {
        if rela.kind != reloc::GOTPCRELX {
            return rela;
        }
        match self.context.program.image.bytes_at(rela.offset.wrapping_sub(2), 6) {
            Some(&[0xe9, .., 0x90]) => Rela { offset: rela.offset - 1, kind: reloc::PC32, ..rela },
            _ => rela,
        }
    }

    /// `same` with the symbol and the addend that give the new value.
    fn solve(&self, old: Rela, same: Rela, field: Field) -> Rela {
        let Some((width, minus_place)) = form(old.kind) else { return same };
        let symbols = self.context.program.image.symtab();
        let Some(old_symbol) = symbols.and_then(|table| table.get(old.symbol as usize)) else { return same };
        if old_symbol.kind() == elf::STT_TLS {
            return same;
        }
        let full = |value: u64, place: u64, minus: bool| {
            let signed = minus || old.kind != reloc::R32;
            let value = if signed { extend(value, width).cast_unsigned() } else { value };
            if minus { value.wrapping_add(place) } else { value }
        };
        let fits = |base: u64, addend: i64| {
            let sum = old_symbol.value.wrapping_add_signed(addend);
            extend(base, width) == extend(sum, width)
        };
        // What the linker left of a load from the GOT may be the address itself, as an immediate.
        let immediate = is_got_load(old.kind) && fits(full(field.old_value, 0, false), old.addend.wrapping_add(4));
        let minus = minus_place && !immediate;
        let (before, after) =
            (full(field.old_value, field.old_place, minus), full(field.new_value, field.new_place, minus));
        let bias = if immediate { 4 } else { 0 };
        if !fits(before, old.addend.wrapping_add(bias)) {
            // Through the PLT or the GOT, or an instruction that the linker changed. Equal bytes: nothing in them moved.
            let slot_stays = before == after;
            let untouched = field.old_value == field.new_value;
            if slot_stays || untouched {
                return same;
            }
        }
        let addend_for = |value: u64| extend(after.wrapping_sub(value), width).wrapping_sub(bias);
        let Some(new_symbol) = self.new_symbol(same.symbol) else { return same };
        let addend = addend_for(new_symbol.value);
        if addend == old.addend || width < 4 {
            return Rela { addend, ..same };
        }
        let target = self.new_target(field.old_place, after, minus);
        let stays = if new_symbol.kind() == elf::STT_SECTION {
            self.section_of(target).is_none_or(|section| section == new_symbol.section)
        } else {
            target >= new_symbol.value && target - new_symbol.value < new_symbol.size.max(1)
        };
        match self.covering(target).filter(|_| !stays) {
            Some((value, symbol)) => Rela { symbol, addend: addend_for(value), ..same },
            None => Rela { addend, ..same },
        }
    }

    /// The new address that the field designates: `after` but for what the processor or a table's reader adds.
    fn new_target(&self, old_place: u64, after: u64, minus_place: bool) -> u64 {
        if let Ok(at) = self.table_words.binary_search_by_key(&old_place, |word| word.0)
            && let Some(word) = self.table_words.get(at)
        {
            return self.context.relocator.to_new(word.1);
        }
        let in_code = self.context.program.image.exec_section_at(old_place).is_some();
        if minus_place && in_code { after.wrapping_add(4) } else { after }
    }

    /// New index of the section of code at a new address.
    fn section_of(&self, addr: u64) -> Option<u16> {
        match self.home_of_code(addr)? {
            None => self.context.appended.map(|appended| appended.2),
            Some(old) => self.context.section_map.get(old).copied(),
        }
    }

    /// Value and index of the symbol of the function, or part of one, at a new address.
    fn covering(&self, addr: u64) -> Option<(u64, u32)> {
        let upto = self.functions.partition_point(|function| function.0 <= addr);
        let near = self.functions.get(upto.saturating_sub(8)..upto)?;
        near.iter().rev().find(|function| addr < function.1).map(|function| (function.0, function.2))
    }

    /// The relocation of a branch that emission added: that of the old branch if there was one with this target.
    fn added(&self, branch: AddedBranch, ends: &[Rela]) -> Option<Rela> {
        let target = self.context.relocator.to_new(branch.target);
        let new_value = target.wrapping_sub(branch.place.wrapping_add(4)) & 0xffff_ffff;
        let first = ends.partition_point(|rela| rela.offset < branch.function.0);
        let own = ends.get(first..).unwrap_or(&[]).iter().take_while(|rela| rela.offset < branch.function.1);
        for rela in own {
            let (width, distance) = match rela.kind {
                reloc::PC8 => (1u8, -3i64),
                reloc::PC32 | reloc::PLT32 => (4, 0),
                _ => continue,
            };
            let bytes = self.context.program.image.bytes_at(rela.offset, u64::from(width))?;
            let value = extend(bytes.iter().rev().fold(0u64, |sum, &byte| sum << 8 | u64::from(byte)), width);
            if rela.offset.wrapping_add(u64::from(width)).wrapping_add_signed(value) != branch.target {
                continue;
            }
            let kind = if rela.kind == reloc::PC8 { reloc::PC32 } else { rela.kind };
            let old = Rela { kind, addend: rela.addend.wrapping_add(distance), ..*rela };
            let symbol = *self.context.symtab.new_index.get(rela.symbol as usize).filter(|&&index| index != u32::MAX)?;
            let same = Rela { offset: branch.place, symbol, ..old };
            let field = Field {
                old_place: rela.offset,
                old_value: value.wrapping_add(distance).cast_unsigned() & 0xffff_ffff,
                new_place: branch.place,
                new_value,
            };
            return Some(self.solve(old, same, field));
        }
        let (value, symbol) = self.covering(target)?;
        let addend = target.wrapping_sub(value).cast_signed().wrapping_sub(4);
        Some(Rela { offset: branch.place, symbol, kind: reloc::PC32, addend })
    }
}
