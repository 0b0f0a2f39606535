//! Notes.

use crate::consts::elf;
use crate::Image;

/// One note.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note<'d> {
    /// Owner, without the terminating 0.
    pub owner: &'d [u8],
    /// `NT_*`.
    pub kind: u32,
    /// Content.
    pub desc: &'d [u8],
    /// Offset of `desc` from the start of the bytes that were read.
    pub desc_offset: usize,
}

/// All notes in `data` (one note section or segment); stops at the first malformed one.
pub fn notes(data: &[u8], align: u64) -> Vec<Note<'_>> {
    let align = if align == 8 { 8 } else { 4 };
    let mut found = Vec::new();
    let mut at = 0usize;
    while let Some(header) = data.get(at..).and_then(|rest| rest.first_chunk::<12>()) {
        let word = |index: usize| {
            let bytes = header.as_chunks::<4>().0;
            u32::from_le_bytes(bytes.get(index).copied().unwrap_or_default())
        };
        let (name_size, desc_size) = (word(0) as usize, word(1) as usize);
        let name_at = at + 12;
        let Some(name_end) = name_at.checked_add(name_size) else { break };
        let desc_at = name_end.next_multiple_of(align);
        let Some(desc_end) = desc_at.checked_add(desc_size) else { break };
        let (Some(owner), Some(desc)) = (data.get(name_at..name_end), data.get(desc_at..desc_end)) else { break };
        let owner = owner.strip_suffix(b"\0").unwrap_or(owner);
        found.push(Note { owner, kind: word(2), desc, desc_offset: desc_at });
        at = desc_end.next_multiple_of(align);
    }
    found
}

/// The GNU build id and its file offset.
pub fn build_id<'d>(image: &Image<'d>) -> Option<(&'d [u8], u64)> {
    image.sections().iter().filter(|section| section.kind == elf::SHT_NOTE).find_map(|section| {
        let data = image.section_data(section);
        notes(data, section.align).into_iter().find_map(|note| {
            (note.owner == b"GNU" && note.kind == elf::NT_GNU_BUILD_ID)
                .then_some((note.desc, section.offset + note.desc_offset as u64))
        })
    })
}
