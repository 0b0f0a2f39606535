//! Code that no known path reaches: padding, data among code, and code whose way in is unknown.

use rayon::prelude::*;

use crate::bits::AddressSet;
use crate::code::Piece;
use crate::decode::{Eyes, Flow};
use crate::proof::{Findings, Obligation};
use crate::relocations::names_in_code;
use crate::walk::{Context, Harvest, Walker};

/// Length of the padding at the start of `bytes`: NOPs, traps and, between functions, zeros.
pub(crate) fn padding(bytes: &[u8], eyes: &mut Eyes, zeros: bool) -> usize {
    let mut at = 0;
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        match rest.first() {
            Some(&trap @ 0xcc) => at += run(rest, trap),
            Some(&zero @ 0) if zeros => at += run(rest, zero),
            _ => match eyes.decode(rest, 0) {
                Ok(decoded) if decoded.flow == Flow::Nop => at += usize::from(decoded.len),
                _ => break,
            },
        }
    }
    at
}

/// How many bytes at the start of `bytes` are `byte`: a function that moved leaves thousands.
fn run(bytes: &[u8], byte: u8) -> usize {
    let whole = bytes.as_chunks::<32>().0.iter().take_while(|chunk| **chunk == [byte; 32]).count() * 32;
    whole + bytes.iter().skip(whole).take_while(|&&other| other == byte).count()
}

/// Old code in parts for threads, cut where functions start.
fn parts(cx: &Context<'_, '_>) -> Vec<(u64, u64)> {
    let mut parts = Vec::new();
    for (start, end) in cx.old_code.ranges() {
        let mut at = start;
        while at < end {
            let next = cx.functions.start_behind(at.saturating_add(PART)).min(end);
            parts.push((at, next));
            at = next;
        }
    }
    parts
}

/// `ranges` in parts for threads, cut at members of `set`: whatever is outside of it is whole.
fn parts_at(set: &AddressSet, ranges: impl Iterator<Item = (u64, u64)>) -> Vec<(u64, u64)> {
    let mut parts = Vec::new();
    for (start, end) in ranges {
        let mut at = start;
        while at < end {
            let behind = at.saturating_add(PART).min(end);
            let next = set.next(behind, end, true).unwrap_or(end);
            parts.push((at, next));
            at = next;
        }
    }
    parts
}

/// Bytes of code that one thread looks through in one go, at least.
const PART: u64 = 1 << 18;

/// Walks what is left in and between functions. What cannot be matched instruction by instruction is
/// taken for data: it must hold no relocated field and must have been kept byte for byte. `labels`
/// are addresses that code uses as values; a stretch ends at each.
pub(crate) fn walk_rest(cx: &Context<'_, '_>, mut labels: Vec<u64>) -> Harvest {
    labels.par_sort_unstable();
    labels.dedup();
    let labels = labels.as_slice();
    let stretches: Vec<(u64, u64)> = parts(cx)
        .into_par_iter()
        .flat_map_iter(|(start, end)| {
            let mut at = start;
            std::iter::from_fn(move || {
                let from = cx.old_covered.next(at, end, false)?;
                at = cx.functions.extent(from).end.min(end);
                Some((from, at))
            })
        })
        .collect();
    stretches
        .par_chunks(256)
        .fold(
            || Walker::new(cx),
            |mut walker, stretches| {
                for &(start, end) in stretches {
                    walk_stretch(cx, &mut walker, labels, (start, end));
                }
                walker
            },
        )
        .map(|walker| walker.harvest)
        .reduce(Harvest::default, Harvest::merge)
}

fn walk_stretch(cx: &Context<'_, '_>, walker: &mut Walker<'_, '_, '_>, labels: &[u64], (start, end): (u64, u64)) {
    let mut at = start;
    while let Some(from) = cx.old_covered.next(at, end, false) {
        let to = cx.old_covered.next(from, end, true).unwrap_or(end);
        let label = labels.get(labels.partition_point(|&label| label <= from)).copied().unwrap_or(u64::MAX);
        let to = to.min(label);
        let Some(bytes) = cx.old_code.from(from).and_then(|bytes| bytes.get(..usize::try_from(to - from).ok()?)) else { return };
        let skipped = padding(bytes, &mut walker.eyes, !cx.functions.extent(from).is_function);
        if skipped > 0 {
            at = from + skipped as u64;
            continue;
        }
        let before = std::mem::take(&mut walker.harvest);
        walker.run(from);
        let found = std::mem::take(&mut walker.harvest);
        walker.harvest = before;
        let to = if found.findings.total() > 0 { without_freed_padding(cx, &mut walker.eyes, from, to) } else { to };
        if found.findings.total() > 0 && is_kept(cx, from, to) && !is_relocated(cx, from, to) {
            let mut found = found;
            let checked = found.findings.checked;
            found.findings = Findings { checked, ..Findings::default() };
            found.findings.checked.unreached_bytes += to - from;
            if cx.claim.piece(from).is_same {
                found.unreached.push((from, to));
            }
            walker.harvest = std::mem::take(&mut walker.harvest).merge(found);
            cx.old_covered.insert_range(from, to - from);
            mark_new(cx, from, to);
        } else {
            walker.harvest = std::mem::take(&mut walker.harvest).merge(found);
        }
        // Progress, whatever the walk made of it.
        cx.old_covered.insert_range(from, 1);
        at = from;
    }
}

