//! Any bytes as new file: never a panic, and never proven unless they are the old program.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, reason = "a test talks and fails by panicking")]

use std::process::Command;

use postlink_base::{AddressMap, MapKind, MapRange, NewAddr, OldAddr};
use postlink_image::Image;
use postlink_verify::{CheckOptions, check, read_map};

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
    loaded.is_none_or(|section| section.is_exec() || section.kind == postlink_image::elf::SHT_NOTE || section.name == b".eh_frame")
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
        assert!(!proven || is_free(&image, at as u64), "bit {bit} at {at:#x}");
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
