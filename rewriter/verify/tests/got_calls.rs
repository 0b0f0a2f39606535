//! When may a call through the GOT have become direct? The same outputs, with something else said about the slot by the input.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test talks and fails by panicking")]

#[path = "mutations/got.rs"]
mod got;
#[path = "mutations/pairs.rs"]
#[allow(dead_code, reason = "each test file uses a part of it")]
mod pairs;

use got::GotSites;
use pairs::Pair;
use postlink_image::{DynamicTable, Image, Segment, elf, reloc};
use postlink_verify::{CheckOptions, Proof, check, read_map};

fn proof(old: &[u8], new: &[u8]) -> Proof {
    let (old, new) = (Image::parse(old).unwrap(), Image::parse(new).unwrap());
    let map = read_map(&new).unwrap().unwrap();
    check(&old, &new, &map, &CheckOptions::default())
}

/// How many calls the rule objects to.
fn refused(proof: &Proof) -> usize {
    proof.violations.iter().filter(|violation| violation.rule == "got-call").count()
}

/// Code of the function whose calls lead through the GOT: its address and its bytes.
fn caller<'d>(old: &Image<'d>) -> (u64, &'d [u8]) {
    let table = old.symtab().unwrap();
    let symbol = table.iter().find(|symbol| table.name(symbol) == b"caller").unwrap();
    (symbol.value, old.bytes_at(symbol.value, symbol.size).unwrap())
}

/// `ff 15` in it: address of the call, and of its slot.
fn calls(old: &Image<'_>) -> Vec<(u64, u64)> {
    let (start, bytes) = caller(old);
    let starts = bytes.windows(6).enumerate().filter(|(_, window)| window.starts_with(&[0xff, 0x15]));
    starts
        .map(|(at, window)| {
            let addr = start + at as u64;
            (addr, (addr + 6).wrapping_add_signed(i64::from(i32::from_le_bytes(*window.last_chunk::<4>().unwrap()))))
        })
        .collect()
}

fn sites(pair: &Pair) -> GotSites {
    let (old, new) = (Image::parse(&pair.old).unwrap(), Image::parse(&pair.new).unwrap());
    let map = read_map(&new).unwrap().unwrap();
    let (start, bytes) = caller(&old);
    let mut sites = GotSites::default();
    for (addr, _) in calls(&old) {
        let at = (addr - start) as usize;
        sites.add((&old, &new), &map, addr, &bytes[at..at + 6]);
    }
    sites
}

fn pairs() -> Vec<Pair> {
    let folder = tempfile::tempdir().unwrap();
    let pairs = got::pairs(folder.path());
    assert_eq!(pairs.len(), 3, "build the postlink binary first");
    pairs
}

#[test]
fn only_constant_slots_count() {
    // `once` and `twice`; never `hook`, `preempted` and `outside`.
    for (pair, direct) in pairs().iter().zip([2, 0, 2]) {
        let sites = sites(pair);
        assert_eq!((sites.direct.len(), sites.through_slot.len()), (direct, 5 - direct), "{}", pair.name);
        let as_written = proof(&pair.old, &pair.new);
        assert!(as_written.is_proven(), "{}: {:#?}", pair.name, as_written.violations);
        assert_eq!(as_written.checked.got_calls, direct as u64, "{}", pair.name);
        for (at, addr, target) in sites.through_slot {
            let mut mutant = pair.new.clone();
            let distance = i32::try_from(target.wrapping_sub(addr + 6).cast_signed()).unwrap();
            mutant[at..at + 2].copy_from_slice(&[0x67, 0xe8]);
            mutant[at + 2..at + 6].copy_from_slice(&distance.to_le_bytes());
            assert_eq!(refused(&proof(&pair.old, &mutant)), 1, "{} at {addr:#x}", pair.name);
        }
        for at in sites.direct {
            let mut mutant = pair.new.clone();
            // Still a call to the same place, but not what was shown to be as long and to do the same.
            mutant[at - 2] = 0x66;
            assert_eq!(refused(&proof(&pair.old, &mutant)), 1, "{}", pair.name);
        }
    }
}