/// Calls `each(old, new, len)` for the linear stretches of `from..to`; false if there are others.
fn for_pieces(cx: &Context<'_, '_>, from: u64, to: u64, mut each: impl FnMut(u64, u64, u64) -> bool) -> bool {
    cx.claim.pieces(from, to).all(|piece| {
        let start = piece.start.max(from);
        !piece.is_point && each(start, piece.new_of(start), piece.end.min(to) - start)
    })
}

/// The end of the stretch without the padding at its end, if that was padding and is something else now.
fn without_freed_padding(cx: &Context<'_, '_>, eyes: &mut Eyes, from: u64, to: u64) -> u64 {
    let len = usize::try_from(to - from).unwrap_or(usize::MAX);
    let old = cx.old_code.from(from).and_then(|bytes| bytes.get(..len));
    let Some((old, new)) = old.zip(cx.new_code.from(from).and_then(|bytes| bytes.get(..len))) else { return to };
    let same = old.iter().zip(new).take_while(|(old, new)| old == new).count();
    let rest = old.get(same..).unwrap_or(&[]);
    let is_freed = cx.claim.piece(from).is_same && same > 0 && padding(rest, eyes, false) == rest.len();
    if is_freed { from + same as u64 } else { to }
}

/// Whether the bytes are the same where the map puts them.
fn is_kept(cx: &Context<'_, '_>, from: u64, to: u64) -> bool {
    for_pieces(cx, from, to, |old, new, len| {
        let Ok(len) = usize::try_from(len) else { return false };
        let old = cx.old_code.from(old).and_then(|bytes| bytes.get(..len));
        let new = cx.new_code.from(new).and_then(|bytes| bytes.get(..len));
        old.is_some() && old == new
    })
}

/// Whether a relocation names a field in the stretch, unless neither the stretch nor what its relocations name moved.
fn is_relocated(cx: &Context<'_, '_>, from: u64, to: u64) -> bool {
    /// Addends of distances are less than what is meant, by the bytes from the field to the end of its instruction.
    const BEFORE_MAX: u64 = 8;
    let places = cx.relocated.get_or_init(|| names_in_code(cx.old));
    let first = places.partition_point(|place| place.0 < from);
    let mut inside = places.iter().skip(first).take_while(|place| place.0 < to).peekable();
    let piece = cx.claim.piece(from);
    let stays = piece.is_same && piece.end >= to;
    let is_same = |addr: u64| cx.references.expected(addr) == addr;
    inside.peek().is_some() && !(stays && inside.all(|&(_, named)| (0..=BEFORE_MAX).all(|more| is_same(named.wrapping_add(more)))))
}

fn mark_new(cx: &Context<'_, '_>, from: u64, to: u64) {
    for_pieces(cx, from, to, |_, new, len| {
        cx.new_live.insert_range(new, len);
        true
    });
}

