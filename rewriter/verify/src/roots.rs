//! Where the walk starts.

use postlink_image::{DynamicTable, Image, elf};
use rayon::prelude::*;

use crate::code::CodeView;
use crate::pointers::{DynamicRelocations, Pointer};

/// Every address of old code that something outside of code leads to, sorted: the program entry,
/// function symbols and exports, `DT_INIT` and `DT_FINI`, words of data and dynamic relocations,
/// starts of frames and landing pads.
pub(crate) fn collect(
    old: &Image<'_>,
    code: &CodeView<'_>,
    pointers: &[Pointer],
    dynamic: &DynamicRelocations,
    frames: impl Iterator<Item = u64>,
    landing_pads: impl Iterator<Item = u64>,
) -> Vec<u64> {
    let mut roots = vec![old.header().entry];
    for table in [old.symtab(), old.dynsym()].into_iter().flatten() {
        roots.extend(table.iter().filter(|symbol| symbol.is_function() && symbol.is_defined()).map(|symbol| symbol.value));
    }
    let tags = DynamicTable::read(old);
    roots.extend([elf::DT_INIT, elf::DT_FINI].into_iter().filter_map(|tag| tags.value(tag)));
    roots.extend(pointers.iter().map(|pointer| pointer.target));
    roots.extend(dynamic.targets(old));
    roots.extend(frames);
    roots.extend(landing_pads);
    roots.retain(|&root| code.contains(root));
    roots.par_sort_unstable();
    roots.dedup();
    roots
}
