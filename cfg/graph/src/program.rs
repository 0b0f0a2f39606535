//! What recovery knows about the whole program.

use postlink_base::{AddressIndex, IndexLists, IndexVec, define_id};
use postlink_image::{EhFrame, Image, SymbolTable};

use crate::Reason;
use crate::bits::CodeSet;

define_id!(
    /// A function of the program; ids are in address order.
    FunctionId,
    "f"
);
define_id!(
    /// A basic block of one function. `bb0` is the entry.
    BlockId,
    "bb"
);

/// What may happen to a function (design section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Blocks may be reordered, split and aligned; branches encoded anew.
    Free,
    /// Moves as one piece, bytes kept, outward operands patched.
    Rigid,
    /// Stays at its old address; outward operands patched.
    Pinned,
}

impl Class {
    /// The word used in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Rigid => "rigid",
            Self::Pinned => "pinned",
        }
    }
}

/// On what grounds a reference is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Evidence {
    /// A static relocation that the linker kept.
    Reloc,
    /// A dynamic relocation, RELR word, dynamic tag or the entry point.
    Dynamic,
    /// A PC-relative operand without relocation.
    Decoded,
    /// An entry of a jump table.
    Table,
    /// An FDE or LSDA.
    Unwind,
    /// A symbol.
    Symbol,
}

impl Evidence {
    /// The word used in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reloc => "reloc",
            Self::Dynamic => "dynamic",
            Self::Decoded => "decoded",
            Self::Table => "table",
            Self::Unwind => "unwind",
            Self::Symbol => "symbol",
        }
    }
}

/// How a fixup's field encodes its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FixupKind {
    /// 32-bit displacement of a direct call.
    Call,
    /// 32-bit displacement of a direct jump or branch that leaves the function.
    Branch32,
    /// 8-bit displacement of a branch that leaves the function; must be encoded anew when it moves.
    Branch8,
    /// 32-bit displacement of a `lea`.
    Address,
    /// 32-bit displacement of a memory operand.
    Memory,
    /// 32-bit zero-extended absolute address.
    Abs32,
    /// 32-bit sign-extended absolute address.
    Abs32S,
    /// 64-bit field that changes by as much as its target: absolute, or relative to the GOT.
    Delta64,
    /// 64-bit distance from the field itself (large code model).
    Pc64,
}

impl FixupKind {
    /// Whether the field depends on where the instruction stands.
    pub const fn is_pc_relative(self) -> bool {
        !matches!(self, Self::Abs32 | Self::Abs32S | Self::Delta64)
    }
}

/// A position-dependent field of an instruction that designates something outside of the function,
/// or the function's own entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fixup {
    /// The address that the field designates.
    pub target: u64,
    /// Offset of the field from the function's start, in bytes.
    pub offset: u32,
    /// Encoding.
    pub kind: FixupKind,
    /// Bytes from the end of the field to the end of the instruction (an immediate stands there).
    pub tail: u8,
    /// [`Evidence::Reloc`] or [`Evidence::Decoded`].
    pub evidence: Evidence,
    /// The target is one past the end of a data section: it does not move with what follows there.
    pub passes_end: bool,
}

const _: () = assert!(size_of::<Fixup>() == 16, "there are millions of them");

/// Facts about a function's code that decide how it may be written again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts, each read by name")]
pub struct Traits {
    /// It has an indirect jump.
    pub indirect_jump: bool,
    /// It cannot be copied as one piece: it falls off its end, or a short branch leaves it.
    pub must_relay: bool,
    /// Control may run past its last instruction to the address after it.
    pub falls_through: bool,
    /// It has a call whose return lands at the function's end.
    pub has_calls: bool,
    /// The function was found by a reference only; no symbol or FDE gives its size.
    pub size_guessed: bool,
}

/// One function: a contiguous range of code. A `.cold` part is a function with a parent.
#[derive(Clone, Debug)]
pub struct Function {
    /// Address of the first byte: the entry.
    pub start: u64,
    /// Address after the last byte, padding excluded.
    pub end: u64,
    /// Index of its section.
    pub section: u32,
    /// Index of its name in `.symtab`.
    pub symbol: Option<u32>,
    /// Index of its FDE in the [`EhFrame`], if exactly one starts at `start`.
    pub fde: Option<u32>,
    /// What may happen to it.
    pub class: Class,
    /// Why it is not free.
    pub reason: Option<Reason>,
    /// The function that this is the split-off part of.
    pub parent: Option<FunctionId>,
    /// Facts about its code.
    pub traits: Traits,
}

