//! Mutants of proven files must not be proven.
//!
//! `POSTLINK_MUTATIONS=5000 cargo test -p postlink-verify --test mutations -- --nocapture` prints the
//! table of kinds; without the variable a part of it runs. Programs are rewritten with the
//! `postlink` binary if there is one, so that the mutants are those of real outputs.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, reason = "a test talks and fails by panicking")]

#[path = "mutations/got.rs"]
mod got;
#[path = "mutations/pairs.rs"]
mod pairs;
#[path = "mutations/sites.rs"]
mod sites;

use std::collections::BTreeMap;

use pairs::Pair;
use postlink_base::AddressMap;
use postlink_image::Image;
use postlink_verify::{CheckOptions, check, read_map};
use sites::Sites;

/// Sebastiano Vigna's splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn pick<T: Copy>(&mut self, items: &[T]) -> Option<T> {
        if items.is_empty() { None } else { Some(items[(self.next() % items.len() as u64) as usize]) }
    }
}

fn add(file: &mut [u8], at: usize, width: usize, delta: i64) {
    let mut bytes = [0u8; 8];
    bytes[..width].copy_from_slice(&file[at..at + width]);
    let value = u64::from_le_bytes(bytes).wrapping_add_signed(delta);
    file[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
}

type Mutation = fn(&mut Vec<u8>, &Sites, &mut Random) -> Option<usize>;

/// Each kind changes the file and gives the offset, or finds no place in this file.
const KINDS: [(&str, Mutation); 31] = [
    ("displacement", |file, sites, random| {
        let at = random.pick(&sites.displacements)?;
        add(file, at, 4, [1, 3, 16, -5, 0x1000][(random.next() % 5) as usize]);
        Some(at)
    }),
    ("immediate", |file, sites, random| {
        let at = random.pick(&sites.immediates)?;
        file[at] ^= 1 << (random.next() % 8);
        Some(at)
    }),
    ("condition inverted", |file, sites, random| {
        let at = random.pick(&sites.conditions)?;
        file[at] ^= 1;
        Some(at)
    }),
    ("condition changed", |file, sites, random| {
        let at = random.pick(&sites.conditions)?;
        file[at] ^= 2 << (random.next() % 3);
        Some(at)
    }),
    ("instruction dropped", |file, sites, random| {
        let (at, len) = random.pick(&sites.instructions)?;
        file[at..at + len].fill(0x90);
        Some(at)
    }),
    ("instruction bit", |file, sites, random| {
        let (at, len) = random.pick(&sites.instructions)?;
        let at = at + (random.next() % len as u64) as usize;
        file[at] ^= 1 << (random.next() % 8);
        Some(at)
    }),
    ("instructions swapped", |file, sites, random| {
        let (at, first, second) = random.pick(&sites.neighbours)?;
        file[at..at + first + second].rotate_left(first);
        Some(at)
    }),
    ("endbr64 lost", |file, sites, random| {
        let at = random.pick(&sites.endbrs)?;
        file[at..at + 4].copy_from_slice(&[0x0f, 0x1f, 0x40, 0x00]);
        Some(at)
    }),
    ("kept code: field not changed", |file, sites, random| {
        let (at, old) = random.pick(&sites.changed_fields)?;
        file[at..at + 4].copy_from_slice(&old);
        Some(at)
    }),
    ("kept code: field", |file, sites, random| {
        let changed: Vec<usize> = sites.changed_fields.iter().map(|field| field.0).collect();
        let fields = if random.next() % 2 == 0 { &changed } else { &sites.kept_fields };
        let at = random.pick(fields)?;
        // Not backwards: NOPs in front of the target lead to the same place.
        add(file, at, 4, [1, 3, 16, 5, 0x1000][(random.next() % 5) as usize]);
        Some(at)
    }),
    ("kept code: other byte", |file, sites, random| {
        let at = random.pick(&sites.kept_bytes)?;
        file[at] ^= 1 << (random.next() % 8);
        Some(at)
    }),
    ("direct for GOT call: target", |file, sites, random| {
        let at = random.pick(&sites.got.direct)?;
        add(file, at, 4, [1, 3, 16, -5, 0x1000][(random.next() % 5) as usize]);
        Some(at)
    }),
    ("GOT call made direct", |file, sites, random| {
        // What the slot holds while nobody changes it, or is preempted.
        let (at, addr, target) = random.pick(&sites.got.through_slot)?;
        let distance = i32::try_from(target.wrapping_sub(addr + 6).cast_signed()).ok()?;
        file[at..at + 2].copy_from_slice(&[0x67, 0xe8]);
        file[at + 2..at + 6].copy_from_slice(&distance.to_le_bytes());
        Some(at)
    }),
    ("table entries swapped", |file, sites, random| {
        let index = random.next() as usize % sites.table_entries.len().max(2).saturating_sub(1).max(1);
        let (&(a, width), &(b, other)) = (sites.table_entries.get(index)?, sites.table_entries.get(index + 1)?);
        // A swap of equal entries changes nothing: equivalent by construction, so not made.
        if width != other || b != a + width || file[a..a + width] == file[b..b + width] {
            return None;
        }
        file[a..b + width].rotate_left(width);
        Some(a)
    }),
    ("table entry off by one", |file, sites, random| {
        let (at, width) = random.pick(&sites.table_entries)?;
        // Not backwards: a one-byte NOP in front of the target leads to the same place.
        add(file, at, width, [1, 2][(random.next() % 2) as usize]);
        Some(at)
    }),
    ("GOT or init array", |file, sites, random| {
        let at = random.pick(&sites.words)?;
        add(file, at, 8, [1, 8, 16, -16][(random.next() % 4) as usize]);
        Some(at)
    }),
    ("RELATIVE addend", |file, sites, random| {
        let at = random.pick(&sites.addends)?;
        add(file, at, 8, [1, 4, -16][(random.next() % 3) as usize]);
        Some(at)
    }),
    ("RELR word", |file, sites, random| {
        let at = random.pick(&sites.relr_words)?;
        add(file, at, 8, [1, 4, -16][(random.next() % 3) as usize]);
        Some(at)
    }),
    ("RELR table", |file, sites, random| {
        let at = random.pick(&sites.relr_table)?;
        file[at] ^= 2 << (random.next() % 7);
        Some(at)
    }),
    ("symbol value", |file, sites, random| {
        let at = random.pick(&sites.symbol_values)?;
        add(file, at, 8, [1, 16, -1][(random.next() % 3) as usize]);
        Some(at)
    }),
    ("symbol size", |file, sites, random| {
        let at = random.pick(&sites.symbol_sizes)?;
        add(file, at, 8, 4096);
        Some(at)
    }),
    ("data executable", |file, sites, random| {
        let at = random.pick(&sites.data_segments)?;
        file[at] |= 1;
        Some(at)
    }),
    ("stack executable", |file, sites, random| {
        let at = random.pick(&sites.stack_flags)?;
        file[at] |= 1;
        Some(at)
    }),
    ("live byte in dead text", |file, sites, random| {
        let at = random.pick(&sites.traps)?;
        file[at] = [0xc3, 0x50, 0xeb, 0x00][(random.next() % 4) as usize];
        Some(at)
    }),
    ("data byte", |file, sites, random| {
        let at = random.pick(&sites.data_bytes)?;
        file[at] ^= 1 << (random.next() % 8);
        Some(at)
    }),
    ("entry point", |file, sites, random| {
        let at = random.pick(&sites.entry)?;
        add(file, at, 8, [1, 4, 16, -1][(random.next() % 4) as usize]);
        Some(at)
    }),
    ("DT_INIT or DT_FINI", |file, sites, random| {
        let at = random.pick(&sites.init_tags)?;
        add(file, at, 8, 4);
        Some(at)
    }),
    ("CFA offset", |file, sites, random| {
        let at = random.pick(&sites.cfa_offsets)?;
        file[at] ^= 8;
        Some(at)
    }),
    ("callee-saved rule lost", |file, sites, random| {
        let at = random.pick(&sites.saved_registers)?;
        file[at..at + 2].fill(0);
        Some(at)
    }),
    ("frame length", |file, sites, random| {
        let at = random.pick(&sites.frame_lengths)?;
        // Not by one byte: a jump at the end, whose first byte the frame still covers, is where it was for an unwinder.
        let delta = [1, -7, 64][(random.next() % 3) as usize];
        let length = u32::from_le_bytes(*file.get(at..)?.first_chunk::<4>()?);
        if length <= 7 {
            return None;
        }
        add(file, at, 4, delta);
        Some(at)
    }),
    ("call site or landing pad", |file, sites, random| {
        let at = random.pick(&sites.call_sites)?;
        file[at] += 1;
        Some(at)
    }),
];

fn map_of(new: &Image<'_>) -> AddressMap {
    read_map(new).map_or_else(AddressMap::default, Result::unwrap)
}

fn is_proven(old: &Image<'_>, new: &[u8]) -> bool {
    // A file whose headers cannot be read is not proven.
    Image::parse(new).is_ok_and(|new| check(old, &new, &map_of(&new), &CheckOptions::default()).is_proven())
}

#[test]
fn mutants_are_caught() {
    let wanted: usize = std::env::var("POSTLINK_MUTATIONS").ok().and_then(|count| count.parse().ok()).unwrap_or(600);
    let folder = tempfile::tempdir().unwrap();
    let mut pairs: Vec<Pair> = pairs::all(folder.path(), 26);
    pairs.extend(got::pairs(folder.path()));
    assert!(pairs.len() >= 20, "only {} programs could be built", pairs.len());
    let mut counts: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    let mut missed = Vec::new();
    let per_kind = wanted.div_ceil(pairs.len() * KINDS.len());
    let mut random = Random(1);
    for pair in &pairs {
        let old = Image::parse(&pair.old).unwrap();
        let new = Image::parse(&pair.new).unwrap();
        let map = map_of(&new);
        let proof = check(&old, &new, &map, &CheckOptions::default());
        assert!(proof.is_proven(), "{}: {:#?}", pair.name, proof.violations);
        let sites = sites::collect(&old, &new, &map);
        for (kind, mutate) in KINDS {
            for _ in 0..per_kind {
                let mut mutant = pair.new.clone();
                let Some(at) = mutate(&mut mutant, &sites, &mut random) else { continue };
                if mutant == pair.new {
                    continue;
                }
                let count = counts.entry(kind).or_default();
                count.0 += 1;
                if is_proven(&old, &mutant) {
                    missed.push(format!("{kind} at offset {at:#x} of {}", pair.name));
                } else {
                    count.1 += 1;
                }
            }
        }
    }
    println!("{:<28} {:>7} {:>7}", "mutation", "made", "caught");
    for (kind, (made, caught)) in &counts {
        println!("{kind:<28} {made:>7} {caught:>7}");
    }
    let made: usize = counts.values().map(|count| count.0).sum();
    println!("{:<28} {made:>7} {:>7}   ({} programs)", "sum", made - missed.len(), pairs.len());
    assert!(missed.is_empty(), "{} mutants were proven:\n{}", missed.len(), missed.join("\n"));
    for (kind, _) in KINDS {
        assert!(counts.contains_key(kind), "no program has a place for: {kind}");
    }
}
