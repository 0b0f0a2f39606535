//! Slots of the GOT whose content is the same whenever the program can read it.
//!
//! Read from the old file alone: from what its loader reads, program headers and dynamic tags. Such a slot lies on pages that are read-only
//! once the file is relocated, and either exactly one dynamic relocation writes it, which adds the load address to a
//! number (RELATIVE), or none does and the file is loaded where its headers say.

use postlink_image::{DynamicTable, Image, elf, relr_addresses, reloc};

use crate::walk::little;

/// Smallest unit that is protected.
const PAGE: u64 = 0x1000;

/// What one dynamic relocation writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Write {
    start: u64,
    end: u64,
    /// The address that is stored, if the load address is all that it depends on.
    value: Option<u64>,
}

/// All slots that never change.
#[derive(Default)]
pub(crate) struct ConstantSlots {
    /// Where slots may lie: read-only parts of GOT sections, start and end.
    ranges: Vec<(u64, u64)>,
    /// All writes there, sorted.
    writes: Vec<Write>,
    /// Whether every address depends on where the file is loaded.
    is_position_independent: bool,
}

impl ConstantSlots {
    /// None if there is doubt about what is protected or relocated.
    pub(crate) fn read(old: &Image<'_>) -> Self {
        Self::try_read(old).unwrap_or_default()
    }

    fn try_read(old: &Image<'_>) -> Option<Self> {
        let mut protected = old.segments().iter().filter(|segment| segment.kind == elf::PT_GNU_RELRO);
        let (Some(segment), None) = (protected.next(), protected.next()) else { return None };
        // What is left of the last page stays writable.
        let end = segment.vaddr.checked_add(segment.memsz)? & !(PAGE - 1);
        let is_got = |section: &&postlink_image::Section<'_>| section.is_alloc() && section.name.starts_with(b".got");
        let ranges: Vec<(u64, u64)> = old
            .sections()
            .iter()
            .filter(is_got)
            .filter_map(|section| {
                let range = (section.addr.max(segment.vaddr), section.addr.checked_add(section.size)?.min(end));
                (range.0 < range.1).then_some(range)
            })
            .collect();
        let mut slots = Self { ranges, writes: Vec::new(), is_position_independent: old.header().kind != elf::ET_EXEC };
        if !slots.ranges.is_empty() {
            slots.read_writes(old)?;
            slots.writes.sort_unstable();
        }
        Some(slots)
    }

    /// Everything that the loader, or a static program for itself, applies; `None` if that is not known.
    fn read_writes(&mut self, old: &Image<'_>) -> Option<()> {
        const DT_RELENT: u64 = 19;
        let tags = DynamicTable::read(old);
        if tags.value(elf::DT_REL).is_some() || tags.value(DT_RELENT).is_some() {
            return None;
        }
        let mut applied: Vec<(u64, u64)> = Vec::new();
        for (table, size) in [(elf::DT_RELA, elf::DT_RELASZ), (elf::DT_JMPREL, elf::DT_PLTRELSZ)] {
            match (tags.value(table), tags.value(size)) {
                (Some(table), Some(size)) => applied.push((table, table.checked_add(size)?)),
                (None, None) => {}
                _ => return None,
            }
        }
        // One table may hold the other; apart from that they are read once each.
        applied.sort_unstable_by_key(|table| (table.0, std::cmp::Reverse(table.1)));
        if let [first, second] = *applied.as_slice()
            && second.0 < first.1
        {
            applied.truncate(1);
            if second.1 > first.1 {
                return None;
            }
        }
        for &(start, end) in &applied {
            self.read_table(old, old.bytes_at(start, end - start)?, true)?;
        }
        let applied_words = match (tags.value(elf::DT_RELR), tags.value(elf::DT_RELRSZ)) {
            (Some(table), Some(size)) => {
                for addr in relr_addresses(old.bytes_at(table, size)?) {
                    self.push(addr, 8, || word(old, addr))?;
                }
                (table, table.checked_add(size)?)
            }
            (None, None) => (0, 0),
            _ => return None,
        };
        // Tables that no tag names: a static program finds its own by symbols. What they store is not taken for granted.
        for section in old.sections().iter().filter(|section| section.is_alloc()) {
            let end = section.addr.checked_add(section.size)?;
            let is_within = |range: &(u64, u64)| section.addr >= range.0 && end <= range.1;
            match section.kind {
                elf::SHT_RELA if !applied.iter().any(is_within) => self.read_table(old, old.section_data(section), false)?,
                elf::SHT_RELR if !is_within(&applied_words) => {
                    for addr in relr_addresses(old.section_data(section)) {
                        self.push(addr, 8, || None)?;
                    }
                }
                _ => {}
            }
        }
        Some(())
    }

    fn read_table(&mut self, old: &Image<'_>, table: &[u8], is_applied: bool) -> Option<()> {
        let symbols = old.dynsym();
        for entry in table.as_chunks::<8>().0.as_chunks::<3>().0 {
            let [start, info, addend] = entry.map(u64::from_le_bytes);
            let (symbol, kind) = (info >> 32, info as u32);
            let size = match kind {
                reloc::NONE => continue,
                reloc::COPY => symbols.and_then(|symbols| symbols.get(usize::try_from(symbol).ok()?)).map_or(u64::MAX, |symbol| symbol.size),
                reloc::TLSDESC => 16,
                _ => 8,
            };
            self.push(start, size, || (is_applied && kind == reloc::RELATIVE && symbol == 0).then_some(addend))?;
        }
        Some(())
    }

    /// `None` if the write is so long that a search for the nearest would miss it.
    fn push(&mut self, start: u64, size: u64, value: impl FnOnce() -> Option<u64>) -> Option<()> {
        let end = start.saturating_add(size);
        if self.ranges.iter().any(|range| start < range.1 && end > range.0) {
            if size > LONGEST {
                return None;
            }
            self.writes.push(Write { start, end, value: value() });
        }
        Some(())
    }

    /// The old address in `slot`, wherever the file is loaded; `None` if it may be another one.
    pub(crate) fn content(&self, old: &Image<'_>, slot: u64) -> Option<u64> {
        let end = slot.checked_add(8)?;
        if !self.ranges.iter().any(|range| slot >= range.0 && end <= range.1) {
            return None;
        }
        let first = self.writes.partition_point(|write| write.start.saturating_add(LONGEST) <= slot);
        let near = self.writes.iter().skip(first).take_while(|write| write.start < end);
        let touching: Vec<&Write> = near.filter(|write| write.end > slot).collect();
        match (touching.as_slice(), self.is_position_independent) {
            ([write], true) if write.start == slot => write.value,
            ([], false) => word(old, slot),
            _ => None,
        }
    }
}

/// No write that is kept is longer, in bytes.
const LONGEST: u64 = 16;

fn word(image: &Image<'_>, addr: u64) -> Option<u64> {
    image.bytes_at(addr, 8).map(little)
}
