//! Headers, sections and segments of one ELF file.

use object::LittleEndian as LE;
use object::elf::{FileHeader64, ProgramHeader64, SectionHeader64};
use object::pod;

use crate::consts::elf;
use crate::{ImageError, RelaTable, SymbolTable};

/// The ELF header, as plain numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// `ET_EXEC`, `ET_DYN`, ...
    pub kind: u16,
    /// `EM_X86_64`, ...
    pub machine: u16,
    /// `EI_OSABI`.
    pub os_abi: u8,
    /// Address of the first instruction; 0 for most shared objects.
    pub entry: u64,
    /// File offset of the program headers.
    pub phoff: u64,
    /// File offset of the section headers.
    pub shoff: u64,
    /// Index of the section that holds the section names.
    pub shstrndx: u32,
}

/// One section header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section<'d> {
    /// Name, without the terminating 0. Not necessarily UTF-8.
    pub name: &'d [u8],
    /// `SHT_*`.
    pub kind: u32,
    /// `SHF_*`.
    pub flags: u64,
    /// Address of the first byte in memory, 0 if the section is not loaded.
    pub addr: u64,
    /// File offset.
    pub offset: u64,
    /// Size in bytes (in memory; a `SHT_NOBITS` section has no bytes in the file).
    pub size: u64,
    /// `sh_link`.
    pub link: u32,
    /// `sh_info`.
    pub info: u32,
    /// Alignment in bytes; 0 and 1 mean none.
    pub align: u64,
    /// Size of one entry of a table, else 0.
    pub entsize: u64,
}

impl Section<'_> {
    /// Whether the section occupies memory at run time.
    pub const fn is_alloc(&self) -> bool {
        self.flags & elf::SHF_ALLOC != 0
    }
    /// Whether the section holds instructions.
    pub const fn is_exec(&self) -> bool {
        self.is_alloc() && self.flags & elf::SHF_EXECINSTR != 0
    }
    /// Whether `addr` lies inside (an alloc section's) memory range.
    pub const fn contains(&self, addr: u64) -> bool {
        self.is_alloc() && addr >= self.addr && addr - self.addr < self.size
    }
    /// The name for messages.
    pub fn display_name(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(self.name)
    }
}

/// One program header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// `PT_*`.
    pub kind: u32,
    /// `PF_*`.
    pub flags: u32,
    /// File offset.
    pub offset: u64,
    /// Address in memory.
    pub vaddr: u64,
    /// Physical address, usually equal to `vaddr`.
    pub paddr: u64,
    /// Bytes in the file.
    pub filesz: u64,
    /// Bytes in memory.
    pub memsz: u64,
    /// Alignment.
    pub align: u64,
}

/// One parsed ELF file.
///
/// # Invariants
/// 1. The bytes of every section that has any, and of every segment, lie inside the file.
/// 2. No section's or segment's address range leaves the address space.
/// 3. Section 0 exists and is the null section, if there are sections at all.
pub struct Image<'d> {
    data: &'d [u8],
    header: Header,
    sections: Vec<Section<'d>>,
    segments: Vec<Segment>,
    /// Executable sections sorted by address: `(start, end, index)`.
    exec_ranges: Vec<(u64, u64, usize)>,
    /// `PT_LOAD` segments sorted by address: `(vaddr, vaddr + filesz, offset)`.
    loads: Vec<(u64, u64, u64)>,
}

