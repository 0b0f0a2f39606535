//! What is written last: sections that are not loaded, and words that designate code.

use postlink_base::AddressMap;
use postlink_image::{DynamicTable, elf};
use postlink_layout::Plan;
use rayon::prelude::*;

use super::places::UnwindPlaces;
use super::relocs::is_relocation_table;
use super::{Assembly, EmitOptions, PAGE, loads};
use crate::headers::{self, NewSection};
use crate::relocator::Relocator;
use crate::{EmitError, code, symbols};

impl Assembly<'_, '_> {
    /// Everything that is not loaded, and all headers. Gives the names of sections that are left out, and the encoded map.
    pub(super) fn finish(
        &mut self,
        plan: &Plan,
        assembled: &code::Assembled,
        relocator: &Relocator<'_>,
        places: &UnwindPlaces,
        map: &AddressMap,
        options: &EmitOptions,
    ) -> Result<(Vec<String>, Vec<u8>), EmitError> {
        let image = self.program.image;
        if let Some((block, new)) = &self.moved_block {
            let (new, size) = (*new, block.end - block.start);
            let old = image.bytes_at(block.start, size).unwrap_or(&[]).to_vec();
            if let Some(offset) = self.image().offset_of(block.start).and_then(|offset| usize::try_from(offset).ok())
                && let Some(bytes) = self.out.get_mut(offset..offset + old.len())
            {
                bytes.fill(0);
            }
            self.store(new, &old);
        }
        let (mut sections, dropped) = self.sections(places, options);
        let map_of_sections = headers::section_map(image.sections().len(), &sections);
        let appended_index = sections
            .iter()
            .position(|section| section.name == b".text.postlink" && section.old_index.is_none())
            .and_then(|index| u16::try_from(index).ok());
        let section_addrs: Vec<(usize, u64)> = sections
            .iter()
            .filter_map(|section| {
                let old = section.old_index?;
                let changed = image.sections().get(old).is_some_and(|old| old.addr != section.addr);
                changed.then_some((old, section.addr))
            })
            .collect();
        let context = symbols::Context {
            program: self.program,
            plan,
            assembled,
            relocator,
            section_map: &map_of_sections,
            appended_code: appended_index
                .map(|index| (self.appended_start, self.appended_start + self.appended_code, index)),
            section_addrs: &section_addrs,
            fragment_starts: symbols::fragment_starts(plan, assembled, self.placement),
        };
        if let Some(table) = image.dynsym() {
            let bytes = symbols::dynsym(&context, &table);
            if let Some(section) = image.sections().get(table.section) {
                self.store(self.block_addr(section.addr), &bytes);
            }
            self.dynamic_tags();
        }
        let (symtab, encoded_map) = rayon::join(
            || image.symtab().map(|table| (table.section, symbols::symtab(&context, &table))),
            || map.encode(),
        );
        drop(context);
        let strtab_index = symtab
            .as_ref()
            .and_then(|(index, _)| image.sections().get(*index))
            .map(|section| section.link as usize);

        // Contents of sections that are not loaded, in order.
        let (names, name_offsets) = headers::section_names(&sections);
        for section in &mut sections {
            // Relocations depend on what is written last; see below.
            if section.flags & elf::SHF_ALLOC != 0 || section.kind == elf::SHT_NULL || is_relocation_table(section) {
                continue;
            }
            let mut more: &[u8] = &[];
            let content: &[u8] = match section.old_index {
                Some(old) if Some(old) == symtab.as_ref().map(|(index, _)| *index) => {
                    symtab.as_ref().map_or(&[], |(_, symtab)| &symtab.symbols)
                }
                Some(old) if Some(old) == strtab_index => {
                    more = symtab.as_ref().map_or(&[], |(_, symtab)| &symtab.more_strings);
                    image.symtab().map_or(&[], |table| table.strings())
                }
                Some(old) if old == image.header().shstrndx as usize => &names,
                Some(old) => image.sections().get(old).map_or(&[], |old| image.section_data(old)),
                None if section.name == b".postlink.map" => &encoded_map,
                None => &options.note,
            };
            let align = section.align.clamp(1, PAGE);
            let is_symtab = section.kind == elf::SHT_SYMTAB;
            let is_note = section.old_index.is_none() && section.name == b".note.postlink";
            let size = (content.len() + more.len()) as u64;
            let offset = self.pad_to(align)?;
            if is_note {
                self.note_offset = self.out.len();
            }
            self.append(content)?;
            self.append(more)?;
            section.offset = offset;
            section.size = size;
            if is_symtab && let Some((_, symtab)) = &symtab {
                section.info = symtab.locals;
            }
        }
        self.patch_words(relocator, &sections)?;
        if let Some((_, symtab)) = symtab.as_ref().filter(|_| options.keep_relocs) {
            self.relative_words(relocator);
            self.static_relocations((plan, relocator), symtab, &map_of_sections, appended_index, places, &mut sections)?;
        }
        self.write_headers(&sections, &map_of_sections, &name_offsets, relocator, places)?;
        Ok((dropped, encoded_map))
    }

