//! The dynamic section.

use crate::consts::elf;
use crate::Image;

/// One entry of the dynamic section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DynamicEntry {
    /// `DT_*`.
    pub tag: u64,
    /// Value or address.
    pub value: u64,
    /// File offset of the value.
    pub value_offset: u64,
}

/// The dynamic section up to `DT_NULL`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DynamicTable {
    /// Entries in file order.
    pub entries: Vec<DynamicEntry>,
}

impl DynamicTable {
    /// Reads the table that `PT_DYNAMIC` names; empty if there is none.
    pub fn read(image: &Image<'_>) -> Self {
        let Some(segment) = image.segment(elf::PT_DYNAMIC) else { return Self::default() };
        let start = usize::try_from(segment.offset).unwrap_or(usize::MAX);
        let size = usize::try_from(segment.filesz).unwrap_or(0);
        let bytes = image.data().get(start..start.saturating_add(size)).unwrap_or(&[]);
        let mut entries = Vec::new();
        for (index, pair) in bytes.as_chunks::<8>().0.as_chunks::<2>().0.iter().enumerate() {
            let tag = u64::from_le_bytes(pair[0]);
            if tag == elf::DT_NULL {
                break;
            }
            let value_offset = segment.offset + index as u64 * 16 + 8;
            entries.push(DynamicEntry { tag, value: u64::from_le_bytes(pair[1]), value_offset });
        }
        Self { entries }
    }

    /// Value of the first entry with that tag.
    pub fn value(&self, tag: u64) -> Option<u64> {
        self.entries.iter().find(|entry| entry.tag == tag).map(|entry| entry.value)
    }
}
