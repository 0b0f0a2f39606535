//! Are the static relocations that an output kept right? Judged by their formulas, from the two files alone.
//!
//! Symbol + addend (minus the place) must give the word at the place. Where the input's linker wrote relocations that do not,
//! because they go through the PLT or the GOT or because it changed the instruction, the output may have the same.

use std::collections::BTreeSet;

use postlink_image::{Image, Rela, SymbolTable, elf, reloc};
use rayon::prelude::*;

/// What stands where the formula expects the symbol's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The symbol's value.
    Direct,
    /// An address in the PLT or the GOT.
    Slot(u64),
    /// Something else.
    Other,
}

/// A relocation that does not give its word, by what layouts leave alone: name of the symbol, type, addend, slot.
type Exception<'d> = (&'d [u8], u32, i64, u64);

struct Table<'d> {
    image: &'d Image<'d>,
    symbols: SymbolTable<'d>,
    /// Words that the dynamic linker writes, sorted, with the value that RELATIVE gives.
    dynamic: Vec<(u64, Option<u64>)>,
}

/// Judges the relocations of `new`.
///
/// # Errors
/// What is wrong with the first relocation that neither gives its word nor is one of `old`'s exceptions.
pub(crate) fn check(old: &Image<'_>, new: &Image<'_>) -> Result<(), String> {
    let (Some(before), Some(after)) = (Table::read(old), Table::read(new)) else { return Ok(()) };
    let known: BTreeSet<Exception<'_>> = before.exceptions().into_iter().map(|(exception, _)| exception).collect();
    let found = after.exceptions();
    match found.iter().find(|(exception, _)| !known.contains(exception)) {
        None => Ok(()),
        Some(((name, kind, addend, _), place)) => {
            let name = String::from_utf8_lossy(name);
            Err(format!("the relocation of type {kind} at {place:#x}, {name} + {addend:#x}, does not give the word there"))
        }
    }
}

/// Width of the field in bytes, whether the place is subtracted.
const fn form(kind: u32) -> Option<(u8, bool)> {
    match kind {
        reloc::R64 => Some((8, false)),
        reloc::R32 | reloc::R32S => Some((4, false)),
        reloc::PC64 | reloc::GOTPC64 => Some((8, true)),
        reloc::PC32 | reloc::PLT32 | reloc::GOTPC32 | reloc::GOTPCREL | reloc::GOTPCRELX | reloc::REX_GOTPCRELX => {
            Some((4, true))
        }
        _ => None,
    }
}

impl<'d> Table<'d> {
    fn read(image: &'d Image<'d>) -> Option<Self> {
        let tables = image.dynamic_relocations().map(|table| image.rela_table(table));
        let mut dynamic: Vec<(u64, Option<u64>)> = tables
            .flat_map(|table| table.iter())
            .map(|rela| (rela.offset, (rela.kind == reloc::RELATIVE).then_some(rela.addend.cast_unsigned())))
            .collect();
        dynamic.sort_unstable();
        Some(Self { image, symbols: image.symtab()?, dynamic })
    }

    /// Tables that describe loaded sections.
    fn relocations(&self) -> impl Iterator<Item = usize> {
        let loaded = |target: usize| self.image.sections().get(target).is_some_and(postlink_image::Section::is_alloc);
        self.image.static_relocations().filter(move |&(_, target)| loaded(target)).map(|(table, _)| table)
    }

    /// All relocations that do not give their word, with their places.
    fn exceptions(&self) -> Vec<(Exception<'d>, u64)> {
        self.relocations()
            .flat_map(|table| {
                let table = self.image.rela_table(table);
                let judged = (0..table.len()).into_par_iter().filter_map(|index| {
                    let rela = table.get(index)?;
                    let slot = match self.judge(&rela) {
                        Kind::Direct => return None,
                        Kind::Slot(addr) => addr,
                        Kind::Other => 0,
                    };
                    let name = self.symbols.get(rela.symbol as usize).map_or(&b""[..], |symbol| self.symbols.name(&symbol));
                    Some(((name, rela.kind, rela.addend, slot), rela.offset))
                });
                judged.collect::<Vec<_>>()
            })
            .collect()
    }

    /// A type without such a formula, and a word that is not in the file, count as right.
    fn judge(&self, rela: &Rela) -> Kind {
        let Some((width, minus_place)) = form(rela.kind) else { return Kind::Direct };
        let Some(symbol) = self.symbols.get(rela.symbol as usize) else { return Kind::Other };
        let at = self.dynamic.binary_search_by_key(&rela.offset, |word| word.0).ok();
        let governed = at.and_then(|at| self.dynamic.get(at)).filter(|_| width == 8).map(|word| word.1);
        let word = match governed {
            Some(None) => return Kind::Direct,
            Some(value) => value,
            None => self.image.bytes_at(rela.offset, u64::from(width)).map(|bytes| {
                bytes.iter().rev().fold(0u64, |sum, &byte| sum << 8 | u64::from(byte))
            }),
        };
        let Some(word) = word.filter(|_| symbol.kind() != elf::STT_TLS) else { return Kind::Direct };
        let mask = if width == 8 { u64::MAX } else { 0xffff_ffff };
        let place = if minus_place { rela.offset } else { 0 };
        let base = word.wrapping_add(place).wrapping_sub(rela.addend.cast_unsigned()) & mask;
        let is_slot = || {
            let holds = |section: &&postlink_image::Section<'_>| section.is_alloc() && section.contains(base);
            let section = self.image.sections().iter().find(holds);
            section.is_some_and(|section| [&b".plt"[..], b".got", b".iplt"].iter().any(|name| section.name.starts_with(name)))
        };
        if base == symbol.value & mask {
            Kind::Direct
        } else if is_slot() {
            Kind::Slot(base)
        } else {
            Kind::Other
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// A program with a call, a load, a word of data and calls through the PLT.
    fn program() -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let (source, output) = (folder.path().join("p.c"), folder.path().join("p"));
        let text = "#include <stdio.h>\nint number = 7;\n__attribute__((noinline)) int f(int n) { return n + number; }\n\
            int (*volatile pointer)(int) = f;\nint main(void) { puts(\"a\"); return f(1) + pointer(2); }\n";
        std::fs::write(&source, text).unwrap();
        let built = Command::new("gcc").args(["-O2", "-Wl,-q"]).arg(&source).arg("-o").arg(&output).status().unwrap();
        assert!(built.success());
        std::fs::read(output).unwrap()
    }

    #[test]
    fn every_changed_relocation_is_found() {
        let old = program();
        let image = Image::parse(&old).unwrap();
        assert_eq!(check(&image, &image), Ok(()));
        let mut tried = 0;
        for (table, target) in image.static_relocations() {
            let section = &image.sections()[table];
            for (index, rela) in image.rela_table(table).iter().enumerate() {
                if form(rela.kind).is_none() || !image.sections()[target].is_alloc() {
                    continue;
                }
                let at = usize::try_from(section.offset).unwrap() + 24 * index;
                // The addend, and the place.
                for field in [at + 16, at] {
                    let mut new = old.clone();
                    new[field] = new[field].wrapping_add(1);
                    let new = Image::parse(&new).unwrap();
                    let place_matters = field == at + 16 || form(rela.kind).is_some_and(|form| form.1);
                    assert!(!place_matters || check(&image, &new).is_err(), "relocation {index} of table {table}");
                    tried += usize::from(place_matters);
                }
            }
        }
        assert!(tried >= 20, "{tried}");
    }
}