impl<'d> Image<'d> {
    /// Parses the headers of `data` and checks all ranges they name.
    ///
    /// # Errors
    /// [`ImageError`] names the first field that is wrong and its offset.
    pub fn parse(data: &'d [u8]) -> Result<Self, ImageError> {
        if data.get(..4) != Some(b"\x7fELF") {
            return Err(ImageError::NotElf);
        }
        let (class, order) = (data.get(4).copied().unwrap_or(0), data.get(5).copied().unwrap_or(0));
        if class != 2 || order != 1 {
            return Err(ImageError::Class { class, data: order });
        }
        let (raw, _) = pod::from_bytes::<FileHeader64<LE>>(data)
            .map_err(|()| bounds("ELF header", 0, 0, 64, data))?;
        let shoff = raw.e_shoff.get(LE);
        let first_section = if shoff == 0 {
            None
        } else {
            let bytes = slice(data, "e_shoff", 0x28, shoff, 64)?;
            pod::from_bytes::<SectionHeader64<LE>>(bytes).ok().map(|(header, _)| header)
        };
        let shnum = match (raw.e_shnum.get(LE), first_section) {
            (0, Some(first)) => first.sh_size.get(LE),
            (_, None) => 0,
            (count, Some(_)) => u64::from(count),
        };
        let shstrndx = match (raw.e_shstrndx.get(LE).0, first_section) {
            (elf::SHN_XINDEX, Some(first)) => first.sh_link.get(LE),
            (index, _) => u32::from(index),
        };
        let phnum = match (raw.e_phnum.get(LE), first_section) {
            (0xffff, Some(first)) => u64::from(first.sh_info.get(LE)),
            (count, _) => u64::from(count),
        };
        if shnum > 0 && raw.e_shentsize.get(LE) != 64 {
            let value = u64::from(raw.e_shentsize.get(LE));
            return Err(ImageError::Value { field: "e_shentsize", at: 0x3a, value, expected: "0x40" });
        }
        if phnum > 0 && raw.e_phentsize.get(LE) != 56 {
            let value = u64::from(raw.e_phentsize.get(LE));
            return Err(ImageError::Value { field: "e_phentsize", at: 0x36, value, expected: "0x38" });
        }
        let header = Header {
            kind: raw.e_type.get(LE).0,
            machine: raw.e_machine.get(LE).0,
            os_abi: data.get(7).copied().unwrap_or(0),
            entry: raw.e_entry.get(LE),
            phoff: raw.e_phoff.get(LE),
            shoff,
            shstrndx,
        };
        let segments = read_segments(data, header.phoff, phnum)?;
        let sections = read_sections(data, shoff, shnum, shstrndx)?;
        let mut exec_ranges: Vec<_> = sections
            .iter()
            .enumerate()
            .filter(|(_, section)| section.is_exec() && section.size > 0)
            .map(|(index, section)| (section.addr, section.addr + section.size, index))
            .collect();
        exec_ranges.sort_unstable();
        let mut loads: Vec<_> = segments
            .iter()
            .filter(|segment| segment.kind == elf::PT_LOAD)
            .map(|segment| (segment.vaddr, segment.vaddr + segment.filesz, segment.offset))
            .collect();
        loads.sort_unstable();
        Ok(Self { data, header, sections, segments, exec_ranges, loads })
    }