impl Function {
    /// Size in bytes.
    pub const fn size(&self) -> u64 {
        self.end - self.start
    }
    /// Whether `addr` lies in the function.
    pub const fn contains(&self, addr: u64) -> bool {
        addr >= self.start && addr < self.end
    }
}

/// How a word of data encodes a code address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DataRefKind {
    /// 8-byte absolute address.
    Abs64,
    /// 4-byte absolute address.
    Abs32,
    /// 4-byte distance from the word itself.
    Pc32,
    /// 8-byte distance from the word itself.
    Pc64,
    /// 4-byte distance from the start of a table.
    Table32,
    /// 8-byte distance from the start of a table.
    Table64,
    /// 8-byte distance from the GOT or another fixed base: changes by as much as its target.
    Delta64,
}

/// A word outside of code that designates code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataRef {
    /// File offset of the word.
    pub file_offset: u64,
    /// Address of the word, 0 if it is not loaded data itself (a dynamic relocation's addend).
    pub addr: u64,
    /// The code address that it designates.
    pub target: u64,
    /// Bytes from the start of the table to the word, if it is an entry of a table of distances.
    pub in_table: u32,
    /// Encoding.
    pub kind: DataRefKind,
    /// How it is known.
    pub evidence: Evidence,
}

const _: () = assert!(size_of::<DataRef>() == 32, "there are a million of them");

impl DataRef {
    /// Start of the table that the word is an entry of, if it is one ([`DataRefKind::Table32`], [`DataRefKind::Table64`]).
    pub const fn table_base(&self) -> u64 {
        self.addr.wrapping_sub(self.in_table as u64)
    }
}

/// A jump table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JumpTable {
    /// Address of the first entry.
    pub base: u64,
    /// Number of entries.
    pub entries: u32,
    /// Bytes per entry: 4 (table-relative) or 8 (absolute; table-relative in gcc's large code model).
    pub entry_size: u8,
    /// The function whose code reads it.
    pub owner: FunctionId,
}

/// The recovered program.
///
/// # Invariants
/// 1. `functions` are sorted by address and disjoint.
/// 2. `labels` is sorted and holds every address strictly inside a function, at an instruction's
///    start, that anything but the function's own direct branches refers to.
/// 3. Every reference to code of a function that is not pinned is in `fixups` or `data_refs`, or is
///    an unwind entry, a symbol, a dynamic symbol or the entry point.
pub struct Program<'d> {
    /// The file.
    pub image: &'d Image<'d>,
    /// Its unwind tables.
    pub eh_frame: Option<EhFrame>,
    /// All functions.
    pub functions: IndexVec<FunctionId, Function>,
    /// Finds a function by address.
    pub(crate) function_index: FunctionIndex,
    /// Outward fixups of each function, sorted by offset.
    pub fixups: IndexLists<FunctionId, Fixup>,
    /// References from data, sorted by file offset.
    pub data_refs: Vec<DataRef>,
    /// Targets of `data_refs` strictly inside functions, but not of words that are relative to themselves; sorted.
    pub(crate) jump_targets: Vec<u64>,
    /// All jump tables, sorted by base.
    pub tables: Vec<JumpTable>,
    /// See invariant 2.
    pub labels: Vec<u64>,
    /// Landing pads, sorted (a subset of `labels`).
    pub landing_pads: Vec<u64>,
    /// Ranges of movable sections that belong to no function but are not padding: nothing may be
    /// placed there. Sorted.
    pub obstacles: Vec<(u64, u64)>,
    /// Places in NOP padding that something refers to, with the function that control would run into
    /// from there: `(address, entry of that function)`, sorted. (GCC's empty `.cold` parts.)
    pub padding_entries: Vec<(u64, u64)>,
    /// Sections whose functions may move.
    pub movable_sections: Vec<usize>,
    pub(crate) inst_starts: CodeSet,
}

/// What [`Program::take_references`] took: good for nothing but being freed, by whom and when that costs least. (On large
/// programs the proof needs the memory more.)
pub struct References {
    _eh_frame: Option<EhFrame>,
    _fixups: IndexLists<FunctionId, Fixup>,
    _data_refs: Vec<DataRef>,
    _tables: Vec<JumpTable>,
    _places: [Vec<u64>; 3],
    _inst_starts: CodeSet,
}

impl<'d> Program<'d> {
    /// Takes away what only a rewriter needs: references, tables, labels, unwind tables. Functions and their names stay.
    pub fn take_references(&mut self) -> References {
        References {
            _eh_frame: self.eh_frame.take(),
            _fixups: std::mem::take(&mut self.fixups),
            _data_refs: std::mem::take(&mut self.data_refs),
            _tables: std::mem::take(&mut self.tables),
            _places: [&mut self.jump_targets, &mut self.labels, &mut self.landing_pads].map(std::mem::take),
            _inst_starts: std::mem::replace(&mut self.inst_starts, CodeSet::new(&[])),
        }
    }

