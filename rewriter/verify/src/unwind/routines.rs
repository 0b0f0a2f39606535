//! P4: exception tables that a routine reads of which it is not known that it reads other forms than its compiler writes.

use gimli::Pointer;
use postlink_image::{Image, Symbol};

use super::frames::Frames;
use super::violation;
use crate::proof::{Findings, Obligation};
use crate::walk::{Context, little};

/// Routines that read every form of the format (those of gcc's, LLVM's and Rust's runtime libraries).
const READ_ALL: [&str; 7] = [
    "__gxx_personality_v0",
    "__gcc_personality_v0",
    "rust_eh_personality",
    "__gnat_personality_v0",
    "__gdc_personality_v0",
    "__gccgo_personality_v0",
    "__gnu_objc_personality_v0",
];

/// Compares the encodings of all such tables of the old file with those of the new one, for all of their code.
pub(crate) fn check(cx: &Context<'_, '_>, (old, new): (&Frames<'_>, &Frames<'_>), findings: &mut Findings) {
    if cx.claim.is_empty() {
        return;
    }
    let mut judged: Vec<(Pointer, bool)> = Vec::new();
    let mut is_foreign = |routine: Pointer| {
        if let Some(known) = judged.iter().find(|known| known.0 == routine) {
            return known.1;
        }
        let foreign = !reads_all(cx.old, &routine);
        judged.push((routine, foreign));
        foreign
    };
    let foreign: Vec<bool> = old.routines().map(|routine| routine.is_some_and(&mut is_foreign)).collect();
    if !foreign.contains(&true) {
        return;
    }
    for frame in old.frames.iter().filter(|frame| foreign.get(frame.cie as usize) == Some(&true)) {
        let Some(table) = frame.lsda else { continue };
        let form = form(cx.old, table);
        for piece in cx.claim.pieces(frame.start, frame.end).filter(|piece| !piece.is_point) {
            findings.checked.call_sites += 1;
            let at = piece.start.max(frame.start);
            let to = piece.new_of(at);
            let upto = new.frames.partition_point(|frame| frame.start <= to);
            let found = upto.checked_sub(1).and_then(|at| new.frames.get(at)).filter(|frame| to < frame.end);
            if form.is_none() || found.and_then(|frame| frame.lsda).and_then(|table| self::form(cx.new, table)) != form {
                findings.violate(Obligation::Unwinding, || {
                    violation("lsda-form", at, to, &cx.functions, "the exception table has other encodings, which its reader may not know")
                });
            }
        }
    }
}

/// The encodings of landing pads' base, types and call sites.
fn form(image: &Image<'_>, table: u64) -> Option<(u8, u8, u8)> {
    const OMIT: u8 = 0xff;
    let byte = |at: u64| image.bytes_at(at, 1).and_then(|bytes| bytes.first().copied());
    let pads = byte(table)?;
    // Encodings with a base that is written: nobody but us writes those.
    if pads != OMIT {
        return Some((pads, 0, 0));
    }
    let types = byte(table + 1)?;
    let mut at = table + 2;
    if types != OMIT {
        while byte(at)? & 0x80 != 0 {
            at += 1;
        }
        at += 1;
    }
    Some((pads, types, byte(at)?))
}

/// By the names of the routine, of the variable that holds its address, or in the relocations of either.
fn reads_all(old: &Image<'_>, routine: &Pointer) -> bool {
    let (place, content) = match *routine {
        Pointer::Direct(addr) => (addr, None),
        Pointer::Indirect(addr) => (addr, old.bytes_at(addr, 8).map(little).filter(|&addr| addr != 0)),
    };
    let symbols = [old.symtab(), old.dynsym()];
    let is_named = |symbol: &Symbol| symbol.value != 0 && (symbol.value == place || Some(symbol.value) == content);
    let by_symbol = symbols.iter().flatten().any(|table| {
        table.iter().any(|symbol| is_named(&symbol) && is_known(table.name(&symbol)))
    });
    let is_variable = matches!(routine, Pointer::Indirect(_));
    by_symbol || content.is_none() && old.static_relocations().any(|(table, target)| {
        let Some(section) = old.sections().get(target) else { return false };
        let (is_unwind, has_variable) = (section.name == b".eh_frame", is_variable && section.contains(place));
        let leads = |offset: u64| is_unwind && leads_to(old, offset, place) || has_variable && offset == place;
        (is_unwind || has_variable) && old.rela_table(table).iter().any(|relocation| {
            let symbol = old.symtab().and_then(|symbols| Some((symbols, symbols.get(relocation.symbol as usize)?)));
            symbol.is_some_and(|(symbols, symbol)| is_known(symbols.name(&symbol)) && leads(relocation.offset))
        })
    })
}

/// Whether the field of 4 or 8 bytes at `field` holds `place`, or the distance to it.
fn leads_to(image: &Image<'_>, field: u64, place: u64) -> bool {
    let Some(word) = image.bytes_at(field, 4).map(little) else { return false };
    word == place & 0xffff_ffff || field.wrapping_add(word) & 0xffff_ffff == place & 0xffff_ffff
}

fn is_known(name: &[u8]) -> bool {
    let name = String::from_utf8_lossy(name);
    let name = name.strip_prefix("DW.ref.").unwrap_or(&name);
    let name = name.split('@').next().unwrap_or(name);
    // Rust may put the name of a crate in front.
    READ_ALL.contains(&name) || name.ends_with("rust_eh_personality")
}
