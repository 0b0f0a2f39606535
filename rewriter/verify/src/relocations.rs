//! The old file's static relocations, sorted into what each check needs.

use postlink_base::AddressIndex;
use postlink_image::{Image, elf, reloc};
use rayon::prelude::*;

use crate::walk::little;


/// How a relocated field encodes an address that is not relative to the instruction pointer of its
/// own instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum FieldKind {
    /// 4 bytes, zero-extended address.
    Abs32 = 0,
    /// 4 bytes, sign-extended address.
    Abs32S = 1,
    /// 8 bytes, address.
    Abs64 = 2,
    /// A GOT load: PC-relative, or an absolute immediate after relaxation. The bytes decide.
    GotLoad = 3,
    /// 8 bytes, distance from the GOT.
    FromGot64 = 4,
    /// 8 bytes, distance from the field.
    FromHere64 = 5,
}

impl FieldKind {
    /// Whether the field holds the address itself.
    pub(crate) const fn is_absolute(self) -> bool {
        matches!(self, Self::Abs32 | Self::Abs32S | Self::Abs64 | Self::GotLoad)
    }

    /// Size of the field in bytes.
    pub(crate) const fn width(self) -> u8 {
        match self {
            Self::Abs32 | Self::Abs32S | Self::GotLoad => 4,
            Self::Abs64 | Self::FromGot64 | Self::FromHere64 => 8,
        }
    }
}

/// One field in code: address and kind packed, because a large program has millions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Field(u64);

impl Field {
    const fn new(addr: u64, kind: FieldKind) -> Self {
        Self(addr << 3 | kind as u64)
    }
    pub(crate) const fn addr(self) -> u64 {
        self.0 >> 3
    }
    pub(crate) const fn kind(self) -> FieldKind {
        match self.0 & 7 {
            0 => FieldKind::Abs32,
            1 => FieldKind::Abs32S,
            2 => FieldKind::Abs64,
            3 => FieldKind::GotLoad,
            4 => FieldKind::FromGot64,
            _ => FieldKind::FromHere64,
        }
    }
}

/// A relocated word of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Word {
    /// Its address.
    pub(crate) addr: u64,
    /// Size in bytes: 4 or 8.
    pub(crate) width: u8,
    /// Whether a 4-byte word is sign-extended.
    pub(crate) signed: bool,
}

/// All static relocations that matter to the proof.
#[derive(Default)]
pub(crate) struct StaticRelocations {
    /// Fields of instructions, sorted.
    pub(crate) fields: Vec<Field>,
    index: AddressIndex,
    /// Words of data that hold an address, sorted.
    pub(crate) words: Vec<Word>,
    /// Words of data that hold a distance (jump tables and such): address and width, sorted.
    pub(crate) distances: Vec<(u64, u8)>,
    distance_index: AddressIndex,
    /// Fields of instructions that hold a distance but not from their own instruction: from a place in code that is in a
    /// register.
    pub(crate) from_code: Vec<u64>,
    /// Whether the file has any static relocation for its code.
    pub(crate) cover_code: bool,
}

/// Relocations above this address are of no file that can be loaded; keeps [`Field`] exact.
const ADDR_MAX: u64 = 1 << 60;

/// So many fields are looked at one by one.
const NEAR: usize = 16;

impl StaticRelocations {
    /// Reads the tables that `--emit-relocs` left.
    pub(crate) fn read(image: &Image<'_>) -> Self {
        let mut all = Self::default();
        for (table, target) in image.static_relocations() {
            let Some(section) = image.sections().get(target) else { continue };
            let name = section.name;
            // Unwind tables are read as such (P4); their personality and type pointers lead to data.
            if !section.is_alloc() || name == b".eh_frame" || name == b".gcc_except_table" {
                continue;
            }
            let is_code = section.is_exec();
            all.cover_code |= is_code;
            let relocations = image.rela_table(table);
            let link = image.sections().get(table).map_or(0, |section| section.link);
            let symbols = image.symbol_table(link as usize);
            let parts: Vec<Self> = (0..relocations.len().div_ceil(CHUNK))
                .into_par_iter()
                .map(|chunk| {
                    let mut part = Self::default();
                    let end = ((chunk + 1) * CHUNK).min(relocations.len());
                    for relocation in (chunk * CHUNK..end).filter_map(|index| relocations.get(index)) {
                        if relocation.offset < ADDR_MAX {
                            // lld writes symbol 0 where a section has no symbol: the bytes tell the place.
                            let is_place = || {
                                relocation.symbol == 0 || symbols.and_then(|table| table.get(relocation.symbol as usize)).is_none_or(|symbol| {
                                    symbol.is_defined() && symbol.kind() != elf::STT_TLS
                                        || symbol.section == elf::SHN_COMMON
                                })
                            };
                            part.add(relocation.offset, relocation.kind, is_code, is_place);
                            if is_code && relocation.kind == reloc::PC32 && !is_own_distance(image, relocation.offset) {
                                let symbol = symbols.and_then(|table| table.get(relocation.symbol as usize));
                                let to = symbol.map_or(0, |symbol| symbol.value).wrapping_add_signed(relocation.addend);
                                let says = to.wrapping_sub(relocation.offset) & 0xffff_ffff;
                                // Linkers change instructions and leave such relocations.
                                if image.bytes_at(relocation.offset, 4).map(little) == Some(says) {
                                    part.from_code.push(relocation.offset);
                                }
                            }
                        }
                    }
                    part
                })
                .collect();
            for part in parts {
                all.fields.extend(part.fields);
                all.words.extend(part.words);
                all.distances.extend(part.distances);
                all.from_code.extend(part.from_code);
            }
        }
        all.fields.par_sort_unstable();
        all.index = AddressIndex::new(&all.fields, |field| field.addr());
        all.words.par_sort_unstable();
        all.words.dedup_by_key(|word| word.addr);
        all.distances.par_sort_unstable();
        all.distances.dedup_by_key(|distance| distance.0);
        all.distance_index = AddressIndex::new(&all.distances, |distance| distance.0);
        all
    }

