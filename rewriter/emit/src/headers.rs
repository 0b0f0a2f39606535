//! Section and program headers of the output.

use postlink_image::{Section, Segment, elf};

/// A section of the output.
#[derive(Clone, Debug)]
pub(crate) struct NewSection {
    pub(crate) name: Vec<u8>,
    pub(crate) kind: u32,
    pub(crate) flags: u64,
    pub(crate) addr: u64,
    pub(crate) offset: u64,
    pub(crate) size: u64,
    /// `sh_link` as an old section index, or 0.
    pub(crate) old_link: u32,
    /// `sh_info`: an old section index if `info_is_section`, else a number.
    pub(crate) info: u32,
    pub(crate) info_is_section: bool,
    pub(crate) align: u64,
    pub(crate) entsize: u64,
    /// The old section that this is, if any.
    pub(crate) old_index: Option<usize>,
}

impl NewSection {
    /// The old section, unchanged.
    pub(crate) fn kept(index: usize, section: &Section<'_>) -> Self {
        Self {
            name: section.name.to_vec(),
            kind: section.kind,
            flags: section.flags,
            addr: section.addr,
            offset: section.offset,
            size: section.size,
            old_link: section.link,
            info: section.info,
            info_is_section: section.flags & elf::SHF_INFO_LINK != 0,
            align: section.align,
            entsize: section.entsize,
            old_index: Some(index),
        }
    }
    /// A new section.
    pub(crate) fn fresh(name: &[u8], kind: u32, flags: u64, addr: u64, offset: u64, size: u64, align: u64) -> Self {
        Self {
            name: name.to_vec(),
            kind,
            flags,
            addr,
            offset,
            size,
            old_link: 0,
            info: 0,
            info_is_section: false,
            align,
            entsize: 0,
            old_index: None,
        }
    }
}

/// Old section index to new one; 0 for sections that are gone.
pub(crate) fn section_map(old_count: usize, sections: &[NewSection]) -> Vec<u16> {
    let mut map = vec![0u16; old_count];
    for (new, section) in sections.iter().enumerate() {
        if let Some(slot) = section.old_index.and_then(|old| map.get_mut(old)) {
            *slot = u16::try_from(new).unwrap_or(0);
        }
    }
    map
}

/// The section header table and the string table of names.
pub(crate) fn section_headers(sections: &[NewSection], map: &[u16], name_offsets: &[u32]) -> Vec<u8> {
    let mut out = Vec::with_capacity(sections.len() * 64);
    let mapped = |old: u32| map.get(old as usize).map_or(0, |&new| u32::from(new));
    for (section, &name) in sections.iter().zip(name_offsets) {
        out.extend(name.to_le_bytes());
        out.extend(section.kind.to_le_bytes());
        out.extend(section.flags.to_le_bytes());
        out.extend(section.addr.to_le_bytes());
        out.extend(section.offset.to_le_bytes());
        out.extend(section.size.to_le_bytes());
        out.extend(mapped(section.old_link).to_le_bytes());
        let info = if section.info_is_section { mapped(section.info) } else { section.info };
        out.extend(info.to_le_bytes());
        out.extend(section.align.to_le_bytes());
        out.extend(section.entsize.to_le_bytes());
    }
    out
}

/// The names of all sections as a string table, and each name's offset.
pub(crate) fn section_names(sections: &[NewSection]) -> (Vec<u8>, Vec<u32>) {
    let mut strings = vec![0u8];
    let mut offsets = Vec::with_capacity(sections.len());
    for section in sections {
        if section.name.is_empty() {
            offsets.push(0);
            continue;
        }
        offsets.push(u32::try_from(strings.len()).unwrap_or(0));
        strings.extend_from_slice(&section.name);
        strings.push(0);
    }
    (strings, offsets)
}

/// The program header table.
pub(crate) fn program_headers(segments: &[Segment]) -> Vec<u8> {
    let mut out = Vec::with_capacity(segments.len() * 56);
    for segment in segments {
        out.extend(segment.kind.to_le_bytes());
        out.extend(segment.flags.to_le_bytes());
        for value in
            [segment.offset, segment.vaddr, segment.paddr, segment.filesz, segment.memsz, segment.align]
        {
            out.extend(value.to_le_bytes());
        }
    }
    out
}

/// A load segment.
pub(crate) const fn load_segment(flags: u32, offset: u64, vaddr: u64, size: u64) -> Segment {
    Segment { kind: elf::PT_LOAD, flags, offset, vaddr, paddr: vaddr, filesz: size, memsz: size, align: 0x1000 }
}
