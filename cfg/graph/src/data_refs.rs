//! References to code from outside of code: relocated words, dynamic relocations, RELR, the GOT.

use postlink_image::{DynamicTable, Image, Rela, Section, SymbolTable, elf, relr_addresses, reloc};
use rayon::prelude::*;

use crate::code_relocs::is_irrelevant;
use crate::{DataRef, DataRefKind, Evidence};

/// A word with a PC-relative relocation against code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PcWord {
    pub(crate) addr: u64,
    /// The word's content.
    pub(crate) value: i32,
    /// Its size in bytes: 4 or 8.
    pub(crate) width: u8,
}

const _: () = assert!(size_of::<PcWord>() == 16, "there are a million of them");

/// Everything that data says about code, before jump tables are told apart.
#[derive(Default)]
pub(crate) struct DataRefs {
    pub(crate) refs: Vec<DataRef>,
    /// Sorted by address.
    pub(crate) pc_words: Vec<PcWord>,
    /// Code addresses that something may refer to in a way that is not understood.
    pub(crate) doubtful_targets: Vec<u64>,
    /// Places in code that the dynamic linker writes to.
    pub(crate) text_relocations: Vec<u64>,
}

/// Finds all references to code from data. `got_slots` are slots that code reads as the address of a
/// symbol of this file, `inline_words` absolute words between instructions.
pub(crate) fn collect(image: &Image<'_>, got_slots: &[u64], inline_words: &[u64]) -> DataRefs {
    let mut found = DataRefs::default();
    // Words that the dynamic linker writes; sorted.
    let mut governed = dynamic(image, &mut found);
    governed.sort_unstable();
    governed.dedup();
    found.text_relocations = governed.iter().copied().filter(|&addr| image.exec_section_at(addr).is_some()).collect();
    static_relocations(image, &governed, &mut found);
    for &addr in inline_words {
        absolute_word(image, addr, Evidence::Reloc, &mut found);
    }
    for &slot in got_slots {
        if governed.binary_search(&slot).is_err() {
            absolute_word(image, slot, Evidence::Reloc, &mut found);
        }
    }
    for entry in DynamicTable::read(image).entries {
        if matches!(entry.tag, elf::DT_INIT | elf::DT_FINI) && image.exec_section_at(entry.value).is_some() {
            found.refs.push(DataRef {
                file_offset: entry.value_offset,
                addr: 0,
                target: entry.value,
                in_table: 0,
                kind: DataRefKind::Abs64,
                evidence: Evidence::Dynamic,
            });
        }
    }
    // Few sorted runs, which this sort finds.
    found.refs.sort_by_key(|data_ref| (data_ref.file_offset, data_ref.kind, data_ref.evidence));
    found.refs.dedup_by_key(|data_ref| data_ref.file_offset);
    found.pc_words.sort();
    found.pc_words.dedup_by_key(|word| word.addr);
    unexplained_got_words(image, &governed, &mut found);
    found
}

fn absolute_word(image: &Image<'_>, addr: u64, evidence: Evidence, found: &mut DataRefs) {
    let Some(file_offset) = image.offset_of(addr) else { return };
    let Some(target) = read_u64(image, addr) else { return };
    if image.exec_section_at(target).is_some() {
        found.refs.push(DataRef { file_offset, addr, target, in_table: 0, kind: DataRefKind::Abs64, evidence });
    }
}

fn read_u64(image: &Image<'_>, addr: u64) -> Option<u64> {
    image.bytes_at(addr, 8)?.first_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes))
}