    /// False only if there is no distance at `addr`.
    #[inline]
    pub(crate) fn may_be_distance(&self, addr: u64) -> bool {
        let (first, last) = (self.distances.first(), self.distances.last());
        first.is_some_and(|first| first.0 <= addr) && last.is_some_and(|last| addr <= last.0)
    }

    /// Number of the distance at `addr`.
    #[inline]
    pub(crate) fn distance_at(&self, addr: u64) -> Option<usize> {
        let at = self.distance_index.upto(&self.distances, |distance| distance.0, addr).checked_sub(1)?;
        self.distances.get(at).is_some_and(|distance| distance.0 == addr).then_some(at)
    }

    /// Number of fields before `addr`.
    #[inline]
    pub(crate) fn fields_before(&self, addr: u64) -> usize {
        self.index.before(&self.fields, |field| field.addr(), addr)
    }

    /// The same, when the number is known for an address nearby.
    #[inline]
    pub(crate) fn fields_before_near(&self, known: usize, addr: u64) -> usize {
        let is_before = |at: usize| self.fields.get(at).is_some_and(|field| field.addr() < addr);
        let mut at = known;
        if at.checked_sub(1).is_none_or(is_before) && !is_before(at.saturating_add(NEAR)) {
            while is_before(at) {
                at += 1;
            }
            return at;
        }
        self.fields_before(addr)
    }

    /// `is_place` tells whether the symbol is a place in this file, not a number or another file's.
    fn add(&mut self, addr: u64, kind: u32, is_code: bool, is_place: impl Fn() -> bool) {
        if is_code {
            let kind = match kind {
                reloc::R32 => FieldKind::Abs32,
                reloc::R32S => FieldKind::Abs32S,
                reloc::R64 => FieldKind::Abs64,
                reloc::GOTPCREL | reloc::GOTPCRELX | reloc::REX_GOTPCRELX => FieldKind::GotLoad,
                reloc::GOTOFF64 | reloc::PLTOFF64 => FieldKind::FromGot64,
                // The GOT itself is no symbol of this file's tables.
                reloc::GOTPC64 => return self.fields.push(Field::new(addr, FieldKind::FromHere64)),
                reloc::PC64 => FieldKind::FromHere64,
                _ => return,
            };
            if is_place() {
                self.fields.push(Field::new(addr, kind));
            }
            return;
        }
        match kind {
            reloc::R64 | reloc::R32 | reloc::R32S if is_place() => {
                let width = if kind == reloc::R64 { 8 } else { 4 };
                self.words.push(Word { addr, width, signed: kind == reloc::R32S });
            }
            reloc::PC32 | reloc::PLT32 => self.distances.push((addr, 4)),
            reloc::PC64 => self.distances.push((addr, 8)),
            _ => {}
        }
    }
}

/// Whether what stands before a field may make it the distance from the end of its instruction: a branch's opcode, or a ModRM
/// byte with mode 0 and base 5.
fn is_own_distance(image: &Image<'_>, field: u64) -> bool {
    let Some(&[first, last]) = field.checked_sub(2).and_then(|at| image.bytes_at(at, 2)).and_then(|bytes| bytes.first_chunk::<2>()) else {
        return true;
    };
    last & 0xc7 == 0x05 || matches!(last, 0xe8 | 0xe9) || first == 0x0f && last & 0xf0 == 0x80 || (first, last) == (0xc7, 0xf8)
}

const CHUNK: usize = 1 << 16;

/// Addresses of all relocated fields in code, sorted: where one stands, there is no plain data.
pub(crate) fn places_in_code(image: &Image<'_>) -> Vec<u64> {
    let is_code = |target: usize| image.sections().get(target).is_some_and(|section| section.is_exec());
    let tables = image.static_relocations().filter(|&(_, target)| is_code(target));
    let mut places: Vec<u64> =
        tables.flat_map(|(table, _)| image.rela_table(table).iter().map(|relocation| relocation.offset)).collect();
    places.par_sort_unstable();
    places
}

/// The same with what the relocations name, symbol and addend. Symbols of other files have no address.
pub(crate) fn names_in_code(image: &Image<'_>) -> Vec<(u64, u64)> {
    let is_code = |target: usize| image.sections().get(target).is_some_and(|section| section.is_exec());
    let tables = image.static_relocations().filter(|&(_, target)| is_code(target));
    let named = |(table, _): (usize, usize)| {
        let link = image.sections().get(table).map_or(0, |section| section.link);
        let symbols = image.symbol_table(link as usize);
        image.rela_table(table).iter().map(move |relocation| {
            let symbol = symbols.and_then(|symbols| symbols.get(relocation.symbol as usize));
            let value = symbol.map_or(0, |symbol| symbol.value);
            (relocation.offset, value.wrapping_add_signed(relocation.addend))
        })
    };
    let mut places: Vec<(u64, u64)> = tables.flat_map(named).collect();
    places.par_sort_unstable();
    places
}