    /// The function that holds `addr`.
    pub fn function_at(&self, addr: u64) -> Option<FunctionId> {
        find_function(self.functions.as_slice(), &self.function_index, addr)
    }

    /// The function that holds `addr`, and whether that is its entry.
    pub(crate) fn place_of(&self, addr: u64) -> Option<(FunctionId, bool)> {
        place_of(self.functions.as_slice(), &self.function_index, addr)
    }

    /// Interior labels of a function.
    pub fn labels_of(&self, function: &Function) -> &[u64] {
        sorted_range(&self.labels, function.start, function.end)
    }

    /// Places in `start..end` that words of data lead an indirect jump to, sorted. Function entries are not among them.
    pub fn jump_targets_in(&self, start: u64, end: u64) -> &[u64] {
        sorted_range(&self.jump_targets, start, end)
    }

    /// The gap between functions that holds `addr`, if there is nothing but padding in it.
    pub(crate) fn padding_at(&self, addr: u64) -> Option<(u64, u64)> {
        let section = self.image.sections().get(self.image.exec_section_at(addr)?)?;
        let functions = self.functions.as_slice();
        let last = self.function_index.last_upto(addr).map(|last| last.0);
        let next = last.map_or(0, |last| last + 1);
        let before = last.and_then(|index| functions.get(index));
        let start = before.map_or(section.addr, |function| function.end.max(section.addr));
        let section_end = section.addr + section.size;
        let end = functions.get(next).map_or(section_end, |function| function.start.min(section_end));
        if addr < start || addr >= end {
            return None;
        }
        let bytes = self.image.bytes_at(start, end - start)?;
        crate::discover::is_padding(bytes, start).then_some((start, end))
    }

    /// Whether an instruction starts at `addr`, as far as the code was decoded.
    pub fn is_inst_start(&self, addr: u64) -> bool {
        self.inst_starts.get(addr)
    }

    /// The name of a function: its symbol, else its address.
    pub fn name(&self, id: FunctionId) -> String {
        let function = &self.functions[id];
        let name = function.symbol.and_then(|index| {
            let table = self.symtab()?;
            let symbol = table.get(index as usize)?;
            Some(String::from_utf8_lossy(table.name(&symbol)).into_owned())
        });
        name.filter(|name| !name.is_empty()).unwrap_or_else(|| format!("{:#x}", function.start))
    }

    /// The static symbol table.
    pub fn symtab(&self) -> Option<SymbolTable<'d>> {
        self.image.symtab()
    }

    /// The bytes of a function.
    pub fn bytes(&self, function: &Function) -> &'d [u8] {
        self.image.bytes_at(function.start, function.size()).unwrap_or(&[])
    }
}

/// Finds functions by address. Most addresses that are asked for are entries, for which the functions themselves need not
/// be looked at: their starts alone fit into a cache.
pub(crate) struct FunctionIndex {
    starts: Vec<u64>,
    index: AddressIndex,
}

impl FunctionIndex {
    pub(crate) fn new(functions: &[Function]) -> Self {
        let starts: Vec<u64> = functions.iter().map(|function| function.start).collect();
        let index = AddressIndex::new(&starts, |&start| start);
        Self { starts, index }
    }

    /// Position and start of the last function that starts at `addr` or in front of it.
    fn last_upto(&self, addr: u64) -> Option<(usize, u64)> {
        let index = self.index.last_upto(&self.starts, |&start| start, addr)?;
        self.starts.get(index).map(|&start| (index, start))
    }
}

/// The function that holds `addr`; `index` is the one of `functions`.
pub(crate) fn find_function(functions: &[Function], index: &FunctionIndex, addr: u64) -> Option<FunctionId> {
    place_of(functions, index, addr).map(|(id, _)| id)
}

/// The function that holds `addr`, and whether that is its entry.
pub(crate) fn place_of(functions: &[Function], index: &FunctionIndex, addr: u64) -> Option<(FunctionId, bool)> {
    let (index, start) = index.last_upto(addr)?;
    let id = FunctionId(u32::try_from(index).unwrap_or(u32::MAX));
    (start == addr || functions.get(index).is_some_and(|function| addr < function.end)).then_some((id, start == addr))
}

/// The part of a sorted slice that lies in `start..end`.
pub(crate) fn sorted_range(sorted: &[u64], start: u64, end: u64) -> &[u64] {
    let first = sorted.partition_point(|&addr| addr < start);
    let last = sorted.partition_point(|&addr| addr < end);
    sorted.get(first..last.max(first)).unwrap_or(&[])
}
