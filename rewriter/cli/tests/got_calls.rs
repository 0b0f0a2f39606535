//! Calls through the GOT become direct where the slot always holds the same function, and nowhere else.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "cli/program.rs"]
#[allow(dead_code, reason = "each test file uses a part of it")]
mod program;
#[path = "properties/relocs.rs"]
#[allow(dead_code, reason = "each test file uses a part of it")]
mod relocs;

use std::path::Path;
use std::process::Command;

use postlink_image::{DynamicTable, Image, elf};
use program::{Folder, postlink};

/// `through` calls four functions of its own file through the GOT (one of them itself, one at its very end), jumps through it once,
/// and calls what must stay: a function of libc, a variable, and a function that is chosen when the program starts.
const SOURCE: &str = r#"
#include <stdio.h>
#include <stdlib.h>
__attribute__((visibility("hidden"))) int twice(int n) { return n * 2; }
__attribute__((visibility("protected"))) int thrice(int n) { return n * 3; }
static __attribute__((used, noinline)) int local(int n) { return n - 1; }
__attribute__((visibility("hidden"), noreturn)) void finish(int n) { printf("%d\n", n); fflush(stdout); exit(n & 7); }
static int plain(int n) { return n + 5; }
static void *choose(void) { return (void *)plain; }
__attribute__((visibility("hidden"), ifunc("choose"))) int chosen(int n);
__attribute__((visibility("hidden"))) int (*variable)(int) = plain;
__attribute__((noreturn)) void through(int n);
__asm__(
    ".text\n.p2align 4\n.globl through\n.hidden through\n.type through, @function\nthrough: .cfi_startproc\n"
    "  push %rbx\n  .cfi_adjust_cfa_offset 8\n  .cfi_offset %rbx, -16\n"
    "  call *twice@GOTPCREL(%rip)\n  mov %eax, %edi\n"
    "  call *thrice@GOTPCREL(%rip)\n  mov %eax, %edi\n"
    "  call *local@GOTPCREL(%rip)\n  mov %eax, %edi\n"
    "  call *abs@GOTPCREL(%rip)\n  mov %eax, %edi\n"
    "  call *variable(%rip)\n  mov %eax, %edi\n"
    "  call *chosen@GOTPCREL(%rip)\n  mov %eax, %edi\n"
    "  cmp $1000, %eax\n  jg 1f\n"
    "  call *through@GOTPCREL(%rip)\n  ud2\n"
    "1: call *tail@GOTPCREL(%rip)\n  mov %eax, %edi\n"
    "  call *finish@GOTPCREL(%rip)\n  .cfi_endproc\n.size through, . - through\n"
    ".p2align 4\n.hidden tail\n.globl tail\n.type tail, @function\ntail: .cfi_startproc\n"
    "  jmp *twice@GOTPCREL(%rip)\n  .cfi_endproc\n.size tail, . - tail\n");
int main(int argc, char **argv) { (void)argv; puts("start"); through(argc); }
"#;

/// What of `through` becomes direct, and what stays: calls, in the order of the code.
const DIRECT: [bool; 9] = [true, true, true, false, false, false, true, true, true];
/// `abs` is in the same file.
const STATIC: [bool; 9] = [true, true, true, true, false, false, true, true, true];

const LAYOUTS: [&[&str]; 5] = [
    &[],
    &["--block-order", "random", "--function-order", "random", "--split", "random", "--seed", "3"],
    &["--block-order", "reverse", "--function-order", "reverse", "--split", "all", "--keep-relocs"],
    &["--mode", "hot", "--hot-all", "--block-order", "random", "--keep-relocs"],
    &["--mode", "hot", "--hot-all", "--only", "through"],
];

fn llvm() -> &'static str {
    let folders = ["/usr/lib/llvm-19/bin", "/usr/lib/llvm-20/bin", "/usr/lib/llvm-18/bin"];
    folders.into_iter().find(|folder| Path::new(folder).join("ld.lld").exists()).unwrap_or("/usr/bin")
}

fn build(folder: &Folder, linker: &str, flags: &[&str]) {
    std::fs::write(folder.path("p.c"), SOURCE).unwrap();
    let mut gcc = Command::new("gcc");
    gcc.args(["-O2", "-w", "-fno-plt", "-Wl,-q", "-o"]).arg(folder.path("old")).arg(folder.path("p.c")).args(flags);
    gcc.args([format!("-B{}", llvm()), format!("-fuse-ld={linker}")]);
    let built = gcc.output().unwrap();
    assert!(built.status.success(), "{gcc:?}: {}", String::from_utf8_lossy(&built.stderr));
}

/// Whether each call in `through`, in the order of the old code, is direct in the new file. By its bytes: `67 e8` or `ff 15`.
fn are_direct(folder: &Folder, new: &str) -> Vec<bool> {
    let (old, new) = (folder.read("old"), folder.read(new));
    let (old, new) = (Image::parse(&old).unwrap(), Image::parse(&new).unwrap());
    let map = postlink_verify::read_map(&new).unwrap().unwrap();
    let table = old.symtab().unwrap();
    let through = table.iter().find(|symbol| table.name(symbol) == b"through").unwrap();
    let bytes = old.bytes_at(through.value, through.size).unwrap();
    let starts = bytes.windows(2).enumerate().filter(|(_, window)| *window == [0xff, 0x15]).map(|(at, _)| at);
    starts
        .map(|at| {
            let here = map.to_new(postlink_base::OldAddr::new(through.value + at as u64));
            match new.bytes_at(here.raw(), 2).unwrap() {
                [0x67, 0xe8] => true,
                [0xff, 0x15] => false,
                other => panic!("{other:x?} at {here}"),
            }
        })
        .collect()
}

