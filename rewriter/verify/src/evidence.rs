//! What the proof says about each function: where it went, digests of its bytes, and who refers to it.
//!
//! A pass of its own behind [`check`](crate::check): it decides nothing, and is made only for a report.

use postlink_base::{AddressMap, Digest, digest};
use postlink_image::{DynamicTable, Image, elf, relr_addresses};
use rayon::prelude::*;
use rustc_hash::FxHashMap;

use crate::code::{Claim, CodeView, Functions};
use crate::folds::Folds;
use crate::pointers::DynamicRelocations;
use crate::proof::{Obligation, Proof};
use crate::relocations::{StaticRelocations, places_in_code};
use crate::unwind::Frames;
use crate::walk::little;

/// One function: a code range of the old file that an FDE or a function symbol names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionEvidence {
    /// The symbol at its start: a function before others, a global one before a local one. `None` without.
    pub name: Option<String>,
    /// Its old address.
    pub start: u64,
    /// Its old size in bytes.
    pub size: u64,
    /// Where its code is in the new file, as address and size: the range with its entry first, the others by
    /// address. Disjoint. Branches that were added behind copied code belong to it; the map does not tell of a
    /// jump that was added before the first copied byte of a range, so that one can be missing.
    pub ranges: Vec<(u64, u64)>,
    /// Digest of the old bytes; `None` if they are not in the file.
    pub old_digest: Option<Digest>,
    /// Digest of the new bytes, `ranges` joined in their order; `None` if one is not in the file.
    pub new_digest: Option<Digest>,
    /// Whether any byte of it has another address.
    pub moved: bool,
    /// Old address of the first function that has the same code in the new file, if several have (that may be this one).
    pub shared: Option<u64>,
    /// Obligations that had something to compare in it or on the way to it.
    pub obligations: Vec<Obligation>,
    /// Those of which a kept violation names it.
    pub violated: Vec<Obligation>,
    /// What refers to it, and what describes it.
    pub references: ReferenceCounts,
}

/// References by the evidence that tells of them. A word for which there are two kinds of evidence, such as
/// a static and a dynamic relocation, counts in both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReferenceCounts {
    /// Places inside of it that have a static relocation: what it refers to.
    pub relocated_places: u64,
    /// Words of data with a static relocation that hold an address in it.
    pub data_words: u64,
    /// Words of the global offset tables that hold an address in it.
    pub got_words: u64,
    /// Words of the arrays of initializers and finalizers that hold an address in it.
    pub init_words: u64,
    /// Words with a RELR entry that hold an address in it.
    pub relr_words: u64,
    /// Dynamic relocations that will store an address in it (RELATIVE and IRELATIVE).
    pub dynamic_relocations: u64,
    /// Entries of tables of distances that lead into it. 0 unless [`CheckOptions::table_targets`] was set.
    ///
    /// [`CheckOptions::table_targets`]: crate::CheckOptions::table_targets
    pub table_entries: u64,
    /// Symbols, static and dynamic, whose value is in it.
    pub symbols: u64,
    /// FDEs whose code starts in it.
    pub frames: u64,
    /// Among program entry, `DT_INIT` and `DT_FINI`, those in it.
    pub entry_points: u64,
}

/// Describes every function of the old file, sorted by old address.
///
/// `proof` is what [`check`](crate::check) found for the same files and map.
pub fn function_evidence(old: &Image<'_>, new: &Image<'_>, map: &AddressMap, proof: &Proof) -> Vec<FunctionEvidence> {
    let code = CodeView::of_sections(old);
    // A table that cannot be read is a violation of P4; here it is one without frames.
    let frames = Frames::read(old, |addr| code.contains(addr), |addr| addr).ok().flatten();
    let extents: Vec<(u64, u64)> =
        frames.iter().flat_map(|frames| frames.frames.iter().map(|frame| (frame.start, frame.end))).collect();
    let functions = Functions::new(old, &code, &extents);
    let claim = Claim::new(map);
    let places = Places::read(old, &code, &extents, proof);
    let names = names(old);
    let violated = violated(proof, &functions);
    let pieces: Vec<Vec<Piece>> = functions.ranges().par_iter().map(|&(start, end)| pieces(&claim, start, end)).collect();
    let folds = Folds::find(&claim, &functions);
    // Functions that share their code are one owner of it.
    let owner = |index: u32| {
        let first = functions.ranges().get(index as usize).and_then(|function| folds.first(function.0));
        let at = first.and_then(|first| functions.ranges().binary_search_by_key(&first, |function| function.0).ok());
        at.and_then(|at| u32::try_from(at).ok()).unwrap_or(index)
    };
    let owners = owners(&pieces, owner);
    let indexed = functions.ranges().par_iter().zip(&pieces).enumerate();
    indexed
        .map(|(index, (&(start, end), pieces))| {
            let size = end - start;
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            let ranges = in_order(join(pieces, owner(index), &owners, new), claim.to_new(start));
            let references = places.counts(start, end);
            let moved = pieces.iter().any(|piece| piece.moved);
            FunctionEvidence {
                name: names.get(&start).map(|&(_, name)| String::from_utf8_lossy(name).into_owned()),
                start,
                size,
                old_digest: old.bytes_at(start, size).map(digest),
                new_digest: digest_of(new, &ranges),
                ranges,
                moved,
                shared: folds.first(start),
                obligations: obligations(&references, moved),
                violated: violated.get(&start).cloned().unwrap_or_default(),
                references,
            }
        })
        .collect()
}

