//! Functions of the old file that have the same code in the new one, and addresses that must stay apart.
//!
//! The walk compares each of them with that code, so for what is executed the map may put several functions in one place
//! (see `walk`: the relation between old and new addresses need not be one to one). What it could change is what a program
//! learns by comparing addresses. So the address of a function that is a *value* anywhere is nobody else's address in the
//! new file, and inside of a function that shares its code no address is a value. Values are what words of data, dynamic
//! relocations, tags, exports, the program entry, entries of tables, operands other than targets of branches, and calls into
//! their own function hold or store.

use std::cmp::Ordering;

use rayon::prelude::*;

use crate::code::{Claim, Functions, Landed};
use crate::decode::{Eyes, Flow};
use crate::proof::{Findings, Obligation};
use crate::walk::Context;

/// A function whose code stands for others as well, or has another one's stand for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Folded {
    start: u64,
    end: u64,
    /// Start of the first function with the same code.
    first: u64,
}

/// All functions that share their code with others, sorted.
#[derive(Default)]
pub(crate) struct Folds {
    all: Vec<Folded>,
}

impl Folds {
    /// Finds functions of which all bytes went to the same places.
    pub(crate) fn find(claim: &Claim<'_>, functions: &Functions) -> Self {
        let entry = |&(start, end): &(u64, u64)| {
            let piece = claim.may_move(start).then(|| claim.piece(start)).filter(|piece| !piece.is_same)?;
            Some((piece.new_of(start), start, end))
        };
        let mut entries: Vec<(u64, u64, u64)> = functions.ranges().par_iter().filter_map(entry).collect();
        entries.par_sort_unstable();
        let mut all = Vec::new();
        for alike in entries.chunk_by(|a, b| a.0 == b.0).filter(|alike| alike.len() > 1) {
            // First ones of classes, with the number of others.
            let mut firsts: Vec<((u64, u64), usize)> = Vec::new();
            for &(_, start, end) in alike {
                match firsts.iter_mut().find(|(first, _)| shares(claim, *first, (start, end))) {
                    Some((first, others)) => {
                        *others += 1;
                        all.push(Folded { start, end, first: first.0 });
                    }
                    None => firsts.push(((start, end), 0)),
                }
            }
            let shared = firsts.into_iter().filter(|(_, others)| *others > 0);
            all.extend(shared.map(|((start, end), _)| Folded { start, end, first: start }));
        }
        all.par_sort_unstable_by_key(|folded| folded.start);
        Self { all }
    }

    /// Ranges of functions whose code is that of a function in front of them, sorted.
    pub(crate) fn others(&self) -> impl Iterator<Item = (u64, u64)> + Clone + '_ {
        self.all.iter().filter(|folded| folded.first != folded.start).map(|folded| (folded.start, folded.end))
    }

    /// Start of the first function with the code of the one at `start`, if there is more than one.
    pub(crate) fn first(&self, start: u64) -> Option<u64> {
        let at = self.all.binary_search_by_key(&start, |folded| folded.start).ok()?;
        self.all.get(at).map(|folded| folded.first)
    }

    /// The function that holds `addr`, if it shares its code.
    fn holding(&self, addr: u64) -> Option<&Folded> {
        let upto = self.all.partition_point(|folded| folded.start <= addr);
        self.all.get(upto.checked_sub(1)?).filter(|folded| addr < folded.end)
    }
}

/// Whether all bytes of `a` and `b` went to the same places.
fn shares(claim: &Claim<'_>, a: (u64, u64), b: (u64, u64)) -> bool {
    if a.1 - a.0 != b.1 - b.0 {
        return false;
    }
    let len = a.1 - a.0;
    let mut at = 0;
    while at < len {
        let (left, right) = (claim.piece(a.0 + at), claim.piece(b.0 + at));
        let is_alike = !left.is_same && !right.is_same && left.is_point == right.is_point;
        if !is_alike || left.new_of(a.0 + at) != right.new_of(b.0 + at) {
            return false;
        }
        at = (left.end - a.0).min(right.end - b.0);
    }
    true
}

