//! Section and program headers, and the build id.

use postlink_base::{Digest, digest};
use postlink_image::{Segment, build_id, elf};

use super::Assembly;
use super::places::UnwindPlaces;
use crate::headers::{self, NewSection};
use crate::relocator::Relocator;
use crate::room::Headers;
use crate::EmitError;

impl Assembly<'_, '_> {
    pub(super) fn write_headers(
        &mut self,
        sections: &[NewSection],
        section_map: &[u16],
        name_offsets: &[u32],
        relocator: &Relocator<'_>,
        places: &UnwindPlaces,
    ) -> Result<(), EmitError> {
        let image = self.program.image;
        let shoff = self.pad_to(8)?;
        let table = headers::section_headers(sections, section_map, name_offsets);
        self.append(&table)?;
        let segments = self.segments(places);
        let table = headers::program_headers(&segments);
        let phoff = match self.headers {
            Headers::InPlace { .. } => image.header().phoff,
            Headers::Moved => self.read_only_table_offset(table.len() as u64),
        };
        let at = usize::try_from(phoff).unwrap_or(0);
        self.out
            .get_mut(at..at + table.len())
            .ok_or_else(|| EmitError::Room { what: "program headers", why: "the table leaves the file".into() })?
            .copy_from_slice(&table);
        let entry = relocator.to_new(image.header().entry);
        let old_names = image.header().shstrndx as usize;
        let names = section_map.get(old_names).copied().unwrap_or(0);
        let mut put = |at: usize, bytes: &[u8]| {
            if let Some(field) = self.out.get_mut(at..at + bytes.len()) {
                field.copy_from_slice(bytes);
            }
        };
        put(0x18, &entry.to_le_bytes());
        put(0x20, &phoff.to_le_bytes());
        put(0x28, &shoff.to_le_bytes());
        put(0x38, &u16::try_from(segments.len()).unwrap_or(u16::MAX).to_le_bytes());
        put(0x3c, &u16::try_from(sections.len()).unwrap_or(0).to_le_bytes());
        put(0x3e, &names.to_le_bytes());
        Ok(())
    }

    /// The moved program header table is the last thing in the read-only segment.
    pub(super) fn read_only_table_offset(&self, size: u64) -> u64 {
        self.ro_offset + (self.read_only.end - self.read_only.start) - size
    }

    pub(super) fn segments(&self, places: &UnwindPlaces) -> Vec<Segment> {
        let image = self.program.image;
        let mut segments: Vec<Segment> = image.segments().to_vec();
        let extra = u64::from(self.appended_code > 0) + u64::from(self.read_only.is_used());
        let table_size = (segments.len() as u64 + extra) * 56;
        for segment in &mut segments {
            match segment.kind {
                elf::PT_PHDR => {
                    segment.filesz = table_size;
                    segment.memsz = table_size;
                    if self.headers == Headers::Moved {
                        segment.offset = self.read_only_table_offset(table_size);
                        segment.vaddr = self.read_only.end - table_size;
                        segment.paddr = segment.vaddr;
                    }
                }
                elf::PT_GNU_EH_FRAME => {
                    if let Some(hdr) = places.hdr {
                        segment.vaddr = hdr.addr;
                        segment.paddr = hdr.addr;
                        segment.filesz = hdr.size;
                        segment.memsz = hdr.size;
                        segment.offset = self.offset_of(hdr.addr).map_or(0, |offset| offset as u64);
                    }
                }
                elf::PT_INTERP | elf::PT_NOTE | elf::PT_GNU_PROPERTY => {
                    if let Some((block, new)) = &self.moved_block
                        && segment.vaddr >= block.start
                        && segment.vaddr < block.end
                    {
                        let addr = segment.vaddr - block.start + new;
                        segment.vaddr = addr;
                        segment.paddr = addr;
                        segment.offset = self.offset_of(addr).map_or(0, |offset| offset as u64);
                    }
                }
                elf::PT_LOAD if segment.offset == 0 && self.headers != Headers::Moved => {
                    // The table may have grown over the end of a segment that holds only headers.
                    let end = image.header().phoff + table_size;
                    segment.filesz = segment.filesz.max(end);
                    segment.memsz = segment.memsz.max(end);
                }
                _ => {}
            }
        }
        let last_load = segments.iter().rposition(|segment| segment.kind == elf::PT_LOAD).map_or(0, |index| index + 1);
        let mut new = Vec::new();
        if self.appended_code > 0 {
            let flags = elf::PF_R | elf::PF_X;
            new.push(headers::load_segment(flags, self.rx_offset, self.appended_start, self.appended_code));
        }
        if self.read_only.is_used() {
            let size = self.read_only.end - self.read_only.start;
            new.push(headers::load_segment(elf::PF_R, self.ro_offset, self.read_only.start, size));
        }
        segments.splice(last_load..last_load, new);
        segments
    }

    /// Writes a new build id, derived from the content of the whole file with the old id zeroed. Gives that
    /// content's digest.
    pub(super) fn build_id(&mut self) -> Digest {
        let place = build_id(self.program.image).and_then(|(id, offset)| {
            let offset = match &self.moved_block {
                Some((block, new)) if offset >= block.offset && offset < block.offset + (block.end - block.start) => {
                    self.offset_of(*new)? + usize::try_from(offset - block.offset).ok()?
                }
                _ => usize::try_from(offset).ok()?,
            };
            Some(offset..offset.checked_add(id.len())?)
        });
        if let Some(field) = place.clone().and_then(|place| self.out.get_mut(place)) {
            field.fill(0);
        }
        let digest = digest(&self.out);
        if let Some(field) = place.and_then(|place| self.out.get_mut(place)) {
            for (byte, value) in field.iter_mut().zip(digest.0.iter().cycle()) {
                *byte = *value;
            }
        }
        digest
    }
}