/// Sorted addresses, one list for each kind of evidence.
struct Places {
    relocated_places: Vec<u64>,
    data_words: Vec<u64>,
    got_words: Vec<u64>,
    init_words: Vec<u64>,
    relr_words: Vec<u64>,
    dynamic_relocations: Vec<u64>,
    table_entries: Vec<u64>,
    symbols: Vec<u64>,
    frames: Vec<u64>,
    entry_points: Vec<u64>,
}

impl Places {
    fn read(old: &Image<'_>, code: &CodeView<'_>, extents: &[(u64, u64)], proof: &Proof) -> Self {
        let word = |addr: u64| old.bytes_at(addr, 8).map(little);
        let relocated = StaticRelocations::read(old).words;
        let data_words = relocated.iter().filter_map(|word| {
            let value = little(old.bytes_at(word.addr, u64::from(word.width))?);
            Some(if word.signed { i64::from(value as u32 as i32).cast_unsigned() } else { value })
        });
        let (mut got_words, mut init_words, mut relr_words) = (Vec::new(), Vec::new(), Vec::new());
        for section in old.sections().iter().filter(|section| section.is_alloc() && section.kind != elf::SHT_NOBITS) {
            let words = || old.section_data(section).as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
            if section.kind == elf::SHT_RELR {
                relr_words.extend(relr_addresses(old.section_data(section)).into_iter().filter_map(word));
            } else if matches!(section.kind, elf::SHT_INIT_ARRAY | elf::SHT_FINI_ARRAY | elf::SHT_PREINIT_ARRAY) {
                init_words.extend(words());
            } else if section.name.starts_with(b".got") || section.name == b".igot.plt" {
                got_words.extend(words());
            }
        }
        let symbols = [old.symtab(), old.dynsym()].into_iter().flatten().flat_map(|table| {
            let is_place = |kind: u8| kind != elf::STT_TLS && kind != elf::STT_SECTION && kind != elf::STT_FILE;
            table.iter().filter(move |symbol| symbol.is_defined() && is_place(symbol.kind())).map(|symbol| symbol.value)
        });
        let tags = DynamicTable::read(old);
        let entries = [elf::DT_INIT, elf::DT_FINI].into_iter().filter_map(|tag| tags.value(tag));
        let sorted = |mut addrs: Vec<u64>| {
            addrs.retain(|&addr| code.contains(addr));
            addrs.par_sort_unstable();
            addrs
        };
        Self {
            relocated_places: sorted(places_in_code(old)),
            data_words: sorted(data_words.collect()),
            got_words: sorted(got_words),
            init_words: sorted(init_words),
            relr_words: sorted(relr_words),
            dynamic_relocations: sorted(DynamicRelocations::read(old).targets(old)),
            table_entries: sorted(proof.table_targets.iter().map(|target| target.raw()).collect()),
            symbols: sorted(symbols.collect()),
            frames: sorted(extents.iter().map(|extent| extent.0).collect()),
            entry_points: sorted(entries.chain([old.header().entry]).collect()),
        }
    }

    /// How many of each kind are in `start..end`.
    fn counts(&self, start: u64, end: u64) -> ReferenceCounts {
        let count = |addrs: &[u64]| {
            let upto = |bound: u64| addrs.partition_point(|&addr| addr < bound);
            (upto(end) - upto(start)) as u64
        };
        ReferenceCounts {
            relocated_places: count(&self.relocated_places),
            data_words: count(&self.data_words),
            got_words: count(&self.got_words),
            init_words: count(&self.init_words),
            relr_words: count(&self.relr_words),
            dynamic_relocations: count(&self.dynamic_relocations),
            table_entries: count(&self.table_entries),
            symbols: count(&self.symbols),
            frames: count(&self.frames),
            entry_points: count(&self.entry_points),
        }
    }
}

