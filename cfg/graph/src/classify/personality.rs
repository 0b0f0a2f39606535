//! Who reads exception tables: routines that are known to read every form of them, and others.
//!
//! The routines of gcc's, LLVM's and Rust's runtime libraries read all that the format allows. Those of other languages may read
//! only what their compiler writes (LDC's for D and Crystal's take no value behind the encoding of @LPStart).

use postlink_image::{EhFrame, Image, eh_pe};

const KNOWN: [&[u8]; 6] = [
    b"__gxx_personality_v0",
    b"__gcc_personality_v0",
    b"__gnat_personality_v0",
    b"__gdc_personality_v0",
    b"__gccgo_personality_v0",
    b"__gnu_objc_personality_v0",
];

/// The crate that holds Rust's may be part of its name, in front.
const RUST: &[u8] = b"rust_eh_personality";

/// For each CIE whether its routine is a known one, or there is none.
pub(super) fn known(image: &Image<'_>, eh_frame: &EhFrame) -> Vec<bool> {
    let targets = eh_frame.cies.iter().map(|cie| cie.personality.filter(|personality| personality.target != 0));
    let mut wanted: Vec<(u64, bool)> = targets
        .clone()
        .flatten()
        // What the variable holds is known, unless the routine is in another file: then the variable has a name.
        .flat_map(|personality| [Some(personality.target), stored(image, personality.encoding, personality.target)])
        .flatten()
        .map(|addr| (addr, false))
        .collect();
    wanted.sort_unstable();
    wanted.dedup();
    if wanted.is_empty() {
        return vec![true; eh_frame.cies.len()];
    }
    for table in [image.symtab(), image.dynsym()].into_iter().flatten() {
        for symbol in table.iter().filter(|symbol| symbol.value != 0) {
            if let Ok(at) = wanted.binary_search_by_key(&symbol.value, |wanted| wanted.0)
                && let Some(wanted) = wanted.get_mut(at)
            {
                wanted.1 |= is_known(table.name(&symbol));
            }
        }
    }
    let is_wanted = |addr: u64| {
        wanted.binary_search_by_key(&addr, |wanted| wanted.0).is_ok_and(|at| wanted.get(at).is_some_and(|wanted| wanted.1))
    };
    targets
        .map(|personality| {
            personality.is_none_or(|personality| {
                is_wanted(personality.target)
                    || stored(image, personality.encoding, personality.target).is_some_and(is_wanted)
                    || is_relocated(image, personality.field)
                    || personality.encoding & eh_pe::INDIRECT != 0 && is_relocated(image, personality.target)
            })
        })
        .collect()
}

/// What an indirect pointer holds.
fn stored(image: &Image<'_>, encoding: u8, target: u64) -> Option<u64> {
    let is_indirect = encoding & eh_pe::INDIRECT != 0;
    let word = image.bytes_at(target, 8).filter(|_| is_indirect)?;
    word.first_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes)).filter(|&addr| addr != 0)
}

/// Whether the static relocation of the pointer in the CIE, or of the variable that it leads to, names a known routine.
fn is_relocated(image: &Image<'_>, field: u64) -> bool {
    let Some(table) = image.symtab() else { return false };
    let mut relocations = image
        .static_relocations()
        .filter(|&(_, target)| image.sections().get(target).is_some_and(|section| section.contains(field)))
        .flat_map(|(table, _)| image.rela_table(table).iter());
    let found = relocations.find(|rela| rela.offset == field);
    found.and_then(|rela| table.get(rela.symbol as usize)).is_some_and(|symbol| is_known(table.name(&symbol)))
}

fn is_known(name: &[u8]) -> bool {
    let name = name.strip_prefix(b"DW.ref.").unwrap_or(name);
    let name = name.split(|&byte| byte == b'@').next().unwrap_or(name);
    KNOWN.contains(&name) || name.ends_with(RUST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for name in ["__gxx_personality_v0", "DW.ref.rust_eh_personality", "__gxx_personality_v0@CXXABI_1.3", "_RNvCsabc_7___rustc19rust_eh_personality"] {
            assert!(is_known(name.as_bytes()), "{name}");
        }
        for name in ["_d_eh_personality", "DW.ref.__crystal_personality", "my__gxx_personality_v0x", ""] {
            assert!(!is_known(name.as_bytes()), "{name}");
        }
    }
}
