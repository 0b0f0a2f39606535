//! From the names of a profile to addresses.
//!
//! BOLT names a global symbol as it is. It numbers local symbols of equal names by address, from 1,
//! whatever their type: `NAME/2`; where a `FILE` symbol stands before them, they have a second name
//! `NAME/FILE/1`, numbered apart. Symbols at one address are in table order, functions before others
//! and section symbols last.

use std::sync::OnceLock;

use postlink_image::{Image, Symbol, SymbolTable};
use rustc_hash::FxHashMap;

use crate::fdata::hex;

const STT_FUNC: u8 = 2;
const STT_SECTION: u8 = 3;
const STT_FILE: u8 = 4;
const STB_LOCAL: u8 = 0;
/// Clang's link-time optimization names a file that is there or not, so that BOLT passes it over.
const LTO_FILE: &[u8] = b"ld-temp.o";
/// How BOLT names functions that it knows from their FDE alone.
const FDE_PREFIX: &[u8] = b"__BOLT_FDE_FUNCat";
/// What a name designates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resolved {
    /// The symbol at this address.
    Address(u64),
    /// The stub in the procedure linkage table through which a function is called; its address if
    /// this file defines it, else 0.
    Plt(u64),
    /// No symbol has this name.
    Unknown,
    /// Several local symbols have this name, which has no number.
    Ambiguous,
}

/// Where the symbols of one name are.
#[derive(Clone, Copy)]
struct Slot {
    /// Address of the global symbol, 0 if there is none.
    global: u64,
    /// Its local symbols are `locals[first..first + count]`.
    first: u32,
    count: u32,
}

/// A function's name, the name of its file, its number.
type FileName<'d> = (&'d [u8], &'d [u8], u32);

/// Names of one file's symbols.
pub(crate) struct Names<'d> {
    symtab: Option<SymbolTable<'d>>,
    /// Name to index of its slot.
    index: FxHashMap<&'d [u8], u32>,
    slots: Vec<Slot>,
    /// Addresses of local symbols, grouped by name, in BOLT's order.
    locals: Vec<u64>,
    /// Names with a file in them: made when the first is asked for, because few profiles have them.
    files: OnceLock<FxHashMap<FileName<'d>, u64>>,
}

impl<'d> Names<'d> {
    pub(crate) fn new(image: &Image<'d>) -> Self {
        let symtab = image.symtab().or_else(|| image.dynsym());
        let mut names =
            Self { symtab, index: FxHashMap::default(), slots: Vec::new(), locals: Vec::new(), files: OnceLock::new() };
        let Some(table) = symtab else { return names };
        // Most names have one symbol.
        names.index.reserve(table.len());
        for symbol in table.iter() {
            if symbol.binding() != STB_LOCAL && is_named_place(&symbol) {
                let slot = names.slot_of(table.name(&symbol));
                // A second global of this name would be a damaged file; the first one stays.
                if names.slots[slot].global == 0 {
                    names.slots[slot].global = symbol.value;
                }
            }
        }
        let mut places: Vec<(usize, u64)> = Vec::new();
        for (addr, index) in locals_in_order(&table) {
            let Some(symbol) = table.get(index as usize) else { continue };
            let slot = names.slot_of(table.name(&symbol));
            names.slots[slot].count += 1;
            places.push((slot, addr));
        }
        let mut first = 0u32;
        for slot in &mut names.slots {
            slot.first = first;
            first += slot.count;
            slot.count = 0;
        }
        names.locals = vec![0; places.len()];
        for (slot, addr) in places {
            let slot = &mut names.slots[slot];
            names.locals[(slot.first + slot.count) as usize] = addr;
            slot.count += 1;
        }
        names
    }

    fn slot_of(&mut self, name: &'d [u8]) -> usize {
        let fresh = self.slots.len();
        // Fewer names than symbols, whose numbers are 32 bits wide.
        let slot = *self.index.entry(name).or_insert(u32::try_from(fresh).unwrap_or(u32::MAX)) as usize;
        if slot == fresh {
            self.slots.push(Slot { global: 0, first: 0, count: 0 });
        }
        slot
    }

    fn slot(&self, name: &[u8]) -> Option<&Slot> {
        self.index.get(name).and_then(|&slot| self.slots.get(slot as usize))
    }

