//! Functions that tables lead into by distances of which no relocation tells, and functions that the program patches.
//!
//! Such tables are known by the names of their sections or symbols only.

use memchr::memmem;
use postlink_image::{Image, Symbol};

use super::{lower, pin_range};
use crate::code_relocs::symbol_value;
use crate::{Class, Program, Reason};

/// Sections in which relocated words name the functions, or places in them.
const SECTIONS: [(&[u8], Reason); 5] = [
    // LLVM's stack maps and implicit null checks: a function's address, and offsets from there.
    (b".llvm_stackmaps", Reason::HiddenDistances),
    (b".llvm_faultmaps", Reason::HiddenDistances),
    // Restartable sequences: the address of the first instruction, the sequence's length, the handler's address.
    (b"__rseq_cs", Reason::HiddenDistances),
    // XRay's sleds, a jump and NOPs each, all of whose bytes are written over.
    (b"xray_instr_map", Reason::PatchedCode),
    (b"xray_fn_idx", Reason::PatchedCode),
];

/// Pins them.
pub(super) fn pin(program: &mut Program<'_>) {
    let image = program.image;
    for (place, reason) in named(image) {
        if let Some(id) = program.function_at(place) {
            lower(&mut program.functions[id], Class::Pinned, reason);
        }
    }
    if let Some((low, high)) = go_code(image) {
        pin_range(program, low, high, Reason::HiddenDistances);
    }
}

/// What the relocations of [`SECTIONS`] lead to.
fn named(image: &Image<'_>) -> Vec<(u64, Reason)> {
    let Some(symbols) = image.symtab() else { return Vec::new() };
    let mut places = Vec::new();
    for (table, target) in image.static_relocations() {
        let Some(section) = image.sections().get(target) else { continue };
        let Some(&(_, reason)) = SECTIONS.iter().find(|entry| entry.0 == section.name) else { continue };
        let relocations = image.rela_table(table);
        let values = relocations.iter().filter_map(|rela| Some(symbol_value(&symbols, &rela)?.wrapping_add_signed(rela.addend)));
        places.extend(values.map(|value| (value, reason)));
    }
    places
}

/// The code that the Go toolchain compiled, if there is some: `runtime.pclntab` has the distance of each function from
/// `runtime.text`, and of each instruction from its function.
fn go_code(image: &Image<'_>) -> Option<(u64, u64)> {
    let table = image.symtab()?;
    memmem::find(table.strings(), b"runtime.pclntab")?;
    let value_of = |name: &[u8]| {
        let is_it = |symbol: &Symbol| symbol.is_defined() && table.name(symbol) == name;
        table.iter().find(is_it).map(|symbol| symbol.value)
    };
    value_of(b"runtime.pclntab")?;
    Some((value_of(b"runtime.text").unwrap_or(0), value_of(b"runtime.etext").unwrap_or(u64::MAX)))
}
