//! Which new symbol an old one became, found by its place in the table.

use postlink_image::{Symbol, SymbolTable, elf};
use rayon::prelude::*;
use rustc_hash::FxHashSet;

use super::expected_value;
use super::names::{Names, hash, name_of};
use crate::bits::AddressSet;
use crate::walk::Context;

/// What the check needs to know of an old symbol.
#[derive(Default)]
pub(super) struct Seen {
    /// The value that it must have in the new file.
    pub(super) value: u64,
    /// A new symbol of its name and that value, as many places from the start of the table or from its end;
    /// 0 for none.
    pub(super) twin: u32,
    /// Whether the symbol must be in the new file as well.
    pub(super) is_lasting: bool,
}

/// All old symbols, and the new functions that have name and value of one of them.
pub(super) struct Twins {
    /// By number of the old symbol.
    pub(super) seen: Vec<Seen>,
    found: AddressSet,
}

impl Twins {
    pub(super) fn new(cx: &Context<'_, '_>, before: SymbolTable<'_>, after: SymbolTable<'_>) -> Self {
        let names = Names::new(before, after);
        let see = |at: usize| {
            let old = before.get(at)?;
            let value = expected_value(cx, &old);
            let is_lasting = at > 0 && is_lasting(cx, &old);
            let is_twin = |&place: &usize| {
                place > 0 && after.get(place).is_some_and(|new| new.value == value && names.are_equal(&old, &new))
            };
            let from_end = || after.len().checked_sub(before.len() - at);
            let twin = is_lasting.then(|| Some(at).filter(is_twin).or_else(|| from_end().filter(is_twin))).flatten();
            Some(Seen { value, twin: twin.and_then(|at| u32::try_from(at).ok()).unwrap_or(0), is_lasting })
        };
        let seen: Vec<Seen> = (0..before.len()).into_par_iter().map(|at| see(at).unwrap_or_default()).collect();
        let mut this = Self { seen, found: AddressSet::new(std::iter::once((0, after.len() as u64))) };
        this.find(before, after);
        this
    }

    /// Finds all new functions that have name and value of an old one.
    fn find(&mut self, before: SymbolTable<'_>, after: SymbolTable<'_>) {
        let functions = || {
            let old = self.seen.par_iter().enumerate().filter(|(_, seen)| seen.is_lasting);
            old.filter_map(|(at, seen)| Some((before.get(at)?, seen))).filter(|(old, _)| old.is_function())
        };
        functions().for_each(|(_, seen)| {
            self.found.insert(u64::from(seen.twin));
        });
        // The rest: parts of functions, mostly, or symbols that stand in another order.
        let mut rest: Vec<(u64, u32, usize)> = (1..after.len())
            .into_par_iter()
            .filter(|&at| !self.found.contains(at as u64))
            .filter_map(|at| Some((at, after.get(at)?)))
            .filter(|(_, new)| new.is_function() && new.is_defined())
            .map(|(at, new)| (new.value, hash(name_of(&after, &new)), at))
            .collect();
        rest.par_sort_unstable();
        let values: FxHashSet<u64> = rest.iter().map(|new| new.0).collect();
        functions().filter(|(_, seen)| values.contains(&seen.value)).for_each(|(old, seen)| {
            let name = name_of(&before, &old);
            let key = (seen.value, hash(name));
            let first = rest.partition_point(|new| (new.0, new.1) < key);
            let alike = rest.iter().skip(first).take_while(|new| (new.0, new.1) == key);
            for &(_, _, at) in alike {
                if after.get(at).is_some_and(|new| name_of(&after, &new) == name) {
                    self.found.insert(at as u64);
                }
            }
        });
    }

    /// New functions that have not name and value of an old one.
    pub(super) fn added(&self, after: SymbolTable<'_>) -> Vec<Symbol> {
        (1..after.len())
            .into_par_iter()
            .filter(|&at| !self.found.contains(at as u64))
            .filter_map(|at| after.get(at))
            .filter(|symbol| symbol.is_function() && symbol.is_defined())
            .collect()
    }
}

/// Whether the symbol must be in the new file as well.
fn is_lasting(cx: &Context<'_, '_>, old: &Symbol) -> bool {
    old.kind() != elf::STT_FILE
        && old.kind() != elf::STT_SECTION
        && (!old.is_defined()
            || old.section == elf::SHN_XINDEX
            || cx.old.sections().get(usize::from(old.section)).is_some_and(|section| section.is_alloc()))
}
