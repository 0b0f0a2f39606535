//! Static relocations in the output file, see [`crate::static_relocs`].

use postlink_image::{elf, reloc};
use postlink_layout::Plan;

use super::Assembly;
use super::places::UnwindPlaces;
use crate::headers::NewSection;
use crate::relocator::Relocator;
use crate::{EmitError, static_relocs, symbols};

impl Assembly<'_, '_> {
    /// Writes the new address into words that have a static relocation besides a RELATIVE one, and held the old address.
    /// The dynamic linker does not read them, but who follows static relocations may.
    pub(super) fn relative_words(&mut self, relocator: &Relocator<'_>) {
        let image = self.program.image;
        let tables = image.static_relocations().map(|(table, _)| image.rela_table(table));
        let mut places: Vec<u64> =
            tables.flat_map(|table| table.iter()).filter(|rela| rela.kind == reloc::R64).map(|rela| rela.offset).collect();
        places.sort_unstable();
        for table in image.dynamic_relocations() {
            for rela in image.rela_table(table).iter().filter(|rela| rela.kind == reloc::RELATIVE) {
                let (old, place) = (rela.addend.cast_unsigned(), relocator.to_new(rela.offset));
                let new = relocator.to_new(old);
                let holds_it = || image.bytes_at(rela.offset, 8) == Some(&old.to_le_bytes()[..]);
                if new != old && places.binary_search(&rela.offset).is_ok() && holds_it() {
                    self.store(place, &new.to_le_bytes());
                }
            }
        }
    }

    /// Writes the tables of static relocations. Every loaded byte is final.
    pub(super) fn static_relocations(
        &mut self,
        (plan, relocator): (&Plan, &Relocator<'_>),
        symtab: &symbols::Symtab,
        section_map: &[u16],
        appended_index: Option<u16>,
        places: &UnwindPlaces,
        sections: &mut [NewSection],
    ) -> Result<(), EmitError> {
        let mut tables = {
            let word = |addr: u64, width: u8| {
                let at = self.offset_of(addr)?;
                let bytes = self.out.get(at..at.checked_add(usize::from(width))?)?;
                Some(bytes.iter().rev().fold(0u64, |sum, &byte| sum << 8 | u64::from(byte)))
            };
            let context = static_relocs::Context {
                program: self.program,
                plan,
                relocator,
                symtab,
                section_map,
                appended: appended_index.map(|index| (self.appended_start, self.appended_start + self.appended_code, index)),
                word,
            };
            static_relocs::update(&context, &self.added_branches, places.eh_frame.is_some())
        };
        for section in sections.iter_mut().filter(|section| is_relocation_table(section)) {
            let key = section.old_index.map(|_| section.info as usize);
            let bytes = static_relocs::encode(&tables.remove(&key).unwrap_or_default());
            section.offset = self.pad_to(8)?;
            section.size = bytes.len() as u64;
            self.append(&bytes)?;
        }
        Ok(())
    }
}

/// Whether the output's section holds static relocations.
pub(super) fn is_relocation_table(section: &NewSection) -> bool {
    section.kind == elf::SHT_RELA && section.flags & elf::SHF_ALLOC == 0
}
