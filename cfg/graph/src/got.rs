//! Calls through the GOT whose target is known before the program starts.
//!
//! The linker made the slot, the dynamic linker fills it in with the address of a function of this very file and then
//! protects it: such a `call *slot(%rip)` (`ff 15`) always calls that function, so it can be `addr32 call` (`67 e8`), as long.

use postlink_base::Id;
use postlink_image::{Image, Rela, elf, relr_addresses, reloc};
use rayon::prelude::*;

use crate::{Class, FixupKind, FunctionId, Program};

/// One such call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GotCall {
    /// Address of the displacement; the two bytes in front of it are `ff 15`.
    pub place: u64,
    /// Entry of the function that it calls.
    pub target: u64,
}

/// Calls in free functions through slots that never change, sorted by place.
#[derive(Clone, Debug, Default)]
pub struct GotCalls {
    calls: Vec<GotCall>,
}

impl GotCalls {
    /// Finds them.
    pub fn find(program: &Program<'_>) -> Self {
        let Some(slots) = Slots::read(program.image) else { return Self::default() };
        let mut calls: Vec<GotCall> = (0..program.functions.len())
            .into_par_iter()
            .flat_map_iter(|index| candidates(program, &slots, FunctionId::from_index(index)))
            .collect();
        if calls.is_empty() {
            return Self::default();
        }
        calls.par_sort_unstable();
        let through_got = through_got(program.image, &calls);
        let mut marks = through_got.into_iter();
        calls.retain(|_| marks.next().unwrap_or(false));
        Self { calls }
    }

    /// Those whose displacement lies in `start..end`.
    pub fn within(&self, start: u64, end: u64) -> &[GotCall] {
        let first = self.calls.partition_point(|call| call.place < start);
        let rest = self.calls.get(first..).unwrap_or_default();
        rest.get(..rest.partition_point(|call| call.place < end)).unwrap_or_default()
    }
}

/// Calls of one function through slots with such a content, whatever relocation they have.
fn candidates<'a>(program: &'a Program<'_>, slots: &'a Slots, id: FunctionId) -> impl Iterator<Item = GotCall> + 'a {
    let function = &program.functions[id];
    let fixups = if function.class == Class::Free { &program.fixups[id] } else { &[][..] };
    let bytes = program.bytes(function);
    fixups.iter().filter_map(move |fixup| {
        let opcode_at = (fixup.offset as usize).checked_sub(2)?;
        let place = function.start + u64::from(fixup.offset);
        let is_call = fixup.kind == FixupKind::Memory
            && fixup.tail == 0
            && slots.may_hold(fixup.target)
            && bytes.get(opcode_at..)?.starts_with(&[0xff, 0x15])
            && program.is_inst_start(place - 2);
        let target = if is_call { slots.content(program.image, fixup.target)? } else { return None };
        let (callee, is_entry) = program.place_of(target)?;
        let is_known = is_entry && !program.functions[callee].traits.size_guessed;
        (is_known && program.image.exec_section_at(target).is_some()).then_some(GotCall { place, target })
    })
}

/// Which of `calls`, sorted by place, have the relocation of an operand that the linker put into the GOT. A call through a
/// variable of the program has another one.
fn through_got(image: &Image<'_>, calls: &[GotCall]) -> Vec<bool> {
    const CHUNK: usize = 1 << 16;
    let mut found = vec![false; calls.len()];
    for (table, target) in image.static_relocations() {
        if !image.sections().get(target).is_some_and(|section| section.is_exec()) {
            continue;
        }
        let link = image.sections().get(table).map_or(0, |section| section.link);
        let symbols = image.symbol_table(link as usize);
        let table = image.rela_table(table);
        let is_here = |rela: &Rela| {
            let symbol = || symbols.and_then(|symbols| symbols.get(rela.symbol as usize));
            matches!(rela.kind, reloc::GOTPCREL | reloc::GOTPCRELX)
                && rela.addend == -4
                && symbol().is_some_and(|symbol| symbol.is_defined() && symbol.kind() != elf::STT_TLS)
        };
        let places: Vec<usize> = (0..table.len().div_ceil(CHUNK))
            .into_par_iter()
            .flat_map_iter(|chunk| (chunk * CHUNK..(chunk + 1) * CHUNK).map_while(|index| table.get(index)))
            .filter(is_here)
            .filter_map(|rela| calls.binary_search_by_key(&rela.offset, |call| call.place).ok())
            .collect();
        for index in places {
            if let Some(found) = found.get_mut(index) {
                *found = true;
            }
        }
    }
    found
}

