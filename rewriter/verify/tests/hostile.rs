//! Any bytes as new file: never a panic, and never proven unless they are the old program.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, reason = "a test talks and fails by panicking")]

use std::process::Command;

use postlink_base::{AddressMap, MapKind, MapRange, NewAddr, OldAddr};
use postlink_image::Image;
use postlink_verify::{CheckOptions, check, read_map};
use yaxpeax_arch::LengthedInstruction as _;

/// A small program with relocations kept.
fn program() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let (source, output) = (folder.path().join("p.c"), folder.path().join("p"));
    let text = "#include <stdio.h>\n\
        int f(int n) { switch (n) { case 1: puts(\"a\"); return 9; case 2: puts(\"b\"); return 4; case 3: return 7;\n\
        case 4: puts(\"d\"); return 1; case 5: return 8; case 6: puts(\"f\"); return 3; default: return n; } }\n\
        int (*volatile table[])(int) = { f };\n\
        int main(int argc, char **argv) { (void)argv; return table[0](argc) == 7; }\n";
    std::fs::write(&source, text).unwrap();
    let status = Command::new("gcc").args(["-O2", "-pie", "-fPIE", "-Wl,-q"]).arg(&source).arg("-o").arg(&output).status();
    assert!(status.unwrap().success());
    std::fs::read(output).unwrap()
}

fn is_proven(old: &[u8], new: &[u8], map: &AddressMap) -> bool {
    let old = Image::parse(old).unwrap();
    Image::parse(new).is_ok_and(|new| check(&old, &new, map, &CheckOptions::default()).is_proven())
}

#[test]
fn identity_and_stripped_are_proven() {
    let old = program();
    assert!(is_proven(&old, &old, &AddressMap::default()));
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in"), folder.path().join("out"));
    std::fs::write(&input, &old).unwrap();
    for arguments in [&["strip"][..], &["strip", "-g"], &["objcopy"], &["objcopy", "--remove-section=.rela.text"]] {
        let mut command = Command::new(arguments[0]);
        command.args(&arguments[1..]).arg(&input);
        if arguments[0] == "strip" {
            command.arg("-o");
        }
        assert!(command.arg(&output).status().unwrap().success());
        let new = std::fs::read(&output).unwrap();
        let (old_image, new_image) = (Image::parse(&old).unwrap(), Image::parse(&new).unwrap());
        assert!(read_map(&new_image).is_none());
        let proof = check(&old_image, &new_image, &AddressMap::default(), &CheckOptions::default());
        assert!(proof.is_proven(), "{arguments:?}: {:#?}", proof.violations);
    }
}

#[test]
fn another_program_is_not_proven() {
    let old = program();
    let other = std::fs::read("/bin/true").unwrap();
    assert!(!is_proven(&old, &other, &AddressMap::default()));
}

/// Bytes that the processor, the dynamic linker or an unwinder never see, or that are free.
fn is_free(image: &Image<'_>, offset: u64) -> bool {
    let loaded = image.sections().iter().find(|section| {
        section.is_alloc() && section.kind != postlink_image::elf::SHT_NOBITS && offset >= section.offset && offset - section.offset < section.size
    });
    // Padding in code is free to be any padding; everything else that is loaded is not. Fields of
    // headers are left to the mutation tests.
    loaded.is_none_or(|section| {
        let is_padding = || is_padding(image, section.addr + (offset - section.offset));
        section.is_exec() && is_padding() || section.kind == postlink_image::elf::SHT_NOTE || section.name == b".eh_frame"
    })
}

/// Whether the byte at `addr` of the old program belongs to a NOP, or to no function whose size is known.
fn is_padding(image: &Image<'_>, addr: u64) -> bool {
    instruction_of(image, addr).is_none_or(|(at, length)| is_nop(image.bytes_at(at, length).unwrap()))
}

fn decode(code: &[u8]) -> Option<yaxpeax_x86::amd64::Instruction> {
    yaxpeax_x86::amd64::InstDecoder::default().decode_slice(code).ok()
}

fn is_nop(code: &[u8]) -> bool {
    decode(code).is_some_and(|instruction| instruction.opcode() == yaxpeax_x86::amd64::Opcode::NOP)
}

/// Address and length of the instruction that holds `addr`, in functions whose size is known.
fn instruction_of(image: &Image<'_>, addr: u64) -> Option<(u64, u64)> {
    let holds = |symbol: &postlink_image::Symbol| symbol.is_function() && symbol.value <= addr && addr - symbol.value < symbol.size;
    let function = image.symtab()?.iter().find(holds)?;
    let (mut at, end) = (function.value, function.value + function.size);
    loop {
        let length = decode(image.bytes_at(at, end - at)?).unwrap().len().to_const();
        if at + length > addr {
            return Some((at, length));
        }
        at += length;
    }
}

