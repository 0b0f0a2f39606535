//! P1, P2: calls whose callee, or data, tells what the place is to which they return.
//!
//! A word of data that holds such an address is not there to be jumped to: the runtime system of a language looks up return addresses that it finds on
//! the stack (OCaml's frame tables). So it is not enough that the mapped place does the same; it must be the very one
//! behind the new call.
//!
//! A word next to one that leads into the same function is taken for an entry of a table of labels (A3).
//!
//! Behind a call of libgcc's `__morestack` (`-fsplit-stack`) stands a return, and behind that what the callee goes on with: it
//! adds 1 to the address.

use postlink_base::{NewAddr, OldAddr};
use postlink_image::{Image, Symbol, reloc};
use rayon::prelude::*;

use crate::decode::{Eyes, Flow};
use crate::pointers::Pointer;
use crate::proof::{Findings, Obligation, Violation};
use crate::relocations::places_in_code;
use crate::walk::{Context, Walker};

/// Bytes of the longest call that is looked for.
const MAX_CALL: u64 = 9;

/// Where a call stands, and the address behind it that a word holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Return {
    call: u64,
    to: u64,
}

/// Checks all such calls; the code must have been walked.
pub(crate) fn check(cx: &Context<'_, '_>, pointers: &[Pointer], findings: &mut Findings) {
    let mut walker = Walker::new(cx);
    for Return { call, to } in in_data(cx, pointers) {
        let new = cx.claim.to_new(to);
        if walker.return_of(call) != Some(new) {
            let message = "a word holds the address to which a call returns; the new call does not return to the mapped one";
            violate(cx, findings, Obligation::Pointers, (call, to, new), message);
        }
    }
    for Return { call, to } in of_morestack(cx) {
        let new = cx.claim.to_new(to);
        if walker.return_of(call) != Some(new) || cx.claim.to_new(to + 1) != new + 1 {
            let message = "the callee goes on behind the return that follows the call; in the new code something else stands there";
            violate(cx, findings, Obligation::Code, (call, to, new), message);
        }
    }
}

fn violate(cx: &Context<'_, '_>, findings: &mut Findings, obligation: Obligation, (call, to, new): (u64, u64, u64), message: &str) {
    findings.violate(obligation, || Violation {
        obligation,
        old_addr: Some(OldAddr::new(to)),
        rule: "return-address",
        new_addr: Some(NewAddr::new(new)),
        old_text: format!("{to:#x}"),
        new_text: format!("{new:#x}"),
        function: cx.functions.entry(call).map(OldAddr::new),
        message: message.to_owned(),
    });
}

/// Calls of the functions that add to the address to which they return.
fn of_morestack(cx: &Context<'_, '_>) -> Vec<Return> {
    const NAMES: [&[u8]; 3] = [b"__morestack", b"__morestack_non_split", b"__morestack_large_model"];
    let Some(table) = cx.old.symtab() else { return Vec::new() };
    let is_one = |symbol: &Symbol| symbol.is_function() && symbol.is_defined() && NAMES.contains(&table.name(symbol));
    let callees: Vec<u64> =
        (0..table.len()).into_par_iter().filter_map(|at| table.get(at)).filter(is_one).map(|symbol| symbol.value).collect();
    if callees.is_empty() {
        return Vec::new();
    }
    let mut eyes = Eyes::new();
    // The operand of each such call has a relocation.
    let calls = places_in_code(cx.old).into_iter().filter_map(|place| place.checked_sub(1));
    calls
        .filter(|&call| cx.visited.contains(call))
        .filter_map(|call| {
            let decoded = eyes.decode(cx.old_code.from(call)?, call).ok()?;
            let to = call.wrapping_add(u64::from(decoded.len));
            matches!(decoded.flow, Flow::Call(target) if callees.contains(&target)).then_some(Return { call, to })
        })
        .collect()
}

/// Calls to the end of which words of data lead.
fn in_data(cx: &Context<'_, '_>, pointers: &[Pointer]) -> Vec<Return> {
    let words = words(cx.old, pointers, cx);
    let found: Vec<(Return, bool)> = words
        .par_iter()
        .enumerate()
        .filter(|(_, word)| may_follow_call(cx, word.1))
        .map_init(Eyes::new, |eyes, (index, &(addr, to))| {
            let call = call_before(cx, eyes, to)?;
            let extent = cx.functions.extent(call);
            let near = [index.checked_sub(1), index.checked_add(1)].into_iter().flatten().filter_map(|at| words.get(at));
            let is_lone = !near.into_iter().any(|word| word.0.abs_diff(addr) <= 8 && extent.contains(word.1));
            let is_inside = extent.contains(to) && is_lone;
            (is_inside || to == extent.end).then_some((Return { call, to }, is_inside))
        })
        .flatten()
        .collect();
    // Only where there are tables of return addresses may the address of a function mean the end of the one before it.
    if !found.iter().any(|found| found.1) {
        return Vec::new();
    }
    let mut returns: Vec<Return> = found.into_iter().map(|found| found.0).collect();
    returns.sort_unstable();
    returns.dedup();
    returns
}

/// Words of data that hold the address of code, and that address, sorted.
fn words(old: &Image<'_>, pointers: &[Pointer], cx: &Context<'_, '_>) -> Vec<(u64, u64)> {
    let held = pointers.iter().map(|pointer| (pointer.addr, pointer.target));
    let tables = old.dynamic_relocations().flat_map(|table| old.rela_table(table).iter());
    let relative = tables.filter(|entry| matches!(entry.kind, reloc::RELATIVE | reloc::RELATIVE64));
    let stored = relative.map(|entry| (entry.offset, entry.addend.cast_unsigned()));
    let mut words: Vec<(u64, u64)> = held.chain(stored).filter(|word| cx.old_code.contains(word.1)).collect();
    words.par_sort_unstable();
    words.dedup();
    words
}

/// A quick look at the bytes in front of `to`: whether they may end a call.
fn may_follow_call(cx: &Context<'_, '_>, to: u64) -> bool {
    let bytes = to.checked_sub(MAX_CALL).and_then(|start| cx.old_code.from(start)).and_then(|bytes| bytes.first_chunk::<9>());
    bytes.is_none_or(|bytes| bytes.get(4) == Some(&0xe8) || bytes.iter().take(8).any(|&byte| byte == 0xff))
}

/// The call that ends at `to`, if the code that was walked has one.
fn call_before(cx: &Context<'_, '_>, eyes: &mut Eyes, to: u64) -> Option<u64> {
    let starts = (2..=MAX_CALL).filter_map(|len| to.checked_sub(len)).filter(|&start| cx.visited.contains(start));
    let mut calls = starts.filter(|&start| {
        let decoded = cx.old_code.from(start).and_then(|bytes| eyes.decode(bytes, start).ok());
        decoded.is_some_and(|decoded| {
            start + u64::from(decoded.len) == to && matches!(decoded.flow, Flow::Call(_) | Flow::IndirectCall)
        })
    });
    calls.next()
}