/// Slots of the GOT in memory that is read-only once the file is relocated.
struct Slots {
    /// Parts of GOT sections there: start, end.
    ranges: Vec<(u64, u64)>,
    /// What dynamic relocations write there: start, end, the address that a RELATIVE one stores; sorted.
    writes: Vec<(u64, u64, Option<u64>)>,
    is_position_independent: bool,
}

impl Slots {
    fn read(image: &Image<'_>) -> Option<Self> {
        const PAGE: u64 = 0x1000;
        let mut relro = image.segments().iter().filter(|segment| segment.kind == elf::PT_GNU_RELRO);
        let (Some(segment), None) = (relro.next(), relro.next()) else { return None };
        // The dynamic linker protects whole pages.
        let protected_end = segment.vaddr.checked_add(segment.memsz)? / PAGE * PAGE;
        let tables = image.sections().iter().filter(|section| section.is_alloc() && section.name.starts_with(b".got"));
        let ranges: Vec<(u64, u64)> = tables
            .map(|section| (section.addr.max(segment.vaddr), section.addr.saturating_add(section.size).min(protected_end)))
            .filter(|(start, end)| start < end)
            .collect();
        if ranges.is_empty() {
            return None;
        }
        let touches = |start: u64, end: u64| ranges.iter().any(|range| start < range.1 && end > range.0);
        let copied = |rela: &Rela| image.dynsym().and_then(|symbols| symbols.get(rela.symbol as usize)).map_or(u64::MAX, |symbol| symbol.size);
        let mut writes = Vec::new();
        for table in image.dynamic_relocations() {
            for rela in image.rela_table(table).iter() {
                let size = match rela.kind {
                    reloc::TLSDESC => 16,
                    reloc::COPY => copied(&rela),
                    _ => 8,
                };
                let end = rela.offset.saturating_add(size);
                if touches(rela.offset, end) {
                    // Nobody copies into a GOT.
                    if rela.kind == reloc::COPY {
                        return None;
                    }
                    let value = (rela.kind == reloc::RELATIVE).then_some(rela.addend.cast_unsigned());
                    writes.push((rela.offset, end, value));
                }
            }
        }
        for section in image.sections().iter().filter(|section| section.kind == elf::SHT_RELR && section.is_alloc()) {
            for addr in relr_addresses(image.section_data(section)) {
                if touches(addr, addr.saturating_add(8)) {
                    writes.push((addr, addr.saturating_add(8), word(image, addr)));
                }
            }
        }
        writes.sort_unstable();
        Some(Self { ranges, writes, is_position_independent: image.header().kind != elf::ET_EXEC })
    }

    /// Whether `slot` lies in the read-only part of a GOT.
    fn may_hold(&self, slot: u64) -> bool {
        self.ranges.iter().any(|range| slot >= range.0 && slot < range.1 && range.1 - slot >= 8)
    }

    /// The address that `slot` holds while the program runs, if nothing but its place in memory decides that.
    fn content(&self, image: &Image<'_>, slot: u64) -> Option<u64> {
        // None is longer than 16 bytes.
        let first = self.writes.partition_point(|write| write.0 < slot.saturating_sub(15));
        let near = self.writes.get(first..)?.iter().take_while(|write| write.0 < slot + 8);
        let mut touching = near.filter(|write| write.1 > slot);
        match (touching.next(), touching.next()) {
            (Some(&(start, _, value)), None) if self.is_position_independent && start == slot => value,
            (None, _) if !self.is_position_independent => word(image, slot),
            _ => None,
        }
    }
}

fn word(image: &Image<'_>, addr: u64) -> Option<u64> {
    Some(u64::from_le_bytes(*image.bytes_at(addr, 8)?.first_chunk::<8>()?))
}
