//! Places in a file that a mutation can change.

use postlink_base::{AddressMap, MapKind, MapRange, OldAddr};
use postlink_image::{Image, elf, reloc, relr_addresses};
use yaxpeax_arch::LengthedInstruction as _;
use yaxpeax_x86::amd64::{InstDecoder, Instruction, Opcode};

use crate::got::GotSites;

/// File offsets in the new file.
#[derive(Default)]
pub(crate) struct Sites {
    /// Copied instructions: offset, length.
    pub(crate) instructions: Vec<(usize, usize)>,
    /// Offset of each `rel32`/`disp32` field.
    pub(crate) displacements: Vec<usize>,
    /// Offset of the last byte of an immediate.
    pub(crate) immediates: Vec<usize>,
    /// Offset of the byte with the condition code.
    pub(crate) conditions: Vec<usize>,
    /// Neighbours without position-dependent operands: offset, length, length.
    pub(crate) neighbours: Vec<(usize, usize, usize)>,
    pub(crate) endbrs: Vec<usize>,
    /// Fields of instructions that did not move, but that lead to what moved: offset, and the old bytes.
    pub(crate) changed_fields: Vec<(usize, [u8; 4])>,
    /// Fields of instructions that did not move and lead to what did not move either.
    pub(crate) kept_fields: Vec<usize>,
    /// Bytes of instructions that did not move, without a field that depends on their place.
    pub(crate) kept_bytes: Vec<usize>,
    pub(crate) got: GotSites,
    /// Entries of jump tables: offset, width; neighbours in the list stand beside each other.
    pub(crate) table_entries: Vec<(usize, usize)>,
    /// Words of `.got*`, `.init_array`, `.fini_array` that are not zero.
    pub(crate) words: Vec<usize>,
    /// Addends of RELATIVE relocations.
    pub(crate) addends: Vec<usize>,
    pub(crate) relr_words: Vec<usize>,
    pub(crate) relr_table: Vec<usize>,
    /// `st_value` of defined functions.
    pub(crate) symbol_values: Vec<usize>,
    pub(crate) symbol_sizes: Vec<usize>,
    /// `p_flags` of loaded segments that are not executable.
    pub(crate) data_segments: Vec<usize>,
    pub(crate) stack_flags: Vec<usize>,
    /// Trap bytes far from live code.
    pub(crate) traps: Vec<usize>,
    pub(crate) data_bytes: Vec<usize>,
    pub(crate) entry: Vec<usize>,
    pub(crate) init_tags: Vec<usize>,
    /// Operand of `DW_CFA_def_cfa_offset`.
    pub(crate) cfa_offsets: Vec<usize>,
    /// `DW_CFA_offset` of a callee-saved register (two bytes).
    pub(crate) saved_registers: Vec<usize>,
    /// Code length of an FDE.
    pub(crate) frame_lengths: Vec<usize>,
    /// First call site of an LSDA: its start, length and landing pad, one byte each. A shift that
    /// only adds or loses bytes of branches, which throw nothing, is equivalent and not listed.
    pub(crate) call_sites: Vec<usize>,
}

pub(crate) fn collect(old: &Image<'_>, new: &Image<'_>, map: &AddressMap) -> Sites {
    let mut sites = Sites::default();
    code(old, new, map, &mut sites);
    data(old, new, &mut sites);
    headers(new, &mut sites);
    unwind(new, map, &mut sites);
    sites
}

