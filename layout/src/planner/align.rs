//! Which alignment a function keeps.

use postlink_base::Id;
use postlink_cfg::{FixupKind, FunctionId, Program};
use rayon::prelude::*;

/// Functions whose address is a value somewhere: their alignment may be relied upon (the low bits of pointers to members
/// say whether a function is virtual, Itanium C++ ABI 2.3; tagged pointers). Addresses of labels inside do not count.
pub(super) fn address_taken(program: &Program<'_>) -> Vec<bool> {
    let entry = |target: u64| {
        let id = program.function_at(target)?;
        program.functions.get(id).filter(|function| function.start == target).map(|_| id)
    };
    let in_code = (0..program.fixups.len()).into_par_iter().flat_map_iter(|index| {
        let is_value = |kind| !matches!(kind, FixupKind::Call | FixupKind::Branch32 | FixupKind::Branch8 | FixupKind::Memory);
        program.fixups.at(index).iter().filter(move |fixup| is_value(fixup.kind)).filter_map(|fixup| entry(fixup.target))
    });
    let in_data = program.data_refs.par_iter().filter_map(|data_ref| entry(data_ref.target));
    let mut taken = vec![false; program.functions.len()];
    let mut mark = |id: FunctionId| {
        if let Some(flag) = taken.get_mut(id.index()) {
            *flag = true;
        }
    };
    in_code.chain(in_data).collect::<Vec<FunctionId>>().into_iter().for_each(&mut mark);
    let exported = program.image.dynsym().into_iter().flat_map(|table| table.iter().filter(|symbol| symbol.is_defined()));
    exported.filter_map(|symbol| entry(symbol.value)).for_each(&mut mark);
    entry(program.image.header().entry).into_iter().for_each(&mut mark);
    taken
}

/// Alignment of a function: its old one where its address is a value, up to the alignment of its
/// section (which is the largest that any function in it asked for).
pub(super) fn whole_align(program: &Program<'_>, id: FunctionId, address_taken: bool) -> u32 {
    if !address_taken {
        return 1;
    }
    let function = &program.functions[id];
    let section = program.image.sections().get(function.section as usize);
    // At least the lowest bit is kept: an assembler's section may ask for no alignment at all, and what is even by chance
    // may still be tagged.
    let most = section.map_or(16, |section| section.align.clamp(2, 4096));
    1 << function.start.trailing_zeros().min(most.trailing_zeros())
}
