//! The static relocations of executable sections, by address.

use postlink_image::{Image, Rela, RelaTable, SymbolTable, elf, reloc};

/// The relocations that describe one executable section, sorted by address.
pub(crate) struct CodeRelocs<'d> {
    sections: Vec<(u64, u64, Sorted<'d>)>,
    symbols: Option<SymbolTable<'d>>,
}

enum Sorted<'d> {
    /// The table was sorted already, as linkers usually leave it: no copy.
    InPlace(RelaTable<'d>),
    Copied(Vec<Rela>),
}

impl Sorted<'_> {
    fn get(&self, index: usize) -> Option<Rela> {
        match self {
            Self::InPlace(table) => table.get(index),
            Self::Copied(list) => list.get(index).copied(),
        }
    }
    fn len(&self) -> usize {
        match self {
            Self::InPlace(table) => table.len(),
            Self::Copied(list) => list.len(),
        }
    }
    fn lower_bound(&self, addr: u64) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.get(middle).is_some_and(|rela| rela.offset < addr) { low = middle + 1 } else { high = middle }
        }
        low
    }
}

impl<'d> CodeRelocs<'d> {
    pub(crate) fn read(image: &Image<'d>) -> Self {
        let mut sections = Vec::new();
        for &(start, end, section) in image.exec_ranges() {
            let tables: Vec<_> =
                image.static_relocations().filter(|&(_, target)| target == section).map(|(table, _)| table).collect();
            let sorted = match tables.as_slice() {
                [] => continue,
                [one] if is_sorted(&image.rela_table(*one)) => Sorted::InPlace(image.rela_table(*one)),
                many => {
                    let mut list: Vec<Rela> =
                        many.iter().flat_map(|&table| image.rela_table(table).iter()).collect();
                    list.sort_by_key(|rela| rela.offset);
                    Sorted::Copied(list)
                }
            };
            sections.push((start, end, sorted));
        }
        Self { sections, symbols: image.symtab() }
    }

    /// Relocations whose field starts in `start..end`, sorted by address.
    pub(crate) fn in_range(&self, start: u64, end: u64) -> impl Iterator<Item = Rela> {
        let index = self.sections.partition_point(|section| section.0 <= start).checked_sub(1);
        let sorted = index.and_then(|index| self.sections.get(index)).filter(|section| start < section.1);
        let first = sorted.map_or(0, |section| section.2.lower_bound(start));
        (first..)
            .map_while(move |index| sorted.and_then(|section| section.2.get(index)))
            .take_while(move |rela| rela.offset < end)
    }

    fn section_of(&self, addr: u64) -> Option<&Sorted<'d>> {
        let index = self.sections.partition_point(|section| section.0 <= addr).checked_sub(1)?;
        self.sections.get(index).filter(|section| addr < section.1).map(|section| &section.2)
    }

    /// Position of the first relocation at `start` or behind it, among those of its section. It is looked for from
    /// position `near` on first.
    pub(crate) fn first_in(&self, start: u64, near: usize) -> usize {
        const NEAR: usize = 64;
        let Some(sorted) = self.section_of(start) else { return 0 };
        let before = |index: usize| sorted.get(index).is_none_or(|rela| rela.offset < start);
        if near == 0 || before(near - 1) {
            let found = (near..near + NEAR).find(|&index| !before(index));
            if let Some(found) = found.filter(|&found| found > 0) {
                return found;
            }
        }
        sorted.lower_bound(start)
    }

    /// The relocations of the section that holds `start`, from position `first` on.
    pub(crate) fn from(&self, start: u64, first: usize) -> impl Iterator<Item = Rela> + use<'_, 'd> {
        let sorted = self.section_of(start);
        (first..).map_while(move |index| sorted?.get(index))
    }

    /// Whether a relocation designates the end of its symbol's section: an address that belongs to
    /// what ends there, not to what the next section begins with.
    pub(crate) fn passes_end(&self, image: &Image<'_>, rela: &Rela) -> bool {
        let Some(symbol) = self.symbols.as_ref().and_then(|table| table.get(rela.symbol as usize)) else { return false };
        if !symbol.is_defined() {
            return false;
        }
        image.sections().get(usize::from(symbol.section)).is_some_and(|section| {
            // PC-relative addends are biased by the distance to the end of the instruction: the
            // smallest that occurs is -4 for a field at the end, plus an immediate of up to 8 bytes.
            let end = section.addr + section.size;
            let nominal = symbol.value.wrapping_add_signed(rela.addend);
            section.is_alloc() && !section.is_exec() && (end.wrapping_sub(nominal) <= 12) && symbol.value <= end
                && (symbol.value == end || rela.addend != 0 && symbol.kind() == elf::STT_SECTION)
        })
    }

    /// What fields that hold distances from the GOT lead to, and where they stand.
    pub(crate) fn got_distances(&self) -> Vec<(u64, u64)> {
        let all = self.sections.iter().flat_map(|section| (0..section.2.len()).filter_map(|index| section.2.get(index)));
        let distances = all.filter(|rela| rela.kind == reloc::GOTOFF64);
        distances.filter_map(|rela| Some((self.symbol_value(&rela)?.wrapping_add_signed(rela.addend), rela.offset))).collect()
    }

    /// The value of a relocation's symbol, if it is defined at an address of this file.
    pub(crate) fn symbol_value(&self, rela: &Rela) -> Option<u64> {
        symbol_value(self.symbols.as_ref()?, rela)
    }
}

/// The value of a relocation's symbol, if it is an address of this file.
pub(crate) fn symbol_value(symbols: &SymbolTable<'_>, rela: &Rela) -> Option<u64> {
    let symbol = symbols.get(rela.symbol as usize)?;
    (symbol.is_defined() && symbol.kind() != elf::STT_TLS).then_some(symbol.value)
}

fn is_sorted(table: &RelaTable<'_>) -> bool {
    let mut last = 0;
    table.iter().all(|rela| {
        let ordered = rela.offset >= last;
        last = rela.offset;
        ordered
    })
}

/// Relocation types that never stand for a code address: TLS offsets, sizes, markers.
pub(crate) const fn is_irrelevant(kind: u32) -> bool {
    matches!(
        kind,
        reloc::NONE
            | reloc::DTPMOD64
            | reloc::DTPOFF64
            | reloc::TPOFF64
            | reloc::TLSGD
            | reloc::TLSLD
            | reloc::DTPOFF32
            | reloc::GOTTPOFF
            | reloc::TPOFF32
            | reloc::SIZE32
            | reloc::SIZE64
            | reloc::GOTPC32_TLSDESC
            | reloc::TLSDESC_CALL
            | reloc::TLSDESC
            | 44
            | 45
            | 47
            | 48
            | 50
    )
}