fn code(old: &Image<'_>, new: &Image<'_>, map: &AddressMap, sites: &mut Sites) {
    let decoder = InstDecoder::default();
    let symtab = old.symtab().unwrap();
    for symbol in symtab.iter().filter(|symbol| symbol.is_function() && symbol.is_defined() && symbol.size > 0) {
        let Some(bytes) = old.bytes_at(symbol.value, symbol.size) else { continue };
        let mut at = 0usize;
        let mut before: Option<(usize, usize)> = None;
        while let Some(Ok(inst)) = bytes.get(at..).map(|rest| decoder.decode_slice(rest)) {
            let len = length(&inst);
            let (addr, here) = (symbol.value + at as u64, bytes.get(at..at + len).unwrap_or(&[]));
            at += len;
            let last = std::mem::take(&mut before);
            if len == 0 {
                break;
            }
            if inst.opcode() == Opcode::NOP {
                continue;
            }
            let range = map.range_of(OldAddr::new(addr));
            let target = map.to_new(OldAddr::new(addr)).raw();
            let Some(offset) = new.offset_of(target).map(|offset| offset as usize) else { continue };
            let there = &new.data()[offset..];
            // A conditional branch may have been encoded anew.
            if inst.opcode().is_jcc() {
                match there {
                    [0x0f, second, ..] if second & 0xf0 == 0x80 => sites.conditions.push(offset + 1),
                    [first, ..] if first & 0xf0 == 0x70 => sites.conditions.push(offset),
                    _ => {}
                }
                continue;
            }
            if range.is_some_and(|range| range.kind == MapKind::Point) || inst.opcode() == Opcode::JMP {
                continue;
            }
            sites.instructions.push((offset, len));
            sites.got.add((old, new), map, addr, here);
            if here == [0xf3, 0x0f, 0x1e, 0xfa] {
                sites.endbrs.push(offset);
            }
            let text = inst.to_string();
            let is_relative = here.first() == Some(&0xe8);
            if is_relative {
                sites.displacements.push(offset + 1);
            } else if text.contains("[rip") {
                // The field is the one that differs, or stands at the end without an immediate.
                if matches!(inst.opcode(), Opcode::LEA | Opcode::CALL) || (inst.opcode() == Opcode::MOV && here.first() != Some(&0xc7)) {
                    sites.displacements.push(offset + len - 4);
                }
            } else if matches!(here, [0x83, ..] | [0xb8..=0xbf, _, _, _, _] | [0x48, 0x83, ..]) {
                sites.immediates.push(offset + len - 1);
            }
            let is_kept = range.is_none();
            if is_kept && !is_relative && !text.contains("[rip") && !matches!(inst.opcode(), Opcode::RETURN | Opcode::HLT) {
                sites.kept_bytes.extend(offset..offset + len);
            }
            if is_kept
                && let Some(&field) = sites.displacements.last().filter(|&&field| field >= offset)
                && let Some(old) = here.get(field - offset..).and_then(|rest| rest.first_chunk::<4>())
            {
                if new.data()[field..field + 4] == *old { sites.kept_fields.push(field) } else { sites.changed_fields.push((field, *old)) }
            }
            let is_plain = !is_relative && !text.contains("[rip") && inst.opcode() != Opcode::RETURN && inst.opcode() != Opcode::CALL;
            if is_plain {
                if let Some((last_offset, last_len)) = last
                    && last_offset + last_len == offset
                    && new.data()[last_offset..offset] != new.data()[offset..offset + len]
                {
                    sites.neighbours.push((last_offset, last_len, len));
                }
                before = Some((offset, len));
            }
        }
    }
    for section in new.sections().iter().filter(|section| section.is_exec()) {
        let data = new.section_data(section);
        for (at, run) in data.windows(9).enumerate() {
            if run == [0xcc; 9] {
                sites.traps.push(section.offset as usize + at + 4);
            }
        }
    }
}

fn length(inst: &Instruction) -> usize {
    use yaxpeax_arch::AddressBase as _;
    0u64.wrapping_offset(inst.len()).to_linear()
}

