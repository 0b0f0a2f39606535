//! Which alignment a function keeps.

use postlink_cfg::{FunctionId, Program};

/// Alignment of a function: its old one where its address is a value, up to the alignment of its
/// section (which is the largest that any function in it asked for). It may be relied upon: the low bits of pointers to
/// members say whether a function is virtual (Itanium C++ ABI 2.3), and programs tag pointers.
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