/// P7: executable bytes of the new file that are not part of live code must be traps, padding, or
/// the jump at the old entry of a function that moved.
pub(crate) fn check_residue(cx: &Context<'_, '_>, findings: &mut Findings) {
    let regions: Vec<(u64, u64)> = if cx.new.sections().is_empty() {
        cx.new_code.ranges().collect()
    } else {
        cx.new.exec_ranges().iter().map(|&(start, end, _)| (start, end)).collect()
    };
    let check = |&(start, end): &(u64, u64)| {
        let (mut findings, mut eyes) = (Findings::default(), Eyes::new());
        let (mut at, mut piece) = (start, Piece::nothing());
        while at < end {
            let Some(from) = cx.new_live.next(at, end, false) else { break };
            let to = cx.new_live.next(from, end, true).unwrap_or(end);
            let Some(bytes) = cx.new_code.from(from).and_then(|bytes| bytes.get(..usize::try_from(to - from).ok()?)) else {
                let texts = (String::new(), format!("{:#x}..{:#x}", from, to));
                findings.fail(Obligation::File, "section-not-executable", (None, Some(from)), texts, "an executable section outside of executable segments");
                break;
            };
            findings.checked.dead_bytes += to - from;
            let mut here = 0usize;
            while let Some(rest) = bytes.get(here..).filter(|rest| !rest.is_empty()) {
                let addr = from + here as u64;
                // Between functions that stay, many gaps are of one piece.
                if !piece.contains(addr) {
                    piece = cx.claim.piece(addr);
                }
                let unchanged = if piece.is_same { unchanged(cx, piece, addr, rest) } else { 0 };
                // Where old code that stayed begins, all of it may be unchanged, be there padding in front of data or not.
                let room = usize::try_from(piece.end - addr).unwrap_or(usize::MAX);
                let others = |eyes: &mut Eyes| {
                    // First only up to there: what is behind may be megabytes, and would be looked at again from each such place.
                    let ends_here = rest.get(..room).is_some_and(|part| padding(part, eyes, false) == room);
                    let whole = if ends_here { room } else { padding(rest, eyes, false) };
                    whole.max(entry_jump(cx, piece, addr, rest, eyes))
                };
                let step = if unchanged < rest.len() { unchanged.max(others(&mut eyes)) } else { unchanged };
                if step > 0 {
                    here += step;
                    continue;
                }
                let texts = (String::new(), eyes.text(rest, addr));
                findings.fail(Obligation::Residue, "dead-bytes", (None, Some(addr)), texts, "bytes that hold no live code must be traps (0xcc)");
                // One violation for a run of bytes.
                here += rest.iter().position(|&byte| byte == 0xcc).unwrap_or(rest.len());
            }
            at = to;
        }
        findings
    };
    let found: Vec<Findings> = parts_at(&cx.new_live, regions.into_iter()).par_iter().map(check).collect();
    found.into_iter().for_each(|found| findings.merge(found));
}

/// Bytes that are what they were in the old file: padding or data between functions that stayed. All
/// of it, from what stood before it to what stands behind it.
fn unchanged(cx: &Context<'_, '_>, piece: Piece, addr: u64, bytes: &[u8]) -> usize {
    let room = usize::try_from(piece.end - addr).unwrap_or(usize::MAX);
    let old = cx.old_code.from(addr).unwrap_or(&[]);
    let len = old.iter().zip(bytes).take(room).take_while(|(a, b)| a == b).count();
    let end = addr + len as u64;
    let is_bound = |addr: u64| cx.old_covered.contains(addr) || cx.new_live.contains(addr) || !cx.old_code.contains(addr);
    let starts = addr == piece.start || is_bound(addr.wrapping_sub(1));
    if starts && (end == piece.end || is_bound(end)) { len } else { 0 }
}

/// `jmp rel32` at the old entry of a function, to its new place.
fn entry_jump(cx: &Context<'_, '_>, piece: Piece, addr: u64, bytes: &[u8], eyes: &mut Eyes) -> usize {
    if bytes.first() != Some(&0xe9) || piece.is_same || cx.functions.entry(addr) != Some(addr) {
        return 0;
    }
    match eyes.decode(bytes, addr) {
        Ok(decoded) if decoded.len == 5 && decoded.flow == Flow::Jump(piece.new_of(addr)) => 5,
        _ => 0,
    }
}

/// Old bytes outside of the map that belong to no instruction: padding may be reused, anything else
/// (constants among code) must be what it was. Gives the padding in functions that is not.
pub(crate) fn check_unmapped(cx: &Context<'_, '_>, findings: &mut Findings) -> Vec<(u64, u64)> {
    let check = |&(start, end): &(u64, u64)| {
        let (mut findings, mut reused) = (Findings::default(), Vec::new());
        let mut eyes = Eyes::new();
        let mut at = start;
        while let Some(from) = cx.old_covered.next(at, end, false) {
            let piece = cx.claim.piece(from);
            let to = cx.old_covered.next(from, end, true).unwrap_or(end).min(piece.end);
            at = to;
            if !piece.is_same {
                continue;
            }
            let bytes = cx.old_code.from(from).unwrap_or(&[]);
            let bytes = bytes.get(..usize::try_from(to - from).unwrap_or(0)).unwrap_or(&[]);
            let skipped = padding(bytes, &mut eyes, !cx.functions.extent(from).is_function);
            let behind = from + skipped as u64;
            if skipped > 0 && cx.functions.extent(from).is_function && !is_kept(cx, from, behind) {
                reused.push((from, behind));
            }
            let from = behind;
            if from < to && !is_kept(cx, from, to) {
                let texts = (eyes.text(bytes.get(skipped..).unwrap_or(&[]), from), String::new());
                findings.fail(Obligation::Pointers, "unmapped-bytes", (Some(from), Some(from)), texts, "bytes among code changed, and the map does not name them");
            } else if from < to {
                mark_new(cx, from, to);
            }
        }
        (findings, reused)
    };
    let found: Vec<(Findings, Vec<(u64, u64)>)> = parts_at(&cx.old_covered, cx.old_code.ranges()).par_iter().map(check).collect();
    let mut reused = Vec::new();
    for (found, more) in found {
        findings.merge(found);
        reused.extend(more);
    }
    reused
}