    /// The whole file.
    pub const fn data(&self) -> &'d [u8] {
        self.data
    }
    /// The ELF header.
    pub const fn header(&self) -> &Header {
        &self.header
    }
    /// All section headers, by index.
    pub fn sections(&self) -> &[Section<'d>] {
        &self.sections
    }
    /// All program headers, in file order.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }
    /// The first section of that name.
    pub fn section(&self, name: &str) -> Option<(usize, &Section<'d>)> {
        self.sections.iter().enumerate().find(|(_, section)| section.name == name.as_bytes())
    }
    /// The first segment of that `PT_*` type.
    pub fn segment(&self, kind: u32) -> Option<&Segment> {
        self.segments.iter().find(|segment| segment.kind == kind)
    }
    /// The bytes of a section; empty for `SHT_NOBITS`.
    pub fn section_data(&self, section: &Section<'_>) -> &'d [u8] {
        if section.kind == elf::SHT_NOBITS || section.kind == elf::SHT_NULL {
            return &[];
        }
        range(self.data, section.offset, section.size).unwrap_or(&[])
    }
    /// Executable sections sorted by address: start, end, section index.
    pub fn exec_ranges(&self) -> &[(u64, u64, usize)] {
        &self.exec_ranges
    }
    /// The executable section that holds `addr`.
    pub fn exec_section_at(&self, addr: u64) -> Option<usize> {
        let index = self.exec_ranges.partition_point(|range| range.0 <= addr).checked_sub(1)?;
        self.exec_ranges.get(index).filter(|range| addr < range.1).map(|range| range.2)
    }
    /// File offset of the byte loaded at `addr`, if it comes from the file.
    pub fn offset_of(&self, addr: u64) -> Option<u64> {
        let index = self.loads.partition_point(|load| load.0 <= addr).checked_sub(1)?;
        let load = self.loads.get(index)?;
        (addr < load.1).then(|| addr - load.0 + load.2)
    }
    /// `size` bytes of initialised memory from `addr`, if one segment holds them all.
    pub fn bytes_at(&self, addr: u64, size: u64) -> Option<&'d [u8]> {
        let index = self.loads.partition_point(|load| load.0 <= addr).checked_sub(1)?;
        let load = self.loads.get(index)?;
        if addr >= load.1 || size > load.1 - addr {
            return None;
        }
        range(self.data, addr - load.0 + load.2, size)
    }
    /// The symbol table of type `SHT_SYMTAB`, if the file is not stripped.
    pub fn symtab(&self) -> Option<SymbolTable<'d>> {
        self.symbol_table_of_kind(elf::SHT_SYMTAB)
    }
    /// The dynamic symbol table.
    pub fn dynsym(&self) -> Option<SymbolTable<'d>> {
        self.symbol_table_of_kind(elf::SHT_DYNSYM)
    }
    fn symbol_table_of_kind(&self, kind: u32) -> Option<SymbolTable<'d>> {
        let index = self.sections.iter().position(|section| section.kind == kind)?;
        self.symbol_table(index)
    }
    /// The symbol table in section `index`.
    pub fn symbol_table(&self, index: usize) -> Option<SymbolTable<'d>> {
        let section = self.sections.get(index)?;
        if section.kind != elf::SHT_SYMTAB && section.kind != elf::SHT_DYNSYM {
            return None;
        }
        let strings = self.sections.get(section.link as usize);
        let strings = strings.map_or(&[][..], |strings| self.section_data(strings));
        Some(SymbolTable::new(index, self.section_data(section), strings))
    }
    /// The `SHT_RELA` table in section `index` (empty for any other type).
    pub fn rela_table(&self, index: usize) -> RelaTable<'d> {
        let section = self.sections.get(index).filter(|section| section.kind == elf::SHT_RELA);
        RelaTable::new(section.map_or(&[][..], |section| self.section_data(section)))
    }
    /// Static relocation sections (kept by `--emit-relocs`): index of the table and index of the
    /// section whose bytes it describes. In section order.
    pub fn static_relocations(&self) -> impl Iterator<Item = (usize, usize)> {
        self.sections.iter().enumerate().filter_map(|(index, section)| {
            let target = section.info as usize;
            (section.kind == elf::SHT_RELA && !section.is_alloc() && target != 0 && target < self.sections.len())
                .then_some((index, target))
        })
    }
    /// Indexes of the loaded `SHT_RELA` sections: dynamic relocations.
    pub fn dynamic_relocations(&self) -> impl Iterator<Item = usize> {
        self.sections
            .iter()
            .enumerate()
            .filter(|(_, section)| section.kind == elf::SHT_RELA && section.is_alloc())
            .map(|(index, _)| index)
    }
}

