//! Where the walk starts, and which of these addresses the program can know.

use postlink_image::{DynamicTable, Image, Symbol, elf};
use rayon::prelude::*;

use crate::bits::AddressSet;
use crate::code::CodeView;
use crate::pointers::{DynamicRelocations, Pointer};

/// Every address of old code that something outside of code leads to: the program entry,
/// function symbols and exports, `DT_INIT` and `DT_FINI`, words of data and dynamic relocations,
/// starts of frames and landing pads.
pub(crate) fn collect(
    old: &Image<'_>,
    code: &CodeView<'_>,
    pointers: &[Pointer],
    dynamic: &DynamicRelocations,
    frames: impl Iterator<Item = u64>,
    landing_pads: impl Iterator<Item = u64>,
) -> AddressSet {
    let roots = AddressSet::new(code.ranges());
    let add = |root: u64| {
        roots.insert(root);
    };
    add(old.header().entry);
    for table in [old.symtab(), old.dynsym()].into_iter().flatten() {
        let symbols = (0..table.len()).into_par_iter().filter_map(|at| table.get(at));
        symbols.filter(|symbol| symbol.is_function() && symbol.is_defined()).for_each(|symbol| add(symbol.value));
    }
    let tags = DynamicTable::read(old);
    [elf::DT_INIT, elf::DT_FINI].into_iter().filter_map(|tag| tags.value(tag)).for_each(add);
    pointers.par_iter().for_each(|pointer| add(pointer.target));
    dynamic.targets(old).into_iter().chain(frames).chain(landing_pads).for_each(add);
    roots
}

/// Addresses of old code that something outside of code holds or stores as a value: all of the above but for static
/// symbols, frames and landing pads, which programs do not read.
pub(crate) fn values(old: &Image<'_>, code: &CodeView<'_>, pointers: &[Pointer], dynamic: &DynamicRelocations) -> AddressSet {
    let values = AddressSet::new(code.ranges());
    let add = |value: u64| {
        values.insert(value);
    };
    add(old.header().entry);
    if let Some(table) = old.dynsym() {
        table.iter().filter(Symbol::is_defined).for_each(|symbol| add(symbol.value));
    }
    let tags = DynamicTable::read(old);
    [elf::DT_INIT, elf::DT_FINI].into_iter().filter_map(|tag| tags.value(tag)).for_each(add);
    pointers.par_iter().for_each(|pointer| add(pointer.target));
    dynamic.targets(old).into_iter().for_each(add);
    dynamic.symbol_targets(old).for_each(add);
    values
}
