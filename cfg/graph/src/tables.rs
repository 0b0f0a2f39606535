//! Jump tables: which words of data belong to which, and where their entries lead.
//!
//! A position-independent table holds distances from its own start, of 4 bytes (8 in gcc's large code
//! model), so an entry's target is known only with the start. Every start is the operand of some `lea`, or 8-byte distance from the GOT; a table reaches from there to
//! the next start, or to the first word that does not lead where a jump table of that function may:
//! to an instruction of the function, of its parent or `.cold` part, to padding between functions (an
//! entry that is never taken), or to a function's entry (tables of relative function pointers).

use std::cmp::Ordering;
use std::ops::Range;

use postlink_base::{AddressIndex, Id, IndexLists};
use rayon::prelude::*;

use crate::bits::CodeSet;
use crate::data_refs::PcWord;
use crate::program::{FunctionIndex, place_of};
use crate::{DataRef, DataRefKind, Evidence, Fixup, FixupKind, Function, FunctionId, JumpTable, Program};

/// Entries of one table that are looked at; more is no jump table.
const MAX_ENTRIES: u64 = 1 << 20;

pub(crate) struct Tables {
    pub(crate) tables: Vec<JumpTable>,
    pub(crate) refs: Vec<DataRef>,
    /// Code that an unclaimed word may refer to, as address ranges: every function that overlaps one
    /// must stay.
    pub(crate) doubtful: Vec<(u64, u64)>,
    /// Places behind the last instruction of a function that entries lead to (never taken).
    pub(crate) dead_entries: Vec<DataRef>,
}

pub(crate) struct Context<'a> {
    pub(crate) functions: &'a [Function],
    pub(crate) function_index: &'a FunctionIndex,
    pub(crate) fixups: &'a IndexLists<FunctionId, Fixup>,
    pub(crate) inst_starts: &'a CodeSet,
    /// The topmost parent of each function.
    pub(crate) roots: &'a [FunctionId],
    pub(crate) is_code: &'a (dyn Fn(u64) -> bool + Sync),
    /// Addresses that the code takes by their distance from the GOT, and the places in code that do. Asked for if there are
    /// tables of the large code model.
    pub(crate) from_got: &'a (dyn Fn() -> Vec<(u64, u64)> + Sync),
    /// Where in the file the word at an address is that data has.
    pub(crate) offset_of: &'a (dyn Fn(u64) -> u64 + Sync),
    /// Whether an address lies in padding between functions.
    pub(crate) is_padding: &'a (dyn Fn(u64) -> bool + Sync),
}

