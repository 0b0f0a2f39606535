//! Room for more program headers.
//!
//! The table stays right behind the ELF header, where every kernel, `strip` and `objcopy` expect it.
//! When new segments need headers, what stands behind the table (the interpreter's name and notes)
//! moves to the appended read-only segment, and behind them, if that is not enough, the dynamic symbol
//! table and its companions, which only dynamic tags designate. Only when nothing there may move does the table itself go
//! to that segment; see [`Headers::Moved`].

use postlink_cfg::Program;
use rayon::prelude::*;
use postlink_image::{Image, elf, reloc};

/// Where the program header table will be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Headers {
    /// At its old place; these sections (by index) move away for it, as one block.
    InPlace {
        /// The block's old address range, if any moves.
        block: Option<Block>,
    },
    /// In the appended read-only segment, whose address minus file offset then equals the first load
    /// segment's, so that kernels before 5.18, which compute AT_PHDR from that, are right as well.
    Moved,
}

/// Adjacent sections that move together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) sections: Vec<usize>,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) offset: u64,
}

const PHDR_SIZE: u64 = 56;

/// Finds room for `more` program headers.
pub(crate) fn find(program: &Program<'_>, more: u64) -> Headers {
    let image = program.image;
    let table_end = image.header().phoff + image.segments().len() as u64 * PHDR_SIZE;
    let wanted_end = table_end + more * PHDR_SIZE;
    // Sections in file order behind the table.
    let mut behind: Vec<(u64, usize)> = image
        .sections()
        .iter()
        .enumerate()
        .filter(|(_, section)| section.kind != elf::SHT_NULL && section.kind != elf::SHT_NOBITS && section.size > 0)
        .map(|(index, section)| (section.offset, index))
        .filter(|&(offset, _)| offset >= table_end)
        .collect();
    behind.sort_unstable();
    let first_load_end = image
        .segments()
        .iter()
        .find(|segment| segment.kind == elf::PT_LOAD && segment.offset <= image.header().phoff)
        .map_or(0, |segment| segment.offset + segment.filesz);
    let fits = |next: Option<&(u64, usize)>| match next {
        Some(&(offset, _)) => wanted_end <= offset,
        None => wanted_end <= first_load_end,
    };
    // The table must stay inside the first segment, or end where its page's padding is free.
    let page_free = |end: u64| end <= first_load_end.next_multiple_of(0x1000);
    if image.header().phoff != 64 {
        return Headers::Moved;
    }
    if fits(behind.first()) && page_free(wanted_end) {
        return Headers::InPlace { block: None };
    }
    let mut count = 0usize;
    while !fits(behind.get(count)) {
        let Some(&(_, index)) = behind.get(count) else { return Headers::Moved };
        if !may_move(image, index) {
            return Headers::Moved;
        }
        count += 1;
    }
    // A note segment moves whole or not at all.
    loop {
        let Some(block) = block_of(image, behind.get(..count).unwrap_or(&[])) else { return Headers::Moved };
        let cut = image.segments().iter().any(|segment| {
            matches!(segment.kind, elf::PT_NOTE | elf::PT_GNU_PROPERTY | elf::PT_INTERP)
                && segment.vaddr < block.end
                && segment.vaddr + segment.memsz > block.end
        });
        if !cut {
            return if is_referenced(program, &block) {
                Headers::Moved
            } else {
                Headers::InPlace { block: Some(block) }
            };
        }
        match behind.get(count) {
            Some(&(_, index)) if may_move(image, index) => count += 1,
            _ => return Headers::Moved,
        }
    }
}

fn may_move(image: &Image<'_>, index: usize) -> bool {
    image.sections().get(index).is_some_and(|section| {
        section.flags & (elf::SHF_ALLOC | elf::SHF_WRITE | elf::SHF_EXECINSTR) == elf::SHF_ALLOC
            && (section.kind == elf::SHT_NOTE
                || section.name == b".interp"
                || matches!(
                    section.kind,
                    elf::SHT_DYNSYM
                        | elf::SHT_HASH
                        | elf::SHT_GNU_HASH
                        | elf::SHT_GNU_VERSYM
                        | elf::SHT_GNU_VERNEED
                        | elf::SHT_GNU_VERDEF
                ))
    })
}

fn block_of(image: &Image<'_>, behind: &[(u64, usize)]) -> Option<Block> {
    let sections: Vec<usize> = behind.iter().map(|entry| entry.1).collect();
    let first = image.sections().get(*sections.first()?)?;
    let last = image.sections().get(*sections.last()?)?;
    Some(Block { start: first.addr, end: last.addr + last.size, offset: first.offset, sections })
}

/// Whether data or code designates the block by address: then it cannot move unseen.
fn is_referenced(program: &Program<'_>, block: &Block) -> bool {
    let inside = |addr: u64| addr >= block.start && addr < block.end;
    let by_code = (0..program.fixups.len())
        .into_par_iter()
        .any(|index| program.fixups.at(index).iter().any(|fixup| inside(fixup.target)));
    let image = program.image;
    let by_data = image.dynamic_relocations().any(|table| {
        image.rela_table(table).iter().any(|rela| {
            matches!(rela.kind, reloc::RELATIVE | reloc::IRELATIVE) && inside(rela.addend.cast_unsigned())
        })
    });
    let symbols = image.symtab();
    let by_reloc = || {
        image.static_relocations().any(|(table, target)| {
            let loaded = image.sections().get(target).is_some_and(|section| section.is_alloc());
            let relocations = image.rela_table(table);
            loaded
                && (0..relocations.len()).into_par_iter().filter_map(|index| relocations.get(index)).any(|rela| {
                    let value = symbols.as_ref().and_then(|table| table.get(rela.symbol as usize));
                    value.is_some_and(|symbol| {
                        symbol.is_defined() && inside(symbol.value.wrapping_add_signed(rela.addend.max(0)))
                    })
                })
        })
    };
    by_code || by_data || by_reloc()
}
