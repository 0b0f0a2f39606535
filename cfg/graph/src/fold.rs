//! Classes of equal functions, of which one can stand for all.
//!
//! Two functions are equal if their bytes are, but for fields that depend on addresses; each such field designates the same
//! place, or the entries of functions that are equal themselves; and they unwind alike. Functions that call each other may
//! be equal although their fields differ, so the coarsest partition is looked for: all that agree in everything but fields
//! that lead to candidates are one class at first, and classes are split until the fields of their members lead to the same
//! classes (as linkers do: Tallam et al., "Safe ICF: Pointer Safe and Unwinding Aware Identical Code Folding in Gold", 2010).
//!
//! At most one function of a class has an address that is a value: the others are only called, so nobody can tell that they
//! have the address of another one now.

mod frames;

use std::hash::Hasher as _;

use postlink_base::{Id, IndexVec};
use rayon::prelude::*;
use rustc_hash::{FxHashSet, FxHasher};

use crate::program::sorted_range;
use crate::{Class, Fixup, FixupKind, FunctionId, Program};

/// Equal functions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoldClass {
    /// Stands for all: the one whose address is a value if there is one, else the first one.
    pub representative: FunctionId,
    /// The others, in order, at least one.
    pub others: Vec<FunctionId>,
}

/// The classes of equal functions among those that `may_fold` names, in order of their representatives. `taken`: whether a
/// function's address is a value ([`Program::address_taken`]).
pub fn fold_classes(program: &Program<'_>, may_fold: &[bool], taken: &[bool]) -> Vec<FoldClass> {
    let mut classes = alike(program, may_fold, taken);
    let mut colors = Colors::new(program);
    colors.paint(&[], &classes);
    // Which candidates each candidate leads to; all else is compared here.
    let members: Vec<Vec<Member>> = classes
        .par_iter()
        .map(|class| class.iter().filter_map(|&id| Member::new(program, &colors, id)).collect())
        .collect();
    let targets: Targets = members.iter().flatten().map(|member| (member.id, member.targets.as_slice())).collect::<Vec<_>>().into();
    let mut next = split(&members, |member| member.digest, |member| member.id);
    loop {
        colors.paint(&classes, &next);
        let is_last = classes == next;
        classes = next;
        if is_last {
            break;
        }
        next = split(&classes, |&id| colors.digest(targets.of(id)), |&id| id);
    }
    let folded = classes.par_iter().filter_map(|class| {
        let is_taken = |id: &FunctionId| taken.get(id.index()).copied().unwrap_or(true);
        let representative = class.iter().copied().find(is_taken).or(class.first().copied())?;
        // Digests may collide.
        let is_equal = |&id: &FunctionId| id != representative && are_equal(program, &colors, id, representative);
        let others: Vec<FunctionId> = class.iter().copied().filter(is_equal).collect();
        (!others.is_empty()).then_some(FoldClass { representative, others })
    });
    let mut folded: Vec<FoldClass> = folded.collect();
    folded.sort_unstable_by_key(|class| class.representative);
    folded
}

/// The class of each candidate, 0 for a function that is equal to no other.
struct Colors<'p, 'd> {
    program: &'p Program<'d>,
    of: IndexVec<FunctionId, u32>,
}

impl<'p, 'd> Colors<'p, 'd> {
    fn new(program: &'p Program<'d>) -> Self {
        Self { program, of: program.functions.iter().map(|_| 0).collect() }
    }

    fn paint(&mut self, old: &[Vec<FunctionId>], new: &[Vec<FunctionId>]) {
        old.iter().flatten().for_each(|&id| self.of[id] = 0);
        for (color, class) in (1..).zip(new) {
            class.iter().for_each(|&id| self.of[id] = color);
        }
    }

    /// The candidate whose entry a field designates.
    fn candidate(&self, fixup: &Fixup) -> Option<FunctionId> {
        let (id, is_entry) = self.program.place_of(fixup.target)?;
        (is_entry && self.of[id] != 0 && !fixup.passes_end).then_some(id)
    }

    /// What a reference to a candidate stands for.
    fn meaning(&self, id: FunctionId) -> u64 {
        match self.of[id] {
            0 => 1 << 32 | u64::from(id.0),
            color => u64::from(color),
        }
    }

    fn digest(&self, targets: &[FunctionId]) -> u64 {
        let mut hasher = FxHasher::default();
        targets.iter().for_each(|&id| hasher.write_u64(self.meaning(id)));
        hasher.finish()
    }

    /// Whether both fields designate the same place, or equal functions.
    fn agree(&self, a: &Fixup, b: &Fixup) -> bool {
        match (self.candidate(a), self.candidate(b)) {
            (Some(a), Some(b)) => self.meaning(a) == self.meaning(b),
            (None, None) => a.target == b.target,
            _ => false,
        }
    }
}