fn obligations(references: &ReferenceCounts, moved: bool) -> Vec<Obligation> {
    let pointers = references.data_words
        + references.got_words
        + references.init_words
        + references.relr_words
        + references.dynamic_relocations
        + references.entry_points;
    Obligation::ALL
        .into_iter()
        .filter(|obligation| match obligation {
            Obligation::Code => true,
            Obligation::Pointers => pointers > 0,
            Obligation::Tables => references.table_entries > 0,
            Obligation::Unwinding => references.frames > 0,
            Obligation::Symbols => references.symbols > 0,
            Obligation::File => false,
            Obligation::Residue => moved,
        })
        .collect()
}

/// The symbol by which a function is called, by its address. The first one of equal rank wins.
fn names<'d>(old: &Image<'d>) -> FxHashMap<u64, (u8, &'d [u8])> {
    let mut names: FxHashMap<u64, (u8, &'d [u8])> = FxHashMap::default();
    for table in [old.symtab(), old.dynsym()].into_iter().flatten() {
        for symbol in table.iter().filter(|symbol| symbol.is_defined()) {
            let name = table.name(&symbol);
            if name.is_empty() || matches!(symbol.kind(), elf::STT_TLS | elf::STT_SECTION | elf::STT_FILE) {
                continue;
            }
            let rank = u8::from(!symbol.is_function()) * 2 + u8::from(symbol.binding() == elf::STB_LOCAL);
            let best = names.entry(symbol.value).or_insert((rank, name));
            if rank < best.0 {
                *best = (rank, name);
            }
        }
    }
    names
}

/// Obligations that do not hold, by function.
fn violated(proof: &Proof, functions: &Functions) -> FxHashMap<u64, Vec<Obligation>> {
    let mut by_function: FxHashMap<u64, Vec<Obligation>> = FxHashMap::default();
    for violation in &proof.violations {
        let place = violation.function.or(violation.old_addr);
        let Some(entry) = place.and_then(|addr| functions.entry(addr.raw())) else { continue };
        let list = by_function.entry(entry).or_default();
        // Violations are sorted by obligation.
        if list.last() != Some(&violation.obligation) {
            list.push(violation.obligation);
        }
    }
    by_function
}

/// A stretch of a function in the new file; empty where a branch was encoded anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    start: u64,
    end: u64,
    moved: bool,
}

/// Where the map puts `start..end`, sorted by new address.
fn pieces(claim: &Claim<'_>, start: u64, end: u64) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut at = start;
    while at < end {
        let piece = claim.piece(at);
        let stop = piece.end.min(end);
        let new = piece.new_of(at);
        let size = if piece.is_point { 0 } else { stop - at };
        pieces.push(Piece { start: new, end: new.saturating_add(size), moved: !piece.is_same });
        at = stop;
    }
    pieces.sort_unstable_by_key(|piece| (piece.start, piece.end));
    pieces
}

/// Starts of the pieces of all functions, with the function's index, sorted. An empty piece inside of another
/// one is left out: it stands for a removed jump that led there, not for code.
fn owners(pieces: &[Vec<Piece>], owner: impl Fn(u32) -> u32 + Sync) -> Vec<(u64, u32)> {
    let of_kind = |is_empty: bool| {
        let mut list: Vec<(u64, u64, u32)> = pieces
            .par_iter()
            .enumerate()
            .flat_map_iter(|(index, pieces)| {
                let index = owner(u32::try_from(index).unwrap_or(u32::MAX));
                let some = pieces.iter().filter(move |piece| (piece.start == piece.end) == is_empty);
                some.map(move |piece| (piece.start, piece.end, index))
            })
            .collect();
        list.par_sort_unstable();
        list
    };
    let copied = of_kind(false);
    let is_inside = |addr: u64| {
        let upto = copied.partition_point(|piece| piece.0 <= addr);
        upto.checked_sub(1).and_then(|at| copied.get(at)).is_some_and(|piece| addr < piece.1)
    };
    let mut owners: Vec<(u64, u32)> = of_kind(true)
        .into_par_iter()
        .filter(|piece| !is_inside(piece.0))
        .chain(copied.par_iter().copied())
        .map(|(start, _, index)| (start, index))
        .collect();
    owners.par_sort_unstable();
    owners.dedup();
    owners
}

/// Padding inside of a fragment is shorter.
const PADDING_MAX: u64 = 16;

