//! Code that is in one place for two functions: whole functions may be, parts of them may not, whatever they execute.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test talks and fails by panicking")]

#[path = "mutations/pairs.rs"]
#[allow(dead_code, reason = "each test file uses a part of it")]
mod pairs;

use std::path::Path;
use std::process::Command;

use postlink_base::{AddressMap, MapRange, NewAddr, OldAddr};
use postlink_image::Image;
use postlink_verify::{CheckOptions, Obligation, Proof, check, read_map};

/// `tail` is what `longer` ends with, and `twin` is `tail` once more.
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
    function _start
    .cfi_undefined rip
    call longer
    call tail
    call twin
    mov %eax, %edi
    mov $60, %eax
    syscall
    ud2
    ends _start
    function longer
    mov %esi, %edi
    lea 3(%rdi), %eax
    ret
    ends longer
    function tail
    lea 3(%rdi), %eax
    ret
    ends tail
    function twin
    lea 3(%rdi), %eax
    ret
    ends twin
    .section .note.GNU-stack, "", @progbits
"#;

/// An input, its output without folding, and the map.
#[derive(Clone)]
struct Files {
    old: Vec<u8>,
    new: Vec<u8>,
    map: AddressMap,
}

fn files(folder: &Path) -> Files {
    let postlink = pairs::find_postlink().unwrap();
    assert!(postlink.exists(), "build the postlink binary first");
    let [source, old, new] = ["p.s", "old", "new"].map(|name| folder.join(name));
    std::fs::write(&source, SOURCE).unwrap();
    let mut gcc = Command::new("gcc");
    gcc.args(["-nostdlib", "-static", "-no-pie", "-Wl,-q", "-o"]).arg(&old).arg(&source);
    assert!(gcc.status().unwrap().success());
    let mut optimize = Command::new(postlink);
    optimize.arg("optimize").arg(&old).arg("-o").arg(&new).args(["--icf", "none", "--function-order", "reverse"]);
    assert!(optimize.output().unwrap().status.success());
    let (old, new) = (std::fs::read(old).unwrap(), std::fs::read(new).unwrap());
    let map = read_map(&Image::parse(&new).unwrap()).unwrap().unwrap();
    Files { old, new, map }
}

fn symbol(file: &[u8], name: &str) -> (u64, u64) {
    let image = Image::parse(file).unwrap();
    let table = image.symtab().unwrap();
    let symbol = table.iter().find(|symbol| table.name(symbol) == name.as_bytes()).unwrap();
    (symbol.value, symbol.size)
}

impl Files {
    /// Makes all that leads to `name` lead to the new address `to`, and says so in the map.
    fn put(&mut self, name: &str, to: u64) {
        let ((old, size), (new, _)) = (symbol(&self.old, name), symbol(&self.new, name));
        let (start, end) = (OldAddr::new(old), OldAddr::new(old + size));
        let range = |from: OldAddr, len: u64, new: NewAddr| MapRange { old: from, new, len: u32::try_from(len).unwrap(), kind: postlink_base::MapKind::Linear };
        let mut ranges = vec![range(start, size, NewAddr::new(to))];
        for one in self.map.ranges() {
            let before = start.raw().saturating_sub(one.old.raw()).min(u64::from(one.len));
            let behind = one.old_end().raw().saturating_sub(end.raw()).min(u64::from(one.len));
            ranges.push(range(one.old, before, one.new));
            let skipped = u64::from(one.len) - behind;
            ranges.push(range(one.old.wrapping_add(skipped), behind, one.new.wrapping_add(skipped)));
        }
        self.map = AddressMap::from_ranges(ranges).unwrap();
        // Calls and the symbol; the code that was there becomes traps.
        let (entry, size_of_start) = symbol(&self.new, "_start");
        let offset = |addr: u64| Image::parse(&self.new).unwrap().offset_of(addr).unwrap() as usize;
        let (first, last) = (offset(entry), offset(entry) + size_of_start as usize);
        let (place, symtab) = (offset(new), Image::parse(&self.new).unwrap().section(".symtab").unwrap().1.offset as usize);
        let table = Image::parse(&self.new).unwrap().symtab().unwrap().len();
        for at in first..last - 5 {
            let next = entry + (at - first) as u64 + 5;
            let distance = i32::from_le_bytes(*self.new[at + 1..].first_chunk().unwrap());
            if self.new[at] == 0xe8 && next.wrapping_add_signed(i64::from(distance)) == new {
                let distance = i32::try_from(to.wrapping_sub(next).cast_signed()).unwrap();
                self.new[at + 1..at + 5].copy_from_slice(&distance.to_le_bytes());
            }
        }
        self.new[place..place + size as usize].fill(0xcc);
        for value in (0..table).map(|index| symtab + index * 24 + 8) {
            if self.new[value..value + 8] == new.to_le_bytes() {
                self.new[value..value + 8].copy_from_slice(&to.to_le_bytes());
            }
        }
    }

    fn proof(&self) -> Proof {
        check(&Image::parse(&self.old).unwrap(), &Image::parse(&self.new).unwrap(), &self.map, &CheckOptions::default())
    }
}

/// Rules of P1 that are violated.
fn rules(proof: &Proof) -> Vec<&'static str> {
    let code = proof.violations.iter().filter(|violation| violation.obligation == Obligation::Code);
    let mut rules: Vec<&str> = code.map(|violation| violation.rule).collect();
    rules.dedup();
    rules
}

#[test]
fn whole_functions_share_their_code_and_parts_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let whole = files(folder.path());
    let mut files = whole.clone();
    assert!(files.proof().is_proven());
    assert_eq!(files.proof().checked.folded_functions, 0);
    let (tail, size) = symbol(&files.new, "tail");

    // The frame of `twin` is still there, which is P4's to say; for P1 all is right.
    files.put("twin", tail);
    let proof = files.proof();
    assert_eq!(rules(&proof), [""; 0], "{:#?}", proof.violations);
    assert_eq!((proof.checked.folded_functions, proof.checked.folded_bytes), (1, size));

    // What is executed is the same, but nobody showed that the places may become one.
    let mut files = whole;
    let (longer, _) = symbol(&files.new, "longer");
    files.put("twin", longer + 2);
    let proof = files.proof();
    assert_eq!(rules(&proof), ["map-overlap"], "{:#?}", proof.violations);
    assert_eq!(proof.checked.folded_functions, 0);
}

#[test]
fn code_is_not_put_where_code_stayed() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = files(folder.path());
    // Nothing moved but `twin`, which is where `tail` is.
    files.new.clone_from(&files.old);
    files.map = AddressMap::default();
    assert!(files.proof().is_proven());
    let (tail, _) = symbol(&files.old, "tail");
    files.put("twin", tail);
    let proof = files.proof();
    assert_eq!(rules(&proof), ["map-overlap"], "{:#?}", proof.violations);
}