/// One candidate.
struct Member {
    id: FunctionId,
    /// Of the places that its fields designate, but for `targets`, and of its handlers of exceptions.
    digest: u64,
    /// Candidates whose entries fields designate, in the order of the fields.
    targets: Vec<FunctionId>,
}

impl Member {
    /// `None` for a function that is compared with no other.
    fn new(program: &Program<'_>, colors: &Colors<'_, '_>, id: FunctionId) -> Option<Self> {
        let mut targets = Vec::new();
        let mut hasher = FxHasher::default();
        frames::handlers(program, &program.functions[id])?.iter().for_each(|&word| hasher.write_u64(word));
        for fixup in &program.fixups[id] {
            match colors.candidate(fixup) {
                Some(target) => {
                    targets.push(target);
                    hasher.write_u64(u64::from(colors.of[target]) | 1 << 63);
                }
                None => hasher.write_u64(fixup.target),
            }
        }
        Some(Self { id, digest: hasher.finish(), targets })
    }
}

/// The targets of each candidate.
struct Targets<'a> {
    sorted: Vec<(FunctionId, &'a [FunctionId])>,
}

impl<'a> From<Vec<(FunctionId, &'a [FunctionId])>> for Targets<'a> {
    fn from(mut sorted: Vec<(FunctionId, &'a [FunctionId])>) -> Self {
        sorted.par_sort_unstable_by_key(|entry| entry.0);
        Self { sorted }
    }
}

impl<'a> Targets<'a> {
    fn of(&self, id: FunctionId) -> &'a [FunctionId] {
        let at = self.sorted.binary_search_by_key(&id, |entry| entry.0).ok();
        at.and_then(|at| self.sorted.get(at)).map_or(&[], |entry| entry.1)
    }
}

/// Cuts each class into those with the same digest, in order; what is alone is left out.
fn split<T: Sync>(
    classes: &[Vec<T>],
    digest: impl Fn(&T) -> u64 + Sync,
    id: impl Fn(&T) -> FunctionId + Sync,
) -> Vec<Vec<FunctionId>> {
    let parts = classes.par_iter().flat_map_iter(|class| {
        let mut members: Vec<(u64, FunctionId)> = class.iter().map(|member| (digest(member), id(member))).collect();
        members.sort_unstable();
        let same = members.chunk_by(|a, b| a.0 == b.0).filter(|same| same.len() > 1);
        same.map(|same| same.iter().map(|member| member.1).collect()).collect::<Vec<Vec<FunctionId>>>()
    });
    parts.collect()
}

/// Candidates that agree in everything but what their fields designate.
fn alike(program: &Program<'_>, may_fold: &[bool], taken: &[bool]) -> Vec<Vec<FunctionId>> {
    /// Functions that one thread takes at a time.
    const BATCH: usize = 256;
    let excluded = excluded(program);
    let mut candidates: Vec<(u64, FunctionId)> = (0..program.functions.len())
        .into_par_iter()
        .with_max_len(BATCH)
        .filter(|&index| may_fold.get(index).copied().unwrap_or(false))
        .map(FunctionId::from_index)
        .filter(|id| may_be_equal(program, *id) && !excluded.contains(id))
        .filter_map(|id| Some((content_digest(program, id)?, id)))
        .collect();
    candidates.par_sort_unstable();
    let groups = candidates.chunk_by(|a, b| a.0 == b.0).filter(|group| group.len() > 1);
    let classes = groups.map(|group| {
        let mut has_taken = false;
        let mut is_one_more = |id: FunctionId| {
            let is_taken = taken.get(id.index()).copied().unwrap_or(true);
            is_taken && std::mem::replace(&mut has_taken, true)
        };
        group.iter().map(|candidate| candidate.1).filter(|&id| !is_one_more(id)).collect::<Vec<FunctionId>>()
    });
    classes.filter(|class| class.len() > 1).collect()
}

/// Functions that something refers to in a way that no other function could stand in for.
fn excluded(program: &Program<'_>) -> FxHashSet<FunctionId> {
    let at = |addr: u64| program.function_at(addr);
    // Padding that leads into a function is told by its address.
    let behind_padding = program.padding_entries.iter().filter_map(|entry| at(entry.1));
    // Code that is read as data.
    let exec = program.image.exec_ranges();
    let code = exec.first().map_or(0, |range| range.0)..exec.iter().map(|range| range.1).max().unwrap_or(0);
    let code = &code;
    let read: Vec<FunctionId> = (0..program.fixups.len())
        .into_par_iter()
        .with_min_len(1024)
        .flat_map_iter(|index| {
            let fixups = program.fixups.at(index).iter();
            fixups.filter(|fixup| fixup.kind == FixupKind::Memory && code.contains(&fixup.target)).filter_map(|fixup| at(fixup.target))
        })
        .collect();
    read.into_iter().chain(behind_padding).collect()
}

