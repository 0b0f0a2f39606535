//! Every byte of data that differs must be explained by a word that was checked.

use postlink_image::{Image, elf, notes};
use rayon::prelude::*;

use crate::decode::hex;
use crate::pointers::DynamicRelocations;
use crate::proof::{Findings, Obligation};
use crate::references::{References, counterpart};

/// Compares all loaded data. `explained` holds the words that may differ, sorted by address.
pub(crate) fn check_data(
    old: &Image<'_>,
    new: &Image<'_>,
    references: &References<'_, '_>,
    dynamic: &DynamicRelocations,
    explained: &[(u64, u8)],
    findings: &mut Findings,
) {
    for (index, section) in old.sections().iter().enumerate() {
        // Those have checks of their own.
        let is_special = matches!(section.kind, elf::SHT_DYNAMIC | elf::SHT_DYNSYM | elf::SHT_NOBITS | elf::SHT_NULL)
            || dynamic.is_table(index)
            || section.name == b".eh_frame"
            || section.name == b".eh_frame_hdr";
        if !section.is_alloc() || section.is_exec() || is_special || section.size == 0 {
            continue;
        }
        let place = references.expected(section.addr);
        let before = old.section_data(section);
        let Some(after) = new.bytes_at(place, section.size) else {
            let texts = (section.display_name().into_owned(), "(no data)".to_owned());
            findings.fail(Obligation::Pointers, "data-missing", (Some(section.addr), Some(place)), texts, "the data is not in the new file");
            continue;
        };
        let header = counterpart(old, new, index);
        if !new.sections().is_empty() && header.is_none_or(|header| header.addr != place || header.size != section.size) {
            let texts = (section.display_name().into_owned(), String::new());
            findings.fail(Obligation::File, "section-header", (Some(section.addr), Some(place)), texts, "the section's header does not say where its data is");
        }
        findings.checked.data_bytes += section.size;
        let ranges = build_id_ranges(section.kind, before, section.align, after);
        let parts: Vec<Vec<u64>> = before
            .par_chunks(CHUNK)
            .zip(after.par_chunks(CHUNK))
            .enumerate()
            .filter(|(_, (before, after))| before != after)
            .map(|(chunk, (before, after))| {
                let base = section.addr + (chunk * CHUNK) as u64;
                let differing = before.iter().zip(after).enumerate().filter(|(_, (a, b))| a != b);
                let mut explained = Explained { words: explained, upto: explained.partition_point(|word| word.0 <= base) };
                differing
                    .map(|(at, _)| base + at as u64)
                    .filter(|&addr| !explained.holds(addr) && !ranges.iter().any(|range| range.contains(&(addr - section.addr))))
                    .collect()
            })
            .collect();
        let mut last = None;
        for addr in parts.into_iter().flatten() {
            // One violation for a run of bytes.
            if last.is_none_or(|last| addr > last + 8) {
                let new_place = place + (addr - section.addr);
                let shown = |image: &Image<'_>, addr: u64| image.bytes_at(addr, 8).or_else(|| image.bytes_at(addr, 1)).map_or_else(String::new, hex);
                let texts = (shown(old, addr), shown(new, new_place));
                let message = format!("bytes of {} differ without a reason", section.display_name());
                findings.fail(Obligation::Pointers, "data-byte", (Some(addr), Some(new_place)), texts, &message);
                last = Some(addr);
            }
        }
    }
}

const CHUNK: usize = 1 << 14;

/// A position among the words that may differ; it moves forward.
struct Explained<'a> {
    words: &'a [(u64, u8)],
    /// Number of words that start at or before the address at hand.
    upto: usize,
}

impl Explained<'_> {
    /// Whether `addr`, which never decreases, lies in one of the words.
    fn holds(&mut self, addr: u64) -> bool {
        while self.words.get(self.upto).is_some_and(|word| word.0 <= addr) {
            self.upto += 1;
        }
        self.upto.checked_sub(1).and_then(|at| self.words.get(at)).is_some_and(|word| addr - word.0 < u64::from(word.1))
    }
}

/// The build id is derived from content, so it differs; only its digits may.
fn build_id_ranges(kind: u32, before: &[u8], align: u64, after: &[u8]) -> Vec<std::ops::Range<u64>> {
    if kind != elf::SHT_NOTE {
        return Vec::new();
    }
    let (before, after) = (notes(before, align), notes(after, align));
    let pairs = before.iter().zip(&after);
    pairs
        .filter(|(old, new)| {
            old.owner == b"GNU" && old.kind == elf::NT_GNU_BUILD_ID && new.owner == old.owner && new.desc.len() == old.desc.len()
        })
        .map(|(old, _)| old.desc_offset as u64..(old.desc_offset + old.desc.len()) as u64)
        .collect()
}
