//! The sections of the output: which, in what order, where.

use postlink_image::{Section, elf};

use super::places::{Place, UnwindPlaces};
use super::{Assembly, EmitOptions};
use crate::headers::NewSection;
use crate::static_relocs;

impl Assembly<'_, '_> {
    /// The sections of the output, in order; those that are not loaded have no offset yet. Also the
    /// names of sections that are left out.
    pub(super) fn sections(&self, places: &UnwindPlaces, options: &EmitOptions) -> (Vec<NewSection>, Vec<String>) {
        let image = self.program.image;
        let mut dropped = Vec::new();
        let mut loaded = Vec::new();
        let mut appended = Vec::new();
        let mut rest = Vec::new();
        let mut relocations = Vec::new();
        if self.appended_code > 0 {
            let flags = elf::SHF_ALLOC | elf::SHF_EXECINSTR;
            let (addr, offset, size) = (self.appended_start, self.rx_offset, self.appended_code);
            appended.push(NewSection::fresh(b".text.postlink", elf::SHT_PROGBITS, flags, addr, offset, size, 64));
        }
        for (index, section) in image.sections().iter().enumerate() {
            let mut new = NewSection::kept(index, section);
            if index == 0 {
                loaded.push(new);
                continue;
            }
            if !section.is_alloc() {
                if is_static_relocation(section) {
                    if options.keep_relocs && static_relocs::is_kept(image, section, places.eh_frame.is_some()) {
                        new.info_is_section = true;
                        relocations.push(new);
                    } else if options.keep_relocs {
                        dropped.push(section.display_name().into_owned());
                    }
                    continue;
                }
                if is_debug(section.name) {
                    dropped.push(section.display_name().into_owned());
                    continue;
                }
                rest.push(new);
                continue;
            }
            if let Some(place) = self.new_place(index, section, places) {
                new.addr = place.addr;
                new.size = place.size;
                new.offset = self.offset_of(place.addr).map_or(0, |offset| offset as u64);
                if place.appended {
                    appended.push(new);
                    continue;
                }
            }
            loaded.push(new);
        }
        if let Some(lsda) = places.lsda {
            let offset = self.offset_of(lsda.addr).map_or(0, |offset| offset as u64);
            let name = b".gcc_except_table.postlink";
            appended.push(NewSection::fresh(name, elf::SHT_PROGBITS, elf::SHF_ALLOC, lsda.addr, offset, lsda.size, 4));
        }
        loaded.extend(appended);
        // By address, as strip and objcopy expect it; the null section has address 0 and stays first.
        loaded.sort_by_key(|section| section.addr);
        let at = rest
            .iter()
            .position(|section| matches!(section.kind, elf::SHT_SYMTAB | elf::SHT_STRTAB))
            .unwrap_or(rest.len());
        let mut own = vec![NewSection::fresh(b".note.postlink", elf::SHT_NOTE, 0, 0, 0, 0, 4)];
        if !options.no_map {
            own.push(NewSection::fresh(b".postlink.map", elf::SHT_PROGBITS, 0, 0, 0, 0, 1));
        }
        rest.splice(at..at, own);
        loaded.extend(rest);
        let code = loaded.iter().position(|section| section.old_index.is_none() && section.name == b".text.postlink");
        if let Some(code) = code.filter(|_| !relocations.is_empty()) {
            let mut table = NewSection::fresh(b".rela.text.postlink", elf::SHT_RELA, elf::SHF_INFO_LINK, 0, 0, 0, 8);
            table.info = u32::try_from(code).unwrap_or(0);
            table.old_link = image.symtab().map_or(0, |symtab| u32::try_from(symtab.section).unwrap_or(0));
            table.entsize = 24;
            relocations.push(table);
        }
        loaded.extend(relocations);
        (loaded, dropped)
    }

    /// The new place of a loaded section that moved or changed its size.
    fn new_place(&self, index: usize, section: &Section<'_>, places: &UnwindPlaces) -> Option<Place> {
        if self.program.eh_frame.as_ref().is_some_and(|eh| eh.section == index) {
            return places.eh_frame;
        }
        if section.name == b".eh_frame_hdr" {
            return places.hdr;
        }
        let (block, new) = self.moved_block.as_ref()?;
        block.sections.contains(&index).then(|| Place {
            addr: section.addr - block.start + new,
            size: section.size,
            appended: true,
        })
    }
}

fn is_static_relocation(section: &Section<'_>) -> bool {
    section.kind == elf::SHT_RELA || section.kind == elf::SHT_REL
}

/// Debug information describes addresses that are no longer true.
fn is_debug(name: &[u8]) -> bool {
    [&b".debug"[..], b".zdebug", b".gdb_index", b".stab", b".gnu_debuglink", b".gnu_debugaltlink", b".gnu.debuglto"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}