/// Whether nothing about the function itself forbids that another one stands for it, or it for another one.
fn may_be_equal(program: &Program<'_>, id: FunctionId) -> bool {
    let function = &program.functions[id];
    let traits = function.traits;
    // What it runs into, or reaches by a short branch only, is told by its place.
    let is_apart = !traits.must_relay && !traits.falls_through && !traits.size_guessed;
    // The places inside that others lead to: those of the unwinder are compared, others are not.
    let labels = program.labels_of(function);
    let pads = || sorted_range(&program.landing_pads, function.start, function.end);
    function.class == Class::Free && is_apart && (labels.is_empty() || labels == pads())
}

/// Width of a field in bytes.
const fn width(kind: FixupKind) -> usize {
    match kind {
        FixupKind::Branch8 => 1,
        FixupKind::Delta64 | FixupKind::Pc64 => 8,
        _ => 4,
    }
}

/// The bytes in front of each field, with the field, and those behind the last one.
fn cut<'a>(bytes: &'a [u8], fixups: &'a [Fixup]) -> impl Iterator<Item = (&'a [u8], Option<&'a Fixup>)> {
    let mut at = 0;
    let mut rest = fixups.iter();
    let mut is_done = false;
    std::iter::from_fn(move || {
        if is_done {
            return None;
        }
        let fixup = rest.next();
        is_done = fixup.is_none();
        let end = fixup.map_or(bytes.len(), |fixup| fixup.offset as usize);
        let before = bytes.get(at..end).unwrap_or(&[]);
        at = fixup.map_or(at, |fixup| end.saturating_add(width(fixup.kind)));
        Some((before, fixup))
    })
}

/// Digest of all but what fields designate and exceptions do; `None` for a function that is compared with no other.
fn content_digest(program: &Program<'_>, id: FunctionId) -> Option<u64> {
    let function = &program.functions[id];
    let mut hasher = FxHasher::default();
    hasher.write_u32(function.section);
    frames::hash(program, function, &mut hasher)?;
    for (before, fixup) in cut(program.bytes(function), &program.fixups[id]) {
        hasher.write(before);
        if let Some(fixup) = fixup {
            hasher.write_u64(u64::from(fixup.offset) << 32 | (fixup.kind as u64) << 16 | u64::from(fixup.tail) << 1 | u64::from(fixup.passes_end));
        }
    }
    Some(hasher.finish())
}

/// Whether two functions of one class are equal indeed.
fn are_equal(program: &Program<'_>, colors: &Colors<'_, '_>, a: FunctionId, b: FunctionId) -> bool {
    let (first, second) = (&program.functions[a], &program.functions[b]);
    let (left, right) = (&program.fixups[a], &program.fixups[b]);
    let is_same_place = |a: &Fixup, b: &Fixup| {
        (a.offset, a.kind, a.tail, a.passes_end) == (b.offset, b.kind, b.tail, b.passes_end) && colors.agree(a, b)
    };
    first.section == second.section
        && first.size() == second.size()
        && left.len() == right.len()
        && left.iter().zip(right).all(|(a, b)| is_same_place(a, b))
        && cut(program.bytes(first), left).map(|part| part.0).eq(cut(program.bytes(second), right).map(|part| part.0))
        && frames::are_equal(program, first, second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_cut_by_digests() {
        let id = |index: u32| FunctionId(index);
        let classes = vec![vec![id(1), id(2), id(5), id(7), id(9)], vec![id(3), id(4)]];
        // By the last bit: 1, 5, 7, 9 and 2, which is alone; 3 and 4 differ.
        let cut = split(&classes, |id| u64::from(id.0 & 1), |&id| id);
        assert_eq!(cut, [vec![id(1), id(5), id(7), id(9)]]);
        assert_eq!(split(&cut, |_| 0, |&id| id), cut);
    }

    #[test]
    fn bytes_are_cut_at_fields() {
        let fixup = |offset, kind| Fixup { target: 0, offset, kind, tail: 0, evidence: crate::Evidence::Decoded, passes_end: false };
        let fixups = [fixup(1, FixupKind::Call), fixup(7, FixupKind::Branch8), fixup(8, FixupKind::Delta64)];
        let bytes: Vec<u8> = (0..18).collect();
        let parts: Vec<&[u8]> = cut(&bytes, &fixups).map(|part| part.0).collect();
        assert_eq!(parts, [&[0][..], &[5, 6], &[], &[16, 17]]);
        // A field that reaches over the end.
        assert_eq!(cut(&bytes[..3], &fixups[..1]).map(|part| part.0).collect::<Vec<_>>(), [&[0][..], &[]]);
    }
}