/// Whether the byte at `addr` belongs to a call or jump that in `new` leads to NOPs in front of its old target.
fn leads_to_nops(old: &Image<'_>, new: &[u8], addr: u64) -> bool {
    let Some((at, length)) = instruction_of(old, addr) else { return false };
    let offset = usize::try_from(old.offset_of(at).unwrap()).unwrap();
    let (before, after) = (old.bytes_at(at, length).unwrap(), &new[offset..offset + length as usize]);
    let short = matches!(before[0], 0x70..=0x7f | 0xeb);
    let long = matches!(before, [0xe8 | 0xe9, ..] | [0x0f, 0x80..=0x8f, ..]);
    let field = if short { 1 } else { 4 };
    if !(short || long) || before[..before.len() - field] != after[..after.len() - field] {
        return false;
    }
    let target = |code: &[u8]| {
        let distance = if short { i64::from(code[1].cast_signed()) } else { i64::from(i32::from_le_bytes(*code.last_chunk::<4>().unwrap())) };
        (at + length).wrapping_add_signed(distance)
    };
    let (mut reached, wanted) = (target(after), target(before));
    while reached < wanted {
        match old.bytes_at(reached, 15) {
            Some(code) if is_nop(code) => reached += decode(code).unwrap().len().to_const(),
            _ => return false,
        }
    }
    reached == wanted
}

#[test]
fn segments_with_more_memory_than_there_is_are_noticed() {
    let old = program();
    let segments = Image::parse(&old).unwrap().segments().to_vec();
    let loads: Vec<usize> = (0..segments.len()).filter(|&index| segments[index].kind == postlink_image::elf::PT_LOAD).collect();
    assert!(loads.len() >= 3);
    for index in loads {
        let field = 64 + index * 56 + 0x28;
        for size in [segments[index].filesz - 1, segments[index].memsz + 0x2000, segments[index].memsz | 1 << 40, u64::MAX >> 1] {
            let mut new = old.clone();
            new[field..field + 8].copy_from_slice(&size.to_le_bytes());
            assert!(!is_proven(&old, &new, &AddressMap::default()), "segment {index} with {size:#x} bytes");
        }
    }
}

#[test]
fn arbitrary_bytes_are_no_program() {
    let old = program();
    let image = Image::parse(&old).unwrap();
    let loaded = image.sections().iter().filter(|section| section.is_alloc()).map(|section| section.offset + section.size);
    let loaded = usize::try_from(loaded.max().unwrap()).unwrap();
    arbtest::arbtest(|u| {
        let mut new: Vec<u8> = u.arbitrary()?;
        // Half of them with the old file's headers, so that more than the first check sees them.
        if u.arbitrary()? {
            let front = u.choose_index(old.len())?;
            new.splice(0..0, old[..front].iter().copied());
        }
        // What is not loaded may be cut off or damaged, as far as the rest can still be read.
        let same = new.get(..loaded) == old.get(..loaded);
        assert!(same || !is_proven(&old, &new, &AddressMap::default()));
        Ok(())
    })
    .budget_ms(1500);
}

#[test]
fn changed_bytes_are_noticed() {
    let old = program();
    let image = Image::parse(&old).unwrap();
    let size = old.len();
    arbtest::arbtest(|u| {
        let at = u.choose_index(size)?;
        let bit: u8 = u.int_in_range(0..=7)?;
        let mut new = old.clone();
        new[at] ^= 1 << bit;
        let proven = is_proven(&old, &new, &AddressMap::default());
        let harmless = || {
            let addr = image.sections().iter().find(|section| {
                section.is_exec() && section.offset <= at as u64 && at as u64 - section.offset < section.size
            });
            addr.is_some_and(|section| leads_to_nops(&image, &new, section.addr + (at as u64 - section.offset)))
        };
        assert!(!proven || is_free(&image, at as u64) || harmless(), "bit {bit} at {at:#x}");
        Ok(())
    })
    .budget_ms(1500);
}

#[test]
fn hostile_files_and_maps_do_not_panic() {
    let old = program();
    let text = {
        let image = Image::parse(&old).unwrap();
        let (_, section) = image.section(".text").unwrap();
        (section.addr, section.size)
    };
    arbtest::arbtest(|u| {
        let mut new = old.clone();
        for _ in 0..u.int_in_range(0..=40)? {
            let at = if u.arbitrary()? { u.choose_index(new.len())? } else { u.choose_index(0x400)? };
            new[at] = u.arbitrary()?;
        }
        let mut ranges = Vec::new();
        let mut at = text.0;
        while at < text.0 + text.1 && u.arbitrary()? {
            let len: u32 = u.int_in_range(1..=200)?;
            let near = text.0 + u.int_in_range(0..=text.1)?;
            let new = if u.arbitrary()? { near } else { u.arbitrary()? };
            let kind = if u.arbitrary()? { MapKind::Linear } else { MapKind::Point };
            ranges.push(MapRange { old: OldAddr::new(at), new: NewAddr::new(new), len, kind });
            at += u64::from(len) + u.int_in_range(0..=40u64)?;
        }
        let map = AddressMap::from_ranges(ranges).unwrap();
        let moves = map.ranges().iter().any(|range| range.new.raw() != range.old.raw());
        // The bytes are those of the old program, more or less; a map that moves them is wrong.
        let proven = is_proven(&old, &new, &map);
        assert!(!proven || !moves || map.ranges().iter().all(|range| range.len < 16), "{map:?}");
        // And as old file.
        if let Ok(hostile) = Image::parse(&new) {
            let original = Image::parse(&old).unwrap();
            let _ = check(&hostile, &original, &map, &CheckOptions::default());
        }
        Ok(())
    })
    .budget_ms(2500);
}
