//! Code that must stay: a table leads into it by distances without relocation, the program or the dynamic linker writes into it.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test talks and fails by panicking")]

#[path = "mutations/pairs.rs"]
#[allow(dead_code, reason = "each test file uses a part of it")]
mod pairs;

use std::path::Path;
use std::process::Command;

use postlink_image::{Image, reloc};
use postlink_verify::{CheckOptions, Proof, check, read_map};

/// Names that mean nothing, one letter away from those that do.
const SOURCE: &str = r#"
#include <stdio.h>
__attribute__((noinline)) int first(int x) { if (x > 3) { puts("great"); return x * 3; } return x + 1; }
__attribute__((noinline)) int second(int x) { while (x > 100) x -= x / 3; return x; }
int (*volatile pointer)(int) = second;
__attribute__((noinline)) void *choose(int x) { return x > 7 ? (void *)first : (void *)second; }
asm(".globl counts\n.type counts, @function\ncounts: .cfi_startproc\nmovl 0x1234567(%r10), %eax\nret\n.cfi_endproc\n.size counts, . - counts\n");
asm(".section .llvm_stackmapz, \"aw\"\n.quad first, 4\n.text\n");
asm(".section __rseq_ct, \"aw\"\n.quad second, 4\n.text\n");
asm(".section xray_instr_mat, \"aw\"\n.quad first - ., second - .\n.text\n");
asm(".globl xuntime.pclntab, xuntime.text, xuntime.etext, stg_upd_frame_inf0\n"
    "xuntime.pclntab = pointer\nxuntime.text = first\nxuntime.etext = second\nstg_upd_frame_inf0 = pointer\n");
asm(".globl takes\n.type takes, @function\ntakes: .cfi_startproc\nlea .Lplace(%rip), %rax\nmov $0x5a5a5a5a, %ecx\npush %rbx\n.Lplace: pop %rbx\nret\n.cfi_endproc\n.size takes, . - takes\n");
asm(".skip 5000, 0x90\n.globl dispatch\n.type dispatch, @function\ndispatch: .cfi_startproc\nlea first(%rip), %rax\nlea .Lwords(%rip), %rcx\nret\n.cfi_endproc\n.size dispatch, . - dispatch\n"
    ".Lwords: .quad 0x6e6e6e6e6e6e6e6e, 0x6f6f6f6f6f6f6f6f\n");
int main(int argc, char **argv) { printf("%d %d\n", first(argc), pointer(argc)); return choose(argc) == 0; }
"#;

struct Files {
    old: Vec<u8>,
    new: Vec<u8>,
}

fn files(folder: &Path) -> Files {
    let postlink = pairs::find_postlink().unwrap();
    assert!(postlink.exists(), "build the postlink binary first");
    let [source, old, new] = ["p.c", "old", "new"].map(|name| folder.join(name));
    std::fs::write(&source, SOURCE).unwrap();
    let mut gcc = Command::new("gcc");
    gcc.args(["-O2", "-fno-toplevel-reorder", "-fPIE", "-pie", "-Wl,-q", "-o"]).arg(&old).arg(&source);
    assert!(gcc.status().unwrap().success());
    let mut optimize = Command::new(postlink);
    optimize.arg("optimize").arg(&old).arg("-o").arg(&new);
    optimize.args(["--function-order", "reverse", "--block-order", "reverse", "--split", "all"]);
    assert!(optimize.output().unwrap().status.success());
    Files { old: std::fs::read(old).unwrap(), new: std::fs::read(new).unwrap() }
}

/// Replaces all names `from` by `to`, which is as long.
fn rename(file: &[u8], from: &str, to: &str) -> Vec<u8> {
    let mut file = file.to_vec();
    let places: Vec<usize> = file.windows(from.len()).enumerate().filter(|(_, bytes)| *bytes == from.as_bytes()).map(|(at, _)| at).collect();
    assert!(!places.is_empty(), "{from}");
    for at in places {
        file[at..at + to.len()].copy_from_slice(to.as_bytes());
    }
    file
}

fn proof(old: &[u8], new: &[u8]) -> Proof {
    let (old, new) = (Image::parse(old).unwrap(), Image::parse(new).unwrap());
    let map = read_map(&new).unwrap().unwrap();
    check(&old, &new, &map, &CheckOptions::default())
}

fn symbol(file: &[u8], name: &str) -> u64 {
    let image = Image::parse(file).unwrap();
    let table = image.symtab().unwrap();
    table.iter().find(|symbol| table.name(symbol) == name.as_bytes()).unwrap().value
}

