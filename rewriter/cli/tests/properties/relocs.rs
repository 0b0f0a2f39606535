//! Static relocations judged by their formulas: reads both files by itself.
//!
//! A relocation is *direct* if symbol + addend (minus its place) gives the word at its place; *indirect* if it gives it with a
//! place of the PLT or GOT instead of the symbol; *loose* if neither, as where a linker changed the instruction. The
//! input's linker decides which there are; the output may not have others.

use std::collections::{BTreeMap, BTreeSet};

/// What was counted in one file.
#[derive(Default, Debug)]
pub(crate) struct Relocations {
    /// Per described section and type: how many.
    pub(crate) counts: BTreeMap<(String, u32), usize>,
    pub(crate) direct: usize,
    /// Symbol's name and the address in its place.
    indirect: BTreeSet<(String, u64)>,
    /// Symbol's name, type and addend, with the place.
    loose: BTreeMap<(String, u32, i64), u64>,
    /// Direct ones whose symbol is a function that does not hold the target: name, type, addend, with the place.
    outside: BTreeMap<(String, u32, i64), u64>,
    /// Tables that describe code.
    code: BTreeSet<String>,
}

struct Section {
    name: String,
    kind: u32,
    flags: u64,
    addr: u64,
    offset: usize,
    size: usize,
    link: usize,
    info: usize,
}

const GOTPCREL: u32 = 9;

fn number(bytes: &[u8], at: usize, width: usize) -> u64 {
    bytes[at..at + width].iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte))
}

fn text(bytes: &[u8], at: usize) -> String {
    String::from_utf8_lossy(bytes[at..].split(|&byte| byte == 0).next().unwrap()).into_owned()
}

fn sections(file: &[u8]) -> Vec<Section> {
    let (start, count) = (number(file, 0x28, 8) as usize, number(file, 0x3c, 2) as usize);
    let header = |index: usize| start + 64 * index;
    let names = number(file, header(number(file, 0x3e, 2) as usize) + 24, 8) as usize;
    let read = |index: usize| {
        let at = header(index);
        let field = |offset: usize, width: usize| number(file, at + offset, width);
        Section {
            name: text(file, names + field(0, 4) as usize),
            kind: field(4, 4) as u32,
            flags: field(8, 8),
            addr: field(16, 8),
            offset: field(24, 8) as usize,
            size: field(32, 8) as usize,
            link: field(40, 4) as usize,
            info: field(44, 4) as usize,
        }
    };
    (0..count).map(read).collect()
}

/// Width of the field, whether the place is subtracted; `None` for types that say nothing of addresses.
fn form(kind: u32) -> Option<(usize, bool)> {
    match kind {
        1 => Some((8, false)),
        10 | 11 => Some((4, false)),
        24 | 29 => Some((8, true)),
        2 | 4 | 9 | 26 | 41 | 42 => Some((4, true)),
        13 => Some((2, true)),
        15 => Some((1, true)),
        _ => None,
    }
}

