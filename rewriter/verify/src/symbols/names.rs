//! Names of symbols: equal ones, those of parts of functions, and symbols by their names.

use std::hash::Hasher as _;

use memchr::{memmem, memrchr};
use postlink_image::{Symbol, SymbolTable};
use rayon::prelude::*;
use rustc_hash::FxHasher;

/// The symbol's name, empty if its offset is out of range.
pub(super) fn name_of<'d>(table: &SymbolTable<'d>, symbol: &Symbol) -> &'d [u8] {
    let rest = table.strings().get(symbol.name as usize..).unwrap_or(&[]);
    std::ffi::CStr::from_bytes_until_nul(rest).map_or(rest, std::ffi::CStr::to_bytes)
}

/// Whether `name`, which holds no zero, is the name of `symbol`.
fn is_name(table: &SymbolTable<'_>, symbol: &Symbol, name: &[u8]) -> bool {
    let rest = table.strings().get(symbol.name as usize..).unwrap_or(&[]);
    rest.strip_prefix(name).is_some_and(|rest| rest.first().is_none_or(|&end| end == 0))
}

pub(super) fn hash(name: &[u8]) -> u32 {
    let mut hasher = FxHasher::default();
    hasher.write(name);
    (hasher.finish() >> 32) as u32
}

/// Names of the symbols of two tables.
pub(super) struct Names<'d> {
    before: SymbolTable<'d>,
    after: SymbolTable<'d>,
    /// Below this offset both have the same strings, up to their ends.
    common: usize,
}

impl<'d> Names<'d> {
    pub(super) fn new(before: SymbolTable<'d>, after: SymbolTable<'d>) -> Self {
        let (old, new) = (before.strings(), after.strings());
        let whole = old.par_chunks(CHUNK).zip(new.par_chunks(CHUNK)).position_first(|(a, b)| a != b).unwrap_or(usize::MAX);
        let from = whole.saturating_mul(CHUNK).min(old.len()).min(new.len());
        let more = old.iter().skip(from).zip(new.iter().skip(from)).take_while(|(a, b)| a == b).count();
        let common = old.get(..from + more).and_then(|strings| memrchr(0, strings)).map_or(0, |at| at + 1);
        Self { before, after, common }
    }

    /// Whether an old symbol and a new one have the same name.
    pub(super) fn are_equal(&self, old: &Symbol, new: &Symbol) -> bool {
        old.name == new.name && (old.name as usize) < self.common || is_name(&self.after, new, name_of(&self.before, old))
    }
}

/// Strings that one thread compares in one go.
const CHUNK: usize = 1 << 16;

/// The strings of a table that are names that compilers give to parts of functions: they contain `.cold`.
pub(crate) struct ColdNames {
    /// Names from the first of these offsets to the second contain what stands at the second; sorted.
    spans: Vec<(usize, usize)>,
}

impl ColdNames {
    pub(crate) fn new(strings: &[u8]) -> Self {
        let mut spans: Vec<(usize, usize)> = Vec::new();
        for at in memmem::find_iter(strings, b".cold") {
            let (start, last) = spans.last().copied().unwrap_or_default();
            let since = strings.get(last..at).unwrap_or(&[]);
            spans.push((memrchr(0, since).map_or(start, |end| last + end + 1), at));
        }
        Self { spans }
    }

    /// Whether the name at `offset` is one.
    pub(crate) fn holds(&self, offset: u32) -> bool {
        let offset = offset as usize;
        let next = self.spans.partition_point(|span| span.1 < offset);
        self.spans.get(next).is_some_and(|span| span.0 <= offset)
    }
}

/// Symbols by name and value: chains in one table, as in an ELF hash section.
pub(super) struct ByNameAndValue<'d> {
    table: SymbolTable<'d>,
    /// First symbol of each chain; 0, the null symbol, ends it.
    heads: Vec<u32>,
    /// The next symbol of the chain that the symbol is in.
    next: Vec<u32>,
}

impl<'d> ByNameAndValue<'d> {
    pub(super) fn new(table: SymbolTable<'d>) -> Self {
        let count = table.len();
        let mut this = Self { table, heads: vec![0; count.next_power_of_two()], next: vec![0; count] };
        let place = |at: usize| table.get(at).map_or(0, |symbol| this.place(name_of(&table, &symbol), symbol.value));
        let places: Vec<usize> = (0..count).into_par_iter().map(place).collect();
        // From the last one, so that chains are in table order.
        for (at, &place) in places.iter().enumerate().skip(1).rev() {
            if let (Some(head), Some(next)) = (this.heads.get_mut(place), this.next.get_mut(at)) {
                *next = std::mem::replace(head, u32::try_from(at).unwrap_or(0));
            }
        }
        this
    }

    /// Chain of a name and value.
    fn place(&self, name: &[u8], value: u64) -> usize {
        let mut hasher = FxHasher::default();
        hasher.write_u64(value ^ u64::from(hash(name)) << 32);
        (hasher.finish() >> 16) as usize & (self.heads.len() - 1)
    }

    /// All symbols of that name and value, in table order.
    pub(super) fn all<'a>(&'a self, name: &'a [u8], value: u64) -> impl Iterator<Item = Symbol> + 'a {
        let head = self.heads.get(self.place(name, value)).copied();
        let chain = std::iter::successors(head, |&at| self.next.get(at as usize).copied()).take_while(|&at| at != 0);
        let symbols = chain.filter_map(|at| self.table.get(at as usize));
        symbols.filter(move |symbol| symbol.value == value && is_name(&self.table, symbol, name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cold_names_are_those_that_contain_the_word() {
        arbtest::arbtest(|u| {
            let mut strings = Vec::new();
            for _ in 0..u.int_in_range(0..=40)? {
                strings.extend_from_slice(u.choose(&[&b".cold"[..], b"\0", b"f", b".", b".col", b"d"])?);
            }
            let cold = ColdNames::new(&strings);
            for offset in 0..strings.len() + 3 {
                let name = strings.get(offset..).unwrap_or(&[]).split(|&byte| byte == 0).next().unwrap_or(&[]);
                let expected = name.windows(5).any(|part| part == b".cold");
                assert_eq!(cold.holds(u32::try_from(offset).unwrap_or(0)), expected, "{offset} in {strings:?}");
            }
            Ok(())
        })
        .budget_ms(300);
    }
}