fn violates(proof: &Proof, rule: &str) -> bool {
    proof.violations.iter().any(|violation| violation.rule == rule)
}

#[test]
fn code_with_hidden_distances_stays() {
    let folder = tempfile::tempdir().unwrap();
    let files = files(folder.path());
    assert!(proof(&files.old, &files.new).is_proven());
    let names = [
        ("xuntime.pclntab", "runtime.pclntab"),
        ("stg_upd_frame_inf0", "stg_upd_frame_info"),
        (".llvm_stackmapz", ".llvm_stackmaps"),
        ("__rseq_ct", "__rseq_cs"),
        ("xray_instr_mat", "xray_instr_map"),
    ];
    for (from, to) in names {
        let (old, new) = (rename(&files.old, from, to), rename(&files.new, from, to));
        assert!(violates(&proof(&old, &new), "hidden-distance"), "{to}");
        // Nothing moved: nothing to say.
        let same = check(&Image::parse(&old).unwrap(), &Image::parse(&old).unwrap(), &postlink_base::AddressMap::default(), &CheckOptions::default());
        assert!(same.is_proven(), "{to}: {:#?}", same.violations);
    }
}

#[test]
fn code_that_the_dynamic_linker_writes_to_stays() {
    let folder = tempfile::tempdir().unwrap();
    let Files { mut old, mut new } = files(folder.path());
    let first = symbol(&old, "first");
    for file in [&mut old, &mut new] {
        let image = Image::parse(file).unwrap();
        let section = image.section(".rela.dyn").unwrap();
        let entry = image.rela_table(section.0).iter().position(|entry| entry.kind == reloc::RELATIVE).unwrap();
        let at = usize::try_from(section.1.offset).unwrap() + entry * 24;
        file[at..at + 8].copy_from_slice(&(first + 2).to_le_bytes());
    }
    assert!(violates(&proof(&old, &new), "text-relocation"));
}

#[test]
fn code_that_operands_count_from_stays() {
    let folder = tempfile::tempdir().unwrap();
    let Files { mut old, new } = files(folder.path());
    let field = symbol(&old, "counts") + 3;
    let (at, value) = {
        let image = Image::parse(&old).unwrap();
        let section = image.section(".rela.text").unwrap();
        let table = image.rela_table(section.0);
        let entry = table.iter().position(|entry| entry.kind == reloc::PC32).unwrap();
        let value = image.symtab().unwrap().get(table.get(entry).unwrap().symbol as usize).unwrap().value;
        (usize::try_from(section.1.offset).unwrap() + entry * 24, value)
    };
    assert!(proof(&old, &new).is_proven());
    // The constant becomes the distance from a place in code to the symbol.
    let addend = field.wrapping_add(0x123_4567).wrapping_sub(value);
    old[at..at + 8].copy_from_slice(&field.to_le_bytes());
    old[at + 16..at + 24].copy_from_slice(&addend.to_le_bytes());
    let proof = proof(&old, &new);
    assert!(violates(&proof, "hidden-distance") && violates(&proof, "base-in-code"), "{:#?}", proof.violations);
}

#[test]
fn tables_among_code_lead_to_the_same_places() {
    let folder = tempfile::tempdir().unwrap();
    let Files { mut old, mut new } = files(folder.path());
    assert!(proof(&old, &new).is_proven());
    let first = symbol(&old, "first");
    let distances = ["second", "choose"].map(|name| symbol(&old, name).wrapping_sub(first));
    for file in [&mut old, &mut new] {
        for (distance, word) in distances.into_iter().zip([[0x6e; 8], [0x6f; 8]]) {
            let at = file.windows(8).position(|bytes| bytes == word).unwrap();
            file[at..at + 8].copy_from_slice(&distance.to_le_bytes());
        }
    }
    assert!(violates(&proof(&old, &new), "inline-table"));
}

#[test]
fn an_address_amid_an_instruction_is_no_label() {
    let folder = tempfile::tempdir().unwrap();
    let Files { mut old, mut new } = files(folder.path());
    assert!(proof(&old, &new).is_proven());
    // Behind the constant, `push %rbx; pop %rbx` becomes `test %eax, %eax`: the label is amid it.
    for file in [&mut old, &mut new] {
        let code = [0xb9, 0x5a, 0x5a, 0x5a, 0x5a, 0x53, 0x5b];
        let at = file.windows(code.len()).position(|bytes| bytes == code).unwrap();
        file[at + 5..at + 7].copy_from_slice(&[0x85, 0xc0]);
    }
    assert!(violates(&proof(&old, &new), "taken-near-data"));
}
