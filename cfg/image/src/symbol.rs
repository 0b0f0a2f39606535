//! Symbol tables, read in place.

use object::LittleEndian as LE;
use object::elf::Sym64;
use object::pod;

use crate::consts::elf;

/// One symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// Offset of the name in the string table.
    pub name: u32,
    /// `st_info`: binding and type.
    pub info: u8,
    /// `st_other`: visibility.
    pub other: u8,
    /// `st_shndx` as stored; `SHN_XINDEX` if the index is in a table of its own.
    pub section: u16,
    /// Address (or alignment of a common symbol, offset of a TLS symbol).
    pub value: u64,
    /// Size in bytes, 0 if unknown.
    pub size: u64,
}

impl Symbol {
    /// `STT_*`.
    pub const fn kind(&self) -> u8 {
        self.info & 0xf
    }
    /// `STB_*`.
    pub const fn binding(&self) -> u8 {
        self.info >> 4
    }
    /// Whether the symbol is defined in a section of this file.
    pub const fn is_defined(&self) -> bool {
        self.section != elf::SHN_UNDEF && (self.section < elf::SHN_LORESERVE || self.section == elf::SHN_XINDEX)
    }
    /// Whether the symbol names code by its type: `STT_FUNC` or `STT_GNU_IFUNC`.
    pub const fn is_function(&self) -> bool {
        self.kind() == elf::STT_FUNC || self.kind() == elf::STT_GNU_IFUNC
    }
}

/// A symbol table with its strings.
#[derive(Clone, Copy)]
pub struct SymbolTable<'d> {
    /// Index of the section that holds it.
    pub section: usize,
    raw: &'d [Sym64<LE>],
    strings: &'d [u8],
}

impl<'d> SymbolTable<'d> {
    pub(crate) fn new(section: usize, data: &'d [u8], strings: &'d [u8]) -> Self {
        let whole = data.get(..data.len() / 24 * 24).unwrap_or(&[]);
        Self { section, raw: pod::slice_from_all_bytes(whole).unwrap_or(&[]), strings }
    }
    /// Number of symbols, the null symbol included.
    pub const fn len(&self) -> usize {
        self.raw.len()
    }
    /// Whether there is no symbol at all.
    pub const fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }
    /// Symbol number `index`.
    #[inline]
    pub fn get(&self, index: usize) -> Option<Symbol> {
        self.raw.get(index).map(|raw| Symbol {
            name: raw.st_name.get(LE),
            info: raw.st_info.0,
            other: raw.st_other.0,
            section: raw.st_shndx.get(LE).0,
            value: raw.st_value.get(LE),
            size: raw.st_size.get(LE),
        })
    }
    /// All symbols in table order, the null symbol included.
    pub fn iter(&self) -> impl Iterator<Item = Symbol> + use<'d> {
        let table = *self;
        (0..table.len()).filter_map(move |index| table.get(index))
    }
    /// The symbol's name, empty if its offset is out of range.
    pub fn name(&self, symbol: &Symbol) -> &'d [u8] {
        let name = self.strings.get(symbol.name as usize..).unwrap_or(&[]);
        name.split(|&byte| byte == 0).next().unwrap_or(&[])
    }
    /// The string table.
    pub const fn strings(&self) -> &'d [u8] {
        self.strings
    }
}