/// Offset of header number `index` of that kind.
fn header(image: &Image<'_>, kind: u32) -> (usize, Segment) {
    let index = image.segments().iter().position(|segment| segment.kind == kind).unwrap();
    (image.header().phoff as usize + index * 56, image.segments()[index])
}

/// Offset of the dynamic relocation of the word at `slot`.
fn relocation(image: &Image<'_>, slot: u64) -> usize {
    let entry = |table: usize| image.rela_table(table).iter().position(|rela| rela.offset == slot).map(|index| (table, index));
    let (table, index) = image.dynamic_relocations().find_map(entry).unwrap();
    image.sections()[table].offset as usize + index * 24
}

fn put(file: &mut [u8], at: usize, value: u64) {
    file[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

fn tag(image: &Image<'_>, tag: u64) -> usize {
    DynamicTable::read(image).entries.iter().find(|entry| entry.tag == tag).unwrap().value_offset as usize
}

type Edit = fn(&Image<'_>, u64, &mut Vec<u8>);

/// Made in both files, so that nothing differs but what the calls mean. The number is that of calls that are no longer right.
const EDITS: [(&str, Edit, usize); 10] = [
    ("nothing", |_, _, _| {}, 0),
    ("the protected memory ends in front of the slot", |image, slot, file| {
        let (at, relro) = header(image, elf::PT_GNU_RELRO);
        put(file, at + 40, slot - relro.vaddr);
    }, 2),
    ("the protected memory ends in the slot's page", |image, _, file| {
        let (at, relro) = header(image, elf::PT_GNU_RELRO);
        put(file, at + 40, relro.memsz - 1);
    }, 2),
    ("protected memory of another kind", |image, _, file| {
        let (at, _) = header(image, elf::PT_GNU_RELRO);
        file[at..at + 4].copy_from_slice(&0u32.to_le_bytes());
    }, 2),
    ("a symbol decides", |image, slot, file| put(file, relocation(image, slot) + 8, 1 << 32 | u64::from(reloc::GLOB_DAT)), 1),
    ("a function decides", |image, slot, file| put(file, relocation(image, slot) + 8, u64::from(reloc::IRELATIVE)), 1),
    ("the slot is not relocated", |image, slot, file| put(file, relocation(image, slot) + 8, u64::from(reloc::NONE)), 1),
    ("the next relocation writes half of the slot", |image, slot, file| {
        let other = calls(image).into_iter().map(|call| call.1).find(|&other| other != slot && other + 64 > slot && slot + 64 > other);
        put(file, relocation(image, other.unwrap()), slot + 4);
    }, 2),
    ("the file is not position-independent", |_, _, file| file[16] = 2, 2),
    ("the table of relocations is empty for the loader", |image, _, file| put(file, tag(image, elf::DT_RELASZ), 0), 2),
];

#[test]
fn a_slot_that_may_change_is_none() {
    let pair = pairs().swap_remove(0);
    let image = Image::parse(&pair.old).unwrap();
    let slot = calls(&image)[0].1;
    for (what, edit, wrong) in EDITS {
        let [old, new] = [&pair.old, &pair.new].map(|file| {
            let mut edited = file.clone();
            edit(&Image::parse(file).unwrap(), slot, &mut edited);
            edited
        });
        let proof = proof(&old, &new);
        assert_eq!(refused(&proof), wrong, "{what}: {:#?}", proof.violations);
        assert_eq!(proof.is_proven(), wrong == 0, "{what}");
    }
    // The operand of a variable.
    let (table, target) = image.static_relocations().find(|&(_, target)| image.sections()[target].name == b".text").unwrap();
    assert_eq!(image.sections()[target].name, b".text");
    let place = calls(&image)[0].0 + 2;
    let index = image.rela_table(table).iter().position(|rela| rela.offset == place).unwrap();
    let mut old = pair.old.clone();
    let kind = image.sections()[table].offset as usize + index * 24 + 8;
    old[kind..kind + 4].copy_from_slice(&reloc::PC32.to_le_bytes());
    assert_eq!(refused(&proof(&old, &pair.new)), 1);
}