/// The number of calls on the page.
fn said(page: &str) -> usize {
    let count = |line: &str| line.strip_prefix("calls ")?.trim().strip_suffix(" through the GOT made direct")?.parse().ok();
    page.lines().find_map(count).unwrap_or(0)
}

/// Rewrites `old` in all layouts; `direct` calls of `through` must be direct then.
fn check(name: &str, linker: &str, flags: &[&str], direct: &[bool]) {
    let folder = Folder::new(name);
    build(&folder, linker, flags);
    let expected = Command::new(folder.path("old")).output().unwrap();
    assert!(expected.stdout.starts_with(b"start\n") && expected.stdout.len() > 8, "{expected:?}");
    let before = relocs::read(&folder.read("old"));
    for layout in LAYOUTS {
        let what = format!("{linker} {flags:?} {layout:?}");
        let ran = postlink(&folder, &[&["optimize", "old", "-o", "new"], layout].concat());
        assert_eq!(ran.status(), 0, "{what}: {}", ran.stderr());
        assert!(!ran.stderr().contains("CFG020"), "{what}: {}", ran.stderr());
        assert_eq!(are_direct(&folder, "new"), direct, "{what}");
        let count = direct.iter().filter(|&&direct| direct).count();
        // Other functions have such calls as well: `main` one, a static libc many.
        let said = said(&ran.stderr());
        assert!(said >= count && (said > 0) == (count > 0), "{what}: {}", ran.stderr());
        let now = Command::new(folder.path("new")).output().unwrap();
        assert_eq!((now.status, &now.stdout), (expected.status, &expected.stdout), "{what}");
        if layout.contains(&"--keep-relocs") {
            let after = relocs::read(&folder.read("new"));
            let of = |counts: &relocs::Relocations, kind: u32| -> usize {
                counts.counts.iter().filter(|((_, found), _)| *found == kind).map(|(_, count)| count).sum()
            };
            // PLT32 for GOTPCREL or GOTPCRELX, and right: the command judged it.
            assert_eq!(of(&before, 9) + of(&before, 41), of(&after, 9) + of(&after, 41) + said, "{what}");
        }
    }
    let ran = postlink(&folder, &["optimize", "old", "-o", "new", "--keep-got-calls", "--block-order", "reverse"]);
    assert_eq!(ran.status(), 0, "{}", ran.stderr());
    assert_eq!(are_direct(&folder, "new"), [false; 9], "{linker} {flags:?}");
    assert!(!ran.stderr().contains("made direct"), "{}", ran.stderr());
}

#[test]
fn slots_that_never_change() {
    for linker in ["bfd", "lld"] {
        check(&format!("got-pie-{linker}"), linker, &["-fPIC", "-pie", "-Wl,-z,relro,-z,now", "-Wa,-mrelax-relocations=no"], &DIRECT);
        check(&format!("got-nopie-{linker}"), linker, &["-fPIC", "-no-pie", "-Wl,-z,relro,-z,now", "-Wa,-mrelax-relocations=no"], &DIRECT);
        check(&format!("got-relr-{linker}"), linker, &["-fPIC", "-pie", "-Wl,-z,relro,-z,pack-relative-relocs", "-Wa,-mrelax-relocations=no"], &DIRECT);
        check(&format!("got-unrelaxed-{linker}"), linker, &["-fPIC", "-pie", "-Wl,-z,relro,-z,now,--no-relax"], &DIRECT);
        check(&format!("got-static-{linker}"), linker, &["-fPIC", "-static", "-Wl,-z,relro", "-Wa,-mrelax-relocations=no"], &STATIC);
        check(&format!("got-static-pie-{linker}"), linker, &["-fPIC", "-static-pie", "-Wl,-z,relro", "-Wa,-mrelax-relocations=no"], &STATIC);
    }
}

#[test]
fn without_protected_memory_all_stays() {
    for linker in ["bfd", "lld"] {
        for kind in ["-pie", "-no-pie"] {
            let flags = ["-fPIC", kind, "-Wl,-z,norelro", "-Wa,-mrelax-relocations=no"];
            check(&format!("got-norelro{kind}-{linker}"), linker, &flags, &[false; 9]);
        }
    }
}

#[test]
fn a_function_whose_calls_cannot_be_proven_stays() {
    let folder = Folder::new("got-contained");
    build(&folder, "bfd", &["-fPIC", "-pie", "-Wl,-z,relro,-z,now", "-Wa,-mrelax-relocations=no"]);
    // The loader would find no relocations, so what the slots hold is not known; recovery reads the section all the same.
    let mut bytes = folder.read("old");
    let size = DynamicTable::read(&Image::parse(&bytes).unwrap()).entries.iter().find(|entry| entry.tag == elf::DT_RELASZ).unwrap().value_offset;
    bytes[size as usize..size as usize + 8].fill(0);
    std::fs::write(folder.path("old"), &bytes).unwrap();
    let ran = postlink(&folder, &["optimize", "old", "-o", "new", "--block-order", "reverse"]);
    assert_eq!(ran.status(), 0, "{}", ran.stderr());
    let kept = |name: &str| ran.stderr().contains(&format!("kept       {name} [CFG020]: P1 got-call:"));
    assert!(kept("through") && kept("main") && !kept("twice"), "{}", ran.stderr());
    assert!(!ran.stderr().contains("made direct"), "{}", ran.stderr());
    assert_eq!(are_direct(&folder, "new"), [false; 9]);
    assert_eq!(postlink(&folder, &["verify", "old", "new"]).status(), 0);
}