/// Joins the pieces of one function to ranges of the new file, with the branches that were added behind
/// them. Empty pieces that no branch follows vanish.
fn join(pieces: &[Piece], index: u32, owners: &[(u64, u32)], new: &Image<'_>) -> Vec<(u64, u64)> {
    let from = |addr: u64| owners.get(owners.partition_point(|owner| owner.0 < addr)..).unwrap_or(&[]).iter();
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    // The next start of another function's piece.
    let mut bound = 0;
    for piece in pieces {
        let is_shared = || from(piece.start).take_while(|owner| owner.0 == piece.start).any(|owner| owner.1 != index);
        // A removed jump stands for the start of what it led to.
        if piece.start == piece.end && is_shared() {
            continue;
        }
        let continues = ranges.last().is_some_and(|last| piece.start < bound && piece.start.saturating_sub(last.1) < PADDING_MAX);
        if !continues {
            bound = from(piece.start.saturating_add(1)).find(|owner| owner.1 != index).map_or(u64::MAX, |owner| owner.0);
            ranges.push((piece.start, piece.end));
        }
        let mut end = piece.end;
        // A conditional branch and a jump at most are added in one place, and nothing behind a jump.
        for _ in 0..2 {
            let bytes = (2..=6).rev().find_map(|size| new.bytes_at(end, size)).unwrap_or(&[]);
            let size = branch_size(bytes);
            if !piece.moved || size == 0 || end.saturating_add(size) > bound {
                break;
            }
            end += size;
            if matches!(bytes, [0xeb | 0xe9, ..]) {
                break;
            }
        }
        if let Some(last) = ranges.last_mut() {
            last.1 = last.1.max(end);
        }
    }
    ranges.into_iter().filter(|range| range.1 > range.0).map(|(start, end)| (start, end - start)).collect()
}

/// Size of a direct jump or conditional branch at the start of `bytes`, 0 if there is none (Intel SDM,
/// volume 2, appendix A: Jcc and JMP with an 8-bit or 32-bit distance).
fn branch_size(bytes: &[u8]) -> u64 {
    match *bytes {
        [0x70..=0x7f | 0xeb, _, ..] => 2,
        [0xe9, _, _, _, _, ..] => 5,
        [0x0f, 0x80..=0x8f, _, _, _, _, ..] => 6,
        _ => 0,
    }
}

/// Puts the range that holds `entry` first.
fn in_order(mut ranges: Vec<(u64, u64)>, entry: u64) -> Vec<(u64, u64)> {
    if let Some(first) = ranges.iter().position(|&(start, size)| entry >= start && entry - start < size)
        && let Some(upto) = ranges.get_mut(..=first)
    {
        upto.rotate_right(1);
    }
    ranges
}

fn digest_of(new: &Image<'_>, ranges: &[(u64, u64)]) -> Option<Digest> {
    let mut hasher = blake3::Hasher::new();
    for &(start, size) in ranges {
        hasher.update(new.bytes_at(start, size)?);
    }
    Some(Digest(*hasher.finalize().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches_are_told_by_their_bytes() {
        for (bytes, size) in [
            (&[0xeb, 0x10][..], 2),
            (&[0x74, 0x10, 0x90], 2),
            (&[0xe9, 1, 2, 3, 4], 5),
            (&[0x0f, 0x84, 1, 2, 3, 4], 6),
            (&[0xe9, 1, 2, 3], 0),
            (&[0x0f, 0x1f, 0, 0, 0, 0], 0),
            (&[0xe8, 1, 2, 3, 4], 0),
            (&[0xcc], 0),
            (&[], 0),
        ] {
            assert_eq!(branch_size(bytes), size, "{bytes:x?}");
        }
    }

    #[test]
    fn the_range_of_the_entry_comes_first() {
        assert_eq!(in_order(vec![(10, 5), (20, 5), (30, 5)], 22), [(20, 5), (10, 5), (30, 5)]);
        assert_eq!(in_order(vec![(10, 5), (20, 5)], 15), [(10, 5), (20, 5)]);
        assert_eq!(in_order(Vec::new(), 1), []);
    }

    #[test]
    fn pieces_of_others_bound_a_range() {
        let piece = |start: u64, end: u64| Piece { start, end, moved: true };
        let all = [vec![piece(100, 110), piece(110, 110), piece(114, 120), piece(200, 210)], vec![piece(120, 130)], vec![piece(205, 205)]];
        let owners = owners(&all, |index| index);
        // An image without code: nothing is added behind the pieces.
        let mut bytes = vec![0u8; 64];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[6] = 1;
        bytes[16] = 2;
        bytes[18] = 62;
        bytes[20] = 1;
        bytes[52] = 64;
        bytes[54] = 56;
        bytes[58] = 64;
        let image = Image::parse(&bytes).expect("a header is an image");
        assert_eq!(join(&all[0], 0, &owners, &image), [(100, 20), (200, 10)]);
        assert_eq!(join(&all[1], 1, &owners, &image), [(120, 10)]);
        assert_eq!(join(&all[2], 2, &owners, &image), []);
    }
}