    /// Resolves a name without escapes.
    pub(crate) fn resolve(&self, name: &[u8]) -> Resolved {
        if let Some(slot) = self.slot(name) {
            return match (slot.global, slot.count) {
                (0, 0 | 1) => self.local(slot, 1),
                (0, _) => Resolved::Ambiguous,
                (global, _) => Resolved::Address(global),
            };
        }
        if let Some((base, ordinal)) = split_ordinal(name) {
            if let Some(slot) = self.slot(base) {
                return self.local(slot, ordinal);
            }
            if let Some(slash) = base.iter().position(|&byte| byte == b'/') {
                return self.local_of_file(&base[..slash], &base[slash + 1..], ordinal);
            }
        }
        if let Some(base) = name.strip_suffix(b"@PLT") {
            return Resolved::Plt(self.slot(base).map_or(0, |slot| slot.global));
        }
        match name.strip_prefix(FDE_PREFIX).and_then(hex) {
            Some(addr) => Resolved::Address(addr),
            None => Resolved::Unknown,
        }
    }

    /// Local symbol number `ordinal` of a name, from 1.
    fn local(&self, slot: &Slot, ordinal: u32) -> Resolved {
        if ordinal > slot.count {
            return Resolved::Unknown;
        }
        let addr = (slot.first + ordinal).checked_sub(1).and_then(|index| self.locals.get(index as usize));
        addr.map_or(Resolved::Unknown, |&addr| Resolved::Address(addr))
    }

    fn local_of_file(&self, function: &[u8], file: &[u8], ordinal: u32) -> Resolved {
        let Some(table) = self.symtab.as_ref() else { return Resolved::Unknown };
        let files = self.files.get_or_init(|| file_names(table));
        files.get(&(function, file, ordinal)).map_or(Resolved::Unknown, |&addr| Resolved::Address(addr))
    }
}

fn file_names<'d>(table: &SymbolTable<'d>) -> FxHashMap<FileName<'d>, u64> {
    // The FILE symbol that stands before each local symbol.
    let mut files: FxHashMap<u32, &'d [u8]> = FxHashMap::default();
    let mut file: &'d [u8] = &[];
    for (index, symbol) in (0u32..).zip(table.iter()) {
        if symbol.kind() == STT_FILE {
            let name = table.name(&symbol);
            if name != LTO_FILE {
                file = name;
            }
        } else if symbol.binding() == STB_LOCAL && symbol.kind() == STT_FUNC && !file.is_empty() {
            files.insert(index, file);
        }
    }
    let mut counters: FxHashMap<(&[u8], &[u8]), u32> = FxHashMap::default();
    let mut addresses = FxHashMap::default();
    for (_, index) in locals_in_order(table) {
        let (Some(symbol), Some(&file)) = (table.get(index as usize), files.get(&index)) else { continue };
        let name = table.name(&symbol);
        let ordinal = counters.entry((name, file)).or_insert(0);
        *ordinal = ordinal.saturating_add(1);
        addresses.insert((name, file, *ordinal), symbol.value);
    }
    addresses
}

/// Local symbols in the order in which BOLT numbers them, as `(address, index)`.
fn locals_in_order(table: &SymbolTable<'_>) -> Vec<(u64, u32)> {
    let mut locals: Vec<(u64, u8, u32)> = (0u32..)
        .zip(table.iter())
        .filter(|(_, symbol)| symbol.binding() == STB_LOCAL && is_named_place(symbol))
        .map(|(index, symbol)| (symbol.value, u8::from(symbol.kind() != STT_FUNC), index))
        .collect();
    locals.sort_unstable();
    locals.into_iter().map(|(addr, _, index)| (addr, index)).collect()
}

fn is_named_place(symbol: &Symbol) -> bool {
    symbol.is_defined() && symbol.value != 0 && symbol.name != 0 && !matches!(symbol.kind(), STT_FILE | STT_SECTION)
}

/// `name/12` is (`name`, 12).
fn split_ordinal(name: &[u8]) -> Option<(&[u8], u32)> {
    let slash = name.iter().rposition(|&byte| byte == b'/')?;
    let digits = &name[slash + 1..];
    if digits.is_empty() || digits.len() > 9 {
        return None;
    }
    let mut ordinal = 0u32;
    for &digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        ordinal = ordinal * 10 + u32::from(digit - b'0');
    }
    (ordinal > 0).then_some((&name[..slash], ordinal))
}
