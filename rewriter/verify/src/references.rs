//! Where a reference of the old file has to lead in the new one.

use postlink_image::{Image, Section, elf};
use rayon::prelude::*;

use crate::code::{Claim, Functions};
use crate::unwind::Frames;

/// A section of data that stands elsewhere in the new file.
struct Moved {
    start: u64,
    end: u64,
    new: u64,
}

/// The expected new target of every old address, for code and data.
pub(crate) struct References<'a, 'm> {
    claim: &'a Claim<'m>,
    moved: Vec<Moved>,
    frames: Option<(&'a Frames<'a>, &'a Frames<'a>)>,
    /// Old entries of functions that are even and became odd, sorted.
    made_odd: Vec<u64>,
}

/// Sections that may move as a whole, because nothing computes with their addresses: the
/// interpreter's name, the notes and the table of frames are found through program headers, the
/// tables of the dynamic linker through dynamic tags.
fn may_move(section: &Section<'_>) -> bool {
    let is_table = matches!(
        section.kind,
        elf::SHT_NOTE
            | elf::SHT_DYNSYM
            | elf::SHT_STRTAB
            | elf::SHT_HASH
            | elf::SHT_GNU_HASH
            | elf::SHT_GNU_VERSYM
            | elf::SHT_GNU_VERDEF
            | elf::SHT_GNU_VERNEED
            | elf::SHT_RELA
            | elf::SHT_RELR
    );
    section.is_alloc()
        && section.flags & elf::SHF_WRITE == 0
        && !section.is_exec()
        && (is_table || section.name == b".interp" || section.name == b".eh_frame_hdr")
}

/// The `n`-th section of a name in the old file corresponds to the `n`-th in the new one.
pub(crate) fn counterpart<'a, 'd>(old: &Image<'d>, new: &'a Image<'d>, index: usize) -> Option<&'a Section<'d>> {
    let name = old.sections().get(index)?.name;
    let rank = old.sections().iter().take(index).filter(|section| section.name == name).count();
    new.sections().iter().filter(|section| section.name == name).nth(rank)
}

impl<'a, 'm> References<'a, 'm> {
    pub(crate) fn new<'d>(
        old: &Image<'d>,
        new: &Image<'d>,
        claim: &'a Claim<'m>,
        frames: Option<(&'a Frames<'a>, &'a Frames<'a>)>,
        functions: &Functions,
    ) -> Self {
        let mut moved = Vec::new();
        for (index, section) in old.sections().iter().enumerate() {
            if may_move(section)
                && let Some(other) = counterpart(old, new, index)
                && other.addr != section.addr
            {
                moved.push(Moved { start: section.addr, end: section.addr + section.size, new: other.addr });
            }
        }
        moved.sort_unstable_by_key(|moved| moved.start);
        let entries = functions.ranges().par_iter().map(|range| range.0);
        let made_odd = entries.filter(|&entry| entry & 1 == 0 && claim.to_new(entry) & 1 == 1).collect();
        Self { claim, moved, frames, made_odd }
    }

    /// Data that may stand elsewhere in the new file.
    pub(crate) fn moved(&self) -> impl Iterator<Item = (u64, u64)> + Clone {
        let frames = self.frames.filter(|(before, after)| before.records != after.records).map(|(before, _)| before.range());
        self.moved.iter().map(|moved| (moved.start, moved.end)).chain(frames)
    }

    /// The address in the new file that stands for `old`.
    #[inline]
    pub(crate) fn expected(&self, old: u64) -> u64 {
        if self.claim.may_move(old) {
            let piece = self.claim.piece(old);
            if !piece.is_same {
                return piece.new_of(old);
            }
        }
        if let Some(moved) = self.moved.iter().find(|moved| old >= moved.start && old < moved.end) {
            return old - moved.start + moved.new;
        }
        if let Some((frames, _)) = self.frames
            && old >= frames.range().0
            && old < frames.range().1
        {
            return self.frame_record(old).unwrap_or(old);
        }
        old
    }

    /// Whether `old` is the even address of a function that is odd now. Where it is a value and not the target of a branch
    /// that must not be: the lowest bit of a pointer to member tells virtual functions from others (Itanium C++ ABI,
    /// 2.3), and programs tag pointers to functions as well.
    #[inline]
    pub(crate) fn loses_low_bit(&self, old: u64) -> bool {
        old & 1 == 0 && self.made_odd.binary_search(&old).is_ok()
    }

    /// Whether a reference to `old` may lead to `new`. The start of a section that moved is also the
    /// end of the data before it, and only that can be meant by a pointer that keeps its value.
    #[inline]
    pub(crate) fn fits(&self, old: u64, new: u64) -> bool {
        new == self.expected(old) || new == old && self.may_keep(old)
    }

    /// Whether a reference to `old` may keep its value, although a section that starts there moved.
    #[inline]
    pub(crate) fn may_keep(&self, old: u64) -> bool {
        self.moved.iter().any(|moved| moved.start == old)
    }

    /// Whether the relocation of the field at `field` names a section that ends at `target`: then the
    /// end of that section is meant, not the start of what follows. Slow, and needed a few times per
    /// program at most.
    pub(crate) fn means_an_end(old: &Image<'_>, field: u64, target: u64) -> bool {
        let tables = old.static_relocations().map(|(table, _)| table);
        let relocation =
            tables.flat_map(|table| old.rela_table(table).iter()).find(|relocation| relocation.offset == field);
        let symbol = relocation.and_then(|relocation| old.symtab()?.get(relocation.symbol as usize));
        symbol.filter(|symbol| symbol.is_defined()).is_some_and(|symbol| {
            let section = old.sections().get(usize::from(symbol.section));
            section.is_some_and(|section| section.is_alloc() && section.addr + section.size == target)
        })
    }

    /// A pointer into `.eh_frame` marks the record from which on an unwinder reads
    /// (`__register_frame_info`): the new one must start at the same record.
    fn frame_record(&self, old: u64) -> Option<u64> {
        let (before, after) = self.frames?;
        let at = before.records.binary_search_by_key(&old, |record| record.addr).ok()?;
        if at == 0 {
            return after.records.first().map(|record| record.addr);
        }
        // The code of the next FDE tells the record; CIEs before it stay before it.
        let ahead = before.records.get(at..)?;
        let steps = ahead.iter().position(|record| record.code.is_some());
        let Some(steps) = steps else {
            return after.records.get(after.records.len().checked_sub(ahead.len())?).map(|record| record.addr);
        };
        let code = self.claim.to_new(ahead.get(steps)?.code?);
        let found = after.records.iter().position(|record| record.code == Some(code))?;
        after.records.get(found.checked_sub(steps)?).map(|record| record.addr)
    }
}