/// Reads and judges all static relocations of loaded sections, those of unwind tables left out.
pub(crate) fn read(file: &[u8]) -> Relocations {
    let all = sections(file);
    let loaded = |addr: u64| all.iter().find(|section| section.flags & 2 != 0 && addr >= section.addr && addr - section.addr < section.size as u64);
    let word = |addr: u64, width: usize| {
        let section = loaded(addr).filter(|section| section.kind != 8)?;
        Some(number(file, section.offset + (addr - section.addr) as usize, width))
    };
    let entries = |table: &Section| -> Vec<(u64, u64, i64)> {
        let rows = (0..table.size / 24).map(|row| table.offset + 24 * row);
        rows.map(|at| (number(file, at, 8), number(file, at + 8, 8), number(file, at + 16, 8).cast_signed())).collect()
    };
    let dynamic: BTreeMap<u64, Option<u64>> = all
        .iter()
        .filter(|section| section.kind == 4 && section.flags & 2 != 0)
        .flat_map(entries)
        .map(|(place, info, addend)| (place, (info & 0xffff_ffff == 8).then_some(addend.cast_unsigned())))
        .collect();
    let mut found = Relocations::default();
    for table in all.iter().filter(|section| section.kind == 4 && section.flags & 2 == 0) {
        let target = &all[table.info];
        if target.flags & 2 == 0 || target.name == ".eh_frame" || target.name.starts_with(".gcc_except_table") {
            continue;
        }
        let is_code = target.flags & 4 != 0;
        if is_code {
            found.code.insert(target.name.clone());
        }
        let (symbols, strings) = (&all[table.link], &all[all[table.link].link]);
        for (place, info, addend) in entries(table) {
            let (kind, symbol) = ((info & 0xffff_ffff) as u32, symbols.offset + 24 * (info >> 32) as usize);
            let name = text(file, strings.offset + number(file, symbol, 4) as usize);
            let name = if name.is_empty() { format!("section {}", all[number(file, symbol + 6, 2) as usize].name) } else { name };
            let (info, value, size) = (file[symbol + 4], number(file, symbol + 8, 8), number(file, symbol + 16, 8));
            *found.counts.entry((target.name.clone(), kind)).or_default() += 1;
            assert!(place >= target.addr && place - target.addr < target.size as u64, "{kind} at {place:#x} is outside of {}", target.name);
            let Some((width, minus)) = form(kind).filter(|_| info & 15 != 6) else { continue };
            let content = match dynamic.get(&place).filter(|_| width == 8) {
                Some(None) => continue,
                Some(Some(addend)) => Some(*addend),
                None => word(place, width),
            };
            let Some(content) = content else { continue };
            let mask = u64::MAX >> (64 - 8 * width);
            let base = content.wrapping_add(if minus { place } else { 0 }).wrapping_sub(addend.cast_unsigned()) & mask;
            if base == value & mask {
                found.direct += 1;
                let to = value.wrapping_add_signed(addend).wrapping_add(if minus && is_code { 4 } else { 0 });
                // Words of tables of distances name another place than they lead to.
                if info & 15 == 2 && size > 0 && (is_code || !minus) && !(value..=value + size).contains(&to) {
                    found.outside.insert((name, kind, addend), place);
                }
                continue;
            }
            let slot = loaded(base).filter(|section| [".plt", ".got", ".iplt"].iter().any(|start| section.name.starts_with(start)));
            if slot.is_some() {
                found.indirect.insert((name, base));
            } else {
                found.loose.insert((name, kind, addend), place);
            }
        }
    }
    found
}

/// Whether the relocations of `new`, in which `direct_calls` calls no longer lead through the GOT, are those of `old`; those of
/// functions that were folded are gone. The message says what is wrong.
pub(crate) fn compare(old: &Relocations, new: &Relocations, direct_calls: usize, is_folded: bool) -> Result<(), String> {
    if let Some(other) = new.indirect.iter().find(|slot| !old.indirect.contains(slot)) {
        return Err(format!("relocation through another slot: {other:x?}"));
    }
    if let Some(other) = new.loose.iter().find(|entry| !old.loose.contains_key(entry.0)) {
        return Err(format!("relocation that does not give its word: {other:x?}"));
    }
    if let Some(other) = new.outside.iter().find(|entry| !old.outside.contains_key(entry.0)) {
        return Err(format!("relocation whose symbol does not hold its target: {other:x?}"));
    }
    for ((section, kind), count) in &old.counts {
        if !old.code.contains(section) {
            let now = new.counts.get(&(section.clone(), *kind)).copied().unwrap_or(0);
            if now != *count {
                return Err(format!("{section} had {count} relocations of type {kind} and has {now}"));
            }
        }
    }
    // Calls and operands stay; what branches are relocated depends on the layout, and theirs are of these types.
    let branches = [2, 4, 13, 15, 41];
    let in_code = |all: &Relocations, kind: u32| -> usize {
        all.counts.iter().filter(|entry| entry.0.1 == kind && all.code.contains(&entry.0.0)).map(|entry| entry.1).sum()
    };
    for kind in (0..64).filter(|kind| !branches.contains(kind)) {
        let (before, after) = (in_code(old, kind), in_code(new, kind));
        let gone = if kind == GOTPCREL { before.saturating_sub(after).min(direct_calls) } else { 0 };
        if before < after + gone || before > after + gone && !is_folded {
            return Err(format!("code had {before} relocations of type {kind} and has {after}"));
        }
    }
    Ok(())
}