fn data(old: &Image<'_>, new: &Image<'_>, sites: &mut Sites) {
    for (table, target) in old.static_relocations() {
        let section = &old.sections()[target];
        if !section.is_alloc() || section.is_exec() || section.name == b".eh_frame" || section.name == b".gcc_except_table" {
            continue;
        }
        let is_rodata = section.name.starts_with(b".rodata");
        for relocation in old.rela_table(table).iter() {
            let width = if relocation.kind == reloc::R64 { 8 } else { 4 };
            let is_entry = relocation.kind == reloc::PC32 || relocation.kind == reloc::R64;
            let value = old.bytes_at(relocation.offset, width).map(number).unwrap_or(0);
            let leads_to_code = relocation.kind == reloc::PC32 || old.exec_section_at(value).is_some();
            if is_rodata && is_entry && leads_to_code && let Some(offset) = new.offset_of(relocation.offset) {
                sites.table_entries.push((offset as usize, width as usize));
            }
        }
    }
    let overwritten: Vec<u64> =
        new.dynamic_relocations().flat_map(|table| new.rela_table(table).iter().map(|relocation| relocation.offset)).collect();
    for section in new.sections().iter().filter(|section| section.is_alloc() && section.kind != elf::SHT_NOBITS) {
        let (start, size) = (section.offset as usize, section.size as usize);
        let name = section.name;
        match section.kind {
            elf::SHT_RELA => {
                for (index, relocation) in new.rela_table(new.sections().iter().position(|other| other == section).unwrap()).iter().enumerate() {
                    if relocation.kind == reloc::RELATIVE {
                        sites.addends.push(start + index * 24 + 16);
                    }
                }
            }
            elf::SHT_RELR => {
                sites.relr_table.extend((0..size / 8).map(|index| start + index * 8));
                let addrs = relr_addresses(new.section_data(section));
                sites.relr_words.extend(addrs.iter().filter_map(|&addr| Some(new.offset_of(addr)? as usize)));
            }
            elf::SHT_INIT_ARRAY | elf::SHT_FINI_ARRAY | elf::SHT_PROGBITS if name.starts_with(b".got") || section.kind != elf::SHT_PROGBITS => {
                for at in (start..start + size / 8 * 8).step_by(8) {
                    // What the dynamic linker overwrites may be anything in the file.
                    let addr = section.addr + (at - start) as u64;
                    if !overwritten.contains(&addr) && new.data()[at..at + 8] != [0; 8] {
                        sites.words.push(at);
                    }
                }
            }
            elf::SHT_PROGBITS if !section.is_exec() && (name.starts_with(b".rodata") || name.starts_with(b".data")) => {
                sites.data_bytes.extend(start..start + size);
            }
            elf::SHT_DYNAMIC => {
                for at in (start..start + size).step_by(16) {
                    let tag = number(&new.data()[at..at + 8]);
                    if tag == elf::DT_INIT || tag == elf::DT_FINI {
                        sites.init_tags.push(at + 8);
                    }
                }
            }
            _ => {}
        }
    }
    let old_names: Vec<&[u8]> = old.symtab().map(|table| table.iter().map(|symbol| table.name(&symbol)).collect()).unwrap_or_default();
    for table in [new.symtab(), new.dynsym()].into_iter().flatten() {
        let offset = new.sections()[table.section].offset as usize;
        for (index, symbol) in table.iter().enumerate() {
            if symbol.is_function() && symbol.is_defined() && old_names.contains(&table.name(&symbol)) {
                sites.symbol_values.push(offset + index * 24 + 8);
                if symbol.size > 0 {
                    sites.symbol_sizes.push(offset + index * 24 + 16);
                }
            }
        }
    }
}