    /// The new address of something that may stand in the moved block.
    pub(super) fn block_addr(&self, addr: u64) -> u64 {
        match &self.moved_block {
            Some((block, new)) if addr >= block.start && addr < block.end => addr - block.start + new,
            _ => addr,
        }
    }

    /// Dynamic tags that designate tables in the moved block.
    pub(super) fn dynamic_tags(&mut self) {
        const TABLES: [u64; 7] =
            [elf::DT_HASH, elf::DT_STRTAB, elf::DT_SYMTAB, 0x6fff_fef5, 0x6fff_fff0, 0x6fff_fffc, 0x6fff_fffe];
        for entry in DynamicTable::read(self.program.image).entries {
            let new = self.block_addr(entry.value);
            if !TABLES.contains(&entry.tag) || new == entry.value {
                continue;
            }
            let at = usize::try_from(entry.value_offset).unwrap_or(usize::MAX);
            if let Some(field) = at.checked_add(8).and_then(|end| self.out.get_mut(at..end)) {
                field.copy_from_slice(&new.to_le_bytes());
            }
        }
    }

    /// Words outside of code that designate code.
    pub(super) fn patch_words(&mut self, relocator: &Relocator<'_>, sections: &[NewSection]) -> Result<(), EmitError> {
        /// Words whose targets are held at a time.
        const BATCH: usize = 1 << 16;
        let image = self.program.image;
        let loaded_end = loads(image).map(|segment| segment.offset + segment.filesz).max().unwrap_or(0);
        // Where they lead is looked up by all threads.
        let batches = self.program.data_refs.chunks(BATCH).flat_map(|batch| {
            let targets: Vec<u64> = batch.par_iter().map(|data_ref| relocator.to_new(data_ref.target)).collect();
            batch.iter().zip(targets)
        });
        for (data_ref, target) in batches {
            let offset = if data_ref.file_offset < loaded_end {
                Some(data_ref.file_offset)
            } else {
                // A section that is not loaded has a new place in the file.
                sections.iter().find_map(|section| {
                    let old = image.sections().get(section.old_index?)?;
                    let inside = data_ref.file_offset >= old.offset && data_ref.file_offset - old.offset < old.size;
                    // .bss has a size but no bytes in the file: its offsets are those of what follows.
                    let in_file = !old.is_alloc() && old.kind != elf::SHT_NOBITS;
                    (inside && in_file).then(|| data_ref.file_offset - old.offset + section.offset)
                })
            };
            let Some(offset) = offset.and_then(|offset| usize::try_from(offset).ok()) else { continue };
            Relocator::patch_data(&mut self.out, offset, data_ref, target).ok_or(EmitError::Field {
                offset: data_ref.file_offset,
                width: 4,
                target: data_ref.target,
            })?;
        }
        Ok(())
    }
}