/// Pieces of code must not share bytes, but for those of functions that share all of them.
pub(crate) fn check_overlap(cx: &Context<'_, '_>, folds: &Folds, landed: &Landed<'_>, findings: &mut Findings) {
    for (start, end) in folds.others() {
        findings.checked.folded_functions += 1;
        findings.checked.folded_bytes += end - start;
    }
    for at in 1..landed.len() {
        let (Some(first), Some(second)) = (landed.get(at - 1), landed.get(at)) else { return };
        if first.new_end > second.new {
            let texts = (format!("{:#x}, {:#x}", first.old, second.old), format!("{:#x}, {:#x}", first.new, second.new));
            let addrs = (second.old, second.new);
            findings.fail_in(Obligation::Code, "map-overlap", addrs, texts, cx.functions.entry(second.old), "two pieces of code were put in one place");
        }
    }
    let stayed = cx.functions.ranges().par_iter().filter_map(|&(start, end)| on_what_stayed(cx, landed, start, end));
    for (old, new, piece) in stayed.collect::<Vec<_>>() {
        let texts = (format!("{piece:#x}, {new:#x}"), format!("{new:#x}"));
        findings.fail_in(Obligation::Code, "map-overlap", (old, new), texts, cx.functions.entry(piece), "a piece of code was put where code stayed");
    }
}

/// The first byte of the function that did not move, belongs to an instruction, and where other code was put as well: its
/// address twice, and the old address of that code.
fn on_what_stayed(cx: &Context<'_, '_>, landed: &Landed<'_>, start: u64, end: u64) -> Option<(u64, u64, u64)> {
    let first = landed.before(start.saturating_add(1)).saturating_sub(1);
    let pieces = (first..landed.before(end)).filter_map(|at| landed.get(at)).filter(|piece| piece.new_end > start);
    for landing in pieces {
        for piece in cx.claim.pieces(landing.new.max(start), landing.new_end.min(end)).filter(|piece| piece.is_same) {
            let (from, to) = (piece.start.max(landing.new).max(start), piece.end.min(landing.new_end).min(end));
            if let Some(at) = cx.old_covered.next(from, to, true) {
                return Some((at, at, landing.old));
            }
        }
    }
    None
}

/// Addresses that are values stay apart.
pub(crate) fn check_values(cx: &Context<'_, '_>, folds: &Folds, findings: &mut Findings) {
    let members = cx.values.members();
    let place = |eyes: &mut Eyes, old: u64| {
        let piece = cx.claim.piece(old);
        if piece.is_same && (!cx.old_covered.contains(old) || cx.functions.extent(old).is_function) {
            // Nothing is put where code of a function stayed; what is no code may give way to some.
            return None;
        }
        let mut is_nop = || cx.old_code.from(old).is_some_and(|bytes| eyes.decode(bytes, old).is_ok_and(|decoded| decoded.flow == Flow::Nop));
        if piece.is_same && is_nop() { None } else { Some((piece.new_of(old), old)) }
    };
    let mut placed: Vec<(u64, u64)> = members
        .par_chunks(4096)
        .flat_map_iter(|members| {
            let mut eyes = Eyes::new();
            members.iter().filter_map(move |&old| place(&mut eyes, old)).collect::<Vec<_>>()
        })
        .collect();
    placed.par_sort_unstable();
    for alike in placed.chunk_by(|a, b| a.0 == b.0).filter(|alike| alike.len() > 1) {
        let extent = |old: u64| cx.functions.extent(old);
        let first = alike.first().map_or(0, |one| one.1);
        let is_inside = |old: u64| extent(old).is_function && extent(old).start != old;
        // Places of one function between which nothing is executed were never kept apart.
        if alike.iter().all(|one| is_inside(one.1) && extent(one.1) == extent(first)) {
            continue;
        }
        for &(new, old) in alike.iter().filter(|one| one.1.cmp(&first) == Ordering::Greater) {
            let texts = (format!("{first:#x}, {old:#x}"), format!("{new:#x}"));
            let message = "two addresses that are values somewhere became one";
            findings.fail_in(Obligation::Code, "value-shared", (old, new), texts, cx.functions.entry(old), message);
        }
    }
    if folds.all.is_empty() {
        return;
    }
    let inside = members.par_iter().filter(|&&old| folds.holding(old).is_some_and(|folded| folded.start != old));
    for old in inside.copied().collect::<Vec<_>>() {
        let new = cx.claim.to_new(old);
        let texts = (format!("{old:#x}"), format!("{new:#x}"));
        let message = "an address inside of a function that shares its code with another one is a value";
        findings.fail_in(Obligation::Code, "value-in-shared-code", (old, new), texts, cx.functions.entry(old), message);
    }
}