/// Dynamic relocations and RELR; returns the addresses of the words that they govern.
fn dynamic(image: &Image<'_>, found: &mut DataRefs) -> Vec<u64> {
    let mut governed = Vec::new();
    for table_index in image.dynamic_relocations() {
        let Some(section) = image.sections().get(table_index) else { continue };
        let symbols = image.symbol_table(section.link as usize);
        for (index, rela) in image.rela_table(table_index).iter().enumerate() {
            governed.push(rela.offset);
            match rela.kind {
                reloc::RELATIVE | reloc::IRELATIVE | reloc::RELATIVE64 => {
                    let target = rela.addend.cast_unsigned();
                    if image.exec_section_at(target).is_none() {
                        continue;
                    }
                    let addend_offset = section.offset + index as u64 * 24 + 16;
                    found.refs.push(DataRef {
                        file_offset: addend_offset,
                        addr: 0,
                        target,
                        in_table: 0,
                        kind: DataRefKind::Abs64,
                        evidence: Evidence::Dynamic,
                    });
                    // The word itself is written over when the program starts; what some linkers store
                    // in it does not matter.
                }
                reloc::R64 | reloc::GLOB_DAT | reloc::JUMP_SLOT => {
                    // The dynamic linker adds the addend to wherever the symbol went: right for the
                    // symbol itself, wrong for a place behind it if the function is rearranged.
                    let symbol = symbols.as_ref().and_then(|table| table.get(rela.symbol as usize));
                    if let Some(symbol) = symbol.filter(|symbol| symbol.is_defined())
                        && image.exec_section_at(symbol.value).is_some()
                        && rela.addend != 0
                        && rela.kind == reloc::R64
                    {
                        found.doubtful_targets.push(symbol.value);
                        found.doubtful_targets.push(symbol.value.wrapping_add_signed(rela.addend));
                    }
                }
                _ => {}
            }
        }
    }
    for section in image.sections().iter().filter(|section| section.is_alloc() && section.kind == elf::SHT_RELR) {
        for addr in relr_addresses(image.section_data(section)) {
            governed.push(addr);
            absolute_word(image, addr, Evidence::Dynamic, found);
        }
    }
    governed
}

/// Sections whose references to code are rewritten by their own writers.
fn has_own_writer(name: &[u8]) -> bool {
    name.starts_with(b".eh_frame") || name.starts_with(b".gcc_except_table")
}

fn static_relocations(image: &Image<'_>, governed: &[u64], found: &mut DataRefs) {
    let Some(symbols) = image.symtab() else { return };
    for (table, target) in image.static_relocations() {
        let Some(section) = image.sections().get(target) else { continue };
        if section.is_exec() || section.kind == elf::SHT_NOBITS || has_own_writer(section.name) {
            continue;
        }
        if !section.is_alloc() {
            unloaded_section(image, table, section, found);
            continue;
        }
        let table = image.rela_table(table);
        let parts: Vec<DataRefs> = (0..table.len().div_ceil(CHUNK))
            .into_par_iter()
            .map(|chunk| {
                let range = chunk * CHUNK..table.len().min((chunk + 1) * CHUNK);
                relocations(image, &symbols, section, range.filter_map(|index| table.get(index)), governed)
            })
            .collect();
        found.refs.reserve_exact(parts.iter().map(|part| part.refs.len()).sum());
        found.pc_words.reserve_exact(parts.iter().map(|part| part.pc_words.len()).sum());
        for part in parts {
            found.refs.extend(part.refs);
            found.pc_words.extend(part.pc_words);
            found.doubtful_targets.extend(part.doubtful_targets);
        }
    }
}

/// Relocations that one thread reads at a time.
const CHUNK: usize = 1 << 15;