fn read_segments(data: &[u8], phoff: u64, phnum: u64) -> Result<Vec<Segment>, ImageError> {
    let bytes = slice(data, "e_phoff", 0x20, phoff, phnum.saturating_mul(56))?;
    let raw = pod::slice_from_all_bytes::<ProgramHeader64<LE>>(bytes)
        .map_err(|()| bounds("e_phoff", 0x20, phoff, phnum * 56, data))?;
    let mut segments = Vec::with_capacity(raw.len());
    for (index, raw) in raw.iter().enumerate() {
        let at = phoff + index as u64 * 56;
        let segment = Segment {
            kind: raw.p_type.get(LE).0,
            flags: raw.p_flags.get(LE).0,
            offset: raw.p_offset.get(LE),
            vaddr: raw.p_vaddr.get(LE),
            paddr: raw.p_paddr.get(LE),
            filesz: raw.p_filesz.get(LE),
            memsz: raw.p_memsz.get(LE),
            align: raw.p_align.get(LE),
        };
        slice(data, "p_offset", at + 8, segment.offset, segment.filesz)?;
        if segment.kind == elf::PT_LOAD && segment.memsz < segment.filesz {
            let expected = "at least p_filesz";
            return Err(ImageError::Value { field: "p_memsz", at: at + 0x28, value: segment.memsz, expected });
        }
        if segment.vaddr.checked_add(segment.memsz.max(segment.filesz)).is_none() {
            let expected = "a range inside the address space";
            return Err(ImageError::Value { field: "p_vaddr", at: at + 0x10, value: segment.vaddr, expected });
        }
        segments.push(segment);
    }
    Ok(segments)
}

fn read_sections<'d>(
    data: &'d [u8],
    shoff: u64,
    shnum: u64,
    shstrndx: u32,
) -> Result<Vec<Section<'d>>, ImageError> {
    if shnum == 0 {
        return Ok(Vec::new());
    }
    let bytes = slice(data, "e_shoff", 0x28, shoff, shnum.saturating_mul(64))?;
    let raw = pod::slice_from_all_bytes::<SectionHeader64<LE>>(bytes)
        .map_err(|()| bounds("e_shoff", 0x28, shoff, shnum * 64, data))?;
    let names = match raw.get(shstrndx as usize) {
        Some(header) if shstrndx != 0 => {
            let at = shoff + u64::from(shstrndx) * 64 + 0x18;
            slice(data, "sh_offset of the section names", at, header.sh_offset.get(LE), header.sh_size.get(LE))?
        }
        _ => &[],
    };
    let mut sections = Vec::with_capacity(raw.len());
    for (index, raw) in raw.iter().enumerate() {
        let at = shoff + index as u64 * 64;
        let name_at = raw.sh_name.get(LE) as usize;
        let name = names.get(name_at..).unwrap_or(&[]);
        let name = name.split(|&byte| byte == 0).next().unwrap_or(&[]);
        let section = Section {
            name,
            kind: raw.sh_type.get(LE).0,
            flags: raw.sh_flags.get(LE).0,
            addr: raw.sh_addr.get(LE),
            offset: raw.sh_offset.get(LE),
            size: raw.sh_size.get(LE),
            link: raw.sh_link.get(LE),
            info: raw.sh_info.get(LE),
            align: raw.sh_addralign.get(LE),
            entsize: raw.sh_entsize.get(LE),
        };
        if section.kind != elf::SHT_NOBITS && section.kind != elf::SHT_NULL {
            slice(data, "sh_offset", at + 0x18, section.offset, section.size)?;
        }
        if section.is_alloc() && section.addr.checked_add(section.size).is_none() {
            let expected = "a range inside the address space";
            return Err(ImageError::Value { field: "sh_addr", at: at + 0x10, value: section.addr, expected });
        }
        sections.push(section);
    }
    Ok(sections)
}

/// `size` bytes of `data` from `offset`.
fn range(data: &[u8], offset: u64, size: u64) -> Option<&[u8]> {
    let start = usize::try_from(offset).ok()?;
    let end = start.checked_add(usize::try_from(size).ok()?)?;
    data.get(start..end)
}

fn slice<'d>(data: &'d [u8], field: &'static str, at: u64, offset: u64, size: u64) -> Result<&'d [u8], ImageError> {
    if size == 0 {
        return Ok(&[]);
    }
    range(data, offset, size).ok_or_else(|| bounds(field, at, offset, size, data))
}

fn bounds(field: &'static str, at: u64, offset: u64, size: u64, data: &[u8]) -> ImageError {
    ImageError::Bounds { field, at, offset, size, file_size: data.len() as u64 }
}