impl Context<'_> {
    fn root(&self, id: FunctionId) -> FunctionId {
        self.roots.get(id.index()).copied().unwrap_or(id)
    }

    /// Whether an entry of a table that `owner` reads may lead to `target`.
    fn may_lead_to(&self, owner: FunctionId, target: u64) -> Lead {
        if let Some((id, is_entry)) = place_of(self.functions, self.function_index, target) {
            if is_entry {
                return Lead::Code;
            }
            let family = self.root(id) == self.root(owner);
            return if family && self.inst_starts.get(target) { Lead::Code } else { Lead::No };
        }
        // Padding behind a function: `__builtin_unreachable`, or a cold part without any code.
        if (self.is_padding)(target) { Lead::End } else { Lead::No }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Lead {
    Code,
    End,
    No,
}

/// One table as it was read from its start.
struct Claim {
    base: u64,
    owner: FunctionId,
    /// Positions of its words.
    words: Range<usize>,
    /// For each word: whether it leads behind a function's end.
    dead: Vec<bool>,
}

pub(crate) fn find(context: &Context<'_>, words: &[PcWord]) -> Tables {
    let word_index = AddressIndex::new(words, |word| word.addr);
    let bases = bases(context, words, &word_index);
    let groups: Vec<&[(u64, FunctionId)]> = bases.chunk_by(|a, b| a.0 == b.0).collect();
    // Every table ends where the next one starts, so no two of them claim one word.
    let claims: Vec<Claim> = groups
        .par_iter()
        .enumerate()
        .filter_map(|(position, group)| {
            let limit = groups.get(position + 1).and_then(|next| next.first()).map_or(u64::MAX, |next| next.0);
            claim(context, words, &word_index, group, limit)
        })
        .collect();
    let mut found = Tables { tables: Vec::new(), refs: Vec::new(), doubtful: Vec::new(), dead_entries: Vec::new() };
    let mut claimed = vec![false; words.len()];
    let entry = |word: &PcWord, base: u64| DataRef {
        file_offset: (context.offset_of)(word.addr),
        addr: word.addr,
        target: base.wrapping_add_signed(i64::from(word.value)),
        in_table: (word.addr - base) as u32,
        kind: if word.width == 8 { DataRefKind::Table64 } else { DataRefKind::Table32 },
        evidence: Evidence::Table,
    };
    let mut live: Vec<(&PcWord, u64)> = Vec::with_capacity(claims.iter().map(|claim| claim.words.len()).sum());
    for claim in claims {
        let base = claim.base;
        let entries = u32::try_from(claim.words.len()).unwrap_or(u32::MAX);
        let entry_size = words.get(claim.words.start).map_or(4, |word| word.width);
        found.tables.push(JumpTable { base, entries, entry_size, owner: claim.owner });
        claimed.get_mut(claim.words.clone()).into_iter().for_each(|flags| flags.fill(true));
        for (word, dead) in words.get(claim.words).into_iter().flatten().zip(claim.dead) {
            if dead { found.dead_entries.push(entry(word, base)) } else { live.push((word, base)) }
        }
    }
    // There may be a million: all threads write them to where they stay.
    found.refs = live.into_par_iter().map(|(word, base)| entry(word, base)).collect();
    unclaimed(context, words, &claimed, &mut found);
    found
}

/// Reads the table at the common address of `group`, which ends at `limit` at the latest.
fn claim(
    context: &Context<'_>,
    words: &[PcWord],
    word_index: &AddressIndex,
    group: &[(u64, FunctionId)],
    limit: u64,
) -> Option<Claim> {
    let &(base, owner) = group.first()?;
    let first = word_index.last_upto(words, |word| word.addr, base)?;
    let width = words.get(first)?.width;
    let mut dead = Vec::new();
    for word in words.get(first..)? {
        let entries = dead.len() as u64;
        let is_next = word.width == width && word.addr == base + entries * u64::from(width);
        if !is_next || word.addr >= limit || entries >= MAX_ENTRIES {
            break;
        }
        let target = base.wrapping_add_signed(i64::from(word.value));
        // Several functions may read one table (split parts, merged constants): any of them will do.
        let lead = group.iter().map(|same| context.may_lead_to(same.1, target)).find(|&lead| lead != Lead::No);
        let Some(lead) = lead else { break };
        dead.push(lead == Lead::End);
    }
    (!dead.is_empty()).then(|| Claim { base, owner, words: first..first + dead.len(), dead })
}

/// Addresses that code takes and that hold a PC-relative word, with the functions that do.
fn bases(context: &Context<'_>, words: &[PcWord], word_index: &AddressIndex) -> Vec<(u64, FunctionId)> {
    let holds_word = |addr: u64| {
        let last = word_index.last_upto(words, |word| word.addr, addr).and_then(|index| words.get(index));
        last.is_some_and(|word| word.addr == addr)
    };
    let mut bases: Vec<(u64, FunctionId)> = (0..context.fixups.len())
        .into_par_iter()
        .flat_map_iter(|index| {
            let fixups = context.fixups.at(index);
            let taken = fixups.iter().filter(|fixup| fixup.kind == FixupKind::Address && holds_word(fixup.target));
            taken.map(move |fixup| (fixup.target, FunctionId::from_index(index)))
        })
        .collect();
    if words.iter().any(|word| word.width == 8) {
        let taken = (context.from_got)().into_iter().filter(|&(base, _)| holds_word(base));
        bases.extend(taken.filter_map(|(base, place)| Some((base, place_of(context.functions, context.function_index, place)?.0))));
    }
    bases.par_sort_unstable();
    bases.dedup();
    bases
}

/// Words that no table claims: pointers relative to themselves, if that leads to functions' entries;
/// otherwise entries of a table whose start was not found, so that what they lead to is unknown.
///
/// A run of adjacent words is one or the other as a whole. Where both readings make sense, neither is
/// trusted: a table of functions relative to its start looks like one of pointers relative to
/// themselves if the functions happen to stand four bytes apart.
fn unclaimed(context: &Context<'_>, words: &[PcWord], claimed: &[bool], found: &mut Tables) {
    let free: Vec<PcWord> =
        words.iter().zip(claimed).filter(|(_, claimed)| !**claimed).map(|(word, _)| *word).collect();
    let is_entry = |target: u64| {
        place_of(context.functions, context.function_index, target).is_some_and(|(_, is_entry)| is_entry)
    };
    // Claimed words in front may be part of the same table, whose start is then unknown.
    let run_start_of = |addr: u64| {
        let mut index = words.partition_point(|word| word.addr < addr);
        let mut start = addr;
        while let Some(before) = index.checked_sub(1).and_then(|index| words.get(index)) {
            if before.addr + u64::from(before.width) != start {
                break;
            }
            start = before.addr;
            index -= 1;
        }
        start
    };
    for run in free.chunk_by(|a, b| a.width == b.width && a.addr + u64::from(a.width) == b.addr) {
        let Some(first) = run.first() else { continue };
        let to_itself = |word: &PcWord| word.addr.wrapping_add_signed(i64::from(word.value));
        let to_first = |word: &PcWord| first.addr.wrapping_add_signed(i64::from(word.value));
        let self_relative = run.iter().all(|word| is_entry(to_itself(word)));
        let table_relative = run.len() > 1 && run.iter().all(|word| is_entry(to_first(word)));
        if self_relative && !table_relative {
            found.refs.extend(run.iter().map(|word| DataRef {
                file_offset: (context.offset_of)(word.addr),
                addr: word.addr,
                target: to_itself(word),
                in_table: 0,
                kind: if word.width == 8 { DataRefKind::Pc64 } else { DataRefKind::Pc32 },
                evidence: Evidence::Reloc,
            }));
            continue;
        }
        let run_start = run_start_of(first.addr);
        for word in run {
            let low = run_start.wrapping_add_signed(i64::from(word.value));
            let high = to_itself(word);
            if (context.is_code)(low) || (context.is_code)(high) {
                found.doubtful.push((low.min(high), high.max(low)));
            }
        }
    }
}

/// Tables of absolute addresses: runs of 8-byte words that lead into the middle of one function that
/// has an indirect jump. Their entries are ordinary references; the table itself is for readers.
pub(crate) fn absolute_tables(program: &Program<'_>) -> Vec<JumpTable> {
    let (functions, refs) = (&program.functions, &program.data_refs);
    let owners: Vec<Option<FunctionId>> = refs
        .par_iter()
        .map(|data_ref| {
            let inside = program.place_of(data_ref.target).filter(|&(_, is_entry)| !is_entry).map(|(id, _)| id);
            inside.filter(|&id| functions.get(id).is_some_and(|function| function.traits.indirect_jump))
        })
        .collect();
    let mut tables: Vec<JumpTable> = Vec::new();
    let mut open: Option<(u64, JumpTable)> = None;
    let words = refs.iter().zip(owners);
    for (data_ref, owner) in words.filter(|(word, _)| word.kind == DataRefKind::Abs64 && word.addr != 0) {
        match (&mut open, owner) {
            (Some((next, table)), Some(owner)) if *next == data_ref.addr && table.owner == owner => {
                table.entries += 1;
                *next += 8;
            }
            (_, owner) => {
                tables.extend(open.take().map(|(_, table)| table));
                open = owner.map(|owner| {
                    (data_ref.addr + 8, JumpTable { base: data_ref.addr, entries: 1, entry_size: 8, owner })
                });
            }
        }
    }
    tables.extend(open.map(|(_, table)| table));
    tables.retain(|table| table.entries > 1);
    tables
}

/// Merges two lists that are sorted by their place in the file. Of references with the same place those in `first` come
/// first. The longer list is extended in place: there may be a million entries of tables.
pub(crate) fn merge(first: Vec<DataRef>, second: Vec<DataRef>) -> Vec<DataRef> {
    let into_first = first.len() > second.len();
    let (mut merged, mut more) = if into_first { (first, second) } else { (second, first) };
    let Some(&filler) = more.first() else { return merged };
    let mut old = merged.len();
    merged.reserve_exact(more.len());
    merged.resize(old + more.len(), filler);
    // From the end on, so that nothing is written over before it was moved.
    for place in (0..merged.len()).rev() {
        let Some(&new) = more.last() else { break };
        let before = old.checked_sub(1).and_then(|last| merged.get(last)).copied();
        let stays_behind = |before: &DataRef| match before.file_offset.cmp(&new.file_offset) {
            Ordering::Greater => true,
            Ordering::Equal => !into_first,
            Ordering::Less => false,
        };
        let next = match before.filter(stays_behind) {
            Some(before) => {
                old -= 1;
                before
            }
            None => {
                more.pop();
                new
            }
        };
        if let Some(slot) = merged.get_mut(place) {
            *slot = next;
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merging_keeps_order() {
        let word = |file_offset: u64, addr: u64| DataRef {
            file_offset,
            addr,
            target: 0,
            in_table: 0,
            kind: DataRefKind::Abs64,
            evidence: Evidence::Reloc,
        };
        for bits in 0u32..1 << 12 {
            // Twelve words at six places, each in the first or the second list; `addr` says which.
            let (second, first): (Vec<u64>, Vec<u64>) = (0..12u64).partition(|word| bits >> word & 1 != 0);
            let list = |places: &[u64], addr: u64| places.iter().map(|place| word(place / 2, addr)).collect::<Vec<_>>();
            let (first, second) = (list(&first, 1), list(&second, 2));
            let mut expected = [first.clone(), second.clone()].concat();
            expected.sort_by_key(|word| word.file_offset);
            assert_eq!(merge(first, second), expected);
        }
    }
}