fn headers(new: &Image<'_>, sites: &mut Sites) {
    sites.entry.push(24);
    for (index, segment) in new.segments().iter().enumerate() {
        let flags = new.header().phoff as usize + index * 56 + 4;
        if segment.kind == elf::PT_LOAD && segment.flags & elf::PF_X == 0 {
            sites.data_segments.push(flags);
        }
        if segment.kind == elf::PT_GNU_STACK {
            sites.stack_flags.push(flags);
        }
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// Walks the records of `.eh_frame`, whose pointers are all `pcrel sdata4` in these programs.
fn unwind(new: &Image<'_>, map: &AddressMap, sites: &mut Sites) {
    let is_copied = |addr: u64| {
        let holds = |range: &MapRange| range.kind == MapKind::Linear && addr.wrapping_sub(range.new.raw()) < u64::from(range.len);
        // With an empty map, nothing moved.
        map.ranges().is_empty() || map.ranges().iter().any(holds)
    };
    let Some((_, section)) = new.section(".eh_frame") else { return };
    let data = new.section_data(section);
    let mut at = 0usize;
    while let Some(len) = data.get(at..at + 4).map(|bytes| number(bytes) as usize).filter(|&len| len != 0) {
        let end = at + 4 + len;
        let id = number(&data[at + 4..at + 8]) as usize;
        if id != 0 {
            let cie = at + 4 - id;
            let has_lsda = data[cie + 9..].iter().take_while(|&&byte| byte != 0).any(|&byte| byte == b'L');
            let code = section.addr + at as u64 + 8;
            let start = code.wrapping_add_signed(i64::from(number(&data[at + 8..at + 12]) as u32 as i32));
            if new.exec_section_at(start).is_some() {
                let base = section.offset as usize;
                sites.frame_lengths.push(base + at + 12);
                let augmentation = data[at + 16] as usize;
                if has_lsda && augmentation == 4 {
                    let distance = number(&data[at + 17..at + 21]) as u32 as i32;
                    if distance != 0 {
                        let lsda = (section.addr + at as u64 + 17).wrapping_add_signed(i64::from(distance));
                        call_site(new, (lsda, start), &is_copied, sites);
                    }
                }
                instructions(&data[at + 17 + augmentation..end], base + at + 17 + augmentation, sites);
            }
        }
        at = end;
    }
}

fn instructions(cfi: &[u8], base: usize, sites: &mut Sites) {
    let uleb = |mut at: usize| {
        while cfi.get(at).is_some_and(|byte| byte & 0x80 != 0) {
            at += 1;
        }
        at + 1
    };
    let mut at = 0;
    while at < cfi.len() {
        let op = cfi[at];
        at = match (op >> 6, op) {
            (1 | 3, _) => at + 1,
            (2, _) => {
                if matches!(op & 0x3f, 3 | 6 | 12..=15) {
                    sites.saved_registers.push(base + at);
                }
                uleb(at + 1)
            }
            (_, 0x0a | 0x0b | 0) => at + 1,
            (_, 2) => at + 2,
            (_, 3) => at + 3,
            (_, 4) => at + 5,
            (_, 0x0e) => {
                if cfi.get(at + 1).is_some_and(|byte| byte & 0x80 == 0) {
                    sites.cfa_offsets.push(base + at + 1);
                }
                uleb(at + 1)
            }
            (_, 0x0d | 0x07 | 0x08 | 0x2e) => uleb(at + 1),
            (_, 0x0c) => uleb(uleb(at + 1)),
            _ => return,
        };
    }
}

fn call_site(new: &Image<'_>, (lsda, function): (u64, u64), is_copied: &dyn Fn(u64) -> bool, sites: &mut Sites) {
    let Some(offset) = new.offset_of(lsda).map(|offset| offset as usize) else { return };
    let data = new.data();
    let uleb = |mut at: usize| {
        while data.get(at).is_some_and(|byte| byte & 0x80 != 0) {
            at += 1;
        }
        at + 1
    };
    let mut at = offset;
    at += match data[at] {
        0xff => 1,
        0x1b | 0x0b | 0x03 => 5,
        _ => return,
    };
    at = if data[at] == 0xff { at + 1 } else { uleb(at + 1) };
    if data[at] != 1 {
        return;
    }
    at += 1;
    let size_end = uleb(at);
    if data[at] == 0 {
        return;
    }
    let (start, len) = (size_end, uleb(size_end));
    let pad = uleb(len);
    // One-byte fields only, and a call site that has a landing pad.
    if len == start + 1 && pad == len + 1 && data[pad] != 0 && data[pad] < 0x7f && data[len] < 0x7f && data[start] < 0x7f {
        let from = function + u64::from(data[start]);
        let to = from + u64::from(data[len]);
        if is_copied(from) || is_copied(to) {
            sites.call_sites.push(start);
        }
        if is_copied(to) {
            sites.call_sites.push(len);
        }
        sites.call_sites.push(pad);
    }
}