/// What some relocations of a loaded section say.
fn relocations(
    image: &Image<'_>,
    symbols: &SymbolTable<'_>,
    section: &Section<'_>,
    relocations: impl Iterator<Item = Rela>,
    governed: &[u64],
) -> DataRefs {
    let mut found = DataRefs::default();
    for rela in relocations {
        if is_irrelevant(rela.kind) || !section.contains(rela.offset) {
            continue;
        }
        let Some(symbol) = symbols.get(rela.symbol as usize) else { continue };
        let nominal = symbol.value.wrapping_add_signed(rela.addend);
        let Some(file_offset) = image.offset_of(rela.offset) else { continue };
        let mut push = |target: u64, kind: DataRefKind| {
            if image.exec_section_at(target).is_some() {
                let addr = rela.offset;
                found.refs.push(DataRef { file_offset, addr, target, in_table: 0, kind, evidence: Evidence::Reloc });
            }
        };
        match rela.kind {
            reloc::R64 => {
                if governed.binary_search(&rela.offset).is_err()
                    && let Some(word) = read_u64(image, rela.offset)
                {
                    push(word, DataRefKind::Abs64);
                }
            }
            reloc::R32 | reloc::R32S => {
                if let Some(word) = read_i32(image, rela.offset) {
                    push(u64::from(word.cast_unsigned()), DataRefKind::Abs32);
                }
            }
            reloc::PC32 | reloc::PLT32 => {
                let Some(value) = read_i32(image, rela.offset) else { continue };
                let relative = rela.offset.wrapping_add_signed(i64::from(value));
                let at_code = |addr: u64| image.exec_section_at(addr).is_some();
                if at_code(relative) || at_code(nominal) || (symbol.is_defined() && at_code(symbol.value)) {
                    found.pc_words.push(PcWord { addr: rela.offset, value, width: 4 });
                }
            }
            reloc::PC64 => {
                let Some(word) = read_u64(image, rela.offset) else { continue };
                let relative = rela.offset.wrapping_add(word);
                let at_code = |addr: u64| image.exec_section_at(addr).is_some();
                if at_code(relative) || at_code(nominal) || (symbol.is_defined() && at_code(symbol.value)) {
                    match i32::try_from(word.cast_signed()) {
                        Ok(value) => found.pc_words.push(PcWord { addr: rela.offset, value, width: 8 }),
                        Err(_) => found.doubtful_targets.extend([relative, nominal]),
                    }
                }
            }
            reloc::GOTOFF64 | reloc::PLTOFF64 => push(nominal, DataRefKind::Delta64),
            reloc::GOTPCREL => {
                if symbol.is_defined()
                    && let Some(value) = read_i32(image, rela.offset)
                {
                    let slot = rela.offset.wrapping_add_signed(i64::from(value) - rela.addend);
                    if governed.binary_search(&slot).is_err() {
                        absolute_word(image, slot, Evidence::Reloc, &mut found);
                    }
                }
            }
            reloc::R16 | reloc::R8 | reloc::PC16 | reloc::PC8 if image.exec_section_at(nominal).is_some() => {
                found.doubtful_targets.push(nominal);
            }
            _ => {}
        }
    }
    found
}

/// Notes that name code and are read from the file only: `.note.stapsdt`, the places of probes.
fn unloaded_section(image: &Image<'_>, table: usize, section: &Section<'_>, found: &mut DataRefs) {
    if section.kind != elf::SHT_NOTE {
        return;
    }
    for rela in image.rela_table(table).iter().filter(|rela| rela.kind == reloc::R64) {
        let offset = rela.offset.wrapping_sub(section.addr);
        let Some(word) = usize::try_from(offset).ok().and_then(|at| image.section_data(section).get(at..)) else {
            continue;
        };
        let Some(target) = word.first_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes)) else { continue };
        if image.exec_section_at(target).is_some() {
            let file_offset = section.offset + offset;
            let evidence = Evidence::Reloc;
            found.refs.push(DataRef { file_offset, addr: 0, target, in_table: 0, kind: DataRefKind::Abs64, evidence });
        }
    }
}

fn read_i32(image: &Image<'_>, addr: u64) -> Option<i32> {
    image.bytes_at(addr, 4)?.first_chunk::<4>().map(|bytes| i32::from_le_bytes(*bytes))
}

/// Words of the GOT that look like code addresses but that nothing explains: what they designate
/// must stay where it is. (Linkers keep no relocations for the GOT itself.)
fn unexplained_got_words(image: &Image<'_>, governed: &[u64], found: &mut DataRefs) {
    let explained: Vec<u64> = {
        let mut addrs: Vec<u64> = found.refs.iter().map(|data_ref| data_ref.addr).collect();
        addrs.sort_unstable();
        addrs
    };
    for section in image.sections().iter().filter(|section| section.name.starts_with(b".got") && section.is_alloc()) {
        for (index, word) in image.section_data(section).as_chunks::<8>().0.iter().enumerate() {
            let addr = section.addr + index as u64 * 8;
            let value = u64::from_le_bytes(*word);
            if image.exec_section_at(value).is_some()
                && governed.binary_search(&addr).is_err()
                && explained.binary_search(&addr).is_err()
            {
                found.doubtful_targets.push(value);
            }
        }
    }
}
