//! Programs with calls through the GOT, and the places in them that a mutation can change.

use std::path::Path;
use std::process::Command;

use postlink_base::{AddressMap, OldAddr};
use postlink_image::{Image, reloc};

use crate::pairs::{Pair, find_postlink};

/// `once` and `twice` are called through the GOT, `hook` is a variable of the program, and `outside` another file's function.
const SOURCE: &str = r#"
    .macro function name
    .globl \name
    .type \name, @function
    .p2align 4
\name: .cfi_startproc
    .endm
    .macro ends name
    .cfi_endproc
    .size \name, . - \name
    .endm
    .text
    .hidden once, twice
    function once
    lea 1(%rdi), %eax
    ret
    ends once
    function twice
    lea (%rdi,%rdi), %eax
    ret
    ends twice
    function preempted
    lea 3(%rdi), %eax
    ret
    ends preempted
    function caller
    push %rbx
    .cfi_adjust_cfa_offset 8
    .cfi_offset %rbx, -16
    call *once@GOTPCREL(%rip)
    mov %eax, %edi
    test $1, %edi
    je 1f
    call *twice@GOTPCREL(%rip)
    mov %eax, %edi
1:  call *hook(%rip)
    mov %eax, %edi
    call *preempted@GOTPCREL(%rip)
    mov %eax, %edi
    call *outside@GOTPCREL(%rip)
    pop %rbx
    .cfi_adjust_cfa_offset -8
    .cfi_restore %rbx
    ret
    ends caller
    .section .data.rel.ro, "aw"
    .p2align 3
    .type hook, @object
    .size hook, 8
hook: .quad once
    .section .note.GNU-stack, "", @progbits
"#;

/// Shared objects, with RELRO and without, rewritten. Nothing without a `postlink` binary.
pub(crate) fn pairs(folder: &Path) -> Vec<Pair> {
    let Some(postlink) = find_postlink() else { return Vec::new() };
    let source = folder.join("got.s");
    std::fs::write(&source, SOURCE).unwrap();
    let flags = [["-Wl,-z,relro", "-Wl,-z,now"], ["-Wl,-z,norelro", "-Wl,-z,now"], ["-Wl,-z,relro", "-Wl,-z,pack-relative-relocs"]];
    let build = |(index, flags): (usize, [&str; 2])| {
        let (old, new) = (folder.join(format!("old-got-{index}")), folder.join(format!("new-got-{index}")));
        let mut gcc = Command::new("gcc");
        gcc.args(["-shared", "-nostdlib", "-Wl,-q", "-Wa,-mrelax-relocations=no"]).args(flags).arg(&source).arg("-o").arg(&old);
        assert!(gcc.status().unwrap().success(), "{flags:?}");
        let mut command = Command::new(&postlink);
        command.arg("optimize").arg(&old).arg("-o").arg(&new).args(["--no-verify", "--block-order", "reverse", "--function-order", "reverse"]);
        assert!(command.output().unwrap().status.success(), "{flags:?}");
        Pair { name: format!("got.s {flags:?}"), old: std::fs::read(&old).unwrap(), new: std::fs::read(&new).unwrap() }
    };
    flags.into_iter().enumerate().map(build).collect()
}

/// Looks for calls in a function of `old` that `bytes`, `ff 15` and a displacement, are at `addr`. First: the offset of the
/// displacement in `new`, if the call is direct there. Second: if it is not, offset and address of the call, and where it leads
/// if nobody changes the slot.
#[derive(Default)]
pub(crate) struct GotSites {
    pub(crate) direct: Vec<usize>,
    pub(crate) through_slot: Vec<(usize, u64, u64)>,
}

impl GotSites {
    pub(crate) fn add(&mut self, (old, new): (&Image<'_>, &Image<'_>), map: &AddressMap, addr: u64, bytes: &[u8]) {
        let [0xff, 0x15, displacement @ ..] = bytes else { return };
        let Some(displacement) = displacement.first_chunk::<4>() else { return };
        let here = map.to_new(OldAddr::new(addr)).raw();
        let Some(offset) = new.offset_of(here).map(|offset| offset as usize) else { return };
        if new.data()[offset..].starts_with(&[0x67, 0xe8]) {
            return self.direct.push(offset + 2);
        }
        let slot = (addr + 6).wrapping_add_signed(i64::from(i32::from_le_bytes(*displacement)));
        let content = old.dynamic_relocations().flat_map(|table| old.rela_table(table).iter()).find(|rela| rela.offset == slot);
        let target = match content {
            Some(rela) if rela.kind == reloc::RELATIVE => rela.addend.cast_unsigned(),
            // Whoever defines it: this file, or none that is known.
            Some(rela) => old.dynsym().and_then(|table| table.get(rela.symbol as usize)).map_or(0, |symbol| symbol.value),
            None => old.bytes_at(slot, 8).map_or(0, |word| u64::from_le_bytes(*word.first_chunk::<8>().unwrap())),
        };
        self.through_slot.push((offset, here, map.to_new(OldAddr::new(target)).raw()));
    }
}
