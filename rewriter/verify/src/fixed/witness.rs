//! Static relocations of code, found by address where the linker left them.

use postlink_image::{Image, RelaTable, SymbolTable, elf, reloc};
use rayon::prelude::*;

/// A field of four or eight bytes that holds what a relocation says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Witness {
    /// Address of the field.
    pub(super) addr: u64,
    pub(super) width: u8,
    /// Whether it holds the distance from itself, not the address.
    pub(super) is_relative: bool,
    /// What it has to hold in the old file: symbol and addend, less its own address if it is relative.
    pub(super) value: u64,
}

/// Tables of relocations of code in their order of addresses. Linkers write them by input section, so a table has a few
/// ascending runs at most; one with more is left out, and nothing that it says is known.
pub(crate) struct Witnesses<'d> {
    runs: Vec<Run<'d>>,
}

struct Run<'d> {
    table: RelaTable<'d>,
    symbols: Option<SymbolTable<'d>>,
    from: usize,
    to: usize,
    /// First and last address.
    low: u64,
    high: u64,
}

/// For each run, a place in it.
#[derive(Default)]
pub(super) struct Near(Vec<usize>);

impl Run<'_> {
    /// Index of the first relocation whose address is not below `addr`, looked for from `near` on.
    fn before(&self, addr: u64, near: usize) -> usize {
        let is_before = |at: usize| self.table.get(at).is_some_and(|relocation| relocation.offset < addr);
        let (mut low, mut high) = (self.from, self.to);
        if near > low && near < high && is_before(near - 1) {
            let mut step = 1;
            low = near;
            while low + step < self.to && is_before(low + step) {
                low += step;
                step *= 2;
            }
            high = (low + step).min(self.to);
        }
        while low < high {
            let middle = low.midpoint(high);
            if is_before(middle) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }
}

const RUNS_MAX: usize = 200;
const CHUNK: usize = 1 << 14;

/// Width of the widest field.
const WIDTH_MAX: u64 = 8;

impl<'d> Witnesses<'d> {
    pub(crate) fn new(old: &Image<'d>) -> Self {
        let mut runs = Vec::new();
        for (table, target) in old.static_relocations() {
            if !old.sections().get(target).is_some_and(|section| section.is_exec()) {
                continue;
            }
            let link = old.sections().get(table).map_or(0, |section| section.link);
            let (table, symbols) = (old.rela_table(table), old.symbol_table(link as usize));
            let addr = |index: usize| table.get(index).map_or(0, |relocation| relocation.offset);
            let mut bounds: Vec<usize> = (0..table.len().div_ceil(CHUNK))
                .into_par_iter()
                .flat_map_iter(|chunk| {
                    let breaks = (chunk * CHUNK).max(1)..((chunk + 1) * CHUNK).min(table.len());
                    breaks.filter(|&index| addr(index) < addr(index - 1)).take(RUNS_MAX)
                })
                .collect();
            if table.is_empty() || bounds.len() >= RUNS_MAX {
                continue;
            }
            bounds.insert(0, 0);
            bounds.push(table.len());
            runs.extend(bounds.windows(2).filter_map(|bounds| {
                let &[from, to] = bounds else { return None };
                Some(Run { table, symbols, from, to, low: addr(from), high: addr(to.checked_sub(1)?) })
            }));
        }
        Self { runs }
    }

    /// The fields that hold a byte of `from..to` and that hold what their relocation says; `holds` tells
    /// whether the old file has that value in a field.
    ///
    /// `near` is where the last search ended, which spares most of one for an address behind it.
    pub(super) fn within(&self, near: &mut Near, from: u64, to: u64, holds: impl Fn(&Witness) -> bool) -> Found {
        let mut found = Found { one: None, count: 0 };
        let first = from.saturating_sub(WIDTH_MAX - 1);
        near.0.resize(self.runs.len(), 0);
        for (run, near) in self.runs.iter().zip(&mut near.0).filter(|(run, _)| run.low < to && run.high >= first) {
            let low = run.before(first, *near);
            *near = low;
            for index in low..run.to {
                let Some(relocation) = run.table.get(index).filter(|relocation| relocation.offset < to) else { break };
                let (width, is_relative) = match relocation.kind {
                    reloc::PC32 | reloc::PLT32 | reloc::GOTPCREL | reloc::GOTPCRELX | reloc::REX_GOTPCRELX => (4, true),
                    reloc::R32 | reloc::R32S => (4, false),
                    reloc::R64 => (8, false),
                    _ => continue,
                };
                if relocation.offset.saturating_add(u64::from(width)) <= from {
                    continue;
                }
                let symbol = run.symbols.and_then(|table| table.get(relocation.symbol as usize));
                let Some(symbol) = symbol.filter(|symbol| symbol.is_defined() && symbol.kind() != elf::STT_TLS) else { continue };
                let target = symbol.value.wrapping_add_signed(relocation.addend);
                let value = if is_relative { target.wrapping_sub(relocation.offset) } else { target };
                let witness = Witness { addr: relocation.offset, width, is_relative, value };
                if holds(&witness) {
                    found.one = Some(witness);
                    found.count += 1;
                }
            }
        }
        found
    }
}

/// Fields that hold one of a few bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    one: Option<Witness>,
    count: usize,
}

impl Found {
    /// The field, if there is one and no other.
    pub(super) const fn only(&self) -> Option<Witness> {
        if self.count == 1 { self.one } else { None }
    }
}
