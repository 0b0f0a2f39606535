//! Dynamic relocations.

use postlink_image::{Image, RelaTable, Symbol, SymbolTable, elf, relr_addresses, reloc};

use crate::proof::{Findings, Obligation};
use crate::references::{References, counterpart};

/// The loaded relocation tables of the old file.
pub(crate) struct DynamicRelocations {
    /// Addresses of the words that a RELA relocation overwrites, sorted.
    overwritten: Vec<u64>,
    /// Section indexes of the tables.
    tables: Vec<usize>,
    /// Fields in code that a relocation of any kind writes: address and size.
    in_code: Vec<(u64, u64)>,
}

impl DynamicRelocations {
    pub(crate) fn read(old: &Image<'_>) -> Self {
        let tables: Vec<usize> = old.dynamic_relocations().collect();
        let mut overwritten: Vec<u64> =
            tables.iter().flat_map(|&table| old.rela_table(table).iter().map(|relocation| relocation.offset)).collect();
        overwritten.sort_unstable();
        let relr = old.sections().iter().filter(|section| section.is_alloc() && section.kind == elf::SHT_RELR);
        let compact = relr.flat_map(|section| relr_addresses(old.section_data(section)));
        let entries = tables.iter().flat_map(|&table| old.rela_table(table).iter());
        let fields = entries.map(|entry| (entry.offset, if is_short(entry.kind) { 4 } else { 8 }));
        let is_code = |field: &(u64, u64)| old.exec_section_at(field.0).is_some();
        let in_code = fields.chain(compact.map(|addr| (addr, 8))).filter(is_code).collect();
        Self { overwritten, tables, in_code }
    }

    /// Whether a RELA relocation overwrites the word at `addr`.
    pub(crate) fn covers(&self, addr: u64) -> bool {
        self.overwritten.binary_search(&addr).is_ok()
    }

    /// Whether section `index` is one of the tables.
    pub(crate) fn is_table(&self, index: usize) -> bool {
        self.tables.contains(&index)
    }

    /// All code addresses that the relocations will store.
    pub(crate) fn targets(&self, old: &Image<'_>) -> Vec<u64> {
        let relocations = self.tables.iter().flat_map(|&table| old.rela_table(table).iter());
        relocations.filter(|relocation| is_relative(relocation.kind)).map(|relocation| relocation.addend.cast_unsigned()).collect()
    }

    /// The addresses that relocations against symbols of this file store, if nobody else defines them.
    pub(crate) fn symbol_targets<'a>(&'a self, old: &'a Image<'_>) -> impl Iterator<Item = u64> + 'a {
        let relocations = self.tables.iter().flat_map(|&table| old.rela_table(table).iter());
        relocations.filter_map(|relocation| {
            let symbol = old.dynsym()?.get(relocation.symbol as usize)?;
            symbol.is_defined().then(|| symbol.value.wrapping_add_signed(relocation.addend))
        })
    }

    /// Compares the tables entry by entry.
    pub(crate) fn check(&self, old: &Image<'_>, new: &Image<'_>, references: &References<'_, '_>, findings: &mut Findings) {
        for &index in &self.tables {
            let before = old.rela_table(index);
            let section = old.sections().get(index);
            let after = section.and_then(|_| {
                let found = counterpart(old, new, index)?;
                let index = new.sections().iter().position(|section| std::ptr::eq(section, found))?;
                Some((new.rela_table(index), found.addr))
            });
            let name = section.map_or_else(String::new, |section| section.display_name().into_owned());
            let Some((after, addr)) = after else {
                let texts = (name, String::new());
                findings.fail(Obligation::Pointers, "dynamic-relocations", (None, None), texts, "the table is gone");
                continue;
            };
            if after.len() != before.len() || section.is_some_and(|section| references.expected(section.addr) != addr) {
                let texts = (format!("{name}: {} entries", before.len()), format!("{} entries", after.len()));
                findings.fail(Obligation::Pointers, "dynamic-relocations", (None, Some(addr)), texts, "the table differs in place or length");
            }
            self.check_table(old, before, after, references, findings);
        }
        self.check_code(references, findings);
    }

    /// The tables name places in code by the old addresses, which must hold the old fields then.
    fn check_code(&self, references: &References<'_, '_>, findings: &mut Findings) {
        for &(addr, width) in &self.in_code {
            findings.checked.pointers += 1;
            if let Some(moved) = (addr..addr.saturating_add(width)).find(|&at| references.expected(at) != at) {
                let addrs = (Some(moved), Some(references.expected(moved)));
                let texts = (format!("relocation at {addr:#x}"), String::new());
                findings.fail(Obligation::Pointers, "text-relocation", addrs, texts, "the dynamic linker writes into code that moved");
            }
        }
    }

    fn check_table(
        &self,
        old: &Image<'_>,
        before: RelaTable<'_>,
        after: RelaTable<'_>,
        references: &References<'_, '_>,
        findings: &mut Findings,
    ) {
        let symbols = old.dynsym();
        for (old_entry, new_entry) in before.iter().zip(after.iter()) {
            findings.checked.pointers += 1;
            let addend = old_entry.addend.cast_unsigned();
            let expected = if is_relative(old_entry.kind) {
                references.expected(addend)
            } else {
                symbolic_addend(symbols, old_entry.kind, old_entry.symbol, addend, references)
            };
            let expected_entry = postlink_image::Rela { addend: expected.cast_signed(), ..old_entry };
            if is_relative(old_entry.kind) && references.loses_low_bit(addend) {
                findings.lost_low_bit(Obligation::Pointers, addend, expected);
            }
            if new_entry != expected_entry {
                let text = |entry: &postlink_image::Rela| {
                    format!("type {} symbol {} addend {:#x} at {:#x}", entry.kind, entry.symbol, entry.addend, entry.offset)
                };
                let addrs = (Some(old_entry.offset), Some(new_entry.offset));
                let message = format!("the relocation must be: {}", text(&expected_entry));
                findings.fail(Obligation::Pointers, "dynamic-relocation", addrs, (text(&old_entry), text(&new_entry)), &message);
            }
        }
    }
}

/// Relocations whose addend is an address.
const fn is_relative(kind: u32) -> bool {
    matches!(kind, reloc::RELATIVE | reloc::IRELATIVE | reloc::RELATIVE64)
}

/// Relocations of four bytes.
const fn is_short(kind: u32) -> bool {
    matches!(kind, reloc::PC32 | reloc::PLT32 | reloc::R32 | reloc::R32S)
}

/// A symbol plus an addend may designate the inside of a function that moved in pieces.
fn symbolic_addend(
    symbols: Option<SymbolTable<'_>>,
    kind: u32,
    symbol: u32,
    addend: u64,
    references: &References<'_, '_>,
) -> u64 {
    let symbol: Option<Symbol> = symbols.and_then(|table| table.get(symbol as usize));
    match symbol {
        Some(symbol) if addend != 0 && symbol.is_function() && symbol.is_defined() && kind == reloc::R64 => {
            references.expected(symbol.value.wrapping_add(addend)).wrapping_sub(references.expected(symbol.value))
        }
        _ => addend,
    }
}
