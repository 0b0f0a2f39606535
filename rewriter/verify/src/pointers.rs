//! P2: words of data that hold code addresses, and the journal of all other bytes.

mod dynamic;
mod journal;

use postlink_image::{DynamicTable, Image, elf, relr_addresses};
use rayon::prelude::*;

use crate::code::CodeView;
use crate::proof::{Findings, Obligation};
use crate::references::References;
use crate::relocations::{StaticRelocations, Word};
use crate::walk::little;

pub(crate) use dynamic::DynamicRelocations;
pub(crate) use journal::check_data;

/// One word of data whose value is an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Pointer {
    /// Where the word stands.
    pub(crate) addr: u64,
    /// Its size in bytes: 4 or 8.
    pub(crate) width: u8,
    /// The dynamic linker overwrites the word, so its value in the file may stay.
    pub(crate) is_overwritten: bool,
    /// The address it holds.
    pub(crate) target: u64,
}

/// All words of the old file's data that hold an address, sorted and without duplicates.
pub(crate) fn collect(
    old: &Image<'_>,
    relocations: &StaticRelocations,
    dynamic: &DynamicRelocations,
    code: &CodeView<'_>,
) -> Vec<Pointer> {
    let read = |word: &Word| {
        let value = little(old.bytes_at(word.addr, u64::from(word.width))?);
        let target = if word.signed { i64::from(value as u32 as i32).cast_unsigned() } else { value };
        Some(Pointer { addr: word.addr, width: word.width, is_overwritten: dynamic.covers(word.addr), target })
    };
    let mut pointers: Vec<Pointer> = relocations.words.par_iter().filter_map(read).collect();
    let mut add_word = |addr: u64, only_code: bool| {
        let Some(target) = old.bytes_at(addr, 8).map(little) else { return };
        if !only_code || code.contains(target) {
            pointers.push(Pointer { addr, width: 8, is_overwritten: dynamic.covers(addr), target });
        }
    };
    for section in old.sections().iter().filter(|section| section.is_alloc()) {
        if section.kind == elf::SHT_RELR {
            relr_addresses(old.section_data(section)).into_iter().for_each(|addr| add_word(addr, false));
        }
        // The linker made these words itself and left no relocation. In a file that is not
        // position-independent they are addresses; in one that is, every address has a dynamic
        // relocation.
        let is_table = matches!(section.kind, elf::SHT_INIT_ARRAY | elf::SHT_FINI_ARRAY | elf::SHT_PREINIT_ARRAY)
            || section.name.starts_with(b".got")
            || section.name == b".igot.plt";
        if is_table && old.header().kind == elf::ET_EXEC && section.kind != elf::SHT_NOBITS {
            (0..section.size / 8).for_each(|index| add_word(section.addr.wrapping_add(index * 8), true));
        }
    }
    // The first part is sorted already.
    pointers.par_sort();
    pointers.dedup_by_key(|pointer| pointer.addr);
    pointers
}

/// Checks each pointer in the new file. Gives the words that may differ from the old file.
pub(crate) fn check(
    new: &Image<'_>,
    pointers: &[Pointer],
    references: &References<'_, '_>,
    findings: &mut Findings,
) -> Vec<(u64, u8)> {
    let parts: Vec<(Vec<(u64, u8)>, Findings)> = pointers
        .par_chunks(8192)
        .map(|pointers| {
            let (mut explained, mut findings) = (Vec::new(), Findings::default());
            for pointer in pointers {
                if check_one(new, pointer, references, &mut findings) {
                    explained.push((pointer.addr, pointer.width));
                }
            }
            (explained, findings)
        })
        .collect();
    let mut explained = Vec::new();
    for (more, part) in parts {
        explained.extend(more);
        findings.merge(part);
    }
    explained
}

/// Checks one pointer. Whether the word may differ from the old file.
fn check_one(new: &Image<'_>, pointer: &Pointer, references: &References<'_, '_>, findings: &mut Findings) -> bool {
    findings.checked.pointers += 1;
    let mask = if pointer.width == 4 { 0xffff_ffff } else { u64::MAX };
    let old_value = pointer.target & mask;
    let expected = references.expected(pointer.target) & mask;
    let place = references.expected(pointer.addr);
    let found = new.bytes_at(place, u64::from(pointer.width)).map(little);
    if found == Some(expected) {
        if references.loses_low_bit(pointer.target) {
            findings.lost_low_bit(Obligation::Pointers, pointer.target, expected);
        }
        return expected != old_value;
    }
    if found == Some(old_value) && (pointer.is_overwritten || references.may_keep(pointer.target)) {
        return false;
    }
    findings.fail(
        Obligation::Pointers,
        "pointer",
        (Some(pointer.addr), Some(place)),
        (format!("{old_value:#x}"), found.map_or_else(|| "(no data)".to_owned(), |value| format!("{value:#x}"))),
        &format!("a word that holds an address must hold {expected:#x}"),
    );
    true
}

/// Tags whose value is an address (gABI, figure 5-10, and the GNU extensions).
const fn is_address(tag: u64) -> bool {
    const DT_GNU_HASH: u64 = 0x6fff_fef5;
    const DT_VERSYM: u64 = 0x6fff_fff0;
    const DT_VERDEF: u64 = 0x6fff_fffc;
    const DT_VERNEED: u64 = 0x6fff_fffe;
    matches!(
        tag,
        elf::DT_PLTGOT
            | elf::DT_HASH
            | elf::DT_STRTAB
            | elf::DT_SYMTAB
            | elf::DT_RELA
            | elf::DT_INIT
            | elf::DT_FINI
            | elf::DT_REL
            | elf::DT_JMPREL
            | elf::DT_INIT_ARRAY
            | elf::DT_FINI_ARRAY
            | elf::DT_PREINIT_ARRAY
            | elf::DT_RELR
            | DT_GNU_HASH
            | DT_VERSYM
            | DT_VERDEF
            | DT_VERNEED
    )
}

/// The dynamic section: tags in order, addresses mapped, all other values unchanged.
pub(crate) fn check_tags(old: &Image<'_>, new: &Image<'_>, references: &References<'_, '_>, findings: &mut Findings) {
    let rule = "dynamic-tag";
    let unused = |image: &Image<'_>, used: usize| {
        let segment = image.segment(elf::PT_DYNAMIC)?;
        Some(image.bytes_at(segment.vaddr, segment.filesz)?.get(used * 16..)?.to_vec())
    };
    let (old_image, new_image) = (old, new);
    let (old, new) = (DynamicTable::read(old), DynamicTable::read(new));
    if unused(old_image, old.entries.len()) != unused(new_image, new.entries.len()) {
        let texts = (String::new(), String::new());
        findings.fail(Obligation::Pointers, rule, (None, None), texts, "bytes behind the last dynamic tag differ");
    }
    if old.entries.len() != new.entries.len() {
        let texts = (old.entries.len().to_string(), new.entries.len().to_string());
        findings.fail(Obligation::Pointers, rule, (None, None), texts, "the number of dynamic tags differs");
    }
    for (old, new) in old.entries.iter().zip(&new.entries) {
        findings.checked.pointers += 1;
        let expected = if is_address(old.tag) { references.expected(old.value) } else { old.value };
        if new.tag != old.tag || new.value != expected {
            let text = |tag: u64, value: u64| format!("tag {tag:#x} = {value:#x}");
            let texts = (text(old.tag, old.value), text(new.tag, new.value));
            let message = format!("the value must be {expected:#x}");
            findings.fail(Obligation::Pointers, rule, (Some(old.value), Some(new.value)), texts, &message);
        }
    }
}
